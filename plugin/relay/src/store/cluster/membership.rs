//! The membership of one replica: its own Lease, and what it observes of the others'.
//!
//! Without I/O: [`Membership::due`] returns the calls to the API server, [`Membership::answer`] takes their outcomes.

pub use super::lease::Replica;
use super::lease::{Bell, Word};
use super::peers::Peers;
use crate::hash::fnv1a;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::kubernetes::{self, ApiAnswer, LeaseBody, ListPage, Server, StoredObject, Version};
use std::time::Duration;

/// Interval between renewals of its own Lease.
const RENEWAL: Duration = Duration::from_secs(5);

/// Minimum interval between the beginnings of lists of all Leases, and pause after a failed call. Ticks come once a second, one a
/// little early: each has its list.
const LOOK: Duration = Duration::from_millis(900);

/// Maximum age of the last renewal of a replica that adopts checks: later, the others may take it for dead.
const FRESH: Duration = Duration::from_secs(10);

/// Maximum pause that an answer may ask for: without renewals the others take this replica for dead.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Timeout of these calls. A lost answer delays the next call by this much.
const TIMEOUT: Duration = Duration::from_secs(4);

/// One replica's membership.
pub struct Membership {
    replica: Replica,
    own: Own,
    /// When the last successful renewal was sent.
    renewed: Option<Mono>,
    /// Number of renewals sent.
    renewals: u64,
    /// Time of the next call about its own Lease.
    next: Mono,
    drains: bool,
    /// Whether this process has had no Lease yet: those with its pod's name are its predecessors'.
    is_starting: bool,
    /// Whether its predecessors are known.
    has_looked: bool,
    peers: Peers,
    /// Time of the next list; `None` while one is under way.
    look: Option<Mono>,
    /// When the list that is under way began, and the last that was answered.
    looks: Mono,
    listed: Option<Mono>,
    /// The bells of the last list, until they are taken.
    bells: Option<Vec<Bell>>,
    /// The fault of the last call that failed, until a renewal succeeds.
    fault: Option<Fault>,
}

/// Its own Lease as far as it is known.
enum Own {
    /// Nothing is known: read it.
    Unknown,
    /// It does not exist: create it.
    Missing,
    /// It exists in this version.
    Held(Version),
    /// A call about it is under way.
    Asked,
}

/// A call to the API server.
pub enum LeaseCall {
    /// Reads its own Lease.
    Read,
    /// Writes it.
    Write {
        /// When the call was sent.
        sent: Mono,
        /// The version that it replaces; `None` for a creation.
        replaces: Option<Version>,
        /// Whether it says that the process drains.
        drains: bool,
    },
    /// Lists all Leases; with those of the earlier pages.
    List(Leases),
}

/// The Leases of a list.
#[derive(Default)]
pub struct Leases {
    /// Those of the other replicas.
    words: Vec<Word>,
    bells: Vec<Bell>,
}

impl Membership {
    /// The membership of a replica that knows nobody yet. `is_starting`: this process has had no Lease.
    pub fn new(replica: Replica, is_starting: bool) -> Membership {
        Membership {
            replica,
            // A new process has a new id.
            own: if is_starting { Own::Missing } else { Own::Unknown },
            renewed: None,
            renewals: 0,
            next: Mono(0),
            drains: false,
            is_starting,
            has_looked: false,
            peers: Peers::default(),
            look: Some(Mono(0)),
            looks: Mono(0),
            listed: None,
            bells: None,
            fault: None,
        }
    }

    /// The calls that are due.
    pub fn due(&mut self, now: Now, server: &Server) -> Vec<(LeaseCall, Request)> {
        let mut calls = Vec::new();
        if self.look.is_some_and(|at| at <= now.mono) {
            (self.look, self.looks) = (None, now.mono);
            calls.push((LeaseCall::List(Leases::default()), self.list(server, None)));
        }
        if self.next <= now.mono {
            calls.extend(self.own_call(now, server));
        }
        calls
    }

    fn list(&self, server: &Server, after: Option<&ListPage<LeaseBody>>) -> Request {
        server.list(&self.replica.selector(), after, TIMEOUT)
    }

    fn own_call(&mut self, now: Now, server: &Server) -> Option<(LeaseCall, Request)> {
        let replaces = match std::mem::replace(&mut self.own, Own::Asked) {
            Own::Unknown => {
                return Some((LeaseCall::Read, server.get::<LeaseBody>(&self.replica.lease_name(), TIMEOUT)));
            }
            Own::Missing if self.is_starting && !self.has_looked => {
                self.own = Own::Missing;
                return None;
            }
            Own::Missing => None,
            Own::Held(version) => Some(version),
            Own::Asked => return None,
        };
        self.renewals = self.renewals.wrapping_add(1);
        let lease = self.replica.lease(now.wall, self.renewals, self.drains);
        let request = match &replaces {
            Some(version) => server.update(version, &lease, TIMEOUT),
            None => server.create(&lease, TIMEOUT),
        };
        Some((LeaseCall::Write { sent: now.mono, replaces, drains: self.drains }, request))
    }

    /// Takes the outcome of a call. Returns the calls that are due after it.
    pub fn answer(
        &mut self,
        now: Now,
        server: &Server,
        ask: LeaseCall,
        outcome: &CallOutcome,
    ) -> Vec<(LeaseCall, Request)> {
        match ask {
            LeaseCall::Read => self.read(now.mono, kubernetes::stored(outcome)),
            LeaseCall::Write { sent, replaces, drains } => {
                let answer = match &replaces {
                    None => kubernetes::created(outcome),
                    Some(_) => kubernetes::stored(outcome),
                };
                self.written(now.mono, sent, replaces, answer);
                if self.drains && !drains {
                    self.next = now.mono;
                }
            }
            LeaseCall::List(leases) => {
                if let Some((leases, page)) = self.listed(now.mono, leases, kubernetes::listed(outcome)) {
                    return vec![(LeaseCall::List(leases), self.list(server, Some(&page)))];
                }
            }
        }
        self.due(now, server)
    }

    fn read(&mut self, now: Mono, answer: ApiAnswer<StoredObject<LeaseBody>>) {
        (self.own, self.next) = match answer {
            ApiAnswer::Done(lease) => (Own::Held(lease.version), now),
            ApiAnswer::Missing => {
                self.renewed = None;
                // The list shows the predecessors.
                self.look = self.look.map(|look| look.min(now));
                (Own::Missing, now)
            }
            answer => (Own::Unknown, self.failed(now, answer)),
        };
    }

    fn written(
        &mut self,
        now: Mono,
        sent: Mono,
        replaces: Option<Version>,
        answer: ApiAnswer<StoredObject<LeaseBody>>,
    ) {
        (self.own, self.next) = match answer {
            ApiAnswer::Done(lease) => {
                (self.renewed, self.is_starting, self.fault) = (Some(sent), false, None);
                (Own::Held(lease.version), sent.plus(RENEWAL))
            }
            answer @ ApiAnswer::Later(..) => {
                let next = self.failed(now, answer);
                (replaces.map_or(Own::Missing, Own::Held), next)
            }
            // It was deleted by hand, an earlier answer was lost, or this write may have been done.
            answer => (Own::Unknown, self.failed(now, answer)),
        };
    }

    /// Notes a failed call. Returns when to make the next one: never at once, because a server in trouble fails at once.
    fn failed<T>(&mut self, now: Mono, answer: ApiAnswer<T>) -> Mono {
        let pause = match &answer {
            ApiAnswer::Later(_, Some(pause)) => LOOK.max(*pause).min(MAX_PAUSE),
            _ => LOOK,
        };
        self.fault = answer.fault().or(self.fault.take());
        now.plus(pause)
    }

    /// Takes a page of a list. Returns it with the Leases so far if more pages follow.
    fn listed(
        &mut self,
        now: Mono,
        mut leases: Leases,
        answer: ApiAnswer<ListPage<LeaseBody>>,
    ) -> Option<(Leases, ListPage<LeaseBody>)> {
        let page = match answer {
            ApiAnswer::Done(page) => page,
            answer => {
                self.look = Some(self.failed(now, answer));
                return None;
            }
        };
        leases.bells.extend(page.items.iter().filter_map(Bell::of));
        leases.words.extend(page.items.iter().filter_map(Word::of).filter(|word| word.id != self.replica.id));
        if page.next.is_some() {
            return Some((leases, page));
        }
        let is_first = self.is_starting && !self.has_looked && matches!(self.own, Own::Missing);
        self.has_looked |= is_first;
        let pod = is_first.then_some(self.replica.pod.as_str());
        let renews = self.renewed.is_some_and(|renewed| now.since(renewed) <= FRESH);
        self.peers.list(now, leases.words.into_iter(), pod, renews);
        self.bells = Some(leases.bells);
        (self.look, self.listed) = (Some(self.looks.plus(LOOK)), Some(self.looks));
        None
    }

    /// Whether this replica may accept and adopt checks: it knows the others, its own Lease exists, and is so fresh that
    /// nobody takes it for dead.
    pub fn is_fresh(&self, now: Mono) -> bool {
        let is_renewed = self.renewed.is_some_and(|renewed| now.since(renewed) <= FRESH);
        !self.drains && is_renewed && self.peers.are_known()
    }

    /// Tells the others that this process is about to end, and accepts and adopts no more checks.
    pub fn drain(&mut self) {
        self.drains = true;
        self.next = Mono(0);
    }

    /// This replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether its Lease exists: without one the others adopt what it accepts.
    pub fn has_lease(&self) -> bool {
        self.renewed.is_some()
    }

    /// Whether it has said that it is about to end.
    pub fn drains(&self) -> bool {
        self.drains
    }

    /// Whether a list of all Leases that began after this time was answered.
    pub(super) fn has_listed_since(&self, at: Mono) -> bool {
        self.listed.is_some_and(|began| began > at)
    }

    /// Whether this id is that of a replica with a Lease.
    pub(super) fn knows(&self, id: &str) -> bool {
        id == self.replica.id || self.peers.has(id)
    }

    /// Whether this process has taken the place of a replica, so that the others do not know yet that it is dead.
    pub(super) fn is_predecessor(&self, id: &str) -> bool {
        self.peers.is_predecessor(id)
    }

    /// Whether another replica lives.
    pub(super) fn has_peers(&self) -> bool {
        self.peers.living().next().is_some()
    }

    /// Whether another replica has this id, and lives.
    pub(super) fn lives(&self, id: &str) -> bool {
        self.peers.lives(id)
    }

    /// The bells of the last list, once.
    pub(crate) fn take_bells(&mut self) -> Option<Vec<Bell>> {
        self.bells.take()
    }

    /// Whether another replica is about to end, and gives its checks up.
    pub(super) fn has_draining_peer(&self) -> bool {
        self.peers.living().any(|word| word.drains)
    }

    /// The name and version of another replica's Lease.
    pub(super) fn lease_of(&self, id: &str) -> Option<(String, &Version)> {
        self.peers.get(id).map(|word| (word.name.clone(), &word.version))
    }

    /// The ids of dead replicas, whose checks are to be adopted.
    pub fn dead(&self) -> impl Iterator<Item = &str> {
        self.peers.dead()
    }

    /// The newest record format that every living replica reads.
    pub fn format(&self) -> u8 {
        let formats = self.peers.living().map(|word| word.format.unwrap_or_default());
        formats.min().map_or(self.replica.format, |format| format.min(self.replica.format))
    }

    /// Whether this replica is the first heir of a dead replica's check (rendezvous hashing: all survivors agree on the heir).
    pub fn is_first_heir(&self, check: &str) -> bool {
        let weight = |id: &str| fnv1a([id, "/", check].concat().as_bytes());
        let own = (weight(&self.replica.id), self.replica.id.as_str());
        let heirs = self.peers.living().filter(|word| !word.drains);
        !self.drains && heirs.map(|word| (weight(&word.id), word.id.as_str())).all(|other| other < own)
    }

    /// The fault of the last call that failed, until a renewal succeeds.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
mod tests;
