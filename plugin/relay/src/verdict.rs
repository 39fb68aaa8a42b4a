//! The verdict: executions in, decision and reason out.
//!
//! The **counted set** of a check are the executions that carry exactly its tag, were scheduled not before its lower
//! bound, were not started by another workflow (a child is judged through its parent), and were not provably replaced by
//! a re-run. Every member must pass; zero members, unknown statuses and faults are never a pass.

use crate::check::Rerun;
use crate::expect::Expect;
use crate::hash::fnv1a;
use crate::tag::Tag;
use crate::testkube::{Execution, Status};
use crate::text::{listed, one_line};
use crate::time::Wall;
use std::collections::BTreeMap;

/// What one complete reading says about one check.
#[derive(Debug)]
pub struct Assessment<'a> {
    /// The counted set, oldest first.
    pub counted: Vec<&'a Execution>,
    /// Executions with the tag that do not count, and why.
    pub ignored: Vec<(&'a Execution, Ignored<'a>)>,
    /// What of the expectation is not there, in words.
    pub missing: Vec<String>,
}

/// Why an execution with the tag does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored<'a> {
    /// Scheduled before the check's lower bound.
    Older,
    /// Started by another workflow.
    Child,
    /// Repeated by this later execution.
    Replaced(&'a str),
    /// Repeats this earlier one, and re-runs do not count.
    Repeats(&'a str),
}

impl Ignored<'_> {
    /// `shop-e2e-12 (older than this run)`.
    pub fn in_words(&self, execution: &Execution) -> String {
        let name = one_line(&execution.name, 80);
        match self {
            Ignored::Older => format!("{name} (older than this run)"),
            Ignored::Child => format!("{name} (started by another workflow)"),
            Ignored::Replaced(by) => format!("{name} (repeated by {})", one_line(by, 80)),
            Ignored::Repeats(first) => {
                format!("{name} (repeats {}, and re-runs do not count here)", one_line(first, 80))
            }
        }
    }
}

/// How far the counted set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Less than expected is there.
    Incomplete,
    /// Something has not ended.
    Running,
    /// All is there and has ended.
    Ended {
        /// Whether every one passed.
        passed: bool,
    },
}

/// Sorts the executions of a reading for the check that waits for `tag`.
pub fn assess<'a>(
    executions: &'a [Execution],
    tag: &Tag,
    bound: Wall,
    expect: &Expect,
    rerun: Rerun,
) -> Assessment<'a> {
    let mut tagged: Vec<&Execution> = executions.iter().filter(|e| e.carries(tag)).collect();
    tagged.sort_by_key(|e| order(e));
    let mut ignored = Vec::new();
    let mut candidates = Vec::new();
    for execution in tagged {
        match execution {
            e if e.actor.kind == "testworkflow" => ignored.push((e, Ignored::Child)),
            e if e.scheduled < bound => ignored.push((e, Ignored::Older)),
            e => candidates.push(e),
        }
    }
    let mut counted = Vec::new();
    for execution in &candidates {
        let other = match rerun {
            Rerun::Latest => candidates
                .iter()
                .rev()
                .find(|later| repeats(later, execution))
                .map(|later| Ignored::Replaced(&later.name)),
            Rerun::All => None,
            Rerun::None => candidates
                .iter()
                .find(|earlier| repeats(execution, earlier))
                .map(|earlier| Ignored::Repeats(&earlier.name)),
        };
        match other {
            Some(why) => ignored.push((*execution, why)),
            None => counted.push(*execution),
        }
    }
    let mut have: BTreeMap<&str, u32> = BTreeMap::new();
    for execution in &counted {
        *have.entry(&execution.workflow).or_insert(0) += 1;
    }
    Assessment { missing: expect.missing(&have), counted, ignored }
}

impl Assessment<'_> {
    /// How far the counted set is.
    pub fn standing(&self) -> Standing {
        if self.counted.is_empty() || !self.missing.is_empty() {
            Standing::Incomplete
        } else if self.counted.iter().all(|e| e.ended) {
            Standing::Ended { passed: self.counted.iter().all(|e| e.status == Status::Passed) }
        } else {
            Standing::Running
        }
    }

    /// A number that changes when a member joins, leaves, or changes its status: what `settle` watches.
    pub fn print(&self) -> u64 {
        let text: String =
            self.counted.iter().map(|e| format!("{} {} {}\n", e.id, e.status, e.ended)).collect();
        fnv1a(text.as_bytes())
    }

    /// When the counted set last changed, by Testkube's own times.
    pub fn last_change(&self) -> Option<Wall> {
        self.counted.iter().map(|e| e.finished.unwrap_or(e.scheduled).max(e.scheduled)).max()
    }

    /// Short fingerprints of every execution that carries the tag, counted or not: one that is missing from a later
    /// complete reading has vanished.
    pub fn present(&self) -> Vec<u32> {
        let ignored = self.ignored.iter().map(|(e, _)| *e);
        self.counted.iter().copied().chain(ignored).map(|e| short(&e.id)).collect()
    }

    /// Short fingerprints of the counted set.
    pub fn members(&self) -> Vec<u32> {
        self.counted.iter().map(|e| short(&e.id)).collect()
    }

    /// `shop-e2e-17 passed, shop-api-41 running`; what did not pass comes first.
    pub fn statuses(&self) -> String {
        let mut counted = self.counted.clone();
        counted.sort_by_key(|e| e.ended && e.status == Status::Passed);
        listed(counted.iter().map(|e| format!("{} {}", one_line(&e.name, 80), e.status)), 10)
    }

    /// Why executions with the tag were not counted, as a sentence with a space before it; empty if all were.
    pub fn ignored_in_words(&self) -> String {
        let words = self.ignored.iter().map(|(execution, why)| why.in_words(execution));
        match listed(words, 5) {
            words if words.is_empty() => String::new(),
            words => format!(" Not counted: {words}."),
        }
    }
}

/// A short fingerprint of an execution's id: the ledger has no room for the ids themselves.
fn short(id: &str) -> u32 {
    let hash = fnv1a(id.as_bytes());
    u32::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or_default()
}

fn order(e: &Execution) -> (Wall, i64, &str) {
    (e.scheduled, e.number, &e.id)
}

/// Whether `later` provably repeats `earlier`: its running context names it, or both were started by the same
/// TestWorkflowExecution resource. The same workflow alone proves nothing: a matrix runs one workflow many times.
fn repeats(later: &Execution, earlier: &Execution) -> bool {
    let same_resource = later.actor.kind == "testworkflowexecution"
        && earlier.actor.kind == "testworkflowexecution"
        && !later.actor.name.is_empty()
        && later.actor.name == earlier.actor.name;
    let by_reference = !later.actor.reference.is_empty() && later.actor.reference == earlier.id;
    order(later) > order(earlier) && later.workflow == earlier.workflow && (same_resource || by_reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkube::Actor;

    fn execution(name: &str, status: &str, at: i64) -> Execution {
        let (workflow, number) = name.rsplit_once('-').unwrap();
        let status = match status {
            "passed" => Status::Passed,
            "failed" => Status::Failed,
            "canceled" => Status::Canceled,
            other => Status::NotYet(other.into()),
        };
        Execution {
            id: format!("id-{name}"),
            name: name.into(),
            workflow: workflow.into(),
            number: number.parse().unwrap(),
            scheduled: Wall(at),
            ended: !matches!(status, Status::NotYet(_)),
            finished: (!matches!(status, Status::NotYet(_))).then_some(Wall(at + 50)),
            status,
            tags: BTreeMap::from([("ado-run".into(), "x-1".into())]),
            actor: Actor {
                kind: "testworkflowexecution".into(),
                name: format!("cr-{name}"),
                reference: String::new(),
            },
            message: None,
            took: None,
            steps: crate::testkube::Steps::default(),
        }
    }

    fn read<'a>(executions: &'a [Execution], expect: &str) -> Assessment<'a> {
        let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
        assess(executions, &tag, Wall(100), &Expect::parse(expect).unwrap(), Rerun::Latest)
    }

    fn standing(executions: &[Execution], expect: &str) -> Standing {
        read(executions, expect).standing()
    }

    const PASSED: Standing = Standing::Ended { passed: true };
    const FAILED: Standing = Standing::Ended { passed: false };

    #[test]
    fn every_member_must_pass_named_or_not() {
        let (a, b) = (execution("a-1", "passed", 200), execution("b-1", "passed", 201));
        assert_eq!(standing(&[a.clone(), b.clone()], "a, b"), PASSED);
        assert_eq!(standing(&[a.clone(), execution("b-1", "failed", 201)], "a"), FAILED);
        assert_eq!(standing(&[a.clone(), execution("b-1", "canceled", 201)], "a"), FAILED);
        assert_eq!(standing(&[a.clone(), execution("b-1", "running", 201)], "a"), Standing::Running);
        assert_eq!(standing(&[a.clone(), execution("b-1", "purple", 201)], ""), Standing::Running);
        assert_eq!(standing(&[a], "a, b"), Standing::Incomplete);
    }

    #[test]
    fn nothing_is_never_enough() {
        assert_eq!(standing(&[], ""), Standing::Incomplete);
        assert_eq!(standing(&[execution("a-1", "passed", 99)], ""), Standing::Incomplete);
    }

    #[test]
    fn an_execution_with_another_tag_is_not_even_named() {
        let mut other = execution("a-1", "failed", 200);
        other.tags.insert("ado-run".into(), "x-12".into());
        let all = [other, execution("b-1", "passed", 200)];
        let read = read(&all, "");
        assert_eq!((read.standing(), read.ignored.len()), (PASSED, 0));
    }

    #[test]
    fn children_are_judged_through_their_parent() {
        let mut child = execution("c-1", "failed", 300);
        child.actor.kind = "testworkflow".into();
        let all = [execution("a-1", "passed", 200), child];
        let read = read(&all, "a");
        assert_eq!(read.standing(), PASSED);
        assert_eq!(read.ignored_in_words(), " Not counted: c-1 (started by another workflow).");
    }

    #[test]
    fn a_rerun_replaces_what_it_provably_repeats() {
        let first = execution("a-1", "failed", 200);
        let mut by_reference = execution("a-2", "passed", 300);
        by_reference.actor = Actor { kind: "user".into(), name: "x".into(), reference: first.id.clone() };
        assert_eq!(standing(&[first.clone(), by_reference], "a"), PASSED);
        let mut by_resource = execution("a-2", "passed", 300);
        by_resource.actor.name = first.actor.name.clone();
        let all = [by_resource, first];
        assert_eq!(read(&all, "a").ignored_in_words(), " Not counted: a-1 (repeated by a-2).");
        assert_eq!(standing(&all, "a"), PASSED);
        assert_eq!(standing(&all, "a*2"), Standing::Incomplete);
    }

    #[test]
    fn a_policy_can_count_every_run_or_only_the_first() {
        let (first, mut again) = (execution("a-1", "failed", 200), execution("a-2", "passed", 300));
        again.actor.name = first.actor.name.clone();
        let all = [again, first];
        let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
        let standing = |rerun| assess(&all, &tag, Wall(100), &Expect::Any, rerun).standing();
        assert_eq!(standing(Rerun::Latest), PASSED);
        assert_eq!(standing(Rerun::All), FAILED);
        assert_eq!(standing(Rerun::None), FAILED);
        let read = assess(&all, &tag, Wall(100), &Expect::Any, Rerun::None);
        assert_eq!(
            read.ignored_in_words(),
            " Not counted: a-2 (repeats a-1, and re-runs do not count here)."
        );
    }

    #[test]
    fn the_same_workflow_alone_proves_no_rerun() {
        assert_eq!(
            standing(&[execution("a-1", "failed", 200), execution("a-2", "passed", 300)], "a"),
            FAILED
        );
    }

    #[test]
    fn a_rerun_never_replaces_what_came_after_it_or_another_workflow() {
        let mut late = execution("a-2", "failed", 400);
        let mut rerun = execution("a-1", "passed", 300);
        rerun.actor.reference = late.id.clone();
        assert_eq!(standing(&[late.clone(), rerun], ""), FAILED);
        late.actor.name = "same".into();
        let mut other = execution("b-9", "passed", 500);
        other.actor.name = "same".into();
        assert_eq!(standing(&[late, other], ""), FAILED);
    }

    #[test]
    fn executions_of_one_instant_are_ordered_by_number() {
        let mut first = execution("a-9", "failed", 200);
        let mut second = execution("a-10", "passed", 200);
        first.actor.name = "cr".into();
        second.actor.name = "cr".into();
        assert_eq!(standing(&[second, first], ""), PASSED);
    }

    #[test]
    fn the_print_changes_with_members_and_statuses_only() {
        let a = [execution("a-1", "running", 200)];
        let ended = [execution("a-1", "passed", 200)];
        let two = [execution("a-1", "passed", 200), execution("b-1", "passed", 200)];
        let swapped = [execution("b-1", "passed", 200), execution("a-1", "passed", 200)];
        let print = |all: &[Execution]| read(all, "").print();
        assert_ne!(print(&a), print(&ended));
        assert_ne!(print(&ended), print(&two));
        assert_eq!(print(&two), print(&swapped));
    }

    #[test]
    fn what_did_not_pass_is_named_first() {
        let all = [execution("a-1", "passed", 200), execution("b-1", "failed", 300)];
        assert_eq!(read(&all, "").statuses(), "b-1 failed, a-1 passed");
    }
}
