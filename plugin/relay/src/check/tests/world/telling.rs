//! The calls beside the check: of its live log, and for the results of tests.

use super::{Purpose, UnderWay, World};
use crate::check::{Event, Live, LogCx, Space, explain};
use crate::wire::call::CallId;

impl World {
    pub(super) fn tell(&mut self) {
        let free = self.now.mono >= self.no_room.0;
        let space = move |_, _: &_| if free { Space::Free } else { Space::Full };
        let mut names = self.names;
        let holder = self.holder;
        let mut name = || {
            names += 1;
            CallId((holder << 32) | names)
        };
        let trouble = self.volatile.long_trouble(self.now, &self.trouble);
        let live = Live { log: &self.log, volatile: &self.volatile, trouble: &self.trouble };
        let still = self.log.stands_still(self.now.mono);
        let explained = still.then(|| explain(&self.durable, Some(&live), self.now));
        let mut cx = LogCx {
            now: self.now,
            config: &self.config,
            random: &mut self.random,
            runs: &mut self.runs,
            name: &mut name,
            space: &space,
            trouble,
            explained,
        };
        let acted = self.log.act(&mut cx, &self.key, &self.durable);
        self.names = names;
        self.is_queued |= !acted.queues.is_empty();
        for call in acted.calls {
            self.call(call.id, Purpose::Telling, &call.request);
        }
        self.look_for_results();
    }

    pub(super) fn look_for_results(&mut self) {
        if self.done.is_some() {
            return;
        }
        let free = self.now.mono >= self.no_room.0;
        let id = self.name();
        let mut cx = LogCx {
            now: self.now,
            config: &self.config,
            random: &mut self.random,
            runs: &mut self.runs,
            name: &mut || id,
            space: &move |_, _| if free { Space::Free } else { Space::Full },
            trouble: None,
            explained: None,
        };
        let (call, is_queued) = self.log.look_for_results(&mut cx, &self.durable, false);
        self.is_queued |= is_queued;
        if let Some(call) = call {
            self.call(call.id, Purpose::Results, &call.request);
        }
    }

    pub(super) fn told(&mut self, call: &UnderWay) {
        let id = call.id;
        let mut cx = LogCx {
            now: self.now,
            config: &self.config,
            random: &mut self.random,
            runs: &mut self.runs,
            name: &mut || id,
            space: &|_, _| Space::Full,
            trouble: None,
            explained: None,
        };
        if let Some(heard) = self.log.answered(&mut cx, &self.durable, id, &call.outcome) {
            self.step(Event::Heard(&heard, false));
        }
        self.tell();
    }
}
