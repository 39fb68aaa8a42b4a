use super::*;

fn answer(body: &str) -> Response {
    Response {
        status: 200,
        content_type: "application/json".into(),
        asks: Default::default(),
        from_envoy: false,
        body: Ok(body.as_bytes().to_vec()),
    }
}

fn listed(fixture: &str) -> Page {
    page(&answer(fixture)).unwrap()
}

fn summary(page: &Page) -> Vec<String> {
    page.executions.iter().map(|e| format!("{} {} {}", e.name, e.status, e.ended)).collect()
}

#[test]
fn testkubes_own_lists_are_read() {
    let page = listed(testkube_fixture!("list-3-mixed"));
    assert_eq!(
        summary(&page),
        ["shop-e2e-17 running false", "shop-api-41 passed true", "shop-load-9 failed true"]
    );
    assert_eq!(page.filtered, 3);
    let first = &page.executions[0];
    assert_eq!((first.workflow.as_str(), first.number), ("shop-e2e", 17));
    assert_eq!(
        (first.actor.kind.as_str(), first.actor.name.as_str()),
        ("testworkflowexecution", "shop-e2e-20260123-4")
    );
    assert!(first.carries(&Tag { key: "ado-run".into(), value: "20260123.4".into() }));
    assert!(listed(testkube_fixture!("list-0")).executions.is_empty());
}

fn actor(json: &str) -> Actor {
    let wire: wire::Actor = serde_json::from_str(json).unwrap();
    Actor::of_wire(wire)
}

#[test]
fn a_child_is_known_by_its_actors_type_its_parent_or_its_path() {
    for (json, ancestors) in [
        (r#"{"type":"testworkflow"}"#, &[][..]),
        (r#"{"type":"gitintegration","executionId":"p"}"#, &["p"]),
        (r#"{"type":"gitintegration","executionPath":"r/q/p"}"#, &["p", "q", "r"]),
        (r#"{"type":"testworkflow","executionId":"p","executionPath":"q/p"}"#, &["p", "q"]),
        (r#"{"type":"user","executionPath":"//"}"#, &[]),
    ] {
        let actor = actor(json);
        assert!(actor.is_child, "{json}");
        assert_eq!(actor.ancestors, ancestors, "{json}");
    }
    for json in [
        "{}",
        r#"{"type":"gitintegration","executionId":"","executionPath":null}"#,
        r#"{"type":"user","executionReference":"p"}"#,
    ] {
        assert!(!actor(json).is_child, "{json}");
    }
}

#[test]
fn what_a_caller_writes_about_ancestors_is_bounded() {
    let long = format!(r#"{{"executionId":"{}","executionPath":"{}p"}}"#, "x".repeat(65), "q/".repeat(40));
    let actor = actor(&long);
    assert!(actor.is_child && actor.ancestors.len() == MAX_ANCESTORS && actor.ancestors[0] == "p");
}

#[test]
fn what_is_kept_of_an_execution_comes_back() {
    let list = testkube_fixture!("list-1-running");
    for actor in [
        r#"{"type":"gitintegration","name":"Git Integration","executionId":"p","executionPath":"q/p"}"#,
        r#"{"type":"user","executionPath":"/"}"#,
        r#"{"type":"user","executionReference":"r"}"#,
    ] {
        let mut rows: serde_json::Value = serde_json::from_str(list).unwrap();
        rows["results"][0]["runningContext"]["actor"] = serde_json::from_str(actor).unwrap();
        let all = from_json(rows["results"].to_string().as_bytes()).unwrap();
        let kept = from_json(to_json(&all, "ado-run").as_bytes()).unwrap();
        assert_eq!(kept[0].actor, all[0].actor);
    }
}

#[test]
fn the_sum_of_wrong_totals_is_right() {
    let page = listed(testkube_fixture!("list-4-done-totals-wrong"));
    assert_eq!((page.filtered, page.executions.len()), (4, 4));
    assert!(page.executions.iter().all(|e| e.ended));
}

#[test]
fn a_finish_time_without_a_terminal_status_is_no_end() {
    let page = listed(testkube_fixture!("list-1-assigned-but-finishedAt-set"));
    assert_eq!(summary(&page), ["shop-smoke-4 assigned false"]);
}

/// A list with the first execution's status changed.
fn with_status(fixture: &str, status: &str) -> Page {
    let mut list: serde_json::Value = serde_json::from_str(fixture).unwrap();
    list["results"][0]["result"]["status"] = status.into();
    listed(&list.to_string())
}

#[test]
fn a_terminal_status_without_a_finish_time_is_no_end() {
    let page = with_status(testkube_fixture!("list-1-running"), "passed");
    assert_eq!(summary(&page), ["shop-e2e-17 passed false"]);
}

#[test]
fn unknown_statuses_mean_not_yet() {
    let ended = testkube_fixture!("list-4-done-totals-wrong");
    assert!(with_status(ended, "passed").executions[0].ended);
    for status in ["pending", "Passed", "succeeded", "", "\u{1b}[1m"] {
        assert!(!with_status(ended, status).executions[0].ended, "{status:?}");
    }
}

#[test]
fn a_single_execution_says_why_it_never_began() {
    let execution = single(&answer(testkube_fixture!("execution-aborted-init"))).unwrap();
    assert_eq!((execution.status, execution.ended), (Status::Aborted, true));
    assert!(execution.message.unwrap().contains("Cannot fetch required Test Workflow Templates"));
}

#[test]
fn one_that_a_runner_declined_says_where_the_reason_is() {
    let body = testkube_fixture!("recorded-execution-aborted-declined-no-reason");
    let declined = single(&answer(body)).unwrap();
    assert_eq!((declined.status.clone(), declined.ended, declined.began), (Status::Aborted, true, false));
    assert_eq!(declined.why_not_passed().unwrap(), NEVER_BEGAN);
}

#[test]
fn one_that_has_been_stopping_for_ten_minutes_is_stuck() {
    let mut page = with_status(testkube_fixture!("list-1-running"), "stopping");
    let execution = page.executions.remove(0);
    let since = execution.stopping_since.unwrap();
    assert!(!execution.is_stuck(since.plus(Duration::from_secs(599))));
    assert!(execution.is_stuck(since.plus(Duration::from_secs(600))));
    let mut page = with_status(testkube_fixture!("list-1-running"), "pausing");
    assert!(!page.executions.remove(0).is_stuck(since.plus(Duration::from_secs(6_000))));
}

#[test]
fn answers_of_another_shape_are_faults() {
    for body in [
        "[]",
        "{}",
        "null",
        r#"{"results":null,"filtered":{"results":0}}"#,
        r#"{"results":[{}],"filtered":{"results":1}}"#,
        r#"{"results":[{"id":"x","scheduledAt":"yesterday"}],"filtered":{"results":1}}"#,
    ] {
        assert!(page(&answer(body)).is_err(), "{body}");
    }
    assert_eq!(page(&answer("{\"results\":[")).unwrap_err(), Fault::Truncated);
    assert!(single(&answer(&"[".repeat(100_000))).is_err());
}
