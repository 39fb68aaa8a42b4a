//! What was decided lately: a ring of views in shared data, without tokens, in which the oldest give way. It outlives the
//! records of ended checks, which stay for ten minutes only.
//!
//! An entry is its length (u16, little-endian), the time of the check's end (milliseconds since 1970, i64, little-endian),
//! the check's key (48 bytes) and JSON.

use super::ledger::{Store, StoreError, numbered_key};
use super::live_views::{add as add_entry, empty, entries};
use crate::check::CheckKey;
use crate::time::Wall;

/// Number of parts, each a value of shared data, and the maximum size of one in bytes: 512 KiB in all, usually some 300 checks.
const PARTS: usize = 64;
const MAX_PART: usize = 8 << 10;

/// Maximum tries while others write first. What is not noted is only not shown.
const TRIES: u32 = 10;

/// A check that has ended.
pub(crate) struct Ended {
    /// When.
    pub(crate) at: Wall,
    pub(crate) key: CheckKey,
    pub(crate) json: Vec<u8>,
}

/// Notes the end of a check. Returns whether it is noted.
///
/// # Errors
/// The host's status.
pub(crate) fn note(
    store: &mut dyn Store,
    prefix: &str,
    at: Wall,
    key: &CheckKey,
    json: &str,
) -> Result<bool, StoreError> {
    for _ in 0..TRIES {
        let last = last(store, prefix)?;
        let parts: [&[u8]; 3] = [&at.0.to_le_bytes(), &key.bytes(), json.as_bytes()];
        let found = store.get(&part(prefix, last))?;
        let (mut value, seen) = found.map_or((empty(), None), |entry| (entry.value, Some(entry.cas)));
        if add_entry(&mut value, &parts, MAX_PART) {
            if store.swap(&part(prefix, last), seen, &value)? {
                return Ok(true);
            }
            continue;
        }
        // This part is full: the next one is begun anew, unless another context has just begun it.
        let next = (last + 1) % PARTS;
        let newest = newest(&value);
        let found = store.get(&part(prefix, next))?;
        let (value, seen) = found.map_or((empty(), None), |entry| (entry.value, Some(entry.cas)));
        let is_begun = self::newest(&value) > newest;
        let mut value = if is_begun { value } else { empty() };
        if !add_entry(&mut value, &parts, MAX_PART) {
            value = empty();
            if !add_entry(&mut value, &parts, MAX_PART) {
                return Ok(false);
            }
        }
        if store.swap(&part(prefix, next), seen, &value)? {
            let seen = store.get(&head(prefix))?.map(|entry| entry.cas);
            store.swap(&head(prefix), seen, next.to_string().as_bytes())?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The checks that ended lately, the newest first, as long as `take` wants more.
///
/// # Errors
/// The host's status.
pub(crate) fn newest_first(
    store: &mut dyn Store,
    prefix: &str,
    mut take: impl FnMut(Ended) -> bool,
) -> Result<(), StoreError> {
    let last = last(store, prefix)?;
    for back in 0..PARTS {
        let Some(entry) = store.get(&part(prefix, (last + PARTS - back) % PARTS))? else { return Ok(()) };
        let all: Vec<Ended> = entries(&entry.value).filter_map(Ended::of).collect();
        if !all.into_iter().rev().all(&mut take) {
            return Ok(());
        }
    }
    Ok(())
}

impl Ended {
    fn of(entry: &[u8]) -> Option<Ended> {
        let (at, rest) = entry.split_first_chunk::<8>()?;
        let (key, json) = rest.split_first_chunk::<{ CheckKey::BYTES }>()?;
        let at = Wall(i64::from_le_bytes(*at));
        Some(Ended { at, key: CheckKey::from_bytes(key)?, json: json.to_vec() })
    }
}

/// When the last check of a part ended.
fn newest(value: &[u8]) -> Option<Wall> {
    entries(value).last().and_then(Ended::of).map(|ended| ended.at)
}

/// The part that was written last.
fn last(store: &mut dyn Store, prefix: &str) -> Result<usize, StoreError> {
    let entry = store.get(&head(prefix))?;
    let number = entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
    Ok(number.filter(|number| *number < PARTS).unwrap_or_default())
}

fn head(prefix: &str) -> String {
    format!("{prefix}decided")
}

fn part(prefix: &str, number: usize) -> String {
    numbered_key::<2>(prefix, "decided/", number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::store::ledger::memory::Memory;

    fn noted(store: &mut Memory) -> Vec<i64> {
        let mut all = Vec::new();
        newest_first(store, "p/", |ended| {
            assert_eq!(ended.json, b"{}".repeat(200));
            all.push(ended.at.0);
            true
        })
        .unwrap();
        all
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_give_way() {
        let mut store = Memory::default();
        assert!(noted(&mut store).is_empty());
        for n in 1..=3_000 {
            let key = record(n).key;
            assert!(note(&mut store, "p/", Wall(n.into()), &key, &"{}".repeat(200)).unwrap());
        }
        let all = noted(&mut store);
        assert!(all.len() > 900 && all.len() < 1_200, "{}", all.len());
        assert!(all.iter().copied().eq((0..).map(|back| 3_000 - back).take(all.len())), "{all:?}");
        let size: usize = store.keys.values().map(|entry| entry.value.len()).sum();
        assert!(size <= PARTS * MAX_PART + 2);
    }

    #[test]
    fn reading_ends_when_no_more_is_wanted() {
        let mut store = Memory::default();
        for n in 1..=50 {
            note(&mut store, "p/", Wall(n.into()), &record(n).key, &"{}".repeat(200)).unwrap();
        }
        let mut seen = 0;
        newest_first(&mut store, "p/", |_| {
            seen += 1;
            seen < 5
        })
        .unwrap();
        assert_eq!(seen, 5);
    }

    #[test]
    fn a_part_that_another_context_has_just_begun_is_gone_on_with() {
        let mut store = Memory::default();
        let key = record(1).key;
        let mut at = 0;
        while !store.keys.contains_key("p/decided/01") {
            at += 1;
            assert!(note(&mut store, "p/", Wall(at), &key, &"{}".repeat(200)).unwrap());
        }
        // The other context has not moved the head yet.
        store.put("p/decided", b"0");
        assert!(note(&mut store, "p/", Wall(at + 1), &key, &"{}".repeat(200)).unwrap());
        assert_eq!(noted(&mut store)[..2], [at + 1, at]);
    }

    #[test]
    fn what_is_too_large_is_not_noted_and_displaces_nothing() {
        let mut store = Memory::default();
        let key = record(1).key;
        note(&mut store, "p/", Wall(1), &key, &"{}".repeat(200)).unwrap();
        assert!(!note(&mut store, "p/", Wall(2), &key, &"x".repeat(MAX_PART)).unwrap());
        assert_eq!(noted(&mut store), [1]);
    }
}
