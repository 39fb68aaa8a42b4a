//! What the leader remembers of each check between two entries from the host, and when each is due. A tick costs what
//! is due, not what is pending.

use super::showing::Written;
use crate::check::{CheckKey, LiveLog, Pending, Times, Volatile};
use crate::collections::Few;
use crate::store::ledger::{BUCKETS, Ledger};
use crate::time::Mono;
use std::collections::BTreeSet;
use std::time::Duration;

/// A check as the leader remembers it: volatile state, live log, limits of its next reading, due times.
pub(super) struct Tracked {
    pub(super) volatile: Volatile,
    pub(super) log: LiveLog,
    pub(super) reading: Narrow,
    /// What of it was last shown.
    pub(super) written: Written,
    times: Times,
    tells: Option<Mono>,
}

impl Tracked {
    /// Whether its executions are due to be read.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.times.poll.is_some_and(|at| at <= now)
    }
}

/// How many checks a reading with this one may have, and how large its pages may be. Reduced after answers that could
/// not be read, until one check is alone with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Narrow {
    pub(super) crowd: usize,
    pub(super) page: u32,
    /// Complete readings in a row.
    pub(super) calm: u32,
    /// Whether the last reading failed for a cause that is hardly the check's own: it soon joins many again.
    pub(super) is_by_chance: bool,
}

/// All remembered checks and their due times, grouped by bucket like the ledger, so that each is found among a few.
pub(super) struct Agenda {
    ledger: Ledger,
    by_bucket: Vec<Few<CheckKey, Box<Tracked>>>,
    wakes: BTreeSet<(Mono, CheckKey)>,
    polls: BTreeSet<(Mono, CheckKey)>,
    tells: BTreeSet<(Mono, CheckKey)>,
}

impl Agenda {
    /// Remembers nothing.
    pub(super) fn none(ledger: Ledger) -> Agenda {
        Agenda {
            ledger,
            by_bucket: (0..BUCKETS).map(|_| Few::default()).collect(),
            wakes: BTreeSet::new(),
            polls: BTreeSet::new(),
            tells: BTreeSet::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Agenda::none(self.ledger.clone());
    }

    pub(super) fn place(&self, key: &CheckKey) -> usize {
        usize::from(self.ledger.bucket_of(key))
    }

    pub(super) fn get_mut(&mut self, key: &CheckKey) -> Option<&mut Tracked> {
        let place = self.place(key);
        self.by_bucket.get_mut(place)?.get_mut(key).map(Box::as_mut)
    }

    /// A check's entry, created if there is none; its live log is about the present evaluation.
    pub(super) fn of(&mut self, key: &CheckKey, pending: &Pending) -> Option<&mut Tracked> {
        let place = self.place(key);
        let tracked = self.by_bucket.get_mut(place)?.entry(*key, || {
            Box::new(Tracked {
                volatile: Volatile::default(),
                log: LiveLog::of(pending),
                reading: Narrow::WIDE,
                written: Written::default(),
                times: Times::default(),
                tells: None,
            })
        })?;
        if !tracked.log.is_about(pending) {
            tracked.log = LiveLog::of(pending);
        }
        Some(tracked)
    }

    pub(super) fn remove(&mut self, key: &CheckKey) {
        self.set_times(key, Times::default(), None);
        let place = self.place(key);
        if let Some(checks) = self.by_bucket.get_mut(place) {
            checks.remove(key);
        }
    }

    /// The remembered checks of a bucket.
    pub(super) fn keys_of(&self, bucket: usize) -> Vec<CheckKey> {
        self.by_bucket.get(bucket).into_iter().flat_map(Few::keys).copied().collect()
    }

    /// Sets when to step, read and tell a check.
    pub(super) fn set_times(&mut self, key: &CheckKey, times: Times, tells: Option<Mono>) {
        let place = self.place(key);
        let Some(tracked) = self.by_bucket.get_mut(place).and_then(|checks| checks.get_mut(key)) else {
            return;
        };
        let old = std::mem::replace(&mut tracked.times, times);
        let old_tells = std::mem::replace(&mut tracked.tells, tells);
        for (queue, old, new) in [
            (&mut self.wakes, old.wake, times.wake),
            (&mut self.polls, old.poll, times.poll),
            (&mut self.tells, old_tells, tells),
        ] {
            if old != new {
                old.map(|at| queue.remove(&(at, *key)));
                new.map(|at| queue.insert((at, *key)));
            }
        }
    }

    /// Delays a check that would be stepped again at this same instant.
    pub(super) fn delay_wake(&mut self, key: &CheckKey, now: Mono) {
        let place = self.place(key);
        let Some(tracked) = self.by_bucket.get(place).and_then(|checks| checks.get(key)) else { return };
        let (times, tells) = (tracked.times, tracked.tells);
        if times.wake.is_some_and(|wake| wake <= now) {
            let wake = Some(now.plus(Duration::from_millis(1)));
            self.set_times(key, Times { wake, ..times }, tells);
        }
    }

    /// The check that is due for a step and has waited longest.
    pub(super) fn first_due(&self, now: Mono) -> Option<CheckKey> {
        self.wakes.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// The checks whose live log is due.
    pub(super) fn to_tell(&self, now: Mono) -> Vec<CheckKey> {
        until(&self.tells, now).collect()
    }

    /// The checks that are due to be read.
    pub(super) fn to_read(&self, now: Mono) -> impl Iterator<Item = CheckKey> {
        until(&self.polls, now)
    }

    /// Makes the live logs of all checks due now: something has changed for each of them.
    pub(super) fn tell_all(&mut self, now: Mono) {
        for (key, tracked) in self.by_bucket.iter_mut().flat_map(Few::iter_mut) {
            if let Some(old) = tracked.tells.replace(now) {
                self.tells.remove(&(old, *key));
            }
            self.tells.insert((now, *key));
        }
    }
}

fn until(queue: &BTreeSet<(Mono, CheckKey)>, now: Mono) -> impl Iterator<Item = CheckKey> {
    queue.iter().take_while(move |(at, _)| *at <= now).map(|(_, key)| *key)
}
