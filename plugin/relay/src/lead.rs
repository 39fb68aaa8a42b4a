//! Leading: what one context of the process does on its ticks for all pending checks.
//!
//! The ledger is the only truth. What is kept here are calls in flight and a cache that may be lost at any moment: another
//! context then reads the ledger and goes on.

mod aborts;
mod azure_calls;
mod deliver;
mod fallback;
mod hints;
mod limits;
mod poll;
mod prove;
pub(crate) mod reason;
mod run;
mod tasks;
mod tell;
mod teller;
mod turn;
mod watch;

use crate::backoff::Random;
use crate::call::{CallId, Fault, Outcome as CallOutcome, Request};
use crate::check::{
    CheckKey, DONE_STAYS, Delivery, Done, Falls, Outcome, Pending, Phase, Place, Record, State,
};
use crate::config::Config;
use crate::hint::Inbox;
use crate::leader::{Candidate, Role};
use crate::ledger::{Bucket, Change, Ledger, OldHome, Store};
use crate::places::Correction;
use crate::testkube::Trouble;
use crate::time::{Mono, Now};
use aborts::Abort;
use deliver::decided_mut;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tasks::{Task, Tasks};
pub use turn::{Counter, Output, STALE};
use turn::{GRACE, InFlight, Purpose, Turn};

const MOST_AZURE_CALLS: usize = 64;
const MOST_LISTS: usize = 2;
const MOST_CONFIRMS: usize = 8;

/// Falls further apart than this have nothing to do with each other.
const FALLS_TOGETHER: Duration = Duration::from_secs(1_800);

/// How long a check waits after shared data has refused a change of it: its next call would be the one that it has just made.
const REFUSED_CHANGE: Duration = Duration::from_secs(10);

/// An older module drains within this time after an update (Envoy's `--drain-time-s`, 600 s by default), and its checks are
/// looked for so often meanwhile, and afterwards.
const UPDATE: Duration = Duration::from_secs(900);
const MOVES_IN_UPDATE: Duration = Duration::from_secs(5);
const MOVES: Duration = Duration::from_secs(60);

/// One root context's leading, while it leads.
pub struct Lead {
    config: Rc<Config>,
    candidate: Candidate,
    random: Random,
    leading: bool,
    brake_until: Mono,
    buckets: Vec<Bucket>,
    /// Which half of them is read at the next tick: those with an even number, or the others.
    half: usize,
    /// How many checks were pending at the last tick.
    count: u32,
    tasks: Tasks,
    ledger: Ledger,
    old_home: OldHome,
    /// When that is looked into again.
    next_move: Mono,
    configured_at: Mono,
    /// What its looks for lost places have seen.
    correction: Correction,
    /// The check for which there was no room to tell it.
    tell_from: Option<CheckKey>,
    /// Hints that have been seen.
    hints: Inbox,
    /// Executions that are to be aborted.
    aborts: Vec<Abort>,
    calls: BTreeMap<CallId, InFlight>,
    last_call: u64,
    trouble: Trouble,
    page_size: u32,
    /// Until when an Azure DevOps entry has asked to be left alone.
    quiet: BTreeMap<String, Mono>,
}

impl Lead {
    /// The machine of a root context. `seed` is random: it names this context among the others.
    pub fn new(config: Rc<Config>, ledger: Ledger, seed: u64, configured_at: Mono) -> Lead {
        let mut random = Random::new(seed);
        let prefix = ledger.prefix();
        let candidate = Candidate::new(prefix, random.draw(), config.fingerprint, configured_at);
        Lead {
            config,
            candidate,
            random,
            leading: false,
            brake_until: Mono(0),
            buckets: ledger.buckets(),
            half: 0,
            count: 0,
            tasks: Tasks::none(ledger.clone()),
            old_home: OldHome::of(prefix),
            next_move: Mono(0),
            configured_at,
            correction: Correction::default(),
            tell_from: None,
            hints: Inbox::new(prefix),
            aborts: Vec::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            trouble: Trouble::default(),
            page_size: poll::PAGE_SIZE,
            quiet: BTreeMap::new(),
            ledger,
        }
    }

    /// This context serves requests, so it belongs to a worker.
    pub fn serves_requests(&mut self) {
        self.candidate.is_worker = true;
    }

    /// One tick, a second after the last.
    pub fn tick(&mut self, now: Now, store: &mut dyn Store) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        let pending = self.leading.then_some(self.count);
        match self.candidate.tick(turn.store, now, pending) {
            Ok(Role::Leader { brake_until, suspects, new }) => {
                self.brake_until = brake_until;
                if new {
                    self.take_over(&mut turn, &suspects);
                }
                self.lead(&mut turn);
            }
            Ok(Role::Follower) => {
                if std::mem::replace(&mut self.leading, false) {
                    log::info!("another context leads now");
                }
                self.calls.retain(|_, call| now.mono < call.deadline);
            }
            Err(status) => {
                log::error!("shared data failed with status {}: nobody can lead here", status.0);
                self.leading = false;
            }
        }
        turn.out
    }

    /// What became of a call. Answers are recorded whether this context still leads or not.
    pub fn answer(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        id: CallId,
        outcome: &CallOutcome,
    ) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        if let Some(call) = self.calls.remove(&id) {
            self.settle(&mut turn, call.purpose, outcome);
        }
        turn.out
    }

    /// Whether the outcome of this call is still waited for.
    pub fn waits_for(&self, id: CallId) -> bool {
        self.calls.contains_key(&id)
    }

    /// The context ends: frees the lease and says what is left to others. Calls nobody.
    pub fn end(&mut self, now: Now, store: &mut dyn Store) {
        if self.leading {
            log::info!("gives up the lead; pending checks: {}", self.pending().count());
        }
        self.leading = false;
        if let Err(status) = self.candidate.release(store, now) {
            log::error!("the lease could not be freed (status {}): it ends by itself", status.0);
        }
    }

    fn take_over(&mut self, turn: &mut Turn<'_>, suspects: &[CheckKey]) {
        self.leading = true;
        self.tasks.clear();
        self.trouble = Trouble::default();
        self.correction = Correction::default();
        self.move_old(turn);
        // Both halves, the second of them in this tick's turn to lead.
        self.refresh(turn);
        self.hints = Inbox::new(self.ledger.prefix());
        self.aborts.clear();
        turn.out.push(Output::Listen);
        log::info!("leads");
        if turn.now.mono < self.brake_until {
            let wait = crate::time::in_words(self.brake_until.since(turn.now.mono));
            log::warn!("the leader before was lost without a word; waits {wait} before the first call");
            turn.out.push(Output::Count(Counter::Fall));
        }
        let now = turn.now.mono;
        for key in suspects {
            self.change(turn, key, |pending| {
                let count =
                    if now.since(pending.falls.last) < FALLS_TOGETHER { pending.falls.count } else { 0 };
                pending.falls = Falls { count: count.saturating_add(1), last: now };
                Some(())
            });
        }
    }

    fn lead(&mut self, turn: &mut Turn<'_>) {
        if turn.now.mono >= self.next_move {
            self.move_old(turn);
        }
        self.refresh(turn);
        self.give_up_silent_calls(turn);
        self.forget_done(turn);
        self.hear(turn);
        let (mut count, mut is_due, mut tells) = (0, false, false);
        let turns = self.in_turn(usize::MAX, |pending, task| {
            count += 1;
            is_due |= self.is_due(turn.now, pending, task);
            tells |= self.may_tell(turn.now.mono, pending, task);
            may_step(turn.now, pending, task)
        });
        self.count = count;
        self.keep_places(turn);
        if turn.now.mono < self.brake_until {
            return;
        }
        for (_, key) in &turns {
            self.step(turn, key);
        }
        if is_due || !turns.is_empty() {
            self.poll(turn);
        }
        if tells {
            self.tell_all(turn);
        }
        self.send_aborts(turn);
    }

    /// These of the pending checks, at most so many, and of those the ones that could have made their next step the longest,
    /// in this order: where there are more of them than calls may be under way, each has its turn.
    fn in_turn(
        &self,
        most: usize,
        mut these: impl FnMut(&Pending, Option<&Task>) -> bool,
    ) -> BTreeSet<(Mono, CheckKey)> {
        // Kept in order from the first to the last: sorting a list would make the module larger by 30 KB.
        let mut turns = BTreeSet::new();
        for (bucket, tasks) in self.buckets.iter().zip(self.tasks.by_bucket()) {
            for (key, pending) in bucket.pending() {
                let task = tasks.get(key);
                if !these(pending, task) {
                    continue;
                }
                // A step that was never tried could have been made since the check came.
                let next = task.map_or(Mono(0), |task| task.next);
                let turn = (next.max(pending.accepted.mono), *key);
                if turns.len() < most || turns.last().is_some_and(|last| turn < *last) {
                    turns.insert(turn);
                }
                if turns.len() > most {
                    turns.pop_last();
                }
            }
        }
        turns
    }

    /// Does what is next for one check, if anything is due.
    fn step(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        let now = turn.now;
        let Some(pending) = self.find(key).filter(|pending| may_step(now, pending, self.tasks.get(key)))
        else {
            return;
        };
        let pending = pending.clone();
        let task = self.tasks.entry(*key).or_default();
        if std::mem::replace(&mut task.delivery, pending.delivery) != pending.delivery {
            (task.tries, task.next) = (0, Mono(0));
        }
        if task.calling {
            return;
        }
        if now.mono >= pending.token_end {
            if self.drop_candidate(turn, key, pending.tokens.current_delivery()) {
                return;
            }
            log::error!("check {}: its token has ended and the decision was not delivered", key.id());
            self.finish(turn, key, false);
            return;
        }
        let decided = matches!(pending.phase, Phase::Decided(_));
        if !decided && pending.falls.count >= 2 {
            let reason = "Testrelay failed twice while it read an answer for this check.";
            self.decide(turn, key, Outcome::Inconclusive, reason.into());
            return;
        }
        match &pending.phase {
            Phase::Watching(_) => self.watch(turn, key, &pending),
            _ if now.mono < task.next => {}
            Phase::Accepted if pending.is_past_deadline(now) => self.give_up_proof(turn, key, NO_ANSWER),
            Phase::Proven if pending.is_past_deadline(now) => {
                self.decide(turn, key, Outcome::Inconclusive, NO_ANSWER.into());
            }
            Phase::Accepted => self.prove(turn, key, &pending),
            Phase::Proven => self.find_bound(turn, key, &pending),
            Phase::Decided(decided) => self.deliver(turn, key, &pending, decided),
        }
    }

    /// Deals with an outcome.
    fn settle(&mut self, turn: &mut Turn<'_>, purpose: Purpose, outcome: &CallOutcome) {
        let checks = purpose.checks();
        for key in checks.iter().filter(|_| purpose.is_step()) {
            if let Some(task) = self.tasks.get_mut(key) {
                task.calling = false;
            }
        }
        if self.leading && self.candidate.note_busy(turn.store, &checks).is_err() {
            log::error!("shared data failed: an answer is read without a note of it");
        }
        match purpose {
            Purpose::List(reading) if self.leading => self.listed(turn, reading, outcome),
            Purpose::Confirm(key) if self.leading => self.confirmed(turn, &key, outcome),
            Purpose::Look(key) if self.leading => self.looked(turn, &key, outcome),
            Purpose::Azure(key, step, token) | Purpose::Tell(key, step, token) => {
                self.azure_answered(turn, &key, step, token, outcome);
            }
            Purpose::Abort(abort) if self.leading => self.aborted(turn, abort, outcome),
            Purpose::List(_) | Purpose::Confirm(_) | Purpose::Look(_) | Purpose::Abort(_) => {}
        }
        if self.leading && self.candidate.note_busy(turn.store, &[]).is_err() {
            log::error!("shared data failed: the note of an answer that was read stays");
        }
        if self.leading && turn.now.mono >= self.brake_until {
            for key in &checks {
                self.step(turn, key);
            }
        }
    }

    /// Starts a call, unless somebody else has taken the lead. False: not started.
    fn start(&mut self, turn: &mut Turn<'_>, request: Request, purpose: Purpose) -> bool {
        if !self.candidate.leads(turn.store, turn.now).unwrap_or(false) {
            self.leading = false;
            return false;
        }
        for key in purpose.checks().into_iter().filter(|_| purpose.is_step()) {
            self.tasks.entry(key).or_default().calling = true;
        }
        self.last_call = self.last_call.wrapping_add(1);
        let id = CallId(self.last_call);
        let deadline = turn.now.mono.plus(request.timeout).plus(GRACE);
        self.calls.insert(id, InFlight { purpose, deadline });
        turn.out.push(Output::Call(id, request));
        true
    }

    fn in_flight(&self, is: impl Fn(&Purpose) -> bool) -> usize {
        self.calls.values().filter(|call| is(&call.purpose)).count()
    }

    fn give_up_silent_calls(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let silent: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| now >= call.deadline).map(|(id, _)| *id).collect();
        for id in silent {
            if let Some(call) = self.calls.remove(&id) {
                self.settle(turn, call.purpose, &CallOutcome::Failed(Fault::Lost));
            }
        }
    }

    /// Takes over what an older module of this process keeps in its own place: it runs on beside this one until its listener
    /// has drained.
    fn move_old(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let pause = if now.since(self.configured_at) < UPDATE { MOVES_IN_UPDATE } else { MOVES };
        self.next_move = now.plus(pause);
        match self.old_home.move_to(turn.store, &self.ledger) {
            Ok(0) => {}
            Ok(moved) => log::info!("took over {moved} checks of an older module"),
            Err(e) => log::error!("checks of an older module could not be taken over: {e}"),
        }
    }

    /// Reads what others have written: half of the buckets, so that each is read in every second tick.
    fn refresh(&mut self, turn: &mut Turn<'_>) {
        self.half = 1 - self.half;
        for (number, bucket) in self.buckets.iter_mut().enumerate().skip(self.half).step_by(2) {
            match bucket.read(turn.store) {
                Ok(true) => self.tasks.retain(number, |key| bucket.find_pending(key).is_some()),
                Ok(false) => {}
                Err(status) => {
                    log::error!("shared data failed with status {}: bucket {number} was not read", status.0);
                }
            }
        }
    }

    /// Changes a check's record.
    fn update<R>(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        change: impl FnMut(Option<&Record>) -> Change<Option<R>>,
    ) -> Option<R> {
        let bucket = self.buckets.get_mut(usize::from(self.ledger.bucket_of(key)))?;
        bucket.update(turn.store, key, change).unwrap_or_else(|e| {
            let wait = crate::time::in_words(REFUSED_CHANGE);
            log::error!("check {}: its record could not be changed: {e}; waits {wait}", key.id());
            self.tasks.entry(*key).or_default().held_until = turn.now.mono.plus(REFUSED_CHANGE);
            None
        })
    }

    fn pending(&self) -> impl Iterator<Item = (&CheckKey, &Pending)> {
        self.buckets.iter().flat_map(Bucket::pending)
    }

    fn find(&self, key: &CheckKey) -> Option<&Pending> {
        self.buckets.get(usize::from(self.ledger.bucket_of(key)))?.find_pending(key)
    }

    /// Changes a pending check in the ledger. `change` sees what stands there now, may run more than once, and answers
    /// `None` to leave it. `None` also if the check is not pending any more or the ledger failed.
    fn change<R>(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        mut change: impl FnMut(&mut Pending) -> Option<R>,
    ) -> Option<R> {
        self.change_state(turn, key, |pending| {
            let mut pending = Box::new(pending.clone());
            change(&mut pending).map(|result| (State::Pending(pending), result))
        })
    }

    fn change_state<R>(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        mut change: impl FnMut(&Pending) -> Option<(State, R)>,
    ) -> Option<R> {
        self.update(turn, key, |found| match found.map(|record| &record.state) {
            Some(State::Pending(pending)) => match change(pending) {
                Some((state, result)) => Change::Put(Box::new(Record { key: *key, state }), Some(result)),
                None => Change::Keep(None),
            },
            _ => Change::Keep(None),
        })
    }

    /// Makes the decision. Only the first one counts.
    fn decide(&mut self, turn: &mut Turn<'_>, key: &CheckKey, outcome: Outcome, reason: String) {
        let at = turn.now.wall;
        let cancels = outcome == Outcome::OpenGate && self.config.checks.cancels_open_gate;
        let made = self.change(turn, key, |pending| {
            let open = !matches!(pending.phase, Phase::Decided(_));
            open.then(|| pending.decide(outcome, reason.clone(), at))?;
            if cancels && pending.callback.build.is_some() {
                decided_mut(pending)?.next = Delivery::CancelBuild;
            }
            Some(())
        });
        if made.is_some() {
            log::info!("check {}: {outcome}: {reason}", key.id());
            if outcome == Outcome::OpenGate {
                turn.out.push(Output::Count(Counter::OpenGate));
            }
            let teller = self.tasks.get_mut(key).and_then(|task| task.teller.take());
            self.tasks.insert(*key, Task { teller, ..Task::default() });
            self.step(turn, key);
        }
    }

    /// Ends a check: its token leaves the ledger.
    fn finish(&mut self, turn: &mut Turn<'_>, key: &CheckKey, reported: bool) {
        let now = turn.now;
        let done = self.change_state(turn, key, |pending| {
            let done = pending.done(reported, now);
            Some((State::Done(done.clone()), (done, pending.held().cloned())))
        });
        if let Some((done, place)) = done {
            self.ended(turn, key, &done, place.as_ref());
        }
    }

    /// Counts a check that has just ended, gives its place back, and forgets what was to do for it.
    fn ended(&mut self, turn: &mut Turn<'_>, key: &CheckKey, done: &Done, place: Option<&Place>) {
        self.give_back(turn, place);
        self.tasks.remove(key);
        turn.out.push(Output::Count(match done.outcome {
            Some(_) if done.reported && done.observe => Counter::Observed,
            Some(outcome) if done.reported => Counter::Delivered(outcome),
            _ => Counter::Undelivered,
        }));
    }

    fn forget_done(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let is_old = |record: &&Record| matches!(&record.state, State::Done(done) if now.since(done.at.mono) >= DONE_STAYS);
        let half = self.buckets.iter().skip(self.half).step_by(2);
        let old: Vec<CheckKey> =
            half.flat_map(Bucket::records).filter(is_old).map(|record| record.key).collect();
        for key in old {
            self.update(turn, &key, |found| match found {
                Some(record) if is_old(&record) => Change::Remove(Some(())),
                _ => Change::Keep(None),
            });
        }
    }
}

/// Whether anything can be due for a check. Most of them wait most of the time, and are not even copied then.
fn may_step(now: Now, pending: &Pending, task: Option<&Task>) -> bool {
    let Some(task) = task.filter(|task| task.delivery == pending.delivery) else { return true };
    let is_next = match &pending.phase {
        Phase::Watching(_) => {
            task.confirm.is_some() || task.last_reading.is_some() || pending.is_past_deadline(now)
        }
        Phase::Accepted | Phase::Proven | Phase::Decided(_) => now.mono >= task.next,
    };
    let waits = task.calling || task.is_held(now.mono);
    !waits && (is_next || now.mono >= pending.token_end || pending.falls.count >= 2)
}

const NO_ANSWER: &str =
    "Azure DevOps did not answer before this check's deadline, so nothing was asked of Testkube.";

#[cfg(test)]
mod tests;
