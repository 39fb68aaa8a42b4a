//! Checks whose failed executions Testrelay has run again.

use super::deliveries::ask;
use super::servers::{Test, What, answer};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Ask, Done, Outcome, Policies, ReasonCode};
use crate::config::Rerun;
use crate::expect::Expect;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Fault};
use std::time::Duration;

fn after(ms: u64) -> Mono {
    Mono(CAME.0 + ms)
}

/// Workflow `e2e` fails after 40 s, `api` ends with this status after a minute.
fn world(retry: u32, api: &'static str) -> World {
    let policies = Policies { retry, ..Policies::default() };
    let mut world = World::new(Ask { policies, expect: Expect::parse("e2e").unwrap(), ..ask() });
    world.servers.tests = vec![
        Test::new("e2e", after(5 * SECOND), after(40 * SECOND), "failed"),
        Test::new("api", after(9 * SECOND), after(MINUTE), api),
    ];
    world
}

fn calls(world: &World) -> usize {
    world.words().iter().filter(|word| **word == "rerun").count()
}

/// Lives while re-runs have these fates; then they are served.
fn live(world: &mut World, fates: Vec<Fate>) -> Done {
    world.fates = Box::new(move |what, before| match what {
        What::Rerun(_) => fates.get(before).cloned().unwrap_or(Fate::Served(100)),
        _ => Fate::Served(100),
    });
    world.live(20 * MINUTE).expect("it ends").clone()
}

fn seconds(done: &Done) -> u64 {
    done.at.mono.since(CAME).as_secs()
}

#[test]
fn a_failed_execution_is_run_again_once_and_its_pass_counts() {
    let mut world = world(1, "passed");
    let id = world.servers.tests[0].id.clone();
    let done = live(&mut world, Vec::new());
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
    assert_eq!(world.servers.reran, std::slice::from_ref(&id));
    let lines = world.lines();
    for told in [
        "Testrelay has a failed execution run again once (Testrelay-Retry)".to_owned(),
        format!("##[warning]{id} failed (it is to run again: Testrelay-Retry)\n"),
        " (workflow e2e, re-run 1): running".to_owned(),
        " passed after 1 re-run".to_owned(),
        format!("{id} (failed, repeated by e2e-"),
    ] {
        assert!(lines.contains(&told), "{told}: {lines}");
    }
    assert!(!lines.contains("##[error]"), "{lines}");
    assert_eq!(lines.matches("to run again").count(), 1, "{lines}");
}

#[test]
fn a_re_run_that_fails_is_repeated_as_often_as_allowed() {
    for (retry, ends, outcome, reran) in [
        (1, ["failed", "passed"], Outcome::Failed, 1),
        (2, ["failed", "passed"], Outcome::Passed, 2),
        (2, ["failed", "failed"], Outcome::Failed, 2),
        (2, ["aborted", "passed"], Outcome::Failed, 1),
    ] {
        let mut world = world(retry, "passed");
        world.servers.reruns = ends.into();
        let done = live(&mut world, Vec::new());
        assert_eq!((done.outcome, world.servers.reran.len()), (Some(outcome), reran), "{}", done.reason);
        let times = if reran == 1 { " after 1 re-run" } else { " after 2 re-runs" };
        assert!(world.lines().contains(times), "{}", world.lines());
        assert!(seconds(&done) < 2 * 60, "{} s", seconds(&done));
    }
}

#[test]
fn nothing_is_run_again_beside_a_final_failure_or_after_somebody_has_stopped_it() {
    for (api, ends) in [("failed", "aborted"), ("aborted", "failed"), ("canceled", "canceled")] {
        let mut world = world(1, api);
        world.servers.tests[0].ends = (after(40 * SECOND), ends);
        // So that both are seen at once.
        world.servers.tests[1].ends.0 = after(40 * SECOND);
        let done = live(&mut world, Vec::new());
        assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Failed), 0), "{api} {ends}");
    }
    let mut many = world(1, "passed");
    for n in 0..11 {
        many.servers.tests.push(Test::new("load", after(SECOND + n), after(40 * SECOND), "failed"));
    }
    let done = live(&mut many, Vec::new());
    assert_eq!((done.outcome, calls(&many)), (Some(Outcome::Failed), 0), "12 failures, at most 10 re-runs");
}

#[test]
fn a_failure_that_is_deleted_after_its_re_run_is_told_and_counts_as_tried() {
    for (ends, outcome) in [("passed", Outcome::Passed), ("failed", Outcome::Failed)] {
        let mut world = world(1, "passed");
        world.servers.reruns = [ends].into();
        world.servers.tests[0].hidden = (after(50 * SECOND), after(60 * MINUTE));
        let done = live(&mut world, Vec::new());
        assert_eq!((done.outcome, calls(&world)), (Some(outcome), 1), "{}", done.reason);
        assert!(done.reason.contains(&format!("{ends} after 1 re-run")), "{}", done.reason);
    }
}

#[test]
fn two_failures_are_run_again_each_on_its_own() {
    let mut both = world(1, "failed");
    let done = live(&mut both, Vec::new());
    assert_eq!((done.outcome, both.servers.reran.len()), (Some(Outcome::Passed), 2));

    let mut one = world(1, "failed");
    one.servers.reruns = ["passed", "failed"].into();
    let done = live(&mut one, Vec::new());
    assert_eq!((done.outcome, one.servers.reran.len()), (Some(Outcome::Failed), 2));
}

#[test]
fn a_refused_re_run_decides_at_once_with_testkubes_words() {
    let problem = |detail: &str| serde_json::json!({"status": 502, "detail": detail}).to_string();
    let sensitive = problem(
        "failed to rerun test workflow execution: client problem: can't rerun test workflow execution with sensitive prameters, context: null",
    );
    for (status, body, told) in [
        (502, sensitive.as_str(), "can't rerun test workflow execution with sensitive prameters"),
        (404, "", "HTTP 404: Testkube has no such execution, or no such call"),
        (403, "", "HTTP 403"),
        (405, "", "HTTP 405"),
    ] {
        let mut world = world(1, "passed");
        let id = world.servers.tests[0].id.clone();
        let done = live(&mut world, vec![Fate::Says(answer(status, body), 100)]);
        assert_eq!((done.code, calls(&world)), (Some(ReasonCode::Failed), 1));
        assert!(seconds(&done) < 70, "{} s: `api` ends after 60 s", seconds(&done));
        let reason = format!(" Not run again: {id} ({told}).");
        assert!(done.reason.contains(&reason), "{}", done.reason);
        let line = format!("##[error]{id} does not run again: {told}");
        assert!(world.lines().contains(&line), "{line}: {}", world.lines());
    }
}

#[test]
fn an_answer_that_does_not_come_is_settled_by_what_testkube_lists() {
    for fate in [
        Fate::Unheard,
        Fate::Says(answer(503, ""), 100),
        Fate::Says(answer(500, ""), 100),
        Fate::Says(CallOutcome::Failed(Fault::NoAnswer), 30 * SECOND),
        Fate::Says(CallOutcome::Failed(Fault::Reset), 100),
    ] {
        let was_served = matches!(fate, Fate::Unheard);
        let mut world = world(1, "passed");
        let done = live(&mut world, vec![fate]);
        let outcome = if was_served { Outcome::Passed } else { Outcome::Failed };
        assert_eq!((done.outcome, calls(&world)), (Some(outcome), 1), "{}", done.reason);
        if !was_served {
            let told = "No re-run has appeared: e2e-";
            assert!(done.reason.contains(told), "{}", done.reason);
            assert!((160..230).contains(&seconds(&done)), "{} s", seconds(&done));
        }
    }
}

#[test]
fn a_re_run_that_certainly_was_not_started_is_asked_for_again() {
    let database = serde_json::json!({"detail": "failed to rerun test workflow execution: client problem: rpc error: code = Internal desc = failed to connect to `user=testkube`"});
    let mut world = world(1, "passed");
    let fates = vec![
        Fate::Says(CallOutcome::Failed(Fault::Refused), 1),
        Fate::Says(answer(429, ""), 100),
        Fate::Says(answer(502, &database.to_string()), 100),
    ];
    let done = live(&mut world, fates);
    assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Passed), 4));
    assert_eq!(world.servers.reran.len(), 1);
}

#[test]
fn a_leader_that_falls_around_a_re_run_does_not_ask_twice() {
    let mut reran = [0, 0];
    for seed in 0..120 {
        let mut world = world(1, "passed");
        world.random = crate::backoff::Random::new(seed + 1);
        world.servers.lists_late = Duration::from_secs(9 * (seed / 3 % 2));
        let fate = if seed % 3 == 0 { Fate::Unheard } else { Fate::Served(100 + 90 * (seed % 7)) };
        world.fates = Box::new(move |what, _| match what {
            What::Rerun(_) => fate.clone(),
            _ => Fate::Served(5 + seed % 60),
        });
        // From just before the failure is seen until its re-run appears.
        let falls = after(39 * SECOND + 40 * seed);
        while world.turn(falls) {}
        if seed % 2 == 0 {
            world.fall()
        } else {
            world.hand_over()
        }
        let done = world.live(20 * MINUTE).expect("it ends").clone();
        let served = world.servers.reran.len();
        assert!(served <= 1 && calls(&world) <= 1, "seed {seed}: {served} of {} calls", calls(&world));
        assert_eq!(done.outcome == Some(Outcome::Passed), served == 1, "seed {seed}: {}", done.reason);
        reran[served] += 1;
    }
    assert!(reran[1] > 100, "{reran:?}");
}

#[test]
fn with_grace_a_failure_that_no_re_run_has_mended_waits_for_somebody() {
    let mut world = world(1, "passed");
    world.durable.ask.as_mut().unwrap().policies.grace = Duration::from_secs(300);
    world.servers.reruns = ["failed"].into();
    let done = live(&mut world, Vec::new());
    assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Failed), 1));
    assert!((360..400).contains(&seconds(&done)), "{} s", seconds(&done));
    assert!(world.lines().contains("The check fails at "), "{}", world.lines());
}

#[test]
fn an_optional_failure_is_not_run_again_and_a_deadline_ends_the_wait() {
    let mut lint = world(1, "passed");
    lint.durable.ask.as_mut().unwrap().policies.optional = vec!["api".into()];
    lint.servers.tests[0].ends.1 = "passed";
    lint.servers.tests[1].ends.1 = "failed";
    let done = live(&mut lint, Vec::new());
    assert_eq!((done.outcome, calls(&lint)), (Some(Outcome::Passed), 0));

    let mut short = world(1, "passed");
    short.durable.ask.as_mut().unwrap().timeout = Duration::from_secs(90);
    let done = live(&mut short, vec![Fate::Says(answer(503, ""), 100)]);
    assert_eq!((done.outcome, calls(&short)), (Some(Outcome::Failed), 1), "{}", done.reason);
    assert!((90..95).contains(&seconds(&done)), "{} s", seconds(&done));
}

#[test]
fn a_failure_that_somebody_has_repeated_meanwhile_is_not_run_again() {
    let mut world = world(1, "passed");
    let repeats = world.servers.tests[0].id.clone();
    let again = Test::new("e2e", after(50 * SECOND), after(55 * SECOND), "passed");
    world.servers.tests.push(Test { repeats, ..again });
    // Testkube does not listen until that re-run has passed, and for long after.
    let deaf = || Fate::Says(answer(429, ""), 100);
    let done = live(&mut world, (0..100).map(|_| deaf()).collect());
    assert_eq!((done.outcome, world.servers.reran.len()), (Some(Outcome::Passed), 0));
    assert!(seconds(&done) < 70, "{} s: `api` ends after 60 s", seconds(&done));
    assert!(!done.reason.contains("re-run"), "{}", done.reason);
}

#[test]
fn a_testkube_that_does_not_listen_for_two_minutes_ends_the_wait() {
    let mut world = world(1, "passed");
    let done = live(&mut world, (0..1_000).map(|_| Fate::Says(answer(429, ""), 100)).collect());
    assert_eq!((done.code, world.servers.reran.len()), (Some(ReasonCode::Failed), 0));
    assert!((150..210).contains(&seconds(&done)), "{} s", seconds(&done));
    assert!(done.reason.contains("Not run again: e2e-605000 (HTTP 429)."), "{}", done.reason);
}

#[test]
fn a_failure_that_a_second_look_does_not_show_is_not_run_again() {
    let mut world = world(1, "passed");
    let id = world.servers.tests[0].id.clone();
    // Its list says `failed` for a while; by its id it has passed, and so says the list later.
    let truth = world.servers.tests[0].clone();
    world.fates = Box::new(move |what, _| match what {
        What::Get(of) if *of == id => {
            let told = Test { ends: (truth.ends.0, "passed"), ..truth.clone() };
            Fate::Says(answer(200, &told.json(after(MINUTE)).to_string()), 100)
        }
        _ => Fate::Served(100),
    });
    while world.turn(after(50 * SECOND)) {}
    world.servers.tests[0].ends.1 = "passed";
    let done = world.live(20 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Passed), 0));
}

#[test]
fn a_chain_is_known_when_its_middle_or_its_beginning_is_deleted() {
    // The first re-run is deleted as soon as it was repeated: the second one is still the second.
    let mut middle = world(2, "passed");
    middle.servers.reruns = ["failed", "failed", "passed"].into();
    middle.fates = Box::new(|_, _| Fate::Served(100));
    while middle.servers.reran.len() < 2 && middle.turn(after(10 * MINUTE)) {}
    let now = middle.now.mono;
    middle.servers.tests[2].hidden = (now.plus(Duration::from_secs(8)), after(60 * MINUTE));
    let done = middle.live(20 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, calls(&middle)), (Some(Outcome::Failed), 2), "{}", done.reason);
    assert!(done.reason.contains("failed after 2 re-runs"), "{}", done.reason);

    // The failure is deleted before its re-run is listed.
    let mut first = world(1, "passed");
    first.fates = Box::new(|_, _| Fate::Served(100));
    while first.servers.reran.is_empty() && first.turn(after(10 * MINUTE)) {}
    first.servers.tests[0].hidden = (first.now.mono, after(60 * MINUTE));
    let done = first.live(20 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, calls(&first)), (Some(Outcome::Passed), 1), "{}", done.reason);
}

#[test]
fn a_wait_for_a_re_run_to_appear_is_no_part_of_the_grace() {
    let mut world = world(1, "passed");
    world.durable.ask.as_mut().unwrap().policies.grace = Duration::from_secs(120);
    let done = live(&mut world, vec![Fate::Says(answer(503, ""), 100)]);
    assert_eq!(done.outcome, Some(Outcome::Failed));
    assert!((265..340).contains(&seconds(&done)), "{} s: 40, 120 and 120", seconds(&done));
    assert!(world.lines().contains("The check fails at "), "{}", world.lines());
}

#[test]
fn a_check_that_is_only_observed_starts_nothing() {
    let mut world = world(1, "passed");
    world.durable.observe = true;
    let done = live(&mut world, Vec::new());
    assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Failed), 0));
    let lines = world.lines();
    assert!(lines.contains("While the credential only observes, nothing is run again"), "{lines}");
    assert!(done.reason.contains(" Not run again: e2e-605000."), "{}", done.reason);

    let mut graced = self::world(1, "passed");
    (graced.durable.observe, graced.durable.ask.as_mut().unwrap().policies.grace) =
        (true, Duration::from_secs(120));
    let done = live(&mut graced, Vec::new());
    assert!((160..220).contains(&seconds(&done)), "{} s", seconds(&done));
}

#[test]
fn a_new_leader_tells_the_failure_that_a_re_run_has_replaced() {
    for ms in (40_500..60_000).step_by(501) {
        let mut world = world(1, "passed");
        let id = world.servers.tests[0].id.clone();
        world.fates = Box::new(|_, _| Fate::Served(100));
        while world.turn(after(ms)) {}
        world.fall();
        world.live(20 * MINUTE).unwrap();
        let lines = world.lines();
        let told = lines.contains(&format!("{id} failed")) || lines.contains(&format!("{id} (failed,"));
        assert!(told, "fallen after {ms} ms: {lines}");
    }
}

#[test]
fn a_re_run_is_named_however_many_have_passed() {
    let mut world = world(1, "passed");
    for n in 0..12 {
        world.servers.tests.push(Test::new("load", after(SECOND + n), after(30 * SECOND), "passed"));
    }
    let done = live(&mut world, Vec::new());
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!(done.reason.contains(" passed after 1 re-run"), "{}", done.reason);
}

#[test]
fn a_failure_that_vanishes_is_unknown_where_no_re_run_may_replace_it() {
    for (rerun, outcome) in [
        (Rerun::Latest, Outcome::Passed),
        (Rerun::All, Outcome::Inconclusive),
        (Rerun::None, Outcome::Inconclusive),
    ] {
        let mut world = world(0, "passed");
        world.durable.ask.as_mut().unwrap().rerun = rerun;
        world.servers.tests[1].ends.0 = after(3 * MINUTE);
        let repeats = world.servers.tests[0].id.clone();
        let again = Test::new("e2e", after(70 * SECOND), after(80 * SECOND), "passed");
        world.servers.tests.push(Test { repeats, ..again });
        world.servers.tests[0].hidden = (after(2 * MINUTE), after(60 * MINUTE));
        let done = live(&mut world, Vec::new());
        assert_eq!(done.outcome, Some(outcome), "{rerun:?}: {}", done.reason);
    }
}

#[test]
fn a_wish_is_dropped_when_another_failure_has_become_final() {
    // Testkube does not listen, and `api` is aborted meanwhile.
    let mut world = world(1, "aborted");
    let done = live(&mut world, (0..100).map(|_| Fate::Says(answer(429, ""), 100)).collect());
    assert_eq!((done.outcome, world.servers.reran.len()), (Some(Outcome::Failed), 0));
    assert!(seconds(&done) < 70, "{} s: `api` ends after 60 s", seconds(&done));
    let why = "Not run again, because api-609000 aborted: e2e-605000.";
    assert!(done.reason.contains(why), "{}", done.reason);
}

#[test]
fn an_outage_of_testkube_before_the_call_is_waited_out() {
    let mut world = world(1, "passed");
    world.servers.tests[1].ends.0 = after(30 * SECOND);
    let id = world.servers.tests[0].id.clone();
    let now = std::rc::Rc::new(std::cell::Cell::new(CAME));
    let clock = now.clone();
    // The list shows the failure, and then nothing answers for five minutes.
    world.fates = Box::new(move |what, _| match what {
        What::Get(of) if *of == id && clock.get() < after(6 * MINUTE) => Fate::Says(answer(503, ""), 100),
        What::Read if (after(45 * SECOND)..after(6 * MINUTE)).contains(&clock.get()) => {
            Fate::Says(CallOutcome::Failed(Fault::NoConnection), 100)
        }
        _ => Fate::Served(100),
    });
    while world.done.is_none() && world.turn(after(20 * MINUTE)) {
        now.set(world.now.mono);
    }
    let done = world.done.clone().unwrap();
    assert_eq!((done.outcome, calls(&world)), (Some(Outcome::Passed), 1), "{}", done.reason);
}

#[test]
fn a_call_that_was_not_started_is_made_by_the_next_leader() {
    for (get, rerun) in [(true, false), (false, true), (true, true)] {
        let mut world = world(1, "passed");
        let id = world.servers.tests[0].id.clone();
        let (mut get, mut rerun) = (get, rerun);
        world.fates = Box::new(move |what, _| match what {
            What::Get(of) if *of == id && std::mem::take(&mut get) => Fate::NotStarted,
            What::Rerun(_) if std::mem::take(&mut rerun) => Fate::NotStarted,
            _ => Fate::Served(100),
        });
        let done = world.live(20 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, world.servers.reran.len()), (Some(Outcome::Passed), 1), "{}", done.reason);
    }
}

#[test]
fn a_refused_change_around_a_re_run_does_not_ask_twice() {
    let mut refused = 0;
    for n in 0..200 {
        let mut world = world(1, "passed");
        world.servers.lists_late = Duration::from_secs(15 * (n % 2));
        let unheard = n % 3 == 0;
        world.fates = Box::new(move |what, _| match what {
            What::Rerun(_) if unheard => Fate::Says(CallOutcome::Failed(Fault::NoAnswer), 100),
            _ => Fate::Served(100),
        });
        while world.turn(after(39 * SECOND + 25 * n)) {}
        world.refusals = 1 + u32::try_from(n % 3).unwrap();
        world.live(20 * MINUTE).expect("it ends");
        refused += usize::from(world.refusals == 0);
        assert!(calls(&world) <= 1, "{} calls for a re-run, n {n}", calls(&world));
    }
    assert!(refused > 150, "{refused}");
}

#[test]
fn a_check_that_waits_for_room_takes_one_place_in_the_queue_however_often_it_is_read() {
    let mut world = world(1, "passed");
    while world.turn(after(39 * SECOND)) {}
    world.no_room = (after(3 * MINUTE), false);
    let before = world.queued;
    while world.turn(after(3 * MINUTE)) {}
    let reads = world.words().iter().filter(|word| **word == "read").count();
    assert!(world.queued - before <= 1 && reads > 8, "{} places, {reads} readings", world.queued - before);
    let done = world.live(20 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.servers.reran.len()), (Some(Outcome::Passed), 1));
}
