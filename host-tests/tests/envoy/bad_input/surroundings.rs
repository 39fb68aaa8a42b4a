//! Envoys that pass no bodies to the module, and one that is Testkube's own sidecar.

use super::table::{CANARY, check_nothing_fell};
use anyhow::Result;
use fakes::{Status, execution};
use host_tests::client::{Request, Response};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{BEARER, Envoy, PASSWORD};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What the log says where a body was waited for and did not come.
const AWAITED_IN_VAIN: &str = "is `allow_on_headers_stop_iteration` set on the filter?";

/// A check whose fields are in its body alone.
fn in_body(run: &Pipeline) -> Result<Request> {
    let request = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
    Ok(request.json(&run.fields("shop-e2e").json_body()?))
}

fn assert_unread(answer: &Response) {
    let title = answer.json().map(|body| body["title"].clone()).unwrap_or_default();
    assert_eq!(
        (answer.status, title.as_str()),
        (422, Some("The headers lack fields, and this Envoy does not read bodies"))
    );
    assert!(answer.text().contains("allow_on_headers_stop_iteration"), "{}", answer.text());
}

#[test]
fn where_bodies_are_not_read_a_check_in_headers_works_and_one_in_a_body_is_answered_at_once() -> Result<()> {
    let scene = Scene::new()?;
    let setup =
        scene.setup()?.concurrency(1).without_headers_stop_iteration().plugin(json!({ "read_body": false }));
    let envoy = Envoy::start(&setup)?;
    let (body, headers, both) = (scene.pipeline(1), scene.pipeline(2), scene.pipeline(3));
    for run in [&headers, &both] {
        scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    }
    assert_unread(&in_body(&body)?.send(envoy.address())?);
    assert!(!envoy.log().contains(AWAITED_IN_VAIN));
    assert_eq!(headers.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(scene.decision(&headers, SOON)?.result(), "succeeded");
    // What stands beside the headers may be a policy.
    let answer = both.check("").body(r#"{"expect": "shop-e2e, shop-api"}"#).send(envoy.address())?;
    assert!(answer.status == 200 && answer.text().contains("rejected"), "{}", answer.text());
    let decision = scene.decision(&both, SOON)?;
    assert_eq!(decision.result(), "failed");
    assert!(decision.text().contains("Leave the check's body empty"), "{}", decision.text());
    assert!(scene.azure().events(&body.spec.plan).is_empty());
    check_nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn where_bodies_are_awaited_in_vain_the_request_is_answered_within_seconds() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1).without_headers_stop_iteration())?;
    let (body, headers) = (scene.pipeline(1), scene.pipeline(2));
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &headers.tag).at(now_ms(), Status::Passed));
    // By the module: Envoy's own answer would be another one, and come after 30 s.
    assert_unread(&in_body(&body)?.send(envoy.address())?);
    assert!(envoy.log().contains(AWAITED_IN_VAIN));
    assert_eq!(headers.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(scene.decision(&headers, SOON)?.result(), "succeeded");
    check_nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn a_sidecar_lets_the_rest_of_testkube_through_untouched_but_for_a_checks_token() -> Result<()> {
    let scene = Scene::new()?;
    let setup = scene.setup()?.concurrency(1).plugin(json!({ "passthrough": "all" })).route_everything();
    let envoy = Envoy::start(&setup)?;
    let target = "/v1/test-workflow-executions//x%2Fy/..;z?tagSelector=a%3Db&q=%C3%28";
    let request = Request::new("PATCH", target)
        .bearer(BEARER)
        .header("Cookie", "session=1")
        .header("X-Bytes", b"\xff\xfe")
        .header("AuthToken", CANARY)
        .header("AUTHTOKEN", CANARY)
        .body("{\"tags\": {}}");
    let answer = request.send(envoy.address())?;
    assert!((400..500).contains(&answer.status), "Testkube's own answer: {}", answer.status);
    {
        let testkube = scene.testkube();
        let seen =
            testkube.requests().iter().find(|r| r.request.method == "PATCH").expect("a PATCH at Testkube");
        assert_eq!(seen.request.target, target);
        assert_eq!(seen.request.value("authorization"), Some(format!("Bearer {BEARER}")));
        assert_eq!(seen.request.value("cookie").as_deref(), Some("session=1"));
        assert!(seen.request.headers.contains(&("x-bytes".into(), b"\xff\xfe".to_vec())));
        assert_eq!(seen.request.body, b"{\"tags\": {}}");
        assert!(
            seen.request.headers.iter().all(|(name, _)| name != "authtoken"),
            "{:?}",
            seen.request.headers
        );
    }
    assert_eq!(Request::get("/health").send(envoy.address())?.status, 200);
    // Its own paths stay its own.
    assert_eq!(Request::get("/testrelay/v1/checks").send(envoy.address())?.status, 401);
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    check_nothing_fell(&envoy)?;
    envoy.stop()
}
