//! What the last visits have learned of Testkube: a pipeline that fetches file after file asks for each of them anew.

use super::Forward;
use super::ask::{Ask, Scope};
use crate::tag::Tag;
use crate::time::{Mono, Now};
use crate::wire::testkube::{Artifact, Execution};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long an answer is as good as a new one. Only what has ended is remembered, and that changes with re-runs and
/// deletions alone.
const FRESH: Duration = Duration::from_secs(10);

/// How many answers of each kind are kept, and the longest list that is.
const MAX_TARGETS: usize = 16;
const MAX_ITEMS: usize = 500;

/// How many requests are remembered whose way is known, and the longest target of one, in bytes.
const MAX_WAYS: usize = 64;
const MAX_TARGET: usize = 1_024;

/// The answers of one VM's visits. What is forgotten is asked for again.
#[derive(Debug, Default)]
pub struct Memory {
    executions: VecDeque<Kept<(Tag, Scope), Execution>>,
    artifacts: VecDeque<Kept<String, Artifact>>,
    ways: VecDeque<Way>,
}

/// Where a request goes on to.
#[derive(Debug)]
struct Way {
    /// When Testkube gave the oldest of the answers that say so.
    at: Mono,
    /// What followed `artifacts/` in the request's target.
    rest: Vec<u8>,
    tag: Tag,
    forward: Rc<Forward>,
}

/// One answer, and what it is the answer to.
#[derive(Debug)]
struct Kept<K, T> {
    at: Mono,
    key: K,
    list: Rc<Vec<T>>,
}

impl Memory {
    /// Where the same request went on to, and the tag that it named.
    pub(super) fn way(&self, now: Mono, rest: &[u8]) -> Option<(&Tag, &Rc<Forward>)> {
        let known = self.ways.iter().rev().find(|way| way.rest == rest)?;
        (now.since(known.at) < FRESH).then_some((&known.tag, &known.forward))
    }

    /// Keeps where a request goes on to, if it was found out by answers that are kept, the oldest of `at`.
    pub(super) fn keep_way(&mut self, now: Now, at: Mono, rest: &[u8], ask: &Ask, forward: &Rc<Forward>) {
        if rest.len() > MAX_TARGET || self.executions(now, ask).is_none() {
            return;
        }
        if self.ways.len() >= MAX_WAYS {
            self.ways.pop_front();
        }
        self.ways.push_back(Way { at, rest: rest.into(), tag: ask.tag.clone(), forward: forward.clone() });
    }

    pub(super) fn executions(&self, now: Now, ask: &Ask) -> Option<(Rc<Vec<Execution>>, Mono)> {
        let fits = |(tag, scope): &(Tag, Scope)| *tag == ask.tag && *scope == ask.scope;
        recall(&self.executions, now, fits)
    }

    pub(super) fn keep_executions(&mut self, now: Now, ask: &Ask, executions: &Rc<Vec<Execution>>) {
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

/// The answer, and when it was given.
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
