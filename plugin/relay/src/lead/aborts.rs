//! `abort_on_cancel`: what still runs for a check is aborted when Azure DevOps says that its run is over.
//!
//! Only executions of the counted set, only if both the configuration and the check's credential allow it, only if the build
//! whose id is in the tag is over (a check can be over while its run goes on: bypassed, or its time is up), and never while
//! another check waits for the same tag. Best effort: a check that is over is forgotten and does not wait for this, and an
//! execution that is not aborted ends by itself. Who loses the lease forgets what was to be aborted.

use super::{Counter, Lead, Output, Purpose, Turn};
use crate::aborts::{Effect, Token};
use crate::call::Outcome as CallOutcome;
use crate::check::{CheckKey, Pending, Phase};
use crate::tag::Tag;
use crate::text::listed;

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
    /// for it. The answer continues the reason. The calls begin with the next tick, when the check waits no more itself.
    pub(super) fn abort_executions(&mut self, turn: &mut Turn<'_>, key: &CheckKey) -> String {
        // Another check may have come since the last tick.
        self.refresh(turn);
        self.refresh(turn);
        let running = self.teller(key).map(|teller| teller.scene.under_way()).unwrap_or_default();
        let tag = self.find(key).and_then(|pending| Some(pending.ask.as_ref()?.tag.clone()));
        let Some(tag) = tag.filter(|_| !running.is_empty()) else { return String::new() };
        if self.pending().any(|(other, pending)| other != key && waits(pending, &tag)) {
            return " Its executions go on, because another check waits for them.".into();
        }
        let names = listed(running.iter().map(|(_, name)| name.clone()), 10);
        let left_out = match self.aborts.ask(turn.now.mono, &tag, running) {
            0 => String::new(),
            n => format!(" {n} of them go on: too many are being aborted."),
        };
        format!(" What still runs of it is asked to abort: {names}.{left_out}")
    }

    /// Starts the calls that are due.
    pub(super) fn send_aborts(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let mut aborts = std::mem::take(&mut self.aborts);
        let is_awaited = |lead: &Lead, tag: &Tag| lead.pending().any(|(_, pending)| waits(pending, tag));
        while let Some((token, request)) = aborts.due(now, &self.config.testkube, |tag| is_awaited(self, tag))
        {
            if !self.start(turn, request, Purpose::Abort(token)) {
                aborts.not_started(token);
                break;
            }
        }
        self.aborts = aborts;
    }

    /// What became of one of them.
    pub(super) fn aborted(&mut self, turn: &mut Turn<'_>, token: Token, outcome: &CallOutcome) {
        let effect = self.aborts.answered(turn.now.mono, &mut self.random, token, outcome);
        turn.out.extend(effect.map(|effect| {
            Output::Count(match effect {
                Effect::Aborted => Counter::Aborted,
                Effect::Fault => Counter::TestkubeFault,
            })
        }));
        self.send_aborts(turn);
    }
}

/// Whether a check waits for executions with this tag.
fn waits(pending: &Pending, tag: &Tag) -> bool {
    pending.ask.as_ref().is_some_and(|ask| ask.tag == *tag) && !matches!(pending.phase, Phase::Decided(_))
}
