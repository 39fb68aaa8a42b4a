//! The life of one check, with its variations.

use super::deliveries::ask;
use super::servers::{Test, What, answer, over};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Known, Log, Outcome, Part, Phase};
use crate::expect::Expect;
use crate::time::Mono;
use crate::wire::azure::LogId;
use crate::wire::call::Fault;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

fn after(ms: u64) -> Mono {
    Mono(CAME.0 + ms)
}

/// A check whose two executions pass within a minute.
fn passing() -> World {
    let mut world = World::new(ask());
    world.servers.tests = vec![
        Test::new("e2e", after(5 * SECOND), after(40 * SECOND), "passed"),
        Test::new("api", after(9 * SECOND), after(20 * SECOND), "passed"),
    ];
    world
}

/// Lives until `is` holds for the phase.
fn live_until(world: &mut World, is: impl Fn(&Phase) -> bool) {
    while !is(&world.durable.phase) {
        assert!(world.turn(after(60 * MINUTE)), "{:?}", world.durable.phase);
    }
}

#[test]
fn a_check_is_proven_bounded_watched_confirmed_told_and_reported() {
    let mut world = passing();
    assert_eq!(world.durable.phase, Phase::Accepted);
    live_until(&mut world, |phase| *phase == Phase::Proven);
    assert_eq!(world.words(), ["log", "build"]);
    assert!(world.durable.tokens.are_proven());
    assert_eq!(world.durable.log, Log::Open(LogId { id: 7 }));

    live_until(&mut world, |phase| matches!(phase, Phase::Watching(_)));
    let Phase::Watching(watch) = &world.durable.phase else { panic!() };
    assert_eq!(watch.bound_from, "start of the build");

    live_until(&mut world, |phase| matches!(phase, Phase::Decided(_)));
    assert!((40 * SECOND..45 * SECOND).contains(&(world.now.mono.0 - CAME.0)), "{}", world.now.mono.0);
    let words = world.words();
    let before_lines = words.iter().position(|word| *word == "lines").unwrap_or(words.len());
    assert_eq!(words[before_lines - 3..before_lines], ["read", "look", "look"]);
    let Phase::Decided(decided) = world.durable.phase.clone() else { panic!() };
    assert_eq!((decided.outcome, decided.next), (Outcome::Passed, Part::Line));
    assert!(world.events().is_empty());

    let done = world.live(MINUTE).unwrap().clone();
    let words = world.words();
    assert_eq!(words[words.len() - 3..], ["lines", "record", "event"]);
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Passed), true));
    assert_eq!(world.events(), [true]);
    assert!(world.lines().contains("All 2 executions tagged ado-run=shop-1 passed"), "{}", world.lines());
    assert!(!done.reason.is_empty() && done.decided.is_some());
}

#[test]
fn one_that_has_failed_fails_the_check_and_is_looked_at_once_more() {
    let mut world = passing();
    world.servers.tests[1].ends.1 = "failed";
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Failed), true));
    assert_eq!((world.events(), world.now.mono.0 < after(50 * SECOND).0), (vec![false], true));
}

#[test]
fn an_execution_that_is_not_as_it_was_listed_decides_nothing() {
    let mut world = passing();
    // A look of the live log sees the same.
    let mut looks = BTreeMap::new();
    world.fates = Box::new(move |what, _| {
        let What::Get(id) = what else { return Fate::Served(100) };
        let says = [(404, ""), (200, "{"), (500, ""), (200, r#"{"id":"another"}"#), (302, "")];
        let looks: &mut usize = looks.entry(id.clone()).or_default();
        *looks += 1;
        says.get(*looks - 1)
            .map_or(Fate::Served(100), |(status, body)| Fate::Says(answer(*status, body), 100))
    });
    let done = world.live(10 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
}

#[test]
fn a_look_that_finds_another_status_or_tag_is_followed_by_another_reading() {
    for (status, tag) in [("failed", "shop-1"), ("passed", "shop-2")] {
        let mut world = passing();
        let mut looks = 0;
        world.fates = Box::new(move |what, _| {
            let What::Get(id) = what else { return Fate::Served(100) };
            looks += 1;
            let other = serde_json::json!({
                "id": id, "name": id, "scheduledAt": "2026-01-23T16:55:00Z", "tags": {"ado-run": tag},
                "result": {"status": status, "finishedAt": "2026-01-23T16:56:00Z"},
            });
            if looks > 8 { Fate::Served(100) } else { Fate::Says(answer(200, &other.to_string()), 100) }
        });
        let done = world.live(10 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
        let words = world.words();
        assert!(words.iter().filter(|word| **word == "look").count() > 2, "{words:?}");
    }
}

#[test]
fn a_request_that_cannot_be_evaluated_is_rejected_once_its_token_is_taken() {
    let mut world = World::new(ask());
    world.durable.ask = None;
    let reason = "This check cannot be evaluated: no tag.".to_string();
    world.durable.known = Some(Known { outcome: Outcome::Rejected, reason, code: None, repeats_until: None });
    let done = world.live(MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Rejected), true));
    assert_eq!(world.words(), ["log", "lines", "record", "event"]);
    assert_eq!(world.events(), [false]);
}

#[test]
fn a_token_that_is_refused_for_half_an_hour_is_given_up_without_a_look_at_testkube() {
    let mut world = passing();
    world.servers.unknown = vec!["token-1".into()];
    world.live(29 * MINUTE);
    assert!(world.done.is_none() && world.events().is_empty());
    let done = world.live(5 * MINUTE).unwrap().clone();
    // The event was tried and refused, like the rest.
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Inconclusive), false));
    assert_eq!(world.events(), [false]);
    assert!(!world.words().iter().any(|word| ["read", "look", "lines"].contains(word)));
    assert!(world.sent.len() < 60, "{}", world.sent.len());
}

#[test]
fn an_azure_devops_that_is_away_is_no_refusal() {
    let mut world = passing();
    world.durable.ask.as_mut().unwrap().timeout = Duration::from_secs(3 * 3_600);
    world.fates = Box::new(|what, n| match what.word() {
        "log" if n < 42 => Fate::Says(crate::wire::call::CallOutcome::Failed(Fault::NoConnection), 100),
        _ => Fate::Served(100),
    });
    world.live(32 * MINUTE);
    assert!(world.done.is_none() && world.events().is_empty());
    let done = world.live(20 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Passed), true));
}

#[test]
fn where_the_log_is_forbidden_the_record_proves_a_token_and_then_the_build() {
    for forbidden in [1, 2] {
        let mut world = passing();
        world.fates = Box::new(move |what, n| match (what.word(), n) {
            ("log", _) => Fate::Says(answer(403, ""), 100),
            ("records", 0) if forbidden == 2 => Fate::Says(answer(403, ""), 100),
            _ => Fate::Served(100),
        });
        live_until(&mut world, |phase| *phase == Phase::Proven);
        // The build is read once to prove the token, and once for its start.
        assert_eq!(world.words()[..3], ["log", "records", "build"]);
        assert_eq!(world.words().len(), 2 + forbidden);
        // Reading the build says nothing about the plan.
        assert_eq!((world.durable.is_proven(), world.durable.log), (forbidden == 1, Log::Off));
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, done.reported), (Some(Outcome::Passed), true));
        assert!(!world.words().contains(&"lines"));
    }
}

#[test]
fn what_has_not_ended_at_the_deadline_is_read_a_last_time() {
    let mut world = passing();
    world.servers.tests[0].ends.0 = after(60 * MINUTE);
    let done = world.live(40 * MINUTE).unwrap().clone();
    let deadline = after(30 * MINUTE);
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Inconclusive), vec![false]));
    let last = world.sent.iter().rfind(|sent| sent.what.word() == "read").unwrap().at;
    assert!((deadline.0..deadline.0 + SECOND).contains(&last.0), "{}", last.0);
    assert!(done.reason.contains("e2e") && done.reason.contains("running"), "{}", done.reason);
}

#[test]
fn what_has_ended_just_before_the_deadline_passes_by_the_last_reading() {
    let mut world = passing();
    world.servers.tests[0].ends.0 = Mono(after(30 * MINUTE).0 - 1);
    let done = world.live(40 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Passed), vec![true]));
}

#[test]
fn a_last_reading_that_does_not_come_is_waited_for_a_minute() {
    for is_lost in [false, true] {
        let mut world = passing();
        world.servers.tests[0].ends.0 = after(60 * MINUTE);
        world.live(29 * MINUTE);
        world.fates = Box::new(move |what, _| match (what.word(), is_lost) {
            ("read", true) => Fate::Unheard,
            ("read", false) => Fate::Says(answer(429, ""), 100),
            _ => Fate::Served(100),
        });
        let done = world.live(10 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, world.events()), (Some(Outcome::Inconclusive), vec![false]));
        let took = done.at.mono.since(after(30 * MINUTE)).as_secs();
        let at_most = if is_lost { 30 } else { 62 };
        assert!(took <= at_most, "{took} s");
        let why = if is_lost { "have failed since" } else { "have been incomplete" };
        assert!(done.reason.contains(why), "{}", done.reason);
    }
}

#[test]
fn what_never_appears_is_waited_for_while_testkube_answers() {
    let mut world = World::new(ask());
    let done = world.live(20 * MINUTE).unwrap().clone();
    assert_eq!(done.outcome, Some(Outcome::Inconclusive));
    let took = done.at.mono.since(CAME).as_secs();
    assert!((600..650).contains(&took), "{took} s");
    // Half of the readings fail: the time between them does not count.
    let mut world = World::new(ask());
    world.fates = Box::new(|what, n| match what.word() {
        "read" if n % 2 == 0 => Fate::Says(answer(429, ""), 100),
        _ => Fate::Served(100),
    });
    world.live(20 * MINUTE);
    assert!(world.done.is_none());
}

#[test]
fn an_execution_that_vanishes_twice_in_a_row_decides_and_once_does_not() {
    for (long, outcome) in [(1, Outcome::Passed), (10, Outcome::Inconclusive)] {
        let mut world = passing();
        world.servers.tests[1].hidden = (after(22 * SECOND), after((22 + long) * SECOND));
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!(done.outcome, Some(outcome), "{}", done.reason);
    }
}

#[test]
fn a_run_that_is_over_gets_no_event() {
    let mut world = passing();
    world.servers.tests[0].ends.0 = after(10 * MINUTE);
    world.live(MINUTE);
    world.servers.record = Some(json!({
        "id": world.durable.callback.task, "state": "completed", "result": "canceled",
        "startTime": "2026-01-23T16:00:00Z", "finishTime": "2026-01-23T18:00:00Z",
    }));
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Over), false));
    assert!(world.events().is_empty() && world.lines().contains("canceled"), "{}", world.lines());
}

#[test]
fn a_plan_that_has_ended_ends_the_check_whatever_is_asked() {
    // From the proof on, at each time of its life.
    for seconds in 0..40 {
        let mut world = passing();
        world.live(seconds * SECOND);
        world.servers.is_over = true;
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert!(!done.reported, "{seconds}");
        assert!(world.events().len() <= 1);
    }
}

#[test]
fn an_open_gate_is_told_and_cancels_the_build_where_that_is_asked_for() {
    for cancels in [false, true] {
        let mut world = passing();
        world.config.checks.cancels_open_gate = cancels;
        world.servers.tests[0].ends.0 = after(10 * MINUTE);
        let came = super::servers::wall(CAME).to_string();
        world.servers.record = Some(json!({
            "id": world.durable.callback.task, "state": "completed", "result": "succeeded",
            "startTime": came, "finishTime": came,
        }));
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, done.reported), (Some(Outcome::OpenGate), false));
        assert!(world.events().is_empty());
        let words = world.words();
        let end = if cancels { vec!["cancel", "lines", "record"] } else { vec!["lines", "record"] };
        assert!(words.ends_with(&end), "{words:?}");
        assert_eq!(world.lines().contains("Build 4711 is being cancelled"), cancels, "{}", world.lines());
    }
}

#[test]
fn a_build_that_cannot_be_cancelled_is_tried_three_times_and_told() {
    for (status, tries, says) in [(403, 1, "`Stop builds`"), (503, 3, "could not be cancelled")] {
        let mut world = World::new(ask());
        world.config.checks.cancels_open_gate = true;
        let came = super::servers::wall(CAME).to_string();
        world.servers.record = Some(json!({
            "id": world.durable.callback.task, "state": "completed", "result": "succeeded",
            "startTime": came, "finishTime": came,
        }));
        world.fates = Box::new(move |what, _| match what.word() {
            "cancel" => Fate::Says(answer(status, ""), 100),
            _ => Fate::Served(100),
        });
        let done = world.live(5 * MINUTE).unwrap().clone();
        assert_eq!(done.outcome, Some(Outcome::OpenGate));
        let cancels = world.words().iter().filter(|word| **word == "cancel").count();
        assert_eq!(cancels, tries);
        assert!(world.lines().contains(says), "{}", world.lines());
    }
}

#[test]
fn lines_and_record_that_could_not_be_written_follow_the_event() {
    let mut world = passing();
    world.fates = Box::new(|what, _| match what {
        What::Lines(text) if text.contains("Testrelay: succeeded") => Fate::Says(answer(503, ""), 100),
        _ => Fate::Served(100),
    });
    live_until(&mut world, |phase| matches!(phase, Phase::Owing(_)));
    assert_eq!(world.events(), [true]);
    let ends = |world: &World| world.words().iter().filter(|word| **word == "lines").count();
    let before = ends(&world);
    world.live(2 * MINUTE);
    assert!(world.done.is_none() && ends(&world) > before);
    world.fates = Box::new(|_, _| Fate::Served(100));
    let done = world.live(2 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported, world.events()), (Some(Outcome::Passed), true, vec![true]));
    // The record had been written before.
    let words = world.words();
    assert_eq!(words.last(), Some(&"lines"));
}

#[test]
fn a_log_that_cannot_even_be_created_is_owed_with_all_that_stands_in_it() {
    let mut world = World::new(ask());
    world.durable.phase = Phase::Proven;
    world.durable.token_was_taken(1);
    world.durable.decide(Outcome::Inconclusive, None, "Why.".into(), world.now.wall);
    world.fates = Box::new(|what, n| match what.word() {
        "log" if n < 5 => Fate::Says(answer(503, ""), 100),
        _ => Fate::Served(100),
    });
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Inconclusive), true));
    let words = world.words();
    assert_eq!(words[3..], ["event", "log", "log", "log", "lines", "record"]);
}

#[test]
fn what_is_owed_is_given_up_after_a_quarter_of_an_hour_or_with_the_run() {
    for is_over in [false, true] {
        let mut world = passing();
        world.fates = Box::new(|what, _| match what.word() {
            "record" => Fate::Says(answer(503, ""), 100),
            _ => Fate::Served(100),
        });
        live_until(&mut world, |phase| matches!(phase, Phase::Owing(_)));
        let reported = world.now.mono;
        if is_over {
            world.fates = Box::new(|what, _| match what.word() {
                "record" => Fate::Says(over(), 100),
                _ => Fate::Served(100),
            });
        }
        let done = world.live(30 * MINUTE).unwrap().clone();
        assert_eq!((done.outcome, done.reported), (Some(Outcome::Passed), true));
        let took = world.now.mono.since(reported).as_secs();
        assert_eq!((took < 60, (900..905).contains(&took)), (is_over, !is_over), "{took} s");
        assert_eq!(done.at.mono, reported, "what stands for it says when it was reported");
    }
}

#[test]
fn an_event_whose_answer_is_lost_is_sent_again_when_it_can_have_none_any_more() {
    let mut world = passing();
    world.fates =
        Box::new(|what, n| if what.word() == "event" && n == 0 { Fate::Unheard } else { Fate::Served(100) });
    let done = world.live(5 * MINUTE).unwrap().clone();
    // The second event is told that the run is over, which the first one caused.
    assert_eq!(
        (done.outcome, done.reported, world.events()),
        (Some(Outcome::Passed), true, vec![true, true])
    );
}

#[test]
fn an_event_that_was_refused_is_sent_until_its_token_ends() {
    let mut world = passing();
    world.fates = Box::new(|what, _| match what.word() {
        "event" => Fate::Says(answer(503, ""), 100),
        _ => Fate::Served(100),
    });
    let done = world.live(70 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(Outcome::Passed), false));
    assert_eq!(done.at.mono, after(60 * MINUTE));
    assert!((60..90).contains(&world.events().len()), "{}", world.events().len());
}

#[test]
fn a_set_that_has_changed_is_settled_anew() {
    let mut ask = ask();
    (ask.expect, ask.settle) = (Expect::Any, Duration::from_secs(60));
    let mut world = World::new(ask);
    world.servers.tests = vec![
        Test::new("e2e", after(5 * SECOND), after(10 * SECOND), "passed"),
        Test::new("late", after(50 * SECOND), after(55 * SECOND), "passed"),
    ];
    let done = world.live(10 * MINUTE).unwrap().clone();
    let took = done.at.mono.since(CAME).as_secs();
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!((115..125).contains(&took), "{took} s");
}

#[test]
fn a_set_that_was_gone_for_one_reading_is_settled_anew() {
    let mut ask = ask();
    ask.settle = Duration::from_secs(60);
    let mut world = passing();
    world.durable.ask = Some(ask);
    // Seen complete since second 40, except once without one of its members.
    world.live(80 * SECOND);
    let reads = |world: &World| world.words().iter().filter(|word| **word == "read").count();
    let before = reads(&world);
    world.servers.tests[1].hidden = (after(80 * SECOND), after(90 * SECOND));
    while reads(&world) == before {
        world.turn(after(90 * SECOND));
    }
    world.servers.tests[1].hidden = (Mono(0), Mono(0));
    let done = world.live(10 * MINUTE).unwrap().clone();
    let took = done.at.mono.since(CAME).as_secs();
    assert_eq!(done.outcome, Some(Outcome::Passed));
    assert!((145..165).contains(&took), "{took} s");
}

#[test]
fn a_vm_that_falls_twice_over_a_check_decides_it() {
    let mut world = passing();
    world.live(10 * SECOND);
    for _ in 0..2 {
        world.fall();
        world.step(crate::check::Event::Fell);
    }
    let done = world.live(MINUTE).unwrap().clone();
    assert_eq!((done.outcome, world.events()), (Some(Outcome::Inconclusive), vec![false]));
    let mut world = passing();
    world.step(crate::check::Event::Fell);
    world.durable.falls.last = Mono(0);
    world.now.mono = after(31 * MINUTE);
    world.step(crate::check::Event::Fell);
    assert_eq!(world.durable.falls.count, 1, "they have nothing to do with each other");
}

#[test]
fn a_check_whose_entry_is_not_configured_waits_half_an_hour_for_it() {
    for back in [None, Some(20)] {
        let mut world = passing();
        world.durable.ask.as_mut().unwrap().timeout = Duration::from_secs(3 * 3_600);
        let entries = std::mem::take(&mut world.config.azure_devops);
        world.live(back.unwrap_or(29) * MINUTE);
        assert!(world.done.is_none() && world.sent.is_empty());
        if back.is_some() {
            world.config.azure_devops = entries;
        }
        let done = world.live(12 * MINUTE).unwrap().clone();
        assert_eq!(done.reported, back.is_some());
    }
}
