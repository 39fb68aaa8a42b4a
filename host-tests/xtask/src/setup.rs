//! `cargo xtask setup`: gets what is missing and says what there is, one line each.

use anyhow::Result;

use crate::envoy_binary::{self, EnvoyBinary, EnvoyVersion};
use crate::toolchain::{self, Toolchain};
use crate::workspace::Workspace;

/// What a machine needs, and has.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The compiler for the module.
    pub toolchain: Toolchain,
    /// The Envoy that runs it.
    pub envoy: EnvoyBinary,
}

/// Sets up what is missing; a second call finds all and takes a second.
pub fn run(workspace: &Workspace, envoy: Option<&EnvoyVersion>) -> Result<Ready> {
    Ok(Ready { toolchain: toolchain::ensure()?, envoy: envoy_binary::ensure(workspace, envoy)? })
}
