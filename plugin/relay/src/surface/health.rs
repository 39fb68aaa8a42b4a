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

/// `/readyz`: there is a leader, or was one less than 30 s ago, and the process is not about to end. Never depends on
/// Testkube, Azure DevOps or Kubernetes: while the API server does not answer, this instance goes on with its checks, and
/// lets downloads through.
pub fn ready(store: &mut dyn Store, prefix: &str, now: Now) -> Reply {
    let Ok(lease) = lease::lease(store, prefix) else {
        return Reply::text(503, "not ready: Envoy's shared data does not answer");
    };
    let is_led = lease.until > Mono(0) && now.mono < lease.until.plus(LEADERLESS);
    if !is_led {
        return Reply::text(503, "not ready: no context of this instance leads");
    }
    let pending = lease.pending;
    match Standing::read(store, prefix) {
        Ok(Some(standing)) if standing.drains => {
            Reply::text(503, &format!("not ready: this replica drains; pending checks: {pending}"))
        }
        Ok(Some(Standing { fault, .. })) if !fault.is_empty() => {
            Reply::text(200, &format!("ready; pending checks: {pending}; {fault}"))
        }
        _ => Reply::text(200, &format!("ready; pending checks: {pending}")),
    }
}
