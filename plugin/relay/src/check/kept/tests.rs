//! What becomes of a record when its Secret is read again.

use super::*;
use crate::check::tests::record;
use crate::check::{
    Claim, Decided, Delivery, Ends, Outcome, Owed, Owing, Part, Seen, Tokens, Watch, deliver,
};
use crate::secret::Secret;
use crate::time::Now;
use std::time::Duration;

const NOW: Now = Now { mono: Mono(900_000), wall: Wall(1_769_186_640_000) };

fn version(n: u32) -> Version {
    serde_json::from_str(&format!(r#"{{"uid":"u","resource_version":"{n}"}}"#)).unwrap()
}

/// A proven check in this phase, whose Secret says so.
fn pending(phase: Phase) -> Box<Pending> {
    let State::Pending(mut pending) = record(1).state else { panic!() };
    (pending.phase, pending.evaluation) = (phase, 7);
    pending.token_was_taken(1);
    let written = Some(pending.written());
    pending.kept = Some(Box::new(Kept { version: version(1), written, seen: Mono(0) }));
    pending
}

fn watching(since: Mono) -> Phase {
    let seen = Some(Seen { fingerprint: 1, since, members: vec![1], waited: Duration::ZERO });
    Phase::Watching(Watch {
        bound: Wall(0),
        bound_from: String::new(),
        attempt: None,
        fixed: None,
        seen,
        absent: Duration::from_secs(9),
        retries: crate::check::Retries::default(),
    })
}

fn decision(at: Wall) -> Decided {
    let (reason, owed) = (String::new(), Owed::default());
    Decided { outcome: Outcome::Passed, reason, code: None, at, next: Part::Event, owed, sends: 0 }
}

/// The same after another delivery, with this token.
fn again(pending: &Pending, token: &str) -> Box<Pending> {
    let mut new = pending.candidates().remove(0);
    new.tokens = Tokens::new(Secret::new(token.into()), 1, Ends::default());
    let state = State::Pending(Box::new(pending.clone()));
    let Delivery::Put(pending, _) = deliver(Some(&state), &new, NOW, false) else { panic!() };
    pending
}

/// What the first becomes where its Secret is read as the second.
fn reread(held: State, read: Box<Pending>) -> State {
    match held.reread(State::Pending(read), version(2), NOW.mono) {
        Reread::Becomes(state) => *state,
        Reread::Leaves => panic!("it has left"),
    }
}

#[test]
fn a_stored_decision_is_the_fence_of_itself_alone() {
    let mut pending = pending(Phase::Decided(decision(Wall(5))));
    assert!(pending.is_fenced());
    pending.phase = Phase::Decided(decision(Wall(6)));
    assert!(!pending.is_fenced());
}

#[test]
fn a_check_that_was_ended_goes_on_for_a_delivery_that_came_before_its_end_was_stored() {
    let decided = pending(Phase::Decided(decision(Wall(5))));
    let done = || State::Done(decided.done(true, NOW));
    let State::Pending(goes_on) = reread(done(), again(&decided, "second")) else { panic!("it has ended") };
    assert_eq!((goes_on.delivery, goes_on.taken, goes_on.is_reported), (2, true, true));
    let State::Done(ended) = reread(done(), decided.clone()) else { panic!("all was served") };
    assert_eq!(ended.kept.map(|kept| kept.version), Some(version(2)));
}

#[test]
fn a_reported_check_whose_lines_are_owed_goes_on_for_a_delivery() {
    let decided = pending(Phase::Decided(decision(Wall(5))));
    let owing = Owing { decided: decision(Wall(5)), reported: NOW, until: NOW.mono };
    let held = State::Pending(pending(Phase::Owing(owing)));
    let State::Pending(goes_on) = reread(held, again(&decided, "second")) else { panic!() };
    assert!(matches!(goes_on.phase, Phase::Decided(_)) && goes_on.is_reported, "{:?}", goes_on.phase);
}

#[test]
fn two_deliveries_that_two_replicas_took_at_once_are_two() {
    let first = pending(watching(Mono(1)));
    let held = State::Pending(again(&first, "at the owner"));
    let State::Pending(both) = reread(held, again(&first, "at another")) else { panic!() };
    assert_eq!(both.delivery, 3);
    assert!(both.tokens.hold(&Secret::new("at another".into())));
}

#[test]
fn what_another_process_has_observed_or_begun_begins_anew() {
    let mut pending = pending(watching(Mono(1)));
    pending.claim = Some(Claim { holder: 1, send: 1, delivery: 1, until: Mono(950_000) });
    let mut state = State::Pending(pending);
    state.adopt(NOW.mono, version(2));
    let State::Pending(adopted) = state else { panic!() };
    assert!(adopted.claim.is_none() && adopted.taken, "an event of it may have been taken");
    let Phase::Watching(Watch { seen: Some(seen), absent, .. }) = &adopted.phase else { panic!() };
    assert_eq!((seen.since, *absent), (NOW.mono, Duration::from_secs(9)));
}

#[test]
fn a_stored_decision_is_never_made_again() {
    let mut state = State::Pending(pending(Phase::Decided(decision(Wall(5)))));
    let was = state.clone();
    state.adopt(NOW.mono, version(2));
    let (State::Pending(adopted), State::Pending(was)) = (&state, &was) else { panic!() };
    assert_eq!(adopted.phase, was.phase);
    let State::Pending(read) = reread(State::Pending(pending(watching(Mono(1)))), was.clone()) else {
        panic!()
    };
    assert_eq!(read.phase, was.phase, "another process has decided it meanwhile");
}
