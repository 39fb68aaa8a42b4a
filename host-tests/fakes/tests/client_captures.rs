//! Every request that Microsoft's own clients were recorded to send is accepted by the fake Azure DevOps.

use fakes::{AzureDevOps, CheckSpec, Request, Service};
use serde_json::Value;

const PLAN: &str = "22222222-2222-2222-2222-222222222222";
/// The record that the Python and Node recordings write to; it is not the task of their events.
const RECORD: &str = "66666666-6666-6666-6666-666666666666";

fn azure() -> AzureDevOps {
    let mut azure = AzureDevOps::new("/fabrikam");
    azure.start_check(
        0,
        CheckSpec {
            project: "11111111-1111-1111-1111-111111111111".into(),
            hub: "Gates".into(),
            plan: PLAN.into(),
            job: "33333333-3333-3333-3333-333333333333".into(),
            timeline: "55555555-5555-5555-5555-555555555555".into(),
            task: "44444444-4444-4444-4444-444444444444".into(),
            token: "AUTHTOKEN".into(),
            build: None,
        },
    );
    assert!(azure.add_record(PLAN, RECORD));
    assert!(azure.add_log(PLAN, 0, 10, "logs\\recorded"));
    azure
}

fn request(captured: &Value) -> Request {
    let text = |name: &str| captured[name].as_str().unwrap();
    let headers: Vec<&str> =
        captured["rawHeaders"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let bare = Request::new(text("method"), text("target")).body(text("body"));
    headers.chunks(2).fold(bare, |request, pair| request.header(pair[0], pair[1]))
}

#[test]
fn all_recorded_requests_are_accepted_as_they_were_sent() {
    let captures: Value =
        serde_json::from_str(include_str!("../fixtures/azure-devops-client-captures.json")).unwrap();
    let mut replayed = 0;
    for (client, requests) in captures.as_object().unwrap() {
        for captured in requests.as_array().unwrap() {
            // A recording decides the same task twice, which no server accepts: each request meets a fresh server.
            let mut azure = azure();
            let request = request(captured);
            let reply = azure.handle(replayed, &request);
            let status = reply.status().unwrap();
            let expected = match request.path().rsplit('/').next().unwrap() {
                "events" | "feed" => 204,
                _ => 200,
            };
            assert_eq!(status, expected, "{client}: {} {} {reply:?}", request.method, request.target);
            replayed += 1;
        }
    }
    assert_eq!(replayed, 41);
}

#[test]
fn a_recorded_conversation_leaves_its_record_linked_to_its_log() {
    let captures: Value =
        serde_json::from_str(include_str!("../fixtures/azure-devops-client-captures.json")).unwrap();
    let mut azure = azure();
    for captured in captures["azure-devops-node-api 17.0.1 (bearer handler)"].as_array().unwrap() {
        azure.handle(1, &request(captured));
    }
    assert_eq!(azure.log_lines(PLAN), ["log line one", "log line two"]);
    assert_eq!(azure.feed_lines(PLAN), ["line one", "line two \u{2014} \u{e9}"]);
    let record = azure.record(PLAN, RECORD, 1).unwrap();
    assert_eq!((record["state"].as_str(), record["log"]["id"].as_u64()), (Some("inProgress"), Some(10)));
    let accepted: Vec<_> = azure.events(PLAN).iter().map(|event| event.accepted).collect();
    assert_eq!(accepted, [true, true, false]);
}
