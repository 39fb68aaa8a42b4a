//! Plays the histories of the given seeds and prints a line for each: whether it holds, or which rule it breaks first.

use anyhow::{Context, Result};
use std::io::Write as _;

fn main() -> Result<()> {
    for seed in std::env::args().skip(1) {
        let seed = seed.parse().with_context(|| format!("{seed:?} is no seed"))?;
        let outcome = world::history::play_counting(seed)?;
        let first = outcome.violations.first().map(|violation| violation.to_string().replace('\n', " "));
        // Each line at once, so that a seed that crashes this program hides no earlier one.
        writeln!(std::io::stdout(), "seed {seed}: {}", first.as_deref().unwrap_or("holds"))?;
    }
    Ok(())
}
