//! Children: executions that another one has started by an `execute` step.
//!
//! A child inherits the tags of its parent and is judged through it: where its step is optional, the parent passes although
//! the child has failed. It is known by its actor, which has the type `testworkflow`, or keeps the parent's type and names the
//! parent's id and its chain of ancestors (`cmd/tcl/testworkflow-toolkit/commands/execute.go`; from 2.13 on below a parent of
//! type `gitintegration`, `model_test_workflow_running_context_actor_type_child_context.go`).
//!
//! All of these fields come from whoever calls Testkube's API. So nothing is left out on its own word: only an execution that
//! names another one which is there to be judged in its place.

use crate::testkube::Execution;
use std::collections::BTreeMap;

/// Whose part an execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is judged itself: no child, or one whose ancestors are not in the reading, that names itself, or stands in a circle.
    Own,
    /// It is judged through an ancestor that the reading has.
    Child,
    /// Its nearest ancestor in the reading is older than the check's lower bound, so nobody is judged in its place. It must
    /// pass, and what an older run has started is not what the check expects.
    OfOlder,
}

/// What each of these executions is part of. `is_older` says which of them lie before the lower bound.
///
/// An ancestor that a re-run has replaced still stands for its children: the re-run does all of it once more, and counts. An
/// ancestor that is a child stands for them as well: it counts, or is judged through its own ancestor.
pub(super) fn parts(all: &[&Execution], is_older: impl Fn(&Execution) -> bool) -> Vec<Part> {
    if !all.iter().any(|execution| execution.actor.is_child) {
        return vec![Part::Own; all.len()];
    }
    let places: BTreeMap<&str, usize> = all.iter().enumerate().map(|(n, e)| (e.id.as_str(), n)).collect();
    let parents: Vec<Option<usize>> = all.iter().map(|execution| parent(execution, &places)).collect();
    let is_in_circle = circles(&parents);
    let part = |(parent, is_in_circle): (&Option<usize>, &bool)| match parent.and_then(|n| all.get(n)) {
        Some(parent) if is_older(parent) => Part::OfOlder,
        Some(_) if !is_in_circle => Part::Child,
        _ => Part::Own,
    };
    parents.iter().zip(&is_in_circle).map(part).collect()
}

/// The nearest ancestor that is there. One that names itself has none.
fn parent(execution: &Execution, places: &BTreeMap<&str, usize>) -> Option<usize> {
    let ancestors = &execution.actor.ancestors;
    if ancestors.contains(&execution.id) {
        return None;
    }
    ancestors.iter().find_map(|id| places.get(id.as_str()).copied())
}

/// Which of them are reached from themselves. Each is visited once.
fn circles(parents: &[Option<usize>]) -> Vec<bool> {
    /// No walk has come here; or the one that began at this place plus 1.
    const UNSEEN: usize = 0;
    let mut seen_by = vec![UNSEEN; parents.len()];
    let mut is_in_circle = vec![false; parents.len()];
    let next = |at: usize| parents.get(at).copied().flatten();
    for start in 0..parents.len() {
        let mut at = Some(start);
        while let Some(here) = at
            && let Some(seen) = seen_by.get_mut(here).filter(|seen| **seen == UNSEEN)
        {
            *seen = start + 1;
            at = next(here);
        }
        // Where this walk has met itself, the circle is gone round once more.
        while let Some(here) = at.filter(|here| seen_by.get(*here) == Some(&(start + 1)))
            && let Some(found) = is_in_circle.get_mut(here).filter(|found| !**found)
        {
            *found = true;
            at = next(here);
        }
    }
    is_in_circle
}
