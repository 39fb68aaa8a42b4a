//! One second after the other.

use super::{NEVER, Slip, Span};

/// Processes that watch the owner.
pub const MAX_OTHERS: usize = 2;

/// A Lease is renewed this often, in seconds; tried each second where that fails.
const RENEWAL: u8 = 5;
/// Seconds without a change after which a replica is dead.
const DEAD: u8 = 20;
/// A gap between two answered lists that is longer is not counted.
const GAP: u8 = 5;
/// Seconds without a renewal after which a process adopts nothing.
const TOO_OLD: u8 = 10;
/// Seconds by which a replica adopts later what rendezvous hashing gives to another.
const FALLBACK: u8 = 5;
/// The sweep comes this often; anybody deletes a bell that is older.
const SWEEP: u8 = 60;

/// The process that owns the check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner {
    /// For how long it has been dead.
    pub dead_for: Option<u8>,
    /// Until its next renewal.
    renews_in: u8,
    /// Since its last renewal, counting only what the API server answered in; up to [`DEAD`].
    silent_for: u8,
    /// Since its last renewal, by the clock; up to 60.
    renewed_before: u8,
}

/// A process that watches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Other {
    /// Whether it lives.
    lives: bool,
    /// Until its next renewal.
    renews_in: u8,
    /// Since its last renewal, up to [`TOO_OLD`].
    renewed_before: u8,
    /// Since its last answered list, up to [`DEAD`].
    listed_before: u8,
    /// It has seen the owner's `renewTime` as it is now.
    has_seen: bool,
    /// For how long it has seen it unchanged.
    unchanged_for: u8,
    /// For how long it has taken the owner for dead.
    waits_for: Option<u8>,
}

/// The state of all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Watch {
    /// Who owns the check.
    pub owner: Owner,
    /// Who watches; the first is whom rendezvous hashing names.
    others: [Other; MAX_OTHERS],
    /// Whether the owner has a Lease.
    has_lease: bool,
    /// Until the sweep of whoever lives, once the Lease is gone.
    swept_in: u8,
    /// Seconds left of partition and outage.
    cut_left: u8,
    outage_left: u8,
    /// The check was adopted; whether from an owner that it should not have been taken from.
    pub adopted: Option<bool>,
    /// The age of the oldest bell.
    pub oldest_bell: Option<u8>,
    /// Since when a bell waits for an owner that lives and reaches the API server.
    pub ringing_for: Option<u8>,
}

/// What a second brings.
struct Second {
    is_out: bool,
    owner_is_cut: bool,
    cut: [bool; MAX_OTHERS],
    lists_first: bool,
}

impl Watch {
    /// All have just listed; the owner renews in 1 to 5 s, and so do the others.
    pub(super) fn starts(span: &Span) -> Vec<Watch> {
        let other = |lives| Other {
            lives,
            renews_in: 3,
            renewed_before: 2,
            listed_before: 0,
            has_seen: true,
            unchanged_for: 0,
            waits_for: None,
        };
        let with = |renews_in| Watch {
            owner: Owner { dead_for: None, renews_in, silent_for: 0, renewed_before: RENEWAL - renews_in },
            others: [other(true), other(span.others > 1)],
            has_lease: true,
            swept_in: 0,
            cut_left: span.cut_seconds,
            outage_left: span.outage_seconds,
            adopted: None,
            oldest_bell: None,
            ringing_for: None,
        };
        (1..=RENEWAL).map(with).collect()
    }

    /// All that the next second may bring.
    pub(super) fn seconds(&self, span: &Span, out: &mut Vec<Watch>) {
        if self.adopted.is_some() {
            out.extend(self.bell_after(span));
            return;
        }
        let mut from = vec![*self];
        if self.owner.dead_for.is_none() {
            let mut dead = *self;
            dead.owner = Owner { dead_for: Some(0), renews_in: 0, silent_for: 0, ..self.owner };
            from.push(dead);
        }
        if span.second_death && self.others[0].lives && self.others[1].lives {
            for mut dead in from.clone() {
                dead.others[0].lives = false;
                from.push(dead);
            }
        }
        for before in from {
            // Whether somebody lists before or after a renewal matters where there is one.
            let renews = before.owner.dead_for.is_none() && before.owner.renews_in <= 1;
            for bits in 0_u8..1 << (2 + MAX_OTHERS) {
                let bit = |n: usize| bits & 1 << n != 0;
                if bit(3) && (!renews || bit(0)) {
                    continue;
                }
                let second = Second {
                    is_out: false,
                    owner_is_cut: bit(0),
                    cut: [bit(1), bit(2)],
                    lists_first: bit(3),
                };
                let is_idle = before.owner.dead_for.is_some() && second.owner_is_cut
                    || (0..MAX_OTHERS).any(|n| second.cut[n] && !before.others[n].lives);
                let cost = u8::from(bit(0)) + u8::from(bit(1)) + u8::from(bit(2));
                if !is_idle && cost <= before.cut_left {
                    out.push(Watch { cut_left: before.cut_left - cost, ..before }.after(span, &second));
                }
            }
            if before.outage_left > 0 {
                let second =
                    Second { is_out: true, owner_is_cut: true, cut: [true; MAX_OTHERS], lists_first: false };
                out.push(Watch { outage_left: before.outage_left - 1, ..before }.after(span, &second));
            }
        }
    }

    fn after(mut self, span: &Span, second: &Second) -> Watch {
        self.pass(second);
        self.renew_others(second);
        if !second.lists_first {
            self.renew(second);
        }
        if span.hints {
            self.hint(span, second);
        }
        for n in 0..span.others {
            if self.others[n].lives && !second.cut[n] {
                self.list(span, n);
            }
        }
        if second.lists_first {
            self.renew(second);
        }
        self.sweep(span, second);
        let restarts = span.same_pod_restart && span.slip != Some(Slip::NoPredecessor);
        if restarts && !second.is_out && self.owner.dead_for.is_some_and(|it| it >= 2) {
            self.adopt();
        }
        if span.slip != Some(Slip::UnobservedTimeCounts) {
            for other in &mut self.others {
                other.listed_before = other.listed_before.min(GAP + 1);
            }
        }
        if !matches!(span.slip, Some(Slip::ByTheClock { .. })) {
            self.owner.renewed_before = 0;
        }
        for other in self.others.iter_mut().filter(|other| !other.lives) {
            *other = Other { renewed_before: 0, renews_in: 0, listed_before: 0, ..*other };
            (other.unchanged_for, other.waits_for, other.has_seen) = (0, None, true);
        }
        self
    }

    /// A second passes.
    fn pass(&mut self, second: &Second) {
        let owner = &mut self.owner;
        match &mut owner.dead_for {
            Some(dead_for) => *dead_for = (*dead_for + 1).min(NEVER),
            None => {
                owner.renews_in = owner.renews_in.saturating_sub(1);
                owner.silent_for = (owner.silent_for + u8::from(!second.is_out)).min(DEAD);
            }
        }
        owner.renewed_before = (owner.renewed_before + 1).min(SWEEP);
        for other in &mut self.others {
            other.renews_in = other.renews_in.saturating_sub(1);
            other.renewed_before = (other.renewed_before + 1).min(TOO_OLD);
            other.listed_before = (other.listed_before + 1).min(DEAD);
            other.waits_for = other.waits_for.map(|it| (it + 1).min(FALLBACK));
        }
        self.swept_in = self.swept_in.saturating_sub(1);
        self.oldest_bell = self.oldest_bell.map(|age| age + 1);
    }

    fn renew(&mut self, second: &Second) {
        let owner = &mut self.owner;
        if owner.dead_for.is_none() && owner.renews_in == 0 && !second.owner_is_cut {
            (owner.renews_in, owner.silent_for, owner.renewed_before) = (RENEWAL, 0, 0);
            self.has_lease = true;
            for other in &mut self.others {
                other.has_seen = false;
            }
        }
    }

    /// Before they list: what they have renewed lets them adopt.
    fn renew_others(&mut self, second: &Second) {
        for (other, is_cut) in self.others.iter_mut().zip(second.cut) {
            if other.lives && other.renews_in == 0 && !is_cut {
                (other.renews_in, other.renewed_before) = (RENEWAL, 0);
            }
        }
    }

    /// An event for the owner arrives at another replica, which rings; a living owner lists each second, looks, and
    /// deletes the bell; anybody deletes an old one.
    fn hint(&mut self, span: &Span, second: &Second) {
        if second.is_out {
            return;
        }
        if span.slip == Some(Slip::BellInTheLease) {
            for other in &mut self.others {
                other.has_seen = false;
            }
            return;
        }
        let is_heard = self.owner.dead_for.is_none() && !second.owner_is_cut;
        self.ringing_for = (self.oldest_bell.is_some() && is_heard).then_some(1);
        if is_heard {
            self.oldest_bell = None;
        }
        let somebody_lists = self.others.iter().zip(second.cut).any(|(other, is_cut)| other.lives && !is_cut);
        let is_old = self.oldest_bell.is_some_and(|age| age > SWEEP);
        if is_old && somebody_lists && span.slip != Some(Slip::BellsAreKept) {
            // The next oldest is a second younger.
            self.oldest_bell = Some(SWEEP);
        }
        let bell = *self.oldest_bell.get_or_insert(0);
        self.oldest_bell = Some(bell.min(NEVER));
    }

    /// One of the others gets the list of all Leases.
    fn list(&mut self, span: &Span, n: usize) {
        let renewed_before = self.owner.renewed_before;
        let other = &mut self.others[n];
        let gap = std::mem::take(&mut other.listed_before);
        let counts = gap <= GAP || span.slip == Some(Slip::UnobservedTimeCounts);
        if !other.has_seen {
            (other.has_seen, other.unchanged_for, other.waits_for) = (true, 0, None);
        } else if counts {
            other.unchanged_for = (other.unchanged_for + gap).min(DEAD);
        } else if span.slip == Some(Slip::GapStartsAnew) {
            other.unchanged_for = 0;
        }
        let is_dead = match span.slip {
            Some(Slip::ByTheClock { ahead }) => {
                i16::from(renewed_before) + i16::from(ahead) >= i16::from(DEAD)
            }
            _ => other.unchanged_for >= DEAD,
        };
        if !self.has_lease || !is_dead {
            return;
        }
        let waits_for = *other.waits_for.get_or_insert(0);
        let is_its_turn = n == 0 || waits_for >= FALLBACK && span.slip != Some(Slip::NoFallback);
        let may_adopt = is_its_turn && other.renewed_before < TOO_OLD;
        if span.slip == Some(Slip::LeaseDeletedFirst) {
            (self.has_lease, self.swept_in) = (false, SWEEP);
        } else if may_adopt {
            self.adopt();
        }
    }

    /// After the adoption nobody rings any more: the last bell grows old, and goes.
    fn bell_after(&self, span: &Span) -> Option<Watch> {
        let age = self.oldest_bell?;
        let goes = age > SWEEP && span.slip != Some(Slip::BellsAreKept);
        let oldest_bell = if goes { None } else { Some((age + 1).min(NEVER)) };
        Some(Watch { oldest_bell, ringing_for: None, ..*self })
    }

    fn sweep(&mut self, span: &Span, second: &Second) {
        let is_due = !self.has_lease && self.swept_in == 0;
        let mut others = self.others.iter().zip(second.cut).take(span.others);
        if is_due && others.any(|(other, is_cut)| other.lives && !is_cut && other.renewed_before < TOO_OLD) {
            self.adopt();
        }
    }

    fn adopt(&mut self) {
        let from_the_living = self.owner.dead_for.is_none() && self.owner.silent_for < DEAD;
        self.adopted = Some(from_the_living);
    }
}
