//! The leader's part in the results of tests: starts the calls for them, and takes the answers.

use super::calls::{self, Purpose};
use super::{Lead, Turn, space};
use crate::check::{CheckKey, Event, LogCx, Room};
use crate::wire::azure::Callback;
use crate::wire::call::{CallId, CallOutcome};

/// Maximum checks that have their turn in one callback, and maximum entries of the queue that are taken out: those of
/// checks that have ended cost next to nothing.
const MAX_TURNS: usize = 32;
const MAX_TAKEN: usize = 1_000;

impl Lead {
    /// Gives the checks that wait for room their turn, until one has a call.
    #[inline(never)]
    pub(super) fn look_for_more_results(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let mut turns = 0;
        for _ in 0..MAX_TAKEN {
            if turns >= MAX_TURNS || !self.leading || now < self.brake_until {
                return;
            }
            let Some(key) = self.calls.next_in(now, Room::Results) else { return };
            if let Some(tracked) = self.agenda.get_mut(&key) {
                tracked.log.take_room_for_results();
                self.look_for_results(turn, &key, true);
                self.index(now, &key);
                turns += 1;
            }
        }
    }

    /// Looks for the results of a check's tests, if any are wanted and there is room. `has_turn`: those that waited before it have
    /// had theirs.
    pub(super) fn look_for_results(&mut self, turn: &mut Turn<'_>, key: &CheckKey, has_turn: bool) {
        let now = turn.now;
        let Lead { config, random, brake_until, shelf, agenda, calls, runs, .. } = self;
        let Some(seen) = shelf.find(key) else { return };
        let Some(tracked) = agenda.of(key, seen) else { return };
        let lane = calls::lane(&seen.callback);
        let id = calls.name();
        let (call, is_queued) = {
            let space = |room, callback: &Callback| space(calls, now.mono, *brake_until, room, callback);
            let name = &mut || id;
            let mut cx =
                LogCx { now, config, random, runs, name, space: &space, trouble: None, explained: None };
            let others_wait = !has_turn && calls.is_awaited(Room::Results);
            tracked.log.look_for_results(&mut cx, seen, others_wait)
        };
        if is_queued {
            self.calls.enqueue(Room::Results, lane.clone(), *key);
        }
        if let Some(call) = call {
            let id = self.calls.take_name();
            if self.leads(turn) {
                let lane = Some((call.room, lane));
                turn.start(&mut self.calls, id, call.request, Purpose::Results(*key), lane);
            } else if let Some(tracked) = self.agenda.get_mut(key) {
                tracked.log.results_not_started(id);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn results_under_way(&self) -> usize {
        self.calls.count(|purpose| matches!(purpose, Purpose::Results(_)))
    }

    /// Takes the outcome of a call for results.
    pub(super) fn results_answered(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        id: CallId,
        outcome: &CallOutcome,
    ) {
        let Some(seen) = self.shelf.find(key) else { return };
        let Some(tracked) = self.agenda.of(key, seen) else { return };
        if !self.leading {
            return tracked.log.results_not_started(id);
        }
        if !tracked.log.results_answered(turn.now.mono, id, outcome) {
            return;
        }
        self.look_for_results(turn, key, false);
        self.step(turn, key, Event::Tested);
    }
}
