//! The place of an instance's checks in shared data, and which bucket holds which check.

use super::{BUCKETS, Bucket, Cas, Store, StoreError, TRIES, numbered_key};
use crate::check::CheckKey;
use siphasher::sip::SipHasher24;

/// The ledger of one instance: the prefix of its keys, and the key of the hash that spreads checks over its buckets.
#[derive(Clone, Debug)]
pub struct Ledger {
    prefix: String,
    hasher: SipHasher24,
}

const HASH_KEY: usize = 16;

/// One bit for each bucket, in bytes.
const NOTES: usize = BUCKETS as usize / 8;

impl Ledger {
    /// Opens the ledger of the instance whose keys begin with `prefix`. The first to open it in a process draws the
    /// hash's key and leaves it in shared data for the others.
    ///
    /// # Errors
    /// The host's status, or [`StoreError::UNREADABLE`] if another value is in the key's place.
    pub fn open(
        store: &mut dyn Store,
        prefix: &str,
        draw: impl FnOnce() -> [u8; HASH_KEY],
    ) -> Result<Ledger, StoreError> {
        let name = format!("{prefix}hash-key");
        let mut draw = Some(draw);
        let mut own = None;
        for _ in 0..TRIES {
            let seen: Option<Cas> = match store.get(&name)? {
                Some(entry) if entry.value.is_empty() => Some(entry.cas),
                Some(entry) => {
                    let key = entry.value.first_chunk().filter(|_| entry.value.len() == HASH_KEY);
                    return key.map(|key| Ledger::with_key(prefix, key)).ok_or(StoreError::UNREADABLE);
                }
                None => None,
            };
            let key = match own.or_else(|| draw.take().map(|draw| draw())) {
                Some(key) => *own.insert(key),
                None => break,
            };
            if store.swap(&name, seen, &key)? {
                return Ok(Ledger::with_key(prefix, &key));
            }
        }
        Err(StoreError::UNREADABLE)
    }

    /// A ledger with this hash key.
    pub fn with_key(prefix: &str, key: &[u8; HASH_KEY]) -> Ledger {
        Ledger { prefix: prefix.into(), hasher: SipHasher24::new_with_key(key) }
    }

    /// The prefix of the instance's keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A hash of these parts with the process's own key, different for each `what`.
    pub(crate) fn keyed(&self, what: &str, parts: &[&str]) -> u64 {
        let mut bytes = what.as_bytes().to_vec();
        for part in parts {
            bytes.push(0);
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        self.hasher.hash(&bytes)
    }

    /// The number of the bucket that a check lives in.
    pub fn bucket_of(&self, key: &CheckKey) -> u16 {
        u16::try_from(self.hash(&key.bytes()) % u64::from(BUCKETS)).unwrap_or_default()
    }

    /// The process's keyed hash. It spreads values that callers choose, and callers cannot predict it.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash(bytes)
    }

    /// The bucket of a check, unread, for a reader of this check alone.
    pub fn bucket(&self, key: &CheckKey) -> Bucket {
        Bucket::unread(bucket_key(&self.prefix, self.bucket_of(key)), Some(*key))
    }

    /// Notes that a check's bucket has changed, for the leader's next tick. The leader's sweep makes up for a note that
    /// is lost with its writer or to a failure of shared data.
    ///
    /// # Errors
    /// The host's status.
    pub fn note(&self, store: &mut dyn Store, key: &CheckKey) -> Result<(), StoreError> {
        let number = usize::from(self.bucket_of(key));
        self.change_notes(store, |notes| {
            let byte = notes.get_mut(number / 8)?;
            let noted = *byte | 1 << (number % 8);
            (std::mem::replace(byte, noted) != noted).then_some(())
        })?;
        Ok(())
    }

    /// Takes the numbers of the buckets that were noted as changed.
    ///
    /// # Errors
    /// The host's status.
    pub fn take_notes(&self, store: &mut dyn Store) -> Result<Vec<u16>, StoreError> {
        let taken = self.change_notes(store, |notes| {
            let is_noted = |number: &u16| {
                let number = usize::from(*number);
                notes.get(number / 8).is_some_and(|byte| byte & (1 << (number % 8)) != 0)
            };
            let numbers: Vec<u16> = (0..BUCKETS).filter(is_noted).collect();
            *notes = [0; NOTES];
            (!numbers.is_empty()).then_some(numbers)
        })?;
        Ok(taken.unwrap_or_default())
    }

    /// Changes the notes; repeats this while others write first. If `change` returns `None`, they stay.
    fn change_notes<R>(
        &self,
        store: &mut dyn Store,
        mut change: impl FnMut(&mut [u8; NOTES]) -> Option<R>,
    ) -> Result<Option<R>, StoreError> {
        let name = [self.prefix.as_str(), "changed"].concat();
        for _ in 0..TRIES {
            let entry = store.get(&name)?;
            let seen = entry.as_ref().map(|entry| entry.cas);
            let found = entry.and_then(|entry| <[u8; NOTES]>::try_from(entry.value).ok());
            let mut notes = found.unwrap_or([0; NOTES]);
            let Some(result) = change(&mut notes) else { return Ok(None) };
            if store.swap(&name, seen, &notes)? {
                return Ok(Some(result));
            }
        }
        Err(StoreError::BUSY)
    }

    /// All buckets, unread, in order of their numbers.
    pub fn buckets(&self) -> Vec<Bucket> {
        Ledger::buckets_of(&self.prefix)
    }

    /// The same for a reader of all checks, for whom the ledger need not be opened.
    pub fn buckets_of(prefix: &str) -> Vec<Bucket> {
        (0..BUCKETS).map(|bucket| Bucket::unread(bucket_key(prefix, bucket), None)).collect()
    }
}

/// The name of a bucket in shared data.
pub(super) fn bucket_key(prefix: &str, bucket: u16) -> String {
    numbered_key::<3>(prefix, "checks/", bucket.into())
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::super::memory::Memory;
    use super::*;
    use crate::check::tests::record;
    use std::collections::BTreeMap;

    #[test]
    fn all_contexts_of_a_process_find_a_check_in_the_same_bucket() {
        let mut store = Memory::default();
        let first = Ledger::open(&mut store, "t/", || [7; 16]).unwrap();
        let second = Ledger::open(&mut store, "t/", || [8; 16]).unwrap();
        for n in 0..1_000 {
            let key = record(n).key;
            assert_eq!(first.bucket_of(&key), second.bucket_of(&key));
        }
    }

    #[test]
    fn a_rival_who_draws_the_hash_key_first_is_followed() {
        let rival = |keys: &mut BTreeMap<String, Entry>, write| {
            keys.entry("t/hash-key".into()).or_insert(Entry { value: vec![9; 16], cas: Cas(write) });
        };
        let mut store = Memory { rival: Some(rival), ..Memory::default() };
        let opened = Ledger::open(&mut store, "t/", || [7; 16]).unwrap();
        let key = record(1).key;
        assert_eq!(opened.bucket_of(&key), Ledger::with_key("t/", &[9; 16]).bucket_of(&key));
    }

    #[test]
    fn a_noted_bucket_is_taken_once_and_a_rival_loses_no_note() {
        let rival = |keys: &mut BTreeMap<String, Entry>, write| {
            if let Some(entry) = keys.get_mut("t/changed").filter(|entry| entry.value[31] & 0x80 == 0) {
                entry.value[31] |= 0x80;
                entry.cas = Cas(0x8000_0000 | write);
            }
        };
        let mut store = Memory::default();
        let ledger = Ledger::with_key("t/", &[7; 16]);
        assert_eq!(ledger.take_notes(&mut store), Ok(vec![]));
        let key = record(1).key;
        for _ in 0..2 {
            ledger.note(&mut store, &key).unwrap();
        }
        store.rival = Some(rival);
        ledger.note(&mut store, &record(2).key).unwrap();
        let mut noted = vec![ledger.bucket_of(&key), ledger.bucket_of(&record(2).key), 255];
        noted.sort_unstable();
        store.rival = None;
        assert_eq!(ledger.take_notes(&mut store), Ok(noted));
        assert_eq!(ledger.take_notes(&mut store), Ok(vec![]));
    }

    #[test]
    fn a_value_that_is_no_hash_key_is_refused() {
        let mut store = Memory::default();
        store.put("t/hash-key", b"short");
        assert!(Ledger::open(&mut store, "t/", || [7; 16]).is_err());
        store.put("t/hash-key", b"");
        assert!(Ledger::open(&mut store, "t/", || [7; 16]).is_ok());
    }

    #[test]
    fn keys_that_share_a_bucket_under_one_hash_key_are_spread_by_another() {
        let one = Ledger::with_key("t/", &[1; 16]);
        let other = Ledger::with_key("t/", &[2; 16]);
        let chosen = (0..100_000).map(|n| record(n).key).filter(|key| one.bucket_of(key) == 7).take(300);
        let mut spread: BTreeMap<u16, u32> = BTreeMap::new();
        for key in chosen {
            *spread.entry(other.bucket_of(&key)).or_default() += 1;
        }
        assert!(spread.len() > 100 && spread.values().all(|count| *count < 10), "{spread:?}");
    }
}
