//! Aborting what still runs for a run that is over: off unless the configuration and the check's credential allow it.
//!
//! Best effort, and beside everything else: the check ends by itself. Who loses the lease forgets what was to be aborted.

use super::{Counter, Lead, Output, Purpose, Turn};
use crate::backoff::delay;
use crate::call::Outcome as CallOutcome;
use crate::check::{CheckKey, Pending, Phase};
use crate::testkube;
use crate::text::listed;
use crate::time::Mono;
use std::time::Duration;

const MOST_CALLS: usize = 2;
const TRIES: u32 = 3;
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// An execution that is to be aborted.
pub(super) struct Abort {
    id: String,
    name: String,
    tries: u32,
    next: Mono,
}

impl Lead {
    /// Whether executions of this check may be aborted when its run is over: its tag is of its build, and both the
    /// configuration and its credential say so.
    pub(super) fn may_abort(&self, pending: &Pending) -> bool {
        let of_build = |build| pending.ask.as_ref().is_some_and(|ask| ask.tag.is_of(build));
        let mut credentials = self.config.credentials.iter();
        self.config.checks.abort_on_cancel
            && pending.callback.build.is_some_and(of_build)
            && credentials.any(|c| c.name == pending.credential && c.abort_on_cancel)
    }

    /// Azure DevOps has said that the run is over: what of the counted set still runs is aborted, unless another check waits
    /// for it. The answer continues the reason.
    pub(super) fn abort_executions(&mut self, turn: &mut Turn<'_>, key: &CheckKey) -> String {
        // Another check may have come since the last tick.
        self.refresh(turn);
        self.refresh(turn);
        let running = self.teller(key).map(|teller| teller.scene.under_way()).unwrap_or_default();
        let tag = self.find(key).and_then(|pending| Some(&pending.ask.as_ref()?.tag));
        let waits = |pending: &Pending| {
            let of_tag = pending.ask.as_ref().is_some_and(|ask| Some(&ask.tag) == tag);
            of_tag && !matches!(pending.phase, Phase::Decided(_))
        };
        if running.is_empty() {
            return String::new();
        }
        if self.pending().any(|(other, pending)| other != key && waits(pending)) {
            return " Its executions go on, because another check waits for them.".into();
        }
        let names = listed(running.iter().map(|(_, name)| name.clone()), 10);
        let next = turn.now.mono;
        self.aborts.extend(running.into_iter().map(|(id, name)| Abort { id, name, tries: 0, next }));
        self.send_aborts(turn);
        format!(" What still runs of it is aborted: {names}.")
    }

    /// Starts the calls that are due.
    pub(super) fn send_aborts(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        while self.in_flight(|purpose| matches!(purpose, Purpose::Abort(_))) < MOST_CALLS {
            let Some(due) = self.aborts.iter().position(|abort| now >= abort.next) else { return };
            let abort = self.aborts.remove(due);
            let request = testkube::abort_execution(&self.config.testkube, &abort.id);
            if !self.start(turn, request, Purpose::Abort(abort)) {
                return;
            }
        }
    }

    /// What became of it. 400 and 404: it has ended meanwhile, or is gone.
    pub(super) fn aborted(&mut self, turn: &mut Turn<'_>, mut abort: Abort, outcome: &CallOutcome) {
        let (name, why) = match outcome {
            CallOutcome::Response(response) if (200..300).contains(&response.status) => {
                log::info!("execution {} is aborted: its run is over", abort.name);
                turn.out.push(Output::Count(Counter::Aborted));
                return self.send_aborts(turn);
            }
            CallOutcome::Response(response) if matches!(response.status, 400 | 404) => {
                return self.send_aborts(turn);
            }
            CallOutcome::Response(response) => (&abort.name, response.fault()),
            CallOutcome::Failed(fault) => (&abort.name, fault.clone()),
        };
        log::warn!("execution {name} could not be aborted: {why}");
        turn.out.push(Output::Count(Counter::TestkubeFault));
        abort.tries = abort.tries.saturating_add(1);
        if abort.tries < TRIES {
            let wait = self.random.jitter(delay(abort.tries, FIRST_RETRY, LONGEST_RETRY));
            abort.next = turn.now.mono.plus(wait);
            self.aborts.push(abort);
        }
    }
}
