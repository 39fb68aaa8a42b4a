//! `cargo xtask dist`: what a release consists of, in one folder: the module, its image, the schema and an example of its
//! configuration, the licence, what changed, and the checksums of all.
//!
//! The same commit and toolchain give the same bytes, wherever it is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, ensure};

use crate::image::oci::sha256;
use crate::image::{self, VERSION};
use crate::module::{Build, build};
use crate::toolchain;
use crate::workspace::Workspace;

/// The list that `sha256sum --check` reads.
pub const CHECKSUMS: &str = "SHA256SUMS";

const CHANGELOG: &str = "CHANGELOG.md";

/// Files of the repository that a release has, each with what it is called there; `{}` is the version.
const COPIED: [(&str, &str); 4] = [
    ("envoy/testrelay.schema.json", "testrelay-{}.schema.json"),
    ("envoy/envoy.yaml", "testrelay-{}.envoy.yaml"),
    (CHANGELOG, CHANGELOG),
    ("LICENSE", "LICENSE"),
];

/// `cargo xtask dist`.
pub fn run(workspace: &Workspace, options: &image::Options) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let module = build(workspace, &toolchain, Build::default())?;
    let bytes =
        fs::read(&module.path).with_context(|| format!("{} cannot be read", module.path.display()))?;
    let written = image::write(workspace, &bytes, options)?;
    let folder = write(workspace, &bytes, &written.path)?;
    print!("{}", fs::read_to_string(folder.join(CHECKSUMS))?);
    println!("digest of the image: {}", written.image.digest());
    println!("release {VERSION}: {}", folder.display());
    if let Some(reason) = not_for_a_release(workspace) {
        println!("NOT for a release: {reason}");
    }
    Ok(())
}

/// Puts a module, its image's archive and the repository's files into `target/testrelay/dist/`, in place of what an earlier
/// call put there. Returns the folder.
pub fn write(workspace: &Workspace, module: &[u8], archive: &Path) -> Result<PathBuf> {
    let mut files =
        vec![(format!("testrelay-{VERSION}.wasm"), module.to_vec()), (image::file_name(), read(archive)?)];
    for (from, to) in COPIED {
        files.push((to.replace("{}", VERSION), read(&workspace.root().join(from))?));
    }
    says_what_changed(&read(&workspace.root().join(CHANGELOG))?)?;
    files.sort();
    let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
    files.push((CHECKSUMS.to_owned(), sums.into_bytes()));

    let folder = workspace.modules().join("dist");
    let part = workspace.modules().join(format!("dist.{}.part", process::id()));
    fs::create_dir_all(&part).with_context(|| format!("cannot make the folder {}", part.display()))?;
    for (name, bytes) in &files {
        fs::write(part.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::rename(&part, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// A release whose changes nobody wrote down is a forgotten step.
fn says_what_changed(changelog: &[u8]) -> Result<()> {
    let heading = format!("## [{VERSION}]");
    let text = String::from_utf8_lossy(changelog);
    ensure!(
        text.lines().any(|line| line.starts_with(&heading)),
        "{CHANGELOG} has no section `{heading}`: write down what changed in this version"
    );
    Ok(())
}

/// Why nobody could make the same again.
fn not_for_a_release(workspace: &Workspace) -> Option<&'static str> {
    match workspace.commit() {
        None => Some("this is no clone of the repository, so the revision is unknown"),
        Some(commit) => commit.dirty.then_some("files differ from the commit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_without_a_section_in_the_changelog_is_no_release() {
        let error = says_what_changed(b"# Changelog\n\n## [99.0.0]\n").unwrap_err().to_string();
        assert!(error.contains(&format!("no section `## [{VERSION}]`")), "{error}");
        assert!(says_what_changed(format!("## [{VERSION}] - 2026-01-23\n").as_bytes()).is_ok());
    }
}
