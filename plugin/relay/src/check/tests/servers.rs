//! The two servers that a check calls, as far as one check can tell: the requests to them, and their answers when all
//! is well.

use crate::check::Volatile;
use crate::time::{Mono, Wall};
use crate::wire::call::{Asks, CallId, CallOutcome, Request, Response};
use crate::wire::percent::percent_decoded;
use crate::wire::testkube::{Execution, from_json};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The wall clock at the start of the monotonic one.
pub(super) const START: i64 = 1_769_186_640_000;

/// The meaning of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    CreateLog,
    Lines(String),
    Link(String),
    Records,
    Build,
    CancelBuild,
    Timeline,
    /// TaskCompleted, and whether it says `succeeded`.
    Event(bool),
    /// One execution.
    Get(String),
    /// A reading of all pages.
    Read,
    /// A re-run of one execution.
    Rerun(String),
    /// The artifacts of an execution.
    Files(String),
    /// An artifact of an execution.
    File(String, String),
}

impl What {
    pub(super) fn of(request: &Request) -> What {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let path = request.path.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let before = |part: &str| {
            let (before, _) = path.split_once(part).unwrap_or_default();
            before.rsplit('/').next().unwrap_or_default().to_string()
        };
        match (request.method, last) {
            ("POST", "logs") => What::CreateLog,
            ("POST", "rerun") => {
                assert!(body.contains(r#""type":"ci/cd""#), "{body}");
                What::Rerun(before("/rerun"))
            }
            ("POST", "events") => What::Event(body.contains(r#""result":"succeeded""#)),
            ("POST", _) => What::Lines(body),
            ("PATCH", "records") => What::Link(body),
            ("PATCH", _) => What::CancelBuild,
            ("GET", "records") => What::Records,
            ("GET", "timeline") => What::Timeline,
            ("GET", "artifacts") => What::Files(before("/artifacts")),
            ("GET", name) if path.contains("/artifacts/") => {
                let name = percent_decoded(&percent_decoded(name.as_bytes()));
                What::File(before("/artifacts/"), String::from_utf8(name).unwrap())
            }
            ("GET", id) if path.contains("test-workflow-executions") => What::Get(id.into()),
            _ => What::Build,
        }
    }

    /// The request in one word, to compare orders.
    pub(super) fn word(&self) -> &'static str {
        match self {
            What::CreateLog => "log",
            What::Lines(_) => "lines",
            What::Link(_) => "record",
            What::Records => "records",
            What::Build => "build",
            What::CancelBuild => "cancel",
            What::Timeline => "timeline",
            What::Event(_) => "event",
            What::Get(_) => "look",
            What::Read => "read",
            What::Rerun(_) => "rerun",
            What::Files(_) => "files",
            What::File(..) => "file",
        }
    }

    pub(super) fn is_at_azure(&self) -> bool {
        !matches!(self, What::Get(_) | What::Rerun(_) | What::Read | What::Files(_) | What::File(..))
    }

    fn is_at_plan(&self) -> bool {
        matches!(self, What::CreateLog | What::Lines(_) | What::Link(_) | What::Records | What::Event(_))
    }
}

pub(super) fn answer(status: u16, body: &str) -> CallOutcome {
    CallOutcome::Response(Response {
        status,
        content_type: "application/json".into(),
        asks: Asks::default(),
        from_envoy: false,
        body: Ok(body.as_bytes().to_vec()),
    })
}

/// The answer when the plan has ended.
pub(super) fn over() -> CallOutcome {
    answer(500, r#"{"typeKey":"OrchestrationSessionNotFoundException"}"#)
}

/// An execution with its whole course.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) id: String,
    pub(super) workflow: String,
    /// The value of its tag.
    pub(super) tag: String,
    pub(super) scheduled: Mono,
    /// Its end: time and status.
    pub(super) ends: (Mono, &'static str),
    /// The time span in which Testkube does not list it.
    pub(super) hidden: (Mono, Mono),
    /// The control plane's `reports`.
    pub(super) reports: Value,
    /// The id of the execution that it repeats; empty: none.
    pub(super) repeats: String,
}

impl Test {
    pub(super) fn new(workflow: &str, scheduled: Mono, ends: Mono, status: &'static str) -> Test {
        Test {
            id: format!("{workflow}-{}", scheduled.0),
            workflow: workflow.into(),
            tag: "shop-1".into(),
            scheduled,
            ends: (ends, status),
            hidden: (Mono(0), Mono(0)),
            reports: Value::Null,
            repeats: String::new(),
        }
    }

    fn is_listed(&self, now: Mono) -> bool {
        self.scheduled <= now && !(self.hidden.0 <= now && now < self.hidden.1)
    }

    pub(super) fn json(&self, now: Mono) -> Value {
        let (ends, status) = self.ends;
        let result = match ends <= now {
            true => {
                let (began, ended) = (wall(self.scheduled).to_string(), wall(ends).to_string());
                json!({"status": status, "startedAt": began, "finishedAt": ended})
            }
            false => json!({"status": "running"}),
        };
        json!({
            "id": self.id, "name": self.id, "workflow": {"name": self.workflow},
            "scheduledAt": wall(self.scheduled).to_string(), "tags": {"ado-run": self.tag}, "result": result,
            "reports": self.reports,
            "runningContext": {"actor": {"type": "user", "executionReference": self.repeats}},
        })
    }
}

/// The wall clock at this time.
pub(super) fn wall(at: Mono) -> Wall {
    Wall(START + i64::try_from(at.0).unwrap())
}

/// Azure DevOps's plan of the check, and Testkube's executions.
#[derive(Default)]
pub(super) struct Servers {
    pub(super) tests: Vec<Test>,
    /// The result of the check, once completed.
    pub(super) completed: Option<bool>,
    /// Whether the run was ended.
    pub(super) is_over: bool,
    /// The check's own record, if it is not `inProgress`.
    pub(super) record: Option<Value>,
    /// Tokens that Azure DevOps does not know.
    pub(super) unknown: Vec<String>,
    /// Artifacts by execution and name.
    pub(super) files: BTreeMap<(String, String), Vec<u8>>,
    /// The statuses in which the next re-runs end, 20 s after they were asked for; then they pass.
    pub(super) reruns: VecDeque<&'static str>,
    /// For how long Testkube's lists lack a re-run that it has taken.
    pub(super) lists_late: Duration,
    /// What was run again.
    pub(super) reran: Vec<String>,
}

impl Servers {
    /// The answer to a call when all is well. Its effect is immediate, whenever the answer comes.
    pub(super) fn serve(&mut self, what: &What, token: &str, task: &str, now: Mono) -> CallOutcome {
        let is_azure = what.is_at_azure();
        if is_azure && self.unknown.iter().any(|unknown| unknown == token) {
            return answer(401, "");
        }
        if what.is_at_plan() && (self.is_over || matches!((what, self.completed), (What::Event(_), Some(_))))
        {
            return over();
        }
        match what {
            What::CreateLog => answer(201, r#"{"id":7}"#),
            What::Lines(_) | What::Link(_) | What::CancelBuild => answer(200, "{}"),
            What::Records => {
                let own = json!({"id": task, "state": "inProgress"});
                answer(200, &json!({"value": [self.record.clone().unwrap_or(own)]}).to_string())
            }
            What::Build | What::Timeline => {
                let build = json!({"status": "inProgress", "startTime": Wall(START).to_string()});
                answer(200, &build.to_string())
            }
            What::Event(passes) => {
                self.completed = Some(*passes);
                answer(204, "")
            }
            What::Get(id) => match self.tests.iter().find(|test| test.id == *id && test.is_listed(now)) {
                Some(test) => answer(200, &test.json(now).to_string()),
                None => answer(404, ""),
            },
            What::Rerun(id) => match self.tests.iter().find(|test| test.id == *id && test.is_listed(now)) {
                Some(test) => {
                    let ends = now.plus(Duration::from_secs(20));
                    let status = self.reruns.pop_front().unwrap_or("passed");
                    let again = Test::new(&test.workflow, now, ends, status);
                    let again = Test { repeats: id.clone(), tag: test.tag.clone(), ..again };
                    // Two of one workflow may be asked for in the same millisecond.
                    let id_of = format!("{}-{}", again.id, self.reran.len());
                    self.reran.push(id.clone());
                    let hidden = (now, now.plus(self.lists_late));
                    self.tests.push(Test { id: id_of, hidden, ..again });
                    answer(200, "{}")
                }
                None => answer(404, ""),
            },
            What::Read => answer(200, ""),
            What::Files(of) => {
                let files = self.files.iter().filter(|((id, _), _)| id == of);
                let list = files.map(|((_, name), body)| json!({"name": name, "size": body.len()}));
                answer(200, &Value::from(list.collect::<Vec<_>>()).to_string())
            }
            What::File(of, name) => match self.files.get(&(of.clone(), name.clone())) {
                Some(body) => answer(200, str::from_utf8(body).unwrap()),
                None => answer(500, ""),
            },
        }
    }

    /// The executions of a complete reading at this moment.
    pub(super) fn read(&self, now: Mono) -> Vec<Execution> {
        let listed: Vec<Value> =
            self.tests.iter().filter(|test| test.is_listed(now)).map(|test| test.json(now)).collect();
        from_json(Value::from(listed).to_string().as_bytes()).unwrap()
    }
}

impl Volatile {
    /// Whether this call is awaited.
    pub(super) fn waits_for(&self, id: CallId) -> bool {
        self.waiting.is_some_and(|waiting| waiting.id == id)
    }
}
