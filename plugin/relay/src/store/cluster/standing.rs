//! A process's standing among the replicas, in shared data: its id, and whether its streams may accept checks.

use crate::store::ledger::{Store, StoreError, TRIES};

/// A process's standing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The replica's id: 16 hex digits, drawn once in the process's life.
    pub id: String,
    /// Whether its Lease exists. Without one the others adopt what it accepts.
    pub has_lease: bool,
    /// Whether the process is about to end: it owns no check any more.
    pub drains: bool,
    /// Why the API server does not keep its Lease, or which rights this process lacks, as a sentence; else empty.
    pub fault: String,
}

const HAS_LEASE: u8 = 1;
const DRAINS: u8 = 2;

impl Standing {
    fn key(prefix: &str) -> String {
        [prefix, "replica"].concat()
    }

    /// Reads it. `None` if this process has none yet.
    ///
    /// # Errors
    /// The host's status.
    pub fn read(store: &mut dyn Store, prefix: &str) -> Result<Option<Standing>, StoreError> {
        let entry = store.get(&Standing::key(prefix))?;
        Ok(entry.and_then(|entry| Standing::of(&entry.value)))
    }

    fn of(value: &[u8]) -> Option<Standing> {
        let (flags, texts) = value.split_first()?;
        let texts = std::str::from_utf8(texts).ok()?;
        let (id, fault) = texts.split_once('\n').unwrap_or((texts, ""));
        Some(Standing {
            id: Some(id).filter(|id| !id.is_empty())?.to_owned(),
            has_lease: flags & HAS_LEASE != 0,
            drains: flags & DRAINS != 0,
            fault: fault.to_owned(),
        })
    }

    /// Changes it, and returns what it is then; `id` is the process's if it has none yet. Other contexts may write it at the
    /// same time.
    ///
    /// # Errors
    /// The host's status, or [`StoreError::BUSY`].
    pub fn change(
        store: &mut dyn Store,
        prefix: &str,
        id: &str,
        change: impl Fn(&mut Standing),
    ) -> Result<Standing, StoreError> {
        let key = Standing::key(prefix);
        for _ in 0..TRIES {
            let entry = store.get(&key)?;
            let found = entry.as_ref().and_then(|entry| Standing::of(&entry.value));
            let mut next = found.clone().unwrap_or_else(|| Standing { id: id.into(), ..Standing::default() });
            change(&mut next);
            if found.as_ref() == Some(&next) {
                return Ok(next);
            }
            let flag = |is: bool, flag: u8| if is { flag } else { 0 };
            let mut value = vec![flag(next.has_lease, HAS_LEASE) | flag(next.drains, DRAINS)];
            value.extend_from_slice(next.id.as_bytes());
            value.push(b'\n');
            value.extend_from_slice(next.fault.as_bytes());
            if store.swap(&key, entry.map(|entry| entry.cas), &value)? {
                return Ok(next);
            }
        }
        Err(StoreError::BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::memory::Memory;

    #[test]
    fn the_first_id_stays_and_each_change_is_seen() {
        let mut store = Memory::default();
        assert_eq!(Standing::read(&mut store, "t/"), Ok(None));
        let first = Standing::change(&mut store, "t/", "a1", |_| ()).unwrap();
        assert_eq!(first, Standing { id: "a1".into(), ..Standing::default() });
        let second = Standing::change(&mut store, "t/", "b2", |standing| standing.has_lease = true).unwrap();
        assert_eq!((second.id.as_str(), second.has_lease), ("a1", true));
        Standing::change(&mut store, "t/", "b2", |standing| standing.fault = "HTTP 403: no".into()).unwrap();
        let third = Standing::change(&mut store, "t/", "b2", |standing| standing.drains = true).unwrap();
        assert_eq!(third.fault, "HTTP 403: no");
        assert_eq!(Standing::read(&mut store, "t/"), Ok(Some(third.clone())));
        assert!(third.has_lease && third.drains);
        let writes = store.writes;
        Standing::change(&mut store, "t/", "b2", |standing| standing.drains = true).unwrap();
        assert_eq!(store.writes, writes, "nothing to change");
    }
}
