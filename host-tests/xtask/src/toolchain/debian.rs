//! Debian's Rust: packages that build the standard library for wasm from source, for machines that reach a Debian
//! mirror but not rustup's server.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Compiler;
use crate::program::{Program, output};

/// What is installed: the `-web` packages are the ones Debian keeps new enough.
pub const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld"];

/// Debian's cargo: named by its path, because rustup's comes first on PATH.
pub const CARGO: &str = "/usr/bin/cargo";
/// Debian's compiler.
pub const RUSTC: &str = "/usr/bin/rustc";
/// Debian's linker for wasm.
pub const LINKER: &str = "/usr/bin/wasm-ld";
/// The folder of the C library that Rust's standard library for WASI is linked with.
pub const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// Whether Debian's packages can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Debian {
    /// All are installed and fit together; this is their compiler.
    Ready(Compiler),
    /// They can be installed: this is Debian or Ubuntu, and we are root.
    Installable,
    /// They cannot be used, for this reason.
    Unusable(String),
}

impl Debian {
    /// One clause for people.
    pub fn describe(&self) -> String {
        match self {
            Debian::Ready(compiler) => format!("installed, Rust {}", compiler.release),
            Debian::Installable => "some packages are missing or do not fit together".to_owned(),
            Debian::Unusable(reason) => reason.clone(),
        }
    }
}

/// Looks what is installed, or whether it could be.
pub fn look() -> Debian {
    if let Some(compiler) = installed() {
        return Debian::Ready(compiler);
    }
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian_or_ubuntu(&os_release) {
        return Debian::Unusable("this is neither Debian nor Ubuntu".to_owned());
    }
    match output(Program::new("id").arg("-u")) {
        Ok(id) if id == "0" => Debian::Installable,
        _ => Debian::Unusable("not all of these packages are installed, and you are not root".to_owned()),
    }
}

/// Installs the packages. Needs root and a mirror.
pub fn install() -> Result<()> {
    println!("Debian: `apt-get update`");
    apt_get(&["update"])?;
    println!("Debian: `apt-get install {}`", PACKAGES.join(" "));
    apt_get(&[&["install", "--yes", "--no-install-recommends"][..], &PACKAGES[..]].concat()).context(
        "Debian's Rust cannot be installed; the packages are in Debian 12's security archive and later",
    )
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    output(Program::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

/// The installed compiler, if everything around it is there and the library's sources are its own: sources of another
/// version do not compile.
fn installed() -> Option<Compiler> {
    let libc = format!("{WASI_LIBC}/libc.a");
    if ![CARGO, RUSTC, LINKER, &libc].iter().all(|path| Path::new(path).exists()) {
        return None;
    }
    let compiler = Compiler::ask(RUSTC).ok()?;
    let sources = compiler.library_sources();
    let version_of_sources = fs::read_to_string(sources.join("src/version")).ok()?;
    let fits =
        version_of_sources.trim() == compiler.release && sources.join("library/std/Cargo.toml").exists();
    fits.then_some(compiler)
}

fn is_debian_or_ubuntu(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .any(|id| id == "debian" || id == "ubuntu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_what_is_made_from_it_are_recognised() {
        assert!(is_debian_or_ubuntu("NAME=x\nID=debian\n"));
        assert!(is_debian_or_ubuntu("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian_or_ubuntu("ID=fedora\nID_LIKE=\"rhel\"\nNAME=debian\n"));
    }
}
