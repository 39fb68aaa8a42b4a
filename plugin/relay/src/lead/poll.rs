//! Polling Testkube: one poller for all checks, batched by tag, page by page.

use super::tasks::Incomplete;
use super::{Counter, FALLS_TOGETHER, Lead, MOST_LISTS, Output, Purpose, Task, Turn, reason};
use crate::backoff::delay;
use crate::call::{Fault, Outcome as CallOutcome};
use crate::check::{Ask, CheckKey, Outcome, Pending, Phase};
use crate::looks;
use crate::tag::Tag;
use crate::testkube::{self, Execution, MOST_QUERY};
use crate::time::{Now, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Testkube's own default; made smaller while answers are too large, because `workflow.annotations` may hold a whole spec.
pub(super) const PAGE_SIZE: u32 = 100;

/// Testkube itself knows no maximum.
const LARGEST_PAGE: u32 = 1_000;

const MOST_PAGES: u32 = 50;
const MOST_IN_BATCH: usize = 100;

/// A reading of the executions for several checks, page by page.
pub(super) struct Reading {
    pub(super) checks: Vec<CheckKey>,
    key: String,
    values: BTreeSet<String>,
    /// What the values take of [`MOST_QUERY`].
    size: usize,
    since: Wall,
    page: u32,
    page_size: u32,
    /// How many executions Testkube counted when it gave the first page.
    counted: Option<u32>,
    ids: BTreeSet<String>,
    /// By the tags' values, so that no check's judgement looks at the executions of all the others.
    executions: BTreeMap<String, Vec<Execution>>,
}

impl Reading {
    fn new(key: &str, page_size: u32) -> Reading {
        Reading {
            checks: Vec::new(),
            key: key.into(),
            values: BTreeSet::new(),
            size: 0,
            since: Wall(i64::MAX),
            page: 0,
            page_size,
            counted: None,
            ids: BTreeSet::new(),
            executions: BTreeMap::new(),
        }
    }

    /// Adds a check, if it still fits the query; whether it did.
    fn add(&mut self, check: CheckKey, ask: &Ask, since: Wall) -> bool {
        if self.checks.len() >= MOST_IN_BATCH {
            return false;
        }
        let value = &ask.tag.value;
        let is_new = !self.values.contains(value);
        let size = self.size + if is_new { testkube::selector_cost(&self.key, value) } else { 0 };
        let fits = size <= MOST_QUERY;
        if fits {
            self.checks.push(check);
            if is_new {
                self.values.insert(value.clone());
            }
            (self.size, self.since) = (size, self.since.min(since));
        }
        fits
    }

    /// Keeps what carries one of the tags; Testkube may send more.
    fn take(&mut self, executions: Vec<Execution>) {
        for execution in executions {
            let fresh = self.ids.insert(execution.id.clone());
            let value = execution.tags.get(&self.key).filter(|value| fresh && self.values.contains(*value));
            if let Some(value) = value.cloned() {
                self.executions.entry(value).or_default().push(execution);
            }
        }
    }

    /// The executions that carry the tag of this value.
    fn of(&self, value: &str) -> &[Execution] {
        self.executions.get(value).map_or(&[], Vec::as_slice)
    }

    fn has_more(&self, filtered: u32) -> bool {
        let read = u64::from(self.page.saturating_add(1)) * u64::from(self.page_size);
        read < u64::from(filtered) && self.page < MOST_PAGES
    }

    /// Whether Testkube counts as many with this page as with the first. Where executions were deleted in between, others
    /// have moved up to a page that was read already, and no later one shows them.
    fn is_unchanged(&mut self, filtered: u32) -> bool {
        *self.counted.get_or_insert(filtered) == filtered
    }

    /// Executions of one instant may stand on any page, each time anew: fewer distinct ones than Testkube counts are not the
    /// whole.
    fn is_complete(&self, filtered: u32) -> bool {
        self.ids.len() >= usize::try_from(filtered).unwrap_or(usize::MAX)
    }
}

/// How often a check is looked up: a look adds at most a fifteenth to what people have waited already. Half an hour costs
/// some 140 lists.
fn interval(age: Duration) -> Duration {
    (age / 15).clamp(Duration::from_secs(2), Duration::from_secs(20))
}

/// Two complete readings of a check of this age that are no further apart have watched the time between them.
pub(super) fn longest_gap(age: Duration) -> Duration {
    (interval(age) * 2).max(Duration::from_secs(30))
}

impl Lead {
    /// Starts readings for the checks that are due, as many as may be under way.
    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) {
        let free = MOST_LISTS.saturating_sub(self.in_flight(|purpose| matches!(purpose, Purpose::List(_))));
        if free > 0 {
            for reading in self.due(turn.now, free) {
                self.note_looks(turn.now.mono, &reading.checks);
                self.read_page(turn, reading);
            }
        }
    }

    /// The checks to look up now, in at most `most` batches of one tag key that fit one query. Those that have waited the
    /// longest come first: where all of them are more than Testkube answers in an interval, each has its turn. A check over
    /// which a VM fell is alone in its batch, so that the next fall names the right one.
    fn due(&self, now: Now, most: usize) -> Vec<Reading> {
        let mut batches: Vec<Reading> = Vec::new();
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, key) in self.in_turn(most * MOST_IN_BATCH, |pending, task| self.is_due(now, pending, task)) {
            let Some(pending) = self.find(&key) else { continue };
            let (Phase::Watching(watch), Some(ask)) = (&pending.phase, &pending.ask) else { continue };
            // Older executions are asked for as well, so that the decision can say that they were seen and not counted.
            let since = watch.bound.min(pending.accepted.wall.minus(self.config.checks.lookback));
            let is_suspect = pending.falls.count > 0 && now.mono.since(pending.falls.last) < FALLS_TOGETHER;
            let tag_key = ask.tag.key.as_str();
            let batch = open.get(tag_key).filter(|_| !is_suspect).and_then(|place| batches.get_mut(*place));
            if batch.is_some_and(|batch| batch.add(key, ask, since)) || batches.len() >= most {
                continue;
            }
            let mut batch = Reading::new(tag_key, self.page_size);
            batch.add(key, ask, since);
            if !is_suspect {
                open.insert(tag_key, batches.len());
            }
            batches.push(batch);
        }
        batches
    }

    /// Whether a check is to be looked up.
    pub(super) fn is_due(&self, now: Now, pending: &Pending, task: Option<&Task>) -> bool {
        let Some(task) = task else { return false };
        let held_back = now.mono < self.trouble.wait_until && task.last_reading.is_none();
        let is_early = now.mono < task.next || task.is_held(now.mono);
        let waits = task.calling || task.confirm.is_some() || is_early || held_back;
        matches!(pending.phase, Phase::Watching(_)) && !waits
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
            CallOutcome::Response(response) => {
                testkube::page(response).map_err(|fault| testkube::said(fault, response))
            }
        };
        let page = match page {
            Ok(page) => page,
            Err(fault) => return self.not_read(turn, &reading, fault),
        };
        self.trouble.end();
        let filtered = page.filtered;
        reading.take(page.executions);
        let unchanged = reading.is_unchanged(filtered);
        if unchanged && reading.has_more(filtered) {
            reading.page += 1;
            return self.read_page(turn, reading);
        }
        let complete = unchanged && reading.is_complete(filtered);
        self.page_size = match complete {
            // Executions of one instant have no fixed order in Testkube: on one page none can fall between two.
            false => filtered.saturating_add(PAGE_SIZE).min(LARGEST_PAGE),
            true if filtered > PAGE_SIZE => self.page_size,
            true => self.page_size.saturating_mul(2).min(PAGE_SIZE),
        };
        let checks = std::mem::take(&mut reading.checks);
        if complete {
            self.share(turn, &reading, &checks);
        }
        for key in &checks {
            self.schedule(turn, key);
            if complete {
                self.judge(turn, key, &reading.executions);
            } else if let Some(task) = self.tasks.get_mut(key) {
                let since = task.incomplete.as_ref().map_or(turn.now, |incomplete| incomplete.since);
                task.incomplete = Some(Incomplete { since, counted: filtered, listed: reading.ids.len() });
                task.good_reading = None;
            }
        }
        if !complete {
            turn.out.push(Output::Count(Counter::TestkubeFault));
        }
        self.poll(turn);
    }

    /// Lets evaluations of the same tags by the same credentials have what was read, while there are any.
    fn share(&self, turn: &mut Turn<'_>, reading: &Reading, checks: &[CheckKey]) {
        if !looks::are_wanted(turn.store, self.ledger.prefix(), turn.now) {
            return;
        }
        let pending = checks.iter().filter_map(|key| self.find(key));
        let read: BTreeSet<(&str, &Tag)> =
            pending.filter_map(|p| Some((p.credential.as_str(), &p.ask.as_ref()?.tag))).collect();
        for (credential, tag) in read {
            let (since, executions) = (reading.since, reading.of(&tag.value));
            looks::keep(turn.store, &self.ledger, credential, turn.now, tag, since, executions);
        }
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
                    reason::deadline(&pending, turn.now, &format!("{why}.")),
                );
            }
        }
    }

    pub(super) fn hold_testkube(&mut self, turn: &mut Turn<'_>, fault: Fault) {
        let failures = self.trouble.failures.saturating_add(1);
        let wait = self.random.jitter(delay(failures, Duration::from_secs(2), Duration::from_secs(60)));
        if failures == 1 || failures.is_power_of_two() {
            log::warn!("Testkube could not be asked: {fault} ({failures} in a row)");
        }
        self.trouble.add(fault, turn.now, turn.now.mono.plus(wait));
    }

    /// When a check is looked up again.
    pub(super) fn schedule(&mut self, turn: &Turn<'_>, key: &CheckKey) {
        let Some(accepted) = self.find(key).map(|pending| pending.accepted.mono) else { return };
        let wait = self.random.jitter(interval(turn.now.mono.since(accepted)));
        let task = self.tasks.entry(*key).or_default();
        task.next = turn.now.mono.plus(wait);
        if task.hinted {
            task.bring_forward(turn.now.mono);
        }
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
