//! Watching the executions of one check: complete readings only, every decision confirmed, three deadlines.

use super::answers::{Asked, Waiting};
use super::observed::Observed;
use super::retry::looked_at;
use super::{
    Ask, Call, Check, Counter, Cx, Effects, Pending, Phase, ReasonCode, Room, Seen, Space, Volatile, Watch,
    reason,
};
use crate::backoff;
use crate::check::verdict::{
    Assessment, Facts, Judgement, MAX_COUNTED, Rules, Standing, Waits, assess, judge, waits,
};
use crate::collections::{Few, tree};
use crate::tag::Tag;
use crate::text::{listed, one_line};
use crate::time::{Mono, Now, Wall};
use crate::wire::call::{CallId, CallOutcome, Fault};
use crate::wire::testkube::{self, Execution, Status, Trouble};
use log::Level;
use std::rc::Rc;
use std::time::Duration;

/// Maximum wait for one last reading after the deadline.
const LAST_READING: Duration = Duration::from_secs(60);

/// Maximum time between falls that count as related.
pub(crate) const FALLS_TOGETHER: Duration = Duration::from_secs(1_800);

/// Minimum interval between two looks at one check that hints bring forward.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// How long Testkube must be silent, or its readings incomplete, before the check's log says so.
const LONG: Duration = Duration::from_secs(60);

/// First and maximum pause after a failed reading of a check: it is read within 15 s after Testkube is back.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// A complete reading: the executions with tags of one key, by tag value.
pub(crate) struct Reading<'a> {
    /// By tag value; a value without executions is absent.
    pub(crate) by_value: &'a Few<String, Vec<Execution>>,
}

/// Why a reading decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// A page could not be read.
    Fault(Fault),
    /// The pages that were read are not everything.
    Incomplete {
        /// Number of executions that Testkube counted.
        counted: u32,
        /// Number of distinct executions that it listed.
        listed: usize,
    },
}

/// A decision that rests on a reading, while each execution is looked at again.
#[derive(Clone)]
pub(super) struct Confirm {
    todo: Rc<Vec<Listed>>,
    at: usize,
    code: ReasonCode,
    reason: String,
    notes: Vec<String>,
}

/// An execution as the reading had it.
struct Listed {
    id: String,
    name: String,
    status: Status,
    is_optional: bool,
}

/// Incomplete readings in a row, which decide nothing.
#[derive(Clone)]
pub(super) struct Incomplete {
    pub(super) since: Now,
    counted: u32,
    listed: usize,
}

impl Incomplete {
    /// `Testkube's lists have been incomplete since 14:02 UTC (the last: 3 of 4 executions)`.
    pub(super) fn in_words(&self, now: Wall) -> String {
        format!(
            "Testkube's lists have been incomplete since {} (the last: {} of {} executions)",
            self.since.wall.clock(now),
            self.listed,
            self.counted
        )
    }
}

/// Interval between looks at a check: it adds at most a fifteenth to the time that people have waited. Half an hour
/// costs some 140 lists.
fn interval(age: Duration) -> Duration {
    (age / 15).clamp(Duration::from_secs(2), Duration::from_secs(20))
}

/// Maximum interval between two complete readings of a check of this age that counts as watched.
fn longest_gap(age: Duration) -> Duration {
    (interval(age) * 2).max(Duration::from_secs(30))
}

/// When the wait for a last reading ends, if the deadline passed at `last_reading`.
pub(super) fn ends_at(last_reading: Mono) -> Mono {
    last_reading.plus(LAST_READING)
}

impl Volatile {
    /// Notes that a reading begins, for this check among others: it covers earlier hints.
    pub(crate) fn begin_reading(&mut self, now: Mono, id: CallId) {
        self.waiting = Some(Waiting { id, asked: Asked::Reading });
        if std::mem::take(&mut self.is_hinted) {
            self.hint_look = now;
        }
    }

    /// Notes Testkube's hint that an execution of the check has changed.
    pub(crate) fn hint(&mut self, now: Mono) {
        self.is_hinted = true;
        self.bring_forward(now);
    }

    /// Why nothing is known of its executions, if a fault of all checks or of this one alone stands in the way.
    pub(super) fn trouble_in_words(&self, now: Wall, of_all: &Trouble) -> Option<String> {
        of_all
            .in_words(now)
            .or_else(|| self.trouble.in_words(now))
            .or_else(|| self.incomplete.as_ref().map(|incomplete| incomplete.in_words(now)))
            .or_else(|| {
                let (name, trouble) = self.unconfirmed.as_ref()?;
                trouble.in_words_of(&format!("Testkube's answer for {name} has been unreadable"), now)
            })
    }

    /// The code of a deadline that no reading decided because of a fault.
    fn trouble_code(&self, of_all: &Trouble) -> Option<ReasonCode> {
        let unconfirmed = self.unconfirmed.as_ref().map(|(_, trouble)| trouble);
        let fault = of_all.main_fault().or_else(|| self.trouble.main_fault());
        match (fault, &self.incomplete) {
            (None, Some(_)) => Some(ReasonCode::TestkubeUnreadable),
            (fault, _) => fault.or_else(|| unconfirmed?.main_fault()).map(ReasonCode::of_fault),
        }
    }

    /// The same words, once the fault has lasted long enough to be told.
    pub(crate) fn long_trouble(&self, now: Now, of_all: &Trouble) -> Option<String> {
        let lasts = [
            of_all.lasts(now.mono),
            self.trouble.lasts(now.mono),
            self.incomplete.as_ref().map(|one| now.mono.since(one.since.mono)).unwrap_or_default(),
            self.unconfirmed.as_ref().map(|(_, one)| one.lasts(now.mono)).unwrap_or_default(),
        ];
        let is_long = lasts.into_iter().any(|lasts| lasts >= LONG);
        if is_long { self.trouble_in_words(now.wall, of_all) } else { None }
    }

    /// Whether it may join a reading that begins for others.
    pub(crate) fn may_join(&self, now: Mono) -> bool {
        now >= self.may_join.max(self.held_until)
    }

    /// Brings the next look forward to now, or to the earliest time at which that is allowed.
    fn bring_forward(&mut self, now: Mono) {
        let earliest = self.hint_look.plus(BETWEEN_LOOKS);
        // Puts it before all that are only due, if they are many.
        let is_now = earliest <= now;
        self.poll = self.poll.min(if is_now { Mono(0) } else { earliest });
    }
}

/// A check's demands on a reading.
pub(crate) struct Wanted<'a> {
    /// The tag of its executions.
    pub(crate) tag: &'a Tag,
    /// The time before which scheduled executions are not asked for.
    pub(crate) since: Wall,
    /// Whether a VM fell over the check. It is then read alone, so that the next fall names the right one.
    pub(crate) is_suspect: bool,
}

impl Pending {
    /// What the check waits for at Testkube; `None` if it waits for nothing now.
    pub(crate) fn wanted(&self, now: Mono, lookback: Duration) -> Option<Wanted<'_>> {
        let (Phase::Watching(watch), Some(ask)) = (&self.phase, &self.ask) else { return None };
        // Older executions are asked for as well, so that the decision can say that they were seen but do not count.
        let since = watch.bound.min(self.accepted.wall.minus(lookback));
        let is_suspect = self.falls.count > 0 && now.since(self.falls.last) < FALLS_TOGETHER;
        Some(Wanted { tag: &ask.tag, since, is_suspect })
    }

    /// Whether the check is undecided and waits for the executions of this tag.
    pub(crate) fn waits_for(&self, tag: &Tag) -> bool {
        self.decided().is_none() && self.ask.as_ref().is_some_and(|ask| ask.tag == *tag)
    }
}

impl Check {
    /// Handles deadlines and confirmations of a watching check; readings are made for many checks together. Returns
    /// whether something else may follow at once.
    pub(super) fn watch(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let now = cx.now.mono;
        let volatile = &mut self.volatile;
        if volatile.last_reading.is_none() && self.durable.is_past_deadline(cx.now) {
            volatile.last_reading = Some(now);
            volatile.poll = now;
        }
        if volatile.last_reading.is_some_and(|since| now >= ends_at(since)) {
            let why = self.volatile.trouble_in_words(cx.now.wall, cx.trouble);
            self.end_unread(
                cx,
                fx,
                why.as_deref().unwrap_or("No complete last reading of Testkube was possible"),
            );
            return true;
        }
        if !self.ask_for_rerun(cx, fx) {
            self.confirm_next(cx, fx);
        }
        false
    }

    /// Decides after a deadline without a deciding reading.
    fn end_unread(&mut self, cx: &Cx<'_>, fx: &mut Effects, why: &str) {
        let reason = reason::deadline(&self.durable, cx.now, &format!("{why}."));
        let code = self.volatile.trouble_code(cx.trouble);
        let code = code.unwrap_or_else(|| reason::code_of_deadline(&self.durable, cx.now));
        self.decide(cx, fx, code, reason);
    }

    fn confirm_next(&mut self, cx: &Cx<'_>, fx: &mut Effects) {
        let next = self.volatile.confirm.as_ref().and_then(|confirm| confirm.todo.get(confirm.at));
        let Some(next) = next else { return };
        let request = testkube::get_execution(&cx.config.testkube, &next.id);
        match (cx.space)(Room::Confirm, &self.durable.callback) {
            Space::Free => {
                self.volatile.waiting = Some(Waiting { id: cx.call, asked: Asked::Confirm });
                fx.call = Some(Call { id: cx.call, room: Room::Confirm, request, report: None });
            }
            Space::Full => self.queue(fx, Room::Confirm),
            Space::Quiet(until) => self.volatile.held_until = until,
        }
    }

    /// Judges one complete reading for the check.
    pub(super) fn read(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, id: CallId, reading: &Reading<'_>) {
        if self.volatile.waiting.take_if(|waiting| waiting.id == id).is_none() {
            return;
        }
        self.poll_later(cx);
        let (Phase::Watching(watch), Some(ask)) = (&self.durable.phase, &self.durable.ask) else { return };
        let (watch, ask) = (watch.clone(), ask.clone());
        let executions = reading.by_value.get(&ask.tag.value).map_or(&[][..], Vec::as_slice);
        let rules = Rules::of_check(&ask, &watch, self.durable.accepted.wall, cx.config.checks.clock_skew);
        let read = assess(executions, &rules);
        // Checked first: what follows keeps, and says, something of each execution.
        if read.counted.len() > MAX_COUNTED {
            let reason = format!("More than {MAX_COUNTED} executions carry the tag {}.", ask.tag);
            return self.decide(cx, fx, ReasonCode::TooMany, reason);
        }
        let volatile = &mut self.volatile;
        volatile.incomplete = None;
        volatile.trouble.end();
        let now = cx.now.mono;
        let gap = volatile.good_reading.replace(now).map(|last| now.since(last));
        let age = now.since(self.durable.accepted.mono);
        let was_watched = gap.is_some_and(|gap| gap <= longest_gap(age));
        cx.log.read(&read, &self.durable, cx.config, cx.now);
        if self.note_vanished(cx, fx, &watch, &ask, &read) {
            return;
        }
        // Time that was not watched does not count for settling, whether because of an outage or a fallen leader.
        let since = self.note_seen(now, &watch, &read, was_watched || ask.settle.is_zero());
        let elapsed = gap.unwrap_or_default();
        let absent = self.note_absence(cx, &read, elapsed);
        let looked = self.note_look(now, &read, elapsed);
        let waits = waits(&self.durable, &ask, &watch, &read, looked);
        if self.drop_useless_wish(now, &read, &waits) {
            return;
        }
        let elapsed = if waits == Waits::Nothing { elapsed } else { Duration::ZERO };
        let waited = self.note_wait(&ask, &read, if since == now { Duration::ZERO } else { elapsed });
        let is_last = self.volatile.last_reading.is_some();
        let facts = Facts { now: cx.now, since, absent, waited, looked, is_last };
        let judgement = judge(&self.durable, &ask, &watch, &read, &facts);
        let grace_ends = match &judgement {
            Judgement::Grace(ends) => Some(cx.now.wall.plus(ends.since(now))),
            _ => None,
        };
        cx.log.set_grace(grace_ends);
        self.act_on(cx, fx, judgement, &read);
    }

    fn act_on(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, judgement: Judgement, read: &Assessment<'_>) {
        match judgement {
            Judgement::Decided(code, reason) => self.decide(cx, fx, code, reason),
            Judgement::Rerun(wishes) => self.wish(cx, wishes),
            Judgement::Ended(code, reason) => {
                let listed = read.counted.iter().map(|e| Listed {
                    id: e.id.clone(),
                    name: one_line(&e.name, 80),
                    status: e.status.clone(),
                    is_optional: read.is_optional(e),
                });
                let todo = Rc::new(listed.collect());
                self.volatile.confirm =
                    Some(Rc::new(Confirm { todo, at: 0, code, reason, notes: Vec::new() }));
            }
            Judgement::Grace(until) | Judgement::Wait(Some(until)) => {
                self.volatile.poll = self.volatile.poll.min(until);
            }
            Judgement::Wait(None) => {}
        }
    }

    /// Whether a counted execution is missing from complete readings altogether. Two readings in a row decide.
    fn note_vanished(
        &mut self,
        cx: &Cx<'_>,
        fx: &mut Effects,
        watch: &Watch,
        ask: &Ask,
        read: &Assessment<'_>,
    ) -> bool {
        let present: std::collections::BTreeSet<u32> = tree(read.present());
        let members = watch.seen.iter().flat_map(|seen| &seen.members);
        if members.into_iter().all(|member| present.contains(member)) {
            self.volatile.vanished = 0;
            return false;
        }
        self.volatile.vanished = self.volatile.vanished.saturating_add(1);
        // The set was not the same all the time: it settles anew when it is back.
        self.volatile.good_reading = None;
        if self.volatile.vanished >= 2 || self.volatile.last_reading.is_some() {
            let reason = format!(
                "An execution tagged {} that had been counted is gone from Testkube, or has lost the tag, so its result is unknown. Found now: {}.",
                ask.tag,
                reason::or_none(read.statuses())
            );
            self.decide(cx, fx, ReasonCode::CleanedUp, reason);
        }
        true
    }

    /// Adds to the time for which the expected executions were absent while Testkube answered, and returns it; zero if
    /// all are there.
    fn note_absence(&mut self, cx: &mut Cx<'_>, read: &Assessment<'_>, elapsed: Duration) -> Duration {
        let absent = match &mut self.durable.phase {
            Phase::Watching(watch) if read.standing() == Standing::Incomplete => {
                self.volatile.absence.add(&mut watch.absent, elapsed)
            }
            _ => Duration::ZERO,
        };
        cx.log.set_absence(absent);
        absent
    }

    /// Adds to the time for which failures have waited for a re-run while Testkube answered, and returns it.
    fn note_wait(&mut self, ask: &Ask, read: &Assessment<'_>, elapsed: Duration) -> Duration {
        let fails = read.standing() == Standing::Ended { passed: false };
        match &mut self.durable.phase {
            Phase::Watching(Watch { seen: Some(seen), .. }) if fails && !ask.policies.grace.is_zero() => {
                self.volatile.grace.add(&mut seen.waited, elapsed)
            }
            _ => Duration::ZERO,
        }
    }

    /// Remembers the counted set if it has changed, or may have changed and back unwatched. Returns since when it has
    /// been the same.
    fn note_seen(&mut self, now: Mono, watch: &Watch, read: &Assessment<'_>, was_watched: bool) -> Mono {
        let fingerprint = read.fingerprint();
        let same = watch.seen.as_ref().filter(|seen| was_watched && seen.fingerprint == fingerprint);
        if let Some(same) = same {
            return same.since;
        }
        if let Phase::Watching(watch) = &mut self.durable.phase
            && (watch.seen.is_some() || !read.counted.is_empty())
        {
            let before = watch.seen.take().filter(|seen| seen.fingerprint == fingerprint);
            if before.is_none() {
                self.volatile.grace = Observed::default();
            }
            let waited = before.map(|seen| seen.waited).unwrap_or_default();
            watch.seen = Some(Seen { fingerprint, since: now, members: read.members(), waited });
        }
        now
    }

    /// Takes a reading that decides nothing.
    pub(super) fn unread(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, id: CallId, unread: &Unread) {
        if self.volatile.waiting.take_if(|waiting| waiting.id == id).is_none() {
            return;
        }
        self.poll_later(cx);
        let volatile = &mut self.volatile;
        volatile.good_reading = None;
        match unread {
            Unread::Incomplete { counted, listed } => {
                volatile.trouble.end();
                let since = volatile.incomplete.as_ref().map_or(cx.now, |incomplete| incomplete.since);
                volatile.incomplete = Some(Incomplete { since, counted: *counted, listed: *listed });
            }
            Unread::Fault(fault) => {
                let failures = volatile.trouble.failures.saturating_add(1);
                let wait = backoff::delay(failures, FIRST_RETRY, MAX_RETRY);
                volatile.poll = cx.now.mono.plus(cx.random.jitter(wait));
                volatile.may_join = volatile.poll;
                volatile.trouble.add(fault.clone(), cx.now, volatile.poll);
                if volatile.last_reading.is_some()
                    && let Some(why) = self.volatile.trouble_in_words(cx.now.wall, cx.trouble)
                {
                    self.end_unread(cx, fx, &why);
                }
            }
        }
    }

    /// Sets the time of the next look.
    pub(super) fn poll_later(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let wait = interval(now.since(self.durable.accepted.mono));
        self.volatile.poll = now.plus(cx.random.jitter(wait));
        self.volatile.may_join = now.plus(backoff::shortest(wait));
        if self.volatile.is_hinted {
            self.volatile.bring_forward(now);
        }
    }

    /// Takes the second look at an execution: it must be as the reading had it.
    pub(super) fn confirmed(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, outcome: &CallOutcome) {
        let execution = looked_at(outcome);
        if let Ok(execution) = &execution {
            cx.log.looked_at(execution, cx.now);
        }
        let Some(confirm) = self.volatile.confirm.take() else { return };
        let (Some(listed), Some(ask)) = (confirm.todo.get(confirm.at), &self.durable.ask) else { return };
        match execution {
            Ok(found) if found.is_still(&listed.id, &listed.status, &ask.tag) => {
                self.volatile.unconfirmed = None;
                let why = found.why_not_passed().filter(|_| !listed.is_optional);
                let note = why.map(|why| format!("{}: {why}", listed.name));
                self.confirm_more(cx, fx, &confirm, note);
            }
            Ok(_) | Err(Fault::Status(404)) => {
                let (id, execution) = (self.key.id(), one_line(&listed.id, 64));
                let line = format!("check {id}: execution {execution} differs from the list; reading again");
                fx.say(Level::Warn, line);
                self.poll_later(cx);
            }
            Err(fault) => {
                fx.count(Counter::TestkubeFault);
                self.poll_later(cx);
                let (_, mut trouble) = self.volatile.unconfirmed.take().unwrap_or_default();
                trouble.add(fault, cx.now, Mono(0));
                self.volatile.unconfirmed = Some((listed.name.clone(), trouble));
            }
        }
    }

    /// One more execution is as it was listed: looks at the next, or makes the decision.
    fn confirm_more(&mut self, cx: &Cx<'_>, fx: &mut Effects, before: &Confirm, note: Option<String>) {
        let mut confirm = Confirm { at: before.at + 1, ..before.clone() };
        confirm.notes.extend(note);
        if confirm.at < confirm.todo.len() {
            self.volatile.confirm = Some(Rc::new(confirm));
            return;
        }
        let notes = listed(confirm.notes, 3);
        let reason = if notes.is_empty() { confirm.reason } else { format!("{} {notes}.", confirm.reason) };
        self.decide(cx, fx, confirm.code, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_stretches_with_the_checks_age() {
        let at = |seconds| interval(Duration::from_secs(seconds)).as_secs();
        assert_eq!([at(0), at(30), at(120), at(300), at(86_400)], [2, 2, 8, 20, 20]);
    }
}
