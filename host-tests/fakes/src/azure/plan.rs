//! A plan: the orchestration behind a check, with its tasks, its logs and its timeline.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::authorization::Token;
use super::route::PlanResource;
use super::{CheckSpec, answer, record};
use crate::http::{Request, Response};
use crate::timestamp;

/// An attempt to post an event, whatever its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in Unix milliseconds.
    pub at: i64,
    /// `TaskCompleted`, `TaskStarted`, … exactly as sent; empty when the body was no event.
    pub name: String,
    /// `result`, exactly as sent.
    pub result: Option<String>,
    /// `taskId`, exactly as sent.
    pub task: String,
    /// `jobId`, exactly as sent.
    pub job: String,
    /// The token that came with it.
    pub token_used: Option<String>,
    /// Whether it took effect.
    pub accepted: bool,
}

/// A plan and everything below it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) project: String,
    pub(crate) hub: String,
    pub(crate) timeline: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) events: Vec<Event>,
    /// From then on the plan is unknown.
    pub(crate) deleted_at: Option<i64>,
    /// From then on the plan is over with this result, without any event.
    pub(crate) ended: Option<(i64, String)>,
    id: String,
    tasks: BTreeMap<String, Task>,
    logs: BTreeMap<u64, Log>,
    records: BTreeMap<String, Value>,
    attachments: BTreeMap<(String, String, String), Vec<u8>>,
    feed: Vec<String>,
}

#[derive(Debug)]
struct Task {
    job: String,
    decided: bool,
}

#[derive(Debug)]
struct Log {
    path: String,
    content: String,
    created: i64,
    changed: i64,
}

impl Plan {
    pub(crate) fn new(spec: &CheckSpec) -> Self {
        Self {
            project: spec.project.clone(),
            hub: spec.hub.clone(),
            timeline: spec.timeline.clone(),
            tokens: Vec::new(),
            events: Vec::new(),
            deleted_at: None,
            ended: None,
            id: spec.plan.clone(),
            tasks: BTreeMap::new(),
            logs: BTreeMap::new(),
            records: BTreeMap::new(),
            attachments: BTreeMap::new(),
            feed: Vec::new(),
        }
    }

    /// Makes a task wait for its event. A decided task waits again, as after an evaluation interval.
    pub(crate) fn start_task(&mut self, at: i64, spec: &CheckSpec) {
        let started = timestamp::dotnet(at);
        self.tasks.insert(spec.task.clone(), Task { job: spec.job.clone(), decided: false });
        let job = record::job_record(&spec.job, started.clone());
        self.records.entry(spec.job.clone()).or_insert(job);
        self.records.insert(spec.task.clone(), record::task_record(&spec.task, &spec.job, started));
        self.tokens.push(Token { text: spec.token.clone(), expires_at: None });
    }

    /// Completes a task's record; nobody waits for its event any more. Returns whether there is such a task.
    pub(crate) fn complete_task(&mut self, id: &str, at: i64, result: &str) -> bool {
        let id = id.to_ascii_lowercase();
        let (Some(task), Some(record)) = (self.tasks.get_mut(&id), self.records.get_mut(&id)) else {
            return false;
        };
        task.decided = true;
        finish(record, at, result);
        true
    }

    /// Adds a record that no check of this fake made.
    pub(crate) fn add_record(&mut self, id: &str) {
        let record = json!({"id": id, "type": "Task", "name": "Task", "state": "pending", "result": null});
        self.records.insert(id.to_ascii_lowercase(), record);
    }

    /// Adds a log under a chosen id.
    pub(crate) fn add_log(&mut self, at: i64, id: u64, path: &str) {
        self.logs.insert(id, Log { path: path.into(), content: String::new(), created: at, changed: at });
    }

    /// The lines of all logs, in the order of their ids.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.logs.values().flat_map(|log| log.content.lines().map(str::to_owned)).collect()
    }

    pub(crate) fn feed_lines(&self) -> &[String] {
        &self.feed
    }

    pub(crate) fn attachment(&self, record: &str, kind: &str, name: &str) -> Option<&[u8]> {
        let key = (record.to_ascii_lowercase(), kind.to_owned(), name.to_owned());
        self.attachments.get(&key).map(Vec::as_slice)
    }

    /// A record as a client reads it at `now`.
    pub(crate) fn record(&self, id: &str, now: i64) -> Option<Value> {
        let mut record = self.records.get(&id.to_ascii_lowercase())?.clone();
        if let Some((at, result)) = &self.ended
            && now >= *at
            && record["state"] != "completed"
        {
            finish(&mut record, *at, result);
        }
        Some(record)
    }

    /// Answers a call on a resource of this plan.
    pub(crate) fn answer(&mut self, now: i64, resource: &PlanResource, request: &Request) -> Response {
        let timeline = match resource {
            PlanResource::Records { timeline }
            | PlanResource::Feed { timeline, .. }
            | PlanResource::Attachment { timeline, .. } => Some(timeline),
            _ => None,
        };
        if timeline.is_some_and(|timeline| !timeline.eq_ignore_ascii_case(&self.timeline)) {
            return answer::failure(
                404,
                "TimelineNotFoundException",
                "No timeline found for the specified plan.",
            );
        }
        match (request.method.as_str(), resource) {
            ("POST", PlanResource::Events) => self.post_event(now, &request.body),
            ("POST", PlanResource::Logs) => self.create_log(now, &request.body),
            ("GET", PlanResource::Logs) => {
                answer::collection(self.logs.iter().map(|(id, log)| describe(*id, log)).collect())
            }
            ("POST", PlanResource::Log(id)) => self.append(now, id, &request.body),
            ("PATCH", PlanResource::Records { .. }) => self.patch_records(now, &request.body),
            ("GET", PlanResource::Records { .. }) => {
                answer::collection(self.records.keys().filter_map(|id| self.record(id, now)).collect())
            }
            ("POST", PlanResource::Feed { record, .. }) => self.append_feed(record, &request.body),
            ("PUT", PlanResource::Attachment { record, kind, name, .. }) => {
                self.attach(now, record, kind, name, &request.body)
            }
            _ => answer::failure(
                405,
                "HttpRequestException",
                "The requested resource does not support this method.",
            ),
        }
    }

    fn post_event(&mut self, now: i64, body: &[u8]) -> Response {
        let Ok(Value::Object(event)) = serde_json::from_slice(body) else {
            return answer::bad_request("Value cannot be null. Parameter name: eventData");
        };
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        // `JobEvent.cs` compares the name by ordinals: another case is no event.
        let completed = match text("name") {
            "TaskCompleted" => true,
            "TaskAssigned" | "TaskStarted" => false,
            other => return answer::bad_request(&format!("{other:?} is not the name of a job event.")),
        };
        let (plan, hub) = (self.id.clone(), self.hub.clone());
        let over = self.ended.as_ref().is_some_and(|(at, _)| now >= *at);
        let Some(task) = self.tasks.get_mut(&text("taskId").to_ascii_lowercase()) else {
            return no_session(&plan, &hub);
        };
        if !task.job.eq_ignore_ascii_case(text("jobId")) {
            let message = format!("No job {} found for plan {plan}.", text("jobId"));
            return answer::failure(404, "TaskOrchestrationJobNotFoundException", &message);
        }
        if over || task.decided {
            return no_session(&plan, &hub);
        }
        if completed {
            let result = text("result");
            // Only these two are documented for checks; an undocumented one must not look as if it worked.
            let documented: &[&str] =
                if hub.eq_ignore_ascii_case("checks") { &["succeeded", "failed"] } else { &record::RESULTS };
            if !documented.contains(&result) {
                return answer::bad_request(&format!("{result:?} is not a result of a task on hub {hub}."));
            }
            task.decided = true;
            if let Some(record) = self.records.get_mut(&text("taskId").to_ascii_lowercase()) {
                finish(record, now, result);
            }
        }
        Response::new(204)
    }

    /// Idempotent by path: an existing one returns its log as it is.
    fn create_log(&mut self, now: i64, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(path) = body["path"].as_str().filter(|path| !path.is_empty()) else {
            return answer::bad_request("Value cannot be null. Parameter name: log.Path");
        };
        if let Some((id, log)) = self.logs.iter().find(|(_, log)| log.path == path) {
            return answer::ok(&describe(*id, log));
        }
        let id = self.logs.keys().next_back().map_or(1, |last| last + 1);
        self.add_log(now, id, path);
        self.logs.get(&id).map_or_else(|| Response::new(500), |log| answer::ok(&describe(id, log)))
    }

    /// Late appends are accepted: recorded exchanges have them twelve minutes after the record was completed.
    fn append(&mut self, now: i64, id: &str, body: &[u8]) -> Response {
        let found = id.parse().ok().and_then(|id: u64| self.logs.get_mut(&id).map(|log| (id, log)));
        let Some((id, log)) = found else {
            return answer::failure(404, "TaskLogNotFoundException", &format!("Log {id} not found."));
        };
        log.content.push_str(&String::from_utf8_lossy(body));
        log.changed = now;
        answer::ok(&describe(id, log))
    }

    fn patch_records(&mut self, now: i64, body: &[u8]) -> Response {
        let changes = match wrapped(body) {
            Ok(changes) => changes,
            Err(reason) => return answer::bad_request(&reason),
        };
        let mut read = Vec::new();
        for change in &changes {
            match record::read_change(change) {
                Ok(change) => read.push(change),
                Err(reason) => return answer::bad_request(&reason),
            }
        }
        // Microsoft's C# sample sends a record without id, too: it changes nothing.
        let with_id = |change: serde_json::Map<String, Value>| {
            change["id"].as_str().map(str::to_ascii_lowercase).map(|id| (id, change))
        };
        let read: Vec<_> =
            read.into_iter().filter(|change| change.contains_key("id")).filter_map(with_id).collect();
        if let Some((id, _)) = read.iter().find(|(id, _)| !self.records.contains_key(id)) {
            return answer::failure(
                404,
                "TimelineRecordNotFoundException",
                &format!("No record {id} found."),
            );
        }
        let mut answered = Vec::new();
        for (id, change) in read {
            if let Some(record) = self.records.get_mut(&id) {
                record::merge(record, change);
                answered.extend(self.record(&id, now));
            }
        }
        answer::collection(answered)
    }

    fn append_feed(&mut self, record: &str, body: &[u8]) -> Response {
        if !self.records.contains_key(&record.to_ascii_lowercase()) {
            return answer::failure(
                404,
                "TimelineRecordNotFoundException",
                &format!("No record {record} found."),
            );
        }
        match wrapped(body) {
            Ok(lines) => {
                self.feed.extend(lines.iter().filter_map(Value::as_str).map(str::to_owned));
                Response::new(204)
            }
            Err(reason) => answer::bad_request(&reason),
        }
    }

    fn attach(&mut self, now: i64, record: &str, kind: &str, name: &str, body: &[u8]) -> Response {
        let record = record.to_ascii_lowercase();
        if !self.records.contains_key(&record) {
            return answer::failure(
                404,
                "TimelineRecordNotFoundException",
                &format!("No record {record} found."),
            );
        }
        self.attachments.insert((record.clone(), kind.into(), name.into()), body.to_vec());
        answer::ok(&json!({"name": name, "type": kind, "recordId": record, "timelineId": self.timeline,
            "createdOn": timestamp::dotnet(now), "lastChangedOn": timestamp::dotnet(now)}))
    }
}

fn finish(record: &mut Value, at: i64, result: &str) {
    record["state"] = json!("completed");
    record["result"] = json!(result);
    record["finishTime"] = json!(timestamp::dotnet(at));
}

fn no_session(plan: &str, hub: &str) -> Response {
    let message = format!("Orchestration session {plan} not found for hub {hub}.");
    answer::failure(500, "OrchestrationSessionNotFoundException", &message)
}

/// The elements of `{"count": n, "value": […]}`; a bare array or record is none.
fn wrapped(body: &[u8]) -> Result<Vec<Value>, String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| format!("The body is no JSON: {error}"))?;
    let value =
        body.get("value").and_then(Value::as_array).ok_or("The body is not {\"count\", \"value\": […]}.")?;
    match body.get("count").and_then(Value::as_u64) {
        Some(count) if count == value.len() as u64 => Ok(value.clone()),
        _ => Err(format!("count does not say {}, the length of value.", value.len())),
    }
}

fn describe(id: u64, log: &Log) -> Value {
    json!({"path": log.path, "lineCount": log.content.lines().count(), "createdOn": timestamp::dotnet(log.created),
        "lastChangedOn": timestamp::dotnet(log.changed), "id": id, "location": null})
}
