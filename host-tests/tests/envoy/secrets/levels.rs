//! What Envoy itself logs of secrets, by component and level, as `envoy/security.md` says it.

use super::search::find;
use super::story::{API_PREFIX, AUTH_TOKEN, BEARER, CANARIES, Canary, PASSWORD, TESTKUBE_TOKEN};
use anyhow::{Context, Result, bail, ensure};
use fakes::{AzureDevOps, Database, Status, Testkube, execution};
use host_tests::scene::{Scene, TAG_KEY, USER, now_ms};
use host_tests::{Envoy, Request, Setup};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PAGE: &str = include_str!("../../../../envoy/security.md");

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warning", "error", "critical"];

/// The components that printed a secret: from which level on, and which secrets.
type Printed = BTreeMap<String, (&'static str, BTreeSet<&'static str>)>;

/// A check that is decided, a file by its tag and one by Testkube's own path, while every component logs everything.
fn log_of_everything() -> Result<String> {
    let testkube = Testkube::control_plane(Database::Postgres, "acme", "test", TESTKUBE_TOKEN);
    let scene = Scene::with(testkube, AzureDevOps::new("/fabrikam"))?;
    let route = json!({ "cluster": "testkube", "timeout": "0s" });
    let setup = scene
        .wire(Setup::new()?)
        .concurrency(1)
        .environment("TESTRELAY_PASSWORD", PASSWORD)
        .environment("TESTRELAY_BEARER", BEARER)
        .environment("TESTKUBE_TOKEN", TESTKUBE_TOKEN)
        .plugin(json!({ "testkube": { "api_prefix": API_PREFIX, "bearer_env": "TESTKUBE_TOKEN" } }))
        .route(json!({ "name": "control-plane", "match": { "prefix": "/organizations/" }, "route": route }));
    let envoy = Envoy::start(&setup)?;
    envoy.admin_post("/logging?level=trace")?;
    let mut run = scene.pipeline(1);
    run.spec.token = AUTH_TOKEN.into();
    scene.azure().start_check(now_ms(), run.spec.clone());
    let tagged = execution("shop-e2e").tag(TAG_KEY, &run.tag);
    let id = scene.execution(tagged.at(now_ms(), Status::Passed).artifact("junit.xml", "<testsuite/>"));
    let in_headers = run.fields("shop-e2e").anonymous_request().basic(USER, PASSWORD);
    ensure!(in_headers.send(envoy.address())?.status == 200);
    ensure!(scene.decision(&run, Duration::from_secs(60))?.result() == "succeeded");
    let body = run.fields("shop-e2e").json_body()?;
    let in_body = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD).json(&body);
    ensure!(in_body.send(envoy.address())?.status == 200);
    for path in [
        format!("{API_PREFIX}/test-workflow-executions/{id}/artifacts/junit.xml"),
        format!("/testrelay/v1/artifacts/{}/junit.xml", run.tag),
    ] {
        let answer = Request::get(&path).bearer(BEARER).send(envoy.address())?;
        ensure!(answer.status < 500, "{path}: {} {}", answer.status, answer.text());
    }
    envoy.admin_get("/config_dump")?;
    let log = envoy.log();
    envoy.stop()?;
    Ok(log)
}

/// A log's text by level and component. What does not begin like a line belongs to the one before.
fn parts(log: &str) -> BTreeMap<(&'static str, String), String> {
    let mut parts: BTreeMap<_, String> = BTreeMap::new();
    let mut place = ("trace", String::new());
    for line in log.lines() {
        // [date][thread][level][component] [file:line] words
        let fields: Vec<&str> = line.splitn(5, ']').map(|field| field.trim_start_matches('[')).collect();
        if let [_, _, level, component, _] = fields[..]
            && let Some(level) = LEVELS.iter().find(|known| **known == level)
        {
            place = (*level, component.to_owned());
        }
        let part = parts.entry(place.clone()).or_default();
        part.push_str(line);
        part.push('\n');
    }
    parts
}

fn printed(log: &str) -> Printed {
    let mut printed = Printed::new();
    for ((level, component), text) in parts(log) {
        let found = CANARIES.iter().filter(|canary| find(text.as_bytes(), canary.value).is_some());
        for canary in found {
            let (from, secrets) = printed.entry(component.clone()).or_insert((level, BTreeSet::new()));
            let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
            if rank(level) > rank(from) {
                *from = level;
            }
            secrets.insert(canary.name);
        }
    }
    printed
}

/// The page's table: component, from which level on, which secrets.
fn said() -> Result<Printed> {
    let (_, text) = PAGE.split_once("\n### What Envoy's own log prints\n").context("no such heading")?;
    let text = text.split("\n## ").next().unwrap_or_default();
    let mut said = Printed::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let [component, level, secrets] = row.trim_end_matches('|').split(" | ").collect::<Vec<_>>()[..]
        else {
            bail!("another form: {row}")
        };
        let level = LEVELS.iter().find(|known| **known == level).with_context(|| row.to_owned())?;
        let named = |canary: &&Canary| secrets.contains(&format!("`{}`", canary.name));
        let secrets = CANARIES.iter().filter(named).map(|canary| canary.name).collect();
        said.insert(component.trim_end_matches('`').to_owned(), (*level, secrets));
    }
    Ok(said)
}

#[test]
fn what_envoy_prints_of_secrets_is_what_the_page_says() -> Result<()> {
    let log = log_of_everything()?;
    let components: BTreeSet<String> = parts(&log).into_keys().map(|(_, component)| component).collect();
    for component in ["admin", "connection", "http", "pool", "router", "wasm"] {
        assert!(components.contains(component), "{component} is silent: {components:?}");
    }
    assert_eq!(printed(&log), said()?);
    Ok(())
}
