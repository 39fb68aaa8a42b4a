//! Preflights: their calls are bounded however many ask, and a process tells one in its log.

mod common;

use fakes::Request;
use world::*;

const PATH: &str = "/testrelay/v1/preflight";

/// A world whose callers need no credential.
fn open(workers: usize) -> World {
    let configuration = changed(&configuration(0), |configuration| {
        configuration["insecure_no_auth"] = true.into();
        configuration.as_object_mut().unwrap().remove("credentials");
    });
    Setup { workers, configuration, drain: 10 * SECOND, ..Setup::new(7) }.start().unwrap()
}

fn ask() -> Request {
    Request::new("GET", PATH)
}

/// Calls of preflights so far: to Testkube, and to Azure DevOps.
fn made(world: &World) -> (usize, usize) {
    (world.testkube(|testkube| testkube.preflights().len()), world.azure(|azure| azure.preflights().len()))
}

/// The lines about preflights in Envoy's log.
fn told(world: &World) -> Vec<String> {
    world.log().into_iter().filter(|line| line.contains("preflight: ")).collect()
}

#[test]
fn callers_on_all_workers_share_the_calls_of_one() {
    let mut world = open(3);
    let streams: Vec<u64> = (0..20).map(|_| world.send(ask())).collect();
    let answers: Vec<Answer> = streams.into_iter().map(|stream| world.wait(stream)).collect();
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    // Who waits is bounded for each worker and credential.
    assert_eq!((of(200) + of(429), of(200) >= 3), (20, true), "{answers:?}");
    assert_eq!(made(&world), (2, 1));
    let bodies: std::collections::BTreeSet<String> =
        answers.iter().filter(|answer| answer.status == 200).map(Answer::text).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    for _ in 0..50 {
        assert_eq!(world.ask(ask()).status, 200);
    }
    assert_eq!(made(&world), (2, 1));
    common::healthy(&world);
}

#[test]
fn a_caller_that_hangs_up_makes_no_more_calls_than_one_that_waits() {
    let mut world = open(1);
    world.network("testkube", Rule { fails: 1, ways: vec![Way::LostAnswer], ..Rule::default() });
    for _ in 0..20 {
        let stream = world.send(ask());
        world.pass(SECOND / 2);
        world.hang_up(stream);
    }
    // In ten seconds one caller began, and so did the leader.
    assert!(made(&world).0 <= 4, "{:?}", made(&world));
    common::healthy(&world);
}

#[test]
fn calls_that_envoy_refuses_together_are_all_heard() {
    let mut world = open(1);
    world.network("testkube", Rule { fails: 1, ways: vec![Way::Refused], ..Rule::default() });
    let answer = world.ask(ask());
    assert_eq!((answer.status, answer.by), (200, By::Module), "{}", answer.text());
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (found["result"].as_str(), found["checks"][0]["result"].as_str()),
        (Some("failed"), Some("failed"))
    );
    common::healthy(&world);
}

#[test]
fn calls_that_nobody_answers_are_answered_for_by_the_worker() {
    let mut world = open(1);
    world.network("azure-devops", Rule { fails: 1, ways: vec![Way::Silence], ..Rule::default() });
    let began = world.now();
    let answer = world.ask(ask());
    assert_eq!((answer.status, answer.by), (503, By::Module), "{}", answer.text());
    assert!((12 * SECOND..15 * SECOND).contains(&(world.now() - began)));
    world.calm();
    world.network("azure-devops", Rule::default());
    world.pass(5 * SECOND);
    assert_eq!(world.ask(ask()).status, 200);
    common::healthy(&world);
}

#[test]
fn a_process_tells_one_preflight_whatever_falls_or_changes() {
    let mut world = open(2);
    world.pass(30 * SECOND);
    let lines = told(&world);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for variant in 1..4 {
        assert!(world.reload(&configuration(variant)).unwrap());
        world.pass(30 * SECOND);
        for thread in 0..3 {
            world.trap(thread, TrapAt::NextCallback);
        }
        world.pass(MINUTE);
        world.ask(Request::new("GET", "/testrelay/healthz"));
        world.pass(MINUTE);
    }
    assert_eq!(told(&world), lines);
}
