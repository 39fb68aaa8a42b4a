//! The verdict: executions in, decision and reason out.
//!
//! The **counted set** of a check are the executions that carry exactly its tag, were scheduled at its lower bound or
//! later and within its maximum age, are not judged through a parent in the same reading ([`children`]), and were not
//! provably replaced by a re-run ([`reruns`]). Every member must end, and every member that is not optional must pass;
//! no such member, unknown statuses and faults are never a pass. [`judge`] makes the decision.

mod attempts;
mod children;
mod judge;
mod reruns;
mod waits;

use super::policies::is_optional;
use super::retry::{Retries, Tried};
use super::{Ask, Watch};
use crate::collections::in_order;
use crate::config::Rerun;
use crate::expect::{Expect, MAX_EXPECTED};
use crate::hash::fnv1a;
use crate::tag::Tag;
use crate::text::{listed, one_line};
use crate::time::Wall;
use crate::wire::testkube::{Execution, Status};
use attempts::Attempts;
use children::Part;
pub(crate) use judge::{Facts, Judgement, judge};
use std::collections::BTreeMap;
use std::time::Duration;
pub(super) use waits::{Waits, in_vain, waits};

/// The rules by which executions count.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The tag that they must carry.
    pub tag: &'a Tag,
    /// The lower bound: what was scheduled before this time does not count.
    pub bound: Wall,
    /// What was scheduled before this time is too old, even if the bound lets it count.
    pub oldest: Option<Wall>,
    /// The start of the stage's newest attempt, if only some of its jobs ran in it. What did not pass before it counts only
    /// through what repeats it.
    pub attempt: Option<Wall>,
    /// What must be there.
    pub expect: &'a Expect,
    /// The policy for re-runs.
    pub rerun: Rerun,
    /// Patterns of workflows that may fail.
    pub optional: &'a [String],
    /// The re-runs that Testkube was asked for.
    pub retries: Option<&'a Retries>,
}

/// What one complete reading says about one check.
#[derive(Debug)]
pub struct Assessment<'a> {
    /// The counted set, oldest first.
    pub counted: Vec<&'a Execution>,
    /// Its members that may fail.
    optional: Vec<&'a Execution>,
    /// An execution of an earlier attempt that did not pass, if nothing proves which one repeats it.
    pub unclear: Option<&'a Execution>,
    /// Executions with the tag that do not count, and why.
    pub ignored: Vec<(&'a Execution, Ignored<'a>)>,
    /// The missing part of the expectation, in words.
    pub missing: Vec<String>,
    /// Short fingerprints of the executions that others repeat and replace, there or not.
    repeated: Vec<u32>,
    /// What was tried for each member, in their order; empty if nothing was tried at all.
    tried: Vec<Tried>,
}

/// Maximum members of a counted set that a check can be decided by.
pub(super) const MAX_COUNTED: usize = MAX_EXPECTED as usize;

/// Maximum executions of a chain of re-runs that are looked through; a check asks for ten at most.
const MAX_CHAIN: usize = 64;

const NOTHING_TRIED: Tried = Tried { reruns: 0, is_asked: false, is_refused: false, why: None };

/// Why an execution with the tag does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored<'a> {
    /// Scheduled before the check's lower bound.
    Older,
    /// Older than the check's maximum age.
    TooOld,
    /// Did not pass in an earlier attempt of the stage, and has not been repeated.
    Attempt,
    /// Started by an execution of another workflow, through which it is judged.
    Child,
    /// Repeated by this later execution, by name.
    Replaced(&'a str),
    /// Repeats this earlier one, by name, and re-runs do not count.
    Repeats(&'a str),
}

impl Ignored<'_> {
    /// `shop-e2e-12 (older than this run)`.
    pub fn in_words(&self, execution: &Execution) -> String {
        let name = one_line(&execution.name, 80);
        match self {
            Ignored::Older => format!("{name} (older than this run)"),
            Ignored::TooOld => format!("{name} (too old: scheduled at {})", execution.scheduled),
            Ignored::Attempt => format!("{name} ({} in an earlier attempt of the stage)", execution.status),
            Ignored::Child => format!("{name} (started by another workflow)"),
            Ignored::Replaced(by) => {
                format!("{name} ({}, repeated by {})", execution.status, one_line(by, 80))
            }
            Ignored::Repeats(first) => {
                format!("{name} (repeats {}, and re-runs do not count here)", one_line(first, 80))
            }
        }
    }
}

/// The state of the counted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Less is there than expected.
    Incomplete,
    /// Something has not ended.
    Running,
    /// All is there and has ended.
    Ended {
        /// Whether every one passed.
        passed: bool,
    },
}

impl<'a> Rules<'a> {
    /// Those of anybody who asks for nothing but a tag.
    pub fn of_tag(tag: &'a Tag, bound: Wall, rerun: Rerun) -> Rules<'a> {
        Rules {
            tag,
            bound,
            oldest: None,
            attempt: None,
            expect: &Expect::Any,
            rerun,
            optional: &[],
            retries: None,
        }
    }

    /// Those of a check that arrived at this time, by a clock that Testkube's may be behind by `clock_skew`.
    pub fn of_check(ask: &'a Ask, watch: &'a Watch, arrived: Wall, clock_skew: Duration) -> Rules<'a> {
        let oldest = ask.policies.max_age.map(|age| arrived.minus(age).minus(clock_skew));
        Rules {
            attempt: watch.attempt,
            oldest,
            retries: Some(&watch.retries),
            ..Rules::of_ask(ask, watch.bound)
        }
    }

    /// Those of an evaluation.
    pub fn of_ask(ask: &'a Ask, bound: Wall) -> Rules<'a> {
        Rules {
            tag: &ask.tag,
            bound,
            oldest: None,
            attempt: None,
            expect: &ask.expect,
            rerun: ask.rerun,
            optional: &ask.policies.optional,
            retries: None,
        }
    }
}

/// Sorts the executions of a reading. Takes n log n steps for n executions.
pub fn assess<'a>(executions: &'a [Execution], rules: &Rules<'_>) -> Assessment<'a> {
    let Rules { tag, bound, oldest, attempt, expect, rerun, optional, retries } = *rules;
    let tagged: Vec<&Execution> = executions.iter().filter(|e| e.carries(tag)).collect();
    let order_of = |place: usize| tagged.get(place).map(|e| order(e));
    let places = in_order(tagged.len(), &|a, b| order_of(a).cmp(&order_of(b)));
    let tagged: Vec<&Execution> = places.iter().filter_map(|place| tagged.get(*place).copied()).collect();
    let first = oldest.map_or(bound, |oldest| oldest.max(bound));
    let is_older = |e: &Execution| e.scheduled < first;
    let (older, own) = tagged.split_at(tagged.partition_point(|e| is_older(e)));
    let other = match rerun {
        Rerun::Latest => reruns::replaced(own),
        Rerun::All => Vec::new(),
        Rerun::None => reruns::repeated(own),
    };
    let parts = children::parts(&tagged, older.len(), &other);
    let own_parts = parts.get(older.len()..).unwrap_or_default();
    let attempts = match attempt {
        Some(newest) if rerun == Rerun::Latest => attempts::judge(own, own_parts, &other, newest, rules),
        _ => Attempts::default(),
    };
    let other_of = |n: usize| Some(own.get(other.get(n).copied().flatten()?)?.name.as_str());
    let why_older = |e: &Execution| if e.scheduled < bound { Ignored::Older } else { Ignored::TooOld };
    // What was repeated is told first: nothing hides it then, however many there are.
    let (mut ignored, mut others) = (Vec::new(), Vec::new());
    let mut counted = Vec::new();
    let mut tried = Vec::new();
    let retries = retries.filter(|retries| !retries.is_empty() && rerun == Rerun::Latest);
    let mut have: BTreeMap<&str, u32> = BTreeMap::new();
    for (n, (execution, part)) in own.iter().zip(own_parts).enumerate() {
        if let Some(why) = attempts.ignored(n) {
            others.push((*execution, why));
            continue;
        }
        match (other_of(n), part) {
            (Some(by), _) if rerun == Rerun::Latest => ignored.push((*execution, Ignored::Replaced(by))),
            (Some(first), _) => others.push((*execution, Ignored::Repeats(first))),
            (None, Part::Child) => others.push((*execution, Ignored::Child)),
            (None, part) => {
                counted.push(*execution);
                // More than these decide nothing; their chains would take n² steps.
                let retries = retries.filter(|_| counted.len() <= MAX_COUNTED);
                tried.extend(
                    retries.map(|retries| retries.tried(short(&execution.id), chain(own, &other, n))),
                );
                let is_expected = *part != Part::OfOlder && !is_optional(optional, &execution.workflow);
                *have.entry(&execution.workflow).or_insert(0) += u32::from(is_expected);
            }
        }
    }
    let repeats = own.iter().filter(|e| !e.actor.is_child && !e.actor.reference.is_empty());
    let repeats = repeats.filter(|_| rerun == Rerun::Latest);
    let repeated = repeats.map(|e| short(&e.actor.reference)).collect();
    ignored.append(&mut others);
    ignored.extend(older.iter().map(|e| (*e, why_older(e))));
    let mut missing = expect.missing(&have);
    if !optional.is_empty() && !matches!(expect, Expect::Names(_)) {
        missing.iter_mut().for_each(|missing| missing.push_str(" that may not fail"));
    }
    missing.extend(attempts.missing);
    let optional = counted.iter().copied().filter(|e| is_optional(optional, &e.workflow)).collect();
    Assessment { missing, counted, optional, unclear: attempts.unclear, ignored, repeated, tried }
}

/// Short fingerprints of the execution at this place and of all that it repeats, of executions in order; `replaced` are the
/// places of those that replace them.
fn chain(own: &[&Execution], replaced: &[Option<usize>], last: usize) -> Vec<u32> {
    let mut places = vec![last];
    // What replaces one is later, so each is looked at after those that repeat it.
    for (place, by) in replaced.iter().enumerate().take(last).rev() {
        if places.len() < MAX_CHAIN && by.is_some_and(|by| places.contains(&by)) {
            places.push(place);
        }
    }
    let all = places.iter().filter_map(|place| own.get(*place));
    // What was repeated may be deleted by now.
    all.flat_map(|e| [short(&e.id), short(&e.actor.reference)]).collect()
}

impl<'a> Assessment<'a> {
    /// The state of the counted set.
    pub fn standing(&self) -> Standing {
        if self.counted.is_empty() || !self.missing.is_empty() {
            Standing::Incomplete
        } else if self.counted.iter().all(|e| e.ended) {
            Standing::Ended { passed: self.failed().next().is_none() }
        } else {
            Standing::Running
        }
    }

    /// Whether this execution may fail.
    pub fn is_optional(&self, execution: &Execution) -> bool {
        self.optional.iter().any(|optional| optional.id == execution.id)
    }

    /// What was tried for a member.
    pub fn tried(&self, execution: &Execution) -> &Tried {
        // Of most checks nothing is tried.
        let mut counted = self.counted.iter().take(self.tried.len());
        let place = counted.position(|counted| counted.id == execution.id);
        place.and_then(|place| self.tried.get(place)).unwrap_or(&NOTHING_TRIED)
    }

    /// The members that have ended without passing, and were to pass.
    pub fn failed(&self) -> impl Iterator<Item = &'a Execution> {
        self.unpassed().filter(|e| !self.is_optional(e))
    }

    /// The members that may fail.
    pub fn optional(&self) -> impl Iterator<Item = &'a Execution> {
        self.optional.iter().copied()
    }

    /// The members that have ended without passing, and may.
    pub fn failed_optional(&self) -> impl Iterator<Item = &'a Execution> {
        self.unpassed().filter(|e| self.is_optional(e))
    }

    fn unpassed(&self) -> impl Iterator<Item = &'a Execution> {
        self.counted.iter().copied().filter(|e| e.ended && e.status != Status::Passed)
    }

    /// A number that changes when a member joins, leaves, or changes its status. `settle` watches it.
    pub fn fingerprint(&self) -> u64 {
        let text: String =
            self.counted.iter().map(|e| format!("{} {} {}\n", e.id, e.status, e.ended)).collect();
        fnv1a(text.as_bytes())
    }

    /// When the counted set last changed, by Testkube's own times.
    pub fn last_change(&self) -> Option<Wall> {
        self.counted.iter().map(|e| e.finished.unwrap_or(e.scheduled).max(e.scheduled)).max()
    }

    /// Short fingerprints of every execution with the tag, counted or not, and of those that were replaced by one of them.
    /// One that is missing from a later complete reading has vanished.
    pub fn present(&self) -> Vec<u32> {
        let all = self.counted.iter().copied().chain(self.ignored.iter().map(|(e, _)| *e));
        all.map(|e| short(&e.id)).chain(self.repeated.iter().copied()).collect()
    }

    /// The newest execution with the tag, if there are some and all are too old.
    pub fn only_older(&self) -> Option<&Execution> {
        let is_old = |why: &Ignored<'_>| matches!(why, Ignored::Older | Ignored::TooOld);
        let is_older = self.counted.is_empty() && self.ignored.iter().all(|(_, why)| is_old(why));
        self.ignored.last().filter(|_| is_older).map(|(execution, _)| *execution)
    }

    /// The counted executions that have been stopping for long, as a sentence after a space; empty if there are none.
    pub fn stuck_in_words(&self, now: Wall) -> String {
        let stuck = self.counted.iter().filter(|e| e.is_stuck(now)).map(|e| one_line(&e.name, 80));
        match listed(stuck, 5) {
            names if names.is_empty() => names,
            names => {
                format!(" Stopping for more than ten minutes: {names}; {}.", crate::check::scene::STAYS_SO)
            }
        }
    }

    /// Whether the counted set holds only children whose parents do not carry the tag.
    pub fn are_all_children(&self) -> bool {
        self.counted.iter().all(|execution| execution.actor.is_child)
    }

    /// Short fingerprints of the counted set.
    pub fn members(&self) -> Vec<u32> {
        self.counted.iter().map(|e| short(&e.id)).collect()
    }

    /// `shop-api-41 running, shop-e2e-17 passed, shop-lint-3 failed (optional)`; first those that stand in the way of a pass,
    /// then those that repeat another one.
    pub fn statuses(&self) -> String {
        let is_open = |e: &&&Execution| !e.ended || e.status != Status::Passed && !self.is_optional(e);
        let first = self.counted.iter().filter(is_open);
        let rest = || self.counted.iter().filter(|e| !is_open(e));
        let repeats = |e: &&&Execution| self.tried(e).number() > 0;
        let rest = rest().filter(repeats).chain(rest().filter(|e| !repeats(e)));
        let optional = |e: &Execution| if self.is_optional(e) { " (optional)" } else { "" };
        let words = |e: &&Execution| {
            let reruns = match self.tried(e).number() {
                0 => String::new(),
                1 => " after 1 re-run".into(),
                more => format!(" after {more} re-runs"),
            };
            format!("{} {}{reruns}{}", one_line(&e.name, 80), e.status, optional(e))
        };
        listed(first.chain(rest).map(words), 10)
    }

    /// Why executions with the tag do not count, as a sentence after a space; empty if all count.
    pub fn ignored_in_words(&self) -> String {
        const SHOWN: usize = 5;
        let words = self.ignored.iter().take(SHOWN).map(|(execution, why)| why.in_words(execution));
        match (listed(words, SHOWN), self.ignored.len().saturating_sub(SHOWN)) {
            (words, _) if words.is_empty() => String::new(),
            (words, 0) => format!(" Not counted: {words}."),
            (words, more) => format!(" Not counted: {words} and {more} more."),
        }
    }
}

/// A short fingerprint of an execution's id: the ledger has no room for the ids themselves.
pub(super) fn short(id: &str) -> u32 {
    let hash = fnv1a(id.as_bytes());
    u32::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or_default()
}

fn order(e: &Execution) -> (Wall, i64, &str) {
    (e.scheduled, e.number, &e.id)
}

#[cfg(test)]
mod tests;
