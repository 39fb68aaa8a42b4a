//! The Kubernetes API server: a Secret for each check, a Lease for each process, and what it answers to a write.
//!
//! It keeps one promise: a write that names a `resourceVersion` is executed only on the object that has it. A version is
//! kept by its holders, as far as it matters to them: it is the object's current one, or it never will be again.

use crate::azure::Deliveries;
use crate::system::{Decision, Id, MAX_CHECKS, MAX_LATE, System};

/// How far a check has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Phase {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// It was decided; the event may have been sent.
    Decided(Decision),
    /// Every delivery was served. It holds no token; it is deleted ten minutes later.
    Done,
}

impl Phase {
    /// What was decided.
    pub fn decision(self) -> Option<Decision> {
        match self {
            Phase::Decided(decision) => Some(decision),
            Phase::Undecided | Phase::Done => None,
        }
    }
}

/// What the Secret of a check holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Record {
    /// The process that polls, decides and reports it; none when the last one has given it up.
    pub owner: Option<Id>,
    /// The deliveries that were stored: what `delivery` counts, and the tokens.
    pub deliveries: Deliveries,
    /// Those whose event was answered, or whose token is dead. It only grows.
    pub served: Deliveries,
    /// Azure DevOps has taken a token of it: deliveries of other values are out.
    pub proven: bool,
    /// How far it has come.
    pub phase: Phase,
}

impl Record {
    /// The deliveries that are still owed an event.
    pub fn unserved(&self) -> Deliveries {
        self.deliveries - self.served
    }

    pub(crate) fn pack(&self, name: &impl Fn(Id) -> u8, out: &mut Vec<u8>) {
        let Record { owner, deliveries, served, proven, phase } = *self;
        let phase = match phase {
            Phase::Undecided => 0,
            Phase::Done => 1,
            Phase::Decided(Decision(it)) => 2 + it,
        };
        out.extend([
            owner.map_or(0, name) | u8::from(proven) << 7,
            deliveries.bits() | served.bits() << 4,
            phase,
        ]);
    }
}

/// The version that somebody has read, against the one that the object has now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Version {
    /// It is the object's.
    Current,
    /// The object was written since.
    Old,
    /// The object was deleted since: one of the same name has another `uid`.
    #[default]
    Gone,
}

/// A write to the Secret of a check. What a PUT or DELETE names is `version`; without `if_version` it names the `uid` alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Write {
    /// Create it.
    Post(Record),
    /// Replace it.
    Put(Record, Version, If),
    /// Delete it.
    Delete(Version, If),
}

/// What a write makes a condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum If {
    /// `resourceVersion` and `uid` are what was read.
    Unchanged,
    /// `uid` is what was read.
    SameObject,
    /// Nothing.
    Anything,
}

impl Write {
    /// What it writes.
    pub fn record(self) -> Option<Record> {
        match self {
            Write::Post(record) | Write::Put(record, ..) => Some(record),
            Write::Delete(..) => None,
        }
    }
}

/// What the server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// 200 or 201: it was done.
    Done,
    /// 409: there is one already, or it is not the one that was read.
    Conflict,
    /// 404: there is none.
    NotFound,
}

/// A write whose caller has given it up, or has died, and that the server executes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Late {
    /// Whose it was.
    pub by: Id,
    /// Of which check.
    pub check: usize,
    /// What.
    pub write: Write,
}

impl Late {
    pub(crate) fn packed(&self, checks: [usize; MAX_CHECKS], name: &impl Fn(Id) -> u8) -> [u8; 5] {
        let Late { by, check, write } = *self;
        let (kind, version, condition) = match write {
            Write::Post(_) => (0, Version::Gone, If::Anything),
            Write::Put(_, version, condition) => (1, version, condition),
            Write::Delete(version, condition) => (2, version, condition),
        };
        let mut record = Vec::with_capacity(3);
        write.record().unwrap_or_default().pack(name, &mut record);
        let place = checks.iter().position(|&it| it == check).unwrap_or_default() as u8;
        [
            name(by),
            place << 6 | kind << 4 | (version as u8) << 2 | condition as u8,
            record[0],
            record[1],
            record[2],
        ]
    }
}

impl System {
    /// The server executes a write.
    pub fn execute(&mut self, check: usize, write: Write) -> Status {
        let status = self.answer_to(check, write);
        match write {
            _ if status != Status::Done => {}
            Write::Post(record) | Write::Put(record, ..) => {
                self.secrets[check] = Some(record);
                self.outdate(check, Version::Old);
            }
            Write::Delete(..) => self.delete(check),
        }
        status
    }

    /// What it would answer.
    pub fn answer_to(&self, check: usize, write: Write) -> Status {
        match (write, self.secrets[check]) {
            (Write::Post(_), None) => Status::Done,
            (Write::Post(_), Some(_)) => Status::Conflict,
            (_, None) => Status::NotFound,
            (Write::Put(_, version, condition) | Write::Delete(version, condition), Some(_)) => {
                let fits = match condition {
                    If::Unchanged => version == Version::Current,
                    If::SameObject => version != Version::Gone,
                    If::Anything => true,
                };
                if fits { Status::Done } else { Status::Conflict }
            }
        }
    }

    /// The Secret goes, by whomever.
    pub fn delete(&mut self, check: usize) {
        self.secrets[check] = None;
        self.outdate(check, Version::Gone);
    }

    /// What anybody has read of the Secret is not current any more.
    fn outdate(&mut self, check: usize, now: Version) {
        let outdated = |version: &mut Version| *version = (*version).max(now);
        for replica in &mut self.replicas {
            outdated(&mut replica.slots[check].version);
        }
        for late in self.late.iter_mut().flatten().filter(|late| late.check == check) {
            if let Write::Put(_, version, _) | Write::Delete(version, _) = &mut late.write {
                outdated(version);
            }
        }
    }

    /// A write is given up by its caller; the server will execute it later. False when too many are under way.
    pub fn give_up(&mut self, by: Id, check: usize, write: Write) -> bool {
        let free = (0..MAX_LATE).find(|&n| self.late[n].is_none());
        if let Some(n) = free {
            self.late[n] = Some(Late { by, check, write });
        }
        free.is_some()
    }
}
