//! Liveness and readiness.

use crate::lead::lease;
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

/// `/readyz`: there is a leader, or was one less than 30 s ago. Never depends on Testkube or Azure DevOps.
pub fn ready(store: &mut dyn Store, prefix: &str, now: Now) -> Reply {
    let Ok(lease) = lease::lease(store, prefix) else {
        return Reply::text(503, "not ready: Envoy's shared data does not answer");
    };
    let led = lease.until > Mono(0) && now.mono < lease.until.plus(LEADERLESS);
    match led {
        true => Reply::text(200, &format!("ready; pending checks: {}", lease.pending)),
        false => Reply::text(503, "not ready: no context of this instance leads"),
    }
}
