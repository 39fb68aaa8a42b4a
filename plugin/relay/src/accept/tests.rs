use super::*;
use crate::check::tests::record;
use crate::ledger::memory::Memory;

const PREFIX: &str = "testrelay/1/t/";

fn config(more: &str) -> Config {
    let text = format!(
        r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}}],
            "credentials": [{{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"]}}]{more}}}"#
    );
    Config::parse(text.as_bytes(), &|_| Some("s3cret-of-tests-1".into())).unwrap()
}

fn now() -> Now {
    Now { mono: Mono(5_000), wall: Wall(1_769_186_640_000) }
}

fn headers(changes: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = vec![
        ("authorization", "Bearer s3cret-of-tests-1"),
        ("planurl", "https://dev.azure.com/fabrikam/"),
        ("projectid", "69f48e94-bdb4-42d7-a560-0f2b54f91cc8"),
        ("hubname", "checks"),
        ("planid", "67be341f-5310-552f-e0cd-7c580e77b98b"),
        ("jobid", "3a7e60dc-c5b0-5009-86eb-0f217c12e2ea"),
        ("taskinstanceid", "61153303-347e-5f06-a6a1-ce2102bd68eb"),
        ("authtoken", "token"),
        ("buildid", "4711"),
        ("testrelay-tag", "shop-4711"),
        ("testrelay-expect", "a"),
    ];
    for (name, value) in changes {
        fields.retain(|(other, _)| other != name);
        fields.push((name, value));
    }
    fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
}

fn deliver(store: &mut Memory, changes: &[(&str, &str)]) -> (u16, String, Counted) {
    let (reply, counted) = accept(&config(""), PREFIX, store, now(), &headers(changes), None);
    (reply.status, reply.body, counted)
}

/// How many values the store holds.
fn stored(store: &Memory) -> usize {
    store.keys.len()
}

#[test]
fn a_check_is_in_the_ledger_when_it_is_answered() {
    let mut store = Memory::default();
    let (status, body, counted) = deliver(&mut store, &[]);
    assert_eq!((status, counted, stored(&store)), (200, Counted::Accepted, 1));
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "accepted");
    assert_eq!(
        body["message"],
        "Testrelay waits until every Testkube execution tagged ado-run=shop-4711 has ended (expected: a) and then reports back: within 12h, or after 30m if they do not appear."
    );
}

#[test]
fn a_check_that_cannot_be_answered_leaves_no_trace() {
    let mut store = Memory::default();
    for change in [("planid", "x"), ("authtoken", ""), ("planurl", "https://evil.example/fabrikam/")] {
        let (status, body, counted) = deliver(&mut store, &[change]);
        assert!((400..404).contains(&status) && counted == Counted::Refused, "{body}");
    }
    assert_eq!(stored(&store), 0);
}

#[test]
fn a_check_that_cannot_be_evaluated_is_stored_and_says_why() {
    let mut store = Memory::default();
    let (status, body, counted) = deliver(&mut store, &[("testrelay-tag", "shop")]);
    assert_eq!((status, counted, stored(&store)), (200, Counted::Rejected, 1));
    assert!(
        body.contains(r#""status":"rejected""#) && body.contains("does not hold the BuildId 4711"),
        "{body}"
    );
}

#[test]
fn a_second_delivery_must_ask_the_same() {
    let mut store = Memory::default();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    assert_eq!(deliver(&mut store, &[("authtoken", "newer")]).2, Counted::Repeated);
    for change in [
        ("testrelay-tag", "other-4711"),
        ("testrelay-expect", "b"),
        ("buildid", "4712"),
        ("testrelay-timeout", "1h"),
    ] {
        let (status, body, _) = deliver(&mut store, &[change]);
        assert_eq!(status, 409, "{body}");
    }
}

#[test]
fn a_full_ledger_takes_no_more_and_says_what_to_do() {
    let mut store = Memory::default();
    let small = config(r#", "checks": {"max_pending": 1}"#);
    let State::Pending(pending) = record(1).state else { panic!("a pending record") };
    shares::publish(&mut store, PREFIX, &shares::Full::count(&small, [&*pending].into_iter())).unwrap();
    let (reply, counted) = accept(&small, PREFIX, &mut store, now(), &headers(&[]), None);
    assert_eq!((reply.status, counted, stored(&store)), (503, Counted::Refused, 1));
    assert!(reply.body.contains("Re-run the stage"));
}

fn admission(more: &str, changes: &[(&str, &str)], has_body: bool) -> String {
    match admit(&config(more), &headers(changes), has_body) {
        Admission::Reply(reply) => reply.status.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn whether_a_body_is_read_depends_on_envoy_and_on_what_the_headers_hold() {
    let json = ("content-type", "application/json; charset=utf-8");
    let read = r#", "read_body": true"#;
    let no_tag = ("testrelay-tag", "");
    assert_eq!(admission("", &[json], false), "Ready");
    assert_eq!(admission(read, &[json], false), "Ready");
    assert_eq!(admission(read, &[json], true), "AwaitBody(CallerId(0))");
    assert_eq!(admission(read, &[no_tag, json], true), "AwaitBody(CallerId(0))");
    for json in ["application/json", "APPLICATION/JSON ;charset=utf-8", "application/problem+json"] {
        let admitted = admission(read, &[no_tag, ("content-type", json)], true);
        assert_eq!(admitted, "AwaitBody(CallerId(0))", "{json}");
    }
    for no_json in ["text/json", "application/jsonp", "application/", "application/x+jso", "json", ""] {
        assert_eq!(admission(read, &[no_tag, ("content-type", no_json)], true), "415", "{no_json}");
    }
    assert_eq!(admission(read, &[no_tag, ("content-type", "text/plain")], true), "415");
    // A policy may stand in a body of any type, and one that is not read may be empty or not.
    for body in [json, ("content-type", "text/plain"), ("content-type", ""), ("content-length", "1")] {
        assert_eq!(admission(read, &[body], true), "AwaitBody(CallerId(0))", "{body:?}");
        assert_eq!(admission("", &[body], true), "Unread", "{body:?}");
    }
    for (read, no_tag) in [(read, None), ("", None), (read, Some(no_tag)), ("", Some(no_tag))] {
        let fields: Vec<_> = no_tag.into_iter().chain([json, ("content-length", "0")]).collect();
        assert_eq!(admission(read, &fields, true), "Ready", "empty, and said so");
    }
    assert_eq!(admission("", &[no_tag, json], true), "422");
    assert_eq!(admission(read, &[json, ("content-length", "65537")], true), "413");
}

#[test]
fn who_may_not_is_turned_away_before_anything_is_read() {
    assert_eq!(admission("", &[("authorization", "Bearer wrong")], true), "401");
    assert_eq!(admission("", &[("authorization", "")], false), "401");
}

#[test]
fn a_token_ends_when_it_says_so_and_else_after_48_hours() {
    let jwt = |exp: &str| {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"aud":"x","exp":{exp}}}"#));
        TokenEnds::of(&Secret::new(format!("eyJ.{claims}.sig")), now())
    };
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let ends = |token: Duration, decide_by: Duration| TokenEnds {
        token: now().mono.plus(token),
        decide_by: now().mono.plus(decide_by),
    };
    let jwt_in = |left: Duration| jwt(&(now().wall.plus(left).0 / 1_000).to_string());
    let plain = TokenEnds::of(&Secret::new("opaque".into()), now());
    assert_eq!(plain, Some(ends(hours(48), hours(48) - hours(1) / 2)));
    assert_eq!(jwt_in(hours(10)), Some(ends(hours(10), hours(10) - hours(1) / 2)));
    assert_eq!(
        jwt_in(Duration::from_secs(400)),
        Some(ends(Duration::from_secs(400), Duration::from_secs(300)))
    );
    assert_eq!(jwt("1000"), None);
    for not_one in ["-5", "null", "1e300", "\"x\""] {
        assert_eq!(jwt(not_one), plain, "{not_one}");
    }
}

#[test]
fn a_thousand_unknown_members_make_no_long_answer() {
    let members: Vec<String> = (0..1_000).map(|n| format!("\"x{n}\":1")).collect();
    let body = format!("{{{}}}", members.join(","));
    let mut store = Memory::default();
    let (reply, counted) =
        accept(&config(""), PREFIX, &mut store, now(), &headers(&[]), Some(body.as_bytes()));
    assert_eq!((reply.status, counted), (200, Counted::Rejected));
    assert!(reply.body.len() < 4_096, "{} bytes", reply.body.len());
    assert!(reply.body.contains("`x0` is not known"), "{}", reply.body);
    assert!(reply.body.contains("992 more"), "{}", reply.body);
}

/// Delivers to a Testrelay whose one credential has these further members.
fn deliver_as(store: &mut Memory, credential: &str, changes: &[(&str, &str)]) -> (u16, String) {
    let text = format!(
        r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}}],
            "credentials": [{{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"]{credential}}}]}}"#
    );
    let config = Config::parse(text.as_bytes(), &|_| Some("s3cret-of-tests-1".into())).unwrap();
    let (reply, _) = accept(&config, PREFIX, store, now(), &headers(changes), None);
    (reply.status, reply.body)
}

#[test]
fn a_credential_speaks_only_for_its_projects_and_tags() {
    let mut store = Memory::default();
    let other = r#", "projects": ["11111111-bdb4-42d7-a560-0f2b54f91cc8"]"#;
    let (status, body) = deliver_as(&mut store, other, &[]);
    assert!(status == 403 && body.contains("does not cover this ProjectId"), "{body}");
    let (status, body) = deliver_as(&mut store, r#", "tags": ["web-*"]"#, &[]);
    assert!(status == 403 && body.contains("does not cover this tag"), "{body}");
    assert_eq!(stored(&store), 0);
    assert_eq!(deliver_as(&mut store, r#", "tags": ["web-*", "shop-*"]"#, &[]).0, 200);
}

#[test]
fn who_is_at_the_limit_gets_no_further_check_and_is_told_which_limit() {
    let mut store = Memory::default();
    let full: shares::Full = serde_json::from_str(r#"{"credentials": ["p"], "projects": []}"#).unwrap();
    assert!(shares::publish(&mut store, PREFIX, &full).unwrap());
    let (status, body, _) = deliver(&mut store, &[]);
    assert!(status == 503 && body.contains("the credential's `max_pending`"), "{body}");
}

#[test]
fn only_the_configuration_switches_observing_on_and_a_stricter_delivery_ends_it() {
    let observe = r#", "mode": "observe""#;
    let mut store = Memory::default();
    let is_observed = |store: &mut Memory| {
        let mut buckets = Bucket::all(PREFIX);
        for bucket in &mut buckets {
            bucket.read(store).unwrap();
        }
        let states = buckets.iter().flat_map(Bucket::records).map(|record| record.state.clone());
        states.filter(|state| matches!(state, State::Pending(pending) if pending.observe)).count() == 1
    };
    let (status, body) = deliver_as(&mut store, "", &[("testrelay-mode", "observe")]);
    assert!(status == 200 && body.contains("rejected") && !is_observed(&mut store), "{body}");
    let mut store = Memory::default();
    assert_eq!(deliver_as(&mut store, observe, &[]).0, 200);
    assert!(is_observed(&mut store));
    assert_eq!(deliver_as(&mut store, "", &[("authtoken", "second")]).0, 200);
    assert!(!is_observed(&mut store));
    assert_eq!(deliver_as(&mut store, observe, &[("authtoken", "third")]).0, 200);
    assert!(!is_observed(&mut store));
}

#[test]
fn a_body_that_this_envoy_does_not_hand_over_makes_a_check_rejected() {
    let mut store = Memory::default();
    let headers = headers(&[("testrelay-expect", "")]);
    let (reply, counted) = accept(&config(""), PREFIX, &mut store, now(), &headers, Body::Unread);
    assert_eq!((reply.status, counted, stored(&store)), (200, Counted::Rejected, 1));
    assert!(
        reply.body.contains(r#""status":"rejected""#) && reply.body.contains("read_body"),
        "{}",
        reply.body
    );
}

#[test]
fn a_token_as_tag_is_rejected_and_stands_nowhere_but_with_the_tokens() {
    let token = "vKq3m0ZpT7yXw2RbN9sLd4FhJ6gCeU8aQ1iVoYtG5kMzHxWnBrEj";
    for tag in [token, &token[4..30], "s3cret-of-tests-1"] {
        let mut store = Memory::default();
        let tag = format!("{tag}-4711");
        let (status, body, counted) = deliver(&mut store, &[("authtoken", token), ("testrelay-tag", &tag)]);
        assert_eq!((status, counted), (200, Counted::Rejected), "{body}");
        assert!(!body.contains(&tag[..8]) && body.contains("Testrelay-Tag: holds a part"), "{body}");
    }
}
