//! The ledger's step for one delivery.

use super::Sender;
use crate::check::{
    Candidate, CheckKey, Done, Ends, Falls, Known, Log, Outcome, Pending, Phase, Place, Placed, ReasonCode,
    Record, Stands, State, Tokens, is_same_ask,
};
use crate::store::ledger::Change;
use crate::store::places::{Grant, Share};
use crate::surface::request::CheckRequest;
use crate::time::{Mono, Now};
use std::time::Duration;

/// How long after the decision was taken a delivery counts as the same one again, because Azure DevOps, or a proxy
/// before it, has not seen the answer to the first. A later delivery is evaluated anew.
const SAME_DECISION: Duration = Duration::from_secs(30);

/// The kind of a delivery.
#[derive(Debug)]
pub(super) enum Delivered {
    /// A new check.
    New(Deadline),
    /// A repeat of a check that waits already.
    Again,
    /// A delivery with other values than those already there, none of which is proven yet.
    Beside(Deadline),
    /// A repeat of a check that was just decided: the decision is reported once more.
    Repeated(Outcome),
    /// A delivery with other values than the fixed ones, or with a known token that came with other values.
    Different,
    /// A delivery of a check of which the maximum waits to be proven.
    Crowded,
    /// A new check for which there is no room.
    NoRoom(Share),
    /// A new check for which no place has been asked for yet.
    Unplaced,
}

/// The deadline of a taken check, and the end of its token.
pub(super) type Deadline = (crate::check::Deadline, Ends);

/// Applies a delivery to a check's record; `grant` is what is known of a place for a new check. Runs in the stream, on
/// any worker.
pub(super) fn deliver(
    found: Option<&Record>,
    request: &CheckRequest,
    sender: &Sender<'_>,
    ends: Ends,
    now: Now,
    grant: Option<Grant>,
) -> Change<Delivered> {
    let key = CheckKey::of(&request.callback);
    let put = |pending: Box<Pending>, delivered| {
        Change::Put(Box::new(Record { key, state: State::Pending(pending) }), delivered)
    };
    match found.map(|record| &record.state) {
        Some(State::Pending(pending)) if !pending.is_over() => {
            let mut pending = pending.clone();
            pending.delivery = pending.delivery.saturating_add(1);
            pending.delivered = now.mono;
            let delivered = if pending.is_proven() {
                add_token(&mut pending, request, sender, ends)
            } else {
                stand_beside(&mut pending, request, sender, ends, now)
            };
            match delivered {
                kept @ (Delivered::Different | Delivered::Crowded) => Change::Keep(kept),
                delivered => put(pending, delivered),
            }
        }
        other => match grant {
            None => Change::Keep(Delivered::Unplaced),
            Some(Grant::Full(share)) => Change::Keep(Delivered::NoRoom(share)),
            Some(Grant::Taken) => {
                let mut pending = Box::new(first_delivery(request, sender, ends, now));
                let delivered = match other {
                    Some(State::Done(done)) => follow(&mut pending, done, request, now),
                    Some(State::Pending(before)) => {
                        before.reported().and_then(|done| follow(&mut pending, &done, request, now))
                    }
                    None => None,
                };
                let deadline = (pending.deadline(), ends);
                put(pending, delivered.unwrap_or(Delivered::New(deadline)))
            }
        },
    }
}

/// Adds the token of a delivery to a proven check with the same values, whoever sends it.
fn add_token(pending: &mut Pending, request: &CheckRequest, sender: &Sender<'_>, ends: Ends) -> Delivered {
    let is_same =
        pending.callback == request.callback && is_same_ask(pending.ask.as_ref(), request.ask.as_ref().ok());
    if !is_same {
        return Delivered::Different;
    }
    pending.tokens.add(request.token.clone(), pending.delivery, ends);
    pending.note_ends();
    // Another credential cannot loosen a check that is enforced.
    pending.observe &= sender.observe;
    Delivered::Again
}

/// Adds a delivery with its own values to a check that is not proven yet.
fn stand_beside(
    pending: &mut Pending,
    request: &CheckRequest,
    sender: &Sender<'_>,
    ends: Ends,
    now: Now,
) -> Delivered {
    let delivery = pending.delivery;
    match pending.stand_beside(candidate(request, sender, ends, now, delivery)) {
        Stands::Again => Delivered::Again,
        Stands::Beside => {
            let timeout = request.ask.as_ref().ok().map(|ask| ask.timeout);
            let deadline = crate::check::Deadline::of(now.mono, timeout, ends.decide_by);
            Delivered::Beside((deadline, ends))
        }
        Stands::Otherwise => Delivered::Different,
        Stands::Nowhere => Delivered::Crowded,
    }
}

/// Handles a delivery after the decision: the same delivery repeats the decision; any other starts a new evaluation
/// that knows of the earlier one.
fn follow(pending: &mut Pending, done: &Done, request: &CheckRequest, now: Now) -> Option<Delivered> {
    let reported = done.reported()?;
    let is_same = done.values.as_ref().is_some_and(|values| {
        values.callback == request.callback && is_same_ask(values.ask.as_ref(), request.ask.as_ref().ok())
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

/// The credential and project that a check is counted under, if this is its first delivery.
pub(super) fn place_of(request: &CheckRequest, sender: &Sender<'_>) -> Place {
    Place { credential: sender.credential.into(), project: request.callback.project }
}

fn candidate(request: &CheckRequest, sender: &Sender<'_>, ends: Ends, now: Now, delivery: u32) -> Candidate {
    Candidate {
        callback: request.callback.clone(),
        ask: request.ask.as_ref().ok().cloned(),
        known: request.ask.as_ref().err().map(|wrong| Known {
            outcome: Outcome::Rejected,
            reason: format!("This check cannot be evaluated: {}", super::in_one(wrong)),
            code: Some(ReasonCode::of_rejected(wrong.first().map_or("", |wrong| wrong.field))),
            repeats_until: None,
        }),
        tokens: Tokens::new(request.token.clone(), delivery, ends),
        credential: sender.credential.into(),
        observe: sender.observe,
        accepted: now,
        tries: 0,
        turn: now.mono,
        is_refused: false,
    }
}

fn first_delivery(request: &CheckRequest, sender: &Sender<'_>, ends: Ends, now: Now) -> Pending {
    let first = candidate(request, sender, ends, now, 1);
    Pending {
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
        token_end: ends.at,
        decide_by: ends.decide_by,
        log: Log::Unopened,
        claim: None,
        taken: false,
        is_reported: false,
        falls: Falls { count: 0, last: Mono(0) },
        place: Placed::Holds(place_of(request, sender)),
        credential: first.credential,
        observe: first.observe,
        before: None,
        told: None,
        phase: Phase::Accepted,
    }
}
