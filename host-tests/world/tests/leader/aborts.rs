//! `abort_on_cancel`: an execution that counts as aborted has ended or is about to.
//!
//! On PostgreSQL the abort of an execution that is queued or assigned is 204 and nothing happens: the runner starts it all the
//! same. From `starting` on it is `stopping` at once.

use super::*;
use fakes::{Build, Recorded};
use serde_json::json;

/// A cancelled run with one execution of this script: milliseconds after the cancellation, and statuses. Configuration and
/// credential both allow its end.
fn cancelled(script: &[(i64, Status)]) -> (World, Pipeline, String) {
    let (mut world, pipeline, id) = cancelled_with(script, true, true);
    assert!(world.pass_until(2 * MINUTE, |world| abort_calls(world) > 0), "{:?}", world.log());
    (world, pipeline, id)
}

/// The same where they may not.
fn cancelled_with(
    script: &[(i64, Status)],
    configuration_allows: bool,
    credential_allows: bool,
) -> (World, Pipeline, String) {
    let mut world = configured(|configuration| {
        configuration["checks"]["abort_on_cancel"] = json!(configuration_allows);
        configuration["credentials"][0]["abort_on_cancel"] = json!(credential_allows);
    });
    let pipeline = world.pipeline(1);
    let now = world.wall();
    let script = script.iter().cloned();
    let execution = script
        .fold(pipeline.tagged("a"), |execution, (after, status)| execution.at(now + 10_000 + after, status));
    let id = world.testkube(|testkube| testkube.add(execution));
    deliver(&mut world, &pipeline);
    world.pass(10 * SECOND);
    let now = world.wall();
    world.azure(|azure| {
        let build = Build::new(pipeline.project, pipeline.build).started_at(BUILD_BEGAN);
        azure.add_build(build.status_at(now, "cancelling"));
        azure.end_plan(&pipeline.spec().plan, now, "canceled");
    });
    (world, pipeline, id)
}

fn abort_calls(world: &World) -> usize {
    let is_abort = |request: &&Recorded| request.request.path().ends_with("/abort");
    world.testkube(|testkube| testkube.requests().iter().filter(is_abort).count())
}

fn status(world: &World, pipeline: &Pipeline) -> Status {
    let now = world.wall();
    let truth = world.testkube(|testkube| testkube.truth("ado-run", &pipeline.tag, now));
    truth.first().map(|execution| execution.status.clone()).unwrap()
}

/// Before the check: the execution is there from its first second on.
const BEFORE: i64 = -10_000;

#[test]
fn an_execution_that_starts_after_its_abort_was_answered_is_aborted_again() {
    // The look at the run that sees its end comes a minute after the one before.
    let (mut world, pipeline, _) = cancelled(&[(BEFORE, Status::Queued), (70_000, Status::Running)]);
    world.pass(2 * MINUTE);
    let calls = abort_calls(&world);
    assert_eq!(
        status(&world, &pipeline),
        Status::Canceled,
        "after {calls} aborts, the first of them while it was queued"
    );
    assert!(calls <= 10, "{calls}");
    assert_eq!(world.metric("testrelay_aborted"), 1);
}

#[test]
fn an_execution_that_goes_on_is_not_counted_as_aborted() {
    let (mut world, pipeline, _) = cancelled(&[(BEFORE, Status::Queued)]);
    world.pass(5 * MINUTE);
    assert_eq!(status(&world, &pipeline), Status::Queued);
    assert_eq!(world.metric("testrelay_aborted"), 0, "it is queued as before: counted as aborted");
    let calls = abort_calls(&world);
    assert!((2..=10).contains(&calls), "it is asked a few times, not {calls}");
}

#[test]
fn the_log_says_that_executions_were_asked_to_abort() {
    let (mut world, pipeline, _) = cancelled(&[(BEFORE, Status::Running)]);
    world.pass(MINUTE);
    let log = log_of(&world, &pipeline);
    let says = |line: &String| line.contains("Testrelay aborts its executions") && line.contains("a-1");
    assert!(log.iter().any(says), "`Testrelay aborts its executions`, and by name: {log:?}");
    assert_eq!((status(&world, &pipeline), world.metric("testrelay_aborted")), (Status::Canceled, 1));
}

#[test]
fn nothing_is_aborted_unless_configuration_and_credential_both_allow_it() {
    for (configuration, credential) in [(false, true), (true, false)] {
        let (mut world, pipeline, _) =
            cancelled_with(&[(BEFORE, Status::Running)], configuration, credential);
        world.pass(3 * MINUTE);
        assert!(pending(&mut world).ends_with("pending checks: 0\n"), "the run is over: {:?}", world.log());
        assert_eq!((abort_calls(&world), status(&world, &pipeline)), (0, Status::Running));
    }
}
