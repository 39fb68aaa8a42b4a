//! Where the checks of one instance live, and which bucket holds which.

use super::{BUCKETS, Bucket, Cas, Store, StoreError, TRIES};
use crate::check::CheckKey;
use siphasher::sip::SipHasher24;

/// The ledger of one instance: what its keys begin with, and the key of the hash that spreads checks over its buckets.
#[derive(Clone, Debug)]
pub struct Ledger {
    prefix: String,
    hasher: SipHasher24,
}

const HASH_KEY: usize = 16;

impl Ledger {
    /// Opens the ledger of the instance whose keys begin with `prefix`. The first to open it in a process draws the hash's
    /// key and leaves it in shared data for the others.
    ///
    /// # Errors
    /// The host's status, or [`StoreError::UNREADABLE`] where something else than a key stands in its place.
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

    /// A ledger whose hash has this key.
    pub fn with_key(prefix: &str, key: &[u8; HASH_KEY]) -> Ledger {
        Ledger { prefix: prefix.into(), hasher: SipHasher24::new_with_key(key) }
    }

    /// What the instance's keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A hash of these parts, with the process's own key; another one for each `what`.
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
        u16::try_from(self.hasher.hash(&key.bytes()) % u64::from(BUCKETS)).unwrap_or_default()
    }

    /// The bucket that a check lives in, unread and for this check alone.
    pub fn bucket(&self, key: &CheckKey) -> Bucket {
        Bucket::unread(bucket_key(&self.prefix, self.bucket_of(key)), Some(*key))
    }

    /// All buckets, unread, in the order of their numbers.
    pub fn buckets(&self) -> Vec<Bucket> {
        Ledger::buckets_of(&self.prefix)
    }

    /// The same for who does not look for one check: nothing has to be opened for it.
    pub fn buckets_of(prefix: &str) -> Vec<Bucket> {
        (0..BUCKETS).map(|bucket| Bucket::unread(bucket_key(prefix, bucket), None)).collect()
    }
}

/// The name of a bucket in shared data.
pub(super) fn bucket_key(prefix: &str, bucket: u16) -> String {
    format!("{prefix}checks/{bucket:03}")
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
    fn what_is_no_hash_key_is_not_taken_for_one() {
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
