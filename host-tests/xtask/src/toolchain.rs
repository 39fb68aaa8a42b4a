//! A compiler that can build for `wasm32-wasip1`, and how it is called.
//!
//! It is the active toolchain, to which `rustup target add` brings the target where it is missing. Where rustup cannot, or is
//! not there, [`debian`]'s compiler takes its place.
//!
//! No `rust-toolchain.toml` names the target. Where it is missing, rustup 1.29 would then bring the user's whole toolchain up to
//! date with it, let every cargo call fail that has no network, and do nothing where `RUSTUP_AUTO_INSTALL=0` or
//! `RUSTUP_TOOLCHAIN` is set.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::program::{Program, active_cargo, output, output_within, without_build_settings};
use crate::workspace::Workspace;

mod debian;

/// The module's target: WASI preview 1 has the clock and the environment the module needs, and Envoy offers it.
pub const TARGET: &str = "wasm32-wasip1";

/// Copies a function into its callers only where that makes hardly more code: the module has 19 KB less of it, and no path in
/// `cargo xtask bench fuel` takes more than some 1 % longer.
const FEW_COPIES: &str = "-Cllvm-args=-inline-threshold=40";

/// How long `rustup target add` may take: the download is about 20 MB.
const MAX_DOWNLOAD: Duration = Duration::from_secs(60);

/// Where a [`Toolchain`] comes from, and so how it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// `cargo` and `rustc` as the user calls them, with the target's standard library installed.
    Active,
    /// Debian's packages; the standard library is built from source with the module.
    Debian,
}

/// A compiler that can build for [`TARGET`].
#[derive(Debug, Clone)]
pub struct Toolchain {
    origin: Origin,
    /// What it is.
    pub compiler: Compiler,
}

/// A `rustc`.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// Its version, like `1.95.0`.
    pub release: String,
    /// The commit of its sources, which stands in the paths of a precompiled standard library.
    commit: String,
    /// Its folder.
    sysroot: PathBuf,
}

impl Compiler {
    /// Asks the given `rustc` what it is.
    fn ask(rustc: &str) -> Result<Compiler> {
        let verbose = output(without_build_settings(rustc).arg("-vV"))?;
        let field = |name: &str| {
            let value = verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(str::to_owned).with_context(|| format!("`{rustc} -vV` names no {name}"))
        };
        let sysroot = output(without_build_settings(rustc).args(["--print", "sysroot"]))?;
        Ok(Compiler { release: field("release")?, commit: field("commit-hash")?, sysroot: sysroot.into() })
    }

    /// Where this compiler keeps the library's sources, if they are installed.
    pub fn library_sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Whether it has the standard library for [`TARGET`].
    fn has_target(&self) -> bool {
        let libraries = fs::read_dir(self.sysroot.join("lib/rustlib").join(TARGET).join("lib"));
        let mut names = libraries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("libstd-"))
    }
}

impl Toolchain {
    /// `cargo SUBCOMMAND` for the module's target in the release profile, in a build folder of its own, with the
    /// flags of a reproducible build. The caller adds what to build.
    pub fn cargo(&self, workspace: &Workspace, subcommand: &str) -> Result<Program> {
        let mut flags = path_remapping(workspace, &self.compiler)?;
        flags.push(FEW_COPIES.to_owned());
        let mut cargo = match self.origin {
            Origin::Active => without_build_settings(active_cargo()),
            Origin::Debian => debian::cargo(&mut flags),
        };
        cargo.arg(subcommand);
        if self.origin == Origin::Debian {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        cargo
            .current_dir(workspace.root())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["--release", "--target", TARGET, "--target-dir"])
            .arg(workspace.wasm_target());
        Ok(cargo)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let release = &self.compiler.release;
        match self.origin {
            Origin::Active => format!("the active toolchain, Rust {release}"),
            Origin::Debian => {
                format!("Debian's Rust {release}, which builds the standard library from source")
            }
        }
    }
}

/// The toolchain that is there; changes nothing.
pub fn find() -> Option<Toolchain> {
    let active = Compiler::ask("rustc").ok().filter(Compiler::has_target);
    let active = active.map(|compiler| Toolchain { origin: Origin::Active, compiler });
    active.or_else(|| Some(Toolchain { origin: Origin::Debian, compiler: debian::compiler()? }))
}

/// Finds a toolchain, or sets one up, saying what it does.
pub fn ensure() -> Result<Toolchain> {
    let toolchain = match find() {
        Some(toolchain) => toolchain,
        None => set_up()?,
    };
    println!("{TARGET}: {}", toolchain.describe());
    Ok(toolchain)
}

/// Whether [`ensure`] has a way to try where [`find`] finds nothing: rustup, or Debian's packages.
pub fn can_set_up() -> bool {
    env::var_os("RUSTUP_TOOLCHAIN").is_some() || output(Program::new("apt-get").arg("--version")).is_ok()
}

/// What [`ensure`] runs where [`find`] finds nothing, for people.
pub fn set_up_commands() -> String {
    format!("`rustup target add {TARGET}` or, where that does not help, `{}`", debian::install_command())
}

fn set_up() -> Result<Toolchain> {
    let by_rustup = add_by_rustup().and_then(|()| find().context("it says it did, and nothing is there"));
    let failed = match by_rustup {
        Ok(toolchain) => return Ok(toolchain),
        Err(error) => format!("{error:#}"),
    };
    println!("{TARGET}: not added by rustup: {failed}");
    debian::install().and_then(|()| find().context("the packages do not fit together")).with_context(|| {
        format!(
            "no compiler for {TARGET}. Either of these helps: `rustup target add {TARGET}` ({failed}); on Debian or \
             Ubuntu, as root, `{}`",
            debian::install_command()
        )
    })
}

/// Adds the target to the active toolchain. rustup names it to whatever it runs: a system's compiler that comes first on
/// PATH is none of its.
fn add_by_rustup() -> Result<()> {
    let active = env::var_os("RUSTUP_TOOLCHAIN").context("rustup does not run this cargo")?;
    println!("{TARGET}: `rustup target add {TARGET}` (at most {} s)", MAX_DOWNLOAD.as_secs());
    let mut rustup = without_build_settings("rustup");
    rustup.args(["target", "add", TARGET, "--toolchain"]).arg(active);
    output_within(&mut rustup, MAX_DOWNLOAD).map(drop)
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
    let home = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(Path::new(".cargo"))));
    Ok(home.context("neither $CARGO_HOME nor $HOME is set")?.join("registry/src"))
}
