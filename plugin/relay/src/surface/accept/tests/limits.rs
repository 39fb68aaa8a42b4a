//! Limits: which deliveries take a place, and for whom.

use super::*;
use crate::check::Outcome;
use crate::store::ledger::{Cas, Change, Entry};
use std::collections::BTreeMap;

const OTHER_PROJECT: &str = "11111111-bdb4-42d7-a560-0f2b54f91cc8";

type Keys = BTreeMap<String, Entry>;

/// A delivery by one of two credentials, `p` and `q`, that have one place each.
fn by(store: &mut Memory, credential: &str, changes: &[(&str, &str)]) -> (u16, Counted) {
    let text = r#"{"testkube": {"cluster": "t"}, "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "a"}],
        "credentials": [{"name": "p", "kind": "bearer", "secret_env": "P", "allow": ["checks"], "max_pending": 1},
                        {"name": "q", "kind": "bearer", "secret_env": "Q", "allow": ["checks"], "max_pending": 1}]}"#;
    let config = Config::parse(text.as_bytes(), &|name| Some(format!("secret-of-tests-{name}"))).unwrap();
    let secret = format!("Bearer secret-of-tests-{}", credential.to_uppercase());
    let mut fields = vec![("authorization", secret.as_str())];
    fields.extend(changes);
    let (reply, counted) = accept(&config, &ledger(), store, now(), &headers(&fields), Body::None);
    (reply.status, counted)
}

/// Number of places of each credential, and of all projects.
fn counted(store: &mut Memory) -> (BTreeMap<String, u32>, u32) {
    let [credentials, projects] = places::counted(store, &ledger());
    (credentials, projects.into_values().sum())
}

fn one(credential: &str) -> (BTreeMap<String, u32>, u32) {
    (BTreeMap::from([(credential.into(), 1)]), 1)
}

fn change(store: &mut Memory, change: impl Fn(&mut Pending)) {
    let key = CheckKey::of(&pending(store).callback);
    let changed = ledger().bucket(&key).update(store, &key, |found| {
        let mut record = found.cloned().unwrap();
        let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
        change(pending);
        Change::Put(Box::new(record), ())
    });
    changed.unwrap();
}

fn is_there(keys: &Keys, what: &str) -> bool {
    keys.keys().any(|key| key.contains(what))
}

/// Lets another context do this in the middle.
fn meanwhile(keys: &mut Keys, write: u32, what: impl FnOnce(&mut Memory)) {
    let mut other = Memory { keys: std::mem::take(keys), writes: 1_000 * write, rival: None };
    what(&mut other);
    *keys = other.keys;
}

#[test]
fn a_check_takes_one_place_however_often_and_by_whom_it_is_delivered() {
    let mut store = Memory::default();
    assert_eq!(by(&mut store, "p", &[]), (200, Counted::Accepted));
    for _ in 0..3 {
        assert_eq!(by(&mut store, "p", &[("authtoken", "newer")]), (200, Counted::Repeated));
    }
    // Another credential's delivery, of another project, stands beside it.
    let other = [("authtoken", "others"), ("projectid", OTHER_PROJECT)];
    assert_eq!(by(&mut store, "q", &other), (200, Counted::Repeated));
    assert_eq!(counted(&mut store), one("p"));
    // The other one is proven, and the check stays counted where it is.
    prove(&mut store, 5);
    let check = pending(&mut store);
    assert_eq!((check.credential.as_str(), check.held().unwrap().credential.as_str()), ("q", "p"));
    let another = [("planid", "77be341f-5310-552f-e0cd-7c580e77b98b")];
    assert_eq!(by(&mut store, "p", &another), (503, Counted::Refused));
    assert_eq!(counted(&mut store), one("p"), "what is turned away has no place");
}

#[test]
fn a_delivery_of_a_check_that_waits_needs_no_place_where_every_one_is_taken() {
    let mut store = Memory::default();
    assert_eq!(by(&mut store, "p", &[]).0, 200);
    taken(&mut store, "q", 9, 5);
    assert_eq!(by(&mut store, "p", &[]), (200, Counted::Repeated));
    assert_eq!(by(&mut store, "q", &[("authtoken", "others"), ("testrelay-tag", "b-4711")]).0, 200);
}

#[test]
fn a_check_that_is_done_takes_a_place_when_it_comes_again() {
    let mut store = Memory::default();
    assert_eq!(by(&mut store, "p", &[]).0, 200);
    let check = pending(&mut store);
    let key = CheckKey::of(&check.callback);
    let done = check::Record { key, state: State::Done(check.done(true, now())) };
    ledger().bucket(&key).update(&mut store, &key, |_| Change::Put(Box::new(done.clone()), ())).unwrap();
    assert_eq!(by(&mut store, "p", &[]).0, 503, "its place was not given back");
    places::give_back(&mut store, &ledger(), check.held().unwrap());
    assert_eq!(by(&mut store, "p", &[]), (200, Counted::Accepted));
    assert_eq!(counted(&mut store), one("p"));
}

#[test]
fn a_check_that_nobody_waits_for_leaves_its_place_to_the_one_that_replaces_it() {
    let is_over = |pending: &mut Pending| pending.decide(Outcome::Over, None, "over".into(), Wall(0));
    let mut store = Memory::default();
    assert_eq!(by(&mut store, "p", &[]).0, 200);
    change(&mut store, is_over);
    assert_eq!(by(&mut store, "p", &[]), (200, Counted::Accepted), "it is the credential's only place");
    assert_eq!(counted(&mut store), one("p"));
    change(&mut store, is_over);
    assert_eq!(by(&mut store, "q", &[]), (200, Counted::Accepted));
    assert_eq!(counted(&mut store), one("q"));
    // A check that has given its place back early has none left to give.
    change(&mut store, |pending| {
        is_over(pending);
        pending.leave_place();
    });
    assert_eq!(by(&mut store, "q", &[]).0, 503);
}

#[test]
fn the_same_check_twice_at_once_takes_one_place() {
    /// Another context accepts the check after this one has taken the place but before it has stored the record.
    fn rival(keys: &mut Keys, write: u32) {
        if is_there(keys, "/projects/") && !is_there(keys, "/checks/") {
            meanwhile(keys, write, |store| assert_eq!(deliver(store, &[]).2, Counted::Accepted));
        }
    }
    let mut store = Memory { rival: Some(rival), ..Memory::default() };
    assert_eq!(deliver(&mut store, &[]).2, Counted::Repeated);
    store.rival = None;
    assert_eq!(pending(&mut store).delivery, 2);
    assert_eq!(counted(&mut store), one("p"));
}

#[test]
fn the_same_check_twice_at_once_needs_one_place() {
    /// Another context accepts the check, with the last place, after this one has found that it is new.
    fn rival(keys: &mut Keys, write: u32) {
        if !is_there(keys, "/checks/") {
            meanwhile(keys, write, |store| assert_eq!(by(store, "p", &[]), (200, Counted::Accepted)));
        }
    }
    let mut store = Memory { rival: Some(rival), ..Memory::default() };
    assert_eq!(by(&mut store, "p", &[]), (200, Counted::Repeated));
    store.rival = None;
    assert_eq!(counted(&mut store), one("p"));
}

#[test]
fn a_check_that_cannot_be_stored_keeps_no_place() {
    /// Another context writes the check's bucket all the time.
    fn rival(keys: &mut Keys, write: u32) {
        let buckets = keys.iter_mut().filter(|(key, _)| key.contains("/checks/"));
        buckets.for_each(|(_, bucket)| bucket.cas = Cas(1_000_000 + write));
    }
    let mut store = Memory::default();
    assert_eq!(deliver(&mut store, &[]).0, 200);
    let check = pending(&mut store);
    let key = CheckKey::of(&check.callback);
    ledger().bucket(&key).update(&mut store, &key, |_| Change::Remove(())).unwrap();
    places::give_back(&mut store, &ledger(), check.held().unwrap());
    store.rival = Some(rival);
    assert_eq!(deliver(&mut store, &[]).0, 503);
    assert_eq!(counted(&mut store), (BTreeMap::new(), 0));
}
