//! Delivering a decision: the log line, the link to the record, then the event.
//!
//! Line and link are best effort, three tries each. The event is owed: it is sent until Azure DevOps took it, or says that
//! the run is over, or the token has ended.

use super::azure_calls::{LONGEST_RETRY, Step, claim_time, in_words_of};
use super::prove::log_of;
use super::teller::Teller;
use super::{Lead, Turn};
use crate::azure::{self, Answer, Entry};
use crate::call::Outcome as CallOutcome;
use crate::check::{CheckKey, Claim, Decided, Delivery, Log, Outcome, Pending, Phase, State};
use crate::secret::Secret;
use std::time::Duration;

const BEST_EFFORT_TRIES: u32 = 3;
const LONGEST_BEST_EFFORT: Duration = Duration::from_secs(5);

impl Lead {
    /// Starts the next part of a delivery.
    pub(super) fn deliver(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        pending: &Pending,
        decided: &Decided,
    ) {
        let callback = &pending.callback;
        let told = self
            .tasks
            .get(key)
            .and_then(|task| task.teller.as_deref())
            .filter(|teller| teller.is_about(pending));
        let holds = told.is_some_and(|teller| teller.holds_decision(turn.now.mono));
        if holds && matches!(decided.next, Delivery::Line | Delivery::Link) {
            return;
        }
        match (decided.next, pending.log, callback.timeline) {
            (Delivery::CancelBuild, ..) => {
                let build = callback.build.unwrap_or_default();
                let request =
                    |entry: &Entry, token: &Secret| azure::cancel_build(entry, callback, token, build);
                self.call_azure(turn, key, pending, Step::CancelBuild, request);
            }
            (Delivery::OpenLog, Log::Unopened, _) => {
                let request = |entry: &Entry, token: &Secret| azure::create_log(entry, callback, token);
                self.call_azure(turn, key, pending, Step::OpenLog, request);
            }
            (Delivery::OpenLog, ..) => self.advance(turn, key, Delivery::OpenLog),
            (Delivery::Line, Log::Open(log), _) => {
                let dashboard = self.config.testkube.dashboard.as_ref();
                let tag = pending.ask.as_ref().map(|ask| &ask.tag);
                let files = tag.and_then(|tag| crate::artifacts::public_link(&self.config, tag));
                let lines = told.unwrap_or(&Teller::default()).last_lines(decided, pending, dashboard, files);
                let request = |entry: &Entry, token: &Secret| {
                    azure::append_log(entry, callback, token, log, lines.clone())
                };
                self.call_azure(turn, key, pending, Step::Line, request);
            }
            (Delivery::Link, Log::Open(log), Some(timeline)) => {
                let change =
                    told.unwrap_or(&Teller::default()).last_change(decided, pending.observe, Some(log));
                let request = |entry: &Entry, token: &Secret| {
                    azure::change_record(entry, callback, token, timeline, &change)
                };
                self.call_azure(turn, key, pending, Step::Link, request);
            }
            (Delivery::Line | Delivery::Link, ..) => self.advance(turn, key, decided.next),
            (Delivery::Event, ..) if decided.outcome.is_silent() => self.finish(turn, key, false),
            (Delivery::Event, ..) => self.send_event(turn, key, pending, decided.outcome),
        }
    }

    /// The build whose gate is open was cancelled, or cannot be: the log says which.
    pub(super) fn build_cancelled(&mut self, turn: &mut Turn<'_>, key: &CheckKey, answer: &Answer) {
        if let Answer::Later(_, after) = answer
            && self.retry(turn, key, after.map(|after| after.min(LONGEST_BEST_EFFORT)), LONGEST_BEST_EFFORT)
                < BEST_EFFORT_TRIES
        {
            return;
        }
        let Some(build) = self.find(key).and_then(|pending| pending.callback.build) else { return };
        let note = match answer {
            Answer::Taken => format!(" Build {build} is being cancelled (checks.on_open_gate)."),
            Answer::Forbidden | Answer::TokenRefused => format!(
                " Build {build} could not be cancelled ({}): the build service's identity needs the permission `Stop builds`.",
                in_words_of(answer)
            ),
            _ => format!(" Build {build} could not be cancelled ({}).", in_words_of(answer)),
        };
        log::warn!("check {}: the gate is open.{note}", key.id());
        self.change(turn, key, |pending| {
            let first = pending.log.first_delivery();
            let decided = decided_mut(pending).filter(|decided| decided.next == Delivery::CancelBuild)?;
            decided.next = first;
            decided.reason.push_str(&note);
            Some(())
        });
        self.restart(key);
        self.step(turn, key);
    }

    pub(super) fn log_opened(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        match answer {
            Answer::Taken | Answer::Forbidden => {
                let log = if *answer == Answer::Taken { log_of(outcome) } else { Log::Off };
                self.change(turn, key, |pending| {
                    pending.log = log;
                    Some(())
                });
                self.advance(turn, key, Delivery::OpenLog);
            }
            _ => self.told(turn, key, Step::OpenLog, answer),
        }
    }

    /// A log call was answered: goes on after a success, or after three failures without it.
    pub(super) fn told(&mut self, turn: &mut Turn<'_>, key: &CheckKey, step: Step, answer: &Answer) {
        let part = match step {
            Step::OpenLog => Delivery::OpenLog,
            Step::Line => Delivery::Line,
            _ => Delivery::Link,
        };
        match answer {
            Answer::Taken => self.advance(turn, key, part),
            Answer::Over(_) => self.skip_to_event(turn, key),
            Answer::Forbidden | Answer::Refused(_) => self.advance(turn, key, part),
            Answer::Later(_, after) => self.try_again_or_advance(turn, key, part, *after),
            Answer::TokenRefused => self.try_again_or_advance(turn, key, part, None),
        }
    }

    fn try_again_or_advance(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        part: Delivery,
        after: Option<Duration>,
    ) {
        let after = after.map(|after| after.min(LONGEST_BEST_EFFORT));
        if self.retry(turn, key, after, LONGEST_BEST_EFFORT) >= BEST_EFFORT_TRIES {
            self.advance(turn, key, part);
        }
    }

    /// Goes to the part after `part`, unless somebody has already.
    fn advance(&mut self, turn: &mut Turn<'_>, key: &CheckKey, part: Delivery) {
        self.change(turn, key, |pending| {
            let log = pending.log;
            let decided = decided_mut(pending).filter(|decided| decided.next == part)?;
            decided.next = match (part, log) {
                (Delivery::OpenLog, Log::Open(_)) => Delivery::Line,
                (Delivery::Line, _) => Delivery::Link,
                _ => Delivery::Event,
            };
            Some(())
        });
        self.restart(key);
        self.step(turn, key);
    }

    fn skip_to_event(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        self.change(turn, key, |pending| {
            decided_mut(pending)?.next = Delivery::Event;
            Some(())
        });
        self.restart(key);
    }

    /// Claims the event, then sends it.
    fn send_event(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending, outcome: Outcome) {
        let callback = &pending.callback;
        let now = turn.now.mono;
        if pending.claim.is_some_and(|claim| now < claim.until) {
            return;
        }
        let Some(entry) = self.reachable(turn, key, pending) else { return };
        let request = |entry: &Entry, token: &Secret| {
            azure::complete_task(entry, callback, token, outcome == Outcome::Passed || pending.observe)
        };
        let until = now.plus(claim_time(&request(&entry, pending.tokens.current())));
        let claim = Claim {
            holder: self.candidate.holder(),
            send: self.random.draw(),
            delivery: pending.delivery,
            until,
        };
        let claimed = self.change(turn, key, |fresh| {
            let free = fresh.claim.is_none_or(|other| now >= other.until);
            (free && fresh.delivery == claim.delivery && fresh.tokens == pending.tokens).then(|| {
                // A claim that has run out was for an event that may have been taken: nobody read its answer.
                fresh.taken |= fresh.claim.is_some();
                fresh.claim = Some(claim);
            })
        });
        let step = Step::Event { send: claim.send, delivery: claim.delivery };
        if claimed.is_some() && self.call_azure(turn, key, pending, step, request).is_none() {
            self.unclaim(turn, key, claim.send);
        }
    }

    /// The answer to a TaskCompleted. Whoever gets it records it, leading or not.
    pub(super) fn event_answered(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        send: u64,
        delivery: u32,
        token: u32,
        answer: &Answer,
    ) {
        let is_proven = self.find(key).is_none_or(Pending::is_proven);
        match answer {
            // It is the run of another delivery's values that is over.
            Answer::Over(_) if !is_proven && self.drop_candidate(turn, key, token) => {
                self.unclaim(turn, key, send);
            }
            Answer::Taken | Answer::Over(_) => self.conclude(turn, key, delivery, token, answer),
            Answer::Later(fault, after) => {
                if !fault.was_refused() {
                    self.note_unanswered(turn, key);
                }
                self.unclaim(turn, key, send);
                match is_proven {
                    true => _ = self.retry(turn, key, *after, LONGEST_RETRY),
                    false => self.pass_turn(turn, key, token, false, *after),
                }
            }
            Answer::TokenRefused | Answer::Forbidden | Answer::Refused(_) => {
                self.unclaim(turn, key, send);
                match is_proven {
                    true => _ = self.retry(turn, key, None, LONGEST_RETRY),
                    false => self.pass_turn(turn, key, token, true, None),
                }
            }
        }
    }

    /// Azure DevOps took the event for a delivery, or does not want it any more. That ends the check, unless a newer
    /// delivery has come meanwhile: an answer belongs to the delivery that it was sent for, and the newer one is told too.
    fn conclude(&mut self, turn: &mut Turn<'_>, key: &CheckKey, delivery: u32, token: u32, answer: &Answer) {
        let now = turn.now;
        let is_taken = *answer == Answer::Taken;
        let ended = self.change_state(turn, key, |pending| {
            let taken = is_taken || pending.taken;
            if pending.delivery <= delivery {
                let done = pending.done(taken, now);
                return Some((State::Done(done.clone()), Some((done, pending.held().cloned()))));
            }
            let mut pending = Box::new(Pending { taken, claim: None, ..pending.clone() });
            if is_taken {
                pending.token_was_taken(token);
            }
            Some((State::Pending(pending), None))
        });
        match (ended, answer) {
            (Some(Some((done, place))), Answer::Over(why)) if !done.reported => {
                log::info!("check {}: Azure DevOps does not wait for it any more ({why})", key.id());
                self.ended(turn, key, &done, place.as_ref());
            }
            (Some(Some((done, place))), _) => self.ended(turn, key, &done, place.as_ref()),
            _ => self.restart(key),
        }
    }

    /// An event may have been taken although its answer was lost: "the run is over" is then the answer to that one.
    fn note_unanswered(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        self.change(turn, key, |pending| {
            pending.taken = true;
            Some(())
        });
    }

    fn unclaim(&mut self, turn: &mut Turn<'_>, key: &CheckKey, send: u64) {
        self.change(turn, key, |pending| {
            let own = pending.claim.is_some_and(|claim| claim.send == send);
            own.then(|| pending.claim = None)
        });
    }
}

/// Its decision, if it is made.
pub(super) fn decided_mut(pending: &mut Pending) -> Option<&mut Decided> {
    match &mut pending.phase {
        Phase::Decided(decided) => Some(decided),
        _ => None,
    }
}
