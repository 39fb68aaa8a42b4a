//! A check whose completion event is ApiResponse is told from one that somebody has bypassed.
//!
//! The timeline record of both says `completed` and `succeeded`, at any time. What tells them apart is how long after the
//! record's own `startTime` its `finishTime` is, both by Azure DevOps's clock: an open gate was completed by the answer
//! that accepted the check, and Azure DevOps waits 20 s for that answer, which came within a second here. A later end was a
//! bypass: a person cannot find the check, its menu and the confirmation before the answer arrives.

use super::*;
use serde_json::json;

fn cancelling() -> World {
    configured(|configuration| configuration["checks"]["on_open_gate"] = json!("cancel_build"))
}

/// Azure DevOps completes a check with `succeeded` this long after it was sent; returns whether it counted as an open gate,
/// and whether its build is being cancelled.
fn completed_after(world: &mut World, n: u32, millis: i64) -> (bool, bool) {
    let pipeline = Pipeline::new(n);
    waiting(world, &pipeline);
    let (sent, before) = (world.wall(), world.metric("testrelay_open_gates"));
    world.azure(|azure| assert!(azure.end_plan(&pipeline.spec().plan, sent + millis, "succeeded")));
    deliver(world, &pipeline);
    world.pass(5 * MINUTE);
    assert!(pending(world).ends_with("pending checks: 0\n"), "{:?}", world.log());
    let now = world.wall();
    let is_cancelled = world.azure(|azure| azure.is_cancelled(pipeline.project, pipeline.build, now));
    (world.metric("testrelay_open_gates") > before, is_cancelled)
}

#[test]
fn a_check_that_the_answer_itself_has_completed_is_an_open_gate() {
    let mut world = cancelling();
    assert_eq!(completed_after(&mut world, 1, 30), (true, true));
}

#[test]
fn the_build_of_an_open_gate_goes_on_where_nobody_has_asked_for_its_end() {
    assert_eq!(completed_after(&mut start(Setup::new(7)), 1, 30), (true, false));
}

#[test]
fn a_check_that_is_bypassed_within_a_minute_is_no_open_gate_and_its_build_goes_on() {
    let mut world = cancelling();
    let seen: Vec<(i64, (bool, bool))> = [25_000, 40_000, 55_000]
        .into_iter()
        .zip(1..)
        .map(|(millis, n)| (millis, completed_after(&mut world, n, millis)))
        .collect();
    let wrong: Vec<_> = seen.iter().filter(|(_, seen)| *seen != (false, false)).collect();
    assert!(wrong.is_empty(), "(ms until the bypass, (an open gate, its build cancelled)): {wrong:?}");
}

#[test]
fn a_bypass_is_told_from_an_open_gate_where_the_two_clocks_differ() {
    let mut wrong = Vec::new();
    for skew in [-25_000, 25_000] {
        let mut world = cancelling();
        world.set_clock(skew);
        wrong.extend((completed_after(&mut world, 1, 30) != (true, true)).then_some((skew, "an open gate")));
        wrong
            .extend((completed_after(&mut world, 2, 30_000) != (false, false)).then_some((skew, "a bypass")));
    }
    assert!(wrong.is_empty(), "(ms by which the clock is ahead, what is taken for the other): {wrong:?}");
}
