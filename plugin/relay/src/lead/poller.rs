//! Polling Testkube: one poller for all checks, batched by tag, page by page. What cannot be read is narrowed down until one
//! check is alone with it; only where nothing can be read at all does everybody wait.

use super::calls::Purpose;
use super::shelf::Shelf;
use super::slots::{Narrow, Slots};
use super::{Lead, Output, Turn};
use crate::backoff::{Random, delay};
use crate::check::{CheckKey, Counter, Event, Reading, Unread, Wanted};
use crate::config::Config;
use crate::store::ledger::Store;
use crate::store::looks;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::call::{CallId, CallOutcome, Fault, Request};
use crate::wire::testkube::{self, Execution, MAX_QUERY, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Readings at the same time.
pub(super) const MAX_READINGS: usize = 2;

/// Testkube's own default; made smaller where answers are too large, because `workflow.annotations` may hold a whole spec.
const PAGE_SIZE: u32 = 100;

/// The smallest for several checks together.
const SMALL_PAGE: u32 = 25;

/// Testkube itself knows no maximum.
const MAX_PAGE_SIZE: u32 = 1_000;

/// So many pages a reading may have, and so many where one check is alone in it.
const MAX_PAGES: u32 = 50;
const MAX_PAGES_ALONE: u32 = 400;

const MAX_BATCH: usize = 100;

/// A reading that begins takes along checks that would be due so soon and may be looked up already: many checks share few lists.
const TAKEN_ALONG: Duration = Duration::from_secs(1);

/// What lists may cost in a second, however many tags there are; a page of a reading for many checks, and one of a reading that
/// was narrowed: so 20 lists a second, and 80 where each is for a few checks.
const A_SECOND: usize = 80;
const COST: usize = 4;
const COST_OF_NARROW: usize = 1;

/// So many complete readings in a row, and a smaller page is made larger again.
const CALM: u32 = 8;

/// So many failed readings in a row, and none between them that succeeded: Testkube itself is away.
const OUTAGE: u32 = 3;

/// While it is, one reading after the other is tried, with pauses of at most this.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(8);

impl Narrow {
    pub(super) const WIDE: Narrow =
        Narrow { crowd: MAX_BATCH, page: PAGE_SIZE, calm: 0, is_by_chance: false };
}

/// A reading of the executions for several checks, page by page.
pub(super) struct Batch {
    /// Its name, to the checks that wait for it.
    pub(super) id: CallId,
    pub(super) checks: Vec<CheckKey>,
    key: String,
    values: BTreeSet<String>,
    /// What the values take of [`MAX_QUERY`].
    size: usize,
    /// Executions scheduled before this are not asked for.
    pub(super) since: Wall,
    /// How many checks may be in it.
    crowd: usize,
    page: u32,
    page_size: u32,
    /// How many executions Testkube counted when it gave the first page.
    counted: Option<u32>,
    ids: BTreeSet<String>,
    /// By the tags' values, so that no check's judgement looks at the executions of all the others.
    pub(super) executions: BTreeMap<String, Vec<Execution>>,
}

/// What is to be done after a page.
pub(super) enum Paged {
    /// Ask for the next one.
    More,
    /// The reading is complete.
    Complete,
    /// It is not, and this is why.
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
            executions: BTreeMap::new(),
        }
    }

    /// Adds a check, if it still fits; whether it did.
    fn add(&mut self, check: CheckKey, wanted: &Wanted<'_>, narrow: Narrow) -> bool {
        let value = &wanted.tag.value;
        let is_new = !self.values.contains(value);
        let size = self.size + if is_new { testkube::selector_cost(&self.key, value) } else { 0 };
        let crowd = self.crowd.min(narrow.crowd);
        if self.checks.len() >= crowd || (size > MAX_QUERY && !self.checks.is_empty()) {
            return false;
        }
        // The smallest page that one of them needs; else the largest.
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

    /// The request for its next page.
    pub(super) fn request(&self, config: &Config) -> Request {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        testkube::list_executions(&config.testkube, &self.key, &values, self.since, self.page, self.page_size)
    }

    /// Lets evaluations of the same tags by the same credentials have what was read, while there are any.
    pub(super) fn share(&self, now: Now, store: &mut dyn Store, shelf: &Shelf) {
        let prefix = shelf.ledger().prefix();
        if !looks::are_wanted(store, prefix, now) {
            return;
        }
        let pending = self.checks.iter().filter_map(|key| shelf.find(key));
        let read: BTreeSet<(&str, &Tag)> =
            pending.filter_map(|p| Some((p.credential.as_str(), &p.ask.as_ref()?.tag))).collect();
        for (credential, tag) in read {
            let executions = self.executions.get(&tag.value).map_or(&[][..], Vec::as_slice);
            looks::keep(store, shelf.ledger(), credential, now, tag, self.since, executions);
        }
    }

    /// Takes a page.
    pub(super) fn take(&mut self, page: testkube::Page) -> Paged {
        let filtered = page.filtered;
        for execution in page.executions {
            let is_fresh = self.ids.insert(execution.id.clone());
            // Testkube may send more than what carries one of the tags.
            let value =
                execution.tags.get(&self.key).filter(|value| is_fresh && self.values.contains(*value));
            if let Some(value) = value.cloned() {
                self.executions.entry(value).or_default().push(execution);
            }
        }
        // Where executions were deleted since the first page, others have moved up to a page that was read already.
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
            // Executions of one instant may stand on any page, each time anew: fewer distinct ones than Testkube counts are
            // not the whole.
            (true, true) if listed >= usize::try_from(filtered).unwrap_or(usize::MAX) => Paged::Complete,
            _ => Paged::Unread(Unread::Incomplete { counted: filtered, listed }),
        }
    }
}

/// Whether what one check asks for may be the cause of a fault, rather than the way to Testkube.
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

const TOO_LONG: Fault = Fault::Unexpected("more pages than are read");

/// What all readings together say of Testkube.
#[derive(Default)]
pub(super) struct Poller {
    /// Since when none has succeeded.
    pub(super) trouble: Trouble,
    /// Whether the checks' people have been told of it.
    is_told: bool,
    /// What lists may still cost before the next tick.
    left: usize,
    /// Readings whose next page waits for that.
    parked: Vec<Batch>,
}

impl Poller {
    /// How many readings may be under way.
    fn room(&self, now: Mono) -> usize {
        match self.trouble.failures >= OUTAGE {
            true if now < self.trouble.wait_until => 0,
            true => 1,
            false => MAX_READINGS,
        }
    }

    /// The readings to begin now, beside those that are under way: those that have waited the longest come first, so that each
    /// has its turn where all of them are more than Testkube answers in an interval.
    pub(super) fn due(
        &mut self,
        now: Mono,
        slots: &mut Slots,
        shelf: &Shelf,
        config: &Config,
        under_way: usize,
    ) -> Vec<Batch> {
        let under_way = under_way.saturating_add(self.parked.len());
        let most = if self.left == 0 { 0 } else { self.room(now).saturating_sub(under_way) };
        let mut batches: Vec<Batch> = Vec::new();
        if most == 0 || slots.to_read(now).next().is_none() {
            return batches;
        }
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        let keys: Vec<CheckKey> = slots.to_read(now.plus(TAKEN_ALONG)).take(most * MAX_BATCH).collect();
        for key in keys {
            let Some(wanted) = shelf.find(&key).and_then(|p| p.wanted(now, config.checks.lookback)) else {
                continue;
            };
            let Some(slot) = slots.get_mut(&key) else { continue };
            let (mut narrow, is_due) = (slot.reading, slot.is_due(now));
            if !is_due && !slot.volatile.may_join(now) {
                continue;
            }
            if wanted.is_suspect {
                narrow.crowd = 1;
            }
            let tag_key = wanted.tag.key.as_str();
            let batch = open.get(tag_key).and_then(|place| batches.get_mut(*place));
            let has_joined = batch.is_some_and(|batch| batch.add(key, &wanted, narrow));
            if has_joined || !is_due || batches.len() >= most {
                continue;
            }
            let mut batch = Batch::new(tag_key);
            batch.add(key, &wanted, narrow);
            if narrow.crowd > 1 {
                open.insert(tag_key.into(), batches.len());
            }
            batches.push(batch);
        }
        batches
    }

    /// Whether a page of this reading may be asked for before the next tick.
    fn may_ask(&mut self, batch: &Batch) -> bool {
        let may = self.left > 0;
        let cost = if batch.crowd < MAX_BATCH { COST_OF_NARROW } else { COST };
        self.left = self.left.saturating_sub(cost);
        may
    }

    /// The reading whose next page has waited the longest, if it may be asked for now.
    fn unparked(&mut self) -> Option<Batch> {
        (self.left > 0 && !self.parked.is_empty()).then(|| self.parked.remove(0))
    }

    /// Somebody has hinted: one more reading may be begun at once.
    pub(super) fn hinted(&mut self) {
        self.left = self.left.max(COST);
    }

    /// A second has passed.
    pub(super) fn tick(&mut self) {
        self.left = A_SECOND;
    }

    /// A reading was complete.
    pub(super) fn succeeded(&mut self, slots: &mut Slots, batch: &Batch) {
        self.trouble.end();
        for key in &batch.checks {
            let Some(slot) = slots.get_mut(key) else { continue };
            let narrow = &mut slot.reading;
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

    /// A reading was not: how the next ones of its checks are made.
    pub(super) fn failed(
        &mut self,
        now: Now,
        random: &mut Random,
        slots: &mut Slots,
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
                    log::warn!("Testkube could not be asked: {fault} ({failures} in a row)");
                }
                self.trouble.add(fault.clone(), now, now.mono.plus(wait));
            }
        }
        for key in &batch.checks {
            let Some(slot) = slots.get_mut(key) else { continue };
            let narrow = &mut slot.reading;
            narrow.calm = 0;
            narrow.is_by_chance = matches!(unread, Unread::Fault(fault) if !is_of_data(fault));
            match unread {
                // Executions of one instant have no fixed order in Testkube: on one page none can fall between two.
                Unread::Incomplete { counted, .. } => {
                    narrow.page = counted.saturating_add(PAGE_SIZE).min(MAX_PAGE_SIZE);
                }
                Unread::Fault(_) if is_outage => {}
                Unread::Fault(fault) => {
                    // Small pages for many checks would be many calls: first they are told apart.
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

    /// Whether people should begin, or cease, to hear of it.
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
        for mut batch in self.poller.due(now, &mut self.slots, &self.shelf, &self.config, under_way) {
            batch.id = self.calls.take_name();
            for key in &batch.checks {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.volatile.begin_reading(now, batch.id);
                }
                self.index(now, key);
            }
            self.read_page(turn, batch);
        }
    }

    fn read_page(&mut self, turn: &mut Turn<'_>, batch: Batch) {
        if !self.poller.may_ask(&batch) {
            return self.poller.parked.push(batch);
        }
        let request = batch.request(&self.config);
        let id = self.calls.take_name();
        if self.leads(turn) {
            turn.start(&mut self.calls, id, request, Purpose::Page(Box::new(batch)), None);
        } else {
            // Whoever leads by now asks for itself.
            for key in &batch.checks {
                self.step(turn, key, Event::NotStarted(batch.id));
            }
        }
    }

    /// A page of a reading came, or did not.
    pub(super) fn paged(&mut self, turn: &mut Turn<'_>, mut batch: Batch, outcome: &CallOutcome) {
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
                self.poller.succeeded(&mut self.slots, &batch);
                batch.share(turn.now, turn.store, &self.shelf);
                let reading = Reading { by_value: &batch.executions };
                for key in &batch.checks {
                    self.step(turn, key, Event::Read(batch.id, &reading));
                }
            }
            Paged::Unread(unread) => {
                turn.out.push(Output::Count(Counter::TestkubeFault));
                self.poller.failed(turn.now, &mut self.random, &mut self.slots, &batch, &unread);
                for key in &batch.checks {
                    self.step(turn, key, Event::Unread(batch.id, &unread));
                }
            }
        }
        self.poll(turn);
    }
}
