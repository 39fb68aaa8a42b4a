//! The place where the first modules of version 0.1.0 kept their checks: buckets by an unkeyed hash, under keys of
//! their own.
//!
//! During an update the old module's contexts run beside the new one's until the old listener has drained, and may
//! still accept checks there. These are moved: first written to the new home, then removed from the old one. If a check
//! is in both, the new one counts.

use super::{BUCKETS, Bucket, Change, Ledger, LedgerError, Store, StoreError, numbered_key};
use crate::check::{CheckKey, Record};
use crate::hash::fnv1a;

/// The old home of an instance's checks.
#[derive(Debug)]
pub(crate) struct OldHome {
    buckets: Vec<Bucket>,
}

impl OldHome {
    /// The old home of the instance whose keys begin with `prefix`, unread.
    pub(crate) fn of(prefix: &str) -> OldHome {
        OldHome { buckets: (0..BUCKETS).map(|bucket| Bucket::unread(name(prefix, bucket), None)).collect() }
    }

    /// The record of one check, if it is still there.
    ///
    /// # Errors
    /// The host's status.
    pub(crate) fn find(
        store: &mut dyn Store,
        prefix: &str,
        key: &CheckKey,
    ) -> Result<Option<Record>, StoreError> {
        let mut bucket = bucket(prefix, key);
        bucket.read(store)?;
        Ok(bucket.find(key).cloned())
    }

    /// Removes one check.
    ///
    /// # Errors
    /// Why it stays.
    pub(crate) fn remove(store: &mut dyn Store, prefix: &str, key: &CheckKey) -> Result<(), LedgerError> {
        bucket(prefix, key).update(store, key, |found| match found {
            Some(_) => Change::Remove(()),
            None => Change::Keep(()),
        })
    }

    /// Moves all checks to `ledger`. Returns the number of moved checks.
    ///
    /// # Errors
    /// Why some of them stay. They are found again the next time.
    pub(crate) fn move_to(&mut self, store: &mut dyn Store, ledger: &Ledger) -> Result<u32, LedgerError> {
        let mut moved = 0;
        for old in &mut self.buckets {
            old.read(store).map_err(LedgerError::Store)?;
            let records: Vec<Record> = old.records().cloned().collect();
            for record in records {
                let key = record.key;
                let is_new = ledger.bucket(&key).update(store, &key, |found| match found {
                    Some(_) => Change::Keep(false),
                    None => Change::Put(Box::new(record.clone()), true),
                })?;
                ledger.note(store, &key).map_err(LedgerError::Store)?;
                old.update(store, &key, |_| Change::Remove(()))?;
                moved += u32::from(is_new);
            }
        }
        Ok(moved)
    }
}

fn bucket(prefix: &str, key: &CheckKey) -> Bucket {
    let number = u16::try_from(fnv1a(&key.bytes()) % u64::from(BUCKETS)).unwrap_or_default();
    Bucket::unread(name(prefix, number), Some(*key))
}

fn name(prefix: &str, bucket: u16) -> String {
    numbered_key::<3>(prefix, "pending/", bucket.into())
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::check::State;
    use crate::check::tests::record;

    /// The keys and values, in hexadecimal, that a module of version 0.1.0 wrote for six checks, one in each phase.
    const WRITTEN: &str = include_str!("fixtures/0.1.0-format-1.hex");

    fn written() -> Memory {
        let mut store = Memory::default();
        for line in WRITTEN.lines() {
            let (name, hex) = line.split_once(' ').unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let value: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            store.put(&format!("t/{name}"), &value);
        }
        store
    }

    #[test]
    fn what_an_older_module_wrote_is_read_and_moved_once() {
        let mut store = written();
        let ledger = Ledger::with_key("t/", &[3; 16]);
        for n in 1..=6 {
            assert!(OldHome::find(&mut store, "t/", &record(n).key).unwrap().is_some(), "{n}");
        }
        let mut old = OldHome::of("t/");
        assert_eq!(old.move_to(&mut store, &ledger), Ok(6));
        assert_eq!(old.move_to(&mut store, &ledger), Ok(0));
        let mut pending = 0;
        for n in 1..=6 {
            let key = record(n).key;
            assert_eq!(OldHome::find(&mut store, "t/", &key).unwrap(), None);
            let mut bucket = ledger.bucket(&key);
            bucket.read(&mut store).unwrap();
            pending += u32::from(matches!(bucket.find(&key).unwrap().state, State::Pending(_)));
        }
        assert_eq!(pending, 5);
    }

    #[test]
    fn of_a_check_in_both_homes_the_new_one_counts() {
        let mut store = written();
        let ledger = Ledger::with_key("t/", &[3; 16]);
        let newer = record(1);
        ledger
            .bucket(&newer.key)
            .update(&mut store, &newer.key, |_| Change::Put(Box::new(newer.clone()), ()))
            .unwrap();
        assert_eq!(OldHome::of("t/").move_to(&mut store, &ledger), Ok(5));
        let mut bucket = ledger.bucket(&newer.key);
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&newer.key), Some(&newer));
    }
}
