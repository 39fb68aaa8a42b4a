//! Named scenarios: what a random history meets seldom, or what has only one right outcome.

mod common;

use common::*;
use fakes::testkube::{Fault as TestkubeFault, Route};
use fakes::{Request, Span, Status};
use std::time::Duration;
use world::*;

#[test]
fn a_check_in_a_body_is_read_where_envoy_hands_bodies_over_and_refused_with_a_reason_where_not() {
    for (allow, status, within) in [(true, 200, SECOND), (false, 422, 12 * SECOND)] {
        let setup = Setup { allow_on_headers_stop_iteration: allow, ..Setup::new(1) };
        let mut world = setup.start().unwrap();
        let pipeline = passing(&mut world, 1);
        world.note_delivery(&pipeline);
        let began = world.now();
        let answer = world.ask(pipeline.check_in_body(&[("Testrelay-Expect", "a")]));
        assert_eq!((answer.status, answer.by), (status, By::Module), "{}", answer.text());
        assert!(world.now() - began < within);
        if allow {
            assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
        }
        healthy(&world);
    }
}

#[test]
fn the_main_threads_death_costs_a_lease_and_a_brake_and_no_check() {
    let mut world = world(2);
    world.pass(3 * SECOND);
    let pipeline = passing(&mut world, 1);
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    world.pass(5 * SECOND);
    world.trap(0, TrapAt::In("proxy_set_shared_data"));
    assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded");
    assert_eq!(world.metric("testrelay_leader_falls"), 1);
    healthy(&world);
}

#[test]
fn every_vm_dies_and_one_probe_later_the_work_goes_on() {
    let mut world = world(3);
    let pipeline = passing(&mut world, 1);
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    for thread in 0..=3 {
        world.trap(thread, TrapAt::NextCallback);
    }
    world.pass(10 * MINUTE);
    assert_eq!(result(&world, &pipeline), None, "nobody is left to do it");
    assert_eq!(world.ask(Request::new("GET", "/testrelay/healthz")).status, 200);
    assert_eq!(decided_within(&mut world, &pipeline, 3 * MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_vm_that_falls_after_the_check_is_stored_and_before_the_answer_still_reports_it() {
    let mut world = world(1);
    let pipeline = passing(&mut world, 1);
    world.trap(1, TrapAt::In("proxy_send_local_response"));
    let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "a")]);
    assert_eq!((answer.status, answer.by), (503, By::Envoy));
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_changed_and_restored_configuration_and_new_code_lose_nothing() {
    let mut world = world(2);
    for n in 1..=12 {
        let pipeline = passing(&mut world, n);
        assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
        match n % 4 {
            0 => assert!(world.upgrade(n).unwrap()),
            1 => assert!(world.reload(&configuration(1)).unwrap()),
            2 => assert!(world.reload(&configuration(0)).unwrap()),
            _ => assert!(!world.reload("{}").unwrap()),
        }
        world.pass(4 * SECOND);
        assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded", "run {n}");
    }
    world.pass(5 * MINUTE);
    healthy(&world);
}

#[test]
fn testkube_down_for_forty_minutes_while_it_is_waited_for_costs_no_time_of_the_appear_deadline() {
    let mut world = world(1);
    let pipeline = world.pipeline(1);
    let (from, back) = (world.wall(), world.wall() + 40 * 60_000);
    let late = pipeline.tagged("a").at(back + 60_000, Status::Running).at(back + 90_000, Status::Passed);
    world.testkube(|testkube| {
        testkube.add(late);
        testkube.fault(Route::All, Span::Between { from, until: back }, TestkubeFault::Status(503));
    });
    let ask = [("Testrelay-Expect", "a"), ("Testrelay-Appear-Timeout", "10m")];
    assert_eq!(world.deliver(&pipeline, &ask).status, 200);
    assert_eq!(decided_within(&mut world, &pipeline, 50 * MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn five_executions_that_appear_twenty_seconds_apart_are_all_waited_for_without_an_expectation() {
    let mut world = world(1);
    let pipeline = world.pipeline(1);
    for i in 0..5 {
        let from = world.wall() + i * 20_000;
        let status = if i == 4 { Status::Failed } else { Status::Passed };
        let workflow = format!("w{i}");
        let execution = pipeline.tagged(&workflow).at(from, Status::Running).at(from + 5_000, status);
        world.testkube(|testkube| testkube.add(execution));
    }
    assert_eq!(world.deliver(&pipeline, &[]).status, 200);
    assert_eq!(decided_within(&mut world, &pipeline, 5 * MINUTE), "failed");
    healthy(&world);
}

#[test]
fn an_answer_that_no_vm_survives_is_reported_as_failed_and_the_others_are_not() {
    let mut world = world(3);
    world.poison("poison-");
    let poisoned = world.pipeline(1);
    let execution = poisoned.tagged("poison").at(START, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    let others: Vec<Pipeline> = (2..6).map(|n| passing(&mut world, n)).collect();
    for pipeline in std::iter::once(&poisoned).chain(&others) {
        assert_eq!(world.deliver(pipeline, &[("Testrelay-Expect", "1")]).status, 200);
    }
    for _ in 0..200 {
        world.ask(Request::new("GET", "/testrelay/healthz"));
        world.pass(5 * SECOND);
    }
    assert_eq!(result(&world, &poisoned).as_deref(), Some("failed"));
    for pipeline in &others {
        assert_eq!(result(&world, pipeline).as_deref(), Some("succeeded"));
    }
    healthy(&world);
}

#[test]
fn what_is_done_leaves_nothing_behind() {
    let mut world = world(2);
    let mut sizes = Vec::new();
    // What was decided stays listed: at most 2,000 bytes of each check; the ring's own tests bound them all.
    const LISTED: usize = 2_000;
    for round in 0..5 {
        for n in 1..=40 {
            let pipeline = passing(&mut world, 100 * round + n);
            assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
        }
        world.pass(15 * MINUTE);
        sizes.push(world.shared_size());
    }
    assert!(sizes[4].0 <= 600, "{sizes:?}");
    // The first rounds make keys that stay.
    for (before, after) in sizes.iter().zip(&sizes[1..]).skip(1) {
        assert!(after.1 <= before.1 + 40 * LISTED, "{sizes:?}");
    }
    healthy(&world);
}

#[test]
fn a_day_of_waiting_passes_quickly_and_ends_with_the_deadline() {
    let began = std::time::Instant::now();
    let mut world = world(1);
    let pipeline = world.pipeline(1);
    let ask = [("Testrelay-Expect", "a"), ("Testrelay-Appear-Timeout", "12h")];
    assert_eq!(world.deliver(&pipeline, &ask).status, 200);
    world.pass(11 * 60 * MINUTE);
    assert_eq!(result(&world, &pipeline), None);
    assert_eq!(decided_within(&mut world, &pipeline, 70 * MINUTE), "failed");
    healthy(&world);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_thread_that_stalls_longer_than_the_lease_is_replaced_and_comes_back_as_a_follower() {
    let mut world = world(2);
    world.pass(3 * SECOND);
    let pipeline = passing(&mut world, 1);
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    world.stall(0, 60 * SECOND);
    assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded");
    world.pass(5 * MINUTE);
    healthy(&world);
    assert_eq!(world.azure(|azure| azure.events(&pipeline.spec().plan).len()), 1);
}

#[test]
fn checks_of_one_bucket_that_come_at_once_on_all_threads_are_all_stored() {
    let mut mismatches = 0;
    for seed in 0..10 {
        let mut world =
            Setup { workers: 4, interleaving: Interleaving { short: 32, long: 0 }, ..Setup::new(seed) }
                .start()
                .unwrap();
        world.pass(5 * SECOND);
        let hash_key = world.hash_key().unwrap();
        let numbers = Pipeline::in_one_bucket(12, &hash_key);
        let pipelines: Vec<Pipeline> = numbers.into_iter().map(|n| passing(&mut world, n)).collect();
        let homes = |world: &World| world.shared_keys("/checks/");
        let before = homes(&world);
        let streams: Vec<u64> = pipelines
            .iter()
            .map(|pipeline| {
                world.note_delivery(pipeline);
                world.send(pipeline.check(&[("Testrelay-Expect", "a")]))
            })
            .collect();
        for stream in streams {
            assert_eq!(world.wait(stream).status, 200);
        }
        assert_eq!(homes(&world), before + 1, "they live in one bucket");
        // At a second per write nothing is decided in time.
        world.interleave(Interleaving::default());
        for pipeline in &pipelines {
            assert_eq!(decided_within(&mut world, pipeline, 2 * MINUTE), "succeeded");
        }
        mismatches += world.counts().of("fault: CasMismatch");
        healthy(&world);
    }
    assert!(mismatches > 10, "{mismatches}");
}

#[test]
fn a_call_that_nobody_is_called_back_for_is_given_up_after_its_time() {
    for cluster in ["azure-devops", "testkube"] {
        let mut world = world(1);
        world.pass(3 * SECOND);
        let silent = Rule { fails: 1, ways: vec![Way::Silence], ..Rule::default() };
        world.network(cluster, silent);
        let pipeline = passing(&mut world, 1);
        assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
        world.pass(5 * SECOND);
        world.network(cluster, Rule::default());
        assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded", "{cluster}");
        assert!(world.counts().of("call: silent") > 0);
        healthy(&world);
    }
}

#[test]
fn after_a_long_outage_of_azure_devops_what_is_owed_is_told_in_little_more_than_a_minute() {
    let mut world = world(1);
    let pipeline = passing(&mut world, 1);
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "a")]).status, 200);
    world.pass(10 * SECOND);
    let away = Rule { fails: 1, ways: vec![Way::NoConnection], ..Rule::default() };
    world.network("azure-devops", away);
    world.pass(40 * MINUTE);
    assert_eq!(result(&world, &pipeline), None);
    world.network("azure-devops", Rule::default());
    assert_eq!(decided_within(&mut world, &pipeline, 90 * SECOND), "succeeded");
    healthy(&world);
}
