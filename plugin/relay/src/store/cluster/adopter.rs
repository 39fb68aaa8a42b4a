//! Taking over checks: those of dead replicas, those that nobody owns, and its own ones that the ledger lacks.

use super::lease::{NOBODY, Replica};
use super::membership::Membership;
use super::secret::{StoredCheck, Unreadable, expires, owner_of};
use crate::backoff::delay;
use crate::check::{CheckKey, State};
use crate::collections::Few;
use crate::time::{Mono, Now, in_words};
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{
    self, ApiAnswer, LeaseBody, ListPage, MetadataOnly, SecretBody, Server, StoredObject, Version,
};
use std::collections::VecDeque;
use std::time::Duration;

/// Timeout of these calls.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between the lists of all checks.
const SWEEP: Duration = Duration::from_secs(60);

/// Interval between the lists of a dead replica's checks.
const LIST: Duration = Duration::from_secs(2);

/// Pause before a list of all checks that has failed is begun again.
const SWEEP_PAUSE: Duration = Duration::from_secs(5);

/// How long a check waits for its first heir.
const HEIR: Duration = Duration::from_secs(5);

/// Pauses after failures in a row: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Pause before a Secret is looked at again that cannot be read, or may not be changed.
const UNREADABLE: Duration = Duration::from_secs(600);

/// What remains of an unreadable record is adopted this long before its deadline: time for a proof and a report, although
/// the clocks of two nodes differ by minutes.
const LAST: Duration = Duration::from_secs(10 * 60);

/// How long a dead replica keeps its Lease if this one can read none of its checks: another one may.
const LEFT: Duration = Duration::from_secs(120);

/// How long after its token's end a Secret is deleted whose record nobody could read.
const LONG_OVER: Duration = Duration::from_secs(24 * 3600);

/// Maximum checks that are being taken over.
const MAX_CALLS: usize = 16;

/// The take-overs of one process.
#[derive(Default)]
pub(crate) struct Adopter {
    next_sweep: Mono,
    /// When the present or last list of all checks began.
    sweep_began: Mono,
    /// Whether a list is under way.
    lists: bool,
    /// The foreign checks of the last sweep and their owners, until the Leases have been listed after it.
    swept: Option<(Mono, Vec<(CheckKey, String)>)>,
    dead: Vec<Dead>,
    /// Checks to take over, each with its last owner. One may be there twice.
    queue: VecDeque<(CheckKey, String)>,
    /// Checks that are not taken over before a time, because their Secret cannot be read, or not be written.
    later: Few<CheckKey, Mono>,
    /// Checks that are being taken over.
    under_way: Vec<CheckKey>,
    /// The time before which nothing new is begun, because a call has failed.
    pause: Mono,
    /// Failed take-overs in a row.
    failures: u32,
    /// Number of checks taken over since it was last told, by their last owner.
    told: Vec<(String, usize)>,
}

/// A dead replica.
struct Dead {
    id: String,
    since: Mono,
    next: Mono,
}

/// A call of a take-over.
pub(crate) enum AdopterCall {
    /// Lists checks: a dead replica's, or all; with those of the earlier pages.
    List(Option<String>, Found),
    /// Reads a check's Secret; with its last owner.
    Read(CheckKey, String),
    /// Makes this process its owner.
    Adopt(CheckKey, String, Box<State>),
    /// Deletes a dead replica's Lease, when no check names it.
    Bury,
}

/// The checks of a list, by name.
#[derive(Default)]
pub(crate) struct Found {
    /// Those of this process, with their Secrets' versions.
    own: Vec<(CheckKey, Version)>,
    /// The others, with their owners.
    others: Vec<(CheckKey, String)>,
}

/// What an answer leads to.
#[derive(Default)]
pub(crate) struct Taken {
    /// A check that is this process's now.
    pub(crate) check: Option<(CheckKey, State)>,
    /// Its last owner, if that was another process.
    pub(crate) adopted: bool,
    /// The next call.
    pub(crate) call: Option<(AdopterCall, Request)>,
    /// The checks of this process that a complete list of all has, by name and with their Secrets' versions, and when that
    /// list began.
    pub(crate) swept: Option<(Mono, Vec<(CheckKey, Version)>)>,
}

impl Adopter {
    /// The next call that is due. `held` is what this process's ledger has of a check.
    pub(crate) fn next<'s>(
        &mut self,
        now: Mono,
        membership: &Membership,
        server: &Server,
        held: &dyn Fn(&CheckKey) -> Option<&'s State>,
    ) -> Option<(AdopterCall, Request)> {
        if !membership.is_fresh(now) || now < self.pause {
            return None;
        }
        self.note_ownerless(membership);
        self.note_dead(now, membership);
        let replica = membership.replica();
        if !self.lists {
            if let Some(dead) = self.dead.iter_mut().find(|dead| now >= dead.next) {
                (dead.next, self.lists) = (now.plus(LIST), true);
                return Some(list(server, replica, Some(dead.id.clone()), Found::default(), None));
            }
            if now >= self.next_sweep {
                (self.next_sweep, self.sweep_began, self.lists) = (now.plus(SWEEP), now, true);
                return Some(list(server, replica, None, Found::default(), None));
            }
        }
        while self.under_way.len() < MAX_CALLS
            && let Some((key, owner)) = self.queue.pop_front()
        {
            let waits = self.later.get(&key).is_some_and(|until| now < *until);
            // An evaluation that this process has ended says nothing about another's.
            let is_held = match held(&key) {
                Some(State::Pending(_)) => true,
                Some(State::Done(_)) => owner == replica.id,
                None => false,
            };
            if waits || self.under_way.contains(&key) || is_held {
                continue;
            }
            self.under_way.push(key);
            let request = server.get::<SecretBody>(&replica.secret_name(&key), TIMEOUT);
            return Some((AdopterCall::Read(key, owner), request));
        }
        None
    }

    /// Queues the checks of the last sweep whose owner has no Lease, once the Leases have been listed after it.
    fn note_ownerless(&mut self, membership: &Membership) {
        if let Some((_, swept)) = self.swept.take_if(|(at, _)| membership.has_listed_since(*at)) {
            self.queue.extend(swept.into_iter().filter(|(_, owner)| !membership.knows(owner)));
        }
    }

    fn note_dead(&mut self, now: Mono, membership: &Membership) {
        let drains = membership.has_draining_peer();
        let dead: Vec<&str> = membership.dead().chain(drains.then_some(NOBODY)).collect();
        self.dead.retain(|known| dead.contains(&known.id.as_str()));
        for id in dead {
            if !self.dead.iter().any(|known| known.id == id) {
                self.dead.push(Dead { id: id.into(), since: now, next: now });
            }
        }
    }

    fn ended(&mut self, key: &CheckKey) {
        self.under_way.retain(|other| other != key);
    }

    /// Takes the outcome of a call.
    pub(crate) fn answer(
        &mut self,
        now: Now,
        membership: &Membership,
        server: &Server,
        call: AdopterCall,
        outcome: &CallOutcome,
        knows: &dyn Fn(&CheckKey) -> bool,
    ) -> Taken {
        let replica = membership.replica();
        match call {
            AdopterCall::List(of, found) => {
                self.listed(now.mono, membership, server, (of, found), kubernetes::listed(outcome), knows)
            }
            AdopterCall::Read(key, owner) => match kubernetes::stored::<SecretBody>(outcome) {
                ApiAnswer::Done(secret) => match StoredCheck::of(&secret, &replica.sealing, now) {
                    // Its ledger may be ahead of what was read.
                    Ok(found) if found.owner == replica.id && knows(&key) => self.leave(&key),
                    Ok(found) if found.owner == replica.id => self.take_in(key, found, now.mono),
                    Ok(found) if found.owner == owner => self.adopt(now, replica, server, key, found),
                    // Another process was faster.
                    Ok(_) => self.leave(&key),
                    // Another process was faster, and can read it.
                    Err(_) if ![owner.as_str(), replica.id.as_str()].contains(&owner_of(&secret.object)) => {
                        self.leave(&key)
                    }
                    Err(why) => self.unreadable(now, replica, server, key, &secret, why),
                },
                ApiAnswer::Missing => self.leave(&key),
                answer => self.again(now.mono, key, owner, answer),
            },
            AdopterCall::Adopt(key, owner, mut state) => match kubernetes::stored::<SecretBody>(outcome) {
                ApiAnswer::Done(secret) => {
                    self.ended(&key);
                    self.failures = 0;
                    match self.told.iter_mut().find(|(id, _)| *id == owner) {
                        Some((_, checks)) => *checks += 1,
                        None => self.told.push((owner, 1)),
                    }
                    // It is this process's from now on.
                    state.adopt(now.mono, secret.version);
                    Taken { check: Some((key, *state)), adopted: true, ..Taken::default() }
                }
                ApiAnswer::Missing => self.leave(&key),
                // Perhaps it was done: the Secret says so.
                answer => self.again(now.mono, key, owner, answer),
            },
            AdopterCall::Bury => Taken::default(),
        }
    }

    /// Makes this process the owner of a check that was read.
    fn adopt(
        &mut self,
        now: Now,
        replica: &Replica,
        server: &Server,
        key: CheckKey,
        found: StoredCheck,
    ) -> Taken {
        let StoredCheck { owner, mut state, version } = found;
        state.adopt(now.mono, version.clone());
        let request = replica
            .secret(&key, state.clone(), &replica.id, now)
            .map(|secret| server.update(&version, &secret, TIMEOUT));
        let call = request.map(|request| (AdopterCall::Adopt(key, owner, Box::new(state)), request));
        if call.is_none() {
            self.ended(&key);
        }
        Taken { call, ..Taken::default() }
    }

    /// The record of a check that nobody owns cannot be read. Another replica may be able to, until the check must be
    /// decided: then what remains of it is adopted, and is reported as inconclusive.
    fn unreadable(
        &mut self,
        now: Now,
        replica: &Replica,
        server: &Server,
        key: CheckKey,
        secret: &StoredObject<SecretBody>,
        why: Unreadable,
    ) -> Taken {
        let (id, name) = (key.id(), &secret.object.name);
        let is_long_over = expires(&secret.object).is_some_and(|at| now.wall >= at.plus(LONG_OVER));
        if is_long_over {
            self.ended(&key);
            let request = server.delete::<SecretBody>(name, &secret.version, TIMEOUT);
            return Taken { call: Some((AdopterCall::Bury, request)), ..Taken::default() };
        }
        let Some((deadline, rest)) = StoredCheck::rest(secret, &replica.sealing, now) else {
            log::error!(
                "check {id}: the record in its Secret {name} cannot be read: {why}. It has no owner, and this replica cannot report it."
            );
            return self.postpone(key, LONG_OVER, now.mono);
        };
        let left = deadline.since(now.mono.plus(LAST));
        if left.is_zero() {
            log::error!(
                "check {id}: the record in its Secret {name} cannot be read: {why}. It is reported as inconclusive."
            );
            return self.adopt(now, replica, server, key, rest);
        }
        let wait = in_words(left);
        log::error!(
            "check {id}: the record in its Secret {name} cannot be read: {why}. It has no owner, and is reported as inconclusive in {wait}, unless a replica comes that can read it."
        );
        self.postpone(key, left, now.mono)
    }

    /// Takes a check over later, after `max` at most, or another replica does. Many are looked at one a second.
    fn postpone(&mut self, key: CheckKey, max: Duration, now: Mono) -> Taken {
        let crowd = Duration::from_secs(self.later.len() as u64);
        self.later.insert(key, now.plus(UNREADABLE.max(crowd).min(max)));
        self.leave(&key)
    }

    fn leave(&mut self, key: &CheckKey) -> Taken {
        self.ended(key);
        Taken::default()
    }

    /// Begins a take-over again, after a pause unless the answer was clear.
    fn again<T>(&mut self, now: Mono, key: CheckKey, owner: String, answer: ApiAnswer<T>) -> Taken {
        if let ApiAnswer::Refused(fault) = &answer {
            log::error!("check {} could not be adopted: {fault}", key.id());
            return self.postpone(key, LONG_OVER, now);
        }
        self.ended(&key);
        self.queue.push_back((key, owner));
        if let Some(fault) = answer.fault() {
            self.failures = self.failures.saturating_add(1);
            if self.failures.is_power_of_two() {
                log::warn!("check {} could not be adopted: {fault}", key.id());
            }
            self.pause = now.plus(delay(self.failures, PAUSE, MAX_PAUSE));
        }
        Taken::default()
    }

    fn take_in(&mut self, key: CheckKey, found: StoredCheck, now: Mono) -> Taken {
        self.ended(&key);
        let mut state = found.state;
        state.adopt(now, found.version);
        Taken { check: Some((key, state)), ..Taken::default() }
    }

    /// Takes a page of a list, with what the earlier pages had.
    fn listed(
        &mut self,
        now: Mono,
        membership: &Membership,
        server: &Server,
        (of, mut found): (Option<String>, Found),
        answer: ApiAnswer<ListPage<MetadataOnly>>,
        knows: &dyn Fn(&CheckKey) -> bool,
    ) -> Taken {
        let replica = membership.replica();
        let page = match answer {
            ApiAnswer::Done(page) => page,
            answer => {
                self.lists = false;
                self.pause = now.plus(PAUSE);
                if of.is_none() {
                    self.next_sweep = now.plus(SWEEP_PAUSE);
                }
                if let Some(fault) = answer.fault() {
                    log::warn!("the checks' Secrets could not be listed: {fault}");
                }
                return Taken::default();
            }
        };
        for secret in &page.items {
            match replica.check_of(secret) {
                Some(key) => match owner_of(&secret.object) {
                    owner if owner == replica.id => found.own.push((key, secret.version.clone())),
                    owner => found.others.push((key, owner.into())),
                },
                None => log::warn!("the Secret {} does not have the name of a check", secret.object.name),
            }
        }
        if page.next.is_some() {
            let call = Some(list(server, replica, of, found, Some(&page)));
            return Taken { call, ..Taken::default() };
        }
        self.lists = false;
        let Some(id) = of else {
            // What is still to be taken over is in this list too.
            self.queue.retain(|(_, owner)| self.dead.iter().any(|dead| dead.id == *owner));
            let new = found.own.iter().map(|(key, _)| *key).filter(|key| !knows(key));
            self.queue.extend(new.map(|key| (key, replica.id.clone())));
            // Both are by name, as the API server lists.
            let is_there = |key: &CheckKey| {
                found.own.binary_search_by(|(own, _)| own.cmp_as_printed(key)).is_ok()
                    || found.others.binary_search_by(|(other, _)| other.cmp_as_printed(key)).is_ok()
            };
            self.later.retain(|key, _| is_there(key));
            self.swept = Some((now, found.others));
            return Taken { swept: Some((self.sweep_began, found.own)), ..Taken::default() };
        };
        let Some(dead) = self.dead.iter().find(|dead| dead.id == id) else { return Taken::default() };
        let found = found.others;
        // The list of all takes up records that nobody could read, whether their owner has a Lease or not.
        let is_later = |key: &CheckKey| self.later.contains_key(key);
        let is_left = now.since(dead.since) >= LEFT;
        if found.is_empty() || is_left && found.iter().all(|(key, _)| is_later(key)) {
            let bury = |(name, version): (String, &Version)| {
                (AdopterCall::Bury, server.delete::<LeaseBody>(&name, version, TIMEOUT))
            };
            return Taken { call: membership.lease_of(&id).map(bury), ..Taken::default() };
        }
        let is_late = now.since(dead.since) >= HEIR || membership.is_predecessor(&id);
        let mine = found.into_iter().filter(|(key, _)| is_late || membership.is_first_heir(&key.id()));
        // The list holds those that were found before and are still there.
        self.queue.retain(|(_, owner)| *owner != id);
        self.queue.extend(mine);
        Taken::default()
    }

    /// The checks taken over since it was last asked, by their last owner.
    pub(crate) fn take_told(&mut self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.told)
    }
}

fn list(
    server: &Server,
    replica: &Replica,
    of: Option<String>,
    found: Found,
    after: Option<&ListPage<MetadataOnly>>,
) -> (AdopterCall, Request) {
    let selector = of.as_ref().map_or_else(|| replica.checks(), |id| replica.checks_of(id));
    let request = server.list(&selector, after, TIMEOUT);
    (AdopterCall::List(of, found), request)
}
