//! One bucket, as its reader remembers it.

use super::{BUCKETS, Cas, Store, StoreError, bucket_key, bucket_of, decoded, slots};
use crate::check::{CheckKey, Record};

/// A bucket and what was last read of it, as far as this version understands it.
///
/// A leader reads all buckets again and again, and most of them have not changed: so the key is made once, and a record is
/// parsed again only when its bytes have changed.
#[derive(Clone, Debug)]
pub struct Bucket {
    key: String,
    /// Its version; `None`: never read, or never written.
    cas: Option<Cas>,
    records: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    slot: Vec<u8>,
    record: Record,
}

impl Bucket {
    /// All buckets of the instance whose keys begin with `prefix`, unread.
    pub fn all(prefix: &str) -> Vec<Bucket> {
        (0..BUCKETS).map(|bucket| Bucket::unread(prefix, bucket)).collect()
    }

    /// The one that a check lives in, unread.
    pub fn of(prefix: &str, key: &CheckKey) -> Bucket {
        Bucket::unread(prefix, bucket_of(key))
    }

    fn unread(prefix: &str, bucket: u16) -> Bucket {
        Bucket { key: bucket_key(prefix, bucket), cas: None, records: Vec::new() }
    }

    /// Reads what stands there now.
    ///
    /// # Errors
    /// The host's status; then it remembers what it did before.
    pub fn read(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let Some(entry) = store.get(&self.key)? else {
            (self.cas, self.records) = (None, Vec::new());
            return Ok(());
        };
        if self.cas == Some(entry.cas) {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.records);
        self.cas = Some(entry.cas);
        self.records = slots(&entry.value)
            .filter_map(|slot| match before.iter().position(|known| known.slot == slot) {
                Some(at) => Some(before.remove(at)),
                None => Some(Known { slot: slot.to_vec(), record: decoded(slot)? }),
            })
            .collect();
        Ok(())
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|known| &known.record)
    }

    /// The record of a check.
    pub fn find(&self, key: &CheckKey) -> Option<&Record> {
        self.records().find(|record| record.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::{Change, Ledger};
    use super::*;
    use crate::check::State;
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
        let mut bucket = Bucket::of("t/", &few[0].key);
        let mut there = BTreeSet::new();
        for step in 0..200 {
            let one = &few[step * 7 % few.len()];
            let mut changed = one.clone();
            if let State::Pending(pending) = &mut changed.state {
                pending.delivery = u32::try_from(step).unwrap();
            }
            let is_removed = step % 3 == 2;
            Ledger::new(&mut store, "t/")
                .update(&one.key, |_| match is_removed {
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
        Ledger::new(&mut store, "t/").update(&one.key, |_| Change::Put(Box::new(one.clone()), ())).unwrap();
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&one.key), Some(&one));
        store.keys.clear();
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&one.key), None);
    }
}
