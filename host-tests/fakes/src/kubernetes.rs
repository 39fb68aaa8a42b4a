//! A Kubernetes API server as a state machine, as far as a store of Secrets and Leases needs one.
//!
//! It keeps both for any number of namespaces, with versions, uids, pages that show the state of the first one, selectors,
//! metadata alone, preconditions, bearer tokens, roles and quotas. Source: 175 requests to a kube-apiserver 1.36.3 and its answers
//! (`fixtures/kubernetes-exchanges.json`), each of which is put to this one too; the same behaviour is asked of both in
//! `host-tests/kubernetes/tests`. It has no watch, no PATCH, no delete of a collection, no tables, no YAML and no check for unknown
//! or double members: the module asks for none of them.

mod access;
mod call;
mod change;
mod fault;
mod object;
mod quota;
mod read;
mod selector;
mod status;
mod store;
mod valid;
mod view;
mod write;

pub use access::Token;
pub use call::{Resource, Verb};
pub use change::Change;
pub use fault::{Fault, Route};
pub use quota::Quota;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use access::{Access, User};
use call::{Call, Found, Options, Probe, Target};
use quota::Namespace;
use store::Store;
use view::View;
use write::Write;

use crate::fault::{Faults, Span};
use crate::http::{Recorded, Reply, Request, Response, Service};

/// The fake API server.
#[derive(Debug, Default)]
pub struct Kubernetes {
    store: Store,
    access: Access,
    namespaces: BTreeMap<String, Namespace>,
    faults: Faults<Route, Fault>,
    /// Requests that are done later, with their times.
    late: Vec<(i64, Request)>,
    requests: Vec<Recorded>,
    /// The writes that were done, if they are kept.
    changes: Option<Vec<Change>>,
    /// How many requests there have been.
    handled: u64,
    /// How many names were made up.
    generated: u64,
}

/// All objects at one time, to set a server back to it.
#[derive(Clone, Debug)]
pub struct Backup(Store);

impl Kubernetes {
    /// With this namespace, and a token of its account `testrelay` that may do there what the module needs, and nothing else.
    pub fn new(namespace: &str, token: &str) -> Kubernetes {
        let mut kubernetes = Kubernetes::default();
        kubernetes.namespace(namespace);
        let account = Token::of(namespace, "testrelay");
        for resource in [Resource::Secrets, Resource::Leases] {
            kubernetes.allow(&account, namespace, resource, &Verb::NEEDED);
        }
        kubernetes.token(token, account);
        kubernetes
    }

    /// Makes a namespace.
    pub fn namespace(&mut self, name: &str) {
        self.namespaces.entry(name.to_owned()).or_default();
    }

    /// From now on the namespace is being deleted: nothing new is made in it.
    pub fn end_namespace(&mut self, name: &str) {
        self.namespaces.entry(name.to_owned()).or_default().is_ending = true;
    }

    /// Knows a token from now on.
    pub fn token(&mut self, text: &str, token: Token) {
        self.access.set_token(text, token);
    }

    /// Knows a token no more, as when its account is deleted.
    pub fn remove_token(&mut self, text: &str) {
        self.access.remove_token(text);
    }

    /// A role of a token's account.
    pub fn allow(&mut self, token: &Token, namespace: &str, resource: Resource, verbs: &[Verb]) {
        self.access.allow(token, namespace, resource, verbs);
    }

    /// Takes a verb from all roles of a token's account.
    pub fn forbid(&mut self, token: &Token, verb: Verb) {
        self.access.forbid(token, verb);
    }

    /// From now on a request without credentials is 401, and not anybody's.
    pub fn refuse_anonymous(&mut self) {
        self.access.refuses_anonymous = true;
    }

    /// Sets a namespace's quota. It is enforced once the controller has counted, see [`Kubernetes::count`].
    pub fn quota(&mut self, namespace: &str, quota: Quota) {
        self.namespaces.entry(namespace.to_owned()).or_default().quota = Some(quota);
    }

    /// The controller of quotas counts a namespace's Secrets now.
    pub fn count(&mut self, namespace: &str) {
        let used = self.store.count(Resource::Secrets, namespace);
        if let Some(quota) = self.namespaces.get_mut(namespace).and_then(|found| found.quota.as_mut()) {
            quota.counted(used);
        }
    }

    /// Forgets all states but the present one: a list that has begun cannot go on as it began.
    pub fn compact(&mut self) {
        self.store.compact(self.store.version() + 1);
    }

    /// All objects as they are now.
    pub fn backup(&self) -> Backup {
        Backup(self.store.clone())
    }

    /// Sets all objects and their versions back.
    pub fn restore(&mut self, backup: Backup) {
        self.store.set_back(backup.0);
    }

    /// What a namespace has at `now`, by name.
    pub fn objects(&mut self, now: i64, resource: Resource, namespace: &str) -> Vec<Value> {
        self.come_to(now);
        let objects = self.store.at(resource, namespace, self.store.version(), "");
        objects.map(|object| object.whole(resource)).collect()
    }

    /// Does what somebody else with all rights asks for: no fault strikes it, and it is not among [`Kubernetes::requests`].
    pub fn act(&mut self, now: i64, request: &Request) -> Reply {
        self.come_to(now);
        self.serve(now, request, &User::administrator(), false)
    }

    /// Every request ever got, oldest first.
    pub fn requests(&self) -> &[Recorded] {
        &self.requests
    }

    /// Hands over the requests that were got since it was last asked, and keeps them no longer: for tests with many.
    pub fn take_requests(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests)
    }

    /// Arms a fault; the oldest that fits strikes, one per request.
    pub fn fault(&mut self, route: Route, span: Span, fault: Fault) {
        self.faults.arm(route, span, fault);
    }

    /// Disarms all faults. What is done later is done all the same.
    pub fn clear_faults(&mut self) {
        self.faults.clear(|_| true);
    }

    /// What was to be done by now is done.
    fn come_to(&mut self, now: i64) {
        self.late.sort_by_key(|(at, _)| *at);
        let due = self.late.partition_point(|(at, _)| *at <= now);
        for (at, request) in self.late.drain(..due).collect::<Vec<_>>() {
            self.answer(at, &request);
        }
        let due = |namespace: &Namespace| namespace.quota.as_ref().is_some_and(|quota| quota.is_due(now));
        let due: Vec<String> = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| due(namespace))
            .map(|(name, _)| name.clone())
            .collect();
        due.iter().for_each(|namespace| self.count(namespace));
        self.store.age(now);
    }

    fn answer(&mut self, now: i64, request: &Request) -> Reply {
        self.answer_in(now, request, false)
    }

    fn answer_in(&mut self, now: i64, request: &Request, forgets: bool) -> Reply {
        match self.access.user(now, request) {
            Some(user) => self.serve(now, request, &user, forgets),
            None => status::unauthorized().into(),
        }
    }

    /// What keeps a request from being looked at: 401 or 403.
    fn refusal(&self, now: i64, request: &Request) -> Option<Response> {
        match (self.access.user(now, request), Call::of(request)) {
            (None, _) => Some(status::unauthorized()),
            (Some(user), Call::Resource(target, found)) => self.forbids(&user, &target, found),
            _ => None,
        }
    }

    fn forbids(&self, user: &User, target: &Target, found: Found) -> Option<Response> {
        let resource = match found {
            Found::Resource(resource) => Some(resource),
            Found::NoResource | Found::NoGroup => None,
        };
        if self.access.allows(user, target, resource) {
            return None;
        }
        let refusal = status::forbidden(target, &user.name);
        let warning = "299 - \"the provided Authorization header contains extra space before the bearer token, and is \
                       ignored\"";
        Some(if user.is_misread { refusal.header("warning", warning) } else { refusal })
    }

    fn serve(&mut self, now: i64, request: &Request, user: &User, forgets: bool) -> Reply {
        match Call::of(request) {
            Call::Open(Probe::Version) => status::json_body(200, &version()).into(),
            Call::Open(Probe::Ready | Probe::Live) => status::text(200, "ok").into(),
            Call::OwnRules if user.is_anonymous() => {
                status::forbidden_path(request.path(), &user.name).into()
            }
            Call::OwnRules => self.own_rules(request, user).into(),
            Call::Path(path) if user.is_anonymous() => status::forbidden_path(&path, &user.name).into(),
            Call::Path(_) => status::text(404, "404 page not found\n").into(),
            Call::Resource(target, found) => {
                if let Some(refusal) = self.forbids(user, &target, found) {
                    return refusal.into();
                }
                match found {
                    Found::NoGroup => status::text(404, "404 page not found\n").into(),
                    Found::NoResource => {
                        let message = "the server could not find the requested resource";
                        status::failure(404, "NotFound", message, json!({})).into()
                    }
                    Found::Resource(resource) => self.on(now, request, resource, &target, forgets),
                }
            }
        }
    }

    /// What a user may do in the namespace that the body names.
    fn own_rules(&self, request: &Request, user: &User) -> Response {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let Some(namespace) = body["spec"]["namespace"].as_str() else {
            return status::bad_request("no namespace on request");
        };
        let review = json!({
            "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {}, "spec": {}, "status": self.access.rules(user, namespace),
        });
        status::json_body(201, &review)
    }

    /// On a resource that is kept, by somebody who may.
    fn on(
        &mut self,
        now: i64,
        request: &Request,
        resource: Resource,
        target: &Target,
        forgets: bool,
    ) -> Reply {
        let options = Options::of(request);
        let Target { namespace, name, verb, .. } = target;
        let is_read = matches!(verb, Verb::Get | Verb::List);
        let has_name = !name.is_empty();
        let fits = match verb {
            Verb::Get | Verb::List => request.method == "GET",
            Verb::Create => !has_name,
            Verb::Update | Verb::Delete => has_name,
            Verb::Watch | Verb::Patch | Verb::DeleteCollection => false,
        };
        if !fits {
            let message = "the server does not allow this method on the requested resource";
            let refusal = status::failure(405, "MethodNotAllowed", message, json!({}));
            return if request.method == "HEAD" { refusal.without_body() } else { refusal }.into();
        }
        if options.timeout().is_none() {
            let text = options.get("timeout").unwrap_or_default();
            let why =
                format!("invalid timeout specified in the request URL - time: invalid duration \"{text}\"");
            return status::bad_request(&why).into();
        }
        let view = match View::of(request) {
            Ok(view) => view,
            Err(refusal) => return refusal.into(),
        };
        if is_read && has_name {
            return self.get(&options, view, resource, namespace, name);
        }
        if is_read {
            return self.list(&options, view, resource, namespace, forgets);
        }
        let write = Write { now, request, options: &options, view, resource, namespace };
        self.change(&write, verb, name).unwrap_or_else(|refusal| refusal).into()
    }
}

impl Service for Kubernetes {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        self.come_to(now);
        let fault = self.faults.strike(now, request.is_preflight(), |route| route.has(request));
        let reply = match fault {
            Some(fault) => self.strike(fault, now, request),
            None => self.answer(now, request),
        };
        self.handled += 1;
        self.requests.push(Recorded { at: now, request: request.clone(), status: reply.status() });
        signed(reply, self.handled)
    }
}

/// With the headers that every answer has.
fn signed(reply: Reply, number: u64) -> Reply {
    let sign = |response: Response| {
        let id = format!("{number:08x}-a0d1-4000-8000-{number:012x}");
        response.header("audit-id", &id).header("cache-control", "no-cache, private")
    };
    match reply {
        Reply::Answer(response) => Reply::Answer(sign(response)),
        Reply::Truncated { response, bytes } => Reply::Truncated { response: sign(response), bytes },
        Reply::Dribble { response, chunk, millis } => {
            Reply::Dribble { response: sign(response), chunk, millis }
        }
        Reply::After { millis, reply } => Reply::After { millis, reply: Box::new(signed(*reply, number)) },
        Reply::Reset => Reply::Reset,
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": "v1.36.3", "gitCommit": "$Format:%H$", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.8", "compiler": "gc", "platform": "linux/amd64",
    })
}

#[cfg(test)]
mod tests;
