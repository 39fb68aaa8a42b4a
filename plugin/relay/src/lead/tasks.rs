//! What is remembered of the checks between two turns, bucket by bucket like the ledger: so each is found among a few, and a
//! tick costs no more for the last of thousands of checks than for the first.

use super::fallback::Refused;
use super::prove::Proof;
use super::teller::Teller;
use super::watch::Confirm;
use crate::check::CheckKey;
use crate::ledger::{BUCKETS, Ledger};
use crate::time::Mono;
use crate::time::{Now, Wall};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// What is remembered of a check between two turns.
#[derive(Default)]
pub(super) struct Task {
    /// Nothing is done before this.
    pub(super) next: Mono,
    /// Nor is anything before this: shared data has refused a change of the check.
    pub(super) held_until: Mono,
    /// Since when the entry where it is answered is not configured here.
    pub(super) without_entry: Option<Mono>,
    /// What is asked next to prove the token that this delivery brought.
    pub(super) proof: Option<(u32, Proof)>,
    /// Failures in a row of the step at hand.
    pub(super) tries: u32,
    /// How often what is owed was refused.
    pub(super) refused: Refused,
    /// The delivery that `tries` is about.
    pub(super) delivery: u32,
    /// Whether a call is in flight.
    pub(super) calling: bool,
    /// Executions that are being confirmed.
    pub(super) confirm: Option<Confirm>,
    /// Since when the deadline has passed: one last reading is made.
    pub(super) last_reading: Option<Mono>,
    /// The last reading, if it was a good one.
    pub(super) good_reading: Option<Mono>,
    /// Readings that were not complete, since the last one that was.
    pub(super) incomplete: Option<Incomplete>,
    /// Absence that is not in the ledger yet.
    pub(super) absent: Duration,
    /// Readings in a row in which an execution had vanished.
    pub(super) vanished: u32,
    /// Testkube has hinted since the last look began.
    pub(super) hinted: bool,
    /// When the last look began that a hint had brought forward.
    pub(super) hint_look: Mono,
    /// What its people have been told.
    pub(super) teller: Option<Box<Teller>>,
}

/// Readings in a row that were not complete: they decide nothing.
pub(super) struct Incomplete {
    /// Since when.
    pub(super) since: Now,
    /// How many executions Testkube has counted in the last one.
    pub(super) counted: u32,
    /// How many different ones it has listed.
    pub(super) listed: usize,
}

impl Incomplete {
    /// `Testkube's lists have not been complete since 14:02 UTC (the last: 3 of 4 executions)`.
    pub(super) fn in_words(&self, now: Wall) -> String {
        format!(
            "Testkube's lists have not been complete since {} (the last: {} of {} executions)",
            self.since.wall.clock(now),
            self.listed,
            self.counted
        )
    }
}

impl Task {
    /// Whether nothing is done for the check yet, because shared data has refused a change of it.
    pub(super) fn is_held(&self, now: Mono) -> bool {
        now < self.held_until
    }
}

/// The tasks of one bucket's checks.
pub(super) type InBucket = BTreeMap<CheckKey, Task>;

/// The tasks of all checks.
pub(super) struct Tasks {
    ledger: Ledger,
    by_bucket: Vec<InBucket>,
    /// Where a bucket beyond the last would be: no check lives there.
    beyond: InBucket,
}

impl Tasks {
    /// Nothing is remembered.
    pub(super) fn none(ledger: Ledger) -> Tasks {
        let by_bucket = (0..BUCKETS).map(|_| InBucket::new()).collect();
        Tasks { ledger, by_bucket, beyond: InBucket::new() }
    }

    /// Those of each bucket's checks.
    pub(super) fn by_bucket(&self) -> impl Iterator<Item = &InBucket> {
        self.by_bucket.iter()
    }

    fn beside(&mut self, key: &CheckKey) -> &mut InBucket {
        self.by_bucket.get_mut(usize::from(self.ledger.bucket_of(key))).unwrap_or(&mut self.beyond)
    }

    pub(super) fn get(&self, key: &CheckKey) -> Option<&Task> {
        self.by_bucket.get(usize::from(self.ledger.bucket_of(key)))?.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &CheckKey) -> Option<&mut Task> {
        self.beside(key).get_mut(key)
    }

    pub(super) fn entry(&mut self, key: CheckKey) -> Entry<'_, CheckKey, Task> {
        self.beside(&key).entry(key)
    }

    pub(super) fn insert(&mut self, key: CheckKey, task: Task) {
        self.beside(&key).insert(key, task);
    }

    pub(super) fn remove(&mut self, key: &CheckKey) {
        self.beside(key).remove(key);
    }

    /// Forgets the tasks of a bucket's checks, but for these.
    pub(super) fn retain(&mut self, bucket: usize, these: impl Fn(&CheckKey) -> bool) {
        if let Some(tasks) = self.by_bucket.get_mut(bucket) {
            tasks.retain(|key, _| these(key));
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_bucket.iter_mut().for_each(InBucket::clear);
    }
}
