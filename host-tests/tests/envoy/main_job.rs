//! The main job, end to end: check, polling, decision, artifact, on a real Envoy.

use anyhow::Result;
use fakes::{Status, execution};
use host_tests::client::Request;
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_check_is_accepted_polled_decided_and_its_artifact_fetched() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    let answer = run.check("shop-e2e, shop-api").send(envoy.address())?;
    assert_eq!(
        (answer.status, answer.json()?["status"].as_str()),
        (200, Some("accepted")),
        "{}",
        answer.text()
    );

    let now = now_ms();
    let junit = b"<testsuite tests=\"1\"/>\n\xff\x00".to_vec();
    let tagged = |workflow| execution(workflow).tag(TAG_KEY, &run.tag);
    let id = scene.execution(
        tagged("shop-e2e")
            .at(now + 1_000, Status::Queued)
            .at(now + 2_000, Status::Running)
            .at(now + 5_000, Status::Passed)
            .artifact("results/junit.xml", junit.clone()),
    );
    scene.execution(tagged("shop-api").at(now + 3_000, Status::Running).at(now + 4_000, Status::Passed));

    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "succeeded", "{}", decision.text());
    assert!(decision.event.at >= now + 5_000);
    assert!(decision.text().contains("All 2 executions tagged"), "{}", decision.text());
    assert_eq!(
        scene.azure().record(&run.spec.plan, &run.spec.task, now_ms()).map(|r| r["log"]["id"].is_u64()),
        Some(true)
    );

    let path = format!("/v1/test-workflow-executions/{id}/artifacts/results%252Fjunit.xml");
    let artifact = Request::get(&path).bearer(BEARER).send(envoy.address())?;
    assert_eq!((artifact.status, artifact.body), (200, junit));
    envoy.stop()
}

#[test]
fn a_failed_execution_fails_the_check_and_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    let now = now_ms();
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now, Status::Failed));
    scene.execution(execution("shop-api").tag(TAG_KEY, &run.tag).at(now, Status::Passed));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "failed");
    assert!(decision.text().contains("1 of 2 executions"), "{}", decision.text());
    Ok(())
}
