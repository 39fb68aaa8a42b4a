//! The limits of pending checks: in all, for each credential and for each project, so that none of them can take all
//! the room.
//!
//! The counters are in shared data and exact when a check is accepted: they are raised by compare-and-swap before its
//! record is stored, and lowered by whoever ends it. Keys cannot be deleted and callers name projects, so there is a
//! fixed number of keys: one counts credentials, whose sum is that of all checks, and [`SPREAD`] of them count
//! projects, spread by the ledger's keyed hash. Each is a list of the names that have a place.
//!
//! The credential's counter is raised first and lowered last. If a VM falls in between, the credentials' counters hold
//! at least as many places as the projects', and those at least as many as there are records: so one look at the first
//! tells the leader whether a place was lost ([`Correction`]).

mod correction;
mod counts;

use crate::check::Place;
use crate::store::ledger::{Ledger, LedgerError, Store, TRIES, numbered_key};
pub use correction::{Corrected, Correction, Suspicion};
use counts::Counts;

/// Number of keys that the projects are spread over: a constant, so that every version finds every counter.
const SPREAD: usize = 16;

/// Maximum pending checks when another one is to be accepted. Modules with different configurations count together, and
/// each keeps to its own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub all: u32,
    /// Of its credential.
    pub credential: u32,
    /// Of its project.
    pub project: u32,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// That of all checks together.
    All,
    /// The credential's.
    Credential,
    /// The project's.
    Project,
}

/// The outcome of a try to take a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It is taken. Give it back unless a record that notes it is stored.
    Taken,
    /// There is none free.
    Full(Share),
}

/// Takes a place, if every limit leaves one.
///
/// # Errors
/// Why it is unknown whether a place is free; then none is taken.
pub fn take(
    store: &mut dyn Store,
    ledger: &Ledger,
    place: &Place,
    limits: Limits,
) -> Result<Grant, LedgerError> {
    // Read before anything is raised, so that a check of a full project is in nobody's way.
    let mut projects = Counts::read(store, projects_key(ledger, place)).map_err(LedgerError::Store)?;
    let mut share = None;
    let is_raised = change(store, credentials_key(ledger.prefix()), |credentials| {
        share = if credentials.sum() >= limits.all {
            Some(Share::All)
        } else if credentials.of(place.credential.as_bytes()) >= limits.credential {
            Some(Share::Credential)
        } else {
            (projects.of(place.project.bytes()) >= limits.project).then_some(Share::Project)
        };
        share.is_none().then(|| credentials.raise(place.credential.as_bytes()))
    })?;
    if let Some(share) = share.filter(|_| !is_raised) {
        return Ok(Grant::Full(share));
    }
    let taken = change_read(store, &mut projects, |projects| {
        let has_room = projects.of(place.project.bytes()) < limits.project;
        has_room.then(|| projects.raise(place.project.bytes()))
    });
    if taken != Ok(true) {
        lower(store, credentials_key(ledger.prefix()), place.credential.as_bytes());
    }
    taken.map(|is_taken| if is_taken { Grant::Taken } else { Grant::Full(Share::Project) })
}

/// Takes a place regardless of the limits, for a check that was accepted without one.
///
/// # Errors
/// Why none is taken.
pub fn take_beyond(store: &mut dyn Store, ledger: &Ledger, place: &Place) -> Result<(), LedgerError> {
    let limits = Limits { all: u32::MAX, credential: u32::MAX, project: u32::MAX };
    take(store, ledger, place, limits).map(|_| ())
}

/// Gives a place back. If that fails, it stays counted until the leader corrects the counters.
pub fn give_back(store: &mut dyn Store, ledger: &Ledger, place: &Place) {
    lower(store, projects_key(ledger, place), place.project.bytes());
    lower(store, credentials_key(ledger.prefix()), place.credential.as_bytes());
}

fn lower(store: &mut dyn Store, key: String, name: &[u8]) {
    let lowered = change(store, key, |counts| {
        let count = counts.of(name);
        (count > 0).then(|| counts.set(name, count - 1))
    });
    if let Err(e) = lowered {
        log::error!("a place could not be given back, and counts until the leader corrects it: {e}");
    }
}

/// Reads a key's counters and changes them. `change` may run more than once, and returns `None` to leave them; then the
/// result is false.
fn change(
    store: &mut dyn Store,
    key: String,
    change: impl FnMut(&mut Counts) -> Option<()>,
) -> Result<bool, LedgerError> {
    let mut counts = Counts::read(store, key).map_err(LedgerError::Store)?;
    change_read(store, &mut counts, change)
}

/// The same for counters that were just read.
fn change_read(
    store: &mut dyn Store,
    counts: &mut Counts,
    mut change: impl FnMut(&mut Counts) -> Option<()>,
) -> Result<bool, LedgerError> {
    for _ in 0..TRIES {
        if change(counts).is_none() {
            return Ok(false);
        }
        if counts.write(store).map_err(LedgerError::Store)? {
            return Ok(true);
        }
        counts.read_again(store).map_err(LedgerError::Store)?;
    }
    Err(LedgerError::Busy)
}

fn credentials_key(prefix: &str) -> String {
    [prefix, "places/credentials"].concat()
}

fn projects_key(ledger: &Ledger, place: &Place) -> String {
    key_of_projects(ledger.prefix(), number_of(ledger, place))
}

fn number_of(ledger: &Ledger, place: &Place) -> usize {
    usize::try_from(ledger.hash(place.project.bytes()) % SPREAD as u64).unwrap_or_default()
}

fn key_of_projects(prefix: &str, number: usize) -> String {
    numbered_key::<2>(prefix, "places/projects/", number)
}

/// The number of places of each credential, and of each project.
#[cfg(test)]
pub(crate) fn counted(
    store: &mut dyn Store,
    ledger: &Ledger,
) -> [std::collections::BTreeMap<String, u32>; 2] {
    let prefix = ledger.prefix();
    let mut all = [const { std::collections::BTreeMap::new() }; 2];
    for (name, count) in Counts::read(store, credentials_key(prefix)).unwrap().entries() {
        all[0].insert(String::from_utf8_lossy(name).into_owned(), count);
    }
    for number in 0..SPREAD {
        for (name, count) in Counts::read(store, key_of_projects(prefix, number)).unwrap().entries() {
            let project = crate::guid::Guid::from_bytes(name.try_into().unwrap()).unwrap();
            all[1].insert(project.to_string(), count);
        }
    }
    all
}

#[cfg(test)]
mod tests;
