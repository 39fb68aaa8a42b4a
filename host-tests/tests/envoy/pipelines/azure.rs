//! What Azure DevOps does with a check, or an agentless job's task, when its turn has come.

use anyhow::{Context, Result, ensure};
use host_tests::Request;
use host_tests::scene::{PLAN_URL, Pipeline};
use serde_json::Value;
use std::collections::BTreeMap;

/// A Generic service connection.
pub(super) struct Connection {
    pub(super) url: String,
    pub(super) user: String,
    pub(super) password: String,
}

/// The request that the task "Invoke REST API" sends: `$(endpoint.url)$(urlSuffix)`, with the headers that its input
/// holds after the macros were expanded.
pub(super) fn invoke_rest_api(inputs: &Value, connection: &Connection, run: &Pipeline) -> Result<Request> {
    let input = |name: &str| inputs[name].as_str().with_context(|| format!("the input {name} is no text"));
    let url = format!("{}{}", connection.url, input("urlSuffix")?);
    let host = url.strip_prefix("https://").context("the connection's URL is not https")?;
    let path = &host[host.find('/').context("the connection's URL has no path")?..];
    ensure!(input("headers")?.chars().count() <= 2_000, "the input takes 2,000 characters");
    let headers: BTreeMap<String, String> =
        serde_json::from_str(&expanded(input("headers")?, &variables(run)))?;
    let request = Request::new(input("method")?, path).body(inputs["body"].as_str().unwrap_or_default());
    let request = request.basic(&connection.user, &connection.password);
    Ok(headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
}

/// What a check's inputs may name. Elsewhere the names are compared without case, so here they are in lower case.
fn variables(run: &Pipeline) -> BTreeMap<&'static str, String> {
    let spec = &run.spec;
    BTreeMap::from([
        ("system.collectionuri", PLAN_URL.to_owned()),
        ("system.teamprojectid", spec.project.clone()),
        ("system.hosttype", spec.hub.clone()),
        ("system.planid", spec.plan.clone()),
        ("system.jobid", spec.job.clone()),
        ("system.timelineid", spec.timeline.clone()),
        ("system.taskinstanceid", spec.task.clone()),
        ("system.accesstoken", spec.token.clone()),
        ("build.buildid", spec.build.unwrap_or_default().to_string()),
    ])
}

/// A text with its macros `$(name)` replaced; one whose name is not known stays as it is.
pub(super) fn expanded(text: &str, variables: &BTreeMap<&str, String>) -> String {
    let mut parts = text.split("$(");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = part
            .split_once(')')
            .and_then(|(name, rest)| Some((variables.get(name.to_lowercase().as_str())?, rest)));
        match known {
            Some((value, rest)) => out.extend([value.as_str(), rest]),
            None => out.extend(["$(", part]),
        }
    }
    out
}

#[test]
fn a_macro_is_found_in_any_case_and_an_unknown_one_stays() {
    let variables = BTreeMap::from([("build.buildid", "7".to_owned())]);
    let text = "shop-$(Build.BuildId) $(build.buildid) $(nobody) $(";
    assert_eq!(expanded(text, &variables), "shop-7 7 $(nobody) $(");
}
