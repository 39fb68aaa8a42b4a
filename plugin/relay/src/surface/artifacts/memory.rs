//! Testkube's latest answers to visits, because a pipeline that downloads file after file repeats the same questions.

use super::Forward;
use super::ask::{Scope, Target};
use crate::tag::Tag;
use crate::time::{Mono, Now};
use crate::wire::testkube::{Artifact, Execution};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long an answer can be used again. Only ended executions are remembered; they change by re-runs and deletions
/// alone.
const FRESH: Duration = Duration::from_secs(10);

/// Maximum answers of each kind, and maximum length of a list in one.
const MAX_TARGETS: usize = 16;
const MAX_ITEMS: usize = 500;

/// Maximum requests remembered by their destination, and maximum size of such a request's target, in bytes.
const MAX_WAYS: usize = 64;
const MAX_TARGET: usize = 1_024;

/// The answers to one VM's visits. A forgotten one is asked for again.
#[derive(Debug, Default)]
pub struct VisitMemory {
    executions: VecDeque<Kept<(Tag, Scope), Execution>>,
    artifacts: VecDeque<Kept<String, Artifact>>,
    ways: VecDeque<Way>,
}

/// The destination of a request.
#[derive(Debug)]
struct Way {
    /// When Testkube gave the oldest of the answers that it rests on.
    at: Mono,
    /// The part of the request's target after `artifacts/`.
    rest: Vec<u8>,
    tag: Tag,
    forward: Rc<Forward>,
}

/// An answer and its question.
#[derive(Debug)]
struct Kept<K, T> {
    at: Mono,
    key: K,
    list: Rc<Vec<T>>,
}

impl VisitMemory {
    /// The destination of an earlier request with the same target, and its tag.
    pub(super) fn way(&self, now: Mono, rest: &[u8]) -> Option<(&Tag, &Rc<Forward>)> {
        let known = self.ways.iter().rev().find(|way| way.rest == rest)?;
        (now.since(known.at) < FRESH).then_some((&known.tag, &known.forward))
    }

    /// Keeps a request's destination, if it rests on answers that are kept; the oldest was given at `at`.
    pub(super) fn keep_way(&mut self, now: Now, at: Mono, rest: &[u8], ask: &Target, forward: &Rc<Forward>) {
        if rest.len() > MAX_TARGET || self.executions(now, ask).is_none() {
            return;
        }
        if self.ways.len() >= MAX_WAYS {
            self.ways.pop_front();
        }
        self.ways.push_back(Way { at, rest: rest.into(), tag: ask.tag.clone(), forward: forward.clone() });
    }

    pub(super) fn executions(&self, now: Now, ask: &Target) -> Option<(Rc<Vec<Execution>>, Mono)> {
        let fits = |(tag, scope): &(Tag, Scope)| *tag == ask.tag && *scope == ask.scope;
        recall(&self.executions, now, fits)
    }

    pub(super) fn keep_executions(&mut self, now: Now, ask: &Target, executions: &Rc<Vec<Execution>>) {
        let all_ended = !executions.is_empty() && executions.iter().all(|execution| execution.ended);
        if all_ended && executions.len() <= MAX_ITEMS {
            keep(&mut self.executions, now, (ask.tag.clone(), ask.scope.clone()), executions);
        }
    }

    pub(super) fn artifacts(&self, now: Now, id: &str) -> Option<(Rc<Vec<Artifact>>, Mono)> {
        recall(&self.artifacts, now, |own| own == id)
    }

    pub(super) fn keep_artifacts(&mut self, now: Now, id: &str, artifacts: &Rc<Vec<Artifact>>) {
        if artifacts.len() <= MAX_ITEMS {
            keep(&mut self.artifacts, now, id.into(), artifacts);
        }
    }
}

/// The answer to this question, and when it was given.
fn recall<K, T>(
    all: &VecDeque<Kept<K, T>>,
    now: Now,
    fits: impl Fn(&K) -> bool,
) -> Option<(Rc<Vec<T>>, Mono)> {
    let is_fresh = |at: Mono| now.mono.since(at) < FRESH;
    all.iter()
        .rev()
        .find(|kept| is_fresh(kept.at) && fits(&kept.key))
        .map(|kept| (kept.list.clone(), kept.at))
}

fn keep<K, T>(all: &mut VecDeque<Kept<K, T>>, now: Now, key: K, list: &Rc<Vec<T>>) {
    if all.len() >= MAX_TARGETS {
        all.pop_front();
    }
    all.push_back(Kept { at: now.mono, key, list: list.clone() });
}
