//! `cargo xtask test`: all tests of the workspace, with the modules and the Envoy they need.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::envoy_binary::EnvoyVersion;
use crate::prepared::prepare;
use crate::program::native_cargo;
use crate::workspace::Workspace;

/// How many tests of one program run at the same time, whatever the number of cores: those with an Envoy mostly wait.
const SIDE_BY_SIDE: &str = "8";

/// The random histories of the simulated Envoy that belong to all tests: seeds from and to.
const HISTORIES: &str = "0-10000";
/// The variable that the histories' test reads.
pub(crate) const HISTORIES_VARIABLE: &str = "TESTRELAY_HISTORIES";

/// Prepares, then runs `cargo test --workspace --locked` with the given arguments after it. The exit code is cargo's.
///
/// `TESTRELAY_HISTORIES=FROM-TO` chooses other seeds for the random histories. The tests find what they run by three
/// variables, all absolute paths: `TESTRELAY_WASM`, `TESTRELAY_WASM_TEST_HOOKS` and `TESTRELAY_ENVOY`.
pub fn run(workspace: &Workspace, envoy: Option<EnvoyVersion>, arguments: &[String]) -> Result<ExitCode> {
    let prepared = prepare(workspace, envoy)?;
    let histories = std::env::var(HISTORIES_VARIABLE).unwrap_or_else(|_| HISTORIES.into());
    let status = native_cargo()
        .current_dir(workspace.root())
        .args(["test", "--workspace", "--locked"])
        .args(arguments)
        .env("RUST_TEST_THREADS", SIDE_BY_SIDE)
        .env(HISTORIES_VARIABLE, histories)
        .env("TESTRELAY_WASM", prepared.wasm)
        .env("TESTRELAY_WASM_TEST_HOOKS", prepared.wasm_test_hooks)
        .env("TESTRELAY_ENVOY", prepared.envoy)
        .status()
        .context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
