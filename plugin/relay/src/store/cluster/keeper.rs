//! The writes to the Secrets of this process's own checks: one under way for each check, and after a conflict or a lost
//! answer the Secret is read before it is written again.

use super::learned::Learned;
use super::lease::{NOBODY, Replica};
use super::secret::{StoredCheck, Unreadable, owner_label, owner_of};
use super::space;
use crate::backoff::delay;
use crate::check::{CheckKey, Delivery, Kept, State, Written, deliver};
use crate::time::{Mono, Now, in_words};
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::kubernetes::{self, ApiAnswer, SecretBody, Server, StoredObject, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Timeout of these calls.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum calls of this kind under way.
const MAX_CALLS: usize = 32;

/// Pauses after failures in a row: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Pause after a refusal that is final for this request: somebody must change something.
const REFUSED: Duration = Duration::from_secs(60);

/// The work that is left for the Secrets of this process's checks.
#[derive(Default)]
pub(crate) struct Keeper {
    checks: BTreeMap<CheckKey, Custody>,
    due: BTreeSet<(Mono, CheckKey)>,
    calls: usize,
    /// Whether its checks are given up, because the process ends.
    gives_up: bool,
    /// The time before which no call is begun, because one has failed.
    brake: Mono,
    /// The time before which nothing is created, because the quota was full.
    full_until: Mono,
    /// Whether room for Secrets is short: what is over goes early.
    is_short: bool,
}

/// The work that is left for one check's Secret.
#[derive(Default)]
struct Custody {
    /// When it is due, if it is.
    at: Option<Mono>,
    /// Whether a call is under way.
    is_asked: bool,
    failures: u32,
    /// Whether the Secret must be read before it is written.
    reads: bool,
}

/// A call about one Secret.
pub(crate) enum KeeperCall {
    /// Creates it.
    Create(Written),
    /// Writes what has changed in place of this version.
    Update(Version, Written),
    /// Adds the deliveries of a check that was accepted without the store to the Secret of another owner.
    Merge,
    /// Writes that the check has no owner.
    GiveUp,
    /// Reads it.
    Read,
    /// Deletes it.
    Delete,
}

impl Keeper {
    /// From now on checks are given up, because the process ends.
    pub(crate) fn give_up(&mut self) {
        self.gives_up = true;
    }

    /// Notes that a check's record has changed.
    pub(crate) fn touch(&mut self, key: &CheckKey, now: Mono) {
        match self.checks.get_mut(key) {
            // The answer to its call comes first, or its pause ends.
            Some(custody) if custody.is_asked || custody.failures > 0 => {}
            _ => self.plan(key, now),
        }
    }

    /// Notes whether room for Secrets is short. If it has just become short, these records may be over for long enough.
    pub(crate) fn note_space<'s>(
        &mut self,
        now: Mono,
        is_short: bool,
        records: impl Iterator<Item = (&'s CheckKey, &'s State)>,
    ) {
        if std::mem::replace(&mut self.is_short, is_short) || !is_short {
            return;
        }
        for (key, state) in records.filter(|(_, state)| matches!(state, State::Done(_))) {
            if state.kept().is_some() {
                self.touch(key, now);
            }
        }
    }

    /// The API server answers again: what has failed is done now, not after its pause.
    pub(crate) fn retry(&mut self, now: Mono) {
        let failed = self.checks.iter().filter(|(_, custody)| custody.failures > 0 && !custody.is_asked);
        for key in failed.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.plan(&key, now);
        }
    }

    /// Takes its own checks of a complete list of all, by name, which began at this time. Records whose Secret it lacks, although
    /// they were stored before, have lost it, or have another owner: it is read. So is one that somebody else has written.
    pub(crate) fn swept<'s>(
        &mut self,
        now: Mono,
        (began, listed): (Mono, &[(CheckKey, Version)]),
        records: impl Iterator<Item = (&'s CheckKey, &'s State)>,
    ) {
        for (key, state) in records {
            let Some(kept) = state.kept().filter(|kept| kept.seen < began) else { continue };
            let found = listed.binary_search_by(|(listed, _)| listed.cmp_as_printed(key)).ok();
            let version = found.and_then(|at| listed.get(at)).map(|(_, version)| version);
            if version != Some(&kept.version) {
                self.checks.entry(*key).or_default().reads = true;
                self.touch(key, now);
            }
        }
    }

    fn plan(&mut self, key: &CheckKey, at: Mono) {
        let custody = self.checks.entry(*key).or_default();
        custody.is_asked = false;
        if let Some(before) = custody.at.replace(at) {
            self.due.remove(&(before, *key));
        }
        self.due.insert((at, *key));
    }

    fn forget(&mut self, key: &CheckKey) {
        if let Some(Custody { at: Some(at), .. }) = self.checks.remove(key) {
            self.due.remove(&(at, *key));
        }
    }

    /// The next call that is due; `held` finds a check's record.
    pub(crate) fn next<'s>(
        &mut self,
        now: Now,
        replica: &Replica,
        server: &Server,
        held: &dyn Fn(&CheckKey) -> Option<&'s State>,
    ) -> Option<(CheckKey, KeeperCall, Request)> {
        while self.calls < MAX_CALLS && now.mono >= self.brake {
            let (at, key) = self.due.first().copied().filter(|(at, _)| *at <= now.mono)?;
            self.due.remove(&(at, key));
            let Some(state) = held(&key) else {
                self.checks.remove(&key);
                continue;
            };
            let reads = self.checks.get(&key).is_some_and(|custody| custody.reads);
            if now.mono < self.full_until && !reads && state.kept().is_none() {
                self.plan(&key, self.full_until);
                continue;
            }
            match self.call(now, replica, server, &key, state, reads) {
                Some((call, request)) => {
                    let custody = self.checks.entry(key).or_default();
                    (custody.at, custody.is_asked) = (None, true);
                    self.calls += 1;
                    return Some((key, call, request));
                }
                None => {
                    self.checks.remove(&key);
                    if let (State::Done(_), Some(kept)) = (state, state.kept()) {
                        let stays = space::done_stays(self.is_short);
                        self.plan(&key, kept.seen.plus(stays).max(now.mono.plus(FIRST_PAUSE)));
                    }
                }
            }
        }
        None
    }

    /// The call that a record needs, if any.
    fn call(
        &self,
        now: Now,
        replica: &Replica,
        server: &Server,
        key: &CheckKey,
        state: &State,
        reads: bool,
    ) -> Option<(KeeperCall, Request)> {
        let name = replica.secret_name(key);
        let read = || (KeeperCall::Read, server.get::<SecretBody>(&name, TIMEOUT));
        if reads {
            return Some(read());
        }
        let written = state.written();
        let write = |owner: &str, kept: &Kept, call: KeeperCall| {
            let secret = replica.secret(key, state.clone(), owner, now)?;
            Some((call, server.update(&kept.version, &secret, TIMEOUT)))
        };
        match (state, state.kept()) {
            (State::Pending(pending), Some(kept)) if self.gives_up && pending.claim.is_none() => {
                write(NOBODY, kept, KeeperCall::GiveUp)
            }
            // Nobody waits for it any more, or perhaps.
            (State::Pending(pending), None) if pending.is_over() || pending.is_doubted => None,
            (State::Pending(_), None) => {
                let owner = if self.gives_up { NOBODY } else { &replica.id };
                let secret = replica.secret(key, state.clone(), owner, now)?;
                Some((KeeperCall::Create(written), server.create(&secret, TIMEOUT)))
            }
            (State::Done(_), None) => None,
            // Its event is under way.
            (State::Pending(_), Some(_)) if self.gives_up => None,
            (_, Some(kept)) if kept.written != Some(written) => {
                write(&replica.id, kept, KeeperCall::Update(kept.version.clone(), written))
            }
            _ if self.gives_up => None,
            // By when it was last written: another process's clock may be off.
            (State::Done(_), Some(kept)) if now.mono.since(kept.seen) >= space::done_stays(self.is_short) => {
                let request = server.delete::<SecretBody>(&name, &kept.version, TIMEOUT);
                Some((KeeperCall::Delete, request))
            }
            _ => None,
        }
    }

    /// Takes the outcome of a call about the Secret of `held`. Returns what it says of the record, and the next call that
    /// belongs to this one.
    pub(crate) fn answer(
        &mut self,
        now: Now,
        replica: &Replica,
        server: &Server,
        (key, call): (&CheckKey, KeeperCall),
        outcome: &CallOutcome,
        held: Option<&State>,
    ) -> (Option<Learned>, Option<(KeeperCall, Request)>) {
        self.calls = self.calls.saturating_sub(1);
        let answer = match &call {
            KeeperCall::Create(_) => match kubernetes::created::<SecretBody>(outcome) {
                ApiAnswer::Later(fault, _) if space::is_refusal(&fault) => {
                    return (self.refused_a_place(key, now, &fault), None);
                }
                answer => answer,
            },
            KeeperCall::Delete => match deletion(outcome) {
                None => return (self.succeeded(key, now, Learned::Deleted), None),
                Some(answer) => answer,
            },
            _ => kubernetes::stored::<SecretBody>(outcome),
        };
        let learned = match (call, answer) {
            // Given up, another's, or made again for the others because this process ends.
            (KeeperCall::Create(_) | KeeperCall::GiveUp | KeeperCall::Merge, ApiAnswer::Done(secret))
                if owner_of(&secret.object) != replica.id =>
            {
                self.succeeded(key, now, Learned::Gone)
            }
            (KeeperCall::Create(written), ApiAnswer::Done(secret)) => {
                let stored = Learned::Stored { version: secret.version, written, replaced: None };
                self.succeeded(key, now, stored)
            }
            (KeeperCall::Update(replaced, written), ApiAnswer::Done(secret)) => {
                let replaced = Some(replaced);
                self.succeeded(key, now, Learned::Stored { version: secret.version, written, replaced })
            }
            (_, ApiAnswer::Done(secret)) => {
                let read = match StoredCheck::of(&secret, &replica.sealing, now) {
                    Ok(read) => read,
                    Err(why) => return (self.unreadable(now, replica, key, (&secret, why), held), None),
                };
                if let Some(spoilt) = self.relabel(now, replica, key, &secret, &read, held) {
                    return (Some(spoilt), None);
                }
                match held.and_then(|held| stands_beside(now, replica, server, key, held, &read)) {
                    Some(merge) => {
                        self.calls += 1;
                        return (None, Some((KeeperCall::Merge, merge)));
                    }
                    None => self.read_again(key, now, Learned::Read(Box::new(read))),
                }
            }
            (_, ApiAnswer::Missing) => self.missing(key, now, held),
            (_, ApiAnswer::Conflict | ApiAnswer::Exists | ApiAnswer::Expired) => {
                self.checks.entry(*key).or_default().reads = true;
                self.pause(key, now.mono)
            }
            (_, ApiAnswer::Refused(fault)) => {
                self.say(key, &fault, REFUSED);
                self.pause(key, now.mono.plus(REFUSED))
            }
            (_, ApiAnswer::Later(fault, after)) => self.failed(key, now, &fault, after),
            (_, ApiAnswer::Unknown(fault)) => {
                self.checks.entry(*key).or_default().reads = true;
                self.failed(key, now, &fault, None)
            }
        };
        (learned, None)
    }

    /// The Secret of a check of this process has lost labels, without which no other replica finds it: it is written again.
    fn relabel(
        &mut self,
        now: Now,
        replica: &Replica,
        key: &CheckKey,
        secret: &StoredObject<SecretBody>,
        read: &StoredCheck,
        held: Option<&State>,
    ) -> Option<Learned> {
        let owner = owner_label(&secret.object);
        let is_own = owner.is_none_or(|owner| owner == replica.id) && !self.gives_up;
        let is_whole = owner.is_some() && replica.marks(&secret.object);
        let held = held.filter(|held| held.kept().is_some())?;
        // One with more deliveries is taken in first.
        if !is_own || is_whole || read.state.written().delivery > held.written().delivery {
            return None;
        }
        log::warn!(
            "check {}: its Secret {} has lost labels: it is written again",
            key.id(),
            secret.object.name
        );
        self.read_again(key, now, Learned::Spoilt(secret.version.clone()))
    }

    /// The record in the Secret of a check of this process cannot be read.
    fn unreadable(
        &mut self,
        now: Now,
        replica: &Replica,
        key: &CheckKey,
        (secret, why): (&StoredObject<SecretBody>, Unreadable),
        held: Option<&State>,
    ) -> Option<Learned> {
        let (id, name) = (key.id(), &secret.object.name);
        // One that another replica has sealed may have a delivery that this one does not know.
        if owner_of(&secret.object) == replica.id && why != Unreadable::Sealed {
            // Nobody else knows better than its owner.
            log::warn!(
                "check {id}: the record in its Secret {name} cannot be read: {why}. It is written again."
            );
            return self.read_again(key, now, Learned::Spoilt(secret.version.clone()));
        }
        if held.is_some_and(|held| held.kept().is_some()) {
            return self.read_again(key, now, Learned::Gone);
        }
        let wait = in_words(REFUSED);
        log::error!("check {id}: the record in its Secret {name} cannot be read: {why}; waiting {wait}");
        self.pause(key, now.mono.plus(REFUSED))
    }

    fn succeeded(&mut self, key: &CheckKey, now: Now, learned: Learned) -> Option<Learned> {
        self.forget(key);
        // Its record may have changed meanwhile.
        self.plan(key, now.mono);
        Some(learned)
    }

    /// The same after a reading: a write that failed before has not succeeded yet.
    fn read_again(&mut self, key: &CheckKey, now: Now, learned: Learned) -> Option<Learned> {
        self.checks.entry(*key).or_default().reads = false;
        self.plan(key, now.mono);
        Some(learned)
    }

    fn missing(&mut self, key: &CheckKey, now: Now, held: Option<&State>) -> Option<Learned> {
        if held.is_none_or(|held| held.kept().is_some()) {
            return self.succeeded(key, now, Learned::Missing);
        }
        // Its creation had no clear answer, and was not done.
        self.checks.entry(*key).or_default().reads = false;
        self.pause(key, now.mono)
    }

    /// The quota is full: nothing else waits for that.
    fn refused_a_place(&mut self, key: &CheckKey, now: Now, fault: &Fault) -> Option<Learned> {
        let custody = self.checks.entry(*key).or_default();
        custody.failures = custody.failures.saturating_add(1);
        if custody.failures.is_power_of_two() {
            self.say(key, fault, MAX_PAUSE);
        }
        self.full_until = now.mono.plus(MAX_PAUSE);
        self.pause(key, self.full_until)
    }

    /// Whether a Secret of this process was refused a moment ago.
    pub(crate) fn is_full(&self, now: Mono) -> bool {
        now < self.full_until
    }

    fn failed(
        &mut self,
        key: &CheckKey,
        now: Now,
        fault: &Fault,
        after: Option<Duration>,
    ) -> Option<Learned> {
        let custody = self.checks.entry(*key).or_default();
        custody.failures = custody.failures.saturating_add(1);
        let pause =
            delay(custody.failures, FIRST_PAUSE, MAX_PAUSE).max(after.unwrap_or_default().min(REFUSED));
        if custody.failures.is_power_of_two() {
            self.say(key, fault, pause);
        }
        // A server in trouble is not asked about each check at once.
        self.brake = now.mono.plus(FIRST_PAUSE);
        self.pause(key, now.mono.plus(pause))
    }

    fn pause(&mut self, key: &CheckKey, until: Mono) -> Option<Learned> {
        self.plan(key, until);
        None
    }

    fn say(&self, key: &CheckKey, fault: &Fault, pause: Duration) {
        log::warn!(
            "check {}: its Secret could not be written: {fault}; waiting {}",
            key.id(),
            in_words(pause)
        );
    }
}

/// The answer to a deletion; `None` if the Secret is gone.
fn deletion(outcome: &CallOutcome) -> Option<ApiAnswer<StoredObject<SecretBody>>> {
    match kubernetes::deleted(outcome) {
        ApiAnswer::Done(()) | ApiAnswer::Missing => None,
        ApiAnswer::Later(fault, after) => Some(ApiAnswer::Later(fault, after)),
        ApiAnswer::Refused(fault) => Some(ApiAnswer::Refused(fault)),
        ApiAnswer::Unknown(fault) => Some(ApiAnswer::Unknown(fault)),
        ApiAnswer::Conflict | ApiAnswer::Exists | ApiAnswer::Expired => Some(ApiAnswer::Conflict),
    }
}

/// The write that adds the deliveries of a check that was accepted without the store to another owner's Secret. `None` if
/// nothing must be added there.
fn stands_beside(
    now: Now,
    replica: &Replica,
    server: &Server,
    key: &CheckKey,
    held: &State,
    read: &StoredCheck,
) -> Option<Request> {
    let State::Pending(pending) = held else { return None };
    let is_ours = read.owner == replica.id || matches!(read.state, State::Done(_));
    if pending.kept.is_some() || is_ours {
        return None;
    }
    let mut state = read.state.clone();
    let mut is_added = false;
    for one in pending.candidates() {
        match deliver(Some(&state), &one, now, false) {
            Delivery::Put(merged, _) => (state, is_added) = (State::Pending(merged), true),
            Delivery::Kept(why) => log::error!(
                "check {}: a delivery that was accepted while the API server was away is dropped, because another replica has the check and {}",
                key.id(),
                why.in_words()
            ),
        }
    }
    if !is_added {
        return None;
    }
    let secret = replica.secret(key, state, &read.owner, now)?;
    Some(server.update(&read.version, &secret, TIMEOUT))
}
