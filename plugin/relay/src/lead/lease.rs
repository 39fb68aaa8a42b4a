//! One leader per Envoy process: a lease in shared data, among root contexts that all tick.
//!
//! The main thread's contexts, every worker's, and during a configuration change the old ones beside the new: all may
//! lead, one does. Only the leader starts calls, and it reads the lease before each.

mod layout;

use crate::check::CheckKey;
use crate::store::ledger::{Cas, Store, StoreError};
use crate::time::{Mono, Now};
use std::time::Duration;

/// How long a lease lasts without renewal.
pub const LEASE: Duration = Duration::from_secs(15);

/// How much longer a worker waits before it takes an expired lease, so that usually the main thread leads: it has no
/// downloads that a fault in a tick would cut.
const WORKER_WAITS: Duration = Duration::from_secs(5);

const FIRST_BRAKE: Duration = Duration::from_secs(15);
const MAX_BRAKE: Duration = Duration::from_secs(300);
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The lease as it stands in shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The context that leads; 0: nobody, because the last leader gave the lease up in good order.
    pub holder: u64,
    /// The fingerprint of its configuration.
    pub configuration: u64,
    /// When that configuration was loaded.
    pub configured_at: Mono,
    /// When the lease expires.
    pub until: Mono,
    /// Since when this holder leads.
    pub since: Mono,
    /// Number of pending checks.
    pub pending: u32,
    /// Number of leaders in a row whose lease expired.
    pub falls: u32,
    /// The time before which no call is started.
    pub brake_until: Mono,
    /// The checks whose answer is being read.
    pub busy: Vec<CheckKey>,
}

/// One root context's access to the lease.
#[derive(Debug)]
pub struct Contender {
    key: String,
    holder: u64,
    configuration: u64,
    configured_at: Mono,
    /// Whether this context has ever created a stream, as only a worker's does.
    pub is_worker: bool,
    /// The last value in a layout that this version does not know, and since when it is there.
    foreign: Option<(Vec<u8>, Mono)>,
}

/// The result of a tick.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Another context leads.
    Follower,
    /// This context leads.
    Leader {
        /// The time before which no call is made.
        brake_until: Mono,
        /// The checks whose answer a fallen leader was reading; only in the tick that took the lease.
        suspects: Vec<CheckKey>,
        /// Whether this tick took the lease.
        new: bool,
    },
}

impl Contender {
    /// For a context whose configuration was loaded at `configured_at`. `holder` is random and not 0.
    pub fn new(prefix: &str, holder: u64, configuration: u64, configured_at: Mono) -> Contender {
        Contender {
            key: lease_key(prefix),
            holder: holder.max(1),
            configuration,
            configured_at,
            is_worker: false,
            foreign: None,
        }
    }

    /// The context's own number.
    pub fn holder(&self) -> u64 {
        self.holder
    }

    /// Keeps, takes or leaves the lease, and publishes `pending` with it.
    ///
    /// # Errors
    /// The host's status; then this context does not lead.
    pub fn tick(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        pending: Option<u32>,
    ) -> Result<Role, StoreError> {
        let (found, cas) = read(store, &self.key)?;
        let lease = match found {
            Found::Lease(lease) => {
                self.foreign = None;
                lease
            }
            Found::Foreign(value) if self.note_foreign(&value, now.mono) => Lease::default(),
            Found::Foreign(_) => return Ok(Role::Follower),
        };
        let Some((next, suspects, new)) = self.next(&lease, now.mono, pending) else {
            return Ok(Role::Follower);
        };
        let brake_until = next.brake_until;
        match self.write(store, &next, cas)? {
            true => Ok(Role::Leader { brake_until, suspects, new }),
            // The faster context leads; the next tick sees it.
            false => Ok(Role::Follower),
        }
    }

    /// Whether this context leads at this moment.
    ///
    /// # Errors
    /// The host's status.
    pub fn leads(&self, store: &mut dyn Store, now: Now) -> Result<bool, StoreError> {
        let (found, _) = read(store, &self.key)?;
        Ok(found.held_by(self.holder).is_some_and(|lease| now.mono < lease.until))
    }

    /// Notes that an answer for these checks is about to be read, so that the next leader knows if the VM falls over
    /// it.
    ///
    /// # Errors
    /// The host's status.
    pub fn note_busy(&self, store: &mut dyn Store, checks: &[CheckKey]) -> Result<(), StoreError> {
        let (found, cas) = read(store, &self.key)?;
        if let Some(mut lease) = found.held_by(self.holder) {
            lease.busy = checks.to_vec();
            self.write(store, &lease, cas)?;
        }
        Ok(())
    }

    /// Gives up the lease in good order.
    ///
    /// # Errors
    /// The host's status.
    pub fn release(&self, store: &mut dyn Store, now: Now) -> Result<(), StoreError> {
        let (found, cas) = read(store, &self.key)?;
        if let Some(mut lease) = found.held_by(self.holder) {
            (lease.holder, lease.until, lease.busy) = (0, now.mono, Vec::new());
            self.write(store, &lease, cas)?;
        }
        Ok(())
    }

    /// The lease that this context writes now; `None` if it writes none.
    fn next(&self, lease: &Lease, now: Mono, pending: Option<u32>) -> Option<(Lease, Vec<CheckKey>, bool)> {
        let mut next = Lease {
            holder: self.holder,
            configuration: self.configuration,
            configured_at: self.configured_at,
            until: now.plus(LEASE),
            since: now,
            pending: pending.unwrap_or(lease.pending),
            falls: lease.falls,
            brake_until: lease.brake_until,
            busy: Vec::new(),
        };
        if lease.holder == self.holder {
            next.since = lease.since;
            if now.since(lease.since) >= FORGIVEN_AFTER {
                next.falls = 0;
            }
            return Some((next, Vec::new(), false));
        }
        if lease.holder == 0 {
            return Some((next, Vec::new(), true));
        }
        let expired = now >= lease.until;
        let is_newer = self.configuration != lease.configuration && lease.configured_at < self.configured_at;
        if !expired {
            // The newest configuration is preferred, but an older one is never barred.
            return is_newer.then_some((next, Vec::new(), true));
        }
        if self.is_worker && now < lease.until.plus(WORKER_WAITS) {
            return None;
        }
        next.falls = lease.falls.saturating_add(1);
        next.brake_until = now.plus(brake(next.falls));
        Some((next, lease.busy.clone(), true))
    }

    fn write(&self, store: &mut dyn Store, lease: &Lease, cas: Option<Cas>) -> Result<bool, StoreError> {
        store.swap(&self.key, cas, &lease.to_bytes())
    }

    /// Notes a lease in another version's layout. Returns whether it has stayed unchanged for as long as a lease lasts. Two versions
    /// share a process during an update, and a leader renews its lease at each tick.
    fn note_foreign(&mut self, value: &[u8], now: Mono) -> bool {
        match &self.foreign {
            Some((before, since)) if before == value => now.since(*since) >= LEASE,
            _ => {
                self.foreign = Some((value.to_vec(), now));
                false
            }
        }
    }
}

/// The value of the lease's key.
enum Found {
    /// A lease; without a value, one that nobody holds.
    Lease(Lease),
    /// A value of another version.
    Foreign(Vec<u8>),
}

impl Found {
    fn held_by(self, holder: u64) -> Option<Lease> {
        match self {
            Found::Lease(lease) if lease.holder == holder => Some(lease),
            _ => None,
        }
    }
}

/// Reads the lease of the instance whose keys begin with `prefix`. A lease in another version's layout looks like none.
///
/// # Errors
/// The host's status.
pub fn lease(store: &mut dyn Store, prefix: &str) -> Result<Lease, StoreError> {
    match read(store, &lease_key(prefix))?.0 {
        Found::Lease(lease) => Ok(lease),
        Found::Foreign(_) => Ok(Lease::default()),
    }
}

fn lease_key(prefix: &str) -> String {
    format!("{prefix}leader")
}

fn read(store: &mut dyn Store, key: &str) -> Result<(Found, Option<Cas>), StoreError> {
    let Some(entry) = store.get(key)? else { return Ok((Found::Lease(Lease::default()), None)) };
    let found = match Lease::from_bytes(&entry.value) {
        Some(lease) => Found::Lease(lease),
        None if entry.value.is_empty() => Found::Lease(Lease::default()),
        None => Found::Foreign(entry.value),
    };
    Ok((found, Some(entry.cas)))
}

/// How long the leader after `falls` fallen ones starts no call: otherwise one bad answer would kill every VM within a
/// minute.
fn brake(falls: u32) -> Duration {
    crate::backoff::delay(falls.saturating_add(1), FIRST_BRAKE, MAX_BRAKE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::store::ledger::memory::Memory;
    use crate::time::Wall;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000), wall: Wall(0) }
    }

    fn contender(holder: u64, configuration: u64, configured_at: u64) -> Contender {
        Contender::new("t/", holder, configuration, at(configured_at).mono)
    }

    fn leads(contender: &mut Contender, store: &mut Memory, now: u64) -> bool {
        matches!(contender.tick(store, at(now), None).unwrap(), Role::Leader { .. })
    }

    #[test]
    fn the_first_to_tick_leads_and_the_others_follow() {
        let mut store = Memory::default();
        let (mut a, mut b) = (contender(1, 7, 0), contender(2, 7, 0));
        for second in 0..100 {
            assert!(leads(&mut a, &mut store, second));
            assert!(!leads(&mut b, &mut store, second));
        }
        assert!(a.leads(&mut store, at(100)).unwrap() && !b.leads(&mut store, at(100)).unwrap());
        assert!(!a.leads(&mut store, at(99 + 15)).unwrap());
    }

    #[test]
    fn a_freed_lease_is_taken_at_once_and_is_no_fall() {
        let mut store = Memory::default();
        let (mut a, mut b) = (contender(1, 7, 0), contender(2, 7, 0));
        assert!(leads(&mut a, &mut store, 0));
        a.release(&mut store, at(1)).unwrap();
        let role = b.tick(&mut store, at(1), None).unwrap();
        assert_eq!(role, Role::Leader { brake_until: Mono(0), suspects: vec![], new: true });
    }

    #[test]
    fn an_expired_lease_is_a_fall_with_a_brake_and_suspects() {
        let mut store = Memory::default();
        let (mut a, mut b) = (contender(1, 7, 0), contender(2, 7, 0));
        assert!(leads(&mut a, &mut store, 0));
        let key = record(1).key;
        a.note_busy(&mut store, &[key]).unwrap();
        assert!(!leads(&mut b, &mut store, 14));
        let role = b.tick(&mut store, at(15), None).unwrap();
        assert_eq!(role, Role::Leader { brake_until: at(15 + 30).mono, suspects: vec![key], new: true });
        assert_eq!(
            b.tick(&mut store, at(16), None).unwrap(),
            Role::Leader { brake_until: at(45).mono, suspects: vec![], new: false }
        );
        let role = a.tick(&mut store, at(40), None).unwrap();
        assert_eq!(role, Role::Leader { brake_until: at(40 + 60).mono, suspects: vec![], new: true });
    }

    #[test]
    fn ten_minutes_of_leading_forgive_the_falls() {
        let mut store = Memory::default();
        let (mut a, mut b) = (contender(1, 7, 0), contender(2, 7, 0));
        assert!(leads(&mut a, &mut store, 0));
        assert!(leads(&mut b, &mut store, 20));
        assert_eq!(lease(&mut store, "t/").unwrap().falls, 1);
        for second in 21..=620 {
            assert!(leads(&mut b, &mut store, second));
        }
        assert_eq!(lease(&mut store, "t/").unwrap().falls, 0);
    }

    #[test]
    fn a_worker_lets_the_main_thread_go_first_and_then_takes_over() {
        let mut store = Memory::default();
        let (mut a, mut worker) = (contender(1, 7, 0), contender(2, 7, 0));
        worker.is_worker = true;
        assert!(leads(&mut a, &mut store, 0));
        assert!(!leads(&mut worker, &mut store, 19));
        assert!(leads(&mut worker, &mut store, 20));
    }

    #[test]
    fn a_newer_configuration_leads_from_its_first_tick_and_an_older_one_is_not_barred() {
        let mut store = Memory::default();
        let (mut old, mut new) = (contender(1, 7, 0), contender(2, 8, 50));
        assert!(leads(&mut old, &mut store, 50));
        assert!(leads(&mut new, &mut store, 51));
        assert!(!leads(&mut old, &mut store, 52));
        assert_eq!(lease(&mut store, "t/").unwrap().falls, 0);
        new.release(&mut store, at(53)).unwrap();
        assert!(leads(&mut old, &mut store, 53));
    }

    #[test]
    fn a_lease_of_another_version_is_respected_while_it_is_renewed() {
        let mut store = Memory::default();
        let mut a = contender(1, 7, 0);
        let mut renew = |value: &[u8], second| {
            store.put("t/leader", value);
            leads(&mut a, &mut store, second)
        };
        assert!((0..60).all(|second| !renew(&[9, u8::try_from(second).unwrap()], second)));
        assert!((60..75).all(|second| !renew(b"the last one", second)));
        assert!(renew(b"the last one", 75));
    }

    #[test]
    fn a_lease_that_somebody_emptied_is_free() {
        let mut store = Memory::default();
        store.put("t/leader", b"");
        assert!(leads(&mut contender(1, 7, 0), &mut store, 0));
    }
}
