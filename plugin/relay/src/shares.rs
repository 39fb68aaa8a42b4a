//! How many checks may be pending in all, and of each credential and each project, so that one cannot take all the room.
//!
//! The leader counts at each tick and publishes who is at the limit; whoever accepts a check reads that. A limit may be
//! overshot by what arrives within a tick.

use crate::check::Pending;
use crate::config::Config;
use crate::guid::Guid;
use crate::ledger::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Those that are at their limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full {
    /// Nobody has room.
    #[serde(default)]
    all: bool,
    credentials: Vec<String>,
    projects: Vec<Guid>,
}

/// Whose limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// That of all checks together.
    All,
    /// The credential's.
    Credential,
    /// The project's.
    Project,
}

impl Full {
    /// Counts the pending checks against their limits.
    pub fn count<'a>(config: &Config, pending: impl Iterator<Item = &'a Pending>) -> Full {
        let mut credentials: BTreeMap<&str, u32> = BTreeMap::new();
        let mut projects: BTreeMap<Guid, u32> = BTreeMap::new();
        let mut all = 0_u32;
        for pending in pending {
            all += 1;
            *credentials.entry(&pending.credential).or_default() += 1;
            *projects.entry(pending.callback.project).or_default() += 1;
        }
        let limit = |name: &str| config.credentials.iter().find(|c| c.name == name).map(|c| c.max_pending);
        let full =
            credentials.into_iter().filter(|(name, count)| limit(name).is_some_and(|most| *count >= most));
        let most = config.checks.max_pending_per_project;
        Full {
            all: all >= config.checks.max_pending,
            credentials: full.map(|(name, _)| name.to_string()).collect(),
            projects: projects.into_iter().filter(|(_, count)| *count >= most).map(|(id, _)| id).collect(),
        }
    }

    /// Whose limit keeps a check of this credential and project out.
    pub fn share_of(&self, credential: &str, project: &Guid) -> Option<Share> {
        if self.all {
            return Some(Share::All);
        }
        if self.credentials.iter().any(|name| name == credential) {
            return Some(Share::Credential);
        }
        self.projects.contains(project).then_some(Share::Project)
    }
}

/// Who is at the limit, as the leader has published it; nobody where nothing can be read.
pub fn full(store: &mut dyn Store, prefix: &str) -> Full {
    let entry = store.get(&key(prefix)).ok().flatten();
    entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
}

/// Publishes who is at the limit. False: somebody else was faster.
///
/// # Errors
/// The host's status.
pub fn publish(store: &mut dyn Store, prefix: &str, full: &Full) -> Result<bool, StoreError> {
    let key = key(prefix);
    let seen = store.get(&key)?.map(|entry| entry.cas);
    let value = serde_json::to_vec(full).unwrap_or_else(|_| b"{}".to_vec());
    store.swap(&key, seen, &value)
}

fn key(prefix: &str) -> String {
    format!("{prefix}full")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::State;
    use crate::check::tests::record;
    use crate::ledger::memory::Memory;

    fn pending(n: u32) -> Pending {
        let State::Pending(mut pending) = record(n).state else { panic!("a pending record") };
        pending.credential = "a".into();
        *pending
    }

    fn config(limit: u32) -> Config {
        let text = format!(
            r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/f", "cluster": "a"}}],
                "checks": {{"max_pending_per_project": 3}},
                "credentials": [{{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["checks"], "max_pending": {limit}}}]}}"#
        );
        Config::parse(text.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap()
    }

    #[test]
    fn a_limit_is_reached_with_its_last_check_and_told_through_the_store() {
        let mut store = Memory::default();
        let all = [pending(1), pending(2)];
        let project = all[0].callback.project;
        assert_eq!(Full::count(&config(3), all.iter()), Full::default());
        let full = Full::count(&config(2), all.iter());
        assert_eq!(full.share_of("a", &project), Some(Share::Credential));
        assert_eq!(full.share_of("b", &project), None);
        let third = [pending(1), pending(2), pending(3)];
        assert_eq!(Full::count(&config(9), third.iter()).share_of("b", &project), Some(Share::Project));
        let mut small = config(9);
        small.checks.max_pending = 3;
        assert_eq!(Full::count(&small, third.iter()).share_of("a", &project), Some(Share::All));
        assert_eq!(Full::count(&small, all.iter()).share_of("a", &project), None);
        assert_eq!(super::full(&mut store, "p/"), Full::default());
        for _ in 0..2 {
            assert!(publish(&mut store, "p/", &full).unwrap());
            assert_eq!(super::full(&mut store, "p/"), full);
        }
    }
}
