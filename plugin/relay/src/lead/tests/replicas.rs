//! Several replicas that share their checks through a Kubernetes API server.

mod bells;
mod histories;
mod listing;
mod mishaps;
mod policies;
mod stores;
mod unreadable;
mod world;
mod writes;

use crate::check::Counter;
use fakes::kubernetes::{Fault as Weather, Resource, Route, Verb};
use fakes::{Span, Status};
use serde_json::Value;
use world::{Replicas, Run};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

fn label<'a>(secret: &'a Value, name: &str) -> &'a str {
    secret["metadata"]["labels"][format!("testrelay.dev/{name}")].as_str().unwrap_or_default()
}

#[test]
fn a_check_is_stored_before_it_is_answered_and_its_secret_goes_after_ten_minutes() {
    let mut world = Replicas::new(1);
    let run = world.run(1, 40_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    let secrets = world.secrets();
    assert_eq!(secrets.len(), 1);
    assert_eq!(label(&secrets[0], "kind"), "check");
    assert_eq!(label(&secrets[0], "owner").len(), 16);
    world.pass(2 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
    assert_eq!(world.secrets().len(), 1, "a late delivery is answered from it");
    let writes = world.counted(0, Counter::Stored);
    world.pass(11 * MINUTE);
    assert_eq!(world.secrets().len(), 0);
    assert!(writes <= 4, "{writes} calls after the first");
    assert_eq!(world.leases(), 1);
}

#[test]
fn the_checks_of_a_killed_replica_are_adopted_by_another_and_decided_once() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 60_000, Status::Failed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    world.kill(0);
    world.pass(26 * SECOND);
    assert_eq!((world.pending(1), world.counted(1, Counter::Adopted)), (1, 1));
    world.pass(2 * MINUTE);
    assert_eq!(world.events(&run), (vec!["failed".into()], 1));
    assert_eq!(world.leases(), 1, "that of the living");
}

#[test]
fn a_container_that_starts_again_goes_on_with_its_checks_within_three_seconds() {
    let mut world = Replicas::new(1);
    let runs: Vec<Run> = (1..20).map(|n| world.run(n, 60_000, Status::Passed)).collect();
    for run in &runs {
        assert_eq!(world.accept(0, run), 200);
    }
    world.kill(0);
    let next = world.start("pod-0");
    world.pass(3 * SECOND + 500);
    assert_eq!(world.pending(next), 19);
    world.pass(3 * MINUTE);
    for run in &runs {
        assert_eq!(world.events(run), (vec!["succeeded".into()], 1));
    }
}

#[test]
fn wherever_a_replica_is_killed_in_a_checks_life_the_other_reports_the_same_decision() {
    for at in (0..30).map(|step| 37 * step) {
        let mut world = Replicas::seeded(2, 100 + at, "refuse");
        let run = world.run(1, 0, Status::Passed);
        let stream = world.deliver(0, &run);
        world.pass(at * 10);
        world.kill(0);
        let was_told = world.status(0, stream) == Some(200);
        world.pass(2 * MINUTE);
        let (accepted, all) = world.events(&run);
        assert!(accepted.len() == 1 || !was_told, "killed after {at}0 ms: {accepted:?}");
        assert!(accepted.iter().all(|result| result == "succeeded"), "killed after {at}0 ms: {accepted:?}");
        assert!(all <= 2, "killed after {at}0 ms: {all} events");
        world.pass(12 * MINUTE);
        assert_eq!((world.secrets().len(), world.leases()), (0, 1), "killed after {at}0 ms");
    }
}

#[test]
fn an_outage_of_the_api_server_loses_nothing_and_nobody_adopts() {
    for outage in [30, 90] {
        for weather in [Weather::Away, Weather::EtcdAway] {
            let mut world = Replicas::new(3);
            let runs: Vec<Run> = (1..10).map(|n| world.run(n, 20_000, Status::Passed)).collect();
            for (n, run) in runs.iter().enumerate() {
                assert_eq!(world.accept(n % 3, run), 200);
            }
            let until = world.wall() + outage * 1_000;
            world.server.fault(Route::All, Span::Between { from: 0, until }, weather.clone());
            let late = world.run(50, 20_000, Status::Passed);
            assert_eq!(world.accept(0, &late), 503);
            assert!(world.ready(0).contains("does not keep this replica's Lease: "), "{}", world.ready(0));
            world.pass(3 * MINUTE);
            for run in &runs {
                assert_eq!(world.events(run), (vec!["succeeded".into()], 1), "{weather:?} for {outage} s");
            }
            assert_eq!(world.ready(0), "ready; pending checks: 0\n");
            let adopted: usize = (0..3).map(|n| world.counted(n, Counter::Adopted)).sum();
            assert_eq!(adopted, 0, "{weather:?} for {outage} s");
            world.pass(12 * MINUTE);
            assert_eq!((world.secrets().len(), world.leases()), (0, 3), "{weather:?} for {outage} s");
        }
    }
}

#[test]
fn a_check_that_is_accepted_in_an_outage_is_stored_when_it_ends() {
    let mut world = Replicas::seeded(2, 3, "accept");
    let until = world.wall() + 60_000;
    world.server.fault(Route::All, Span::Between { from: 0, until }, Weather::Away);
    let run = world.run(1, 200_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    assert_eq!(world.secrets().len(), 0);
    world.pass(2 * MINUTE);
    assert_eq!(world.secrets().len(), 1);
    world.kill(0);
    world.pass(3 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

#[test]
fn a_delivery_at_another_replica_is_added_and_served_too() {
    let mut world = Replicas::new(3);
    let run = world.run(1, 60_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let again = Run { token: "token-of-the-second-delivery".into(), ..run.clone() };
    world.azure.start_check(world.wall(), again.spec());
    assert_eq!(world.accept(1, &again), 200);
    assert_eq!(world.secrets().len(), 1);
    world.pass(3 * MINUTE);
    let (accepted, _) = world.events(&run);
    assert!(!accepted.is_empty() && accepted.iter().all(|result| result == "succeeded"), "{accepted:?}");
    assert_eq!((world.pending(0), world.pending(1), world.pending(2)), (0, 0, 0));
}

#[test]
fn a_replica_that_is_cut_off_from_the_api_server_finds_that_another_has_ended_its_checks() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 50_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(3 * SECOND);
    world.processes[0].is_connected = false;
    world.pass(30 * SECOND);
    assert_eq!(world.pending(1), 1);
    world.processes[0].is_connected = true;
    world.pass(2 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
    assert_eq!((world.pending(0), world.pending(1)), (0, 0));
}

#[test]
fn a_replica_that_drains_gives_its_checks_to_the_others_within_three_seconds() {
    let mut world = Replicas::new(3);
    let runs: Vec<Run> = (1..30).map(|n| world.run(n, 30_000, Status::Passed)).collect();
    for run in &runs {
        assert_eq!(world.accept(0, run), 200);
    }
    world.pass(4 * SECOND);
    world.drain(0);
    world.pass(3 * SECOND);
    assert_eq!((world.pending(0), world.pending(1) + world.pending(2)), (0, 29));
    assert_eq!(world.ready(0), "not ready: this replica drains; pending checks: 0\n");
    // Whatever is in front of it may not know yet.
    let late = world.run(50, 0, Status::Passed);
    assert_eq!(world.accept(0, &late), 200);
    world.pass(3 * SECOND);
    assert_eq!((world.pending(0), world.pending(1) + world.pending(2)), (0, 30));
    world.kill(0);
    world.pass(2 * MINUTE);
    for run in runs.iter().chain([&late]) {
        assert_eq!(world.events(run), (vec!["succeeded".into()], 1));
    }
    world.pass(12 * MINUTE);
    assert_eq!((world.secrets().len(), world.leases()), (0, 2));
}

#[test]
fn a_secret_that_somebody_deletes_is_made_again() {
    let mut world = Replicas::new(1);
    let run = world.run(1, 60_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let name = world.secrets()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let delete = fakes::Request::new("DELETE", &format!("/api/v1/namespaces/testrelay/secrets/{name}"));
    let now = world.wall();
    world.server.act(now, &delete);
    assert_eq!(world.secrets().len(), 0);
    world.pass(3 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
    world.pass(12 * MINUTE);
    assert_eq!(world.secrets().len(), 0);
}

#[test]
fn lost_answers_lose_no_check() {
    let faults = [
        Weather::Away,
        Weather::ResetAfter,
        Weather::DoneLater { millis: 4_000 },
        Weather::Late { millis: 6_000 },
        Weather::Stalled { millis: 3_000 },
        Weather::Cut { bytes: 40 },
        Weather::Throttled { retry_after: 2 },
        Weather::WebhookDown,
        Weather::Starting,
    ];
    for (n, fault) in faults.iter().enumerate() {
        for skip in 0..12u32 {
            let mut world = Replicas::seeded(2, 900 + u64::from(skip), "refuse");
            for verb in [Verb::Create, Verb::Update] {
                let route = Route::Only(Resource::Secrets, verb);
                world.server.fault(route, Span::Next(1 + skip % 3), fault.clone());
            }
            let run = world.run(1, 10_000, Status::Passed);
            let status = world.accept(0, &run);
            if skip > 5 {
                world.pass(8 * SECOND);
                world.kill(0);
            }
            world.pass(5 * MINUTE);
            let (accepted, all) = world.events(&run);
            assert!(accepted.len() == 1 || status != 200, "fault {n}, {skip}: {accepted:?}");
            assert!(all <= 2, "fault {n}, {skip}: {all} events");
            world.pass(12 * MINUTE);
            assert_eq!(world.secrets().len(), 0, "fault {n}, {skip}");
        }
    }
}

fn again_of(run: &Run) -> Run {
    Run { token: "token-of-the-second-delivery".into(), ..run.clone() }
}

fn stale_redelivery(at: usize) -> (Vec<String>, usize, String) {
    let mut world = Replicas::new(2);
    let run = world.run(1, 25_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(3 * SECOND);
    world.processes[0].is_connected = false;
    for _ in 0..600 {
        if world.events(&run).0.len() == 1 {
            break;
        }
        world.pass(200);
    }
    assert_eq!(world.events(&run).0.len(), 1);
    world.pass(2 * SECOND);
    world.processes[0].is_connected = true;
    let again = again_of(&run);
    world.azure.expire_token("token-1", world.wall());
    world.azure.start_check(world.wall(), again.spec());
    assert_eq!(world.accept(at, &again), 200);
    world.pass(6 * MINUTE);
    let (accepted, all) = world.events(&run);
    (accepted, all, world.story(&run))
}

#[test]
fn a_stale_record_gives_way_to_a_new_evaluation_whose_delivery_was_answered() {
    let control = stale_redelivery(1);
    let stale = stale_redelivery(0);
    assert_eq!(control.0.len(), 2, "control");
    assert_eq!(stale.0.len(), 2, "stale");
}

#[test]
fn a_delivery_in_an_outage_is_a_new_evaluation_after_what_another_replica_has_ended() {
    let mut world = Replicas::seeded(2, 5, "accept");
    let run = world.run(1, 1_000, Status::Passed);
    assert_eq!(world.accept(1, &run), 200);
    world.pass(2 * MINUTE);
    assert_eq!(world.events(&run).0.len(), 1);
    let until = world.wall() + 25_000;
    world.server.fault(Route::All, Span::Between { from: 0, until }, Weather::Away);
    let again = again_of(&run);
    world.azure.start_check(world.wall(), again.spec());
    assert_eq!(world.accept(0, &again), 200);
    world.pass(6 * MINUTE);
    assert_eq!(world.events(&run).0.len(), 2);
}

#[test]
fn a_dead_replicas_secret_that_cannot_be_read_is_seldom_looked_at() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 6_000_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let mut secret = world.secrets()[0].clone();
    secret["data"]["record"] = "e30=".into();
    let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
    let mut put = fakes::Request::new("PUT", &format!("/api/v1/namespaces/testrelay/secrets/{name}"));
    put.body = secret.to_string().into_bytes();
    let now = world.wall();
    world.server.act(now, &put);
    assert_eq!(world.secrets()[0]["data"]["record"], "e30=");
    world.kill(0);
    world.pass(10 * MINUTE);
    let reads = |world: &Replicas| world.story(&run).lines().filter(|line| line.contains("GET")).count();
    let before = reads(&world);
    world.pass(10 * MINUTE);
    assert!(reads(&world) - before < 30);
}

#[test]
fn an_event_waits_for_its_decision_to_be_stored_also_of_a_check_that_never_was() {
    let mut world = Replicas::seeded(2, 9, "accept");
    let run = world.run(1, 1_000, Status::Passed);
    let create = Route::Only(Resource::Secrets, Verb::Create);
    world.server.fault(create, Span::Next(1), Weather::ResetAfter);
    let until = world.wall() + 95_000;
    world.server.fault(
        Route::Only(Resource::Secrets, Verb::Get),
        Span::Between { from: 0, until },
        Weather::Away,
    );
    world.server.fault(
        Route::Only(Resource::Secrets, Verb::Update),
        Span::Between { from: 0, until: until + 3_600_000 },
        Weather::Away,
    );
    assert_eq!(world.accept(0, &run), 200);
    for _ in 0..900 {
        if world.events(&run).1 > 0 {
            break;
        }
        world.pass(200);
    }
    let unfenced = world.counted(0, Counter::Unfenced);
    assert!(unfenced > 0);
}

#[test]
fn a_replica_that_slept_does_not_store_again_what_another_has_ended() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 60_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    world.processes[0].is_alive = false;
    world.pass(15 * MINUTE);
    assert_eq!((world.secrets().len(), world.events(&run).1), (0, 1));
    world.processes[0].is_alive = true;
    world.pass(3 * MINUTE);
    assert_eq!((world.secrets().len(), world.events(&run).1), (0, 1));
}

#[test]
fn a_delivery_that_the_owner_accepted_in_an_outage_is_stored_after_it() {
    use base64::Engine;
    let mut world = Replicas::seeded(2, 11, "accept");
    let run = world.run(1, 600_000, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(5 * SECOND);
    let until = world.wall() + 25_000;
    world.server.fault(Route::All, Span::Between { from: 0, until }, Weather::Away);
    let again = again_of(&run);
    world.azure.start_check(world.wall(), again.spec());
    assert_eq!(world.accept(0, &again), 200);
    world.pass(5 * MINUTE);
    let record = world.secrets()[0]["data"]["record"].as_str().unwrap().to_owned();
    let record = base64::engine::general_purpose::STANDARD.decode(record).unwrap();
    let has = String::from_utf8(record).unwrap().contains(&again.token);
    world.kill(0);
    world.azure.expire_token("token-1", world.wall());
    world.pass(20 * MINUTE);
    assert!(has && !world.events(&run).0.is_empty());
}

const ABORTS: &str = r#""tag": {"bind_to_build": false}, "checks": {"abort_on_cancel": true}, "credentials":
    [{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"], "abort_on_cancel": true}]"#;

fn cancel(world: &mut Replicas, run: &Run) {
    let spec = run.spec();
    let build = fakes::Build::new(&spec.project, spec.build.unwrap()).started_at(world.wall() - 60_000);
    world.azure.add_build(build.status_at(world.wall(), "cancelling"));
}

/// When Testkube was asked to abort an execution, in milliseconds.
fn aborts(world: &Replicas) -> Vec<i64> {
    let all = world.testkube.requests().iter().filter(|recorded| recorded.request.method == "POST");
    all.map(|recorded| recorded.at).collect()
}

/// Two builds that wait for the same tag, each at a replica of its own; the execution ends after 40 min.
fn two_that_wait_for_one_tag() -> (Replicas, Run, Run) {
    let mut world = Replicas::configured(2, ABORTS);
    let run = world.run(1, 40 * MINUTE as i64, Status::Passed);
    let mut other = world.run(2, 0, Status::Passed);
    other.tag.clone_from(&run.tag);
    assert_eq!((world.accept(0, &run), world.accept(1, &other)), (200, 200));
    world.pass(30 * SECOND);
    (world, run, other)
}

#[test]
fn nothing_is_aborted_for_which_another_replicas_check_waits() {
    let (mut world, run, other) = two_that_wait_for_one_tag();
    cancel(&mut world, &run);
    world.pass(20 * MINUTE);
    assert_eq!((world.pending(0), world.pending(1), aborts(&world)), (0, 1, Vec::new()));
    world.pass(23 * MINUTE);
    assert_eq!(world.events(&other), (vec!["succeeded".into()], 1));
}

#[test]
fn what_runs_for_checks_of_two_replicas_that_end_at_once_is_aborted() {
    let (mut world, run, other) = two_that_wait_for_one_tag();
    cancel(&mut world, &run);
    cancel(&mut world, &other);
    world.pass(5 * MINUTE);
    assert!(!aborts(&world).is_empty());
}

#[test]
fn nothing_is_aborted_while_the_api_server_does_not_say_who_waits() {
    let mut world = Replicas::configured(1, ABORTS);
    let run = world.run(1, 40 * MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(30 * SECOND);
    world.server.fault(Route::Only(Resource::Secrets, Verb::List), Span::UntilCleared, Weather::Away);
    cancel(&mut world, &run);
    world.pass(5 * MINUTE);
    assert_eq!((world.pending(0), aborts(&world)), (0, Vec::new()));
    world.server.clear_faults();
    world.pass(MINUTE);
    assert_eq!(aborts(&world).len(), 1);
}
