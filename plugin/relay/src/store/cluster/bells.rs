//! Doorbells. Testkube's event about a tag arrives at any replica. This one asks the API server who owns checks with the
//! tag, and creates a small Lease for each other owner, which sees it in its list of all Leases and looks at once.
//!
//! Nothing depends on a bell: without it the owner looks a polling interval later. So its faults are not logged; those of
//! the API server are told by what a check depends on.

use super::lease::{Bell, Replica};
use super::membership::Membership;
use super::secret::owner_of;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{self, ApiAnswer, LeaseBody, MetadataOnly, Server, Version};
use std::collections::VecDeque;
use std::time::Duration;

/// Timeout of these calls.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Minimum time between two questions for owners: the events of this time are asked for together.
const GATHERED: Duration = Duration::from_secs(1);

/// Maximum tags in one question.
const MAX_TAGS: usize = 32;

/// Maximum bells that wait to be made: more owners than that are told by their own polls.
const MAX_BELLS: usize = 64;

/// Maximum bells that hang before none is made any more: nobody takes them down.
const MAX_HANGING: usize = 64;

/// How long a bell of another replica is left to it. Then its owner is gone.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Pause before a bell that is still listed is taken down once more, at first and at most.
const AGAIN: Duration = Duration::from_secs(5);
const MAX_AGAIN: Duration = Duration::from_secs(60);

/// One process's bells.
#[derive(Default)]
pub(crate) struct Bells {
    /// The hashes of tags whose owners are to be asked for.
    tags: Vec<u64>,
    /// When the owners of checks may be asked for next, and whether they are asked for now.
    next: Mono,
    asks: bool,
    /// Bells to make: the owner and the hash of the tag.
    to_make: VecDeque<(String, u64)>,
    /// The bells that were listed last.
    hanging: Vec<Hanging>,
    /// The hashes of tags for which a bell of this replica was seen, and not taken yet.
    rung: Vec<u64>,
}

/// A bell that was listed.
struct Hanging {
    name: String,
    version: Version,
    /// The time after which this replica takes it down, and the pause after that.
    until: Mono,
    pause: Duration,
}

/// A call about bells.
pub(crate) enum BellCall {
    /// Asks who owns checks with these tags.
    Owners,
    /// Makes a bell, or takes one down.
    Done,
}

impl Bells {
    /// Takes events for the tags with these hashes.
    pub(crate) fn hear(&mut self, tags: &[u64]) {
        let new = tags.iter().filter(|tag| !self.tags.contains(tag)).copied().collect::<Vec<_>>();
        self.tags.extend(new);
        self.tags.truncate(MAX_TAGS);
    }

    /// Takes the bells of a complete list of all Leases.
    pub(crate) fn listed(&mut self, now: Mono, replica: &Replica, bells: Vec<Bell>) {
        let before = std::mem::take(&mut self.hanging);
        for Bell { owner, tag, name, version } in bells {
            let seen = before.iter().find(|hanging| hanging.name == name);
            let (until, pause) = match seen {
                Some(hanging) => (hanging.until, hanging.pause),
                None if owner == replica.id => {
                    self.rung.extend(tag);
                    (now, AGAIN)
                }
                None => (now.plus(FORGOTTEN), AGAIN),
            };
            self.hanging.push(Hanging { name, version, until, pause });
        }
    }

    /// The hashes of the tags for which this replica's bells rang since it was last asked.
    pub(crate) fn take_rung(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.rung)
    }

    /// The next call that is due.
    pub(crate) fn next(
        &mut self,
        now: Mono,
        membership: &Membership,
        server: &Server,
    ) -> Option<(BellCall, Request)> {
        let replica = membership.replica();
        if let Some(hanging) = self.hanging.iter_mut().find(|hanging| hanging.until <= now) {
            (hanging.until, hanging.pause) = (now.plus(hanging.pause), MAX_AGAIN.min(hanging.pause * 2));
            let request = server.delete::<LeaseBody>(&hanging.name, &hanging.version, TIMEOUT);
            return Some((BellCall::Done, request));
        }
        if let Some((owner, tag)) = self.to_make.pop_front() {
            let bell = replica.bell(now, &owner, tag);
            return Some((BellCall::Done, server.create(&bell, TIMEOUT)));
        }
        if self.tags.is_empty() || self.asks || now < self.next {
            return None;
        }
        let tags = std::mem::take(&mut self.tags);
        if !membership.has_peers() || self.hanging.len() >= MAX_HANGING {
            return None;
        }
        self.asks = true;
        Some((BellCall::Owners, server.list::<MetadataOnly>(&replica.checks_with_any(&tags), None, TIMEOUT)))
    }

    /// Takes the outcome of a call. Of a list with several pages the first is enough for most owners.
    pub(crate) fn answer(
        &mut self,
        now: Mono,
        membership: &Membership,
        call: &BellCall,
        outcome: &CallOutcome,
    ) {
        let BellCall::Owners = call else { return };
        (self.asks, self.next) = (false, now.plus(GATHERED));
        let ApiAnswer::Done(page) = kubernetes::listed::<MetadataOnly>(outcome) else { return };
        for secret in &page.items {
            let owner = owner_of(&secret.object);
            let Some(tag) = super::secret::tag_of(&secret.object) else { continue };
            let bell = (owner.to_owned(), tag);
            if membership.lives(owner) && !self.to_make.contains(&bell) && self.to_make.len() < MAX_BELLS {
                self.to_make.push_back(bell);
            }
        }
    }
}
