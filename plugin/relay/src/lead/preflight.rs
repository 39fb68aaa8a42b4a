//! The leader's part in preflights: one, after the process has started, told in Envoy's log. A new configuration or
//! another leader begins none.

use super::calls::Purpose;
use super::{Lead, Turn};
use crate::store::preflight::{Preflight, kept, shown};
use crate::time::Mono;
use crate::wire::call::CallOutcome;
use std::time::Duration;

/// Time between the beginning of a lead and the calls: the network of a pod that has just started may need it.
const SETTLING: Duration = Duration::from_secs(10);

/// What the leader does about it.
#[derive(Default)]
pub(super) enum Telling {
    /// Nothing until it leads.
    #[default]
    Idle,
    /// It begins then, if nobody has told it in this process.
    Waits(Mono),
    /// Its calls are under way; since when.
    Asks(Mono, Box<Preflight>),
    /// It was told.
    Told,
}

impl Telling {
    /// Notes that this context leads from now on.
    pub(super) fn lead(&mut self, now: Mono) {
        if !matches!(self, Telling::Told) {
            *self = Telling::Waits(now.plus(SETTLING));
        }
    }
}

impl Lead {
    /// Begins the preflight if it is due.
    pub(super) fn begin_preflight(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        if !matches!(self.telling, Telling::Waits(at) if now.mono >= at) {
            return;
        }
        match kept::begin_to_tell(turn.store, self.shelf.ledger().prefix()) {
            Ok(true) => {}
            Ok(false) => return self.telling = Telling::Told,
            // The next tick fails as well, and says so.
            Err(_) => return,
        }
        let (preflight, calls) = Preflight::begin(&self.config, now);
        self.telling = Telling::Asks(now.mono, Box::new(preflight));
        for (number, request) in calls {
            let id = self.calls.take_name();
            if !self.leads(turn) {
                return self.telling = Telling::Waits(now.mono.plus(SETTLING));
            }
            turn.start(&mut self.calls, id, request, Purpose::Preflight(now.mono, number), None);
        }
    }

    /// Takes the outcome of the call with this number of the preflight that began then. Whoever leads next begins another.
    pub(super) fn preflight_answered(
        &mut self,
        turn: &mut Turn<'_>,
        began: Mono,
        number: usize,
        outcome: &CallOutcome,
    ) {
        let is_whole = match &mut self.telling {
            Telling::Asks(since, preflight) if *since == began => preflight.answer(turn.now, number, outcome),
            _ => false,
        };
        if !self.leading {
            self.telling = Telling::Waits(turn.now.mono.plus(SETTLING));
        } else if is_whole
            && let Telling::Asks(_, preflight) = std::mem::replace(&mut self.telling, Telling::Told)
        {
            let prefix = self.shelf.ledger().prefix();
            let findings = preflight.findings();
            for finding in &findings {
                let (level, line) = finding.line();
                log::log!(level, "{line}");
            }
            let (now, found) = (turn.now.mono, shown(&findings, turn.now.wall));
            kept::keep(turn.store, prefix, now, self.config.fingerprint, &found);
            kept::end_telling(turn.store, prefix);
        }
    }
}
