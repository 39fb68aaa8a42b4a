//! The decision of a check.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A decision. Only [`Outcome::Passed`] is posted as `succeeded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every counted execution passed.
    Passed,
    /// All ended, and at least one did not pass.
    Failed,
    /// It could not be determined.
    Inconclusive,
    /// The request could not be evaluated.
    Rejected,
    /// The run ended before a decision; nothing is posted.
    Over,
    /// Azure DevOps did not wait for the check, so nothing is posted.
    OpenGate,
}

impl Outcome {
    /// Whether it owes no TaskCompleted.
    pub fn is_silent(self) -> bool {
        matches!(self, Outcome::Over | Outcome::OpenGate)
    }
}

impl Outcome {
    /// Its one word in lists and metrics. The log explains it ([`Outcome`]'s `Display`).
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Passed => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Rejected => "rejected",
            Outcome::Over => "over",
            Outcome::OpenGate => "open_gate",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Passed => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Inconclusive => "failed (inconclusive: could not be determined)",
            Outcome::Rejected => "failed (rejected)",
            Outcome::Over => "not reported (the run is over)",
            Outcome::OpenGate => "not reported (the gate is open)",
        })
    }
}
