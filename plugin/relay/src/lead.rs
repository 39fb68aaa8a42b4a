//! The leader: the one context of a process that works on all pending checks. It schedules, stores and calls, and knows
//! nothing of a check's phases, which belong to [`check`](crate::check).
//!
//! The ledger is the only truth. The leader itself keeps only calls under way and what may be lost at any moment:
//! another context then reads the ledger and goes on.

mod aborts;
mod agenda;
mod calls;
mod housekeeping;
pub mod lease;
mod outcomes;
mod poller;
mod results;
mod sharing;
mod shelf;
pub(crate) mod showing;
mod telling;
mod turn;

use crate::backoff::Random;
use crate::check::{Check, CheckKey, Counter, Cx, Effects, Event, Live, Pending, Room, Runs, Space, State};
use crate::config::Config;
use crate::lead::lease::{Contender, Role};
use crate::store::hints::Inbox;
use crate::store::ledger::{Ledger, Store};
use crate::store::places::{self};
use crate::time::{Mono, Now, in_words};
use crate::wire::azure::Callback;
use crate::wire::call::{CallId, CallOutcome};
use aborts::Aborts;
use agenda::Agenda;
use calls::{Calls, Lane, Purpose};
use housekeeping::Housekeeping;
use poller::Poller;
use sharing::Sharing;
use shelf::{Shelf, Stored};
use showing::Showing;
use std::rc::Rc;
use std::time::Duration;
pub use turn::Output;
use turn::Turn;

/// Pause of a check after shared data has refused a change of it: its next call would be the one that it has just made.
const REFUSED_CHANGE: Duration = Duration::from_secs(10);

/// Maximum repeats of a step because another context wrote first.
const MAX_RACES: u32 = 100;

/// Maximum steps of one tick, besides those that answers cause, and maximum further steps after an answer. The rest
/// waits for the next tick or answer.
const MAX_STEPS: usize = 200;
const MAX_STEPS_AFTER_ANSWER: usize = 8;

/// Maximum records of older modules that are given a place in one tick.
const MAX_NOTED: usize = 512;

/// How long Testkube must be silent before the checks' logs say so.
const LONG_TROUBLE: Duration = Duration::from_secs(60);

/// Maximum delay of a call's start after its turn. A later start is dropped: what the turn knew is old.
pub const STALE: Duration = crate::wire::call::GRACE;

/// The leader's part of one root context.
pub struct Lead {
    config: Rc<Config>,
    contender: Contender,
    random: Random,
    leading: bool,
    brake_until: Mono,
    shelf: Shelf,
    agenda: Agenda,
    calls: Calls,
    poller: Poller,
    aborts: Aborts,
    runs: Runs,
    /// The hints seen so far.
    hints: Inbox,
    housekeeping: Housekeeping,
    showing: Showing,
    /// This process's part in the cluster store, if there is one.
    sharing: Option<Box<Sharing>>,
}

impl Lead {
    /// Creates the leader's part of a root context. `seed` is random: it names this context among the others.
    pub fn new(config: Rc<Config>, ledger: Ledger, seed: u64, configured_at: Mono) -> Lead {
        let mut random = Random::new(seed);
        let prefix = ledger.prefix();
        let shares = config.store.is_some();
        let contender = Contender::new(prefix, random.draw(), config.fingerprint, configured_at);
        Lead {
            config,
            contender,
            random,
            leading: false,
            brake_until: Mono(0),
            agenda: Agenda::none(ledger.clone()),
            calls: Calls::default(),
            poller: Poller::default(),
            aborts: Aborts::default(),
            runs: Runs::default(),
            hints: Inbox::new(prefix),
            housekeeping: Housekeeping::new(prefix, configured_at, shares),
            showing: Showing::default(),
            sharing: None,
            shelf: Shelf::new(ledger),
        }
    }

    /// Notes that this context serves requests, so it belongs to a worker.
    pub fn serves_requests(&mut self) {
        self.contender.is_worker = true;
    }

    /// Runs one tick, a second after the last.
    pub fn tick(&mut self, now: Now, store: &mut dyn Store) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        let pending = self.leading.then(|| self.shelf.count());
        match self.contender.tick(turn.store, now, pending) {
            Ok(Role::Leader { brake_until, suspects, new }) => {
                self.brake_until = brake_until;
                // A thread that stood still may have believed that it lost a lease that nobody has taken.
                self.leading = true;
                if new {
                    self.take_over(&mut turn, &suspects);
                }
                self.lead(&mut turn);
            }
            Ok(Role::Follower) => {
                if std::mem::replace(&mut self.leading, false) {
                    log::info!("another context leads now");
                }
                self.give_up_silent_calls(&mut turn);
            }
            Err(status) => {
                log::error!("shared data failed with status {}: this context cannot lead", status.0);
                self.leading = false;
            }
        }
        turn.out
    }

    /// Takes the outcome of a call. It is recorded whether this context still leads or not.
    pub fn answer(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        id: CallId,
        outcome: &CallOutcome,
    ) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        self.settle(&mut turn, id, outcome);
        turn.out
    }

    /// Takes a hint: looks at once. Nothing depends on it, because the next tick sees the hint as well.
    pub fn wake(&mut self, now: Now, store: &mut dyn Store) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        if self.leading && now.mono >= self.brake_until {
            if self.hear(&mut turn) {
                self.poller.hinted();
                self.poll(&mut turn);
            }
            self.start_others(&mut turn);
        }
        turn.out
    }

    /// Whether this call's outcome is still awaited.
    pub fn waits_for(&self, id: CallId) -> bool {
        self.calls.is_under_way(id)
    }

    /// Ends the context: frees the lease and logs what is left to others. Starts no call.
    pub fn end(&mut self, now: Now, store: &mut dyn Store) {
        if self.leading {
            log::info!("gives up the lead; pending checks: {}", self.shelf.count());
            self.shelf.pending().for_each(|(key, pending)| log::warn!("{}", pending.parting(key)));
        }
        self.leading = false;
        if let Err(status) = self.contender.release(store, now) {
            log::error!("the lease could not be freed (status {}): it expires by itself", status.0);
        }
    }

    fn take_over(&mut self, turn: &mut Turn<'_>, suspects: &[CheckKey]) {
        self.agenda.clear();
        self.poller = Poller::default();
        self.aborts.clear();
        self.runs = Runs::default();
        self.housekeeping.begin();
        let prefix = self.shelf.ledger().prefix();
        self.hints = Inbox::new(prefix);
        self.sharing = Sharing::begin(&self.config, &self.shelf, turn, &mut self.random);
        turn.out.push(Output::Listen);
        log::info!("leads");
        if turn.now.mono < self.brake_until {
            let wait = in_words(self.brake_until.since(turn.now.mono));
            log::warn!("previous leader's lease expired; waiting {wait} before the first call");
            turn.out.push(Output::Count(Counter::Fall));
        }
        self.housekeeping.move_old(turn.now.mono, turn.store, self.shelf.ledger());
        self.shelf.refresh_all(turn.store);
        for bucket in 0..usize::from(crate::store::ledger::BUCKETS) {
            self.changed(turn, bucket);
        }
        for key in suspects {
            self.step(turn, key, Event::Fell);
        }
    }

    fn lead(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        self.housekeeping.move_old_if_due(now, turn.store, self.shelf.ledger());
        for bucket in self.shelf.refresh(turn.store) {
            self.changed(turn, bucket);
        }
        self.give_up_silent_calls(turn);
        self.housekeeping.forget_ended(now, turn.store, &mut self.shelf);
        self.hear(turn);
        for bucket in self.housekeeping.count_places(now, turn.store, &mut self.shelf) {
            self.changed(turn, bucket);
        }
        self.note_places(turn);
        if self.sharing.is_none() && self.config.store.is_some() {
            self.sharing = Sharing::begin(&self.config, &self.shelf, turn, &mut self.random);
            if let Some(sharing) = &mut self.sharing {
                self.shelf.all().for_each(|record| sharing.touch(&record.key, &record.state, now));
            }
        }
        if let (Some(sharing), Some(shared)) = (&mut self.sharing, &self.config.store) {
            sharing.tick(shared, turn, &self.shelf);
            if sharing.drains() {
                self.brake_until = now.plus(LONG_TROUBLE);
            }
        }
        if now < self.brake_until {
            return self.start_others(turn);
        }
        self.calls.tick();
        self.runs.tick();
        self.poller.tick();
        self.step_due(turn, MAX_STEPS);
        self.poll(turn);
        if self.poller.turns(now, LONG_TROUBLE) {
            self.agenda.tell_all(now);
        }
        for key in self.agenda.to_tell(now) {
            self.tell(turn, &key);
        }
        self.start_others(turn);
        self.show(turn);
    }

    /// Takes over another context's changes of this bucket: new checks are due, removed ones forgotten.
    fn changed(&mut self, turn: &mut Turn<'_>, bucket: usize) {
        let now = turn.now.mono;
        let mut pending = Vec::new();
        for record in self.shelf.records(bucket) {
            match &record.state {
                State::Pending(_) => pending.push(record.key),
                State::Done(done) => {
                    self.showing.forget(bucket);
                    self.housekeeping.ended(&record.key, done.at.mono);
                    if let Some(sharing) = &mut self.sharing {
                        sharing.touch(&record.key, &record.state, now);
                    }
                }
            }
        }
        for key in self.agenda.keys_of(bucket) {
            if self.shelf.find(&key).is_none() {
                self.agenda.remove(&key);
            }
        }
        for key in pending {
            self.index(now, &key);
        }
    }

    /// Steps a check: stores what the step changed, then does what it asks for. If shared data refuses the change,
    /// nothing is done for the check until [`REFUSED_CHANGE`] has passed.
    fn step(&mut self, turn: &mut Turn<'_>, key: &CheckKey, event: Event<'_>) {
        let mut refused = None;
        for _ in 0..MAX_RACES {
            let Lead { config, contender, random, brake_until, shelf, agenda, calls, poller, .. } = self;
            let Some((seen, version)) = shelf.find_version(key) else { return agenda.remove(key) };
            let Some(tracked) = agenda.of(key, seen) else { return };
            let mut check = Check::new(*key, Box::new(seen.clone()), tracked.volatile.clone());
            let space = |room, callback: &Callback| space(calls, turn.now.mono, *brake_until, room, callback);
            let mut cx = Cx {
                now: turn.now,
                config,
                holder: contender.holder(),
                random,
                call: calls.name(),
                space: &space,
                trouble: &poller.trouble,
                log: &mut tracked.log,
            };
            let effects = check.step(&mut cx, event);
            let Check { durable, volatile, .. } = check;
            let next = match &effects.done {
                Some(done) => Some(State::Done(done.clone())),
                None => (*durable != *seen).then_some(State::Pending(durable)),
            };
            // The context whose write ends the check's place gives the place back.
            let left =
                seen.held().filter(|_| next.as_ref().is_some_and(|next| next.held().is_none())).cloned();
            let lane = calls::lane(&seen.callback);
            match next.map_or(Stored::Won, |next| shelf.commit(turn.store, key, version, next)) {
                Stored::Won => {
                    if let Some(place) = left {
                        places::give_back(turn.store, shelf.ledger(), &place);
                    }
                    tracked.volatile = volatile;
                    // A decision may follow soon, and waits for them.
                    let looks = matches!(event, Event::Read(..)) && tracked.log.may_have_results();
                    self.perform(turn, key, lane, effects);
                    if looks {
                        self.look_for_results(turn, key, false);
                    }
                    return;
                }
                Stored::Raced => {}
                Stored::Gone => return agenda.remove(key),
                Stored::Refused(error) => {
                    refused = Some(error.to_string());
                    break;
                }
            }
        }
        let (now, wait) = (turn.now.mono, in_words(REFUSED_CHANGE));
        let why = refused.as_deref().unwrap_or("other contexts wrote it all the time");
        log::error!("check {}: its record could not be changed: {why}; waiting {wait}", key.id());
        if let Some(tracked) = self.agenda.get_mut(key) {
            tracked.volatile.hold(now.plus(REFUSED_CHANGE));
        }
        self.index(now, key);
    }

    /// Does what a step asks for.
    fn perform(&mut self, turn: &mut Turn<'_>, key: &CheckKey, lane: Lane, effects: Effects) {
        for (level, line) in effects.says {
            log::log!(level, "{line}");
        }
        turn.out.extend(effects.counts.into_iter().map(Output::Count));
        if let Some((tag, executions)) = effects.aborts {
            let left_out = self.aborts.ask(turn.now.mono, &tag, executions);
            if left_out > 0 {
                log::warn!("{left_out} executions tagged {tag} are not aborted: there are too many");
            }
        }
        if let Some(done) = effects.done {
            self.show_end(turn, key, &done);
            // Its Secret has to say so.
            self.index(turn.now.mono, key);
            self.agenda.remove(key);
            return self.housekeeping.ended(key, done.at.mono);
        }
        if let Some(room) = effects.queue {
            self.calls.enqueue(room, lane.clone(), *key);
        }
        if let Some(call) = effects.call {
            let id = self.calls.take_name();
            if !self.leads(turn) {
                return self.step(turn, key, Event::NotStarted(id));
            }
            turn.start(
                &mut self.calls,
                id,
                call.request,
                Purpose::Check(*key, call.report),
                Some((call.room, lane)),
            );
        }
        self.index(turn.now.mono, key);
        // A check that has just had its turn gets no second one at once.
        self.agenda.delay_wake(key, turn.now.mono);
    }

    /// Notes when to look at a check next.
    fn index(&mut self, now: Mono, key: &CheckKey) {
        let Lead { shelf, agenda, sharing, poller, showing, .. } = self;
        let Some(state) = shelf.state(key) else { return };
        if let Some(sharing) = sharing {
            sharing.touch(key, state, now);
        }
        let State::Pending(seen) = state else { return };
        let bucket = agenda.place(key);
        let Some(tracked) = agenda.of(key, seen) else { return };
        tracked.volatile.renew(seen);
        let live = Live { log: &tracked.log, volatile: &tracked.volatile, trouble: &poller.trouble };
        showing.note(bucket, &mut tracked.written, &live, seen, now);
        let times = tracked.volatile.times(seen, now);
        let tells = tracked.log.wakes(now).map(|at| at.max(tracked.volatile.held_until()));
        agenda.set_times(key, times, tells);
    }

    /// Whether this context leads at this moment. Reads the lease, as is done before each call.
    fn leads(&mut self, turn: &mut Turn<'_>) -> bool {
        self.leading = self.contender.leads(turn.store, turn.now).unwrap_or(false);
        self.leading
    }

    /// Steps the checks that have waited for room, then those whose time has come, at most `most` in all: a callback
    /// may keep its thread for a few milliseconds only. Results of tests come last, and take no step of theirs.
    #[inline(never)]
    fn step_due(&mut self, turn: &mut Turn<'_>, most: usize) {
        self.step_checks(turn, most);
        self.look_for_more_results(turn);
    }

    fn step_checks(&mut self, turn: &mut Turn<'_>, most: usize) {
        let now = turn.now.mono;
        for _ in 0..most {
            if !self.leading || now < self.brake_until {
                return;
            }
            match self.calls.next_queued(now) {
                Some((room @ (Room::Telling | Room::Steps), key)) => {
                    if let Some(tracked) = self.agenda.get_mut(&key) {
                        tracked.log.take_room(room);
                    }
                    self.tell(turn, &key);
                }
                Some((_, key)) => self.step(turn, &key, Event::Due),
                None if let Some(key) = self.runs.next_turn() => {
                    if let Some(tracked) = self.agenda.get_mut(&key) {
                        tracked.log.take_turn();
                    }
                    self.tell(turn, &key);
                }
                None => match self.agenda.first_due(now) {
                    Some(key) => self.step(turn, &key, Event::Due),
                    None => return,
                },
            }
        }
    }

    /// Takes new hints: they may concern other replicas' checks too. Returns whether they concern this process's.
    fn hear(&mut self, turn: &mut Turn<'_>) -> bool {
        let tags = self.hints.news(turn.store);
        if let Some(sharing) = &mut self.sharing {
            sharing.ring(&tags);
        }
        self.hint(turn.now.mono, &tags)
    }

    /// Brings forward the next reading of the checks that wait for the tags with these hashes. Returns whether there are any.
    fn hint(&mut self, now: Mono, tags: &[u64]) -> bool {
        let keys = self.shelf.hinted(now, self.config.checks.lookback, tags);
        for key in &keys {
            if let Some(tracked) = self.agenda.get_mut(key) {
                tracked.volatile.hint(now);
            }
            self.index(now, key);
        }
        !keys.is_empty()
    }

    /// Takes places for checks whose records note none, because an older module wrote them.
    fn note_places(&mut self, turn: &mut Turn<'_>) {
        for (key, place) in self.shelf.unnoted().take(MAX_NOTED).collect::<Vec<_>>() {
            if let Err(e) = places::take_beyond(turn.store, self.shelf.ledger(), &place) {
                log::error!("check {}: it counts towards no limit: {e}", key.id());
                continue;
            }
            self.step(turn, &key, Event::Placed(&place));
            if self.shelf.find(&key).and_then(Pending::held) != Some(&place) {
                places::give_back(turn.store, self.shelf.ledger(), &place);
            }
        }
    }
}

/// Whether a call may be started; none while the leader brakes.
fn space(calls: &Calls, now: Mono, brake_until: Mono, room: Room, callback: &Callback) -> Space {
    match now < brake_until {
        true => Space::Quiet(brake_until),
        false => calls.space(now, room, callback),
    }
}

#[cfg(test)]
mod tests;
