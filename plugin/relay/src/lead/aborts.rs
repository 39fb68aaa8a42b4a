//! Aborting what still runs for a run that is over: off unless the configuration and the check's credential allow it.
//!
//! Best effort, and beside everything else: the check ends by itself. Who loses the lease forgets what was to be aborted.

use crate::backoff::{Random, delay};
use crate::call::{Fault, Outcome as CallOutcome};
use crate::time::Mono;
use std::time::Duration;

/// So many calls at the same time.
pub(super) const MAX_CALLS: usize = 2;
const TRIES: u32 = 3;
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// An execution that is to be aborted.
pub(super) struct Abort {
    pub(super) id: String,
    name: String,
    tries: u32,
    next: Mono,
}

/// What is to be aborted.
#[derive(Default)]
pub(super) struct Aborts(Vec<Abort>);

impl Aborts {
    pub(super) fn add(&mut self, now: Mono, executions: Vec<(String, String)>) {
        self.0.extend(executions.into_iter().map(|(id, name)| Abort { id, name, tries: 0, next: now }));
    }

    /// The next that is due.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<Abort> {
        let due = self.0.iter().position(|abort| now >= abort.next)?;
        Some(self.0.remove(due))
    }

    /// What became of it. 400 and 404: it has ended meanwhile, or is gone. `Ok(true)`: it is aborted.
    ///
    /// # Errors
    /// Why not; then it is tried again, a few times.
    pub(super) fn answered(
        &mut self,
        now: Mono,
        random: &mut Random,
        mut abort: Abort,
        outcome: &CallOutcome,
    ) -> Result<bool, Fault> {
        let why = match outcome {
            CallOutcome::Response(response) if (200..300).contains(&response.status) => {
                log::info!("execution {} is aborted: its run is over", abort.name);
                return Ok(true);
            }
            CallOutcome::Response(response) if matches!(response.status, 400 | 404) => return Ok(false),
            CallOutcome::Response(response) => response.fault(),
            CallOutcome::Failed(fault) => fault.clone(),
        };
        log::warn!("execution {} could not be aborted: {why}", abort.name);
        abort.tries = abort.tries.saturating_add(1);
        if abort.tries < TRIES {
            abort.next = now.plus(random.jitter(delay(abort.tries, FIRST_RETRY, LONGEST_RETRY)));
            self.0.push(abort);
        }
        Err(why)
    }
}
