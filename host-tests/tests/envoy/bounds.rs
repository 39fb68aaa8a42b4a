//! Which executions count for a check: its lower bound, all pages, re-runs, children, and those that come late.

use anyhow::{Result, ensure};
use fakes::{Actor, Build, Execution, Stage, Status, execution};
use host_tests::scene::{Decision, Fields, PROJECT, Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Setup};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const MINUTE: i64 = 60_000;

/// A scene, an Envoy with one worker, and a pipeline whose check has not been sent.
struct Story {
    scene: Scene,
    envoy: Envoy,
    run: Pipeline,
}

impl Story {
    fn new() -> Result<Story> {
        Story::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Result<Story> {
        let scene = Scene::new()?;
        let envoy = Envoy::start(&change(scene.setup()?.concurrency(1)))?;
        let run = scene.pipeline(1);
        Ok(Story { scene, envoy, run })
    }

    /// Started by a resource of its own.
    fn tagged(&self, workflow: &str, resource: &str) -> Execution {
        let kind = "testworkflowexecution".into();
        let actor = Actor { kind, name: resource.into(), execution_id: None, execution_reference: None };
        execution(workflow).tag(TAG_KEY, &self.run.tag).actor(actor)
    }

    fn send(&self, fields: Fields) -> Result<()> {
        let answer = fields.request().send(self.envoy.address())?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    }

    /// Sends the check and waits for its decision.
    fn decision(&self, fields: Fields) -> Result<Decision> {
        self.send(fields)?;
        self.scene.decision(&self.run, SOON)
    }

    /// Replaces the build: its attempts of stage `Test` started this many milliseconds ago.
    fn build_with_attempts(&self, began: i64, attempts: &[i64]) {
        let id = self.run.spec.build.unwrap_or_default();
        let build = Build::new(PROJECT, id).started_at(began);
        let build = attempts.iter().zip(1..).fold(build, |build, (started, attempt)| {
            let start_time = Some(*started);
            build.stage(Stage { name: "Test".into(), identifier: "test".into(), attempt, start_time })
        });
        self.scene.azure().add_build(build);
    }
}

fn assert_said(decision: &Decision, result: &str, parts: &[&str]) {
    let text = decision.text();
    assert_eq!(decision.result(), result, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} expected: {text}");
    }
}

#[test]
fn since_a_stages_newest_attempt_what_an_older_one_has_left_does_not_count() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    story.build_with_attempts(now - 10 * MINUTE, &[now - 9 * MINUTE, now - 1_000]);
    story.scene.execution(story.tagged("shop-e2e", "first").at(now - 5 * MINUTE, Status::Failed));
    story.scene.execution(story.tagged("shop-e2e", "second").at(now, Status::Passed));
    let fields = story.run.fields("shop-e2e").with("Testrelay-Since-Stage", "Test");
    let said = ["start of stage `Test`, attempt 2", "Not counted: shop-e2e-1 (older than this run)"];
    assert_said(&story.decision(fields)?, "succeeded", &said);
    story.envoy.stop()
}

#[test]
fn a_stage_that_the_build_does_not_have_makes_no_decision_on_tests() -> Result<()> {
    let story = Story::new()?;
    story.scene.execution(story.tagged("shop-e2e", "a").at(now_ms(), Status::Passed));
    let fields = story.run.fields("shop-e2e").with("Testrelay-Since-Stage", "Tset");
    let said = [
        "failed (inconclusive: could not be determined)",
        "since the start of stage `Tset`, but the build has no stage of this name",
    ];
    assert_said(&story.decision(fields)?, "failed", &said);
    assert!(story.scene.testkube().requests().is_empty());
    story.envoy.stop()
}

#[test]
fn with_a_build_id_what_is_older_than_the_build_does_not_count() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    story.scene.execution(story.tagged("shop-e2e", "old").at(now - MINUTE, Status::Failed));
    story.scene.execution(story.tagged("shop-e2e", "new").at(now, Status::Passed));
    let decision = story.decision(story.run.fields("shop-e2e"))?;
    let said = ["(start of the build)", "Not counted: shop-e2e-1 (older than this run)"];
    assert_said(&decision, "succeeded", &said);
    story.envoy.stop()
}

#[test]
fn an_execution_older_than_the_build_alone_never_passes_a_check() -> Result<()> {
    let story = Story::new()?;
    story.scene.execution(story.tagged("shop-e2e", "old").at(now_ms() - MINUTE, Status::Passed));
    let fields = story.run.fields("shop-e2e").with("Testrelay-Appear-Timeout", "4s");
    let said = [
        "could not be determined",
        "are older than the lower bound",
        "compare the clocks",
        "shop-e2e-1 (older than this run)",
    ];
    assert_said(&story.decision(fields)?, "failed", &said);
    story.envoy.stop()
}

#[test]
fn without_a_build_id_the_configured_time_before_the_check_counts() -> Result<()> {
    let plugin = json!({ "tag": { "bind_to_build": false }, "checks": { "lookback": "10m" } });
    let story = Story::with(|setup| setup.plugin(plugin))?;
    let now = now_ms();
    story.scene.execution(story.tagged("shop-e2e", "old").at(now - 20 * MINUTE, Status::Failed));
    story.scene.execution(story.tagged("shop-e2e", "new").at(now - 5 * MINUTE, Status::Passed));
    let decision = story.decision(story.run.fields("shop-e2e").without("BuildId"))?;
    assert_said(&decision, "succeeded", &["10m before the check arrived, because no BuildId was sent"]);
    story.envoy.stop()
}

#[test]
fn a_build_that_cannot_be_read_falls_back_to_the_configured_time_and_says_so() -> Result<()> {
    let story = Story::new()?;
    let fields = story.run.fields("shop-e2e").with("BuildId", "999").with("Testrelay-Tag", "shop-999");
    let of_999 = execution("shop-e2e").tag(TAG_KEY, "shop-999").at(now_ms() - 5 * MINUTE, Status::Passed);
    story.scene.execution(of_999);
    let decision = story.decision(fields)?;
    assert_said(
        &decision,
        "succeeded",
        &["6h before the check arrived, because the build's start could not be read"],
    );
    story.envoy.stop()
}

#[test]
fn every_page_is_read_before_a_decision() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    // The list is newest first: the failed one is alone on the second page.
    story.scene.execution(story.tagged("shop-e2e", "first").at(now - 900, Status::Failed));
    for n in 0..100 {
        let started = now - 800 + i64::from(n);
        story.scene.execution(story.tagged("shop-e2e", &format!("n-{n}")).at(started, Status::Passed));
    }
    let decision = story.decision(story.run.fields("shop-e2e*101"))?;
    assert_said(
        &decision,
        "failed",
        &["1 of 101 executions", "shop-e2e-1 failed, shop-e2e-2 passed", "and 91 more"],
    );
    let pages = |page: &str| {
        let testkube = story.scene.testkube();
        testkube.requests().iter().filter(|r| r.request.query().ends_with(page)).count()
    };
    assert!(pages("&page=0") > 0 && pages("&page=1") > 0);
    story.envoy.stop()
}

#[test]
fn more_than_two_hundred_executions_of_one_tag_are_no_result() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    for n in 0..201 {
        let started = now - 900 + i64::from(n);
        story.scene.execution(story.tagged("shop-e2e", &format!("n-{n}")).at(started, Status::Passed));
    }
    let decision = story.decision(story.run.fields("shop-e2e"))?;
    assert_said(&decision, "failed", &["could not be determined", "More than 200 executions carry the tag"]);
    story.envoy.stop()
}

#[test]
fn where_nothing_was_expected_a_late_execution_still_joins_while_the_set_settles() -> Result<()> {
    let story = Story::new()?;
    story.send(story.run.fields("").with("Testrelay-Settle", "3s"))?;
    let now = now_ms();
    story.scene.execution(story.tagged("shop-e2e", "a").at(now, Status::Passed));
    story.scene.execution(
        story.tagged("shop-api", "b").at(now + 2_000, Status::Running).at(now + 5_000, Status::Failed),
    );
    let decision = story.scene.decision(&story.run, SOON)?;
    assert_said(&decision, "failed", &["1 of 2 executions", "shop-api-1 failed", "No expectation was given"]);
    assert!(decision.event.at >= now + 8_000, "three seconds after the last change");
    story.envoy.stop()
}

#[test]
fn a_rerun_by_the_same_resource_replaces_what_failed_before_it() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    story
        .scene
        .execution(story.tagged("shop-api", "api").at(now, Status::Running).at(now + 4_000, Status::Passed));
    story.scene.execution(story.tagged("shop-e2e", "e2e").at(now, Status::Failed));
    story.scene.execution(
        story.tagged("shop-e2e", "e2e").at(now + 2_000, Status::Running).at(now + 5_000, Status::Passed),
    );
    let decision = story.decision(story.run.fields("shop-api, shop-e2e"))?;
    assert_said(&decision, "succeeded", &["All 2 executions", "shop-e2e-1 (failed, repeated by shop-e2e-2)"]);
    story.envoy.stop()
}

#[test]
fn a_second_execution_of_a_workflow_by_another_resource_replaces_nothing() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    story.scene.execution(story.tagged("shop-e2e", "chrome").at(now - 500, Status::Failed));
    story.scene.execution(story.tagged("shop-e2e", "firefox").at(now, Status::Passed));
    let decision = story.decision(story.run.fields("shop-e2e"))?;
    assert_said(&decision, "failed", &["1 of 2 executions", "shop-e2e-1 failed"]);
    story.envoy.stop()
}

#[test]
fn a_child_is_judged_through_its_parent() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    let parent = story.scene.execution(story.tagged("shop-suite", "suite").at(now, Status::Passed));
    let child = execution("shop-e2e").tag(TAG_KEY, &story.run.tag).child_of("shop-suite", &parent);
    story.scene.execution(child.at(now, Status::Failed));
    let decision = story.decision(story.run.fields("shop-suite"))?;
    assert_said(&decision, "succeeded", &["shop-e2e-1 (started by another workflow)"]);
    story.envoy.stop()
}

#[test]
fn statuses_that_go_backwards_or_are_unknown_are_waited_out() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    let ended_too_soon = story
        .tagged("shop-e2e", "a")
        .at_with_finished(now, Status::Passed, false)
        .at(now + 2_000, Status::Stopping)
        .at(now + 3_000, Status::Scheduling)
        .at(now + 4_000, Status::Other("pending".into()))
        .at(now + 6_000, Status::Failed);
    story.scene.execution(ended_too_soon);
    let finished_too_soon = story
        .tagged("shop-api", "b")
        .at_with_finished(now, Status::Assigned, true)
        .at(now + 1_000, Status::Running)
        .at(now + 3_000, Status::Passed);
    story.scene.execution(finished_too_soon);
    let decision = story.decision(story.run.fields("shop-api, shop-e2e"))?;
    assert_said(&decision, "failed", &["1 of 2 executions", "shop-e2e-1 failed"]);
    assert!(decision.event.at >= now + 6_000);
    story.envoy.stop()
}

#[test]
fn an_execution_that_is_deleted_after_it_counted_is_no_result() -> Result<()> {
    let story = Story::new()?;
    let now = now_ms();
    let gone = story.tagged("shop-e2e", "a").at(now, Status::Failed).deleted_at(now + 3_000);
    story.scene.execution(gone);
    story
        .scene
        .execution(story.tagged("shop-api", "b").at(now, Status::Running).at(now + 6_000, Status::Passed));
    let decision = story.decision(story.run.fields("shop-api"))?;
    assert_said(&decision, "failed", &["could not be determined", "is gone from Testkube"]);
    story.envoy.stop()
}
