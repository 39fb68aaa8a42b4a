//! What a call writes, and what its answer means.

use super::{Call, Role, Slot};
use crate::azure::Deliveries;
use crate::faults::Fault;
use crate::model::Model;
use crate::server::{If, Phase, Record, Status, Version, Write};
use crate::system::{Id, System};

impl Model {
    /// A replica makes a call, and reads the answer.
    pub fn call(&self, system: &mut System, me: Id, check: usize, call: Call) {
        match call {
            Call::ReadAgain => self.learn(system, me, check),
            Call::OwnSweep => self.learn(system, me, check),
            Call::LookAtDead | Call::Sweep => {
                self.looks_at(system, check);
                read_into(system, me, check, Role::Adopting);
            }
            Call::LookAtDone => read_into(system, me, check, Role::Deleting),
            Call::Event => {
                if let Some((_, served)) = self.send_event(system, me, check) {
                    let copy = &mut system.replica_mut(me).slots[check].copy;
                    copy.served = copy.served | served;
                }
            }
            Call::Merge if self.is_known_token(system, me, check) => {
                answer(system, me, check, true);
                let slot = &mut system.replica_mut(me).slots[check];
                if slot.role == Role::Merging {
                    slot.forget();
                }
            }
            _ => {
                let write = self.write(system, me, check, call);
                let status = self.execute(system, me, check, write);
                self.answered(system, me, check, call, write, status);
            }
        }
    }

    /// The event goes to Azure DevOps. Answers the token's delivery, and all that it serves.
    pub fn send_event(&self, system: &mut System, me: Id, check: usize) -> Option<(u8, Deliveries)> {
        let slot = &system.replica(me).slots[check];
        let delivery = slot.next_event()?;
        let decision = slot.copy.phase.decision()?;
        let serves = system.plans[check].with_token_of(delivery) & slot.copy.unserved();
        system.event(check, delivery, serves, decision);
        Some((delivery, serves))
    }

    /// What a call writes.
    pub fn write(&self, system: &System, me: Id, check: usize, call: Call) -> Write {
        let slot = &system.replica(me).slots[check];
        let copy = slot.copy;
        let new = Record { owner: Some(me), proven: !self.bounds.has_proof, ..Record::default() };
        let added = slot.accepting.map_or(Deliveries::NONE, Deliveries::only);
        let blind = |fault, otherwise| if self.has(fault) { otherwise } else { If::Unchanged };
        let put = |record| Write::Put(record, slot.version, If::Unchanged);
        match call {
            Call::Post if slot.role == Role::Storing => Write::Post(Record { owner: Some(me), ..copy }),
            Call::Post => Write::Post(Record { deliveries: added, ..new }),
            Call::Merge => {
                let merged = match copy.phase {
                    // A new evaluation, and whoever got the delivery owns it.
                    Phase::Done => {
                        Record { deliveries: copy.deliveries | added, served: copy.deliveries, ..new }
                    }
                    _ => Record { deliveries: copy.deliveries | added, ..copy },
                };
                Write::Put(merged, slot.version, blind(Fault::MergeBlind, If::SameObject))
            }
            Call::Prove => {
                let rest = copy.deliveries - system.plans[check].foreign;
                put(Record { proven: true, deliveries: rest, ..copy })
            }
            Call::Adopt => {
                let adopted = Record { owner: Some(me), ..copy };
                Write::Put(adopted, slot.version, blind(Fault::AdoptBlind, If::SameObject))
            }
            Call::Decide => {
                let decision = copy.phase.decision().unwrap_or_else(|| system.new_decision(check));
                put(Record { phase: Phase::Decided(decision), ..copy })
            }
            Call::Reopen => put(Record { phase: Phase::Undecided, ..copy }),
            Call::End if self.has(Fault::NoDone) => Write::Delete(slot.version, If::Unchanged),
            Call::End => {
                let done = Record { phase: Phase::Done, ..copy };
                Write::Put(done, slot.version, blind(Fault::DoneBlind, If::SameObject))
            }
            Call::GiveUp if self.has(Fault::DrainForgetsServed) => {
                put(Record { owner: None, served: Deliveries::NONE, ..copy })
            }
            Call::GiveUp => put(Record { owner: None, ..copy }),
            _ => Write::Delete(slot.version, blind(Fault::DeleteBlind, If::Anything)),
        }
    }

    /// What the answer to a write means.
    fn answered(&self, system: &mut System, me: Id, check: usize, call: Call, write: Write, status: Status) {
        let slot = &mut system.replica_mut(me).slots[check];
        match (call, status) {
            (Call::Adopt | Call::Delete, Status::Conflict | Status::NotFound) => slot.forget(),
            (Call::Post | Call::Merge, Status::Conflict | Status::NotFound) | (_, Status::Conflict) => {
                slot.must_read = true;
            }
            (_, Status::NotFound) => self.learn(system, me, check),
            (_, Status::Done) => self.done(system, me, check, call, write),
        }
    }

    /// What a write means that was done.
    fn done(&self, system: &mut System, me: Id, check: usize, call: Call, write: Write) {
        let slot = &mut system.replica_mut(me).slots[check];
        let (Some(record), false) = (write.record(), matches!(call, Call::End | Call::GiveUp)) else {
            slot.forget();
            return;
        };
        let before = slot.role;
        slot.copy = record;
        slot.version = Version::Current;
        slot.is_unseen = false;
        slot.role = if self.is_own(slot, &record, me) { Role::Owning } else { Role::Nothing };
        match call {
            // A decided one is not decided again: its decision is sent once more.
            Call::Adopt if self.has(Fault::DecideAgain) => slot.copy.phase = Phase::Undecided,
            Call::Adopt | Call::Decide => {
                slot.is_fenced = record.phase.decision().is_some();
                slot.cover = if slot.is_fenced { record.unserved() } else { Deliveries::NONE };
                if self.has(Fault::OneEventADecision) {
                    slot.cover = slot.cover.newest().map_or(Deliveries::NONE, Deliveries::only);
                }
            }
            Call::Reopen => (slot.is_fenced, slot.cover) = (false, Deliveries::NONE),
            _ => {}
        }
        if slot.role == Role::Nothing && before == Role::Merging {
            slot.forget();
        }
        if slot.accepting.is_some_and(|delivery| record.deliveries.has(delivery)) {
            answer(system, me, check, true);
        }
    }

    /// *Read again*: what was read replaces what was held, and its own change is made again only if it still fits. The owner
    /// is another: dropped. Decided: sent. Done: dropped.
    fn learn(&self, system: &mut System, me: Id, check: usize) {
        let found = system.secrets[check];
        if let Some(record) = found
            && system.replica(me).slots[check].accepting.is_some_and(|it| record.deliveries.has(it))
        {
            answer(system, me, check, true);
        }
        let plan = &system.plans[check];
        // An acceptance without the store may last for ever here, and not ten minutes in truth: there nobody asks.
        let is_waited_for = plan.is_waited_for() && !self.bounds.accepts_on_outage;
        let foreign = plan.foreign;
        let slot = &mut system.replica_mut(me).slots[check];
        slot.must_read = false;
        match found {
            None => self.learn_that_it_is_gone(slot, is_waited_for),
            Some(_) if slot.role == Role::Owning && self.has(Fault::OwnRecordKept) => {
                slot.version = Version::Current;
            }
            Some(record) if record.phase != Phase::Done && self.is_own(slot, &record, me) => {
                let missing = slot.copy.deliveries - record.deliveries;
                if slot.role == Role::Storing && slot.accepting.is_none() {
                    slot.accepting = (missing - slot.copy.served).newest();
                }
                self.take_in(slot, record);
                slot.is_unseen = false;
            }
            Some(record) => {
                // Accepted without the store, and another owns it by now: what is owed is merged.
                if slot.role == Role::Storing && slot.accepting.is_none() {
                    slot.accepting = (slot.copy.unserved() - record.deliveries).newest();
                }
                let is_other = slot.accepting.is_some_and(|delivery| foreign.has(delivery));
                slot.forget();
                if is_other && record.proven && record.phase != Phase::Done {
                    answer(system, me, check, false);
                } else if slot.accepting.is_some() {
                    (slot.role, slot.copy, slot.version) = (Role::Merging, record, Version::Current);
                }
            }
        }
    }

    fn is_own(&self, slot: &Slot, record: &Record, me: Id) -> bool {
        record.owner == Some(me) || (slot.role == Role::Owning && self.has(Fault::NoOwnerCheck))
    }

    /// The record names this process: *Own sweep*, or *Read again*.
    fn take_in(&self, slot: &mut Slot, record: Record) {
        let held = *slot;
        slot.role = Role::Owning;
        slot.version = Version::Current;
        slot.copy = record;
        slot.is_fenced = record.phase.decision().is_some();
        slot.cover = if slot.is_fenced { record.unserved() } else { Deliveries::NONE };
        if !held.is_kept() {
            return;
        }
        // Its own changes, applied anew: what was served stays served; a decision that was not stored still fits where
        // nothing was decided; one that was sent goes to nobody who came after it.
        slot.copy.served = record.served | (held.copy.served & record.deliveries);
        if held.is_fenced && slot.is_fenced && held.copy.phase == record.phase {
            slot.cover = held.cover;
        }
        if !held.is_fenced && !slot.is_fenced {
            slot.copy.phase = held.copy.phase;
        }
    }

    /// *By hand*: nobody but a person deletes a Secret that is not done, so it is stored again. But one that was not seen as
    /// its own for five minutes may have been adopted, ended, and deleted ten minutes later: Azure DevOps is asked whether it
    /// still waits, and if not, the check is dropped. (A replica asks in any case: of one seen lately the answer is known.)
    fn learn_that_it_is_gone(&self, slot: &mut Slot, is_waited_for: bool) {
        match slot.role {
            Role::Owning if slot.copy.unserved().is_empty() => slot.forget(),
            Role::Owning if slot.is_unseen && !is_waited_for && !self.has(Fault::PostsWithoutAsking) => {
                slot.forget();
            }
            Role::Owning | Role::Storing => slot.role = Role::Storing,
            _ => slot.forget(),
        }
    }

    fn is_known_token(&self, system: &System, me: Id, check: usize) -> bool {
        let slot = &system.replica(me).slots[check];
        let same = slot.accepting.map(|delivery| system.plans[check].with_token_of(delivery));
        self.has(Fault::DeliveryNotRaised)
            && slot.copy.phase != Phase::Done
            && same.is_some_and(|same| !(same & slot.copy.deliveries).is_empty())
    }
}

fn read_into(system: &mut System, me: Id, check: usize, role: Role) {
    if let Some(record) = system.secrets[check] {
        let slot = &mut system.replica_mut(me).slots[check];
        (slot.role, slot.copy, slot.version) = (role, record, Version::Current);
    }
}

/// The sender of a delivery gets its answer.
pub(crate) fn answer(system: &mut System, me: Id, check: usize, is_accepted: bool) {
    if let Some(delivery) = system.replica_mut(me).slots[check].accepting.take() {
        system.plans[check].answer(delivery, is_accepted);
    }
}
