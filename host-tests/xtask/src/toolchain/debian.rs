//! Debian's Rust: packages that build the standard library for wasm from source, for machines that reach a Debian
//! mirror but not rustup's server.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Compiler;
use crate::program::{Program, output, without_build_settings};

/// The `-web` packages are the ones that Debian keeps new enough: in Debian 12's security archive, and later.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld"];

/// Named by their paths, because rustup's come first on PATH.
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const LINKER: &str = "/usr/bin/wasm-ld";
/// The folder of the C library that Rust's standard library for WASI is linked with.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// The installed compiler, if everything around it is there and the library's sources are its own: sources of another
/// version do not compile.
pub(super) fn compiler() -> Option<Compiler> {
    let libc = format!("{WASI_LIBC}/libc.a");
    if ![CARGO, RUSTC, LINKER, &libc].iter().all(|path| Path::new(path).exists()) {
        return None;
    }
    let compiler = Compiler::ask(RUSTC).ok()?;
    let sources = compiler.library_sources();
    let version = fs::read_to_string(sources.join("src/version")).ok()?;
    let fits = version.trim() == compiler.release && sources.join("library/std/Cargo.toml").exists();
    fits.then_some(compiler)
}

/// Its cargo, as it must be called to build for wasm with `-Zbuild-std`.
pub(super) fn cargo(flags: &mut Vec<String>) -> Program {
    flags.extend(["-L".to_owned(), format!("native={WASI_LIBC}")]);
    let mut cargo = without_build_settings(CARGO);
    cargo
        // Both are set for the active toolchain by whoever runs this program.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("LD_LIBRARY_PATH")
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_WASIP1_LINKER", LINKER);
    cargo
}

/// Installs the packages. Needs root and a mirror.
pub(super) fn install() -> Result<()> {
    println!("Debian: `apt-get update` and `{}`", install_command());
    for arguments in
        [&["update"][..], &[&["install", "--yes", "--no-install-recommends"], &PACKAGES[..]].concat()]
    {
        output(Program::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

/// What [`install`] does, for people.
pub(super) fn install_command() -> String {
    format!("apt-get install {}", PACKAGES.join(" "))
}
