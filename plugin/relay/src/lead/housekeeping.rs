//! The leader's work on all records together: forgets ended checks, takes over those of an older module, and corrects
//! the counters of places.

use super::shelf::Shelf;
use crate::check::{CheckKey, DONE_STAYS, Record, State};
use crate::store::ledger::{Ledger, OldHome, Store, StoreError};
use crate::store::places::{Corrected, Correction};
use crate::time::Mono;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long an older module may drain after an update (Envoy's `--drain-time-s`, 600 s by default, with a margin), and
/// how often its checks are looked for during that time and afterwards.
const UPDATE: Duration = Duration::from_secs(900);
const MOVES_IN_UPDATE: Duration = Duration::from_secs(5);
const MOVES: Duration = Duration::from_secs(60);

/// Maximum checks forgotten in one tick.
const MAX_FORGOTTEN: usize = 100;

/// Pause before the removal of a record is tried again after shared data has refused it.
const REFUSED_REMOVAL: Duration = Duration::from_secs(10);

pub(super) struct Housekeeping {
    /// The state of the search for lost places.
    correction: Correction,
    /// When to forget which ended check.
    ends: BTreeSet<(Mono, CheckKey)>,
    old_home: OldHome,
    /// When to look into the old home again.
    next_move: Mono,
    configured_at: Mono,
    /// Whether the checks' Secrets are deleted first.
    shares: bool,
}

impl Housekeeping {
    /// For a context that was configured at `configured_at`; `shares`: with a cluster store.
    pub(super) fn new(prefix: &str, configured_at: Mono, shares: bool) -> Housekeeping {
        Housekeeping {
            correction: Correction::default(),
            ends: BTreeSet::new(),
            old_home: OldHome::of(prefix),
            next_move: Mono(0),
            configured_at,
            shares,
        }
    }

    /// Notes that this context leads from now on, and knows nothing yet.
    pub(super) fn begin(&mut self) {
        self.correction = Correction::default();
        self.ends.clear();
    }

    /// Notes when a check ended: its record is forgotten a while later.
    pub(super) fn ended(&mut self, key: &CheckKey, at: Mono) {
        self.ends.insert((at.plus(DONE_STAYS), *key));
    }

    /// Forgets the checks that ended long enough ago.
    pub(super) fn forget_ended(&mut self, now: Mono, store: &mut dyn Store, shelf: &mut Shelf) {
        for _ in 0..MAX_FORGOTTEN {
            let Some((at, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) else { return };
            self.ends.remove(&(at, key));
            // One with a Secret stays until that is deleted.
            let is_old = |record: &Record| matches!(&record.state, State::Done(done) if (done.kept.is_none() || !self.shares) && now.since(done.at.mono) >= DONE_STAYS);
            if !shelf.remove(store, &key, is_old) {
                self.ends.insert((now.plus(REFUSED_REMOVAL), key));
            }
        }
    }

    /// Runs [`Housekeeping::move_old`], if it is time.
    pub(super) fn move_old_if_due(&mut self, now: Mono, store: &mut dyn Store, ledger: &Ledger) {
        if now >= self.next_move {
            self.move_old(now, store, ledger);
        }
    }

    /// Takes over the checks of an older module of this process, which keeps them under its own keys and runs beside
    /// this one until its listener has drained.
    pub(super) fn move_old(&mut self, now: Mono, store: &mut dyn Store, ledger: &Ledger) {
        let pause = if now.since(self.configured_at) < UPDATE { MOVES_IN_UPDATE } else { MOVES };
        self.next_move = now.plus(pause);
        match self.old_home.move_to(store, ledger) {
            Ok(0) => {}
            Ok(moved) => log::info!("took over {moved} checks of an older module"),
            Err(e) => log::error!("checks of an older module could not be taken over: {e}"),
        }
    }

    /// Corrects the counters of places, every few seconds, if they are wrong. Returns the buckets that were found
    /// changed.
    pub(super) fn count_places(&mut self, now: Mono, store: &mut dyn Store, shelf: &mut Shelf) -> Vec<usize> {
        if !self.correction.is_due(now) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        match self.corrected(now, store, shelf, &mut changed) {
            Ok(None) => {}
            Ok(Some(Corrected { before, now })) => {
                log::warn!("corrected the count of places: {before} were counted, {now} are taken");
            }
            Err(status) => {
                log::error!("shared data failed with status {}: places were not counted", status.0);
            }
        }
        changed
    }

    fn corrected(
        &mut self,
        now: Mono,
        store: &mut dyn Store,
        shelf: &mut Shelf,
        changed: &mut Vec<usize>,
    ) -> Result<Option<Corrected>, StoreError> {
        let held = shelf.held();
        let suspicion = self.correction.suspects(store, shelf.ledger(), now, held)?;
        // The leader may miss a check whose change nobody has noted.
        if self.correction.is_off() {
            shelf.sweep_all();
        }
        let Some(suspicion) = suspicion else { return Ok(None) };
        let (found, is_whole) = shelf.read_all(store);
        *changed = found;
        if !is_whole || !shelf.is_understood() {
            return Ok(None);
        }
        self.correction.count(store, shelf.ledger(), suspicion, shelf.places())
    }
}
