//! How many checks may be pending, and which of them a caller sees: each credential within its own limits.

use anyhow::Result;
use fakes::{Status, execution};
use host_tests::scene::{PROJECT, Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Connection, Envoy, Request, Response, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const OTHER: &str = "password-of-another-connection-3d0c";

/// The service connection's credential with further members, and another one for checks.
fn credentials(more: Value) -> Value {
    let mut first = json!({ "name": "azure-pipelines", "kind": "basic", "username": "testrelay",
        "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks", "status"] });
    if let (Some(first), Some(more)) = (first.as_object_mut(), more.as_object()) {
        first.extend(more.clone());
    }
    json!([first,
        { "name": "others", "kind": "basic", "username": "others", "secret_env": "OTHER_PASSWORD", "allow": ["checks"] },
        { "name": "people", "kind": "bearer", "secret_env": "TESTRELAY_BEARER", "allow": ["status"], "tags": ["shop-4001"] }])
}

fn start(scene: &Scene, plugin: Value) -> Result<Envoy> {
    Envoy::start(&scene.setup()?.plugin(plugin).environment("OTHER_PASSWORD", OTHER))
}

/// A run whose execution goes on until the test ends it.
fn waiting(scene: &Scene, n: u32) -> (Pipeline, String) {
    let run = scene.pipeline(n);
    let id = scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Running));
    (run, id)
}

/// Once the leader has counted this many, every ended check has given its place back.
fn counted(envoy: &Envoy, pending: u32) -> Result<()> {
    let says = format!("pending checks: {pending}\n");
    let ready = Request::get("/testrelay/readyz");
    wait_until(&says, SOON, || ready.send(envoy.address()).is_ok_and(|answer| answer.text().ends_with(&says)))
}

fn of_others(run: &Pipeline, envoy: &Envoy) -> Result<Response> {
    run.fields("shop-e2e").anonymous_request().basic("others", OTHER).send(envoy.address())
}

#[test]
fn a_credential_at_its_limit_gets_no_further_check_until_one_is_decided() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = start(&scene, json!({ "credentials": credentials(json!({ "max_pending": 1 })) }))?;
    let (first, id) = waiting(&scene, 1);
    assert_eq!(first.check("shop-e2e").send(envoy.address())?.status, 200);
    counted(&envoy, 1)?;
    let refused = waiting(&scene, 2).0.check("shop-e2e").send(envoy.address())?;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("the credential's `max_pending`"), "{}", refused.text());
    // The same check again is no further one, and another credential has its own limit.
    assert_eq!(first.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(of_others(&waiting(&scene, 3).0, &envoy)?.status, 200);
    counted(&envoy, 2)?;
    scene.testkube().change(&id, |execution| execution.at(now_ms(), Status::Passed));
    assert_eq!(scene.decision(&first, SOON)?.result(), "succeeded");
    counted(&envoy, 1)?;
    assert_eq!(waiting(&scene, 4).0.check("shop-e2e").send(envoy.address())?.status, 200);
    envoy.stop()
}

#[test]
fn a_project_at_its_limit_and_all_of_them_together_get_no_further_check() -> Result<()> {
    for (member, limit) in [
        ("max_pending_per_project", "`checks.max_pending_per_project`"),
        ("max_pending", "`checks.max_pending`"),
    ] {
        let scene = Scene::new()?;
        let plugin = json!({ "credentials": credentials(json!({})), "checks": { member: 1 } });
        let envoy = start(&scene, plugin)?;
        assert_eq!(waiting(&scene, 1).0.check("shop-e2e").send(envoy.address())?.status, 200);
        counted(&envoy, 1)?;
        let refused = of_others(&waiting(&scene, 2).0, &envoy)?;
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains(&format!("or raise {limit}")), "{}", refused.text());
        envoy.stop()?;
    }
    Ok(())
}

#[test]
fn the_list_has_what_a_credential_covers_pending_and_decided_and_never_a_token() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = start(&scene, json!({ "credentials": credentials(json!({})) }))?;
    let (first, id) = waiting(&scene, 1);
    let (second, _) = waiting(&scene, 2);
    let mut ids = Vec::new();
    for run in [&first, &second] {
        let answer = run.check("shop-e2e").send(envoy.address())?.json()?;
        ids.push(answer["id"].as_str().unwrap_or_default().to_owned());
    }
    let get = |path: &str| Request::get(format!("/testrelay/v1/checks{path}"));
    let all = || get("").basic("testrelay", host_tests::PASSWORD).send(envoy.address());
    let state = |n: usize| all().and_then(|answer| Ok(answer.json()?["checks"][n]["state"].clone()));
    wait_until("a reading of the first", SOON, || state(0).is_ok_and(|state| state == "running"))?;
    scene.testkube().change(&id, |execution| execution.at(now_ms(), Status::Failed));
    assert_eq!(scene.decision(&first, SOON)?.result(), "failed");
    wait_until("its end", SOON, || state(1).is_ok_and(|state| state == "done"))?;

    let listed = all()?;
    assert_eq!((listed.status, listed.header("cache-control")), (200, Some("no-store")));
    let text = listed.text();
    for token in [&first.spec.token, &second.spec.token, host_tests::PASSWORD, BEARER] {
        assert!(!text.contains(token), "{text}");
    }
    let checks = &listed.json()?["checks"];
    assert_eq!(checks.as_array().map(Vec::len), Some(2), "{checks}");
    // What is pending comes first.
    for (n, (run, id)) in [&second, &first].into_iter().zip(ids.iter().rev()).enumerate() {
        assert_eq!((&checks[n]["id"], &checks[n]["project"]), (&json!(id), &json!(PROJECT)));
        assert_eq!(checks[n]["tag"], format!("{TAG_KEY}={}", run.tag));
        assert_eq!(checks[n]["history"][0]["what"], "accepted");
    }
    assert_eq!((&checks[1]["decision"], &checks[1]["reported"]), (&json!("failed"), &json!(true)));
    assert!(checks[1]["reason"].as_str().is_some_and(|why| why.contains("did not pass")), "{checks}");
    assert_eq!((&checks[0]["state"], &checks[0]["expect"]), (&json!("running"), &json!("shop-e2e")));

    // A credential that is bound to tags sees those alone, by the list and by the id.
    let people = |path: &str| get(path).bearer(BEARER).send(envoy.address());
    let seen = people("")?.json()?;
    assert_eq!(seen["checks"].as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(people(&format!("/{}", ids[0]))?.json()?["id"], json!(ids[0]));
    assert_eq!(people(&format!("/{}", ids[1]))?.status, 404);
    assert_eq!(get("").basic("others", OTHER).send(envoy.address())?.status, 403);
    envoy.stop()
}

#[test]
fn a_credential_gets_exactly_its_limit_over_8_connections_at_full_speed() -> Result<()> {
    const LIMIT: usize = 256;
    let scene = Scene::new()?;
    let plugin = json!({ "credentials": credentials(json!({ "max_pending": LIMIT })) });
    let setup = scene.setup()?.plugin(plugin).environment("OTHER_PASSWORD", OTHER).concurrency(2);
    let envoy = Envoy::start(&setup)?;
    let checks: Vec<Request> = (0..400).map(|n| scene.pipeline(n).check("shop-e2e")).collect();
    let (address, began) = (envoy.address(), Instant::now());
    let statuses = std::thread::scope(|scope| {
        let over_one_connection = |checks: &'_ [Request]| -> Result<Vec<u16>> {
            let mut connection = Connection::open(address)?;
            checks.iter().map(|check| Ok(connection.send(check)?.status)).collect()
        };
        let connections: Vec<_> =
            checks.chunks(50).map(|checks| scope.spawn(move || over_one_connection(checks))).collect();
        let answers = connections.into_iter().map(|thread| thread.join().expect("a connection has panicked"));
        answers.collect::<Result<Vec<Vec<u16>>>>()
    })?;
    let mut counted = BTreeMap::new();
    statuses.into_iter().flatten().for_each(|status| *counted.entry(status).or_default() += 1);
    let expected = BTreeMap::from([(200, LIMIT), (503, 400 - LIMIT)]);
    assert_eq!(counted, expected, "the limit is {LIMIT}, and 400 checks came within {:?}", began.elapsed());
    envoy.stop()
}
