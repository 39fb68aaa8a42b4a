//! `cargo xtask demo`: one check from its request to its decision, with a real Envoy between two fakes, told as it
//! happens.
//!
//! Nothing is told because it should have happened: every line and every proof comes from the fakes' own records.
//! `story` has the five steps, `witness` tells the traffic, `proof` holds the records against what was promised.

mod cast;
mod curl;
mod interrupt;
mod keep;
mod proof;
mod stage;
mod story;
mod voice;
mod witness;

pub use interrupt::{Interrupt, Interrupted};

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use stage::Stage;
use story::Story;
use voice::Voice;
use xtask::envoy_binary::EnvoyVersion;
use xtask::module::{self, Build};
use xtask::setup;
use xtask::workspace::Workspace;

/// How the demo is played.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// One of the tests fails.
    pub fail: bool,
    /// The stage stays after the story, until Ctrl-C.
    pub keep: bool,
    /// Something is broken on purpose: the demo must notice and fail.
    pub sabotage: Option<Sabotage>,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The executions carry another tag than the check asks for.
    Tag,
    /// Azure DevOps never takes the decision.
    Callback,
    /// Testkube serves other bytes than the test wrote.
    Artifact,
    /// Another service is at Testkube's address: the preflight must say so. The same holds for the next two.
    Testkube,
    /// Azure DevOps has no such organisation.
    AzureDevops,
    /// Testkube's clock is an hour behind.
    Clock,
}

/// The module and the Envoy that play.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The module as released.
    pub wasm: PathBuf,
    /// An Envoy of a supported version.
    pub envoy: PathBuf,
}

impl Programs {
    /// Sets up what is missing and builds the module, saying so.
    pub fn prepare(workspace: &Workspace, envoy: Option<&EnvoyVersion>) -> Result<Programs> {
        let ready = setup::run(workspace, envoy)?;
        let module = module::build(workspace, &ready.toolchain, Build::default())?;
        println!("module: {} {} bytes", module.path.display(), module.bytes);
        Ok(Programs { wasm: module.path, envoy: ready.envoy.path })
    }

    /// Those that the environment names, as for the tests: `TESTRELAY_WASM` and `TESTRELAY_ENVOY`.
    pub fn from_environment() -> Result<Programs> {
        Ok(Programs { wasm: host_tests::env::module()?, envoy: host_tests::env::envoy()? })
    }
}

/// Plays the demo on standard output. After a signal the exit code is 128 and its number, so 130 after Ctrl-C.
pub fn run(programs: &Programs, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::on_signals()?;
    let mut out = std::io::stdout().lock();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let played = play(programs, options, &interrupt, &mut out, colours);
    // Ctrl-C in a terminal reaches Envoy too, so the first thing noticed may be that Envoy has gone.
    match (played, interrupt.signal()) {
        (Err(_), Some(signal)) => {
            eprintln!("ended by signal {signal}: Envoy and both fakes are stopped");
            Ok(ExitCode::from(signal.saturating_add(128)))
        }
        (played, _) => played.map(|()| ExitCode::SUCCESS),
    }
}

/// Plays the demo: `Ok` only if all of it really happened. Everything it has started is stopped when it returns.
///
/// # Errors
/// The step that did not happen, and why; or [`Interrupted`].
pub fn play(
    programs: &Programs,
    options: &Options,
    interrupt: &Interrupt,
    out: &mut dyn Write,
    colours: bool,
) -> Result<()> {
    let stage = Stage::set(programs, interrupt)?;
    let mut voice = Voice::new(out, colours);
    let mut story = Story::new(&stage, *options);
    if let Err(error) = story.tell(&mut voice) {
        if interrupt.signal().is_none() {
            voice.verbatim(&format!("\nThe end of Envoy's log:\n{}", stage.last_words()))?;
        }
        return Err(error);
    }
    if options.keep {
        keep::keep(&stage, &story, &mut voice)?;
    }
    stage.strike()
}
