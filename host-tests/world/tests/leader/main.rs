//! What pipelines, Testkube and Azure DevOps can observe of the leader: requests in, calls out, answers, log lines.
//!
//! Both servers answer after 6 ms at the least, up to 40 ms later than that, and in any order.

#[path = "../common/mod.rs"]
mod common;

mod aborts;
mod again;
mod endings;
mod forged;
mod late_answers;
mod limits;
mod neighbours;
mod open_gate;
mod outages;
mod settle;
mod telling;
mod throttling;

use fakes::{Execution, Status};
use world::*;

const OTHER_PROJECT: &str = "0c1d8a4e-6f0f-4f4b-9b3f-6d6f9a2f7c11";

/// What a call takes on its way to a server, and as much back.
fn answers() -> Rule {
    Rule { latency: 3 * MILLISECOND, ..Rule::default() }
}

/// A world whose servers are as far away as that.
fn start(setup: Setup) -> World {
    let mut world = setup.start().unwrap();
    for cluster in ["testkube", "azure-devops"] {
        world.network(cluster, answers());
    }
    // Somebody leads.
    world.pass(3 * SECOND);
    world
}

/// The shipped configuration with something changed.
fn configured(change: impl FnOnce(&mut serde_json::Value)) -> World {
    start(Setup { configuration: changed(&configuration(0), change), ..Setup::new(7) })
}

/// An execution of workflow `a` that runs from now on and ends with `status` after this number of milliseconds.
fn ends_after(world: &World, pipeline: &Pipeline, millis: i64, status: Status) -> Execution {
    let now = world.wall();
    pipeline.tagged("a").at(now, Status::Running).at(now + millis, status)
}

/// A run whose execution goes on all day.
fn waiting(world: &mut World, pipeline: &Pipeline) {
    world.begin(pipeline);
    let now = world.wall();
    world.testkube(|testkube| testkube.add(pipeline.tagged("a").at(now, Status::Running)));
}

/// Delivers a check for one execution of workflow `a`.
fn deliver(world: &mut World, pipeline: &Pipeline) {
    let answer = world.deliver(pipeline, &[("Testrelay-Expect", "a")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// When Azure DevOps took the event of a check, in milliseconds after `from`.
fn told_after(world: &mut World, pipeline: &Pipeline, from: i64, at_most: u64) -> i64 {
    common::decided_within(world, pipeline, at_most);
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    events.iter().find(|event| event.accepted).map_or(i64::MAX, |event| event.at - from)
}

/// The check's log, as Azure DevOps has it.
fn log_of(world: &World, pipeline: &Pipeline) -> Vec<String> {
    world.azure(|azure| azure.log_lines(&pipeline.spec().plan))
}

/// How many checks `/readyz` says are pending.
fn pending(world: &mut World) -> String {
    world.ask(fakes::Request::new("GET", "/testrelay/readyz")).text()
}
