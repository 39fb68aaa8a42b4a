//! `settle` counts only observed time: unobserved time settles nothing.

use super::*;
use fakes::Span;
use fakes::testkube::{Fault, Route};

/// A check without an expectation, whose only execution has ended and has been seen so for some of the minute.
fn half_settled() -> (World, Pipeline) {
    let mut world = start(Setup::new(7));
    let pipeline = common::passing(&mut world, 1);
    assert_eq!(world.deliver(&pipeline, &[]).status, 200);
    world.pass(40 * SECOND);
    assert_eq!(common::result(&world, &pipeline), None);
    (world, pipeline)
}

#[test]
fn an_outage_of_testkube_settles_nothing() {
    let (mut world, pipeline) = half_settled();
    let (from, back) = (world.wall(), world.wall() + 100_000);
    world.testkube(|testkube| {
        testkube.fault(Route::All, Span::Between { from, until: back }, Fault::Status(503))
    });
    let told = told_after(&mut world, &pipeline, back, 10 * MINUTE);
    assert!(told >= 60_000, "decided after {told} ms in which Testkube could be read");
    common::healthy(&world);
}

#[test]
fn the_time_without_a_leader_settles_nothing() {
    let (mut world, pipeline) = half_settled();
    let fallen = world.wall();
    world.trap(0, TrapAt::In("proxy_set_shared_data"));
    let told = told_after(&mut world, &pipeline, fallen, 10 * MINUTE);
    assert_eq!(world.metric("testrelay_leader_falls"), 1);
    // A lease of 15 s and a brake of 30 s come before the first reading.
    assert!(told >= 45_000 + 60_000, "decided {told} ms after the leader fell");
    common::healthy(&world);
}

#[test]
fn a_minute_that_was_watched_settles() {
    let (mut world, pipeline) = half_settled();
    let from = world.wall();
    let told = told_after(&mut world, &pipeline, from, 10 * MINUTE);
    assert!((30_000..60_000).contains(&told), "decided {told} ms later");
    common::healthy(&world);
}
