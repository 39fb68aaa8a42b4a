//! `cargo xtask mutations`: faults that are put into the module on purpose. A test must catch each of them.
//!
//! A mutation is a file `host-tests/mutations/NAME.patch` ([`patch`]). It is applied to a copy of the sources. If it names
//! unit tests of the core, those are built from the copy and run. Otherwise the module is built from it, and the world's own
//! tests, which are not built anew, are run on that ([`hunt`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::module::{Build, Profile, build};
use crate::toolchain::{self, Toolchain};
use crate::workspace::Workspace;

pub mod hunt;
pub mod patch;

use hunt::{Catch, Hunt};
use patch::Mutation;

/// Which mutations to try, and how hard.
#[derive(Debug)]
pub struct Options {
    /// Their names; empty for all.
    pub names: Vec<String>,
    /// How many random histories each must get through to count as survivor, before the scenarios.
    pub histories: u64,
}

/// Built fast: it is run once.
const MUTANT: Profile = Profile {
    name: "mutant",
    settings: &["profile.release.lto=\"off\"", "profile.release.codegen-units=16"],
};

/// Tries each mutation and prints what caught it. Exit code 0 only if all were caught.
///
/// # Errors
/// A mutation that does not apply or does not build, or tests that find fault with the module as it is.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mutations = chosen(workspace, &options.names)?;
    let copy =
        Workspace::at(workspace.target().join("mutations/sources"), workspace.target().join("mutations"));
    copy_sources(workspace.root(), copy.root())?;
    let of_core: Vec<&str> = mutations.iter().filter_map(Mutation::core_tests).collect();
    if !of_core.is_empty()
        && let Some(catch) = hunt::in_core(&copy, &of_core)?
    {
        bail!("the core's tests find fault with the module as it is: {}", catch.what);
    }
    let in_world = match of_core.len() == mutations.len() {
        true => None,
        false => Some(InWorld::prepare(workspace, &copy, options.histories)?),
    };
    println!("{:40} {:>6} {:>8}  caught by", "mutation", "after", "seconds");
    let mut survivors = Vec::new();
    for mutation in &mutations {
        let began = Instant::now();
        mutation.apply(workspace.root(), copy.root())?;
        let caught = match (mutation.core_tests(), &in_world) {
            (Some(name), _) => hunt::in_core(&copy, &[name]),
            (None, Some(world)) => world.hunt(&copy),
            (None, None) => Ok(None),
        };
        let catch = caught.with_context(|| format!("mutation {}", mutation.name))?;
        mutation.undo(workspace.root(), copy.root())?;
        let seconds = began.elapsed().as_secs();
        match catch {
            Some(Catch { what, after }) => {
                let after = after.map_or("-".into(), |n| n.to_string());
                println!("{:40} {after:>6} {seconds:>8}  {what}", mutation.name);
            }
            None => {
                println!(
                    "{:40} {:>6} {seconds:>8}  NOTHING, expected {}: {}",
                    mutation.name, "-", mutation.expected, mutation.fault
                );
                survivors.push(mutation.name.as_str());
            }
        }
    }
    println!("{} of {} mutations were caught", mutations.len() - survivors.len(), mutations.len());
    Ok(if survivors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is needed to try a mutated module in the world.
struct InWorld {
    toolchain: Toolchain,
    hunt: Hunt,
}

impl InWorld {
    /// Builds the world's tests, and lets them find nothing in the module as it is.
    fn prepare(workspace: &Workspace, copy: &Workspace, histories: u64) -> Result<InWorld> {
        let world = InWorld { toolchain: toolchain::ensure()?, hunt: Hunt::prepare(workspace, histories)? };
        if let Some(catch) = world.hunt.once(&world.module_of(copy)?, 20)? {
            bail!("the world finds fault with the module as it is: {}", catch.what);
        }
        Ok(world)
    }

    fn hunt(&self, copy: &Workspace) -> Result<Option<Catch>> {
        self.hunt.on(&self.module_of(copy)?)
    }

    fn module_of(&self, copy: &Workspace) -> Result<PathBuf> {
        Ok(build(copy, &self.toolchain, Build { profile: MUTANT, ..Build::default() })?.path)
    }
}

fn chosen(workspace: &Workspace, names: &[String]) -> Result<Vec<Mutation>> {
    let all = patch::all(workspace.root())?;
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|mutation| mutation.name != **name)) {
        let known: Vec<&str> = all.iter().map(|mutation| mutation.name.as_str()).collect();
        bail!("there is no mutation `{unknown}`; there are {}", known.join(", "));
    }
    Ok(all.into_iter().filter(|mutation| names.is_empty() || names.contains(&mutation.name)).collect())
}

/// Copies everything that cargo reads, without build folders and version control.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    copy_folder(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && !["target", ".git"].iter().any(|left_out| name == *left_out) {
            copy_folder(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
