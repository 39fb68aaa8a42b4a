//! The protocol within its bounds: which steps there are from a state, and where each leads.

use crate::azure::{Deliveries, Kind};
use crate::environment::Left;
use crate::faults::Fault;
use crate::replica::{Call, Life, Replica, Role, Slot, answer};
use crate::server::{Phase, Version};
use crate::system::{Id, MAX_CHECKS, MAX_REPLICAS, System};

/// How much a search covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Processes that run at once.
    pub replicas: u8,
    /// Checks, 1 or 2.
    pub checks: u8,
    /// What may go wrong.
    pub left: Left,
    /// `on_outage: accept`.
    pub accepts_on_outage: bool,
    /// Azure DevOps must take a token before the check is decided, and that is written ("bound").
    pub has_proof: bool,
}

/// The protocol, within bounds, and perhaps with a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// How much is searched.
    pub bounds: Bounds,
    /// What is wrong with every replica.
    pub faults: &'static [Fault],
    /// States that no run can tell apart are one: see [`crate::reduce`].
    pub is_reduced: bool,
}

/// One step of one party.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A replica makes a call for a check and reads the answer.
    Call(Id, usize, Call),
    /// A replica makes a call, and its answer is lost.
    Lost(Id, usize, Call),
    /// The same, and the sender that waits gets 503.
    LostAndRefused(Id, usize, Call),
    /// The server executes a call that was given up.
    Late(usize),
    /// *Lease*: a replica makes it, for the first time or anew.
    MakesLease(Id),
    /// *Lease*: the others see that it has renewed it.
    Renews(Id),
    /// *Adopt*: no Secret names the process any more, and the others delete its Lease.
    LeaseRemoved(Id),
    /// *Accept*: a delivery of a check reaches a replica.
    Deliver(Id, usize, Kind),
    /// *Refuse*: a sender that waits gets 503, because the API server is not reached.
    Refuse(Id, usize),
    /// *Accept anyway*: a sender that waits gets 200 though the API server is not reached.
    AcceptAnyway(Id, usize),
    /// *Fence*: a decision could not be stored for 60 s.
    FenceUnreached(Id, usize),
    /// A process dies.
    Crash(Id),
    /// A process starts.
    Start,
    /// *Predecessor*: a process of the same pod name starts beside it.
    HotRestart(Id),
    /// The replaced or drained process ends.
    Leaves(Id),
    /// *Drain*: it is told to.
    Drain(Id),
    /// It does not reach the API server any more.
    Cut(Id),
    /// It reaches it again.
    Heal(Id),
    /// *Death*: it lives, and its Lease has been seen unchanged for 20 s.
    TakenForDead(Id),
    /// Somebody deletes the Secret.
    SecretDeletedByHand(usize),
    /// Somebody deletes the Lease.
    LeaseDeletedByHand(Id),
    /// [`Fault::ExpiredDeleted`].
    ExpiredDeleted(usize),
    /// [`Fault::LeasesListedFirst`]: which processes have a Lease.
    ListsLeases(Id),
    /// [`Fault::TwoExchanges`]: the POST was done, its answer is not read yet.
    PostUnread(Id, usize),
    /// [`Fault::TwoExchanges`]: the answer is read.
    ReadsAnswer(Id, usize),
    /// [`Fault::NoFence`]: the decision is sent and not stored.
    DecidesUnfenced(Id, usize),
}

impl Step {
    /// Whether it happens in the end, once it can: all but what goes wrong, and what Azure DevOps may do or not.
    pub fn must_happen(self) -> bool {
        matches!(
            self,
            Step::Call(..)
                | Step::Late(_)
                | Step::MakesLease(_)
                | Step::Renews(_)
                | Step::LeaseRemoved(_)
                | Step::Start
                | Step::Leaves(_)
                | Step::Heal(_)
                | Step::ReadsAnswer(..)
        )
    }
}

impl Model {
    /// Without a fault.
    pub fn new(bounds: Bounds) -> Model {
        Model { bounds, faults: &[], is_reduced: true }
    }

    /// With faults, and every state for itself.
    pub fn with(bounds: Bounds, faults: &'static [Fault]) -> Model {
        Model { bounds, faults, is_reduced: false }
    }

    /// Whether every replica has this fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The checks.
    pub fn checks(&self) -> std::ops::Range<usize> {
        0..usize::from(self.bounds.checks).min(MAX_CHECKS)
    }

    /// The state in which all replicas have just made their Leases.
    pub fn start_state(&self) -> System {
        let mut system = System { left: self.bounds.left, ..System::default() };
        for id in 0..usize::from(self.bounds.replicas).min(MAX_REPLICAS) {
            let is_late =
                id == 0 && (self.has(Fault::LeaseAfterAccepting) || self.has(Fault::LeasesListedFirst));
            system.replicas[id] = Replica {
                life: if is_late { Life::Starting } else { Life::Ready },
                pod: if self.has(Fault::SameNameBothWays) { id as u8 + 1 } else { 0 },
                ..Replica::default()
            };
            system.leases[id] = !is_late;
        }
        system
    }

    /// All steps from a state. Some may change nothing.
    pub fn steps(&self, system: &System, out: &mut Vec<Step>) {
        out.clear();
        let mut calls = Vec::with_capacity(8);
        for id in system.living() {
            let replica = system.replica(id);
            if !replica.is_cut {
                self.lease_steps(system, id, out);
            }
            for check in self.checks() {
                calls.clear();
                self.calls(system, id, check, &mut calls);
                for &call in &calls {
                    out.push(Step::Call(id, check, call));
                    self.losses(system, id, check, call, out);
                }
                self.faulty_steps(system, id, check, out);
            }
        }
        for id in 0..MAX_REPLICAS as Id {
            let is_named = system.secrets.iter().flatten().any(|record| record.owner == Some(id));
            let may_go = system.replica(id).seems_dead();
            let by_another = system.living().any(|other| other != id && system.replica(other).may_adopt());
            let may_go = may_go && (!is_named || self.has(Fault::LeaseDeletedFirst));
            if system.has_lease(id) && may_go && by_another {
                out.push(Step::LeaseRemoved(id));
            }
        }
        self.environment(system, out);
    }

    fn lease_steps(&self, system: &System, id: Id, out: &mut Vec<Step>) {
        let replica = system.replica(id);
        if !system.has_lease(id) {
            out.push(Step::MakesLease(id));
        } else if replica.is_doubted {
            out.push(Step::Renews(id));
        }
        if self.has(Fault::LeasesListedFirst) && replica.leaseless.is_none() {
            out.push(Step::ListsLeases(id));
        }
    }

    fn losses(&self, system: &System, id: Id, check: usize, call: Call, out: &mut Vec<Step>) {
        let is_read = matches!(
            call,
            Call::ReadAgain | Call::OwnSweep | Call::LookAtDead | Call::LookAtDone | Call::Sweep
        );
        let has_room = system.late.iter().any(Option::is_none);
        if is_read || system.left.lost_answers == 0 || !has_room {
            return;
        }
        out.push(Step::Lost(id, check, call));
        if system.is_waited_for(id, check) && matches!(call, Call::Post | Call::Merge) {
            out.push(Step::LostAndRefused(id, check, call));
        }
    }

    fn faulty_steps(&self, system: &System, id: Id, check: usize, out: &mut Vec<Step>) {
        let slot = &system.replica(id).slots[check];
        if self.has(Fault::TwoExchanges) {
            if slot.has_unread_answer {
                out.push(Step::ReadsAnswer(id, check));
            } else if slot.role == Role::Nothing
                && slot.accepting.is_some()
                && system.secrets[check].is_none()
            {
                out.push(Step::PostUnread(id, check));
            }
        }
        let is_open = slot.role == Role::Owning && !slot.is_fenced && !slot.copy.unserved().is_empty();
        if self.has(Fault::NoFence) && is_open && !slot.must_read {
            out.push(Step::DecidesUnfenced(id, check));
        }
    }

    /// Where a step leads.
    pub fn after(&self, system: &System, step: Step) -> System {
        let mut next = System { broken: None, ..*system };
        match step {
            Step::Call(id, check, call) => self.call(&mut next, id, check, call),
            Step::Lost(id, check, call) => self.lose(&mut next, id, check, call, false),
            Step::LostAndRefused(id, check, call) => self.lose(&mut next, id, check, call, true),
            Step::MakesLease(id) => {
                next.leases[usize::from(id)] = true;
                let replica = next.replica_mut(id);
                replica.is_doubted = false;
                if replica.life == Life::Starting {
                    replica.life = Life::Ready;
                }
            }
            Step::Renews(id) => next.replica_mut(id).is_doubted = false,
            Step::LeaseRemoved(id) => next.leases[usize::from(id)] = false,
            Step::ListsLeases(id) => {
                let missing = next.leases.iter().rev().fold(0, |bits, &has| bits << 1 | u8::from(!has));
                next.replica_mut(id).leaseless = Some(missing);
            }
            Step::PostUnread(id, check) => {
                let write = self.write(&next, id, check, Call::Post);
                next.execute(check, write);
                next.replica_mut(id).slots[check].has_unread_answer = true;
            }
            Step::ReadsAnswer(id, check) => {
                let slot = &mut next.replica_mut(id).slots[check];
                let delivery = slot.accepting;
                *slot = Slot::default();
                slot.role = Role::Owning;
                slot.version = Version::Old;
                slot.accepting = delivery;
                slot.copy.owner = Some(id);
                slot.copy.proven = true;
                slot.copy.deliveries = delivery.map_or(Deliveries::NONE, Deliveries::only);
                answer(&mut next, id, check, true);
            }
            Step::DecidesUnfenced(id, check) => {
                let new = next.new_decision(check);
                let slot = &mut next.replica_mut(id).slots[check];
                slot.copy.phase = Phase::Decided(new);
                slot.is_fenced = true;
                slot.cover = slot.copy.unserved();
            }
            other => self.happens(&mut next, other),
        }
        next.forget_the_gone(|system, late| self.is_pointless(system, late));
        if self.is_reduced {
            self.reduce(&mut next);
        }
        next
    }
}
