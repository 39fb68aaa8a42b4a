//! The state of everything: replicas, the API server, Azure DevOps, calls that are late, and what may still go wrong.

use crate::azure::Plan;
use crate::environment::Left;
use crate::properties::Broken;
use crate::replica::{Life, Replica};
use crate::server::{Late, Record};

/// Processes that a state can hold at once: living ones, and dead ones that something still names.
pub const MAX_REPLICAS: usize = 8;
/// Checks of a search.
pub const MAX_CHECKS: usize = 2;
/// Calls that were given up and may still be executed.
pub const MAX_LATE: usize = 4;

/// A process, by its place in [`System::replicas`]. The place of one that is dead and forgotten is given to another.
pub type Id = u8;

/// What a check came to. Two decisions are the same only if they are one: the model's "passed" and "failed" are as many
/// as there are evaluations, so that each second one shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decision(pub u8);

/// The state of everything at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct System {
    /// The processes.
    pub replicas: [Replica; MAX_REPLICAS],
    /// The Lease of each process: there or not.
    pub leases: [bool; MAX_REPLICAS],
    /// The Secret of each check.
    pub secrets: [Option<Record>; MAX_CHECKS],
    /// Calls that were given up and that the server will execute yet.
    pub late: [Option<Late>; MAX_LATE],
    /// Each check as Azure DevOps sees it.
    pub plans: [Plan; MAX_CHECKS],
    /// What may still go wrong.
    pub left: Left,
    /// The rule that the last step broke.
    pub broken: Option<Broken>,
}

impl System {
    /// The processes that live.
    pub fn living(&self) -> impl Iterator<Item = Id> + '_ {
        (0..MAX_REPLICAS as Id).filter(|&id| self.replica(id).lives())
    }

    /// A process.
    pub fn replica(&self, id: Id) -> &Replica {
        &self.replicas[usize::from(id)]
    }

    /// A process, to be changed.
    pub fn replica_mut(&mut self, id: Id) -> &mut Replica {
        &mut self.replicas[usize::from(id)]
    }

    /// Whether there is a Lease of the process.
    pub fn has_lease(&self, id: Id) -> bool {
        self.leases[usize::from(id)]
    }

    /// Notes that a rule was broken; the first one stays.
    pub fn breaks(&mut self, rule: Broken) {
        self.broken = self.broken.or(Some(rule));
    }

    /// A decision that nobody has made, holds or has been told for this check.
    pub fn new_decision(&self, check: usize) -> Decision {
        let held = self.replicas.iter().filter_map(|replica| replica.slots[check].copy.phase.decision());
        let stored = self.secrets[check].and_then(|record| record.phase.decision());
        let late = self.late.iter().flatten().filter(|late| late.check == check);
        let late = late.filter_map(|late| late.write.record()?.phase.decision());
        let told = self.plans[check].told.iter().copied().flatten();
        let used =
            held.chain(stored).chain(late).chain(told).fold(0_u32, |used, Decision(it)| used | 1 << it);
        Decision((0..).find(|it| used & 1 << it == 0).unwrap_or_default())
    }

    /// Forgets processes that are dead and that nothing names, so that states which differ by them alone are one state,
    /// and late calls that can change nothing.
    pub fn forget_the_gone(&mut self, is_pointless: impl Fn(&System, &Late) -> bool) {
        for n in 0..MAX_LATE {
            if self.late[n].is_some_and(|late| is_pointless(self, &late)) {
                self.late[n] = None;
            }
        }
        self.late.sort_unstable();
        for id in 0..MAX_REPLICAS as Id {
            if self.replica(id).is_dead() && !self.has_lease(id) && !self.is_named(id) {
                *self.replica_mut(id) = Replica::default();
            }
        }
    }

    fn is_named(&self, id: Id) -> bool {
        let names = |record: &Record| record.owner == Some(id);
        self.secrets.iter().flatten().any(names)
            || self.late.iter().flatten().any(|late| late.write.record().is_some_and(|it| names(&it)))
            || self.replicas.iter().flat_map(|replica| &replica.slots).any(|slot| names(&slot.copy))
    }

    /// The fingerprint of the state: the same for two states that differ only in the names of their processes, or of
    /// their checks. Different states have the same one with a probability of n² / 2⁶⁵ for n states: 3 in 10,000 at 100
    /// million.
    pub fn fingerprint(&self, scratch: &mut Vec<u8>) -> u64 {
        let straight = self.fingerprint_of([0, 1], scratch);
        if self.plans[1] == Plan::default() {
            straight
        } else {
            straight.min(self.fingerprint_of([1, 0], scratch))
        }
    }

    fn fingerprint_of(&self, checks: [usize; MAX_CHECKS], scratch: &mut Vec<u8>) -> u64 {
        let order = self.order(checks, scratch);
        let mut place = [0; MAX_REPLICAS];
        for (at, &id) in order.iter().enumerate() {
            place[usize::from(id)] = at as u8 + 2;
        }
        let name = |id: Id| place[usize::from(id)];
        scratch.clear();
        for id in order {
            let replica = self.replica(id);
            if replica.life == Life::Absent {
                break;
            }
            replica.pack(checks, self.has_lease(id), &name, scratch);
        }
        scratch.push(0xff);
        for check in checks {
            match &self.secrets[check] {
                Some(record) => record.pack(&name, scratch),
                None => scratch.push(0xff),
            }
            self.plans[check].pack(scratch);
        }
        let mut late: [Option<[u8; 5]>; MAX_LATE] =
            self.late.map(|late| late.map(|late| late.packed(checks, &name)));
        late.sort_unstable();
        scratch.extend(late.iter().flatten().flatten());
        self.left.pack(scratch);
        hash(scratch)
    }

    /// The processes in an order that does not depend on their names, as far as that can be told at a glance. Where two
    /// look alike, their order is as good as any.
    fn order(&self, checks: [usize; MAX_CHECKS], scratch: &mut Vec<u8>) -> [Id; MAX_REPLICAS] {
        let mut keyed: [(u64, Id); MAX_REPLICAS] = Default::default();
        for (id, entry) in (0..).zip(&mut keyed) {
            let replica = self.replica(id);
            *entry = (u64::MAX, id);
            if replica.life == Life::Absent {
                continue;
            }
            scratch.clear();
            replica.pack(checks, self.has_lease(id), &|owner| if owner == id { 1 } else { 2 }, scratch);
            for check in checks {
                let owner = self.secrets[check].map(|record| record.owner == Some(id));
                scratch.push(owner.map_or(0, |is_own| 1 + u8::from(is_own)));
            }
            let late = self.late.iter().flatten().filter(|late| late.by == id).count();
            scratch.push(late as u8);
            entry.0 = hash(scratch) >> 1;
        }
        keyed.sort_unstable();
        keyed.map(|(_, id)| id)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::quality::FixedState::with_seed(0x7465_7374_7265_6c61).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
