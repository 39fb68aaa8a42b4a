use super::*;

fn at(at: i64, request: Request) -> Recorded {
    Recorded { at, request, status: Some(200) }
}

fn poll(millis: i64, query: &str) -> Recorded {
    at(millis, Request::new("GET", &format!("/v1/test-workflow-executions?{query}")))
}

fn told(millis: i64, path: &str) -> Recorded {
    at(millis, Request::new("POST", path))
}

fn spec() -> CheckSpec {
    CheckSpec {
        project: "project".into(),
        hub: "checks".into(),
        plan: "plan".into(),
        job: "job".into(),
        timeline: "timeline".into(),
        task: "task".into(),
        token: "token".into(),
        build: None,
    }
}

fn event(result: &str) -> Event {
    Event {
        at: 5,
        name: "TaskCompleted".into(),
        result: Some(result.into()),
        task: "task".into(),
        job: "job".into(),
        token_used: Some("token".into()),
        accepted: true,
    }
}

#[test]
fn a_poll_without_the_tag_or_without_a_start_is_no_proof() {
    let good = "tagSelector=ado-run%3Dshop-1%2Cado-run%3Dshop-2&startDate=2026-01-01T00%3A00%3A00Z";
    assert!(polls_are_bounded(&[poll(1, good)], "shop-1").is_ok());
    assert!(polls_are_bounded(&[poll(1, good)], "shop-3").is_err());
    assert!(polls_are_bounded(&[poll(1, good), poll(2, "tagSelector=ado-run%3Dshop-1")], "shop-1").is_err());
    assert!(polls_are_bounded(&[], "shop-1").is_err());
}

#[test]
fn a_credential_is_found_wherever_it_is() {
    let clean = || Request::new("GET", "/v1/x").header("accept", "*/*");
    let found = |request| no_credential(&[at(1, clean()), at(2, request)], &["s3cret"]).is_err();
    assert!(!found(clean()));
    assert!(found(clean().header("Authorization", "Bearer x")));
    assert!(found(clean().header("AuthToken", "x")));
    assert!(found(clean().header("x-note", "the s3cret")));
    assert!(found(clean().body("s3cret")));
    assert!(found(Request::new("GET", "/v1/x?token=s3cret")));
}

#[test]
fn the_event_must_be_the_only_one_and_the_checks_own() {
    assert!(one_event(&[event("succeeded")], &spec(), "succeeded").is_ok());
    assert!(one_event(&[], &spec(), "succeeded").is_err());
    assert!(one_event(&[event("succeeded"), event("succeeded")], &spec(), "succeeded").is_err());
    assert!(one_event(&[event("failed")], &spec(), "succeeded").is_err());
    for wrong in [
        Event { accepted: false, ..event("succeeded") },
        Event { name: "TaskStarted".into(), ..event("succeeded") },
        Event { task: "job".into(), ..event("succeeded") },
        Event { token_used: None, ..event("succeeded") },
    ] {
        assert!(one_event(std::slice::from_ref(&wrong), &spec(), "succeeded").is_err(), "{wrong:?}");
    }
}

#[test]
fn an_event_before_the_record_or_the_record_before_the_line_is_out_of_order() {
    let (line, record, event) = ("/p/plan/logs/1", "/p/plan/timelines/t/records", "/p/plan/events");
    let ordered = |paths: [&str; 3]| in_order(&paths.map(|path| told(1, path)), "plan").is_ok();
    assert!(ordered([line, record, event]));
    assert!(!ordered([record, line, event]));
    assert!(!ordered([line, event, record]));
    assert!(!ordered([event, line, record]));
    assert!(in_order(&[told(1, line), told(1, event)], "plan").is_err());
}

#[test]
fn a_decision_rests_on_a_poll_after_the_last_end() {
    let seconds = |at: i64| at.to_string();
    let decided = Event { at: 50, ..event("succeeded") };
    assert!(not_too_early(&[poll(41, "")], &decided, 40, seconds).is_ok());
    assert!(not_too_early(&[poll(39, "")], &decided, 40, seconds).is_err());
    assert!(not_too_early(&[poll(41, "")], &decided, 51, seconds).is_err());
}

#[test]
fn the_token_comes_first_and_polls_before_the_executions() {
    assert!(token_came_first(&[told(1, "/p")], &[poll(2, "")]).is_ok());
    assert!(token_came_first(&[told(3, "/p")], &[poll(2, "")]).is_err());
    assert!(token_came_first(&[], &[poll(2, "")]).is_err());
    assert!(polled_in_vain(&[poll(2, "")], 3).is_ok());
    assert!(polled_in_vain(&[poll(4, "")], 3).is_err());
}

#[test]
fn a_request_after_the_event_is_not_quiet() {
    assert!(quiet(&[poll(5, "")], &[told(5, "/p")], 5).is_ok());
    assert!(quiet(&[poll(6, "")], &[], 5).is_err());
    assert!(quiet(&[], &[told(6, "/p")], 5).is_err());
}

#[test]
fn bytes_differ_by_one_or_by_length() {
    assert!(same_bytes("a", b"abc", b"abc").is_ok());
    let error = same_bytes("a.xml", b"abc", b"abd").unwrap_err().to_string();
    assert_eq!(error, "byte 2 of a.xml is not the one that the test wrote");
    let error = same_bytes("a.xml", b"ab", b"abc").unwrap_err().to_string();
    assert_eq!(error, "a.xml came with 2 bytes, but the test wrote 3");
}
