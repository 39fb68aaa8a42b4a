//! `POST /v1/drain`: this process is about to end. It gives its checks to the other replicas, which go on with them at once.

use crate::config::{Allow, Config};
use crate::store::cluster::standing::Standing;
use crate::store::ledger::Store;
use crate::surface::accept::{Headers, unauthorized};
use crate::surface::problem::Reply;

/// Begins to drain. From now on this replica owns no new check: what it accepts, another one goes on with.
pub fn begin<B: AsRef<[u8]>>(
    config: &Config,
    store: &mut dyn Store,
    prefix: &str,
    headers: &Headers<B>,
) -> Reply {
    if let Some(refusal) = unauthorized(config, headers, Allow::Drain) {
        return refusal;
    }
    if config.store.is_none() {
        return Reply::problem(
            409,
            "Nothing to drain",
            "This Envoy's checks are in its memory alone: without `store` in the configuration no other replica can take them.",
        );
    }
    let id = match Standing::read(store, prefix) {
        Ok(Some(standing)) => standing.id,
        Ok(None) => return Reply::text(202, "not a replica yet: it has no checks"),
        Err(_) => return failed(),
    };
    match Standing::change(store, prefix, &id, |standing| standing.drains = true) {
        Ok(_) => Reply::text(202, "draining"),
        Err(_) => failed(),
    }
}

fn failed() -> Reply {
    Reply::problem(503, "Not drained", "Envoy's shared data does not answer. Call this path again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::memory::Memory;

    fn config(store: &str) -> Config {
        let text = format!(
            r#"{{"testkube": {{"cluster": "t"}} {store},
                "credentials": [{{"name": "pod", "kind": "bearer", "secret_env": "S", "allow": ["drain"]}},
                                {{"name": "other", "kind": "bearer", "secret_env": "T", "allow": ["status"]}}],
                "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}}]}}"#
        );
        Config::parse(text.as_bytes(), &|name| Some(format!("a-secret-of-tests-{name}"))).unwrap()
    }

    #[test]
    fn whoever_may_lets_a_replica_drain_and_nobody_else() {
        let shared = config(r#", "store": {"kubernetes": {"cluster": "k", "namespace": "n"}}"#);
        let mut store = Memory::default();
        let drain = |config: &Config, store: &mut Memory, secret: &str| {
            let authorization = format!("Bearer a-secret-of-tests-{secret}").into_bytes();
            begin(config, store, "t/", &[(b"authorization".to_vec(), authorization)])
        };
        assert_eq!(drain(&shared, &mut store, "S").body, "not a replica yet: it has no checks\n");
        Standing::change(&mut store, "t/", "a1", |standing| standing.has_lease = true).unwrap();
        assert_eq!(drain(&shared, &mut store, "T").status, 403);
        assert_eq!(drain(&shared, &mut store, "U").status, 401);
        assert!(!Standing::read(&mut store, "t/").unwrap().unwrap().drains);
        assert_eq!(drain(&config(""), &mut store, "S").status, 409);
        assert_eq!(drain(&shared, &mut store, "S").body, "draining\n");
        let standing = Standing::read(&mut store, "t/").unwrap().unwrap();
        assert!(standing.drains && standing.has_lease && standing.id == "a1");
    }
}
