//! Applies deliveries to a check's record.

use super::record;
use super::servers::wall;
use super::world::MINUTE;
use crate::check::{Ask, Candidate, Ends, Known, Pending, State, Tokens};
use crate::config::Rerun;
use crate::expect::Expect;
use crate::secret::Secret;
use crate::tag::Tag;
use crate::time::{Mono, Now};
use std::time::Duration;

pub(super) fn ask() -> Ask {
    Ask {
        tag: Tag { key: "ado-run".into(), value: "shop-1".into() },
        expect: Expect::parse("e2e, api").unwrap(),
        settle: Duration::ZERO,
        timeout: Duration::from_secs(1_800),
        appear_timeout: Duration::from_secs(600),
        since_stage: None,
        rerun: Rerun::default(),
        policies: Default::default(),
        given: None,
    }
}

/// The end of a token that lives for an hour.
pub(super) fn ends(came: Mono) -> Ends {
    let at = Mono(came.0 + 60 * MINUTE);
    Ends { at, decide_by: Mono(at.0 - 5 * MINUTE), assumed: false }
}

/// A check's first delivery.
pub(super) fn first(ask: Ask, now: Now) -> Box<Pending> {
    let State::Pending(pending) = record(1).state else { panic!("a pending record") };
    let ends = ends(now.mono);
    Box::new(Pending {
        ask: Some(ask),
        tokens: Tokens::new(Secret::new("token-1".into()), 1, ends),
        turn: now.mono,
        began: now.mono,
        delivered: now.mono,
        accepted: now,
        token_end: ends.at,
        decide_by: ends.decide_by,
        ..*pending
    })
}

/// Applies a further delivery with a proven check's own values to its record.
pub(super) fn again(pending: &mut Pending, now: Mono, token: &str) {
    pending.delivery += 1;
    pending.delivered = now;
    let token = Secret::new(token.into());
    if pending.is_proven() {
        pending.tokens.add(token, pending.delivery, ends(now));
        pending.note_ends();
    } else {
        let (ask, known) = (pending.ask.clone(), pending.known.clone());
        stands(pending, now, token, ask, known);
    }
}

/// Applies a delivery of an unproven check to its record.
pub(super) fn stands(
    pending: &mut Pending,
    now: Mono,
    token: Secret,
    ask: Option<Ask>,
    known: Option<Known>,
) {
    pending.stand_beside(Candidate {
        callback: pending.callback.clone(),
        ask,
        known,
        tokens: Tokens::new(token, pending.delivery, ends(now)),
        credential: String::new(),
        observe: false,
        accepted: Now { mono: now, wall: wall(now) },
        earlier: std::time::Duration::ZERO,
        tries: 0,
        turn: now,
        is_refused: false,
    });
}
