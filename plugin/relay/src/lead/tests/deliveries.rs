//! Several deliveries of one check: true and forged ones, known and new tokens, before and after its decision.

use super::world::{Run, World};
use super::{HOUR, MINUTE, SECOND};
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::{Span, Status};

/// The same check from somebody who knows its ids but has no token for it.
fn forged(run: &Run, n: u32) -> Run {
    Run { tag: format!("evil{n}-{}", run.tag), token: format!("forged-{n}"), ..run.clone() }
}

/// A run whose execution has failed, and executions that passed under the tags of forged deliveries.
fn attacked(world: &mut World) -> (Run, Vec<Run>) {
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "shop-e2e").at(world.at(0), Status::Failed));
    let forged: Vec<Run> = (1..=6).map(|n| forged(&run, n)).collect();
    for one in &forged {
        world.testkube.add(world.tagged(one, "noop").at(world.at(0), Status::Passed));
    }
    (run, forged)
}

#[test]
fn the_delivery_whose_token_azure_devops_takes_decides_whoever_was_first() {
    // More at once than there is room for, only if those before them can have been refused.
    for (most, pause) in [(5, 0), (5, 50), (5, 3 * SECOND), (6, 90 * SECOND)] {
        for before in 0..=most {
            let mut world = World::new();
            let (run, forged) = attacked(&mut world);
            let forged = &forged[..most];
            for one in &forged[..before] {
                assert_eq!(world.check(one, &[("testrelay-expect", "noop")]), 200);
                world.pass(pause);
            }
            assert_eq!(world.check(&run, &[("testrelay-expect", "shop-e2e")]), 200, "{before} {pause}");
            for one in &forged[before..] {
                world.pass(pause);
                let _ = world.check(one, &[("testrelay-expect", "noop")]);
            }
            world.pass(5 * MINUTE);
            let answered = world.answered(&run);
            assert_eq!(answered.result, "failed", "{before} {pause}: {answered:?}");
            assert!(answered.log.contains("shop-e2e-1 failed"), "{before} {pause}: {}", answered.log);
            let asked = |request: &fakes::Recorded| request.request.target.contains("evil");
            assert!(!world.testkube.requests().iter().any(asked), "a forged tag was asked for");
        }
    }
}

#[test]
fn a_forged_delivery_that_is_rejected_or_sent_elsewhere_keeps_no_true_one_out() {
    let wrong: [&[(&str, &str)]; 4] = [
        &[("testrelay-tag", "no-build")],
        &[("hubname", "build")],
        &[("projectid", "11111111-bdb4-42d7-a560-0f2b54f91cc8")],
        &[("testrelay-timeout", "1s")],
    ];
    for more in wrong {
        let mut world = World::new();
        let run = world.passing(1);
        let mut fields = vec![("authtoken", "forged")];
        fields.extend(more);
        assert_eq!(world.check(&run, &fields), 200, "{more:?}");
        world.pass(2 * SECOND);
        assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200, "{more:?}");
        world.pass(2 * MINUTE);
        assert_eq!(world.answered(&run).result, "succeeded", "{more:?}");
    }
}

#[test]
fn a_token_of_another_project_proves_nothing() {
    let mut world = World::new();
    let run = world.passing(1);
    world.azure.fault(
        AzureRoute::All,
        Span::UntilCleared,
        AzureFault::Status { status: 403, retry_after: None },
    );
    assert_eq!(world.check(&run, &[]), 200);
    world.pass(HOUR);
    assert!(world.testkube.requests().is_empty(), "Testkube was asked for an unproven check");
    assert!(world.nothing_pending() && world.events_sent() >= 1);
}

#[test]
fn where_the_log_is_forbidden_reading_the_own_record_proves_a_token_and_else_the_build() {
    for (closed, open) in [
        (vec![AzureRoute::LogCreate], AzureRoute::Records),
        (vec![AzureRoute::LogCreate, AzureRoute::Records], AzureRoute::Build),
    ] {
        let mut world = World::new();
        let run = world.passing(1);
        for route in &closed {
            let forbidden = AzureFault::Status { status: 403, retry_after: None };
            world.azure.fault(*route, Span::UntilCleared, forbidden);
        }
        assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
        world.pass(2 * MINUTE);
        assert_eq!(world.answered(&run).result, "succeeded", "{open:?}");
    }
}

#[test]
fn a_check_that_no_token_was_taken_for_ends_after_half_an_hour_whatever_it_says() {
    let far = "eyJhbGciOiJub25lIn0.eyJleHAiOjkwMDAwMDAwMDAwMH0.c2ln";
    for more in [("testrelay-timeout", "1s"), ("testrelay-tag", "no-build"), ("testrelay-expect", "a")] {
        let mut world = World::new();
        let mut run = world.passing(1);
        run.token = far.into();
        assert_eq!(world.check(&run, &[more]), 200);
        world.pass(28 * MINUTE);
        assert!(!world.nothing_pending(), "{more:?}: a broken sign-in may last as long");
        world.pass(5 * MINUTE);
        assert!(world.nothing_pending(), "{more:?}");
        assert!(world.testkube.requests().is_empty(), "{more:?}");
    }
}

#[test]
fn a_delivery_right_after_the_decision_gets_the_same_one_and_a_later_one_is_evaluated_anew() {
    for (pause, outcome) in [(10 * SECOND, "failed"), (5 * MINUTE, "succeeded")] {
        for token in ["token-1", "another"] {
            let mut world = World::new();
            let mut run = world.run(1);
            world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Failed));
            world.check(&run, &[("testrelay-expect", "a"), ("testrelay-rerun", "latest")]);
            while world.events_sent() == 0 {
                world.pass(SECOND);
            }
            // The failed one is re-run, and passes.
            let rerun = world.tagged(&run, "a").at(world.at(20 * SECOND), Status::Passed);
            let first = world.testkube.truth("ado-run", &run.tag, world.wall())[0].id.clone();
            world.testkube.add(rerun.actor(super::repeats(&first)));
            world.pass(pause);
            run.token = token.into();
            world.azure.start_check(world.wall(), run.spec());
            assert_eq!(world.check(&run, &[("testrelay-expect", "a"), ("testrelay-rerun", "latest")]), 200);
            world.pass(2 * MINUTE);
            let events = world.azure.events(&run.spec().plan);
            let taken: Vec<_> = events.iter().filter(|event| event.accepted).collect();
            assert_eq!(taken.len(), 2, "{pause} {token}: {events:?}");
            assert_eq!(taken[1].result.as_deref(), Some(outcome), "{pause} {token}");
            let log = world.answered(&run).log;
            let says_anew = log.contains("has sent this check again, although `failed` was reported");
            assert_eq!(says_anew, outcome == "succeeded", "{log}");
        }
    }
}

#[test]
fn the_log_of_a_retried_task_names_its_retries() {
    let mut world = World::new();
    let run = Run { n: 1, tag: "shop-4001".into(), token: "token".into() };
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Failed));
    let fields = [("testrelay-expect", "a"), ("hubname", "build")];
    let spec = fakes::CheckSpec { hub: "build".into(), ..run.spec() };
    world.azure.start_check(world.wall(), spec.clone());
    assert_eq!(world.check(&run, &fields), 200);
    world.pass(5 * MINUTE);
    world.azure.start_check(world.wall(), spec);
    assert_eq!(world.check(&run, &fields), 200);
    world.pass(2 * MINUTE);
    let log = world.answered(&run).log;
    assert!(log.contains("`retryCountOnTaskFailure`") && !log.contains("Time between"), "{log}");
}

#[test]
fn checks_that_an_older_module_accepts_during_an_update_are_decided_once() {
    let mut world = World::new();
    let first = world.passing(1);
    let second = world.passing(2);
    world.check(&first, &[("testrelay-expect", "a")]);
    world.as_an_older_module_kept_it(&first);
    world.pass(MINUTE);
    // The old listener still drains, and accepts another check.
    world.check(&second, &[("testrelay-expect", "a")]);
    world.as_an_older_module_kept_it(&second);
    world.pass(MINUTE);
    for run in [&first, &second] {
        assert_eq!(world.answered(run).result, "succeeded");
    }
    assert_eq!(world.events_sent(), 2);
}

#[test]
fn a_delivery_of_a_check_that_an_older_module_has_accepted_finds_it() {
    let mut world = World::new();
    let mut run = world.passing(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.as_an_older_module_kept_it(&run);
    run.token.push('x');
    world.azure.start_check(world.wall(), run.spec());
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    assert_eq!(world.records(), 1);
    world.pass(2 * MINUTE);
    assert_eq!(world.answered(&run).result, "succeeded");
    assert_eq!(world.events_sent(), 1);
}
