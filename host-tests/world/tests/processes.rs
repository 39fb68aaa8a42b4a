//! Several processes: one is killed, a container starts again, a replica is cut off.

mod common;

use common::{decided_within, deliver_to, healthy, passing, result, results, sent, world};
use fakes::azure::{Fault, Route};
use fakes::{Request, Span};
use world::*;

const EXPECT: [(&str, &str); 1] = [("Testrelay-Expect", "a")];

/// A check that a process has taken.
fn delivered(world: &mut World, process: u32, n: u32) -> Pipeline {
    let pipeline = passing(world, n);
    deliver_to(world, process, &pipeline);
    pipeline
}

fn probe() -> Request {
    Request::new("GET", "/testrelay/healthz")
}

#[test]
fn a_killed_process_loses_its_checks() {
    let mut world = world(2);
    let pipeline = delivered(&mut world, 0, 1);
    world.pass(5 * SECOND);
    let calls = world.testkube(|testkube| testkube.requests().len());
    assert!(calls > 0, "it polls");
    world.kill(0);
    world.pass(30 * MINUTE);
    // What was on its way may have arrived.
    assert!(world.testkube(|testkube| testkube.requests().len()) <= calls + 1, "nobody polls");
    assert_eq!(result(&world, &pipeline), None);
    assert_eq!(world.shared_size(), (0, 0));
    healthy(&world);
}

#[test]
fn a_killed_process_answers_nobody_and_runs_no_callback() {
    let mut world = world(1);
    let connection = world.connect(LISTENER, 1);
    let first = world.send_over(connection, probe(), Vec::new());
    assert_eq!(world.wait(first).status, 200);
    // Its body never ends.
    let chunks = vec![(0, b"{".to_vec()), (20 * SECOND, b"}".to_vec())];
    let pipeline = passing(&mut world, 1);
    let waits = world.send_in_pieces(LISTENER, pipeline.check_in_body(&EXPECT), chunks);
    world.pass(SECOND);
    assert_eq!(world.answer(waits), None);
    let logged = world.log().len();
    world.kill(0);
    assert!(!world.is_alive());
    let cut = world.wait(waits);
    assert_eq!((cut.status, cut.by), (0, By::Envoy));
    for stream in [world.send_over(connection, probe(), Vec::new()), world.send(probe())] {
        assert_eq!(world.wait(stream).status, 0);
    }
    world.pass(MINUTE);
    assert_eq!(world.log().len(), logged, "{:?}", world.log());
    healthy(&world);
}

#[test]
fn two_replicas_decide_their_own_checks() {
    let mut world = Setup { pod: "relay-0".into(), workers: 1, ..Setup::new(7) }.start().unwrap();
    let other = world.start_replica("relay-1").unwrap();
    assert_eq!((world.process(), other), (0, 1));
    let own = delivered(&mut world, 0, 1);
    let others = delivered(&mut world, other, 2);
    let shared = |world: &World| world.shared_keys("/checks/");
    assert_eq!([shared(&world), world.on(other, |world| shared(world))], [1, 1]);
    for pipeline in [&own, &others] {
        assert_eq!(decided_within(&mut world, pipeline, MINUTE), "succeeded");
    }
    world.pass(2 * MINUTE);
    assert_eq!([results(&world, &own).len(), results(&world, &others).len()], [1, 1]);
    // One dies, and the other goes on.
    let left = delivered(&mut world, other, 3);
    world.kill(0);
    assert_eq!(decided_within(&mut world, &left, MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_check_that_two_replicas_have_is_decided_by_both_if_they_share_nothing() {
    let mut world = world(1);
    let other = world.start_replica("relay-1").unwrap();
    let mut pipeline = delivered(&mut world, 0, 1);
    world.another_delivery(&mut pipeline);
    deliver_to(&mut world, other, &pipeline);
    world.pass(5 * MINUTE);
    assert_eq!(sent(&world, &pipeline), ["succeeded", "succeeded"]);
    healthy(&world);
}

#[test]
fn a_restarted_container_knows_nothing_of_its_past() {
    let mut world = Setup { pod: "relay-0".into(), workers: 1, ..Setup::new(7) }.start().unwrap();
    let pipeline = delivered(&mut world, 0, 1);
    let began = world.now();
    let next = world.restart(0).unwrap();
    assert_eq!((world.process(), next), (1, 1), "the new one is driven");
    assert!(world.now() < began + SECOND);
    assert_eq!(world.shared_keys("/checks/"), 0);
    let new = delivered(&mut world, next, 2);
    assert_eq!(decided_within(&mut world, &new, MINUTE), "succeeded");
    world.pass(20 * MINUTE);
    assert_eq!(result(&world, &pipeline), None);
    assert!(!world.on(0, |world| world.is_alive()));
    healthy(&world);
}

#[test]
fn a_process_that_is_cut_off_decides_nothing_while_another_goes_on() {
    let mut world = world(1);
    let other = world.start_replica("relay-1").unwrap();
    world.partition(0, "azure-devops", true);
    let own = delivered(&mut world, 0, 1);
    let others = delivered(&mut world, other, 2);
    assert_eq!(decided_within(&mut world, &others, MINUTE), "succeeded");
    world.pass(2 * MINUTE);
    let of_own = |world: &World| {
        let plan = own.spec().plan;
        world.azure(|azure| azure.requests().iter().filter(|got| got.request.target.contains(&plan)).count())
    };
    assert_eq!(of_own(&world), 0);
    world.partition(0, "azure-devops", false);
    assert_eq!(decided_within(&mut world, &own, 6 * MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn the_answers_to_calls_under_way_are_lost_where_a_process_is_cut_off() {
    let mut world = world(1);
    let pipeline = delivered(&mut world, 0, 1);
    let slow = Fault::Slow { millis: 10_000 };
    world.azure(|azure| azure.fault(Route::Events, Span::Next(1), slow));
    assert!(world.pass_until(MINUTE, |world| result(world, &pipeline).is_some()));
    world.partition(0, "azure-devops", true);
    world.pass(MINUTE);
    world.partition(0, "azure-devops", false);
    world.pass(5 * MINUTE);
    // The second event says the same, and nobody waits for it.
    assert_eq!(sent(&world, &pipeline), ["succeeded", "succeeded"]);
    assert_eq!(results(&world, &pipeline).len(), 1);
    healthy(&world);
}

#[test]
fn a_call_that_was_under_way_when_its_process_was_killed_is_executed_or_not() {
    let (mut executed, mut late) = (0, 0);
    for seed in 0..24 {
        let mut world = Setup { workers: 1, ..Setup::new(seed) }.start().unwrap();
        let slow = Rule { latency: 500 * MILLISECOND, jitter: 0, ..Rule::default() };
        world.network("azure-devops", slow);
        let pipeline = delivered(&mut world, 0, 1);
        // The event takes half a second to Azure DevOps.
        let is_sent =
            |world: &World| world.under_way("azure-devops").iter().any(|call| call.contains("/events"));
        assert!(world.pass_closely_until(2 * MINUTE, is_sent), "{:?}", world.log());
        world.kill(0);
        let killed = world.wall();
        world.pass(MINUTE);
        let at = world.azure(|azure| azure.events(&pipeline.spec().plan).first().map(|event| event.at));
        executed += u32::from(at.is_some());
        late += u32::from(at.is_some_and(|at| at > killed + 600));
        healthy(&world);
    }
    assert!((1..24).contains(&executed) && (1..executed).contains(&late), "{executed} executed, {late} late");
}

#[test]
fn a_killed_process_leaves_a_hot_restarts_other_one_alone() {
    let mut world = world(1);
    let pipeline = delivered(&mut world, 0, 1);
    assert!(world.hot_restart(90 * SECOND).unwrap());
    world.kill(1);
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    healthy(&world);
}
