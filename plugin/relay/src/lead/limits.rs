//! Whether there are, and who has, as many pending checks as they may: counted by the leader, read by whoever accepts a check.

use super::{Lead, Turn};
use crate::shares::Full;

impl Lead {
    /// Says whether there are as many pending checks as there may be, and which credentials and projects have as many as they may.
    pub(super) fn publish_full(&mut self, turn: &mut Turn<'_>) {
        let full = Full::count(&self.config, self.pending().map(|(_, pending)| pending));
        if full == self.full {
            return;
        }
        match crate::shares::publish(turn.store, self.ledger.prefix(), &full) {
            Ok(true) => self.full = full,
            Ok(false) => {}
            Err(status) => {
                log::error!("shared data failed with status {}: limits are not published", status.0);
            }
        }
    }
}
