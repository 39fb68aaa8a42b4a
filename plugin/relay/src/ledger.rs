//! The ledger: every pending check, in the host's shared data, which outlives VMs.
//!
//! A check lives in the bucket that the hash of its key names, so that finding a duplicate, inserting, replacing and
//! deleting are one compare-and-swap each. Shared data cannot delete keys, hence a fixed number of them.

mod bucket;

pub use bucket::Bucket;

use crate::check::{CheckKey, Record};
use crate::json;
use std::fmt;
use std::ops::Range;

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

/// The bucket that a check lives in.
pub fn bucket_of(key: &CheckKey) -> u16 {
    u16::try_from(key.hash() % u64::from(BUCKETS)).unwrap_or_default()
}

/// The most bytes one record may take when it is accepted: two tokens of 3 KiB, and the rest of a check with room to spare.
pub const MOST_RECORD: usize = 12 << 10;
/// What a record may grow to once it was accepted. What a check has gone through must always find room: a change that is
/// not stored is a check that is never decided.
const MOST_GROWN: usize = 2 * MOST_RECORD;

const MOST_RECORDS: usize = 64;
const MOST_BUCKET: usize = 256 << 10;
const TRIES: u32 = 100;

/// The format of slots that this code writes: JSON of [`State`](crate::check::State).
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

fn bucket_key(prefix: &str, bucket: u16) -> String {
    format!("{prefix}pending/{bucket:03}")
}

// A bucket's value is a version byte and its slots. A slot is its length after this header (u32, little-endian), its
// format (a byte), the check's key (48 bytes) and JSON of the check's state. The key stands apart so that one check can be
// changed without reading the others. Slots of another format, and a remainder that is none, are carried through untouched.

/// The version byte of a bucket. With it a bucket is never empty: an empty value would look like a deleted key.
const LAYOUT: u8 = 1;

const HEADER: usize = 5;
const KEY: usize = CheckKey::BYTES;

/// Where the slots of a bucket's value stand in it, each with its header.
fn slots(value: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = value.len().min(1);
    std::iter::from_fn(move || {
        let rest = value.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.first_chunk::<4>().and_then(|n| usize::try_from(u32::from_le_bytes(*n)).ok());
        let end = length.and_then(|n| n.checked_add(start)?.checked_add(HEADER));
        let slot = start..end.filter(|end| *end <= value.len()).unwrap_or(value.len());
        start = slot.end;
        Some(slot)
    })
}

/// Whether a slot is one of the check with this key, in the format that this code writes.
fn is_of(slot: &[u8], key: &[u8; KEY]) -> bool {
    slot.get(4) == Some(&FORMAT) && slot.get(HEADER..).is_some_and(|rest| rest.starts_with(key))
}

fn decoded(slot: &[u8]) -> Option<Record> {
    if slot.get(4) != Some(&FORMAT) {
        return None;
    }
    let (key, json) = slot.get(HEADER..)?.split_first_chunk::<KEY>()?;
    Some(Record { key: CheckKey::from_bytes(key)?, state: serde_json::from_slice(json).ok()? })
}

/// Adds a record's slot to a bucket's value, if it has at most `most` bytes.
fn encode(record: &Record, most: usize, value: &mut Vec<u8>) -> Result<(), LedgerError> {
    let start = value.len();
    value.extend_from_slice(&[0, 0, 0, 0, FORMAT]);
    value.extend_from_slice(&record.key.bytes());
    json::add(&record.state, value).map_err(|_| LedgerError::TooLarge)?;
    let length = value.len().saturating_sub(start + HEADER);
    if length > KEY + most {
        return Err(LedgerError::TooLarge);
    }
    let length = u32::try_from(length).map_err(|_| LedgerError::TooLarge)?;
    if let Some(place) = value.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *place = length.to_le_bytes();
    }
    Ok(())
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

    impl Memory {
        /// Somebody writes a value blindly.
        pub(crate) fn put(&mut self, key: &str, value: &[u8]) {
            self.writes += 1;
            self.keys.insert(key.into(), Entry { value: value.to_vec(), cas: Cas(self.writes) });
        }
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
        put(store, &record(n))
    }

    fn put(store: &mut Memory, record: &Record) -> Result<(), LedgerError> {
        update(store, &record.key, |_| Change::Put(Box::new(record.clone()), ()))
    }

    fn update<R>(
        store: &mut Memory,
        key: &CheckKey,
        change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        Bucket::of("t/", key).update(store, key, change)
    }

    #[test]
    fn what_is_put_is_found_and_what_is_removed_is_gone() {
        let mut store = Memory::default();
        for n in 0..500 {
            insert(&mut store, n).unwrap();
        }
        for n in 0..500 {
            let key = record(n).key;
            assert!(update(&mut store, &key, |found| Change::Keep(found == Some(&record(n)))).unwrap());
            update(&mut store, &key, |_| Change::Remove(())).unwrap();
            assert!(update(&mut store, &key, |found| Change::Keep(found.is_none())).unwrap());
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
        insert(&mut store, 1).unwrap();
        update(&mut store, &record(1).key, |_| Change::Remove(())).unwrap();
        let value = &store.keys[&key].value;
        assert_eq!(value[1..], [&foreign[..], b"\xff\xff"].concat());
    }

    #[test]
    fn a_readable_record_behind_an_unreadable_one_of_the_same_check_is_changed() {
        let mut store = Memory::default();
        insert(&mut store, 1).unwrap();
        let key = store.keys.keys().next().unwrap().clone();
        let bad = [&51u32.to_le_bytes()[..], &[FORMAT], &record(1).key.bytes(), b"{} "].concat();
        store.keys.get_mut(&key).unwrap().value.splice(1..1, bad);
        let mut bucket = Bucket::of("t/", &record(1).key);
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&record(1).key), Some(&record(1)));
        let found = update(&mut store, &record(1).key, |found| Change::Keep(found.cloned()));
        assert_eq!(found, Ok(Some(record(1))), "what is read is what is changed");
    }

    #[test]
    fn what_was_accepted_may_grow_in_a_full_bucket() {
        let mut store = Memory::default();
        let numbers = (0..100_000).filter(|n| bucket_of(&record(*n).key) == 7).take(64).collect::<Vec<_>>();
        let with = |number: u32, bytes: usize| {
            let mut record = record(number);
            record.make_large(bytes);
            record
        };
        let accepted =
            numbers.iter().take_while(|n| put(&mut store, &with(**n, MOST_RECORD / 2)).is_ok()).count();
        assert!((20..64).contains(&accepted), "not full by bytes: {accepted}");
        for number in &numbers[..accepted] {
            assert_eq!(put(&mut store, &with(*number, MOST_RECORD + 1000)), Ok(()), "{number}");
        }
        assert_eq!(put(&mut store, &with(numbers[0], MOST_GROWN)), Err(LedgerError::TooLarge));
    }

    #[test]
    fn a_bucket_has_a_bound_and_so_has_a_record() {
        let mut store = Memory::default();
        let full = (0..100_000).filter(|n| bucket_of(&record(*n).key) == 7).take(65).collect::<Vec<_>>();
        let results: Vec<_> = full.iter().map(|n| insert(&mut store, *n)).collect();
        assert!(results[..64].iter().all(Result::is_ok));
        assert_eq!(results[64], Err(LedgerError::Full));
        let mut large = record(1);
        large.make_large(MOST_RECORD);
        assert_eq!(put(&mut store, &large), Err(LedgerError::TooLarge));
    }
}
