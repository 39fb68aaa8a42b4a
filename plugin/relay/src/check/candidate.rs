//! Deliveries of one check with different values, kept side by side until Azure DevOps has taken a token.
//!
//! Anybody who knows a check's ids can deliver them with values and a token of their own, before or after Azure DevOps
//! does. A token proves only the values that it came with. So each delivery keeps its own; the first whose token is
//! taken fixes the check, and the others are dropped.

use super::{Ask, Log, Outcome, Pending, Phase, ReasonCode, Tokens};
use crate::time::{Mono, Now};
use crate::wire::azure::Callback;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Maximum deliveries side by side.
pub const MAX_CANDIDATES: usize = 8;
/// Maximum deliveries of one credential among them.
pub const MAX_OF_CREDENTIAL: usize = 6;

/// A delivery whose token has not been taken yet, with its own values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The address of its answer.
    pub callback: Callback,
    /// Its request; `None` if it could not be understood.
    pub ask: Option<Ask>,
    /// A decision to make as soon as its token is taken.
    pub known: Option<Known>,
    /// Its token.
    pub tokens: Tokens,
    /// The credential that sent it.
    pub credential: String,
    /// Whether its verdict is only logged.
    pub observe: bool,
    /// When it first came.
    pub accepted: Now,
    /// As [`Pending::earlier`].
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub earlier: Duration,
    /// Number of tries of its proof.
    pub tries: u32,
    /// When it last had its turn, or came. The one that has waited longest is next.
    #[serde(default)]
    pub turn: Mono,
    /// Whether Azure DevOps refused its token at the last try.
    pub is_refused: bool,
}

/// A decision that is known before Testkube is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The decision.
    pub outcome: Outcome,
    /// The reason in words, for the people at the pipeline.
    pub reason: String,
    /// The reason as a code, for programs. `None` in records of modules that did not note it.
    #[serde(default, deserialize_with = "super::code::known", skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// Set if this decision was just reported: until then a delivery of the same values repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats_until: Option<Mono>,
}

/// The outcome of a delivery that is kept beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It was there already.
    Again,
    /// It was added.
    Beside,
    /// Its token came with other values before.
    Otherwise,
    /// There is no room for it.
    Nowhere,
}

impl Candidate {
    /// Whether another delivery has equal values.
    pub fn is_same(&self, other: &Candidate) -> bool {
        self.callback == other.callback && is_same_ask(self.ask.as_ref(), other.ask.as_ref())
    }
}

/// Whether two deliveries ask the same. Two that could not be understood do.
pub fn is_same_ask(one: Option<&Ask>, other: Option<&Ask>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

impl Pending {
    /// Whether Azure DevOps has taken a call at the check's plan with one of its tokens, which fixes its values. A
    /// token that may only read the build lets the check go on, but its values give way to those of a token that is
    /// taken at the plan.
    pub fn is_proven(&self) -> bool {
        match self.phase {
            Phase::Accepted => false,
            Phase::Owing(_) => true,
            // Modules that did not note it decided nothing without a proof that a token could have changed.
            Phase::Proven | Phase::Watching(_) | Phase::Decided(_) => {
                self.tokens.are_proven() || self.tokens.are_of_old_record()
            }
        }
    }

    /// Adds a delivery to the unproven ones. It never displaces one that may still be proven, only one whose token was
    /// refused.
    pub fn stand_beside(&mut self, mut new: Candidate) -> Stands {
        let mut all = self.candidates();
        let token = new.tokens.current();
        if let Some(at) = all.iter().position(|one| one.tokens.hold(token)) {
            let Some(one) = all.get_mut(at).filter(|one| one.is_same(&new)) else { return Stands::Otherwise };
            one.observe &= new.observe;
            self.set_candidates(all);
            return Stands::Again;
        }
        let mut repeated = all.iter().filter(|one| one.is_same(&new)).filter_map(|one| one.known.as_ref());
        let is_repeated = |known: &&Known| known.repeats_until.is_some_and(|until| new.accepted.mono < until);
        if let Some(known) = repeated.find(is_repeated) {
            new.known = Some(known.clone());
        }
        let own = all.iter().filter(|one| one.credential == new.credential).count();
        let is_full = own >= MAX_OF_CREDENTIAL || all.len() >= MAX_CANDIDATES;
        if is_full {
            let may_go = |one: &Candidate| own < MAX_OF_CREDENTIAL || one.credential == new.credential;
            let refused = all.iter().position(|one| one.is_refused && may_go(one));
            let Some(at) = refused else { return Stands::Nowhere };
            all.remove(at);
        }
        all.push(new);
        self.set_candidates(all);
        if self.phase != Phase::Accepted {
            (self.phase, self.log) = (Phase::Accepted, Log::Unopened);
        }
        self.next_turn();
        Stands::Beside
    }

    /// Gives the turn to the delivery that has waited longest.
    fn next_turn(&mut self) {
        let mut all = self.candidates();
        let waited = |one: &Candidate| (one.turn, one.tries, one.tokens.current_delivery());
        let next = all.iter().enumerate().min_by_key(|(_, one)| waited(one)).map(|(at, _)| at);
        if let Some(next @ 1..) = next {
            all.rotate_left(next);
            self.set_candidates(all);
        }
    }

    /// All unproven deliveries, first the one whose turn it is.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let front = Candidate {
            callback: self.callback.clone(),
            ask: self.ask.clone(),
            known: self.known.clone(),
            tokens: self.tokens.clone(),
            credential: self.credential.clone(),
            observe: self.observe,
            accepted: self.accepted,
            earlier: self.earlier,
            tries: self.tries,
            turn: self.turn,
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
        self.earlier = front.earlier;
        self.tries = front.tries;
        self.turn = front.turn;
        self.is_refused = front.is_refused;
        self.rivals = all;
        self.note_ends();
    }

    /// Notes that Azure DevOps took the token that this delivery brought: its values are the check's. If that was at
    /// the check's plan, it is final: the others are dropped, except for the newest token with equal values. False if
    /// the delivery is not among the unproven ones.
    pub fn prove(&mut self, delivery: u32, is_at_plan: bool) -> bool {
        if self.is_proven() || !self.bring_forward(|one| one.tokens.came_with(delivery)) {
            return false;
        }
        (self.tries, self.is_refused) = (0, false);
        if is_at_plan {
            let mut all = self.candidates();
            let own = all.remove(0);
            all.retain(|one| one.is_same(&own));
            self.rivals.clear();
            self.tokens.note_taken(delivery);
            self.observe &= all.iter().all(|one| one.observe);
            if let Some(newest) = all.iter().max_by_key(|one| one.tokens.current_delivery()) {
                let (token, brought) = (newest.tokens.current(), newest.tokens.current_delivery());
                self.tokens.add(token.clone(), brought, newest.tokens.ends().unwrap_or_default());
            }
        }
        self.note_ends();
        true
    }

    /// Notes that a proof with the token that this delivery brought has failed, and passes the turn to the one that has
    /// waited longest. Returns whether all have had equally many turns.
    pub fn pass_turn(&mut self, delivery: u32, is_refused: bool, now: Mono) -> bool {
        let mut all = self.candidates();
        let Some(one) = all.iter_mut().find(|one| one.tokens.came_with(delivery)) else { return false };
        if one.tokens.current_delivery() != delivery {
            return false;
        }
        if is_refused {
            one.tokens.refused(delivery);
        }
        // Records of earlier modules hold two tokens together: the other one has its turn first.
        let has_other = one.tokens.current_delivery() < delivery;
        if !has_other {
            one.tries = one.tries.saturating_add(1);
            one.is_refused = is_refused;
            one.turn = now;
        }
        let tries = one.tries;
        self.set_candidates(all);
        self.next_turn();
        !has_other && self.tries >= tries
    }

    /// Drops an unproven delivery: its run is over, its token has ended, or its decision was not taken. False if it is
    /// the only one; then nothing changes.
    pub fn drop_candidate(&mut self, delivery: u32) -> bool {
        let mut all = self.candidates();
        let before = all.len();
        all.retain(|one| !one.tokens.came_with(delivery));
        if all.is_empty() || all.len() == before {
            return false;
        }
        self.set_candidates(all);
        if self.phase != Phase::Accepted {
            (self.phase, self.log, self.claim) = (Phase::Accepted, Log::Unopened, None);
        }
        self.next_turn();
        true
    }

    /// Whether, as far as is known, no other delivery can be proven at the plan.
    pub fn are_others_refused(&self) -> bool {
        self.rivals.iter().all(|one| one.is_refused)
    }

    /// Gives the turn to the first unproven delivery for which `is` holds. False if there is none.
    pub fn bring_forward(&mut self, is: impl Fn(&Candidate) -> bool) -> bool {
        let mut all = self.candidates();
        let Some(at) = all.iter().position(is) else { return false };
        if at > 0 {
            all.rotate_left(at);
            self.set_candidates(all);
        }
        true
    }

    /// Whether `are` holds for all unproven deliveries.
    pub fn all_candidates(&self, are: impl Fn(&Candidate) -> bool) -> bool {
        self.candidates().iter().all(are)
    }

    /// Forgets which unproven deliveries were refused.
    pub fn forget_refusals(&mut self) {
        let mut all = self.candidates();
        for one in &mut all {
            (one.tries, one.is_refused) = (0, false);
        }
        self.set_candidates(all);
    }
}
