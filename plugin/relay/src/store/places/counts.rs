//! The counters of one key of shared data, as bytes, because every check that comes or ends reads and writes them.
//!
//! A byte for the layout's version, then for each name that has a place: its length (u32, little-endian), the name, its
//! number of places (u32, little-endian). A value in any other form counts as nothing and is replaced by the next
//! write, so a version with another layout needs other keys.

use crate::store::ledger::{Cas, Store, StoreError};

/// The version byte. It keeps a value from being empty: an empty value would look like a deleted key.
const LAYOUT: u8 = 1;

/// The counters of one key, as read.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    key: String,
    cas: Option<Cas>,
    value: Vec<u8>,
}

impl Counts {
    pub(super) fn read(store: &mut dyn Store, key: String) -> Result<Counts, StoreError> {
        let mut counts = Counts { key, cas: None, value: Vec::new() };
        counts.read_again(store)?;
        Ok(counts)
    }

    pub(super) fn read_again(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let entry = store.get(&self.key)?;
        (self.cas, self.value) = entry.map(|entry| (Some(entry.cas), entry.value)).unwrap_or_default();
        Ok(())
    }

    /// Reads them again after its own write. False if they are no longer what was written.
    pub(super) fn read_own(&mut self, store: &mut dyn Store) -> Result<bool, StoreError> {
        let own = self.value.clone();
        self.read_again(store)?;
        Ok(self.value == own)
    }

    /// Writes the changed counters. False if another context wrote first.
    pub(super) fn write(&self, store: &mut dyn Store) -> Result<bool, StoreError> {
        store.swap(&self.key, self.cas, &self.value)
    }

    /// The version that was read.
    pub(super) fn cas(&self) -> Option<Cas> {
        self.cas
    }

    /// The names that have a place, and how many.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let mut rest = self.value.strip_prefix(&[LAYOUT]).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (name, behind) = behind.split_at_checked(length)?;
            let (count, behind) = behind.split_first_chunk::<4>()?;
            rest = behind;
            Some((name, u32::from_le_bytes(*count)))
        })
    }

    /// Number of places of this name.
    pub(super) fn of(&self, name: &[u8]) -> u32 {
        self.entries().find(|(other, _)| *other == name).map_or(0, |(_, count)| count)
    }

    /// Number of places of all names.
    pub(super) fn sum(&self) -> u32 {
        self.entries().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Adds a place. Names without a place are not listed, so a list is no longer than there are checks.
    pub(super) fn raise(&mut self, name: &[u8]) {
        self.set(name, self.of(name).saturating_add(1));
    }

    pub(super) fn set(&mut self, name: &[u8], count: u32) {
        let mut value = Vec::with_capacity(self.value.len() + name.len() + 9);
        value.push(LAYOUT);
        let others = self.entries().filter(|(other, _)| *other != name);
        for (name, count) in others.chain((count > 0).then_some((name, count))) {
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            value.extend_from_slice(&length.to_le_bytes());
            value.extend_from_slice(name);
            value.extend_from_slice(&count.to_le_bytes());
        }
        self.value = value;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ledger::memory::Memory;
    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_what_has_places_takes_room() {
        let mut store = Memory::default();
        let mut counts = Counts::read(&mut store, "t".into()).unwrap();
        for name in ["", "a", "bc", "a"] {
            counts.raise(name.as_bytes());
        }
        assert!(counts.write(&mut store).unwrap());
        let mut read = Counts::read(&mut store, "t".into()).unwrap();
        let all = |counts: &Counts| -> Vec<(String, u32)> {
            counts.entries().map(|(name, count)| (String::from_utf8_lossy(name).into(), count)).collect()
        };
        assert_eq!(all(&read), [("".into(), 1), ("bc".into(), 1), ("a".into(), 2)]);
        assert_eq!((read.sum(), read.of(b"a"), read.of(b"b")), (4, 2, 0));
        for name in ["", "a", "bc"] {
            read.set(name.as_bytes(), 0);
        }
        assert_eq!(read.value, [LAYOUT]);
        assert!(read.write(&mut store).unwrap());
        assert!(!counts.write(&mut store).unwrap(), "that was read before");
    }

    #[test]
    fn what_is_no_list_of_counters_counts_as_nothing_and_is_replaced() {
        let mut store = Memory::default();
        for wrong in [&b""[..], b"{}", &[LAYOUT, 255, 255, 255, 255, 1], &[LAYOUT, 1, 0, 0, 0, b'a', 1]] {
            store.put("t", wrong);
            let mut counts = Counts::read(&mut store, "t".into()).unwrap();
            assert_eq!(counts.sum(), 0, "{wrong:?}");
            counts.raise(b"a");
            assert!(counts.write(&mut store).unwrap());
            assert_eq!(Counts::read(&mut store, "t".into()).unwrap().of(b"a"), 1);
        }
    }
}
