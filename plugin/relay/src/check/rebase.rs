//! A record's times on another process's clock.

use super::{Candidate, Done, Pending, Phase, State, Tokens};
use crate::time::{Mono, Now, millis};
use std::time::Duration;

/// The way from one process's monotonic clock to another's, by way of the wall clock that both have: off by the
/// difference of their wall clocks, and no more.
struct Shift(i64);

impl Shift {
    /// Moves a time. Zero stands for "not noted", and stays; a time before the other clock's zero becomes zero.
    fn apply(&self, at: &mut Mono) {
        if *at != Mono(0) {
            *at = Mono(at.0.saturating_add_signed(self.0));
        }
    }

    /// Moves the time of an acceptance; `earlier` is how much before the clock's zero it was.
    fn accepted(&self, accepted: &mut Now, earlier: &mut Duration) {
        let exact = i128::from(accepted.mono.0) - i128::from(millis(*earlier)) + i128::from(self.0);
        let part = |ms: i128| u64::try_from(ms).unwrap_or_default();
        (accepted.mono, *earlier) = (Mono(part(exact)), Duration::from_millis(part(-exact)));
    }

    fn tokens(&self, tokens: &mut Tokens) {
        tokens.each_end(|at| self.apply(at));
    }
}

impl State {
    /// Moves its times from the clocks that read `from` to those that read `to` at this moment.
    pub(crate) fn rebase(&mut self, from: Now, to: Now) {
        let zero = |now: Now| now.wall.0.saturating_sub_unsigned(now.mono.0);
        let shift = Shift(zero(from).saturating_sub(zero(to)));
        match self {
            State::Pending(pending) => pending.rebase(&shift),
            State::Done(done) => done.rebase(&shift),
        }
    }
}

impl Done {
    fn rebase(&mut self, shift: &Shift) {
        shift.apply(&mut self.at.mono);
        if let Some(kept) = &mut self.kept {
            shift.apply(&mut kept.seen);
        }
    }
}

impl Candidate {
    fn rebase(&mut self, shift: &Shift) {
        shift.accepted(&mut self.accepted, &mut self.earlier);
        shift.tokens(&mut self.tokens);
        shift.apply(&mut self.turn);
        if let Some(until) = self.known.as_mut().and_then(|known| known.repeats_until.as_mut()) {
            shift.apply(until);
        }
    }
}

impl Pending {
    fn rebase(&mut self, shift: &Shift) {
        shift.accepted(&mut self.accepted, &mut self.earlier);
        shift.tokens(&mut self.tokens);
        self.rivals.iter_mut().for_each(|rival| rival.rebase(shift));
        let repeats_until = self.known.as_mut().and_then(|known| known.repeats_until.as_mut());
        let claimed_until = self.claim.as_mut().map(|claim| &mut claim.until);
        let seen = self.kept.as_mut().map(|kept| &mut kept.seen);
        let own = [
            &mut self.turn,
            &mut self.began,
            &mut self.delivered,
            &mut self.token_end,
            &mut self.decide_by,
            &mut self.falls.last,
        ];
        for at in own.into_iter().chain([repeats_until, claimed_until, seen].into_iter().flatten()) {
            shift.apply(at);
        }
        match &mut self.phase {
            Phase::Accepted | Phase::Proven | Phase::Decided(_) => {}
            Phase::Watching(watch) => {
                if let Some(seen) = &mut watch.seen {
                    shift.apply(&mut seen.since);
                }
            }
            Phase::Owing(owing) => {
                shift.apply(&mut owing.reported.mono);
                shift.apply(&mut owing.until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::super::*;
    use super::*;
    use crate::secret::Secret;
    use crate::time::Wall;
    use serde_json::Value;

    /// Each time of a monotonic clock in these records is above this; no other number is.
    const SENTINEL: u64 = 1 << 52;

    /// States in which every time is set, each to another value.
    fn states() -> Vec<State> {
        let mut next = SENTINEL + 1_000_000;
        let mut time = || {
            next += 1;
            Mono(next)
        };
        let mut ends = |_: u32| Ends { at: time(), decide_by: time(), assumed: false };
        let mut tokens = Tokens::new(Secret::new("a".into()), 1, ends(1));
        tokens.add(Secret::new("b".into()), 2, ends(2));
        let rival_tokens = Tokens::new(Secret::new("c".into()), 3, ends(3));
        let mut now = || Now { mono: time(), wall: Wall(7) };
        let known = |until: Mono| Known {
            outcome: Outcome::Passed,
            reason: "all passed".into(),
            code: Some(ReasonCode::AllPassed),
            repeats_until: Some(until),
        };
        let State::Pending(pending) = record(1).state else { panic!("a pending record") };
        let kept = |seen| {
            let json = r#"{"uid":"u","resource_version":"1"}"#;
            Box::new(Kept { version: serde_json::from_str(json).unwrap(), written: None, seen })
        };
        let rival = Candidate {
            callback: pending.callback.clone(),
            ask: None,
            known: Some(known(now().mono)),
            tokens: rival_tokens,
            credential: String::new(),
            observe: false,
            accepted: now(),
            earlier: Duration::ZERO,
            tries: 0,
            turn: now().mono,
            is_refused: false,
        };
        let decided = Decided {
            outcome: Outcome::Passed,
            reason: "all passed".into(),
            code: None,
            at: Wall(8),
            next: Part::Event,
            owed: Owed::default(),
            sends: 1,
        };
        let seen = Seen { fingerprint: 1, since: now().mono, members: vec![2], waited: Duration::ZERO };
        let watch = Watch {
            bound: Wall(9),
            bound_from: String::new(),
            attempt: None,
            fixed: None,
            seen: Some(seen),
            absent: Duration::ZERO,
            retries: Retries::default(),
        };
        let owing = Owing { decided, reported: now(), until: now().mono };
        // Every field is named, so that a new one is thought of here.
        let whole = Pending {
            callback: pending.callback.clone(),
            ask: None,
            known: Some(known(now().mono)),
            tokens,
            rivals: vec![rival],
            tries: 0,
            turn: now().mono,
            is_refused: false,
            began: now().mono,
            delivery: 3,
            delivered: now().mono,
            accepted: now(),
            token_end: now().mono,
            decide_by: now().mono,
            log: Log::Off,
            claim: Some(Claim { holder: 1, send: 2, delivery: 3, until: now().mono }),
            taken: false,
            is_reported: false,
            falls: Falls { count: 1, last: now().mono },
            credential: String::new(),
            place: Placed::GaveBack,
            observe: false,
            before: Some(Reported { outcome: Outcome::Failed, at: Wall(3) }),
            told: None,
            earlier: Duration::ZERO,
            acceptance: 5,
            evaluation: 5,
            is_doubted: true,
            kept: Some(kept(now().mono)),
            phase: Phase::Watching(watch),
        };
        let done = Done {
            outcome: None,
            reported: true,
            at: now(),
            values: None,
            accepted: Wall(3),
            decided: None,
            reason: String::new(),
            code: None,
            project: None,
            tag: None,
            observe: false,
            acceptance: 5,
            evaluation: 5,
            sends: 1,
            served: 3,
            kept: Some(kept(now().mono)),
        };
        let owes = Pending { phase: Phase::Owing(owing), ..whole.clone() };
        vec![State::Pending(Box::new(whole)), State::Pending(Box::new(owes)), State::Done(done)]
    }

    /// The numbers of a JSON value above the sentinel, by their place.
    fn times(value: &Value, place: String, found: &mut Vec<(String, u64)>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| times(value, format!("{place}/{name}"), found));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, value)| times(value, format!("{place}/{n}"), found));
            }
            _ => found.extend(value.as_u64().filter(|n| *n >= SENTINEL).map(|n| (place, n))),
        }
    }

    #[test]
    fn every_time_of_the_monotonic_clock_moves_and_no_other() {
        let from = Now { mono: Mono(5_000), wall: Wall(1_000_000) };
        // This process's clock began 3 s later; it reads the record 10 s after that was written.
        let to = Now { mono: Mono(12_000), wall: Wall(1_010_000) };
        let mut moved = 0;
        for state in states() {
            let mut rebased = state.clone();
            rebased.rebase(from, to);
            let (mut before, mut after) = (Vec::new(), Vec::new());
            times(&serde_json::to_value(&state).unwrap(), String::new(), &mut before);
            times(&serde_json::to_value(&rebased).unwrap(), String::new(), &mut after);
            before.iter_mut().for_each(|(_, at)| *at -= 3_000);
            assert_eq!(before, after);
            moved += before.len();
            rebased.rebase(to, from);
            assert_eq!(rebased, state, "nothing else has changed");
        }
        assert_eq!(moved, 43);
    }

    #[test]
    fn a_deadline_is_the_same_on_a_machine_that_started_after_the_acceptance() {
        let State::Pending(mut pending) = record(1).state else { panic!("a pending record") };
        // Accepted at hour 2 of the first machine; its token ends at hour 50.
        let hours = |n: u64| Mono(n * 3_600_000);
        pending.accepted = Now { mono: hours(2), wall: Wall(0) };
        pending.decide_by = hours(50);
        let timeout = Duration::from_secs(12 * 3_600);
        let deadline = |pending: &Pending| {
            Deadline::of(pending.accepted.mono, pending.earlier, Some(timeout), pending.decide_by)
        };
        assert_eq!(deadline(&pending).at, hours(14));
        // 6 hours later another machine, which started an hour ago, reads it; and the first one after that.
        let first = Now { mono: hours(8), wall: Wall(6 * 3_600_000) };
        let second = Now { mono: hours(1), wall: Wall(6 * 3_600_000) };
        let mut state = State::Pending(pending);
        state.rebase(first, second);
        let State::Pending(moved) = &state else { panic!("a pending record") };
        assert_eq!((moved.accepted.mono, moved.earlier), (Mono(0), Duration::from_secs(5 * 3_600)));
        assert_eq!((deadline(moved).at, deadline(moved).after), (hours(7), timeout));
        state.rebase(second, first);
        let State::Pending(back) = &state else { panic!("a pending record") };
        assert_eq!(deadline(back).at, hours(14));
    }
}
