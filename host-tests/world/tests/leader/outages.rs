//! When Testkube is back, no check waits for a back-off from the outage.

use super::*;
use fakes::Span;
use fakes::testkube::{Fault, Route};

/// The longest time in ten worlds from Testkube's return to the event of a check whose execution passed while it was away.
fn worst(away: i64, fails: impl Fn(&mut World, i64, i64)) -> i64 {
    let mut worst = 0;
    for seed in 0..10 {
        let mut world = start(Setup::new(seed));
        let pipeline = common::passing(&mut world, 1);
        deliver(&mut world, &pipeline);
        world.pass(8 * SECOND + seed * 300 * MILLISECOND);
        let from = world.wall();
        fails(&mut world, from, from + away);
        world.pass(u64::try_from(away).unwrap() * MILLISECOND);
        world.network("testkube", answers());
        worst = worst.max(told_after(&mut world, &pipeline, from + away, 3 * MINUTE));
        common::healthy(&world);
    }
    worst
}

#[test]
fn a_check_is_told_within_15_s_after_60_s_of_503() {
    let worst = worst(60_000, |world, from, until| {
        world.testkube(|testkube| {
            testkube.fault(Route::All, Span::Between { from, until }, Fault::Status(503))
        });
    });
    assert!(worst <= 15_000, "told {worst} ms after Testkube was back");
}

#[test]
fn a_check_is_told_within_15_s_after_an_hour_without_a_connection() {
    let worst = worst(60 * 60_000, |world, _, _| {
        world.network("testkube", Rule { fails: 1, ways: vec![Way::NoConnection], ..answers() });
    });
    assert!(worst <= 15_000, "told {worst} ms after Testkube was back");
}

#[test]
fn a_check_is_told_within_15_s_after_5_minutes_of_calls_that_envoy_refuses_at_once() {
    let worst = worst(5 * 60_000, |world, _, _| {
        world.network("testkube", Rule { fails: 1, ways: vec![Way::Refused], ..answers() });
    });
    assert!(worst <= 15_000, "told {worst} ms after Testkube was back");
}

#[test]
fn an_outage_in_the_middle_of_the_wait_is_no_absence_of_what_is_expected() {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let ask = [("Testrelay-Expect", "a"), ("Testrelay-Appear-Timeout", "10m")];
    assert_eq!(world.deliver(&pipeline, &ask).status, 200);
    world.pass(MINUTE);
    let (from, until) = (world.wall(), world.wall() + 40 * 60_000);
    let late = pipeline.tagged("a").at(until + 60_000, Status::Running).at(until + 90_000, Status::Passed);
    world.testkube(|testkube| {
        testkube.add(late);
        testkube.fault(Route::All, Span::Between { from, until }, Fault::Status(503));
    });
    assert_eq!(common::decided_within(&mut world, &pipeline, 50 * MINUTE), "succeeded");
    common::healthy(&world);
}
