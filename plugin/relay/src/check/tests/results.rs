//! The results of tests in a check's log: what is told and when, and that nothing waits for them for long.

mod shares;

use super::deliveries::ask;
use super::servers::{Test, What, answer};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Outcome, Phase};
use crate::config::Config;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Response};
use serde_json::json;

const CALLS: u64 = 400;

fn after(ms: u64) -> Mono {
    Mono(CAME.0 + ms)
}

/// A check whose `e2e` fails after 40 s and whose `api` passes after 20 s.
fn failing() -> World {
    let mut world = World::new(ask());
    world.servers.tests = vec![
        Test::new("e2e", after(5 * SECOND), after(40 * SECOND), "failed"),
        Test::new("api", after(9 * SECOND), after(20 * SECOND), "passed"),
    ];
    world
}

fn id(world: &World, of: usize) -> String {
    world.servers.tests[of].id.clone()
}

/// Gives an execution a file.
fn file(world: &mut World, of: usize, name: &str, body: impl Into<Vec<u8>>) {
    world.servers.files.insert((id(world, of), name.into()), body.into());
}

/// A report of two tests that passed and `failed` that did not.
fn report(failed: usize) -> String {
    let failure = |n| {
        format!(
            "<testcase classname='Cart' name='test {n}' file='cart.py' line='{n}'><failure message='want {n}'/></testcase>"
        )
    };
    let failures: String = (1..=failed).map(failure).collect();
    format!("<testsuite name='s'><testcase name='a'/><testcase name='b'/>{failures}</testsuite>")
}

/// The lines of the log, without their time stamps.
fn log(world: &World) -> Vec<String> {
    let text = world.lines();
    text.lines().map(|line| line.split_once("Z ").map_or("", |(_, text)| text).to_string()).collect()
}

/// The place of the only line that contains this.
fn place(log: &[String], text: &str) -> usize {
    let places: Vec<usize> = (0..log.len()).filter(|at| log[*at].contains(text)).collect();
    assert_eq!(places.len(), 1, "{text}\n{}", log.join("\n"));
    places[0]
}

/// Number of lines that contain this.
fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

fn sent_at(world: &World, word: &str) -> u64 {
    let sent = world.sent.iter().find(|sent| sent.what.word() == word);
    sent.unwrap_or_else(|| panic!("no {word}: {:?}", world.words())).at.0
}

#[test]
fn the_failed_tests_are_told_by_name_before_the_decision_whose_line_names_the_first() {
    let mut world = failing();
    file(&mut world, 0, "results/junit.xml", report(5));
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Failed), vec![false]));
    let log = log(&world);
    let counts = place(&log, ": 7 tests, 2 passed, 5 failed");
    let first = place(&log, "##[error]  Cart › test 1: want 1 (cart.py:1)");
    let last = place(&log, "##[error]  Cart › test 5: want 5 (cart.py:5)");
    let decision = place(&log, "Testrelay: failed. 1 of 2 executions");
    assert!(counts < first && last == first + 4 && last < decision, "{log:#?}");
    let named = " Failed tests: Cart › test 1, Cart › test 2, Cart › test 3 and 2 more. [failed]";
    assert!(log[decision].ends_with(named), "{}", log[decision]);
    assert!(!done.reason.contains("Cart"), "the verdict's reason is about executions: {}", done.reason);
}

#[test]
fn at_most_ten_are_named_and_the_rest_is_counted() {
    let mut world = failing();
    file(&mut world, 0, "junit.xml", report(41));
    world.live(5 * MINUTE).unwrap();
    let log = log(&world);
    place(&log, ": 43 tests, 2 passed, 41 failed");
    assert_eq!(count(&log, "##[error]  Cart › test"), 10);
    place(&log, "##[error]  and 31 more");
    place(&log, "Cart › test 3 and 38 more. [failed]");
}

#[test]
fn of_an_execution_that_passed_the_counts_are_told() {
    let mut world = failing();
    world.servers.tests[0].ends.1 = "passed";
    file(&mut world, 0, "e2e.xml", report(0));
    file(&mut world, 1, "api.xml", report(0));
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
    assert_eq!(count(&log(&world), ": 2 tests, 2 passed"), 2, "{:#?}", log(&world));
    assert_eq!(count(&log(&world), "Failed tests"), 0);
}

#[test]
fn an_execution_is_looked_at_as_soon_as_it_has_ended_while_others_run() {
    let mut world = failing();
    world.servers.tests[0].ends.0 = after(10 * MINUTE);
    world.servers.tests[1].ends.1 = "failed";
    file(&mut world, 1, "junit.xml", report(1));
    world.live(2 * MINUTE);
    assert!(matches!(world.durable.phase, Phase::Watching(_)));
    place(&log(&world), "##[error]  Cart › test 1: want 1 (cart.py:1)");
    assert!(sent_at(&world, "file") < after(25 * SECOND).0);
    world.live(20 * MINUTE).unwrap();
    let log = log(&world);
    place(&log, "##[error]  Cart › test 1: want 1 (cart.py:1)");
    place(&log, " Failed tests: Cart › test 1. [failed]");
}

#[test]
fn a_control_planes_counts_are_used_and_spare_the_files_of_what_passed() {
    let mut world = failing();
    let counts = |failed: u32| json!([{"kind": "junit", "summary": {"tests": 90 + failed, "passed": 90, "failed": failed}}]);
    world.servers.tests[0].reports = counts(3);
    world.servers.tests[1].reports = counts(0);
    file(&mut world, 0, "junit.xml", report(3));
    file(&mut world, 1, "junit.xml", report(0));
    world.live(5 * MINUTE).unwrap();
    let log = log(&world);
    place(&log, ": 93 tests, 90 passed, 3 failed");
    place(&log, ": 90 tests, 90 passed");
    place(&log, "  Cart › test 3: want 3 (cart.py:3)");
    let (api, files) = (id(&world, 1), |sent: &super::world::Sent| matches!(&sent.what, What::Files(_)));
    assert!(world.sent.iter().filter(|sent| files(sent)).all(|sent| sent.what != What::Files(api.clone())));
}

/// Answers each call for results after this many milliseconds.
fn slow(ms: u64) -> super::world::Fates {
    Box::new(move |what, _| match what {
        What::Files(_) | What::File(..) => Fate::Served(ms),
        _ => Fate::Served(100),
    })
}

/// When the event was sent, in milliseconds after the last execution had ended.
fn event_after(world: &World) -> u64 {
    sent_at(world, "event") - world.servers.tests.iter().map(|test| test.ends.0.0).max().unwrap()
}

#[test]
fn an_answer_that_comes_late_is_told_after_the_event_which_waited_five_seconds() {
    let mut quick = failing();
    quick.live(5 * MINUTE).unwrap();
    for (latency, is_late) in [(1_500, false), (3_500, true), (4_500, true)] {
        let mut world = failing();
        file(&mut world, 0, "junit.xml", report(2));
        world.fates = slow(latency);
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, done.reported), (Some(Outcome::Failed), true));
        assert_eq!(world.events(), [false]);
        let waited = event_after(&world) - event_after(&quick);
        assert!(waited < 5_000 + CALLS, "{latency}: {waited} ms");
        let log = log(&world);
        let (decision, name) = (place(&log, "Testrelay: failed."), place(&log, "##[error]  Cart › test 2"));
        assert_eq!(decision < name, is_late, "{latency}: {log:#?}");
        assert_eq!(count(&log, " Failed tests: "), usize::from(!is_late));
        place(&log, ": 4 tests, 2 passed, 2 failed");
    }
}

#[test]
fn the_event_waits_five_seconds_at_most_whatever_testkube_does() {
    let mut quick = failing();
    quick.live(5 * MINUTE).unwrap();
    let fate = |kind, what: &What| match (kind, what) {
        ("slow", What::File(..) | What::Files(_)) => Fate::Served(4_990),
        ("refused", What::File(..) | What::Files(_)) => Fate::Says(answer(500, ""), 4_900),
        ("cut", What::File(..)) => Fate::Says(answer(200, "<testsuite>"), 4_900),
        ("unheard", What::File(..) | What::Files(_)) => Fate::Unheard,
        _ => Fate::Served(100),
    };
    for kind in ["slow", "refused", "cut", "unheard"] {
        for passes in [false, true] {
            let mut world = failing();
            world.servers.tests[0].ends.1 = if passes { "passed" } else { "failed" };
            (0..9).for_each(|n| file(&mut world, 0, &format!("TEST-{n}.xml"), report(2)));
            world.fates = Box::new(move |what, _| fate(kind, what));
            let done = world.live(10 * MINUTE).unwrap().clone();
            assert_eq!((done.outcome == Some(Outcome::Passed), world.events()), (passes, vec![passes]));
            let waited = event_after(&world).saturating_sub(event_after(&quick));
            let most = if passes { 1_000 } else { 5_000 };
            assert!(waited < most + CALLS, "{kind}: {waited} ms");
        }
    }
}

#[test]
fn names_that_never_come_are_given_up_after_a_minute() {
    let mut world = failing();
    world.fates = Box::new(|what, _| match what {
        What::File(..) | What::Files(_) => Fate::Unheard,
        _ => Fate::Served(100),
    });
    let done = world.live(10 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported, world.events()), (Some(Outcome::Failed), true, vec![false]));
    assert!(done.at.mono.0 < after(2 * MINUTE).0);
}

#[test]
fn no_report_whatever_it_says_touches_the_verdict() {
    for (status, failed) in [("passed", 9), ("failed", 0)] {
        let mut world = failing();
        world.servers.tests[0].ends.1 = status;
        file(&mut world, 0, "junit.xml", report(failed));
        file(&mut world, 1, "junit.xml", report(failed));
        world.servers.tests[1].reports =
            json!([{"summary": {"tests": -1, "failed": "9", "passed": [1e300]}}]);
        let passes = status == "passed";
        let done = world.live(5 * MINUTE).unwrap().clone();
        let outcome = if passes { Outcome::Passed } else { Outcome::Failed };
        assert_eq!((done.outcome, world.events()), (Some(outcome), vec![passes]));
    }
}

#[test]
fn a_file_that_is_broken_or_too_large_costs_one_line() {
    for (body, size, line) in [
        (
            b"<testsuite>\n<testcase".to_vec(),
            None,
            "e2e-605000: results/junit.xml is not read: it ends before its elements do (line 2)",
        ),
        (
            b"<testsuite></a>".to_vec(),
            None,
            "e2e-605000: results/junit.xml is not read: it is not well-formed XML (line 1)",
        ),
        (
            vec![b' '; (2 << 20) + 1],
            None,
            "e2e-605000: results/junit.xml is not read: it has 2.1 MiB; the limit is 2 MiB",
        ),
        (
            b"<testsuite/>".to_vec(),
            Some(3_000_000),
            "e2e-605000: results/junit.xml is not read: it has 2.9 MiB; the limit is 2 MiB",
        ),
    ] {
        let mut world = failing();
        file(&mut world, 0, "results/junit.xml", body);
        if let Some(size) = size {
            // It has grown since it was listed.
            world.fates = Box::new(move |what, _| match what {
                What::File(..) => {
                    let CallOutcome::Response(found) = answer(200, "") else { panic!("an answer") };
                    Fate::Says(CallOutcome::Response(Response { body: Err(size), ..found }), 100)
                }
                _ => Fate::Served(100),
            });
        }
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, world.events()), (Some(Outcome::Failed), vec![false]));
        place(&log(&world), &format!("##[warning]{line}"));
        assert_eq!(count(&log(&world), "is not read"), 1);
    }
}

#[test]
fn what_is_no_report_is_passed_over_in_silence() {
    let mut world = failing();
    file(&mut world, 0, "output.xml", "<robot><suite/></robot>");
    file(&mut world, 0, "junit.xml", report(1));
    file(&mut world, 0, "report.html", "<html>");
    world.live(5 * MINUTE).unwrap();
    place(&log(&world), ": 3 tests, 2 passed, 1 failed");
    assert_eq!(count(&log(&world), "files)") + count(&log(&world), "not read"), 0, "{:#?}", log(&world));
}

#[test]
fn a_file_that_testkube_cannot_give_is_asked_for_twice() {
    let mut world = failing();
    file(&mut world, 0, "junit.xml", report(1));
    world.fates = Box::new(|what, before| match what {
        What::File(..) if before == 0 => Fate::Says(answer(500, "presigned"), 100),
        _ => Fate::Served(100),
    });
    world.live(5 * MINUTE).unwrap();
    place(&log(&world), "##[error]  Cart › test 1");
    let mut world = failing();
    file(&mut world, 0, "junit.xml", report(1));
    world.fates = Box::new(|what, _| match what {
        What::File(..) => Fate::Says(answer(500, "presigned"), 100),
        _ => Fate::Served(100),
    });
    world.live(5 * MINUTE).unwrap();
    place(&log(&world), "##[warning]e2e-605000: junit.xml could not be read (HTTP 500)");
    assert_eq!(world.sent.iter().filter(|sent| matches!(sent.what, What::File(..))).count(), 2);
}

#[test]
fn no_more_than_five_files_and_five_mib_of_a_check_are_read() {
    let mut world = failing();
    (0..30).for_each(|n| file(&mut world, 0, &format!("TEST-{n}.xml"), report(1)));
    world.live(5 * MINUTE).unwrap();
    let files = |world: &World| world.sent.iter().filter(|sent| matches!(sent.what, What::File(..))).count();
    assert_eq!(files(&world), 5);
    place(&log(&world), ": 15 tests, 10 passed, 5 failed (in 5 of 30 files)");
    let mut world = failing();
    let large = |n: u64| report(1) + &" ".repeat((1_900 - usize::try_from(n).unwrap()) << 10);
    (0..5).for_each(|n| file(&mut world, 0, &format!("TEST-{n}.xml"), large(n)));
    world.live(5 * MINUTE).unwrap();
    assert_eq!(files(&world), 2);
    place(&log(&world), "(in 2 of 5 files)");
}

#[test]
fn what_passed_leaves_files_for_what_fails_later() {
    let mut world = failing();
    (0..9).for_each(|n| file(&mut world, 1, &format!("TEST-{n}.xml"), report(0)));
    (0..9).for_each(|n| file(&mut world, 0, &format!("TEST-{n}.xml"), report(1)));
    world.live(5 * MINUTE).unwrap();
    place(&log(&world), ": 6 tests, 6 passed (in 3 of 9 files)");
    place(&log(&world), ": 6 tests, 4 passed, 2 failed (in 2 of 9 files)");
}

#[test]
fn one_call_is_under_way_and_the_next_waits_for_its_answer() {
    let mut world = failing();
    (0..4).for_each(|n| file(&mut world, 0, &format!("TEST-{n}.xml"), report(1)));
    world.fates = slow(700);
    world.live(5 * MINUTE).unwrap();
    let results = |what: &What| matches!(what, What::File(..) | What::Files(_));
    let at: Vec<u64> = world.sent.iter().filter(|sent| results(&sent.what)).map(|sent| sent.at.0).collect();
    assert_eq!(at.len(), 6);
    assert!(at.windows(2).all(|pair| pair[1] >= pair[0] + 700), "{at:?}");
}

#[test]
fn zero_files_switch_it_off() {
    let mut world = failing();
    let config = r#"{"testkube": {"cluster": "testkube"}, "insecure_no_auth": true, "checks": {"test_results": {"files": 0}},
        "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure"}]}"#;
    world.config = Config::parse(config.as_bytes(), &|_| None).unwrap();
    file(&mut world, 0, "junit.xml", report(1));
    world.servers.tests[1].reports = json!([{"summary": {"tests": 3, "passed": 3}}]);
    world.live(5 * MINUTE).unwrap();
    assert!(!world.sent.iter().any(|sent| matches!(sent.what, What::File(..) | What::Files(_))));
    assert_eq!(count(&log(&world), "Cart") + count(&log(&world), " tests, "), 0);
}

#[test]
fn a_check_over_which_a_vm_has_fallen_is_not_looked_at_again() {
    let mut world = failing();
    world.durable.falls.count = 1;
    world.durable.falls.last = CAME;
    file(&mut world, 0, "junit.xml", report(1));
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Failed));
    assert!(!world.sent.iter().any(|sent| matches!(sent.what, What::File(..) | What::Files(_))));
}

#[test]
fn the_next_leader_does_not_tell_names_again_and_still_names_them_in_the_decision() {
    let mut world = failing();
    world.servers.tests[0].ends.0 = after(10 * MINUTE);
    world.servers.tests[1].ends.1 = "failed";
    file(&mut world, 1, "junit.xml", report(2));
    world.live(2 * MINUTE);
    place(&log(&world), "##[error]  Cart › test 2");
    world.fall();
    world.live(20 * MINUTE).unwrap();
    let log = log(&world);
    place(&log, "##[error]  Cart › test 2");
    place(&log, " Failed tests: Cart › test 1, Cart › test 2. [failed]");
}

#[test]
fn commands_in_names_are_neutralised_and_the_file_is_linked() {
    let mut world = failing();
    let config = r#"{"testkube": {"cluster": "testkube"}, "insecure_no_auth": true,
        "public_url": "https://relay.example", "artifacts": {"cluster": "files"},
        "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure"}]}"#;
    world.config = Config::parse(config.as_bytes(), &|_| None).unwrap();
    let hostile = "<testsuite><testcase classname='#' name='##vso[task.complete]&#10;##[error]'>\
        <failure message='##vso[x]'/></testcase></testsuite>";
    file(&mut world, 0, "a b/##[x] junit.xml", hostile);
    world.live(5 * MINUTE).unwrap();
    let log = log(&world);
    place(
        &log,
        "  https://relay.example/testrelay/v1/artifacts/ado-run=shop-1/e2e-605000/a%20b/%23%23%5Bx%5D%20junit.xml",
    );
    place(&log, "##[error]  # › # #vso[task.complete] # #[error]: # #vso[x]");
    let commands = log
        .iter()
        .filter(|line| line.trim_start_matches("##[error]").trim_start_matches("##[section]").contains("##"));
    assert_eq!(commands.count(), 0, "{log:#?}");
}

#[test]
fn an_execution_that_testkube_took_for_passed_is_named_once_it_has_failed() {
    let mut world = failing();
    world.servers.tests[0].ends.0 = after(3 * MINUTE);
    file(&mut world, 1, "junit.xml", report(1));
    world.live(MINUTE);
    assert!(world.sent.iter().any(|sent| matches!(sent.what, What::File(..))));
    world.servers.tests[1].ends.1 = "failed";
    world.live(9 * MINUTE).unwrap();
    place(&log(&world), "##[error]  Cart › test 1: want 1 (cart.py:1)");
}

#[test]
fn an_execution_that_was_told_as_passed_is_named_once_it_has_failed() {
    for falls in [false, true] {
        let mut world = failing();
        world.servers.tests[0].ends.0 = after(3 * MINUTE);
        file(&mut world, 1, "junit.xml", report(1));
        world.live(MINUTE);
        // Another change brings a line that has the counts with it.
        world.servers.tests.push(Test::new("ui", after(61 * SECOND), after(62 * SECOND), "passed"));
        world.live(MINUTE);
        place(&log(&world), "api-609000: 3 tests, 2 passed, 1 failed");
        world.servers.tests[1].ends.1 = "failed";
        if falls {
            world.fall();
        }
        world.live(9 * MINUTE).unwrap();
        place(&log(&world), "##[error]  Cart › test 1: want 1 (cart.py:1)");
    }
}

#[test]
fn the_code_ends_the_decision_however_long_its_reason_is() {
    let mut world = failing();
    let name = |n: u64| format!("{n}-{}", "x".repeat(48));
    let test = |n| Test::new(&name(n), after(n * SECOND), after(40 * SECOND), "failed");
    world.servers.tests.extend((10..25).map(test));
    (2..5).for_each(|of| {
        let body = report(3).replace("Cart", &format!("##{}", "Cart".repeat(40)));
        file(&mut world, of, "junit.xml", body);
    });
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Failed));
    let log = log(&world);
    let decision = &log[place(&log, "Testrelay: failed. ")];
    assert!(decision.ends_with(" and 6 more. [failed]"), "{decision}");
    assert!(decision.contains("… Failed tests: # #Cart"), "{decision}");
    assert!(decision.chars().count() <= 1_024, "{}", decision.chars().count());
}
