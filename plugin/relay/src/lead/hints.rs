//! Hints of Testkube's webhook: they bring the next look forward, and decide nothing.

use super::tasks::Task;
use super::{Lead, Output, Turn};
use crate::check::{CheckKey, Pending, Phase};
use crate::hint;
use crate::ledger::Store;
use crate::time::{Mono, Now};
use std::time::Duration;

/// Between two looks at one check that hints have brought forward.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

impl Lead {
    /// Somebody has hinted: looks at once. Nothing depends on it, because the next tick sees the hint as well.
    pub fn wake(&mut self, now: Now, store: &mut dyn Store) -> Vec<Output> {
        let mut turn = Turn { now, store, out: Vec::new() };
        if self.leading && now.mono >= self.brake_until && self.hear(&mut turn) {
            self.poll(&mut turn);
        }
        turn.out
    }

    /// Brings the next look at those checks forward for which Testkube has hinted, and says whether there are any.
    pub(super) fn hear(&mut self, turn: &mut Turn<'_>) -> bool {
        let tags = self.hints.news(turn.store);
        if tags.is_empty() {
            return false;
        }
        let is_hinted = |pending: &Pending| {
            let ask = pending.ask.as_ref().filter(|_| matches!(pending.phase, Phase::Watching(_)));
            ask.is_some_and(|ask| tags.contains(&hint::print(&ask.tag.value)))
        };
        let hinted = self.pending().filter(|(_, pending)| is_hinted(pending));
        let keys: Vec<CheckKey> = hinted.map(|(key, _)| *key).collect();
        for key in &keys {
            let task = self.tasks.entry(*key).or_default();
            task.hinted = true;
            task.bring_forward(turn.now.mono);
        }
        !keys.is_empty()
    }

    /// A reading of these checks begins: what was hinted before is in it.
    pub(super) fn note_looks(&mut self, now: Mono, checks: &[CheckKey]) {
        for key in checks {
            let task = self.tasks.entry(*key).or_default();
            if std::mem::take(&mut task.hinted) {
                task.hint_look = now;
            }
        }
    }
}

impl Task {
    /// After a hint the next look is made at once, or as soon as another one may be brought forward.
    pub(super) fn bring_forward(&mut self, now: Mono) {
        self.next = self.next.min(self.hint_look.plus(BETWEEN_LOOKS).max(now));
    }
}
