//! A replica: what it keeps of each check, and which call it may make next. What a call writes and what its answer means is
//! in `replica/calls.rs`. Words in *italics* name sentences of the protocol, as the crate's README has them.
//!
//! A call and the reading of its answer are one step: between them the replica does nothing else for that check ("one
//! write under way"), and what it does for other checks does not touch this one. A call whose answer does not come, or
//! whose caller dies, is a step of its own, and is executed at any time later ([`crate::environment`]).

use crate::azure::Deliveries;
use crate::faults::Fault;
use crate::model::Model;
use crate::server::{Phase, Record, Version};
use crate::system::{Id, MAX_CHECKS, System};

mod calls;

pub(crate) use calls::answer;

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Life {
    /// There is none.
    #[default]
    Absent,
    /// It has started and has no Lease yet: it accepts and adopts nothing.
    Starting,
    /// It has made its Lease.
    Ready,
    /// A hot restart has started another one of the same pod name beside it.
    Replaced,
    /// It takes no new checks and gives its own up.
    Draining,
    /// It is dead.
    Dead,
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replica {
    /// Where it is in its life.
    pub life: Life,
    /// It does not reach the API server.
    pub is_cut: bool,
    /// It lives and reaches the API server, and the others have seen its Lease unchanged for 20 s, or gone.
    pub is_doubted: bool,
    /// The name of its pod. Only [`Fault::SameNameBothWays`] looks at it later than at its start.
    pub pod: u8,
    /// The processes whose Lease was missing when it listed them: kept under [`Fault::LeasesListedFirst`] alone.
    pub leaseless: Option<u8>,
    /// What it keeps of each check.
    pub slots: [Slot; MAX_CHECKS],
}

/// What a process does with a check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Role {
    /// Nothing; or it is about to create its Secret ([`Slot::accepting`]).
    #[default]
    Nothing,
    /// It has read another's record, and will add a delivery to it.
    Merging,
    /// It has read the record of a dead one, and will make it its own.
    Adopting,
    /// It has read a record that is done, and will delete it.
    Deleting,
    /// It has it in its ledger, and there is no Secret: deleted by hand, or accepted without the store.
    Storing,
    /// It has it in its ledger, and owns it as far as it knows.
    Owning,
}

/// What a process keeps of one check: one record, and one call under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slot {
    /// What it does with it.
    pub role: Role,
    /// What was read or written last, and what was changed since and is not written yet.
    pub copy: Record,
    /// The version that `copy` had.
    pub version: Version,
    /// A call had no clear answer, or was refused: read before anything else is written.
    pub must_read: bool,
    /// The delivery whose sender waits for an answer.
    pub accepting: Option<u8>,
    /// The decision in `copy` was stored, or could not be for 60 s: the event may be sent.
    pub is_fenced: bool,
    /// Whom the decision is for: those that the record held when it was decided or adopted.
    pub cover: Deliveries,
    /// It was not seen as its own for five minutes, neither read nor written nor in the list of its own sweep.
    pub is_unseen: bool,
    /// The answer to the POST lies unread: [`Fault::TwoExchanges`] alone.
    pub has_unread_answer: bool,
}

/// A call that a replica makes for a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// *Read again*: GET, after a call without a clear answer, or one that was refused.
    ReadAgain,
    /// *Own sweep*: the Secret names this process, and its ledger lacks it.
    OwnSweep,
    /// *Death*: the Secret names a process whose Lease has not changed for 20 s. *Drain*: it names nobody.
    LookAtDead,
    /// *Sweep*: the Secret names a process that has no Lease.
    Sweep,
    /// *Delete*: the Secret is done, since ten minutes.
    LookAtDone,
    /// *Accept*: POST. *By hand*, *Accept anyway*: it is stored again, or after all.
    Post,
    /// *Merge*: PUT, a delivery is added.
    Merge,
    /// *Proof*: PUT, Azure DevOps took a token, deliveries of other values are dropped.
    Prove,
    /// *Adopt*: PUT, a check of a dead process, or nobody's, becomes its own.
    Adopt,
    /// *Fence*: PUT, the decision, before the event.
    Decide,
    /// *Event*: to Azure DevOps, with the newest token of those that the decision is for.
    Event,
    /// *Reopen*: PUT, the decision was sent, and a delivery that came after it is unserved.
    Reopen,
    /// *End*: PUT, done.
    End,
    /// *Delete*: DELETE of what is done.
    Delete,
    /// *Drain*: PUT, nobody's. From then on it decides and sends nothing: a PUT without answer may be
    /// executed after the event.
    GiveUp,
}

impl Replica {
    /// Whether it lives.
    pub fn lives(&self) -> bool {
        !matches!(self.life, Life::Absent | Life::Dead)
    }

    /// Whether it has died and is not forgotten.
    pub fn is_dead(&self) -> bool {
        self.life == Life::Dead
    }

    /// Whether others may have seen its Lease unchanged for 20 s.
    pub fn seems_dead(&self) -> bool {
        !self.lives() || self.is_cut || self.is_doubted
    }

    /// "A replica that could not renew for 10 s adopts nothing", nor one without a Lease, nor one that drains.
    pub fn may_adopt(&self) -> bool {
        matches!(self.life, Life::Ready | Life::Replaced) && !self.is_cut && !self.is_doubted
    }

    pub(crate) fn pack(
        &self,
        checks: [usize; MAX_CHECKS],
        has_lease: bool,
        name: &impl Fn(Id) -> u8,
        out: &mut Vec<u8>,
    ) {
        let Replica { life, is_cut, is_doubted, pod, leaseless, slots } = *self;
        let bits = [is_cut, is_doubted, has_lease, leaseless.is_some()];
        out.push(bits.iter().fold(life as u8, |bits, &bit| bits << 1 | u8::from(bit)));
        // Names of pods and what was listed are kept under two faults alone, whose states are not made fewer.
        if pod != 0 || leaseless.is_some() {
            out.extend([pod, leaseless.unwrap_or_default()]);
        }
        for check in checks {
            let slot = &slots[check];
            if *slot == Slot::default() {
                out.push(0xfe);
            } else {
                slot.pack(name, out);
            }
        }
    }
}

impl Slot {
    fn pack(&self, name: &impl Fn(Id) -> u8, out: &mut Vec<u8>) {
        let Slot {
            role,
            copy,
            version,
            must_read,
            accepting,
            is_fenced,
            cover,
            is_unseen,
            has_unread_answer,
        } = *self;
        let bits = [must_read, is_fenced, is_unseen, has_unread_answer];
        let bits = bits.iter().fold(role as u8, |bits, &bit| bits << 1 | u8::from(bit));
        out.extend([bits, version as u8 | accepting.map_or(0, |it| it + 1) << 2]);
        out.push(cover.bits());
        copy.pack(name, out);
    }

    /// The ledger has nothing of it any more. A sender that waits goes on waiting.
    fn forget(&mut self) {
        *self = Slot { accepting: self.accepting, ..Slot::default() };
    }

    /// Whether the ledger has it.
    pub fn is_kept(&self) -> bool {
        matches!(self.role, Role::Owning | Role::Storing)
    }

    /// Whether an event is to be sent now, and with whose token: the newest first.
    fn next_event(&self) -> Option<u8> {
        let is_decided = self.is_kept() && self.is_fenced && self.copy.phase.decision().is_some();
        (self.cover & self.copy.unserved()).newest().filter(|_| is_decided)
    }
}

impl Model {
    /// The calls that a replica may make now for a check.
    pub fn calls(&self, system: &System, me: Id, check: usize, out: &mut Vec<Call>) {
        let replica = system.replica(me);
        let slot = &replica.slots[check];
        let drains = replica.life == Life::Draining && !self.has(Fault::DrainSends);
        // No need to read before: what was fenced stays decided.
        if slot.next_event().is_some() && !drains {
            out.push(Call::Event);
        }
        if replica.is_cut {
            return;
        }
        match slot.role {
            _ if slot.must_read => out.push(Call::ReadAgain),
            Role::Nothing if slot.accepting.is_some() && !slot.has_unread_answer => out.push(Call::Post),
            Role::Nothing => out.extend(self.look(system, me, check)),
            Role::Merging => out.push(Call::Merge),
            Role::Adopting => out.push(Call::Adopt),
            Role::Deleting => {
                if self.may_delete(system, check) {
                    out.push(Call::Delete);
                }
            }
            Role::Storing => out.push(Call::Post),
            Role::Owning => self.own_calls(system, me, check, out),
        }
    }

    /// What an owner may write.
    fn own_calls(&self, system: &System, me: Id, check: usize, out: &mut Vec<Call>) {
        let replica = system.replica(me);
        let slot = &replica.slots[check];
        let genuine = slot.copy.unserved() - system.plans[check].foreign;
        let is_sent = slot.is_fenced && slot.cover.are_within(slot.copy.served);
        let is_open = !slot.is_fenced && !slot.copy.unserved().is_empty();
        if slot.accepting.is_some() && (slot.is_fenced || slot.copy.phase == Phase::Undecided) {
            out.push(Call::Merge);
        }
        let drains = replica.life == Life::Draining;
        let is_open = is_open && !drains;
        if is_open && (slot.copy.proven || genuine.is_empty()) {
            out.push(Call::Decide);
        } else if is_open {
            out.push(Call::Prove);
        }
        let ends_early =
            self.has(Fault::EndUnserved) && slot.is_fenced && !(slot.cover & slot.copy.served).is_empty();
        if slot.copy.unserved().is_empty() || ends_early {
            out.push(Call::End);
        } else if is_sent {
            out.push(Call::Reopen);
        }
        if drains && slot.accepting.is_none() {
            out.push(Call::GiveUp);
        }
    }

    /// Why a replica that has nothing of a check reads its Secret.
    fn look(&self, system: &System, me: Id, check: usize) -> Option<Call> {
        let replica = system.replica(me);
        let found = system.secrets[check]?;
        let Some(owner) = found.owner else {
            return (replica.may_adopt() && found.phase != Phase::Done).then_some(Call::LookAtDead);
        };
        let is_dead = !system.replica(owner).lives();
        let seems_dead = system.replica(owner).seems_dead();
        let same_pod = self.has(Fault::SameNameBothWays) && system.replica(owner).pod == replica.pod;
        if found.phase == Phase::Done {
            let may = (owner == me || is_dead) && replica.life != Life::Starting;
            return (may && self.may_delete(system, check)).then_some(Call::LookAtDone);
        }
        if owner == me {
            return (!self.has(Fault::NoOwnSweep)).then_some(Call::OwnSweep);
        }
        if !replica.may_adopt() {
            return None;
        }
        if system.has_lease(owner) {
            if seems_dead || same_pod {
                return Some(Call::LookAtDead);
            }
            let was_missing = replica.leaseless.is_some_and(|missing| missing & 1 << owner != 0);
            return was_missing.then_some(Call::Sweep);
        }
        (!self.has(Fault::NoSweep)).then_some(Call::Sweep)
    }
}
