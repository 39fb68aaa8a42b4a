//! The shelf: what this context knows of the ledger, and the only place that stores checks.

use crate::check::{CheckKey, Pending, Place, Record, State};
use crate::collections::Few;
use crate::store::hints::fingerprint;
use crate::store::ledger::{Bucket, Change, Ledger, LedgerError, Store, StoreError};
use crate::tag::Tag;
use crate::time::Mono;
use std::time::Duration;

/// The outcome of a change.
pub(super) enum Stored {
    /// It is stored.
    Won,
    /// Another context wrote first; its version is on the shelf now.
    Raced,
    /// The check is no longer pending.
    Gone,
    /// Shared data refused it.
    Refused(LedgerError),
}

/// Maximum buckets, and maximum bytes of large buckets, that each tick reads without a noted change. So all small
/// buckets are read within a minute, and a tick copies little. The sweep finds changes whose writer fell before noting
/// them. While more places are counted than checks are known, every bucket is read within a minute whatever its size,
/// because one of them may hold such a change.
const SWEEP: usize = 5;
const SWEEP_BYTES: usize = 32 << 10;

/// Maximum new records read in one tick.
const MAX_NEW: u64 = 600;

pub(super) struct Shelf {
    ledger: Ledger,
    buckets: Vec<Bucket>,
    /// Counts of each bucket.
    counts: Vec<Counts>,
    /// Buckets to read.
    noted: Few<usize, ()>,
    /// The next bucket of the sweep.
    next: usize,
    /// Bytes that the sweep may still read.
    budget: usize,
    /// Number of buckets that the sweep reads whatever their size, because a change may have been missed.
    hurry: usize,
}

/// Numbers of checks in a bucket.
#[derive(Clone, Copy, Default)]
struct Counts {
    /// Pending, and not reported yet.
    pending: u32,
    /// Those that hold a place.
    held: u32,
    /// Those whose records note no place.
    unnoted: u32,
}

impl Shelf {
    /// A shelf that knows nothing yet.
    pub(super) fn new(ledger: Ledger) -> Shelf {
        let buckets = ledger.buckets();
        let counts = vec![Counts::default(); buckets.len()];
        Shelf { counts, buckets, ledger, noted: Few::default(), next: 0, budget: 0, hurry: 0 }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Number of pending checks.
    pub(super) fn count(&self) -> u32 {
        self.counts.iter().map(|counts| counts.pending).sum()
    }

    /// Number of checks that hold a place.
    pub(super) fn held(&self) -> u32 {
        self.counts.iter().map(|counts| counts.held).sum()
    }

    /// The places that checks hold.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.pending().filter_map(|(_, pending)| pending.held())
    }

    /// Pending checks whose records note no place, and the place that each should have.
    pub(super) fn unnoted(&self) -> impl Iterator<Item = (CheckKey, Place)> {
        let buckets = self.buckets.iter().zip(&self.counts).filter(|(_, counts)| counts.unnoted > 0);
        let pending = buckets.flat_map(|(bucket, _)| bucket.pending());
        pending.filter_map(|(key, pending)| Some((*key, pending.unnoted()?)))
    }

    /// Reads the buckets that others have noted as changed, and those of the sweep. Returns the numbers of the changed
    /// ones. After many new records it leaves the rest to the next tick: a callback may keep its thread for a few
    /// milliseconds only.
    pub(super) fn refresh(&mut self, store: &mut dyn Store) -> Vec<usize> {
        self.sweep();
        match self.ledger.take_notes(store) {
            Ok(noted) => noted.into_iter().for_each(|number| self.noted.insert(usize::from(number), ())),
            Err(status) => {
                log::error!("shared data failed with status {}: changes are found within a minute", status.0);
                self.sweep_all();
            }
        }
        let mut changed = Vec::new();
        let mut new = 0;
        while new < MAX_NEW
            && let Some((number, ())) = self.noted.pop_first()
        {
            let before = self.buckets.get(number).map_or(0, Bucket::versions);
            match self.read(store, number) {
                Ok(true) => changed.push(number),
                Ok(false) => {}
                Err(_) => self.sweep_all(),
            }
            new += self.buckets.get(number).map_or(0, Bucket::versions).wrapping_sub(before);
        }
        changed
    }

    /// Makes the sweep read every bucket within a minute, because a change may have been missed.
    pub(super) fn sweep_all(&mut self) {
        if self.hurry == 0 {
            self.hurry = self.buckets.len();
        }
    }

    /// Notes the buckets of the sweep.
    fn sweep(&mut self) {
        self.budget = self.budget.saturating_add(SWEEP_BYTES);
        for _ in 0..SWEEP {
            let Some(bucket) = self.buckets.get(self.next) else { return self.next = 0 };
            match (self.hurry, self.budget.checked_sub(bucket.size())) {
                (0, None) => return,
                (hurry, left) => {
                    self.hurry = hurry.saturating_sub(1);
                    self.budget = left.unwrap_or_default();
                }
            }
            self.noted.insert(self.next, ());
            self.next = (self.next + 1) % self.buckets.len().max(1);
        }
        // Small buckets do not save up for large ones.
        self.budget = 0;
    }

    /// Reads all buckets. Returns the numbers of the changed ones.
    pub(super) fn refresh_all(&mut self, store: &mut dyn Store) -> Vec<usize> {
        self.read_all(store).0
    }

    /// The same, and whether all could be read.
    pub(super) fn read_all(&mut self, store: &mut dyn Store) -> (Vec<usize>, bool) {
        let (mut changed, mut is_whole) = (Vec::new(), true);
        for number in 0..self.buckets.len() {
            match self.read(store, number) {
                Ok(true) => changed.push(number),
                Ok(false) => {}
                Err(_) => is_whole = false,
            }
        }
        if !is_whole {
            self.sweep_all();
        }
        (changed, is_whole)
    }

    /// Whether all records that were read are understood: a newer module's record may hold a place too.
    pub(super) fn is_understood(&self) -> bool {
        self.buckets.iter().all(Bucket::is_understood)
    }

    /// Reads the bucket of one check.
    pub(super) fn refresh_of(&mut self, store: &mut dyn Store, key: &CheckKey) {
        let number = usize::from(self.ledger.bucket_of(key));
        if self.buckets.get_mut(number).is_some_and(|bucket| bucket.look(store).is_err()) {
            self.sweep_all();
        }
        self.recount(number);
    }

    fn read(&mut self, store: &mut dyn Store, number: usize) -> Result<bool, StoreError> {
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(false) };
        match bucket.read(store) {
            Ok(is_changed) => {
                self.recount(number);
                Ok(is_changed)
            }
            Err(StoreError(status)) => {
                log::error!("shared data failed with status {status}: bucket {number} was not read");
                Err(StoreError(status))
            }
        }
    }

    fn recount(&mut self, number: usize) {
        let (Some(counts), Some(bucket)) = (self.counts.get_mut(number), self.buckets.get(number)) else {
            return;
        };
        *counts = Counts::default();
        for (_, pending) in bucket.pending() {
            counts.pending += u32::from(pending.reported().is_none());
            counts.held += u32::from(pending.held().is_some());
            counts.unnoted += u32::from(pending.unnoted().is_some());
        }
    }

    /// The records of one bucket.
    pub(super) fn records(&self, number: usize) -> impl Iterator<Item = &Record> {
        self.buckets.get(number).into_iter().flat_map(Bucket::records)
    }

    /// All records.
    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.buckets.iter().flat_map(Bucket::records)
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = (&CheckKey, &Pending)> {
        self.buckets.iter().flat_map(Bucket::pending)
    }

    pub(super) fn find(&self, key: &CheckKey) -> Option<&Pending> {
        self.buckets.get(usize::from(self.ledger.bucket_of(key)))?.find_pending(key)
    }

    /// The checks that wait for these tags, given by their [`fingerprint`].
    pub(super) fn hinted(&self, now: Mono, lookback: Duration, tags: &[u64]) -> Vec<CheckKey> {
        if tags.is_empty() {
            return Vec::new();
        }
        let is_hinted = |pending: &Pending| {
            pending.wanted(now, lookback).is_some_and(|w| tags.contains(&fingerprint(&w.tag.value)))
        };
        self.pending().filter(|(_, pending)| is_hinted(pending)).map(|(key, _)| *key).collect()
    }

    /// Whether a check other than `aside` waits for the executions of this tag.
    pub(super) fn is_awaited(&self, tag: &Tag, aside: Option<&CheckKey>) -> bool {
        self.pending().any(|(key, pending)| Some(key) != aside && pending.waits_for(tag))
    }

    /// A pending check, and the version of its record.
    pub(super) fn find_version(&self, key: &CheckKey) -> Option<(&Pending, u64)> {
        self.buckets.get(usize::from(self.ledger.bucket_of(key)))?.find_version(key)
    }

    /// Replaces the check's record, if it still has this version, with `state`.
    pub(super) fn commit(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        version: u64,
        state: State,
    ) -> Stored {
        let number = usize::from(self.ledger.bucket_of(key));
        let Some(bucket) = self.buckets.get_mut(number) else { return Stored::Gone };
        if let Err(error) = bucket.look(store) {
            return Stored::Refused(LedgerError::Store(error));
        }
        let mut record = Some(Box::new(Record { key: *key, state }));
        let stored = match bucket.find_version(key) {
            None => Stored::Gone,
            Some((_, found)) if found != version => Stored::Raced,
            // If another context writes first, the step is repeated, not the write.
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

    /// A check's record, pending or done.
    pub(super) fn state(&self, key: &CheckKey) -> Option<&State> {
        let bucket = self.buckets.get(usize::from(self.ledger.bucket_of(key)))?;
        bucket.find(key).map(|record| &record.state)
    }

    /// Changes a record as [`Bucket::update`] does.
    pub(super) fn change<R>(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        let number = usize::from(self.ledger.bucket_of(key));
        let Some(bucket) = self.buckets.get_mut(number) else { return Err(LedgerError::Busy) };
        let changed = bucket.update(store, key, change);
        self.recount(number);
        changed
    }

    /// Removes a record for which `is` still holds. False if shared data refuses.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::store::ledger::memory::Memory;
    use crate::store::ledger::{Cas, Entry};
    use std::collections::BTreeSet;

    /// A store that notes which of the checks' buckets are read, counts their bytes, and can withhold one.
    #[derive(Default)]
    struct Watched {
        memory: Memory,
        silent: Option<String>,
        keys: BTreeSet<String>,
        read: usize,
    }

    impl Store for Watched {
        fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
            if self.silent.as_deref() == Some(key) {
                return Err(StoreError(10));
            }
            let entry = self.memory.get(key)?;
            if key.contains("/checks/") {
                self.keys.insert(key.into());
                self.read += entry.as_ref().map_or(0, |entry| entry.value.len());
            }
            Ok(entry)
        }

        fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError> {
            self.memory.swap(key, seen, value)
        }
    }

    /// A shelf and store with `checks` checks whose tokens have `token` bytes.
    fn stored(checks: u32, token: usize) -> (Shelf, Watched) {
        let ledger = Ledger::with_key("t/", &[0; 16]);
        let mut store = Watched::default();
        for n in 1..=checks {
            let mut record = record(n);
            record.make_large(token);
            let key = record.key;
            let put = |_: Option<&Record>| Change::Put(Box::new(record.clone()), ());
            ledger.bucket(&key).update(&mut store, &key, put).unwrap();
        }
        let mut shelf = Shelf::new(ledger);
        shelf.refresh_all(&mut store);
        store.keys.clear();
        (shelf, store)
    }

    #[test]
    fn a_tick_copies_little_however_much_there_is_and_comes_to_everything() {
        for (checks, token, ticks) in [(0, 0, 52), (300, 1_000, 52), (3_000, 2_000, 300)] {
            let (mut shelf, mut store) = stored(checks, token);
            for _ in 0..ticks {
                store.read = 0;
                let budget = shelf.budget;
                shelf.refresh(&mut store);
                assert!(store.read <= budget + SWEEP_BYTES, "{} bytes", store.read);
            }
            assert_eq!(store.keys.len(), shelf.buckets.len(), "{checks} checks");
        }
    }

    #[test]
    fn what_a_change_of_one_check_found_of_another_is_told_by_the_next_tick() {
        let (mut shelf, mut store) = stored(400, 100);
        let ledger = shelf.ledger().clone();
        let known = record(1).key;
        let number = ledger.bucket_of(&known);
        let new = (401..).map(record).find(|record| ledger.bucket_of(&record.key) == number).unwrap();
        shelf.refresh(&mut store);
        let put = |_: Option<&Record>| Change::Put(Box::new(new.clone()), ());
        ledger.bucket(&new.key).update(&mut store, &new.key, put).unwrap();
        ledger.note(&mut store, &new.key).unwrap();
        shelf.change(&mut store, &known, |_| Change::Keep(())).unwrap();
        assert!(shelf.find(&new.key).is_some(), "it was read");
        assert!(shelf.refresh(&mut store).contains(&usize::from(number)), "and nobody has looked at it");
    }

    #[test]
    fn what_a_newer_module_wrote_is_not_understood() {
        let (mut shelf, mut store) = stored(3, 100);
        assert!(shelf.is_understood());
        assert_eq!((shelf.count(), shelf.held(), shelf.unnoted().count()), (3, 0, 3));
        let name = format!("t/checks/{:03}", shelf.ledger().bucket_of(&record(2).key));
        let mut value = store.memory.keys[&name].value.clone();
        value[5] = 77;
        store.memory.put(&name, &value);
        shelf.refresh_all(&mut store);
        assert!(!shelf.is_understood());
    }

    #[test]
    fn no_place_is_taken_from_checks_whose_bucket_was_not_read() {
        use crate::lead::housekeeping::Housekeeping;
        use crate::store::places::{self, Limits};
        let ledger = Ledger::with_key("t/", &[0; 16]);
        let mut memory = Memory::default();
        let mut shelf = Shelf::new(ledger.clone());
        let limits = Limits { all: 9, credential: 9, project: 9 };
        let mut record = record(1);
        let State::Pending(pending) = &mut record.state else { panic!() };
        let place = Place { credential: "a".into(), project: pending.callback.project };
        pending.place = crate::check::Placed::Holds(place.clone());
        let key = record.key;
        assert_eq!(places::take(&mut memory, &ledger, &place, limits).unwrap(), places::Grant::Taken);
        ledger.bucket(&key).update(&mut memory, &key, |_| Change::Put(Box::new(record.clone()), ())).unwrap();
        let mut store = Watched {
            memory,
            silent: Some(format!("t/checks/{:03}", ledger.bucket_of(&key))),
            ..Watched::default()
        };
        let mut housekeeping = Housekeeping::new("t/", Mono(0), false);
        for second in 0..60 {
            housekeeping.count_places(Mono(second * 1_000), &mut store, &mut shelf);
        }
        let [credentials, projects] = places::counted(&mut store.memory, &ledger);
        assert_eq!((credentials.get("a"), projects.len()), (Some(&1), 1), "its record stands there");
    }
}
