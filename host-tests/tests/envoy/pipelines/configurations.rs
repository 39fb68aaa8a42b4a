//! The part of Azure DevOps's REST API that has to do with the configuration of checks, listening on loopback.

use super::agent::{Agent, Ended};
use super::shipped;
use anyhow::Result;
use base64::Engine;
use fakes::{Reply, Request, Response, Server, Service};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TOKEN: &str = "pat-that-nobody-may-print-7b1c";
/// With blanks, so that a missing encoding is noticed.
pub(crate) const PROJECT: &str = "web shop";
pub(crate) const ENVIRONMENT: &str = "production eu";
pub(super) const CONNECTION: &str = "testrelay";
pub(super) const CONNECTION_ID: &str = "0d4c1c1e-3f53-4b3d-9a0c-6c6f9a2b7f11";

const ENVIRONMENTS: &str = "/fabrikam/web%20shop/_apis/distributedtask/environments";
const ENDPOINTS: &str = "/fabrikam/web%20shop/_apis/serviceendpoint/endpoints";
const CONFIGURATIONS: &str = "/fabrikam/web%20shop/_apis/pipelines/checks/configurations";

/// The project's environments, service connections and checks.
#[derive(Default)]
struct Project {
    checks: Vec<Value>,
}

/// The API, with a project that has one environment of interest and two others.
pub(crate) struct Configurations {
    project: Arc<Mutex<Project>>,
    server: Server,
}

impl Configurations {
    pub(crate) fn new() -> Result<Configurations> {
        let project = Arc::new(Mutex::new(Project::default()));
        let server = Server::start(project.clone())?;
        Ok(Configurations { project, server })
    }

    /// The collection's URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}/fabrikam", self.server.addr())
    }

    /// Replaces all checks of the environment.
    pub(crate) fn set(&self, checks: Vec<Value>) {
        self.project.lock().unwrap_or_else(PoisonError::into_inner).checks = checks;
    }

    /// All checks of the environment.
    pub(super) fn checks(&self) -> Vec<Value> {
        self.project.lock().unwrap_or_else(PoisonError::into_inner).checks.clone()
    }

    /// Runs `create-check.sh` or `verify-check.sh` with a token.
    pub(crate) fn run(&self, script: &str, token: &str, arguments: &[&str]) -> Result<Ended> {
        let mut agent = Agent::new()?;
        agent.environment.insert("AZURE_DEVOPS_EXT_PAT".into(), token.into());
        agent.script(&shipped(script), &[&[self.url().as_str()], arguments].concat())
    }
}

impl Service for Project {
    fn handle(&mut self, _now: i64, request: &Request) -> Reply {
        self.answer(request).into()
    }
}

impl Project {
    fn answer(&mut self, request: &Request) -> Response {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!(":{TOKEN}"));
        if request.value("authorization") != Some(format!("Basic {credentials}")) {
            // What Azure DevOps Services answers to a token that it does not know.
            return Response::with_body(
                203,
                "text/html; charset=utf-8",
                "\r\n<!DOCTYPE html><html>Sign in</html>",
            );
        }
        match (request.method.as_str(), request.path(), request.query()) {
            ("GET", ENVIRONMENTS, query) if query.ends_with("&api-version=6.0-preview.1") => {
                let all = [(6, "production eu west"), (7, ENVIRONMENT), (8, "staging")];
                let begin = query.starts_with("name=production%20eu&");
                let found = all.iter().filter(|(_, name)| begin && name.starts_with(ENVIRONMENT));
                list(found.map(|(id, name)| json!({"id": id, "name": name, "description": ""})).collect())
            }
            ("GET", ENDPOINTS, query) if query.ends_with("&api-version=6.0-preview.4") => {
                let found = query.starts_with("endpointNames=testrelay&");
                let endpoint =
                    json!({"id": CONNECTION_ID, "name": CONNECTION, "type": "generic", "data": {}});
                list(Some(endpoint).filter(|_| found).into_iter().collect())
            }
            ("POST", CONFIGURATIONS, "api-version=6.1-preview.1") => self.create(request),
            (
                "GET",
                CONFIGURATIONS,
                "resourceType=environment&resourceId=7&$expand=settings&api-version=6.1-preview.1",
            ) => list(self.checks.clone()),
            _ => problem(404, &format!("There is no {} {}", request.method, request.target)),
        }
    }

    fn create(&mut self, request: &Request) -> Response {
        let Ok(mut check) = serde_json::from_slice::<Value>(&request.body) else {
            return problem(400, "The body is no JSON");
        };
        let is_json = request.value("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !is_json
            || check["type"]["id"] != "fe1de3ee-a436-41b4-bb20-f6eb4cb879a7"
            || check["resource"] != json!({"type": "environment", "id": "7", "name": ENVIRONMENT})
            || check["settings"]["inputs"]["connectedServiceName"] != CONNECTION_ID
        {
            return problem(400, "The check is not one that can be created");
        }
        let id = self.checks.len() + 1;
        check["id"] = json!(id);
        check["version"] = json!(1);
        check["isDisabled"] = json!(false);
        self.checks.push(check.clone());
        Response::with_body(200, "application/json; charset=utf-8", check.to_string())
    }
}

fn list(value: Vec<Value>) -> Response {
    let body = json!({"count": value.len(), "value": value});
    Response::with_body(200, "application/json; charset=utf-8", body.to_string())
}

fn problem(status: u16, message: &str) -> Response {
    let body = json!({"$id": "1", "message": message, "typeKey": "VssServiceException"});
    Response::with_body(status, "application/json; charset=utf-8", body.to_string())
}
