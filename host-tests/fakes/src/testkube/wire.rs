//! The JSON that Testkube writes: field order, omitted fields and zero times as Go's structs give them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::execution::{Execution, State, Status};
use super::list::Page;
use super::selector::Database;
use crate::http::Response;
use crate::timestamp;

const JSON: &str = "application/json";
/// Go's `omitempty` does not drop a time: an unset one is the first moment of the year 1.
const UNSET: &str = "0001-01-01T00:00:00Z";
const RESOURCE: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `ExecutionsTotals`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) results: i32,
    pub(crate) passed: i32,
    pub(crate) failed: i32,
    pub(crate) queued: i32,
    pub(crate) running: i32,
}

#[derive(Serialize)]
struct ExecutionsResult {
    totals: Totals,
    filtered: Totals,
    results: Vec<Summary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    id: String,
    group_id: String,
    runner_id: &'static str,
    name: String,
    number: u32,
    scheduled_at: String,
    status_at: String,
    result: Outcome,
    workflow: Workflow,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    running_context: RunningContext,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<Empty>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Full {
    id: String,
    group_id: String,
    runner_id: &'static str,
    runner_target: Empty,
    runner_original_target: Empty,
    name: String,
    /// Set where a runner has begun with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'static str>,
    number: u32,
    scheduled_at: String,
    assigned_at: String,
    status_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Vec<Node>>,
    result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    workflow: Workflow,
    resolved_workflow: Workflow,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    running_context: RunningContext,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<Empty>,
}

#[derive(Serialize)]
struct Empty {}

/// `TestWorkflowSignature`: a step or a group of steps.
#[derive(Serialize)]
struct Node {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    status: String,
    predicted_status: &'static str,
    queued_at: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<String>,
    duration_ms: i64,
    total_duration_ms: i64,
    paused_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    initialization: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Value>,
}

#[derive(Serialize)]
struct Workflow {
    name: String,
    namespace: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<Value>,
}

#[derive(Serialize)]
struct RunningContext {
    interface: Value,
    actor: Value,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// `runtime`, which is not in Mongo's projection.
fn runtime(database: Database) -> Option<Empty> {
    (database == Database::Postgres).then_some(Empty {})
}

/// A page of the list.
pub(crate) fn list(page: &Page, database: Database) -> Response {
    let results = page.results.iter().map(|state| summary(state, database)).collect();
    json_body(200, &ExecutionsResult { totals: page.totals, filtered: page.filtered, results })
}

/// One execution in full.
pub(crate) fn full(state: &State, database: Database) -> Response {
    let execution = state.execution;
    let scheduled = timestamp::go(execution.scheduled());
    let accepted = execution.initialization_error.is_none() && state.started;
    let pod =
        json!({"name": format!("{}-x7k2p", execution.id), "namespace": "testkube", "nodeName": "node-1"});
    let mut result = outcome(state);
    result.initialization = Some(initialization(state));
    result.steps = accepted.then(|| steps(state));
    json_body(
        200,
        &Full {
            id: execution.id.clone(),
            group_id: execution.id.clone(),
            runner_id: "default-agent",
            runner_target: Empty {},
            runner_original_target: Empty {},
            name: execution.name.clone(),
            namespace: (!execution.has_no_pod && !is_declined(state)).then_some("testkube"),
            number: execution.number,
            scheduled_at: scheduled.clone(),
            assigned_at: scheduled,
            status_at: timestamp::go(state.status_at),
            // The signature stays empty until the runner accepts the execution.
            signature: accepted.then(|| signature(state)),
            result,
            output: (accepted && !execution.has_no_pod)
                .then(|| json!([{"ref": "tktw-init", "name": "pod", "value": pod}])),
            workflow: workflow(state, true),
            resolved_workflow: workflow(state, true),
            tags: state.tags.clone(),
            running_context: running_context(execution),
            runtime: runtime(database),
        },
    )
}

/// An error: RFC 9457's shape, but `c.JSON` overwrites the content type with `application/json`. Every detail has the same end.
pub(crate) fn problem(status: u16, detail: &str) -> Response {
    let detail = &format!("{detail}, context: null");
    json_body(status, &Problem { kind: "about:blank", title: reason(status), status, detail })
}

/// Any value, with `<`, `>` and `&` escaped as Go's encoder does.
pub(crate) fn json_body<T: Serialize>(status: u16, value: &T) -> Response {
    let text = serde_json::to_string(value).unwrap_or_default();
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Response::with_body(status, JSON, text)
}

/// The same answer with its times at this offset from UTC in minutes; unset times stay.
pub(crate) fn in_time_zone(mut response: Response, minutes: i32) -> Response {
    let sign = if minutes < 0 { '-' } else { '+' };
    let zone = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
    let is_json = response.value("content-type").as_deref() == Some(JSON);
    if minutes == 0 || !is_json {
        return response;
    }
    let Ok(text) = std::str::from_utf8(&response.body) else { return response };
    let parts = text.split('"').map(|part| match timestamp::parse(part) {
        Some((at, false)) if part.ends_with('Z') && part != UNSET => {
            let local = timestamp::go(at + i64::from(minutes) * 60_000);
            local.trim_end_matches('Z').to_owned() + &zone
        }
        _ => part.to_owned(),
    });
    let body = parts.collect::<Vec<_>>().join("\"");
    response.body = body.into_bytes();
    response
}

/// Go's `http.StatusText` for the statuses that matter.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

fn summary(state: &State, database: Database) -> Summary {
    let execution = state.execution;
    Summary {
        id: execution.id.clone(),
        group_id: execution.id.clone(),
        runner_id: "default-agent",
        name: execution.name.clone(),
        number: execution.number,
        scheduled_at: timestamp::go(execution.scheduled()),
        status_at: timestamp::go(state.status_at),
        result: outcome(state),
        workflow: workflow(state, false),
        tags: state.tags.clone(),
        running_context: running_context(execution),
        runtime: runtime(database),
    }
}

fn outcome(state: &State) -> Outcome {
    let scheduled = state.execution.scheduled();
    let started = moment(state.started.then_some(scheduled));
    let millis = match state.finished_at {
        Some(at) if state.started => (at - scheduled).max(0),
        _ => 0,
    };
    let duration = state.finished_at.filter(|_| !is_declined(state)).map(|_| timestamp::go_duration(millis));
    Outcome {
        status: state.status.as_str().into(),
        predicted_status: predicted(state),
        queued_at: started.clone(),
        started_at: started,
        finished_at: moment(state.finished_at),
        duration: duration.clone(),
        total_duration: duration,
        duration_ms: millis,
        total_duration_ms: millis,
        paused_ms: 0,
        initialization: None,
        steps: None,
    }
}

/// What Testkube predicts for an execution, never a verdict: `passed` from its creation on, and for ever if a runner has
/// declined it; `aborted` while it runs.
fn predicted(state: &State) -> &'static str {
    match state.status {
        Status::Passed | Status::Queued => "passed",
        Status::Assigned if state.finished_at.is_none() => "passed",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
        _ if is_declined(state) => "passed",
        _ => "aborted",
    }
}

/// A runner has declined it and left no reason, as where an image cannot be inspected.
fn is_declined(state: &State) -> bool {
    *state.status == Status::Aborted && !state.started && state.execution.initialization_error.is_none()
}

fn moment(at: Option<i64>) -> String {
    at.map_or_else(|| UNSET.into(), timestamp::go)
}

fn workflow(state: &State, with_spec: bool) -> Workflow {
    let bytes = state.execution.annotation_bytes;
    let annotation = || [(RESOURCE, "{\"spec\":\"<all of it>\"}\n".chars().cycle().take(bytes).collect())];
    let spec = json!({"steps": [{"name": "Run tests", "steps": [{"shell": "npm test"}]}]});
    Workflow {
        name: state.execution.workflow.clone(),
        namespace: "testkube",
        labels: state.execution.labels.clone(),
        annotations: if bytes > 0 { annotation().into() } else { BTreeMap::new() },
        spec: with_spec.then_some(spec),
    }
}

/// Null twice where a run by the API says nothing. A person's re-run has the interface `cli`.
fn running_context(execution: &Execution) -> RunningContext {
    let actor = &execution.actor;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let members = [
        ("name", some(&actor.name)),
        ("executionId", actor.execution_id.clone()),
        ("executionPath", some(&execution.path)),
        ("executionReference", actor.execution_reference.clone()),
        ("type", some(&actor.kind)),
    ];
    let members: serde_json::Map<String, Value> =
        members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect();
    let interface = if actor.kind == "user" { "cli" } else { "internal" };
    match members.is_empty() {
        true => RunningContext { interface: Value::Null, actor: Value::Null },
        false => RunningContext { interface: json!({"type": interface}), actor: Value::Object(members) },
    }
}

fn initialization(state: &State) -> Value {
    let scheduled = moment(Some(state.execution.scheduled()));
    match &state.execution.initialization_error {
        Some(message) => json!({"errorMessage": message, "status": "aborted",
            "queuedAt": UNSET, "startedAt": UNSET, "finishedAt": scheduled}),
        None if state.execution.has_no_pod && state.started => match ended_without_pod(state) {
            Some((status, why)) => {
                let message = format!("The execution has been {status}. ({why})");
                json!({"errorMessage": message, "status": status,
                    "queuedAt": scheduled, "startedAt": scheduled, "finishedAt": scheduled})
            }
            None => {
                json!({"status": "queued", "queuedAt": scheduled, "startedAt": UNSET, "finishedAt": UNSET})
            }
        },
        None if state.started => json!({"status": "passed",
            "queuedAt": scheduled, "startedAt": scheduled, "finishedAt": scheduled}),
        None => json!({"status": "queued", "queuedAt": UNSET, "startedAt": UNSET, "finishedAt": UNSET}),
    }
}

/// How an execution without a pod has ended, and Testkube's words for it.
fn ended_without_pod(state: &State) -> Option<(&'static str, &'static str)> {
    match state.status {
        Status::Canceled => Some(("canceled", "Job has been canceled by a user")),
        Status::Aborted => Some(("aborted", "Job has been aborted")),
        _ => None,
    }
}

/// The steps of an execution without a pod: none has begun, and at the end all are skipped.
fn steps_without_pod(state: &State) -> Value {
    let scheduled = moment(Some(state.execution.scheduled()));
    let finished = moment(state.finished_at);
    let step = |is_leaf| match ended_without_pod(state) {
        None => json!({"status": "queued", "queuedAt": UNSET, "startedAt": UNSET, "finishedAt": UNSET}),
        Some((status, why)) if is_leaf => {
            let message = format!("The execution was {status} before. \u{1b}[90m({why})\u{1b}[0m");
            json!({"errorMessage": message, "status": "skipped",
                "queuedAt": scheduled, "startedAt": finished, "finishedAt": finished})
        }
        Some(_) => {
            json!({"status": "skipped", "queuedAt": scheduled, "startedAt": UNSET, "finishedAt": finished})
        }
    };
    json!({"rk2vq1": step(true), "r9dxm2": step(false), "rbn7t3": step(true), "rw4hz4": step(true),
        "rc8pf5": step(true)})
}

/// Four leaves, one of them optional and in a group, as in a workflow that clones, tests and uploads.
fn signature(state: &State) -> Vec<Node> {
    let leaf = |reference: &str, name: Option<&str>, category, optional| Node {
        reference: reference.into(),
        name: name.map(str::to_owned),
        category,
        optional,
        children: vec![],
    };
    if !state.execution.steps.is_empty() {
        let scripted = state.execution.steps.iter().enumerate();
        return scripted.map(|(i, (name, _))| leaf(&scripted_ref(i), Some(name), None, false)).collect();
    }
    let tests = [
        leaf("rbn7t3", None, Some("Run shell command"), false),
        leaf("rw4hz4", Some("Lint report"), Some("Run shell command"), true),
    ];
    vec![
        leaf("rk2vq1", None, Some("Clone Git repository"), false),
        Node { children: tests.into(), ..leaf("r9dxm2", Some("Run tests"), None, false) },
        leaf("rc8pf5", None, Some("Upload artifacts"), false),
    ]
}

fn scripted_ref(index: usize) -> String {
    format!("rstep{index}")
}

/// The steps of a script: one after the other; of an execution that did not pass, the one that ran at its end failed.
fn scripted_steps(state: &State) -> Value {
    let end = state.finished_at.unwrap_or(i64::MAX).min(state.now);
    let mut begins = state.execution.scheduled();
    let mut steps = serde_json::Map::new();
    let mut is_over = false;
    for (i, (_, ends)) in state.execution.steps.iter().enumerate() {
        let (from, until) = (moment(Some(begins)), moment(Some(*ends)));
        let step = match state.finished_at {
            _ if is_over => {
                json!({"status": "skipped", "queuedAt": UNSET, "startedAt": UNSET, "finishedAt": moment(Some(end))})
            }
            Some(at) if *state.status != Status::Passed && *ends >= at => {
                is_over = true;
                let message = state.execution.step_error.clone().unwrap_or_default();
                json!({"status": state.status.as_str(), "exitCode": 1, "errorMessage": message,
                    "queuedAt": from, "startedAt": from, "finishedAt": moment(Some(at))})
            }
            None if begins > end => {
                json!({"status": "queued", "queuedAt": UNSET, "startedAt": UNSET, "finishedAt": UNSET})
            }
            None if *ends > end => {
                json!({"status": "running", "queuedAt": from, "startedAt": from, "finishedAt": UNSET})
            }
            _ => json!({"status": "passed", "queuedAt": from, "startedAt": from, "finishedAt": until}),
        };
        steps.insert(scripted_ref(i), step);
        begins = *ends;
    }
    Value::Object(steps)
}

fn steps(state: &State) -> Value {
    if state.execution.has_no_pod {
        return steps_without_pod(state);
    }
    if !state.execution.steps.is_empty() {
        return scripted_steps(state);
    }
    let [tests, lint, upload] = match state.status {
        Status::Passed if state.execution.optional_step_failed => ["passed", "failed", "passed"],
        Status::Passed => ["passed"; 3],
        Status::Failed => ["failed", "skipped", "passed"],
        Status::Aborted => ["aborted"; 3],
        Status::Canceled => ["canceled"; 3],
        _ => ["running", "queued", "queued"],
    };
    let scheduled = moment(Some(state.execution.scheduled()));
    let step = |status: &str| {
        let (started, finished) = match status {
            "queued" => (UNSET.to_owned(), UNSET.to_owned()),
            "running" => (scheduled.clone(), UNSET.to_owned()),
            _ => (scheduled.clone(), moment(Some(state.status_at))),
        };
        json!({"status": status, "queuedAt": started, "startedAt": started, "finishedAt": finished})
    };
    // Only leaves have an exit code, and only when it is not 0.
    let leaf = |status: &str| {
        let mut leaf = step(status);
        if status == "failed" {
            leaf["exitCode"] = json!(1);
        }
        leaf
    };
    let mut failing = leaf(tests);
    if let (Status::Failed, Some(message)) = (state.status, &state.execution.step_error) {
        failing["errorMessage"] = json!(message);
    }
    json!({"rk2vq1": step("passed"), "r9dxm2": step(tests), "rbn7t3": failing, "rw4hz4": leaf(lint),
        "rc8pf5": step(upload)})
}
