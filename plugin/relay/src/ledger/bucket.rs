//! One bucket: how it is read and changed, and what its reader remembers of it.

use super::{
    BUCKETS, Cas, Change, LedgerError, MOST_BUCKET, MOST_RECORDS, Store, StoreError, TRIES, bucket_key,
    bucket_of, decoded, encoded, is_of, joined, slots,
};
use crate::check::{CheckKey, Pending, Record, State};

/// A bucket and what was last read of it, or written to it.
///
/// A leader reads all buckets again and again, and most of them have not changed: so the key is made once, and a record is
/// parsed only when its bytes are new to the reader.
#[derive(Clone, Debug)]
pub struct Bucket {
    key: String,
    /// Its reader wants to know of this check alone: the others are not parsed.
    only: Option<CheckKey>,
    /// Its version when it was read; `None`: never read, or never written.
    cas: Option<Cas>,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    bytes: Vec<u8>,
    /// What it says, as far as this version understands it and its reader wants to know.
    record: Option<Record>,
}

impl Bucket {
    /// All buckets of the instance whose keys begin with `prefix`, unread.
    pub fn all(prefix: &str) -> Vec<Bucket> {
        (0..BUCKETS).map(|bucket| Bucket::unread(prefix, bucket, None)).collect()
    }

    /// The one that a check lives in, unread and for this check alone.
    pub fn of(prefix: &str, key: &CheckKey) -> Bucket {
        Bucket::unread(prefix, bucket_of(key), Some(*key))
    }

    fn unread(prefix: &str, bucket: u16, only: Option<CheckKey>) -> Bucket {
        Bucket { key: bucket_key(prefix, bucket), only, cas: None, slots: Vec::new() }
    }

    /// Reads what stands there now. False: nobody has written it since it was last read.
    ///
    /// # Errors
    /// The host's status; then it remembers what it did before.
    pub fn read(&mut self, store: &mut dyn Store) -> Result<bool, StoreError> {
        let Some(entry) = store.get(&self.key)? else {
            self.slots = Vec::new();
            return Ok(self.cas.take().is_some());
        };
        if self.cas == Some(entry.cas) {
            return Ok(false);
        }
        self.cas = Some(entry.cas);
        let mut before = std::mem::take(&mut self.slots);
        for bytes in slots(&entry.value) {
            let slot = match before.iter().position(|slot| slot.bytes == bytes) {
                Some(at) => before.remove(at),
                None => self.slot(bytes),
            };
            self.slots.push(slot);
        }
        Ok(true)
    }

    fn slot(&self, bytes: &[u8]) -> Slot {
        let is_wanted = self.only.is_none_or(|key| is_of(bytes, &key));
        Slot { bytes: bytes.to_vec(), record: if is_wanted { decoded(bytes) } else { None } }
    }

    /// Reads the bucket, applies `change` to what stands under `key`, and writes it, again and again until nobody was
    /// faster.
    ///
    /// # Errors
    /// Why not; then nothing was written.
    pub fn update<R>(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        mut change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        for _ in 0..TRIES {
            self.read(store).map_err(LedgerError::Store)?;
            let (record, result) = match change(self.find(key)) {
                Change::Keep(result) => return Ok(result),
                Change::Remove(result) => (None, result),
                Change::Put(record, result) => (Some(record), result),
            };
            if self.write(store, key, record)? {
                return Ok(result);
            }
        }
        Err(LedgerError::Busy)
    }

    /// Writes this record in place of whatever is the check's. False: somebody was faster than this since the last reading.
    fn write(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        record: Option<Box<Record>>,
    ) -> Result<bool, LedgerError> {
        let new = match record {
            Some(record) => Some(Slot { bytes: encoded(&record)?, record: Some(*record) }),
            None => None,
        };
        let others = || self.slots.iter().filter(|slot| !is_of(&slot.bytes, key));
        // The new one goes first: what cannot be read can only stand at the end.
        let value = joined(new.iter().chain(others()).map(|slot| slot.bytes.as_slice()));
        if value.len() > MOST_BUCKET || (new.is_some() && others().count() >= MOST_RECORDS) {
            return Err(LedgerError::Full);
        }
        if !store.swap(&self.key, self.cas, &value).map_err(LedgerError::Store)? {
            return Ok(false);
        }
        // The next reading finds a version that it does not know and bytes that it does.
        self.slots.retain(|slot| !is_of(&slot.bytes, key));
        self.slots.splice(..0, new);
        Ok(true)
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|slot| slot.record.as_ref())
    }

    /// The record of a check.
    pub fn find(&self, key: &CheckKey) -> Option<&Record> {
        self.records().find(|record| record.key == *key)
    }

    /// The pending checks.
    pub fn pending(&self) -> impl Iterator<Item = (&CheckKey, &Pending)> {
        self.records().filter_map(|record| match &record.state {
            State::Pending(pending) => Some((&record.key, pending.as_ref())),
            State::Done(_) => None,
        })
    }

    /// A check, if it is pending.
    pub fn find_pending(&self, key: &CheckKey) -> Option<&Pending> {
        match &self.find(key)?.state {
            State::Pending(pending) => Some(pending),
            State::Done(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::check::tests::record;
    use std::collections::BTreeSet;

    fn ids(bucket: &Bucket) -> BTreeSet<String> {
        bucket.records().map(|record| record.key.id()).collect()
    }

    #[test]
    fn what_is_remembered_is_what_stands_there_after_each_change() {
        let mut store = Memory::default();
        let few: Vec<Record> =
            (0..100_000).map(record).filter(|record| bucket_of(&record.key) == 7).take(20).collect();
        let mut bucket = Bucket::unread("t/", 7, None);
        let mut there = BTreeSet::new();
        for step in 0..200 {
            let one = &few[step * 7 % few.len()];
            let mut changed = one.clone();
            if let State::Pending(pending) = &mut changed.state {
                pending.delivery = u32::try_from(step).unwrap();
            }
            let is_removed = step % 3 == 2;
            // Others write it, and now and then its reader itself.
            let mut others = Bucket::of("t/", &one.key);
            let writer = if step % 4 == 1 { &mut bucket } else { &mut others };
            writer
                .update(&mut store, &one.key, |_| match is_removed {
                    true => Change::Remove(()),
                    false => Change::Put(Box::new(changed.clone()), ()),
                })
                .unwrap();
            match is_removed {
                true => there.remove(&one.key.id()),
                false => there.insert(one.key.id()),
            };
            bucket.read(&mut store).unwrap();
            assert_eq!(ids(&bucket), there);
            assert_eq!(bucket.find(&one.key), (!is_removed).then_some(&changed));
        }
    }

    #[test]
    fn a_bucket_that_has_gone_is_empty() {
        let mut store = Memory::default();
        let one = record(1);
        let mut bucket = Bucket::of("t/", &one.key);
        bucket.update(&mut store, &one.key, |_| Change::Put(Box::new(one.clone()), ())).unwrap();
        assert_eq!(bucket.find(&one.key), Some(&one));
        store.keys.clear();
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&one.key), None);
    }
}
