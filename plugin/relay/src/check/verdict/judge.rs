//! The decision: what a complete reading means for a check at this time.

use super::{Assessment, Standing};
use super::{Waits, waits};
use crate::check::retry::Wish;
use crate::check::{Ask, Pending, ReasonCode, Watch, reason};
use crate::time::{Mono, Now};
use std::time::Duration;

/// What is known beside a reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The time of the reading.
    pub(crate) now: Now,
    /// Since when the counted set has been the same.
    pub(crate) since: Mono,
    /// How long the expected executions have been absent while Testkube answered.
    pub(crate) absent: Duration,
    /// How long its failures have waited for a re-run while Testkube answered.
    pub(crate) waited: Duration,
    /// How long the last re-run that was asked for has been looked for while Testkube answered.
    pub(crate) looked: Duration,
    /// Whether a deadline has passed, and this is the last reading.
    pub(crate) is_last: bool,
}

/// What a reading means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing is decided yet. With a time, nothing but another change decides before it.
    Wait(Option<Mono>),
    /// Testkube is to run these again.
    Rerun(Vec<Wish>),
    /// The failures are decided at this time, unless a re-run comes before. Later, if Testkube does not answer meanwhile.
    Grace(Mono),
    /// All has ended: decided, once each execution was looked at again and is as it was read.
    Ended(ReasonCode, String),
    /// Decided.
    Decided(ReasonCode, String),
}

/// Judges a complete reading.
pub(crate) fn judge(
    pending: &Pending,
    ask: &Ask,
    watch: &Watch,
    read: &Assessment<'_>,
    facts: &Facts,
) -> Judgement {
    let Facts { now, since, absent, waited, looked, is_last } = *facts;
    if let Some(unclear) = read.unclear {
        let reason = reason::unclear(ask, watch, read, unclear, now);
        return Judgement::Decided(ReasonCode::AttemptUnclear, reason);
    }
    let standing = read.standing();
    if standing == Standing::Incomplete && absent >= ask.appear_timeout {
        let (code, reason) = reason::absent(ask, watch, read, now);
        return Judgement::Decided(code, reason);
    }
    let waits = match is_last {
        true => Waits::Nothing,
        false => waits(pending, ask, watch, read, looked),
    };
    if let Waits::Wishes(wishes) = waits {
        return Judgement::Rerun(wishes);
    }
    let unchanged = now.mono.since(since);
    match standing {
        Standing::Ended { passed: false } if waits == Waits::Appear => Judgement::Wait(None),
        Standing::Ended { passed } if unchanged >= ask.settle => {
            let left = ask.policies.grace.saturating_sub(waited);
            if !passed && !is_last && !left.is_zero() {
                return Judgement::Grace(now.mono.plus(left).min(pending.deadline().at));
            }
            Judgement::Ended(reason::code_of_ended(passed, read), reason::ended(ask, watch, read, now))
        }
        standing if is_last => {
            let what = reason::unfinished(standing, ask, read, now.wall);
            let code = match standing {
                Standing::Ended { .. } => ReasonCode::ChangedTooLate,
                Standing::Incomplete | Standing::Running => reason::code_of_deadline(pending, now),
            };
            Judgement::Decided(code, reason::deadline(pending, now, &what))
        }
        Standing::Ended { .. } => Judgement::Wait(Some(since.plus(ask.settle))),
        Standing::Incomplete | Standing::Running => Judgement::Wait(None),
    }
}
