//! Places: those of checks that have ended are given back, and the counters are kept as the records are.

use super::{Lead, Turn};
use crate::check::{CheckKey, Pending, Place, Placed, Record, State};
use crate::ledger::Change;
use crate::places::{self, Corrected};

/// How many records of modules that noted no place get one at a time.
const MAX_NOTED: usize = 512;

impl Lead {
    /// Keeps the counters of places in step with the records, every few seconds.
    pub(super) fn keep_places(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        if !self.correction.is_due(now) {
            return;
        }
        let mut unnoted: Vec<(CheckKey, Place)> = Vec::new();
        let mut held: u32 = 0;
        for (key, pending) in self.pending() {
            held = held.saturating_add(u32::from(pending.held().is_some()));
            if let Some(place) = pending.unnoted().filter(|_| unnoted.len() < MAX_NOTED) {
                unnoted.push((*key, place));
            }
        }
        for (key, place) in unnoted {
            self.note_place(turn, &key, place);
        }
        match self.correction.look(turn.store, &self.ledger, now, held) {
            Ok(None) => {}
            Ok(Some(Corrected { before, now })) => {
                log::warn!("{before} places of checks were counted as taken, and {now} are: set right");
            }
            Err(status) => {
                log::error!("shared data failed with status {}: places were not counted", status.0)
            }
        }
    }

    /// Takes a place for a check that was accepted by a module that noted none.
    fn note_place(&mut self, turn: &mut Turn<'_>, key: &CheckKey, place: Place) {
        if let Err(e) = places::take_beyond(turn.store, &self.ledger, &place) {
            log::error!("check {}: it is counted against no limit: {e}", key.id());
            return;
        }
        let noted = self.update(turn, key, |found| match found.map(|record| &record.state) {
            Some(State::Pending(pending)) if pending.unnoted().as_ref() == Some(&place) => {
                let place = Placed::Holds(place.clone());
                let state = State::Pending(Box::new(Pending { place, ..pending.as_ref().clone() }));
                Change::Put(Box::new(Record { key: *key, state }), Some(()))
            }
            _ => Change::Keep(None),
        });
        if noted.is_none() {
            places::give_back(turn.store, &self.ledger, &place);
        }
    }

    /// A check has ended, and this context's write of its record says so.
    pub(super) fn give_back(&mut self, turn: &mut Turn<'_>, place: Option<&Place>) {
        if let Some(place) = place {
            places::give_back(turn.store, &self.ledger, place);
        }
    }
}
