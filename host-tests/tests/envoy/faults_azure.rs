//! Azure DevOps's answers: refused tokens, sign-in pages, rate limits, lost answers, missing rights; and where it lies.

use anyhow::{Context, Result, ensure};
use fakes::azure::{Fault, Route};
use fakes::{AzureDevOps, Identity, Recorded, Server, Span, Status, execution};
use host_tests::client::Request;
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Setup, wait_for, wait_until};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A scene with one pipeline whose tests have passed, an Envoy with one worker, and the check delivered.
fn started(prepare: impl FnOnce(&Scene, &Pipeline)) -> Result<(Scene, Pipeline, Envoy)> {
    started_with(|setup| setup, prepare)
}

fn started_with(
    change: impl FnOnce(Setup) -> Setup,
    prepare: impl FnOnce(&Scene, &Pipeline),
) -> Result<(Scene, Pipeline, Envoy)> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&change(scene.setup()?.concurrency(1)))?;
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    prepare(&scene, &run);
    let answer = run.check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok((scene, run, envoy))
}

/// Waits until nothing is pending any more.
fn wait_for_the_end(envoy: &Envoy) -> Result<()> {
    wait_until("the end of the check", SOON, || {
        let ready = Request::get("/testrelay/readyz").send(envoy.address());
        ready.is_ok_and(|answer| answer.text().contains("pending checks: 0"))
    })
}

/// Whether each attempt to post an event was taken.
fn attempts(scene: &Scene, run: &Pipeline) -> Vec<bool> {
    scene.azure().events(&run.spec.plan).iter().map(|event| event.accepted).collect()
}

fn counter(envoy: &Envoy, name: &str) -> Result<u64> {
    envoy.stat(&format!("wasmcustom.{name}"))
}

#[test]
fn a_refused_token_is_replaced_by_that_of_the_next_delivery() -> Result<()> {
    let (scene, run, envoy) =
        started(|scene, run| scene.azure().expire_token(&run.spec.token, now_ms() - 1_000))?;
    wait_until("two refusals", SOON, || {
        scene.azure().requests().iter().filter(|r| r.status == Some(401)).count() > 1
    })?;
    assert!(scene.testkube().requests().is_empty(), "Testkube is asked for proven checks only");
    let mut second = run.clone();
    second.spec.token = "token-of-the-second-delivery".into();
    scene.azure().start_check(now_ms(), second.spec.clone());
    assert_eq!(second.check("shop-e2e").send(envoy.address())?.status, 200);
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(
        (decision.result(), decision.event.token_used.as_deref()),
        ("succeeded", Some(second.spec.token.as_str()))
    );
    envoy.stop()
}

#[test]
fn a_sign_in_page_is_never_taken_for_a_success() -> Result<()> {
    let (scene, run, envoy) = started(|scene, _| {
        let mut azure = scene.azure();
        azure.fault(Route::LogCreate, Span::Next(1), Fault::Html { status: 203 });
        azure.fault(Route::Build, Span::Next(1), Fault::Html { status: 200 });
        azure.fault(Route::Events, Span::Next(1), Fault::Html { status: 200 });
        azure.fault(Route::Events, Span::Next(1), Fault::Status { status: 302, retry_after: None });
    })?;
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "succeeded");
    assert!(decision.text().contains("start of the build"), "{}", decision.text());
    assert_eq!(attempts(&scene, &run), [false, false, true]);
    assert!(envoy.log().contains("the token is not valid (401, or a sign-in page)"), "{}", envoy.log());
    envoy.stop()
}

#[test]
fn a_run_that_is_over_ends_its_check_without_an_event_that_is_taken() -> Result<()> {
    let (scene, run, envoy) = started(|scene, run| {
        scene.azure().end_plan(&run.spec.plan, now_ms(), "canceled");
    })?;
    wait_until("the end", SOON, || counter(&envoy, "testrelay_undelivered").is_ok_and(|count| count == 1))?;
    wait_for_the_end(&envoy)?;
    // The look at the check's record says it, or, where the decision was faster, the answer to the event.
    assert!(matches!(attempts(&scene, &run)[..], [] | [false]));
    let log = envoy.log();
    let reasons = ["OrchestrationSessionNotFoundException", "completed this check itself (canceled)"];
    assert!(reasons.iter().any(|reason| log.contains(reason)), "{log}");
    envoy.stop()
}

#[test]
fn a_plan_that_is_gone_ends_its_check_before_testkube_is_asked() -> Result<()> {
    let (scene, run, envoy) = started(|scene, run| {
        scene.azure().delete_plan(&run.spec.plan, now_ms());
    })?;
    wait_until("a request", SOON, || !scene.azure().requests().is_empty())?;
    wait_for_the_end(&envoy)?;
    assert!(attempts(&scene, &run).is_empty() && scene.testkube().requests().is_empty());
    envoy.stop()
}

/// How long Azure DevOps was left alone after an answer with this status, in milliseconds. What was on its way at that
/// moment is not counted.
fn pause_after(requests: &[Recorded], status: u16) -> Result<i64> {
    const ON_ITS_WAY: i64 = 200;
    let busy = requests.iter().find(|r| r.status == Some(status)).context("no such answer")?;
    let next = requests.iter().find(|r| r.at > busy.at + ON_ITS_WAY).context("no request after it")?;
    Ok(next.at - busy.at)
}

#[test]
fn retry_after_is_honoured_by_all_that_is_said_to_azure_devops() -> Result<()> {
    let busy = |status| Fault::Status { status, retry_after: Some(4) };
    let (scene, run, envoy) = started(|scene, _| {
        let mut azure = scene.azure();
        azure.fault(Route::LogCreate, Span::Next(1), busy(429));
        azure.fault(Route::Events, Span::Next(1), busy(503));
    })?;
    // Another check of the same organisation keeps quiet too.
    wait_until("the first answer", SOON, || scene.azure().requests().iter().any(|r| r.status == Some(429)))?;
    let other = scene.pipeline(2);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &other.tag).at(now_ms(), Status::Passed));
    assert_eq!(other.check("shop-e2e").send(envoy.address())?.status, 200);
    for pipeline in [&run, &other] {
        assert_eq!(scene.decision(pipeline, SOON)?.result(), "succeeded");
    }
    let azure = scene.azure();
    for status in [429, 503] {
        let pause = pause_after(azure.requests(), status)?;
        assert!(pause >= 3_990, "{pause} ms after {status}");
    }
    drop(azure);
    envoy.stop()
}

#[test]
fn an_event_whose_answer_is_lost_is_sent_again_and_ends() -> Result<()> {
    let (scene, run, envoy) =
        started(|scene, _| scene.azure().fault(Route::Events, Span::Next(1), Fault::ResetAfter))?;
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    wait_for_the_end(&envoy)?;
    assert_eq!(attempts(&scene, &run), [true, false]);
    envoy.stop()
}

#[test]
fn an_event_that_never_arrived_is_sent_again() -> Result<()> {
    let (scene, run, envoy) =
        started(|scene, _| scene.azure().fault(Route::Events, Span::Next(2), Fault::ResetBefore))?;
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    wait_for_the_end(&envoy)?;
    assert_eq!(attempts(&scene, &run), [false, false, true]);
    assert_eq!(counter(&envoy, "testrelay_delivered_succeeded")?, 1);
    envoy.stop()
}

#[test]
fn a_token_without_rights_to_the_log_still_decides() -> Result<()> {
    let forbidden = Fault::Status { status: 403, retry_after: None };
    let (scene, run, envoy) =
        started(|scene, _| scene.azure().fault(Route::LogCreate, Span::UntilCleared, forbidden))?;
    let decision = scene.decision(&run, SOON)?;
    assert_eq!((decision.result(), decision.log.len()), ("succeeded", 0));
    envoy.stop()
}

#[test]
fn a_log_that_takes_no_lines_is_given_up_after_three_tries() -> Result<()> {
    let broken = Fault::Status { status: 500, retry_after: None };
    let (scene, run, envoy) =
        started(|scene, _| scene.azure().fault(Route::LogAppend, Span::UntilCleared, broken))?;
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    let appends = {
        let azure = scene.azure();
        azure
            .requests()
            .iter()
            .filter(|r| r.request.method == "POST" && r.request.path().contains("/logs/"))
            .count()
    };
    // Three for the decision, and before it some for what was to be said while it waited.
    assert!((3..=6).contains(&appends), "{appends}");
    envoy.stop()
}

#[test]
fn a_server_that_nobody_vouches_for_gets_no_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let other = folder.path().join("other-ca.pem");
    std::fs::write(&other, Identity::for_names(&["dev.azure.com"])?.ca_pem())?;
    let (scene, run, envoy) = started_with(|setup| setup.trusted_ca(&other), |_, _| {})?;
    wait_until("three tries", SOON, || {
        envoy
            .log()
            .matches(
                "Azure DevOps did not accept the check's log, which proves its token: connection refused",
            )
            .count()
            > 2
    })?;
    assert!(scene.azure().requests().is_empty() && scene.testkube().requests().is_empty());
    assert!(!envoy.log().contains(&run.spec.token));
    // The check waits: nothing says that it is lost.
    assert!(Request::get("/testrelay/readyz").send(envoy.address())?.text().contains("pending checks: 1"));
    envoy.stop()
}

#[test]
fn a_cluster_that_envoy_does_not_have_is_named_and_the_check_waits() -> Result<()> {
    let entry = json!([{ "url": "https://dev.azure.com/fabrikam", "cluster": "azure-devopps" }]);
    let (_scene, _run, envoy) =
        started_with(|setup| setup.plugin(json!({ "azure_devops": entry })), |_, _| {})?;
    wait_until("two tries", SOON, || {
        envoy.log().matches("Envoy has no cluster `azure-devopps`").count() > 1
    })?;
    assert!(Request::get("/testrelay/readyz").send(envoy.address())?.text().contains("pending checks: 1"));
    envoy.stop()
}

#[test]
fn tokens_are_presented_as_basic_where_the_configuration_says_so() -> Result<()> {
    let entry =
        json!([{ "url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops", "auth": "basic" }]);
    let (scene, run, envoy) =
        started_with(|setup| setup.plugin(json!({ "azure_devops": entry })), |_, _| {})?;
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    let azure = scene.azure();
    let basic =
        |r: &Recorded| r.request.value("authorization").is_some_and(|value| value.starts_with("Basic "));
    assert!(azure.requests().iter().all(basic));
    drop(azure);
    envoy.stop()
}

#[test]
fn a_server_behind_a_path_and_a_port_is_called_there_over_plain_http() -> Result<()> {
    const COLLECTION: &str = "http://tfs.example:8080/tfs/DefaultCollection";
    let scene = Scene::new()?;
    let run = scene.pipeline(1);
    let server = Arc::new(Mutex::new(AzureDevOps::new("/tfs/DefaultCollection")));
    let listening = Server::start(server.clone())?;
    server.lock().unwrap().start_check(now_ms(), run.spec.clone());
    let entry = json!([{ "url": COLLECTION, "cluster": "azure-devops" }]);
    let setup = scene.setup()?.azure_devops(listening.addr()).plain_azure_devops();
    let envoy = Envoy::start(&setup.concurrency(1).plugin(json!({ "azure_devops": entry })))?;
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let check = run.fields("shop-e2e").with("PlanUrl", format!("{COLLECTION}/")).request();
    assert_eq!(check.send(envoy.address())?.status, 200);
    let event = wait_for("the decision", SOON, || {
        server.lock().unwrap().events(&run.spec.plan).into_iter().find(|event| event.accepted)
    })?;
    assert_eq!(event.result.as_deref(), Some("succeeded"));
    let azure = server.lock().unwrap();
    assert!(azure.requests().iter().all(|r| r.request.value("host").as_deref() == Some("tfs.example:8080")));
    assert!(!azure.double_slash_seen());
    drop(azure);
    envoy.stop()
}

#[test]
fn a_late_delivery_is_not_told_that_a_decision_was_reported_when_azure_devops_refused_it() -> Result<()> {
    let (_scene, run, envoy) = started(|scene, run| {
        scene.azure().end_plan(&run.spec.plan, now_ms(), "canceled");
    })?;
    wait_until("the end", SOON, || counter(&envoy, "testrelay_undelivered").is_ok_and(|count| count == 1))?;
    wait_for_the_end(&envoy)?;
    let answer = run.check("shop-e2e").send(envoy.address())?;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("has already reported"), "{}", answer.text());
    envoy.stop()
}
