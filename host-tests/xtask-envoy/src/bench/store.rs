//! `cargo xtask bench store`: what it costs to keep checks in a real Kubernetes API server, and how long checks wait when their
//! replica goes.
//!
//! API server, etcd, Envoys, fakes and load share the machine's processors, so rates are compared with what the API server does
//! by itself in the same run. [`accept`] has acceptances, [`calls`] what the API server is asked, [`moves`] the replicas that go.

mod accept;
mod calls;
mod moves;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bench::scale::report::Line;

use crate::demo::Programs;
use calls::Life;
use stage::Stage;

/// How much is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds of acceptances: each has the API server alone, then an Envoy without the store, then one with it.
    pub rounds: usize,
    /// How many checks (or Secrets) of a round come over all connections at once.
    pub at_once: usize,
    /// How many of a round come one after the other.
    pub one_by_one: usize,
    /// How many checks a replica has when it goes.
    pub moved: usize,
    /// How old they are then, about; their executions end in that moment.
    pub age: Duration,
    /// How many replicas the roll-out replaces.
    pub updated: usize,
    /// For how long replicas without checks are watched. Once a minute they list all Secrets.
    pub window: Duration,
    /// How many checks are watched until their Secrets are deleted, ten minutes after their end; 0: none.
    pub lives: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            rounds: 10,
            at_once: 800,
            one_by_one: 200,
            moved: 20,
            age: Duration::from_secs(8),
            updated: 3,
            window: Duration::from_secs(120),
            lives: 200,
        }
    }
}

/// Plays all of it; `told` hears what comes next.
///
/// # Errors
/// A process did not start, or a check was not accepted or not decided.
pub fn measure(
    programs: &Programs,
    api_server: &Path,
    plan: &Plan,
    mut told: impl FnMut(&str),
) -> Result<Vec<Line>> {
    let stage = Stage::open(programs, api_server)?;
    // Takes eleven minutes, most of them without a call: everything else happens meanwhile.
    told("checks whose whole life is watched");
    let life = (plan.lives > 0).then(|| Life::begin(&stage, plan.lives)).transpose()?;
    let replicas = stage.replicas()?;
    told("replicas without checks");
    let idle = calls::idle(&replicas, plan.window)?;
    told("replicas that go");
    let moves = moves::measure(&stage, replicas, plan)?;
    told("acceptances");
    let mut lines = accept::measure(&stage, plan)?;
    lines.push(idle);
    if let Some(life) = life {
        told("the deletion of the checks whose whole life is watched");
        lines.push(life.end(&stage)?);
    }
    lines.extend(moves);
    stage.close()?;
    Ok(lines)
}
