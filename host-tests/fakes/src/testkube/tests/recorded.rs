//! The fake's answers beside those of Testkube's own binary (`fixtures/testkube/recorded-*.json`).

use super::*;

fn recorded(name: &str) -> Value {
    let path = format!("{}/fixtures/testkube/recorded-{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn on_postgres() -> Testkube {
    Testkube::new(Database::Postgres)
}

/// As the recorded workflows are.
fn tagged() -> Execution {
    execution("shop-e2e").tag("ado-run", "shop-4711").label("app", "shop").annotations_of(40)
}

/// An object's shape, without what differs from workflow to workflow.
fn shape_of(value: &Value, besides: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    shape(value, "", &mut paths);
    paths.retain(|path| !besides.iter().any(|besides| path.starts_with(besides)));
    paths.sort();
    paths
}

/// The recorded error with our execution's id in the place of that one's.
fn with_id(name: &str, id: &str) -> Value {
    let recorded = recorded(name).to_string();
    serde_json::from_str(&recorded.replace("6b0a81073b46a43c7547eec9", id)).unwrap()
}

#[test]
fn errors_are_word_for_word_as_recorded() {
    let mut testkube = on_postgres();
    let id = testkube.add(tagged().at(0, Status::Failed));
    let one = format!("/v1/test-workflow-executions/{id}");
    let none = "/v1/test-workflow-executions/6973a5d2e1c4b0a7f3d9e2ff";
    for (method, target, status, name) in [
        ("GET", none.to_owned(), 404, "error-404-execution"),
        ("GET", format!("{none}/artifacts"), 404, "error-404-artifact-list"),
        ("POST", format!("{none}/abort"), 404, "error-404-abort"),
        ("POST", format!("{one}/abort"), 400, "error-400-abort-finished"),
        ("GET", format!("{one}/artifacts/nope.xml"), 500, "error-500-artifact-missing"),
        ("GET", format!("{one}/artifact-archive?mask=("), 500, "error-500-archive-bad-mask"),
        ("GET", format!("{one}/logs"), 500, "error-500-log-missing"),
        (
            "GET",
            "/v1/test-workflow-executions?pageSize=2147483648".to_owned(),
            502,
            "error-502-page-size-over-int32",
        ),
    ] {
        let reply = testkube.handle(NOW, &Request::new(method, &target));
        let answer = reply.response().unwrap();
        assert_eq!((answer.status, json(answer)), (status, with_id(name, &id)), "{method} {target}");
        assert_eq!(answer.value("content-type").as_deref(), Some("application/json"), "{target}");
    }
    testkube.fault(Route::List, Span::UntilCleared, Fault::Status(502));
    let down = get(&mut testkube, "/v1/test-workflow-executions");
    assert_eq!((down.status, json(&down)), (502, recorded("error-502-list-db-down")));
}

#[test]
fn a_run_that_nobody_is_said_to_have_started_has_neither_interface_nor_actor() {
    let mut testkube = on_postgres();
    let first = testkube.add(tagged().of_nobody().scheduled_at(0).at(0, Status::Assigned));
    let list = "/v1/test-workflow-executions?tagSelector=ado-run%3Dshop-4711";
    let (answer, recorded_one) = (json(&get(&mut testkube, list)), recorded("list-1-actor-null"));
    assert_eq!(shape_of(&answer, &[]), shape_of(&recorded_one, &[]));
    let predicted = |list: &Value| list["results"][0]["result"]["predictedStatus"].clone();
    assert_eq!(predicted(&answer), predicted(&recorded_one));
    testkube.change(&first, |execution| execution.at(1, Status::Running).at(2, Status::Failed));
    testkube.add(tagged().rerun_of(&first).scheduled_at(5).at(5, Status::Assigned));
    let (answer, recorded_two) = (json(&get(&mut testkube, list)), recorded("list-2-rerun-with-reference"));
    for row in 0..2 {
        let [answered, expected] = [&answer, &recorded_two].map(|list| &list["results"][row]);
        assert_eq!(shape_of(answered, &[]), shape_of(expected, &[]), "row {row}");
    }
    let interface = |list: &Value| list["results"][0]["runningContext"]["interface"].clone();
    assert_eq!(interface(&answer), interface(&recorded_two));
}

#[test]
fn an_execution_that_is_finished_while_it_is_assigned_is_as_recorded() {
    let mut testkube = on_postgres();
    testkube.add(execution("shop-tpl").tag("ado-run", "shop-1").at_with_finished(0, Status::Assigned, true));
    let answer = json(&get(&mut testkube, "/v1/test-workflow-executions"));
    let (row, recorded) = (&answer["results"][0], recorded("summary-assigned-but-finishedAt-set"));
    assert_eq!(shape_of(row, &[]), shape_of(&recorded, &[]));
    assert_eq!(row["result"]["predictedStatus"], recorded["result"]["predictedStatus"]);
}

#[test]
fn executions_whose_pod_never_ran_are_as_recorded() {
    let started = || tagged().without_pod().at(0, Status::Running);
    for (script, name) in [
        (started(), "execution-running-no-pod-yet"),
        (started().at(5_000, Status::Canceled), "execution-canceled-by-abort"),
        (started().at(5_000, Status::Aborted), "execution-aborted-job-deleted"),
        (tagged().at(0, Status::Aborted), "execution-aborted-declined-no-reason"),
    ] {
        let mut testkube = on_postgres();
        let id = testkube.add(script);
        let answer = json(&get(&mut testkube, &format!("/v1/test-workflow-executions/{id}")));
        let recorded = recorded(name);
        // A workflow's own steps and spec are not compared.
        let besides = [".workflow", ".resolvedWorkflow", ".result.steps", ".signature"];
        assert_eq!(shape_of(&answer, &besides), shape_of(&recorded, &besides), "{name}");
        for member in ["status", "predictedStatus"] {
            assert_eq!(answer["result"][member], recorded["result"][member], "{name}: {member}");
        }
        let initialization = |value: &Value| {
            let of = &value["result"]["initialization"];
            (of["status"].clone(), of["errorMessage"].clone())
        };
        assert_eq!(initialization(&answer), initialization(&recorded), "{name}");
        let kinds = |value: &Value| {
            let steps = value["result"]["steps"].as_object().into_iter().flatten();
            let kind = |(_, step): (&String, &Value)| format!("{} {}", step["status"], step["errorMessage"]);
            steps.map(kind).collect::<std::collections::BTreeSet<String>>()
        };
        assert_eq!(kinds(&answer), kinds(&recorded), "{name}");
    }
}

#[test]
fn what_is_kept_under_an_executions_id_is_not_found_by_its_name() {
    let mut testkube = on_postgres();
    let id = testkube.add(tagged().artifact("a.xml", "x").log("line\n").at(0, Status::Passed));
    let of = |key: &str, what: &str| format!("/v1/test-workflow-executions/{key}/{what}");
    assert_ne!(get(&mut testkube, &of(&id, "artifacts")).body, b"null");
    assert_eq!(get(&mut testkube, &of("shop-e2e-1", "artifacts")).body, b"null");
    let log = get(&mut testkube, &of(&id, "logs"));
    assert_eq!((log.status, log.value("content-type").as_deref()), (200, Some("text/plain")));
    assert!(!log.is_chunked());
    assert_eq!(get(&mut testkube, &of("shop-e2e-1", "logs")).status, 500);
}

#[test]
fn without_its_object_store_a_list_is_silent_for_ten_seconds_and_an_error_holds_a_signed_url() {
    let mut testkube = on_postgres();
    let id = testkube.add(tagged().artifact("a.xml", "x").log("line\n").at(0, Status::Passed));
    for route in [Route::Artifact, Route::Log] {
        testkube.fault(route, Span::UntilCleared, Fault::StorageAway);
    }
    for (what, is_late) in
        [("artifacts", true), ("artifact-archive", true), ("artifacts/a.xml", false), ("logs", false)]
    {
        let request = Request::new("GET", &format!("/v1/test-workflow-executions/{id}/{what}"));
        let reply = testkube.handle(NOW, &request);
        assert_eq!(matches!(reply, Reply::After { millis: 9_000..10_000, .. }), is_late, "{what}");
        let body = String::from_utf8(reply.response().unwrap().body.clone()).unwrap();
        assert!(reply.status() == Some(500) && body.contains("X-Amz-Signature"), "{what}: {body}");
    }
}

#[test]
fn a_semicolon_separates_nothing_so_that_every_execution_is_listed() {
    let mut testkube = on_postgres();
    testkube.add(tagged().at(0, Status::Running));
    testkube.add(execution("other").at(0, Status::Running));
    let answer = json(&get(&mut testkube, "/v1/test-workflow-executions?tagSelector=a%3D1%3Bb%3D2"));
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
}

#[test]
fn times_may_have_an_offset_and_those_that_are_not_set_stay() {
    let mut testkube = on_postgres().in_time_zone(-150);
    let id = testkube.add(tagged().at(SCHEDULED, Status::Running));
    let answer = json(&get(&mut testkube, &format!("/v1/test-workflow-executions/{id}")));
    assert_eq!(answer["scheduledAt"], "2026-01-23T14:14:02.113-02:30");
    assert_eq!(answer["result"]["finishedAt"], "0001-01-01T00:00:00Z");
}

#[test]
fn an_abort_of_one_that_has_not_started_is_taken_and_does_nothing() {
    let mut testkube = on_postgres();
    for (status, becomes) in [
        (Status::Queued, Status::Queued),
        (Status::Assigned, Status::Assigned),
        (Status::Starting, Status::Canceled),
        (Status::Running, Status::Canceled),
    ] {
        let id = testkube.add(execution("w").tag("n", status.as_str()).at(0, status.clone()));
        let abort = Request::new("POST", &format!("/v1/test-workflow-executions/{id}/abort"));
        assert_eq!(testkube.handle(NOW, &abort).status(), Some(204));
        assert_eq!(testkube.truth("n", status.as_str(), NOW + 700)[0].status, becomes);
    }
}
