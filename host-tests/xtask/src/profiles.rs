//! `cargo xtask profiles`: what the module weighs with other release profiles.

use anyhow::Result;

use crate::module::{self, Build, Module, Profile};
use crate::toolchain::{self, Toolchain};
use crate::workspace::Workspace;

/// The candidates. Only the optimisation level differs: one codegen unit, fat LTO, abort on panic and no names are
/// smaller and faster at once. A precompiled standard library keeps its own level; one built from source follows.
pub const CANDIDATES: [Profile; 4] = [
    Profile { name: "opt-3", variables: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")] },
    Profile { name: "opt-2", variables: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")] },
    Profile { name: "opt-s", variables: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")] },
    Profile { name: "opt-z", variables: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z")] },
];

/// Builds all candidates and prints their bytes.
pub fn run(workspace: &Workspace) -> Result<()> {
    let toolchain = toolchain::ensure(workspace)?;
    let mut rows = Vec::new();
    for profile in CANDIDATES {
        rows.push((profile, build(workspace, &toolchain, profile)?));
    }
    let first = rows.first().map_or(1, |(_, module)| module.bytes);
    println!("{:<10}{:>10}{:>8}  module", "profile", "bytes", "%");
    for (profile, module) in rows {
        let percent = module.bytes as f64 * 100.0 / first as f64;
        println!("{:<10}{:>10}{percent:>8.1}  {}", profile.name, module.bytes, module.path.display());
    }
    Ok(())
}

/// Builds the released module with one profile, as `target/testrelay/testrelay-NAME.wasm`.
pub fn build(workspace: &Workspace, toolchain: &Toolchain, profile: Profile) -> Result<Module> {
    module::build(workspace, toolchain, Build { profile, ..Build::default() })
}
