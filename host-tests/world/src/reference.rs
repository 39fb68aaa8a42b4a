//! What must be true at the end of a history: a small model of the module, based on what the fake servers know.

mod counted;
mod evaluated;
mod reruns;

use crate::pipeline::Pipeline;
use crate::setup::LISTENER;
use crate::stream::{Answer, By};
use crate::world::World;
pub(crate) use evaluated::{may_have_failed, may_have_succeeded};

use counted::{Reading, bad_member, has_ended, is_satisfied, passed_at, readings, vanished};
use fakes::azure::Event;

/// Milliseconds.
const MINUTE: i64 = 60_000;
/// The configuration's `clock_skew`, in milliseconds.
pub const CLOCK_SKEW: i64 = 30_000;
/// The configuration's `lookback`, in milliseconds.
const LOOKBACK: i64 = 360 * MINUTE;
/// The longest time from a delivery's start until the module has read it: a body is slow by 26 s at most, and a thread
/// stalls for 40 s.
const READ: i64 = 2 * MINUTE;
/// The total deadline that every check of a history asks for.
pub const TIMEOUT: i64 = 5 * MINUTE;
/// How long the expected may take to appear, for every check of a history.
pub const APPEAR: i64 = 150_000;
/// Rule `reported`: how long Azure DevOps must be reachable without a break.
const REACHABLE: i64 = 5 * MINUTE;
/// A lease, the wait of a worker that takes an expired one, and a tick or two.
const LEASE: i64 = 25_000;
/// The longest brake after falls.
const MAX_BRAKE: i64 = 5 * MINUTE;
/// The time to confirm a few executions one by one, each until its call's timeout.
const CONFIRMED: i64 = MINUTE;
/// The longest time from a reading to its decision if threads stalled for up to 40 s in the middle of a call.
const STALLED: i64 = 2 * MINUTE;

/// What a check was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It can be evaluated.
    Good,
    /// It can be answered but not evaluated: it must be reported as failed.
    Rejected,
    /// It cannot be answered: nothing is stored, nothing is sent.
    Malformed,
}

/// A check that a history has delivered.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Whose.
    pub pipeline: Pipeline,
    /// What it was.
    pub kind: Kind,
    /// What it expects, as in the request.
    pub expect: String,
    /// The workflow that may fail; empty: none.
    pub optional: &'static str,
    /// How long a failure waits for its re-run, in milliseconds.
    pub grace: i64,
    /// How often Testrelay has a failed execution run again.
    pub retry: u32,
    /// Whether it names a stage of its build as the lower bound.
    pub since_stage: bool,
    /// Whether another check has the same tag.
    pub shares_tag: bool,
    /// A process that was restarted since had it, and may have lost it.
    pub was_in_old_process: bool,
    /// Where it is delivered.
    pub listener: String,
    /// Its total deadline after acceptance, in milliseconds.
    pub timeout: i64,
    /// How long the expected may take to appear, in milliseconds.
    pub appear: i64,
    /// When it, or a forgery of it, was first sent, in Unix milliseconds.
    pub began: Option<i64>,
    /// When Azure DevOps began to wait: each delivery, in Unix milliseconds.
    pub deliveries: Vec<i64>,
    /// When the first delivery, and the newest, were answered 200.
    pub accepted: Option<(i64, i64)>,
    /// When Azure DevOps began to wait for the newest delivery that was answered 200, if there is one.
    pub owed_since: Option<i64>,
    /// Whether its newest delivery was answered 200.
    pub newest_is_taken: bool,
    /// Whether the module keeps the newest delivery's token beside the one before it.
    pub has_two_tokens: bool,
    /// Whether Azure DevOps no longer accepts one of its tokens.
    pub token_was_refused: bool,
    /// Azure DevOps itself gave up the run.
    pub is_over: bool,
    /// When it did, in Unix milliseconds.
    pub over_at: Option<i64>,
    /// After its decision it came with another tag, which is a new evaluation.
    pub was_replaced: bool,
    /// When the last thing happens to its executions.
    pub last_change: i64,
    /// When the first of its executions vanishes from Testkube, if one does.
    pub vanishes_at: Option<i64>,
}

/// How a history ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Since when every thread runs and both servers answer, in Unix milliseconds.
    pub healthy_since: i64,
    /// The last fall of a VM, in Unix milliseconds.
    pub last_fall: Option<i64>,
    /// The number of VMs that fell, or were taken for fallen.
    pub falls: u64,
    /// An answer still kills its readers.
    pub is_poisoned: bool,
    /// Threads stalled, so a decision may rest on an older reading than the newest.
    pub stalled: bool,
    /// Every list of executions was complete and showed the module which of them count.
    pub lists_tell_all: bool,
}

/// How often a rule was applied with its premise true.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Rule `reported`: checks that had to be told and were told in time.
    pub owed: u64,
    /// Rule `verdict`: attempts to say `succeeded`.
    pub succeeded: u64,
    /// Rule `verdict`: attempts to say `failed`.
    pub failed: u64,
    /// Checks whose run ended while they waited, and about which the module soon stopped asking Testkube.
    pub given_up: u64,
    /// Executions that Testkube has run again for Testrelay.
    pub reruns: u64,
}

impl Delivered {
    /// A check before its first delivery.
    pub fn new(pipeline: Pipeline, kind: Kind, expect: &str) -> Delivered {
        Delivered {
            pipeline,
            kind,
            expect: expect.into(),
            optional: "",
            grace: 0,
            retry: 0,
            since_stage: false,
            shares_tag: false,
            was_in_old_process: false,
            listener: LISTENER.into(),
            timeout: TIMEOUT,
            appear: APPEAR,
            began: None,
            deliveries: Vec::new(),
            accepted: None,
            owed_since: None,
            newest_is_taken: false,
            has_two_tokens: false,
            token_was_refused: false,
            is_over: false,
            over_at: None,
            was_replaced: false,
            last_change: 0,
            vanishes_at: None,
        }
    }

    /// The same check as an evaluation asks about it.
    fn without_policies(&self) -> Delivered {
        Delivered { optional: "", grace: 0, retry: 0, ..self.clone() }
    }

    /// The first and the last time at which the module can have read a delivery of it, true or forged, in Unix
    /// milliseconds. The module reads its wall clock at that moment.
    fn read_within(&self) -> (i64, i64) {
        let (first, last) = (self.began.unwrap_or(0), self.deliveries.last().copied().unwrap_or(i64::MAX));
        (first, last.saturating_add(READ))
    }

    /// The first and the last time that the module can have taken for the token's end, given how far, in milliseconds, the
    /// process's clock was off when a delivery was read.
    fn token_ends(&self, world: &World) -> Option<(i64, i64)> {
        let (from, until) = self.read_within();
        let skews = world.skews(from, until);
        let (slowest, fastest) = (skews.iter().min()?, skews.iter().max()?);
        self.pipeline.token_end.map(|end| (end - fastest, end - slowest))
    }

    /// When nothing can be told any more: its token has ended, or the module believes so.
    fn untold_from(&self, world: &World) -> Option<i64> {
        let end = self.pipeline.token_end?;
        self.token_ends(world).map(|(first, _)| first.min(end))
    }

    /// Notes the answer, at `now`, to a delivery that Azure DevOps has waited for since `at`.
    pub fn answered(&mut self, answer: &Answer, at: i64, now: i64) {
        if answer.status == 200 && answer.by == By::Module {
            self.newest_is_taken = Some(&at) == self.deliveries.last();
            self.has_two_tokens = self.newest_is_taken && answer.text().contains("already waiting");
            self.owed_since = Some(self.owed_since.unwrap_or(at).max(at));
            self.accepted = Some((self.accepted.map_or(at, |(first, _)| first), now));
        }
    }

    /// The total deadline, or the time by which the decision must be made to arrive before the token's end, whichever is
    /// earlier: its first and its last possible value.
    fn deadlines(&self, world: &World, accepted: i64) -> (i64, i64) {
        let reserve = |left: i64| (30 * MINUTE).min(left.max(0) / 4);
        let by_token = |end: i64| (end - reserve(end - accepted)).min(accepted + self.timeout);
        match self.token_ends(world) {
            Some((first, last)) => (by_token(first), by_token(last)),
            None => (accepted + self.timeout, accepted + self.timeout),
        }
    }
}

/// When Azure DevOps took the event for a delivery that it has waited for since `since`.
pub(crate) fn told_at(events: &[Event], since: i64) -> Option<i64> {
    events.iter().find(|event| event.accepted && event.at >= since).map(|event| event.at)
}

fn events(world: &World, check: &Delivered) -> Vec<Event> {
    world.azure(|azure| azure.events(&check.pipeline.spec().plan))
}

/// Whether a check that was answered 200 still has to be told.
pub fn is_owed(world: &World, check: &Delivered) -> bool {
    let Some(since) = check.owed_since.filter(|_| !check.is_over) else { return false };
    let has_ended = check.untold_from(world).is_some_and(|end| world.wall() >= end);
    !has_ended && told_at(&events(world, check), since).is_none()
}

/// Judges the rules `reported` and `verdict`.
pub fn judge(world: &mut World, checks: &[Delivered], end: &End) -> Judged {
    let mut judged = Judged { reruns: reruns::judge(world, checks), ..Judged::default() };
    for check in checks {
        rule_reported(world, check, end, &mut judged);
        rule_verdict(world, check, end, &mut judged);
        let has_tag_alone =
            checks.iter().filter(|other| other.pipeline.tag == check.pipeline.tag).count() == 1;
        if has_tag_alone {
            given_up(world, check, end, &mut judged);
        }
        let plan = check.pipeline.spec().plan;
        let was_called = || {
            world.azure(|azure| {
                azure.requests().iter().any(|recorded| recorded.request.target.contains(&plan))
            })
        };
        if check.kind == Kind::Malformed && was_called() {
            let text = format!("run {} could not be answered, and was called", check.pipeline.n);
            world.violation("answers", text);
        }
    }
    judged
}

/// When a run is over, its check's record or its build says so at one of the next two looks, a minute apart. From then on
/// nobody may ask Testkube about it.
fn given_up(world: &mut World, check: &Delivered, end: &End, judged: &mut Judged) {
    const LOOKS: i64 = 2 * MINUTE;
    let Some((over_at, (first, _))) = check.over_at.zip(check.accepted) else { return };
    let is_known_by = over_at.max(end.healthy_since) + LOOKS + brake(end);
    let cannot_know =
        check.was_in_old_process || check.token_was_refused || check.pipeline.token_end.is_some();
    if cannot_know || check.kind != Kind::Good || is_known_by >= check.deadlines(world, first).0 {
        return;
    }
    judged.given_up += 1;
    let late = readings(world, &check.pipeline.tag, i64::MAX);
    if let Some(late) = late.first().filter(|reading| reading.at > is_known_by) {
        let n = check.pipeline.n;
        let text = format!("run {n} was over at {over_at}, and was still asked for at {}", late.at);
        world.violation("given up", text);
    }
}

/// How long it may take until somebody leads again.
fn brake(end: &End) -> i64 {
    match end.last_fall {
        Some(_) if end.is_poisoned => 8 * MAX_BRAKE,
        Some(at) if at + 10 * MINUTE > end.healthy_since => LEASE + MAX_BRAKE,
        _ => LEASE,
    }
}

/// Once a check's decision can be made, and Azure DevOps is reachable for five minutes without a break before its token
/// ends, a check that was answered 200 is told within these five minutes.
fn rule_reported(world: &mut World, check: &Delivered, end: &End, judged: &mut Judged) {
    let Some((since, (_, accepted))) = check.owed_since.zip(check.accepted).filter(|_| !check.is_over) else {
        return;
    };
    let by = decidable(world, check, accepted).max(end.healthy_since) + REACHABLE + brake(end);
    if check.untold_from(world).is_some_and(|end| end <= by) || was_never_taken(world, check) {
        return;
    }
    judged.owed += 1;
    let events = events(world, check);
    match told_at(&events, since) {
        Some(at) if at <= by => {}
        told => world.violation(
            "reported",
            format!(
                "run {} was answered 200 at {accepted}, waited for since {since}, to be told by {by}, and was told at {told:?}: {events:?}",
                check.pipeline.n,
            ),
        ),
    }
}

/// Whether Azure DevOps has never taken a check's token and still refused it half an hour after its last delivery: then the
/// check is dropped. A sign-in page, which a broken proxy may also send, looks like such a refusal.
fn was_never_taken(world: &World, check: &Delivered) -> bool {
    let plan = check.pipeline.spec().plan;
    let last = check.deliveries.last().copied().unwrap_or_default();
    let is_refused = |status| matches!(status, Some(200 | 203 | 302 | 401 | 403));
    let refused_late = world.azure(|azure| {
        let mut of_it = azure.requests().iter().filter(|recorded| recorded.request.target.contains(&plan));
        of_it.any(|recorded| is_refused(recorded.status) && recorded.at >= last + 30 * MINUTE)
    });
    !world.is_proven(&plan) && refused_late
}

/// From when on nothing prevents a decision.
fn decidable(world: &World, check: &Delivered, accepted: i64) -> i64 {
    const MAX_SETTLE: i64 = 60_000;
    let (_, deadline) = check.deadlines(world, accepted);
    let settled = check.last_change.max(accepted) + MAX_SETTLE + check.grace;
    match has_ended(world, check, check.last_change.max(accepted)) {
        _ if check.kind == Kind::Rejected => accepted,
        // What is run again ends later.
        _ if check.retry > 0 => deadline,
        true => settled.min(deadline),
        false => deadline,
    }
}

/// `succeeded` only where a reading says so, and `failed` only for a reason.
fn rule_verdict(world: &mut World, check: &Delivered, end: &End, judged: &mut Judged) {
    let events = events(world, check);
    let mut before: Option<&Event> = None;
    for event in events.iter().filter(|event| event.name == "TaskCompleted") {
        let same = before.filter(|before| before.result == event.result);
        match event.result.as_deref() {
            Some("succeeded") => {
                judged.succeeded += 1;
                if let Err(why) = succeeded(world, check, event, same, end) {
                    world.violation("verdict", format!("run {} succeeded, but {why}", check.pipeline.n));
                }
            }
            _ => {
                judged.failed += 1;
                if same.is_none() && !may_fail(world, check, event.at, end) {
                    let text = format!("run {} failed at {} for no reason", check.pipeline.n, event.at);
                    world.violation("verdict (failed for a reason)", text);
                }
            }
        }
        before = Some(event);
    }
}

/// In the reading behind the decision every member of the counted set had passed, and after it each was read by its id.
fn succeeded(
    world: &World,
    check: &Delivered,
    event: &Event,
    before: Option<&Event>,
    end: &End,
) -> Result<(), String> {
    if check.kind != Kind::Good {
        return Err("it cannot be evaluated".into());
    }
    let all = readings(world, &check.pipeline.tag, event.at);
    let first = check.deliveries.first().copied().unwrap_or(0);
    let newest = all.first().map_or(0, |reading| reading.at);
    // A context that has just lost the lead still decides by what it has read and confirmed, while its successor reads
    // anew.
    let was_handed_over = world.was_handed_over(newest - CONFIRMED, newest + CONFIRMED);
    let oldest = match (end.stalled, was_handed_over) {
        // The readings for one check are also readings for the other, even after its decision.
        _ if check.shares_tag || check.was_in_old_process => first,
        (true, _) => newest - STALLED,
        (_, true) => newest - CONFIRMED,
        (false, false) => newest,
    };
    let mut why = "its tag was never read".to_string();
    for (n, reading) in all.iter().filter(|reading| reading.at >= oldest).enumerate() {
        let passed = passed_at(world, check, reading.at, event.at);
        match passed.and_then(|()| nothing_vanished(world, check, reading.at, event.at, end)) {
            Ok(()) => return Ok(()),
            Err(reason) if n == 0 => why = reason,
            Err(_) => {}
        }
    }
    // The same decision again: its answer was lost, or another delivery came before the answer was known.
    let is_repeated = before.is_some_and(|before| !all.iter().any(|reading| reading.at > before.at));
    if is_repeated { Ok(()) } else { Err(why) }
}

/// An execution that the module counted and that is gone since has no known result.
fn nothing_vanished(world: &World, check: &Delivered, at: i64, until: i64, end: &End) -> Result<(), String> {
    // The readings may have been another check's, or another process's.
    if check.shares_tag || check.was_in_old_process || !end.lists_tell_all {
        return Ok(());
    }
    let last = check.deliveries.iter().rev().find(|delivery| **delivery <= until);
    let gone = last.and_then(|since| vanished(world, check, *since, at));
    gone.map_or(Ok(()), |id| Err(format!("{id} had been counted and was gone at {at}")))
}

fn may_fail(world: &World, check: &Delivered, at: i64, end: &End) -> bool {
    let Some(first) = check.deliveries.first().copied() else { return false };
    if check.kind == Kind::Rejected
        || check.since_stage
        || check.was_replaced
        || end.falls >= 2
        || at >= check.deadlines(world, first).0
    {
        return true;
    }
    // Its result is not known, and nobody can find it out any more.
    if check.vanishes_at.is_some_and(|gone| at >= gone) {
        return true;
    }
    let all = readings(world, &check.pipeline.tag, at);
    let absent = || {
        let newest = all.first().is_none_or(|reading| !is_satisfied(world, check, reading.at));
        at >= first + check.appear && newest
    };
    let bad = |reading: &Reading| reading.at <= at - check.grace && bad_member(world, check, reading.at);
    all.iter().any(bad) || absent()
}
