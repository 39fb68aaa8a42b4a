//! The texts for the people at the pipeline, and the number of calls that they cost.

use super::world::{Run, World};
use super::{HOUR, MINUTE, SECOND};
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::testkube::{Fault, Route};
use fakes::{Build, Span, Status};

impl World {
    /// The lines of the check's log, without their time stamps.
    fn log(&self, run: &Run) -> Vec<String> {
        let lines = self.azure.log_lines(&run.spec().plan);
        lines.iter().map(|line| line.split_once("Z ").map_or("", |(_, text)| text).to_string()).collect()
    }

    fn record(&self, run: &Run) -> serde_json::Value {
        let spec = run.spec();
        self.azure.record(&spec.plan, &spec.task, self.wall()).unwrap()
    }
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn the_log_says_what_is_waited_for_what_happens_and_how_it_ended() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(
        world
            .tagged(&run, "shop-e2e")
            .at(world.at(20 * SECOND), Status::Queued)
            .at(world.at(30 * SECOND), Status::Running)
            .step("Clone", world.at(40 * SECOND))
            .step("Unit", world.at(100 * SECOND))
            .step("Browser", world.at(400 * SECOND))
            .at(world.at(300 * SECOND), Status::Failed)
            .step_error("3 of 90 failed"),
    );
    world.check(&run, &[("testrelay-expect", "shop-e2e")]);
    world.pass(10 * MINUTE);
    let log = world.log(&run);
    for text in [
        "waits for the Testkube executions tagged ado-run=shop-4001",
        "Expected: shop-e2e. Every execution with the tag must pass",
        "(start of the build)",
        "shop-e2e-1 (workflow shop-e2e): queued",
        "shop-e2e-1: queued → running",
        "now: Unit",
        "##[error]shop-e2e-1 failed after 4m 40s: step Browser failed (exit code 1): 3 of 90 failed",
        "##[error]Testrelay: failed. The execution tagged ado-run=shop-4001 did not pass",
        "  shop-e2e-1  failed      ",
    ] {
        assert!(has(&log, text), "{text}\n{}", log.join("\n"));
    }
    assert_eq!(log.iter().filter(|line| line.contains("queued → running")).count(), 1);
    let record = world.record(&run);
    assert_eq!(record["percentComplete"], 100);
    assert_eq!(record["issues"][0]["type"], "error");
    assert!(record["issues"][0]["message"].as_str().unwrap().contains("step Browser failed"), "{record}");
}

#[test]
fn while_it_waits_the_record_shows_progress() {
    let mut world = World::new();
    let run = world.run(1);
    let steps = world
        .tagged(&run, "a")
        .at(world.at(0), Status::Running)
        .step("Clone", world.at(10 * SECOND))
        .step("Unit", world.at(HOUR));
    world.testkube.add(steps);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(2 * MINUTE);
    let record = world.record(&run);
    assert_eq!(record["state"], "inProgress");
    assert_eq!(record["percentComplete"], 50);
    assert_eq!(record["currentOperation"], "0 of 1 executions ended; a-1: Unit");
    assert_eq!(record["log"]["id"], 1);
}

#[test]
fn while_nothing_changes_the_log_says_so_after_ten_minutes_and_each_time_that_doubles() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(5 * MINUTE);
    let (lines, calls) = (world.log(&run).len(), world.azure.requests().len());
    world.pass(HOUR);
    let log = world.log(&run);
    assert_eq!(log.len() - lines, 3, "after 10, 20 and 40 minutes: {log:?}");
    for line in &log[lines..] {
        let tag = format!(
            "Waits for the end of a-1. 0 of 1 executions tagged ado-run={} have ended. Testkube answered at",
            run.tag
        );
        assert!(line.contains(&tag) && line.contains(" Nothing has changed since "), "{line}");
        assert!(line.contains(" It is decided at about "), "{line}");
    }
    assert!(world.azure.requests().len() - calls <= 63, "one look a minute at the run");
}

#[test]
fn a_run_of_half_an_hour_costs_few_calls() {
    let mut world = World::new();
    let run = world.run(1);
    for (n, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        let n = i64::try_from(n).unwrap();
        let mut execution = world.tagged(&run, name).at(world.at((20 + n) * SECOND), Status::Running);
        for step in 1..=7 {
            execution =
                execution.step(&format!("Step {step}"), world.at(step * 4 * MINUTE + n * 20 * SECOND));
        }
        world.testkube.add(execution.at(world.at(28 * MINUTE + n * 20 * SECOND), Status::Passed));
    }
    world.check(&run, &[("testrelay-expect", "a, b, c, d, e")]);
    world.pass(31 * MINUTE);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "succeeded");
    assert!(answered.after < 30 * MINUTE, "{answered:?}");
    let (lists, singles): (Vec<_>, Vec<_>) = world
        .testkube
        .requests()
        .iter()
        .partition(|r| r.request.path().ends_with("/test-workflow-executions"));
    let azure = world.azure.requests();
    let asks = azure.iter().filter(|r| r.request.method == "GET").count();
    assert!(lists.len() <= 150, "{} lists", lists.len());
    assert!(singles.len() <= 150, "{} by id", singles.len());
    assert!(asks <= 30 + 1, "{asks} looks at the run, and one at the build's start");
    assert!(azure.len() - asks <= 60, "{} other calls to Azure DevOps", azure.len() - asks);
}

#[test]
fn advice_comes_while_nothing_appears() {
    let mut world = World::new();
    let run = world.run(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    assert!(!has(&world.log(&run), "##[warning]"));
    world.pass(24 * MINUTE);
    let log = world.log(&run);
    for text in ["status.error", "controllers.enabled", "GitOps sync"] {
        assert_eq!(log.iter().filter(|line| line.contains(text)).count(), 1, "{text}\n{}", log.join("\n"));
    }
}

#[test]
fn a_testkube_that_does_not_answer_is_told_once_and_so_is_its_return() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    let outage = Span::Between { from: world.at(MINUTE), until: world.at(10 * MINUTE) };
    world.testkube.fault(Route::All, outage, Fault::Status(503));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(20 * MINUTE);
    let log = world.log(&run);
    assert_eq!(log.iter().filter(|line| line.contains("have failed since")).count(), 1);
    assert_eq!(log.iter().filter(|line| line.contains("answers again")).count(), 1);
}

#[test]
fn a_log_that_is_refused_or_silent_never_holds_up_the_decision() {
    for fault in [
        AzureFault::Status { status: 403, retry_after: None },
        AzureFault::Status { status: 503, retry_after: None },
        AzureFault::Slow { millis: 60_000 },
    ] {
        let mut world = World::new();
        let run = world.run(1);
        world.testkube.add(
            world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(5 * MINUTE), Status::Passed),
        );
        world.azure.fault(AzureRoute::LogAppend, Span::UntilCleared, fault);
        world.azure.fault(AzureRoute::Records, Span::UntilCleared, fault);
        world.check(&run, &[("testrelay-expect", "a")]);
        world.pass(8 * MINUTE);
        let answered = world.answered(&run);
        assert_eq!(answered.result, "succeeded");
        assert!(answered.after < 7 * MINUTE + 30 * SECOND, "{answered:?}");
    }
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_stopped() {
    let mut world = World::new();
    world.contexts(2);
    let run = world.run(1);
    world.testkube.add(
        world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(10 * MINUTE), Status::Passed),
    );
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(3 * MINUTE);
    let said = world.log(&run).len();
    world.crash_leader();
    world.pass(5 * MINUTE);
    assert_eq!(world.log(&run).len(), said, "{}", world.log(&run).join("\n"));
    world.pass(4 * MINUTE);
    assert!(has(&world.log(&run), "Testrelay: succeeded"));
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn a_cancelled_run_ends_the_check_without_an_event() {
    let mut world = World::new();
    let (by_record, by_build) = (world.run(1), world.run(2));
    for run in [&by_record, &by_build] {
        world.testkube.add(world.tagged(run, "a").at(world.at(0), Status::Running));
        world.check(run, &[("testrelay-expect", "a")]);
    }
    world.pass(5 * MINUTE);
    world.azure.end_plan(&by_record.spec().plan, world.wall(), "canceled");
    let build = Build::new(&by_build.spec().project, by_build.spec().build.unwrap());
    world.azure.add_build(build.started_at(world.at(-MINUTE)).status_at(world.wall(), "cancelling"));
    world.pass(3 * MINUTE);
    assert!(world.nothing_pending());
    assert_eq!(world.events_sent(), 0);
    assert!(has(&world.log(&by_record), "completed this check itself (canceled)"));
    assert!(has(&world.log(&by_build), "Build 4002 is cancelling"));
    let asked = world.testkube.requests().len();
    world.pass(5 * MINUTE);
    assert_eq!(world.testkube.requests().len(), asked, "polling has stopped");
}

#[test]
fn a_build_that_was_over_before_the_check_came_is_another_run() {
    let mut world = World::new();
    let run = world.run(1);
    let spec = run.spec();
    let build = Build::new(&spec.project, spec.build.unwrap()).started_at(world.at(-HOUR));
    world.azure.add_build(build.status_at(world.at(-MINUTE), "completed"));
    world.testkube.add(
        world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(5 * MINUTE), Status::Passed),
    );
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(7 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn an_open_gate_is_named_with_the_field_to_change() {
    let mut world = World::new();
    let run = world.run(1);
    let spec = run.spec();
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    world.check(&run, &[("testrelay-expect", "a")]);
    // The completion event is ApiResponse: the 200 that accepted the check completes its record.
    world.azure.end_plan(&spec.plan, world.wall(), "succeeded");
    world.pass(MINUTE);
    let log = world.log(&run);
    assert!(has(&log, "##[error]Testrelay: not reported (the gate is open)"), "{}", log.join("\n"));
    assert!(has(&log, "Set `Completion event` to `Callback`"));
    let record = world.record(&run);
    assert_eq!((record["state"].as_str(), record["result"].as_str()), (Some("completed"), Some("succeeded")));
    assert!(record["issues"][0]["message"].as_str().unwrap().contains("Completion event"), "{record}");
    assert!(world.counted(crate::Counter::OpenGate) == 1 && world.nothing_pending());
    assert_eq!(world.events_sent(), 0);
}

#[test]
fn a_check_that_comes_again_after_its_run_was_over_is_a_new_one() {
    let mut world = World::new();
    let mut run = world.run(1);
    world.testkube.add(
        world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(9 * MINUTE), Status::Passed),
    );
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    // The record is over but the log cannot be written: the check stays in the ledger while its last line is tried.
    let spec = run.spec();
    world.azure.fault(
        AzureRoute::LogAppend,
        Span::Between { from: world.wall(), until: world.wall() + 2 * MINUTE },
        AzureFault::Slow { millis: 30_000 },
    );
    let build = Build::new(&spec.project, spec.build.unwrap()).started_at(world.at(-MINUTE));
    world.azure.add_build(build.clone().status_at(world.wall(), "cancelling"));
    world.pass(MINUTE + 20 * SECOND);
    world.azure.add_build(build);
    run.token = "second".into();
    world.azure.start_check(world.wall(), run.spec());
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(12 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn what_is_only_observed_is_told_and_passed_whatever_it_is() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Failed));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.observe(&run);
    world.pass(2 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
    let log = world.log(&run);
    assert!(has(&log, "Testrelay: OBSERVE ONLY, would have been: failed."), "{}", log.join("\n"));
    assert_eq!(world.counted(crate::Counter::Observed), 1);
    assert_eq!(world.delivered(crate::check::Outcome::Failed), 0);
}

/// Two workflows: `shop-api` is quick, `shop-e2e` has three steps and ends as `end`.
fn story(end: Status) -> Vec<String> {
    let mut world = match end {
        Status::Passed => {
            World::configured(r#""insecure_no_auth": true, "public_url": "https://testrelay.example.com""#)
        }
        _ => World::new(),
    };
    let run = world.run(711);
    let passed = |n| (0..n).map(|n| format!("<testcase name='{n}'/>")).collect::<String>();
    let failed = "<testcase classname='cart.spec.ts' name='adds an item' file='tests/cart.spec.ts' line='41'>\
        <failure message='Error: expect(locator).toHaveText(expected)'/></testcase>\
        <testcase name='s'><skipped/></testcase>";
    let report =
        |inside: String| format!("<testsuites><testsuite name='s'>{inside}</testsuite></testsuites>");
    let e2e = world
        .tagged(&run, "shop-e2e")
        .at(world.at(14 * SECOND), Status::Running)
        .step("Install", world.at(16 * SECOND))
        .step("Browser tests", world.at(400 * SECOND))
        .step("Upload artifacts", world.at(410 * SECOND))
        .artifact("results/junit.xml", report(passed(86) + if end == Status::Passed { "" } else { failed }));
    let ends = if end == Status::Passed { 410 } else { 380 };
    world.testkube.add(e2e.at(world.at(ends * SECOND), end.clone()));
    let name = if end == Status::Passed { "junit.xml" } else { "log.txt" };
    world.testkube.add(
        world
            .tagged(&run, "shop-api")
            .at(world.at(14 * SECOND), Status::Running)
            .step("Run tests", world.at(100 * SECOND))
            .at(world.at(100 * SECOND), Status::Passed)
            .artifact(name, report(passed(128))),
    );
    world.check(&run, &[("testrelay-expect", "shop-e2e, shop-api")]);
    world.pass(10 * MINUTE);
    world.azure.log_lines(&run.spec().plan)
}

/// The logs on the page, except for their times, are what Azure DevOps gets.
#[test]
fn the_page_shows_whole_logs() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy/behaviour.md"));
    let without_time =
        |line: &str| line.split_once("Z ").map(|(_, text)| text.to_string()).unwrap_or_default();
    for (end, last) in [(Status::Failed, "Testrelay: failed."), (Status::Passed, "Testrelay: succeeded")] {
        let log = story(end);
        let shown = page.split("```").find(|block| {
            block.starts_with("text\n2026") && block.contains(last) && block.contains(" waits for the ")
        });
        let shown: Vec<String> = shown.unwrap_or_default().lines().skip(1).map(without_time).collect();
        let said: Vec<String> = log.iter().map(|line| without_time(line)).collect();
        assert_eq!(shown, said, "the log is:\n{}", log.join("\n"));
    }
}

#[test]
fn the_log_ends_with_where_the_files_are_when_the_public_address_is_known() {
    for (more, link) in [
        (r#""insecure_no_auth": true"#, None),
        (
            r#""insecure_no_auth": true, "public_url":"https://relay.example:8443/t""#,
            Some("Their files: https://relay.example:8443/t/testrelay/v1/artifacts/ado-run=shop-4001"),
        ),
    ] {
        let mut world = World::configured(more);
        let run = world.run(1);
        world.testkube.add(world.tagged(&run, "shop-e2e").at(world.at(20 * SECOND), Status::Passed));
        world.check(&run, &[("testrelay-expect", "shop-e2e")]);
        world.pass(2 * MINUTE);
        let log = world.log(&run);
        assert_eq!(
            log.last().filter(|line| line.starts_with("Their files")).map(String::as_str),
            link,
            "{log:?}"
        );
    }
}

#[test]
fn what_was_there_before_the_log_began_is_told_with_its_workflow() {
    for pause in [0, 300, 700, 900, 1_300] {
        let mut world = World::new();
        let run = world.run(1);
        world.testkube.add(
            world
                .tagged(&run, "a")
                .at(world.at(0), Status::Queued)
                .at(world.at(6 * SECOND), Status::Running)
                .at(world.at(40 * SECOND), Status::Passed),
        );
        world.pass(pause);
        world.check(&run, &[("testrelay-expect", "a")]);
        world.pass(MINUTE);
        assert_eq!(world.says(&run, "a-1 (workflow a): "), 1, "{pause}: {:#?}", world.told(&run));
    }
}
