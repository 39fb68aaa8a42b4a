//! The outcomes of calls, and the calls that no step of a check asks for.

use super::aborts::Waits;
use super::calls::Purpose;
use super::sharing::{Hands, SharingCall};
use super::{Lead, MAX_STEPS_AFTER_ANSWER, Output, Turn, aborts};
use crate::check::{Counter, Event};
use crate::tag::Tag;
use crate::wire::call::{CallId, CallOutcome, Fault};

impl Lead {
    /// Handles an outcome, then starts what waits for the room that it frees.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, id: CallId, outcome: &CallOutcome) {
        let Some(purpose) = self.calls.end(turn.now, id, outcome) else { return };
        let checks = purpose.checks();
        let is_noted = self.leading && !checks.is_empty();
        if is_noted && self.contender.note_busy(turn.store, &checks).is_err() {
            log::error!("shared data failed: an answer is read without being noted");
        }
        match purpose {
            Purpose::Check(key, Some(reporting)) => {
                // Another context may lead by now and have written the record.
                if !self.leading {
                    self.shelf.refresh_of(turn.store, &key);
                }
                self.step(turn, &key, Event::Reported(id, reporting, outcome));
            }
            Purpose::Check(key, None) => self.step(turn, &key, Event::Answered(id, outcome)),
            Purpose::LiveLog(key) => self.told(turn, &key, id, outcome),
            Purpose::Results(key) => self.results_answered(turn, &key, id, outcome),
            Purpose::Page(batch) if self.leading => self.paged(turn, *batch, outcome),
            Purpose::Abort(token) if self.leading => {
                let effect = self.aborts.answered(turn.now.mono, &mut self.random, token, outcome);
                turn.out.extend(effect.map(|effect| match effect {
                    aborts::Effect::Aborted => Output::Count(Counter::Aborted),
                    aborts::Effect::Fault => Output::Count(Counter::TestkubeFault),
                }));
            }
            Purpose::Share(call) if self.leading => self.settle_sharing(turn, *call, outcome),
            // Whoever leads next begins with what is in the ledger and in the Secrets.
            Purpose::Share(_) => self.sharing = None,
            // The present leader has made its own request.
            Purpose::Page(batch) => {
                for key in &batch.checks {
                    self.step(turn, key, Event::NotStarted(batch.id));
                }
            }
            Purpose::Abort(token) => self.aborts.not_started(token),
            Purpose::Preflight(began, number) => self.preflight_answered(turn, began, number, outcome),
        }
        if is_noted && self.leading && self.contender.note_busy(turn.store, &[]).is_err() {
            log::error!("shared data failed: the note of an answer could not be removed");
        }
        self.step_due(turn, MAX_STEPS_AFTER_ANSWER);
        self.start_others(turn);
    }

    pub(super) fn give_up_silent_calls(&mut self, turn: &mut Turn<'_>) {
        for id in self.calls.silent(turn.now.mono) {
            self.settle(turn, id, &CallOutcome::Failed(Fault::Lost));
        }
    }

    /// Starts the calls that are due and that no step of a check asks for: aborts, and those of the cluster store.
    pub(super) fn start_others(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while now.mono >= self.brake_until {
            let Lead { shelf, sharing, config, aborts, random, .. } = self;
            let is_shared = config.store.is_some();
            let waits = |tag: &Tag, is_abort: bool| match sharing {
                _ if shelf.is_awaited(tag, None) => Waits::Here,
                Some(sharing) if is_abort => sharing.waits(now.mono, tag),
                None if is_abort && is_shared => Waits::Unknown,
                _ => Waits::Nobody,
            };
            let due = aborts.due(now.mono, &config.testkube, random, waits);
            let Some((token, request)) = due else { break };
            let id = self.calls.take_name();
            if !self.leads(turn) {
                return self.aborts.not_started(token);
            }
            turn.start(&mut self.calls, id, request, Purpose::Abort(token), None);
        }
        while self.leading
            && let (Some(sharing), Some(shared)) = (&mut self.sharing, &self.config.store)
            && let Some((call, request)) = sharing.next(now, shared, &self.shelf)
        {
            let id = self.calls.take_name();
            if !self.leads(turn) {
                let outcome = CallOutcome::Failed(Fault::Stalled);
                return self.settle_sharing(turn, call, &outcome);
            }
            turn.start(&mut self.calls, id, request, Purpose::Share(Box::new(call)), None);
        }
    }

    /// Takes the outcome of a call of the cluster store.
    fn settle_sharing(&mut self, turn: &mut Turn<'_>, call: SharingCall, outcome: &CallOutcome) {
        let Lead { config, sharing, shelf, agenda, housekeeping, .. } = self;
        if let (Some(sharing), Some(shared)) = (sharing, &config.store) {
            let mut hands = Hands { shelf, agenda, housekeeping };
            let changed = sharing.answer(shared, turn, &mut hands, call, outcome);
            let rung = sharing.take_rung();
            if let Some(key) = changed {
                self.step(turn, &key, Event::Due);
            }
            if self.hint(turn.now.mono, &rung) {
                self.poller.hinted();
                self.poll(turn);
            }
        }
    }
}
