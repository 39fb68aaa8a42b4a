//! Deliveries of one check with different values, side by side until Azure DevOps has taken a token.
//!
//! Whoever knows a check's ids can deliver them with values and a token of their own, before or after Azure DevOps does. A
//! token proves only the values that it came with: so each delivery keeps its own, the first whose token is taken fixes the
//! check, and the others are dropped.

use super::{Ask, Log, Outcome, Pending, Phase, Tokens};
use crate::azure::Callback;
use crate::time::Now;
use serde::{Deserialize, Serialize};

/// How many deliveries with different values stand side by side.
pub const MAX_CANDIDATES: usize = 4;

/// A delivery whose token has not been taken yet, with the values that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Where it is answered.
    pub callback: Callback,
    /// What it asks; `None` where that could not be understood.
    pub ask: Option<Ask>,
    /// What is decided as soon as its token is taken.
    pub known: Option<Known>,
    /// Its tokens.
    pub tokens: Tokens,
    /// The credential that sent it.
    pub credential: String,
    /// Whether its verdict is only told.
    pub observe: bool,
    /// When it came first.
    pub accepted: Now,
    /// How often its proof was tried.
    pub tries: u32,
    /// Whether Azure DevOps refused its token at the last try.
    pub is_refused: bool,
}

/// A decision that is known before Testkube is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Which.
    pub outcome: Outcome,
    /// Why, for the people at the pipeline.
    pub reason: String,
}

/// What became of a delivery that stands beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// One with the same values was there: its token stands beside that one's.
    Again,
    /// It has a place of its own.
    Beside,
    /// There is no place for it, and none of its credential's that it could take; or its token came with other values before.
    Nowhere,
}

impl Candidate {
    /// Whether another delivery came with the same values, by value.
    pub fn is_same(&self, other: &Candidate) -> bool {
        self.credential == other.credential
            && self.callback == other.callback
            && is_same_ask(self.ask.as_ref(), other.ask.as_ref())
            && (self.ask.is_some() || self.known == other.known)
    }

    fn take(&mut self, other: Candidate, delivery: u32) {
        if let Some(ends) = other.tokens.ends() {
            self.tokens.add(other.tokens.current().clone(), delivery, ends);
        }
        self.observe &= other.observe;
        (self.tries, self.is_refused) = (0, false);
    }
}

/// Whether two deliveries ask the same; those that could not be understood do.
pub fn is_same_ask(one: Option<&Ask>, other: Option<&Ask>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

impl Pending {
    /// Whether Azure DevOps has taken a call with one of its tokens: then its values are fixed.
    pub fn is_proven(&self) -> bool {
        match self.phase {
            Phase::Accepted => false,
            Phase::Proven | Phase::Watching(_) => true,
            // Modules that did not note it decided nothing without a proof that a token could have changed.
            Phase::Owing(_) => true,
            Phase::Decided(_) => self.tokens.are_proven() || self.tokens.are_of_old_record(),
        }
    }

    /// Adds a delivery to those that have not been proven. A credential takes the place of its own only: of one that was
    /// refused, else of the one that came last, so that what came first is not driven out.
    pub fn stand_beside(&mut self, new: Candidate, delivery: u32) -> Stands {
        let mut all = self.candidates();
        let stands = if let Some(at) = all.iter().position(|one| one.is_same(&new)) {
            let mut one = all.remove(at);
            one.take(new, delivery);
            all.insert(0, one);
            Stands::Again
        } else if all.iter().any(|one| one.tokens.hold(new.tokens.current())) {
            // It would prove both. What came first with it counts.
            return Stands::Nowhere;
        } else if all.len() < MAX_CANDIDATES {
            all.insert(0, new);
            Stands::Beside
        } else {
            let own = |one: &&Candidate| one.credential == new.credential;
            let refused = all.iter().filter(own).find(|one| one.is_refused);
            let last = || all.iter().filter(own).max_by_key(|one| one.tokens.current_delivery());
            let Some(displaced) = refused.or_else(last).map(|one| one.tokens.clone()) else {
                return Stands::Nowhere;
            };
            all.retain(|one| one.tokens != displaced);
            all.insert(0, new);
            Stands::Beside
        };
        self.set_candidates(all);
        (self.phase, self.log) = (Phase::Accepted, Log::Unopened);
        stands
    }

    /// All deliveries that have not been proven, the one whose turn it is first.
    fn candidates(&self) -> Vec<Candidate> {
        let front = Candidate {
            callback: self.callback.clone(),
            ask: self.ask.clone(),
            known: self.known.clone(),
            tokens: self.tokens.clone(),
            credential: self.credential.clone(),
            observe: self.observe,
            accepted: self.accepted,
            tries: self.tries,
            is_refused: self.is_refused,
        };
        std::iter::once(front).chain(self.rivals.iter().cloned()).collect()
    }

    fn set_candidates(&mut self, mut all: Vec<Candidate>) {
        if all.is_empty() {
            return;
        }
        let front = all.remove(0);
        self.callback = front.callback;
        self.ask = front.ask;
        self.known = front.known;
        self.tokens = front.tokens;
        self.credential = front.credential;
        self.observe = front.observe;
        self.accepted = front.accepted;
        self.tries = front.tries;
        self.is_refused = front.is_refused;
        self.rivals = all;
        self.note_ends();
    }

    /// Azure DevOps took the token that this delivery brought: its values are the check's, the others are dropped. False: it
    /// is not among those that have not been proven.
    pub fn prove(&mut self, delivery: u32) -> bool {
        if self.is_proven() || !self.bring_forward(|one| one.tokens.came_with(delivery)) {
            return false;
        }
        self.rivals.clear();
        self.tokens.was_taken(delivery);
        (self.tries, self.is_refused) = (0, false);
        self.note_ends();
        true
    }

    /// A proof with the token that this delivery brought has failed: the turn goes to the one that was tried least. Answers
    /// whether all have had theirs.
    pub fn pass_turn(&mut self, delivery: u32, is_refused: bool) -> bool {
        let mut all = self.candidates();
        let Some(at) = all.iter().position(|one| one.tokens.came_with(delivery)) else { return false };
        let Some(one) = all.get_mut(at) else { return false };
        if one.tokens.current_delivery() != delivery {
            return false;
        }
        if is_refused {
            one.tokens.refused(delivery);
        }
        // Its other token has its turn first.
        let has_other = one.tokens.current_delivery() < delivery;
        if !has_other {
            one.tries = one.tries.saturating_add(1);
            one.is_refused = is_refused;
        }
        let rounds = one.tries;
        let least = all.iter().map(|one| one.tries).min().unwrap_or_default();
        if let Some(next) = all.iter().position(|one| one.tries == least) {
            all.rotate_left(next);
        }
        self.set_candidates(all);
        !has_other && least >= rounds
    }

    /// One of those that have not been proven is dropped: its run is over, or its token has ended. False: no other is left,
    /// and nothing was changed.
    pub fn drop_candidate(&mut self, delivery: u32) -> bool {
        let mut all = self.candidates();
        all.retain(|one| !one.tokens.came_with(delivery));
        let is_left = !all.is_empty();
        self.set_candidates(all);
        is_left
    }

    /// Gives the turn to the first of those that have not been proven that is as asked; false if none is.
    pub fn bring_forward(&mut self, is: impl Fn(&Candidate) -> bool) -> bool {
        let mut all = self.candidates();
        let Some(at) = all.iter().position(is) else { return false };
        if at > 0 {
            all.rotate_left(at);
            self.set_candidates(all);
        }
        true
    }

    /// Whether all that have not been proven are so.
    pub fn all_candidates(&self, are: impl Fn(&Candidate) -> bool) -> bool {
        self.candidates().iter().all(are)
    }

    /// None of those that have not been proven counts as refused any more.
    pub fn forget_refusals(&mut self) {
        let mut all = self.candidates();
        for one in &mut all {
            (one.tries, one.is_refused) = (0, false);
        }
        self.set_candidates(all);
    }
}
