//! Azure DevOps: it sends a check, perhaps more than once, and waits for the event of each delivery that it got a 200 for.

use std::ops::{BitAnd, BitOr, Sub};

use crate::properties::Broken;
use crate::system::{Decision, System};

/// Deliveries of one check.
pub const MAX_DELIVERIES: usize = 4;

/// A set of deliveries of one check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Deliveries(pub(crate) u8);

impl Deliveries {
    /// None.
    pub const NONE: Deliveries = Deliveries(0);

    /// This one alone.
    pub fn only(delivery: u8) -> Deliveries {
        Deliveries(1 << delivery)
    }

    /// Whether it is one of them.
    pub fn has(self, delivery: u8) -> bool {
        self.0 & 1 << delivery != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of them are among the others.
    pub fn are_within(self, others: Deliveries) -> bool {
        (self - others).is_empty()
    }

    /// The newest.
    pub fn newest(self) -> Option<u8> {
        self.all().last()
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// One after the other, the oldest first.
    pub fn all(self) -> impl Iterator<Item = u8> {
        (0..MAX_DELIVERIES as u8).filter(move |&delivery| self.has(delivery))
    }
}

impl BitOr for Deliveries {
    type Output = Deliveries;
    fn bitor(self, other: Deliveries) -> Deliveries {
        Deliveries(self.0 | other.0)
    }
}

impl BitAnd for Deliveries {
    type Output = Deliveries;
    fn bitand(self, other: Deliveries) -> Deliveries {
        Deliveries(self.0 & other.0)
    }
}

impl Sub for Deliveries {
    type Output = Deliveries;
    fn sub(self, other: Deliveries) -> Deliveries {
        Deliveries(self.0 & !other.0)
    }
}

/// What Azure DevOps knows of one delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Session {
    /// Not sent yet.
    #[default]
    Unsent,
    /// Sent, and not answered.
    Offered,
    /// Answered 200: an event with its token is waited for.
    Waiting,
    /// Nobody waits: it was refused, its connection broke, another delivery took its place, or it was never Azure
    /// DevOps's. Its token is refused.
    Closed,
    /// It has got its event.
    Taken,
}

/// How a delivery stands to those of the same check before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There was none before.
    First,
    /// A token of its own, and the one before is waited for as well.
    NewToken,
    /// A token of its own, and the one before is dead.
    NewTokenOldDead,
    /// The same token: a retried task, and nobody waits for the one before any more.
    SameToken,
    /// Other values, with a token that Azure DevOps never takes.
    OtherValues,
}

/// One check as Azure DevOps sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Each delivery.
    pub sessions: [Session; MAX_DELIVERIES],
    /// Those that have the token of the one before them.
    pub same_token: Deliveries,
    /// Those with other values, and with a token that is never taken.
    pub foreign: Deliveries,
    /// The decision that came with the first event of each.
    pub told: [Option<Decision>; MAX_DELIVERIES],
    /// Those for which a second event can be explained: the answer to the first was lost, on the way or with the process
    /// that had it; their owner was taken for dead while it lived; a fence could not be reached.
    pub excused: Deliveries,
    /// Those for which a second event may even differ: a fence could not be reached.
    pub may_differ: Deliveries,
    /// Those that are not owed any more: they were in one process alone, and it died. Accepted without the store, or their
    /// Secret was deleted by hand.
    pub forfeited: Deliveries,
}

impl Plan {
    /// The deliveries that have been sent.
    pub fn sent(&self) -> u8 {
        self.sessions.iter().take_while(|session| **session != Session::Unsent).count() as u8
    }

    /// Whether Azure DevOps waits for an event.
    pub fn is_waited_for(&self) -> bool {
        self.sessions.contains(&Session::Waiting)
    }

    /// The next delivery is sent.
    pub fn send(&mut self, kind: Kind) -> u8 {
        let delivery = self.sent();
        self.sessions[usize::from(delivery)] = Session::Offered;
        match kind {
            Kind::First | Kind::NewToken => {}
            Kind::OtherValues => self.foreign = self.foreign | Deliveries::only(delivery),
            Kind::NewTokenOldDead | Kind::SameToken => {
                let before = &mut self.sessions[usize::from(delivery) - 1];
                if *before != Session::Taken {
                    *before = Session::Closed;
                }
                if kind == Kind::SameToken {
                    self.same_token = self.same_token | Deliveries::only(delivery);
                }
            }
        }
        delivery
    }

    /// A delivery is answered, with 200 or with something else.
    pub fn answer(&mut self, delivery: u8, is_accepted: bool) {
        let session = &mut self.sessions[usize::from(delivery)];
        if *session == Session::Offered {
            let is_owed = is_accepted && !self.foreign.has(delivery);
            *session = if is_owed { Session::Waiting } else { Session::Closed };
        }
    }

    /// All deliveries that have the token of this one.
    pub fn with_token_of(&self, delivery: u8) -> Deliveries {
        let mut same = Deliveries::only(delivery);
        for later in delivery + 1..MAX_DELIVERIES as u8 {
            if !self.same_token.has(later) {
                break;
            }
            same = same | Deliveries::only(later);
        }
        for earlier in (0..delivery).rev() {
            if !self.same_token.has(earlier + 1) {
                break;
            }
            same = same | Deliveries::only(earlier);
        }
        same
    }

    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        let Plan { sessions, same_token, foreign, told, excused, may_differ, forfeited } = *self;
        for (session, told) in sessions.iter().zip(told) {
            out.push(*session as u8 | told.map_or(0, |Decision(it)| it + 1) << 3);
        }
        out.extend([same_token.bits() | foreign.bits() << 4, excused.bits() | may_differ.bits() << 4]);
        out.push(forfeited.bits());
    }
}

impl System {
    /// An event arrives at Azure DevOps: with the token of these deliveries, on behalf of those that the sender knows.
    /// Whoever waits for that token has got it.
    pub fn event(&mut self, check: usize, delivery: u8, on_behalf_of: Deliveries, decision: Decision) {
        let plan = &mut self.plans[check];
        let mut broken = None;
        for known in on_behalf_of.all() {
            match plan.told[usize::from(known)] {
                None => plan.told[usize::from(known)] = Some(decision),
                Some(first) if first != decision && !plan.may_differ.has(known) => {
                    broken = Some(Broken::SecondDecision);
                }
                Some(_) if !plan.excused.has(known) => broken = broken.or(Some(Broken::SecondEvent)),
                Some(_) => {}
            }
        }
        for holder in plan.with_token_of(delivery).all() {
            let session = &mut plan.sessions[usize::from(holder)];
            if matches!(session, Session::Offered | Session::Waiting) && !plan.foreign.has(holder) {
                *session = Session::Taken;
            }
        }
        if let Some(rule) = broken {
            self.breaks(rule);
        }
    }
}
