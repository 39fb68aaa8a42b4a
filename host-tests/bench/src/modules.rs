//! The modules that ours is compared with: a few lines of text each, assembled when they are wanted.

use anyhow::{Context, Result};
use std::path::PathBuf;
use tempfile::TempDir;

/// All of them, as files. They go with it.
#[derive(Debug)]
pub struct Modules {
    /// Lets every request pass and does nothing: Envoy's own cost of a wasm filter.
    pub passes: PathBuf,
    /// Reads a request's headers and takes the credential off: the least that a guard of downloads does.
    pub takes_off: PathBuf,
    /// Reads a request's headers and answers 200.
    pub answers: PathBuf,
    _folder: TempDir,
}

impl Modules {
    /// Assembles them.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn assemble() -> Result<Modules> {
        let folder = TempDir::with_prefix("testrelay-bench-").context("no temporary folder")?;
        let assembled = |name: &str, text: &str| -> Result<PathBuf> {
            let file = folder.path().join(name);
            std::fs::write(&file, wat::parse_str(text).with_context(|| format!("modules/{name}"))?)?;
            Ok(file)
        };
        Ok(Modules {
            passes: assembled("passes.wasm", include_str!("modules/passes.wat"))?,
            takes_off: assembled("takes_off.wasm", include_str!("modules/takes_off.wat"))?,
            answers: assembled("answers.wasm", include_str!("modules/answers.wat"))?,
            _folder: folder,
        })
    }
}
