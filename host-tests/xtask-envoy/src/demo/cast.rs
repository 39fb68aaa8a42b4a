//! Who plays in Testkube: two test workflows, when they run, and what one of them leaves behind.

use fakes::{Status, execution};
use host_tests::Scene;
use host_tests::scene::{Pipeline, TAG_KEY};

use super::{Options, Sabotage};

/// What the check expects, as people write it.
pub(super) const EXPECT: &str = "shop-e2e, shop-api";

/// The artifact's name; its slash is what a download must get right.
pub(super) const ARTIFACT: &str = "results/junit.xml";

/// When the first execution is there. As all times here: milliseconds after the cast entered.
pub(super) const FIRST_APPEARS: i64 = 1_500;
/// When the last execution ends.
pub(super) const LAST_ENDS: i64 = 6_000;

const SECOND_APPEARS: i64 = 2_000;
const RUNNING: i64 = 2_800;
const FIRST_ENDS: i64 = 4_000;

/// Tells Testkube what will happen from `now` on; the id of the execution with the artifact.
pub(super) fn enter(scene: &Scene, run: &Pipeline, options: Options, now: i64, written: &str) -> String {
    let at = |millis| now + millis;
    let tag = tag(run, options);
    let stored = match options.sabotage {
        Some(Sabotage::Artifact) => written.replace("tests=\"1\"", "tests=\"0\""),
        _ => written.to_owned(),
    };
    let last = if options.fail { Status::Failed } else { Status::Passed };
    scene.execution(
        execution("shop-api")
            .tag(TAG_KEY, &tag)
            .at(at(FIRST_APPEARS), Status::Queued)
            .at(at(RUNNING), Status::Running)
            .at(at(FIRST_ENDS), Status::Passed),
    );
    scene.execution(
        execution("shop-e2e")
            .tag(TAG_KEY, &tag)
            .at(at(SECOND_APPEARS), Status::Queued)
            .at(at(RUNNING), Status::Running)
            .at(at(LAST_ENDS), last)
            .step_error("checkout: got 500")
            .artifact(ARTIFACT, stored),
    )
}

/// The tag's value that the executions carry.
pub(super) fn tag(run: &Pipeline, options: Options) -> String {
    match options.sabotage {
        Some(Sabotage::Tag) => format!("{}-lost", run.tag),
        _ => run.tag.clone(),
    }
}

/// A test's report.
pub(super) fn junit(run: &Pipeline, fails: bool) -> String {
    let (failures, case) = match fails {
        true => (1, "<testcase name=\"checkout\"><failure>got 500</failure></testcase>"),
        false => (0, "<testcase name=\"checkout\"/>"),
    };
    format!("<testsuite name=\"{}\" tests=\"1\" failures=\"{failures}\">\n  {case}\n</testsuite>\n", run.tag)
}
