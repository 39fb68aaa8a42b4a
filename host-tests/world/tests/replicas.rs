//! Several replicas that keep their checks in the Kubernetes API server: whatever dies, no check is lost, and none is decided
//! twice.

mod common;

use common::{decided_within, deliver_to, ending, healthy, passing, result, results, sent};
use fakes::kubernetes::{Fault, Route};
use fakes::{Span, Status};
use world::*;

/// The longest time until the others have adopted a dead process's checks, in microseconds.
const ADOPTED: u64 = 26 * SECOND;

/// As many processes in the pods `relay-0`, `relay-1` and so on, each of which has its Lease and knows the others.
fn replicas(count: u32) -> World {
    let setup = Setup { workers: 1, drain: 10 * SECOND, ..Setup::new(7) };
    let mut world = setup.with_cluster_store().start().unwrap();
    for n in 1..count {
        assert_eq!(world.start_replica(&format!("relay-{n}")).unwrap(), n);
    }
    world.pass(5 * SECOND);
    assert_eq!(world.leases().len(), count as usize, "{:?}", world.log());
    world
}

/// The id of the only replica in a pod.
fn replica_in(world: &World, pod: &str) -> String {
    let ids = world.replicas_in(pod);
    assert_eq!(ids.len(), 1, "{:?}", world.leases());
    ids[0].clone()
}

/// Lets time pass until another than `before` owns a check.
fn adopted_within(world: &mut World, pipeline: &Pipeline, before: &str, span: u64) {
    let is_adopted = |world: &World| world.owner(pipeline).is_some_and(|owner| owner != before);
    assert!(world.pass_until(span, is_adopted), "{:?}", world.log());
}

/// The API server is away for this number of seconds, from now on.
fn api_server_away(world: &World, seconds: i64) {
    let from = world.wall();
    let span = Span::Between { from, until: from + seconds * 1_000 };
    world.kubernetes(|server| server.fault(Route::All, span, Fault::Away));
}

/// Once everything is decided, no Secret stays, and no Lease but those of this number of replicas.
fn leaves_nothing(mut world: World, living: usize) {
    world.pass(13 * MINUTE);
    assert_eq!(world.secrets(), Vec::<serde_json::Value>::new());
    assert_eq!(world.leases().len(), living, "{:?}", world.leases());
    healthy(&world);
}

#[test]
fn an_accepted_check_is_in_its_secret_before_the_sender_knows() {
    let mut world = replicas(2);
    world.network("kubernetes", Rule { latency: 200 * MILLISECOND, ..Rule::default() });
    let pipeline = passing(&mut world, 1);
    world.note_delivery(&pipeline);
    let stream = world.send(pipeline.check(&[("Testrelay-Expect", "a")]));
    assert!(world.pass_closely_until(10 * SECOND, |world| world.secret(&pipeline).is_some()));
    assert_eq!(world.answer(stream), None, "the answer to the POST is under way");
    assert_eq!(world.wait(stream).status, 200);
    let secret = world.secret(&pipeline).unwrap();
    assert_eq!(secret["type"], "testrelay.dev/check");
    let labels = &secret["metadata"]["labels"];
    assert_eq!(labels["testrelay.dev/instance"], "testrelay");
    assert_eq!(labels["testrelay.dev/owner"], replica_in(&world, "relay-0"));
    let tag = labels["testrelay.dev/tag"].as_str().unwrap();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(tag.len() == 16 && tag.chars().all(is_hex), "{tag}");
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    leaves_nothing(world, 2);
}

#[test]
fn a_killed_processs_check_is_adopted_and_told_once() {
    let mut world = replicas(3);
    let pipeline = passing(&mut world, 1);
    deliver_to(&mut world, 0, &pipeline);
    let owner = world.owner(&pipeline).unwrap();
    assert_eq!(owner, replica_in(&world, "relay-0"));
    world.kill(0);
    world.pass(14 * SECOND);
    assert_eq!(world.owner(&pipeline), Some(owner.clone()), "nobody can know yet");
    adopted_within(&mut world, &pipeline, &owner, ADOPTED - 14 * SECOND);
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    world.pass(2 * MINUTE);
    assert_eq!(sent(&world, &pipeline), ["succeeded"]);
    leaves_nothing(world, 2);
}

#[test]
fn a_restarted_container_goes_on_with_its_checks_at_once() {
    let mut world = replicas(2);
    let pipeline = ending(&mut world, 1, 5_000, Status::Passed);
    deliver_to(&mut world, 0, &pipeline);
    let owner = world.owner(&pipeline).unwrap();
    let next = world.restart(0).unwrap();
    adopted_within(&mut world, &pipeline, &owner, 3 * SECOND);
    let own = world.owner(&pipeline).unwrap();
    assert!(world.replicas_in("relay-0").contains(&own), "the other has not taken it");
    assert_eq!(decided_within(&mut world, &pipeline, 30 * SECOND), "succeeded");
    assert_eq!(sent(&world, &pipeline), ["succeeded"]);
    assert!(world.on(next, |world| world.is_alive()));
    leaves_nothing(world, 2);
}

#[test]
fn a_stored_decision_is_sent_by_whoever_adopts_it_and_never_made_again() {
    let mut world = replicas(2);
    world.network("kubernetes", Rule { latency: 100 * MILLISECOND, jitter: 0, ..Rule::default() });
    let pipeline = passing(&mut world, 1);
    deliver_to(&mut world, 0, &pipeline);
    // Whatever is written once the tests have passed is the decision.
    let passed = START + 20_000;
    let is_stored = |world: &World| {
        let writes = world.writes(&pipeline);
        writes.iter().any(|write| write.at >= passed && write.method == "PUT" && write.status == Some(200))
    };
    assert!(world.pass_closely_until(MINUTE, is_stored), "{:?}", world.log());
    assert_eq!(sent(&world, &pipeline), Vec::<String>::new(), "its answer is under way");
    world.kill(0);
    // Whoever looked again would see a failure.
    let now = world.wall();
    let failed = pipeline.tagged("a").at(now, Status::Running).at(now + 1_000, Status::Failed);
    world.testkube(|testkube| testkube.add(failed));
    assert_eq!(decided_within(&mut world, &pipeline, ADOPTED + 30 * SECOND), "succeeded");
    world.pass(2 * MINUTE);
    assert_eq!(sent(&world, &pipeline), ["succeeded"]);
    leaves_nothing(world, 1);
}

#[test]
fn an_event_whose_answer_died_with_its_sender_is_sent_once_more_with_the_same_result() {
    let mut world = replicas(2);
    world.network("azure-devops", Rule { latency: 300 * MILLISECOND, jitter: 0, ..Rule::default() });
    let pipeline = passing(&mut world, 1);
    deliver_to(&mut world, 0, &pipeline);
    assert!(world.pass_closely_until(MINUTE, |world| result(world, &pipeline).is_some()));
    world.kill(0);
    let now = world.wall();
    let failed = pipeline.tagged("a").at(now, Status::Running).at(now + 1_000, Status::Failed);
    world.testkube(|testkube| testkube.add(failed));
    world.pass(3 * MINUTE);
    let sent = sent(&world, &pipeline);
    assert!(sent.len() <= 2 && sent.iter().all(|result| result == "succeeded"), "{sent:?}");
    assert_eq!(results(&world, &pipeline), ["succeeded"]);
    leaves_nothing(world, 1);
}

#[test]
fn a_replica_that_does_not_reach_the_api_server_for_a_while_costs_no_check_and_adopts_none() {
    let mut world = replicas(2);
    let checks: Vec<Pipeline> = (0..20).map(|n| ending(&mut world, n, 60_000, Status::Passed)).collect();
    for pipeline in &checks {
        deliver_to(&mut world, pipeline.n % 2, pipeline);
    }
    let theirs = replica_in(&world, "relay-1");
    world.partition(0, "kubernetes", true);
    world.pass(30 * SECOND);
    world.partition(0, "kubernetes", false);
    for pipeline in checks.iter().filter(|pipeline| pipeline.n % 2 == 1) {
        assert_eq!(world.owner(pipeline).as_ref(), Some(&theirs), "it could not be seen that they live");
    }
    for pipeline in &checks {
        assert_eq!(decided_within(&mut world, pipeline, 2 * MINUTE), "succeeded");
    }
    world.pass(2 * MINUTE);
    for pipeline in &checks {
        assert_eq!(sent(&world, pipeline), ["succeeded"], "run {}", pipeline.n);
    }
    leaves_nothing(world, 2);
}

#[test]
fn an_outage_of_the_api_server_makes_nobody_dead_and_loses_no_check() {
    for seconds in [30, 90] {
        let mut world = replicas(3);
        // Some end while it is away, some long after.
        let early: Vec<Pipeline> = (0..9).map(|n| ending(&mut world, n, 20_000, Status::Passed)).collect();
        let late: Vec<Pipeline> = (9..18).map(|n| ending(&mut world, n, 240_000, Status::Failed)).collect();
        for pipeline in early.iter().chain(&late) {
            deliver_to(&mut world, pipeline.n % 3, pipeline);
        }
        let owners = |world: &World| -> Vec<Option<String>> {
            late.iter().map(|pipeline| world.owner(pipeline)).collect()
        };
        let before = owners(&world);
        api_server_away(&world, seconds);
        world.pass(5 * SECOND);
        let refused = passing(&mut world, 18);
        let answer = world.on(1, |world| world.deliver(&refused, &[("Testrelay-Expect", "a")]));
        assert_eq!((answer.status, answer.by), (503, By::Module), "{}", answer.text());
        world.pass(seconds.unsigned_abs() * SECOND);
        deliver_to(&mut world, 2, &refused);
        world.pass(40 * SECOND);
        assert_eq!(owners(&world), before, "after {seconds} s");
        for pipeline in early.iter().chain([&refused]) {
            assert_eq!(decided_within(&mut world, pipeline, 2 * MINUTE), "succeeded");
        }
        for pipeline in &late {
            assert_eq!(decided_within(&mut world, pipeline, 5 * MINUTE), "failed");
        }
        world.pass(2 * MINUTE);
        for pipeline in early.iter().chain(&late) {
            assert_eq!(sent(&world, pipeline).len(), 1, "run {} after {seconds} s", pipeline.n);
        }
        leaves_nothing(world, 3);
    }
}

#[test]
fn a_delivery_in_a_short_trouble_is_stored_at_a_later_try() {
    for way in [Way::Refused, Way::NoConnection] {
        let mut world = replicas(1);
        let pipeline = passing(&mut world, 0);
        let rule = Rule { fails: 1, ways: vec![way], ..Rule::default() };
        world.network("kubernetes", rule);
        world.note_delivery(&pipeline);
        let stream = world.send(pipeline.check(&[("Testrelay-Expect", "a")]));
        // It has been tried twice by then, and Azure DevOps waits for 20 s.
        world.pass(2 * SECOND);
        assert!(world.answer(stream).is_none(), "{way:?}");
        world.network("kubernetes", Rule::default());
        world.pass(10 * SECOND);
        let answer = world.answer(stream).expect("an answer");
        assert_eq!((answer.status, answer.by), (200, By::Module), "{way:?}: {}", answer.text());
        assert_eq!(world.secrets().len(), 1, "{way:?}");
    }
}

#[test]
fn a_check_that_comes_again_at_another_replica_is_one_check_and_is_told_after_both() {
    let mut world = replicas(2);
    let mut pipeline = passing(&mut world, 1);
    deliver_to(&mut world, 0, &pipeline);
    world.pass(2 * SECOND);
    let before = world.secret(&pipeline).unwrap();
    let since = world.wall();
    world.another_delivery(&mut pipeline);
    deliver_to(&mut world, 1, &pipeline);
    let after = world.secret(&pipeline).unwrap();
    assert_eq!(world.secrets().len(), 1);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_ne!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"], "its owner is who had it first");
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    world.pass(MINUTE);
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    assert!(events.iter().any(|event| event.accepted && event.at >= since), "{events:?}");
    assert!(sent(&world, &pipeline).iter().all(|result| result == "succeeded"));
    leaves_nothing(world, 2);
}

#[test]
fn of_two_hundred_checks_none_is_lost_and_none_is_wrong_when_one_of_two_replicas_is_killed() {
    let mut world = replicas(2);
    let checks: Vec<(Pipeline, &str)> = (0..200)
        .map(|n| {
            let (status, result) =
                if n % 3 == 0 { (Status::Failed, "failed") } else { (Status::Passed, "succeeded") };
            (ending(&mut world, n, 20_000 + i64::from(n) * 500, status), result)
        })
        .collect();
    for (pipeline, _) in &checks {
        deliver_to(&mut world, pipeline.n % 2, pipeline);
    }
    world.pass_until(20 * SECOND, |world| world.wall() >= START + 40_000);
    world.kill(0);
    for (pipeline, expected) in &checks {
        assert_eq!(decided_within(&mut world, pipeline, 5 * MINUTE), *expected, "run {}", pipeline.n);
    }
    world.pass(2 * MINUTE);
    for (pipeline, expected) in &checks {
        assert_eq!(results(&world, pipeline), [*expected], "run {}", pipeline.n);
        assert!(sent(&world, pipeline).len() <= 2, "run {}", pipeline.n);
    }
    leaves_nothing(world, 1);
}

#[test]
fn a_check_whose_secret_somebody_deletes_still_ends() {
    let mut world = replicas(2);
    let pipeline = passing(&mut world, 1);
    deliver_to(&mut world, 0, &pipeline);
    world.pass(5 * SECOND);
    world.delete_secret(&pipeline);
    assert_eq!(world.secret(&pipeline), None);
    assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded");
    world.pass(2 * MINUTE);
    assert_eq!(sent(&world, &pipeline), ["succeeded"]);
    leaves_nothing(world, 2);
}

#[test]
fn each_replica_may_die_in_turn() {
    let mut world = replicas(3);
    let checks: Vec<Pipeline> = (0..12).map(|n| ending(&mut world, n, 150_000, Status::Passed)).collect();
    for pipeline in &checks {
        deliver_to(&mut world, pipeline.n % 3, pipeline);
    }
    for dying in 0..3 {
        world.kill(dying);
        world.pass(40 * SECOND);
        let next = dying + 3;
        assert_eq!(world.start_replica(&format!("relay-{next}")).unwrap(), next);
        world.pass(5 * SECOND);
    }
    for pipeline in &checks {
        assert_eq!(decided_within(&mut world, pipeline, 2 * MINUTE), "succeeded");
        assert_eq!(results(&world, pipeline), ["succeeded"]);
    }
    leaves_nothing(world, 3);
}
