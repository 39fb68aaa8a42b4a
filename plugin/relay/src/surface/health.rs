//! Liveness and readiness.

use crate::lead::lease;
use crate::store::cluster::standing::Standing;
use crate::store::ledger::Store;
use crate::surface::problem::Reply;
use crate::time::{Mono, Now};
use std::time::Duration;

/// How long there may be no leader before this instance is not ready.
const LEADERLESS: Duration = Duration::from_secs(30);

/// `/healthz`: this worker's VM runs. A probe through the listener also restarts a fallen worker's VM.
pub fn healthy() -> Reply {
    Reply::text(200, "ok")
}

/// What is wrong with the cluster store, if there is one. This instance stays ready: it goes on with its checks, and lets
/// downloads through.
fn stores(store: &mut dyn Store, prefix: &str) -> String {
    match Standing::read(store, prefix) {
        Ok(Some(standing)) if standing.drains => "; this replica drains".into(),
        Ok(Some(standing)) if !standing.fault.is_empty() => {
            format!("; Kubernetes's API server does not keep this replica's Lease: {}", standing.fault)
        }
        _ => String::new(),
    }
}

/// `/readyz`: there is a leader, or was one less than 30 s ago. Never depends on Testkube, Azure DevOps or Kubernetes.
pub fn ready(store: &mut dyn Store, prefix: &str, now: Now) -> Reply {
    let Ok(lease) = lease::lease(store, prefix) else {
        return Reply::text(503, "not ready: Envoy's shared data does not answer");
    };
    let led = lease.until > Mono(0) && now.mono < lease.until.plus(LEADERLESS);
    match led {
        true => {
            Reply::text(200, &format!("ready; pending checks: {}{}", lease.pending, stores(store, prefix)))
        }
        false => Reply::text(503, "not ready: no context of this instance leads"),
    }
}
