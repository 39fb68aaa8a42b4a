//! Envoy's shared data: one table for all threads of the process (proxy-wasm-cpp-host `src/shared_data.cc`).

use std::collections::BTreeMap;
use std::rc::Rc;

/// The table of one vm_id.
#[derive(Debug, Default)]
pub struct SharedData {
    entries: BTreeMap<Vec<u8>, (Rc<[u8]>, u32)>,
    last_cas: u32,
    /// Of keys and values together.
    bytes: usize,
}

impl SharedData {
    /// The value and its cas. An emptied key still exists, with an empty value: nothing removes a key (cpp-host#426).
    pub fn get(&self, key: &[u8]) -> Option<(Rc<[u8]>, u32)> {
        self.entries.get(key).cloned()
    }

    /// Writes a value. A missing key ignores `cas`; 0 overwrites whatever is there; any other number must be the entry's
    /// own. False: CasMismatch.
    pub fn set(&mut self, key: &[u8], value: &[u8], cas: u32) -> bool {
        let next = next_cas(self.last_cas);
        match self.entries.get_mut(key) {
            Some((_, current)) if cas != 0 && cas != *current => return false,
            Some(entry) => {
                self.bytes = self.bytes - entry.0.len() + value.len();
                *entry = (value.into(), next);
            }
            None => {
                self.bytes += key.len() + value.len();
                self.entries.insert(key.to_vec(), (value.into(), next));
            }
        }
        self.last_cas = next;
        true
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, (value, _))| (key.as_slice(), &value[..]))
    }

    /// How many keys there are, and how many bytes keys and values have together.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// The last VM with this vm_id has gone.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

/// 0 is no entry's cas.
fn next_cas(last: u32) -> u32 {
    last.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_takes_any_cas_and_an_existing_one_only_its_own_or_zero() {
        let mut data = SharedData::default();
        assert!(data.set(b"k", b"1", u32::MAX));
        assert!(!data.set(b"k", b"2", u32::MAX));
        let (_, cas) = data.get(b"k").unwrap();
        assert!(data.set(b"k", b"2", cas));
        assert!(!data.set(b"k", b"3", cas));
        assert!(data.set(b"k", b"3", 0));
        assert_eq!(&data.get(b"k").unwrap().0[..], b"3");
    }

    #[test]
    fn an_emptied_key_stays() {
        let mut data = SharedData::default();
        assert!(data.set(b"k", b"1", 7) && data.set(b"k", b"", 0));
        assert!(!data.set(b"k", b"2", u32::MAX));
        assert_eq!(data.size(), (1, 1));
        assert!(data.set(b"k", b"four", 0) && data.set(b"l", b"2", 0));
        assert_eq!(data.size(), (2, 7));
    }
}
