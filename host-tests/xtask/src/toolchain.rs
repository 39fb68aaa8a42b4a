//! A compiler that can build for `wasm32-wasip1`, and how it is called.
//!
//! There are three ways to one, tried in this order ([`choice`] decides, from facts alone):
//! 1. the active toolchain already has the target's standard library;
//! 2. [`rustup`] adds it;
//! 3. [`debian`]'s compiler builds the standard library from source.
//!
//! What was found is written down only after a [`smoke`] build came out of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::program::{Program, active_cargo, output, without_build_settings};
use crate::workspace::{Workspace, write_atomically};

pub mod choice;
pub mod debian;
pub mod rustup;
pub mod smoke;

use choice::{Facts, Step};

/// The module's target: WASI preview 1 has the clock and the environment the module needs, and Envoy offers it.
pub const TARGET: &str = "wasm32-wasip1";

/// Where a [`Toolchain`] comes from, and so how it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `cargo` and `rustc` as the user calls them, with the target's standard library installed.
    Active,
    /// Debian's packages; the standard library is built from source with the module.
    Debian,
}

/// A compiler that can build for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// How to call it.
    pub origin: Origin,
    /// What it is.
    pub compiler: Compiler,
}

/// A `rustc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// Its version, like `1.95.0`.
    pub release: String,
    /// The commit of its sources, which stands in the paths of a precompiled standard library.
    pub commit: String,
    /// Its folder.
    pub sysroot: PathBuf,
}

impl Compiler {
    /// Asks the given `rustc` what it is.
    pub fn ask(rustc: &str) -> Result<Compiler> {
        let verbose = output(without_build_settings(rustc).arg("-vV"))?;
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
                .with_context(|| format!("`{rustc} -vV` names no {name}"))
        };
        let sysroot = output(without_build_settings(rustc).args(["--print", "sysroot"]))?;
        Ok(Compiler { release: field("release")?, commit: field("commit-hash")?, sysroot: sysroot.into() })
    }

    /// Where this compiler keeps the library's sources, if they are installed.
    pub fn library_sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }
}

impl Toolchain {
    /// `cargo SUBCOMMAND` for the module's target in the release profile, in a build folder of its own, with the
    /// flags of a reproducible build. The caller adds what to build.
    pub fn cargo(&self, workspace: &Workspace, subcommand: &str) -> Result<Program> {
        let mut flags = path_remapping(workspace, &self.compiler)?;
        let mut cargo = match self.origin {
            Origin::Active => {
                let mut cargo = without_build_settings(active_cargo());
                cargo.arg(subcommand);
                cargo
            }
            Origin::Debian => {
                flags.extend(["-L".to_owned(), format!("native={}", debian::WASI_LIBC)]);
                let mut cargo = without_build_settings(debian::CARGO);
                cargo
                    // Both are set for the active toolchain by whoever runs this program.
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("LD_LIBRARY_PATH")
                    .env("RUSTC", debian::RUSTC)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_WASIP1_LINKER", debian::LINKER)
                    .args([subcommand, "-Zbuild-std=std,panic_abort"]);
                cargo
            }
        };
        cargo
            .current_dir(workspace.root())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["--release", "--target", TARGET, "--target-dir"])
            .arg(workspace.wasm_target());
        Ok(cargo)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self.origin {
            Origin::Active => format!("the active toolchain, Rust {}", self.compiler.release),
            Origin::Debian => {
                format!(
                    "Debian's Rust {}, which builds the standard library from source",
                    self.compiler.release
                )
            }
        }
    }
}

/// Finds a toolchain, or sets one up, saying what it does; proves it by a smoke build and remembers it.
pub fn ensure(workspace: &Workspace) -> Result<Toolchain> {
    let mut installed = false;
    loop {
        let facts = Facts::gather(workspace);
        match choice::decide(&facts) {
            Step::Use(toolchain) => return prove(workspace, toolchain),
            Step::AddByRustup => rustup::add_target(workspace, facts.active.as_ref())?,
            Step::InstallDebian if installed => {
                bail!("Debian's packages are installed and yet not usable: {}", facts.debian.describe())
            }
            Step::InstallDebian => {
                debian::install()?;
                installed = true;
            }
            Step::Impossible(reason) => bail!("{reason}"),
        }
    }
}

/// The toolchain that the last successful [`ensure`] wrote down; `None` if there is none.
pub fn recorded(workspace: &Workspace) -> Option<Toolchain> {
    serde_json::from_slice(&fs::read(record(workspace)).ok()?).ok()
}

fn prove(workspace: &Workspace, toolchain: Toolchain) -> Result<Toolchain> {
    if recorded(workspace).as_ref() == Some(&toolchain) {
        println!("{TARGET}: {}", toolchain.describe());
        return Ok(toolchain);
    }
    println!("{TARGET}: trying {}", toolchain.describe());
    smoke::build(workspace, &toolchain)?;
    write_atomically(&record(workspace), &serde_json::to_vec_pretty(&toolchain)?)?;
    println!("{TARGET}: {} works", toolchain.describe());
    Ok(toolchain)
}

fn record(workspace: &Workspace) -> PathBuf {
    workspace.own_folder().join("toolchain.json")
}

/// Flags after which no path of this machine is in the module: the same sources give the same bytes anywhere.
fn path_remapping(workspace: &Workspace, compiler: &Compiler) -> Result<Vec<String>> {
    let library = compiler.library_sources();
    let as_published = format!("/rustc/{}", compiler.commit);
    let mut pairs = vec![(workspace.root().to_path_buf(), "/testrelay".to_owned())];
    // Debian's folder is a link to the real one, and the compiler may name either.
    pairs.extend(library.canonicalize().ok().map(|real| (real, as_published.clone())));
    pairs.push((library, as_published));
    // One folder for each registry or mirror of it: its name must not matter either.
    for entry in fs::read_dir(registry_sources()?).into_iter().flatten().flatten() {
        pairs.push((entry.path(), "/registry".to_owned()));
    }
    pairs.sort();
    pairs.dedup();
    Ok(pairs.into_iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

/// Where cargo unpacks the dependencies' sources.
pub fn registry_sources() -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => Path::new(&std::env::var_os("HOME").context("neither $CARGO_HOME nor $HOME is set")?)
            .join(".cargo"),
    };
    Ok(home.join("registry").join("src"))
}
