//! The shelf: what this context knows of the ledger, and the one place where checks are stored.

use crate::check::{CheckKey, Pending, Record, State};
use crate::store::ledger::{Bucket, Change, Ledger, LedgerError, Store, StoreError};
use std::collections::BTreeSet;

/// What became of a change.
pub(super) enum Stored {
    /// It stands there.
    Won,
    /// Another context was faster; what it wrote is on the shelf now.
    Raced,
    /// The check is not pending any more.
    Gone,
    /// Shared data did not take it.
    Refused(LedgerError),
}

/// So many buckets are read at each tick whether or not somebody has noted a change: all of them within a minute.
const SWEEP: usize = 5;

/// So many new records are read in one tick.
const MAX_NEW: u64 = 600;

pub(super) struct Shelf {
    ledger: Ledger,
    buckets: Vec<Bucket>,
    /// How many checks are pending in each.
    counts: Vec<u32>,
    /// Buckets that are to be read.
    noted: BTreeSet<usize>,
    /// The bucket that the sweep comes to next.
    next: usize,
}

impl Shelf {
    /// Knows nothing yet.
    pub(super) fn new(ledger: Ledger) -> Shelf {
        let buckets = ledger.buckets();
        Shelf { counts: vec![0; buckets.len()], buckets, ledger, noted: BTreeSet::new(), next: 0 }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many checks are pending.
    pub(super) fn count(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Reads what others have noted as changed, and some buckets that nobody did. Answers which buckets have changed. After many
    /// new records the rest is read at the next tick: a callback keeps its thread for a few milliseconds at the most.
    pub(super) fn refresh(&mut self, store: &mut dyn Store) -> Vec<usize> {
        let total = self.buckets.len().max(1);
        self.noted.extend((0..SWEEP).map(|n| (self.next + n) % total));
        self.next = (self.next + SWEEP) % total;
        match self.ledger.take_notes(store) {
            Ok(noted) => self.noted.extend(noted.into_iter().map(usize::from)),
            Err(status) => {
                log::error!("shared data failed with status {}: changes are found within a minute", status.0);
            }
        }
        let mut changed = Vec::new();
        let mut new = 0;
        while new < MAX_NEW
            && let Some(number) = self.noted.pop_first()
        {
            let before = self.buckets.get(number).map_or(0, Bucket::versions);
            if self.read(store, number) {
                changed.push(number);
            }
            new += self.buckets.get(number).map_or(0, Bucket::versions).wrapping_sub(before);
        }
        changed
    }

    /// Reads everything.
    pub(super) fn refresh_all(&mut self, store: &mut dyn Store) -> Vec<usize> {
        (0..self.buckets.len()).filter(|number| self.read(store, *number)).collect()
    }

    /// Reads the bucket of one check.
    pub(super) fn refresh_of(&mut self, store: &mut dyn Store, key: &CheckKey) {
        self.read(store, usize::from(self.ledger.bucket_of(key)));
    }

    fn read(&mut self, store: &mut dyn Store, number: usize) -> bool {
        let Some(bucket) = self.buckets.get_mut(number) else { return false };
        match bucket.read(store) {
            Ok(is_changed) => {
                self.recount(number);
                is_changed
            }
            Err(StoreError(status)) => {
                log::error!("shared data failed with status {status}: bucket {number} was not read");
                false
            }
        }
    }

    fn recount(&mut self, number: usize) {
        let pending = self
            .buckets
            .get(number)
            .map(|bucket| bucket.pending().filter(|(_, pending)| pending.reported().is_none()).count());
        if let (Some(count), Some(pending)) = (self.counts.get_mut(number), pending) {
            *count = u32::try_from(pending).unwrap_or(u32::MAX);
        }
    }

    /// The records of one bucket.
    pub(super) fn records(&self, number: usize) -> impl Iterator<Item = &Record> {
        self.buckets.get(number).into_iter().flat_map(Bucket::records)
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = (&CheckKey, &Pending)> {
        self.buckets.iter().flat_map(Bucket::pending)
    }

    pub(super) fn find(&self, key: &CheckKey) -> Option<&Pending> {
        self.buckets.get(usize::from(self.ledger.bucket_of(key)))?.find_pending(key)
    }

    /// A pending check, and the version of its record.
    pub(super) fn find_version(&self, key: &CheckKey) -> Option<(&Pending, u64)> {
        self.buckets.get(usize::from(self.ledger.bucket_of(key)))?.find_version(key)
    }

    /// Puts `state` in the place of the check that was seen in this version.
    pub(super) fn commit(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        version: u64,
        state: State,
    ) -> Stored {
        let number = usize::from(self.ledger.bucket_of(key));
        let Some(bucket) = self.buckets.get_mut(number) else { return Stored::Gone };
        if let Err(error) = bucket.read(store) {
            return Stored::Refused(LedgerError::Store(error));
        }
        let mut record = Some(Box::new(Record { key: *key, state }));
        let stored = match bucket.find_version(key) {
            None => Stored::Gone,
            Some((_, found)) if found != version => Stored::Raced,
            // Where somebody is faster it is the step that is made again, and not the write.
            Some(_) => bucket
                .update_read(store, key, |_| match record.take() {
                    Some(record) => Change::Put(record, Stored::Won),
                    None => Change::Keep(Stored::Raced),
                })
                .unwrap_or_else(Stored::Refused),
        };
        self.recount(number);
        stored
    }

    /// Takes a record out, if it still is as asked; false where shared data refuses.
    pub(super) fn remove(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        is: impl Fn(&Record) -> bool,
    ) -> bool {
        let number = usize::from(self.ledger.bucket_of(key));
        let Some(bucket) = self.buckets.get_mut(number) else { return true };
        let removed = bucket.update(store, key, |found| match found {
            Some(record) if is(record) => Change::Remove(()),
            _ => Change::Keep(()),
        });
        if let Err(error) = removed {
            log::error!("check {}: its record could not be removed: {error}", key.id());
        }
        self.recount(number);
        removed.is_ok()
    }
}
