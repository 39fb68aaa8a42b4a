//! `cargo xtask test`: all tests of the workspace, with the modules and the Envoy they need; or those with a real Envoy on
//! every supported one.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::envoy_binary::{self, EnvoyVersion, ON_PYPI};
use crate::prepared::{Prepared, prepare};
use crate::program::{Program, native_cargo};
use crate::workspace::Workspace;

/// How many tests of one program run at the same time, whatever the number of cores: those with an Envoy mostly wait.
const SIDE_BY_SIDE: &str = "8";

/// The random histories of the simulated Envoy that belong to all tests: seeds from and to.
const HISTORIES: &str = "0-20000";
/// The variable that the histories' test reads.
pub(crate) const HISTORIES_VARIABLE: &str = "TESTRELAY_HISTORIES";

/// Which Envoys the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envoys {
    /// This version from PyPI.
    One(EnvoyVersion),
    /// One after another, all of [`ON_PYPI`].
    All,
}

/// What one Envoy's run of the end-to-end tests said.
struct Outcome {
    version: EnvoyVersion,
    /// `ok. 129 passed; 0 failed; …`, as cargo prints it; empty where no test ran.
    result: String,
    passed: bool,
}

/// Runs the tests; `None` is the Envoy that [`envoy_binary::find`] chooses.
pub fn run(workspace: &Workspace, envoys: Option<Envoys>, arguments: &[String]) -> Result<ExitCode> {
    let envoy = match envoys {
        Some(Envoys::All) => return on_each(workspace, arguments),
        Some(Envoys::One(version)) => Some(version),
        None => None,
    };
    let prepared = prepare(workspace, envoy)?;
    let status = all_tests(workspace, &prepared, arguments).status().context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// `cargo test --workspace --locked` with the given arguments after it. The exit code is cargo's.
///
/// `TESTRELAY_HISTORIES=FROM-TO` chooses other seeds for the random histories.
fn all_tests(workspace: &Workspace, prepared: &Prepared, arguments: &[String]) -> Program {
    let mut cargo = cargo_test(workspace, prepared);
    let histories = std::env::var(HISTORIES_VARIABLE).unwrap_or_else(|_| HISTORIES.into());
    cargo.args(["--workspace", "--locked"]).args(arguments).env(HISTORIES_VARIABLE, histories);
    cargo
}

/// The tests that rest on what Envoy does, on each version: those of `host-tests/tests/envoy`. All others are the same
/// whatever the version. Ends with a table for the README, and with success only if every version passed.
fn on_each(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut prepared = prepare(workspace, Some(envoy_binary::DEFAULT))?;
    let mut outcomes = Vec::new();
    for version in ON_PYPI {
        prepared.envoy = envoy_binary::ensure(workspace, Some(version))?.path;
        outcomes.push(end_to_end(workspace, &prepared, version, arguments)?);
    }
    println!("\n{}", table(&workspace.git_revision(), &outcomes));
    let all = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn end_to_end(
    workspace: &Workspace,
    prepared: &Prepared,
    version: EnvoyVersion,
    arguments: &[String],
) -> Result<Outcome> {
    let mut child = cargo_test(workspace, prepared)
        .args(["--package", "testrelay-host-tests", "--test", "envoy", "--locked"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be run")?;
    let mut result = String::new();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(said) = line.strip_prefix("test result: ") {
            said.clone_into(&mut result);
        }
    }
    let passed = child.wait()?.success();
    Ok(Outcome { version, result, passed })
}

/// The tests find what they run by three variables, all absolute paths.
fn cargo_test(workspace: &Workspace, prepared: &Prepared) -> Program {
    let mut cargo = native_cargo();
    cargo
        .current_dir(workspace.root())
        .arg("test")
        .env("RUST_TEST_THREADS", SIDE_BY_SIDE)
        .env("TESTRELAY_WASM", &prepared.wasm)
        .env("TESTRELAY_WASM_TEST_HOOKS", &prepared.wasm_test_hooks)
        .env("TESTRELAY_ENVOY", &prepared.envoy);
    cargo
}

const HEAD: &str = "| Envoy | all passed | tests |";

fn table(revision: &str, outcomes: &[Outcome]) -> String {
    let row = |outcome: &Outcome| {
        let result = outcome.result.split("; finished").next().unwrap_or_default();
        let (_, counts) = result.split_once(". ").unwrap_or(("", "no test ran"));
        let verdict = if outcome.passed { "yes" } else { "NO" };
        format!("| {} | {verdict} | {counts} |", outcome.version)
    };
    let head = [
        format!("End-to-end tests at {revision}:"),
        String::new(),
        HEAD.to_owned(),
        "|---|---|---|".to_owned(),
    ];
    head.into_iter().chain(outcomes.iter().map(row)).collect::<Vec<_>>().join("\n")
}

impl FromStr for Envoys {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Envoys::All),
            version => version.parse().map(Envoys::One),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy_binary::WITHOUT_V8;

    const README: &str = include_str!("../../../README.md");

    #[test]
    fn the_tests_run_on_one_envoy_or_on_all() {
        assert_eq!("all".parse::<Envoys>().unwrap(), Envoys::All);
        assert_eq!("1.40.0".parse::<Envoys>().unwrap(), Envoys::One(envoy_binary::DEFAULT));
        assert!("newest".parse::<Envoys>().is_err());
    }

    #[test]
    fn the_readme_shows_a_run_in_which_each_version_passed() {
        let (_, table) = README.split_once(&format!("\n{HEAD}\n|---|---|---|\n")).expect("no such table");
        let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let shown = rows.iter().map(|row| row.split('|').nth(1).unwrap_or_default().trim().to_owned());
        assert_eq!(shown.collect::<Vec<_>>(), ON_PYPI.map(|version| version.to_string()));
        for row in rows {
            assert!(row.contains(" | yes | ") && row.contains(" passed; 0 failed; 0 ignored; "), "{row}");
        }
        for version in WITHOUT_V8 {
            assert!(README.contains(&format!("PyPI's {version}")), "{version}");
        }
    }

    #[test]
    fn the_table_says_what_cargo_said() {
        let outcome = |result: &str, passed| Outcome { version: ON_PYPI[0], result: result.into(), passed };
        let said = table(
            "5d38d312744a",
            &[
                outcome(
                    "ok. 129 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s",
                    true,
                ),
                outcome(
                    "FAILED. 128 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
                    false,
                ),
                outcome("", false),
            ],
        );
        let rows: Vec<&str> = said.lines().skip(4).collect();
        assert!(said.starts_with("End-to-end tests at 5d38d312744a:"), "{said}");
        assert_eq!(
            rows,
            [
                "| 1.36.2 | yes | 129 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out |",
                "| 1.36.2 | NO | 128 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out |",
                "| 1.36.2 | NO | no test ran |",
            ]
        );
    }
}
