//! Replays one history with its whole trace: `cargo xtask replay SEED`.

use anyhow::{Context, Result};
use std::process::ExitCode;

fn main() -> Result<ExitCode> {
    let seed = std::env::args().nth(1).context("which seed?")?.parse().context("a seed is a number")?;
    let outcome = world::history::play(seed, true)?;
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
