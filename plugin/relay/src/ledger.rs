//! The ledger: every pending check, in the host's shared data, which outlives VMs.
//!
//! A check lives in the bucket that the hash of its key names, so that finding a duplicate, inserting, replacing and
//! deleting are one compare-and-swap each. Shared data cannot delete keys, hence a fixed number of them.

use crate::check::{CheckKey, Record};
use std::fmt;

/// The host's shared data: a compare-and-swap store.
pub trait Store {
    /// The value of `key`, with the number that a later [`Store::swap`] must name. `None`: never written.
    ///
    /// # Errors
    /// The host's status.
    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes `value` if `key` still is as `seen` says: the number that `get` gave, or `None` where it found nothing.
    /// False: somebody else was faster.
    ///
    /// # Errors
    /// The host's status.
    fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError>;
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; empty where another program emptied the key.
    pub value: Vec<u8>,
    /// Its version.
    pub cas: Cas,
}

/// A version of a value; another one after each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u32);

/// The host's status of a store operation that should not fail and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError(pub u32);

/// How many buckets there are: a constant, whatever the configuration, so that every version finds every check.
pub const BUCKETS: u16 = 256;

/// The most bytes one record may take: two tokens of 3 KiB, and the rest of a check with room to spare.
pub const MOST_RECORD: usize = 12 << 10;

const MOST_RECORDS: usize = 64;
const MOST_BUCKET: usize = 256 << 10;
const TRIES: u32 = 100;

/// The format of records that this code writes: JSON of [`Record`].
const FORMAT: u8 = 1;

/// What an update does with a check's record.
pub enum Change<R> {
    /// Nothing.
    Keep(R),
    /// Writes this one.
    Put(Box<Record>, R),
    /// Deletes it.
    Remove(R),
}

/// Why the ledger did not take a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// The check's bucket has no room.
    Full,
    /// The record itself is too large.
    TooLarge,
    /// Others wrote the bucket a hundred times in between.
    Busy,
    /// The host failed.
    Store(StoreError),
}

/// The ledger of one instance.
pub struct Ledger<'a> {
    store: &'a mut dyn Store,
    prefix: &'a str,
}

/// One bucket as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its version; `None`: never written.
    pub cas: Option<Cas>,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Known(Box<Record>),
    /// Another version's record, or a remainder that cannot be read: carried through untouched.
    Foreign(Vec<u8>),
}

impl<'a> Ledger<'a> {
    /// The ledger whose keys begin with `prefix`.
    pub fn new(store: &'a mut dyn Store, prefix: &'a str) -> Ledger<'a> {
        Ledger { store, prefix }
    }

    /// Reads a bucket, unless it still has the version `known`, for which it answers `None`.
    ///
    /// # Errors
    /// The host's status.
    pub fn read(&mut self, bucket: u16, known: Option<Cas>) -> Result<Option<Bucket>, StoreError> {
        Ok(match self.store.get(&self.bucket_key(bucket))? {
            None => Some(Bucket::default()),
            Some(entry) if Some(entry.cas) == known => None,
            Some(entry) => Some(Bucket::decode(&entry)),
        })
    }

    /// Applies `change` to what stands under `key`, again and again until nobody was faster.
    ///
    /// # Errors
    /// Why not; then nothing was written.
    pub fn update<R>(
        &mut self,
        key: &CheckKey,
        mut change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        let bucket_key = self.bucket_key(key.bucket());
        for _ in 0..TRIES {
            let entry = self.store.get(&bucket_key).map_err(LedgerError::Store)?;
            let mut bucket = entry.as_ref().map(Bucket::decode).unwrap_or_default();
            let result = match change(bucket.find(key)) {
                Change::Keep(result) => return Ok(result),
                Change::Remove(result) => {
                    bucket.remove(key);
                    result
                }
                Change::Put(record, result) => {
                    bucket.put(record)?;
                    result
                }
            };
            let bytes = bucket.encode()?;
            if self.store.swap(&bucket_key, bucket.cas, &bytes).map_err(LedgerError::Store)? {
                return Ok(result);
            }
        }
        Err(LedgerError::Busy)
    }

    fn bucket_key(&self, bucket: u16) -> String {
        format!("{}pending/{bucket:03}", self.prefix)
    }
}

impl Bucket {
    /// The records that this version understands.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Known(record) => Some(record.as_ref()),
            Slot::Foreign(_) => None,
        })
    }

    /// The record of a check.
    pub fn find(&self, key: &CheckKey) -> Option<&Record> {
        self.records().find(|record| record.key == *key)
    }

    fn put(&mut self, record: Box<Record>) -> Result<(), LedgerError> {
        let full = self.slots.len() >= MOST_RECORDS;
        let own =
            self.slots.iter_mut().find(|slot| matches!(slot, Slot::Known(other) if other.key == record.key));
        match own {
            Some(slot) => *slot = Slot::Known(record),
            None if full => return Err(LedgerError::Full),
            None => self.slots.push(Slot::Known(record)),
        }
        Ok(())
    }

    fn remove(&mut self, key: &CheckKey) {
        self.slots.retain(|slot| !matches!(slot, Slot::Known(record) if record.key == *key));
    }

    /// The version byte, then for each record its length (u32, little-endian), format and bytes. Never empty: an empty
    /// value would make the store's key look as if somebody had deleted it.
    fn encode(&self) -> Result<Vec<u8>, LedgerError> {
        let mut out = vec![FORMAT];
        for slot in &self.slots {
            match slot {
                Slot::Foreign(bytes) => out.extend_from_slice(bytes),
                Slot::Known(record) => {
                    let json = serde_json::to_vec(record).map_err(|_| LedgerError::TooLarge)?;
                    let length = u32::try_from(json.len()).map_err(|_| LedgerError::TooLarge)?;
                    if json.len() > MOST_RECORD {
                        return Err(LedgerError::TooLarge);
                    }
                    out.extend_from_slice(&length.to_le_bytes());
                    out.push(FORMAT);
                    out.extend_from_slice(&json);
                }
            }
        }
        if out.len() > MOST_BUCKET { Err(LedgerError::Full) } else { Ok(out) }
    }

    fn decode(entry: &Entry) -> Bucket {
        let mut slots = Vec::new();
        let mut rest = entry.value.get(1..).unwrap_or_default();
        while !rest.is_empty() {
            let length =
                rest.first_chunk::<4>().and_then(|bytes| usize::try_from(u32::from_le_bytes(*bytes)).ok());
            let whole = length.and_then(|length| rest.split_at_checked(length.checked_add(5)?));
            let Some((slot, after)) = whole else {
                slots.push(Slot::Foreign(rest.to_vec()));
                break;
            };
            let known = slot.get(4).filter(|format| **format == FORMAT).and(slot.get(5..));
            slots.push(match known.and_then(|json| serde_json::from_slice(json).ok()) {
                Some(record) => Slot::Known(record),
                None => Slot::Foreign(slot.to_vec()),
            });
            rest = after;
        }
        Bucket { cas: Some(entry.cas), slots }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Full => f.write_str("the ledger has no room for this check"),
            LedgerError::TooLarge => write!(f, "the check is larger than {} KiB", MOST_RECORD >> 10),
            LedgerError::Busy => f.write_str("the ledger was written by others all the time"),
            LedgerError::Store(StoreError(status)) => {
                write!(f, "Envoy's shared data failed with status {status}")
            }
        }
    }
}

/// A store in memory, for tests.
#[cfg(test)]
pub(crate) mod memory {
    use super::*;
    use std::collections::BTreeMap;

    type Keys = BTreeMap<String, Entry>;

    #[derive(Default)]
    pub(crate) struct Memory {
        pub(crate) keys: Keys,
        pub(crate) writes: u32,
        /// Runs before each swap: somebody who is faster.
        pub(crate) rival: Option<fn(&mut Keys, u32)>,
    }

    impl Store for Memory {
        fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
            Ok(self.keys.get(key).cloned())
        }

        fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError> {
            assert!(!value.is_empty(), "an empty value deletes");
            self.writes += 1;
            if let Some(rival) = self.rival {
                rival(&mut self.keys, self.writes);
            }
            if self.keys.get(key).map(|entry| entry.cas) != seen {
                return Ok(false);
            }
            self.keys.insert(key.into(), Entry { value: value.to_vec(), cas: Cas(self.writes) });
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::Memory;
    use super::*;
    use crate::check::tests::record;

    fn insert(store: &mut Memory, n: u32) -> Result<(), LedgerError> {
        let record = record(n);
        Ledger::new(store, "t/").update(&record.key.clone(), |_| Change::Put(Box::new(record.clone()), ()))
    }

    #[test]
    fn what_is_put_is_found_and_what_is_removed_is_gone() {
        let mut store = Memory::default();
        for n in 0..500 {
            insert(&mut store, n).unwrap();
        }
        let mut ledger = Ledger::new(&mut store, "t/");
        for n in 0..500 {
            let key = record(n).key;
            assert!(ledger.update(&key, |found| Change::Keep(found == Some(&record(n)))).unwrap());
            ledger.update(&key, |_| Change::Remove(())).unwrap();
            assert!(ledger.update(&key, |found| Change::Keep(found.is_none())).unwrap());
        }
        assert!(store.keys.len() <= usize::from(BUCKETS));
    }

    #[test]
    fn a_faster_rival_is_read_again_and_never_overwritten() {
        let mut store = Memory::default();
        insert(&mut store, 1).unwrap();
        store.rival = Some(|keys, write| {
            if write < 50 {
                for entry in keys.values_mut() {
                    entry.cas = Cas(1_000 + write);
                }
            }
        });
        insert(&mut store, 1).unwrap();
        assert!(store.writes >= 50);
        store.rival = Some(|keys, write| {
            for entry in keys.values_mut() {
                entry.cas = Cas(1_000 + write);
            }
        });
        assert_eq!(insert(&mut store, 1), Err(LedgerError::Busy));
    }

    #[test]
    fn records_of_another_format_are_carried_through() {
        let mut store = Memory::default();
        insert(&mut store, 1).unwrap();
        let key = store.keys.keys().next().unwrap().clone();
        let foreign = [&3u32.to_le_bytes()[..], &[9], b"new"].concat();
        let entry = store.keys.get_mut(&key).unwrap();
        entry.value.extend_from_slice(&foreign);
        entry.value.extend_from_slice(b"\xff\xff");
        let mut changed = record(1);
        changed.key = record(1).key;
        Ledger::new(&mut store, "t/").update(&changed.key.clone(), |_| Change::Remove(())).unwrap();
        let value = &store.keys[&key].value;
        assert_eq!(value[1..], [&foreign[..], b"\xff\xff"].concat());
    }

    #[test]
    fn a_bucket_has_a_bound_and_so_has_a_record() {
        let mut store = Memory::default();
        let full = (0..100_000).filter(|n| record(*n).key.bucket() == 7).take(65).collect::<Vec<_>>();
        let results: Vec<_> = full.iter().map(|n| insert(&mut store, *n)).collect();
        assert!(results[..64].iter().all(Result::is_ok));
        assert_eq!(results[64], Err(LedgerError::Full));
        let mut large = record(1);
        large.make_large(MOST_RECORD);
        let put = Ledger::new(&mut store, "t/")
            .update(&large.key.clone(), |_| Change::Put(Box::new(large.clone()), ()));
        assert_eq!(put, Err(LedgerError::TooLarge));
    }
}
