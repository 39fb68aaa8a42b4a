//! Telling: the live log and the record's progress, while a check waits.
//!
//! Best effort, and beside everything else: no decision waits for it, and what cannot be told is told with the next
//! call. Calls are few, because Azure DevOps counts them: changes are gathered, and the older a check is the longer.

use super::azure_calls::{Step, in_words_of};
use super::tasks::Task;
use super::teller::{Next, Sending, Teller};
use super::{Counter, Lead, Output, Purpose, Turn};
use crate::azure::{self, Answer, Urgency};
use crate::backoff::delay;
use crate::call::Outcome as CallOutcome;
use crate::check::{CheckKey, Log, Pending, Phase};
use crate::testkube;
use crate::time::{Mono, Now};
use std::time::Duration;

/// Calls for status at the same time, all checks together. Owed events have more room than this.
const MOST_TELLS: usize = 16;
/// Looks at single executions at the same time.
const MOST_LOOKS: usize = 2;

/// Between two looks at the steps of a check's executions, whichever of them has its turn.
const LOOK: Duration = Duration::from_secs(15);
/// Testkube is silent, or tells a part, for so long before the people at the pipeline are told.
const TROUBLE: Duration = Duration::from_secs(60);

const FIRST_RETRY: Duration = Duration::from_secs(10);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl Lead {
    /// Tells what has changed of all watching checks, as far as there is room for calls.
    pub(super) fn tell_all(&mut self, turn: &mut Turn<'_>) {
        let mut keys = Vec::new();
        for (bucket, tasks) in self.buckets.iter().zip(self.tasks.by_bucket()) {
            let watching = bucket
                .pending()
                .filter(|(key, pending)| self.may_tell(turn.now.mono, pending, tasks.get(key)));
            keys.extend(watching.map(|(key, _)| *key));
        }
        // Those for which there was no room last time come first now.
        let first = self.tell_from.take().and_then(|from| keys.iter().position(|key| *key == from));
        keys.rotate_left(first.unwrap_or_default());
        for key in &keys {
            if self.in_flight(|purpose| matches!(purpose, Purpose::Tell(..) | Purpose::Look(_))) >= MOST_TELLS
            {
                self.tell_from = Some(*key);
                return;
            }
            self.tell(turn, key);
        }
    }

    /// Whether there may be something to tell of a check.
    pub(super) fn may_tell(&self, now: Mono, pending: &Pending, task: Option<&Task>) -> bool {
        let teller = task.and_then(|task| task.teller.as_ref());
        let is_in_trouble =
            self.trouble.lasts(now) >= TROUBLE || task.is_some_and(|task| is_incomplete(task, now));
        let may_act = teller.is_none_or(|teller| teller.may_act(now, is_in_trouble));
        may_act && matches!(pending.phase, Phase::Watching(_))
    }

    /// Tells what has changed of one check, if it is time.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        let now = turn.now;
        if self.tasks.get(key).is_some_and(|task| task.is_held(now.mono)) {
            return;
        }
        let trouble = self.long_trouble(key, now);
        let Some(mut teller) = self.take_teller(key) else { return };
        teller.scene.trouble = trouble;
        self.note_unshown(turn, key, &mut teller);
        self.look(turn, key, &mut teller);
        let dashboard = self.config.testkube.dashboard.as_ref();
        let pending = self.find(key);
        if let Some((next, pending)) =
            pending.and_then(|pending| Some((teller.next(now, pending, dashboard)?, pending.clone())))
        {
            self.send(turn, key, &mut teller, next, &pending);
        } else {
            teller.rests(now.mono);
        }
        self.tasks.entry(*key).or_default().teller = Some(teller);
    }

    /// Why nothing has been known of its executions for so long that people should hear of it.
    fn long_trouble(&self, key: &CheckKey, now: Now) -> Option<String> {
        if self.trouble.lasts(now.mono) >= TROUBLE {
            return self.trouble.in_words(now.wall);
        }
        let task = self.tasks.get(key).filter(|task| is_incomplete(task, now.mono))?;
        task.incomplete.as_ref().map(|incomplete| incomplete.in_words(now.wall))
    }

    /// Where what is seen of a watching check is kept for telling.
    pub(super) fn teller_of(&mut self, key: &CheckKey, pending: &Pending) -> &mut Teller {
        let teller =
            self.tasks.entry(*key).or_default().teller.get_or_insert_with(|| Box::new(Teller::of(pending)));
        if !teller.is_about(pending) {
            **teller = Teller::of(pending);
        }
        teller
    }

    /// The teller of a watching check, new if what is there is about an earlier evaluation.
    fn take_teller(&mut self, key: &CheckKey) -> Option<Box<Teller>> {
        let old = self.tasks.get_mut(key).and_then(|task| task.teller.take());
        let pending = self.find(key).filter(|pending| matches!(pending.phase, Phase::Watching(_)))?;
        let same = old.filter(|teller| teller.is_about(pending));
        Some(same.unwrap_or_else(|| Box::new(Teller::of(pending))))
    }

    pub(super) fn teller(&mut self, key: &CheckKey) -> Option<&mut Teller> {
        self.tasks.get_mut(key)?.teller.as_deref_mut()
    }

    /// Counts a log that no record will show, once for each check.
    fn note_unshown(&mut self, turn: &mut Turn<'_>, key: &CheckKey, teller: &mut Teller) {
        let is_shown = self.find(key).is_none_or(|pending| pending.callback.timeline.is_some());
        if !is_shown && !teller.has_taken_over && !std::mem::replace(&mut teller.is_unshown, true) {
            self.count_loss(turn, key, "its record", "no TimelineId was sent");
        }
    }

    fn send(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        teller: &mut Teller,
        next: Next,
        pending: &Pending,
    ) {
        let may_call = self.may_call(turn.now.mono, &pending.callback, Urgency::CanWait);
        let Some(entry) = self.entry_of(pending).filter(|_| may_call) else { return };
        let (callback, token) = (&pending.callback, pending.tokens.current());
        let (request, step, sending) = match (next, pending.log, callback.timeline) {
            (Next::Lines(lines, told), Log::Open(log), _) => {
                let request = azure::append_log(&entry, callback, token, log, lines);
                (request, Step::Tell, Sending::Lines(Box::new(teller.scene.clone()), told))
            }
            (Next::Record(change), _, Some(timeline)) => {
                let request = azure::change_record(&entry, callback, token, timeline, &change);
                (request, Step::Show, Sending::Record(change))
            }
            (Next::Run(look), ..) => {
                let request = look.request(&entry, callback, token);
                (request, Step::AskRun { delivery: pending.delivery }, Sending::Run(look))
            }
            (Next::Lines(..) | Next::Record(_), ..) => return,
        };
        let token = pending.tokens.current_delivery();
        if self.start(turn, request, Purpose::Tell(*key, step, token)) {
            teller.sending = Some((sending, turn.now.mono));
        }
    }

    /// What became of a call that tells something.
    pub(super) fn tell_answered(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        step: Step,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        let now = turn.now.mono;
        let Some(teller) = self.teller(key) else { return };
        let Some((sending, since)) = teller.sending.take() else { return };
        teller.failures = if *answer == Answer::Taken { 0 } else { teller.failures.saturating_add(1) };
        match (answer, sending) {
            (Answer::Taken, Sending::Lines(scene, told)) => {
                teller.have_said(*scene, &told, now, since);
                self.change(turn, key, |pending| {
                    pending.told = Some(told.clone());
                    Some(())
                });
            }
            (Answer::Taken, Sending::Record(change)) => teller.has_shown(&change, now, since),
            (Answer::Taken, Sending::Run(look)) => self.run_seen(turn, key, look, step, outcome),
            (Answer::Over(why), _) => {
                log::info!("check {}: the run is over ({why})", key.id());
                self.finish(turn, key, false);
            }
            (Answer::Forbidden | Answer::Refused(_), Sending::Lines(..)) => {
                self.lose_log(turn, key, &in_words_of(answer));
            }
            (Answer::Forbidden | Answer::Refused(_), Sending::Record(_)) => {
                teller.is_record_closed = true;
                self.count_loss(turn, key, "its record", &in_words_of(answer));
            }
            (Answer::Forbidden | Answer::Refused(_), Sending::Run(look)) => {
                teller.run.is_unreadable(look);
                self.end_by_record(turn, key);
            }
            (Answer::Later(..) | Answer::TokenRefused, _) => {
                let wait = delay(teller.failures, FIRST_RETRY, LONGEST_RETRY);
                let until = now.plus(self.random.jitter(wait));
                if let Some(teller) = self.teller(key) {
                    teller.held_until = until;
                }
            }
        }
        self.tell(turn, key);
    }

    /// The log cannot be written: the decision comes without it.
    pub(super) fn lose_log(&mut self, turn: &mut Turn<'_>, key: &CheckKey, why: &str) {
        self.change(turn, key, |pending| {
            pending.log = Log::Off;
            Some(())
        });
        self.count_loss(turn, key, "its log", why);
    }

    fn count_loss(&mut self, turn: &mut Turn<'_>, key: &CheckKey, what: &str, why: &str) {
        log::warn!("check {}: {what} cannot be written ({why}); the decision comes without it", key.id());
        turn.out.push(Output::Count(Counter::LogLost));
    }

    /// Looks at the steps of one of a check's executions: of one that has just failed, else of the next that runs.
    fn look(&mut self, turn: &mut Turn<'_>, key: &CheckKey, teller: &mut Teller) {
        let now = turn.now.mono;
        let looks = self.in_flight(|purpose| matches!(purpose, Purpose::Look(_)));
        if teller.is_looking || now < teller.next_look || now < self.trouble.wait_until || looks >= MOST_LOOKS
        {
            return;
        }
        let Some(id) = teller.scene.next_look(&teller.last_look) else { return };
        let request = testkube::get_execution(&self.config.testkube, &id);
        if self.start(turn, request, Purpose::Look(*key)) {
            teller.is_looking = true;
            teller.next_look = now.plus(self.random.jitter(LOOK));
            teller.last_look = id;
        }
    }

    /// The answer to a look. It is not judged: what it cannot tell is not told.
    pub(super) fn looked(&mut self, turn: &mut Turn<'_>, key: &CheckKey, outcome: &CallOutcome) {
        let tag = self.find(key).and_then(|pending| Some(pending.ask.as_ref()?.tag.clone()));
        let Some(teller) = self.teller(key) else { return };
        teller.is_looking = false;
        if let CallOutcome::Response(response) = outcome
            && let Ok(execution) = testkube::single(response)
            && tag.is_some_and(|tag| execution.carries(&tag))
        {
            teller.looked_at(&execution);
        }
        self.tell(turn, key);
    }
}

/// Whether Testkube has told a part alone of a check's executions for so long that people should hear of it.
fn is_incomplete(task: &Task, now: Mono) -> bool {
    task.incomplete.as_ref().is_some_and(|incomplete| now.since(incomplete.since.mono) >= TROUBLE)
}
