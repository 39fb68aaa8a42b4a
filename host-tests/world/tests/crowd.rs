//! Thousands of pending checks, and another one that must not wait for them.

mod common;

use common::*;
use fakes::testkube::{Fault, Route};
use fakes::{Span, Status};
use world::*;

const CROWD: u32 = 2_000;
const OTHER_PROJECT: &str = "0c1d8a4e-6f0f-4f4b-9b3f-6d6f9a2f7c11";

/// A world in which [`CROWD`] checks of one project wait for executions that run all day.
fn crowded() -> World {
    let mut world = Setup { configuration: configuration_for(CROWD + 100), ..Setup::new(7) }.start().unwrap();
    for n in 1..=CROWD {
        let pipeline = world.pipeline(n);
        let running = pipeline.tagged("a").at(START, Status::Running);
        world.testkube(|testkube| testkube.add(running));
        assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    }
    world.pass(2 * MINUTE);
    world
}

/// A check of another project, whose execution begins now and ends as `status` 20 s later. It lives in the last bucket of
/// the ledger, behind all the others.
fn check_of_another_project(world: &mut World, status: Status) -> Pipeline {
    let hash_key = world.hash_key().unwrap();
    let in_last_bucket = (CROWD + 1..).map(Pipeline::new).find(|pipeline| pipeline.bucket(&hash_key) == 255);
    let mut pipeline = in_last_bucket.unwrap().in_project(OTHER_PROJECT);
    pipeline.tag = format!("pay-{}", pipeline.build);
    world.begin(&pipeline);
    let from = world.wall();
    let execution = pipeline.tagged("a").at(from, Status::Running).at(from + 20_000, status);
    world.testkube(|testkube| testkube.add(execution));
    let sent = world.now();
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    assert!(world.now() - sent < SECOND, "the answer took {} µs", world.now() - sent);
    pipeline
}

#[test]
fn a_check_among_two_thousand_of_another_project_is_decided_as_if_it_were_alone() {
    let mut world = crowded();
    let pipeline = check_of_another_project(&mut world, Status::Passed);
    let accepted = world.now();
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    // Twenty-one readings, two at a time, each there and back in 44 ms: its turn comes half a second after it is due at the
    // latest. An interval of 2 s and a tick, the answer, the confirmation and the delivery come on top.
    let took = world.now() - accepted;
    assert!(took < 25 * SECOND, "it took {took} µs");
    healthy(&world);
}

#[test]
fn while_testkube_is_slow_a_check_among_two_thousand_waits_for_its_turn_and_no_longer() {
    let mut world = crowded();
    let slow = Fault::Slow { millis: 1_000 };
    world.testkube(|testkube| testkube.fault(Route::List, Span::UntilCleared, slow));
    let pipeline = check_of_another_project(&mut world, Status::Failed);
    let accepted = world.now();
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "failed");
    // Twenty-one readings, two at a time, each answered after 1.05 s: its turn comes each 11.5 s. The execution ends 20 s
    // after the check came; a reading that began just before does not see it, the next one begins a turn later. With 6 s
    // for its answer, the confirmation and the delivery that is:
    let bound = 20 * SECOND + 12 * SECOND + 6 * SECOND;
    let took = world.now() - accepted;
    assert!(took < bound, "it took {took} µs");
    healthy(&world);
}
