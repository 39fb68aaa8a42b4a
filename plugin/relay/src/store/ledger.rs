//! The ledger: every pending check, in the host's shared data, which outlives VMs.
//!
//! A check lives in the bucket that a keyed hash of its key names, so finding a duplicate, inserting, replacing and
//! deleting are one compare-and-swap each. Shared data cannot delete keys, hence a fixed number of them. Senders choose
//! the checks' keys, but without the process's own hash key nobody can choose which of them share a bucket.

mod bucket;
mod home;
mod old_home;

pub use bucket::Bucket;
pub use home::Ledger;
pub(crate) use old_home::OldHome;

use crate::check::{CheckKey, Record};
use crate::json;
use std::fmt;
use std::ops::Range;

/// The host's shared data: a compare-and-swap store.
pub trait Store {
    /// The value of `key`, with the version to pass to [`Store::swap`]. `None` if it was never written.
    ///
    /// # Errors
    /// The host's status.
    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes `value` if `key` still has the version `seen`: the one that `get` returned, or `None` if `get` found
    /// nothing. False if it has another one by now.
    ///
    /// # Errors
    /// The host's status.
    fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError>;
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; empty if another program emptied the key.
    pub value: Vec<u8>,
    /// Its version.
    pub cas: Cas,
}

/// A version of a value. Each write makes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u32);

/// The status of a store operation that failed unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError(pub u32);

impl StoreError {
    /// The value exists but has no form that this version knows. The host never returns this number.
    pub const UNREADABLE: StoreError = StoreError(u32::MAX);
    /// Other contexts wrote the value all the time. The host never returns this number either.
    pub const BUSY: StoreError = StoreError(u32::MAX - 1);
}

/// Number of buckets: a constant, whatever the configuration, so that every version finds every check.
pub const BUCKETS: u16 = 256;

/// Maximum size of a record at acceptance, in bytes: a token of 8 KiB with every character escaped, and the rest of a
/// check with a margin.
pub const MAX_RECORD: usize = 24 << 10;
/// Maximum size of a record later, in bytes: it grows by further deliveries with their tokens, and by the check's
/// progress. The record must always find room: a change that is not stored is a check that is never decided.
const MAX_GROWN: usize = 8 * MAX_RECORD;

/// Records in a bucket from which on a new check replaces the oldest done one.
const MAX_RECORDS: usize = 64;
/// Maximum pending checks in a bucket. The limits of checks are far lower, so only an overshoot of them ends here.
const MAX_PENDING: usize = 256;
/// Maximum tries of a change while others write first.
pub(crate) const TRIES: u32 = 100;

/// The format of slots that this code writes: JSON of [`State`](crate::check::State).
const FORMAT: u8 = 1;

/// What an update does with a check's record.
pub enum Change<R> {
    /// Leave it.
    Keep(R),
    /// Write this one.
    Put(Box<Record>, R),
    /// Delete it.
    Remove(R),
}

/// Why the ledger did not take a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// The check's bucket has no room.
    Full,
    /// The record itself is too large.
    TooLarge,
    /// Other contexts wrote the bucket first, [`TRIES`] times.
    Busy,
    /// The host's store failed.
    Store(StoreError),
}

// A bucket's value is a version byte and its slots. A slot is the length of the part after this header (u32,
// little-endian), its format (a byte), the check's key (48 bytes) and JSON of the check's state. The key stands apart
// so that one check can be changed without reading the others. Slots of another format, and a remainder that is not a
// slot, are carried through untouched.

/// The version byte of a bucket. It keeps a bucket from being empty: an empty value would look like a deleted key.
const LAYOUT: u8 = 1;

const HEADER: usize = 5;
const KEY: usize = CheckKey::BYTES;

/// The name of one of many keys: its number, less than ten to the power of `DIGITS`, padded with zeros. Made without
/// `format!`, because some names are made for each check.
pub(crate) fn numbered_key<const DIGITS: usize>(prefix: &str, kind: &str, number: usize) -> String {
    let mut digits = [b'0'; DIGITS];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit += (left % 10) as u8;
        left /= 10;
    }
    [prefix, kind, std::str::from_utf8(&digits).unwrap_or_default()].concat()
}

/// The positions of the slots in a bucket's value, each with its header.
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

/// Whether a slot belongs to the check with this key and has the format that this code writes.
fn is_of(slot: &[u8], key: &[u8; KEY]) -> bool {
    slot.get(4) == Some(&FORMAT) && slot.get(HEADER..).is_some_and(|rest| rest.starts_with(key))
}

fn decoded(slot: &[u8]) -> Option<Record> {
    if slot.get(4) != Some(&FORMAT) {
        return None;
    }
    let (key, json) = slot.get(HEADER..)?.split_first_chunk::<KEY>()?;
    Some(Record { key: CheckKey::from_bytes(key)?, state: crate::json::read(json).ok()? })
}

/// Appends a record's slot of at most `most` bytes to a bucket's value.
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
            LedgerError::TooLarge => write!(f, "the check is larger than {} KiB", MAX_RECORD >> 10),
            LedgerError::Busy => f.write_str("other contexts wrote the ledger all the time"),
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
        /// Runs before each swap, in the role of a faster writer.
        pub(crate) rival: Option<fn(&mut Keys, u32)>,
    }

    impl Memory {
        /// Writes a value without comparing.
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
mod tests;
