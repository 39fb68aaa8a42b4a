//! Where Envoy and the built modules are. `cargo xtask test` sets these variables after it has built everything.
//!
//! A missing variable is an error, never a skipped test: a test that did not run must not look like one that passed.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// The module as users get it: `TESTRELAY_WASM`.
pub fn module() -> Result<PathBuf> {
    file("TESTRELAY_WASM")
}

/// The module that crashes on request and has other hooks for tests: `TESTRELAY_WASM_TEST_HOOKS`.
pub fn module_with_test_hooks() -> Result<PathBuf> {
    file("TESTRELAY_WASM_TEST_HOOKS")
}

/// The Envoy program: `TESTRELAY_ENVOY`.
pub fn envoy() -> Result<PathBuf> {
    file("TESTRELAY_ENVOY")
}

fn file(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    let path =
        value.with_context(|| format!("{variable} is not set: run the tests with `cargo xtask test`"))?;
    // Envoy runs in another directory than the test, where a relative path would be another file.
    let path = std::path::absolute(PathBuf::from(path))?;
    ensure!(path.is_file(), "{variable} names {}, which is not a file", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_says_how_to_run_the_tests() {
        let error = file("TESTRELAY_NOT_SET_ANYWHERE").unwrap_err();
        assert_eq!(
            error.to_string(),
            "TESTRELAY_NOT_SET_ANYWHERE is not set: run the tests with `cargo xtask test`"
        );
    }

    #[test]
    fn a_variable_that_names_no_file_is_an_error() {
        // HOME is always set, to a directory.
        let error = file("HOME").unwrap_err();
        assert!(error.to_string().ends_with("which is not a file"), "{error}");
    }
}
