//! Children: executions started by another execution's `execute` step.
//!
//! A child inherits its parent's tags and is judged through the parent: if its step is optional, the parent passes
//! although the child has failed. Its actor identifies it: it has the type `testworkflow`, or keeps the parent's type
//! and names the parent's id and its chain of ancestors (`cmd/tcl/testworkflow-toolkit/commands/execute.go`; from 2.13
//! on below a parent of type `gitintegration`, `model_test_workflow_running_context_actor_type_child_context.go`).
//!
//! All of these fields come from the caller of Testkube's API. So no execution is left out on its own word, but only if
//! it names another one that is there to be judged in its place.

use crate::collections::in_order;
use crate::wire::testkube::Execution;

/// The part of an execution in the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is judged itself: it is not a child, or its ancestors are not in the reading, or it names itself, or it is
    /// part of a circle of executions of which each would be judged through the next.
    Own,
    /// It is judged through an ancestor in the reading, and in the end through one that counts.
    Child,
    /// Its nearest ancestor in the reading is older than the check's lower bound, so no execution is judged in its
    /// place. It must pass, but the child of an older run is not what the check expects.
    OfOlder,
}

/// The part of each of these executions. The first `older` of them lie before the lower bound; `others` says for each
/// of the rest which execution is judged in its place: its re-run or, if re-runs do not count, the one that it repeats.
///
/// An ancestor that a re-run has replaced still stands for its children, which are not waited for either: the re-run
/// does all of it again, and counts. One that repeats another while re-runs do not count stands for them as well:
/// nothing that it did counts. So does an ancestor that is a child: it counts, or is judged through its own ancestor.
/// But each of these chains must end at one that counts, so a child that is part of its own chain, by whatever links,
/// is judged itself.
pub(super) fn parts(all: &[&Execution], older: usize, others: &[Option<usize>]) -> Vec<Part> {
    if !all.iter().any(|execution| execution.actor.is_child) {
        return vec![Part::Own; all.len()];
    }
    let id_of = |place: usize| all.get(place).map(|e| e.id.as_str());
    let by_id = in_order(all.len(), &|a, b| id_of(a).cmp(&id_of(b)));
    let place_of = |id: &str| {
        let found = by_id.binary_search_by(|place| id_of(*place).cmp(&Some(id)));
        by_id.get(found.ok()?).copied()
    };
    let parents: Vec<Option<usize>> = all.iter().map(|execution| parent(execution, place_of)).collect();
    let other = |n: usize| Some(others.get(n.checked_sub(older)?).copied().flatten()? + older);
    let judged: Vec<Option<usize>> =
        parents.iter().enumerate().map(|(n, parent)| other(n).or(*parent)).collect();
    let is_in_circle = circles(&judged);
    let part = |(parent, is_in_circle): (&Option<usize>, &bool)| match parent {
        Some(parent) if *parent < older => Part::OfOlder,
        Some(_) if !is_in_circle => Part::Child,
        _ => Part::Own,
    };
    parents.iter().zip(&is_in_circle).map(part).collect()
}

/// The nearest ancestor in the reading. An execution that names itself has none.
fn parent(execution: &Execution, place_of: impl Fn(&str) -> Option<usize>) -> Option<usize> {
    let ancestors = &execution.actor.ancestors;
    if ancestors.contains(&execution.id) {
        return None;
    }
    ancestors.iter().find_map(|id| place_of(id))
}

/// The places that can be reached from themselves; each leads to at most one other. Each is visited once.
fn circles(links: &[Option<usize>]) -> Vec<bool> {
    /// No walk has come here. Any other value is the number of a walk's first place plus 1.
    const UNSEEN: usize = 0;
    let mut seen_by = vec![UNSEEN; links.len()];
    let mut is_in_circle = vec![false; links.len()];
    let next = |at: usize| links.get(at).copied().flatten();
    for start in 0..links.len() {
        let mut at = Some(start);
        while let Some(here) = at
            && let Some(seen) = seen_by.get_mut(here).filter(|seen| **seen == UNSEEN)
        {
            *seen = start + 1;
            at = next(here);
        }
        // The walk has met itself: go round the circle once more.
        while let Some(here) = at.filter(|here| seen_by.get(*here) == Some(&(start + 1)))
            && let Some(found) = is_in_circle.get_mut(here).filter(|found| !**found)
        {
            *found = true;
            at = next(here);
        }
    }
    is_in_circle
}
