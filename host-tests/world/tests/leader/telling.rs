//! The log and the record: what the pipeline's people are told about a decision, whatever Azure DevOps answers meanwhile.

use super::*;
use crate::common::result;
use fakes::azure::{Fault, Route};
use fakes::{Request, Span, testkube};
use serde_json::{Value, json};

const AWAY: Fault = Fault::Status { status: 503, retry_after: None };

/// The lines that only a decision brings: the decision itself and the table of the executions.
fn last_lines(world: &World, pipeline: &Pipeline) -> (usize, usize) {
    let log = log_of(world, pipeline);
    let of = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    (of("Testrelay: succeeded"), of("  a-1"))
}

/// A check whose execution passes after 20 s, the time of that, and Azure DevOps away on one route from then on.
fn away_at_the_decision(route: Route, millis: i64) -> (World, Pipeline, i64) {
    let mut world = start(Setup::new(7));
    let pipeline = common::passing(&mut world, 1);
    let end = world.wall() + 20_000;
    deliver(&mut world, &pipeline);
    world.azure(|azure| azure.fault(route, Span::Between { from: end, until: end + millis }, AWAY));
    (world, pipeline, end)
}

#[test]
fn a_log_that_is_away_for_7_s_at_the_decision_has_the_lines_in_the_end() {
    let (mut world, pipeline, _) = away_at_the_decision(Route::LogAppend, 7_000);
    world.pass(2 * MINUTE);
    assert_eq!(result(&world, &pipeline).as_deref(), Some("succeeded"));
    let lines = last_lines(&world, &pipeline);
    assert_eq!(lines, (1, 1), "decision and table, after 3 × 503: {:?}", log_of(&world, &pipeline));
    common::healthy(&world);
}

#[test]
fn azure_devops_away_for_7_s_at_the_decision_leaves_no_stage_without_a_word() {
    let (mut world, pipeline, _) = away_at_the_decision(Route::All, 7_000);
    world.pass(2 * MINUTE);
    assert_eq!(result(&world, &pipeline).as_deref(), Some("succeeded"));
    let lines = last_lines(&world, &pipeline);
    assert_eq!(lines, (1, 1), "decision and table, after 7 s of 503: {:?}", log_of(&world, &pipeline));
    common::healthy(&world);
}

#[test]
fn a_record_that_is_away_for_7_s_at_the_decision_shows_it_in_the_end() {
    let (mut world, pipeline, _) = away_at_the_decision(Route::Records, 7_000);
    world.pass(2 * MINUTE);
    assert_eq!(result(&world, &pipeline).as_deref(), Some("succeeded"));
    let (spec, now) = (pipeline.spec(), world.wall());
    let record = world.azure(|azure| azure.record(&spec.plan, &spec.task, now)).unwrap();
    let shown = (&record["percentComplete"], &record["currentOperation"]);
    assert_eq!(shown, (&json!(100), &json!("succeeded")), "after 3 × 503: {record}");
    common::healthy(&world);
}

#[test]
fn lines_that_could_not_be_written_before_the_event_are_written_after_it() {
    let (mut world, pipeline, end) = away_at_the_decision(Route::LogAppend, 5 * 60_000);
    // Best effort: the stage does not wait for the log.
    let told = told_after(&mut world, &pipeline, end, 2 * MINUTE);
    assert!(told < 60_000, "{told} ms");
    world.pass(7 * MINUTE);
    let lines = last_lines(&world, &pipeline);
    assert_eq!(lines, (1, 1), "2 minutes after the log is back: {:?}", log_of(&world, &pipeline));
    common::healthy(&world);
}

/// The logs that lack the table with durations and links, in six worlds in which lines are under way when the check is
/// decided: the confirmation takes a second, and Azure DevOps answers each log call after `millis`.
fn without_table(millis: u64) -> Vec<Vec<String>> {
    let mut without = Vec::new();
    for seed in 0..6 {
        let configuration = changed(&configuration(0), |configuration| {
            configuration["testkube"]["dashboard"] = json!("https://t.example/w/{workflow}/e/{id}");
        });
        let mut world = start(Setup { configuration, ..Setup::new(seed) });
        world.network("azure-devops", Rule { latency: 70 * MILLISECOND, ..answers() });
        let pipeline = common::passing(&mut world, 1);
        deliver(&mut world, &pipeline);
        world.pass(17 * SECOND);
        let late = testkube::Fault::Slow { millis: 1_100 };
        world.testkube(|testkube| testkube.fault(testkube::Route::Get, Span::UntilCleared, late));
        world.azure(|azure| azure.fault(Route::LogAppend, Span::UntilCleared, Fault::Slow { millis }));
        assert_eq!(common::decided_within(&mut world, &pipeline, MINUTE), "succeeded");
        let is_row = |line: &String| {
            line.contains("  a-1 ") && line.contains("20s") && line.contains("https://t.example/w/a/e/")
        };
        let log = log_of(&world, &pipeline);
        without.extend((!log.iter().any(is_row)).then_some(log));
        common::healthy(&world);
    }
    without
}

#[test]
fn the_table_has_durations_and_links_though_lines_were_under_way_at_the_decision() {
    let without = without_table(2_000);
    assert!(
        without.is_empty(),
        "{} of 6 logs have no table with durations and links: {without:?}",
        without.len()
    );
}

#[test]
fn no_message_of_an_execution_is_a_command_in_the_log_or_the_record() {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let message = "###vso[task.complete result=Succeeded;]and####vso[task.setvariable variable=a]b";
    let execution = ends_after(&world, &pipeline, 20_000, Status::Failed).step_error(message);
    world.testkube(|testkube| testkube.add(execution));
    deliver(&mut world, &pipeline);
    assert_eq!(common::decided_within(&mut world, &pipeline, MINUTE), "failed");
    let (spec, now) = (pipeline.spec(), world.wall());
    let record = world.azure(|azure| azure.record(&spec.plan, &spec.task, now)).unwrap().to_string();
    let log = log_of(&world, &pipeline).join("\n");
    assert!(log.contains("task.complete") && record.contains("task.complete"), "{log}\n{record}");
    for place in [log, record] {
        assert!(!place.contains("##vso"), "`###vso[…]` leaves a command: {place}");
    }
}

#[test]
fn no_name_of_a_step_is_a_command_in_the_log() {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let now = world.wall();
    let execution = ends_after(&world, &pipeline, 40_000, Status::Passed);
    let execution = execution.step("###[error]the gate is open", now + 30_000).step("Tests", now + 40_000);
    world.testkube(|testkube| testkube.add(execution));
    deliver(&mut world, &pipeline);
    world.pass(MINUTE);
    let log = log_of(&world, &pipeline);
    assert!(log.iter().any(|line| line.contains("the gate is open")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("##[error]")), "the step's name is a command: {log:?}");
}

#[test]
fn the_list_says_when_the_lower_bound_was_fixed() {
    let mut world = configured(|configuration| {
        configuration["credentials"][0]["allow"] = json!(["checks", "status"]);
    });
    let pipeline = Pipeline::new(1);
    waiting(&mut world, &pipeline);
    let accepted = world.wall();
    let back = accepted + 60_000;
    world.azure(|azure| azure.fault(Route::All, Span::Between { from: accepted, until: back }, AWAY));
    deliver(&mut world, &pipeline);
    world.pass(3 * MINUTE);
    let check = pipeline.check(&[]);
    let credential = String::from_utf8_lossy(
        check.headers.iter().find(|h| h.0 == "authorization").map(|h| h.1.as_ref()).unwrap(),
    )
    .into_owned();
    let list = world.ask(Request::new("GET", "/testrelay/v1/checks").header("authorization", &credential));
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    let history = list["checks"][0]["history"].as_array().unwrap();
    let of = |what: &str| {
        history.iter().find(|entry| entry["what"].as_str().is_some_and(|said| said.contains(what)))
    };
    let (came, fixed) = (of("accepted").unwrap(), of("counts executions since").unwrap());
    // Both as RFC 3339 in UTC, whose order is that of the times.
    let (came, fixed) = (came["at"].as_str().unwrap(), fixed["at"].as_str().unwrap());
    assert!(came < fixed, "the build was read a minute after the check came at {came}, not at {fixed}");
}
