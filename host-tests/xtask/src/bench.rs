//! `cargo xtask bench`: what the module's main paths cost, in fuel, beside the table in the repository.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::module::{Build, build};
use crate::program::native_cargo;
use crate::toolchain;
use crate::workspace::Workspace;

/// Builds the module and prints the table; `accept` puts it into the place of the committed one. The exit code is 0 only if
/// no row differs too much, or the table is accepted.
pub fn run(workspace: &Workspace, accept: bool) -> Result<ExitCode> {
    let module = build(workspace, &toolchain::ensure(workspace)?, Build::default())?.path;
    let status = native_cargo()
        .current_dir(workspace.root())
        .args(["run", "--locked", "--quiet", "--package", "testrelay-world", "--bin", "bench", "--"])
        .args(accept.then_some("--accept"))
        .env("TESTRELAY_WASM", std::path::absolute(module)?)
        .status()
        .context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
