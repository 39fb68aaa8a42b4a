//! `rustup target add`, tried once: a machine that cannot reach rustup's server does not wait for it every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Compiler, TARGET};
use crate::program::{output, output_within, without_build_settings};
use crate::workspace::{Workspace, write_atomically};

/// How long `rustup target add` may take: the download is about 20 MB.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a failure is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether rustup can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rustup {
    /// It is not installed, or the active toolchain is none of its.
    Absent,
    /// It is there and has not failed lately.
    Untried,
    /// It failed lately, with this error.
    FailedBefore(String),
}

/// A failure as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    /// The compiler the target was for; another one is another try.
    release: String,
    /// What rustup said.
    error: String,
    /// When, in seconds since 1970.
    at: u64,
}

impl Rustup {
    /// One clause for people.
    pub fn describe(&self) -> String {
        match self {
            Rustup::Absent => "the active toolchain is not one of rustup's".to_owned(),
            Rustup::Untried => "not tried yet".to_owned(),
            Rustup::FailedBefore(error) => format!("it failed: {error}"),
        }
    }
}

/// Looks whether rustup is there, and how it did last time for the active compiler.
pub fn look(workspace: &Workspace, active: Option<&Compiler>) -> Rustup {
    let Some(active) = active else { return Rustup::Absent };
    let Ok(rustc) = output(without_build_settings("rustup").args(["which", "rustc"])) else {
        return Rustup::Absent;
    };
    // A system's compiler can come first on PATH: the target must not be added to another one than is used.
    let real = |path: &Path| path.canonicalize().ok();
    if real(Path::new(&rustc)) != real(&active.sysroot.join("bin").join("rustc")) {
        return Rustup::Absent;
    }
    match read_failure(workspace) {
        Some(failure) if failure.still_counts(active, now()) => Rustup::FailedBefore(failure.error),
        _ => Rustup::Untried,
    }
}

/// Adds the target to the active toolchain. That this fails is no error but remembered: there is another way.
pub fn add_target(workspace: &Workspace, active: Option<&Compiler>) -> Result<()> {
    println!("{TARGET}: `rustup target add {TARGET}` (at most {} s)", LIMIT.as_secs());
    let added = output_within(without_build_settings("rustup").args(["target", "add", TARGET]), LIMIT);
    let error = match added {
        Ok(_) if super::choice::active_has_target() => {
            println!("{TARGET}: rustup added it");
            return Ok(());
        }
        Ok(_) => "it says it did, and yet the standard library is not there".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    println!("{TARGET}: rustup could not add it: {error}");
    let release = active.map(|compiler| compiler.release.clone()).unwrap_or_default();
    let failure = Failure { release, error, at: now() };
    write_atomically(&memory(workspace), &serde_json::to_vec_pretty(&failure)?)
}

/// Where the last failure is written down; deleting the file makes the next set-up try again.
pub fn memory(workspace: &Workspace) -> PathBuf {
    workspace.own_folder().join("rustup-failure.json")
}

impl Failure {
    fn still_counts(&self, active: &Compiler, now: u64) -> bool {
        self.release == active.release && now.saturating_sub(self.at) < MEMORY.as_secs()
    }
}

fn read_failure(workspace: &Workspace) -> Option<Failure> {
    serde_json::from_slice(&fs::read(memory(workspace)).ok()?).ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_a_day_and_for_its_compiler() {
        let compiler = |release: &str| Compiler {
            release: release.to_owned(),
            commit: String::new(),
            sysroot: "/".into(),
        };
        let failure = Failure { release: "1.95.0".to_owned(), error: "no network".to_owned(), at: 1_000 };
        assert!(failure.still_counts(&compiler("1.95.0"), 2_000));
        assert!(!failure.still_counts(&compiler("1.96.0"), 2_000));
        assert!(!failure.still_counts(&compiler("1.95.0"), 1_000 + MEMORY.as_secs()));
    }
}
