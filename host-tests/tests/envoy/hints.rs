//! Hints of Testkube's webhook: what the shipped resource sends makes the leader look at once.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, Request, Response, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

const WEBHOOK: &str = include_str!("../../../envoy/testkube/webhook.yaml");
const SOON: Duration = Duration::from_secs(60);
const RUNS: u32 = 15;
const LISTS: &str = "/v1/test-workflow-executions?";

/// A credential for hints alone beside the one for checks.
pub(crate) fn credentials() -> Value {
    json!({ "credentials": [
        { "name": "azure-pipelines", "kind": "basic", "username": "testrelay",
          "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks"] },
        { "name": "testkube", "kind": "bearer", "secret_env": "TESTRELAY_BEARER", "allow": ["events"] },
    ] })
}

/// What Testkube sends by the shipped resource.
pub(crate) fn webhook(body: impl AsRef<[u8]>) -> Result<Request> {
    let resource: Value = serde_saphyr::from_str(WEBHOOK)?;
    let spec = &resource["spec"];
    let path =
        spec["uri"].as_str().and_then(|uri| uri.split_once(".svc.cluster.local")).context("no Service")?.1;
    ensure!(spec["config"]["token"]["secret"]["key"] == "token", "no secret");
    let header = spec["headers"]["Authorization"].as_str().context("no Authorization")?;
    let header = header.replace(r#"{{ index .Config "token" }}"#, BEARER);
    Ok(Request::post(path)
        .header("content-type", "application/json")
        .header("authorization", header)
        .body(body))
}

pub(crate) fn event(run: &Pipeline) -> String {
    let execution = json!({
        "id": "6973a5d2e1c4b0a7f3d9e201", "name": "shop-e2e-1", "tags": { TAG_KEY: run.tag, "team": "shop" },
        "signature": [], "result": { "status": "passed" }, "resolvedWorkflow": { "spec": {} },
    });
    json!({ "id": "1", "type": "end-testworkflow-success", "testWorkflowExecution": execution }).to_string()
}

fn send(envoy: &Envoy, body: impl AsRef<[u8]>) -> Result<Response> {
    webhook(body)?.send(envoy.address())
}

fn lists(scene: &Scene) -> usize {
    scene.testkube().requests().iter().filter(|seen| seen.request.target.starts_with(LISTS)).count()
}

#[test]
fn a_decision_follows_the_hint_at_once() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.plugin(credentials()))?;
    let runs: Vec<Pipeline> = (1..=RUNS).map(|n| scene.pipeline(n)).collect();
    let first = now_ms() + 6_000;
    let ends = |n: usize| first + 370 * i64::try_from(n).unwrap_or_default();
    for (n, run) in runs.iter().enumerate() {
        let running = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Running);
        scene.execution(running.at(ends(n), Status::Passed));
        assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    }
    let mut hinted = Vec::new();
    for (n, run) in runs.iter().enumerate() {
        std::thread::sleep(Duration::from_millis(u64::try_from(ends(n) - now_ms()).unwrap_or(0)));
        hinted.push(now_ms());
        let answer = send(&envoy, event(run))?;
        assert_eq!((answer.status, &answer.json()?["status"]), (202, &json!("taken")), "{}", answer.text());
    }
    let mut after = Vec::new();
    for (run, hinted) in runs.iter().zip(hinted) {
        let decision = scene.decision(run, SOON)?;
        assert_eq!(decision.result(), "succeeded", "{}", decision.text());
        after.push(decision.event.at - hinted);
    }
    after.sort_unstable();
    println!("from the hint to TaskCompleted, in ms: median {}, all {after:?}", after[after.len() / 2]);
    assert_eq!(envoy.stat("wasmcustom.testrelay_hints")?, u64::from(RUNS));
    envoy.stop()
}

#[test]
fn what_is_no_hint_for_a_pending_check_asks_nothing_of_testkube() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.plugin(credentials()))?;
    let unknown = scene.pipeline(1);
    let nonsense = [&b"\xff\x00"[..], b"{", b"[]", b"null", br#"{"testWorkflowExecution": {"tags": [1]}}"#];
    for body in nonsense {
        let answer = send(&envoy, body)?;
        assert_eq!((answer.status, &answer.json()?["status"]), (202, &json!("ignored")));
    }
    let large = format!("{}{}", event(&unknown), " ".repeat(2 << 20));
    assert_eq!(send(&envoy, large)?.status, 413);
    assert_eq!(send(&envoy, event(&unknown))?.json()?["status"], "taken");
    // The module reads hints about large workflows, up to the size that the shipped listener hands over.
    let padded = format!("{}{}", event(&unknown), " ".repeat(100_000));
    assert_eq!(send(&envoy, padded)?.json()?["status"], "taken");
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!((lists(&scene), scene.azure().requests().len()), (0, 0));
    envoy.stop()
}

#[test]
fn of_many_hints_ten_a_second_are_taken_and_few_looks_come_of_them() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.plugin(credentials()))?;
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Running));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    wait_until("the first look", SOON, || lists(&scene) > 0)?;
    let (began, before, mut taken) = (now_ms(), lists(&scene), 0);
    while now_ms() < began + 3_000 {
        let answer = send(&envoy, event(&run))?;
        assert_eq!(answer.status, 202);
        taken += i64::from(answer.json()?["status"] == "taken");
    }
    let took = (now_ms() - began) / 1_000 + 1;
    assert!((10..=10 * took).contains(&taken), "{taken} in {took} s");
    // One at most in two seconds for hints, one for the check itself.
    let looks = lists(&scene) - before;
    assert!(looks as i64 <= 2 + took, "{looks} looks in {took} s");
    envoy.stop()
}
