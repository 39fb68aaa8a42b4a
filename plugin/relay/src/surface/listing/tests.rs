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
        pending.accepted = NOW;
        pending.decide_by = NOW.mono.plus(Duration::from_secs(3600));
        if n == 2 {
            pending.decide(
                Outcome::Failed,
                Some(crate::check::ReasonCode::Failed),
                "e2e-17 failed".into(),
                NOW.wall,
            );
            record.state = State::Done(pending.done(true, NOW));
        }
        let mut bucket = Ledger::with_key("p/", &[0; 16]).bucket(&record.key);
        bucket
            .update(&mut store, &record.key.clone(), |_| Change::Put(Box::new(record.clone()), ()))
            .unwrap();
    }
    store
}

fn asked(config: &Rc<Config>, headers: &Headers<Vec<u8>>, id: Option<&str>) -> Reply {
    match Listing::new(config, "p/", &mut store(), headers, id) {
        Err(refusal) => refusal,
        Ok(mut listing) => match listing.begin(NOW) {
            Step::Reply(reply, None) => reply,
            _ => panic!("nobody is to be asked"),
        },
    }
}

fn listed(config: &Rc<Config>, authorization: &str) -> (u16, Value) {
    let headers = [(b"authorization".to_vec(), authorization.as_bytes().to_vec())];
    let reply = asked(config, &headers, None);
    assert!(!reply.body.contains("token"), "{}", reply.body);
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
    assert_eq!(checks[1]["reason"], "e2e-17 failed");
    assert_eq!(checks[0]["deadline"], "timeout");
    assert_eq!(checks[0]["decided_by"], NOW.wall.plus(Duration::from_secs(60)).to_string());
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
