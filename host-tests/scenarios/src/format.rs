//! The format of a file. Unknown fields are refused, because a misspelt expectation would expect nothing.
//!
//! Times are in milliseconds. A run is a pipeline's run whose gated stage waits for its check; its number is the story's
//! own.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One story.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the story shows, as a sentence.
    pub shows: String,
    /// What differs from the shipped configuration.
    #[serde(default)]
    pub envoy: Envoy,
    /// What happens, in its order.
    pub steps: Vec<Step>,
    /// The counters of the module that have changed at the end, and no others.
    pub counters: BTreeMap<String, Count>,
    /// How often an event was posted for a run, whatever its outcome. No other run has one.
    #[serde(default)]
    pub events: BTreeMap<u32, Count>,
    /// The requests that Testkube has seen; it has seen no other kind. Absent: any.
    pub testkube: Option<Vec<Seen>>,
    /// The requests that Azure DevOps has seen; it has seen no other kind. Absent: any.
    pub azure_devops: Option<Vec<Seen>>,
}

/// What differs from `envoy/envoy.yaml`. One worker is the default: a request then meets the VM that the one before met.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Envoy {
    /// A JSON merge patch on the plugin's configuration.
    pub plugin: Value,
    /// Whether body callbacks run while a request is held at its headers.
    pub allow_on_headers_stop_iteration: bool,
    /// `stream_idle_timeout`.
    pub stream_idle_timeout: u64,
    /// `--drain-time-s`, in milliseconds like all times; whole seconds.
    pub drain_time: u64,
    /// `per_connection_buffer_limit_bytes`.
    pub buffer_limit: usize,
    /// Whether the module is the one for tests, which [`Step::Trap`] needs and which no answer with an execution called
    /// `trap-the-reader` survives. It removes no credentials.
    pub test_hooks: bool,
    /// A cluster whose circuit breaker lets no request through: calls are refused at once.
    pub refuses: Option<Cluster>,
}

impl Default for Envoy {
    fn default() -> Envoy {
        Envoy {
            plugin: Value::Object(serde_json::Map::new()),
            allow_on_headers_stop_iteration: true,
            stream_idle_timeout: 30_000,
            drain_time: 600_000,
            buffer_limit: 1 << 20,
            test_hooks: false,
            refuses: None,
        }
    }
}

/// One thing that happens, or that is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// An execution with a run's tag.
    Execution {
        /// The run.
        run: u32,
        /// The workflow; the resource that starts it has the same name.
        workflow: String,
        /// Its status, until [`Step::Becomes`] gives it another. A story that waited for times instead would depend on how
        /// busy its host is.
        status: String,
        /// Testkube's words if somebody wants it to run again; absent: it runs again, and passes.
        rerun_refused: Option<String>,
        /// Its artifacts: names and contents.
        #[serde(default)]
        artifacts: BTreeMap<String, String>,
        /// Its steps, one after the other: names, and how many milliseconds after this step each ends. Absent: the fake's own.
        #[serde(default)]
        steps: Vec<(String, i64)>,
    },
    /// A workflow's newest execution with a run's tag has another status from now on.
    Becomes {
        /// The run.
        run: u32,
        /// The workflow.
        workflow: String,
        /// The status; `deleted`: it is gone.
        status: String,
    },
    /// Azure DevOps ends a run's plan without an event: cancelled, or, with `succeeded`, as if the check's completion event were
    /// ApiResponse.
    EndCheck {
        /// The run.
        run: u32,
        /// The result that its record gets.
        result: String,
    },
    /// Somebody cancels a run: its build is `cancelling`, and its plan ends without an event.
    CancelRun {
        /// The run.
        run: u32,
    },
    /// A run's log says this, now or soon, and its record shows that.
    Shows {
        /// The run.
        run: u32,
        /// Parts of the check's log.
        #[serde(default)]
        log: Vec<String>,
        /// A part of the record, as JSON.
        record: Option<String>,
    },
    /// Azure DevOps sends a run's check.
    Deliver(Deliver),
    /// Azure DevOps evaluates the run's check anew, with another token, which later deliveries have.
    AnotherToken {
        /// The run.
        run: u32,
    },
    /// Envoy's log has a line with each of these parts, now or soon, and no second one.
    Logged {
        /// The parts.
        once: Vec<String>,
    },
    /// Somebody sends any other request.
    Send(Send),
    /// Testkube's webhook says that an execution with a run's tag has ended.
    Hint {
        /// The run.
        run: u32,
        /// Whose credential it carries.
        #[serde(default)]
        credential: Credential,
        /// The answer.
        answer: Expected,
    },
    /// A request that the story did not wait for is answered now, or soon.
    Answered {
        /// Its name.
        name: String,
        /// In this time; absent: soon.
        within: Option<u64>,
        /// With what.
        answer: Expected,
    },
    /// A request that the story did not wait for has no answer yet.
    Unanswered {
        /// Its name.
        name: String,
    },
    /// Azure DevOps takes an event for a run, now or soon.
    Event {
        /// The run.
        run: u32,
        /// `succeeded` or `failed`.
        result: String,
        /// Parts of the check's log.
        #[serde(default)]
        log: Vec<String>,
    },
    /// Azure DevOps has taken no event for a run yet.
    NoEvent {
        /// The run.
        run: u32,
    },
    /// `/readyz` says, now or soon, how many checks are pending.
    Pending {
        /// The number.
        checks: u32,
    },
    /// One side has seen a number of requests of a kind, now or soon.
    Sees {
        /// Which side.
        side: Cluster,
        /// The kind, as in [`Seen::request`].
        request: String,
        /// The least number.
        times: usize,
    },
    /// One side has seen no request at all yet.
    SeesNothing {
        /// Which side.
        side: Cluster,
    },
    /// Testkube answers in another way.
    TestkubeFault {
        /// The requests that it strikes.
        route: TestkubeRoute,
        /// How many of them; absent: until `calm`.
        times: Option<u32>,
        /// In which way.
        fault: TestkubeFault,
    },
    /// Azure DevOps answers in another way.
    AzureDevopsFault {
        /// The requests that it strikes.
        route: AzureDevopsRoute,
        /// How many of them; absent: until `calm`.
        times: Option<u32>,
        /// In which way.
        fault: AzureDevopsFault,
    },
    /// The connection to a cluster is broken.
    Outage {
        /// Which.
        cluster: Cluster,
        /// In which way.
        way: Outage,
    },
    /// All faults and outages end.
    Calm {},
    /// Another configuration comes: the first one with this merge patch.
    Reload {
        /// The patch; `{}` is the first configuration itself.
        plugin: Value,
        /// Whether Envoy takes it.
        accepted: bool,
    },
    /// The worker's VM traps in somebody's request, which gets Envoy's 503.
    Trap {},
    /// Time passes.
    Pass {
        /// In milliseconds.
        ms: u64,
    },
}

/// The request that Azure DevOps sends for a check.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// The run.
    pub run: u32,
    /// Whether it is sent as a synchronous check, which is answered with a verdict.
    #[serde(default)]
    pub synchronous: bool,
    /// Fields besides the check task's defaults, or in their place; `null` takes one away.
    #[serde(default)]
    pub fields: BTreeMap<String, Option<String>>,
    /// Where the fields are.
    #[serde(default)]
    pub fields_in: FieldsIn,
    /// Whose credential it carries.
    #[serde(default = "checks")]
    pub credential: Credential,
    /// A connection that stays open, by its name. Absent: one of its own.
    pub connection: Option<String>,
    /// For [`Step::Answered`] and [`Step::Unanswered`], if the answer is not waited for.
    pub name: Option<String>,
    /// The answer, if it is waited for.
    pub answer: Option<Expected>,
}

/// Any request without a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// `GET`.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query; `{execution}` is the id of the execution that was added first, `{tag}` the value of run 1's tag.
    pub target: String,
    /// Headers besides the credential.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whose credential it carries.
    #[serde(default)]
    pub credential: Credential,
    /// A connection that stays open, by its name. Absent: one of its own.
    pub connection: Option<String>,
    /// The answer.
    pub answer: Expected,
}

/// Where a check's fields are.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FieldsIn {
    /// In headers, with an empty body.
    #[default]
    Headers,
    /// In a JSON body.
    Body,
    /// In a JSON body of two halves.
    Halves {
        /// The time between them.
        pause: u64,
    },
    /// In a JSON body that is filled up with spaces.
    Padded {
        /// To this size in bytes.
        bytes: usize,
    },
}

/// The answer that a caller must get.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The status.
    pub status: u16,
    /// From whom.
    pub by: By,
    /// Headers, all of them with these values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Parts of the body.
    #[serde(default)]
    pub says: Vec<String>,
    /// The whole body.
    pub body: Option<String>,
}

/// Who answers a caller.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The module.
    Module,
    /// Envoy in its place.
    Envoy,
    /// Testkube, through the module.
    Testkube,
}

/// Whose credential a request carries.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// Nobody's.
    #[default]
    None,
    /// The one for checks.
    Checks,
    /// The one for artifacts.
    Artifacts,
    /// The one for checks with another password.
    Wrong,
}

/// The two sides that the module calls.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Cluster {
    /// Testkube.
    Testkube,
    /// Azure DevOps.
    AzureDevops,
}

/// How the connection to a cluster is broken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Connections end as soon as they are made, and those that were open end too: Envoy's own 503.
    Closed,
    /// Whatever is sent is never answered: Envoy's own 504.
    Silent,
}

/// Requests to Testkube that faults tell apart (`fakes::testkube::Route`).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestkubeRoute {
    /// The list of executions.
    List,
    /// One execution.
    Get,
    /// An artifact.
    Artifact,
}

/// What is wrong with Testkube's answer (`fakes::testkube::Fault`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TestkubeFault {
    /// An error.
    Status(u16),
    /// A sign-in page.
    Html,
    /// JSON cut off in the middle, framed correctly.
    TruncatedJson,
    /// Late.
    Slow(u64),
    /// The connection ends before the answer.
    Reset,
    /// The connection ends after a number of bytes of the body.
    Cut(usize),
}

/// Requests to Azure DevOps that faults tell apart (`fakes::azure::Route`).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AzureDevopsRoute {
    /// The event.
    Events,
    /// A log is made.
    LogCreate,
    /// Lines for a log.
    LogAppend,
    /// Changes of the record, and looks at it.
    Records,
    /// The build is read.
    Build,
    /// All of them.
    All,
}

/// What is wrong with Azure DevOps's answer (`fakes::azure::Fault`).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AzureDevopsFault {
    /// An error without effect.
    Status(u16),
    /// A sign-in page without effect.
    Html,
    /// The connection ends; nothing took effect.
    ResetBefore,
    /// The request takes effect; the connection ends before the answer.
    ResetAfter,
    /// The request takes effect; the answer is late.
    Slow(u64),
}

/// A kind of request that one side sees.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Method, path with `{guid}`, `{execution}` and `{n}` in place of ids, and the names in the query:
    /// `GET /v1/test-workflow-executions?tagSelector&pageSize`.
    pub request: String,
    /// How often.
    pub times: Count,
    /// The names of its headers, sorted, the same in each of them. Absent: any.
    pub headers: Option<Vec<String>>,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Count {
    /// This often.
    Exactly(u64),
    /// This often or more: where polling or chance decides.
    AtLeast {
        /// This often.
        at_least: u64,
    },
}

impl Count {
    /// Whether the count matches.
    pub fn fits(self, times: u64) -> bool {
        match self {
            Count::Exactly(expected) => times == expected,
            Count::AtLeast { at_least } => times >= at_least,
        }
    }
}

fn checks() -> Credential {
    Credential::Checks
}

fn get() -> String {
    "GET".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(step: &str) -> String {
        let text = format!(r#"{{"shows": "x", "counters": {{}}, "steps": [{step}]}}"#);
        serde_json::from_str::<Scenario>(&text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_misspelt_is_refused_at_every_depth() {
        assert!(error(r#"{"pas": {"ms": 1}}"#).contains("unknown variant `pas`"));
        assert!(error(r#"{"pass": {"ms": 1, "s": 2}}"#).contains("unknown field `s`"));
        let answer = r#"{"status": 200, "by": "module", "say": []}"#;
        let answered = format!(r#"{{"answered": {{"name": "a", "answer": {answer}}}}}"#);
        assert!(error(&answered).contains("unknown field `say`"));
        let deliver = r#"{"deliver": {"run": 1, "fields_in": {"halves": {"pause": 1, "puase": 2}}}}"#;
        assert!(error(deliver).contains("unknown field `puase`"));
    }
}
