//! Checks with policies, through their whole life.

use super::deliveries::ask;
use super::servers::{Test, What, answer, wall};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Ask, Done, Outcome, Policies, ReasonCode};
use crate::config::Config;
use crate::expect::Expect;
use crate::time::Mono;
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

fn after(ms: u64) -> Mono {
    Mono(CAME.0 + ms)
}

/// Two workflows: `e2e` ends after 40 s, `other` after 20 s, with these statuses.
fn world(policies: Policies, e2e: &'static str, other: (&str, &'static str)) -> World {
    let mut world = World::new(Ask { policies, expect: Expect::parse("e2e").unwrap(), ..ask() });
    world.servers.tests = vec![
        Test::new("e2e", after(5 * SECOND), after(40 * SECOND), e2e),
        Test::new(other.0, after(9 * SECOND), after(20 * SECOND), other.1),
    ];
    world
}

fn optional() -> Policies {
    Policies { optional: vec!["lint".into()], ..Policies::default() }
}

fn grace() -> Policies {
    Policies { grace: Duration::from_secs(300), ..Policies::default() }
}

/// `e2e` again, which says what it repeats.
fn again(world: &mut World, starts: u64, ends: u64, status: &'static str) {
    let repeats = world.servers.tests[0].id.clone();
    let test = Test::new("e2e", after(starts), after(ends), status);
    world.servers.tests.push(Test { repeats, ..test });
}

/// Lives while calls of this kind get 503 for some time.
fn live_through_outage(world: &mut World, of: What, when: Range<Mono>) -> Done {
    let now = Rc::new(Cell::new(CAME));
    let clock = now.clone();
    world.fates = Box::new(move |what, _| match *what == of && when.contains(&clock.get()) {
        true => Fate::Says(answer(503, ""), 100),
        false => Fate::Served(100),
    });
    while world.done.is_none() && world.turn(after(25 * MINUTE)) {
        now.set(world.now.mono);
    }
    world.done.clone().unwrap()
}

#[test]
fn an_optional_failure_is_a_warning_that_says_what_it_would_have_done() {
    let mut world = world(optional(), "passed", ("lint", "failed"));
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.code), (Some(Outcome::Passed), Some(ReasonCode::AllPassed)));
    assert_eq!(world.events(), [true]);
    let lines = world.lines();
    for told in [
        "Optional: lint. They must end, and may fail",
        "##[warning]lint-",
        "(optional: without Testrelay-Optional it would fail this check)",
        "that must pass have passed: e2e-",
        "failed (optional)",
    ] {
        assert!(lines.contains(told), "{told}: {lines}");
    }
    assert!(!lines.contains("##[error]"), "{lines}");
}

#[test]
fn an_optional_execution_must_end_and_opens_no_gate_by_itself() {
    let mut late = world(optional(), "passed", ("lint", "failed"));
    late.servers.tests[1].ends.0 = after(3 * MINUTE);
    let done = late.live(10 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!(late.now.mono >= after(3 * MINUTE));

    let mut alone = world(optional(), "failed", ("lint", "passed"));
    alone.durable.ask.as_mut().unwrap().expect = Expect::Any;
    alone.servers.tests.remove(0);
    let done = alone.live(30 * MINUTE).unwrap().clone();
    assert_eq!(done.code, Some(ReasonCode::Missing), "{}", done.reason);

    let mut fails = world(optional(), "failed", ("lint", "failed"));
    let done = fails.live(5 * MINUTE).unwrap().clone();
    assert_eq!(done.code, Some(ReasonCode::Failed));
    // The failure that counts is named; the one that does not is no error anywhere.
    let lines = fails.lines();
    assert!(lines.contains("##[error]e2e-") && !lines.contains("##[error]lint-"), "{lines}");
}

#[test]
fn a_failure_waits_for_its_re_run_and_the_log_says_how_to_make_one() {
    let mut world = world(grace(), "failed", ("api", "passed"));
    again(&mut world, 2 * MINUTE, 3 * MINUTE, "passed");
    let id = world.servers.tests[0].id.clone();
    let done = world.live(10 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
    assert!((180..200).contains(&done.at.mono.since(CAME).as_secs()), "a pass decides at once");
    let lines = world.lines();
    let command = format!("/v1/test-workflow-executions/{id}/rerun");
    for told in [
        "A failure waits 5m for its re-run",
        "The check fails at 16:59 UTC",
        command.as_str(),
        "(failed, repeated by e2e-",
    ] {
        assert!(lines.contains(told), "{told}: {lines}");
    }
    assert_eq!(lines.matches("The check fails at").count(), 1, "{lines}");
}

#[test]
fn a_failure_without_a_re_run_is_decided_when_its_time_is_over() {
    let mut world = world(grace(), "failed", ("api", "passed"));
    let done = world.live(10 * MINUTE).unwrap().clone();
    assert_eq!(done.code, Some(ReasonCode::Failed));
    let took = done.at.mono.since(CAME).as_secs();
    assert!((340..365).contains(&took), "{took} s: 40 s until the end, and 300 s");
}

#[test]
fn a_re_run_that_fails_gets_the_same_time_again_until_the_deadline() {
    let mut twice = world(grace(), "failed", ("api", "passed"));
    again(&mut twice, 2 * MINUTE, 3 * MINUTE, "failed");
    let done = twice.live(20 * MINUTE).unwrap().clone();
    assert_eq!(done.code, Some(ReasonCode::Failed));
    let took = done.at.mono.since(CAME).as_secs();
    assert!((480..505).contains(&took), "{took} s: 180 s until the end, and 300 s");
    assert_eq!(twice.lines().matches("The check fails at").count(), 2, "{}", twice.lines());

    let mut short = world(grace(), "failed", ("api", "passed"));
    short.durable.ask.as_mut().unwrap().timeout = Duration::from_secs(120);
    let done = short.live(20 * MINUTE).unwrap().clone();
    assert_eq!(done.code, Some(ReasonCode::Failed));
    assert!((120..125).contains(&done.at.mono.since(CAME).as_secs()));
}

#[test]
fn the_start_of_another_run_is_the_lower_bound_or_the_check_is_inconclusive_at_once() {
    let tests_build = || Policies { tests_build: Some(4700), ..Policies::default() };
    let mut good = world(tests_build(), "passed", ("api", "passed"));
    good.durable.callback.build = None;
    let done = good.live(5 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!(done.reason.contains("(start of build 4700)"), "{}", done.reason);

    // The last one is what a plan says that has ended.
    let over = r#"{"typeKey":"OrchestrationSessionNotFoundException"}"#;
    for (status, body) in [(404, ""), (403, ""), (200, "{}"), (200, "<html>"), (500, over)] {
        let mut bad = world(tests_build(), "passed", ("api", "passed"));
        bad.fates = Box::new(move |what, _| match what {
            What::Build => Fate::Says(answer(status, body), 100),
            _ => Fate::Served(100),
        });
        let done = bad.live(5 * MINUTE).unwrap().clone();
        assert_eq!(done.code, Some(ReasonCode::BuildUnreadable), "{status} {body}: {}", done.reason);
        assert!(done.at.mono < after(MINUTE) && !bad.words().contains(&"read"), "{status} {body}");
        let is_of_scope = status != 200;
        let lines = bad.lines();
        assert_eq!(lines.contains("Limit job authorization scope"), is_of_scope, "{lines}");
    }
}

#[test]
fn what_was_too_old_when_the_check_arrived_does_not_count() {
    let policies = Policies { max_age: Some(Duration::from_secs(60)), ..Policies::default() };
    let mut world = world(policies, "passed", ("api", "passed"));
    let old = Test::new("e2e", Mono(CAME.0 - 2 * MINUTE), Mono(CAME.0 - MINUTE), "failed");
    world.servers.tests.push(old);
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!(world.lines().contains("(too old: scheduled at 2026-01-23T"), "{}", world.lines());
}

/// A stage whose second attempt, a minute after the check's arrival, ran one of its two jobs.
fn timeline() -> String {
    let record = |kind: &str, id: &str, parent: Option<&str>, attempt: u32, at: Mono| {
        serde_json::json!({"type": kind, "id": id, "parentId": parent, "name": id, "identifier": id,
            "attempt": attempt, "startTime": wall(at).to_string()})
    };
    let records = [
        record("Stage", "Test", None, 2, after(MINUTE)),
        record("Phase", "p", Some("Test"), 2, after(MINUTE)),
        record("Job", "kept", Some("p"), 1, CAME),
        record("Job", "again", Some("p"), 2, after(MINUTE)),
    ];
    serde_json::json!({ "records": records }).to_string()
}

#[test]
fn what_passed_before_some_jobs_ran_again_counts_if_the_credential_allows_it() {
    for (allowed, code) in [("\"rerun_jobs\"", ReasonCode::AllPassed), ("\"grace\"", ReasonCode::Missing)] {
        let mut world = world(Policies::default(), "passed", ("api", "failed"));
        let ask = world.durable.ask.as_mut().unwrap();
        (ask.since_stage, ask.expect) = (Some("Test".into()), Expect::parse("e2e, api").unwrap());
        world.servers.tests.push(Test::new("api", after(2 * MINUTE), after(3 * MINUTE), "passed"));
        world.durable.credential = "ado".into();
        let config = format!(
            r#"{{"testkube": {{"cluster": "testkube"}},
                "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure"}}],
                "credentials": [{{"name": "ado", "kind": "bearer", "secret_env": "S", "allow": ["checks"],
                    "allow_policies": [{allowed}]}}]}}"#
        );
        world.config = Config::parse(config.as_bytes(), &|_| Some("a-good-secret".into())).unwrap();
        world.fates = Box::new(|what, _| match what.word() {
            "timeline" => Fate::Says(answer(200, &timeline()), 100),
            _ => Fate::Served(100),
        });
        let done = world.live(30 * MINUTE).unwrap().clone();
        assert_eq!(done.code, Some(code), "{}", done.reason);
        let told = "that did not run again in its attempt 2";
        assert_eq!(world.lines().contains(told), code == ReasonCode::AllPassed, "{}", world.lines());
    }
}

#[test]
fn only_time_in_which_testkube_answers_counts_as_a_wait_for_a_re_run() {
    for settle in [0, 15] {
        let mut world = world(grace(), "failed", ("api", "passed"));
        world.durable.ask.as_mut().unwrap().settle = Duration::from_secs(settle);
        // From 2 min on Testkube is away for 6 min.
        let done = live_through_outage(&mut world, What::Read, after(2 * MINUTE)..after(8 * MINUTE));
        assert_eq!(done.code, Some(ReasonCode::Failed));
        // 40 s until the end, 300 s of waiting, and the outage, less or more a reading or two.
        let took = done.at.mono.since(CAME).as_secs();
        assert!((660..760).contains(&took), "settle {settle}: {took} s");
    }
}

#[test]
fn a_wait_for_a_re_run_goes_on_after_a_fall_and_a_change_of_leader() {
    for settle in [0, 15] {
        let mut world = world(grace(), "failed", ("api", "passed"));
        world.durable.ask.as_mut().unwrap().settle = Duration::from_secs(settle);
        for minute in 1..=4 {
            let until = after(minute * MINUTE);
            while world.turn(until) {}
            match minute % 2 {
                0 => world.fall(),
                _ => world.hand_over(),
            }
        }
        let done = world.live(25 * MINUTE).unwrap().clone();
        assert_eq!(done.code, Some(ReasonCode::Failed));
        let took = done.at.mono.since(CAME).as_secs();
        assert!((340..460).contains(&took), "settle {settle}: {took} s");
    }
}

#[test]
fn an_outage_while_the_other_runs_start_is_asked_for_is_waited_out() {
    let policies = Policies { tests_build: Some(4700), ..Policies::default() };
    let mut world = world(policies, "passed", ("api", "passed"));
    let done = live_through_outage(&mut world, What::Build, CAME..after(12 * MINUTE));
    assert_eq!(done.code, Some(ReasonCode::AllPassed), "{}", done.reason);
}

#[test]
fn the_failed_tests_of_an_optional_execution_are_warnings_and_no_reason() {
    const REPORT: &[u8] =
        b"<testsuite name='Lint'><testcase name='no-var'><failure message='var'/></testcase></testsuite>";
    for e2e in ["passed", "failed"] {
        let mut world = world(optional(), e2e, ("lint", "failed"));
        for test in [0, 1] {
            let id = world.servers.tests[test].id.clone();
            world.servers.files.insert((id, "junit.xml".into()), REPORT.to_vec());
        }
        world.live(5 * MINUTE).unwrap();
        let lines = world.lines();
        assert!(lines.contains("##[warning]  Lint › no-var: var"), "{lines}");
        assert_eq!(lines.contains("##[error]  Lint › no-var: var"), e2e == "failed", "{lines}");
        assert_eq!(lines.contains("Failed tests: Lint › no-var. [failed]"), e2e == "failed", "{lines}");
    }
}
