use super::*;
use crate::store::ledger::memory::Memory;
use crate::time::Wall;
use crate::wire::call::{Fault, Request};

const HEADERS: [(&str, &str); 1] = [("authorization", "Bearer a-secret-of-tests")];

fn config() -> Rc<Config> {
    let text = r#"{"testkube": {"cluster": "t"}, "azure_devops": [{"url": "https://dev.azure.com/f", "cluster": "a"}],
        "credentials": [{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["status"]},
                        {"name": "b", "kind": "bearer", "secret_env": "T", "allow": ["checks"]}]}"#;
    let secret = |name: &str| if name == "S" { "a-secret-of-tests" } else { "b-secret-of-tests" };
    Rc::new(Config::parse(text.as_bytes(), &|name| Some(secret(name).into())).unwrap())
}

fn at(seconds: u64) -> Now {
    Now { mono: Mono(1_000 * seconds), wall: Wall(1_769_186_640_000) }
}

fn asked(store: &mut Memory, now: Now, headers: &[(&str, &str)]) -> Result<Inquiry, Reply> {
    Inquiry::new(&config(), "p/", store, now, headers)
}

fn calls(step: Step) -> Vec<(usize, Request)> {
    match step {
        Step::Call(calls) => calls,
        _ => panic!("no calls are asked for"),
    }
}

fn replied(step: Step) -> Reply {
    match step {
        Step::Reply(reply, None) => reply,
        _ => panic!("no answer"),
    }
}

/// The answer once each call was lost.
fn finish(inquiry: &mut Inquiry, store: &mut Memory, now: Now, calls: Vec<(usize, Request)>) -> Reply {
    let mut step = Step::Wait;
    for (number, _) in calls {
        assert!(matches!(step, Step::Wait));
        step = inquiry.answer(now, store, number, &CallOutcome::Failed(Fault::Lost));
    }
    replied(step)
}

#[test]
fn only_a_credential_for_the_status_may_ask() {
    let mut store = Memory::default();
    let refused = |store: &mut Memory, token| match asked(store, at(1), &[("authorization", token)]) {
        Err(reply) => reply.status,
        Ok(_) => panic!("it was admitted"),
    };
    assert_eq!(refused(&mut store, "Bearer b-secret-of-tests"), 403);
    assert_eq!(refused(&mut store, "Bearer c-secret-of-tests"), 401);
}

#[test]
fn requests_at_the_same_time_share_the_calls_of_one_and_later_ones_its_answer() {
    let mut store = Memory::default();
    let mut inquiries: Vec<Inquiry> =
        (0..20).map(|_| asked(&mut store, at(1), &HEADERS).ok().unwrap()).collect();
    let mut made = Vec::new();
    for inquiry in &mut inquiries {
        match inquiry.begin(at(1), &mut store) {
            Step::Call(calls) => made.push(calls),
            Step::Pause(until) => assert!(until <= at(1).mono),
            _ => panic!("neither calls nor a pause"),
        }
    }
    assert_eq!(made.len(), 1);
    let calls = made.remove(0);
    assert_eq!(calls.len(), 3);
    assert!(matches!(inquiries[1].resume(at(2), &mut store), Step::Pause(until) if until > at(2).mono));
    let reply = finish(&mut inquiries[0], &mut store, at(3), calls);
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.starts_with(
            r#"{"result":"unknown","as_of":"2026-01-23T16:44:00.000Z","checks":[{"name":"testkube","#
        ),
        "{}",
        reply.body
    );
    assert!(!reply.body.contains("secret"));
    for inquiry in &mut inquiries[1..] {
        assert_eq!(replied(inquiry.resume(at(4), &mut store)).body, reply.body);
    }
    match asked(&mut store, at(32), &HEADERS) {
        Err(again) => assert_eq!(again, reply),
        Ok(_) => panic!("asked again"),
    }
    let mut later = asked(&mut store, at(33), &HEADERS).ok().unwrap();
    assert_eq!(self::calls(later.begin(at(33), &mut store)).len(), 3);
}

#[test]
fn whoever_waits_for_a_request_that_is_gone_is_answered_and_the_next_one_asks_anew() {
    let mut store = Memory::default();
    let mut gone = asked(&mut store, at(1), &HEADERS).ok().unwrap();
    calls(gone.begin(at(1), &mut store));
    drop(gone);
    let mut waits = asked(&mut store, at(2), &HEADERS).ok().unwrap();
    assert!(matches!(waits.begin(at(2), &mut store), Step::Pause(_)));
    assert!(matches!(waits.resume(at(13), &mut store), Step::Pause(_)));
    assert_eq!(replied(waits.resume(at(14), &mut store)).status, 503);
    let mut next = asked(&mut store, at(16), &HEADERS).ok().unwrap();
    let calls = calls(next.begin(at(16), &mut store));
    assert_eq!(finish(&mut next, &mut store, at(17), calls).status, 200);
}
