//! Replays one history with its whole trace: `cargo xtask replay SEED`. `replicas SEED` replays one with replicas that share
//! their checks, `replicas-apart SEED` one with replicas that do not.

use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use world::history::{play, play_replicas};

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = arguments.pop().context("which seed?")?.parse().context("a seed is a number")?;
    let outcome = match arguments.first().map(String::as_str) {
        None => play(seed, true)?,
        Some("replicas") => play_replicas(seed, true, true)?,
        Some("replicas-apart") => play_replicas(seed, false, true)?,
        Some(other) => bail!("there are histories of `replicas` and `replicas-apart`, and not of {other:?}"),
    };
    print!("{}", outcome.trace);
    Ok(match outcome.failure() {
        Some(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("seed {seed}: no rule was broken");
            ExitCode::SUCCESS
        }
    })
}
