//! Places as a whole: taken, given back, and found again after a VM has fallen.

use super::*;
use crate::check::tests::{guid, record};
use crate::check::{Placed, Record, State};
use crate::store::ledger::memory::Memory;
use crate::store::ledger::{Cas, Change, Entry};
use crate::time::Mono;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { all: 6, credential: 4, project: 3 };

fn ledger() -> Ledger {
    Ledger::with_key("t/", &[5; 16])
}

fn place(credential: &str, project: u32) -> Place {
    Place { credential: credential.into(), project: guid(project) }
}

fn taken(store: &mut Memory, place: &Place) -> Grant {
    take(store, &ledger(), place, LIMITS).unwrap()
}

/// Number of places of the credential, of the project, and of all together.
fn counted(store: &mut Memory, place: &Place) -> [u32; 3] {
    let credentials = Counts::read(store, credentials_key("t/")).unwrap();
    let projects = Counts::read(store, projects_key(&ledger(), place)).unwrap();
    [credentials.of(place.credential.as_bytes()), projects.of(place.project.bytes()), credentials.sum()]
}

/// Stores the record of a check that holds this place.
fn put(store: &mut Memory, n: u32, place: &Place) {
    let mut record = record(n);
    let State::Pending(pending) = &mut record.state else { panic!("a pending record") };
    pending.place = Placed::Holds(place.clone());
    write(store, record);
}

fn write(store: &mut Memory, record: Record) {
    let key = record.key;
    ledger().bucket(&key).update(store, &key, |_| Change::Put(Box::new(record.clone()), ())).unwrap();
}

#[test]
fn each_limit_is_reached_with_its_last_place_and_a_place_that_was_given_back_is_free() {
    let mut store = Memory::default();
    let (a, b, c) = (place("a", 1), place("a", 2), place("b", 1));
    for _ in 0..3 {
        assert_eq!(taken(&mut store, &a), Grant::Taken);
    }
    assert_eq!(taken(&mut store, &a), Grant::Full(Share::Project));
    assert_eq!(taken(&mut store, &c), Grant::Full(Share::Project), "whoever sends it");
    assert_eq!(taken(&mut store, &b), Grant::Taken);
    assert_eq!(taken(&mut store, &b), Grant::Full(Share::Credential));
    for n in 3..5 {
        assert_eq!(taken(&mut store, &place("b", n)), Grant::Taken);
    }
    assert_eq!(taken(&mut store, &place("c", 9)), Grant::Full(Share::All));
    assert_eq!(counted(&mut store, &a), [4, 3, 6], "what found no room has raised nothing");
    give_back(&mut store, &ledger(), &a);
    assert_eq!(taken(&mut store, &c), Grant::Taken);
    assert_eq!(counted(&mut store, &c), [3, 3, 6]);
    for _ in 0..2 {
        give_back(&mut store, &ledger(), &place("never", 77));
    }
    assert_eq!(counted(&mut store, &c), [3, 3, 6], "what has no place gives none back");
}

#[test]
fn configurations_beside_each_other_count_together_and_keep_each_to_its_own_limits() {
    let mut store = Memory::default();
    let a = place("a", 1);
    let larger = Limits { all: 6, credential: 6, project: 6 };
    for _ in 0..3 {
        assert_eq!(taken(&mut store, &a), Grant::Taken);
    }
    assert_eq!(take(&mut store, &ledger(), &a, larger), Ok(Grant::Taken));
    assert_eq!(taken(&mut store, &a), Grant::Full(Share::Credential));
    give_back(&mut store, &ledger(), &a);
    assert_eq!(taken(&mut store, &a), Grant::Full(Share::Project));
}

#[test]
fn a_check_that_was_accepted_without_a_place_gets_one_whatever_the_limits_say() {
    let mut store = Memory::default();
    for _ in 0..9 {
        take_beyond(&mut store, &ledger(), &place("a", 1)).unwrap();
    }
    assert_eq!(counted(&mut store, &place("a", 1)), [9, 9, 9]);
    assert_eq!(taken(&mut store, &place("b", 2)), Grant::Full(Share::All));
}

#[test]
fn the_last_place_goes_to_whoever_is_faster_and_the_other_has_raised_nothing() {
    // Before each of the first writes, takes a place of the same project for another credential.
    fn rival(keys: &mut BTreeMap<String, Entry>, write: u32) {
        let key = projects_key(&ledger(), &place("a", 1));
        if key_is_taken(keys, &key) < LIMITS.project {
            let mut other = Memory { keys: keys.clone(), writes: 1_000 * write, rival: None };
            take_beyond(&mut other, &ledger(), &place("rival", 1)).unwrap();
            *keys = other.keys;
        }
    }
    fn key_is_taken(keys: &BTreeMap<String, Entry>, key: &str) -> u32 {
        let mut store = Memory { keys: keys.clone(), ..Memory::default() };
        Counts::read(&mut store, key.into()).unwrap().sum()
    }
    let mut store = Memory { rival: Some(rival), ..Memory::default() };
    let limits = Limits { all: 100, credential: 100, ..LIMITS };
    assert_eq!(take(&mut store, &ledger(), &place("a", 1), limits), Ok(Grant::Full(Share::Project)));
    store.rival = None;
    assert_eq!(counted(&mut store, &place("a", 1)), [0, LIMITS.project, LIMITS.project]);
}

#[test]
fn where_others_write_all_the_time_no_place_is_taken() {
    let rival = |keys: &mut BTreeMap<String, Entry>, write: u32| {
        let key = projects_key(&ledger(), &place("a", 1));
        keys.insert(key, Entry { value: vec![1], cas: Cas(1_000_000 + write) });
    };
    let mut store = Memory { rival: Some(rival), ..Memory::default() };
    assert_eq!(take(&mut store, &ledger(), &place("a", 1), LIMITS), Err(LedgerError::Busy));
    assert_eq!(counted(&mut store, &place("a", 1)), [0, 0, 0]);
}

/// Two checks with their places, and two places without a record: one of the same credential, one of another.
fn with_lost_places() -> Memory {
    let mut store = Memory::default();
    for n in 1..3 {
        assert_eq!(taken(&mut store, &place("a", n)), Grant::Taken);
        put(&mut store, n, &place("a", n));
    }
    assert_eq!(taken(&mut store, &place("a", 1)), Grant::Taken);
    assert_eq!(taken(&mut store, &place("b", 3)), Grant::Taken);
    store
}

/// Looks each second while two checks are known. Returns the counts before and after the correction.
fn looks(
    correction: &mut Correction,
    store: &mut Memory,
    seconds: std::ops::Range<u64>,
) -> Vec<(u64, u32, u32)> {
    let mut corrected = Vec::new();
    for second in seconds {
        let now = Mono(second * 1_000);
        if correction.is_due(now) {
            let Some(suspicion) = correction.suspects(store, &ledger(), now, 2).unwrap() else { continue };
            let mut buckets = ledger().buckets();
            buckets.iter_mut().for_each(|bucket| _ = bucket.read(store).unwrap());
            let records = buckets.iter().flat_map(|bucket| bucket.records());
            let held = records.filter_map(|record| record.state.held());
            let result = correction.count(store, &ledger(), suspicion, held).unwrap();
            corrected.extend(result.map(|Corrected { before, now }| (second, before, now)));
        }
    }
    corrected
}

#[test]
fn places_that_no_record_holds_are_given_back_after_two_counts() {
    let mut store = with_lost_places();
    let mut correction = Correction::default();
    assert_eq!(looks(&mut correction, &mut store, 0..60), [(10, 4, 2)]);
    assert_eq!(counted(&mut store, &place("a", 1)), [2, 1, 2]);
    assert_eq!(counted(&mut store, &place("b", 3)), [0, 0, 2]);
    // Where a VM fell between the two counters.
    let mut credentials = Counts::read(&mut store, credentials_key("t/")).unwrap();
    credentials.raise(b"a");
    assert!(credentials.write(&mut store).unwrap());
    assert_eq!(looks(&mut correction, &mut store, 60..120), [(70, 3, 2)]);
    assert_eq!(counted(&mut store, &place("a", 1)), [2, 1, 2]);
}

#[test]
fn a_counter_that_is_written_meanwhile_is_not_corrected() {
    for second in 0..10 {
        let mut store = with_lost_places();
        let mut correction = Correction::default();
        assert_eq!(looks(&mut correction, &mut store, 0..second + 1), []);
        // Another check is being accepted: its place is taken, but its record is not stored yet.
        assert_eq!(taken(&mut store, &place("c", 4)), Grant::Taken);
        let given_back = looks(&mut correction, &mut store, second + 1..second + 10);
        assert_eq!(given_back, [], "after a write in second {second}");
        assert_eq!(counted(&mut store, &place("c", 4)), [1, 1, 5]);
    }
}

#[test]
fn counters_that_are_below_the_records_are_raised() {
    let mut store = with_lost_places();
    for n in 1..3 {
        give_back(&mut store, &ledger(), &place("a", n));
        give_back(&mut store, &ledger(), &place("a", n));
    }
    assert_eq!(counted(&mut store, &place("a", 1)), [0, 0, 1]);
    assert_eq!(looks(&mut Correction::default(), &mut store, 0..60), [(10, 1, 2)]);
    for n in 1..3 {
        assert_eq!(counted(&mut store, &place("a", n)), [2, 1, 2]);
    }
    assert_eq!(counted(&mut store, &place("b", 3)), [0, 0, 2]);
}

/// A raised project above its credential would never be found: only the credentials' sum is compared.
#[test]
fn a_correction_that_another_context_interrupts_leaves_no_project_above_its_credential() {
    let mut store = with_lost_places();
    for n in 1..3 {
        give_back(&mut store, &ledger(), &place("a", n));
        give_back(&mut store, &ledger(), &place("a", n));
    }
    // Another context is faster at each write of the credentials' counters.
    store.rival = Some(|keys, write| {
        if let Some(entry) = keys.get_mut(&credentials_key("t/")) {
            entry.cas = Cas(0x8000_0000 | write);
        }
    });
    assert_eq!(looks(&mut Correction::default(), &mut store, 0..60), []);
    store.rival = None;
    let [credential, project, _] = counted(&mut store, &place("a", 1));
    assert!(project <= credential, "{project} of a project, {credential} of its credential");
}
