//! The calls to Azure DevOps, in the forms that Microsoft's own clients use.
//!
//! api-versions: 2.0-preview.1 for events is the only value that every document and server version has; 6.0 for the
//! rest is the newest that Server 2020 knows.

use super::{Entry, TokenScheme};
use crate::guid::Guid;
use crate::secret::Secret;
use crate::text::one_line;
use crate::time::Wall;
use crate::wire::call::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// The address of a check: Azure DevOps's ids, as parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// URL of the configured entry.
    pub entry: String,
    /// ProjectId.
    pub project: Guid,
    /// HubName.
    pub hub: HubName,
    /// PlanId.
    pub plan: Guid,
    /// JobId.
    pub job: Guid,
    /// TaskInstanceId: the timeline record of the check.
    pub task: Guid,
    /// TimelineId. Without it no log can be linked to the record.
    pub timeline: Option<Guid>,
    /// BuildId, which the user adds to the headers.
    pub build: Option<u64>,
}

impl Callback {
    /// The page of the run, if its build is known.
    pub fn build_url(&self) -> Option<String> {
        Some(format!("{}/{}/_build/results?buildId={}", self.entry, self.project, self.build?))
    }
}

/// The hub that a plan belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubName {
    /// A check.
    Checks,
    /// An agentless job of a YAML pipeline.
    Build,
    /// An agentless job of a classic release.
    Release,
}

impl HubName {
    /// Reads a hub's name in any case.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the field's name.
    pub fn parse(text: &str) -> Result<HubName, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "checks" => Ok(HubName::Checks),
            "build" => Ok(HubName::Build),
            "release" => Ok(HubName::Release),
            "gates" => Err(
                "is the hub of classic release gates, which Testrelay does not serve: use a check on an environment or service connection",
            ),
            _ => Err("must be `checks`, `build` or `release`; send `$(system.HostType)`"),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            HubName::Checks => "checks",
            HubName::Build => "build",
            HubName::Release => "release",
        }
    }
}

/// The id of a log, from the answer to [`create_log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogId {
    /// Never 0: a record linked to log 0 shows none.
    pub id: u64,
}

/// Creates the log of the check's record, or finds it: the call is idempotent by path.
pub fn create_log(entry: &Entry, callback: &Callback, token: &Secret) -> Request {
    let body = json!({"path": format!("logs\\{}", callback.task)}).to_string();
    post(entry, token, format!("{}/logs?api-version=6.0", plan(entry, callback)), JSON, body)
}

/// Appends lines to a log. Each line ends with its line feed.
pub fn append_log(entry: &Entry, callback: &Callback, token: &Secret, log: LogId, lines: String) -> Request {
    let path = format!("{}/logs/{}?api-version=6.0", plan(entry, callback), log.id);
    post(entry, token, path, "application/octet-stream", lines)
}

/// A change of a check's record. Fields that are `None` or empty stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordChange {
    /// Whether to set the state to `inProgress`. Never set for a record that Azure DevOps has completed.
    pub begin: bool,
    /// The log to show on the record. Never 0: Azure DevOps would store that and show no log.
    pub log: Option<LogId>,
    /// `percentComplete`, 0 to 100.
    pub percent: Option<u8>,
    /// `currentOperation`.
    pub operation: Option<String>,
    /// Issues of type error, one text each.
    pub errors: Vec<String>,
}

/// Maximum length of a text on a record, in characters.
const MAX_TEXT: usize = 1_024;

#[derive(Serialize)]
struct ChangedRecords {
    count: u8,
    value: [ChangedRecord; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    current_operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_count: Option<usize>,
    id: Guid,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<Issue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_complete: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Serialize)]
struct Issue {
    category: &'static str,
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Changes the check's record. PATCH merges: fields that are not named stay.
pub fn change_record(
    entry: &Entry,
    callback: &Callback,
    token: &Secret,
    timeline: Guid,
    change: &RecordChange,
) -> Request {
    let message = |text: &String| one_line(text, MAX_TEXT);
    let issue = |text| Issue { category: "General", message: message(text), kind: "error" };
    let record = ChangedRecord {
        current_operation: change.operation.as_ref().map(message),
        error_count: Some(change.errors.len()).filter(|count| *count > 0),
        id: callback.task,
        issues: change.errors.iter().map(issue).collect(),
        log: change.log,
        percent_complete: change.percent,
        state: change.begin.then_some("inProgress"),
    };
    let body = crate::json::text(&ChangedRecords { count: 1, value: [record] });
    Request { method: "PATCH", ..post(entry, token, records(entry, callback, timeline), JSON, body) }
}

/// Reads all records of the check's timeline, the check's own record among them.
pub fn read_records(entry: &Entry, callback: &Callback, token: &Secret, timeline: Guid) -> Request {
    get(entry, token, records(entry, callback, timeline))
}

fn records(entry: &Entry, callback: &Callback, timeline: Guid) -> String {
    format!("{}/timelines/{timeline}/records?api-version=6.0", plan(entry, callback))
}

/// Sends the decision. `taskId` is the instance (TaskInstanceId), never the task's definition; names are
/// case-sensitive.
pub fn complete_task(entry: &Entry, callback: &Callback, token: &Secret, succeeded: bool) -> Request {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct TaskCompleted {
        job_id: Guid,
        name: &'static str,
        result: &'static str,
        task_id: Guid,
    }
    let event = TaskCompleted {
        job_id: callback.job,
        name: "TaskCompleted",
        result: if succeeded { "succeeded" } else { "failed" },
        task_id: callback.task,
    };
    let path = format!("{}/events?api-version=2.0-preview.1", plan(entry, callback));
    post(entry, token, path, JSON, crate::json::text(&event))
}

/// Reads a build, for its start.
pub fn build(entry: &Entry, callback: &Callback, token: &Secret, build: u64) -> Request {
    get(entry, token, format!("{}/_apis/build/builds/{build}?api-version=6.0", project(entry, callback)))
}

/// Cancels a build, as the button on its page does.
pub fn cancel_build(entry: &Entry, callback: &Callback, token: &Secret, build: u64) -> Request {
    let path = format!("{}/_apis/build/builds/{build}?api-version=6.0", project(entry, callback));
    let body = json!({"status": "cancelling"}).to_string();
    Request { method: "PATCH", ..post(entry, token, path, JSON, body) }
}

/// Reads a build's timeline, for the start of a stage.
pub fn timeline(entry: &Entry, callback: &Callback, token: &Secret, build: u64) -> Request {
    get(
        entry,
        token,
        format!("{}/_apis/build/builds/{build}/timeline?api-version=6.0", project(entry, callback)),
    )
}

/// The start of a build, from the answer to [`build`].
pub fn build_start(body: &[u8]) -> Option<Wall> {
    #[derive(Deserialize)]
    struct Build {
        #[serde(rename = "startTime")]
        start_time: Option<String>,
    }
    Wall::parse(&crate::json::read::<Build>(body).ok()?.start_time?)
}

const JSON: &str = "application/json";

/// Timeout of a call. Azure DevOps delays a busy client by up to 30 s before it refuses it; slower calls are tried
/// again.
const TIMEOUT: Duration = Duration::from_secs(20);

fn project(entry: &Entry, callback: &Callback) -> String {
    format!("{}/{}", entry.prefix(), callback.project)
}

fn plan(entry: &Entry, callback: &Callback) -> String {
    let Callback { hub, plan, .. } = callback;
    format!("{}/_apis/distributedtask/hubs/{}/plans/{plan}", project(entry, callback), hub.as_str())
}

fn post(entry: &Entry, token: &Secret, path: String, content_type: &str, body: String) -> Request {
    let mut request = get(entry, token, path);
    request.method = "POST";
    request.headers.push(("content-type", content_type.into()));
    request.body = body.into_bytes();
    request
}

/// Reads a path below an organisation or collection through this cluster, without a token.
pub fn reach(entry: &Entry, cluster: &str, path: &str) -> Request {
    Request { cluster: cluster.to_owned(), ..bare(entry, entry.prefix() + path) }
}

fn get(entry: &Entry, token: &Secret, path: String) -> Request {
    let token = token.reveal();
    let authorization = match entry.scheme {
        TokenScheme::Bearer => format!("Bearer {token}"),
        TokenScheme::Basic => format!("Basic {}", STANDARD.encode(format!(":{token}"))),
    };
    let mut request = bare(entry, path);
    request.headers.push(("authorization", authorization));
    request
}

/// A GET without a token.
fn bare(entry: &Entry, path: String) -> Request {
    Request {
        cluster: entry.cluster.clone(),
        method: "GET",
        scheme: entry.scheme_name(),
        authority: entry.authority(),
        path,
        headers: vec![
            ("accept", JSON.into()),
            ("user-agent", crate::USER_AGENT.into()),
            // Makes Azure DevOps answer 401 where it would send a browser to a sign-in page; Microsoft's clients send
            // it too.
            ("x-tfs-fedauthredirect", "Suppress".into()),
        ],
        body: Vec::new(),
        timeout: TIMEOUT,
        max_body: 8 << 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callback() -> Callback {
        let guid = |n: char| {
            Guid::parse(&"11111111-1111-1111-1111-111111111111".replace('1', &n.to_string())).unwrap()
        };
        Callback {
            entry: "https://dev.azure.com/fabrikam".into(),
            project: guid('1'),
            hub: HubName::Checks,
            plan: guid('2'),
            job: guid('3'),
            task: guid('4'),
            timeline: Some(guid('5')),
            build: Some(4711),
        }
    }

    fn entry(url: &str, scheme: TokenScheme) -> Entry {
        Entry::parse(url, "azure".into(), scheme).unwrap()
    }

    fn header<'a>(request: &'a Request, name: &str) -> &'a str {
        request.headers.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn no_text_on_a_record_is_a_command() {
        let entry = entry("https://dev.azure.com/fabrikam", TokenScheme::Bearer);
        let command = || "a####vso[task.complete]\n###[error]b".to_string();
        let change =
            RecordChange { operation: Some(command()), errors: vec![command()], ..Default::default() };
        let timeline = callback().timeline.unwrap();
        let request = change_record(&entry, &callback(), &Secret::new("t".into()), timeline, &change);
        let body = String::from_utf8(request.body).unwrap();
        assert_eq!(body.matches("a# # # #vso[task.complete]·# # #[error]b").count(), 2, "{body}");
    }

    #[test]
    fn the_decision_has_the_exact_wire_form() {
        let entry = entry("https://dev.azure.com/fabrikam/", TokenScheme::Bearer);
        let request = complete_task(&entry, &callback(), &Secret::new("tok".into()), true);
        assert_eq!(
            (request.method, request.scheme, request.authority.as_str()),
            ("POST", "https", "dev.azure.com")
        );
        assert_eq!(
            request.path,
            "/fabrikam/11111111-1111-1111-1111-111111111111/_apis/distributedtask/hubs/checks/plans/22222222-2222-2222-2222-222222222222/events?api-version=2.0-preview.1"
        );
        assert_eq!(header(&request, "authorization"), "Bearer tok");
        assert_eq!(header(&request, "content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(
            body,
            json!({"name": "TaskCompleted", "taskId": "44444444-4444-4444-4444-444444444444",
                   "jobId": "33333333-3333-3333-3333-333333333333", "result": "succeeded"})
        );
    }

    #[test]
    fn a_server_behind_a_path_and_port_is_called_there() {
        let entry = entry("http://tfs:8080/tfs/DefaultCollection", TokenScheme::Basic);
        let request = create_log(&entry, &callback(), &Secret::new("tok".into()));
        assert!(request.path.starts_with("/tfs/DefaultCollection/11111111-"), "{}", request.path);
        assert_eq!((request.scheme, request.authority.as_str()), ("http", "tfs:8080"));
        assert_eq!(header(&request, "authorization"), "Basic OnRvaw==");
        assert_eq!(request.body, br#"{"path":"logs\\44444444-4444-4444-4444-444444444444"}"#);
    }

    #[test]
    fn a_record_is_patched_in_its_wrapper_and_never_with_log_0() {
        let entry = entry("https://dev.azure.com/fabrikam", TokenScheme::Bearer);
        let timeline = callback().timeline.unwrap();
        let patch = |change: &RecordChange| {
            let request = change_record(&entry, &callback(), &Secret::new("t".into()), timeline, change);
            serde_json::from_slice::<serde_json::Value>(&request.body).unwrap()
        };
        let id = callback().task;
        let begin = RecordChange { begin: true, log: Some(LogId { id: 3 }), ..RecordChange::default() };
        assert_eq!(
            patch(&begin),
            json!({"count": 1, "value": [{"id": id, "state": "inProgress", "log": {"id": 3}}]})
        );
        let end = RecordChange { percent: Some(100), errors: vec!["no".into()], ..RecordChange::default() };
        let issue = json!({"type": "error", "category": "General", "message": "no"});
        assert_eq!(
            patch(&end),
            json!({"count": 1, "value": [
                {"id": id, "percentComplete": 100, "errorCount": 1, "issues": [issue]}
            ]})
        );
    }
}
