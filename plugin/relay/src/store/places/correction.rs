//! Correction of counters that differ from the records, because a VM fell between writing a counter and its record.

use super::counts::Counts;
use super::{SPREAD, credentials_key, key_of_projects, number_of};
use crate::check::Place;
use crate::collections::Few;
use crate::store::ledger::{Cas, Ledger, Store, StoreError};
use crate::time::Mono;
use std::time::Duration;

/// Interval of the leader's looks. Whoever takes a place stores its record, or gives it back, within this time.
const EACH: Duration = Duration::from_secs(5);

/// The leader's search for places without a check.
///
/// Counters are set only to what two complete counts of the records have found, [`EACH`] apart, if no counter was
/// written from before the first until after the second. So a place that is being taken or given back stays. One is
/// lost if its thread stalls for longer than that in the midst of an acceptance: the counters are then too low, and the
/// next looks raise them.
#[derive(Debug, Default)]
pub struct Correction {
    next: Mono,
    /// The version of the credentials' counters that differed from the number of checks.
    suspected: Option<Cas>,
    /// The versions of all counters at the first count.
    counted: Option<Vec<Option<Cas>>>,
}

/// The counters that differ from the number of checks.
#[derive(Debug)]
pub struct Suspicion {
    counts: Vec<Counts>,
    counted_before: Option<Vec<Option<Cas>>>,
}

/// The number of places before and after a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// What the counters said.
    pub before: u32,
    /// What the records say.
    pub now: u32,
}

/// The number of places that the records hold, for each key in the order of [`all_counts`].
struct Tally(Vec<Few<Vec<u8>, u32>>);

impl Correction {
    /// Whether it is time for [`Correction::suspects`].
    pub fn is_due(&self, now: Mono) -> bool {
        now >= self.next
    }

    /// Compares the number of counted places with `held`, the number of records with a place that the leader knows. It
    /// costs one reading of a key if they are equal. `Some`: they have differed for a while. Then read every record,
    /// since the leader may have missed one, and call [`Correction::count`].
    ///
    /// # Errors
    /// The host's status.
    pub fn suspects(
        &mut self,
        store: &mut dyn Store,
        ledger: &Ledger,
        now: Mono,
        held: u32,
    ) -> Result<Option<Suspicion>, StoreError> {
        self.next = now.plus(EACH);
        let counted_before = self.counted.take();
        let credentials = Counts::read(store, credentials_key(ledger.prefix()))?;
        let suspected = credentials.cas().filter(|_| credentials.sum() != held);
        let was_suspected = std::mem::replace(&mut self.suspected, suspected);
        // While checks come and go the leader always lags behind.
        if suspected.is_none() || suspected != was_suspected {
            return Ok(None);
        }
        Ok(Some(Suspicion { counts: all_counts(store, ledger)?, counted_before }))
    }

    /// Whether the last look found another number of places than of checks with one, be it because checks come and go.
    pub fn is_off(&self) -> bool {
        self.suspected.is_some()
    }

    /// Compares the counters with all records, which were read since, and corrects them if the difference is certain.
    ///
    /// # Errors
    /// The host's status; then not everything is corrected.
    pub fn count<'a>(
        &mut self,
        store: &mut dyn Store,
        ledger: &Ledger,
        suspicion: Suspicion,
        held: impl Iterator<Item = &'a Place>,
    ) -> Result<Option<Corrected>, StoreError> {
        let Suspicion { counts: before, counted_before } = suspicion;
        let versions = cas_of(&before);
        if cas_of(&all_counts(store, ledger)?) != versions {
            return Ok(None);
        }
        if counted_before.as_ref() != Some(&versions) {
            self.counted = Some(versions);
            return Ok(None);
        }
        correct(store, before, Tally::of(ledger, held))
    }
}

/// The counters of all keys. Those of the projects come first, because they are lowered first.
fn all_counts(store: &mut dyn Store, ledger: &Ledger) -> Result<Vec<Counts>, StoreError> {
    let prefix = ledger.prefix();
    let projects = (0..SPREAD).map(|number| key_of_projects(prefix, number));
    projects.chain([credentials_key(prefix)]).map(|key| Counts::read(store, key)).collect()
}

fn cas_of(all: &[Counts]) -> Vec<Option<Cas>> {
    all.iter().map(Counts::cas).collect()
}

/// Sets each counter to its tally; stops if another context writes first. The projects' counters are lowered before the
/// credentials' are set, and raised after that: so those never hold fewer places, whatever stops it in between.
fn correct(
    store: &mut dyn Store,
    mut all: Vec<Counts>,
    tally: Tally,
) -> Result<Option<Corrected>, StoreError> {
    let (Some(mut credentials), Some((of_credentials, of_projects))) = (all.pop(), tally.0.split_last())
    else {
        return Ok(None);
    };
    let before = credentials.sum();
    for (counts, tally) in all.iter_mut().zip(of_projects) {
        if !set(store, counts, tally, |count, held| count.min(held))? {
            return Ok(None);
        }
    }
    if !set(store, &mut credentials, of_credentials, |_, held| held)? {
        return Ok(None);
    }
    for (counts, tally) in all.iter_mut().zip(of_projects) {
        if !counts.read_own(store)? || !set(store, counts, tally, u32::max)? {
            return Ok(None);
        }
    }
    let now = credentials.sum();
    Ok((now != before).then_some(Corrected { before, now }))
}

/// Sets each counter of a key to what `choose` makes of it and its tally. False if another context writes first.
fn set(
    store: &mut dyn Store,
    counts: &mut Counts,
    tally: &Few<Vec<u8>, u32>,
    choose: impl Fn(u32, u32) -> u32,
) -> Result<bool, StoreError> {
    let gone = counts.entries().filter(|(name, _)| !tally.contains_key(*name));
    let gone: Vec<(Vec<u8>, u32)> = gone.map(|(name, _)| (name.to_vec(), 0)).collect();
    let mut is_changed = false;
    for (name, held) in gone.into_iter().chain(tally.iter().map(|(name, held)| (name.clone(), *held))) {
        let (count, next) = (counts.of(&name), choose(counts.of(&name), held));
        if count != next {
            counts.set(&name, next);
            is_changed = true;
        }
    }
    if is_changed { counts.write(store) } else { Ok(true) }
}

impl Tally {
    fn of<'a>(ledger: &Ledger, held: impl Iterator<Item = &'a Place>) -> Tally {
        let mut projects = vec![Few::default(); SPREAD];
        let mut credentials = Few::default();
        for place in held {
            credentials.count(place.credential.clone().into_bytes());
            if let Some(projects) = projects.get_mut(number_of(ledger, place)) {
                projects.count(place.project.bytes().to_vec());
            }
        }
        projects.push(credentials);
        Tally(projects)
    }
}
