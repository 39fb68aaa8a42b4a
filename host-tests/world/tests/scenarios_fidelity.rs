//! Scenarios around the process: hot restarts, several instances, connections, downloads, circuit breakers, secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::testkube::{Fault, Route};
use fakes::{Request, Span, Status};
use world::*;

/// A run whose execution "a" passes after this number of milliseconds.
fn passing(world: &mut World, n: u32, after: i64) -> Pipeline {
    let pipeline = world.pipeline(n);
    let from = world.wall();
    let execution = pipeline.tagged("a").at(from, Status::Running).at(from + after, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    pipeline
}

fn results(world: &World, pipeline: &Pipeline) -> Vec<String> {
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    events.into_iter().filter(|event| event.accepted).filter_map(|event| event.result).collect()
}

fn succeeds_within(world: &mut World, pipeline: &Pipeline, span: u64) {
    let decided = world.pass_until(span, |world| !results(world, pipeline).is_empty());
    assert!(decided, "{:?}", world.log());
    assert_eq!(results(world, pipeline), ["succeeded"]);
}

const EXPECT: [(&str, &str); 1] = [("Testrelay-Expect", "a")];

fn healthy(world: &World) {
    assert_eq!(world.violations(), []);
}

/// An artifact of 100 bytes, which comes in pieces of ten, one each second; the request for it.
fn slow_artifact(world: &World) -> Request {
    let execution = fakes::execution("slow").at(START, Status::Passed).artifact("a.txt", [b'x'; 100]);
    let id = world.testkube(|testkube| {
        testkube.fault(Route::Artifact, Span::UntilCleared, Fault::Dribble { chunk: 10, millis: 1_000 });
        testkube.add(execution)
    });
    Request::new("GET", &format!("/v1/test-workflow-executions/{id}/artifacts/a.txt"))
        .header("authorization", &format!("Bearer bearer-{MARK}-5b0e"))
}

#[test]
fn a_hot_restart_loses_what_the_old_process_has_not_decided_by_its_end_and_nothing_else() {
    let mut world = Setup { workers: 2, drain: 10 * SECOND, ..Setup::new(7) }.start().unwrap();
    let [soon, late] = [(1, 30_000), (2, 300_000)].map(|(n, after)| {
        let pipeline = passing(&mut world, n, after);
        assert_eq!(world.deliver(&pipeline, &EXPECT).status, 200);
        pipeline
    });
    world.pass(5 * SECOND);
    assert!(world.hot_restart(90 * SECOND).unwrap());
    // Accepted by the new process, while both poll.
    let new = passing(&mut world, 3, 150_000);
    assert_eq!(world.deliver(&new, &EXPECT).status, 200);
    succeeds_within(&mut world, &soon, 60 * SECOND);
    world.pass(2 * MINUTE);
    assert_eq!(world.on_parent(|_| ()), None);
    succeeds_within(&mut world, &new, 3 * MINUTE);
    world.pass(15 * MINUTE);
    // A known limit: a restart loses the pending checks.
    assert_eq!(results(&world, &late), Vec::<String>::new());
    assert_eq!(results(&world, &soon).len() + results(&world, &new).len(), 2);
    let left =
        world.log().iter().filter(|line| line.ends_with("gives up the lead; pending checks: 1")).count();
    assert!(left > 0, "whoever ends says what it leaves behind: {:?}", world.log());
    healthy(&world);
}

#[test]
fn a_check_over_a_connection_of_the_old_process_is_decided_there_in_time() {
    let mut world = Setup { workers: 1, drain: 10 * SECOND, ..Setup::new(7) }.start().unwrap();
    let connection = world.connect(LISTENER, 1);
    let first = world.send_over(connection, Request::new("GET", "/testrelay/healthz"), Vec::new());
    assert_eq!(world.wait(first).status, 200);
    assert!(world.hot_restart(60 * SECOND).unwrap());
    let pipeline = passing(&mut world, 1, 20_000);
    world.on_parent(|parent| parent.note_delivery(&pipeline)).unwrap();
    let stream = world.send_over(connection, pipeline.check(&EXPECT), Vec::new());
    assert_eq!(world.wait(stream).status, 200);
    // The new process is ready with its first lease.
    world.pass(2 * SECOND);
    assert_eq!(world.ask(Request::new("GET", "/testrelay/readyz")).status, 200);
    succeeds_within(&mut world, &pipeline, 50 * SECOND);
    world.pass(2 * MINUTE);
    let late = world.send_over(connection, Request::new("GET", "/testrelay/healthz"), Vec::new());
    assert_eq!((world.wait(late).status, world.wait(late).by), (0, By::Envoy));
    healthy(&world);
}

#[test]
fn a_check_that_is_delivered_to_both_processes_of_a_hot_restart_is_reported_to_each_delivery() {
    let mut world = Setup { workers: 1, drain: 10 * SECOND, ..Setup::new(7) }.start().unwrap();
    let mut pipeline = passing(&mut world, 1, 20_000);
    assert_eq!(world.deliver(&pipeline, &EXPECT).status, 200);
    assert!(world.hot_restart(60 * SECOND).unwrap());
    world.another_delivery(&mut pipeline);
    assert_eq!(world.deliver(&pipeline, &EXPECT).status, 200);
    world.pass(5 * MINUTE);
    let results = results(&world, &pipeline);
    assert!(results.iter().all(|result| result == "succeeded") && !results.is_empty(), "{results:?}");
    healthy(&world);
}

#[test]
fn a_trap_in_a_tick_cuts_the_downloads_of_its_worker_and_a_reload_does_not() {
    let mut world = Setup { workers: 2, drain: 30 * SECOND, ..Setup::new(7) }.start().unwrap();
    let request = slow_artifact(&world);
    let streams = [1, 2].map(|worker| world.send_on(LISTENER, worker, request.clone(), Vec::new()));
    world.pass(2_500 * MILLISECOND);
    assert!(world.reload(&configuration(1)).unwrap());
    world.trap(1, TrapAt::NextCallback);
    let [cut, whole] = streams.map(|stream| world.wait(stream));
    assert_eq!((cut.status, cut.by, cut.is_complete), (200, By::Upstream, false));
    assert!(cut.body.len() < 50, "{}", cut.body.len());
    assert_eq!((whole.status, whole.is_complete, whole.body.len()), (200, true, 100));
    healthy(&world);
}

#[test]
fn downloads_that_fill_the_clusters_circuit_breaker_delay_decisions_and_change_none() {
    let mut world = Setup { workers: 1, ..Setup::new(7) }.start().unwrap();
    world
        .network("testkube", Rule { limits: Limits { requests: 1, ..Limits::default() }, ..Rule::default() });
    let request = slow_artifact(&world);
    let checks: Vec<Pipeline> = (1..=5).map(|n| passing(&mut world, n, 2_000)).collect();
    let download = world.send(request);
    world.pass(SECOND);
    for pipeline in &checks {
        assert_eq!(world.deliver(pipeline, &EXPECT).status, 200);
    }
    let answer = world.wait(download);
    assert_eq!((answer.is_complete, answer.body.len()), (true, 100));
    assert!(checks.iter().all(|pipeline| results(&world, pipeline).is_empty()), "nobody could ask Testkube");
    for pipeline in &checks {
        succeeds_within(&mut world, pipeline, 3 * MINUTE);
    }
    assert!(world.counts().of("pool: overflow") > 0);
    healthy(&world);
}

#[test]
fn a_circuit_breaker_towards_azure_devops_loses_no_event() {
    let mut world = Setup { workers: 1, ..Setup::new(7) }.start().unwrap();
    let limits = Limits { connections: 1, pending: 1, requests: 1 };
    world.network("azure-devops", Rule { limits, ..Rule::default() });
    let checks: Vec<Pipeline> = (1..=12).map(|n| passing(&mut world, n, 2_000)).collect();
    for pipeline in &checks {
        assert_eq!(world.deliver(pipeline, &EXPECT).status, 200);
    }
    for pipeline in &checks {
        succeeds_within(&mut world, pipeline, 20 * MINUTE);
    }
    assert!(world.counts().of("pool: overflow") > 10, "{:?}", world.counts());
    healthy(&world);
}

#[test]
fn a_check_over_a_connection_that_an_old_version_of_the_listener_keeps_is_taken_and_decided() {
    let mut world = Setup { workers: 2, drain: 60 * SECOND, ..Setup::new(7) }.start().unwrap();
    let connection = world.connect(LISTENER, 1);
    let probe = Request::new("GET", "/testrelay/healthz");
    let first = world.send_over(connection, probe, Vec::new());
    assert_eq!(world.wait(first).status, 200);
    assert!(world.reload(&configuration(1)).unwrap());
    world.pass(5 * SECOND);
    let pipeline = passing(&mut world, 1, 5_000);
    world.note_delivery(&pipeline);
    let stream = world.send_over(connection, pipeline.check(&EXPECT), Vec::new());
    assert_eq!(world.wait(stream).status, 200);
    succeeds_within(&mut world, &pipeline, MINUTE);
    healthy(&world);
}

#[test]
fn a_changed_password_counts_with_the_vms_that_see_it() {
    for (environment_in_key, statuses) in [(true, [401, 200]), (false, [200, 401])] {
        let setup = Setup { environment_in_key, drain: 10 * SECOND, ..Setup::new(7) };
        let mut environment = setup.environment.clone();
        let mut world = setup.start().unwrap();
        environment.insert("TESTRELAY_PASSWORD".into(), format!("another-password-{MARK}"));
        assert!(world.change_environment(environment).unwrap());
        world.pass(5 * SECOND);
        for (n, status) in (1..).zip(statuses) {
            let pipeline = passing(&mut world, n, 5_000);
            world.note_delivery(&pipeline);
            let request = match n {
                1 => pipeline.check(&EXPECT),
                _ => check_by(&pipeline, "testrelay", &format!("another-password-{MARK}")),
            };
            assert_eq!(world.ask(request).status, status, "environment in the key: {environment_in_key}");
            if status == 200 {
                succeeds_within(&mut world, &pipeline, MINUTE);
            }
        }
        healthy(&world);
    }
}

/// The check of a run with another credential.
fn check_by(pipeline: &Pipeline, user: &str, password: &str) -> Request {
    let mut request = pipeline.check(&EXPECT);
    request.headers.retain(|(name, _)| name != "authorization");
    request.header("authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

#[test]
fn each_of_several_credentials_opens_what_it_is_for_with_its_present_or_next_secret() {
    let mut setup = Setup::new(7);
    for (name, value) in [("SECOND", "second"), ("SECOND_NEXT", "second-next")] {
        setup.environment.insert(name.into(), format!("{value}-of-tests-{MARK}"));
    }
    setup.configuration = changed(&setup.configuration, |configuration| {
        let second = serde_json::json!({
            "name": "second", "kind": "basic", "username": "second", "secret_env": "SECOND",
            "secret_env_next": "SECOND_NEXT", "allow": ["checks"],
        });
        configuration["credentials"].as_array_mut().unwrap().push(second);
    });
    let mut world = setup.start().unwrap();
    for (n, (user, password, status)) in (1..).zip([
        ("second", "second", 200),
        ("second", "second-next", 200),
        ("second", "bearer", 401),
        ("testrelay", "second", 401),
    ]) {
        let pipeline = passing(&mut world, n, 5_000);
        world.note_delivery(&pipeline);
        let request = check_by(&pipeline, user, &format!("{password}-of-tests-{MARK}"));
        assert_eq!(world.ask(request).status, status, "{user} with {password}");
        if status == 200 {
            succeeds_within(&mut world, &pipeline, MINUTE);
        }
    }
    // It allows `checks` and nothing else.
    let header =
        check_by(&world.pipeline(9), "second", &format!("second-of-tests-{MARK}")).value("authorization");
    let mut artifact = slow_artifact(&world);
    artifact.headers.retain(|(name, _)| name != "authorization");
    let answer = world.ask(artifact.header("authorization", &header.unwrap()));
    assert_eq!((answer.status, answer.by), (403, By::Module), "{}", answer.text());
    healthy(&world);
}

#[test]
fn two_instances_in_one_vm_have_a_leader_and_checks_each() {
    let other = Plugin::new("other", "other", &configuration(0));
    let setup = Setup { workers: 2, drain: 10 * SECOND, more_plugins: vec![other], ..Setup::new(7) };
    let mut world = setup.start().unwrap();
    world.pass(5 * SECOND);
    assert!(world.shared("testrelay/1/testrelay/leader").is_some());
    assert!(world.shared("testrelay/1/other/leader").is_some());
    let checks: Vec<Pipeline> = (1..=6).map(|n| passing(&mut world, n, 20_000)).collect();
    for pipeline in &checks {
        let listener = if pipeline.n % 2 == 0 { "other" } else { LISTENER };
        world.note_delivery(pipeline);
        let stream = world.send_in_pieces(listener, pipeline.check(&EXPECT), Vec::new());
        assert_eq!(world.wait(stream).status, 200);
    }
    // A reload of one does not affect the other.
    world.pass(2 * SECOND);
    assert!(world.reload_one("other", &configuration(1)).unwrap());
    for pipeline in &checks {
        succeeds_within(&mut world, pipeline, 2 * MINUTE);
    }
    healthy(&world);
}

#[test]
fn an_instance_that_two_plugins_name_has_one_leader_and_their_checks_together() {
    let shared = changed(&configuration(0), |configuration| configuration["instance"] = "both".into());
    let other = Plugin::new("other", "other", &shared);
    let setup = Setup { workers: 2, configuration: shared, more_plugins: vec![other], ..Setup::new(7) };
    let mut world = setup.start().unwrap();
    world.pass(5 * SECOND);
    assert!(world.shared("testrelay/1/both/leader").is_some());
    assert!(world.shared("testrelay/1/other/leader").is_none());
    let pipeline = passing(&mut world, 1, 20_000);
    // Delivered through one and once more through the other: the same check.
    for (listener, status) in [(LISTENER, "accepted"), ("other", "already")] {
        world.note_delivery(&pipeline);
        let stream = world.send_in_pieces(listener, pipeline.check(&EXPECT), Vec::new());
        let answer = world.wait(stream);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(status), "{}", answer.text());
    }
    succeeds_within(&mut world, &pipeline, 2 * MINUTE);
    world.pass(2 * MINUTE);
    assert_eq!(results(&world, &pipeline).len(), 1);
    healthy(&world);
}
