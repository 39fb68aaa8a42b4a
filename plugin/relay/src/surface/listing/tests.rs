use super::*;
use crate::check::tests::record;
use crate::check::{Ask, Outcome};
use crate::config::Rerun;
use crate::expect::Expect;
use crate::store::ledger::Change;
use crate::store::ledger::memory::Memory;
use crate::tag::Tag;
use crate::time::{Mono, Wall};
use serde_json::Value;
use std::time::Duration;

const NOW: Now = Now { mono: Mono(60_000), wall: Wall(1_769_186_640_000) };

fn config(more: &str) -> Rc<Config> {
    let text = format!(
        r#"{{"testkube": {{"cluster": "t"}}, "azure_devops": [{{"url": "https://dev.azure.com/f", "cluster": "a"}}],
            "credentials": [{{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["status"]{more}}}]}}"#
    );
    Rc::new(Config::parse(text.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap())
}

/// A store with a pending check for `shop-1` and one for `shop-2` that was reported.
fn store() -> Memory {
    let mut store = Memory::default();
    for n in [1, 2] {
        put(&mut store, &check(n, n == 2));
    }
    store
}

/// A check for `shop-n` that arrived n seconds after the first, pending or reported.
fn check(n: u32, is_done: bool) -> Record {
    let mut record = record(n);
    let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
    pending.ask = Some(Ask {
        tag: Tag { key: "ado-run".into(), value: format!("shop-{n}") },
        expect: Expect::parse("e2e").unwrap(),
        settle: Duration::ZERO,
        timeout: Duration::from_secs(60),
        appear_timeout: Duration::from_secs(60),
        since_stage: None,
        rerun: Rerun::Latest,
        policies: Default::default(),
        given: None,
    });
    let later = Duration::from_secs(n.into());
    pending.accepted = Now { mono: NOW.mono.plus(later), wall: NOW.wall.plus(later) };
    pending.decide_by = NOW.mono.plus(Duration::from_secs(3600));
    if is_done {
        let reason = format!("e2e-{n} failed");
        pending.decide(
            Outcome::Failed,
            Some(crate::check::ReasonCode::Failed),
            reason,
            pending.accepted.wall,
        );
        record.state = State::Done(pending.done(true, pending.accepted));
    }
    record
}

fn put(store: &mut Memory, record: &Record) {
    let mut bucket = ledger().bucket(&record.key);
    bucket.update(store, &record.key, |_| Change::Put(Box::new(record.clone()), ())).unwrap();
}

fn ledger() -> Ledger {
    Ledger::with_key("p/", &[0; 16])
}

const HEADERS: [(&[u8], &[u8]); 1] = [(b"authorization", b"Bearer a-secret-of-tests")];

fn asked(config: &Rc<Config>, headers: &Headers<Vec<u8>>, id: Option<&str>) -> Reply {
    ask(&mut store(), config, headers, id)
}

fn ask(store: &mut Memory, config: &Rc<Config>, headers: &Headers<Vec<u8>>, id: Option<&str>) -> Reply {
    match Listing::new(config, "p/", store, headers, (id, Form::Json)) {
        Err(refusal) => refusal,
        Ok(mut listing) => match listing.begin(NOW, store) {
            Step::Reply(reply, None) => reply,
            _ => panic!("nobody is to be asked"),
        },
    }
}

/// The answer to a list with this query.
fn list(store: &mut Memory, config: &Rc<Config>, query: &str) -> (u16, Value) {
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> =
        HEADERS.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    headers.push((b":path".to_vec(), format!("/testrelay/v1/checks{query}").into_bytes()));
    let reply = ask(store, config, &headers, None);
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

fn tags(list: &Value) -> Vec<String> {
    list["checks"].as_array().unwrap().iter().map(|check| check["tag"].as_str().unwrap().to_owned()).collect()
}

fn listed(config: &Rc<Config>, authorization: &str) -> (u16, Value) {
    let headers = [(b"authorization".to_vec(), authorization.as_bytes().to_vec())];
    let reply = asked(config, &headers, None);
    assert!(!reply.body.contains("token\""), "{}", reply.body);
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[test]
fn an_outcome_has_one_word_which_its_people_read_in_the_log_too() {
    use crate::check::Outcome;
    let codes = [Outcome::Passed, Outcome::Failed, Outcome::Inconclusive, Outcome::Rejected];
    for (outcome, code) in codes.into_iter().zip(["succeeded", "failed", "inconclusive", "rejected"]) {
        assert_eq!(outcome.code(), code);
        assert!(outcome.to_string().contains(code), "{outcome}");
        // The previous module reads the ledger's records too.
        let kept = serde_json::to_value(outcome).unwrap();
        assert_eq!(kept, if code == "succeeded" { "passed" } else { code });
    }
}

#[test]
fn what_is_pending_and_what_was_decided_is_listed_without_a_token() {
    let (status, body) = listed(&config(""), "Bearer a-secret-of-tests");
    assert_eq!(status, 200);
    let checks = body["checks"].as_array().unwrap();
    let seen: Vec<(&str, &str)> =
        checks.iter().map(|c| (c["state"].as_str().unwrap(), c["tag"].as_str().unwrap())).collect();
    assert_eq!(seen, [("accepted", "ado-run=shop-1"), ("done", "ado-run=shop-2")]);
    assert_eq!(
        (checks[1]["decision"].as_str(), checks[1]["reported"].as_bool()),
        (Some("failed"), Some(true))
    );
    assert_eq!(checks[1]["reason"], "e2e-2 failed");
    assert_eq!(
        checks[0]["explain"],
        "Azure DevOps has not accepted its token yet, so Testkube is not asked. It is decided at about 16:45 UTC at the latest."
    );
    assert_eq!(checks[0]["deadline"], "timeout");
    assert_eq!(checks[0]["decided_by"], NOW.wall.plus(Duration::from_secs(61)).to_string());
    assert_eq!(checks[1]["history"].as_array().unwrap().len(), 3);
}

#[test]
fn one_check_is_found_by_its_id_and_another_is_not() {
    let headers = [(b"authorization".to_vec(), b"Bearer a-secret-of-tests".to_vec())];
    let one = |id: &str| asked(&config(""), &headers, Some(id));
    let found = one(&record(1).key.id());
    assert!(found.status == 200 && found.body.contains("shop-1") && !found.body.contains("shop-2"));
    assert_eq!(one("0123456789abcdef").status, 404);
}

#[test]
fn a_credential_sees_only_what_it_covers() {
    let (_, body) = listed(&config(r#", "tags": ["shop-2"]"#), "Bearer a-secret-of-tests");
    assert_eq!(body["checks"].as_array().unwrap().len(), 1);
    let (_, body) = listed(
        &config(r#", "projects": ["99999999-0000-4000-8000-000000000001"]"#),
        "Bearer a-secret-of-tests",
    );
    assert!(body["checks"].as_array().unwrap().is_empty());
    assert_eq!(listed(&config(""), "Bearer other").0, 401);
}

#[test]
fn pages_hold_each_check_once_pending_ones_first() {
    let mut store = Memory::default();
    for n in 1..=150 {
        put(&mut store, &check(n, n % 3 == 0));
    }
    let config = config("");
    let (mut query, mut seen, mut pages) = ("?limit=13".to_owned(), Vec::new(), 0);
    loop {
        let (status, list) = list(&mut store, &config, &query);
        assert_eq!(status, 200, "{list}");
        assert!(list["checks"].as_array().unwrap().len() <= 13);
        seen.extend(tags(&list));
        pages += 1;
        let Some(next) = list["next"].as_str() else { break };
        query = format!("?limit=13&after={next}");
    }
    let pending = (1..=150).filter(|n| n % 3 != 0);
    let done = (1..=150).rev().filter(|n| n % 3 == 0);
    let expected: Vec<String> = pending.chain(done).map(|n| format!("ado-run=shop-{n}")).collect();
    assert_eq!((seen, pages), (expected, 12));
    let (_, first) = list(&mut store, &config, "");
    assert_eq!((tags(&first).len(), first["next"].is_string()), (100, true));
}

#[test]
fn a_list_is_filtered_by_tag_state_and_project() {
    let mut store = store();
    let config = config("");
    let mut tags_of = |query: &str| {
        let (status, list) = list(&mut store, &config, query);
        assert_eq!(status, 200, "{list}");
        tags(&list)
    };
    assert_eq!(tags_of("?state=pending"), ["ado-run=shop-1"]);
    assert_eq!(tags_of("?state=done"), ["ado-run=shop-2"]);
    assert_eq!(tags_of("?tag=shop-2"), ["ado-run=shop-2"]);
    assert_eq!(tags_of("?tag=ado-run%3Dshop-1"), ["ado-run=shop-1"]);
    assert_eq!(tags_of("?project=00000001-0000-4000-8000-000000000001").len(), 2);
    assert!(tags_of("?project=00000002-0000-4000-8000-000000000001").is_empty());
    assert!(tags_of("?state=running").is_empty());
}

#[test]
fn a_foreign_project_is_refused_whether_it_has_checks_or_not() {
    let own = r#", "projects": ["99999999-0000-4000-8000-000000000001"]"#;
    for project in ["00000001", "00000002"] {
        let query = format!("?project={project}-0000-4000-8000-000000000001");
        let (status, body) = list(&mut store(), &config(own), &query);
        assert_eq!((status, body["title"].as_str()), (403, Some("The project is not covered")), "{project}");
    }
    let (status, body) = list(&mut store(), &config(own), "?limit=1");
    assert_eq!((status, body["checks"].as_array().unwrap().len()), (200, 0));
    assert!(body["next"].is_null(), "it says that there is something: {body}");
}

#[test]
fn what_was_decided_is_listed_after_its_record_has_gone() {
    use crate::check::View;
    let mut store = store();
    for n in 2..=4 {
        let record = check(n, true);
        let State::Done(done) = &record.state else { panic!() };
        let view = View::ended(&record.key, done, "null");
        crate::store::decided::note(&mut store, "p/", done.at.wall, &record.key, &view).unwrap();
    }
    let config = config("");
    let (_, all) = list(&mut store, &config, "");
    assert_eq!(tags(&all), ["ado-run=shop-1", "ado-run=shop-4", "ado-run=shop-3", "ado-run=shop-2"]);
    assert_eq!(all["checks"][1]["decided_after_seconds"], 0);
    let headers: Vec<_> = HEADERS.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let one = ask(&mut store, &config, &headers, Some(&record(4).key.id()));
    assert!(one.status == 200 && one.body.contains("e2e-4 failed"), "{}", one.body);
    let (_, none) = list(&mut store, &self::config(r#", "tags": ["other"]"#), "");
    assert!(none["checks"].as_array().unwrap().is_empty());
}

#[test]
fn what_the_leader_knows_is_shown_for_the_same_evaluation_only() {
    let mut store = store();
    let key = record(1).key;
    let bucket = usize::from(ledger().bucket_of(&key));
    let config = config("");
    for (began, explained) in [(0, "Waits for shop-api."), (7, "Azure DevOps has not accepted")] {
        let view =
            r#""explain":"Waits for shop-api.","live":{"as_of":"2026-01-23T16:44:00.000Z","reading":null}"#;
        let new = [(key, Mono(began), view.to_owned())];
        live_views::update(&mut store, "p/", bucket, &new, |_| true).unwrap();
        let (_, list) = list(&mut store, &config, "?state=pending");
        let check = &list["checks"][0];
        assert!(check["explain"].as_str().unwrap().starts_with(explained), "{check}");
        assert_eq!(check["live"].is_object(), began == 0, "{check}");
    }
}

#[test]
fn one_check_takes_no_parameters() {
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> =
        HEADERS.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    headers.push((b":path".to_vec(), b"/testrelay/v1/checks/0123456789abcdef?limit=1".to_vec()));
    assert_eq!(asked(&config(""), &headers, Some("0123456789abcdef")).status, 400);
}

/// The page for this path.
fn page(store: &mut Memory, config: &Rc<Config>, query: &str, id: Option<&str>, password: &str) -> Reply {
    let headers: [(Vec<u8>, Vec<u8>); 2] = [
        (b"authorization".to_vec(), format!("Bearer {password}").into_bytes()),
        (b":path".to_vec(), format!("/testrelay/{query}").into_bytes()),
    ];
    match Listing::new(config, "p/", store, &headers, (id, Form::Page)) {
        Err(refusal) => refusal,
        Ok(mut listing) => match listing.begin(NOW, store) {
            Step::Reply(reply, None) => reply,
            _ => panic!("nobody is to be asked"),
        },
    }
}

#[test]
fn people_get_the_same_as_a_page_whatever_the_answer_is() {
    let (mut store, config) = (store(), config(""));
    let mut shown = |query: &str, id: Option<&str>, password: &str| {
        let reply = page(&mut store, &config, query, id, password);
        let html = ("content-type", "text/html; charset=utf-8".to_owned());
        assert!(reply.headers.contains(&html) && reply.body.contains("</html>"), "{}", reply.body);
        (reply.status, reply.body)
    };
    let (status, all) = shown("?limit=1", None, "a-secret-of-tests");
    assert!(status == 200 && all.contains("ado-run=shop-1") && !all.contains("ado-run=shop-2"), "{all}");
    assert!(all.contains("<a href=\"?limit=1&amp;after="), "{all}");
    let id = record(2).key.id();
    let (status, one) = shown("", Some(&id), "a-secret-of-tests");
    assert!(status == 200 && one.contains("e2e-2 failed"), "{one}");
    assert_eq!(shown("", Some("0123456789abcdef"), "a-secret-of-tests").0, 404);
    assert_eq!(shown("?limit=0", None, "a-secret-of-tests").0, 400);
    let (status, refused) = shown("", None, "another");
    assert!(status == 401 && !refused.contains("shop-1"), "{refused}");
}

#[test]
fn a_bound_credential_sees_no_other_servers() {
    let mut store = store();
    let health = "{\"testkube\":{\"answered\":null}}\n{\"azure_devops\":[{\"url\":\"https://dev.azure.com/f\"}],\"testkube\":{}}";
    assert!(store.swap(&health_key("p/"), None, health.as_bytes()).unwrap());
    let (_, all) = list(&mut store, &config(""), "");
    assert_eq!(all["health"]["azure_devops"][0]["url"], "https://dev.azure.com/f");
    for bound in [r#", "tags": ["shop-2"]"#, r#", "projects": ["00000001-0000-4000-8000-000000000001"]"#] {
        let (_, some) = list(&mut store, &config(bound), "");
        assert!(some["health"]["testkube"].is_object() && some["health"]["azure_devops"].is_null(), "{some}");
    }
}
