//! The leader with the state machines of both fakes, under a virtual clock: days pass in milliseconds.

mod codes;
mod crowds;
mod deliveries;
mod fairness;
mod fallback;
mod foreign_tokens;
mod hints;
mod over;
mod places;
mod preflight;
mod replicas;
mod results;
mod shown;
mod texts;
mod told;
mod world;

use crate::check::Outcome;
use crate::time::Mono;
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::testkube::{Fault, Route};
use fakes::{Actor, Span, Status};
use world::{Answered, World};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// The TestWorkflowExecution resource of this name.
fn resource(name: &str) -> Actor {
    Actor {
        kind: "testworkflowexecution".into(),
        name: name.into(),
        execution_id: None,
        execution_reference: None,
    }
}

/// An execution that repeats another one.
fn repeats(id: &str) -> Actor {
    Actor { kind: "user".into(), name: "u".into(), execution_id: None, execution_reference: Some(id.into()) }
}

#[test]
fn a_check_whose_executions_pass_succeeds_after_the_last_has_ended() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(
        world
            .tagged(&run, "shop-e2e")
            .at(world.at(5 * SECOND), Status::Running)
            .at(world.at(40 * SECOND), Status::Passed),
    );
    world.testkube.add(
        world
            .tagged(&run, "shop-api")
            .at(world.at(9 * SECOND), Status::Running)
            .at(world.at(20 * SECOND), Status::Passed),
    );
    assert_eq!(world.check(&run, &[("testrelay-expect", "shop-e2e, shop-api")]), 200);
    world.pass(2 * MINUTE);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "succeeded");
    assert!((40 * SECOND..45 * SECOND).contains(&answered.after), "{answered:?}");
    assert!(answered.log.contains("All 2 executions tagged ado-run=shop-4001 passed"), "{}", answered.log);
}

#[test]
fn a_change_that_shared_data_refuses_waits_before_its_call_is_made_again() {
    // From acceptance on: before the bound is known, while executions run, while they are confirmed, while the decision
    // is reported.
    for seconds in 0..60 {
        let mut world = World::new();
        let run = world.run(1);
        let execution = world.tagged(&run, "a").at(world.at(0), Status::Running);
        world.testkube.add(execution.at(world.at(30 * SECOND), Status::Passed));
        world.check(&run, &[]);
        world.pass(seconds * SECOND);
        world.refuse_changes(true);
        let before = world.azure.requests().len();
        world.pass(MINUTE);
        let calls = world.azure.requests().len() - before;
        assert!(calls <= 15, "{calls} calls in a minute, {seconds} s after the check came");
        world.refuse_changes(false);
        world.pass(3 * MINUTE);
        assert_eq!(world.answered(&run).result, "succeeded");
    }
}

#[test]
fn testkube_is_asked_nothing_before_azure_devops_took_the_token() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(
        AzureRoute::LogCreate,
        Span::UntilCleared,
        AzureFault::Status { status: 503, retry_after: None },
    );
    world.check(&run, &[]);
    world.pass(5 * MINUTE);
    assert!(world.testkube.requests().is_empty());
    world.azure.clear_faults();
    world.pass(3 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn a_token_that_azure_devops_never_takes_ends_the_check_without_a_look_at_testkube() {
    let mut world = World::new();
    let mut run = world.passing(1);
    run.token = "forged".into();
    assert_eq!(world.check(&run, &[]), 200);
    world.pass(45 * MINUTE);
    assert!(world.testkube.requests().is_empty() && world.nothing_pending());
    assert!(world.azure.requests().len() <= 50, "{}", world.azure.requests().len());
    assert_eq!(world.events_sent(), 1, "what could not be determined is sent, and then it is over");
}

#[test]
fn a_check_outlives_a_sign_in_that_is_broken_for_twenty_minutes() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(AzureRoute::All, Span::UntilCleared, AzureFault::Html { status: 203 });
    world.check(&run, &[]);
    world.pass(20 * MINUTE);
    world.azure.clear_faults();
    world.pass(3 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn nothing_that_appears_is_inconclusive_and_says_where_to_look() {
    let mut world = World::new();
    let run = world.run(1);
    world.check(&run, &[("testrelay-appear-timeout", "10m")]);
    world.pass(HOUR);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "failed");
    assert!((10 * MINUTE..11 * MINUTE).contains(&answered.after), "{answered:?}");
    assert!(
        answered.log.contains("No execution tagged ado-run=shop-4001 appeared in Testkube within 10m"),
        "{}",
        answered.log
    );
}

#[test]
fn a_deadline_names_the_fault_that_kept_testkube_from_being_asked() {
    let mut world = World::new();
    let run = world.passing(1);
    world.testkube.fault(Route::All, Span::UntilCleared, Fault::Html);
    world.check(&run, &[("testrelay-timeout", "2h")]);
    world.pass(3 * HOUR);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "failed");
    assert!(
        answered.log.contains("The check's time of 2h is over. Requests to Testkube have failed since"),
        "{}",
        answered.log
    );
    assert!(answered.log.contains("an answer that is not JSON (text/html"), "{}", answered.log);
}

#[test]
fn a_deadline_says_what_was_still_running() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "shop-e2e").at(world.at(0), Status::Running));
    world.check(&run, &[("testrelay-timeout", "1h")]);
    world.pass(2 * HOUR);
    let log = world.answered(&run).log;
    assert!(
        log.contains("The check's time of 1h is over. Not everything had ended: shop-e2e-1 running."),
        "{log}"
    );
}

#[test]
fn a_token_that_ends_before_the_deadline_decides_in_time() {
    let mut world = World::new();
    let mut run = world.run(1);
    run.token = world.jwt(2 * HOUR);
    world.azure.start_check(world.wall(), run.spec());
    world.check(&run, &[("testrelay-appear-timeout", "12h")]);
    world.pass(3 * HOUR);
    let answered = world.answered(&run);
    assert!((90 * MINUTE..95 * MINUTE).contains(&answered.after), "{answered:?}");
    assert!(answered.log.contains("The token that Azure DevOps gave this check ends at"), "{}", answered.log);
}

#[test]
fn the_newest_attempt_of_the_named_stage_is_the_lower_bound() {
    let mut world = World::new();
    let run = world.run(1);
    world.stage(&run, 1, -30 * MINUTE);
    world.stage(&run, 2, -MINUTE);
    world.testkube.add(world.tagged(&run, "a").at(world.at(-20 * MINUTE), Status::Failed));
    world
        .testkube
        .add(world.tagged(&run, "a").at(world.at(-30 * SECOND), Status::Passed).actor(resource("attempt-2")));
    world.check(&run, &[("testrelay-since-stage", "Test"), ("testrelay-expect", "a")]);
    world.pass(MINUTE);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "succeeded", "{}", answered.log);
    assert!(answered.log.contains("start of stage `Test`, attempt 2"), "{}", answered.log);
}

#[test]
fn a_stage_that_cannot_be_read_is_inconclusive_and_never_a_fallback() {
    let mut world = World::new();
    let run = world.passing(1);
    world.check(&run, &[("testrelay-since-stage", "Nope")]);
    world.pass(10 * MINUTE);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "failed");
    assert!(answered.log.contains("the build has no stage of this name"), "{}", answered.log);
    assert!(world.testkube.requests().is_empty());
}

#[test]
fn the_event_is_sent_until_it_is_taken() {
    let mut world = World::new();
    let run = world.passing(1);
    let until = world.at(3 * HOUR);
    let fault = AzureFault::Status { status: 503, retry_after: None };
    world.azure.fault(AzureRoute::Events, Span::Between { from: 0, until }, fault);
    world.check(&run, &[]);
    world.pass(4 * HOUR);
    let answered = world.answered(&run);
    assert!((3 * HOUR..3 * HOUR + 70 * SECOND).contains(&answered.after), "{answered:?}");
    assert!(world.events_sent() < 250, "{}", world.events_sent());
}

#[test]
fn a_lost_answer_causes_a_second_event_and_no_third() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(AzureRoute::Events, Span::Next(1), AzureFault::ResetAfter);
    world.check(&run, &[]);
    world.pass(HOUR);
    assert_eq!((world.answered(&run).result.as_str(), world.events_sent()), ("succeeded", 2));
    assert!(world.nothing_pending());
}

#[test]
fn an_event_whose_sender_is_gone_counts_as_delivered_when_azure_devops_waits_no_more() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(AzureRoute::Events, Span::Next(1), AzureFault::Slow { millis: 5_000 });
    world.check(&run, &[("testrelay-expect", "a")]);
    while world.events_sent() == 0 {
        world.pass(500);
    }
    world.crash_leader();
    world.pass(5 * MINUTE);
    assert_eq!(world.events_sent(), 2);
    assert_eq!(world.delivered(Outcome::Passed), 1);
    assert!(world.nothing_pending());
}

#[test]
fn a_delivery_with_another_token_is_answered_with_it() {
    let mut world = World::new();
    let mut run = world.run(1);
    world
        .testkube
        .add(world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(MINUTE), Status::Passed));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(30 * SECOND);
    let at = world.wall();
    world.azure.expire_token(&run.token, at);
    run.token = "second-token".into();
    world.azure.start_check(at, run.spec());
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    assert_eq!(world.check(&run, &[("testrelay-expect", "b")]), 409);
    world.pass(5 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(5 * MINUTE);
    assert_eq!(world.events_sent(), 2, "a delivery after the decision is a new evaluation");
}

#[test]
fn the_same_delivery_again_while_its_event_is_under_way_is_told_as_well() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(AzureRoute::Events, Span::Next(1), AzureFault::Slow { millis: 10_000 });
    world.check(&run, &[("testrelay-expect", "a")]);
    while world.events_sent() == 0 {
        world.pass(SECOND);
    }
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(MINUTE);
    assert_eq!((world.events_sent(), world.delivered(Outcome::Passed)), (2, 1));
}

#[test]
fn a_newer_delivery_whose_run_is_over_does_not_undo_what_was_taken() {
    let mut world = World::new();
    let mut run = world.passing(1);
    world.azure.fault(AzureRoute::Events, Span::Next(1), AzureFault::Slow { millis: 10_000 });
    world.check(&run, &[("testrelay-expect", "a")]);
    while world.events_sent() == 0 {
        world.pass(SECOND);
    }
    run.token = "newer".into();
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(10 * MINUTE);
    assert_eq!(world.delivered(Outcome::Passed), 1);
    assert!(world.nothing_pending());
}

#[test]
fn a_lost_leader_loses_no_check_and_no_event_is_sent_twice() {
    for crash_after in 0..60 {
        let mut world = World::new();
        world.contexts(3);
        let run = world.run(1);
        world.testkube.add(
            world
                .tagged(&run, "a")
                .at(world.at(5 * SECOND), Status::Running)
                .at(world.at(12 * SECOND), Status::Passed),
        );
        world.check(&run, &[("testrelay-expect", "a")]);
        world.pass(crash_after * 500);
        world.crash_leader();
        world.pass(5 * MINUTE);
        assert_eq!(world.answered(&run).result, "succeeded", "crash after {crash_after} half seconds");
        assert!(world.nothing_pending());
        assert!(world.events_sent() <= 2, "crash after {crash_after} half seconds");
    }
}

#[test]
fn many_checks_share_a_few_requests() {
    let mut world = World::roomy();
    let runs: Vec<_> = (1..=500).map(|n| world.passing(n)).collect();
    for run in &runs {
        assert_eq!(world.check(run, &[("testrelay-expect", "a")]), 200);
    }
    world.pass(10 * MINUTE);
    for run in &runs {
        assert_eq!(world.answered(run).result, "succeeded");
    }
    let lists = world
        .testkube
        .requests()
        .iter()
        .filter(|r| r.request.path().ends_with("/test-workflow-executions"))
        .count();
    assert!(lists < 200, "{lists} list requests for 500 checks");
    assert!(world.testkube.requests().iter().all(|r| r.status == Some(200)));
}

#[test]
fn a_done_check_is_forgotten_after_ten_minutes() {
    let mut world = World::new();
    let run = world.passing(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(5 * MINUTE);
    assert_eq!(world.records(), 1);
    world.pass(10 * MINUTE);
    assert_eq!(world.records(), 0);
    let Answered { after, .. } = world.answered(&run);
    assert!(after < MINUTE);
}

#[test]
fn pages_are_read_to_the_end() {
    let mut world = World::new();
    let run = world.run(1);
    for n in 0..150 {
        let status = if n == 0 { Status::Failed } else { Status::Passed };
        let started = world.at(n * SECOND / 10);
        world.testkube.add(world.tagged(&run, "a").actor(resource(&format!("cr-{n}"))).at(started, status));
    }
    world.check(&run, &[("testrelay-expect", "150")]);
    world.pass(3 * MINUTE);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "failed", "{}", answered.log);
    assert!(answered.log.contains("1 of 150 executions"), "{}", answered.log);
}

#[test]
fn executions_of_one_instant_are_all_read_although_they_have_no_order() {
    let mut world = World::new();
    let run = world.run(1);
    for n in 0..180 {
        world
            .testkube
            .add(world.tagged(&run, "a").actor(resource(&format!("cr-{n}"))).at(world.at(0), Status::Passed));
    }
    world.check(&run, &[("testrelay-expect", "180")]);
    world.pass(2 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn answers_that_are_too_large_are_asked_for_in_smaller_pages() {
    let mut world = World::new();
    let run = world.run(1);
    for n in 0..40 {
        let execution = world.tagged(&run, "a").annotations_of(500_000).at(world.at(n * 10), Status::Passed);
        world.testkube.add(execution.actor(resource(&format!("cr-{n}"))));
    }
    world.check(&run, &[("testrelay-expect", "40")]);
    world.pass(5 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
}

#[test]
fn counters_say_what_happened() {
    let mut world = World::new();
    let run = world.passing(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    assert_eq!(world.delivered(Outcome::Passed), 1);
    assert_eq!(world.delivered(Outcome::Failed), 0);
    assert!(world.now.mono > Mono(0));
}
