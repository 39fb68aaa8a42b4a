use super::*;
use crate::store::hints::{Inbox, KEPT, LAYOUT, fingerprint};
use crate::store::ledger::memory::Memory;
use crate::time::{Mono, Wall};

const BODY: &str = r#"{"id": "1", "type": "end-testworkflow-success", "testWorkflowExecution": {"name": "shop-e2e-1",
    "signature": [{"children": []}], "tags": {"ado-run": "shop-4711", "team": "shop"}, "result": null}}"#;

fn config() -> Config {
    let text = r#"{"testkube": {"cluster": "t"}, "read_body": true,
        "azure_devops": [{"url": "https://dev.azure.com/f", "cluster": "a"}],
        "credentials": [
            {"name": "hints", "kind": "bearer", "secret_env": "H", "allow": ["events"], "tags": ["shop-*"]},
            {"name": "checks", "kind": "bearer", "secret_env": "C", "allow": ["checks"]}
        ]}"#;
    Config::parse(text.as_bytes(), &|name| Some(format!("secret-of-{}-in-tests", name.to_lowercase())))
        .unwrap()
}

fn headers(secret: &str, more: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let authorization = format!("Bearer secret-of-{secret}-in-tests");
    let all = [("authorization", authorization.as_str())].into_iter().chain(more.iter().copied());
    all.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(1_000_000 + ms), wall: Wall(0) }
}

fn send(store: &mut Memory, ms: u64, body: &str) -> bool {
    let (reply, taken) = take(&config(), "p/", store, at(ms), &headers("h", &[]), body.as_bytes());
    assert_eq!(reply.status, 202);
    assert_eq!(reply.body.contains("taken"), taken);
    taken
}

#[test]
fn a_hint_is_read_once_by_the_leader() {
    let mut store = Memory::default();
    let mut inbox = Inbox::new("p/");
    assert_eq!(inbox.news(&mut store), Vec::<u64>::new());
    assert!(send(&mut store, 0, BODY) && send(&mut store, 1, &BODY.replace("4711", "4712")));
    assert_eq!(inbox.news(&mut store), [fingerprint("shop-4711"), fingerprint("shop-4712")]);
    assert_eq!(inbox.news(&mut store), Vec::<u64>::new());
    assert!(send(&mut store, 2, BODY));
    assert_eq!(inbox.news(&mut store), [fingerprint("shop-4711")]);
    assert_eq!(Inbox::new("p/").news(&mut store).len(), 3);
}

#[test]
fn testkubes_own_event_is_a_hint() {
    let event = testkube_fixture!("recorded-webhook-event-end-testworkflow-success");
    let mut store = Memory::default();
    assert!(send(&mut store, 0, event));
    assert_eq!(Inbox::new("p/").news(&mut store), [fingerprint("shop-10001")]);
}

#[test]
fn what_has_no_tag_of_a_check_is_ignored_and_nothing_is_written() {
    let mut store = Memory::default();
    let deep = format!("{}{}", r#"{"testWorkflowExecution":"#, "[".repeat(100_000));
    for body in [
        "",
        "\u{0}",
        "[]",
        "{}",
        r#"{"tags": {"ado-run": "shop-4711"}}"#,
        r#"{"testWorkflowExecution": null}"#,
        r#"{"testWorkflowExecution": {"tags": null}}"#,
        r#"{"testWorkflowExecution": {"tags": {"ado-run": 4711}}}"#,
        r#"{"testWorkflowExecution": {"tags": {"run": "shop-4711"}}}"#,
        // Not among the credential's tags.
        r#"{"testWorkflowExecution": {"tags": {"ado-run": "other-4711"}}}"#,
        &BODY[..BODY.len() - 1],
        &deep,
    ] {
        assert!(!send(&mut store, 0, body), "{body:.100}");
    }
    assert_eq!(store.writes, 0);
}

#[test]
fn ten_hints_are_taken_in_a_second_and_the_others_write_nothing() {
    let mut store = Memory::default();
    let taken = (0..10_000).step_by(20).filter(|ms| send(&mut store, *ms, BODY)).collect::<Vec<_>>();
    assert_eq!((taken.len(), store.writes), (100, 100));
    assert!(taken.windows(11).all(|window| window[10] - window[0] >= 1_000), "{taken:?}");
    assert_eq!(store.keys["p/hints"].value.len(), 1 + 8 + KEPT * 16);
}

#[test]
fn only_a_credential_for_events_may_hint_and_large_bodies_are_refused() {
    let status =
        |headers: &Headers, has_body| admit(&config(), headers, has_body).map(drop).map_err(|r| r.status);
    assert_eq!(status(&headers("h", &[]), true), Ok(()));
    assert_eq!(status(&headers("h", &[]), false), Err(202));
    assert_eq!(status(&headers("c", &[]), true), Err(403));
    assert_eq!(status(&headers("x", &[]), true), Err(401));
    assert_eq!(status(&headers("h", &[("content-length", "1048576")]), true), Ok(()));
    assert_eq!(status(&headers("h", &[("content-length", "1048577")]), true), Err(413));
    let unread = Config { read_body: false, ..config() };
    assert_eq!(admit(&unread, &headers("h", &[]), true).unwrap_err().status, 422);
    let (refusal, taken) =
        take(&config(), "p/", &mut Memory::default(), at(0), &headers("c", &[]), BODY.as_bytes());
    assert_eq!((refusal.status, taken), (403, false));
}

#[test]
fn hints_of_another_version_are_written_over() {
    let mut store = Memory::default();
    for value in [&b""[..], b"\x02rest", b"\x01short", &[LAYOUT; 1 + 8 + 8]] {
        store.put("p/hints", value);
        assert_eq!(Inbox::new("p/").news(&mut store), Vec::<u64>::new());
        assert!(send(&mut store, 0, BODY));
        assert_eq!(Inbox::new("p/").news(&mut store), [fingerprint("shop-4711")]);
    }
}
