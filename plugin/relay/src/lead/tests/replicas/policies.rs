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

/// A check with `Testrelay-Retry` whose execution fails in five seconds, at the first of two replicas.
fn retried() -> (Replicas, Run) {
    let mut world = Replicas::new(2);
    world.headers = &[("testrelay-expect", "e2e"), ("testrelay-retry", "1")];
    let run = world.run(1, 5_000, Status::Failed);
    assert_eq!(world.accept(0, &run), 200);
    (world, run)
}

fn reruns(world: &Replicas, run: &Run) -> usize {
    world.testkube.reruns("ado-run", &run.tag).len()
}

#[test]
fn a_replica_that_dies_around_a_re_run_leaves_one() {
    let mut reran = 0;
    // The failure is seen some 6 s after the start.
    for ms in (4_000..9_000).step_by(97) {
        let (mut world, run) = retried();
        world.pass(ms);
        world.kill(0);
        world.pass(4 * MINUTE);
        let (accepted, all) = world.events(&run);
        let served = reruns(&world, &run);
        let result = if served == 1 { "succeeded" } else { "failed" };
        assert_eq!((accepted, all), (vec![result.to_string()], 1), "killed after {ms} ms: {served} re-runs");
        assert!(served <= 1);
        reran += served;
    }
    assert!(reran > 40, "{reran} of 52");
}

#[test]
fn a_re_run_is_asked_for_once_it_is_stored_and_not_at_all_without_the_api_server() {
    for (outage, result, expected) in [(20 * SECOND, "succeeded", 1), (10 * MINUTE, "failed", 0)] {
        let (mut world, run) = retried();
        world.pass(3 * SECOND);
        let until = world.wall() + outage as i64;
        let updates = Route::Only(Resource::Secrets, Verb::Update);
        world.server.fault(updates, Span::Between { from: 0, until }, Weather::Away);
        world.pass(15 * SECOND);
        assert_eq!(reruns(&world, &run), 0, "it is not stored yet");
        world.pass(outage + 4 * MINUTE);
        let (accepted, _) = world.events(&run);
        assert_eq!((accepted, reruns(&world, &run)), (vec![result.to_string()], expected));
    }
}

#[test]
fn a_refusal_comes_with_the_secret() {
    let mut world = Replicas::new(2);
    world.headers = &[("testrelay-expect", "e2e"), ("testrelay-retry", "1")];
    let run = world.run(1, 2 * MINUTE as i64, Status::Passed);
    let failed = execution("e2e").tag("ado-run", &run.tag).rerun_refused("can't rerun it");
    let now = world.wall();
    world.testkube.add(failed.at(now - 1_000, Status::Running).at(now + 5_000, Status::Failed));
    assert_eq!(world.accept(0, &run), 200);
    world.pass(20 * SECOND);
    world.kill(0);
    world.pass(110 * SECOND);
    // Both have ended some seconds ago: the adopter waits for no re-run.
    assert_eq!(world.events(&run), (vec!["failed".into()], 1));
    let lines = world.azure.log_lines(&run.spec().plan).join("\n");
    assert!(lines.contains("can't rerun it"), "{lines}");
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
