//! What the scenarios share.
#![allow(dead_code, reason = "each test program uses some of it")]

use fakes::Status;
use world::*;

/// A run whose only execution runs from now on and passes 20 s later.
pub(crate) fn passing(world: &mut World, n: u32) -> Pipeline {
    ending(world, n, 20_000, Status::Passed)
}

/// A run whose only execution runs from now on and ends so after this number of milliseconds.
pub(crate) fn ending(world: &mut World, n: u32, after: i64, status: Status) -> Pipeline {
    let pipeline = world.pipeline(n);
    let from = world.wall();
    let execution = pipeline.tagged("a").at(from, Status::Running).at(from + after, status);
    world.testkube(|testkube| testkube.add(execution));
    pipeline
}

/// Delivers a check that expects "a" to a process, which takes it.
pub(crate) fn deliver_to(world: &mut World, process: u32, pipeline: &Pipeline) {
    let answer = world.on(process, |world| world.deliver(pipeline, &[("Testrelay-Expect", "a")]));
    assert_eq!(answer.status, 200, "{}: {:?}", answer.text(), world.log());
}

/// The results of all events that were sent for a run, whether Azure DevOps took them or not.
pub(crate) fn sent(world: &World, pipeline: &Pipeline) -> Vec<String> {
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    let sent = events.into_iter().filter(|event| event.name == "TaskCompleted");
    sent.filter_map(|event| event.result).collect()
}

/// The result of the event that Azure DevOps took.
pub(crate) fn result(world: &World, pipeline: &Pipeline) -> Option<String> {
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    events.into_iter().find(|event| event.accepted).and_then(|event| event.result)
}

/// The results of all events that Azure DevOps took.
pub(crate) fn results(world: &World, pipeline: &Pipeline) -> Vec<String> {
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    events.into_iter().filter(|event| event.accepted).filter_map(|event| event.result).collect()
}

/// The result, which must come within a time.
pub(crate) fn decided_within(world: &mut World, pipeline: &Pipeline, span: u64) -> String {
    assert!(world.pass_until(span, |world| result(world, pipeline).is_some()), "{:?}", world.log());
    result(world, pipeline).unwrap()
}

/// No rule was broken.
pub(crate) fn healthy(world: &World) {
    assert_eq!(world.violations(), []);
}

/// A quiet world.
pub(crate) fn world(workers: usize) -> World {
    Setup { workers, drain: 10 * SECOND, ..Setup::new(7) }.start().unwrap()
}
