//! Builds the module: the crate `testrelay-plugin` for wasm, with its version text, and free of machine paths.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use crate::callbacks;
use crate::program::run as run_program;
use crate::toolchain::{self, TARGET, Toolchain, registry_sources};
use crate::workspace::{Workspace, write_atomically};

/// The variable with the repository's revision at compile time, for the module's version text.
pub const GIT_REVISION: &str = "TESTRELAY_GIT_REVISION";

/// The variable with the version of the compiler, and so of the standard library, that is in the module.
pub const RUST_VERSION: &str = "TESTRELAY_RUST_VERSION";

/// The crate's cargo features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Features {
    /// The module as released.
    #[default]
    Released,
    /// With the feature `test-hooks`: for tests only.
    TestHooks,
}

/// A release profile: what differs from the one in the root `Cargo.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// Appended to the module's file name; empty for the profile of the root `Cargo.toml`.
    pub name: &'static str,
    /// The settings that differ, as `cargo --config` takes them: `profile.release.opt-level="s"`.
    pub settings: &'static [&'static str],
}

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Build {
    /// The crate's features.
    pub features: Features,
    /// The release profile.
    pub profile: Profile,
    /// Whether the functions' names stay in the module; the code is the same.
    pub with_names: bool,
}

/// A finished module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its absolute path, below `target/testrelay/`.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// `cargo xtask build`.
pub fn run(workspace: &Workspace, features: Features) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let module = build(workspace, &toolchain, Build { features, ..Build::default() })?;
    println!("module: {} {} bytes", module.path.display(), module.bytes);
    Ok(())
}

/// Builds a module and puts it into `target/testrelay/`, each kind under its own name.
pub fn build(workspace: &Workspace, toolchain: &Toolchain, build: Build) -> Result<Module> {
    // `cargo rustc` and not `cargo build`: what follows `--` reaches the last step alone, so that keeping the names
    // does not build the standard library anew.
    let mut cargo = toolchain.cargo(workspace, "rustc")?;
    cargo.args(["--locked", "--package", "testrelay-plugin"]);
    if build.features == Features::TestHooks {
        cargo.args(["--features", "test-hooks"]);
    }
    cargo.env(GIT_REVISION, workspace.git_revision()).env(RUST_VERSION, &toolchain.compiler.release);
    for setting in build.profile.settings {
        cargo.args(["--config", setting]);
    }
    if build.with_names {
        cargo.args(["--", "-Cstrip=debuginfo"]);
    }
    // Every kind of module comes out under the same name: until it is copied, nobody else may build.
    let _alone = only_builder(workspace)?;
    run_program(&mut cargo).context("the module cannot be built")?;

    let built = workspace.wasm_target().join(TARGET).join("release").join("testrelay_plugin.wasm");
    let bytes = fs::read(&built).with_context(|| format!("cargo wrote no {}", built.display()))?;
    if let Some(path) = machine_path_in(&bytes, &machine_paths(workspace, toolchain)?) {
        bail!("the module contains the path {path} of this machine, so it is not reproducible");
    }
    let bytes = callbacks::without(&bytes, &callbacks::UNUSED)?;
    let path = workspace.modules().join(build.file_name());
    write_atomically(&path, &bytes)?;
    Ok(Module { path, bytes: bytes.len() as u64 })
}

impl Build {
    fn file_name(&self) -> String {
        let mut name = "testrelay".to_owned();
        if self.features == Features::TestHooks {
            name.push_str("-test-hooks");
        }
        for part in [self.profile.name, if self.with_names { "names" } else { "" }] {
            if !part.is_empty() {
                name.push('-');
                name.push_str(part);
            }
        }
        name + ".wasm"
    }
}

impl FromStr for Features {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" => Ok(Features::Released),
            "test-hooks" => Ok(Features::TestHooks),
            _ => Err(anyhow!("the module has one feature, `test-hooks`")),
        }
    }
}

/// Waits until no other program builds a module here, and keeps the others waiting until it is dropped.
fn only_builder(workspace: &Workspace) -> Result<File> {
    let folder = workspace.wasm_target();
    let path = folder.join("testrelay.lock");
    let lock = || -> io::Result<File> {
        fs::create_dir_all(&folder)?;
        let file = File::create(&path)?;
        match file.lock() {
            // A file system without locks: cargo does without one there, too.
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(file),
            locked => locked.map(|()| file),
        }
    };
    lock().with_context(|| format!("cannot lock {}", path.display()))
}

/// Folders whose names the compiler would put into panic messages if they were not mapped to neutral ones.
fn machine_paths(workspace: &Workspace, toolchain: &Toolchain) -> Result<Vec<PathBuf>> {
    let library = toolchain.compiler.library_sources();
    let mut paths = vec![workspace.root().join("plugin"), registry_sources()?];
    paths.extend(library.canonicalize().ok());
    paths.push(library);
    Ok(paths)
}

fn machine_path_in(module: &[u8], paths: &[PathBuf]) -> Option<String> {
    let occurs = |path: &Path| {
        let path = path.as_os_str().as_encoded_bytes();
        module.windows(path.len()).any(|window| window == path)
    };
    paths.iter().find(|path| occurs(path)).map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_module_has_its_own_name() {
        assert_eq!(Build::default().file_name(), "testrelay.wasm");
        let hooks = Build { features: Features::TestHooks, ..Build::default() };
        assert_eq!(hooks.file_name(), "testrelay-test-hooks.wasm");
        let small = Profile { name: "opt-s", settings: &[] };
        let named = Build { profile: small, with_names: true, ..Build::default() };
        assert_eq!(named.file_name(), "testrelay-opt-s-names.wasm");
    }

    #[test]
    fn a_machine_path_in_a_module_is_found() {
        let paths = [PathBuf::from("/home/me/relay/plugin"), PathBuf::from("/home/me/.cargo/registry/src")];
        let module = b"\0asm....panicked at /home/me/.cargo/registry/src/index/log-0.4/lib.rs";
        assert_eq!(machine_path_in(module, &paths).as_deref(), Some("/home/me/.cargo/registry/src"));
        assert_eq!(machine_path_in(b"\0asm..../registry/log-0.4/lib.rs", &paths), None);
        assert_eq!(machine_path_in(b"", &paths), None);
    }
}
