//! One turn of a leader: what comes in from the host, what is asked of it, and what its calls are for.

use super::azure_calls::Step;
use super::poll::Reading;
use crate::aborts::Token;
use crate::call::{CallId, Request};
use crate::check::{CheckKey, Outcome};
use crate::ledger::Store;
use crate::time::{Mono, Now};
use std::time::Duration;

/// What a turn asks of the host.
pub enum Output {
    /// Start this call; its outcome goes to [`Lead::answer`].
    Call(CallId, Request),
    /// Raise this counter by one.
    Count(Counter),
    /// Let hints wake this context from now on: [`Lead::wake`].
    Listen,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A decision was delivered.
    Delivered(Outcome),
    /// A check ended without its decision being delivered: the run was over, or the token refused or ended.
    Undelivered,
    /// A call to Testkube had no usable answer.
    TestkubeFault,
    /// A call to Azure DevOps was not taken.
    AzureFault,
    /// A leader was lost without a word.
    Fall,
    /// A check's log or record could not be written, or is not shown: its people see the decision alone.
    LogLost,
    /// Azure DevOps did not wait for a check.
    OpenGate,
    /// A verdict of observe mode was delivered as `succeeded`.
    Observed,
    /// An execution of a run that is over has ended because it was asked to abort.
    Aborted,
}

/// How long after its timeout a call is given up: a callback may never come.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A call that has not been started so long after its turn must not be: what the turn knew is old.
pub const STALE: Duration = GRACE;

/// A call whose outcome is waited for.
pub(super) struct InFlight {
    pub(super) purpose: Purpose,
    pub(super) deadline: Mono,
}

/// What a call is for.
pub(super) enum Purpose {
    /// Look up executions for several checks.
    List(Reading),
    /// Look at one execution again.
    Confirm(CheckKey),
    /// Say something to, or ask, Azure DevOps, with the token that this delivery brought.
    Azure(CheckKey, Step, u32),
    /// Look at the steps of an execution. No decision waits for it.
    Look(CheckKey),
    /// Tell Azure DevOps what happens, or look whether the run goes on. No decision waits for it.
    Tell(CheckKey, Step, u32),
    /// Abort an execution of a run that is over, or look whether it has ended.
    Abort(Token),
}

impl Purpose {
    /// The checks that the call is made for.
    pub(super) fn checks(&self) -> Vec<CheckKey> {
        match self {
            Purpose::List(reading) => reading.checks.clone(),
            Purpose::Confirm(key) | Purpose::Azure(key, ..) | Purpose::Look(key) | Purpose::Tell(key, ..) => {
                vec![*key]
            }
            // The check ends by itself.
            Purpose::Abort(_) => Vec::new(),
        }
    }

    /// Whether its checks take no other step before it is answered.
    pub(super) fn is_step(&self) -> bool {
        !matches!(self, Purpose::Look(_) | Purpose::Tell(..) | Purpose::Abort(_))
    }
}

/// One entry from the host: the time, the store, and what is asked of the host in return.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) store: &'a mut dyn Store,
    pub(super) out: Vec<Output>,
}
