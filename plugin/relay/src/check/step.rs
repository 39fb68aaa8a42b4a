//! The only way in: an event comes to a check, and effects go out. Only this moves its phase.

use super::answers::{Asked, Outage, Waiting};
use super::code::in_brackets;
use super::fallback::Refused;
use super::observed::Observed;
use super::proving::Proof;
use super::retry::Asking;
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

/// One check: its record in the ledger, and what its leader remembers.
pub(crate) struct Check {
    /// The check's key.
    pub(crate) key: CheckKey,
    /// The part that outlives the leader.
    pub(crate) durable: Box<Pending>,
    /// The part that does not.
    pub(crate) volatile: Volatile,
}

/// The state that is lost with the leader and made anew by the next.
#[derive(Clone, Default)]
pub(crate) struct Volatile {
    /// The evaluation that this state belongs to.
    began: Mono,
    /// The delivery that `tries` belongs to.
    delivery: u32,
    /// The awaited call. Answers of other calls are ignored.
    pub(super) waiting: Option<Waiting>,
    /// Whether its next call waits for room.
    pub(super) is_queued: bool,
    /// The time before which it makes no call of its own.
    pub(super) next: Mono,
    /// The time before which nothing is done for it: shared data has refused a change, or Azure DevOps has asked for a
    /// pause.
    pub(super) held_until: Mono,
    /// While its decision waits to be stored: until when.
    pub(super) fence: Option<Mono>,
    /// Failures in a row of the present call.
    pub(super) tries: u32,
    /// The next proof of the token that this delivery brought.
    pub(super) proof: Option<(u32, Proof)>,
    /// How often its report was refused.
    pub(super) refused: Refused,
    /// The calls that Azure DevOps did not accept, since it took one.
    pub(super) outage: Option<Rc<Outage>>,
    /// Since when its entry is missing from `azure_devops`.
    pub(super) entry_missing: Option<Mono>,
    /// When to ask Testkube for its executions next.
    pub(super) poll: Mono,
    /// The time from which it may join a reading that is made for others.
    pub(super) may_join: Mono,
    /// A decision that rests on a reading, while each execution is looked at again.
    pub(super) confirm: Option<Rc<Confirm>>,
    /// When the deadline passed, if one last reading is being made.
    pub(super) last_reading: Option<Mono>,
    /// When the last reading was made, if it was complete and nothing had vanished.
    pub(super) good_reading: Option<Mono>,
    /// Incomplete readings since the last complete one.
    pub(super) incomplete: Option<Incomplete>,
    /// Unreadable answers for this check since the last readable one.
    pub(super) trouble: Trouble,
    /// The execution whose second look could not be read, and since when.
    pub(super) unconfirmed: Option<(String, Trouble)>,
    /// Absence that is not in the ledger yet.
    pub(super) absence: Observed,
    /// The wait of failures for their re-run that is not in the ledger yet.
    pub(super) grace: Observed,
    /// The re-run that it is about to ask for.
    pub(super) asking: Option<Asking>,
    /// The wait for a re-run to appear that is not in the ledger yet.
    pub(super) looked: Observed,
    /// When Testkube has last answered to a re-run.
    pub(super) asked: Mono,
    /// Readings in a row in which an execution had vanished.
    pub(super) vanished: u32,
    /// Whether Testkube has sent a hint since the last look began.
    pub(super) is_hinted: bool,
    /// When the last look began that a hint had brought forward.
    pub(super) hint_look: Mono,
    /// Since when its last lines could be written but for the results of tests.
    pub(super) results_since: Option<Mono>,
}

impl Volatile {
    /// Stops all work for the check until then, because shared data has refused a change of it. Its awaited call has
    /// ended, and its turn in a queue is used up. A re-run that is noted may have been asked for.
    pub(crate) fn hold(&mut self, until: Mono) {
        self.asking.take_if(|asking| asking.is_noted());
        (self.waiting, self.is_queued, self.held_until) = (None, false, until);
    }

    /// Forgets the state of an earlier evaluation, and tries a new delivery at once.
    pub(crate) fn renew(&mut self, durable: &Pending) {
        if self.began != durable.began {
            *self = Volatile { began: durable.began, delivery: durable.delivery, ..Volatile::default() };
        }
        if std::mem::replace(&mut self.delivery, durable.delivery) != durable.delivery {
            (self.tries, self.next) = (0, Mono(0));
        }
    }

    /// When to look at it next, if nothing else happens. Nothing is due while it waits for a call: the answer, or its
    /// loss, comes.
    pub(crate) fn times(&self, durable: &Pending, now: Mono) -> Times {
        if self.waiting.is_some() {
            return Times::default();
        }
        let ahead = |at: Mono| Some(at).filter(|at| *at > now);
        let own = (!self.is_queued).then(|| self.next.max(self.held_until));
        let end = Some(durable.token_end);
        if durable.is_doubted {
            return Times { wake: own.into_iter().chain(end).min(), poll: None };
        }
        let deadline = ahead(durable.deadline().at);
        let (times, poll) = match &durable.phase {
            Phase::Watching(_) => {
                let last = self.last_reading.map(super::watching::ends_at);
                let asks = self.asking.as_ref().filter(|_| !self.is_queued);
                let asks = asks.map(|asking| asking.next.max(self.held_until));
                let calls = self.confirm.as_ref().and(own).into_iter().chain(asks).min();
                let poll = self.confirm.is_none().then(|| self.poll.max(self.held_until));
                ([deadline, last, calls], poll)
            }
            Phase::Accepted | Phase::Proven => ([own, deadline, None], None),
            Phase::Decided(_) => ([own, None, None], None),
            Phase::Owing(owing) => ([own, Some(owing.until), None], None),
        };
        let wake = times.into_iter().chain([end]).flatten().min();
        Times { wake: wake.map(|wake| wake.max(self.held_until)), poll }
    }

    /// Notes that its record is stored: its event need wait no longer.
    pub(crate) fn stored(&mut self) {
        if self.fence.is_some() {
            self.next = Mono(0);
        }
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.failures == 0) {
            asking.next = Mono(0);
        }
    }

    /// The time before which nothing is done for the check.
    pub(crate) fn held_until(&self) -> Mono {
        self.held_until
    }

    /// When the next call of its own is tried.
    pub(super) fn next_try(&self) -> Mono {
        self.next.max(self.held_until)
    }

    /// Unreadable answers of Testkube for this check alone.
    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }
}

/// The context of a step.
pub(crate) struct Cx<'a> {
    /// The time.
    pub(crate) now: Now,
    /// The leader's configuration.
    pub(crate) config: &'a Config,
    /// The context that makes the step.
    pub(crate) holder: u64,
    /// Makes jitter and the numbers of claims.
    pub(crate) random: &'a mut Random,
    /// The id of the call that this step may start.
    pub(crate) call: CallId,
    /// Whether a call of this kind may be started for the check at this address.
    pub(crate) space: &'a dyn Fn(Room, &Callback) -> Space,
    /// The outage of Testkube that all checks share.
    pub(crate) trouble: &'a Trouble,
    /// The check's live log. It may be lost, and showing it something twice changes nothing.
    pub(crate) log: &'a mut LiveLog,
}

/// An event of a check.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// Its time has come, there is room for its call, or its record has changed.
    Due,
    /// A call for it was answered, or never will be.
    Answered(CallId, &'a CallOutcome),
    /// A TaskCompleted was answered. The context that gets the answer notes it, leading or not.
    Reported(CallId, Reporting, &'a CallOutcome),
    /// A requested call was not started.
    NotStarted(CallId),
    /// A reading is complete.
    Read(CallId, &'a Reading<'a>),
    /// A reading failed.
    Unread(CallId, &'a Unread),
    /// A VM fell while it read an answer for the check.
    Fell,
    /// A place was taken for it, because its record notes none.
    Placed(&'a Place),
    /// Its results have an answer of Testkube.
    Tested,
    /// Its live log has an answer of Azure DevOps. The flag says whether another check waits for the same tag.
    Heard(&'a Heard, bool),
}

/// A TaskCompleted that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporting {
    /// The evaluation.
    pub(crate) began: Mono,
    /// The number of the claim.
    pub(crate) send: u64,
    /// The delivery that it was sent for.
    pub(crate) delivery: u32,
    /// The delivery that brought the presented token.
    pub(crate) token: u32,
}

/// When a check is next due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// For a step.
    pub(crate) wake: Option<Mono>,
    /// For a reading.
    pub(crate) poll: Option<Mono>,
}

/// Maximum moves after one event: no more than there are phases.
const MAX_ROUNDS: u32 = 12;

const FIRST_RETRY: Duration = Duration::from_secs(1);

pub(super) const NO_ANSWER: &str =
    "Azure DevOps did not answer before this check's deadline, so Testkube was not asked.";

impl Check {
    /// A check from its record and what its leader remembers.
    pub(crate) fn new(key: CheckKey, durable: Box<Pending>, volatile: Volatile) -> Check {
        let mut check = Check { key, durable, volatile };
        check.volatile.renew(&check.durable);
        check
    }

    /// Handles an event.
    pub(crate) fn step(&mut self, cx: &mut Cx<'_>, event: Event<'_>) -> Effects {
        let mut fx = Effects::default();
        // The call that waits for room has its turn as before.
        if matches!(event, Event::Tested) && self.volatile.is_queued {
            return fx;
        }
        // A reading gives a re-run no turn.
        let is_reading = matches!(event, Event::Read(..) | Event::Unread(..));
        self.volatile.is_queued &= is_reading && self.volatile.asking.is_some();
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
            Event::Tested => self.tested(),
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

    /// Does the next thing. Returns whether another may follow at once.
    fn go_on(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let now = cx.now;
        if now.mono >= self.durable.token_end {
            return self.token_ended(fx, now);
        }
        if self.durable.is_doubted {
            return self.ask_whether_over(cx, fx);
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
        fx.say(Level::Error, format!("check {id}: its token ended before the decision was delivered"));
        self.finish(fx, now, false);
        false
    }

    fn not_started(&mut self, id: CallId) {
        let Some(waiting) = self.volatile.waiting.take_if(|waiting| waiting.id == id) else { return };
        match waiting.asked {
            Asked::Azure { report: Some(report), .. } => self.unclaim(report.send),
            Asked::Failure | Asked::Rerun => self.rerun_not_asked(),
            _ => {}
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

    /// The same with a decision that was known before.
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
        let Volatile { began, delivery, outage, .. } = std::mem::take(&mut self.volatile);
        self.volatile = Volatile { began, delivery, outage, ..Volatile::default() };
    }

    /// Ends the check: its token leaves the ledger.
    pub(super) fn finish(&mut self, fx: &mut Effects, now: Now, is_reported: bool) {
        let done = self.durable.done(is_reported || self.durable.is_reported, now);
        count_end(fx, &done);
        fx.done = Some(done);
    }

    /// Sets the pause before the next try of the present call. Returns the number of tries.
    pub(super) fn retry(&mut self, cx: &mut Cx<'_>, after: Option<Duration>, longest: Duration) -> u32 {
        let tries = self.volatile.tries.saturating_add(1);
        let wait = cx.random.jitter(delay(tries, FIRST_RETRY, longest)).max(after.unwrap_or_default());
        (self.volatile.tries, self.volatile.next) = (tries, cx.now.mono.plus(wait));
        tries
    }

    /// Lets the next call start at once, with no failures.
    pub(super) fn restart(&mut self) {
        (self.volatile.tries, self.volatile.next) = (0, Mono(0));
    }

    /// The configured entry of the check.
    pub(super) fn entry<'c>(&self, config: &'c Config) -> Option<&'c Entry> {
        config.azure_devops.iter().find(|entry| entry.url() == self.durable.callback.entry)
    }
}

/// Counts a check that was just reported, or ended without a report.
pub(super) fn count_end(fx: &mut Effects, done: &Done) {
    fx.count(match done.outcome {
        Some(_) if done.reported && done.observe => Counter::Observed,
        Some(outcome) if done.reported => Counter::Delivered(outcome),
        _ => Counter::Undelivered,
    });
}
