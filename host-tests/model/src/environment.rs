//! What happens to the replicas: checks are delivered, processes die, start, are cut off, taken for dead, drained and
//! replaced; answers are lost, and calls that were given up are executed later.
//!
//! What goes wrong is counted ([`Left`]). A call under way when its caller dies is an answer lost before a crash.

use crate::azure::{Deliveries, Kind, Session};
use crate::faults::Fault;
use crate::model::{Model, Step};
use crate::replica::{Call, Life, Replica, Role, Slot, answer};
use crate::server::{If, Late, Phase, Status, Version, Write};
use crate::system::{Id, MAX_REPLICAS, System};

/// How often each thing may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// A process dies.
    pub crashes: u8,
    /// The answer to a write or to an event is lost. The write is executed at any time later.
    pub lost_answers: u8,
    /// A process does not reach the API server for a time.
    pub partitions: u8,
    /// The others take a process for dead that lives and reaches the API server: its renewals come too late.
    pub late_expiries: u8,
    /// Azure DevOps delivers a check once more.
    pub redeliveries: u8,
    /// Somebody delivers other values under the same ids.
    pub other_values: u8,
    /// A hot restart: a process of the same pod name starts while the old one lives on for a time.
    pub hot_restarts: u8,
    /// A process drains, ends, and another one starts.
    pub drains: u8,
    /// Somebody deletes a Secret. The check is stored again by its owner, not the tokens that were merged elsewhere: it is
    /// searched without redeliveries.
    pub deleted_secrets: u8,
    /// Somebody deletes the Lease of a living process.
    pub deleted_leases: u8,
}

impl Left {
    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        let Left {
            crashes,
            lost_answers,
            partitions,
            late_expiries,
            redeliveries,
            other_values,
            hot_restarts,
            drains,
            deleted_secrets,
            deleted_leases,
        } = *self;
        out.extend([crashes, lost_answers, partitions, late_expiries, redeliveries, other_values]);
        out.extend([hot_restarts, drains, deleted_secrets, deleted_leases]);
    }
}

impl Model {
    /// What the environment may do now. What must happen in the end is marked in [`Step::must_happen`].
    pub fn environment(&self, system: &System, out: &mut Vec<Step>) {
        let left = &system.left;
        let living = system.living().count();
        let planned = usize::from(self.bounds.replicas);
        if living < planned {
            self.starts(system, out);
        }
        for id in system.living() {
            let replica = system.replica(id);
            if left.crashes > 0 {
                out.push(Step::Crash(id));
            }
            if left.partitions > 0 && !replica.is_cut {
                out.push(Step::Cut(id));
            }
            if replica.is_cut {
                out.push(Step::Heal(id));
            }
            if left.late_expiries > 0 && !replica.seems_dead() {
                out.push(Step::TakenForDead(id));
            }
            if left.hot_restarts > 0 && replica.life == Life::Ready && !replica.is_cut {
                out.push(Step::HotRestart(id));
            }
            if left.drains > 0 && replica.life == Life::Ready {
                out.push(Step::Drain(id));
            }
            if left.deleted_leases > 0 && system.has_lease(id) {
                out.push(Step::LeaseDeletedByHand(id));
            }
            let is_idle = |slot: &Slot| slot.role == Role::Nothing && slot.accepting.is_none();
            if match replica.life {
                Life::Replaced => living > planned,
                Life::Draining => replica.slots.iter().all(is_idle),
                _ => false,
            } {
                out.push(Step::Leaves(id));
            }
            for check in self.checks() {
                self.deliveries(system, id, check, out);
            }
        }
        for check in self.checks() {
            if left.deleted_secrets > 0 && system.secrets[check].is_some_and(|it| it.phase != Phase::Done) {
                out.push(Step::SecretDeletedByHand(check));
            }
            if self.has(Fault::ExpiredDeleted)
                && system.secrets[check].is_some_and(|it| it.phase == Phase::Undecided)
            {
                out.push(Step::ExpiredDeleted(check));
            }
        }
        out.extend((0..system.late.len()).filter(|&n| system.late[n].is_some()).map(Step::Late));
    }

    /// A pod is started anew, by the same name or by another; the names matter to one fault alone.
    fn starts(&self, system: &System, out: &mut Vec<Step>) {
        if system.replicas.iter().any(|it| it.life == Life::Absent) {
            out.push(Step::Start);
        }
    }

    fn deliveries(&self, system: &System, to: Id, check: usize, out: &mut Vec<Step>) {
        let replica = system.replica(to);
        let slot = &replica.slots[check];
        if system.is_waited_for(to, check) && replica.is_cut {
            out.push(Step::Refuse(to, check));
        }
        let has_no_answer = replica.is_cut || slot.must_read;
        if system.is_waited_for(to, check) && self.bounds.accepts_on_outage && has_no_answer {
            out.push(Step::AcceptAnyway(to, check));
        }
        let is_open = slot.is_kept() && !slot.is_fenced && !slot.copy.unserved().is_empty();
        if replica.is_cut && is_open && slot.copy.proven {
            out.push(Step::FenceUnreached(to, check));
        }
        let takes_checks = match replica.life {
            Life::Ready | Life::Replaced => true,
            Life::Starting => self.has(Fault::LeaseAfterAccepting),
            _ => false,
        };
        let plan = &system.plans[check];
        let sent = plan.sent();
        let is_answered = sent == 0 || plan.sessions[usize::from(sent) - 1] != Session::Offered;
        if !takes_checks || slot.accepting.is_some() || !is_answered {
            return;
        }
        let deliver = |kind| Step::Deliver(to, check, kind);
        if sent == 0 {
            out.push(deliver(Kind::First));
        } else if system.left.redeliveries > 0 {
            out.extend([Kind::NewToken, Kind::NewTokenOldDead, Kind::SameToken].map(deliver));
        }
        if system.left.other_values > 0 {
            out.push(deliver(Kind::OtherValues));
        }
    }

    /// The environment does something.
    pub fn happens(&self, system: &mut System, step: Step) {
        match step {
            Step::Deliver(to, check, kind) => {
                match kind {
                    Kind::First => {}
                    Kind::OtherValues => system.left.other_values -= 1,
                    _ => system.left.redeliveries -= 1,
                }
                let delivery = system.plans[check].send(kind);
                system.replica_mut(to).slots[check].accepting = Some(delivery);
            }
            Step::Refuse(by, check) => refuse(system, by, check),
            Step::AcceptAnyway(by, check) => accept_anyway(system, by, check),
            Step::FenceUnreached(by, check) => self.fence_unreached(system, by, check),
            Step::Start => self.start(system, 0),
            Step::HotRestart(old) => {
                system.left.hot_restarts -= 1;
                let old = system.replica_mut(old);
                old.is_doubted = true;
                old.life = Life::Replaced;
                let pod = old.pod;
                self.start(system, pod);
            }
            Step::Crash(id) => {
                system.left.crashes -= 1;
                die(system, id);
            }
            Step::Leaves(id) => die(system, id),
            Step::Drain(id) => {
                system.left.drains -= 1;
                system.replica_mut(id).life = Life::Draining;
            }
            Step::Cut(id) => {
                system.left.partitions -= 1;
                system.replica_mut(id).is_cut = true;
            }
            // It was cut off for as long as one likes: the others take it for dead until it renews.
            Step::Heal(id) => {
                let replica = system.replica_mut(id);
                (replica.is_cut, replica.is_doubted) = (false, true);
            }
            Step::TakenForDead(id) => {
                system.left.late_expiries -= 1;
                system.replica_mut(id).is_doubted = true;
            }
            Step::Late(n) => self.late(system, n),
            Step::SecretDeletedByHand(check) => {
                system.left.deleted_secrets -= 1;
                let all = (0..system.plans[check].sent()).map(Deliveries::only);
                let all = all.fold(Deliveries::NONE, |all, it| all | it);
                let owner = system.secrets[check].and_then(|record| record.owner);
                let held = owner.map(|id| system.replica(id).slots[check]).filter(Slot::is_kept);
                let held = held.map_or(Deliveries::NONE, |slot| slot.copy.deliveries);
                let plan = &mut system.plans[check];
                plan.excused = all;
                plan.may_differ = all;
                plan.forfeited = plan.forfeited | (all - held);
                system.delete(check);
            }
            Step::ExpiredDeleted(check) => system.delete(check),
            Step::LeaseDeletedByHand(id) => {
                system.left.deleted_leases -= 1;
                system.leases[usize::from(id)] = false;
                system.replica_mut(id).is_doubted = true;
            }
            _ => {}
        }
    }

    fn start(&self, system: &mut System, pod: u8) {
        if let Some(free) = (0..MAX_REPLICAS).find(|&id| system.replicas[id].life == Life::Absent) {
            system.replicas[free] = Replica { life: Life::Starting, pod, ..Replica::default() };
        }
    }

    /// The API server does not answer for 60 s: the event goes out all the same.
    fn fence_unreached(&self, system: &mut System, by: Id, check: usize) {
        let new = system.new_decision(check);
        let slot = &mut system.replica_mut(by).slots[check];
        let decision = slot.copy.phase.decision().unwrap_or(new);
        slot.copy.phase = Phase::Decided(decision);
        slot.cover = slot.copy.unserved();
        slot.is_fenced = true;
        slot.must_read = true;
        let cover = slot.cover;
        let plan = &mut system.plans[check];
        plan.excused = plan.excused | cover;
        plan.may_differ = plan.may_differ | cover;
    }

    /// The server executes a call that was given up.
    fn late(&self, system: &mut System, n: usize) {
        if let Some(Late { by, check, write }) = system.late[n].take() {
            self.execute(system, by, check, write);
        }
    }

    /// A call whose answer is lost. The caller goes on by reading; a sender that waits may get its 503 at once.
    pub fn lose(&self, system: &mut System, by: Id, check: usize, call: Call, is_refused: bool) {
        system.left.lost_answers -= 1;
        if call == Call::Event {
            if let Some((_, served)) = self.send_event(system, by, check) {
                let plan = &mut system.plans[check];
                plan.excused = plan.excused | served;
            }
            return;
        }
        let write = self.write(system, by, check, call);
        system.give_up(by, check, write);
        let slot = &mut system.replica_mut(by).slots[check];
        match slot.role {
            // Its own sweep finds what was adopted after all; whoever looks next, what was not deleted.
            Role::Adopting | Role::Deleting => *slot = Slot { accepting: slot.accepting, ..Slot::default() },
            _ => slot.must_read = true,
        }
        if call == Call::Decide {
            slot.copy.phase = write.record().map_or(Phase::Undecided, |record| record.phase);
        }
        if is_refused {
            refuse(system, by, check);
        }
    }

    /// The server executes a write, in its time.
    pub(crate) fn execute(&self, system: &mut System, by: Id, check: usize, write: Write) -> Status {
        self.adopts(system, check, write);
        let before = system.secrets[check];
        let status = system.execute(check, write);
        if status == Status::Done {
            self.has_changed(system, check, before, by);
        }
        if status == Status::Done && matches!(write, Write::Delete(..)) && !self.has(Fault::NoDone) {
            ten_minutes_pass(system, check);
        }
        status
    }

    /// Calls that will change nothing whenever they are executed: their version is not the object's any more, or there is
    /// an object, and it will not go before they have been executed (it is kept ten minutes after its end; no call is
    /// executed later than a minute after it was given up).
    pub(crate) fn is_pointless(&self, system: &System, late: &Late) -> bool {
        match late.write {
            Write::Post(_) => {
                system.secrets[late.check].is_some()
                    && system.left.deleted_secrets == 0
                    && !self.has(Fault::NoDone)
            }
            Write::Put(_, version, condition) | Write::Delete(version, condition) => {
                condition == If::Unchanged && version != Version::Current
            }
        }
    }

    /// "Done, deleted after 10 min": every call that was given up before has had its time, and so has the acceptance (20 s)
    /// of a delivery that is in it.
    pub(crate) fn may_delete(&self, system: &System, check: usize) -> bool {
        let stored = system.secrets[check].map_or(Deliveries::NONE, |record| record.deliveries);
        let mut accepting = system.replicas.iter().filter_map(|replica| replica.slots[check].accepting);
        let is_late = system.late.iter().flatten().any(|late| late.check == check);
        !is_late && !accepting.any(|delivery| stored.has(delivery))
    }
}

/// What is deleted was done for ten minutes: so long nobody has seen it as its own.
pub(crate) fn ten_minutes_pass(system: &mut System, check: usize) {
    for replica in &mut system.replicas {
        replica.slots[check].is_unseen = replica.slots[check].is_kept();
    }
}

impl System {
    /// Whether the sender of a delivery waits for this replica's answer.
    pub(crate) fn is_waited_for(&self, id: Id, check: usize) -> bool {
        let delivery = self.replica(id).slots[check].accepting;
        delivery.is_some_and(|it| self.plans[check].sessions[usize::from(it)] == Session::Offered)
    }
}

/// 503: Azure DevOps does not wait. Nothing is kept; what was stored after all is found by its own sweep, or by its owner.
fn refuse(system: &mut System, by: Id, check: usize) {
    answer(system, by, check, false);
    let slot = &mut system.replica_mut(by).slots[check];
    if !slot.is_kept() {
        *slot = Slot::default();
    }
}

/// `on_outage: accept`: 200, and stored when the API server answers.
fn accept_anyway(system: &mut System, by: Id, check: usize) {
    let slot = &mut system.replica_mut(by).slots[check];
    let Some(delivery) = slot.accepting else { return };
    if !slot.is_kept() {
        *slot = Slot { role: Role::Storing, must_read: true, accepting: slot.accepting, ..Slot::default() };
        slot.copy.owner = Some(by);
        slot.copy.proven = true;
        slot.copy.deliveries = Deliveries::only(delivery);
    }
    let plan = &mut system.plans[check];
    plan.answer(delivery, true);
    // Whether it was stored before the outage is not known: it may be another's by now.
    plan.excused = plan.excused | Deliveries::only(delivery);
    plan.may_differ = plan.may_differ | Deliveries::only(delivery);
}

/// A process dies, with all that it alone knew: which events were answered, what was accepted without the store.
fn die(system: &mut System, id: Id) {
    for (check, slot) in system.replica(id).slots.into_iter().enumerate() {
        let plan = &mut system.plans[check];
        if slot.is_kept() && slot.is_fenced {
            plan.excused = plan.excused | slot.copy.deliveries;
        }
        if slot.role == Role::Storing || slot.is_kept() && system.secrets[check].is_none() {
            plan.forfeited = plan.forfeited | slot.copy.deliveries;
        }
        if let Some(delivery) = slot.accepting {
            plan.forfeited = plan.forfeited | Deliveries::only(delivery);
            plan.answer(delivery, false);
        }
    }
    *system.replica_mut(id) = Replica { life: Life::Dead, ..Replica::default() };
}
