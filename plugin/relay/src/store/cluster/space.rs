//! Whether the namespace has room for another Secret: a context that was refused one says so to the leader, in shared data.

use crate::check::DONE_STAYS;
use crate::store::ledger::{Cas, Store, StoreError};
use crate::time::Mono;
use crate::wire::call::Fault;
use std::time::Duration;

/// How long after a refusal room counts as short.
const SHORT: Duration = Duration::from_secs(60);

/// Minimum interval between two notes of a refusal.
const NOTE: Duration = Duration::from_secs(10);

/// How long the Secret of a check that is over stays while room is short. It answers repeats of its deliveries, which come
/// within seconds.
const SHORT_STAYS: Duration = Duration::from_secs(60);

/// How long the Secret of a check that is over stays.
pub(super) fn done_stays(is_short: bool) -> Duration {
    if is_short { SHORT_STAYS } else { DONE_STAYS }
}

/// Whether an answer to a creation says that the quota is full. It has the status of a missing right, and other words.
pub(crate) fn is_refusal(fault: &Fault) -> bool {
    matches!(fault, Fault::Said(403, words) if words.contains("exceeded quota"))
}

fn key(prefix: &str) -> String {
    [prefix, "full"].concat()
}

fn noted(store: &mut dyn Store, prefix: &str) -> Result<(Option<Mono>, Option<Cas>), StoreError> {
    let Some(entry) = store.get(&key(prefix))? else { return Ok((None, None)) };
    let at = <[u8; 8]>::try_from(entry.value.as_slice()).ok();
    Ok((at.map(|at| Mono(u64::from_le_bytes(at))), Some(entry.cas)))
}

/// Notes that a Secret was refused.
///
/// # Errors
/// The host's status.
pub(crate) fn note_refusal(store: &mut dyn Store, prefix: &str, now: Mono) -> Result<(), StoreError> {
    let (last, cas) = noted(store, prefix)?;
    if last.is_none_or(|last| now.since(last) >= NOTE) {
        let _another_has_just_noted_it = store.swap(&key(prefix), cas, &now.0.to_le_bytes())?;
    }
    Ok(())
}

/// Whether room is short.
pub(crate) fn is_short(store: &mut dyn Store, prefix: &str, now: Mono) -> bool {
    let last = noted(store, prefix).ok().and_then(|(last, _)| last);
    last.is_some_and(|last| now.since(last) < SHORT)
}
