//! Plays the histories of the seeds it is given and says of each, on one line, whether it holds or which rule it breaks first.

use anyhow::{Context, Result};
use std::io::Write as _;

fn main() -> Result<()> {
    for seed in std::env::args().skip(1) {
        let seed = seed.parse().with_context(|| format!("{seed:?} is no seed"))?;
        let outcome = world::history::play_counting(seed)?;
        let first = outcome.violations.first().map(|violation| violation.to_string().replace('\n', " "));
        // Each at once: of the seeds before one that brings this program down, all is told.
        writeln!(std::io::stdout(), "seed {seed}: {}", first.as_deref().unwrap_or("holds"))?;
    }
    Ok(())
}
