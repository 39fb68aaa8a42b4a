//! A delivery of a check: what it makes of the check's record.

use super::{
    Candidate, Deadline, Done, Ends, Falls, Known, Log, Outcome, Pending, Phase, Place, Placed, Stands,
    State, is_same_ask,
};
use crate::time::{Mono, Now};
use std::time::Duration;

/// How long after the decision was taken a delivery counts as the same one again, because Azure DevOps, or a proxy
/// before it, has not seen the answer to the first. A later delivery is evaluated anew.
const SAME_DECISION: Duration = Duration::from_secs(30);

/// The kind of a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivered {
    /// A new check.
    New(Deadline, Ends),
    /// A repeat of a check that waits already.
    Again,
    /// A delivery with other values than those already there, none of which is proven yet.
    Beside(Deadline, Ends),
    /// A repeat of a check that was just decided: the decision is reported once more.
    Repeated(Outcome),
    /// A delivery with other values than the fixed ones, or with a known token that came with other values.
    Different,
    /// A delivery of a check of which the maximum waits to be proven.
    Crowded,
    /// A new check, which has no place.
    Unplaced,
}

impl Delivered {
    /// Why a delivery was not taken, as the rest of a sentence.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Delivered::Different => "its values differ",
            Delivered::Crowded => "has no place for more deliveries",
            Delivered::Unplaced => "there is no place for a new one",
            Delivered::New(..) | Delivered::Again | Delivered::Beside(..) | Delivered::Repeated(_) => {
                "it was accepted"
            }
        }
    }

    /// Whether the check is evaluated anew for it.
    pub(crate) fn begins_evaluation(self) -> bool {
        matches!(self, Delivered::New(..) | Delivered::Repeated(_))
    }
}

/// What a delivery makes of a record.
pub(crate) enum Delivery {
    /// The record stays as it is.
    Kept(Delivered),
    /// This record takes its place.
    Put(Box<Pending>, Delivered),
}

/// Applies a delivery to a check's record; `has_place` says whether there is a place for a new check. Streams
/// call it on any worker, and the leader where a delivery reached the ledger alone.
pub(crate) fn deliver(found: Option<&State>, new: &Candidate, now: Now, has_place: bool) -> Delivery {
    match found {
        Some(State::Pending(pending)) if !pending.is_over() => {
            let mut pending = pending.clone();
            pending.delivery = pending.delivery.saturating_add(1);
            pending.delivered = now.mono;
            let mut further = new.clone();
            further.tokens.came_by(pending.delivery);
            let delivered = if pending.is_proven() {
                add_token(&mut pending, &further)
            } else {
                stand_beside(&mut pending, further)
            };
            match delivered {
                kept @ (Delivered::Different | Delivered::Crowded) => Delivery::Kept(kept),
                delivered => Delivery::Put(pending, delivered),
            }
        }
        _ if !has_place => Delivery::Kept(Delivered::Unplaced),
        other => {
            let mut pending = Box::new(first_delivery(new.clone(), now));
            let delivered = match other {
                Some(State::Done(done)) => follow(&mut pending, done, now),
                Some(State::Pending(before)) => {
                    before.reported().and_then(|done| follow(&mut pending, &done, now))
                }
                None => None,
            };
            let ends = pending.tokens.ends().unwrap_or_default();
            let deadline = pending.deadline();
            Delivery::Put(pending, delivered.unwrap_or(Delivered::New(deadline, ends)))
        }
    }
}

/// Adds the token of a delivery to a proven check with the same values, whoever sends it.
fn add_token(pending: &mut Pending, new: &Candidate) -> Delivered {
    let is_same = pending.callback == new.callback && is_same_ask(pending.ask.as_ref(), new.ask.as_ref());
    if !is_same {
        return Delivered::Different;
    }
    let ends = new.tokens.ends().unwrap_or_default();
    pending.tokens.add(new.tokens.current().clone(), pending.delivery, ends);
    pending.note_ends();
    // Another credential cannot loosen a check that is enforced.
    pending.observe &= new.observe;
    Delivered::Again
}

/// Adds a delivery with its own values to a check that is not proven yet.
fn stand_beside(pending: &mut Pending, new: Candidate) -> Delivered {
    let ends = new.tokens.ends().unwrap_or_default();
    let deadline = new.deadline(ends.decide_by);
    match pending.stand_beside(new) {
        Stands::Again => Delivered::Again,
        Stands::Beside => Delivered::Beside(deadline, ends),
        Stands::Otherwise => Delivered::Different,
        Stands::Nowhere => Delivered::Crowded,
    }
}

/// Handles a delivery after the decision: the same delivery repeats the decision; any other starts a new evaluation
/// that knows of the earlier one.
fn follow(pending: &mut Pending, done: &Done, now: Now) -> Option<Delivered> {
    let reported = done.reported()?;
    let is_same = done.values.as_ref().is_some_and(|values| {
        values.callback == pending.callback && is_same_ask(values.ask.as_ref(), pending.ask.as_ref())
    });
    if is_same && now.mono.since(done.at.mono) < SAME_DECISION {
        let repeats_until = Some(done.at.mono.plus(SAME_DECISION));
        pending.known = Some(Known {
            outcome: reported.outcome,
            reason: done.reason.clone(),
            code: done.code,
            repeats_until,
        });
        pending.before = Some(reported);
        // Azure DevOps may then say that nobody waits, because it took the earlier report.
        pending.taken = true;
        pending.observe &= done.observe;
        return Some(Delivered::Repeated(reported.outcome));
    }
    pending.before = Some(reported);
    None
}

impl Candidate {
    /// The place that a check is counted under, if this is its first delivery.
    pub(crate) fn place(&self) -> Place {
        Place { credential: self.credential.clone(), project: self.callback.project }
    }

    /// Its deadline, with a token that must be used by `decide_by`.
    pub(super) fn deadline(&self, decide_by: Mono) -> Deadline {
        let timeout = self.ask.as_ref().map(|ask| ask.timeout);
        Deadline::of(self.accepted.mono, self.earlier, timeout, decide_by)
    }
}

impl Pending {
    /// Notes the acceptance that began its evaluation, if this delivery did.
    pub(crate) fn begin_evaluation(&mut self, delivered: Delivered, acceptance: u64) {
        if delivered.begins_evaluation() {
            self.evaluation = acceptance;
        }
    }
}

/// The record of a check that nobody has evaluated yet.
pub(super) fn first_delivery(mut first: Candidate, now: Now) -> Pending {
    first.tokens.came_by(1);
    let place = Placed::Holds(first.place());
    let mut pending = Pending {
        callback: first.callback,
        ask: first.ask,
        known: first.known,
        tokens: first.tokens,
        rivals: Vec::new(),
        tries: 0,
        turn: now.mono,
        is_refused: false,
        began: now.mono,
        delivery: 1,
        delivered: now.mono,
        accepted: now,
        earlier: Duration::ZERO,
        acceptance: 0,
        evaluation: 0,
        is_doubted: false,
        kept: None,
        token_end: Mono(0),
        decide_by: Mono(0),
        log: Log::Unopened,
        claim: None,
        taken: false,
        is_reported: false,
        falls: Falls::default(),
        place,
        credential: first.credential,
        observe: first.observe,
        before: None,
        told: None,
        phase: Phase::Accepted,
    };
    pending.note_ends();
    pending
}
