//! Executions that had not passed when a tag was read: deleting a failed execution must not open a gate.
//!
//! They are kept apart from the readings, which come and go: as hashes with the process's own key, for each credential
//! in a fixed number of buckets. The tag's keyed hash selects the bucket. A newer entry never displaces a fresh one. If
//! a fresh entry finds no room, the bucket says so for as long as the entry would have been kept, and nothing that
//! rests on the bucket is known to be whole.

use crate::check::verdict::{Rules, assess};
use crate::collections::tree;
use crate::config::Rerun;
use crate::store::ledger::{Ledger, Store, StoreError};
use crate::tag::Tag;
use crate::text::clip;
use crate::time::{Mono, Now, Wall};
use crate::wire::testkube::{Execution, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Buckets for each credential.
pub(super) const BUCKETS: u64 = 16;
/// Maximum size of a bucket, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Maximum executions remembered of one tag.
const MAX_OF_ONE: usize = 200;
/// Maximum size of a kept name, in bytes.
const MAX_NAME: usize = 48;
/// How long an execution is remembered after it was last seen.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Interval at which an unchanged tag is written again.
const TOUCHED: Duration = Duration::from_secs(60);
/// Maximum tries of a change while others write first.
const TRIES: u32 = 100;

/// The policies under which an execution may count, each a bit of [`Unpassed::counts`].
const POLICIES: [Rerun; 3] = [Rerun::Latest, Rerun::All, Rerun::None];

/// The memory of a tag besides a reading of it.
#[derive(Debug, Default)]
pub(crate) struct UnpassedMemory {
    lost: Vec<Unpassed>,
    /// Whether nothing that was seen of the tag recently is forgotten.
    pub(crate) is_whole: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Bucket {
    /// The time until which the bucket may lack entries that found no room.
    #[serde(rename = "f")]
    full_until: Option<Mono>,
    #[serde(rename = "t")]
    tags: Vec<OfTag>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OfTag {
    #[serde(rename = "t")]
    tag: u64,
    /// When an execution of the tag was last seen.
    #[serde(rename = "a")]
    at: Mono,
    /// Whether there were more executions than are kept.
    #[serde(rename = "c")]
    is_cut: bool,
    #[serde(rename = "e")]
    all: Vec<Unpassed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unpassed {
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "w")]
    workflow: u64,
    /// The resource that started it, if any.
    #[serde(rename = "r")]
    resource: Option<u64>,
    #[serde(rename = "s")]
    scheduled: Wall,
    /// The [`POLICIES`] under which it counted, as bits.
    #[serde(rename = "c")]
    counts: u8,
    #[serde(rename = "n")]
    name: String,
}

impl UnpassedMemory {
    /// The names of executions that were seen before, would count under this policy, and are gone.
    pub(crate) fn lost(&self, rerun: Rerun) -> impl Iterator<Item = &str> {
        let counts = move |one: &&Unpassed| one.counts & bit(rerun) != 0;
        self.lost.iter().filter(counts).map(|one| one.name.as_str())
    }
}

/// Remembers the executions of a complete reading of a tag since `since` that have not passed. Returns the earlier ones
/// that are gone and that no found re-run replaces.
pub(super) fn remember(
    store: &mut dyn Store,
    ledger: &Ledger,
    credential: &str,
    now: Now,
    tag: &Tag,
    since: Wall,
    found: &[Execution],
) -> UnpassedMemory {
    let own = ledger.keyed("tag", &[&tag.key, &tag.value]);
    let key = format!("{}unpassed/{credential}/{:02}", ledger.prefix(), own % BUCKETS);
    let seen = seen(ledger, tag, since, found);
    let ids: BTreeSet<u64> = tree(found.iter().map(|execution| id_of(ledger, &execution.id)));
    let mut change = || -> Result<Option<UnpassedMemory>, StoreError> {
        let entry = store.get(&key)?;
        let (cas, value) = entry.map(|entry| (entry.cas, entry.value)).unzip();
        let mut bucket = Bucket::read(value.as_deref().unwrap_or_default(), now.mono);
        let before = bucket.take(own);
        let is_known = before.is_some() || bucket.full_until.is_none();
        let is_lost = |one: &&Unpassed| !ids.contains(&one.id) && one.scheduled.plus(KEPT) >= since;
        let lost: Vec<Unpassed> =
            before.iter().flat_map(|before| &before.all).filter(is_lost).cloned().collect();
        let mut all = [lost.clone(), seen.clone()].concat();
        let is_cut = before.as_ref().is_some_and(|before| before.is_cut) || all.len() > MAX_OF_ONE;
        all.truncate(MAX_OF_ONE);
        let at = match &before {
            Some(before) if seen.is_empty() || now.mono.since(before.at) < TOUCHED => before.at,
            _ => now.mono,
        };
        let has_room = bucket.put(OfTag { tag: own, at, is_cut, all }, before, now.mono);
        let is_needed = value.is_some() || !bucket.tags.is_empty() || bucket.full_until.is_some();
        let next = if is_needed { bucket.to_bytes() } else { Vec::new() };
        if value.as_deref().unwrap_or_default() != next && !store.swap(&key, cas, &next)? {
            return Ok(None);
        }
        let stands_for = |one: &Unpassed| found.iter().any(|execution| repeats(ledger, execution, one));
        let mut lost = lost;
        lost.retain(|one| one.scheduled >= since);
        for one in lost.iter_mut().filter(|one| stands_for(one)) {
            one.counts &= !bit(Rerun::Latest);
        }
        Ok(Some(UnpassedMemory { lost, is_whole: is_known && has_room && !is_cut }))
    };
    for _ in 0..TRIES {
        match change() {
            Ok(Some(memory)) => return memory,
            Ok(None) => {}
            Err(status) => {
                log::error!(
                    "shared data failed with status {}: executions that had not passed are not remembered",
                    status.0
                );
                break;
            }
        }
    }
    UnpassedMemory::default()
}

impl Bucket {
    /// Reads a bucket and drops entries that are too old. A value in another form counts as a bucket that may lack
    /// everything.
    fn read(value: &[u8], now: Mono) -> Bucket {
        if value.is_empty() {
            return Bucket::default();
        }
        let unreadable =
            || Bucket { full_until: Some(Mono(now.0.saturating_add(millis(KEPT)))), tags: Vec::new() };
        let mut bucket: Bucket = crate::json::read(value).unwrap_or_else(|_| unreadable());
        bucket.tags.retain(|of_tag| now.since(of_tag.at) < KEPT);
        bucket.full_until = bucket.full_until.filter(|until| *until > now);
        bucket
    }

    fn to_bytes(&self) -> Vec<u8> {
        crate::json::text(self).into_bytes()
    }

    fn take(&mut self, tag: u64) -> Option<OfTag> {
        let place = self.tags.iter().position(|of_tag| of_tag.tag == tag)?;
        Some(self.tags.remove(place))
    }

    /// Stores the new entry of a tag, or the earlier one if there is no room for more. False if there was none.
    fn put(&mut self, of_tag: OfTag, before: Option<OfTag>, now: Mono) -> bool {
        if of_tag.all.is_empty() && !of_tag.is_cut {
            return true;
        }
        self.tags.push(of_tag);
        if self.to_bytes().len() <= MAX_BYTES {
            return true;
        }
        self.tags.pop();
        self.tags.extend(before.map(|before| OfTag { is_cut: true, ..before }));
        self.full_until = Some(Mono(now.0.saturating_add(millis(KEPT))));
        false
    }
}

fn seen(ledger: &Ledger, tag: &Tag, since: Wall, found: &[Execution]) -> Vec<Unpassed> {
    let is_passed = |execution: &Execution| execution.ended && execution.status == Status::Passed;
    if found.iter().all(is_passed) {
        return Vec::new();
    }
    let counted = POLICIES.map(|rerun| -> BTreeSet<&str> {
        let read = assess(found, &Rules::of_tag(tag, since, rerun));
        tree(read.counted.iter().map(|execution| execution.id.as_str()))
    });
    let read = |execution: &Execution| {
        let under = POLICIES.iter().zip(&counted).filter(|(_, ids)| ids.contains(execution.id.as_str()));
        Unpassed {
            id: id_of(ledger, &execution.id),
            workflow: ledger.keyed("workflow", &[&execution.workflow]),
            resource: resource_of(ledger, execution),
            scheduled: execution.scheduled,
            counts: under.fold(0, |counts, (rerun, _)| counts | bit(*rerun)),
            name: clip(execution.name.clone(), MAX_NAME),
        }
    };
    found.iter().filter(|e| !is_passed(e)).map(read).filter(|one| one.counts != 0).collect()
}

/// Whether an execution provably repeats one that is gone (see [`crate::check::verdict`]).
fn repeats(ledger: &Ledger, later: &Execution, gone: &Unpassed) -> bool {
    let names_it = !later.actor.reference.is_empty() && id_of(ledger, &later.actor.reference) == gone.id;
    let is_of_same = || gone.resource.is_some() && resource_of(ledger, later) == gone.resource;
    !later.actor.is_child
        && later.scheduled >= gone.scheduled
        && ledger.keyed("workflow", &[&later.workflow]) == gone.workflow
        && (names_it || is_of_same())
}

fn resource_of(ledger: &Ledger, execution: &Execution) -> Option<u64> {
    let actor = &execution.actor;
    let is_of_one = !actor.is_child && actor.kind == "testworkflowexecution" && !actor.name.is_empty();
    is_of_one.then(|| ledger.keyed("resource", &[&actor.name]))
}

fn id_of(ledger: &Ledger, id: &str) -> u64 {
    ledger.keyed("id", &[id])
}

fn bit(rerun: Rerun) -> u8 {
    match rerun {
        Rerun::Latest => 1,
        Rerun::All => 2,
        Rerun::None => 4,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
