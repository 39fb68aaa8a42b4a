//! The deadline of a check's decision.

use super::{Ask, Ends, Pending, Phase};
use crate::time::{Mono, Now, in_words};
use std::time::Duration;

/// The latest time of a check's decision, and what sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Time from acceptance to the deadline.
    pub after: Duration,
    /// The deadline.
    pub at: Mono,
    /// Whether the token's end sets it, because it comes before the check's own timeout.
    pub by_token: bool,
}

impl Deadline {
    /// The deadline of a check that was accepted at `accepted`, or this much earlier, with this `timeout`, if any, and a
    /// token that must be used by `decide_by`.
    pub fn of(accepted: Mono, earlier: Duration, timeout: Option<Duration>, decide_by: Mono) -> Deadline {
        let own = timeout.map(|timeout| accepted.plus(timeout.saturating_sub(earlier)));
        let own = own.filter(|own| *own <= decide_by);
        let at = own.unwrap_or(decide_by);
        Deadline { after: at.since(accepted).saturating_add(earlier), at, by_token: own.is_none() }
    }

    /// `12h`, or less and why: for a sentence with `within` or `after`.
    pub fn in_words(&self, ends: Ends) -> String {
        let after = in_words(self.after);
        match (self.by_token, ends.assumed) {
            (false, _) => after,
            (true, false) => format!("{after}, because its token ends then"),
            (true, true) => {
                format!("{after}, because its token is assumed to end then (azure_devops[].token_life)")
            }
        }
    }
}

impl Pending {
    /// Its deadline.
    pub fn deadline(&self) -> Deadline {
        let timeout = self.ask.as_ref().map(|ask: &Ask| ask.timeout);
        Deadline::of(self.accepted.mono, self.earlier, timeout, self.decide_by)
    }

    /// Whether the deadline has passed; while no delivery is proven, the deadlines of all of them.
    pub fn is_past_deadline(&self, now: Now) -> bool {
        now.mono >= self.deadline().at
            && (self.rivals.is_empty()
                || self.phase != Phase::Accepted
                || self.all_candidates(|one| {
                    let decide_by = one.tokens.ends().map_or(self.decide_by, |ends| ends.decide_by);
                    now.mono >= one.deadline(decide_by).at
                }))
    }

    /// Sets its times from its tokens.
    pub fn note_ends(&mut self) {
        if let Some(ends) = self.tokens.ends() {
            (self.token_end, self.decide_by) = (ends.at, ends.decide_by);
        }
    }

    /// Notes that Azure DevOps took a call with the token that this delivery brought. False if that was known.
    pub fn token_was_taken(&mut self, delivery: u32) -> bool {
        let is_new = self.tokens.note_taken(delivery);
        self.note_ends();
        is_new
    }
}
