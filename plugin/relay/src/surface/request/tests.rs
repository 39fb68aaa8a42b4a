use super::*;
use crate::wire::azure::TokenScheme;

pub(super) fn config(more: &str) -> Config {
    let text = format!(
        r#"{{"testkube": {{"cluster": "t"}}, "insecure_no_auth": true,
            "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}},
                             {{"url": "http://tfs:8080/tfs/DefaultCollection", "cluster": "b", "auth": "basic"}}]{more}}}"#
    );
    Config::parse(text.as_bytes(), &|_| None).unwrap()
}

/// Azure DevOps's default headers, with a BuildId and a tag.
const FIELDS: [(&str, &str); 10] = [
    ("planurl", "https://dev.azure.com/fabrikam/"),
    ("projectid", "69f48e94-bdb4-42d7-a560-0f2b54f91cc8"),
    ("hubname", "checks"),
    ("planid", "67be341f-5310-552f-e0cd-7c580e77b98b"),
    ("jobid", "3a7e60dc-c5b0-5009-86eb-0f217c12e2ea"),
    ("timelineid", "67be341f-5310-552f-e0cd-7c580e77b98b"),
    ("taskinstanceid", "61153303-347e-5f06-a6a1-ce2102bd68eb"),
    ("authtoken", "canary-token"),
    ("buildid", "4711"),
    ("testrelay-tag", "shop-4711"),
];

/// The headers with some replaced, or removed if the value is empty.
pub(super) fn headers(changes: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(&str, &str)> = FIELDS.to_vec();
    for (name, value) in changes {
        fields.retain(|(other, _)| other != name);
        fields.push((name, value));
    }
    fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
}

pub(super) fn read_with(changes: &[(&str, &str)]) -> Result<CheckRequest, Unanswerable> {
    read(&config(""), &headers(changes), None)
}

/// The error about the only mistake of a rejected check.
fn wrong(changes: &[(&str, &str)]) -> String {
    let errors = read_with(changes).unwrap().ask.unwrap_err();
    errors.iter().map(|e| format!("{}: {}", e.field, e.detail)).collect::<Vec<_>>().join("; ")
}

#[test]
fn azure_devops_default_headers_and_a_tag_are_enough() {
    let request = read_with(&[]).unwrap();
    assert_eq!(request.callback.entry, "https://dev.azure.com/fabrikam");
    assert_eq!(request.callback.build, Some(4711));
    assert_eq!(request.token.reveal(), "canary-token");
    let ask = request.ask.unwrap();
    assert_eq!((ask.tag.to_string().as_str(), &ask.expect), ("ado-run=shop-4711", &Expect::Any));
    assert_eq!(
        (ask.settle.as_secs(), ask.timeout.as_secs(), ask.appear_timeout.as_secs()),
        (60, 43_200, 1_800)
    );
}

#[test]
fn policies_of_the_request_go_before_those_of_the_configuration() {
    let ask = read_with(&[
        ("testrelay-expect", "a,b*2"),
        ("testrelay-settle", "5s"),
        ("testrelay-timeout", "1h"),
        ("testrelay-appear-timeout", "2m"),
        ("testrelay-since-stage", "Test"),
    ])
    .unwrap()
    .ask
    .unwrap();
    assert_eq!((ask.settle.as_secs(), ask.timeout.as_secs(), ask.appear_timeout.as_secs()), (5, 3_600, 120));
    assert_eq!((ask.since_stage.as_deref(), ask.expect.to_string().as_str()), (Some("Test"), "a, b*2"));
}

#[test]
fn a_field_without_which_nobody_can_be_answered_is_unanswerable_and_named() {
    let needed = [
        ("planurl", "PlanUrl"),
        ("projectid", "ProjectId"),
        ("hubname", "HubName"),
        ("planid", "PlanId"),
        ("jobid", "JobId"),
        ("taskinstanceid", "TaskInstanceId"),
        ("authtoken", "AuthToken"),
    ];
    for (header, name) in needed {
        for value in ["", "$(system.nothing)", "no good value"] {
            let unanswerable = read_with(&[(header, value)]).unwrap_err();
            assert_eq!(unanswerable.errors.len(), 1, "{header}: {value}: {unanswerable:?}");
            assert_eq!(unanswerable.errors[0].field, name);
        }
    }
}

#[test]
fn what_is_wrong_with_the_rest_is_rejected_with_its_reason() {
    assert!(wrong(&[("testrelay-tag", "")]).contains("missing: send `shop-$(build.BuildId)`"));
    assert!(
        wrong(&[("testrelay-tag", "shop-$(build.BuildId)")]).contains("was not replaced by Azure DevOps")
    );
    assert!(wrong(&[("buildid", "")]).contains("no BuildId was sent"));
    let unusable = wrong(&[("buildid", "20260123.4"), ("testrelay-since-stage", "Test")]);
    assert_eq!(unusable, "BuildId: `20260123.4` is not a build's number; send `$(build.BuildId)`");
    assert!(wrong(&[("timelineid", "x")]).contains("TimelineId: `x` is not a GUID"));
    assert!(wrong(&[("testrelay-timeout", "48h")]).contains("from 1s to 47h 30m"));
    assert!(wrong(&[("testrelay-expcet", "a")]).contains("the header `testrelay-expcet` is unknown"));
    let strict = read(&config(r#", "checks": {"require_expect": true}"#), &headers(&[]), None).unwrap();
    assert!(strict.ask.unwrap_err()[0].detail.contains("requires it"));
    let unbound = read(
        &config(r#", "tag": {"bind_to_build": false}"#),
        &headers(&[("buildid", ""), ("testrelay-since-stage", "Test")]),
        None,
    );
    assert!(unbound.unwrap().ask.unwrap_err()[0].detail.contains("needs a BuildId"));
}

#[test]
fn a_timeline_is_not_needed() {
    let request = read_with(&[("timelineid", "")]).unwrap();
    assert!(request.callback.timeline.is_none() && request.ask.is_ok());
}

#[test]
fn the_same_field_twice_is_fine_only_with_the_same_value() {
    let twice = |value: &str| {
        let mut headers = headers(&[]);
        headers.push((b"planid".to_vec(), value.as_bytes().to_vec()));
        read(&config(""), &headers, None)
    };
    assert!(twice("67be341f-5310-552f-e0cd-7c580e77b98b").is_ok());
    assert!(twice("11111111-5310-552f-e0cd-7c580e77b98b").unwrap_err().errors[0].detail.contains("twice"));
}

#[test]
fn bytes_that_are_not_utf8_are_named_without_a_panic() {
    let mut bad = headers(&[("authtoken", "")]);
    bad.push((b"authtoken".to_vec(), vec![0xff, 0xfe]));
    bad.push((vec![0xff], vec![0xff]));
    bad.push((b"x-other".to_vec(), vec![0xff]));
    let unanswerable = read(&config(""), &bad, None).unwrap_err();
    assert_eq!(unanswerable.errors, [FieldError { field: "AuthToken", detail: "is not UTF-8 text".into() }]);
}

#[test]
fn a_json_body_gives_the_same_fields_under_many_names() {
    let body = br#"{"VstsUrl": "http://tfs:8080/tfs/DefaultCollection/", "PROJECTID": "69f48e94-bdb4-42d7-a560-0f2b54f91cc8", "hub_name": "build",
        "planId": "67be341f-5310-552f-e0cd-7c580e77b98b", "JobId": "3a7e60dc-c5b0-5009-86eb-0f217c12e2ea", "TimelineId": null,
        "TaskInstanceId": "61153303-347e-5f06-a6a1-ce2102bd68eb", "AuthToken": "t", "BuildId": 4711,
        "tag": "shop-4711", "expect": ["a", "b*2"], "since_stage": "Test", "appear-timeout": "1m", "Testrelay-Settle": "1s"}"#;
    let request = read::<Vec<u8>>(&config(""), &[], Some(&body[..])).unwrap();
    assert_eq!(
        (request.callback.entry.as_str(), request.callback.hub),
        ("http://tfs:8080/tfs/DefaultCollection", HubName::Build)
    );
    let ask = request.ask.unwrap();
    assert_eq!(
        (ask.expect.to_string().as_str(), ask.since_stage.as_deref(), ask.settle.as_secs()),
        ("a, b*2", Some("Test"), 1)
    );
}

#[test]
fn a_body_that_is_no_object_or_says_something_else_is_refused() {
    let detail =
        |body: &[u8]| read(&config(""), &headers(&[]), Some(body)).unwrap_err().errors[0].detail.clone();
    assert!(detail(br#"{"PlanId": "11111111-5310-552f-e0cd-7c580e77b98b"}"#).contains("twice"));
    assert!(detail(br#"{"AuthToken": {"x": 1}}"#).contains("must be a text or a number"));
    let rejected = |body: &[u8]| {
        read(&config(""), &headers(&[]), Some(body)).unwrap().ask.unwrap_err()[0].detail.clone()
    };
    let deep = "[".repeat(10_000);
    for no_object in [&b"{"[..], b"[1]", deep.as_bytes(), &[0xff], b"null", b"expect=shop-e2e", b"{}{}"] {
        assert!(rejected(no_object).contains("is not a JSON object"), "{no_object:?}");
    }
    let in_body = read(&config(""), &headers(&[("planid", "")]), Some(&b"{"[..])).unwrap_err();
    let fields: Vec<&str> = in_body.errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["body", "PlanId"], "what is missing may stand in it");
    assert!(rejected(br#"{"expcet": "a"}"#).contains("`expcet` is unknown"));
    assert!(rejected(br#"{"tag": "x-4711"}"#).contains("twice"));
    assert!(rejected(br#"{"timeout": "1h", "timeout": "2h"}"#).contains("twice"));
    for empty in ["", " \n", "{}"] {
        assert!(read(&config(""), &headers(&[]), Some(empty.as_bytes())).unwrap().ask.is_ok(), "{empty:?}");
    }
}

const EVENTS: &str = "https://dev.azure.com/fabrikam/69f48e94-bdb4-42d7-a560-0f2b54f91cc8/_apis/distributedtask/hubs/checks/plans/67be341f-5310-552f-e0cd-7c580e77b98b/events?api-version=2.0-preview.1";

#[test]
fn a_webhook_stands_for_four_fields_and_must_agree_with_them() {
    let without = [("planurl", ""), ("projectid", ""), ("hubname", ""), ("planid", ""), ("webhook", EVENTS)];
    let request = read_with(&without).unwrap();
    assert_eq!(request.callback, read_with(&[]).unwrap().callback);
    assert!(read_with(&[("webhook", EVENTS)]).is_ok());
    let other =
        read_with(&[("webhook", EVENTS), ("planid", "11111111-5310-552f-e0cd-7c580e77b98b")]).unwrap_err();
    assert!(other.errors[0].detail.contains("contradicts the webhook"));
    let elsewhere = EVENTS.replace("fabrikam", "contoso");
    assert!(read_with(&[("planurl", ""), ("webhook", &elsewhere)]).unwrap_err().not_listed);
    assert!(read_with(&[("webhook", &EVENTS.replace("/events", "/logs"))]).is_err());
}

#[test]
fn a_request_is_complete_without_a_body_when_nothing_needed_is_missing() {
    assert!(is_complete(&headers(&[])));
    assert!(is_complete(&headers(&[("timelineid", ""), ("buildid", "")])));
    assert!(!is_complete(&headers(&[("testrelay-tag", "")])));
    assert!(!is_complete(&headers(&[("authtoken", "")])));
    assert!(is_complete(&headers(&[
        ("planurl", ""),
        ("projectid", ""),
        ("hubname", ""),
        ("planid", ""),
        ("webhook", EVENTS)
    ])));
}

#[test]
fn no_error_repeats_the_token() {
    for body in [r#""canary""#, r#"["canary"]"#, r#"{"AuthToken": {"canary": 1}}"#, r#"{"PlanId": "canary" "#]
    {
        let text = match read(&config(""), &headers(&[]), Some(body.as_bytes())) {
            Ok(request) => format!("{:?}", request.ask.unwrap_err()),
            Err(unanswerable) => format!("{unanswerable:?}"),
        };
        assert!(!text.contains("canary"), "{text}");
    }
    for value in ["canary token", "canary$(x)", "canary\u{7f}"] {
        let text = format!("{:?}", read_with(&[("authtoken", value), ("planid", "x")]).unwrap_err());
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn an_entry_keeps_its_scheme_of_token() {
    assert_eq!(config("").azure_devops[1].scheme, TokenScheme::Basic);
}

#[test]
fn a_body_that_is_not_handed_over_is_rejected_with_where_its_fields_belong() {
    let request = read(&config(""), &headers(&[]), Body::Unread).unwrap();
    let errors = request.ask.unwrap_err();
    assert_eq!((errors.len(), errors[0].field), (1, "body"));
    assert!(errors[0].detail.contains("send every value as a header"), "{errors:?}");
    let evaluation = read_evaluation(&config(""), &headers(&[]), Body::Unread).unwrap_err();
    assert_eq!(evaluation, errors);
    assert!(read(&config(""), &headers(&[]), Body::None).unwrap().ask.is_ok());
}

/// An opaque token, as Azure DevOps sends it; each part of it occurs once.
const OPAQUE: &str = "vKq3m0ZpT7yXw2RbN9sLd4FhJ6gCeU8aQ1iVoYtG5kMzHxWnBrEj";

#[test]
fn a_token_in_a_wrong_place_is_never_repeated() {
    let part = &OPAQUE[10..30];
    let texts = [OPAQUE.to_string(), part.into(), format!("shop-{OPAQUE}-4711"), format!("shop-{part}-4711")];
    let fields = FIELDS.iter().map(|(name, _)| *name).filter(|name| *name != "authtoken");
    let own = ["expect", "since-stage", "settle", "timeout", "appear-timeout", "rerun", "webhook"];
    let own: Vec<String> = own.iter().map(|name| format!("testrelay-{name}")).collect();
    for name in fields.chain(own.iter().map(String::as_str)) {
        for text in &texts {
            for text in [text.clone(), format!("{text}, a"), format!("$({text})"), format!("a*2,{text}*x")] {
                let sent = [("authtoken", OPAQUE), (name, text.as_str())];
                let told = match read_with(&sent) {
                    Ok(request) => format!("{:?}", request.ask),
                    Err(unanswerable) => format!("{unanswerable:?}"),
                };
                assert!(!told.contains(&part[..8]) && !told.contains(&part[6..14]), "{name}: {text}: {told}");
                assert!(told.contains("field: "), "{name}: {text} is taken: {told}");
                let body = format!(r#"{{"AuthToken": "{OPAQUE}", "{text}": 1}}"#);
                let told = read(&config(""), &headers(&[("authtoken", "")]), Some(body.as_bytes())).unwrap();
                let told = format!("{:?}", told.ask.unwrap_err());
                assert!(
                    !told.contains(&part[..8]) && told.contains("the body's member (it contains"),
                    "{told}"
                );
            }
        }
    }
    let webhook = EVENTS.replace("checks", part);
    let told = read_with(&[("authtoken", OPAQUE), ("hubname", ""), ("webhook", &webhook)]).unwrap_err();
    assert!(!format!("{told:?}").contains(part), "{told:?}");
}

#[test]
fn a_credential_or_a_token_in_a_wrong_field_alone_is_never_repeated() {
    let mut sent =
        headers(&[("testrelay-tag", "shop-of-9c1f04d7aa55-4711"), ("testrelay-of-9c1f04d7aa55-own", "x")]);
    sent.push((b"authorization".to_vec(), b"Bearer of-9C1F04D7AA55".to_vec()));
    let told = format!("{:?}", read(&config(""), &sent, None).unwrap().ask.unwrap_err());
    assert!(
        !told.contains("9c1f04d7") && told.contains("Testrelay-Tag") && told.contains("the header (it"),
        "{told}"
    );
    let told = format!("{:?}", read_with(&[("authtoken", ""), ("planid", OPAQUE)]).unwrap_err());
    assert!(!told.contains("vKq3m0Zp") && told.contains("PlanId") && told.contains("AuthToken"), "{told}");
    let told = read_evaluation(&config(""), &headers(&[("authtoken", ""), ("testrelay-tag", OPAQUE)]), None);
    assert!(!format!("{:?}", told.unwrap_err()).contains("vKq3m0Zp"));
}

#[test]
fn the_same_field_twice_in_one_body_is_obeyed_or_refused_but_never_dropped() {
    let ask = |body: &str| read(&config(""), &headers(&[]), Some(body.as_bytes())).unwrap().ask;
    for body in [r#"{"expect": "a", "expect": "b"}"#, r#"{"Expect": "b", "testrelay-expect": "a"}"#] {
        assert!(ask(body).unwrap_err()[0].detail.contains("twice"), "{body}");
    }
    for body in [
        r#"{"expect": "a", "expect": "a"}"#,
        r#"{"expect": "a", "EXPECT": ""}"#,
        r#"{"expect": null, "expect": "a"}"#,
    ] {
        assert_eq!(ask(body).unwrap().expect.to_string(), "a", "{body}");
    }
}

#[test]
fn a_policy_in_the_query_rejects_the_check_and_says_where_it_belongs() {
    for query in
        ["expect=shop-e2e,shop-api&require_expect=true", "expect", "a=b", "Testrelay-Expect=a", "%65xpect=a"]
    {
        let told = wrong(&[(":path", &format!("/testrelay/v1/checks?{query}"))]);
        assert!(told.starts_with("request: the URL has a query"), "{told}");
        assert!(told.contains("Testrelay-Expect") && told.contains("`URL suffix and parameters`"), "{told}");
    }
    let told =
        wrong(&[(":path", "/testrelay/v1/checks?expect=shop-e2e&%73ettle=5m&code=s3cret-of-a-gateway")]);
    assert!(told.contains("(`expect`, `settle`, `code`)") && !told.contains("shop-e2e"), "{told}");
    assert!(!told.contains("s3cret"), "values are not repeated: {told}");
    let told = wrong(&[(":path", "/testrelay/v1/checks?canary-token=1&canary-token")]);
    assert!(!told.contains("canary"), "{told}");
    let many: Vec<String> = (0..100).map(|n| format!("parameter-{n}={n}")).collect();
    let told = wrong(&[(":path", &format!("/testrelay/v1/checks?{}", many.join("&")))]);
    assert!(told.contains("`parameter-7` and 92 more)") && told.len() < 1_000, "{told}");
    for path in ["/testrelay/v1/checks", "/testrelay/v1/checks?", "/testrelay/v1/checks?&"] {
        assert!(read_with(&[(":path", path)]).unwrap().ask.is_ok(), "{path}");
    }
    let evaluated =
        read_evaluation(&config(""), &headers(&[(":path", "/testrelay/v1/checks/evaluate?expect=a")]), None);
    assert!(evaluated.unwrap_err()[0].detail.contains("(`expect`)"));
}

#[test]
fn a_policy_under_a_name_that_is_nearly_its_own_is_obeyed() {
    for name in [
        "testrelay_expect",
        "x-testrelay-expect",
        "x_testrelay_expect",
        "test-relay-expect",
        "testrelayexpect",
    ] {
        let ask = read_with(&[(name, "shop-e2e, shop-api")]).unwrap().ask.unwrap();
        assert_eq!(ask.expect.to_string(), "shop-api, shop-e2e", "{name}");
        assert!(wrong(&[(name, "a"), ("testrelay-expect", "b")]).contains("sent twice"), "{name}");
    }
    for name in ["rerun", "x-rerun", "testrelay_rerun"] {
        assert_eq!(read_with(&[(name, "all")]).unwrap().ask.unwrap().rerun, Rerun::All, "{name}");
        assert!(wrong(&[(name, "some")]).starts_with("Testrelay-Rerun: "), "{name}");
    }
    let seconds =
        |name: &str, of: fn(Ask) -> Duration| of(read_with(&[(name, "7s")]).unwrap().ask.unwrap()).as_secs();
    for name in ["settle", "x-settle", "x-testrelay-settle"] {
        assert_eq!(seconds(name, |ask| ask.settle), 7, "{name}");
    }
    for name in ["timeout", "testrelay_timeout"] {
        assert_eq!(seconds(name, |ask| ask.timeout), 7, "{name}");
    }
    for name in ["appear-timeout", "appear_timeout", "appeartimeout", "x-appear-timeout"] {
        assert_eq!(seconds(name, |ask| ask.appear_timeout), 7, "{name}");
    }
    for name in ["since-stage", "sincestage", "since_stage"] {
        let ask = read_with(&[(name, "test")]).unwrap().ask.unwrap();
        assert_eq!(ask.since_stage.as_deref(), Some("test"), "{name}");
    }
    for name in ["build-id", "build_id"] {
        let request = read_with(&[("buildid", ""), (name, "4711")]).unwrap();
        assert_eq!(request.callback.build, Some(4711), "{name}");
    }
    for name in ["testrelay_expcet", "x-testrelay-expcet", "test-relay-wait"] {
        assert!(wrong(&[(name, "a")]).contains(&format!("the header `{name}` is unknown")), "{name}");
    }
}

#[test]
fn the_header_expect_is_https_own_and_holds_no_policy() {
    for value in ["100-continue", "100-Continue"] {
        assert_eq!(read_with(&[("expect", value)]).unwrap().ask.unwrap().expect, Expect::Any);
    }
    for value in ["shop-e2e, shop-api", "3"] {
        let told = wrong(&[("expect", value)]);
        assert!(
            told.contains("the header `expect` belongs to HTTP") && told.contains("Testrelay-Expect"),
            "{told}"
        );
    }
}

#[test]
fn headers_that_proxies_and_clients_add_say_nothing_to_the_check() {
    let plain = format!("{:?}", read_with(&[]).unwrap().ask);
    for (name, value) in [
        (":scheme", "https"),
        (":authority", "testrelay.example"),
        (":method", "POST"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("cache-control", "max-age=0"),
        ("connection", "keep-alive"),
        ("content-length", "0"),
        ("date", "Fri, 23 Jan 2026 16:44:00 GMT"),
        ("forwarded", "for=192.0.2.1"),
        ("grpc-timeout", "10S"),
        ("keep-alive", "timeout=5"),
        ("max-forwards", "10"),
        ("retry-after", "3"),
        ("te", "trailers"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("user-agent", "VSTS_41a72a83-2c57-4e5f-a2b5-a3ae6f2e3f7a"),
        ("via", "1.1 proxy"),
        ("x-build-id", "of-a-gateway"),
        ("x-correlation-id", "1"),
        ("x-envoy-attempt-count", "1"),
        ("x-envoy-expected-rq-timeout-ms", "15000"),
        ("x-envoy-max-retries", "1"),
        ("x-envoy-original-path", "/checks?expect=a"),
        ("x-envoy-upstream-rq-timeout-ms", "15000"),
        ("x-forwarded-client-cert", "By=spiffe://cluster.local/ns/a/sa/b"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "testrelay.example"),
        ("x-forwarded-proto", "https"),
        ("x-original-url", "/checks?expect=a"),
        ("x-real-ip", "192.0.2.1"),
        ("x-request-id", "6c0b4f4e-6f4f-4f0e-8a5d-0e0e6d3e9f1f"),
        ("x-request-timeout", "15"),
        ("x-timeout", "15"),
        ("x-tag", "edge"),
        ("x-webhook", "1"),
        ("x-vss-e2eid", "6c0b4f4e-6f4f-4f0e-8a5d-0e0e6d3e9f1f"),
    ] {
        assert_eq!(format!("{:?}", read_with(&[(name, value)]).unwrap().ask), plain, "{name}");
    }
}
