//! An Azure DevOps (Services or Server) as a state machine: what a check's receiver talks to.
//!
//! Sources: the recorded exchanges of the REST specification (`distributedTask/7.2/httpExamples`), the open client code of
//! actions/runner, and requests recorded from Microsoft's own clients. Where the server is known to accept more than the
//! documents allow, this fake is stricter, to find mistakes.

mod answer;
mod authorization;
mod build;
mod discovery;
mod fault;
mod plan;
mod record;
mod route;

pub use build::{Build, Stage};
pub use fault::{Fault, Route};
pub use plan::Event;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use plan::Plan;
use route::{Call, PlanResource};

use crate::fault::{Faults, Span};
use crate::http::{Recorded, Reply, Request, Response, Service};

/// A check that Azure DevOps has sent and now waits for; the ids are GUIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// `ProjectId`.
    pub project: String,
    /// `HubName`: `checks` for checks.
    pub hub: String,
    /// `PlanId`.
    pub plan: String,
    /// `JobId`.
    pub job: String,
    /// `TimelineId`.
    pub timeline: String,
    /// `TaskInstanceId`: the id of the task's timeline record.
    pub task: String,
    /// `AuthToken`.
    pub token: String,
    /// The build whose stage waits, if the test needs one: it is made, unless it is there.
    pub build: Option<u64>,
}

/// The answer to a token that may do nothing at a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtPlans {
    /// 403: it is known and may not.
    Forbidden,
    /// 404: as if there were no such plan.
    Hidden,
}

/// The fake Azure DevOps.
#[derive(Debug)]
pub struct AzureDevOps {
    base: Vec<String>,
    newest_version: (u32, u32),
    page_instead_of_redirect: bool,
    identity: Option<String>,
    readers: BTreeMap<String, AtPlans>,
    plans: BTreeMap<String, Plan>,
    /// The plans that have known a token.
    holders: BTreeMap<String, BTreeSet<String>>,
    /// By project, in lower case, and id.
    builds: BTreeMap<(String, u64), Build>,
    faults: Faults<(Route, Option<String>), Fault>,
    requests: Vec<Recorded>,
    preflights: Vec<Recorded>,
    double_slash_seen: bool,
}

impl AzureDevOps {
    /// A server whose collection lies at this path: `/fabrikam`, `/tfs/DefaultCollection`.
    pub fn new(collection: &str) -> Self {
        Self {
            base: collection.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect(),
            newest_version: (7, 2),
            page_instead_of_redirect: false,
            identity: None,
            readers: BTreeMap::new(),
            plans: BTreeMap::new(),
            holders: BTreeMap::new(),
            builds: BTreeMap::new(),
            faults: Faults::default(),
            requests: Vec::new(),
            preflights: Vec::new(),
            double_slash_seen: false,
        }
    }

    /// Refuses newer api-versions: Server 2019 knows up to 5.0, 2020 up to 6.0, 2022 up to 7.0 (2022.1: 7.1).
    pub fn newest_api_version(mut self, major: u32, minor: u32) -> Self {
        self.newest_version = (major, minor);
        self
    }

    /// Whether a request without a good token gets 203 and a page instead of 302.
    pub fn answer_sign_in_page(&mut self, page_instead_of_redirect: bool) {
        self.page_instead_of_redirect = page_instead_of_redirect;
    }

    /// Makes a check wait for its decision from `at` on.
    ///
    /// If the plan exists, this adds a task to it; if the task exists too, it waits again, with the new token beside the
    /// old ones.
    pub fn start_check(&mut self, at: i64, spec: CheckSpec) {
        let spec = CheckSpec {
            project: spec.project.to_ascii_lowercase(),
            plan: spec.plan.to_ascii_lowercase(),
            job: spec.job.to_ascii_lowercase(),
            timeline: spec.timeline.to_ascii_lowercase(),
            task: spec.task.to_ascii_lowercase(),
            ..spec
        };
        if let Some(id) = spec.build
            && self.build(&spec.project, &id.to_string()).is_none()
        {
            self.add_build(Build::new(&spec.project, id).started_at(at));
        }
        self.holders.entry(spec.token.clone()).or_default().insert(spec.plan.clone());
        let plan = self.plans.entry(spec.plan.clone()).or_insert_with(|| Plan::new(&spec));
        plan.start_task(at, &spec);
    }

    /// Adds a build, or replaces the one of that id.
    pub fn add_build(&mut self, build: Build) {
        self.builds.insert((build.project.to_ascii_lowercase(), build.id), build);
    }

    /// Adds a record to a plan's timeline; false when there is no such plan.
    pub fn add_record(&mut self, plan: &str, record: &str) -> bool {
        self.with_plan(plan, |plan| plan.add_record(record))
    }

    /// Adds an empty log to a plan under a chosen id; false when there is no such plan.
    pub fn add_log(&mut self, plan: &str, at: i64, id: u64, path: &str) -> bool {
        self.with_plan(plan, |plan| plan.add_log(at, id, path))
    }

    /// Adds a token that may complete checks at every plan: a person's, or a service principal's.
    pub fn know_identity(&mut self, token: &str) {
        self.identity = Some(token.to_owned());
    }

    /// Adds a token that may read every build and do nothing at any plan: another run's, or a person's.
    pub fn know_reader(&mut self, token: &str, at_plans: AtPlans) {
        self.readers.insert(token.to_owned(), at_plans);
    }

    /// A token ends at this time: a check's, or a reader's, which is unknown at once.
    pub fn expire_token(&mut self, token: &str, at: i64) {
        self.readers.remove(token);
        for known in self.plans.values_mut().flat_map(|plan| &mut plan.tokens).filter(|t| t.text == token) {
            known.expires_at = Some(at);
        }
    }

    /// Somebody completes a check without its event, at `at`, as by a bypass: its record gets this result, and events find no
    /// session, until it is evaluated again. False when there is no such check.
    pub fn complete_check(&mut self, spec: &CheckSpec, at: i64, result: &str) -> bool {
        let plan = self.plans.get_mut(&spec.plan.to_ascii_lowercase());
        plan.is_some_and(|plan| plan.complete_task(&spec.task, at, result))
    }

    /// Ends a plan at `at` without an event (run cancelled, check timed out, another check failed): its records are
    /// completed with this result, and events find no session. False when there is no such plan.
    pub fn end_plan(&mut self, plan: &str, at: i64, result: &str) -> bool {
        self.with_plan(plan, |plan| plan.ended = Some((at, result.into())))
    }

    /// Makes a plan unknown from `at` on; false when there is no such plan.
    pub fn delete_plan(&mut self, plan: &str, at: i64) -> bool {
        self.with_plan(plan, |plan| plan.deleted_at = Some(at))
    }

    /// Arms a fault. Per request the oldest matching fault strikes.
    pub fn fault(&mut self, route: Route, span: Span, fault: Fault) {
        self.faults.arm((route, None), span, fault);
    }

    /// The same for the requests of one project: Azure DevOps throttles by identity and project.
    pub fn fault_of_project(&mut self, project: &str, route: Route, span: Span, fault: Fault) {
        self.faults.arm((route, Some(project.to_ascii_lowercase())), span, fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&mut self) {
        self.faults.clear(|_| true);
    }

    /// Disarms the faults of one route.
    pub fn clear_faults_of(&mut self, route: Route) {
        self.faults.clear(|(armed, _)| *armed == route);
    }

    /// Every attempt to post an event to a plan, refused ones included.
    pub fn events(&self, plan: &str) -> Vec<Event> {
        self.plan(plan).map(|plan| plan.events.clone()).unwrap_or_default()
    }

    /// The lines of all logs of a plan.
    pub fn log_lines(&self, plan: &str) -> Vec<String> {
        self.plan(plan).map(Plan::log_lines).unwrap_or_default()
    }

    /// The lines that were fed to the live console of a plan.
    pub fn feed_lines(&self, plan: &str) -> &[String] {
        self.plan(plan).map(Plan::feed_lines).unwrap_or_default()
    }

    /// A timeline record as a client would read it at `now`.
    pub fn record(&self, plan: &str, record: &str, now: i64) -> Option<Value> {
        self.plan(plan)?.record(record, now)
    }

    /// An attachment of a timeline record.
    pub fn attachment(&self, plan: &str, record: &str, kind: &str, name: &str) -> Option<&[u8]> {
        self.plan(plan)?.attachment(record, kind, name)
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

    /// Whether a path with an empty segment was seen: accepted, but no careful client sends one.
    pub fn double_slash_seen(&self) -> bool {
        self.double_slash_seen
    }

    fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.get(&id.to_ascii_lowercase())
    }

    fn with_plan(&mut self, id: &str, change: impl FnOnce(&mut Plan)) -> bool {
        self.plans.get_mut(&id.to_ascii_lowercase()).map(change).is_some()
    }

    fn build(&self, project: &str, id: &str) -> Option<&Build> {
        self.builds.get(&(project.to_ascii_lowercase(), id.parse().ok()?))
    }

    fn answer(&mut self, now: i64, call: Option<&Call>, request: &Request) -> Response {
        let Some(call) = call else {
            return answer::failure(
                404,
                "ControllerNotFoundException",
                "The controller for path was not found.",
            );
        };
        match (request.method.as_str(), call) {
            ("OPTIONS", _) => return discovery::locations(),
            ("GET", Call::ResourceAreas) => return discovery::resource_areas(),
            ("GET", Call::Organisation) => return self.organisation(request),
            (_, Call::Locations | Call::ResourceAreas | Call::Organisation) => {
                return answer::failure(
                    405,
                    "HttpRequestException",
                    "This resource does not support this method.",
                );
            }
            _ => {}
        }
        let reader = authorization::presented(request).and_then(|token| self.readers.get(&token));
        if let (Some(at_plans), Call::Plan { plan, .. }) = (reader, call) {
            return authorization::closed_plan(plan, *at_plans);
        }
        let may_read = reader.is_some() && request.method == "GET";
        if !may_read && !self.is_authorized(now, call, request) {
            return authorization::refusal(request, &self.base_path(), self.page_instead_of_redirect);
        }
        if let Some(refusal) = self.refused_version(request) {
            return refusal;
        }
        match call {
            Call::Plan { project, hub, plan, resource } => {
                let found = self.plans.get_mut(&plan.to_ascii_lowercase()).filter(|found| {
                    found.project.eq_ignore_ascii_case(project)
                        && found.hub.eq_ignore_ascii_case(hub)
                        && found.deleted_at.is_none_or(|at| now < at)
                });
                match found {
                    Some(found) => found.answer(now, resource, request),
                    None => {
                        let message = format!("No plan found for identifier {plan}.");
                        answer::failure(404, "TaskOrchestrationPlanNotFoundException", &message)
                    }
                }
            }
            Call::Build { project, id } if request.method == "PATCH" => {
                self.cancel_build(now, project, id, request)
            }
            Call::Build { project, id } => self.answer_build(project, id, |build| build.describe(now)),
            Call::Timeline { project, id } => self.answer_build(project, id, |build| build.timeline(now)),
            Call::Locations | Call::ResourceAreas | Call::Organisation => Response::new(405),
        }
    }

    /// Who is called, and which projects it has: the organisation has no public ones, so only an identity may read them.
    fn organisation(&self, request: &Request) -> Response {
        let presented = authorization::presented(request);
        match presented.is_some() && presented == self.identity {
            true => answer::ok(&serde_json::json!({"count": 0, "value": []})),
            false => authorization::refusal(request, &self.base_path(), self.page_instead_of_redirect),
        }
    }

    /// `Builds - Update Build`: this fake accepts only the member `status`, and only `cancelling`.
    fn cancel_build(&mut self, now: i64, project: &str, id: &str, request: &Request) -> Response {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let is_json = request.value("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !is_json || body != serde_json::json!({"status": "cancelling"}) {
            return answer::failure(400, "InvalidArgumentValueException", "Value cannot be changed.");
        }
        let place = id.parse().ok().map(|id: u64| (project.to_ascii_lowercase(), id));
        if let Some(build) = place.and_then(|place| self.builds.get_mut(&place)) {
            build.cancel(now);
        }
        self.answer_build(project, id, |build| build.describe(now))
    }

    /// Whether a build is being cancelled, or has been.
    pub fn is_cancelled(&self, project: &str, id: u64, now: i64) -> bool {
        self.build(project, &id.to_string())
            .is_some_and(|build| build.describe(now)["status"] == "cancelling")
    }

    fn answer_build(&self, project: &str, id: &str, describe: impl FnOnce(&Build) -> Value) -> Response {
        match self.build(project, id) {
            Some(build) => answer::ok(&describe(build)),
            None => answer::failure(
                404,
                "BuildNotFoundException",
                &format!("The requested build {id} could not be found."),
            ),
        }
    }

    /// A plan accepts the tokens of its own checks, a build those of any check of its project. The real server would accept
    /// any token with access to the project; here a token in the wrong place is a mistake to find.
    fn is_authorized(&self, now: i64, call: &Call, request: &Request) -> bool {
        let Some(presented) = authorization::presented(request) else { return false };
        let is_identity = self.identity.as_deref() == Some(presented.as_str());
        let is_good =
            |plan: &Plan| is_identity || plan.tokens.iter().any(|token| token.is_good(&presented, now));
        let is_of = |plan: &Plan, project: &str| plan.project.eq_ignore_ascii_case(project);
        let is_good_in = |project: &str| match is_identity {
            true => self.plans.values().any(|plan| is_of(plan, project)),
            false => {
                let plans = self.holders.get(&presented).into_iter().flatten();
                plans
                    .filter_map(|plan| self.plans.get(plan))
                    .any(|plan| is_of(plan, project) && is_good(plan))
            }
        };
        match call {
            Call::Plan { plan, project, .. } => match self.plan(plan) {
                Some(plan) => is_good(plan),
                None => is_good_in(project),
            },
            Call::Build { project, .. } | Call::Timeline { project, .. } => is_good_in(project),
            Call::Locations | Call::ResourceAreas | Call::Organisation => true,
        }
    }

    fn refused_version(&self, request: &Request) -> Option<Response> {
        let Some(version) = route::api_version(request) else {
            let message = format!(
                "No api-version was supplied for the \"{}\" request. The version must be supplied either as part of \
                 the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \
                 \"?api-version=1.0\").",
                request.method
            );
            return Some(answer::failure(400, "VssVersionNotSpecifiedException", &message));
        };
        match route::major_minor(&version) {
            Some(asked) if asked <= self.newest_version => None,
            _ => {
                let (major, minor) = self.newest_version;
                let message =
                    format!("The requested REST API version {version} is out of range: {major}.{minor}.");
                Some(answer::failure(400, "VssVersionOutOfRangeException", &message))
            }
        }
    }

    fn base_path(&self) -> String {
        self.base.iter().map(|segment| format!("/{segment}")).collect()
    }

    fn record_event(&mut self, now: i64, plan: &str, request: &Request, accepted: bool) {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let event = Event {
            at: now,
            name: text("name").unwrap_or_default(),
            result: text("result"),
            task: text("taskId").unwrap_or_default(),
            job: text("jobId").unwrap_or_default(),
            token_used: authorization::presented(request),
            accepted,
        };
        self.with_plan(plan, |plan| plan.events.push(event));
    }
}

impl Service for AzureDevOps {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        self.double_slash_seen |= request.path().contains("//");
        let call = Call::parse(&self.base, request.path());
        let route = call.as_ref().map_or(Route::All, |call| fault_route(call, &request.method));
        let project = call.as_ref().and_then(Call::project).map(str::to_ascii_lowercase);
        let fault = self.faults.strike(now, request.is_preflight(), |(armed, of_project)| {
            (*armed == route || *armed == Route::All) && (of_project.is_none() || *of_project == project)
        });
        let mut took_effect = false;
        let mut effect = || {
            let response = self.answer(now, call.as_ref(), request);
            took_effect = response.status == 204;
            if request.method == "HEAD" { response.without_body() } else { response }
        };
        let reply = match fault {
            Some(fault) => fault.strike(now, effect),
            None => effect().into(),
        };
        if let Some(Call::Plan { plan, resource: PlanResource::Events, .. }) = &call {
            self.record_event(now, plan, request, took_effect);
        }
        let recorded = Recorded { at: now, request: request.clone(), status: reply.status() };
        match request.is_preflight() {
            true => self.preflights.push(recorded),
            false => self.requests.push(recorded),
        }
        reply
    }
}

fn fault_route(call: &Call, method: &str) -> Route {
    match call {
        Call::Plan { resource, .. } => match resource {
            PlanResource::Events => Route::Events,
            PlanResource::Logs if method == "POST" => Route::LogCreate,
            PlanResource::Log(_) => Route::LogAppend,
            PlanResource::Records { .. } => Route::Records,
            _ => Route::All,
        },
        Call::Build { .. } if method == "PATCH" => Route::CancelBuild,
        Call::Build { .. } => Route::Build,
        Call::Timeline { .. } => Route::Timeline,
        Call::Locations | Call::ResourceAreas | Call::Organisation => Route::All,
    }
}

#[cfg(test)]
mod tests;
