//! `cargo xtask replay SEED`: one history of the simulated Envoy once more, with its whole trace.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::module::{Build, build};
use crate::program::native_cargo;
use crate::toolchain;
use crate::workspace::Workspace;

/// Builds the module, unless `TESTRELAY_WASM` names one, and plays the history of a seed. The exit code is 0 only if it
/// breaks no rule.
pub fn run(workspace: &Workspace, seed: u64) -> Result<ExitCode> {
    let named = std::env::var_os("TESTRELAY_WASM").filter(|value| !value.is_empty());
    let module = match named {
        Some(path) => path.into(),
        None => build(workspace, &toolchain::ensure()?, Build::default())?.path,
    };
    let status = native_cargo()
        .current_dir(workspace.root())
        .args(["run", "--locked", "--package", "testrelay-world", "--bin", "replay", "--"])
        .arg(seed.to_string())
        .env("TESTRELAY_WASM", std::path::absolute(module)?)
        .status()
        .context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
