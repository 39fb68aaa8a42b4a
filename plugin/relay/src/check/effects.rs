//! What a step of a check asks of whoever steps it.

use super::{Done, Outcome, ReasonCode};
use crate::tag::Tag;
use crate::time::Mono;
use crate::wire::call::{CallId, Request};
use log::Level;

/// What a step asks for. What it has changed of the record is stored first: a step whose change was raced is taken back, and
/// made again on the record that stands there then.
#[derive(Default)]
pub(crate) struct Effects {
    /// Start this call; its answer is an event.
    pub(crate) call: Option<Call>,
    /// The check is over: this stands in its place.
    pub(crate) done: Option<Done>,
    /// Its next call waits until there is room of this kind.
    pub(crate) queue: Option<Room>,
    /// Executions of this tag that still run for a run that is over, by id and name.
    pub(crate) aborts: Option<(Tag, Vec<(String, String)>)>,
    /// Counters to raise.
    pub(crate) counts: Vec<Counter>,
    /// Lines for Envoy's log.
    pub(crate) says: Vec<(Level, String)>,
}

/// A call that a step starts.
pub(crate) struct Call {
    /// Its name.
    pub(crate) id: CallId,
    /// What it takes room of.
    pub(crate) room: Room,
    /// The request.
    pub(crate) request: Request,
    /// What it reports, where it is the event: whoever gets the answer notes it.
    pub(crate) report: Option<super::Reporting>,
}

/// What calls take room of. Each kind has its own, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// Azure DevOps: what a check needs to go on.
    Azure,
    /// Azure DevOps: what is told of a check that waits.
    Telling,
    /// Testkube: an execution is looked at again before a decision.
    Confirm,
    /// Testkube: the steps of an execution.
    Steps,
}

/// Whether a call may be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// It may.
    Free,
    /// As many as may be are under way.
    Full,
    /// The server has asked for a pause until then.
    Quiet(Mono),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A decision was made.
    Decided(ReasonCode),
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
    /// An execution of a run that is over was aborted.
    Aborted,
}

impl Effects {
    pub(super) fn count(&mut self, counter: Counter) {
        self.counts.push(counter);
    }

    pub(super) fn say(&mut self, level: Level, line: String) {
        self.says.push((level, line));
    }
}
