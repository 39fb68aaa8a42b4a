//! `cargo xtask soak`: as many random histories of the simulated Envoy, or of replicas, as somebody has time for.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::module::{Build, build};
use crate::program::native_cargo;
use crate::test::HISTORIES_VARIABLE;
use crate::toolchain;
use crate::workspace::Workspace;

/// Where the histories of one Envoy are chosen.
const ONE: (&str, &str, &str) = ("histories", "no_history_breaks_a_rule", HISTORIES_VARIABLE);

/// Where those of replicas that share their checks are.
const REPLICAS: (&str, &str, &str) = (
    "replica_histories",
    "no_history_with_replicas_that_share_their_checks_breaks_a_rule",
    "TESTRELAY_REPLICA_HISTORIES",
);

/// Builds the module and plays the histories of the seeds from `from` on, `count` of them: of one Envoy, or of replicas that
/// share their checks. Prints a state-by-fault coverage table. The exit code is 0 only if none breaks a rule and no cell is met too
/// seldom.
pub fn run(workspace: &Workspace, from: u64, count: u64, replicas: bool) -> Result<ExitCode> {
    let (program, test, variable) = if replicas { REPLICAS } else { ONE };
    let module = build(workspace, &toolchain::ensure()?, Build::default())?.path;
    let status = native_cargo()
        .current_dir(workspace.root())
        .args(["test", "--locked", "--package", "testrelay-world", "--test", program])
        .args(["--", "--exact", test, "--nocapture"])
        .env(variable, format!("{from}-{}", from.saturating_add(count)))
        .env("TESTRELAY_WASM", std::path::absolute(module)?)
        .status()
        .context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
