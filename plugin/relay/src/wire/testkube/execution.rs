//! Executions as Testkube lists them, reduced to what a verdict needs.

use super::reports::Reports;
use super::steps::{FailedStep, Steps};
use crate::at_most::{AtMost, MapOfAtMost};
use crate::collections::tree;
use crate::tag::Tag;
use crate::text::{one_line, plain};
use crate::time::Wall;
use crate::wire::call::{Fault, Response};
use crate::wire::junit::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Name, such as `shop-e2e-17`.
    pub name: String,
    /// The TestWorkflow's name.
    pub workflow: String,
    /// Number of the execution within its workflow.
    pub number: i64,
    /// `scheduledAt`.
    pub scheduled: Wall,
    /// `result.status`.
    pub status: Status,
    /// Terminal status *and* a finish time, which is Testkube's own rule: an execution whose spec cannot be resolved
    /// has a finish time while it is still `assigned`.
    pub ended: bool,
    /// `result.finishedAt`, if set.
    pub finished: Option<Wall>,
    /// Whether `result.startedAt` is set: a runner has begun it.
    pub began: bool,
    /// `statusAt` of an execution that is `stopping`.
    pub stopping_since: Option<Wall>,
    /// `tags`, with the full-width dots of stored keys turned back into dots.
    pub tags: BTreeMap<String, String>,
    /// `runningContext.actor`: who started it.
    pub actor: Actor,
    /// `result.initialization.errorMessage`: why the execution never reached its first step. Only in the answer for a
    /// single execution.
    pub message: Option<String>,
    /// `result.durationMs`; `None` until it has ended.
    pub took: Option<Duration>,
    /// The progress of its steps. Only in the answer for a single execution.
    pub steps: Steps,
    /// The sums of `reports`, which only a control plane fills.
    pub reports: Option<Counts>,
}

/// Who started an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// `testworkflowexecution` for the GitOps resource, `testworkflow` for a parent workflow.
    pub kind: String,
    /// The resource's or the person's name.
    pub name: String,
    /// For a re-run: the id of the execution that it repeats.
    pub reference: String,
    /// Whether another execution started it: the type is `testworkflow`, or `executionId` or `executionPath` is set. No
    /// other execution has one of the two.
    pub is_child: bool,
    /// For a child: the ids of its parent (`executionId`) and of the parent's ancestors (`executionPath`, ids separated
    /// by slashes, the parent last), nearest first.
    pub ancestors: Vec<String>,
}

/// Maximum ancestors that are kept: callers of Testkube's API may write any number.
const MAX_ANCESTORS: usize = 16;

/// The status of an execution that is being aborted.
const STOPPING: &str = "stopping";

/// Maximum length of an id, in bytes.
const MAX_ID: usize = 64;

impl Actor {
    fn of_wire(actor: wire::Actor) -> Actor {
        let kind = actor.kind.unwrap_or_default();
        let path = actor.execution_path.unwrap_or_default();
        let parent = actor.execution_id.unwrap_or_default();
        // The path repeats the parent as its last id.
        let path_ids = path.rsplit('/').filter(|id| *id != parent);
        let ids = std::iter::once(parent.as_str()).chain(path_ids);
        let ids = ids.filter(|id| (1..=MAX_ID).contains(&id.len())).take(MAX_ANCESTORS);
        Actor {
            is_child: kind == "testworkflow" || !parent.is_empty() || !path.is_empty(),
            ancestors: ids.map(str::to_string).collect(),
            kind,
            name: actor.name.unwrap_or_default(),
            reference: actor.execution_reference.unwrap_or_default(),
        }
    }

    /// The ancestors in the form of `executionPath`; never empty for a child.
    fn path(&self) -> Option<String> {
        let ids: Vec<&str> = self.ancestors.iter().rev().map(String::as_str).collect();
        self.is_child.then(|| if ids.is_empty() { "/".into() } else { ids.join("/") })
    }
}

/// `result.status`. Every name other than the four terminal ones means "not yet": names have come and gone between
/// versions of Testkube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `passed`.
    Passed,
    /// `failed`.
    Failed,
    /// `aborted`: by the system or by a person (Testkube confuses the two).
    Aborted,
    /// `canceled`.
    Canceled,
    /// Not ended; holds Testkube's name for the status.
    NotYet(String),
}

impl Execution {
    /// Whether the execution carries exactly this tag.
    pub fn carries(&self, tag: &Tag) -> bool {
        self.tags.get(&tag.key) == Some(&tag.value)
    }

    /// Whether the execution is as a list had it: ended, with this status and tag.
    pub(crate) fn is_still(&self, id: &str, status: &Status, tag: &Tag) -> bool {
        self.id == id && self.ended && self.status == *status && self.carries(tag)
    }

    /// Whether the execution has been `stopping` for so long that it may stay so for ever: an API server that restarts
    /// meanwhile does not resume it (`GetUnfinishedExecutions` leaves `stopping` out).
    pub(crate) fn is_stuck(&self, now: Wall) -> bool {
        const STUCK: Duration = Duration::from_secs(600);
        self.stopping_since.is_some_and(|since| since.plus(STUCK) <= now)
    }

    /// Why the execution did not pass: its message, or its first failed step that is not optional. `None` if it passed.
    pub(crate) fn why_not_passed(&self) -> Option<String> {
        if self.status == Status::Passed {
            return None;
        }
        let message = self.message.as_ref().map(|message| plain(message));
        let step = || self.steps.failed.iter().find(|step| !step.optional).map(FailedStep::in_words);
        let never_began = || (!self.began).then(|| NEVER_BEGAN.to_string());
        message.or_else(step).or_else(never_began).map(|why| one_line(&why, 200))
    }
}

/// The reason given for an execution that a runner declined, for instance because an image could not be inspected:
/// Testkube stores none.
pub(crate) const NEVER_BEGAN: &str =
    "it never began, and Testkube gives no reason: see the log of Testkube's API server";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Aborted => "aborted",
            Status::Canceled => "canceled",
            Status::NotYet(name) => name,
        })
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The executions on this page.
    pub executions: Vec<Execution>,
    /// Number of executions on all pages. Testkube's sum is right even where its parts are not.
    pub filtered: u32,
}

/// Maximum rows of a page.
const MAX_ROWS: usize = 1_000;

/// Maximum steps and groups of steps read of one execution. Further ones are not shown; no verdict rests on a step.
pub(super) const MAX_STEPS: usize = 2_000;

/// The fault of a row that cannot be read.
const NO_EXECUTION: Fault =
    Fault::Unexpected("an execution without id or scheduledAt, or with more than 256 tags");

/// Reads the answer to a list request. A row without an id or a date is a fault: a verdict must not rest on a part.
///
/// # Errors
/// The fault.
pub fn page(response: &Response) -> Result<Page, Fault> {
    let list: wire::List = response.json()?;
    let (Some(rows), Some(filtered)) = (list.results, list.filtered.and_then(|f| f.results)) else {
        return Err(Fault::Unexpected("JSON without `results` or `filtered.results`"));
    };
    // A page with more rows than are read is a fault. If all pages together have more, the caller decides.
    if rows.is_cut && usize::try_from(filtered).is_ok_and(|filtered| filtered <= MAX_ROWS) {
        return Err(Fault::Unexpected("more executions on a page than were asked for"));
    }
    let executions: Option<Vec<Execution>> = rows.items.into_iter().map(wire::Execution::reduce).collect();
    let executions = executions.ok_or(NO_EXECUTION)?;
    Ok(Page { executions, filtered })
}

/// Reads the answer to a request for one execution.
///
/// # Errors
/// The fault; 404 means that the execution is gone.
pub fn single(response: &Response) -> Result<Execution, Fault> {
    let execution: wire::Execution = response.json()?;
    execution.reduce().ok_or(NO_EXECUTION)
}

/// Writes executions in the form of Testkube's lists, with the fields that a verdict needs and one tag.
pub(crate) fn to_json(executions: &[Execution], tag_key: &str) -> String {
    let rows: Vec<_> = executions.iter().map(|e| wire::Execution::of(e, tag_key)).collect();
    crate::json::text(&rows)
}

/// The inverse of [`to_json`]; `None` for anything else.
pub(crate) fn from_json(rows: &[u8]) -> Option<Vec<Execution>> {
    let rows: Vec<wire::Execution> = crate::json::read(rows).ok()?;
    rows.into_iter().map(wire::Execution::reduce).collect()
}

/// The members that are read, each of which may be absent or null.
pub(super) mod wire {
    use super::super::signature::Signature;
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct List {
        pub(super) filtered: Option<Totals>,
        pub(super) results: Option<AtMost<Execution, MAX_ROWS>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Totals {
        pub(super) results: Option<u32>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Execution {
        id: Option<String>,
        name: Option<String>,
        number: Option<i64>,
        scheduled_at: Option<String>,
        #[serde(skip_serializing)]
        status_at: Option<String>,
        result: Option<Result>,
        workflow: Option<Workflow>,
        tags: Option<BTreeMap<String, String>>,
        running_context: Option<RunningContext>,
        #[serde(skip_serializing)]
        signature: Option<Signature>,
        #[serde(skip_serializing)]
        reports: Option<Reports>,
    }

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result {
        status: Option<String>,
        #[serde(skip_serializing)]
        started_at: Option<String>,
        finished_at: Option<String>,
        #[serde(skip_serializing)]
        duration_ms: Option<i64>,
        #[serde(skip_serializing)]
        initialization: Option<Initialization>,
        #[serde(skip_serializing)]
        steps: Option<MapOfAtMost<StepResult, MAX_STEPS>>,
    }

    /// A step or a group of steps.
    #[derive(Default)]
    pub(in super::super) struct Node {
        pub(in super::super) reference: Option<String>,
        pub(in super::super) name: Option<String>,
        pub(in super::super) category: Option<String>,
        pub(in super::super) optional: Option<bool>,
        pub(in super::super) children: Vec<Node>,
    }

    /// The result of a step.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in super::super) struct StepResult {
        pub(in super::super) status: Option<String>,
        pub(in super::super) exit_code: Option<i64>,
        pub(in super::super) error_message: Option<String>,
    }

    impl Node {
        /// The step's name, else its category, which is Testkube's own rule.
        pub(in super::super) fn label(&self) -> &str {
            let named = self.name.as_deref().filter(|name| !name.is_empty());
            named.or(self.category.as_deref()).unwrap_or("step")
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Initialization {
        error_message: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    struct Workflow {
        name: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    struct RunningContext {
        actor: Option<Actor>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Actor {
        #[serde(rename = "type")]
        pub(super) kind: Option<String>,
        pub(super) name: Option<String>,
        #[serde(skip_serializing)]
        pub(super) execution_id: Option<String>,
        pub(super) execution_path: Option<String>,
        pub(super) execution_reference: Option<String>,
    }

    impl Execution {
        /// The row of an execution, as far as a verdict needs it, with one tag.
        pub(super) fn of(e: &super::Execution, tag_key: &str) -> Execution {
            let tag = e.tags.get_key_value(tag_key).map(|(key, value)| (key.clone(), value.clone()));
            let result = Result {
                status: Some(e.status.to_string()),
                finished_at: e.finished.map(|time| time.to_string()),
                ..Result::default()
            };
            let actor = Actor {
                kind: Some(e.actor.kind.clone()),
                name: Some(e.actor.name.clone()),
                execution_id: None,
                execution_path: e.actor.path(),
                execution_reference: Some(e.actor.reference.clone()),
            };
            Execution {
                id: Some(e.id.clone()),
                name: Some(e.name.clone()),
                number: Some(e.number),
                scheduled_at: Some(e.scheduled.to_string()),
                status_at: None,
                result: Some(result),
                workflow: Some(Workflow { name: Some(e.workflow.clone()) }),
                tags: Some(tree(tag)),
                running_context: Some(RunningContext { actor: Some(actor) }),
                signature: None,
                reports: None,
            }
        }

        /// What is kept of a row; `None` if it has no id or date.
        pub(super) fn reduce(self) -> Option<super::Execution> {
            // Test hook: an answer that traps the VM that reads it.
            #[cfg(feature = "test-hooks")]
            if self.name.as_deref().is_some_and(|name| name.starts_with("trap-the-reader")) {
                std::process::abort();
            }
            let id = self.id.filter(|id| !id.is_empty() && id.len() <= MAX_ID)?;
            let scheduled = Wall::parse(&self.scheduled_at?)?;
            let result = self.result;
            let status = result.as_ref().and_then(|r| r.status.as_deref()).unwrap_or("queued");
            let status = match status {
                "passed" => Status::Passed,
                "failed" => Status::Failed,
                "aborted" => Status::Aborted,
                "canceled" => Status::Canceled,
                other => Status::NotYet(crate::text::one_line(other, 32)),
            };
            // Go writes an unset time as year 1.
            let time = |text: Option<&str>| text.and_then(Wall::parse).filter(|time| time.0 > 0);
            let finished = time(result.as_ref().and_then(|r| r.finished_at.as_deref()));
            let started_at = result.as_ref().and_then(|r| r.started_at.as_deref());
            let is_stopping = matches!(&status, Status::NotYet(status) if status == STOPPING);
            let actor = self.running_context.and_then(|c| c.actor);
            let none = BTreeMap::new();
            let steps = result.as_ref().and_then(|r| r.steps.as_ref());
            let signature = self.signature.unwrap_or_default();
            let steps = Steps::of(&signature.0, steps.map_or(&none, |steps| &steps.items));
            let took = result.as_ref().and_then(|r| u64::try_from(r.duration_ms?).ok());
            let took = took.filter(|_| finished.is_some());
            let stored = self.tags.unwrap_or_default().into_iter();
            let tags = stored.map(|(key, value)| (key.replace('\u{ff0e}', "."), value));
            Some(super::Execution {
                name: self.name.unwrap_or_else(|| id.clone()),
                id,
                workflow: self.workflow.and_then(|w| w.name).unwrap_or_default(),
                number: self.number.unwrap_or_default(),
                scheduled,
                ended: finished.is_some() && !matches!(status, Status::NotYet(_)),
                finished,
                began: started_at.is_some_and(|time| !time.starts_with("0001-")),
                stopping_since: time(self.status_at.as_deref().filter(|_| is_stopping)),
                status,
                tags: tree(tags),
                actor: actor.map(super::Actor::of_wire).unwrap_or_default(),
                message: result.and_then(|r| r.initialization?.error_message).filter(|m| !m.is_empty()),
                took: took.map(Duration::from_millis),
                steps,
                reports: self.reports.and_then(|reports| reports.0),
            })
        }
    }
}

#[cfg(test)]
mod tests;
