//! The membership of one replica: its own Lease, and what it observes of the others'.
//!
//! Without I/O: [`Members::due`] returns the calls to the API server, [`Members::answer`] takes their outcomes.

pub use super::lease::Replica;
use super::lease::Word;
use super::observed::Observed;
use crate::hash::fnv1a;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::kubernetes::{self, Answer, Lease, Page, Server, Stored, Version};
use std::time::Duration;

/// Intervals between renewals of the own Lease, and between lists of all Leases.
const RENEWAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);

/// Maximum age of the last renewal of a replica that adopts checks: later, the others may take it for dead.
const FRESH: Duration = Duration::from_secs(10);

/// Timeout of these calls. A lost answer delays the next call by this much.
const TIMEOUT: Duration = Duration::from_secs(4);

/// One replica's membership.
pub struct Members {
    replica: Replica,
    own: Own,
    /// When the last successful renewal was sent.
    renewed: Option<Mono>,
    /// Number of renewals sent.
    renewals: u64,
    /// Time of the next call about the own Lease.
    next: Mono,
    drains: bool,
    /// Whether this process has had no Lease yet: those with its pod's name are its predecessors'.
    is_starting: bool,
    /// Whether its predecessors are known.
    has_looked: bool,
    observed: Observed,
    /// Time of the next list; `None` while one is under way.
    look: Option<Mono>,
    /// The fault of the last call that failed, until a renewal succeeds.
    fault: Option<Fault>,
}

/// The own Lease as far as it is known.
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
pub enum Ask {
    /// Reads the own Lease.
    Read,
    /// Writes it.
    Write {
        /// When the call was sent.
        sent: Mono,
        /// The version that it replaces; `None` for a creation.
        replaces: Option<Version>,
    },
    /// Lists all Leases; with those of the earlier pages.
    List(Vec<Word>),
}

impl Members {
    /// The membership of a replica that knows nobody yet. `is_starting`: this process has had no Lease.
    pub fn new(replica: Replica, is_starting: bool) -> Members {
        Members {
            replica,
            own: Own::Unknown,
            renewed: None,
            renewals: 0,
            next: Mono(0),
            drains: false,
            is_starting,
            has_looked: false,
            observed: Observed::default(),
            look: Some(Mono(0)),
            fault: None,
        }
    }

    /// The calls that are due.
    pub fn due(&mut self, now: Now, server: &Server) -> Vec<(Ask, Request)> {
        let mut calls = Vec::new();
        if self.look.is_some_and(|at| at <= now.mono) {
            self.look = None;
            calls.push((Ask::List(Vec::new()), self.list(server, None)));
        }
        if self.next <= now.mono {
            calls.extend(self.own_call(now, server));
        }
        calls
    }

    fn list(&self, server: &Server, after: Option<&Page<Lease>>) -> Request {
        server.list(&self.replica.selector(), after, TIMEOUT)
    }

    fn own_call(&mut self, now: Now, server: &Server) -> Option<(Ask, Request)> {
        let replaces = match std::mem::replace(&mut self.own, Own::Asked) {
            Own::Unknown => {
                return Some((Ask::Read, server.get::<Lease>(&self.replica.lease_name(), TIMEOUT)));
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
        Some((Ask::Write { sent: now.mono, replaces }, request))
    }

    /// Takes the outcome of a call. Returns the calls that are due after it.
    pub fn answer(
        &mut self,
        now: Now,
        server: &Server,
        ask: Ask,
        outcome: &CallOutcome,
    ) -> Vec<(Ask, Request)> {
        match ask {
            Ask::Read => self.read(now.mono, kubernetes::stored(outcome)),
            Ask::Write { sent, replaces: None } => {
                self.written(now.mono, sent, None, kubernetes::created(outcome))
            }
            Ask::Write { sent, replaces } => {
                self.written(now.mono, sent, replaces, kubernetes::stored(outcome))
            }
            Ask::List(words) => {
                if let Some(page) = self.listed(now.mono, words, kubernetes::listed(outcome)) {
                    let (words, page) = page;
                    return vec![(Ask::List(words), self.list(server, Some(&page)))];
                }
            }
        }
        self.due(now, server)
    }

    fn read(&mut self, now: Mono, answer: Answer<Stored<Lease>>) {
        (self.own, self.next) = match answer {
            Answer::Done(lease) => (Own::Held(lease.version), now),
            Answer::Missing => {
                // The list shows the predecessors.
                self.look = self.look.map(|look| look.min(now));
                (Own::Missing, now)
            }
            answer => {
                self.fault = answer.fault();
                (Own::Unknown, now.plus(LOOK))
            }
        };
    }

    fn written(&mut self, now: Mono, sent: Mono, replaces: Option<Version>, answer: Answer<Stored<Lease>>) {
        (self.own, self.next) = match answer {
            Answer::Done(lease) => {
                (self.renewed, self.is_starting, self.fault) = (Some(sent), false, None);
                (Own::Held(lease.version), sent.plus(RENEWAL))
            }
            // It was deleted by hand, or an earlier answer was lost.
            Answer::Exists | Answer::Conflict | Answer::Missing => (Own::Unknown, now),
            Answer::Unknown(fault) => {
                self.fault = Some(fault);
                (Own::Unknown, now)
            }
            answer => {
                self.fault = answer.fault();
                (replaces.map_or(Own::Missing, Own::Held), now.plus(LOOK))
            }
        };
    }

    /// Takes a page of a list. Returns it with the words so far if more pages follow.
    fn listed(
        &mut self,
        now: Mono,
        mut words: Vec<Word>,
        answer: Answer<Page<Lease>>,
    ) -> Option<(Vec<Word>, Page<Lease>)> {
        let page = match answer {
            Answer::Done(page) => page,
            answer => {
                self.fault = answer.fault();
                self.look = Some(now.plus(LOOK));
                return None;
            }
        };
        words.extend(page.items.iter().filter_map(Word::of).filter(|word| word.id != self.replica.id));
        if page.next.is_some() {
            return Some((words, page));
        }
        let is_first = self.is_starting && matches!(self.own, Own::Missing);
        self.has_looked |= is_first;
        let pod = is_first.then_some(self.replica.pod.as_str());
        self.observed.list(now, words.into_iter(), pod);
        self.look = Some(now.plus(LOOK));
        None
    }

    /// Whether this replica may accept and adopt checks: its Lease exists, and is fresh enough that no other replica takes
    /// it for dead.
    pub fn is_fresh(&self, now: Mono) -> bool {
        let is_missing = matches!(self.own, Own::Missing);
        !is_missing && self.renewed.is_some_and(|renewed| now.since(renewed) <= FRESH)
    }

    /// Tells the others that this process is about to end.
    pub fn drain(&mut self) {
        self.drains = true;
        self.next = Mono(0);
    }

    /// The ids of dead replicas, whose checks are to be adopted.
    pub fn dead(&self) -> impl Iterator<Item = &str> {
        self.observed.dead()
    }

    /// The newest record format that every living replica reads.
    pub fn format(&self) -> u8 {
        let formats = self.observed.living().map(|word| word.format.unwrap_or_default());
        formats.min().map_or(self.replica.format, |format| format.min(self.replica.format))
    }

    /// Whether this replica is the first heir of a dead replica's check (rendezvous hashing: all survivors agree on the heir).
    pub fn is_first_heir(&self, check: &str) -> bool {
        let weight = |id: &str| fnv1a([id, "/", check].concat().as_bytes());
        let own = (weight(&self.replica.id), self.replica.id.as_str());
        let heirs = self.observed.living().filter(|word| !word.drains);
        heirs.map(|word| (weight(&word.id), word.id.as_str())).all(|other| other < own)
    }

    /// The fault of the last call that failed, until a renewal succeeds.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
mod tests;
