//! The order of writes and events, and what becomes of a write that meets another's.

use super::world::{Replicas, Run};
use super::{SECOND, again_of, label};
use base64::Engine;
use fakes::kubernetes::{Fault as Weather, Resource, Route, Verb};
use fakes::{Request, Span, Status};
use serde_json::Value;

/// The record in a check's Secret.
fn record(secret: &Value) -> Value {
    let record = secret["data"]["record"].as_str().unwrap();
    let record = base64::engine::general_purpose::STANDARD.decode(record).unwrap();
    serde_json::from_slice(&record).unwrap()
}

/// The decision that a pending check's Secret has, and when it was made.
fn decided(secret: &Value) -> Option<Value> {
    record(secret)["state"]["pending"]["phase"].get("decided").map(|decided| decided["at"].clone())
}

/// Somebody writes the one Secret, with this owner.
fn write_as(world: &mut Replicas, owner: &str) {
    let mut secret = world.secrets().remove(0);
    secret["metadata"]["labels"]["testrelay.dev/owner"] = owner.into();
    let name = secret["metadata"]["name"].as_str().unwrap();
    let mut put = Request::new("PUT", &format!("/api/v1/namespaces/testrelay/secrets/{name}"));
    put.body = secret.to_string().into_bytes();
    let now = world.wall();
    world.server.act(now, &put);
    assert_eq!(label(&world.secrets()[0], "owner"), owner);
}

/// The id of the replica that accepted the check.
fn owner(world: &mut Replicas) -> String {
    label(&world.secrets()[0], "owner").to_owned()
}

/// Lets time pass until the API server has got a request for which this holds; 40 s at most.
fn until_asked(world: &mut Replicas, is_it: impl Fn(&Request) -> bool) {
    let before = world.server.requests().len();
    for _ in 0..8_000 {
        world.pass(5);
        if world.server.requests()[before..].iter().any(|asked| is_it(&asked.request)) {
            return;
        }
    }
    panic!("nobody asked for it in 40 s");
}

#[test]
fn an_event_waits_until_its_decision_is_stored() {
    let mut world = Replicas::new(1);
    let run = world.run(1, 15_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let until = world.wall() + 100_000;
    let update = Route::Only(Resource::Secrets, Verb::Update);
    world.server.fault(update, Span::Between { from: 0, until }, Weather::Away);
    while world.events(&run).1 == 0 {
        assert!(world.wall() < until + 30_000, "no event");
        world.pass(5);
    }
    assert!(decided(&world.secrets()[0]).is_some(), "the event came first");
    assert_eq!(world.counted(0, crate::check::Counter::Unfenced), 0);
}

#[test]
fn a_stored_decision_is_sent_by_whoever_adopts_the_check_as_it_was_made() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10_000, Status::Failed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let away = fakes::azure::Fault::Status { status: 503, retry_after: None };
    world.azure.fault(fakes::azure::Route::Events, Span::UntilCleared, away);
    world.pass(100 * SECOND);
    let made = decided(&world.secrets()[0]).expect("it was decided");
    world.kill(0);
    world.pass(30 * SECOND);
    world.azure.clear_faults();
    world.pass(60 * SECOND);
    assert_eq!(world.events(&run).0, ["failed"]);
    assert_eq!(record(&world.secrets()[0])["state"]["done"]["decided"], made);
}

#[test]
fn a_replica_without_a_lease_accepts_nothing() {
    let mut world = Replicas::new(1);
    let create = Route::Only(Resource::Leases, Verb::Create);
    world.server.fault(create, Span::UntilCleared, Weather::WebhookDown);
    let next = world.start("pod-1");
    world.pass(3 * SECOND);
    let run = world.run(1, 10_000, Status::Passed);
    assert_eq!(world.accept(next, &run), 503);
    assert_eq!(world.secrets().len(), 0);
    world.server.clear_faults();
    world.pass(3 * SECOND);
    assert_eq!(world.accept(next, &run), 200);
}

#[test]
fn of_two_deliveries_at_once_at_two_replicas_none_is_lost() {
    let mut conflicts = 0;
    for seed in 1..9 {
        let mut world = Replicas::seeded(3, seed, "refuse");
        let run = world.run(1, 600_000, Status::Passed);
        assert_eq!(world.accept(0, &run), 200);
        world.pass(5 * SECOND);
        let others = [1, 2].map(|n| (n, Run { token: format!("token-at-{n}"), ..run.clone() }));
        let streams = others.clone().map(|(n, again)| (n, world.deliver(n, &again)));
        world.pass(8 * SECOND);
        assert_eq!(streams.map(|(n, stream)| world.status(n, stream)), [Some(200); 2]);
        let stored = record(&world.secrets()[0]);
        assert_eq!(stored["state"]["pending"]["delivery"], 3, "seed {seed}");
        conflicts += world.story(&run).lines().filter(|line| line.contains("PUT Some(409)")).count();
    }
    assert!(conflicts > 0, "the deliveries never met");
}

#[test]
fn a_delivery_at_another_replica_is_not_overwritten_by_the_owner() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 20_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let again = again_of(&run);
    world.azure.start_check(world.wall(), again.spec());
    // The owner knows nothing of it when it writes its decision.
    assert_eq!(world.accept(1, &again), 200);
    world.azure.expire_token(&run.token, world.wall());
    world.pass(120 * SECOND);
    assert_eq!(world.events(&run).0, ["succeeded"]);
    assert_eq!(record(&world.secrets()[0])["state"]["done"]["served"], 2);
}

#[test]
fn a_check_that_somebody_else_takes_first_is_not_adopted() {
    let is_list_of = |dead: String| {
        move |asked: &Request| asked.target.contains("secrets?") && asked.target.contains(&dead)
    };
    let is_read = |asked: &Request| asked.method == "GET" && asked.target.contains("secrets/");
    for before_the_read in [true, false] {
        let mut world = Replicas::new(2);
        let run = world.run(1, 300_000, Status::Passed);
        assert_eq!(world.accept(0, &run), 200);
        world.pass(5 * SECOND);
        let dead = owner(&mut world);
        world.kill(0);
        match before_the_read {
            true => until_asked(&mut world, is_list_of(dead)),
            false => until_asked(&mut world, is_read),
        }
        // Nobody whom the other replica knows.
        write_as(&mut world, "0123456789abcdef");
        world.pass(8 * SECOND);
        assert_eq!(world.pending(1), 0, "before the read: {before_the_read}");
        assert_eq!(owner(&mut world), "0123456789abcdef");
    }
}

#[test]
fn an_owner_that_finds_another_at_its_write_goes_on_no_longer() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let (own, now) = (owner(&mut world), world.wall());
    let leases = world.server.objects(now, Resource::Leases, "testrelay");
    let holders = leases.iter().filter_map(|lease| lease["spec"]["holderIdentity"].as_str());
    let other = holders.into_iter().find(|id| *id != own).unwrap();
    // Its decision will meet this version, and the other's sweep finds it.
    write_as(&mut world, other);
    world.pass(150 * SECOND);
    assert_eq!((world.pending(0), world.events(&run)), (0, (vec!["succeeded".into()], 1)));
    assert_eq!(owner(&mut world), other);
}

#[test]
fn an_expired_check_of_a_dead_replica_is_ended_and_not_deleted() {
    let mut world = Replicas::new(1);
    let run = world.run(1, 10_000_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    world.kill(0);
    let next = world.start("pod-1");
    // By its clock the token has ended; a late delivery is still answered from the Secret.
    world.processes[next].skew = 40 * 86_400_000;
    world.pass(40 * SECOND);
    assert_eq!(world.counted(next, crate::check::Counter::Adopted), 1);
    assert!(record(&world.secrets()[0])["state"].get("done").is_some());
}

#[test]
fn what_a_dying_heir_does_not_adopt_the_next_one_does_five_seconds_later() {
    let mut world = Replicas::new(3);
    let runs: Vec<Run> = (1..9).map(|n| world.run(n, 300_000, Status::Passed)).collect();
    for run in &runs {
        assert_eq!(world.accept(0, run), 200);
    }
    world.kill(0);
    world.pass(12 * SECOND);
    world.kill(1);
    // Until the heir is dead too it takes 32 s.
    world.pass(17 * SECOND);
    assert_eq!(world.pending(2), runs.len());
}

#[test]
fn a_check_whose_event_is_under_way_is_not_given_up() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let slow = fakes::azure::Fault::Slow { millis: 4_000 };
    world.azure.fault(fakes::azure::Route::Events, Span::Next(1), slow);
    while world.events(&run).1 == 0 {
        world.pass(5);
    }
    world.drain(0);
    world.pass(90 * SECOND);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

#[test]
fn a_check_whose_owner_has_no_lease_any_more_is_found_within_a_minute() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 300_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    let dead = owner(&mut world);
    world.kill(0);
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/testrelay/leases/testrelay-{dead}");
    let now = world.wall();
    world.server.act(now, &Request::new("DELETE", &path));
    assert_eq!(world.leases(), 1);
    world.pass(65 * SECOND);
    assert_eq!(world.pending(1), 1);
}

#[test]
fn a_replica_that_drains_and_cannot_give_its_checks_up_sends_nothing() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let until = world.wall() + 200_000;
    let update = Route::Only(Resource::Secrets, Verb::Update);
    world.server.fault(update, Span::Between { from: 0, until }, Weather::Away);
    world.drain(0);
    world.pass(195 * SECOND);
    assert_eq!((world.events(&run).1, decided(&world.secrets()[0])), (0, None));
    world.pass(120 * SECOND);
    assert_eq!((world.events(&run), world.pending(0)), ((vec!["succeeded".into()], 1), 0));
}

#[test]
fn a_delivery_in_an_outage_is_added_to_the_secret_that_another_replica_has() {
    let mut world = Replicas::seeded(2, 13, "accept");
    let run = world.run(1, 600_000, Status::Passed);
    assert_eq!(world.accept(1, &run), 200);
    world.pass(5 * SECOND);
    let until = world.wall() + 25_000;
    world.server.fault(Route::All, Span::Between { from: 0, until }, Weather::Away);
    let again = again_of(&run);
    assert_eq!(world.accept(0, &again), 200);
    world.pass(120 * SECOND);
    assert!(record(&world.secrets()[0]).to_string().contains(&again.token));
    assert_eq!((world.pending(0), world.pending(1)), (0, 1));
}

#[test]
fn a_list_of_all_that_shows_nothing_new_causes_no_reading() {
    let mut world = Replicas::new(2);
    let runs: Vec<Run> =
        (1..60).map(|n| world.run(n * 97, 40 * 60 * SECOND as i64, Status::Passed)).collect();
    runs.iter().enumerate().for_each(|(n, run)| assert_eq!(world.accept(n % 2, run), 200));
    world.pass(60 * SECOND);
    world.server.take_requests();
    world.pass(300 * SECOND);
    let is_read = |asked: &&fakes::Recorded| {
        asked.request.method == "GET" && asked.request.target.contains("/secrets/")
    };
    assert_eq!(world.server.requests().iter().filter(is_read).count(), 0);
}
