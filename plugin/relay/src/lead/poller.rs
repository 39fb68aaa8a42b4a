//! Polling Testkube: one poller for all checks, batched by tag, page by page. An answer that cannot be read narrows the
//! batches until one check is alone with it; everybody waits only if nothing can be read at all.

use super::agenda::{Agenda, Narrow};
use super::calls::Purpose;
use super::shelf::Shelf;
use super::{Lead, Output, Turn};
use crate::backoff::{Random, delay};
use crate::check::{CheckKey, Counter, Event, Reading, Unread, Wanted};
use crate::collections::Few;
use crate::config::Config;
use crate::store::ledger::Store;
use crate::store::looks;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::call::{CallId, CallOutcome, Fault, Request};
use crate::wire::testkube::{self, Execution, MAX_QUERY, Trouble};
use std::collections::BTreeSet;
use std::time::Duration;

/// Maximum readings under way.
pub(super) const MAX_READINGS: usize = 2;

/// Executions on a page: Testkube's own default. Reduced when answers are too large, because `workflow.annotations` may
/// hold a whole spec.
const PAGE_SIZE: u32 = 100;

/// Minimum page size for several checks together.
const SMALL_PAGE: u32 = 25;

/// Maximum page size. Testkube itself knows none.
const MAX_PAGE_SIZE: u32 = 1_000;

/// Maximum pages of one reading, and of a reading for one check alone.
const MAX_PAGES: u32 = 50;
const MAX_PAGES_ALONE: u32 = 400;

const MAX_BATCH: usize = 100;

/// How long before it is due a check joins a reading, if it may be read already: so many checks share few lists.
const TAKEN_ALONG: Duration = Duration::from_secs(1);

/// Budget of lists in a second, whatever the number of tags, and the cost of a page: of a reading for many checks, and
/// of a narrowed reading. So 20 lists a second, or 80 if each is for a few checks.
const A_SECOND: usize = 80;
const COST: usize = 4;
const COST_OF_NARROW: usize = 1;

/// Complete readings in a row after which a reduced page grows again.
const CALM: u32 = 8;

/// Failed readings in a row, with no success between them, that count as an outage of Testkube.
const OUTAGE: u32 = 3;

/// First and maximum pause between readings during an outage. They are tried one at a time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(8);

impl Narrow {
    pub(super) const WIDE: Narrow =
        Narrow { crowd: MAX_BATCH, page: PAGE_SIZE, calm: 0, is_by_chance: false };

    fn is_wide(self) -> bool {
        self.crowd >= MAX_BATCH && self.page >= PAGE_SIZE
    }
}

/// A reading of the executions for several checks, page by page.
pub(super) struct Batch {
    /// The reading's id, known to the checks that wait for it.
    pub(super) id: CallId,
    pub(super) checks: Vec<CheckKey>,
    key: String,
    values: BTreeSet<String>,
    /// Bytes of the values in the query, at most [`MAX_QUERY`].
    size: usize,
    /// The time before which scheduled executions are not asked for.
    pub(super) since: Wall,
    /// Maximum checks in it.
    crowd: usize,
    page: u32,
    page_size: u32,
    /// Testkube's number of executions when it gave the first page.
    counted: Option<u32>,
    ids: BTreeSet<String>,
    /// By tag value, so that judging one check does not look at the executions of all others.
    pub(super) executions: Few<String, Vec<Execution>>,
}

/// What to do after a page.
pub(super) enum Paged {
    /// Ask for the next one.
    More,
    /// The reading is complete.
    Complete,
    /// The reading failed.
    Unread(Unread),
}

impl Batch {
    fn new(key: &str) -> Batch {
        Batch {
            id: CallId(0),
            checks: Vec::new(),
            key: key.into(),
            values: BTreeSet::new(),
            size: 0,
            since: Wall(i64::MAX),
            crowd: MAX_BATCH,
            page: 0,
            page_size: PAGE_SIZE,
            counted: None,
            ids: BTreeSet::new(),
            executions: Few::default(),
        }
    }

    /// Adds a check if it still fits. Returns whether it did.
    fn add(&mut self, check: CheckKey, wanted: &Wanted<'_>, narrow: Narrow) -> bool {
        let value = &wanted.tag.value;
        let is_new = !self.values.contains(value);
        let size = self.size + if is_new { testkube::selector_cost(&self.key, value) } else { 0 };
        let crowd = self.crowd.min(narrow.crowd);
        if self.checks.len() >= crowd || (size > MAX_QUERY && !self.checks.is_empty()) {
            return false;
        }
        // The smallest page that one of the checks needs; without such a need, the largest.
        self.page_size = match self.page_size.min(narrow.page) {
            small if small < PAGE_SIZE => small,
            _ => self.page_size.max(narrow.page),
        };
        self.checks.push(check);
        if is_new {
            self.values.insert(value.clone());
        }
        (self.size, self.crowd, self.since) = (size, crowd, self.since.min(wanted.since));
        true
    }

    /// The request for the next page.
    pub(super) fn request(&self, config: &Config) -> Request {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        testkube::list_executions(&config.testkube, &self.key, &values, self.since, self.page, self.page_size)
    }

    /// Shares the reading with evaluations of the same tags by the same credentials, while there are any.
    pub(super) fn share(&self, now: Now, store: &mut dyn Store, shelf: &Shelf) {
        let prefix = shelf.ledger().prefix();
        if !looks::are_wanted(store, prefix, now) {
            return;
        }
        let pending = self.checks.iter().filter_map(|key| shelf.find(key));
        let mut read: Few<(&str, &Tag), ()> = Few::default();
        for (credential, tag) in pending.filter_map(|p| Some((p.credential.as_str(), &p.ask.as_ref()?.tag))) {
            read.insert((credential, tag), ());
        }
        for (credential, tag) in read.keys() {
            let executions = self.executions.get(&tag.value).map_or(&[][..], Vec::as_slice);
            looks::keep(store, shelf.ledger(), credential, now, tag, self.since, executions);
        }
    }

    /// Takes a page.
    pub(super) fn take(&mut self, page: testkube::Page) -> Paged {
        let filtered = page.filtered;
        for execution in page.executions {
            let is_fresh = self.ids.insert(execution.id.clone());
            // Testkube may send executions that carry none of the tags.
            let value =
                execution.tags.get(&self.key).filter(|value| is_fresh && self.values.contains(*value));
            if let Some(value) = value.cloned()
                && let Some(executions) = self.executions.entry(value, Vec::new)
            {
                executions.push(execution);
            }
        }
        // If executions were deleted since the first page, others have moved up to a page that was already read.
        let is_unchanged = *self.counted.get_or_insert(filtered) == filtered;
        let read = u64::from(self.page.saturating_add(1)) * u64::from(self.page_size);
        let is_last = read >= u64::from(filtered);
        let listed = self.ids.len();
        let max_pages = if self.checks.len() > 1 { MAX_PAGES } else { MAX_PAGES_ALONE };
        match (is_unchanged, is_last) {
            (true, false) if self.page.saturating_add(1) >= max_pages => {
                Paged::Unread(Unread::Fault(TOO_LONG))
            }
            (true, false) => {
                self.page += 1;
                Paged::More
            }
            // Executions of the same instant may move between pages: fewer distinct ones than Testkube counts are not
            // complete.
            (true, true) if listed >= usize::try_from(filtered).unwrap_or(usize::MAX) => Paged::Complete,
            _ => Paged::Unread(Unread::Incomplete { counted: filtered, listed }),
        }
    }
}

/// Whether this fault may come from one check's data, rather than from the way to Testkube.
fn is_of_data(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::TooLarge(_)
            | Fault::Reset
            | Fault::Truncated
            | Fault::NotJson(_)
            | Fault::NoAnswer
            | Fault::Unexpected(_)
    )
}

const TOO_LONG: Fault = Fault::Unexpected("too many pages");

/// The state of polling over all readings.
#[derive(Default)]
pub(super) struct Poller {
    /// The outage, if no reading succeeds.
    pub(super) trouble: Trouble,
    /// When it was last asked for a page, and when a reading was last complete.
    pub(super) asked: Option<Wall>,
    pub(super) answered: Option<Wall>,
    /// Whether the checks' logs have mentioned the outage.
    is_told: bool,
    /// Budget of lists left before the next tick.
    left: usize,
    /// Readings whose next page waits for the budget.
    parked: Vec<Batch>,
}

impl Poller {
    /// Maximum readings under way now.
    fn room(&self, now: Mono) -> usize {
        match self.trouble.failures >= OUTAGE {
            true if now < self.trouble.wait_until => 0,
            true => 1,
            false => MAX_READINGS,
        }
    }

    /// The readings to begin now, beside those under way. Checks that have waited longest come first, so that each gets
    /// its turn even if Testkube cannot answer all within an interval.
    pub(super) fn due(
        &mut self,
        now: Mono,
        agenda: &mut Agenda,
        shelf: &Shelf,
        config: &Config,
        under_way: usize,
    ) -> Vec<Batch> {
        let under_way = under_way.saturating_add(self.parked.len());
        let most = if self.left == 0 { 0 } else { self.room(now).saturating_sub(under_way) };
        let mut batches: Vec<Batch> = Vec::new();
        if most == 0 || agenda.to_read(now).next().is_none() {
            return batches;
        }
        let keys: Vec<CheckKey> = agenda.to_read(now.plus(TAKEN_ALONG)).take(most * MAX_BATCH).collect();
        for key in keys {
            let Some(wanted) = shelf.find(&key).and_then(|p| p.wanted(now, config.checks.lookback)) else {
                continue;
            };
            let Some(tracked) = agenda.get_mut(&key) else { continue };
            let (mut narrow, is_due) = (tracked.reading, tracked.is_due(now));
            // A check whose readings are narrowed would narrow those of the others.
            let joins = tracked.volatile.may_join(now) && narrow.is_wide();
            if !is_due && !joins {
                continue;
            }
            if wanted.is_suspect {
                narrow.crowd = 1;
            }
            let tag_key = wanted.tag.key.as_str();
            let batch = batches.iter_mut().rfind(|batch| batch.key == tag_key && batch.crowd > 1);
            let has_joined = batch.is_some_and(|batch| batch.add(key, &wanted, narrow));
            if has_joined || !is_due || batches.len() >= most {
                continue;
            }
            let mut batch = Batch::new(tag_key);
            batch.add(key, &wanted, narrow);
            batches.push(batch);
        }
        batches
    }

    /// Takes the cost of a page of this reading from the budget. Returns whether there was any left.
    fn use_budget(&mut self, batch: &Batch) -> bool {
        let may = self.left > 0;
        let cost = if batch.crowd < MAX_BATCH { COST_OF_NARROW } else { COST };
        self.left = self.left.saturating_sub(cost);
        may
    }

    /// The reading whose next page has waited longest, if it may be asked for now.
    fn unparked(&mut self) -> Option<Batch> {
        (self.left > 0 && !self.parked.is_empty()).then(|| self.parked.remove(0))
    }

    /// Allows one more reading at once, because of a hint.
    pub(super) fn hinted(&mut self) {
        self.left = self.left.max(COST);
    }

    /// Renews the budget of a second.
    pub(super) fn tick(&mut self) {
        self.left = A_SECOND;
    }

    /// Notes a complete reading.
    pub(super) fn succeeded(&mut self, now: Now, agenda: &mut Agenda, batch: &Batch) {
        self.trouble.end();
        self.answered = Some(now.wall);
        for key in &batch.checks {
            let Some(tracked) = agenda.get_mut(key) else { continue };
            let narrow = &mut tracked.reading;
            narrow.calm = narrow.calm.saturating_add(1);
            if narrow.is_by_chance {
                narrow.crowd = narrow.crowd.saturating_mul(2).min(MAX_BATCH);
            }
            if narrow.calm.is_multiple_of(CALM) {
                narrow.crowd = narrow.crowd.saturating_mul(2).min(MAX_BATCH);
                narrow.page = narrow.page.saturating_mul(2).min(PAGE_SIZE);
            }
        }
    }

    /// Notes a failed reading, and decides how the next ones of its checks are made.
    pub(super) fn failed(
        &mut self,
        now: Now,
        random: &mut Random,
        agenda: &mut Agenda,
        batch: &Batch,
        unread: &Unread,
    ) {
        let is_outage = self.trouble.failures >= OUTAGE;
        match unread {
            Unread::Incomplete { .. } => self.trouble.end(),
            Unread::Fault(fault) => {
                let failures = self.trouble.failures.saturating_add(1);
                let wait = random.jitter(delay(failures, FIRST_RETRY, MAX_RETRY));
                if failures == 1 || failures.is_power_of_two() {
                    log::warn!("request to Testkube failed: {fault} ({failures} in a row)");
                }
                self.trouble.add(fault.clone(), now, now.mono.plus(wait));
            }
        }
        for key in &batch.checks {
            let Some(tracked) = agenda.get_mut(key) else { continue };
            let narrow = &mut tracked.reading;
            narrow.calm = 0;
            narrow.is_by_chance = matches!(unread, Unread::Fault(fault) if !is_of_data(fault));
            match unread {
                // Testkube has no fixed order for executions of the same instant: on a single page none can be missed.
                Unread::Incomplete { counted, .. } => {
                    narrow.page = counted.saturating_add(PAGE_SIZE).min(MAX_PAGE_SIZE);
                }
                Unread::Fault(_) if is_outage => {}
                Unread::Fault(fault) => {
                    // Small pages for many checks would be many calls: first the checks are separated.
                    let least = if batch.checks.len() > 1 { SMALL_PAGE } else { 1 };
                    let smaller = (batch.page_size / 4).max(least).min(batch.page_size);
                    let is_large = matches!(fault, Fault::TooLarge(_)) && smaller < batch.page_size;
                    match fault {
                        Fault::TooLarge(_) | Fault::Reset | Fault::Truncated | Fault::NotJson(_) => {
                            narrow.page = smaller;
                        }
                        Fault::NoAnswer => narrow.page = narrow.page.min(SMALL_PAGE),
                        _ => {}
                    }
                    if !is_large {
                        narrow.crowd = (batch.checks.len() / 2).max(1);
                    }
                }
            }
        }
    }

    /// Whether the checks' logs should begin, or cease, to mention the outage.
    pub(super) fn turns(&mut self, now: Mono, long: Duration) -> bool {
        let is_long = self.trouble.lasts(now) >= long;
        std::mem::replace(&mut self.is_told, is_long) != is_long
    }
}

impl Lead {
    /// Begins readings for the checks that are due, as many as may be under way.
    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        if now < self.brake_until {
            return;
        }
        while let Some(batch) = self.poller.unparked() {
            self.read_page(turn, batch);
        }
        let under_way = self.calls.count(|purpose| matches!(purpose, Purpose::Page(_)));
        for mut batch in self.poller.due(now, &mut self.agenda, &self.shelf, &self.config, under_way) {
            batch.id = self.calls.take_name();
            for key in &batch.checks {
                if let Some(tracked) = self.agenda.get_mut(key) {
                    tracked.volatile.begin_reading(now, batch.id);
                }
                self.index(now, key);
            }
            self.read_page(turn, batch);
        }
    }

    fn read_page(&mut self, turn: &mut Turn<'_>, batch: Batch) {
        if !self.poller.use_budget(&batch) {
            return self.poller.parked.push(batch);
        }
        let request = batch.request(&self.config);
        let id = self.calls.take_name();
        if self.leads(turn) {
            turn.start(&mut self.calls, id, request, Purpose::Page(Box::new(batch)), None);
        } else {
            // The present leader makes its own request.
            for key in &batch.checks {
                self.step(turn, key, Event::NotStarted(batch.id));
            }
        }
    }

    /// Takes the outcome of a page.
    pub(super) fn paged(&mut self, turn: &mut Turn<'_>, mut batch: Batch, outcome: &CallOutcome) {
        self.poller.asked = Some(turn.now.wall);
        let page = match outcome {
            CallOutcome::Failed(fault) => Err(fault.clone()),
            CallOutcome::Response(response) => {
                testkube::page(response).map_err(|fault| testkube::said(fault, response))
            }
        };
        let paged = match page {
            Ok(page) => batch.take(page),
            Err(fault) => Paged::Unread(Unread::Fault(fault)),
        };
        match paged {
            Paged::More => return self.read_page(turn, batch),
            Paged::Complete => {
                self.poller.succeeded(turn.now, &mut self.agenda, &batch);
                batch.share(turn.now, turn.store, &self.shelf);
                let reading = Reading { by_value: &batch.executions };
                for key in &batch.checks {
                    self.step(turn, key, Event::Read(batch.id, &reading));
                }
            }
            Paged::Unread(unread) => {
                turn.out.push(Output::Count(Counter::TestkubeFault));
                self.poller.failed(turn.now, &mut self.random, &mut self.agenda, &batch, &unread);
                for key in &batch.checks {
                    self.step(turn, key, Event::Unread(batch.id, &unread));
                }
            }
        }
        self.poll(turn);
    }
}
