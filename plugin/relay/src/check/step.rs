//! The one way in: an event comes to a check, and effects go out. Only this moves its phase.

use super::answers::{Asked, Waiting};
use super::code::in_brackets;
use super::fallback::Refused;
use super::proving::Proof;
use super::watching::{Confirm, Incomplete};
use super::{
    CheckKey, Counter, Done, Effects, Heard, Known, LiveLog, Outcome, Part, Pending, Phase, Place, Placed,
    Reading, ReasonCode, Room, Space, Unread,
};
use crate::backoff::{Random, delay};
use crate::config::Config;
use crate::time::{Mono, Now};
use crate::wire::azure::{Callback, Entry};
use crate::wire::call::{CallId, CallOutcome};
use crate::wire::testkube::Trouble;
use log::Level;
use std::rc::Rc;
use std::time::Duration;

/// One check: what the ledger keeps of it, and what its leader remembers.
pub(crate) struct Check {
    /// Which.
    pub(crate) key: CheckKey,
    /// What outlives the leader.
    pub(crate) durable: Box<Pending>,
    /// What does not.
    pub(crate) volatile: Volatile,
}

/// What is lost with the leader and made anew by the next.
#[derive(Clone, Default)]
pub(crate) struct Volatile {
    /// The evaluation that all of this is about.
    began: Mono,
    /// The delivery that `tries` is about.
    delivery: u32,
    /// The call that is waited for. An answer of any other is not this one's.
    pub(super) waiting: Option<Waiting>,
    /// Its next call waits for room.
    pub(super) is_queued: bool,
    /// No call of its own before this.
    pub(super) next: Mono,
    /// Nor anything else: shared data has refused a change of it, or Azure DevOps has asked for a pause.
    pub(super) held_until: Mono,
    /// Failures in a row of the call at hand.
    pub(super) tries: u32,
    /// What is asked next to prove the token that this delivery brought.
    pub(super) proof: Option<(u32, Proof)>,
    /// How often what is owed was refused.
    pub(super) refused: Refused,
    /// Since when its entry of `azure_devops` is not there.
    pub(super) entry_missing: Option<Mono>,
    /// When Testkube is asked for its executions next.
    pub(super) poll: Mono,
    /// From when on it may be asked already, with a list that is asked for others.
    pub(super) may_join: Mono,
    /// A decision that rests on a reading, while each execution is looked at once more.
    pub(super) confirm: Option<Rc<Confirm>>,
    /// Since when the deadline has passed: one last reading is made.
    pub(super) last_reading: Option<Mono>,
    /// The last reading, if it was a good one.
    pub(super) good_reading: Option<Mono>,
    /// Readings that were not complete, since the last one that was.
    pub(super) incomplete: Option<Incomplete>,
    /// Answers for this check that could not be read, since the last one that could.
    pub(super) trouble: Trouble,
    /// The execution whose answer could not be read when it was looked at again, and since when.
    pub(super) unconfirmed: Option<(String, Trouble)>,
    /// Absence that is not in the ledger yet.
    pub(super) absent: Duration,
    /// Readings in a row in which an execution had vanished.
    pub(super) vanished: u32,
    /// Testkube has hinted since the last look began.
    pub(super) is_hinted: bool,
    /// When the last look began that a hint had brought forward.
    pub(super) hint_look: Mono,
}

impl Volatile {
    /// Shared data has refused a change of the check: nothing is done for it before then. What it waited for has come.
    pub(crate) fn hold(&mut self, until: Mono) {
        (self.waiting, self.held_until) = (None, until);
    }

    /// What is remembered of an earlier evaluation is forgotten, and a new delivery is tried at once.
    pub(crate) fn renew(&mut self, durable: &Pending) {
        if self.began != durable.began {
            *self = Volatile { began: durable.began, delivery: durable.delivery, ..Volatile::default() };
        }
        if std::mem::replace(&mut self.delivery, durable.delivery) != durable.delivery {
            (self.tries, self.next) = (0, Mono(0));
        }
    }

    /// When it is to be looked at next, if nothing else happens to it. Nothing is due while it waits for a call: its answer
    /// comes, or its loss.
    pub(crate) fn times(&self, durable: &Pending, now: Mono) -> Times {
        if self.waiting.is_some() {
            return Times::default();
        }
        let ahead = |at: Mono| Some(at).filter(|at| *at > now);
        let own = (!self.is_queued).then(|| self.next.max(self.held_until));
        let deadline = ahead(durable.deadline().at);
        let end = Some(durable.token_end);
        let (times, poll) = match &durable.phase {
            Phase::Watching(_) => {
                let last = self.last_reading.map(super::watching::ends_at);
                let confirms = self.confirm.as_ref().and(own);
                let poll = self.confirm.is_none().then(|| self.poll.max(self.held_until));
                ([deadline, last, confirms], poll)
            }
            Phase::Accepted | Phase::Proven => ([own, deadline, None], None),
            Phase::Decided(_) => ([own, None, None], None),
            Phase::Owing(owing) => ([own, Some(owing.until), None], None),
        };
        let wake = times.into_iter().chain([end]).flatten().min();
        Times { wake: wake.map(|wake| wake.max(self.held_until)), poll }
    }

    /// Until when nothing is done for the check.
    pub(crate) fn held_until(&self) -> Mono {
        self.held_until
    }
}

/// What a step is made with.
pub(crate) struct Cx<'a> {
    /// The time.
    pub(crate) now: Now,
    /// The leader's configuration.
    pub(crate) config: &'a Config,
    /// The context that steps it.
    pub(crate) holder: u64,
    /// Draws jitter and the numbers of claims.
    pub(crate) random: &'a mut Random,
    /// The name of the call that this step may start.
    pub(crate) call: CallId,
    /// Whether a call of this kind may be started for a check that is answered there.
    pub(crate) space: &'a dyn Fn(Room, &Callback) -> Space,
    /// What is known of Testkube by all checks.
    pub(crate) trouble: &'a Trouble,
    /// What has been seen and told of this check. It may be lost, and what it is shown twice changes nothing.
    pub(crate) log: &'a mut LiveLog,
}

/// What happens to a check.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// Its time has come, there is room for its call, or its record has changed.
    Due,
    /// A call for it was answered, or never will be.
    Answered(CallId, &'a CallOutcome),
    /// A TaskCompleted was answered. Whoever gets the answer notes it, leading or not.
    Reported(CallId, Reporting, &'a CallOutcome),
    /// A call that a step asked for was not started.
    NotStarted(CallId),
    /// The reading is complete.
    Read(CallId, &'a Reading<'a>),
    /// The reading is not.
    Unread(CallId, &'a Unread),
    /// A VM fell while it read an answer for it.
    Fell,
    /// A place was taken for it, because its record notes none.
    Placed(&'a Place),
    /// Its live log has heard something of Azure DevOps. Whether another check waits for the same tag.
    Heard(&'a Heard, bool),
}

/// A TaskCompleted that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporting {
    /// The evaluation.
    pub(crate) began: Mono,
    /// The claim's own number.
    pub(crate) send: u64,
    /// The delivery that it was sent for.
    pub(crate) delivery: u32,
    /// The delivery that brought the token that it presented.
    pub(crate) token: u32,
}

/// When a check is to be looked at by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// To be stepped.
    pub(crate) wake: Option<Mono>,
    /// To be read at Testkube.
    pub(crate) poll: Option<Mono>,
}

/// One event moves a check by no more phases than it has.
const MAX_ROUNDS: u32 = 12;

const FIRST_RETRY: Duration = Duration::from_secs(1);

pub(super) const NO_ANSWER: &str =
    "Azure DevOps did not answer before this check's deadline, so nothing was asked of Testkube.";

impl Check {
    /// A check as the ledger has it, and as its leader remembers it.
    pub(crate) fn new(key: CheckKey, durable: Box<Pending>, volatile: Volatile) -> Check {
        let mut check = Check { key, durable, volatile };
        check.volatile.renew(&check.durable);
        check
    }

    /// What becomes of the check.
    pub(crate) fn step(&mut self, cx: &mut Cx<'_>, event: Event<'_>) -> Effects {
        let mut fx = Effects::default();
        self.volatile.is_queued = false;
        match event {
            Event::Due => {}
            Event::Answered(id, outcome) => self.answered(cx, &mut fx, id, outcome),
            Event::Reported(id, reporting, outcome) => self.reported(cx, &mut fx, id, reporting, outcome),
            Event::NotStarted(id) => {
                self.not_started(id);
                return fx;
            }
            Event::Read(id, reading) => self.read(cx, &mut fx, id, reading),
            Event::Unread(id, unread) => self.unread(cx, &mut fx, id, unread),
            Event::Fell => self.fell(cx.now.mono),
            Event::Placed(place) if self.durable.unnoted().as_ref() == Some(place) => {
                self.durable.place = Placed::Holds(place.clone());
            }
            Event::Placed(_) => {}
            Event::Heard(heard, others_wait) => self.heard(cx, &mut fx, heard, others_wait),
        }
        // Each round moves the check on, or is the last.
        for _ in 0..MAX_ROUNDS {
            let waits = self.volatile.waiting.is_some() || cx.now.mono < self.volatile.held_until;
            if waits || fx.done.is_some() || !self.go_on(cx, &mut fx) {
                break;
            }
        }
        fx
    }

    /// Does what is next; whether something else may follow at once.
    fn go_on(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let now = cx.now;
        if now.mono >= self.durable.token_end {
            return self.token_ended(fx, now);
        }
        if self.durable.decided().is_none() && self.durable.falls.count >= 2 {
            let reason = "Testrelay failed twice while it read an answer for this check.";
            self.decide(cx, fx, ReasonCode::Crashed, reason.into());
            return true;
        }
        match &self.durable.phase {
            Phase::Watching(_) => self.watch(cx, fx),
            Phase::Owing(owing) if now.mono >= owing.until => {
                self.end_owing(fx);
                false
            }
            _ if now.mono < self.volatile.next => false,
            Phase::Accepted if self.durable.is_past_deadline(now) => {
                self.give_up_proof(cx, fx, ReasonCode::AzureDevopsUnreachable, NO_ANSWER);
                true
            }
            Phase::Proven if self.durable.is_past_deadline(now) => {
                self.decide(cx, fx, ReasonCode::AzureDevopsUnreachable, NO_ANSWER.into());
                true
            }
            Phase::Accepted => self.prove(cx, fx),
            Phase::Proven => self.find_bound(cx, fx),
            Phase::Decided(_) => self.report(cx, fx),
            Phase::Owing(_) => self.write_owed(cx, fx),
        }
    }

    fn token_ended(&mut self, fx: &mut Effects, now: Now) -> bool {
        if matches!(self.durable.phase, Phase::Owing(_)) {
            self.end_owing(fx);
            return false;
        }
        if self.drop_candidate(self.durable.tokens.current_delivery()) {
            return true;
        }
        let id = self.key.id();
        fx.say(Level::Error, format!("check {id}: its token has ended and the decision was not delivered"));
        self.finish(fx, now, false);
        false
    }

    fn not_started(&mut self, id: CallId) {
        let Some(waiting) = self.volatile.waiting.take_if(|waiting| waiting.id == id) else { return };
        if let Asked::Azure { report: Some(report), .. } = waiting.asked {
            self.unclaim(report.send);
        }
    }

    fn fell(&mut self, now: Mono) {
        let falls = &mut self.durable.falls;
        let count = if now.since(falls.last) < super::FALLS_TOGETHER { falls.count } else { 0 };
        (falls.count, falls.last) = (count.saturating_add(1), now);
    }

    /// Makes the decision. Only the first one counts.
    pub(super) fn decide(&mut self, cx: &Cx<'_>, fx: &mut Effects, code: ReasonCode, reason: String) {
        let known = Known { outcome: code.outcome(), reason, code: Some(code), repeats_until: None };
        self.decide_as(cx, fx, known);
    }

    /// The same where the decision was known before.
    pub(super) fn decide_as(&mut self, cx: &Cx<'_>, fx: &mut Effects, known: Known) {
        if self.durable.decided().is_some() {
            return;
        }
        let Known { outcome, reason, code, .. } = known;
        fx.say(Level::Info, format!("check {}: {outcome}: {reason}{}", self.key.id(), in_brackets(code)));
        if let Some(code) = code {
            fx.count(Counter::Decided(code));
        }
        self.durable.decide(outcome, code, reason, cx.now.wall);
        let cancels = outcome == Outcome::OpenGate && cx.config.checks.cancels_open_gate;
        if let Phase::Decided(decided) = &mut self.durable.phase
            && cancels
            && self.durable.callback.build.is_some()
        {
            decided.next = Part::CancelBuild;
        }
        if outcome == Outcome::OpenGate {
            fx.count(Counter::OpenGate);
        }
        let (began, delivery) = (self.volatile.began, self.volatile.delivery);
        self.volatile = Volatile { began, delivery, ..Volatile::default() };
    }

    /// Ends the check: its token leaves the ledger.
    pub(super) fn finish(&mut self, fx: &mut Effects, now: Now, is_reported: bool) {
        let done = self.durable.done(is_reported || self.durable.is_reported, now);
        count_end(fx, &done);
        fx.done = Some(done);
    }

    /// Waits before the next try of the call at hand; answers how many there were.
    pub(super) fn retry(&mut self, cx: &mut Cx<'_>, after: Option<Duration>, longest: Duration) -> u32 {
        let tries = self.volatile.tries.saturating_add(1);
        let wait = cx.random.jitter(delay(tries, FIRST_RETRY, longest)).max(after.unwrap_or_default());
        (self.volatile.tries, self.volatile.next) = (tries, cx.now.mono.plus(wait));
        tries
    }

    /// The next call begins with no failures and at once.
    pub(super) fn restart(&mut self) {
        (self.volatile.tries, self.volatile.next) = (0, Mono(0));
    }

    /// The configured entry where it is answered.
    pub(super) fn entry<'c>(&self, config: &'c Config) -> Option<&'c Entry> {
        config.azure_devops.iter().find(|entry| entry.url() == self.durable.callback.entry)
    }
}

/// Counts a check that has just been reported, or has ended without a report.
pub(super) fn count_end(fx: &mut Effects, done: &Done) {
    fx.count(match done.outcome {
        Some(_) if done.reported && done.observe => Counter::Observed,
        Some(outcome) if done.reported => Counter::Delivered(outcome),
        _ => Counter::Undelivered,
    });
}
