//! What the cluster store holds of a check, and what becomes of a record when its Secret is read again.

use super::{Done, Pending, Phase, Placed, State};
use crate::time::Mono;
use crate::wire::kubernetes::Version;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A check's Secret as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The version that was last read or written.
    pub version: Version,
    /// The stage of the check in that version.
    pub stage: Stage,
    /// When that version was seen, owned by this process.
    pub seen: Mono,
}

/// The stages of a check's life that are written to its Secret. A check is written when it enters another one, so that
/// its life costs few writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its lower bound is not determined.
    Accepted,
    /// Testkube is asked.
    Watching,
    /// It is decided: before the event is sent, so that no adopter decides anew.
    Decided,
    /// The event was taken, or nobody waits for it.
    Done,
}

/// How long after its last sight a Secret that is missing counts as deleted by hand. A process that was cut off for
/// longer may have been taken for dead, and another one has ended the check and deleted its Secret.
const BY_HAND: Duration = Duration::from_secs(5 * 60);

/// What a record becomes when its Secret is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reread {
    /// This takes its place.
    Becomes(Box<State>),
    /// It leaves the ledger without a word: another process owns it, or has ended it.
    Leaves,
}

impl State {
    /// Its stage.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            State::Pending(pending) => pending.stage(),
            State::Done(_) => Stage::Done,
        }
    }

    /// What is known of its Secret; `None` without a cluster store, and until it is stored there.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        match self {
            State::Pending(pending) => pending.kept.as_deref(),
            State::Done(done) => done.kept.as_deref(),
        }
    }

    pub(crate) fn set_kept(&mut self, kept: Option<Box<Kept>>) {
        match self {
            State::Pending(pending) => pending.kept = kept,
            State::Done(done) => done.kept = kept,
        }
    }

    /// Makes it a check of this process, which has just read it from its Secret: calls under way, and everything that
    /// was measured by another process's observation, begin anew.
    pub(crate) fn adopt(&mut self, now: Mono, version: Version) {
        let kept = Some(Box::new(Kept { version, stage: self.stage(), seen: now }));
        if let State::Pending(pending) = self {
            pending.adopt(now);
        }
        self.set_kept(kept);
    }

    /// What this record becomes after its Secret was found missing. A list that began at `swept` had it, if it was stored
    /// before.
    pub(crate) fn without_secret(&self, now: Mono, swept: Mono) -> Reread {
        // One that was never stored cannot have been ended by another.
        let was_seen = self.kept().is_none_or(|kept| now.since(kept.seen.max(swept)) < BY_HAND);
        match self {
            State::Pending(_) if !was_seen => Reread::Leaves,
            // Deleted by hand: a pending check is stored again.
            _ => {
                let mut state = self.clone();
                state.set_kept(None);
                Reread::Becomes(Box::new(state))
            }
        }
    }

    /// What this record becomes after its Secret was read as `read`, owned by this process. What was read replaces what
    /// was held; the own progress stays where it still fits: a decision that was not stored yet stands where nothing is
    /// decided, and what was served stays served.
    pub(crate) fn reread(&self, mut read: State, version: Version, now: Mono) -> Reread {
        let stage = match (self.kept(), self.stage()) {
            (Some(_), _) => read.stage(),
            // What was not stored before is written in any case: what was read may lack its delivery.
            (None, Stage::Done) => Stage::Accepted,
            (None, _) => Stage::Done,
        };
        let kept = Some(Box::new(Kept { version, stage, seen: now }));
        match (self, &mut read) {
            (State::Pending(_), State::Done(_)) if self.kept().is_none() => {
                let mut state = self.clone();
                state.set_kept(kept);
                Reread::Becomes(Box::new(state))
            }
            // Another process has ended it.
            (State::Pending(_), State::Done(_)) => {
                read.set_kept(kept);
                Reread::Becomes(Box::new(read))
            }
            (State::Pending(held), State::Pending(new)) if held.is_served(new.delivery) => {
                if new.decided().is_some() && held.decided().is_none() {
                    let place = held.place.clone();
                    new.adopt(now);
                    new.place = place;
                    new.kept = kept;
                    return Reread::Becomes(Box::new(read));
                }
                let mut state = held.clone();
                state.take_deliveries(new);
                state.kept = kept;
                Reread::Becomes(Box::new(State::Pending(state)))
            }
            (State::Done(done), State::Pending(new)) if new.delivery <= done.served => {
                Reread::Becomes(Box::new(State::Done(Done { kept, ..done.clone() })))
            }
            (State::Done(done), State::Done(_)) => {
                Reread::Becomes(Box::new(State::Done(Done { kept, ..done.clone() })))
            }
            // A delivery has come for which no event was sent: it gets one.
            (_, State::Pending(new)) => {
                new.adopt(now);
                let is_reported = match self {
                    State::Pending(_) => true,
                    State::Done(done) => done.reported,
                };
                (new.taken, new.is_reported) = (true, is_reported);
                new.kept = kept;
                Reread::Becomes(Box::new(read))
            }
        }
    }
}

impl Pending {
    /// Its stage.
    pub(crate) fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Accepted | Phase::Proven => Stage::Accepted,
            Phase::Watching(_) => Stage::Watching,
            Phase::Decided(_) => Stage::Decided,
            Phase::Owing(_) => Stage::Done,
        }
    }

    /// Whether its decision is stored, so that no other process decides anew.
    pub(crate) fn is_fenced(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.stage >= Stage::Decided)
    }

    /// Whether a record of it with this number of deliveries holds none that comes after its end.
    fn is_served(&self, delivery: u32) -> bool {
        !matches!(self.phase, Phase::Owing(_)) || delivery <= self.delivery
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

    /// Takes over the deliveries that another process, or a stream, has added to the Secret.
    fn take_deliveries(&mut self, read: &Pending) {
        if read.delivery <= self.delivery {
            return;
        }
        for one in read.candidates() {
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
        (self.delivery, self.delivered) = (read.delivery, read.delivered);
        self.note_ends();
    }
}
