//! Shared data in memory, which refuses what Envoy's would take amiss.

use std::collections::BTreeMap;
use testrelay::store::ledger::{Cas, Entry, Store, StoreError};

/// Shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    keys: BTreeMap<String, Entry>,
    writes: u32,
}

impl Memory {
    /// Writes a value from outside, whatever stands there.
    pub(crate) fn set(&mut self, key: &str, value: &[u8]) {
        self.writes += 1;
        self.keys.insert(key.into(), Entry { value: value.to_vec(), cas: Cas(self.writes) });
    }

    /// What stands under a key; empty if nothing.
    pub(crate) fn value(&self, key: &str) -> &[u8] {
        self.keys.get(key).map_or(&[], |entry| &entry.value)
    }

    /// The keys that were ever written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }
}

impl Store for Memory {
    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.keys.get(key).cloned())
    }

    fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError> {
        assert!(!value.is_empty(), "an empty value deletes the key {key}");
        assert_ne!(seen, Some(Cas(0)), "cas 0 overwrites {key} blindly");
        if self.keys.get(key).map(|entry| entry.cas) != seen {
            return Ok(false);
        }
        self.set(key, value);
        Ok(true)
    }
}
