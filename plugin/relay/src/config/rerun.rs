//! The policy for re-runs.

use serde::{Deserialize, Serialize};

/// What to do with an execution that provably repeats another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rerun {
    /// The newest of a chain counts, in place of those that it repeats.
    #[default]
    Latest,
    /// Every one counts: a failure stays a failure.
    All,
    /// The first of a chain counts: repeating changes nothing.
    None,
}

impl Rerun {
    /// Reads a policy's name.
    pub fn parse(text: &str) -> Option<Rerun> {
        match text {
            "latest" => Some(Rerun::Latest),
            "all" => Some(Rerun::All),
            "none" => Some(Rerun::None),
            _ => None,
        }
    }
}
