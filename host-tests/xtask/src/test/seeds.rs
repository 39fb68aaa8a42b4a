//! Which random histories are played: fixed seeds, and seeds that follow from the source, so that each state of the source
//! is put to ones that none before it was mended for.
//!
//! They follow from git's tree of the commit, not from the commit: the same files play the same histories whatever they
//! are called, so a history that breaks a rule cannot be made to go away by committing once more. The list of expected
//! failures is left out of it: whoever lists a seed gets the same seeds again, less that one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::expected::list::FILE as LIST;
use crate::program::{Program, output};
use crate::workspace::Workspace;

/// The seeds that every state of the source plays: from and to.
pub(crate) const FIXED: (u64, u64) = (0, 4_000);
/// How many more follow from the source.
pub(crate) const DERIVED: u64 = 4_000;
/// Below it lie the fixed seeds and those that somebody has played by hand.
const FIRST_DERIVED: u64 = 10_000_000;

/// The seeds that follow from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Derived {
    /// The first.
    pub(crate) from: u64,
    /// The one after the last.
    pub(crate) to: u64,
    of: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The sha256 over git's tree of the commit that is checked out, that tree, and whether files differ from it.
    Tree { hash: String, tree: String, differs: bool },
    /// There is no git: a hash over the files.
    Files { hash: String },
}

impl Derived {
    /// Those of a workspace.
    ///
    /// # Errors
    /// There is no git, and a file cannot be read.
    pub(crate) fn of(workspace: &Workspace) -> Result<Derived> {
        let of = match tree(workspace.root()) {
            Some(tree) => tree,
            None => Source::Files { hash: hash_of_files(workspace.root(), workspace.target())? },
        };
        Derived::from(of)
    }

    fn from(of: Source) -> Result<Derived> {
        let (Source::Tree { hash, .. } | Source::Files { hash }) = &of;
        // 4 billion blocks of seeds, of which no two overlap.
        let digits = hash.get(..8).with_context(|| format!("{hash:?} is no hash"))?;
        let block = u32::from_str_radix(digits, 16).with_context(|| format!("{hash:?} is no hash"))?;
        let from = FIRST_DERIVED + u64::from(block) * DERIVED;
        Ok(Derived { from, to: from + DERIVED, of })
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}, which follow from ", self.from, self.to)?;
        match &self.of {
            Source::Tree { hash, tree, differs } => {
                write!(f, "git's tree {tree} without {LIST} (sha256 of its list: {hash})")?;
                if *differs {
                    write!(f, "; files differ from it, and these seeds do not know how")?;
                }
                Ok(())
            }
            Source::Files { hash } => {
                write!(f, "the files without {LIST} (sha256: {hash}), because there is no git")
            }
        }
    }
}

/// Git's tree; `None` where the folder is not the top of a checkout.
fn tree(root: &Path) -> Option<Source> {
    let git = |arguments: &[&str]| output(Program::new("git").args(arguments).current_dir(root)).ok();
    // Unpacked somewhere below another checkout, that one's tree says nothing.
    git(&["rev-parse", "--show-prefix"]).filter(String::is_empty)?;
    let tree = git(&["rev-parse", "HEAD^{tree}"])?;
    let files = git(&["ls-tree", "-r", "--full-tree", &tree])?;
    let is_list = |line: &&str| line.split_once('\t').is_some_and(|(_, path)| path == LIST);
    let mut all = Sha256::new();
    for line in files.lines().filter(|line| !is_list(line)) {
        all.update(line.as_bytes());
        all.update(b"\n");
    }
    let differs = !git(&["status", "--porcelain"])?.is_empty();
    Some(Source::Tree { hash: hex(&all.finalize()), tree, differs })
}

/// The sha256 over all files below `root`, each with its path, but for build folders and what begins with a dot.
fn hash_of_files(root: &Path, target: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(root, target, &mut files)?;
    files.sort();
    let mut all = Sha256::new();
    for path in files {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if name == LIST {
            continue;
        }
        // A digest of each, so that no file can be taken for the end of the one before.
        all.update(Sha256::digest(name.as_bytes()));
        all.update(Sha256::digest(&bytes));
    }
    Ok(hex(&all.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collect(folder: &Path, target: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if is_hidden || name == "target" || path == target {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&path, target, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        output(Program::new("git").args(identity).args(arguments).current_dir(folder)).unwrap();
    }

    fn source(folder: &Path) -> Workspace {
        fs::create_dir_all(folder.join("target")).unwrap();
        fs::write(folder.join("a.rs"), "one").unwrap();
        fs::write(folder.join("target/x"), "built").unwrap();
        Workspace::at(folder.to_path_buf(), folder.join("target"))
    }

    #[test]
    fn the_seeds_follow_from_the_files_and_not_from_the_commit() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = source(folder.path());
        git(folder.path(), &["init", "-q"]);
        git(folder.path(), &["add", "a.rs"]);
        git(folder.path(), &["commit", "-q", "-m", "one"]);
        fs::write(folder.path().join(".git/info/exclude"), "target\n").unwrap();
        let first = Derived::of(&workspace).unwrap();
        assert!(first.from >= FIRST_DERIVED && first.to - first.from == DERIVED, "{first}");
        assert!(!first.to_string().contains("differ"), "{first}");
        git(folder.path(), &["commit", "-q", "--amend", "-m", "the same files, once more"]);
        assert_eq!(Derived::of(&workspace).unwrap(), first);

        fs::write(folder.path().join("a.rs"), "two").unwrap();
        let differs = Derived::of(&workspace).unwrap();
        assert_eq!((differs.from, differs.to), (first.from, first.to));
        assert!(differs.to_string().contains("files differ from it"), "{differs}");
        git(folder.path(), &["commit", "-q", "-a", "-m", "two"]);
        let second = Derived::of(&workspace).unwrap();
        assert_ne!(second.from, first.from);

        fs::create_dir_all(folder.path().join("host-tests")).unwrap();
        fs::write(folder.path().join(LIST), "history 7  # broken\n").unwrap();
        git(folder.path(), &["add", LIST]);
        git(folder.path(), &["commit", "-q", "-m", "a seed is listed"]);
        let listed = Derived::of(&workspace).unwrap();
        assert_eq!((listed.from, listed.to), (second.from, second.to));
    }

    #[test]
    fn without_git_they_follow_from_the_files_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = source(folder.path());
        let first = Derived::of(&workspace).unwrap();
        assert!(first.to_string().contains("because there is no git"), "{first}");
        fs::write(folder.path().join("target/x"), "built anew").unwrap();
        assert_eq!(Derived::of(&workspace).unwrap(), first);
        fs::create_dir_all(folder.path().join("host-tests")).unwrap();
        fs::write(folder.path().join(LIST), "history 7  # broken\n").unwrap();
        assert_eq!(Derived::of(&workspace).unwrap(), first);
        fs::rename(folder.path().join("a.rs"), folder.path().join("b.rs")).unwrap();
        assert_ne!(Derived::of(&workspace).unwrap(), first);
    }

    #[test]
    fn no_two_blocks_of_seeds_overlap_and_none_reaches_the_fixed_ones() {
        let of = |hash: &str| Derived::from(Source::Files { hash: hash.into() }).unwrap();
        let (least, next, most) = (of("00000000ff"), of("00000001ff"), of("ffffffffff"));
        assert_eq!(least.from, FIRST_DERIVED);
        assert_eq!(least.to, next.from);
        assert_eq!(most.to, FIRST_DERIVED + DERIVED * (1 << 32));
        assert!(FIXED.1 < FIRST_DERIVED);
        assert!(Derived::from(Source::Files { hash: "xyz".into() }).is_err());
    }
}
