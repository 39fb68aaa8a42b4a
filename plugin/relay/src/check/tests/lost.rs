//! A fallen leader loses nothing that matters: whenever it falls, the check has the same end.

use super::deliveries::ask;
use super::servers::{Test, What, answer, wall};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Known, Outcome, Phase};
use crate::time::Mono;
use serde_json::json;
use std::time::Duration;

const TWO: [(&str, u64, &str); 2] = [("e2e", 30, "passed"), ("api", 20, "passed")];

fn with(tests: &[(&str, u64, &'static str)]) -> World {
    let mut world = World::new(ask());
    let at = |seconds: u64| Mono(CAME.0 + seconds * SECOND);
    world.servers.tests =
        tests.iter().map(|(name, ends, status)| Test::new(name, at(5), at(*ends), status)).collect();
    world
}

fn settled() -> World {
    let mut world = with(&TWO);
    world.durable.ask.as_mut().unwrap().settle = Duration::from_secs(15);
    world
}

fn rejected() -> World {
    let mut world = with(&[]);
    let reason = "This check cannot be evaluated: no tag.".into();
    world.durable.ask = None;
    world.durable.known = Some(Known { outcome: Outcome::Rejected, reason, code: None, repeats_until: None });
    world
}

fn absent() -> World {
    let mut world = with(&TWO[..1]);
    world.durable.ask.as_mut().unwrap().appear_timeout = Duration::from_secs(60);
    world
}

fn late() -> World {
    let mut world = with(&[("e2e", 600, "passed"), ("api", 20, "passed")]);
    world.durable.ask.as_mut().unwrap().timeout = Duration::from_secs(60);
    world
}

fn without_log() -> World {
    let mut world = with(&TWO);
    world.fates = Box::new(|what, _| match what {
        What::CreateLog => Fate::Says(answer(403, ""), 100),
        _ => Fate::Served(100),
    });
    world
}

/// The last lines and the record are refused until the event was sent.
fn owing() -> World {
    let mut world = with(&TWO);
    let mut is_sent = false;
    world.fates = Box::new(move |what, _| {
        is_sent |= matches!(what, What::Event(_));
        match what {
            What::Lines(_) | What::Link(_) if !is_sent => Fate::Says(answer(503, ""), 100),
            _ => Fate::Served(100),
        }
    });
    world
}

fn open_gate() -> World {
    let mut world = with(&[]);
    world.config.checks.cancels_open_gate = true;
    let came = wall(CAME).to_string();
    world.servers.record = Some(json!({
        "id": world.durable.callback.task, "state": "completed", "result": "succeeded",
        "startTime": came, "finishTime": came,
    }));
    world
}

/// Lives until `steps` steps were made. False if the check is done before.
fn steps(world: &mut World, steps: usize) -> bool {
    while world.steps < steps && world.turn(Mono(CAME.0 + 50 * MINUTE)) {}
    world.done.is_none()
}

fn same_end(make: fn() -> World, outcome: Outcome, reported: bool) {
    let mut world = make();
    let done = world.live(30 * MINUTE).unwrap().clone();
    assert_eq!((done.outcome, done.reported), (Some(outcome), reported));
    let took = done.at.mono;
    assert!(world.steps > 3);
    for falls in 0..world.steps {
        for is_heard in [false, true] {
            let mut world = make();
            assert!(steps(&mut world, falls));
            let was_owing = matches!(world.durable.phase, Phase::Owing(_));
            if is_heard {
                world.hand_over()
            } else {
                world.fall()
            }
            let end = world.live(30 * MINUTE).unwrap().clone();
            assert_eq!((end.outcome, end.reported), (done.outcome, done.reported), "after {falls} steps");
            let events = world.events();
            assert!(events.len() <= 2 && events.windows(2).all(|pair| pair[0] == pair[1]), "{events:?}");
            assert_eq!(events.is_empty(), !reported);
            // Half a minute for an event whose answer was lost, and a minute for what is read again.
            assert!(end.at.mono.since(took).as_secs() < 90, "after {falls} steps");
            assert!(!was_owing || events.len() == 1);
        }
    }
}

#[test]
fn a_check_that_passes() {
    same_end(|| with(&TWO), Outcome::Passed, true);
}

#[test]
fn a_check_that_fails() {
    same_end(|| with(&[("e2e", 30, "failed"), ("api", 20, "passed")]), Outcome::Failed, true);
}

#[test]
fn a_check_that_settles() {
    same_end(settled, Outcome::Passed, true);
}

#[test]
fn a_check_that_is_rejected() {
    same_end(rejected, Outcome::Rejected, true);
}

#[test]
fn a_check_whose_tests_do_not_appear() {
    same_end(absent, Outcome::Inconclusive, true);
}

#[test]
fn a_check_whose_time_is_over() {
    same_end(late, Outcome::Inconclusive, true);
}

#[test]
fn a_check_without_a_log() {
    same_end(without_log, Outcome::Passed, true);
}

#[test]
fn a_check_that_owes_lines() {
    same_end(owing, Outcome::Passed, true);
}

#[test]
fn a_check_whose_gate_is_open() {
    same_end(open_gate, Outcome::OpenGate, false);
}

#[test]
fn a_change_that_is_refused_when_its_turn_in_a_queue_comes_is_made_later() {
    let mut queued = 0;
    for n in 0..300 {
        let mut world = settled();
        let at = |ms: u64| Mono(CAME.0 + 200 * n + ms);
        while world.turn(at(0)) {}
        world.no_room = (at(900), false);
        while world.turn(at(900)) {}
        queued += world.queued;
        world.refusals = 1;
        let done = world.live(10 * MINUTE).unwrap_or_else(|| panic!("forgotten at {} ms", 200 * n));
        assert_eq!(done.outcome, Some(Outcome::Passed));
    }
    assert!(queued > 5, "{queued}");
}
