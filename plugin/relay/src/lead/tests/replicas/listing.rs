//! The list of all replicas' checks.

use super::*;

fn names(list: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = list["checks"].as_array().unwrap().iter();
    checks.map(|c| (text(&c["tag"]), text(&c["replica"]["pod"]), text(&c["state"]))).collect()
}

/// What replicas say besides the time of the look.
fn common(list: &Value) -> Vec<String> {
    let mut checks: Vec<String> = names(list).into_iter().map(|name| format!("{name:?}")).collect();
    checks.sort();
    checks
}

#[test]
fn every_replica_lists_all_checks_with_their_owners_and_no_token() {
    let mut world = Replicas::new(3);
    let runs: Vec<Run> = (1..7).map(|n| world.run(n, 60_000, Status::Failed)).collect();
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(world.accept(n % 2, run), 200);
        world.pass(SECOND);
    }
    world.pass(20 * SECOND);
    let lists: Vec<Value> = (0..3).map(|n| world.list(n, None).1).collect();
    for list in &lists {
        let pods: Vec<String> = names(list).into_iter().map(|(_, pod, _)| pod).collect();
        assert_eq!(pods.len(), 6);
        assert_eq!(pods.iter().filter(|pod| *pod == "pod-0").count(), 3, "{pods:?}");
        assert!(list["incomplete"].is_null() && !list.to_string().contains("token-"), "{list}");
    }
    // Its owner knows more than its Secret says.
    assert_eq!(names(&lists[0])[0].2, "running");
    assert_eq!(common(&lists[2]).len(), 6);
    let id = lists[2]["checks"][0]["id"].as_str().unwrap().to_owned();
    for n in 0..3 {
        let (status, check) = world.list(n, Some(&id));
        assert_eq!((status, check["id"].as_str()), (200, Some(&*id)));
        assert_eq!(check["as_of"].is_null(), n == 0, "the owner's own is of now: {check}");
    }
    world.pass(2 * MINUTE);
    for n in 0..3 {
        let (_, list) = world.list(n, None);
        assert!(names(&list).iter().all(|(.., state)| state == "done"), "{list}");
        assert!(list["checks"].as_array().unwrap().iter().all(|check| check["decision"] == "failed"));
    }
}

#[test]
fn a_check_without_a_living_owner_is_listed_and_then_with_the_next() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10 * MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.kill(0);
    world.pass(5 * SECOND);
    assert_eq!(names(&world.list(1, None).1)[0].1, "pod-0");
    world.pass(25 * SECOND);
    let (_, list) = world.list(1, None);
    assert_eq!(names(&list).len(), 1);
    assert_eq!(names(&list)[0].1, "pod-1");
}

#[test]
fn while_the_api_server_is_away_the_own_checks_are_listed_and_what_is_missing_is_said() {
    let mut world = Replicas::new(2);
    for n in 0..2 {
        let run = world.run(1 + n as u32, 10 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(n, &run), 200);
    }
    world.pass(5 * SECOND);
    let theirs = world.list(1, None).1["checks"][1]["id"].as_str().unwrap().to_owned();
    for resource in [Resource::Leases, Resource::Secrets] {
        world.server.fault(Route::Only(resource, Verb::List), Span::UntilCleared, Weather::EtcdAway);
        let (status, list) = world.list(0, None);
        assert_eq!((status, names(&list).len()), (200, 1), "{list}");
        assert!(list["incomplete"].as_str().unwrap().contains("did not list the other replicas' checks"));
        assert_eq!(world.list(0, Some(&theirs)).0, 503);
        world.server.clear_faults();
    }
    assert_eq!(world.list(0, Some(&theirs)).0, 200);
    assert_eq!(world.list(0, Some("0123456789abcdef")).0, 404);
}

#[test]
fn a_secret_without_a_view_is_listed_to_those_who_may_see_all() {
    let mut world = Replicas::new(2);
    let run = world.run(1, 10 * MINUTE as i64, Status::Passed);
    assert_eq!(world.accept(1, &run), 200);
    let mut secret = world.secrets()[0].clone();
    secret["metadata"]["annotations"] = Value::Null;
    let name = secret["metadata"]["name"].as_str().unwrap();
    let put = fakes::Request::new("PUT", &format!("/api/v1/namespaces/testrelay/secrets/{name}"));
    let now = world.wall();
    world.server.act(now, &put.body(secret.to_string()));
    assert_eq!(names(&world.list(0, None).1)[0].2, "unreadable");
}

const BOUND: &str = r#""credentials": [{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["checks", "status"],
    "projects": ["PROJECT"]}], "checks": {"max_pending_per_project": 16384}"#;

#[test]
fn a_credential_that_is_bound_to_a_project_sees_no_other_projects_checks_of_other_replicas() {
    let other = BOUND.replace("PROJECT", "99999999-0000-4000-8000-000000000001");
    let own = BOUND.replace("PROJECT", super::super::world::PROJECT);
    for (more, seen) in [(own, 1), (other, 0)] {
        let mut world = Replicas::new(2);
        let run = world.run(1, 10 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(0, &run), 200);
        world.configure(more.leak());
        let reader = world.start("pod-2");
        world.pass(5 * SECOND);
        let (status, list) = world.list(reader, None);
        assert_eq!((status, names(&list).len()), (200, seen), "{list}");
        let id = &world.list(1, None).1["checks"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.list(reader, Some(id)).0, if seen == 1 { 200 } else { 404 });
    }
}

#[test]
fn a_slow_api_server_makes_a_list_incomplete_and_not_unreadable() {
    let mut world = Replicas::new(2);
    for n in 0..2 {
        let run = world.run(1 + n as u32, 10 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(n, &run), 200);
    }
    world.pass(5 * SECOND);
    let (mut secret, now) = (world.secrets()[0].clone(), world.wall());
    secret["metadata"].as_object_mut().unwrap().retain(|name, _| name == "labels");
    for n in 0..2_000 {
        secret["metadata"]["name"] = format!("testrelay-left-{n}").into();
        let post = fakes::Request::new("POST", "/api/v1/namespaces/testrelay/secrets");
        assert_eq!(world.server.act(now, &post.body(secret.to_string())).status(), Some(201));
    }
    world.server.fault(Route::All, Span::UntilCleared, Weather::Slow { millis: 2_800 });
    let (status, list) = world.list(0, None);
    assert_eq!(status, 200);
    assert!(list["incomplete"].as_str().unwrap().ends_with("it took too long"), "{list}");
}
