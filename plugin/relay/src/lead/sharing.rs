//! The leader's part in the cluster store: this process's membership, the Secrets of its checks, and take-overs.

use super::aborts::Waits;
use super::agenda::Agenda;
use super::housekeeping::Housekeeping;
use super::shelf::Shelf;
use super::turn::Turn;
use crate::backoff::Random;
use crate::check::{CheckKey, Counter, Record, Reread, State};
use crate::config::{ClusterStore, Config};
use crate::lead::Output;
use crate::store::cluster::adopter::{Adopter, AdopterCall};
use crate::store::cluster::bells::{BellCall, Bells};
use crate::store::cluster::keeper::{Keeper, KeeperCall};
use crate::store::cluster::learned::Learned;
use crate::store::cluster::lease::{NOBODY, Replica};
use crate::store::cluster::membership::{LeaseCall, Membership};
use crate::store::cluster::rights::Rights;
use crate::store::cluster::space;
use crate::store::cluster::standing::Standing;
use crate::store::cluster::tags::Tags;
use crate::store::ledger::Change;
use crate::store::places;
use crate::tag::Tag;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Request};
use std::collections::VecDeque;
use std::time::Duration;

/// Interval between log lines about a fault that lasts.
const TELL: Duration = Duration::from_secs(60);

const NOT_KEPT: &str = "Kubernetes's API server does not keep this replica's Lease";

/// A call of the cluster store.
pub(super) enum SharingCall {
    /// About a Lease.
    Lease(LeaseCall),
    /// About the Secret of one of this replica's checks.
    Keeper(CheckKey, KeeperCall),
    /// About the adoption of a check.
    Adopter(AdopterCall),
    /// Whether another replica's check waits for a tag.
    Tag(Tag),
    /// About bells.
    Bell(BellCall),
    /// About its own rights.
    Rights,
}

/// The leader's parts that an answer of the cluster store may change.
pub(super) struct Hands<'a> {
    pub(super) shelf: &'a mut Shelf,
    pub(super) agenda: &'a mut Agenda,
    pub(super) housekeeping: &'a mut Housekeeping,
}

/// This process among the replicas.
pub(super) struct Sharing {
    membership: Membership,
    keeper: Keeper,
    adopter: Adopter,
    tags: Tags,
    bells: Bells,
    rights: Rights,
    /// What the streams know: whether the Lease exists, and the fault.
    said: (bool, String),
    /// When a fault was last told, while there is one.
    told: Option<Mono>,
    /// Calls to start.
    ready: VecDeque<(SharingCall, Request)>,
}

impl Sharing {
    /// This process's part, if the checks are shared; draws its id, if it has none yet. Without a store in the configuration,
    /// says so of a process that had one: then its streams accept nothing into the store any more.
    pub(super) fn begin(
        config: &Config,
        shelf: &Shelf,
        turn: &mut Turn<'_>,
        random: &mut Random,
    ) -> Option<Box<Sharing>> {
        let (prefix, store) = (shelf.ledger().prefix(), &mut *turn.store);
        let standing = match &config.store {
            Some(_) => Standing::change(store, prefix, &format!("{:016x}", random.draw()), |_| ()),
            None => Standing::read(store, prefix).map(Option::unwrap_or_default),
        };
        let standing = match standing {
            Ok(standing) => standing,
            Err(status) => {
                log::error!(
                    "shared data failed with status {}: checks are kept in this process alone",
                    status.0
                );
                return None;
            }
        };
        let Some(shared) = &config.store else {
            if standing.has_lease {
                log::warn!(
                    "replica {}: the configuration has no `store` any more: other replicas adopt its checks, and Secrets that nobody adopts stay",
                    standing.id
                );
                let _said_again_at_the_next_tick =
                    Standing::change(store, prefix, "", |standing| standing.has_lease = false);
            }
            return None;
        };
        let replica = Replica::new(prefix, &standing.id, &shared.pod, &shared.sealing);
        log::info!(
            "replica {} of pod `{}`: checks are kept in the namespace {}",
            replica.id,
            replica.pod,
            shared.server.namespace
        );
        Some(Box::new(Sharing {
            membership: Membership::new(replica, !standing.has_lease),
            keeper: Keeper::default(),
            adopter: Adopter::default(),
            tags: Tags::default(),
            bells: Bells::default(),
            rights: Rights::default(),
            said: (standing.has_lease, standing.fault),
            told: None,
            ready: VecDeque::new(),
        }))
    }

    /// Notes that a check's record has changed, and may have to be written.
    pub(super) fn touch(&mut self, key: &CheckKey, state: &State, now: Mono) {
        let is_ended = matches!(state, State::Done(_));
        // A Secret of an ended check is to be deleted.
        let is_due = if is_ended { state.kept().is_some() } else { !state.is_written() };
        if is_due || self.membership.drains() {
            self.keeper.touch(key, now);
        }
    }

    /// Once a second: its own Lease, the others', and whether this process is to end.
    pub(super) fn tick(&mut self, shared: &ClusterStore, turn: &mut Turn<'_>, shelf: &Shelf) {
        let standing = Standing::read(turn.store, shelf.ledger().prefix()).ok().flatten().unwrap_or_default();
        // Another context may have written it since.
        self.said = (standing.has_lease, standing.fault);
        self.publish(shared, turn, shelf);
        if standing.drains && !self.membership.drains() {
            log::info!("this replica drains: it hands over {} checks to the others", shelf.pending().count());
            self.membership.drain();
            self.keeper.give_up();
            shelf.pending().for_each(|(key, _)| self.keeper.touch(key, turn.now.mono));
        }
        let now = turn.now.mono;
        let is_short = self.keeper.is_full(now) || space::is_short(turn.store, shelf.ledger().prefix(), now);
        let records = shelf.all().map(|record| (&record.key, &record.state));
        self.keeper.note_space(turn.now.mono, is_short, records);
        let calls = self.membership.due(turn.now, &shared.server);
        self.ready.extend(calls.into_iter().map(|(call, request)| (SharingCall::Lease(call), request)));
        let rights = self.rights.due(turn.now.mono, &shared.server);
        self.ready.extend(rights.map(|request| (SharingCall::Rights, request)));
        for (owner, checks) in self.adopter.take_told() {
            let (owner, why) = match owner.as_str() {
                NOBODY => ("a replica that ends".to_owned(), ""),
                id => (format!("replica {id}"), ": its Lease has not changed for 20 s, or is gone"),
            };
            log::info!("adopted {checks} checks of {owner}{why}");
        }
    }

    /// Whether this process is about to end: it decides and sends nothing more.
    pub(super) fn drains(&self) -> bool {
        self.membership.drains()
    }

    /// Whether another replica's check waits for this tag.
    pub(super) fn waits(&mut self, now: Mono, tag: &Tag) -> Waits {
        match self.tags.is_awaited(now, tag) {
            Some(true) => Waits::Elsewhere,
            Some(false) => Waits::Nobody,
            None => Waits::Unknown,
        }
    }

    /// Takes events of Testkube for the tags with these hashes: their checks may be another replica's.
    pub(super) fn ring(&mut self, tags: &[u64]) {
        self.bells.hear(tags);
    }

    /// The hashes of tags for which another replica has heard an event since it was last asked.
    pub(super) fn take_rung(&mut self) -> Vec<u64> {
        self.bells.take_rung()
    }

    /// The next call to start.
    pub(super) fn next(
        &mut self,
        now: Now,
        shared: &ClusterStore,
        shelf: &Shelf,
    ) -> Option<(SharingCall, Request)> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        if !self.membership.has_lease() {
            return None;
        }
        let replica = self.membership.replica();
        if let Some((key, call, request)) =
            self.keeper.next(now, replica, &shared.server, &|key| shelf.state(key))
        {
            return Some((SharingCall::Keeper(key, call), request));
        }
        if let Some((tag, request)) = self.tags.next(replica, &shared.server) {
            return Some((SharingCall::Tag(tag), request));
        }
        if let Some((call, request)) = self.bells.next(now.mono, &self.membership, &shared.server) {
            return Some((SharingCall::Bell(call), request));
        }
        let held = |key: &CheckKey| shelf.state(key);
        let (call, request) = self.adopter.next(now.mono, &self.membership, &shared.server, &held)?;
        Some((SharingCall::Adopter(call), request))
    }

    /// Takes the outcome of a call. Returns the check to step, if its record has changed.
    pub(super) fn answer(
        &mut self,
        shared: &ClusterStore,
        turn: &mut Turn<'_>,
        hands: &mut Hands<'_>,
        call: SharingCall,
        outcome: &CallOutcome,
    ) -> Option<CheckKey> {
        let (now, server) = (turn.now, &shared.server);
        match call {
            SharingCall::Lease(call) => {
                let was_away = self.membership.fault().is_some();
                let calls = self.membership.answer(now, server, call, outcome);
                if was_away && self.membership.fault().is_none() {
                    self.keeper.retry(now.mono);
                }
                self.ready
                    .extend(calls.into_iter().map(|(call, request)| (SharingCall::Lease(call), request)));
                if let Some(bells) = self.membership.take_bells() {
                    self.bells.listed(now.mono, self.membership.replica(), bells);
                }
                self.publish(shared, turn, hands.shelf);
                self.tell(now.mono);
                None
            }
            SharingCall::Rights => {
                self.rights.answer(now.mono, server, outcome);
                None
            }
            SharingCall::Bell(call) => {
                self.bells.answer(now.mono, &self.membership, &call, outcome);
                None
            }
            SharingCall::Tag(tag) => {
                self.tags.answer(now.mono, self.membership.replica(), &tag, outcome);
                None
            }
            SharingCall::Keeper(key, call) => {
                let held = hands.shelf.state(&key);
                let replica = self.membership.replica();
                let (learned, next) = self.keeper.answer(now, replica, server, (&key, call), outcome, held);
                self.ready.extend(next.map(|(call, request)| (SharingCall::Keeper(key, call), request)));
                turn.out.push(Output::Count(Counter::Stored));
                learned.and_then(|learned| self.learn(turn, hands, &key, &learned))
            }
            SharingCall::Adopter(call) => {
                let knows = |key: &CheckKey| hands.shelf.state(key).is_some();
                let taken = self.adopter.answer(now, &self.membership, server, call, outcome, &knows);
                self.ready.extend(taken.call.map(|(call, request)| (SharingCall::Adopter(call), request)));
                if taken.adopted {
                    turn.out.push(Output::Count(Counter::Adopted));
                }
                if let Some((began, listed)) = taken.swept {
                    let records = hands.shelf.all().map(|record| (&record.key, &record.state));
                    self.keeper.swept(now.mono, (began, &listed), records);
                }
                let (key, state) = taken.check?;
                self.keeper.touch(&key, now.mono);
                take_in(turn, hands, key, &state)
            }
        }
    }

    /// Tells the streams and the probes whether its own Lease is kept, and if not, why.
    fn publish(&mut self, shared: &ClusterStore, turn: &mut Turn<'_>, shelf: &Shelf) {
        let fault = self.membership.fault().map(|fault| format!("{NOT_KEPT}: {fault}"));
        let fault = fault.or_else(|| self.rights.fault(&shared.server)).unwrap_or_default();
        let said = (self.membership.has_lease(), fault);
        if said == self.said {
            return;
        }
        let (prefix, id) = (shelf.ledger().prefix(), &self.membership.replica().id);
        let changed = Standing::change(turn.store, prefix, id, |standing| {
            (standing.has_lease, standing.fault) = said.clone();
        });
        match changed {
            Ok(_) => self.said = said,
            Err(status) => log::error!("shared data failed with status {}: no check is accepted", status.0),
        }
    }

    /// Logs the faults of the API server, at most one a minute, and their end.
    fn tell(&mut self, now: Mono) {
        match (self.membership.fault(), self.told) {
            (Some(fault), None) => {
                log::error!("{NOT_KEPT}: {fault}");
                self.told = Some(now);
            }
            (Some(fault), Some(told)) if now.since(told) >= TELL => {
                log::error!("Kubernetes's API server still does not keep this replica's Lease: {fault}");
                self.told = Some(now);
            }
            (None, Some(_)) => {
                log::info!("Kubernetes's API server keeps this replica's Lease");
                self.told = None;
            }
            _ => {}
        }
    }

    /// Applies what was learned to a record.
    fn learn(
        &mut self,
        turn: &mut Turn<'_>,
        hands: &mut Hands<'_>,
        key: &CheckKey,
        learned: &Learned,
    ) -> Option<CheckKey> {
        let now = turn.now.mono;
        let replica = self.membership.replica();
        let changed = hands.shelf.change(turn.store, key, |found| {
            let Some(record) = found else { return Change::Keep(None) };
            let left = record.state.held().cloned();
            match learned.apply(&record.state, now, replica) {
                Reread::Leaves => Change::Remove(Some(left)),
                Reread::Becomes(state) => {
                    let left = left.filter(|_| state.held().is_none());
                    Change::Put(Box::new(Record { key: *key, state: *state }), Some(left))
                }
            }
        });
        match changed {
            Ok(None) => return None,
            Ok(Some(left)) => {
                if let Some(place) = left {
                    places::give_back(turn.store, hands.shelf.ledger(), &place);
                }
            }
            Err(error) => {
                log::error!("check {}: its record could not be changed: {error}", key.id());
                self.keeper.touch(key, now);
                return None;
            }
        }
        match hands.shelf.state(key) {
            None => {
                log::info!("check {}: another replica has it now, or has ended it", key.id());
                hands.agenda.remove(key);
                None
            }
            Some(State::Done(done)) => {
                hands.housekeeping.ended(key, done.at.mono);
                hands.agenda.remove(key);
                None
            }
            Some(State::Pending(_)) => {
                if let Some(tracked) = hands.agenda.get_mut(key) {
                    tracked.volatile.stored();
                }
                Some(*key)
            }
        }
    }
}

/// Puts a check that this process has taken over into its ledger, unless it is there.
fn take_in(turn: &mut Turn<'_>, hands: &mut Hands<'_>, key: CheckKey, state: &State) -> Option<CheckKey> {
    let put = hands.shelf.change(turn.store, &key, |found| match found.map(|record| &record.state) {
        Some(State::Pending(_)) => Change::Keep(false),
        _ => Change::Put(Box::new(Record { key, state: state.clone() }), true),
    });
    match (put, state) {
        (Ok(true), State::Pending(_)) => Some(key),
        (Ok(true), State::Done(done)) => {
            hands.housekeeping.ended(&key, done.at.mono);
            None
        }
        (Ok(false), _) => None,
        // Its Secret names this process: the next sweep finds it.
        (Err(error), _) => {
            log::error!("check {}: it was adopted, but {error}", key.id());
            None
        }
    }
}
