//! Giving back places whose check is in no record: a VM has fallen between a counter and its record.

use super::counts::Counts;
use super::{SPREAD, credentials_key, key_of_projects};
use crate::ledger::{Cas, Ledger, Store, StoreError};
use crate::time::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the leader looks. Whoever has taken a place puts its record, or gives it back, within this time.
const EACH: Duration = Duration::from_secs(5);

/// The leader's looks for places without a check.
///
/// Counters are only ever lowered, and only to what two complete counts of the records have found, [`EACH`] apart, where no
/// counter was written from before the first of them until after the second. So a place that somebody is just taking, or
/// giving back, is not taken from them.
#[derive(Debug, Default)]
pub struct Correction {
    next: Mono,
    /// The version of the credentials' counters that held more places than there are checks.
    suspected: Option<Cas>,
    /// The versions of all counters at the first count.
    counted: Option<Vec<Option<Cas>>>,
}

/// How many places the records hold.
#[derive(Default)]
struct Tally {
    credentials: BTreeMap<Vec<u8>, u32>,
    projects: BTreeMap<Vec<u8>, u32>,
}

impl Correction {
    /// Whether it is time for [`Correction::look`].
    pub fn is_due(&self, now: Mono) -> bool {
        now >= self.next
    }

    /// Looks whether more places are counted than `held`, which is how many the leader knows a record of, and corrects the
    /// counters where that is sure. Answers how many places were given back. It costs one reading of a key where none is lost.
    ///
    /// # Errors
    /// The host's status; nothing is corrected then, or not all.
    pub fn look(
        &mut self,
        store: &mut dyn Store,
        ledger: &Ledger,
        now: Mono,
        held: u32,
    ) -> Result<u32, StoreError> {
        self.next = now.plus(EACH);
        let counted_before = self.counted.take();
        let credentials = Counts::read(store, credentials_key(ledger.prefix()))?;
        let suspected = credentials.cas().filter(|_| credentials.sum() > held);
        let was_suspected = std::mem::replace(&mut self.suspected, suspected);
        // While checks come and go the leader always lags behind.
        if suspected.is_none() || suspected != was_suspected {
            return Ok(0);
        }
        let before = all_counts(store, ledger)?;
        let Some(tally) = Tally::of(store, ledger)? else { return Ok(0) };
        let versions = cas_of(&before);
        if cas_of(&all_counts(store, ledger)?) != versions {
            return Ok(0);
        }
        if counted_before.as_ref() != Some(&versions) {
            self.counted = Some(versions);
            return Ok(0);
        }
        correct(store, before, &tally)
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

/// Lowers what is above the tally; stops where somebody else was faster.
fn correct(store: &mut dyn Store, all: Vec<Counts>, tally: &Tally) -> Result<u32, StoreError> {
    let mut given_back = 0;
    let last = all.len().saturating_sub(1);
    for (number, mut counts) in all.into_iter().enumerate() {
        let of = if number == last { &tally.credentials } else { &tally.projects };
        let there = |name: &[u8]| of.get(name).copied().unwrap_or_default();
        let above: Vec<(Vec<u8>, u32)> = counts
            .entries()
            .filter(|(name, count)| *count > there(name))
            .map(|(name, _)| (name.to_vec(), there(name)))
            .collect();
        if above.is_empty() {
            continue;
        }
        let sum = counts.sum();
        for (name, count) in above {
            counts.set(&name, count);
        }
        if !counts.write(store)? {
            break;
        }
        if number == last {
            given_back = sum.saturating_sub(counts.sum());
        }
    }
    Ok(given_back)
}

impl Tally {
    /// Reads every record; `None` where one is not readable here, because a newer module's may hold a place too.
    fn of(store: &mut dyn Store, ledger: &Ledger) -> Result<Option<Tally>, StoreError> {
        let mut tally = Tally::default();
        for mut bucket in ledger.buckets() {
            bucket.read(store)?;
            if !bucket.is_understood() {
                return Ok(None);
            }
            for place in bucket.records().filter_map(|record| record.state.held()) {
                *tally.credentials.entry(place.credential.clone().into_bytes()).or_default() += 1;
                *tally.projects.entry(place.project.bytes().to_vec()).or_default() += 1;
            }
        }
        Ok(Some(tally))
    }
}
