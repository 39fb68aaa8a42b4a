//! Named scenarios: what pipelines do to their checks.

mod common;

use common::*;
use fakes::{Build, Stage, Status};
use world::*;

const A: [(&str, &str); 1] = [("Testrelay-Expect", "a")];

#[test]
fn a_retry_of_the_gated_stage_alone_is_decided_by_the_same_executions() {
    let mut world = world(2);
    let first = passing(&mut world, 1);
    assert_eq!(world.deliver(&first, &A).status, 200);
    assert_eq!(decided_within(&mut world, &first, MINUTE), "succeeded");
    world.pass(20 * MINUTE);
    let retry = first.stage_beside(2);
    world.begin(&retry);
    assert_eq!(world.deliver(&retry, &A).status, 200);
    assert_eq!(decided_within(&mut world, &retry, 10 * SECOND), "succeeded");
    healthy(&world);
}

#[test]
fn a_re_run_of_the_test_stage_is_not_decided_by_the_pass_of_the_attempt_before() {
    let mut world = world(2);
    let run = world.pipeline(1);
    let (before, began) = (world.wall() - 300_000, world.wall() - 5_000);
    let old = run.tagged("a").at(before, Status::Running).at(before + 60_000, Status::Passed);
    // For ten minutes the list shows only the old pass.
    let late = world.wall() + 600_000;
    let new = run.tagged("a").at(late, Status::Running).at(late + 30_000, Status::Failed);
    let stage = |attempt, start_time| Stage {
        name: "Test".into(),
        identifier: "test".into(),
        attempt,
        start_time: Some(start_time),
    };
    world.testkube(|testkube| [old, new].map(|execution| testkube.add(execution)));
    world.azure(|azure| {
        let build = Build::new(PROJECT, run.build).started_at(BUILD_BEGAN);
        azure.add_build(build.stage(stage(1, before - 10_000)).stage(stage(2, began)));
    });
    let ask = [("Testrelay-Expect", "a"), ("Testrelay-Since-Stage", "Test")];
    assert_eq!(world.deliver(&run, &ask).status, 200);
    world.pass(10 * MINUTE);
    assert_eq!(result(&world, &run), None);
    assert_eq!(decided_within(&mut world, &run, 2 * MINUTE), "failed");
    healthy(&world);
}

#[test]
fn of_two_stages_with_one_tag_the_end_of_one_does_not_touch_the_other() {
    for is_deleted in [false, true] {
        let mut world = world(2);
        let run = passing(&mut world, 1);
        let other = run.stage_beside(2);
        world.begin(&other);
        for pipeline in [&run, &other] {
            assert_eq!(world.deliver(pipeline, &A).status, 200);
        }
        world.pass(5 * SECOND);
        let (now, plan) = (world.wall(), run.spec().plan);
        world.azure(|azure| match is_deleted {
            true => azure.delete_plan(&plan, now),
            false => azure.end_plan(&plan, now, "canceled"),
        });
        assert_eq!(decided_within(&mut world, &other, MINUTE), "succeeded");
        world.pass(15 * MINUTE);
        assert_eq!(result(&world, &run), None, "nobody waits for it");
        let tries = world.azure(|azure| azure.events(&plan).len());
        assert!(tries <= 1, "the answer to the first, or a look at the record, says that the run is over");
        healthy(&world);
    }
}

#[test]
fn after_its_decision_a_check_may_come_again_with_another_tag_and_is_evaluated_anew() {
    let mut world = world(2);
    let mut run = passing(&mut world, 1);
    assert_eq!(world.deliver(&run, &A).status, 200);
    assert_eq!(decided_within(&mut world, &run, MINUTE), "succeeded");
    // The module hears of it a little later.
    world.pass(SECOND);
    run.tag = format!("{}-other", run.tag);
    let from = world.wall();
    let execution = run.tagged("a").at(from, Status::Running).at(from + 20_000, Status::Failed);
    world.testkube(|testkube| testkube.add(execution));
    world.another_delivery(&mut run);
    assert_eq!(world.deliver(&run, &A).status, 200);
    world.pass(MINUTE);
    let events = world.azure(|azure| azure.events(&run.spec().plan));
    let results: Vec<&str> = events.iter().filter_map(|event| event.result.as_deref()).collect();
    assert_eq!(results, ["succeeded", "failed"]);
    healthy(&world);
}

#[test]
fn the_one_that_failed_is_found_on_the_last_page() {
    for failed in [0, 149] {
        let mut world = world(1);
        let run = world.pipeline(1);
        let from = world.wall();
        for n in 0..150 {
            let status = if n == failed { Status::Failed } else { Status::Passed };
            let execution = run.tagged("a").at(from + n, Status::Running).at(from + n + 5_000, status);
            // Each by its own resource: none repeats another.
            let execution = execution.actor(fakes::Actor {
                kind: "testworkflowexecution".into(),
                name: format!("a-{n}"),
                execution_id: None,
                execution_reference: None,
            });
            world.testkube(|testkube| testkube.add(execution));
        }
        assert_eq!(world.deliver(&run, &[("Testrelay-Expect", "a*150")]).status, 200);
        assert_eq!(decided_within(&mut world, &run, 2 * MINUTE), "failed");
        healthy(&world);
    }
}

#[test]
fn a_decision_is_told_soon_after_azure_devops_is_back_however_long_it_was_away() {
    for minutes in [1, 7, 20, 45] {
        let mut world = world(1);
        let run = passing(&mut world, 1);
        assert_eq!(world.deliver(&run, &A).status, 200);
        // The tests end while it is away.
        world.pass(10 * SECOND);
        world.network("azure-devops", Rule { fails: 1, ways: vec![Way::NoConnection], ..Rule::default() });
        world.pass(minutes * MINUTE);
        assert_eq!(result(&world, &run), None);
        world.network("azure-devops", Rule::default());
        assert_eq!(decided_within(&mut world, &run, 65 * SECOND), "succeeded", "after {minutes} min");
        healthy(&world);
    }
}
