//! A Testkube API server (OSS 2.12, and the control plane's form of the same API) as a state machine.
//!
//! Sources: `internal/app/api/v1/testworkflowexecutions.go`, the Mongo and Postgres repositories, and Fiber's
//! defaults in `github.com/kubeshop/testkube`. Where the real server is surprising, this one is too.

mod artifacts;
mod execution;
mod fault;
mod list;
mod rerun;
mod selector;
mod wire;

pub use execution::{Actor, Execution, Status, execution};
pub use fault::{Fault, Route};
pub use selector::Database;

use std::collections::BTreeMap;

use execution::State;
use list::{Filter, Tie};

use crate::fault::{Faults, Span};
use crate::http::{Recorded, Reply, Request, Response, Service};
use crate::timestamp;

/// Fiber's `ReadBufferSize`: request line and headers together; more is a 431.
const HEADER_LIMIT: usize = 4096;

/// The true state of an execution, to compare with what the module made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The execution's id.
    pub id: String,
    /// Its name, `<workflow>-<number>`.
    pub name: String,
    /// Its workflow's name.
    pub workflow: String,
    /// Its number within the workflow.
    pub number: u32,
    /// Its status now.
    pub status: Status,
    /// Whether `finishedAt` is set now.
    pub finished: bool,
    /// Its `scheduledAt` in Unix milliseconds.
    pub scheduled_at: i64,
    /// Who started it.
    pub actor: Actor,
    /// The ids of its parent and of the parent's ancestors, the nearest first, as its actor names them.
    pub ancestors: Vec<String>,
}

impl Truth {
    /// Whether another execution started it.
    pub fn is_child(&self) -> bool {
        self.actor.kind == "testworkflow" || !self.ancestors.is_empty()
    }
}

/// The fake Testkube.
#[derive(Debug)]
pub struct Testkube {
    database: Database,
    control_plane: Option<ControlPlane>,
    executions: Vec<Execution>,
    /// The places among them, by id and by name.
    places: BTreeMap<String, Vec<usize>>,
    numbers: BTreeMap<String, u32>,
    /// How far the times that it writes are from UTC, in minutes.
    offset: i32,
    keeps_order: bool,
    faults: Faults<Route, Fault>,
    unreadable: BTreeMap<String, u16>,
    /// The ids of what was run again.
    reruns: Vec<String>,
    requests: Vec<Recorded>,
    preflights: Vec<Recorded>,
    /// How far its clock is ahead, in milliseconds.
    ahead: i64,
    /// The number of requests so far, including those taken out.
    handled: u64,
}

#[derive(Debug)]
struct ControlPlane {
    prefix: Vec<String>,
    token: String,
}

impl Testkube {
    /// An API server in the cluster: under `/v1`, open to everyone.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            control_plane: None,
            executions: Vec::new(),
            places: BTreeMap::new(),
            numbers: BTreeMap::new(),
            offset: 0,
            keeps_order: false,
            faults: Faults::default(),
            unreadable: BTreeMap::new(),
            reruns: Vec::new(),
            requests: Vec::new(),
            preflights: Vec::new(),
            ahead: 0,
            handled: 0,
        }
    }

    /// The control plane's form: under `/organizations/{organization}/environments/{environment}/agent`, and 401
    /// without the bearer token.
    pub fn control_plane(database: Database, organization: &str, environment: &str, token: &str) -> Self {
        let prefix = ["organizations", organization, "environments", environment, "agent"];
        let prefix = prefix.iter().map(|segment| (*segment).to_owned()).collect();
        Self { control_plane: Some(ControlPlane { prefix, token: token.into() }), ..Self::new(database) }
    }

    /// Writes times with this offset from UTC, as a process in another time zone does with PostgreSQL.
    pub fn in_time_zone(mut self, minutes: i32) -> Self {
        self.offset = minutes;
        self
    }

    /// Lists executions of one time in the same order until one of them changes, instead of anew with each call.
    pub fn keeps_order(mut self) -> Self {
        self.keeps_order = true;
        self
    }

    /// Adds an execution, with the next number of its workflow, and returns its id.
    pub fn add(&mut self, mut execution: Execution) -> String {
        let number = self.numbers.entry(execution.workflow.clone()).or_default();
        *number += 1;
        execution.number = *number;
        execution.name = format!("{}-{number}", execution.workflow);
        let seconds = execution.scheduled().div_euclid(1000) & 0xffff_ffff;
        execution.id = format!("{seconds:08x}e1c4b0a7f3{:06x}", self.executions.len() + 1);
        let id = execution.id.clone();
        for called in [&id, &execution.name] {
            self.places.entry(called.clone()).or_default().push(self.executions.len());
        }
        self.executions.push(execution);
        id
    }

    /// Rewrites the script of an execution, so that a test can continue its story; false if there is no such execution.
    pub fn change(&mut self, id: &str, rewrite: impl FnOnce(Execution) -> Execution) -> bool {
        match self.by_id(id) {
            Some(execution) => {
                *execution = rewrite(execution.clone());
                true
            }
            None => false,
        }
    }

    /// The executions that really have this tag at `now`, in the order they were added.
    pub fn truth(&self, tag_key: &str, tag_value: &str, now: i64) -> Vec<Truth> {
        let tagged = |state: &State| state.tags.get(tag_key).is_some_and(|value| value == tag_value);
        let truth = |state: State| Truth {
            id: state.execution.id.clone(),
            name: state.execution.name.clone(),
            workflow: state.execution.workflow.clone(),
            number: state.execution.number,
            status: state.status.clone(),
            finished: state.finished_at.is_some(),
            scheduled_at: state.execution.scheduled(),
            actor: state.execution.actor.clone(),
            ancestors: state.execution.ancestors(),
        };
        self.visible(now).into_iter().filter(tagged).map(truth).collect()
    }

    /// When the executions that have this tag at any time were scheduled, in Unix milliseconds.
    pub fn scheduled(&self, tag_key: &str, tag_value: &str) -> Vec<i64> {
        let tagged = self.executions.iter().filter(|execution| execution.ever_has(tag_key, tag_value));
        tagged.map(Execution::scheduled).collect()
    }

    /// Its clock is that much ahead from now on, as far as its answers say when they were sent.
    pub fn set_clock_ahead(&mut self, millis: i64) {
        self.ahead = millis;
    }

    /// The requests of preflights, which are in no other list.
    pub fn preflights(&self) -> &[Recorded] {
        &self.preflights
    }

    /// Every request ever got, oldest first.
    pub fn requests(&self) -> &[Recorded] {
        &self.requests
    }

    /// Takes the requests since the last call out of the record: for tests with many.
    pub fn take_requests(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests)
    }

    /// Arms a fault. Per request the oldest matching fault strikes.
    pub fn fault(&mut self, route: Route, span: Span, fault: Fault) {
        self.faults.arm(route, span, fault);
    }

    /// From now on a request for this execution's id is an error with this status; the list still has it.
    pub fn unreadable(&mut self, id: &str, status: u16) {
        self.unreadable.insert(id.into(), status);
    }

    /// Disarms all faults.
    pub fn clear_faults(&mut self) {
        self.faults.clear(|_| true);
    }

    /// Disarms the faults of one route.
    pub fn clear_faults_of(&mut self, route: Route) {
        self.faults.clear(|armed| *armed == route);
    }

    fn by_id(&mut self, id: &str) -> Option<&mut Execution> {
        let mut places = self.places.get(id)?.iter();
        let place = *places.find(|place| self.executions.get(**place).is_some_and(|found| found.id == id))?;
        self.executions.get_mut(place)
    }

    fn visible(&self, now: i64) -> Vec<State<'_>> {
        self.executions.iter().filter_map(|execution| execution.state(now)).collect()
    }

    fn reply(&mut self, now: i64, request: &Request) -> Reply {
        if header_bytes(request) > HEADER_LIMIT {
            // fasthttp cannot read on after that, and closes.
            return text(431, "Request Header Fields Too Large").header("connection", "close").into();
        }
        let call = Call::parse(request.path(), self.control_plane.as_ref());
        let is_slow = matches!(call, Some(Call::Artifacts(_) | Call::Archive(_)));
        let route = match call {
            Some(Call::List(_)) => Route::List,
            Some(Call::Get { .. }) => Route::Get,
            Some(Call::Artifacts(_) | Call::Artifact(..) | Call::Archive(_)) => Route::Artifact,
            Some(Call::Logs(_)) => Route::Log,
            Some(Call::Abort(_)) => Route::Abort,
            Some(Call::Rerun(_)) => Route::Rerun,
            Some(Call::Info | Call::Health) | None => Route::All,
        };
        let fault =
            self.faults.strike(now, request.is_preflight(), |armed| *armed == route || *armed == Route::All);
        match fault {
            Some(fault) => fault.strike(is_slow, || self.answer(now, request)),
            None => self.answer(now, request).into(),
        }
    }

    fn answer(&mut self, now: i64, request: &Request) -> Response {
        let call = Call::parse(request.path(), self.control_plane.as_ref());
        if call != Some(Call::Health) && !self.is_authorized(request) {
            return wire::problem(401, "unauthorized");
        }
        let Some(call) = call else {
            return text(404, &format!("Cannot {} {}", request.method, request.path()));
        };
        if let (Call::Abort(id), "POST") = (&call, request.method.as_str()) {
            let id = (*id).to_owned();
            return self.abort(now, &id);
        }
        if let (Call::Rerun(id), "POST") = (&call, request.method.as_str()) {
            let id = (*id).to_owned();
            return self.rerun(now, &id, request);
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return text(405, "Method Not Allowed").header("allow", "GET, HEAD");
        }
        let response = wire::in_time_zone(self.get(now, call, request.query()), self.offset)
            .header("date", &timestamp::http(now + self.ahead));
        if request.method == "HEAD" { response.without_body() } else { response }
    }

    fn get(&self, now: i64, call: Call, query: &str) -> Response {
        match call {
            Call::Health => text(200, "OK 👋!"),
            Call::Info => wire::json_body(
                200,
                &serde_json::json!({"version": "2.12.2", "commit": "2b73b1310e", "namespace": "testkube",
                    "context": if self.control_plane.is_some() { "cloud" } else { "oss" }}),
            ),
            Call::List(workflow) => {
                let filter = Filter::parse(self.database, workflow, query, now);
                let call = Tie::Call(self.handled);
                let tie = if self.keeps_order { Tie::LastWritten } else { call };
                match filter.apply(&self.visible(now), tie) {
                    Ok(page) => wire::list(&page, self.database),
                    Err(error) => wire::problem(
                        502,
                        &format!(
                            "failed to list test workflow executions: get execution results: client problem: rpc \
                             error: code = Internal desc = {error}"
                        ),
                    ),
                }
            }
            Call::Get { id, .. } if self.unreadable.contains_key(id) => {
                let status = self.unreadable.get(id).copied().unwrap_or(500);
                wire::problem(status, &format!("failed to get execution {id}: injected"))
            }
            Call::Get { workflow, id } => {
                self.find(now, workflow, id, "get execution", |state| wire::full(&state, self.database))
            }
            Call::Logs(id) => self.find(now, None, id, "get execution", |state| match &state.execution.log {
                // The object's key is the path parameter, so an execution's name finds none; a running one has none.
                Some(log) if state.execution.id == id && state.status.is_terminal() => {
                    Response::with_body(200, "text/plain", log.clone())
                }
                _ => wire::problem(
                    500,
                    &format!(
                        "can't get log: {id}: error getting file from presigned url: expected 200 OK response code, got 404"
                    ),
                ),
            }),
            Call::Artifacts(id) => {
                let what = format!("failed to list artifacts for test workflow execution {id}");
                self.find(now, None, id, &what, |state| artifacts::list(state.execution, id))
            }
            Call::Artifact(id, name) => {
                self.find(now, None, id, "get execution", |state| artifacts::download(state.execution, name))
            }
            Call::Archive(id) => {
                self.find(now, None, id, "get execution", |state| artifacts::archive(state.execution, query))
            }
            Call::Abort(_) | Call::Rerun(_) => text(405, "Method Not Allowed"),
        }
    }

    /// `AbortTestWorkflowExecutionHandler`. An execution that runs ends as canceled (`agent_grpc_execution_updates.go`). On
    /// PostgreSQL one that is queued or assigned goes on: the update finds no row, which is no error
    /// (`controller_postgres.go`).
    fn abort(&mut self, now: i64, id: &str) -> Response {
        let is_postgres = self.database == Database::Postgres;
        let what = format!("failed to abort test workflow execution '{id}'");
        let Some((execution, status)) = self.by_id(id).and_then(|execution| {
            Some((execution.state(now)?.status.clone(), execution)).map(|(s, e)| (e, s))
        }) else {
            let why = "client not found: rpc error: code = NotFound desc =  not found";
            return wire::problem(404, &format!("{what}: {why}"));
        };
        match status {
            Status::Queued | Status::Assigned if is_postgres => Response::new(204),
            status if status.is_terminal() => {
                wire::problem(400, &format!("{what}: checking execution: execution already finished"))
            }
            _ => {
                execution.abort(now);
                Response::new(204)
            }
        }
    }

    /// Repositories match id or name.
    fn find(
        &self,
        now: i64,
        workflow: Option<&str>,
        id: &str,
        what: &str,
        then: impl FnOnce(State<'_>) -> Response,
    ) -> Response {
        let places = self.places.get(id).into_iter().flatten();
        let mut visible = places.filter_map(|place| self.executions.get(*place)?.state(now));
        let found =
            visible.find(|state| workflow.is_none_or(|workflow| workflow == state.execution.workflow));
        match found {
            Some(state) => then(state),
            None => {
                let why = "client not found: rpc error: code = NotFound desc =  not found";
                wire::problem(404, &format!("{what}: {why}"))
            }
        }
    }

    fn is_authorized(&self, request: &Request) -> bool {
        let Some(control_plane) = &self.control_plane else { return true };
        let authorization = request.value("authorization").unwrap_or_default();
        let (scheme, token) = authorization.split_once(' ').unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer") && token == control_plane.token
    }
}

impl Service for Testkube {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        let reply = self.reply(now, request);
        self.handled += 1;
        let recorded = Recorded { at: now, request: request.clone(), status: reply.status() };
        match request.is_preflight() {
            true => self.preflights.push(recorded),
            false => self.requests.push(recorded),
        }
        reply
    }
}

/// A route with its raw parameters.
#[derive(Debug, PartialEq, Eq)]
enum Call<'a> {
    Health,
    Info,
    List(Option<&'a str>),
    Get { workflow: Option<&'a str>, id: &'a str },
    Logs(&'a str),
    Artifacts(&'a str),
    Artifact(&'a str, &'a str),
    Archive(&'a str),
    Abort(&'a str),
    Rerun(&'a str),
}

impl<'a> Call<'a> {
    /// Fiber's defaults: any case, one trailing slash ignored, a parameter is one raw segment.
    fn parse(path: &'a str, control_plane: Option<&ControlPlane>) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        if let [health] = segments[..]
            && health.eq_ignore_ascii_case("health")
        {
            return Some(Self::Health);
        }
        let open = [String::from("v1")];
        let prefix = control_plane.map_or(&open[..], |control_plane| &control_plane.prefix);
        let (head, rest) = segments.split_at_checked(prefix.len())?;
        if !head.iter().zip(prefix).all(|(a, b)| a.eq_ignore_ascii_case(b)) {
            return None;
        }
        let literal: Vec<String> = rest.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let literal: Vec<&str> = literal.iter().map(String::as_str).collect();
        match (&literal[..], rest) {
            (["info"], _) => Some(Self::Info),
            (["test-workflow-executions"], _) => Some(Self::List(None)),
            (["test-workflows", _, "executions"], [_, workflow, _]) => Some(Self::List(Some(workflow))),
            (["test-workflow-executions", _], [_, id]) if !id.is_empty() => {
                Some(Self::Get { workflow: None, id })
            }
            (["test-workflows", _, "executions", _], [_, workflow, _, id]) => {
                Some(Self::Get { workflow: Some(workflow), id })
            }
            (["test-workflow-executions", _, "logs"], [_, id, _])
            | (["test-workflows", _, "executions", _, "logs"], [_, _, _, id, _]) => Some(Self::Logs(id)),
            (["test-workflow-executions", _, "artifacts"], [_, id, _]) => Some(Self::Artifacts(id)),
            (["test-workflow-executions", _, "artifacts", _], [_, id, _, name]) if !name.is_empty() => {
                Some(Self::Artifact(id, name))
            }
            (["test-workflow-executions", _, "artifact-archive"], [_, id, _]) => Some(Self::Archive(id)),
            (["test-workflow-executions", _, "abort"], [_, id, _]) => Some(Self::Abort(id)),
            (["test-workflow-executions", _, "rerun"], [_, id, _]) => Some(Self::Rerun(id)),
            _ => None,
        }
    }
}

fn header_bytes(request: &Request) -> usize {
    let line = request.method.len() + request.target.len() + " HTTP/1.1\r\n".len() + 1;
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    line + headers + 2
}

fn text(status: u16, body: &str) -> Response {
    Response::with_body(status, "text/plain; charset=utf-8", body)
}

#[cfg(test)]
mod tests;
