//! The live log: what the people at one check have been told, and what to tell next.
//!
//! It is beside the check, not part of it. No decision waits for it; it may be lost with the leader; and it outlives
//! the decision, whose last lines are made of what it has seen. What cannot be told goes into the next call. Calls are
//! few, because Azure DevOps counts them: changes are gathered, and for longer the older a check is.

mod looks;
mod standstill;

use super::heard::{Heard, News, ended};
use super::results::Results;
use super::run::{Look, RunWatch, Runs, Shown};
use super::telling::{opening, rendered};
use super::{Acted, Call, CheckKey, Counter, Log, Pending, Phase, Room, Space, Told};
use crate::backoff::{Random, delay};
use crate::check::scene::{Scene, advice};
use crate::check::verdict::Assessment;
use crate::config::Config;
use crate::time::{Mono, Now, Wall};
use crate::wire::azure::{self, Answer, Callback, RecordChange, classify};
use crate::wire::call::{CallId, CallOutcome};
use std::time::Duration;

/// Minimum pause between lines, after which news is told, and maximum pause for other changes.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(150);

/// Maximum wait of a decision for lines under way, so that its own lines come below them.
const LINES_FIRST: Duration = Duration::from_secs(3);

const FIRST_RETRY: Duration = Duration::from_secs(10);
const MAX_RETRY: Duration = Duration::from_secs(300);

/// The live log of one check: what has been told, and what has not.
#[derive(Default)]
pub(crate) struct LiveLog {
    /// The evaluation that this log is about, and when it was accepted.
    began: Mono,
    accepted: Mono,
    pub(super) scene: Scene,
    pub(super) said: Scene,
    /// Whether another context has told the beginning, and this one has had no reading since.
    is_adopted: bool,
    /// Whether another context has told the beginning.
    has_taken_over: bool,
    /// When it last acted: a time that has come since is still to be served.
    acted: Mono,
    /// Whether something has changed since it last acted.
    pub(super) is_stirred: bool,
    /// Number of changes of the executions that it has seen, and when the last one was.
    changes: u32,
    changed: Option<Now>,
    /// For how long nothing had changed when that was last told.
    still_told: Duration,
    spread: Duration,
    /// Whether an execution may be worth a look.
    may_look: bool,
    /// A line to write once, in place of the changes that this context has missed.
    pub(super) digest: Option<String>,
    pub(super) advice: u8,
    pub(super) absent: Duration,
    /// The progress that the record shows.
    pub(super) shown: Option<(u8, String)>,
    /// Whether no TimelineId was sent, which has been counted.
    is_unshown: bool,
    /// Whether Azure DevOps forbids this token to change the record.
    is_record_closed: bool,
    /// The call under way.
    sending: Option<Sending>,
    /// Whether the record is to be updated next, because lines were sent.
    shows_next: bool,
    /// When lines were last sent.
    sent: Mono,
    /// The time until which changes that are not news wait.
    due: Mono,
    failures: u32,
    /// The time before which no call is made, after a failure or for lack of room.
    held_until: Mono,
    /// Whether its next call waits for room.
    is_queued: bool,
    /// The look at an execution's steps under way.
    looking: Option<CallId>,
    /// Whether the next look waits for room.
    is_look_queued: bool,
    next_look: Mono,
    last_look: String,
    run: RunWatch,
    /// What is known of the executions' tests; `None` until one has ended.
    pub(super) results: Option<Box<Results>>,
}

/// A call under way. Its content counts as said when its answer has come.
struct Sending {
    id: CallId,
    since: Mono,
    /// The delivery that brought its token.
    token: u32,
    what: Said,
}

enum Said {
    Lines(Box<Scene>, Told),
    Record(RecordChange),
    /// Nothing: the call asks whether the run goes on, for this delivery.
    Run(Look, u32),
}

/// The next thing to do for a check.
enum Next {
    /// The lines, the note for the ledger once they are taken, and the scene that they describe.
    Lines(String, Told, Box<Scene>),
    Record(RecordChange),
    Run(Look),
}

/// The context of a turn of the live log.
pub(crate) struct LogCx<'a> {
    /// The time.
    pub(crate) now: Now,
    /// The leader's configuration.
    pub(crate) config: &'a Config,
    /// Draws jitter.
    pub(crate) random: &'a mut Random,
    /// What is known of all runs.
    pub(crate) runs: &'a mut Runs,
    /// Makes the ids of calls.
    pub(crate) name: &'a mut dyn FnMut() -> CallId,
    /// Whether a call of this kind may be started.
    pub(crate) space: &'a dyn Fn(Room, &Callback) -> Space,
    /// Why nothing is known of the executions, if that has lasted long enough to be told.
    pub(crate) trouble: Option<String>,
    /// Why the check waits, if nothing has changed for long enough that it is to be told.
    pub(crate) explained: Option<String>,
}

impl LiveLog {
    /// The live log of a check of which this context has told nothing yet.
    pub(crate) fn of(pending: &Pending) -> LiveLog {
        LiveLog {
            began: pending.began,
            accepted: pending.accepted.mono,
            is_adopted: pending.told.is_some(),
            has_taken_over: pending.told.is_some(),
            advice: pending.told.as_ref().map_or(0, |told| told.advice),
            run: RunWatch::of(&pending.callback),
            spread: standstill::spread(&pending.callback),
            results: pending.told.as_ref().and_then(Results::after),
            is_stirred: true,
            ..LiveLog::default()
        }
    }

    /// Whether it is about the present evaluation, not an earlier one of the same check.
    pub(crate) fn is_about(&self, pending: &Pending) -> bool {
        self.began == pending.began && self.accepted == pending.accepted.mono
    }

    /// Takes a complete reading.
    pub(super) fn read(&mut self, read: &Assessment<'_>, pending: &Pending, config: &Config, now: Now) {
        let before = (self.scene.fingerprint(), self.scene.missing());
        self.scene.read(read, now.wall);
        let is_changed = before != (self.scene.fingerprint(), self.scene.missing());
        self.is_stirred |= is_changed;
        if is_changed || self.changes == 0 {
            self.note_change(now);
        }
        if std::mem::take(&mut self.is_adopted) {
            let same = pending.told.as_ref().is_some_and(|told| told.fingerprint == self.scene.fingerprint());
            let now = read.statuses() + &read.ignored_in_words();
            self.digest = (!same && !now.is_empty()).then(|| format!("now: {now}"));
            self.said = self.scene.clone();
        }
        self.is_stirred |= self.read_results(read, config);
    }

    /// Notes how long the expected executions have been absent.
    pub(super) fn set_absence(&mut self, absent: Duration) {
        self.absent = absent;
        self.is_stirred |= advice(absent, self.advice).is_some();
    }

    /// Notes when the failures decide, if they wait for a re-run.
    pub(super) fn set_grace(&mut self, ends: Option<Wall>) {
        self.scene.grace_ends = ends;
        self.is_stirred |= self.scene.new_grace(&self.said).is_some();
    }

    /// Notes which failures may be repeated yet.
    pub(super) fn may_repeat<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        self.scene.may_repeat(ids);
    }

    /// Notes that an execution is to run again.
    pub(super) fn asks_for(&mut self, id: &str) {
        self.scene.asks_for(id);
        self.is_stirred = true;
    }

    /// The executions that still run, by id and name.
    pub(super) fn under_way(&self) -> Vec<(String, String)> {
        self.scene.under_way()
    }

    /// Until when a decision made now waits for lines under way.
    pub(super) fn holds_decision(&self, now: Mono) -> Option<Mono> {
        let until = self.sending.as_ref().map(|sending| sending.since.plus(LINES_FIRST));
        until.filter(|until| now < *until)
    }

    /// When to act next, if nothing else happens.
    pub(crate) fn wakes(&self, now: Mono) -> Option<Mono> {
        let may_look = self.may_look && self.looking.is_none() && !self.is_look_queued;
        let look = may_look.then_some(self.next_look);
        let news = self.sent.plus(MIN_PAUSE);
        let times = [
            Some(self.due).filter(|at| *at > self.acted),
            Some(news).filter(|at| *at > self.acted),
            self.tells_standstill().filter(|at| *at > self.acted),
            self.run.next(),
        ];
        let tell = match &self.sending {
            Some(_) => None,
            None if self.is_queued => None,
            None if self.is_stirred => Some(now),
            None => times.into_iter().flatten().min(),
        };
        let tell = tell.map(|at| at.max(self.held_until));
        let results = self.results.as_ref().and_then(|results| results.wakes());
        look.into_iter().chain(tell).chain(results).min().map(|at| at.max(now.plus(Duration::from_millis(1))))
    }

    /// Tells what has changed, if it is due, and looks at an execution's steps. Only for a check in `Watching`.
    pub(crate) fn act(&mut self, cx: &mut LogCx<'_>, key: &CheckKey, pending: &Pending) -> Acted {
        let (mut calls, mut counts, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        if !matches!(pending.phase, Phase::Watching(_)) {
            return Acted { calls, counts, queues };
        }
        calls.extend(self.look(cx, pending, &mut queues));
        if self.is_queued {
            return Acted { calls, counts, queues };
        }
        (self.is_stirred, self.acted) = (false, cx.now.mono);
        self.changed.get_or_insert(cx.now);
        self.scene.trouble = cx.trouble.take();
        if pending.callback.timeline.is_none()
            && !self.has_taken_over
            && !std::mem::replace(&mut self.is_unshown, true)
        {
            log::warn!(
                "check {}: its timeline record cannot be written (no TimelineId was sent); the decision is sent without it",
                key.id()
            );
            counts.push(Counter::LogLost);
        }
        match self.next(cx, key, pending) {
            Some(next) => calls.extend(self.send(cx, pending, next)),
            None => self.may_look = self.scene.next_look("").is_some(),
        }
        queues.extend(self.is_queued.then_some(Room::Telling));
        Acted { calls, counts, queues }
    }

    /// Notes that the look at its run has its turn.
    pub(crate) fn take_turn(&mut self) {
        self.run.take_turn();
    }

    /// Notes that there is room for the call that waited for it.
    pub(crate) fn take_room(&mut self, room: Room) {
        match room {
            Room::Steps => self.is_look_queued = false,
            _ => self.is_queued = false,
        }
    }

    fn next(&mut self, cx: &mut LogCx<'_>, key: &CheckKey, pending: &Pending) -> Option<Next> {
        let now = cx.now;
        let (Phase::Watching(watch), Some(ask)) = (&pending.phase, pending.ask.as_ref()) else { return None };
        if self.sending.is_some() || now.mono < self.held_until {
            return None;
        }
        let is_open = matches!(pending.log, Log::Open(_));
        if is_open && pending.told.is_none() {
            // This call says nothing of the executions.
            let (fingerprint, advice) = (self.said.fingerprint(), self.advice);
            let told = Told { fingerprint, advice, results: Vec::new() };
            let lines = rendered(now.wall, opening(pending, ask, watch, now));
            return Some(Next::Lines(lines, told, Box::new(self.said.clone())));
        }
        if let Some(look) = self.run.due(now.mono, key, &pending.callback, cx.runs) {
            return Some(Next::Run(look));
        }
        let is_due = now.mono >= self.due;
        let has_news = self.scene.is_news(&self.said) || self.has_results();
        let is_news = has_news && now.mono.since(self.sent) >= MIN_PAUSE;
        if is_open && (is_due || is_news) {
            let (lines, told) = self.lines(ask, watch, pending, cx);
            if !lines.is_empty() {
                return Some(Next::Lines(rendered(now.wall, lines), told, Box::new(self.scene.clone())));
            }
        }
        self.next_change(pending, is_due).map(Next::Record)
    }

    fn next_change(&self, pending: &Pending, is_due: bool) -> Option<RecordChange> {
        let can_show = pending.callback.timeline.is_some() && !self.is_record_closed;
        let (percent, operation) = (self.scene.percent(), self.scene.operation());
        let differs = self.shown.as_ref().is_none_or(|shown| *shown != (percent, operation.clone()));
        if !can_show || !differs || !(is_due || self.shows_next) {
            return None;
        }
        let log = match (pending.log, &self.shown) {
            (Log::Open(log), None) => Some(log),
            _ => None,
        };
        Some(RecordChange {
            begin: self.shown.is_none(),
            log,
            percent: Some(percent),
            operation: Some(operation),
            errors: Vec::new(),
        })
    }

    fn send(&mut self, cx: &mut LogCx<'_>, pending: &Pending, next: Next) -> Option<Call> {
        let callback = &pending.callback;
        let entry = cx.config.azure_devops.iter().find(|entry| entry.url() == callback.entry)?;
        match (cx.space)(Room::Telling, callback) {
            Space::Free => {}
            Space::Full => {
                self.is_queued = true;
                return None;
            }
            Space::Quiet(until) => {
                self.held_until = until;
                return None;
            }
        }
        let (token, delivery) =
            pending.tokens.trial().unwrap_or((pending.tokens.current(), pending.tokens.current_delivery()));
        let (request, what) = match (next, pending.log, callback.timeline) {
            (Next::Lines(lines, told, scene), Log::Open(log), _) => {
                (azure::append_log(entry, callback, token, log, lines), Said::Lines(scene, told))
            }
            (Next::Record(change), _, Some(timeline)) => {
                (azure::change_record(entry, callback, token, timeline, &change), Said::Record(change))
            }
            (Next::Run(look), ..) => {
                self.run.note_sent(look, cx.now.mono, callback, cx.runs);
                (look.request(entry, callback, token), Said::Run(look, pending.delivery))
            }
            (Next::Lines(..) | Next::Record(_), ..) => return None,
        };
        let id = (cx.name)();
        self.sending = Some(Sending { id, since: cx.now.mono, token: delivery, what });
        Some(Call { id, room: Room::Telling, request, report: None })
    }

    /// Takes the outcome of a call, or that it was not started.
    pub(crate) fn answered(
        &mut self,
        cx: &mut LogCx<'_>,
        pending: &Pending,
        id: CallId,
        outcome: &CallOutcome,
    ) -> Option<Heard> {
        if self.looking.take_if(|looking| *looking == id).is_some() {
            self.looked(pending, outcome, cx.now);
            return None;
        }
        let Sending { since, token, what, .. } = self.sending.take_if(|sending| sending.id == id)?;
        let answer = classify(outcome);
        self.is_stirred = true;
        self.failures = if answer == Answer::Taken { 0 } else { self.failures.saturating_add(1) };
        let asked = match what {
            Said::Lines(..) => "lines of the log",
            Said::Record(_) => "the record's progress",
            Said::Run(..) => "the query of the run's state",
        };
        let is_at_plan = !matches!(what, Said::Run(Look::Build(_), _));
        let is_trial = pending.tokens.trial().is_some_and(|(_, delivery)| delivery == token);
        let is_refused = !matches!(answer, Answer::Taken | Answer::Later(..));
        // A token that is refused beside another, or does not see the plan, says nothing about the content.
        let news = match is_trial && is_refused {
            true => None,
            false => self.news(cx, pending, since, what, &answer, outcome),
        };
        Some(Heard { began: self.began, token, what: asked, is_at_plan, answer, news })
    }

    /// Notes that a call was not started, because another context leads by now.
    pub(crate) fn not_started(&mut self, id: CallId) {
        self.looking.take_if(|looking| *looking == id);
        self.sending.take_if(|sending| sending.id == id);
    }

    fn news(
        &mut self,
        cx: &mut LogCx<'_>,
        pending: &Pending,
        since: Mono,
        what: Said,
        answer: &Answer,
        outcome: &CallOutcome,
    ) -> Option<News> {
        let now = cx.now.mono;
        match (answer, what) {
            (Answer::Taken, Said::Lines(scene, told)) => {
                self.have_said(*scene, &told, now, since);
                Some(News::Told(told))
            }
            (Answer::Taken, Said::Record(change)) => {
                self.note_shown(&change, now, since);
                None
            }
            (Answer::Taken, Said::Run(look, delivery)) => {
                let shown = look.shows(pending, delivery, outcome, cx.now.wall);
                let may_abort = super::run::may_abort(cx.config, pending);
                self.run.note_seen(look, shown, now, may_abort, &pending.callback, cx.runs).map(ended)
            }
            (Answer::Over(why), _) => Some(News::RunOver(why.clone())),
            (Answer::Forbidden | Answer::Refused(_), Said::Lines(..)) => {
                Some(News::LogLost(super::answers::in_words_of(answer)))
            }
            (Answer::Forbidden | Answer::Refused(_), Said::Record(_)) => {
                self.is_record_closed = true;
                Some(News::RecordLost(super::answers::in_words_of(answer)))
            }
            (Answer::Forbidden | Answer::Refused(_), Said::Run(look, _)) => {
                self.run.note_seen(look, Shown::Nothing, now, false, &pending.callback, cx.runs).map(ended)
            }
            (Answer::Later(..) | Answer::TokenRefused, _) => {
                let wait = delay(self.failures, FIRST_RETRY, MAX_RETRY);
                self.held_until = now.plus(cx.random.jitter(wait));
                None
            }
        }
    }

    /// Notes that lines, sent at `since`, were taken.
    fn have_said(&mut self, scene: Scene, told: &Told, now: Mono, since: Mono) {
        (self.said, self.advice, self.digest) = (scene, told.advice, None);
        self.note_results_told(&told.results);
        (self.sent, self.shows_next) = (since, true);
        self.note_standstill_told(since);
        self.due = now.plus(self.pause(now, now.since(since)));
    }

    /// Notes that a change of the record, sent at `since`, was taken.
    fn note_shown(&mut self, change: &RecordChange, now: Mono, since: Mono) {
        self.shown = Some((change.percent.unwrap_or_default(), change.operation.clone().unwrap_or_default()));
        self.shows_next = false;
        self.due = now.plus(self.pause(now, now.since(since)));
    }

    /// How long to gather changes after an answer that took this long.
    fn pause(&self, now: Mono, took: Duration) -> Duration {
        let by_age = (now.since(self.accepted) / 3).clamp(MIN_PAUSE, MAX_PAUSE);
        // Azure DevOps answers late before it refuses: a slow answer asks for fewer calls.
        by_age.max(took.saturating_mul(30).min(MAX_PAUSE * 2))
    }
}

#[cfg(test)]
mod tests;
