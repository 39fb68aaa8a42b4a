//! Watching one check: complete readings only, every decision confirmed, three deadlines.

use super::poll::longest_gap;
use super::{Counter, Lead, MOST_CONFIRMS, Output, Purpose, Turn, reason};
use crate::call::{Fault, Outcome as CallOutcome};
use crate::check::{CheckKey, Outcome, Pending, Phase, Seen, Watch};
use crate::expect::MOST;
use crate::testkube::{self, Execution, Status};
use crate::text::{listed, one_line};
use crate::time::{Mono, in_words};
use crate::verdict::{Assessment, Standing, assess};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After its deadline a check waits this long for one last reading.
const LAST_READING: Duration = Duration::from_secs(60);

/// Absence is written to the ledger in steps of this, so that a lost leader loses little and nobody writes at each poll.
const ABSENCE_STEP: Duration = Duration::from_secs(10);

/// A decision that rests on a reading, while each execution is looked at once more.
pub(super) struct Confirm {
    todo: Vec<(String, Status)>,
    outcome: Outcome,
    reason: String,
    notes: Vec<String>,
}

impl Lead {
    /// What a watching check does by itself: deadlines and confirmations. Polling is done for all together.
    pub(super) fn watch(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        let now = turn.now.mono;
        let task = self.tasks.entry(*key).or_default();
        if pending.is_past_deadline(turn.now) && task.last_reading.is_none() {
            task.last_reading = Some(now);
            task.next = now;
        }
        if task.last_reading.is_some_and(|since| now.since(since) >= LAST_READING) {
            let incomplete = task.incomplete.as_ref().map(|incomplete| incomplete.in_words(turn.now.wall));
            let why = self
                .trouble
                .in_words(turn.now.wall)
                .or(incomplete)
                .unwrap_or_else(|| "No last reading of Testkube was complete".into());
            return self.decide(
                turn,
                key,
                Outcome::Inconclusive,
                reason::deadline(pending, turn.now, &format!("{why}.")),
            );
        }
        let next = task.confirm.as_ref().and_then(|confirm| confirm.todo.last()).map(|(id, _)| id.clone());
        let room = self.in_flight(|purpose| matches!(purpose, Purpose::Confirm(_))) < MOST_CONFIRMS;
        if let (Some(id), true) = (next, room) {
            let request = testkube::get_execution(&self.config.testkube, &id);
            self.start(turn, request, Purpose::Confirm(*key));
        }
    }

    /// One complete reading against one check: the executions that carry one key's tags, by the tags' values.
    pub(super) fn judge(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        reading: &BTreeMap<String, Vec<Execution>>,
    ) {
        let Some(pending) = self.find(key).cloned() else { return };
        let (Phase::Watching(watch), Some(ask)) = (&pending.phase, pending.ask.as_ref()) else { return };
        let now = turn.now;
        let executions = reading.get(&ask.tag.value).map_or(&[][..], Vec::as_slice);
        let read = assess(executions, &ask.tag, watch.bound, &ask.expect, ask.rerun);
        // First of all: what follows keeps, and says, something of each of them.
        if read.counted.len() > usize::try_from(MOST).unwrap_or(usize::MAX) {
            let reason = format!("More than {MOST} executions carry the tag {}.", ask.tag);
            return self.decide(turn, key, Outcome::Inconclusive, reason);
        }
        let task = self.tasks.entry(*key).or_default();
        task.incomplete = None;
        let gap = task.good_reading.replace(now.mono).map(|last| now.mono.since(last));
        let elapsed = gap.unwrap_or_default();
        let was_watched = gap.is_some_and(|gap| gap <= longest_gap(now.mono.since(pending.accepted.mono)));
        let last = task.last_reading.is_some();
        self.teller_of(key, &pending).read(&read, pending.told.as_ref(), now.wall);
        let task = self.tasks.entry(*key).or_default();
        if has_vanished(watch, &read) {
            task.vanished = task.vanished.saturating_add(1);
            if task.vanished >= 2 || last {
                let reason = format!(
                    "An execution tagged {} that had been counted is gone from Testkube, or has lost the tag, so its result is not known. There are now: {}.",
                    ask.tag,
                    reason::or_none(read.statuses())
                );
                self.decide(turn, key, Outcome::Inconclusive, reason);
            }
            return;
        }
        task.vanished = 0;
        // Time that nobody watched settles nothing, whatever its cause: an outage, or a leader that fell.
        let since = self.note_seen(turn, key, watch, &read, was_watched || ask.settle.is_zero());
        let standing = read.standing();
        self.teller_of(key, &pending).is_absent(Duration::ZERO);
        if standing == Standing::Incomplete {
            let absent = self.note_absence(turn, key, watch, elapsed);
            self.teller_of(key, &pending).is_absent(absent);
            if absent >= ask.appear_timeout {
                return self.decide(turn, key, Outcome::Inconclusive, reason::absent(ask, watch, &read, now));
            }
        }
        match standing {
            Standing::Ended { passed } if now.mono.since(since) >= ask.settle => {
                let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
                let todo = read.counted.iter().map(|e| (e.id.clone(), e.status.clone())).collect();
                let reason = reason::ended(ask, watch, &read, now);
                self.tasks.entry(*key).or_default().confirm =
                    Some(Confirm { todo, outcome, reason, notes: Vec::new() });
            }
            _ if last => {
                let what = match standing {
                    Standing::Incomplete => {
                        format!(
                            "Still missing: {}. There: {}.",
                            reason::missing(&read),
                            reason::or_none(read.statuses())
                        )
                    }
                    Standing::Running => {
                        let stuck = read.stuck_in_words(now.wall);
                        format!("Not everything had ended: {}.{stuck}", read.statuses())
                    }
                    Standing::Ended { .. } => format!(
                        "All had ended, but not yet for {}: {}.",
                        in_words(ask.settle),
                        read.statuses()
                    ),
                };
                let what = format!("{what}{}", read.ignored_in_words());
                self.decide(turn, key, Outcome::Inconclusive, reason::deadline(&pending, now, &what));
            }
            Standing::Ended { .. } => {
                let task = self.tasks.entry(*key).or_default();
                task.next = task.next.min(since.plus(ask.settle));
            }
            Standing::Incomplete | Standing::Running => {}
        }
    }

    /// Remembers the counted set when it has changed, or may have changed and back while nobody watched; answers since when it
    /// is as it is.
    fn note_seen(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        watch: &Watch,
        read: &Assessment<'_>,
        was_watched: bool,
    ) -> Mono {
        let print = read.print();
        let same = watch.seen.as_ref().filter(|seen| was_watched && seen.print == print);
        let same = same.map(|seen| seen.since);
        if read.counted.is_empty() && watch.seen.is_none() {
            return turn.now.mono;
        }
        same.unwrap_or_else(|| {
            let seen = Seen { print, since: turn.now.mono, members: read.members() };
            self.change_watch(turn, key, |watch| watch.seen = Some(seen.clone()));
            turn.now.mono
        })
    }

    /// Adds to the time for which the expected was absent while Testkube answered; answers the sum.
    fn note_absence(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        watch: &Watch,
        elapsed: Duration,
    ) -> Duration {
        let task = self.tasks.entry(*key).or_default();
        task.absent = task.absent.saturating_add(elapsed);
        let unwritten = task.absent;
        let absent = watch.absent.saturating_add(unwritten);
        if unwritten >= ABSENCE_STEP {
            task.absent = Duration::ZERO;
            self.change_watch(turn, key, |watch| watch.absent = watch.absent.saturating_add(unwritten));
        }
        absent
    }

    fn change_watch(&mut self, turn: &mut Turn<'_>, key: &CheckKey, change: impl Fn(&mut Watch)) {
        self.change(turn, key, |pending| match &mut pending.phase {
            Phase::Watching(watch) => {
                change(watch);
                Some(())
            }
            _ => None,
        });
    }

    /// One execution was looked at again: it must be as the reading had it.
    pub(super) fn confirmed(&mut self, turn: &mut Turn<'_>, key: &CheckKey, outcome: &CallOutcome) {
        let execution = match outcome {
            CallOutcome::Failed(fault) => Err(fault.clone()),
            CallOutcome::Response(response) => {
                testkube::single(response).map_err(|fault| testkube::said(fault, response))
            }
        };
        let tag = self.find(key).and_then(|pending| Some(pending.ask.as_ref()?.tag.clone()));
        if let (Ok(execution), Some(teller)) = (&execution, self.teller(key)) {
            teller.looked_at(execution);
        }
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(mut confirm) = task.confirm.take() else { return };
        let Some((id, status)) = confirm.todo.pop() else { return };
        match execution {
            Ok(found) if tag.is_some_and(|tag| found.is_still(&id, &status, &tag)) => {
                if let Some(why) = found.why_not_passed() {
                    confirm.notes.push(format!("{}: {why}", one_line(&found.name, 80)));
                }
                if confirm.todo.is_empty() {
                    let notes = listed(confirm.notes, 3);
                    let reason = if notes.is_empty() {
                        confirm.reason
                    } else {
                        format!("{} {notes}.", confirm.reason)
                    };
                    return self.decide(turn, key, confirm.outcome, reason);
                }
                task.confirm = Some(confirm);
            }
            Ok(_) | Err(Fault::Status(404)) => {
                log::warn!(
                    "check {}: execution {} is not as it was listed; reads again",
                    key.id(),
                    one_line(&id, 64)
                );
                self.schedule(turn, key);
            }
            Err(fault) => {
                turn.out.push(Output::Count(Counter::TestkubeFault));
                self.hold_testkube(turn, fault);
                self.schedule(turn, key);
            }
        }
    }
}

/// Whether an execution that was counted is in no complete reading any more, counted or not.
fn has_vanished(watch: &Watch, read: &Assessment<'_>) -> bool {
    let present: BTreeSet<u32> = read.present().into_iter().collect();
    watch.seen.as_ref().is_some_and(|seen| seen.members.iter().any(|member| !present.contains(member)))
}
