//! Whether the run still waits for its check. Azure DevOps sends no word when a run is cancelled, a check bypassed or its
//! time over (Microsoft Learn: the built-in checks have no cancel section), so it is asked once a minute.

use super::{Outcome, Pending};
use crate::config::Config;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::time::{Mono, Wall};
use crate::wire::azure::{self, Callback, Entry};
use crate::wire::call::{Outcome as CallOutcome, Request};
use std::time::Duration;

const EACH: Duration = Duration::from_secs(60);

/// When the run is looked at next, and where.
#[derive(Default)]
pub(super) struct RunWatch {
    next: Mono,
    /// The build has its turn.
    is_builds_turn: bool,
    is_record_unreadable: bool,
    is_build_unreadable: bool,
    /// Why the check is over by its own record, while the build is asked whether the run is.
    record_over: Option<String>,
}

/// A look at the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At the check's own record, in its timeline.
    Record(Guid),
    /// At the build whose stage waits.
    Build(u64),
}

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    GoesOn,
    Over(Outcome, String),
    /// This token may not look there, or nothing is to be seen there.
    Nothing,
}

impl Look {
    pub(super) fn request(self, entry: &Entry, callback: &Callback, token: &Secret) -> Request {
        match self {
            Look::Record(timeline) => azure::read_records(entry, callback, token, timeline),
            Look::Build(build) => azure::build(entry, callback, token, build),
        }
    }

    /// What an answer that was taken shows, to a look that was started for one delivery: a later one is another run's.
    pub(super) fn shows(self, pending: &Pending, delivery: u32, outcome: &CallOutcome, now: Wall) -> Shown {
        let body = match outcome {
            CallOutcome::Response(response) => response.body.as_deref().ok(),
            CallOutcome::Failed(_) => None,
        };
        let shown = match (self, body) {
            (_, None) => Shown::Nothing,
            (Look::Record(_), Some(body)) => own_record(body, pending, now),
            (Look::Build(build), Some(body)) => build_seen(body, pending, build),
        };
        match shown {
            Shown::Over(..) if pending.delivery != delivery => Shown::GoesOn,
            shown => shown,
        }
    }
}

impl RunWatch {
    /// The run of a check that is answered there.
    pub(super) fn of(callback: &Callback) -> RunWatch {
        RunWatch {
            is_record_unreadable: callback.timeline.is_none(),
            is_build_unreadable: callback.build.is_none(),
            ..RunWatch::default()
        }
    }

    /// When it is to be looked at; `None`: nothing is to be seen anywhere.
    pub(super) fn next(&self) -> Option<Mono> {
        (!(self.is_record_unreadable && self.is_build_unreadable)).then_some(self.next)
    }

    /// The look that is due, the own record first and then in turn with the build.
    pub(super) fn due(&self, now: Mono, callback: &Callback) -> Option<Look> {
        if now < self.next {
            return None;
        }
        let record = callback.timeline.filter(|_| !self.is_record_unreadable).map(Look::Record);
        let build = callback.build.filter(|_| !self.is_build_unreadable).map(Look::Build);
        if self.is_builds_turn { build.or(record) } else { record.or(build) }
    }

    /// Notes what a look has shown. Answers how the run has ended and why, and whether the build said so.
    pub(super) fn is_seen(
        &mut self,
        look: Look,
        shown: Shown,
        now: Mono,
        may_abort: bool,
        callback: &Callback,
    ) -> Option<(Outcome, String, bool)> {
        let is_record = matches!(look, Look::Record(_));
        match shown {
            // Whether the run is over, or this check alone, only the build says.
            Shown::Over(Outcome::Over, reason) if may_abort && is_record && self.can_ask_build(callback) => {
                (self.record_over, self.is_builds_turn, self.next) = (Some(reason), true, Mono(0));
                return None;
            }
            Shown::Over(outcome, reason) => return Some((outcome, reason, !is_record)),
            Shown::GoesOn => (self.next, self.is_builds_turn) = (now.plus(EACH), is_record),
            Shown::Nothing if is_record => self.is_record_unreadable = true,
            Shown::Nothing => self.is_build_unreadable = true,
        }
        // The build has not said that the run is over: then it is the check alone that is.
        self.record_over.take().map(|reason| (Outcome::Over, reason, false))
    }

    fn can_ask_build(&self, callback: &Callback) -> bool {
        callback.build.is_some() && !self.is_build_unreadable
    }
}

/// Whether executions of this check may be aborted when its run is over: its tag is of its build, and both the
/// configuration and its credential say so.
pub(super) fn may_abort(config: &Config, pending: &Pending) -> bool {
    let of_build = |build| pending.ask.as_ref().is_some_and(|ask| ask.tag.is_of(build));
    let mut credentials = config.credentials.iter();
    config.checks.abort_on_cancel
        && pending.callback.build.is_some_and(of_build)
        && credentials.any(|c| c.name == pending.credential && c.abort_on_cancel)
}

fn own_record(body: &[u8], pending: &Pending, now: Wall) -> Shown {
    let Some(own) = azure::own_record(body, &pending.callback.task) else { return Shown::Nothing };
    let is_open_gate = own.is_open_gate(pending.accepted.wall, now);
    match (own.completed, own.result.as_str()) {
        (false, _) => Shown::GoesOn,
        (true, _) if is_open_gate => Shown::Over(Outcome::OpenGate, OPEN_GATE.into()),
        (true, result) => {
            let result = if result.is_empty() { "no result" } else { result };
            let reason = format!(
                "Azure DevOps has completed this check itself ({result}): the run was cancelled, its time was over, the check was bypassed, or another one failed."
            );
            Shown::Over(Outcome::Over, reason)
        }
    }
}

const OPEN_GATE: &str = "Azure DevOps did not wait for this check: its completion event is ApiResponse, so the answer that accepted it counted as a pass before any test had ended. Set `Completion event` to `Callback` in the check's settings (REST and Terraform: waitForCompletion \"true\", completion_event \"Callback\").";

fn build_seen(body: &[u8], pending: &Pending, build: u64) -> Shown {
    match azure::build_over(body) {
        None => Shown::Nothing,
        Some((None, _)) => Shown::GoesOn,
        // The build of another pipeline, say: the one that waits was not over when it sent the check.
        Some((Some("completed"), Some(finished))) if finished < pending.accepted.wall => Shown::Nothing,
        Some((Some(status), _)) => Shown::Over(Outcome::Over, format!("Build {build} is {status}.")),
    }
}
