//! Which files are asked for, how often, and for which execution.

use super::*;
use crate::check::Event;

/// The files that were asked for, as `EXECUTION NAME`.
fn asked(world: &World) -> Vec<String> {
    let name = |of: &String| world.servers.tests.iter().find(|test| test.id == *of).unwrap().workflow.clone();
    let file = |sent: &super::super::world::Sent| match &sent.what {
        What::File(of, file) => Some(format!("{} {file}", name(of))),
        _ => None,
    };
    world.sent.iter().filter_map(file).collect()
}

#[test]
fn each_execution_that_failed_gets_a_file_before_any_gets_its_second() {
    let mut world = failing();
    world.servers.tests[1].ends.1 = "failed";
    let web = Test::new("web", after(9 * SECOND), after(40 * SECOND), "failed");
    world.servers.tests.extend([web, Test::new("ui", after(9 * SECOND), after(40 * SECOND), "passed")]);
    world.servers.tests[1].ends.0 = after(40 * SECOND);
    (0..4).for_each(|of| (0..9).for_each(|n| file(&mut world, of, &format!("TEST-{n}.xml"), report(1))));
    world.live(5 * MINUTE).unwrap();
    let asked = asked(&world);
    assert_eq!(asked.len(), 5);
    let (mut first, mut more) = (asked[..3].to_vec(), asked[3..].to_vec());
    first.sort();
    more.sort();
    assert_eq!(first, ["api TEST-0.xml", "e2e TEST-0.xml", "web TEST-0.xml"]);
    more.dedup_by_key(|name| name[..3].to_string());
    assert_eq!(more.len(), 2, "{asked:?}");
    assert_eq!(count(&log(&world), "##[error]  Cart › test 1"), 5, "{:#?}", log(&world));
}

#[test]
fn one_that_failed_early_leaves_a_file_for_each_that_still_runs() {
    let mut world = failing();
    world.servers.tests[1].ends.1 = "failed";
    world.servers.tests[0].ends.0 = after(3 * MINUTE);
    world.servers.tests.push(Test::new("web", after(9 * SECOND), after(4 * MINUTE), "failed"));
    (0..3).for_each(|of| (0..9).for_each(|n| file(&mut world, of, &format!("TEST-{n}.xml"), report(1))));
    world.live(MINUTE);
    assert_eq!(asked(&world), ["api TEST-0.xml", "api TEST-1.xml", "api TEST-2.xml"]);
    place(&log(&world), "api-609000: 9 tests, 6 passed, 3 failed (in 3 of 9 files)");
    world.live(9 * MINUTE).unwrap();
    assert_eq!(asked(&world)[3..], ["e2e TEST-0.xml", "web TEST-0.xml"]);
    place(&log(&world), " Failed tests: Cart › test 1, Cart › test 1, Cart › test 1 and 2 more. [failed]");
}

#[test]
fn what_is_kept_for_one_that_runs_is_kept_in_bytes_too() {
    let mut world = failing();
    world.servers.tests[1].ends.1 = "failed";
    world.servers.tests[0].ends.0 = after(3 * MINUTE);
    let large = report(1) + &" ".repeat(1_200 << 10);
    (0..9).for_each(|n| file(&mut world, 1, &format!("TEST-{n}.xml"), large.clone()));
    file(&mut world, 1, "junit-small.xml", report(2));
    file(&mut world, 0, "junit.xml", report(1) + &" ".repeat(1 << 20));
    world.live(9 * MINUTE).unwrap();
    let asked = asked(&world);
    let of_api = ["TEST-0", "TEST-1", "TEST-2", "junit-small"].map(|name| format!("api {name}.xml"));
    assert_eq!((&asked[..4], &asked[4..]), (&of_api[..], &["e2e junit.xml".to_string()][..]));
}

#[test]
fn results_in_several_files_are_counted_once() {
    let mut world = failing();
    let suite = |name: &str| {
        let case =
            format!("<testcase classname='{name}' name='t' time='0.1'><failure message='no'/></testcase>");
        format!("<testsuite name='{name}' timestamp='2026-01-23T16:44:01'>{case}</testsuite>")
    };
    file(&mut world, 0, "all-junit.xml", format!("<testsuites>{}{}</testsuites>", suite("a"), suite("b")));
    file(&mut world, 0, "TEST-a.xml", suite("a"));
    file(&mut world, 0, "TEST-b.xml", suite("b"));
    file(&mut world, 0, "TESTS-TestSuites.xml", suite("a"));
    file(&mut world, 0, "copy/TEST-c.xml", suite("c"));
    file(&mut world, 0, "TEST-c.xml", suite("c"));
    world.live(5 * MINUTE).unwrap();
    let log = log(&world);
    place(&log, ": 3 tests, 0 passed, 3 failed");
    assert_eq!(count(&log, "##[error]  "), 3, "{log:#?}");
    place(&log, " Failed tests: a › t, b › t, c › t. [failed]");
}

#[test]
fn a_file_whose_call_was_not_started_is_asked_for_again() {
    let mut world = failing();
    file(&mut world, 0, "junit.xml", report(1));
    file(&mut world, 0, "junit-2.xml", report(1));
    let mut lost = Vec::new();
    world.live(15 * SECOND);
    while world.done.is_none() && world.turn(after(9 * MINUTE)) {
        lost.extend(world.lose_call_for_results(&lost));
    }
    assert_eq!(lost.len(), 4, "two lists and two files: {lost:?}");
    place(&log(&world), ": 6 tests, 4 passed, 2 failed");
}

#[test]
fn an_answer_about_results_starts_no_call_that_waits_for_room() {
    let mut world = failing();
    file(&mut world, 0, "junit.xml", report(1));
    world.live(39 * SECOND);
    let fault = |what: &What| matches!(what, What::Lines(text) if text.contains("Testrelay: failed"));
    while !world.sent.iter().any(|sent| fault(&sent.what)) {
        world.turn(after(MINUTE));
    }
    world.no_room = (after(2 * MINUTE), false);
    while !world.volatile.is_queued {
        assert!(world.turn(after(2 * MINUTE)), "it waits for room");
    }
    let queued = world.queued;
    world.step(Event::Tested);
    assert!(world.volatile.is_queued);
    assert_eq!(world.queued, queued, "it is in the queue twice");
    world.live(5 * MINUTE).unwrap();
    assert_eq!(world.events(), [false]);
}
