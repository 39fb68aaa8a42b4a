//! Hundreds of checks at once, each compared with Testkube's state at its decision.

mod calm;
mod evidence;
mod stories;
mod storm;

use std::collections::BTreeMap;

/// The sum of the counters and gauges whose names have this part.
fn sum(stats: &BTreeMap<String, u64>, part: &str) -> u64 {
    stats.iter().filter(|(name, _)| name.contains(part)).map(|(_, value)| value).sum()
}
