//! The last preflight in shared data: one key for the result and for who makes the next one, and one for whether the
//! leader has told it.

use super::FRESH;
use crate::store::ledger::{Cas, Store, StoreError};
use crate::store::looks::write;
use crate::time::Mono;
use std::time::Duration;

/// After what time whoever began a preflight is taken for gone: its VM fell, or its client went away.
const ABANDONED: Duration = Duration::from_secs(15);

/// How often leaders of one process begin to tell: an answer that fells its reader must not fell all of them.
const MAX_TOLD: u8 = 3;

/// What is known of the last preflight.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// Its result, which is recent.
    Fresh(String),
    /// Somebody makes one.
    UnderWay,
    /// There is none, or it is too old; with what [`claim`] needs.
    Old(Option<Cas>),
}

fn key(prefix: &str) -> String {
    [prefix, "preflight"].concat()
}

/// Reads the last preflight. That of another configuration says nothing of this one.
///
/// # Errors
/// The host's status.
pub(crate) fn last(
    store: &mut dyn Store,
    prefix: &str,
    now: Mono,
    configuration: u64,
) -> Result<Last, StoreError> {
    let Some(entry) = store.get(&key(prefix))? else { return Ok(Last::Old(None)) };
    let (at, rest) = entry.value.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let (of, result) = rest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    if u64::from_le_bytes(*of) != configuration {
        return Ok(Last::Old(Some(entry.cas)));
    }
    let since = now.since(Mono(u64::from_le_bytes(*at)));
    Ok(match result.is_empty() {
        true if since < ABANDONED => Last::UnderWay,
        false if since < FRESH => Last::Fresh(String::from_utf8_lossy(result).into_owned()),
        _ => Last::Old(Some(entry.cas)),
    })
}

/// Notes that a preflight begins. False if somebody else was first.
///
/// # Errors
/// The host's status.
pub(crate) fn claim(
    store: &mut dyn Store,
    prefix: &str,
    now: Mono,
    configuration: u64,
    seen: Option<Cas>,
) -> Result<bool, StoreError> {
    store.swap(&key(prefix), seen, &[now.0.to_le_bytes(), configuration.to_le_bytes()].concat())
}

/// Keeps the result of a preflight, unless another context writes first: that one knows as much.
pub(crate) fn keep(store: &mut dyn Store, prefix: &str, now: Mono, configuration: u64, result: &str) {
    let (now, of) = (now.0.to_le_bytes(), configuration.to_le_bytes());
    write(store, &key(prefix), &[&now, &of, result.as_bytes()].concat());
}

fn told(prefix: &str) -> String {
    [prefix, "preflight/told"].concat()
}

/// Notes that a leader begins to tell. False if that was done in this process, often enough, or by another one just now.
///
/// # Errors
/// The host's status.
pub(crate) fn begin_to_tell(store: &mut dyn Store, prefix: &str) -> Result<bool, StoreError> {
    let entry = store.get(&told(prefix))?;
    let times = entry.as_ref().map_or(0, |entry| entry.value.first().copied().unwrap_or(MAX_TOLD));
    if times >= MAX_TOLD {
        return Ok(false);
    }
    store.swap(&told(prefix), entry.map(|entry| entry.cas), &[times + 1])
}

/// Notes that it was told: nobody does it again in this process.
pub(crate) fn end_telling(store: &mut dyn Store, prefix: &str) {
    write(store, &told(prefix), &[MAX_TOLD]);
}
