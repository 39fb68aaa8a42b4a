//! This replica among the others: its own Lease, and what it has observed of theirs.
//!
//! Without I/O: [`Members::due`] says what is to be asked of the API server, [`Members::answer`] takes what became of it.

pub use super::lease::Replica;
use super::lease::Word;
use super::observed::Observed;
use crate::hash::fnv1a;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::kubernetes::{self, Answer, Lease, Page, Server, Stored, Version};
use std::time::Duration;

/// How often the own Lease is renewed, and the Leases are listed.
const RENEWAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);

/// A replica that could not renew its Lease for so long adopts nothing: the others may be about to take it for dead.
const FRESH: Duration = Duration::from_secs(10);

/// The timeout of these calls. One that is lost delays the next one by this much.
const TIMEOUT: Duration = Duration::from_secs(4);

/// One replica's view of all.
pub struct Members {
    replica: Replica,
    own: Own,
    /// When the last renewal was sent that was done.
    renewed: Option<Mono>,
    /// How often a renewal was sent.
    renewals: u64,
    /// When the own Lease is asked about next.
    next: Mono,
    drains: bool,
    /// This process had no Lease yet: those of its pod's name are its predecessors'.
    is_starting: bool,
    /// Its predecessors are known.
    has_looked: bool,
    observed: Observed,
    /// When the Leases are listed next; `None`: a list is under way.
    look: Option<Mono>,
    /// Why the last call was not answered as it should be.
    fault: Option<Fault>,
}

/// What is known of the own Lease.
enum Own {
    /// Nothing: it is read.
    Unknown,
    /// There is none: it is made.
    Missing,
    /// It is in this state.
    Held(Version),
    /// A call about it is under way.
    Asked,
}

/// What was asked of the API server.
pub enum Ask {
    /// To read the own Lease.
    Read,
    /// To write it.
    Write {
        /// When the call was sent.
        sent: Mono,
        /// The state that it replaces.
        replaces: Option<Version>,
    },
    /// To list all Leases; these stood on the pages before.
    List(Vec<Word>),
}

impl Members {
    /// Knows nobody yet. `is_starting`: no context of this process has made its Lease before.
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

    /// The calls to be made by now.
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

    /// What became of a call. Answers the calls that follow.
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
                // The predecessors are looked for at once.
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
            // Somebody has deleted it, or an answer before this one was lost.
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

    /// Takes a page of a list; what it is to go on with, if there are more.
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

    /// Whether it may accept and adopt checks: its Lease is there, and nobody is about to take it for dead.
    pub fn is_fresh(&self, now: Mono) -> bool {
        let is_missing = matches!(self.own, Own::Missing);
        !is_missing && self.renewed.is_some_and(|renewed| now.since(renewed) <= FRESH)
    }

    /// The process is about to end: the others are told to take over.
    pub fn drain(&mut self) {
        self.drains = true;
        self.next = Mono(0);
    }

    /// The ids of the replicas whose checks are to be adopted.
    pub fn dead(&self) -> impl Iterator<Item = &str> {
        self.observed.dead()
    }

    /// The format of records that every living replica reads.
    pub fn format(&self) -> u8 {
        let formats = self.observed.living().map(|word| word.format.unwrap_or_default());
        formats.min().map_or(self.replica.format, |format| format.min(self.replica.format))
    }

    /// Whether this check of a dead replica is this one's to adopt first: each survivor has its share, the same in all their eyes.
    pub fn is_first_heir(&self, check: &str) -> bool {
        let weight = |id: &str| fnv1a([id, "/", check].concat().as_bytes());
        let own = (weight(&self.replica.id), self.replica.id.as_str());
        let heirs = self.observed.living().filter(|word| !word.drains);
        heirs.map(|word| (weight(&word.id), word.id.as_str())).all(|other| other < own)
    }

    /// Why the API server did not answer as it should, at the last call.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
mod tests;
