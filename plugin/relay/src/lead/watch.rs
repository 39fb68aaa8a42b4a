//! Watching Testkube: one poller for all checks, batched by tag; complete readings only; every decision confirmed.

use super::azure_side::ask_of;
use super::{Counter, Lead, MOST_CONFIRMS, MOST_LISTS, Output, Purpose, Turn, past_deadline};
use crate::backoff::delay;
use crate::call::{Fault, Outcome as CallOutcome};
use crate::check::{Ask, CheckKey, Outcome, Pending, Phase, Seen, Watch};
use crate::expect::{Expect, MOST};
use crate::testkube::{self, Execution, MOST_QUERY, Status};
use crate::text::{listed, one_line};
use crate::time::{Mono, Now, Wall, in_words};
use crate::verdict::{Assessment, Standing, assess};
use std::collections::BTreeSet;
use std::time::Duration;

/// Testkube's own default; made smaller while answers are too large, because `workflow.annotations` may hold a whole spec.
pub(super) const PAGE_SIZE: u32 = 100;

const MOST_PAGES: u32 = 50;
const MOST_IN_BATCH: usize = 100;

/// After its deadline a check waits this long for one last reading.
const LAST_READING: Duration = Duration::from_secs(60);

/// Absence is written to the ledger in steps of this, so that a lost leader loses little and nobody writes at each poll.
const ABSENCE_STEP: Duration = Duration::from_secs(10);

/// A reading of the executions for several checks, page by page.
pub(super) struct Reading {
    pub(super) checks: Vec<CheckKey>,
    key: String,
    values: BTreeSet<String>,
    since: Wall,
    page: u32,
    page_size: u32,
    ids: BTreeSet<String>,
    executions: Vec<Execution>,
}

/// A decision that rests on a reading, while each execution is looked at once more.
pub(super) struct Confirm {
    todo: Vec<(String, Status)>,
    outcome: Outcome,
    reason: String,
    notes: Vec<String>,
}

/// How often a check is looked up: often while people wait for the first signs, seldom once it is long.
fn interval(age: Duration) -> Duration {
    let (two_minutes, ten_minutes, hour) =
        (Duration::from_secs(120), Duration::from_secs(600), Duration::from_secs(3_600));
    match age {
        age if age < two_minutes => Duration::from_secs(2),
        age if age < ten_minutes => Duration::from_secs(5),
        age if age < hour => Duration::from_secs(5) + (age - ten_minutes) / 300,
        _ => Duration::from_secs(15),
    }
}

impl Lead {
    /// What a watching check does by itself: deadlines and confirmations. Polling is done for all together.
    pub(super) fn watch(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        let now = turn.now.mono;
        let task = self.tasks.entry(*key).or_default();
        if past_deadline(pending, turn.now) && task.last_reading.is_none() {
            task.last_reading = Some(now);
            task.next = now;
        }
        if task.last_reading.is_some_and(|since| now.since(since) >= LAST_READING) {
            let why = self
                .trouble
                .in_words(turn.now.wall)
                .unwrap_or_else(|| "No last reading of Testkube was complete".into());
            return self.decide(
                turn,
                key,
                Outcome::Inconclusive,
                deadline_reason(pending, turn.now, &format!("{why}.")),
            );
        }
        let next = task.confirm.as_ref().and_then(|confirm| confirm.todo.last()).map(|(id, _)| id.clone());
        let room = self.in_flight(|purpose| matches!(purpose, Purpose::Confirm(_))) < MOST_CONFIRMS;
        if let (Some(id), true) = (next, room) {
            let request = testkube::get_execution(&self.config.testkube, &id);
            self.start(turn, request, Purpose::Confirm(*key));
        }
    }

    /// Starts readings for the checks that are due.
    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) {
        for (checks, values, since) in self.due(turn.now) {
            if self.in_flight(|purpose| matches!(purpose, Purpose::List(_))) >= MOST_LISTS {
                return;
            }
            let reading = Reading {
                checks,
                key: self.config.tag.key.clone(),
                values,
                since,
                page: 0,
                page_size: self.page_size,
                ids: BTreeSet::new(),
                executions: Vec::new(),
            };
            self.read_page(turn, reading);
        }
    }

    /// The checks to look up now, in batches that fit one query. A check over which a VM fell is alone in its batch.
    fn due(&self, now: Now) -> Vec<(Vec<CheckKey>, BTreeSet<String>, Wall)> {
        let mut batches: Vec<(Vec<CheckKey>, BTreeSet<String>, Wall, usize)> = Vec::new();
        let mut open: Option<usize> = None;
        for (key, pending) in self.pending() {
            let (Phase::Watching(watch), Some(ask)) = (&pending.phase, ask_of(pending)) else { continue };
            let Some(task) = self.tasks.get(key) else { continue };
            let last = task.last_reading.is_some();
            let held_back = now.mono < self.trouble.wait_until && !last;
            if task.calling
                || task.confirm.is_some()
                || now.mono < task.next
                || held_back
                || ask.tag.key != self.config.tag.key
            {
                continue;
            }
            // Older executions are asked for as well, so that the decision can say that they were seen and not counted.
            let since = watch.bound.min(pending.accepted.wall.minus(self.config.checks.lookback));
            let cost = testkube::selector_cost(&ask.tag.key, &ask.tag.value);
            let alone = pending.falls.count > 0;
            let fits = open.and_then(|i| batches.get_mut(i)).filter(|(checks, _, _, size)| {
                !alone && checks.len() < MOST_IN_BATCH && size.saturating_add(cost) <= MOST_QUERY
            });
            match fits {
                Some((checks, values, earliest, size)) => {
                    checks.push(*key);
                    if values.insert(ask.tag.value.clone()) {
                        *size = size.saturating_add(cost);
                    }
                    *earliest = since.min(*earliest);
                }
                None => {
                    batches.push((vec![*key], BTreeSet::from([ask.tag.value.clone()]), since, cost));
                    if !alone {
                        open = Some(batches.len().saturating_sub(1));
                    }
                }
            }
        }
        batches.into_iter().map(|(checks, values, since, _)| (checks, values, since)).collect()
    }

    fn read_page(&mut self, turn: &mut Turn<'_>, reading: Reading) {
        let values: Vec<&str> = reading.values.iter().map(String::as_str).collect();
        let request = testkube::list_executions(
            &self.config.testkube,
            &reading.key,
            &values,
            reading.since,
            reading.page,
            reading.page_size,
        );
        self.start(turn, request, Purpose::List(reading));
    }

    /// A page of a reading came, or did not.
    pub(super) fn listed(&mut self, turn: &mut Turn<'_>, mut reading: Reading, outcome: &CallOutcome) {
        let page = match outcome {
            CallOutcome::Failed(fault) => Err(fault.clone()),
            CallOutcome::Response(response) => testkube::page(response),
        };
        let page = match page {
            Ok(page) => page,
            Err(fault) => return self.not_read(turn, &reading, fault),
        };
        self.trouble.end();
        for execution in page.executions {
            let fresh = reading.ids.insert(execution.id.clone());
            let wanted = execution.tags.get(&reading.key).is_some_and(|value| reading.values.contains(value));
            if fresh && wanted {
                reading.executions.push(execution);
            }
        }
        let filtered = usize::try_from(page.filtered).unwrap_or(usize::MAX);
        let read = u64::from(reading.page.saturating_add(1)) * u64::from(reading.page_size);
        if read < u64::from(page.filtered) && reading.page < MOST_PAGES {
            reading.page += 1;
            return self.read_page(turn, reading);
        }
        self.page_size = self.page_size.saturating_add(1).min(PAGE_SIZE);
        // Rows move between pages while executions are added: fewer distinct ones than Testkube counts is not the whole.
        let complete = reading.ids.len() >= filtered;
        let checks = std::mem::take(&mut reading.checks);
        for key in &checks {
            self.schedule(turn, key);
            if complete {
                self.judge(turn, key, &reading.executions);
            } else if let Some(task) = self.tasks.get_mut(key) {
                task.good_reading = None;
            }
        }
        self.poll(turn);
    }

    /// Testkube could not be asked: waits, all checks together; a check that was at its end is decided.
    fn not_read(&mut self, turn: &mut Turn<'_>, reading: &Reading, fault: Fault) {
        turn.out.push(Output::Count(Counter::TestkubeFault));
        if matches!(fault, Fault::TooLarge(_)) && reading.page_size > 1 {
            self.page_size = (reading.page_size / 4).max(1);
        }
        self.hold_testkube(turn, fault);
        for key in &reading.checks {
            self.schedule(turn, key);
            let task = self.tasks.entry(*key).or_default();
            task.good_reading = None;
            let was_last = task.last_reading.is_some();
            let pending = self.find(key).cloned();
            if let (true, Some(pending), Some(why)) =
                (was_last, pending, self.trouble.in_words(turn.now.wall))
            {
                self.decide(
                    turn,
                    key,
                    Outcome::Inconclusive,
                    deadline_reason(&pending, turn.now, &format!("{why}.")),
                );
            }
        }
    }

    fn hold_testkube(&mut self, turn: &mut Turn<'_>, fault: Fault) {
        let failures = self.trouble.failures.saturating_add(1);
        let wait = self.random.jitter(delay(failures, Duration::from_secs(2), Duration::from_secs(60)));
        if failures == 1 || failures.is_power_of_two() {
            log::warn!("Testkube could not be asked: {fault} ({failures} in a row)");
        }
        self.trouble.add(fault, turn.now, turn.now.mono.plus(wait));
    }

    /// When a check is looked up again.
    fn schedule(&mut self, turn: &Turn<'_>, key: &CheckKey) {
        let Some(accepted) = self.find(key).map(|pending| pending.accepted.mono) else { return };
        let wait = self.random.jitter(interval(turn.now.mono.since(accepted)));
        self.tasks.entry(*key).or_default().next = turn.now.mono.plus(wait);
    }

    /// One complete reading against one check.
    fn judge(&mut self, turn: &mut Turn<'_>, key: &CheckKey, executions: &[Execution]) {
        let Some(pending) = self.find(key).cloned() else { return };
        let (Phase::Watching(watch), Some(ask)) = (&pending.phase, ask_of(&pending)) else { return };
        let now = turn.now;
        let read = assess(executions, &ask.tag, watch.bound, &ask.expect);
        let task = self.tasks.entry(*key).or_default();
        let elapsed = task.good_reading.replace(now.mono).map_or(Duration::ZERO, |last| now.mono.since(last));
        let last = task.last_reading.is_some();
        if has_vanished(watch, &read) {
            task.vanished = task.vanished.saturating_add(1);
            if task.vanished >= 2 || last {
                let reason = format!(
                    "An execution tagged {} that had been counted is gone from Testkube, so its result is not known. There are now: {}.",
                    ask.tag,
                    or_none(read.statuses())
                );
                self.decide(turn, key, Outcome::Inconclusive, reason);
            }
            return;
        }
        task.vanished = 0;
        if read.counted.len() > usize::try_from(MOST).unwrap_or(usize::MAX) {
            let reason = format!("More than {MOST} executions carry the tag {}.", ask.tag);
            return self.decide(turn, key, Outcome::Inconclusive, reason);
        }
        let since = self.note_seen(turn, key, watch, &read);
        let standing = read.standing();
        if standing == Standing::Incomplete {
            let absent = self.note_absence(turn, key, watch, elapsed);
            if absent >= ask.appear_timeout {
                return self.decide(turn, key, Outcome::Inconclusive, absent_reason(ask, watch, &read, now));
            }
        }
        match standing {
            Standing::Ended { passed } if now.mono.since(since) >= ask.settle => {
                let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
                let todo = read.counted.iter().map(|e| (e.id.clone(), e.status.clone())).collect();
                let reason = ended_reason(ask, watch, &read, now);
                self.tasks.entry(*key).or_default().confirm =
                    Some(Confirm { todo, outcome, reason, notes: Vec::new() });
            }
            _ if last => {
                let what = match standing {
                    Standing::Incomplete => {
                        format!("Still missing: {}. There: {}.", missing(&read), or_none(read.statuses()))
                    }
                    Standing::Running => format!("Not everything had ended: {}.", read.statuses()),
                    Standing::Ended { .. } => format!(
                        "All had ended, but not yet for {}: {}.",
                        in_words(ask.settle),
                        read.statuses()
                    ),
                };
                let what = format!("{what}{}", read.ignored_in_words());
                self.decide(turn, key, Outcome::Inconclusive, deadline_reason(&pending, now, &what));
            }
            Standing::Ended { .. } => {
                let task = self.tasks.entry(*key).or_default();
                task.next = task.next.min(since.plus(ask.settle));
            }
            Standing::Incomplete | Standing::Running => {}
        }
    }

    /// Remembers the counted set when it has changed; answers since when it is as it is.
    fn note_seen(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        watch: &Watch,
        read: &Assessment<'_>,
    ) -> Mono {
        let print = read.print();
        let same = watch.seen.as_ref().filter(|seen| seen.print == print).map(|seen| seen.since);
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
            CallOutcome::Response(response) => testkube::single(response),
        };
        let tag = self.find(key).and_then(|pending| Some(pending.ask.as_ref()?.tag.clone()));
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(mut confirm) = task.confirm.take() else { return };
        let Some((id, status)) = confirm.todo.pop() else { return };
        match execution {
            Ok(found)
                if found.id == id
                    && found.ended
                    && found.status == status
                    && tag.is_some_and(|tag| found.carries(&tag)) =>
            {
                if let Some(message) = found.message.filter(|_| status != Status::Passed) {
                    confirm.notes.push(format!(
                        "{}: {}",
                        one_line(&found.name, 80),
                        one_line(&plain(&message), 200)
                    ));
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

fn ended_reason(ask: &Ask, watch: &Watch, read: &Assessment<'_>, now: Now) -> String {
    let total = read.counted.len();
    let bad = read.counted.iter().filter(|e| e.status != Status::Passed).count();
    let head = match (bad, total) {
        (0, 1) => format!("The execution tagged {} passed", ask.tag),
        (0, n) => format!("All {n} executions tagged {} passed", ask.tag),
        (_, 1) => format!("The execution tagged {} did not pass", ask.tag),
        (bad, n) => format!("{bad} of {n} executions tagged {} did not pass", ask.tag),
    };
    let unsaid = if ask.expect == Expect::Any { " No expectation was given (Testrelay-Expect)." } else { "" };
    format!(
        "{head}: {}. {}{}{unsaid}",
        read.statuses(),
        counted_since(watch, now.wall),
        read.ignored_in_words()
    )
}

fn absent_reason(ask: &Ask, watch: &Watch, read: &Assessment<'_>, now: Now) -> String {
    let waited = in_words(ask.appear_timeout);
    let head = match read.counted.is_empty() {
        true => format!(
            "No execution tagged {} appeared in Testkube within {waited}. Look at the TestWorkflowExecution resource (its status, its events), at its tag, and at the GitOps sync.",
            ask.tag
        ),
        false => format!(
            "Not all that was expected appeared within {waited}. Missing: {}. There: {}.",
            missing(read),
            read.statuses()
        ),
    };
    format!("{head} {}{}", counted_since(watch, now.wall), read.ignored_in_words())
}

fn deadline_reason(pending: &Pending, now: Now, what: &str) -> String {
    let head = match ask_of(pending) {
        Some(ask) if now.mono >= pending.accepted.mono.plus(ask.timeout) => {
            format!("The check's time of {} is over.", in_words(ask.timeout))
        }
        _ => format!(
            "The token that Azure DevOps gave this check ends at {}.",
            now.wall.plus(pending.token_end.since(now.mono)).clock(now.wall)
        ),
    };
    format!("{head} {what}")
}

fn counted_since(watch: &Watch, now: Wall) -> String {
    format!("Counted since {} ({}).", watch.bound.clock(now), watch.bound_from)
}

fn missing(read: &Assessment<'_>) -> String {
    listed(read.missing.iter().cloned(), 10)
}

fn or_none(statuses: String) -> String {
    if statuses.is_empty() { "none".into() } else { statuses }
}

/// A message without its terminal colours (`ESC [ … letter`).
fn plain(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        rest = rest.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_stretches_with_the_checks_age() {
        let at = |seconds| interval(Duration::from_secs(seconds)).as_secs();
        assert_eq!(
            [at(0), at(119), at(120), at(599), at(600), at(2_100), at(3_600), at(86_400)],
            [2, 2, 5, 5, 5, 10, 15, 15]
        );
    }

    #[test]
    fn terminal_colours_are_taken_out_of_messages() {
        assert_eq!(plain("\u{1b}[1mCannot fetch\u{1b}[0m\nnot found"), "Cannot fetch not found");
        assert_eq!(plain("cut \u{1b}["), "cut ");
    }
}
