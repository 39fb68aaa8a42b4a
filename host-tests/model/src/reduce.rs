//! States that no run can tell apart are made one, so that more can be searched. Each rule says why nothing is lost by it;
//! a test holds that the searches with and without them judge alike. A model with a fault is searched without.

use crate::azure::{Deliveries, Plan, Session};
use crate::environment::ten_minutes_pass;
use crate::model::Model;
use crate::replica::{Life, Replica, Role, Slot};
use crate::server::{Phase, Record, Version};
use crate::system::{MAX_REPLICAS, System};

impl Model {
    /// The state that stands for this one.
    pub(crate) fn reduce(&self, system: &mut System) {
        self.start_at_once(system);
        forget_leases_of_the_dead(system);
        for check in self.checks() {
            self.delete_at_once(system, check);
            for replica in &mut system.replicas {
                refuse_what_will_be_refused(&mut replica.slots[check]);
            }
            let may_come = system.left.redeliveries > 0 || system.left.other_values > 0;
            forget_what_cannot_come_again(system, check, may_come);
        }
        system.forget_the_gone(|system, late| self.is_pointless(system, late));
    }

    /// A process that has not started, or has no Lease yet, does less than one that is merely slow.
    fn start_at_once(&self, system: &mut System) {
        while system.living().count() < usize::from(self.bounds.replicas) {
            let Some(free) = (0..MAX_REPLICAS).find(|&id| system.replicas[id].life == Life::Absent) else {
                return;
            };
            system.replicas[free] = Replica { life: Life::Ready, ..Replica::default() };
            system.leases[free] = true;
        }
        for id in 0..MAX_REPLICAS {
            if system.replicas[id].life == Life::Starting && !system.replicas[id].is_cut {
                system.replicas[id].life = Life::Ready;
                system.leases[id] = true;
            }
        }
    }

    /// What is done and will not be delivered again tells those who read it the same as if it were gone: drop it.
    fn delete_at_once(&self, system: &mut System, check: usize) {
        let is_done = system.secrets[check].is_some_and(|record| record.phase == Phase::Done);
        let is_waited_for = system.replicas.iter().any(|it| it.slots[check].accepting.is_some());
        let may_come = system.left.redeliveries > 0 || system.left.other_values > 0;
        if is_done
            && !is_waited_for
            && !may_come
            && !self.bounds.accepts_on_outage
            && self.may_delete(system, check)
        {
            system.delete(check);
            ten_minutes_pass(system, check);
        }
    }
}

/// A dead process's checks are adopted whether its Lease is there (its death is seen) or not (the sweep).
fn forget_leases_of_the_dead(system: &mut System) {
    for id in 0..MAX_REPLICAS {
        if system.replicas[id].is_dead() {
            system.leases[id] = false;
        } else if system.replicas[id].life != Life::Starting {
            // Who seems dead renews, or makes its Lease anew: the same comes of it.
            system.leases[id] = system.replicas[id].lives();
        }
    }
}

/// A write that names a version which is not the object's is refused, and then the Secret is read.
fn refuse_what_will_be_refused(slot: &mut Slot) {
    if slot.version == Version::Current && !slot.must_read {
        return;
    }
    match slot.role {
        Role::Adopting | Role::Deleting => *slot = Slot { accepting: slot.accepting, ..Slot::default() },
        // What was read before is replaced by what will be read.
        Role::Merging => *slot = Slot { accepting: slot.accepting, must_read: true, ..Slot::default() },
        Role::Owning if !slot.is_fenced => {
            slot.must_read = true;
            slot.version = Version::Gone;
        }
        Role::Owning | Role::Storing | Role::Nothing => {
            if slot.must_read {
                slot.version = Version::Gone;
            }
        }
    }
}

/// What was told for a delivery matters as long as somebody may send an event for it; and of a check that nobody has and
/// that will not come again it matters only whether somebody waits.
fn forget_what_cannot_come_again(system: &mut System, check: usize, may_come: bool) {
    let unserved =
        |record: &Record| if record.phase == Phase::Done { Deliveries::NONE } else { record.unserved() };
    let stored = system.secrets[check].iter().map(unserved);
    let held = system.replicas.iter().map(|replica| &replica.slots[check]);
    let accepting = held.clone().filter_map(|slot| slot.accepting).map(Deliveries::only);
    let held = held.filter(|slot| slot.role != Role::Nothing).map(|slot| unserved(&slot.copy));
    let late = system.late.iter().flatten().filter(|late| late.check == check);
    let late = late.filter_map(|late| late.write.record()).map(|record| unserved(&record));
    let open = stored.chain(held).chain(accepting).chain(late).fold(Deliveries::NONE, |all, it| all | it);
    let is_gone = system.secrets[check].is_none()
        && system.replicas.iter().all(|replica| replica.slots[check] == Slot::default())
        && !system.late.iter().flatten().any(|late| late.check == check);
    let plan = &mut system.plans[check];
    let closed = Deliveries(0x0f) - open;
    for delivery in closed.all() {
        plan.told[usize::from(delivery)] = None;
    }
    plan.excused = plan.excused - closed;
    plan.may_differ = plan.may_differ - closed;
    // Once nobody has it, nothing will change for those that wait.
    let waits = (0_u8..).zip(plan.sessions).any(|(delivery, session)| {
        matches!(session, Session::Waiting | Session::Offered) && !plan.forfeited.has(delivery)
    });
    if is_gone && !may_come && !waits && plan.sent() > 0 {
        *plan = Plan::default();
        plan.sessions[0] = Session::Taken;
    }
}
