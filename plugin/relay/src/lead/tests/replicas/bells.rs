//! Events of Testkube that arrive at a replica which does not own the checks.

use super::*;

/// Long enough for looks to have become rare.
const LATER: u64 = 10 * MINUTE;

/// A check of replica 0 whose execution has run for ten minutes and ends 300 ms later.
fn waiting(replicas: usize) -> (Replicas, Run) {
    let mut world = Replicas::new(replicas);
    world.headers = &[("testrelay-expect", "e2e")];
    let run = world.run(1, LATER as i64 + 300, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(LATER);
    (world, run)
}

/// The milliseconds from now until its event.
fn until_decided(world: &mut Replicas, run: &Run) -> u64 {
    let began = world.now;
    while world.events(run).1 == 0 {
        world.pass(5);
        assert!(world.now < began + MINUTE, "not decided");
    }
    world.now - began
}

fn bells(world: &mut Replicas) -> usize {
    let leases = world.server.objects(world.wall(), Resource::Leases, "testrelay");
    leases.iter().filter(|lease| label(lease, "kind") == "bell").count()
}

#[test]
fn an_event_at_another_replica_brings_the_look_forward_within_two_seconds() {
    // At each moment between two ticks.
    for (n, late) in (300..1_300).step_by(95).enumerate() {
        let replicas = 2 + n % 4;
        let (mut world, run) = waiting(replicas);
        world.pass(late);
        world.hint(replicas - 1, &run);
        let waited = until_decided(&mut world, &run);
        assert!(waited <= 2 * SECOND, "{waited} ms with {replicas} replicas");
        world.pass(3 * SECOND);
        assert_eq!(bells(&mut world), 0, "the owner takes it down");
        assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
    }
}

#[test]
fn the_owner_itself_needs_no_bell_and_an_event_for_nobody_makes_none() {
    let (mut world, run) = waiting(2);
    let other = Run { tag: "run-of-nobody".into(), ..run.clone() };
    world.hint(1, &other);
    world.hint(0, &run);
    for _ in 0..40 {
        world.pass(50);
        assert_eq!(bells(&mut world), 0);
    }
}

#[test]
fn without_another_replica_an_event_asks_the_api_server_nothing() {
    let (mut world, run) = waiting(1);
    let by_tag = |world: &Replicas| {
        let asked = world.server.requests();
        asked.iter().filter(|asked| asked.request.target.contains("testrelay.dev%2Ftag")).count()
    };
    world.hint(0, &run);
    world.pass(5 * SECOND);
    assert_eq!(by_tag(&world), 0);
}

#[test]
fn events_of_one_second_are_asked_for_together() {
    let (mut world, run) = waiting(2);
    let before = world.server.requests().len();
    let runs: Vec<Run> = (2..22).map(|n| Run { tag: format!("run-{n}"), ..run.clone() }).collect();
    for of_a_second in runs.chunks(10) {
        of_a_second.iter().for_each(|run| world.hint(1, run));
        world.pass(SECOND);
    }
    world.pass(2 * SECOND);
    let asked = world.server.requests();
    let asked = asked.iter().skip(before);
    let lists = asked.filter(|asked| asked.request.target.contains("testrelay.dev%2Ftag"));
    assert!((2..=4).contains(&lists.count()));
}

#[test]
fn a_bell_whose_owner_is_gone_is_taken_down_after_a_minute() {
    let (mut world, run) = waiting(2);
    world.kill(0);
    world.hint(1, &run);
    world.pass(SECOND);
    assert_eq!(bells(&mut world), 1);
    world.pass(58 * SECOND);
    assert_eq!(bells(&mut world), 1);
    world.pass(5 * SECOND);
    assert_eq!(bells(&mut world), 0);
    world.pass(MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

#[test]
fn a_bell_says_nothing_about_its_owners_life() {
    let (mut world, run) = waiting(3);
    world.kill(0);
    for _ in 0..28 {
        world.hint(1, &run);
        world.pass(SECOND);
    }
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1), "adopted as without events");
}

#[test]
fn where_bells_cannot_be_made_the_check_is_decided_at_its_next_look() {
    for verb in [Verb::Create, Verb::Delete] {
        let (mut world, run) = waiting(2);
        world.server.fault(Route::Only(Resource::Leases, verb), Span::UntilCleared, Weather::Away);
        world.pass(300);
        world.hint(1, &run);
        world.pass(30 * SECOND);
        assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
        world.server.clear_faults();
        world.pass(10 * SECOND);
        assert_eq!(bells(&mut world), 0);
    }
}
