//! Setting counters right where they are not what the records say: a VM has fallen between a counter and its record.

use super::counts::Counts;
use super::{SPREAD, credentials_key, key_of_projects, number_of};
use crate::store::ledger::{Cas, Ledger, Store, StoreError};
use crate::time::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the leader looks. Whoever has taken a place puts its record, or gives it back, within this time.
const EACH: Duration = Duration::from_secs(5);

/// The leader's looks for places without a check.
///
/// Counters are set only to what two complete counts of the records have found, [`EACH`] apart, where no counter was written
/// from before the first of them until after the second. So a place that somebody is just taking, or giving back, is not taken
/// from them. A thread that stalls for longer than that in the midst of an acceptance is: its record makes the counters too low,
/// and the next looks raise them again.
#[derive(Debug, Default)]
pub struct Correction {
    next: Mono,
    /// The version of the credentials' counters that did not hold as many places as there are checks.
    suspected: Option<Cas>,
    /// The versions of all counters at the first count.
    counted: Option<Vec<Option<Cas>>>,
}

/// How many places were counted, and are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// What the counters said.
    pub before: u32,
    /// What the records say.
    pub now: u32,
}

/// How many places the records hold: for each key in the order of [`all_counts`].
struct Tally(Vec<BTreeMap<Vec<u8>, u32>>);

impl Correction {
    /// Whether it is time for [`Correction::look`].
    pub fn is_due(&self, now: Mono) -> bool {
        now >= self.next
    }

    /// Looks whether as many places are counted as the leader knows records with one, `held`, and sets the counters right where
    /// that is sure. It costs one reading of a key where they are as many.
    ///
    /// # Errors
    /// The host's status; nothing is corrected then, or not all.
    pub fn look(
        &mut self,
        store: &mut dyn Store,
        ledger: &Ledger,
        now: Mono,
        held: u32,
    ) -> Result<Option<Corrected>, StoreError> {
        self.next = now.plus(EACH);
        let counted_before = self.counted.take();
        let credentials = Counts::read(store, credentials_key(ledger.prefix()))?;
        let suspected = credentials.cas().filter(|_| credentials.sum() != held);
        let was_suspected = std::mem::replace(&mut self.suspected, suspected);
        // While checks come and go the leader always lags behind.
        if suspected.is_none() || suspected != was_suspected {
            return Ok(None);
        }
        let before = all_counts(store, ledger)?;
        let Some(tally) = Tally::of(store, ledger)? else { return Ok(None) };
        let versions = cas_of(&before);
        if cas_of(&all_counts(store, ledger)?) != versions {
            return Ok(None);
        }
        if counted_before.as_ref() != Some(&versions) {
            self.counted = Some(versions);
            return Ok(None);
        }
        correct(store, before, tally)
    }
}

/// The counters of all keys, those of the projects first: they are lowered first.
fn all_counts(store: &mut dyn Store, ledger: &Ledger) -> Result<Vec<Counts>, StoreError> {
    let prefix = ledger.prefix();
    let projects = (0..SPREAD).map(|number| key_of_projects(prefix, number));
    projects.chain([credentials_key(prefix)]).map(|key| Counts::read(store, key)).collect()
}

fn cas_of(all: &[Counts]) -> Vec<Option<Cas>> {
    all.iter().map(Counts::cas).collect()
}

/// Sets each counter to its tally; stops where somebody else was faster.
fn correct(store: &mut dyn Store, all: Vec<Counts>, tally: Tally) -> Result<Option<Corrected>, StoreError> {
    let mut corrected = None;
    for (mut counts, tally) in all.into_iter().zip(tally.0) {
        let gone = counts.entries().filter(|(name, _)| !tally.contains_key(*name));
        let gone: Vec<(Vec<u8>, u32)> = gone.map(|(name, _)| (name.to_vec(), 0)).collect();
        let before = counts.sum();
        let mut is_changed = false;
        for (name, count) in gone.into_iter().chain(tally) {
            if counts.of(&name) != count {
                counts.set(&name, count);
                is_changed = true;
            }
        }
        if is_changed && !counts.write(store)? {
            return Ok(None);
        }
        // The last ones are the credentials', whose sum is that of all.
        corrected = is_changed.then(|| Corrected { before, now: counts.sum() });
    }
    Ok(corrected)
}

impl Tally {
    /// Reads every record; `None` where one is not readable here, because a newer module's may hold a place too.
    fn of(store: &mut dyn Store, ledger: &Ledger) -> Result<Option<Tally>, StoreError> {
        let mut projects = vec![BTreeMap::new(); SPREAD];
        let mut credentials = BTreeMap::new();
        for mut bucket in ledger.buckets() {
            bucket.read(store)?;
            if !bucket.is_understood() {
                return Ok(None);
            }
            for place in bucket.records().filter_map(|record| record.state.held()) {
                *credentials.entry(place.credential.clone().into_bytes()).or_default() += 1;
                if let Some(projects) = projects.get_mut(number_of(ledger, place)) {
                    *projects.entry(place.project.bytes().to_vec()).or_default() += 1;
                }
            }
        }
        projects.push(credentials);
        Ok(Some(Tally(projects)))
    }
}
