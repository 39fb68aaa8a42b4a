//! Re-runs: executions that provably repeat an earlier one.
//!
//! The proof is `actor.executionReference` with the other's id, that both have the same reference, or that the same
//! TestWorkflowExecution resource started both. The same workflow alone proves nothing: a matrix runs one workflow many times.
//!
//! A child proves nothing either. It has its parent's actor, not its own, so two children of one parent would seem to
//! repeat each other, and one whose result nobody looks at could replace one that counts.

use super::order;
use crate::wire::testkube::Execution;
use std::collections::BTreeMap;

/// For each of these executions, which are in order, the latest one that repeats it.
pub(super) fn replaced(all: &[&Execution]) -> Vec<Option<usize>> {
    let mut by = vec![None; all.len()];
    pairs(
        all,
        |group| group.last().copied(),
        |earlier, later| {
            if let Some(by) = by.get_mut(earlier) {
                *by = (*by).max(Some(later));
            }
        },
    );
    by
}

/// For each of them, the earliest one that it repeats.
pub(super) fn repeated(all: &[&Execution]) -> Vec<Option<usize>> {
    let mut first: Vec<Option<usize>> = vec![None; all.len()];
    pairs(
        all,
        |group| group.first().copied(),
        |earlier, later| {
            if let Some(first) = first.get_mut(later) {
                *first = Some(first.map_or(earlier, |other| other.min(earlier)));
            }
        },
    );
    first
}

/// Calls `found` with pairs whose later execution repeats the earlier one: each that has a reference with the one it
/// names, and each of those with one reference, or from one resource, with the one that `end` selects.
fn pairs(all: &[&Execution], end: impl Fn(&[usize]) -> Option<usize>, mut found: impl FnMut(usize, usize)) {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: BTreeMap<(bool, &str, &str), Vec<usize>> = BTreeMap::new();
    let is_later = |later: usize, earlier: usize| {
        let order = |n: usize| all.get(n).map(|execution| order(execution));
        order(later) > order(earlier)
    };
    for (n, execution) in all.iter().enumerate() {
        let actor = &execution.actor;
        if !actor.is_child {
            // Only earlier ones are in the map yet.
            let earlier = places.get(actor.reference.as_str()).copied();
            let same = earlier.filter(|earlier| {
                is_later(n, *earlier) && all.get(*earlier).is_some_and(|e| e.workflow == execution.workflow)
            });
            if let Some(earlier) = same {
                found(earlier, n);
            }
            if !actor.reference.is_empty() {
                groups.entry((true, &actor.reference, &execution.workflow)).or_default().push(n);
            }
            if actor.kind == "testworkflowexecution" && !actor.name.is_empty() {
                groups.entry((false, &actor.name, &execution.workflow)).or_default().push(n);
            }
        }
        places.insert(&execution.id, n);
    }
    for group in groups.values() {
        let Some(end) = end(group) else { continue };
        for &n in group {
            let (earlier, later) = (n.min(end), n.max(end));
            if is_later(later, earlier) {
                found(earlier, later);
            }
        }
    }
}
