//! One namespace of a server, fake or real, and who asks there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use fakes::kubernetes::{Quota, Resource, Token, Verb};
use fakes::{Delayed, Identity, Kubernetes, Request, Response, Server};
use host_tests::wait_until;
use kubernetes::{ApiServer, Client};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const ADMINISTRATOR: &str = "administrator's";

/// Which server.
#[derive(Clone)]
pub(crate) enum Kind {
    Fake,
    Real(Arc<ApiServer>),
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Fake => "fake",
            Kind::Real(_) => "real",
        }
    }
}

/// A namespace of its own for each test.
pub(crate) struct Api {
    pub(crate) namespace: String,
    client: Client,
    administrator: Client,
    server: Running,
}

enum Running {
    Fake { fake: Arc<Mutex<Delayed<Kubernetes>>>, _server: Server },
    Real(Arc<ApiServer>),
}

/// An answer: its status, and its body as JSON, or as a text where it is none.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) response: Response,
}

impl Answer {
    pub(crate) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &str {
        self.body["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.body["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The names of a list.
    pub(crate) fn names(&self) -> Vec<&str> {
        let items = self.body["items"].as_array().into_iter().flatten();
        items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
    }

    /// An error unless the status is this one.
    pub(crate) fn is(self, status: u16) -> Result<Answer> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        Ok(self)
    }

    /// An error unless it is this refusal.
    pub(crate) fn refuses(self, status: u16, reason: &str) -> Result<Answer> {
        let answer = self.is(status)?;
        ensure!(answer.reason() == reason, "{} instead of {reason}: {}", answer.reason(), answer.body);
        Ok(answer)
    }
}

impl Api {
    pub(crate) fn new(kind: Kind, name: &str) -> Result<Api> {
        let namespace: String = name.replace('_', "-").chars().take(40).collect();
        let namespace = namespace.trim_end_matches('-').to_owned();
        match kind {
            Kind::Fake => Api::fake(namespace),
            Kind::Real(server) => Api::real(server, namespace),
        }
    }

    pub(crate) fn fake(namespace: String) -> Result<Api> {
        let mut fake = Kubernetes::new(&namespace, "account's");
        fake.token(ADMINISTRATOR, Token::administrator());
        let fake = Arc::new(Mutex::new(Delayed::new(fake, 5..=12)));
        let identity = Identity::for_names(&["127.0.0.1"])?;
        let server = Server::start_tls(Arc::clone(&fake), &identity)?;
        let client =
            Client::new(&format!("https://{}", server.addr()), identity.ca_pem(), Some("account's"))?;
        let administrator = client.with_token(Some(ADMINISTRATOR));
        Ok(Api { namespace, client, administrator, server: Running::Fake { fake, _server: server } })
    }

    pub(crate) fn real(server: Arc<ApiServer>, namespace: String) -> Result<Api> {
        let account = server.account(&namespace)?;
        let (client, administrator) = (account.client().clone(), server.administrator()?);
        Ok(Api { namespace, client, administrator, server: Running::Real(server) })
    }

    /// The fake, to arm its faults.
    pub(crate) fn as_fake(&self) -> Option<MutexGuard<'_, Delayed<Kubernetes>>> {
        match &self.server {
            Running::Fake { fake, .. } => Some(fake.lock().unwrap_or_else(PoisonError::into_inner)),
            Running::Real(_) => None,
        }
    }

    pub(crate) fn as_real(&self) -> Option<&ApiServer> {
        match &self.server {
            Running::Fake { .. } => None,
            Running::Real(server) => Some(server),
        }
    }

    /// `…/secrets/NAME`; an empty name: all of them.
    pub(crate) fn secrets(&self, name: &str) -> String {
        self.path("/api/v1", "secrets", name)
    }

    /// `…/leases/NAME`.
    pub(crate) fn leases(&self, name: &str) -> String {
        self.path("/apis/coordination.k8s.io/v1", "leases", name)
    }

    fn path(&self, group: &str, resource: &str, name: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{group}/namespaces/{}/{resource}{slash}{name}", self.namespace)
    }

    /// As the account.
    pub(crate) fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        send(&self.client, &request(method, target, body))
    }

    /// As the account, with anything.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer> {
        send(&self.client, request)
    }

    /// With another token, or none.
    pub(crate) fn with_token(&self, token: Option<&str>, request: &Request) -> Result<Answer> {
        send(&self.client.with_token(token), request)
    }

    /// As the administrator.
    pub(crate) fn administer(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        send(&self.administrator, &request(method, target, body))
    }

    /// Stores a Secret like a check's.
    pub(crate) fn make(&self, name: &str) -> Result<Answer> {
        self.ask("POST", &self.secrets(""), Some(&secret(name)))?.is(201)
    }

    /// Gives the account all verbs but one, on both resources, and waits until that is so.
    pub(crate) fn without(&self, verb: Verb, name: &str) -> Result<()> {
        let verbs: Vec<Verb> = Verb::NEEDED.into_iter().filter(|needed| *needed != verb).collect();
        if let Some(mut fake) = self.as_fake() {
            let account = Token::of(&self.namespace, "testrelay");
            Verb::NEEDED.iter().for_each(|verb| fake.service.forbid(&account, *verb));
            for resource in [Resource::Secrets, Resource::Leases] {
                fake.service.allow(&account, &self.namespace, resource, &verbs);
            }
            return Ok(());
        }
        let named: Vec<String> = verbs.iter().map(|verb| format!("{verb:?}").to_lowercase()).collect();
        let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": named});
        let role = json!({
            "metadata": {"name": "testrelay"},
            "rules": [rule("", "secrets"), rule("coordination.k8s.io", "leases")],
        });
        let path =
            format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/testrelay", self.namespace);
        self.administer("PUT", &path, Some(&role))?.is(200)?;
        // What the last change gave is known when it works, what it took when it no longer does.
        let known = verbs.first().copied().unwrap_or(Verb::Get);
        wait_until("the role", PATIENCE, || {
            let is_allowed = |verb| self.try_verb(verb, name).is_ok_and(|answer| answer.status != 403);
            is_allowed(known) && !is_allowed(verb)
        })
    }

    /// Uses a verb, without effect where that is possible.
    pub(crate) fn try_verb(&self, verb: Verb, name: &str) -> Result<Answer> {
        let (one, all) = (self.secrets(name), self.secrets(""));
        match verb {
            Verb::Get => self.ask("GET", &one, None),
            Verb::List => self.ask("GET", &all, None),
            Verb::Create => self.ask("POST", &format!("{all}?dryRun=All"), Some(&secret("tried"))),
            Verb::Update => self.ask("PUT", &format!("{one}?dryRun=All"), Some(&secret(name))),
            _ => self.ask("DELETE", &format!("{one}?dryRun=All"), None),
        }
    }

    /// Limits the namespace's Secrets, and counts those that are there.
    pub(crate) fn set_quota(&self, limit: usize) -> Result<()> {
        if let Some(mut fake) = self.as_fake() {
            fake.service.quota(&self.namespace, Quota::secrets("q", limit));
            fake.service.count(&self.namespace);
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/{}/resourcequotas", self.namespace);
        let hard = json!({"count/secrets": limit.to_string()});
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        self.administer("POST", &path, Some(&quota))?.is(201)?;
        self.count_quota()?;
        Ok(())
    }

    /// What the controller of quotas does, which is not there.
    pub(crate) fn count_quota(&self) -> Result<()> {
        if let Some(mut fake) = self.as_fake() {
            fake.service.count(&self.namespace);
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/{}/resourcequotas/q", self.namespace);
        let used = self.administer("GET", &self.secrets(""), None)?.is(200)?.names().len().to_string();
        let mut quota = self.administer("GET", &path, None)?.is(200)?.body;
        let hard = quota["spec"]["hard"].clone();
        quota["status"] = json!({"hard": hard, "used": {"count/secrets": used}});
        self.administer("PUT", &format!("{path}/status"), Some(&quota))?.is(200).map(drop)
    }
}

fn request(method: &str, target: &str, body: Option<&Value>) -> Request {
    let request = Request::new(method, target).header("accept", "application/json");
    match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    }
}

fn send(client: &Client, request: &Request) -> Result<Answer> {
    let response = client.ask(request).with_context(|| format!("{} {}", request.method, request.target))?;
    let text = || String::from_utf8_lossy(&response.body).into_owned().into();
    let body = serde_json::from_slice(&response.body).unwrap_or_else(|_| text());
    Ok(Answer { status: response.status, body, response })
}

/// A Secret like a check's.
pub(crate) fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "testrelay.dev/check",
        "metadata": {"name": name, "labels": {"testrelay.dev/owner": "a"}, "annotations": {"testrelay.dev/view": "{}"}},
        "data": {"record": "eyJ2IjoxfQ=="},
    })
}
