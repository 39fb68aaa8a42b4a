//! Attempts of a stage in which only some of its jobs ran: "Rerun failed jobs".
//!
//! What passed in an earlier attempt still counts. What did not pass there counts only through what repeats it: an execution
//! that provably does ([`reruns`](super::reruns)), or the only one of its workflow in the newest attempt, if the earlier one was
//! the only one as well and the expectation names the workflow once. Any other one of the newest attempt may be a part of a
//! matrix, so nothing says whether it repeats the failure.

use super::children::Part;
use super::{Ignored, Rules};
use crate::check::policies::is_optional;
use crate::collections::Few;
use crate::expect::Expect;
use crate::text::one_line;
use crate::time::Wall;
use crate::wire::testkube::{Execution, Status};

/// What follows for the executions of earlier attempts.
#[derive(Default)]
pub(super) struct Attempts<'a> {
    /// By place: those that do not count.
    ignored: Few<usize, Ignored<'a>>,
    /// What must still repeat one of them, in words.
    pub(super) missing: Vec<String>,
    /// One that did not pass, and that something in the newest attempt may repeat or not.
    pub(super) unclear: Option<&'a Execution>,
}

impl<'a> Attempts<'a> {
    pub(super) fn ignored(&self, place: usize) -> Option<Ignored<'a>> {
        self.ignored.get(&place).copied()
    }
}

/// Looks through executions in order, with their parts and those that replace them; the newest attempt began at `newest`.
pub(super) fn judge<'a>(
    own: &[&'a Execution],
    parts: &[Part],
    replaced: &[Option<usize>],
    newest: Wall,
    rules: &Rules<'_>,
) -> Attempts<'a> {
    let mut found = Attempts::default();
    let is_judged =
        |n: usize| parts.get(n) != Some(&Part::Child) && replaced.get(n).copied().flatten().is_none();
    for (n, execution) in own.iter().enumerate() {
        let has_failed = execution.ended && execution.status != Status::Passed;
        let is_earlier = execution.scheduled < newest;
        if !has_failed || !is_earlier || !is_judged(n) || is_optional(rules.optional, &execution.workflow) {
            continue;
        }
        let same = own.iter().enumerate().filter(|(_, e)| e.workflow == execution.workflow);
        let same: Vec<_> = same.filter(|(other, _)| is_judged(*other)).collect();
        let (earlier, later): (Vec<_>, Vec<_>) = same.into_iter().partition(|(_, e)| e.scheduled < newest);
        let is_named_once =
            matches!(rules.expect, Expect::Names(names) if names.get(&execution.workflow) == Some(&1));
        match (earlier.len(), later.as_slice()) {
            (_, []) => {
                found.ignored.insert(n, Ignored::Attempt);
                found.missing.push(format!("a re-run of {}", one_line(&execution.name, 80)));
            }
            (1, [(_, only)]) if is_named_once => {
                found.ignored.insert(n, Ignored::Replaced(&only.name));
            }
            _ => found.unclear = found.unclear.or(Some(execution)),
        }
    }
    found
}
