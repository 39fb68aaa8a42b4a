//! The effects of a step, and of a turn of the live log: what they ask of the leader.

use super::{Done, Outcome, ReasonCode};
use crate::tag::Tag;
use crate::time::Mono;
use crate::wire::call::{CallId, Request};
use log::Level;

/// What a step asks for. Its change of the record is stored first. If another context writes first, the step is undone
/// and repeated on the new record.
#[derive(Default)]
pub(crate) struct Effects {
    /// A call to start; its answer is an event.
    pub(crate) call: Option<Call>,
    /// The end of the check: this record replaces the pending one.
    pub(crate) done: Option<Done>,
    /// The kind of room that its next call waits for.
    pub(crate) queue: Option<Room>,
    /// Executions of this tag, by id and name, that still run although their run is over.
    pub(crate) aborts: Option<(Tag, Vec<(String, String)>)>,
    /// Counters to raise.
    pub(crate) counts: Vec<Counter>,
    /// Lines for Envoy's log.
    pub(crate) says: Vec<(Level, String)>,
}

/// The effects of a turn of the live log.
pub(crate) struct Acted {
    /// Calls to start.
    pub(crate) calls: Vec<Call>,
    /// Counters to raise.
    pub(crate) counts: Vec<Counter>,
    /// The kinds of room that a next call waits for from now on.
    pub(crate) queues: Vec<Room>,
}

/// A call that a step starts.
pub(crate) struct Call {
    /// Its id.
    pub(crate) id: CallId,
    /// The kind of room that it takes.
    pub(crate) room: Room,
    /// The request.
    pub(crate) request: Request,
    /// What it reports, if it is the event. The context that gets the answer notes it.
    pub(crate) report: Option<super::Reporting>,
}

/// A kind of call with room of its own, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// Azure DevOps: a check's next step.
    Azure,
    /// Azure DevOps: the live log of a waiting check.
    Telling,
    /// Testkube: the second look at an execution before a decision.
    Confirm,
    /// Testkube: a re-run of a failed execution.
    Rerun,
    /// Testkube: the steps of a running execution.
    Steps,
    /// Testkube: the artifacts of an execution that has ended, for the results of its tests.
    Results,
}

/// Whether a call may be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// It may.
    Free,
    /// The maximum is under way.
    Full,
    /// The server has asked for a pause until this time.
    Quiet(Mono),
}

/// A counter.
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
    /// A leader's lease expired: it fell.
    Fall,
    /// A check's log or record could not be written, or is not shown: people see only the decision.
    LogLost,
    /// Azure DevOps did not wait for a check.
    OpenGate,
    /// A verdict in observe mode was delivered as `succeeded`.
    Observed,
    /// An execution was aborted because its run was over.
    Aborted,
    /// Testkube has taken a re-run.
    Rerun,
    /// A call about a check's Secret was answered.
    Stored,
    /// A check of another replica was adopted.
    Adopted,
    /// A decision was sent before it was stored.
    Unfenced,
}

impl Effects {
    pub(super) fn count(&mut self, counter: Counter) {
        self.counts.push(counter);
    }

    pub(super) fn say(&mut self, level: Level, line: String) {
        self.says.push((level, line));
    }
}
