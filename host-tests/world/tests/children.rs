//! Named scenarios: executions whose actor names a parent. Callers of Testkube's API write that field.

mod common;

use common::*;
use fakes::{Actor, Build, Execution, Stage, Status};
use world::*;

const A: [(&str, &str); 1] = [("Testrelay-Expect", "a")];

/// An execution that has ended.
fn ended(pipeline: &Pipeline, workflow: &str, world: &World, status: Status) -> Execution {
    let from = world.wall() - 60_000;
    pipeline.tagged(workflow).at(from, Status::Running).at(from + 20_000, status)
}

/// The decision of a check whose `a` has passed, beside the executions that `more` makes from the id of `a`.
fn beside(more: impl Fn(&World, &Pipeline, &str) -> Vec<Execution>) -> String {
    let mut world = world(1);
    let pipeline = world.pipeline(1);
    let a = ended(&pipeline, "a", &world, Status::Passed);
    let id = world.testkube(|testkube| testkube.add(a));
    for execution in more(&world, &pipeline, &id) {
        world.testkube(|testkube| testkube.add(execution));
    }
    assert_eq!(world.deliver(&pipeline, &A).status, 200);
    let result = decided_within(&mut world, &pipeline, MINUTE);
    healthy(&world);
    result
}

#[test]
fn a_failed_child_is_judged_through_a_parent_that_counts() {
    type Child = fn(Execution, &str) -> Execution;
    let children: [Child; 4] = [
        |child, parent| child.child_of("a", parent),
        |child, parent| child.git_child_of(&[parent]),
        |child, parent| child.git_child_of(&["6973a5d2e1c4b0a7f3d9e201", parent]),
        |child, parent| child.below(&[parent, "6973a5d2e1c4b0a7f3d9e201"]),
    ];
    for child in children {
        let failed = |world: &World, pipeline: &Pipeline, parent: &str| {
            vec![child(ended(pipeline, "child", world, Status::Failed), parent)]
        };
        assert_eq!(beside(failed), "succeeded");
    }
}

#[test]
fn a_failed_execution_that_names_no_parent_that_is_there_counts() {
    let failed = |world: &World, pipeline: &Pipeline| ended(pipeline, "child", world, Status::Failed);
    let nobody = Actor {
        kind: "testworkflow".into(),
        name: "a".into(),
        execution_id: None,
        execution_reference: None,
    };
    assert_eq!(
        beside(|world, pipeline, _| vec![
            failed(world, pipeline).git_child_of(&["6973a5d2e1c4b0a7f3d9e201"])
        ]),
        "failed"
    );
    assert_eq!(beside(|world, pipeline, _| vec![failed(world, pipeline).actor(nobody.clone())]), "failed");
}

/// The id that Testkube will give to the execution that is added as the `n`th.
fn id_of(world: &World, pipeline: &Pipeline, n: usize) -> String {
    let mut testkube = fakes::Testkube::new(fakes::testkube::Database::Mongo);
    let ids = (0..n).map(|_| testkube.add(ended(pipeline, "child", world, Status::Failed)));
    ids.last().unwrap()
}

#[test]
fn a_failed_execution_that_names_itself_or_is_named_by_its_own_child_counts() {
    let failed = |world: &World, pipeline: &Pipeline| ended(pipeline, "child", world, Status::Failed);
    let itself = |world: &World, pipeline: &Pipeline, _: &str| {
        vec![failed(world, pipeline).git_child_of(&[&id_of(world, pipeline, 2)])]
    };
    assert_eq!(beside(itself), "failed");
    let each_other = |world: &World, pipeline: &Pipeline, _: &str| {
        let child_of = |n| failed(world, pipeline).git_child_of(&[&id_of(world, pipeline, n)]);
        vec![child_of(3), child_of(2)]
    };
    assert_eq!(beside(each_other), "failed");
}

#[test]
fn a_child_does_not_take_the_place_of_what_counts() {
    // It is judged through `a`, and claims to repeat the one that failed.
    let repeats = |world: &World, pipeline: &Pipeline, parent: &str| {
        let original = id_of(world, pipeline, 2);
        let failed = ended(pipeline, "b", world, Status::Failed);
        let passed = ended(pipeline, "b", world, Status::Passed).actor(Actor {
            kind: "testworkflow".into(),
            name: "a".into(),
            execution_id: Some(parent.into()),
            execution_reference: Some(original),
        });
        vec![failed, passed]
    };
    assert_eq!(beside(repeats), "failed");
}

#[test]
fn a_stage_is_named_by_its_identifier_before_another_ones_display_name() {
    let mut world = world(2);
    let run = world.pipeline(1);
    let (before, began) = (world.wall() - 300_000, world.wall() - 5_000);
    // It ran for a stage that is displayed as `Test`, before the one that is called so in the YAML.
    let old = run.tagged("a").at(before, Status::Running).at(before + 60_000, Status::Passed);
    world.testkube(|testkube| testkube.add(old));
    let stage = |identifier: &str, name: &str, start_time| Stage {
        name: name.into(),
        identifier: identifier.into(),
        attempt: 1,
        start_time: Some(start_time),
    };
    world.azure(|azure| {
        let build = Build::new(PROJECT, run.build).started_at(BUILD_BEGAN);
        let stages = [stage("Test", "Run the tests", began), stage("Smoke", "Test", before - 10_000)];
        azure.add_build(stages.into_iter().fold(build, Build::stage));
    });
    let ask = [("Testrelay-Expect", "a"), ("Testrelay-Since-Stage", "Test")];
    assert_eq!(world.deliver(&run, &ask).status, 200);
    world.pass(10 * MINUTE);
    assert_eq!(result(&world, &run), None, "the pass is from before the stage");
    healthy(&world);
}
