mod limits;

use super::*;
use crate::check::tests::guid;
use crate::check::{self, CheckKey, MAX_OF_CREDENTIAL, Pending, State};
use crate::store::ledger::memory::Memory;
use crate::time::{Mono, Wall};
use std::time::Duration;

const PREFIX: &str = "testrelay/1/t/";

fn ledger() -> Ledger {
    Ledger::with_key(PREFIX, &[7; 16])
}

/// The only check.
fn pending(store: &mut Memory) -> Pending {
    let mut all = Vec::new();
    for mut bucket in ledger().buckets() {
        bucket.read(store).unwrap();
        all.extend(bucket.records().cloned());
    }
    match all.as_slice() {
        [check::Record { state: State::Pending(pending), .. }] => (**pending).clone(),
        other => panic!("not one pending check: {other:?}"),
    }
}

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
    let (reply, counted) = accept(&config(""), &ledger(), store, now(), &headers(changes), Body::None);
    (reply.status, reply.body, counted)
}

/// Number of buckets with checks in the store.
fn stored(store: &Memory) -> usize {
    store.keys.keys().filter(|key| key.contains("/checks/")).count()
}

/// Takes this many places for others.
fn taken(store: &mut Memory, credential: &str, project: u32, places: u32) {
    let place = check::Place { credential: credential.into(), project: guid(project) };
    for _ in 0..places {
        places::take_beyond(store, &ledger(), &place).unwrap();
    }
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
        body.contains(r#""status":"rejected""#) && body.contains("does not contain the BuildId 4711"),
        "{body}"
    );
}

/// Notes that Azure DevOps took the token that this delivery brought, at the check's plan.
fn prove(store: &mut Memory, delivery: u32) {
    let key = CheckKey::of(&pending(store).callback);
    let proven = ledger().bucket(&key).update(store, &key, |found| {
        let mut record = found.cloned().unwrap();
        let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
        assert!(pending.prove(delivery, true));
        pending.phase = check::Phase::Proven;
        crate::store::ledger::Change::Put(Box::new(record), ())
    });
    proven.unwrap();
}

#[test]
fn a_later_delivery_of_a_proven_check_must_ask_the_same() {
    let mut store = Memory::default();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    prove(&mut store, 1);
    assert_eq!(deliver(&mut store, &[("authtoken", "newer")]).2, Counted::Repeated);
    for change in [
        ("testrelay-tag", "other-4711"),
        ("testrelay-expect", "b"),
        ("testrelay-expect", ""),
        ("buildid", "4712"),
        ("testrelay-timeout", "1h"),
        ("testrelay-timeout", "12h"),
        ("testrelay-tag", "shop"),
    ] {
        let (status, body, _) = deliver(&mut store, &[change]);
        assert_eq!(status, 409, "{change:?}: {body}");
    }
    assert_eq!(pending(&mut store).delivery, 2, "what is refused is no delivery");
}

#[test]
fn deliveries_with_other_values_stand_side_by_side_until_a_token_is_taken() {
    let mut store = Memory::default();
    let forged = [("authtoken", "forged"), ("testrelay-tag", "evil-4711"), ("testrelay-expect", "noop")];
    assert_eq!(deliver(&mut store, &forged).2, Counted::Accepted);
    let (status, body, counted) = deliver(&mut store, &[]);
    assert_eq!((status, counted), (200, Counted::Repeated));
    assert!(body.contains("shop-4711"), "{body}");
    let both = pending(&mut store);
    assert_eq!((both.rivals.len(), both.delivery, both.tokens.current().reveal()), (1, 2, "forged"));
    assert_eq!(both.rivals[0].ask.as_ref().unwrap().tag.value, "shop-4711");
    prove(&mut store, 2);
    let fixed = pending(&mut store);
    assert_eq!((fixed.rivals.len(), fixed.ask.unwrap().tag.value.as_str()), (0, "shop-4711"));
}

#[test]
fn a_token_proves_the_values_that_it_came_with_and_none_that_may_be_true_gives_way() {
    let mut store = Memory::default();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    for n in 1..9 {
        let forged = format!("evil{n}-4711");
        let status = deliver(&mut store, &[("authtoken", &forged), ("testrelay-tag", &forged)]).0;
        assert_eq!(status, if n < MAX_OF_CREDENTIAL { 200 } else { 503 }, "{forged}");
    }
    let mut all = pending(&mut store);
    assert_eq!(all.rivals.len() + 1, MAX_OF_CREDENTIAL);
    assert!(all.prove(1, true), "what came first is not driven out");
    assert_eq!(all.ask.unwrap().tag.value, "shop-4711");
    assert_eq!(all.tokens.current().reveal(), "token");
}

#[test]
fn tokens_of_equal_values_keep_a_place_each_and_the_newest_stays_beside_the_taken_one() {
    let mut store = Memory::default();
    for token in ["forged-1", "true", "forged-2", "true", "forged-3"] {
        assert_eq!(deliver(&mut store, &[("authtoken", token)]).0, 200, "{token}");
    }
    let mut all = pending(&mut store);
    assert_eq!((all.rivals.len(), all.delivery), (3, 5));
    assert!(all.prove(2, true));
    assert_eq!((all.rivals.len(), all.tokens.current().reveal()), (0, "true"));
    assert_eq!(all.tokens.trial().map(|(token, _)| token.reveal()), Some("forged-3"));
}

#[test]
fn a_build_only_token_fixes_nothing() {
    let mut store = Memory::default();
    deliver(&mut store, &[("authtoken", "reader"), ("testrelay-tag", "evil-4711")]);
    let key = CheckKey::of(&pending(&mut store).callback);
    let read = ledger().bucket(&key).update(&mut store, &key, |found| {
        let mut record = found.cloned().unwrap();
        let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
        assert!(pending.prove(1, false));
        pending.phase = check::Phase::Proven;
        crate::store::ledger::Change::Put(Box::new(record), ())
    });
    read.unwrap();
    assert!(!pending(&mut store).is_proven());
    assert_eq!(deliver(&mut store, &[]).0, 200);
    let mut both = pending(&mut store);
    assert_eq!((both.phase.clone(), both.rivals.len()), (check::Phase::Accepted, 1));
    assert!(both.prove(2, true) && both.is_proven() == (both.phase != check::Phase::Accepted));
    assert_eq!(both.ask.unwrap().tag.value, "shop-4711");
}

#[test]
fn a_token_that_came_with_other_values_before_proves_none_of_a_later_delivery() {
    let mut store = Memory::default();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    assert_eq!(deliver(&mut store, &[("testrelay-tag", "other-4711")]).0, 409);
    assert_eq!(pending(&mut store).rivals.len(), 0);
}

#[test]
fn a_delivery_whose_token_was_refused_gives_way_to_a_new_one() {
    let mut store = Memory::default();
    for n in 0..MAX_OF_CREDENTIAL {
        let forged = format!("evil{n}-4711");
        deliver(&mut store, &[("authtoken", &forged), ("testrelay-tag", &forged)]);
    }
    let key = CheckKey::of(&pending(&mut store).callback);
    let refused = ledger().bucket(&key).update(&mut store, &key, |found| {
        let mut record = found.cloned().unwrap();
        let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
        for delivery in [1, 2] {
            assert!(!pending.pass_turn(delivery, true, now().mono));
        }
        crate::store::ledger::Change::Put(Box::new(record), ())
    });
    refused.unwrap();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    let mut all = pending(&mut store);
    assert!(all.all_candidates(|one| !one.tokens.came_with(1)));
    let newest = all.delivery;
    assert!(all.prove(newest, true) && all.ask.unwrap().tag.value == "shop-4711");
}

#[test]
fn a_credential_takes_no_place_of_another_one() {
    let both = |store: &mut Memory, secret: &str, tag: &str| {
        let text = r#"{"testkube": {"cluster": "t"}, "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}],
            "credentials": [{"name": "p", "kind": "bearer", "secret_env": "P", "allow": ["checks"]},
                            {"name": "q", "kind": "bearer", "secret_env": "Q", "allow": ["checks"]}]}"#;
        let config = Config::parse(text.as_bytes(), &|name| Some(format!("secret-of-{name}"))).unwrap();
        let secret = format!("Bearer secret-of-{secret}");
        let fields = [("authorization", secret.as_str()), ("authtoken", tag), ("testrelay-tag", tag)];
        accept(&config, &ledger(), store, now(), &headers(&fields), Body::None).0.status
    };
    for is_first in [true, false] {
        let mut store = Memory::default();
        if is_first {
            assert_eq!(both(&mut store, "Q", "q-4711"), 200);
        }
        for n in 0..8 {
            let status = both(&mut store, "P", &format!("evil{n}-4711"));
            assert_eq!(status, if n < MAX_OF_CREDENTIAL { 200 } else { 503 });
        }
        if !is_first {
            assert_eq!(both(&mut store, "Q", "q-4711"), 200, "each has places of its own");
        }
        let mut all = pending(&mut store);
        let own = if is_first { 1 } else { all.delivery };
        assert!(all.prove(own, true), "the other credential's is still there");
    }
}

#[test]
fn every_delivery_counts_also_with_a_known_token_and_an_older_one_shortens_nothing() {
    let mut store = Memory::default();
    let jwt = |seconds: i64| {
        let claims = format!(r#"{{"exp":{}}}"#, now().wall.0 / 1_000 + seconds);
        format!(
            "eyJhbGciOiJub25lIn0.{}.c2ln",
            base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims)
        )
    };
    let (short, long) = (jwt(3_600), jwt(20 * 3_600));
    for (delivery, token) in [(1, &short), (2, &long), (3, &short)] {
        assert_eq!(deliver(&mut store, &[("authtoken", token)]).0, 200);
        assert_eq!(pending(&mut store).delivery, delivery);
    }
    prove(&mut store, 2);
    let check = pending(&mut store);
    assert_eq!(check.tokens.current().reveal(), long);
    let end = now().mono.plus(Duration::from_secs(20 * 3_600 + 30));
    assert_eq!(check.token_end, end);
}

#[test]
fn the_answer_names_the_deadline_that_really_holds() {
    let said = |changes: &[(&str, &str)], more: &str| {
        let text = format!(
            r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"{more}}}],
                "insecure_no_auth": true}}"#
        );
        let config = Config::parse(text.as_bytes(), &|_| None).unwrap();
        accept(&config, &ledger(), &mut Memory::default(), now(), &headers(changes), Body::None).0.body
    };
    assert!(said(&[], "").contains("reports back: within 12h, or"));
    let assumed = said(&[], r#", "token_life": "1h""#);
    assert!(
        assumed.contains("within 45m, because its token is assumed to end then (azure_devops[].token_life)"),
        "{assumed}"
    );
    let day = said(&[("testrelay-timeout", "30h")], "");
    assert!(day.contains("within 23h 30m, because its token is assumed to end then"), "{day}");
}

#[test]
fn a_token_of_8_kib_is_taken_and_a_second_one_fits_beside_it() {
    let mut store = Memory::default();
    let token = |c: &str| c.repeat(8 << 10);
    // Each of these characters takes two in JSON.
    for (delivery, token) in [token("\""), token("\\")].iter().enumerate() {
        let (status, body, _) = deliver(&mut store, &[("authtoken", token)]);
        assert_eq!(status, 200, "{delivery}: {body}");
    }
    prove(&mut store, 2);
    let longer = "x".repeat((8 << 10) + 1);
    assert_eq!(deliver(&mut store, &[("authtoken", &longer)]).0, 400);
}

#[test]
fn a_full_ledger_takes_no_more_and_says_what_to_do() {
    let mut store = Memory::default();
    let small = config(r#", "checks": {"max_pending": 1}"#);
    taken(&mut store, "another", 9, 1);
    let (reply, counted) = accept(&small, &ledger(), &mut store, now(), &headers(&[]), None);
    assert_eq!((reply.status, counted, stored(&store)), (503, Counted::Refused, 0));
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
    // A policy may be in a body of any type, and a body that is not read may be empty or not.
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
fn a_thousand_unknown_members_make_no_long_answer() {
    let members: Vec<String> = (0..1_000).map(|n| format!("\"x{n}\":1")).collect();
    let body = format!("{{{}}}", members.join(","));
    let mut store = Memory::default();
    let (reply, counted) =
        accept(&config(""), &ledger(), &mut store, now(), &headers(&[]), Some(body.as_bytes()));
    assert_eq!((reply.status, counted), (200, Counted::Rejected));
    assert!(reply.body.len() < 4_096, "{} bytes", reply.body.len());
    assert!(reply.body.contains("`x0` is unknown"), "{}", reply.body);
    assert!(reply.body.contains("992 more"), "{}", reply.body);
}

/// Delivers to a Testrelay whose only credential has these further members.
fn deliver_as(store: &mut Memory, credential: &str, changes: &[(&str, &str)]) -> (u16, String) {
    let text = format!(
        r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}}],
            "credentials": [{{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"]{credential}}}]}}"#
    );
    let config = Config::parse(text.as_bytes(), &|_| Some("s3cret-of-tests-1".into())).unwrap();
    let (reply, _) = accept(&config, &ledger(), store, now(), &headers(changes), Body::None);
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
    taken(&mut store, "p", 9, 2048);
    let (status, body, _) = deliver(&mut store, &[]);
    assert!(status == 503 && body.contains("the credential's `max_pending`"), "{body}");
}

#[test]
fn only_the_configuration_switches_observing_on_and_a_stricter_delivery_ends_it() {
    let observe = r#", "mode": "observe""#;
    let mut store = Memory::default();
    let is_observed = |store: &mut Memory| pending(store).observe;
    let (status, body) = deliver_as(&mut store, "", &[("testrelay-mode", "observe")]);
    assert!(status == 200 && body.contains("rejected") && !is_observed(&mut store), "{body}");
    let mut store = Memory::default();
    assert_eq!(deliver_as(&mut store, observe, &[]).0, 200);
    assert!(is_observed(&mut store));
    assert_eq!(deliver_as(&mut store, "", &[("authtoken", "second")]).0, 200);
    prove(&mut store, 1);
    assert!(!is_observed(&mut store));
    assert_eq!(deliver_as(&mut store, observe, &[("authtoken", "third")]).0, 200);
    assert!(!is_observed(&mut store));
}

#[test]
fn a_check_that_comes_by_get_is_told_to_come_by_post() {
    let headers = |names: &[&str]| -> Vec<(Vec<u8>, Vec<u8>)> {
        names.iter().map(|name| (name.as_bytes().to_vec(), b"x".to_vec())).collect()
    };
    for sent in [&["planid"][..], &["authtoken"], &["accept", "planid", "authtoken"]] {
        let reply = wrong_method("GET, HEAD, POST", &headers(sent));
        assert_eq!(reply.status, 405);
        assert!(reply.body.contains("choose POST as the method"), "{}", reply.body);
        assert!(reply.headers.contains(&("allow", "GET, HEAD, POST".into())));
        assert!(!wrong_method("GET, HEAD", &headers(sent)).body.contains("choose POST"));
    }
    assert!(!carries_a_check(&headers(&["accept"])));
    assert!(wrong_method("POST", &headers(&["accept"])).body.contains("This path answers to POST."));
    let blank = blank_in_path("%20");
    assert!(blank.status == 404 && blank.body.contains("has `%20`, which is a blank"), "{}", blank.body);
}

#[test]
fn a_body_that_this_envoy_does_not_hand_over_makes_a_check_rejected() {
    let mut store = Memory::default();
    let headers = headers(&[("testrelay-expect", "")]);
    let (reply, counted) = accept(&config(""), &ledger(), &mut store, now(), &headers, Body::Unread);
    assert_eq!((reply.status, counted, stored(&store)), (200, Counted::Rejected, 1));
    assert!(
        reply.body.contains(r#""status":"rejected""#) && reply.body.contains("read_body"),
        "{}",
        reply.body
    );
}

#[test]
fn a_token_sent_as_tag_is_rejected_and_stored_as_token_only() {
    let token = "vKq3m0ZpT7yXw2RbN9sLd4FhJ6gCeU8aQ1iVoYtG5kMzHxWnBrEj";
    for tag in [token, &token[4..30], "s3cret-of-tests-1"] {
        let mut store = Memory::default();
        let tag = format!("{tag}-4711");
        let (status, body, counted) = deliver(&mut store, &[("authtoken", token), ("testrelay-tag", &tag)]);
        assert_eq!((status, counted), (200, Counted::Rejected), "{body}");
        assert!(!body.contains(&tag[..8]) && body.contains("Testrelay-Tag: contains a part"), "{body}");
    }
}
