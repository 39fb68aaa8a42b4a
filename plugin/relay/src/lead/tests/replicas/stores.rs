//! The store itself: set back from a backup, emptied, full, and without the rights that the replicas need.

use super::*;
use fakes::kubernetes::{Quota, Token};

/// Somebody deletes everything in the namespace, past whatever keeps the replicas from it.
fn wipe(world: &mut Replicas) {
    let now = world.wall();
    for (resource, path) in
        [(Resource::Secrets, "/api/v1"), (Resource::Leases, "/apis/coordination.k8s.io/v1")]
    {
        let kind = if path == "/api/v1" { "secrets" } else { "leases" };
        for object in world.server.objects(now, resource, "testrelay") {
            let name = object["metadata"]["name"].as_str().unwrap();
            let target = format!("{path}/namespaces/testrelay/{kind}/{name}");
            world.server.act(now, &fakes::Request::new("DELETE", &target));
        }
        assert!(world.server.objects(now, resource, "testrelay").is_empty());
    }
}

#[test]
fn a_store_that_is_set_back_after_an_outage_loses_no_check() {
    let mut lost = Vec::new();
    for replicas in [1, 3] {
        for outage in [1, 4, 7, 10, 25] {
            let mut world = Replicas::new(replicas);
            world.headers = &[("testrelay-expect", "e2e")];
            let backup = world.server.backup();
            let runs: Vec<Run> = (1..4).map(|n| world.run(n, 60 * MINUTE as i64, Status::Passed)).collect();
            for (n, run) in runs.iter().enumerate() {
                assert_eq!(world.accept(n % replicas, run), 200);
            }
            world.pass(6 * MINUTE);
            let until = world.wall() + outage * MINUTE as i64;
            world.server.fault(Route::All, Span::Between { from: 0, until }, Weather::Away);
            world.pass(outage as u64 * MINUTE / 2);
            world.server.restore(backup);
            world.pass(90 * MINUTE);
            let decided = runs.iter().filter(|run| world.events(run).0 == ["succeeded"]).count();
            if decided < 3 {
                lost.push((replicas, outage, decided));
            }
        }
    }
    assert!(lost.is_empty(), "replicas, minutes, decided of 3: {lost:?}");
}

#[test]
fn a_secret_that_is_deleted_while_the_leader_changes_loses_no_check() {
    let mut world = Replicas::new(1);
    world.headers = &[("testrelay-expect", "e2e")];
    let run = world.run(1, 20 * MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(6 * MINUTE);
    wipe(&mut world);
    world.lead_anew(0, "testrelay");
    world.pass(40 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

#[test]
fn a_change_of_the_stores_namespace_in_a_running_process_loses_no_check() {
    let mut world = Replicas::new(1);
    world.headers = &[("testrelay-expect", "e2e")];
    world.server.namespace("elsewhere");
    world.server.token("token-of-the-pods", fakes::kubernetes::Token::administrator());
    let run = world.run(1, 20 * MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(6 * MINUTE);
    world.lead_anew(0, "elsewhere");
    world.pass(40 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

#[test]
fn a_store_that_is_set_back_to_before_a_check_loses_none() {
    for dies in [false, true] {
        let mut world = Replicas::new(2);
        world.headers = &[("testrelay-expect", "e2e")];
        let ended = world.run(3, 10_000, Status::Passed);
        let first = world.run(1, 20 * MINUTE as i64, Status::Passed);
        assert_eq!((world.accept(1, &ended), world.accept(0, &first)), (200, 200));
        let backup = world.server.backup();
        world.pass(2 * MINUTE);
        let second = world.run(2, 20 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(0, &second), 200);
        world.pass(MINUTE);
        world.server.restore(backup);
        world.pass(3 * MINUTE);
        if dies {
            world.kill(0);
        }
        world.pass(40 * MINUTE);
        for run in [&first, &second, &ended] {
            assert_eq!(world.events(run), (vec!["succeeded".into()], 1));
        }
        assert_eq!(world.secrets().len(), 0);
    }
}

/// What a person deletes while nobody sees it is made again, unless another process has ended the check meanwhile: the
/// run of the check says which.
#[test]
fn a_replica_that_was_cut_off_for_long_asks_azure_devops_what_became_of_its_check() {
    for (is_ended, forbids) in [(false, false), (true, false), (false, true)] {
        let mut world = Replicas::new(1);
        let run = world.run(1, 40 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(0, &run), 200);
        world.pass(10 * SECOND);
        world.processes[0].is_connected = false;
        world.pass(5 * SECOND);
        wipe(&mut world);
        world.pass(20 * MINUTE);
        if is_ended {
            let now = world.wall();
            assert!(world.azure.complete_check(&run.spec(), now, "failed"));
        }
        if forbids {
            let status = fakes::azure::Fault::Status { status: 403, retry_after: None };
            world.azure.fault(fakes::azure::Route::Records, Span::UntilCleared, status);
        }
        world.processes[0].is_connected = true;
        world.pass(2 * MINUTE);
        let stored = usize::from(!is_ended);
        assert_eq!(world.secrets().len(), stored);
        world.pass(40 * MINUTE);
        let (results, all) = world.events(&run);
        assert_eq!((results.len(), all), (stored, stored), "{is_ended} {forbids}");
    }
}

#[test]
fn where_the_quota_is_full_what_is_over_makes_room_after_a_minute() {
    let mut world = Replicas::new(1);
    world.server.quota("testrelay", Quota::secrets("testrelay", 3).recounts_after(1_000));
    world.server.count("testrelay");
    let ended: Vec<Run> = (1..4).map(|n| world.run(n, 10_000, Status::Passed)).collect();
    ended.iter().for_each(|run| assert_eq!(world.accept(0, run), 200));
    world.pass(3 * MINUTE);
    assert_eq!((world.secrets().len(), world.pending(0)), (3, 0));
    let next = world.run(9, MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(0, &next), 200);
    world.pass(5 * MINUTE);
    assert_eq!(world.events(&next).0, ["succeeded"]);
    // With room again, what is over stays as long as ever.
    world.pass(6 * MINUTE);
    assert_eq!(world.secrets().len(), 1);
    world.pass(3 * MINUTE);
    assert_eq!(world.secrets().len(), 0);
}

#[test]
fn a_full_quota_holds_up_new_checks_alone() {
    let mut world = Replicas::seeded(1, 3, "accept");
    world.server.quota("testrelay", Quota::secrets("testrelay", 2));
    world.server.count("testrelay");
    let stored: Vec<Run> = (1..3).map(|n| world.run(n, 4 * MINUTE as i64, Status::Passed)).collect();
    stored.iter().for_each(|run| assert_eq!(world.accept(0, run), 200));
    let late: Vec<Run> = (10..210).map(|n| world.run(n, 40 * MINUTE as i64, Status::Passed)).collect();
    late.iter().for_each(|run| _ = world.deliver(0, run));
    world.pass(7 * MINUTE);
    let decided = stored.iter().filter(|run| world.events(run).0 == ["succeeded"]).count();
    assert_eq!((decided, world.counted(0, Counter::Unfenced)), (2, 0));
    // The API server is asked seldom for what it has no room for.
    let is_create = |asked: &&fakes::Recorded| asked.request.method == "POST";
    world.server.take_requests();
    world.pass(2 * MINUTE);
    let creates = world.server.requests().iter().filter(is_create).count();
    assert!(creates < 400, "{creates}");
    world.server.quota("testrelay", Quota::secrets("testrelay", 1_000));
    world.pass(2 * MINUTE);
    assert!(world.secrets().len() >= 200, "{}", world.secrets().len());
}

#[test]
fn a_missing_right_is_said_before_the_first_check() {
    let account = Token::of("testrelay", "testrelay");
    for (verb, name) in [(Verb::Get, "get"), (Verb::Create, "create"), (Verb::Update, "update")] {
        let mut world = Replicas::new(0);
        world.server.forbid(&account, verb);
        world.server.allow(&account, "testrelay", Resource::Leases, &Verb::NEEDED);
        let n = world.start("pod-a");
        world.pass(5 * SECOND);
        let said = format!("; the ServiceAccount may not {name} Secrets in the namespace testrelay: ");
        assert!(world.ready(n).contains(&said), "{}", world.ready(n));
        world.server.allow(&account, "testrelay", Resource::Secrets, &Verb::NEEDED);
        world.pass(MINUTE);
        assert_eq!(world.ready(n).trim_end(), "ready; pending checks: 0");
    }
}

/// As with a full etcd: what is written fails, and what is read is answered.
#[test]
fn nobody_is_dead_because_nobody_can_write() {
    for (seconds, seed) in [(30, 1), (90, 2), (240, 3), (90, 4)] {
        let mut world = Replicas::seeded(3, seed, "refuse");
        let runs: Vec<Run> = (1..10).map(|n| world.run(n, n as i64 * 25_000, Status::Passed)).collect();
        runs.iter().enumerate().for_each(|(n, run)| assert_eq!(world.accept(n % 3, run), 200));
        world.pass(20 * SECOND);
        let span = Span::Between { from: 0, until: world.wall() + seconds * 1_000 };
        world.server.fault(Route::Writes, span, Weather::EtcdAway);
        world.pass(20 * MINUTE);
        let adopted: usize = (0..3).map(|n| world.counted(n, Counter::Adopted)).sum();
        assert_eq!(adopted, 0, "after {seconds} s");
        for run in &runs {
            assert_eq!(world.events(run), (vec!["succeeded".into()], 1), "after {seconds} s");
        }
    }
}
