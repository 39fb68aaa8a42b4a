//! Where things are: the repository, its build folder, and which revision it is at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use crate::program::{Program, output};

/// The repository and its build folder, both absolute.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// A commit of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its hash, in full.
    pub hash: String,
    /// When it was made: RFC 3339, UTC, whole seconds.
    pub time: String,
    /// Whether files differ from it.
    pub dirty: bool,
}

impl Commit {
    /// A hash of it, with `-dirty` where files differ.
    fn marked(&self, hash: &str) -> String {
        format!("{hash}{}", if self.dirty { "-dirty" } else { "" })
    }

    /// The whole hash, with `-dirty` where files differ from the commit.
    pub fn revision(&self) -> String {
        self.marked(&self.hash)
    }
}

impl Workspace {
    /// The workspace that `cargo xtask` was called in. `$CARGO_TARGET_DIR` moves the build folder, as for cargo.
    pub fn locate() -> Result<Workspace> {
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest_dir
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").is_file())
            .with_context(|| {
                format!(
                    "{} is not inside Testrelay's repository; run `cargo xtask` there",
                    manifest_dir.display()
                )
            })?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(dir).context("$CARGO_TARGET_DIR is not a path")?,
            None => root.join("target"),
        };
        Ok(Workspace { root, target })
    }

    /// Another copy of the repository, with its build folder.
    pub fn at(root: PathBuf, target: PathBuf) -> Workspace {
        Workspace { root, target }
    }

    /// The folder of the root `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's build folder for the native crates.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What xtask itself downloads; deleting it costs a new `cargo xtask setup`, nothing else.
    pub fn own_folder(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The build folder of everything for wasm: apart from the native one, because another compiler may write it.
    pub fn wasm_target(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// Where the finished modules lie.
    pub fn modules(&self) -> PathBuf {
        self.target.join("testrelay")
    }

    /// The commit that is checked out; `None` without git.
    pub fn commit(&self) -> Option<Commit> {
        let git = |arguments: &[&str]| {
            output(Program::new("git").args(arguments).env("TZ", "UTC").current_dir(&self.root)).ok()
        };
        let (hash, changes) = (git(&["rev-parse", "HEAD"])?, git(&["status", "--porcelain"])?);
        let time =
            git(&["show", "--no-patch", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd", "HEAD"])?;
        Some(Commit { hash, time, dirty: !changes.is_empty() })
    }

    /// The address of git's remote `origin`, as it was given to git; `None` without one.
    pub fn origin(&self) -> Option<String> {
        let mut git = Program::new("git");
        output(git.args(["config", "--get", "remote.origin.url"]).current_dir(&self.root)).ok()
    }

    /// The first 12 digits of the commit's hash, with `-dirty` when files differ from it; `unknown` without git.
    pub fn git_revision(&self) -> String {
        let short = |commit: Commit| commit.marked(commit.hash.get(..12).unwrap_or(&commit.hash));
        self.commit().map_or_else(|| "unknown".to_owned(), short)
    }
}

/// Writes a file so that a reader sees the old one or the new one, never half of it. Makes the folder if needed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", process::id()));
    let part = folder.join(name);
    fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let folder = std::env::temp_dir().join(format!("xtask-write-{}", process::id()));
        let path = folder.join("deep").join("record.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.join("deep")).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
