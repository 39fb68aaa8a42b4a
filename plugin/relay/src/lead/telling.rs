//! The leader's part in the live log: starts its calls, and passes the answers on to the checks.

use super::agenda::Tracked;
use super::calls::{self, Purpose};
use super::{Lead, Output, Turn, space};
use crate::check::{Acted, CheckKey, Event, Live, LogCx, Space, explain};
use crate::wire::azure::Callback;
use crate::wire::call::{CallId, CallOutcome};

impl Lead {
    /// Tells what has changed of one check, if it is due.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>, key: &CheckKey) {
        let now = turn.now;
        let Lead { config, random, brake_until, shelf, agenda, calls, poller, runs, .. } = self;
        let Some(seen) = shelf.find(key) else { return };
        let Some(tracked) = agenda.of(key, seen) else { return };
        if now.mono < tracked.volatile.held_until() {
            return self.index(now.mono, key);
        }
        let lane = calls::lane(&seen.callback);
        let mut names = Vec::new();
        let acted = {
            let first = calls.name().0;
            let space = |room, callback: &Callback| space(calls, now.mono, *brake_until, room, callback);
            let mut name = || {
                let id = CallId(first.wrapping_add(u64::try_from(names.len()).unwrap_or_default()));
                names.push(id);
                id
            };
            let trouble = tracked.volatile.long_trouble(now, &poller.trouble);
            let explained = tracked.log.stands_still(now.mono).then(|| {
                let Tracked { volatile, log, .. } = &*tracked;
                explain(seen, Some(&Live { log, volatile, trouble: &poller.trouble }), now)
            });
            let mut cx =
                LogCx { now, config, random, runs, name: &mut name, space: &space, trouble, explained };
            tracked.log.act(&mut cx, key, seen)
        };
        let has_results = tracked.log.may_have_results();
        let Acted { calls: told, counts, queues } = acted;
        turn.out.extend(counts.into_iter().map(Output::Count));
        names.iter().for_each(|_| _ = self.calls.take_name());
        for room in queues {
            self.calls.enqueue(room, lane.clone(), *key);
        }
        for call in told {
            if self.leads(turn) {
                let lane = Some((call.room, lane.clone()));
                turn.start(&mut self.calls, call.id, call.request, Purpose::LiveLog(*key), lane);
            } else if let Some(tracked) = self.agenda.get_mut(key) {
                tracked.log.not_started(call.id);
            }
        }
        if has_results {
            self.look_for_results(turn, key, false);
        }
        self.index(now.mono, key);
    }

    /// Takes the outcome of a live log's call.
    pub(super) fn told(&mut self, turn: &mut Turn<'_>, key: &CheckKey, id: CallId, outcome: &CallOutcome) {
        let Some(seen) = self.shelf.find(key).cloned() else { return };
        let Lead { config, random, agenda, runs, .. } = self;
        let Some(tracked) = agenda.of(key, &seen) else { return };
        let mut cx = LogCx {
            now: turn.now,
            config,
            random,
            runs,
            name: &mut || id,
            space: &|_, _| Space::Full,
            trouble: None,
            explained: None,
        };
        if let Some(heard) = tracked.log.answered(&mut cx, &seen, id, outcome) {
            let others_wait = heard.ends_run() && {
                // A check may have come since the last tick.
                for bucket in self.shelf.refresh_all(turn.store) {
                    self.changed(turn, bucket);
                }
                seen.ask.as_ref().is_some_and(|ask| self.shelf.is_awaited(&ask.tag, Some(key)))
            };
            self.step(turn, key, Event::Heard(&heard, others_wait));
        }
        if self.leading && turn.now.mono >= self.brake_until {
            self.tell(turn, key);
        }
    }
}
