//! What the leader knows of pending checks beyond their records, for those who are shown them: any VM reads it. It is lost
//! with nothing, and nothing depends on it.
//!
//! The views of a bucket's checks are one value in shared data, in the buckets of the [`ledger`](super::ledger). A view is its
//! length (u16, little-endian), the check's key (48 bytes), the evaluation that it is about ([`Pending::began`], u64,
//! little-endian) and JSON.
//!
//! [`Pending::began`]: crate::check::Pending::began

use super::ledger::{Store, StoreError, numbered_key};
use crate::check::CheckKey;
use crate::time::Mono;

/// The version byte of a value: it keeps a value from being empty, which would look like a deleted key.
const LAYOUT: u8 = 1;

/// Maximum size of a bucket's views, in bytes.
const MAX_BUCKET: usize = 256 << 10;

/// A view of a check.
pub(crate) struct LiveView<'a> {
    pub(crate) key: CheckKey,
    /// The evaluation.
    pub(crate) began: Mono,
    pub(crate) json: &'a [u8],
}

/// The views in a bucket's value.
pub(crate) fn views(value: &[u8]) -> impl Iterator<Item = LiveView<'_>> {
    entries(value).filter_map(|entry| {
        let (key, rest) = entry.split_first_chunk::<{ CheckKey::BYTES }>()?;
        let (began, json) = rest.split_first_chunk::<8>()?;
        Some(LiveView { key: CheckKey::from_bytes(key)?, began: Mono(u64::from_le_bytes(*began)), json })
    })
}

/// A bucket's value; empty if there is none.
pub(crate) fn read(store: &mut dyn Store, prefix: &str, bucket: usize) -> Vec<u8> {
    store.get(&key(prefix, bucket)).ok().flatten().map(|entry| entry.value).unwrap_or_default()
}

/// Replaces views, and drops those of checks that are not kept. Writes nothing if that changes nothing. False if another context wrote first.
///
/// # Errors
/// The host's status.
pub(crate) fn update(
    store: &mut dyn Store,
    prefix: &str,
    bucket: usize,
    new: &[(CheckKey, Mono, String)],
    is_kept: impl Fn(&CheckKey) -> bool,
) -> Result<bool, StoreError> {
    let key = key(prefix, bucket);
    let found = store.get(&key)?;
    let (old, seen) = found.map_or((Vec::new(), None), |entry| (entry.value, Some(entry.cas)));
    let is_gone = |view: LiveView<'_>| !is_kept(&view.key);
    if new.is_empty() && !views(&old).any(is_gone) {
        return Ok(true);
    }
    let mut value = vec![LAYOUT];
    for (check, began, json) in new {
        add(&mut value, &[&check.bytes(), &began.0.to_le_bytes(), json.as_bytes()], MAX_BUCKET);
    }
    for view in views(&old) {
        let is_new = new.iter().any(|(check, ..)| *check == view.key);
        if !is_new && is_kept(&view.key) {
            add(&mut value, &[&view.key.bytes(), &view.began.0.to_le_bytes(), view.json], MAX_BUCKET);
        }
    }
    store.swap(&key, seen, &value)
}

/// Adds an entry of these parts, unless it is too long or the value would be larger than `most`. Returns whether it did.
pub(super) fn add(value: &mut Vec<u8>, parts: &[&[u8]], most: usize) -> bool {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let Ok(prefix) = u16::try_from(length) else { return false };
    if value.len() + 2 + length > most {
        return false;
    }
    value.extend(prefix.to_le_bytes());
    parts.iter().for_each(|part| value.extend_from_slice(part));
    true
}

/// The entries of a value after its version byte.
pub(super) fn entries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value.strip_prefix(&[LAYOUT]).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (entry, next) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
        rest = next;
        Some(entry)
    })
}

/// An empty value.
pub(super) fn empty() -> Vec<u8> {
    vec![LAYOUT]
}

fn key(prefix: &str, bucket: usize) -> String {
    numbered_key::<3>(prefix, "views/", bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::store::ledger::memory::Memory;

    fn shown(store: &mut Memory) -> Vec<(CheckKey, u64, String)> {
        let value = read(store, "p/", 7);
        let text = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap();
        views(&value).map(|view| (view.key, view.began.0, text(view.json))).collect()
    }

    #[test]
    fn a_view_replaces_that_of_the_same_check_and_those_of_ended_checks_go() {
        let mut store = Memory::default();
        let [one, two, three] = [1, 2, 3].map(|n| record(n).key);
        let view = |key, began, json: &str| (key, Mono(began), json.to_owned());
        let first = [view(one, 1, "a"), view(two, 1, "b"), view(three, 1, "c")];
        assert!(update(&mut store, "p/", 7, &first, |_| true).unwrap());
        assert!(update(&mut store, "p/", 7, &[view(two, 2, "B")], |key| *key != three).unwrap());
        assert_eq!(shown(&mut store), [(two, 2, "B".into()), (one, 1, "a".into())]);
        assert!(read(&mut store, "p/", 8).is_empty());
    }

    #[test]
    fn a_value_of_another_form_shows_nothing() {
        for value in [&b""[..], b"\x02\x03\0abc", b"\x01\xff\xff", b"\x01\x03\0abc", b"\x01\x01"] {
            assert_eq!(views(value).count(), 0, "{value:?}");
        }
    }

    #[test]
    fn a_bucket_is_bounded() {
        let mut store = Memory::default();
        let many: Vec<_> = (1..200).map(|n| (record(n).key, Mono(1), "x".repeat(4_000))).collect();
        assert!(update(&mut store, "p/", 7, &many, |_| true).unwrap());
        assert!(read(&mut store, "p/", 7).len() <= MAX_BUCKET);
        assert!(shown(&mut store).len() > 60);
    }
}
