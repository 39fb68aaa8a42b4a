//! Policies of checks whose owner dies: they come with the Secret, and so does the wait for a re-run.

use super::*;
use fakes::{Actor, execution};

/// A check whose `e2e` and whose optional `lint` fail, 40 s after that, with a second replica that has adopted it.
fn adopted() -> (Replicas, Run) {
    let mut world = Replicas::new(2);
    world.headers = &[("testrelay-expect", "e2e"), ("testrelay-optional", "lint"), ("testrelay-grace", "2m")];
    let run = world.run(1, 5_000, Status::Failed);
    let lint = execution("lint").tag("ado-run", &run.tag);
    let now = world.wall();
    world.testkube.add(lint.at(now - 1_000, Status::Running).at(now + 1_000, Status::Failed));
    assert_eq!(world.accept(0, &run), 200);
    world.pass(15 * SECOND);
    world.kill(0);
    world.pass(30 * SECOND);
    assert!(world.events(&run).0.is_empty());
    (world, run)
}

#[test]
fn a_re_run_after_its_owners_death_replaces_the_failure() {
    let (mut world, run) = adopted();
    let now = world.wall();
    let all = world.testkube.truth("ado-run", &run.tag, now);
    let failed = all.into_iter().find(|execution| execution.workflow == "e2e").unwrap().id;
    let actor = Actor {
        kind: "user".into(),
        name: "somebody".into(),
        execution_id: None,
        execution_reference: Some(failed),
    };
    let again = execution("e2e").tag("ado-run", &run.tag).actor(actor);
    world.testkube.add(again.at(now, Status::Running).at(now + 5_000, Status::Passed));
    world.pass(MINUTE);
    let (accepted, all) = world.events(&run);
    assert_eq!((accepted, all), (vec!["succeeded".to_string()], 1));
}

#[test]
fn without_a_re_run_the_adopter_decides_when_the_time_is_over() {
    let (mut world, run) = adopted();
    // The adopter saw the failure some 10 s ago for the first time.
    world.pass(MINUTE);
    assert!(world.events(&run).0.is_empty());
    world.pass(90 * SECOND);
    let (accepted, all) = world.events(&run);
    assert_eq!((accepted, all), (vec!["failed".to_string()], 1));
}
