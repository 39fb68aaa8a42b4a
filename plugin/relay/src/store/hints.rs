//! Hints: tags for which Testkube should be asked at once.
//!
//! The latest hints are stored under one key in shared data, each with its time. A writer sees there how many came
//! within the last second; the leader reads the new ones.

use super::ledger::{Cas, Store, StoreError};
use crate::hash::fnv1a;
use crate::time::Mono;
use std::time::Duration;

const MAX_A_SECOND: usize = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Number of hints kept: more than arrive between two ticks.
pub(crate) const KEPT: usize = 32;
const TRIES: u32 = 10;

/// The fingerprint of a tag's value among the hints.
pub(crate) fn fingerprint(value: &str) -> u64 {
    fnv1a(value.as_bytes())
}

/// Adds a hint. False if there were too many within a second.
pub(crate) fn add(store: &mut dyn Store, prefix: &str, now: Mono, tag: u64) -> Result<bool, StoreError> {
    let key = key(prefix);
    for _ in 0..TRIES {
        let found = store.get(&key)?;
        let mut hints = found.as_ref().and_then(|entry| Hints::from_bytes(&entry.value)).unwrap_or_default();
        if !hints.has_room(now) {
            return Ok(false);
        }
        hints.add(tag, now);
        if store.swap(&key, found.map(|entry| entry.cas), &hints.to_bytes())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key(prefix: &str) -> String {
    format!("{prefix}hints")
}

/// The leader's reader of the hints.
pub struct Inbox {
    key: String,
    cas: Option<Cas>,
    count: u64,
}

impl Inbox {
    /// A reader that has seen none.
    pub fn new(prefix: &str) -> Inbox {
        Inbox { key: key(prefix), cas: None, count: 0 }
    }

    /// The [`fingerprint`]s of the tags in new hints.
    pub(crate) fn news(&mut self, store: &mut dyn Store) -> Vec<u64> {
        let Ok(Some(entry)) = store.get(&self.key) else { return Vec::new() };
        if self.cas.replace(entry.cas) == Some(entry.cas) {
            return Vec::new();
        }
        let Some(hints) = Hints::from_bytes(&entry.value) else { return Vec::new() };
        let new = hints.count.wrapping_sub(std::mem::replace(&mut self.count, hints.count));
        let seen = hints.last.len().saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
        hints.last.iter().skip(seen).map(|(tag, _)| *tag).collect()
    }
}

/// The latest hints as bytes in shared data: a byte for the layout's version, the number of hints ever added, then tag
/// and time of each, oldest first; numbers of eight bytes, little-endian.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hints {
    count: u64,
    last: Vec<(u64, Mono)>,
}

pub(crate) const LAYOUT: u8 = 1;

impl Hints {
    fn has_room(&self, now: Mono) -> bool {
        let before = self.last.len().checked_sub(MAX_A_SECOND).and_then(|at| self.last.get(at));
        before.is_none_or(|(_, at)| now.since(*at) >= SECOND)
    }

    fn add(&mut self, tag: u64, now: Mono) {
        if self.last.len() >= KEPT {
            self.last.remove(0);
        }
        self.last.push((tag, now));
        self.count = self.count.wrapping_add(1);
    }

    fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.last.iter().flat_map(|(tag, at)| [*tag, at.0]);
        let mut bytes = vec![LAYOUT];
        for number in std::iter::once(self.count).chain(numbers) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The inverse of `to_bytes`; `None` for any other value.
    fn from_bytes(bytes: &[u8]) -> Option<Hints> {
        let (&LAYOUT, rest) = bytes.split_first()? else { return None };
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut hints = Hints { count: numbers.next()?, last: Vec::new() };
        while let Some(tag) = numbers.next() {
            hints.last.push((tag, Mono(numbers.next()?)));
        }
        (hints.last.len() <= KEPT).then_some(hints)
    }
}
