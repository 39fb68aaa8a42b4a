//! By when a check is decided, whatever happens.

use super::{Ask, Ends, Pending, Phase};
use crate::time::{Mono, Now, in_words};
use std::time::Duration;

/// By when a check is decided, and what sets that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// How long after the check was accepted.
    pub after: Duration,
    /// When.
    pub at: Mono,
    /// Whether its token ends before its own time is over.
    pub by_token: bool,
}

impl Deadline {
    /// Of a check that asks for `timeout`, if anything, since it was accepted, with a token that ends as given.
    pub fn of(accepted: Mono, timeout: Option<Duration>, decide_by: Mono) -> Deadline {
        let own = timeout.map(|timeout| accepted.plus(timeout)).filter(|own| *own <= decide_by);
        let at = own.unwrap_or(decide_by);
        Deadline { after: at.since(accepted), at, by_token: own.is_none() }
    }

    /// `12h` after the check came, or less and why: for a sentence that says `within` or `after`.
    pub fn in_words(&self, ends: Ends) -> String {
        let after = in_words(self.after);
        match (self.by_token, ends.assumed) {
            (false, _) => after,
            (true, false) => format!("{after}, because its token ends then"),
            (true, true) => {
                format!("{after}, because its token is taken to end then (azure_devops[].token_life)")
            }
        }
    }
}

impl Pending {
    /// By when it is decided.
    pub fn deadline(&self) -> Deadline {
        Deadline::of(self.accepted.mono, self.ask.as_ref().map(|ask: &Ask| ask.timeout), self.decide_by)
    }

    /// Whether the time for its decision is over; while none of its deliveries is proven, for all of them.
    pub fn is_past_deadline(&self, now: Now) -> bool {
        now.mono >= self.deadline().at
            && (self.rivals.is_empty()
                || self.phase != Phase::Accepted
                || self.all_candidates(|one| {
                    let decide_by = one.tokens.ends().map_or(self.decide_by, |ends| ends.decide_by);
                    let timeout = one.ask.as_ref().map(|ask| ask.timeout);
                    now.mono >= Deadline::of(one.accepted.mono, timeout, decide_by).at
                }))
    }

    /// Its times follow its tokens.
    pub fn note_ends(&mut self) {
        if let Some(ends) = self.tokens.ends() {
            (self.token_end, self.decide_by) = (ends.at, ends.decide_by);
        }
    }

    /// Azure DevOps took a call with the token that this delivery brought. False: that was known.
    pub fn token_was_taken(&mut self, delivery: u32) -> bool {
        let is_new = self.tokens.was_taken(delivery);
        self.note_ends();
        is_new
    }
}
