//! Executions as Testkube lists them, reduced to what a verdict needs.

use super::at_most::AtMost;
use super::steps::{FailedStep, Steps};
use crate::call::{Fault, Response};
use crate::tag::Tag;
use crate::text::{one_line, plain};
use crate::time::Wall;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// 24 hexadecimal digits.
    pub id: String,
    /// As `shop-e2e-17`.
    pub name: String,
    /// The TestWorkflow's name.
    pub workflow: String,
    /// The execution's number within its workflow.
    pub number: i64,
    /// `scheduledAt`.
    pub scheduled: Wall,
    /// `result.status`.
    pub status: Status,
    /// Terminal status *and* a finish time, which is Testkube's own rule: an execution whose spec cannot be resolved has
    /// a finish time while it is still `assigned`.
    pub ended: bool,
    /// `result.finishedAt`, where it is set.
    pub finished: Option<Wall>,
    /// `tags`, with the full-width dots of stored keys turned back.
    pub tags: BTreeMap<String, String>,
    /// `runningContext.actor`: who started it.
    pub actor: Actor,
    /// `result.initialization.errorMessage`: why it never got to its first step. Only in the answer for a single one.
    pub message: Option<String>,
    /// `result.durationMs`; `None` until it has ended.
    pub took: Option<Duration>,
    /// How far its steps are. Only in the answer for a single one.
    pub steps: Steps,
}

/// Who started an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// `testworkflowexecution` for the GitOps resource, `testworkflow` for a parent workflow.
    pub kind: String,
    /// The resource's or the person's name.
    pub name: String,
    /// Of a re-run: the id of the execution that it repeats.
    pub reference: String,
}

/// `result.status`. Every name that is not one of the four terminal ones means "not yet": names have come and gone
/// between versions of Testkube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `passed`.
    Passed,
    /// `failed`.
    Failed,
    /// `aborted`: by the system, or by a person (Testkube mixes the two up).
    Aborted,
    /// `canceled`.
    Canceled,
    /// Not ended.
    NotYet(String),
}

impl Execution {
    /// Whether it carries exactly this tag.
    pub fn carries(&self, tag: &Tag) -> bool {
        self.tags.get(&tag.key) == Some(&tag.value)
    }

    /// Whether it is what a list had: ended, with this status and tag.
    pub(crate) fn is_still(&self, id: &str, status: &Status, tag: &Tag) -> bool {
        self.id == id && self.ended && self.status == *status && self.carries(tag)
    }

    /// The message of one that did not pass, or its first step that had to pass and did not.
    pub(crate) fn why_not_passed(&self) -> Option<String> {
        if self.status == Status::Passed {
            return None;
        }
        let message = self.message.as_ref().map(|message| plain(message));
        let step = || self.steps.failed.iter().find(|step| !step.optional).map(FailedStep::in_words);
        message.or_else(step).map(|why| one_line(&why, 200))
    }
}

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
    /// The executions on it.
    pub executions: Vec<Execution>,
    /// How many there are on all pages. The sum is right even where its parts are not.
    pub filtered: u32,
}

/// The largest page that is asked for.
const MAX_ROWS: usize = 1_000;

/// Reads the answer to a list request. Rows that lack an id or a date are a fault: a verdict must not rest on a part.
///
/// # Errors
/// Which fault it is.
pub fn page(response: &Response) -> Result<Page, Fault> {
    let list: wire::List = response.json()?;
    let (Some(rows), Some(filtered)) = (list.results, list.filtered.and_then(|f| f.results)) else {
        return Err(Fault::Unexpected("JSON without `results` or `filtered.results`"));
    };
    // A page of more rows than are read is none; that there are more than these on all pages is the caller's to judge.
    if rows.is_cut && usize::try_from(filtered).is_ok_and(|filtered| filtered <= MAX_ROWS) {
        return Err(Fault::Unexpected("more executions on a page than were asked for"));
    }
    let executions: Option<Vec<Execution>> = rows.items.into_iter().map(wire::Execution::reduce).collect();
    let executions = executions.ok_or(Fault::Unexpected("an execution without id or scheduledAt"))?;
    Ok(Page { executions, filtered })
}

/// Reads the answer to a request for one execution.
///
/// # Errors
/// Which fault it is; 404 means that it is gone.
pub fn single(response: &Response) -> Result<Execution, Fault> {
    let execution: wire::Execution = response.json()?;
    execution.reduce().ok_or(Fault::Unexpected("an execution without id or scheduledAt"))
}

/// Executions in the form of Testkube's lists, with what a verdict needs of them and one of their tags.
pub(crate) fn to_json(executions: &[Execution], tag_key: &str) -> String {
    let rows = executions.iter().map(|e| {
        let tag = e.tags.get(tag_key).map(|value| (tag_key.to_string(), json!(value)));
        json!({
            "id": e.id,
            "name": e.name,
            "number": e.number,
            "scheduledAt": e.scheduled.to_string(),
            "result": {"status": e.status.to_string(), "finishedAt": e.finished.map(|time| time.to_string())},
            "workflow": {"name": e.workflow},
            "tags": tag.into_iter().collect::<Map<_, _>>(),
            "runningContext": {"actor": {
                "type": e.actor.kind, "name": e.actor.name, "executionReference": e.actor.reference
            }},
        })
    });
    Value::Array(rows.collect()).to_string()
}

/// The inverse of [`to_json`]; `None` for anything else.
pub(crate) fn from_json(rows: &[u8]) -> Option<Vec<Execution>> {
    let rows: Vec<wire::Execution> = serde_json::from_slice(rows).ok()?;
    rows.into_iter().map(wire::Execution::reduce).collect()
}

/// The members that are read, each of which may be absent or null.
pub(super) mod wire {
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

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Execution {
        id: Option<String>,
        name: Option<String>,
        number: Option<i64>,
        scheduled_at: Option<String>,
        result: Option<Result>,
        workflow: Option<Workflow>,
        tags: Option<BTreeMap<String, String>>,
        running_context: Option<RunningContext>,
        signature: Option<Vec<Node>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result {
        status: Option<String>,
        finished_at: Option<String>,
        duration_ms: Option<i64>,
        initialization: Option<Initialization>,
        steps: Option<BTreeMap<String, Step>>,
    }

    /// A step or a group of steps.
    #[derive(Deserialize)]
    pub(in super::super) struct Node {
        #[serde(rename = "ref")]
        pub(in super::super) reference: Option<String>,
        name: Option<String>,
        category: Option<String>,
        pub(in super::super) optional: Option<bool>,
        pub(in super::super) children: Option<Vec<Node>>,
    }

    /// What became of a step.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in super::super) struct Step {
        pub(in super::super) status: Option<String>,
        pub(in super::super) exit_code: Option<i64>,
        pub(in super::super) error_message: Option<String>,
    }

    impl Node {
        /// Its name, else its category, which is Testkube's own rule.
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

    #[derive(Deserialize)]
    struct Workflow {
        name: Option<String>,
    }

    #[derive(Deserialize)]
    struct RunningContext {
        actor: Option<Actor>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Actor {
        #[serde(rename = "type")]
        kind: Option<String>,
        name: Option<String>,
        execution_reference: Option<String>,
    }

    impl Execution {
        pub(super) fn reduce(self) -> Option<super::Execution> {
            // An answer that no VM survives, for the test of what happens then.
            #[cfg(feature = "test-hooks")]
            if self.name.as_deref().is_some_and(|name| name.starts_with("trap-the-reader")) {
                std::process::abort();
            }
            let id = self.id.filter(|id| !id.is_empty() && id.len() <= 64)?;
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
            let finished = result.as_ref().and_then(|r| Wall::parse(r.finished_at.as_deref()?));
            let finished = finished.filter(|time| time.0 > 0);
            let actor = self.running_context.and_then(|c| c.actor);
            let steps = result.as_ref().and_then(|r| r.steps.as_ref());
            let steps = Steps::of(&self.signature.unwrap_or_default(), steps.unwrap_or(&BTreeMap::new()));
            let took = result.as_ref().and_then(|r| u64::try_from(r.duration_ms?).ok());
            let took = took.filter(|_| finished.is_some());
            Some(super::Execution {
                name: self.name.unwrap_or_else(|| id.clone()),
                id,
                workflow: self.workflow.and_then(|w| w.name).unwrap_or_default(),
                number: self.number.unwrap_or_default(),
                scheduled,
                ended: finished.is_some() && !matches!(status, Status::NotYet(_)),
                finished,
                status,
                tags: self
                    .tags
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(k, v)| (k.replace('\u{ff0e}', "."), v))
                    .collect(),
                actor: actor.map_or_else(super::Actor::default, |actor| super::Actor {
                    kind: actor.kind.unwrap_or_default(),
                    name: actor.name.unwrap_or_default(),
                    reference: actor.execution_reference.unwrap_or_default(),
                }),
                message: result.and_then(|r| r.initialization?.error_message).filter(|m| !m.is_empty()),
                took: took.map(Duration::from_millis),
                steps,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Response {
        Response {
            status: 200,
            content_type: "application/json".into(),
            retry_after: None,
            from_envoy: false,
            body: Ok(body.as_bytes().to_vec()),
        }
    }

    fn listed(fixture: &str) -> Page {
        page(&answer(fixture)).unwrap()
    }

    fn summary(page: &Page) -> Vec<String> {
        page.executions.iter().map(|e| format!("{} {} {}", e.name, e.status, e.ended)).collect()
    }

    #[test]
    fn testkubes_own_lists_are_read() {
        let page = listed(include_str!("fixtures/list-3-mixed.json"));
        assert_eq!(
            summary(&page),
            ["shop-e2e-17 running false", "shop-api-41 passed true", "shop-load-9 failed true"]
        );
        assert_eq!(page.filtered, 3);
        let first = &page.executions[0];
        assert_eq!((first.workflow.as_str(), first.number), ("shop-e2e", 17));
        assert_eq!(
            (first.actor.kind.as_str(), first.actor.name.as_str()),
            ("testworkflowexecution", "shop-e2e-20260123-4")
        );
        assert!(first.carries(&Tag { key: "ado-run".into(), value: "20260123.4".into() }));
        assert!(listed(include_str!("fixtures/list-0.json")).executions.is_empty());
    }

    #[test]
    fn the_sum_of_wrong_totals_is_right() {
        let page = listed(include_str!("fixtures/list-4-done-totals-wrong.json"));
        assert_eq!((page.filtered, page.executions.len()), (4, 4));
        assert!(page.executions.iter().all(|e| e.ended));
    }

    #[test]
    fn a_finish_time_without_a_terminal_status_is_no_end() {
        let page = listed(include_str!("fixtures/list-1-assigned-but-finishedAt-set.json"));
        assert_eq!(summary(&page), ["shop-smoke-4 assigned false"]);
    }

    /// A list with the first execution's status changed.
    fn with_status(fixture: &str, status: &str) -> Page {
        let mut list: serde_json::Value = serde_json::from_str(fixture).unwrap();
        list["results"][0]["result"]["status"] = status.into();
        listed(&list.to_string())
    }

    #[test]
    fn a_terminal_status_without_a_finish_time_is_no_end() {
        let page = with_status(include_str!("fixtures/list-1-running.json"), "passed");
        assert_eq!(summary(&page), ["shop-e2e-17 passed false"]);
    }

    #[test]
    fn unknown_statuses_mean_not_yet() {
        let ended = include_str!("fixtures/list-4-done-totals-wrong.json");
        assert!(with_status(ended, "passed").executions[0].ended);
        for status in ["pending", "Passed", "succeeded", "", "\u{1b}[1m"] {
            assert!(!with_status(ended, status).executions[0].ended, "{status:?}");
        }
    }

    #[test]
    fn a_single_execution_says_why_it_never_began() {
        let execution = single(&answer(include_str!("fixtures/execution-aborted-init.json"))).unwrap();
        assert_eq!((execution.status, execution.ended), (Status::Aborted, true));
        assert!(execution.message.unwrap().contains("Cannot fetch required Test Workflow Templates"));
    }

    #[test]
    fn answers_of_another_shape_are_faults() {
        for body in [
            "[]",
            "{}",
            "null",
            r#"{"results":null,"filtered":{"results":0}}"#,
            r#"{"results":[{}],"filtered":{"results":1}}"#,
            r#"{"results":[{"id":"x","scheduledAt":"yesterday"}],"filtered":{"results":1}}"#,
        ] {
            assert!(page(&answer(body)).is_err(), "{body}");
        }
        assert_eq!(page(&answer("{\"results\":[")).unwrap_err(), Fault::Truncated);
        assert!(single(&answer(&"[".repeat(100_000))).is_err());
    }
}
