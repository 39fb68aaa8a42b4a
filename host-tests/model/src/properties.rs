//! What must hold: at every moment, and where a run ends.

use std::fmt;

use crate::azure::{Deliveries, Session};
use crate::change::{Seen, Stage, change};
use crate::model::Model;
use crate::server::{Phase, Record, Status, Write};
use crate::system::{Decision, Id, System};

/// A rule that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Broken {
    /// Azure DevOps got a 200 for a check and gets no event for any of its deliveries.
    CheckLost,
    /// Another delivery of the check got its event; the token of this one, answered 200, is not used.
    TokenLost,
    /// A second event for one delivery, and no answer was lost, nobody died, was taken for dead or could not reach a fence.
    SecondEvent,
    /// Another decision than the first for one delivery, and every fence was reached.
    SecondDecision,
    /// A check was adopted from a process that lives, renews its Lease and was not replaced.
    TakenFromTheLiving,
    /// A Secret stays for ever.
    SecretLeft,
    /// The Lease of a dead process stays for ever.
    LeaseLeft,
    /// The replicas go round for ever.
    GoesRound,
    /// A write that no sentence of the protocol knows: [`crate::change`].
    StrangeWrite(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::CheckLost => "an accepted check is never reported",
            Broken::TokenLost => "a token that was answered 200 is never used",
            Broken::SecondEvent => "a second event that nothing explains",
            Broken::SecondDecision => "a second decision",
            Broken::TakenFromTheLiving => "adopted from a living process",
            Broken::SecretLeft => "a Secret is left for ever",
            Broken::LeaseLeft => "a Lease is left for ever",
            Broken::GoesRound => "the replicas go round for ever",
            Broken::StrangeWrite(sentence) => sentence,
        })
    }
}

impl Model {
    /// What must hold where nothing happens any more but what may also not happen.
    pub fn at_the_end(&self, system: &System) -> Option<Broken> {
        for (plan, secret) in system.plans.iter().zip(&system.secrets) {
            let in_state = |wanted| {
                let found = (0_u8..).zip(plan.sessions).filter(move |(_, session)| *session == wanted);
                found.fold(Deliveries::NONE, |all, (delivery, _)| all | Deliveries::only(delivery))
            };
            if !(in_state(Session::Waiting) - plan.forfeited).is_empty() {
                let is_reported = !in_state(Session::Taken).is_empty();
                return Some(if is_reported { Broken::TokenLost } else { Broken::CheckLost });
            }
            if secret.is_some() {
                return Some(Broken::SecretLeft);
            }
        }
        let left = system.replicas.iter().zip(system.leases).any(|(it, has_lease)| has_lease && !it.lives());
        left.then_some(Broken::LeaseLeft)
    }

    /// A replica is about to adopt what is another's: has it a reason?
    pub(crate) fn looks_at(&self, system: &mut System, check: usize) {
        let owner = system.secrets[check].and_then(|record| record.owner).map(|id| system.replica(id));
        if owner.is_some_and(|owner| !owner.seems_dead()) {
            system.breaks(Broken::TakenFromTheLiving);
        }
    }

    /// A write is about to be executed. One that takes a check from a process that lives explains a second event.
    pub(crate) fn adopts(&self, system: &mut System, check: usize, write: Write) {
        let (Some(found), Write::Put(record, ..)) = (system.secrets[check], write) else {
            return;
        };
        let is_adopted = record.owner.is_some() && record.owner != found.owner && found.phase != Phase::Done;
        let lives = found.owner.is_some_and(|owner| system.replica(owner).lives());
        if is_adopted && lives && system.answer_to(check, write) == Status::Done {
            let plan = &mut system.plans[check];
            plan.excused = plan.excused | found.deliveries;
        }
    }

    /// A write of `by` was executed: does the protocol know it? Of replicas with a fault it need not.
    pub(crate) fn has_changed(&self, system: &mut System, check: usize, before: Option<Record>, by: Id) {
        let seen = [before, system.secrets[check]].map(|record| record.map(|record| seen(&record)));
        if let ([before, after], true) = (seen, self.faults.is_empty())
            && let Err(sentence) = change(before.as_ref(), after.as_ref(), &by)
        {
            system.breaks(Broken::StrangeWrite(sentence));
        }
    }
}

/// A record as it shows.
fn seen(record: &Record) -> Seen<Id, Decision> {
    let Record { owner, deliveries, served: _, proven, phase } = *record;
    let stage = match phase {
        Phase::Undecided => Stage::Undecided,
        Phase::Decided(decision) => Stage::Decided(decision),
        Phase::Done => Stage::Done,
    };
    Seen { owner, deliveries: deliveries.bits().count_ones(), proven, stage }
}
