mod recorded;

use serde_json::Value;

use super::*;

const NOW: i64 = 1_769_186_700_000;
const SCHEDULED: i64 = 1_769_186_642_113;

fn running() -> Execution {
    execution("shop-e2e")
        .tag("ado-run", "20260123.4")
        .label("app", "shop")
        .scheduled_at(SCHEDULED)
        .at(SCHEDULED, Status::Running)
        .annotations_of(40)
}

fn with(execution: Execution) -> (Testkube, String) {
    let mut testkube = Testkube::new(Database::Mongo);
    let id = testkube.add(execution);
    (testkube, id)
}

fn get(testkube: &mut Testkube, target: &str) -> Response {
    testkube.handle(NOW, &Request::new("GET", target)).response().unwrap().clone()
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

/// The paths of all members, with the kinds of their values; arrays by their first element.
fn shape(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != "spec" && *name != "annotations")
            {
                shape(value, &format!("{path}.{name}"), into);
            }
        }
        Value::Array(elements) if !elements.is_empty() => shape(&elements[0], &format!("{path}[]"), into),
        Value::Array(_) => into.push(format!("{path}: array")),
        Value::String(_) => into.push(format!("{path}: string")),
        Value::Number(_) => into.push(format!("{path}: number")),
        other => into.push(format!("{path}: {other}")),
    }
}

fn same_shape(answer: &Response, fixture: &str, besides: &[&str]) {
    let [answered, expected] = [json(answer), serde_json::from_str(fixture).unwrap()].map(|value| {
        let mut paths = Vec::new();
        shape(&value, "", &mut paths);
        paths.retain(|path| !besides.iter().any(|besides| path.starts_with(besides)));
        paths
    });
    assert_eq!(answered, expected);
}

#[test]
fn a_list_has_the_shape_of_the_fixtures() {
    let (mut testkube, _) = with(running());
    let list = "/v1/test-workflow-executions?tagSelector=ado-run%3D20260123.4";
    same_shape(&get(&mut testkube, list), include_str!("../../fixtures/testkube/list-1-running.json"), &[]);
    let empty = get(&mut testkube, "/v1/test-workflow-executions?tagSelector=ado-run%3Dother");
    same_shape(&empty, include_str!("../../fixtures/testkube/list-0.json"), &[]);
    assert_eq!(empty.value("content-type").as_deref(), Some("application/json"));
}

#[test]
fn an_execution_that_cannot_be_resolved_is_assigned_and_finished() {
    let (mut testkube, _) = with(running().at_with_finished(SCHEDULED, Status::Assigned, true));
    let list = get(&mut testkube, "/v1/test-workflow-executions");
    let fixture = include_str!("../../fixtures/testkube/list-1-assigned-but-finishedAt-set.json");
    same_shape(&list, fixture, &[]);
    let result = json(&list)["results"][0]["result"].clone();
    assert_eq!(result["status"], "assigned");
    assert_eq!(result["finishedAt"], "2026-01-23T16:44:02.113Z");
}

#[test]
fn an_execution_has_the_shape_of_the_fixtures() {
    let besides = [".workflow", ".resolvedWorkflow"];
    let (mut testkube, id) = with(running());
    let target = format!("/v1/test-workflow-executions/{id}");
    let fixture = include_str!("../../fixtures/testkube/execution-running.json");
    same_shape(&get(&mut testkube, &target), fixture, &besides);
    testkube.change(&id, |execution| execution.at(NOW - 1, Status::Failed));
    let fixture = include_str!("../../fixtures/testkube/execution-failed.json");
    same_shape(&get(&mut testkube, &target), fixture, &besides);
    testkube.change(&id, |execution| execution.at(NOW, Status::Passed).optional_step_failed());
    let fixture = include_str!("../../fixtures/testkube/execution-passed-optional-step-failed.json");
    same_shape(&get(&mut testkube, &target), fixture, &besides);
    let aborted = execution("w").initialization_error("no template").at(0, Status::Aborted);
    let id = testkube.add(aborted.tag("ado-run", "1"));
    let fixture = include_str!("../../fixtures/testkube/execution-aborted-init.json");
    same_shape(&get(&mut testkube, &format!("/v1/test-workflow-executions/{id}")), fixture, &besides);
}

#[test]
fn a_signature_reads_as_recorded() {
    let (mut testkube, id) = with(running());
    let answer = json(&get(&mut testkube, &format!("/v1/test-workflow-executions/{id}")));
    let fixture: Value =
        serde_json::from_str(include_str!("../../fixtures/testkube/execution-running.json")).unwrap();
    assert_eq!(answer["signature"], fixture["signature"]);
}

#[test]
fn an_unset_time_is_the_year_1() {
    let (mut testkube, id) = with(running());
    let answer = json(&get(&mut testkube, &format!("/v1/test-workflow-executions/{id}")));
    assert_eq!(answer["result"]["finishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(answer["scheduledAt"], "2026-01-23T16:44:02.113Z");
}

#[test]
fn an_unusable_selector_returns_every_execution() {
    let (mut testkube, _) = with(running());
    testkube.add(execution("other").at(0, Status::Passed));
    let list = json(&get(&mut testkube, "/v1/test-workflow-executions?tagSelector=a%3Dx%3Dy"));
    assert_eq!(list["results"].as_array().unwrap().len(), 2);
    assert_eq!(list["results"][0]["name"], "shop-e2e-1");
}

#[test]
fn an_execution_is_found_by_id_and_by_name_and_within_its_workflow() {
    let (mut testkube, id) = with(running());
    for (path, status) in [
        (format!("test-workflow-executions/{id}"), 200),
        ("test-workflow-executions/shop-e2e-1".into(), 200),
        (format!("Test-Workflow-Executions/{id}/"), 200),
        (format!("test-workflows/shop-e2e/executions/{id}"), 200),
        (format!("test-workflows/other/executions/{id}"), 404),
        ("test-workflows/other/executions".into(), 200),
        ("test-workflow-executions/nope".into(), 404),
    ] {
        assert_eq!(get(&mut testkube, &format!("/v1/{path}")).status, status, "{path}");
    }
    let missing = get(&mut testkube, "/v1/test-workflow-executions/nope");
    let fixture: Value =
        serde_json::from_str(include_str!("../../fixtures/testkube/recorded-error-404-execution.json"))
            .unwrap();
    assert_eq!(json(&missing), fixture);
}

#[test]
fn a_raw_slash_in_an_artifact_name_misses_the_route() {
    let (mut testkube, id) = with(running().artifact("results/junit.xml", "<testsuites/>"));
    let base = format!("/v1/test-workflow-executions/{id}/artifacts");
    let missed = get(&mut testkube, &format!("{base}/results/junit.xml"));
    assert_eq!(
        (missed.status, missed.value("content-type").unwrap().as_str()),
        (404, "text/plain; charset=utf-8")
    );
    assert_eq!(missed.body, format!("Cannot GET {base}/results/junit.xml").into_bytes());
    let found = get(&mut testkube, &format!("{base}/results%252Fjunit.xml"));
    assert_eq!((found.status, found.body.as_slice()), (200, &b"<testsuites/>"[..]));
    assert!(found.is_chunked());
    assert_eq!(found.value("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(get(&mut testkube, &base).status, 200);
    assert_eq!(get(&mut testkube, &format!("{base}/")).status, 200);
}

#[test]
fn a_log_is_there_when_the_execution_is_over_and_only_by_its_id() {
    let (mut testkube, id) = with(running().log("line\n"));
    let log = |key: &str| format!("/v1/test-workflow-executions/{key}/logs");
    assert_eq!(get(&mut testkube, &log(&id)).status, 500);
    testkube.change(&id, |execution| execution.at(NOW, Status::Passed));
    assert_eq!(get(&mut testkube, &log(&id)).body, b"line\n");
    assert_eq!(get(&mut testkube, &log("shop-e2e-1")).status, 500);
    assert_eq!(get(&mut testkube, &log("nope")).status, 404);
}

#[test]
fn more_than_4096_bytes_of_headers_are_a_431() {
    let (mut testkube, _) = with(running());
    let bare = header_bytes(&Request::new("GET", "/v1/info").header("x", ""));
    for (size, status) in [(4096, 200), (4097, 431)] {
        let request = Request::new("GET", "/v1/info").header("x", &"a".repeat(size - bare));
        assert_eq!(testkube.handle(NOW, &request).status(), Some(status), "{size}");
    }
}

#[test]
fn the_control_plane_wants_its_prefix_and_its_token() {
    let mut testkube = Testkube::control_plane(Database::Postgres, "tkcorg_1", "tkcenv_2", "tkcapi_3");
    let list = "/organizations/tkcorg_1/environments/tkcenv_2/agent/test-workflow-executions";
    let status = |testkube: &mut Testkube, target: &str, authorization: &str| {
        let request = Request::new("GET", target).header("Authorization", authorization);
        testkube.handle(NOW, &request).status()
    };
    assert_eq!(status(&mut testkube, list, "Bearer tkcapi_3"), Some(200));
    assert_eq!(status(&mut testkube, list, "Bearer other"), Some(401));
    assert_eq!(status(&mut testkube, "/v1/test-workflow-executions", "Bearer tkcapi_3"), Some(404));
}

#[test]
fn faults_strike_their_route_and_are_recorded_with_their_status() {
    let (mut testkube, id) = with(running());
    testkube.fault(Route::List, Span::Next(1), Fault::Status(502));
    testkube.fault(Route::List, Span::Next(1), Fault::Reset);
    testkube.fault(Route::Get, Span::UntilCleared, Fault::Huge { bytes: 5000 });
    testkube.fault(Route::Log, Span::UntilCleared, Fault::Slow { millis: 7 });
    let list = "/v1/test-workflow-executions";
    let fixture: Value =
        serde_json::from_str(include_str!("../../fixtures/testkube/recorded-error-502-list-db-down.json"))
            .unwrap();
    assert_eq!(json(&get(&mut testkube, list)), fixture);
    assert_eq!(testkube.handle(NOW, &Request::new("GET", list)), Reply::Reset);
    assert_eq!(get(&mut testkube, list).status, 200);
    let get_one = format!("/v1/test-workflow-executions/{id}");
    assert_eq!(get(&mut testkube, &get_one).body.len(), 5000);
    testkube.clear_faults_of(Route::Get);
    assert_eq!(json(&get(&mut testkube, &get_one))["id"], id.as_str());
    let late = testkube.handle(NOW, &Request::new("GET", &format!("{get_one}/logs")));
    assert!(matches!(late, Reply::After { millis: 7, .. }));
    let statuses: Vec<_> = testkube.requests().iter().map(|recorded| recorded.status).collect();
    assert_eq!(statuses, [Some(502), None, Some(200), Some(200), Some(200), Some(500)]);
}

#[test]
fn the_truth_follows_tags_and_time() {
    let (mut testkube, id) = with(running().tags_replaced_at(NOW, &[("ado-run", "5")]));
    assert_eq!(testkube.truth("ado-run", "20260123.4", SCHEDULED - 1), []);
    assert_eq!(testkube.truth("ado-run", "20260123.4", NOW - 1)[0].status, Status::Running);
    assert_eq!(testkube.truth("ado-run", "20260123.4", NOW), []);
    testkube.change(&id, |execution| execution.at(NOW + 5, Status::Canceled));
    let truth = &testkube.truth("ado-run", "5", NOW + 5)[0];
    assert_eq!((truth.name.as_str(), truth.finished), ("shop-e2e-1", true));
    assert_eq!(truth.id.len(), 24);
}

#[test]
fn head_and_other_methods_answer_as_fiber_does() {
    let (mut testkube, _) = with(running());
    let head = testkube.handle(NOW, &Request::new("HEAD", "/health"));
    let head = head.response().unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.value("content-length").as_deref(), Some("8"));
    let post = testkube.handle(NOW, &Request::new("DELETE", "/v1/info"));
    assert_eq!(post.status(), Some(405));
}
