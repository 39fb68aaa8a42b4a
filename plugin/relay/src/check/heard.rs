//! What an answer to the live log says about its check.

use super::{Outcome, Told};
use crate::time::Mono;
use crate::wire::azure::Answer;

/// An answer to the live log.
pub(crate) struct Heard {
    /// The evaluation that the call was for.
    pub(super) began: Mono,
    /// The delivery that brought the presented token.
    pub(super) token: u32,
    /// The call, in words.
    pub(super) what: &'static str,
    /// Whether the call was made at the check's own plan.
    pub(super) is_at_plan: bool,
    pub(super) answer: Answer,
    pub(super) news: Option<News>,
}

/// What the answer changes for the check.
pub(super) enum News {
    Told(Told),
    LogLost(String),
    RecordLost(String),
    /// Azure DevOps takes nothing more for it.
    RunOver(String),
    RunEnded {
        outcome: Outcome,
        reason: String,
        by_build: bool,
    },
}

impl Heard {
    /// Whether the run is over, so that it matters who else waits for its executions.
    pub(crate) fn ends_run(&self) -> bool {
        matches!(self.news, Some(News::RunEnded { .. }))
    }
}

/// The news that a run has ended: how, why, and whether its build said so.
pub(super) fn ended((outcome, reason, by_build): (Outcome, String, bool)) -> News {
    News::RunEnded { outcome, reason, by_build }
}
