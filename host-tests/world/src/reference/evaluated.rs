//! What an evaluation may answer: its own look at Testkube, between its request and its answer, must confirm it.

use super::counted::{counted_among, counted_from, passed_from, readings_of_streams, steps, tagged};
use super::{CLOCK_SKEW, Delivered, LOOKBACK};
use crate::world::World;
use fakes::Status;

/// Whether, at some list between `from` and `until` (Unix milliseconds), the counted set had ended passed, and each member was
/// asked for after it.
pub(crate) fn may_have_succeeded(
    world: &World,
    check: &Delivered,
    from: i64,
    until: i64,
) -> Result<(), String> {
    let check = &check.without_policies();
    let mut why = "Testkube was not asked".to_string();
    for reading in readings_of_streams(world, &check.pipeline.tag, until) {
        if reading.at < from {
            break;
        }
        for (skew, bound) in bounds(world, check, from, until) {
            // An evaluation compares Testkube's times with its own clock. If that is ahead by more than `clock_skew`, the
            // excess is missing from `settle`.
            let settled = |world: &World, check: &Delivered, (at, settle): (i64, i64), bound| {
                are_as_before(world, check, (at, settle - (skew - CLOCK_SKEW).clamp(0, settle)), bound)
            };
            match passed_from(world, check, (reading.at, until), bound, settled) {
                Ok(()) => return Ok(()),
                Err(reason) => why = reason,
            }
        }
    }
    Err(why)
}

/// Whether each member was counted `settle` milliseconds before, with the same status. An evaluation cannot know of an
/// execution that was deleted since, nor that it had replaced another one.
fn are_as_before(world: &World, check: &Delivered, (at, settle): (i64, i64), bound: i64) -> bool {
    let there = tagged(world, check, at);
    let mut before = tagged(world, check, at - settle);
    before.retain(|old| there.iter().any(|execution| execution.id == old.id));
    let before = counted_among(before, bound);
    counted_among(there, bound).iter().all(|execution| {
        before.iter().any(|other| other.id == execution.id && other.status == execution.status)
    })
}

/// Whether, at some such list, a member had ended without having passed, or one was deleted by then, so that its result is
/// unknown.
pub(crate) fn may_have_failed(world: &World, check: &Delivered, from: i64, until: i64) -> bool {
    if check.vanishes_at.is_some_and(|gone| gone <= until) {
        return true;
    }
    let is_bad = |status: &Status| status.is_terminal() && *status != Status::Passed;
    let all = readings_of_streams(world, &check.pipeline.tag, until);
    all.iter().take_while(|reading| reading.at >= from).any(|reading| {
        bounds(world, check, from, until).into_iter().any(|(_, bound)| {
            let counted = counted_from(world, check, reading.at, bound);
            counted.iter().any(|execution| is_bad(&execution.status))
        })
    })
}

/// The lower bound of an evaluation at this time, by a clock with this offset in milliseconds.
fn bounds(world: &World, check: &Delivered, from: i64, until: i64) -> Vec<(i64, i64)> {
    let of_skew = |skew: i64| {
        let bounds = steps(world, check, [from, until].map(|at| at + skew - LOOKBACK));
        bounds.into_iter().map(move |bound| (skew, bound))
    };
    world.skews(from, until).into_iter().flat_map(of_skew).collect()
}
