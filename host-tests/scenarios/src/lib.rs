//! Stories in files, and the code that plays them on a host.
//!
//! A file in `files/` is one story: what happens to an Envoy with the module in it, and what its callers, Testkube and
//! Azure DevOps must see. The same files are played on the simulated Envoy (`host-tests/world`, in virtual time) and to a
//! real one (`host-tests`, with sockets). Only outcomes are compared, never the order of host calls: where the two differ,
//! the simulation is wrong.
//!
//! - [`format`]: what a file says.
//! - [`Host`]: what a host must be able to do.
//! - [`tell`]: tells a story to a host.

pub mod format;
mod host;
mod merge;
mod seen;
mod tell;

pub use format::Scenario;
pub use host::{Answer, Host, Outgoing, Run};
pub use merge::merge;
pub use tell::tell;

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// All stories, by the names of their files.
///
/// # Errors
/// A file cannot be read or is no story.
pub fn all() -> Result<Vec<(String, Scenario)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a file's name is not UTF-8")?;
        let told = || format!("{}", path.display());
        let story = serde_json::from_slice(&std::fs::read(&path).with_context(told)?).with_context(told)?;
        all.push((name.to_owned(), story));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    ensure!(!all.is_empty(), "no story in {}", folder.display());
    Ok(all)
}
