//! Whether the run still waits for its check. Azure DevOps sends no word when a run is cancelled, a check bypassed or its
//! time over (Microsoft Learn: the built-in checks have no cancel section), so it is asked once a minute.

use super::azure_calls::Step;
use super::{Lead, Turn};
use crate::azure::{self, Callback, Entry};
use crate::call::{Outcome as CallOutcome, Request};
use crate::check::{CheckKey, Outcome, Pending};
use crate::guid::Guid;
use crate::secret::Secret;
use crate::time::{Mono, Wall};
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

impl Look {
    pub(super) fn request(self, entry: &Entry, callback: &Callback, token: &Secret) -> Request {
        match self {
            Look::Record(timeline) => azure::read_records(entry, callback, token, timeline),
            Look::Build(build) => azure::build(entry, callback, token, build),
        }
    }
}

impl RunWatch {
    pub(super) fn is_due(&self, now: Mono) -> bool {
        now >= self.next && !(self.is_record_unreadable && self.is_build_unreadable)
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

    fn was_read(&mut self, look: Look, now: Mono) {
        self.next = now.plus(EACH);
        self.is_builds_turn = matches!(look, Look::Record(_));
    }

    /// The check is over by its own record: the build is looked at next, at once. False: it cannot be.
    fn asks_build(&mut self, reason: &str, callback: &Callback) -> bool {
        let asks = callback.build.is_some() && !self.is_build_unreadable;
        if asks {
            (self.record_over, self.is_builds_turn, self.next) = (Some(reason.into()), true, Mono(0));
        }
        asks
    }

    /// Why the check is over by its own record, if that waited for a look at the build.
    pub(super) fn take_record_over(&mut self) -> Option<String> {
        self.record_over.take()
    }

    /// This token may not look there, or nothing is to be seen there.
    pub(super) fn is_unreadable(&mut self, look: Look) {
        match look {
            Look::Record(_) => self.is_record_unreadable = true,
            Look::Build(_) => self.is_build_unreadable = true,
        }
    }
}

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    GoesOn,
    Over(Outcome, String),
    Nothing,
}

impl Lead {
    /// The answer to a look at the run, which was started for one delivery: a later one is another run's.
    pub(super) fn run_seen(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        look: Look,
        step: Step,
        outcome: &CallOutcome,
    ) {
        let Some(pending) = self.find(key) else { return };
        let Step::AskRun { delivery } = step else { return };
        let body = match outcome {
            CallOutcome::Response(response) => response.body.as_deref().ok(),
            CallOutcome::Failed(_) => None,
        };
        let seen = match (look, body) {
            (_, None) => Seen::Nothing,
            (Look::Record(_), Some(body)) => own_record(body, pending, turn.now.wall),
            (Look::Build(build), Some(body)) => build_seen(body, pending, build),
        };
        let is_same = pending.delivery == delivery;
        let (callback, may_abort) = (pending.callback.clone(), self.may_abort(pending));
        let Some(teller) = self.teller(key) else { return };
        match seen {
            Seen::Over(Outcome::Over, reason) if is_same && may_abort => match look {
                // Whether the run is over, or this check alone, only the build says.
                Look::Record(_) if teller.run.asks_build(&reason, &callback) => return,
                Look::Record(_) => return self.decide(turn, key, Outcome::Over, reason),
                Look::Build(_) => {
                    let aborts = self.abort_executions(turn, key);
                    return self.decide(turn, key, Outcome::Over, format!("{reason}{aborts}"));
                }
            },
            Seen::Over(outcome, reason) if is_same => return self.decide(turn, key, outcome, reason),
            Seen::Over(..) | Seen::GoesOn => teller.run.was_read(look, turn.now.mono),
            Seen::Nothing => teller.run.is_unreadable(look),
        }
        self.end_by_record(turn, key);
    }

    /// The build has not said that the run is over: then it is the check alone that is.
    pub(super) fn end_by_record(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        let reason = self.teller(key).and_then(|teller| teller.run.take_record_over());
        if let Some(reason) = reason {
            self.decide(turn, key, Outcome::Over, reason);
        }
    }
}

fn own_record(body: &[u8], pending: &Pending, now: Wall) -> Seen {
    let Some(own) = azure::own_record(body, &pending.callback.task) else { return Seen::Nothing };
    let is_open_gate = own.is_open_gate(pending.accepted.wall, now);
    match (own.completed, own.result.as_str()) {
        (false, _) => Seen::GoesOn,
        (true, _) if is_open_gate => Seen::Over(Outcome::OpenGate, OPEN_GATE.into()),
        (true, result) => {
            let result = if result.is_empty() { "no result" } else { result };
            let reason = format!(
                "Azure DevOps has completed this check itself ({result}): the run was cancelled, its time was over, the check was bypassed, or another one failed."
            );
            Seen::Over(Outcome::Over, reason)
        }
    }
}

const OPEN_GATE: &str = "Azure DevOps did not wait for this check: its completion event is ApiResponse, so the answer that accepted it counted as a pass before any test had ended. Set `Completion event` to `Callback` in the check's settings (REST and Terraform: waitForCompletion \"true\", completion_event \"Callback\").";

fn build_seen(body: &[u8], pending: &Pending, build: u64) -> Seen {
    match azure::build_over(body) {
        None => Seen::Nothing,
        Some((None, _)) => Seen::GoesOn,
        // The build of another pipeline, say: the one that waits was not over when it sent the check.
        Some((Some("completed"), Some(finished))) if finished < pending.accepted.wall => Seen::Nothing,
        Some((Some(status), _)) => Seen::Over(Outcome::Over, format!("Build {build} is {status}.")),
    }
}
