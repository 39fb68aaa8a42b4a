//! Checks that are accepted and stored in the ledger, against a module that reads their headers and answers 200.
//!
//! Both get the same requests: the headers that Azure DevOps sends, with a token of the usual form and length. Each check
//! is a new one, and each turn has a fresh Envoy, because a ledger that fills grows slower. Meanwhile the module leads as
//! always: Azure DevOps takes tokens and log lines, Testkube has no execution yet, and nothing is decided.

use crate::Programs;
use crate::figures::{Collected, Figures, Work};
use crate::load::{self, Expected, Request};
use crate::machine::Processors;
use crate::modules::Modules;
use crate::targets::CHECKS;
use anyhow::{Context, Result, ensure};
use fakes::{Build, CheckSpec};
use host_tests::scene::{PROJECT, Pipeline, Scene, now_ms};
use host_tests::{Envoy, Setup};
use std::path::Path;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many rounds, each with both modules in turn.
    pub rounds: usize,
    /// How many checks are measured in each turn, after a ninth of it: the Envoy has room for 2,048.
    pub checks: usize,
    /// Over how many connections.
    pub connections: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { rounds: 10, checks: 1_800, connections: 8 }
    }
}

/// Plays all rounds. `told` hears of each.
///
/// # Errors
/// An Envoy did not start, or a check was not accepted.
pub fn measure(programs: &Programs, plan: &Plan, mut told: impl FnMut(usize)) -> Result<Vec<Figures>> {
    let processors = Processors::divide()?;
    processors.bind_load()?;
    let modules = Modules::assemble()?;
    let play = |module: &Path, stores: bool| play(programs, plan, &processors, module, stores);
    let mut all = Collected::default();
    for round in 0..plan.rounds {
        let (without, with) = match round % 2 {
            0 => {
                let without = play(&modules.answers, false)?;
                (without, play(&programs.module, true)?)
            }
            _ => {
                let with = play(&programs.module, true)?;
                (play(&modules.answers, false)?, with)
            }
        };
        all.add_requests(CHECKS, &without, &with);
        told(round + 1);
    }
    Ok(all.figures)
}

/// One turn; `stores`: of the module that must have every check in its ledger afterwards.
fn play(
    programs: &Programs,
    plan: &Plan,
    processors: &Processors,
    module: &Path,
    stores: bool,
) -> Result<Work> {
    let scene = Scene::new()?;
    let warm_up = plan.checks / 9;
    let requests = (0..warm_up + plan.checks).map(|n| sent_by(&scene, n)).collect::<Result<Vec<_>>>()?;
    let setup = Setup::with_module(module).envoy(&programs.envoy).room_for(2048).concurrency(1);
    let envoy = Envoy::start(&scene.wire(setup))?;
    processors.bind_envoy(envoy.pid())?;

    let (first, measured) = requests.split_at(warm_up);
    let send = |requests: &[Request]| {
        let accepted = Expected::Holds(r#""status":"accepted""#);
        load::send(envoy.address(), plan.connections, requests.to_vec(), accepted)
    };
    send(first)?;
    let work = Work::of(envoy.pid(), || send(measured))?;
    if stores {
        let accepted = envoy.stat("wasmcustom.testrelay_checks_accepted")?;
        ensure!(accepted == requests.len() as u64, "{accepted} checks of {} were stored", requests.len());
    }
    envoy.stop()?;
    Ok(work)
}

/// Check number `n` as Azure DevOps sends it, which then waits for it.
fn sent_by(scene: &Scene, n: usize) -> Result<Request> {
    let run = pipeline(n)?;
    let mut azure = scene.azure();
    if let Some(build) = run.spec.build {
        azure.add_build(Build::new(PROJECT, build).started_at(now_ms() - 1_000));
    }
    azure.start_check(now_ms(), run.spec.clone());
    load::request(&run.check("shop-e2e, shop-api"))
}

/// A run that no other number gives.
///
/// # Errors
/// The number is too large for an id.
pub fn pipeline(n: usize) -> Result<Pipeline> {
    let n = u32::try_from(n).context("too many checks")?;
    let guid = |kind: u32| format!("{n:08x}-{kind:04x}-5000-8000-00000000{kind:04x}");
    let build = 4_000 + u64::from(n);
    let spec = CheckSpec {
        project: PROJECT.into(),
        hub: "checks".into(),
        plan: guid(1),
        job: guid(2),
        timeline: guid(1),
        task: guid(3),
        token: token(),
        build: Some(build),
    };
    Ok(Pipeline { spec, tag: format!("shop-{build}") })
}

/// A token of the form and length of Azure DevOps's: three parts, of which the module reads the middle one.
fn token() -> String {
    format!("{}.{CLAIMS}.{}", "h".repeat(86), "s".repeat(342))
}

/// What a job's token says, valid until 2100:
/// `{"nameid": "c3a1f0de-0d3c-4a55-8d0e-5b7f6a4f2a10", "scp": "app_token", "iss": "app.vstoken.visualstudio.com", "aud": "app.vstoken.visualstudio.com|vso:6f1c4a0e-2b0d-4c58-9a3b-7d1f5e8c9b24", "nbf": 1700000000, "exp": 4102444800}`
pub(crate) const CLAIMS: &str = concat!(
    "eyJuYW1laWQiOiJjM2ExZjBkZS0wZDNjLTRhNTUtOGQwZS01YjdmNmE0ZjJhMTAiLCJzY3AiOiJhcHBfdG9rZW4i",
    "LCJpc3MiOiJhcHAudnN0b2tlbi52aXN1YWxzdHVkaW8uY29tIiwiYXVkIjoiYXBwLnZzdG9rZW4udmlzdWFsc3R1",
    "ZGlvLmNvbXx2c286NmYxYzRhMGUtMmIwZC00YzU4LTlhM2ItN2QxZjVlOGM5YjI0IiwibmJmIjoxNzAwMDAwMDAw",
    "LCJleHAiOjQxMDI0NDQ4MDB9",
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_checks_are_the_same() {
        let heads: BTreeSet<Vec<u8>> =
            (0..100).map(|n| pipeline(n).unwrap().check("shop-e2e").head()).collect();
        assert_eq!(heads.len(), 100);
    }
}
