//! The counted set, worked out from the fake Testkube's own history.

use super::{CLOCK_SKEW, Delivered, LOOKBACK};
use crate::deliveries::BUILD_BEGAN;
use crate::world::World;
use fakes::{Status, testkube::Truth};
use std::collections::{BTreeMap, BTreeSet};

/// A list of executions that Testkube gave for a tag.
pub(super) struct Reading {
    /// In Unix milliseconds.
    pub(super) at: i64,
}

/// The readings of a tag for its checks until `until`, newest first.
pub(super) fn readings(world: &World, tag: &str, until: i64) -> Vec<Reading> {
    lists(world, tag, until, false)
}

/// The same for evaluations, and for jobs that fetch artifacts.
pub(super) fn readings_of_streams(world: &World, tag: &str, until: i64) -> Vec<Reading> {
    lists(world, tag, until, true)
}

fn lists(world: &World, tag: &str, until: i64, of_streams: bool) -> Vec<Reading> {
    let read: Vec<(i64, String)> = world.testkube(|testkube| {
        let read = testkube.requests().iter().rev().filter(|recorded| {
            recorded.at <= until && recorded.status == Some(200) && names(&recorded.request.target, tag)
        });
        read.map(|recorded| (recorded.at, recorded.request.target.clone())).collect()
    });
    let read = read.into_iter().filter(|(at, target)| world.is_of_a_stream(target, *at) == of_streams);
    read.map(|(at, _)| Reading { at }).collect()
}

/// Whether, for some bound that the module may have used, every member of the counted set had passed at `at` and was read
/// by its id between `at` and `until`.
pub(super) fn passed_at(world: &World, check: &Delivered, at: i64, until: i64) -> Result<(), String> {
    let mut why = String::new();
    for (n, bound) in bounds(world, check).into_iter().enumerate() {
        match passed_from(world, check, (at, until), bound, stood_for) {
            Ok(()) => return Ok(()),
            Err(reason) if n == 0 => why = reason,
            Err(_) => {}
        }
    }
    Err(why)
}

/// Whether the counted set at `at` was the same `settle` milliseconds before.
fn stood_for(world: &World, check: &Delivered, (at, settle): (i64, i64), bound: i64) -> bool {
    let ids = |at| -> Vec<String> {
        counted_from(world, check, at, bound).into_iter().map(|execution| execution.id).collect()
    };
    ids(at - settle) == ids(at)
}

/// The same with a bound that is known. `is_settled` says whether the counted set at a time has been unchanged for a number
/// of milliseconds, as far as the module can know.
pub(super) fn passed_from(
    world: &World,
    check: &Delivered,
    (at, until): (i64, i64),
    bound: i64,
    is_settled: impl Fn(&World, &Delivered, (i64, i64), i64) -> bool,
) -> Result<(), String> {
    let counted = counted_from(world, check, at, bound);
    let is_bad = |execution: &&Truth| match execution.workflow == check.optional {
        true => !execution.status.is_terminal(),
        false => execution.status != Status::Passed,
    };
    if let Some(other) = counted.iter().find(is_bad) {
        return Err(format!("{} was {} at {at}", other.name, other.status.as_str()));
    }
    if !satisfies(&check.expect, &expected_from(world, check, at, bound)) {
        return Err(format!("`{}` was not there at {at}", check.expect));
    }
    let settle = match check.expect.trim() {
        "" => 60_000,
        text if text.parse::<usize>().is_ok() => 15_000,
        _ => 0,
    };
    if settle > 0 && !is_settled(world, check, (at, settle), bound) {
        return Err(format!("the counted set changed in the {settle} ms before {at}"));
    }
    match counted.iter().find(|execution| !was_confirmed(world, &execution.id, at, until)) {
        Some(other) => Err(format!("{} was not asked for between {at} and {until}", other.name)),
        None => Ok(()),
    }
}

/// An execution that the module must have counted since `since`, and that was gone from Testkube at `at` without having been
/// replaced before, or being repeated then.
pub(super) fn vanished(world: &World, check: &Delivered, since: i64, at: i64) -> Option<String> {
    // A list may have been read and not judged, because its reader had lost the lead; but not three in a row.
    const SURELY_JUDGED: usize = 3;
    let there = |time| -> BTreeSet<String> {
        let all = world.testkube(|testkube| testkube.truth("ado-run", &check.pipeline.tag, time));
        all.into_iter().map(|execution| execution.id).collect()
    };
    let read = world.readings(&check.pipeline.tag);
    let read = read.into_iter().filter(|time| (since..at).contains(time));
    let read: Vec<_> = read.map(|time| (there(time), counted_anyway(world, check, time))).collect();
    let mut now = there(at);
    let all = tagged(world, check, at).into_iter().filter(|execution| !execution.is_child());
    now.extend(all.filter_map(|execution| execution.actor.execution_reference));
    let gone: BTreeSet<&String> =
        read.iter().flat_map(|(there, _)| there).filter(|id| !now.contains(*id)).collect();
    let was_counted = |id: &&String| {
        let last = read.iter().rev().skip_while(|(there, _)| !there.contains(*id)).take(SURELY_JUDGED);
        last.filter(|(_, counted)| counted.contains(*id)).count() == SURELY_JUDGED
    };
    gone.into_iter().find(was_counted).cloned()
}

/// The ids of those that count for every bound that the module may have used.
fn counted_anyway(world: &World, check: &Delivered, at: i64) -> BTreeSet<String> {
    let counted = |bound| -> BTreeSet<String> {
        counted_from(world, check, at, bound).into_iter().map(|execution| execution.id).collect()
    };
    let all = bounds(world, check).into_iter().map(counted);
    all.reduce(|some, others| some.intersection(&others).cloned().collect()).unwrap_or_default()
}

/// Whether everything that a check expects is there at `at`, for every bound that the module may have used.
pub(super) fn is_satisfied(world: &World, check: &Delivered, at: i64) -> bool {
    bounds(world, check)
        .into_iter()
        .all(|bound| satisfies(&check.expect, &expected_from(world, check, at, bound)))
}

/// Whether everything that a check expects is there at `at` and has ended, for every bound that the module may have used.
pub(super) fn has_ended(world: &World, check: &Delivered, at: i64) -> bool {
    bounds(world, check).into_iter().all(|bound| {
        let counted = counted_from(world, check, at, bound);
        satisfies(&check.expect, &expected_from(world, check, at, bound))
            && counted.iter().all(|execution| execution.status.is_terminal())
    })
}

/// Whether a member of the counted set had ended at `at` without having passed.
pub(super) fn bad_member(world: &World, check: &Delivered, at: i64) -> bool {
    let is_bad = |execution: &Truth| {
        let status = &execution.status;
        status.is_terminal() && *status != Status::Passed && execution.workflow != check.optional
    };
    bounds(world, check).into_iter().any(|bound| counted_from(world, check, at, bound).iter().any(is_bad))
}

/// From when on executions count: from the start of the check's build or stage, or, where the build could not be read, from
/// `lookback` before the check came, by the clock that the process had then.
fn bounds(world: &World, check: &Delivered) -> Vec<i64> {
    let usual = BUILD_BEGAN - CLOCK_SKEW;
    let mut bounds = vec![usual];
    if check.since_stage {
        return bounds;
    }
    let (from, until) = check.read_within();
    for skew in world.skews(from, until) {
        bounds.extend(steps(world, check, [from, until].map(|came| came + skew - LOOKBACK - CLOCK_SKEW)));
    }
    bounds.dedup();
    bounds
}

/// The bounds between two that exclude different executions.
pub(super) fn steps(world: &World, check: &Delivered, [from, until]: [i64; 2]) -> Vec<i64> {
    let all = world.testkube(|testkube| testkube.scheduled("ado-run", &check.pipeline.tag));
    let between = all.into_iter().map(|at| at + 1).filter(|at| (from..=until).contains(at));
    std::iter::once(from).chain(between).collect()
}

fn satisfies(expect: &str, counted: &[Truth]) -> bool {
    let mut have: BTreeMap<&str, usize> = BTreeMap::new();
    for execution in counted {
        *have.entry(&execution.workflow).or_default() += 1;
    }
    match expect.trim() {
        "" => !counted.is_empty(),
        text => match text.parse::<usize>() {
            Ok(number) => counted.len() >= number,
            Err(_) => text.split(',').all(|name| have.get(name.trim()).is_some_and(|n| *n > 0)),
        },
    }
}

fn was_confirmed(world: &World, id: &str, from: i64, until: i64) -> bool {
    world.testkube(|testkube| {
        testkube.requests().iter().rev().any(|recorded| {
            (from..=until).contains(&recorded.at)
                && recorded.status == Some(200)
                && recorded.request.path().ends_with(id)
        })
    })
}

/// The executions with a check's tag at `at`.
pub(super) fn tagged(world: &World, check: &Delivered, at: i64) -> Vec<Truth> {
    world.testkube(|testkube| testkube.truth("ado-run", &check.pipeline.tag, at))
}

/// The tag, the bound, no children of what is there, and none that a re-run replaced.
pub(super) fn counted_from(world: &World, check: &Delivered, at: i64, bound: i64) -> Vec<Truth> {
    counted_among(tagged(world, check, at), bound)
}

/// The same of the executions with the tag.
pub(super) fn counted_among(all: Vec<Truth>, bound: i64) -> Vec<Truth> {
    let own: Vec<&Truth> = all.iter().filter(|execution| execution.scheduled_at >= bound).collect();
    let replaced = |old: &Truth| {
        own.iter().any(|new| {
            let reference = new.actor.execution_reference.as_deref().filter(|id| !id.is_empty());
            let says_so = reference == Some(&old.id)
                || reference.is_some()
                    && !old.is_child()
                    && reference == old.actor.execution_reference.as_deref();
            let same_resource = new.actor.kind == "testworkflowexecution"
                && old.actor.kind == "testworkflowexecution"
                && !old.is_child()
                && new.actor.name == old.actor.name;
            let is_later = (new.scheduled_at, new.number) > (old.scheduled_at, old.number);
            let is_proved = says_so || same_resource;
            !new.is_child() && is_later && new.workflow == old.workflow && is_proved
        })
    };
    let counts =
        |execution: &Truth| !replaced(execution) && !is_judged_through_parent(execution, &all, bound);
    own.iter().filter(|execution| counts(execution)).map(|execution| (*execution).clone()).collect()
}

/// The nearest ancestor that is there; none of one that names itself.
fn parent<'a>(execution: &Truth, all: &'a [Truth]) -> Option<&'a Truth> {
    let names_itself = execution.ancestors.contains(&execution.id);
    let mut ancestors = execution.ancestors.iter().filter(|_| !names_itself);
    ancestors.find_map(|id| all.iter().find(|other| other.id == *id))
}

/// A child whose parent is there, counts or is itself judged through another one, and is not its own descendant.
fn is_judged_through_parent(execution: &Truth, all: &[Truth], bound: i64) -> bool {
    let mut above = parent(execution, all);
    let mut is_own_descendant = false;
    for _ in all {
        is_own_descendant |= above.is_some_and(|above| above.id == execution.id);
        above = above.and_then(|above| parent(above, all));
    }
    !is_own_descendant && parent(execution, all).is_some_and(|parent| parent.scheduled_at >= bound)
}

/// The counted executions that can fulfil an expectation: children of an execution from before the bound cannot, nor can
/// those that may fail.
fn expected_from(world: &World, check: &Delivered, at: i64, bound: i64) -> Vec<Truth> {
    let all = tagged(world, check, at);
    let mut counted = counted_among(all.clone(), bound);
    counted.retain(|execution| parent(execution, &all).is_none_or(|parent| parent.scheduled_at >= bound));
    counted.retain(|execution| execution.workflow != check.optional);
    counted
}

/// Whether a list request asks for this value of the tag.
fn names(target: &str, value: &str) -> bool {
    let wanted = format!("%3D{value}");
    target.match_indices(&wanted).any(|(at, _)| {
        let rest = target.get(at + wanted.len()..).unwrap_or_default();
        rest.is_empty() || rest.starts_with("%2C") || rest.starts_with('&')
    })
}
