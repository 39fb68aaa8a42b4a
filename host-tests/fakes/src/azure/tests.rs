use serde_json::json;

use super::*;

const PROJECT: &str = "69f48e94-bdb4-42d7-a560-0f2b54f91cc8";
const PLAN: &str = "67be341f-5310-552f-e0cd-7c580e77b98b";
const TASK: &str = "61153303-347e-5f06-a6a1-ce2102bd68eb";
const JOB: &str = "3a7e60dc-c5b0-5009-86eb-0f217c12e2ea";

fn started() -> AzureDevOps {
    let mut azure = AzureDevOps::new("/tfs/DefaultCollection/");
    azure.start_check(
        0,
        CheckSpec {
            project: PROJECT.into(),
            hub: "checks".into(),
            plan: PLAN.into(),
            job: JOB.into(),
            timeline: PLAN.into(),
            task: TASK.into(),
            token: "token".into(),
            build: Some(4711),
        },
    );
    azure
}

fn request(method: &str, resource: &str, body: &str) -> Request {
    let target = format!(
        "/tfs/DefaultCollection/{PROJECT}/_apis/distributedtask/hubs/checks/plans/{PLAN}/{resource}?api-version=6.0"
    );
    Request::new(method, &target).header("Authorization", "Bearer token").body(body)
}

fn event(name: &str, result: &str) -> Request {
    let body = json!({"name": name, "taskId": TASK, "jobId": JOB, "result": result});
    request("POST", "events", &body.to_string())
}

fn build(resource: &str) -> Request {
    let target =
        format!("/tfs/DefaultCollection/{PROJECT}/_apis/build/builds/4711{resource}?api-version=6.0");
    Request::new("GET", &target).header("Authorization", "Bearer token")
}

fn status(azure: &mut AzureDevOps, now: i64, request: &Request) -> u16 {
    azure.handle(now, request).status().unwrap()
}

fn answer(azure: &mut AzureDevOps, now: i64, request: &Request) -> Value {
    serde_json::from_slice(&azure.handle(now, request).response().unwrap().body).unwrap()
}

#[test]
fn a_decision_is_taken_once() {
    let mut azure = started();
    assert_eq!(status(&mut azure, 5, &event("TaskStarted", "")), 204);
    assert_eq!(status(&mut azure, 6, &event("TaskCompleted", "succeeded")), 204);
    assert_eq!(azure.record(PLAN, TASK, 6).unwrap()["result"], "succeeded");
    let second = answer(&mut azure, 7, &event("TaskCompleted", "succeeded"));
    assert_eq!(second["typeKey"], "OrchestrationSessionNotFoundException");
    let accepted: Vec<_> = azure.events(PLAN).iter().map(|event| event.accepted).collect();
    assert_eq!(accepted, [true, true, false]);
    assert_eq!(azure.requests().last().unwrap().status, Some(500));
}

#[test]
fn only_the_documented_words_decide_a_check() {
    let mut azure = started();
    for (name, result) in [
        ("taskcompleted", "failed"),
        ("TaskCompleted", "Succeeded"),
        ("TaskCompleted", "canceled"),
        ("TaskCompleted", ""),
    ] {
        assert_eq!(status(&mut azure, 1, &event(name, result)), 400, "{name} {result}");
    }
    assert_eq!(azure.record(PLAN, TASK, 1).unwrap()["state"], "pending");
    assert_eq!(azure.events(PLAN)[0].name, "taskcompleted");
}

#[test]
fn ids_of_others_decide_nothing() {
    let mut azure = started();
    let other = "00000000-0000-0000-0000-000000000001";
    for (task, job, expected) in [(other, JOB, 500), (TASK, other, 404), (TASK, JOB, 204)] {
        let body = json!({"name": "TaskCompleted", "taskId": task, "jobId": job, "result": "failed"});
        assert_eq!(status(&mut azure, 1, &request("POST", "events", &body.to_string())), expected);
    }
    for (from, to) in [("checks", "build"), (PLAN, other), (PROJECT, other)] {
        let mut wrong = event("TaskCompleted", "failed");
        wrong.target = wrong.target.replace(from, to);
        assert!(matches!(status(&mut azure, 1, &wrong), 401 | 302 | 404), "{to}");
    }
    let mut hub = event("TaskCompleted", "failed");
    hub.target = hub.target.replace("checks", "Checks");
    assert_eq!(status(&mut azure, 1, &hub), 500, "the hub's case does not matter, the check is decided");
}

#[test]
fn a_log_is_created_once_per_path_and_takes_late_lines() {
    let mut azure = started();
    let create = request("POST", "logs", &json!({"path": format!("logs\\{TASK}")}).to_string());
    let created = answer(&mut azure, 1, &create);
    assert_eq!((created["id"].as_u64(), created["lineCount"].as_u64()), (Some(1), Some(0)));
    assert!(created["location"].is_null());
    assert_eq!(status(&mut azure, 2, &event("TaskCompleted", "failed")), 204);
    let appended = answer(&mut azure, 3, &request("POST", "logs/1", "one\ntwo\n"));
    assert_eq!(appended["lineCount"], 2);
    assert_eq!(answer(&mut azure, 4, &create)["lineCount"], 2);
    assert_eq!(azure.log_lines(PLAN), ["one", "two"]);
    assert_eq!(status(&mut azure, 5, &request("POST", "logs/9", "x")), 404);
}

#[test]
fn records_are_patched_in_their_wrapper_only() {
    let mut azure = started();
    let resource = format!("timelines/{PLAN}/records");
    let change = json!({"id": TASK, "state": "inProgress", "log": {"id": 0}});
    let wrapped = json!({"count": 1, "value": [change]}).to_string();
    let answered = answer(&mut azure, 1, &request("PATCH", &resource, &wrapped));
    assert_eq!(answered["value"][0]["name"], "Invoke REST API");
    assert_eq!(answered["value"][0]["log"]["id"], 0);
    for bare in
        [change.to_string(), json!([change]).to_string(), json!({"count": 2, "value": [change]}).to_string()]
    {
        assert_eq!(status(&mut azure, 1, &request("PATCH", &resource, &bare)), 400, "{bare}");
    }
    let stranger = json!({"count": 1, "value": [{"id": PROJECT, "state": "inProgress"}]}).to_string();
    assert_eq!(status(&mut azure, 1, &request("PATCH", &resource, &stranger)), 404);
    let elsewhere = format!("timelines/{PROJECT}/records");
    assert_eq!(status(&mut azure, 1, &request("PATCH", &elsewhere, &wrapped)), 404);
}

#[test]
fn a_plan_that_ended_completes_its_records_and_refuses_events() {
    let mut azure = started();
    azure.end_plan(PLAN, 10, "canceled");
    assert_eq!(azure.record(PLAN, TASK, 9).unwrap()["state"], "pending");
    let records = answer(&mut azure, 10, &request("GET", &format!("timelines/{PLAN}/records"), ""));
    let own = records["value"].as_array().unwrap().iter().find(|record| record["id"] == TASK).unwrap();
    assert_eq!((own["state"].as_str(), own["result"].as_str()), (Some("completed"), Some("canceled")));
    assert_eq!(status(&mut azure, 10, &event("TaskCompleted", "failed")), 500);
    azure.delete_plan(PLAN, 20);
    let gone = answer(&mut azure, 20, &event("TaskCompleted", "failed"));
    assert_eq!(gone["typeKey"], "TaskOrchestrationPlanNotFoundException");
}

#[test]
fn without_a_good_token_the_answer_depends_on_who_asks() {
    let mut azure = started();
    azure.expire_token("token", 100);
    assert_eq!(status(&mut azure, 99, &event("TaskStarted", "")), 204);
    let plain = event("TaskCompleted", "failed");
    let redirected = azure.handle(100, &plain);
    let redirected = redirected.response().unwrap();
    assert_eq!(redirected.status, 302);
    assert!(redirected.value("location").unwrap().starts_with("/tfs/DefaultCollection/_signin"));
    let suppressed = plain.clone().header("X-TFS-FedAuthRedirect", "Suppress");
    assert_eq!(status(&mut azure, 100, &suppressed), 401);
    assert!(answer(&mut azure, 100, &suppressed)["message"].as_str().unwrap().starts_with("TF400813"));
    azure.answer_sign_in_page(true);
    assert_eq!(status(&mut azure, 100, &plain), 203);
    assert_eq!(azure.events(PLAN).last().unwrap().token_used.as_deref(), Some("token"));
    assert!(!azure.events(PLAN).last().unwrap().accepted);
}

#[test]
fn an_api_version_is_required_and_bounded_by_the_server() {
    let mut azure = started().newest_api_version(6, 0);
    let target = event("TaskStarted", "");
    for (version, expected) in [("", 400), ("?api-version=7.1", 400), ("?api-version=2.0-preview.1", 204)] {
        let mut request = target.clone();
        request.target = request.target.replace("?api-version=6.0", version);
        assert_eq!(status(&mut azure, 1, &request), expected, "{version}");
    }
}

#[test]
fn a_double_slash_is_accepted_and_noted() {
    let mut azure = started();
    let mut doubled = event("TaskCompleted", "succeeded");
    assert_eq!(status(&mut azure, 1, &build("")), 200);
    assert!(!azure.double_slash_seen());
    doubled.target = doubled.target.replace("DefaultCollection/", "DefaultCollection//");
    assert_eq!(status(&mut azure, 1, &doubled), 204);
    assert!(azure.double_slash_seen());
}

#[test]
fn a_fault_takes_effect_or_not_as_it_says() {
    let mut azure = started();
    azure.fault(Route::Events, Span::Next(1), Fault::Status { status: 429, retry_after: Some(30) });
    azure.fault(Route::Events, Span::Next(1), Fault::ResetBefore);
    azure.fault(Route::Events, Span::Next(1), Fault::ResetAfter);
    let decide = event("TaskCompleted", "succeeded");
    let throttled = azure.handle(1, &decide);
    assert_eq!(throttled.response().unwrap().value("retry-after").as_deref(), Some("30"));
    assert!(String::from_utf8_lossy(&throttled.response().unwrap().body).contains("TF400733"));
    assert_eq!(azure.handle(2, &decide), Reply::Reset);
    assert_eq!(azure.handle(3, &decide), Reply::Reset);
    assert_eq!(status(&mut azure, 4, &decide), 500);
    let accepted: Vec<_> = azure.events(PLAN).iter().map(|event| event.accepted).collect();
    assert_eq!(accepted, [false, false, true, false]);
}

#[test]
fn a_build_and_its_stages_follow_their_script() {
    let mut azure = started();
    let stage = |name: &str, attempt, start_time| Stage {
        name: name.into(),
        identifier: name.to_ascii_lowercase(),
        attempt,
        start_time,
    };
    azure.add_build(
        Build::new(PROJECT, 4711)
            .started_at(1_769_186_642_113)
            .status_at(50, "cancelling")
            .status_at(60, "completed")
            .stage(stage("Build", 2, Some(10)))
            .stage(stage("Deploy", 1, Some(30))),
    );
    let statuses: Vec<_> =
        [49, 50, 60].map(|now| answer(&mut azure, now, &build(""))["status"].clone()).into();
    assert_eq!(statuses, ["inProgress", "cancelling", "completed"]);
    assert_eq!(answer(&mut azure, 1, &build(""))["startTime"], "2026-01-23T16:44:02.1136667Z");
    let timeline = answer(&mut azure, 20, &build("/timeline"));
    let (first, second) = (&timeline["records"][0], &timeline["records"][1]);
    assert_eq!((first["identifier"].as_str(), first["attempt"].as_u64()), (Some("build"), Some(2)));
    assert_eq!((second["state"].as_str(), &second["startTime"]), (Some("pending"), &Value::Null));
}

#[test]
fn a_task_that_is_asked_again_waits_again() {
    let mut azure = started();
    assert_eq!(status(&mut azure, 1, &event("TaskCompleted", "failed")), 204);
    let again = CheckSpec {
        project: PROJECT.into(),
        hub: "checks".into(),
        plan: PLAN.to_uppercase(),
        job: JOB.into(),
        timeline: PLAN.into(),
        task: TASK.into(),
        token: "new".into(),
        build: None,
    };
    azure.start_check(2, again);
    assert_eq!(status(&mut azure, 3, &event("TaskCompleted", "succeeded")), 204);
}
