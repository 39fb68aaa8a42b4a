//! What the cluster store holds of a check, and what becomes of a record when its Secret is read again.

use super::{Done, Pending, Phase, Placed, State};
use crate::time::{Mono, Wall};
use crate::wire::kubernetes::Version;
use serde::{Deserialize, Serialize};

/// A check's Secret as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The version that was last read or written.
    pub version: Version,
    /// What that version says of the check; `None` if it must be written in any case.
    pub written: Option<Written>,
    /// When that version was seen, owned by this process.
    pub seen: Mono,
}

/// What a version of a Secret says of its check, as far as a difference to the record must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The saved state of the check.
    #[serde(rename = "stage")]
    pub saved: Saved,
    /// The number of its deliveries.
    pub delivery: u32,
    /// When it was decided.
    pub decided: Option<Wall>,
    /// [`Retries::changes`](super::Retries).
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub reruns: usize,
}

/// The states of a check's life that its Secret tells apart, fewer than its phases: a check is written when it enters another
/// one, so that its life costs few writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saved {
    /// Its lower bound is not determined.
    Accepted,
    /// Testkube is asked.
    Watching,
    /// It is decided: before the event is sent, so that no adopter decides anew.
    Decided,
    /// The event was taken, or nobody waits for it.
    Done,
}

/// What a record becomes when its Secret is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reread {
    /// This takes its place.
    Becomes(Box<State>),
    /// It leaves the ledger without a word: another process owns it, or has ended it.
    Leaves,
}

impl State {
    /// What its Secret should say.
    pub(crate) fn written(&self) -> Written {
        match self {
            State::Pending(pending) => pending.written(),
            State::Done(done) => {
                Written { saved: Saved::Done, delivery: done.served, decided: done.decided, reruns: 0 }
            }
        }
    }

    /// What is known of its Secret; `None` without a cluster store, and until it is stored there.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        match self {
            State::Pending(pending) => pending.kept.as_deref(),
            State::Done(done) => done.kept.as_deref(),
        }
    }

    /// Whether its Secret says what it should.
    pub(crate) fn is_written(&self) -> bool {
        self.kept().is_some_and(|kept| kept.written == Some(self.written()))
    }

    pub(crate) fn set_kept(&mut self, kept: Option<Box<Kept>>) {
        match self {
            State::Pending(pending) => pending.kept = kept,
            State::Done(done) => done.kept = kept,
        }
    }

    /// The evaluation: another one is a check of its own, although it has the same key.
    fn evaluation(&self) -> u64 {
        match self {
            State::Pending(pending) => pending.evaluation,
            State::Done(done) => done.evaluation,
        }
    }

    /// Makes it a check of this process, which has just read it from its Secret: calls under way, and everything that
    /// was measured by another process's observation, begin anew.
    pub(crate) fn adopt(&mut self, now: Mono, version: Version) {
        let kept = Some(Box::new(Kept { version, written: Some(self.written()), seen: now }));
        if let State::Pending(pending) = self {
            pending.adopt(now);
        }
        self.set_kept(kept);
    }

    /// What this record becomes after its Secret was found missing. Somebody has deleted it or has set the store back, so
    /// that it must be stored again; or another process has taken this one for dead and has ended the check.
    pub(crate) fn without_secret(&self) -> State {
        let mut state = self.clone();
        state.set_kept(None);
        if let State::Pending(pending) = &mut state {
            // The event of one that is over was taken, and the proof of an unproven one says the same. Nobody could end one that
            // was never stored.
            pending.is_doubted = self.kept().is_some() && pending.is_proven() && !pending.is_over();
        }
        state
    }

    /// What this record becomes after its Secret was read as `read`. What was read replaces what was held; its own progress
    /// stays where it still fits: a decision that was not stored yet stands where nothing is decided, and what was served
    /// stays served.
    pub(crate) fn reread(&self, mut read: State, version: Version, now: Mono) -> Reread {
        let is_same = self.evaluation() == read.evaluation();
        let written = Some(read.written()).filter(|_| self.kept().is_some());
        let kept = Some(Box::new(Kept { version: version.clone(), written, seen: now }));
        let becomes = |state: State| Reread::Becomes(Box::new(state));
        match (self, &mut read) {
            // It was accepted while the server was away, and comes after what another process has ended.
            (State::Pending(held), State::Done(_)) if held.kept.is_none() => {
                becomes(State::Pending(Box::new(Pending { kept, ..(**held).clone() })))
            }
            (State::Done(done), State::Done(_)) if is_same => {
                becomes(State::Done(Done { kept, ..done.clone() }))
            }
            // Another process has ended it.
            (_, State::Done(_)) => {
                read.set_kept(kept);
                becomes(read)
            }
            // It was accepted while the server was away, beside one that was there.
            (State::Pending(held), State::Pending(new)) if held.kept.is_none() || is_same => {
                if new.decided().is_some() && held.decided().is_none() {
                    new.take_deliveries(held);
                    new.adopt(now);
                    (new.place, new.kept) = (held.place.clone(), kept);
                    return becomes(read);
                }
                let is_reported = matches!(held.phase, Phase::Owing(_));
                let mut state = held.clone();
                let has_new = state.take_deliveries(new);
                if is_reported && has_new {
                    new.take_deliveries(held);
                    new.adopt(now);
                    (new.taken, new.is_reported, new.kept) = (true, true, kept);
                    return becomes(read);
                }
                state.kept = kept;
                becomes(State::Pending(state))
            }
            (State::Done(done), State::Pending(new)) if is_same && new.delivery <= done.served => {
                becomes(State::Done(Done { kept, ..done.clone() }))
            }
            // A delivery has come for which no event was sent, or a new evaluation has begun.
            (held, State::Pending(new)) => {
                new.adopt(now);
                if let (State::Done(done), true) = (held, is_same) {
                    (new.taken, new.is_reported) = (true, done.reported);
                }
                if let State::Pending(held) = held {
                    new.place = held.place.clone();
                }
                new.kept = kept;
                becomes(read)
            }
        }
    }
}

impl Pending {
    /// Its saved state.
    pub(crate) fn saved(&self) -> Saved {
        match &self.phase {
            Phase::Accepted | Phase::Proven => Saved::Accepted,
            Phase::Watching(_) => Saved::Watching,
            Phase::Decided(_) => Saved::Decided,
            Phase::Owing(_) => Saved::Done,
        }
    }

    /// What its Secret should say.
    pub(crate) fn written(&self) -> Written {
        let decided = self.decided().map(|decided| decided.at);
        let reruns = match &self.phase {
            Phase::Watching(watch) => watch.retries.changes(),
            _ => 0,
        };
        Written { saved: self.saved(), delivery: self.delivery, decided, reruns }
    }

    /// Whether its decision is stored, so that no other process decides anew.
    pub(crate) fn is_fenced(&self) -> bool {
        let written = self.kept.as_ref().and_then(|kept| kept.written);
        let decided = self.decided().map(|decided| decided.at);
        written.is_some_and(|written| written.saved >= Saved::Decided && written.decided == decided)
    }

    fn adopt(&mut self, now: Mono) {
        self.began = now;
        self.place = Placed::Unnoted;
        self.falls = super::Falls::default();
        // An event may be under way, or have been taken: nobody here knows.
        self.taken |= self.claim.take().is_some() || self.decided().is_some();
        if let Phase::Watching(watch) = &mut self.phase
            && let Some(seen) = &mut watch.seen
        {
            seen.since = now;
        }
    }

    /// Takes over the deliveries that another record of it has and this one lacks. Returns whether there are any.
    fn take_deliveries(&mut self, other: &Pending) -> bool {
        let mut has_new = false;
        for one in other.candidates() {
            let is_known = |token| self.candidates().iter().any(|own| own.tokens.hold(token));
            if one.tokens.all().all(|(token, ..)| is_known(token)) {
                continue;
            }
            has_new = true;
            if self.is_proven() {
                let is_same =
                    self.callback == one.callback && super::is_same_ask(self.ask.as_ref(), one.ask.as_ref());
                if is_same {
                    for (token, delivery, ends) in one.tokens.all() {
                        self.tokens.add(token.clone(), delivery, ends);
                    }
                    self.observe &= one.observe;
                }
            } else {
                let _full = self.stand_beside(one);
            }
        }
        // Both may have a delivery with the same number.
        let is_beside = has_new && self.delivery >= other.delivery;
        self.delivery = self.delivery.max(other.delivery).saturating_add(u32::from(is_beside));
        self.delivered = self.delivered.max(other.delivered);
        self.note_ends();
        has_new
    }
}

#[cfg(test)]
mod tests;
