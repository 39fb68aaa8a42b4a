//! What the leader does for all records together, now and then: forgets those that have ended, takes over those of an older
//! module, and keeps the counters of places in step with them.

use super::shelf::Shelf;
use crate::check::{CheckKey, DONE_STAYS, Record, State};
use crate::store::ledger::{Ledger, OldHome, Store, StoreError};
use crate::store::places::{Corrected, Correction};
use crate::time::Mono;
use std::collections::BTreeSet;
use std::time::Duration;

/// An older module drains within this time after an update (Envoy's `--drain-time-s`, 600 s by default), and its checks are
/// looked for so often meanwhile, and afterwards.
const UPDATE: Duration = Duration::from_secs(900);
const MOVES_IN_UPDATE: Duration = Duration::from_secs(5);
const MOVES: Duration = Duration::from_secs(60);

/// So many checks are forgotten in one tick.
const MAX_FORGOTTEN: usize = 100;

/// A record that shared data did not let go is tried again after this.
const REFUSED_REMOVAL: Duration = Duration::from_secs(10);

pub(super) struct Housekeeping {
    /// What looks for lost places have seen.
    correction: Correction,
    /// When checks that have ended are forgotten.
    ends: BTreeSet<(Mono, CheckKey)>,
    old_home: OldHome,
    /// When that is looked into again.
    next_move: Mono,
    configured_at: Mono,
}

impl Housekeeping {
    /// Of a context that was configured then.
    pub(super) fn new(prefix: &str, configured_at: Mono) -> Housekeeping {
        Housekeeping {
            correction: Correction::default(),
            ends: BTreeSet::new(),
            old_home: OldHome::of(prefix),
            next_move: Mono(0),
            configured_at,
        }
    }

    /// This context leads from now on, and knows nothing yet.
    pub(super) fn begin(&mut self) {
        self.correction = Correction::default();
        self.ends.clear();
    }

    /// A check has ended then: its record is forgotten in a while.
    pub(super) fn ended(&mut self, key: &CheckKey, at: Mono) {
        self.ends.insert((at.plus(DONE_STAYS), *key));
    }

    /// Forgets the checks that ended long enough ago.
    pub(super) fn forget_ended(&mut self, now: Mono, store: &mut dyn Store, shelf: &mut Shelf) {
        for _ in 0..MAX_FORGOTTEN {
            let Some((at, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) else { return };
            self.ends.remove(&(at, key));
            let is_old = |record: &Record| matches!(&record.state, State::Done(done) if now.since(done.at.mono) >= DONE_STAYS);
            if !shelf.remove(store, &key, is_old) {
                self.ends.insert((now.plus(REFUSED_REMOVAL), key));
            }
        }
    }

    /// [`Housekeeping::move_old`], if it is time.
    pub(super) fn move_old_if_due(&mut self, now: Mono, store: &mut dyn Store, ledger: &Ledger) {
        if now >= self.next_move {
            self.move_old(now, store, ledger);
        }
    }

    /// Takes over what an older module of this process keeps in its own place: it runs on beside this one until its listener
    /// has drained.
    pub(super) fn move_old(&mut self, now: Mono, store: &mut dyn Store, ledger: &Ledger) {
        let pause = if now.since(self.configured_at) < UPDATE { MOVES_IN_UPDATE } else { MOVES };
        self.next_move = now.plus(pause);
        match self.old_home.move_to(store, ledger) {
            Ok(0) => {}
            Ok(moved) => log::info!("took over {moved} checks of an older module"),
            Err(e) => log::error!("checks of an older module could not be taken over: {e}"),
        }
    }

    /// Sets the counters of places right every few seconds, where they are wrong. Answers which buckets were found changed.
    pub(super) fn count_places(&mut self, now: Mono, store: &mut dyn Store, shelf: &mut Shelf) -> Vec<usize> {
        if !self.correction.is_due(now) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        match self.corrected(now, store, shelf, &mut changed) {
            Ok(None) => {}
            Ok(Some(Corrected { before, now })) => {
                log::warn!("{before} places of checks were counted as taken, and {now} are: set right");
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
        // The leader may not know one of them, because nobody has noted it.
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
