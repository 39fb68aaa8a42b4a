//! How long nothing has changed, and the line that says so.

use super::LiveLog;
use crate::config::Config;
use crate::hash::fnv1a;
use crate::time::{Mono, Now};
use crate::wire::azure::Callback;
use std::time::Duration;

/// How long nothing has changed when the log says so first. It says so again each time that doubles.
const STANDSTILL: Duration = Duration::from_secs(600);

/// Maximum by which that is later, a different time for each check: thousands of them may have begun together.
const SPREAD: Duration = Duration::from_secs(120);

/// By how much a check says it later.
pub(super) fn spread(callback: &Callback) -> Duration {
    let [first, second, ..] = fnv1a(callback.task.bytes()).to_le_bytes();
    SPREAD * u32::from(u16::from_le_bytes([first, second])) / u32::from(u16::MAX)
}

impl LiveLog {
    /// Notes a change of the executions.
    pub(super) fn note_change(&mut self, now: Now) {
        self.changes = self.changes.saturating_add(1);
        (self.changed, self.still_told) = (Some(now), Duration::ZERO);
    }

    /// JSON of the last reading, as it is shown when the check has ended.
    pub(crate) fn shown(&self, config: &Config) -> String {
        self.scene.view(config.testkube.dashboard.as_ref())
    }

    /// Number of changes seen.
    pub(in crate::check) fn changes(&self) -> u32 {
        self.changes
    }

    /// When the executions last changed, as far as this context has seen.
    pub(in crate::check) fn changed(&self) -> Option<Now> {
        self.changed
    }

    /// When to say that nothing has changed.
    pub(super) fn tells_standstill(&self) -> Option<Mono> {
        let after = STANDSTILL.max(self.still_told * 2) + self.spread;
        self.changed.map(|changed| changed.mono.plus(after))
    }

    /// Whether to say now that nothing has changed.
    pub(crate) fn stands_still(&self, now: Mono) -> bool {
        self.tells_standstill().is_some_and(|at| at <= now)
    }

    /// Notes that the lines that were sent at this time have said it, if they were to.
    pub(super) fn note_standstill_told(&mut self, sent: Mono) {
        if let Some(changed) = self.changed.filter(|_| self.stands_still(sent)) {
            self.still_told = sent.since(changed.mono);
        }
    }
}
