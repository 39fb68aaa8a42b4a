//! The ledger as a whole.

use super::memory::Memory;
use super::*;
use crate::check::State;
use crate::check::tests::record;
use crate::time::{Mono, Now, Wall};

fn insert(store: &mut Memory, n: u32) -> Result<(), LedgerError> {
    put(store, &record(n))
}

fn put(store: &mut Memory, record: &Record) -> Result<(), LedgerError> {
    update(store, &record.key, |_| Change::Put(Box::new(record.clone()), ()))
}

fn update<R>(
    store: &mut Memory,
    key: &CheckKey,
    change: impl FnMut(Option<&Record>) -> Change<R>,
) -> Result<R, LedgerError> {
    ledger().bucket(key).update(store, key, change)
}

fn ledger() -> Ledger {
    Ledger::with_key("t/", &[0; 16])
}

/// Numbers of checks whose records share bucket 7.
fn in_one_bucket(how_many: usize) -> Vec<u32> {
    let ledger = ledger();
    (0..1_000_000).filter(|n| ledger.bucket_of(&record(*n).key) == 7).take(how_many).collect()
}

/// A check that ended at this second.
fn done(n: u32, second: u64) -> Record {
    let mut record = record(n);
    let State::Pending(pending) = &record.state else { panic!("a pending record") };
    let at = Now { mono: Mono(second * 1_000), wall: Wall(0) };
    record.state = State::Done(pending.done(true, at));
    record
}

#[test]
fn what_is_put_is_found_and_what_is_removed_is_gone() {
    let mut store = Memory::default();
    for n in 0..500 {
        insert(&mut store, n).unwrap();
    }
    for n in 0..500 {
        let key = record(n).key;
        assert!(update(&mut store, &key, |found| Change::Keep(found == Some(&record(n)))).unwrap());
        update(&mut store, &key, |_| Change::Remove(())).unwrap();
        assert!(update(&mut store, &key, |found| Change::Keep(found.is_none())).unwrap());
    }
    assert!(store.keys.len() <= usize::from(BUCKETS));
}

#[test]
fn a_faster_rival_is_read_again_and_never_overwritten() {
    let mut store = Memory::default();
    insert(&mut store, 1).unwrap();
    store.rival = Some(|keys, write| {
        if write < 50 {
            for entry in keys.values_mut() {
                entry.cas = Cas(1_000 + write);
            }
        }
    });
    insert(&mut store, 1).unwrap();
    assert!(store.writes >= 50);
    store.rival = Some(|keys, write| {
        for entry in keys.values_mut() {
            entry.cas = Cas(1_000 + write);
        }
    });
    assert_eq!(insert(&mut store, 1), Err(LedgerError::Busy));
}

#[test]
fn records_of_another_format_are_carried_through() {
    let mut store = Memory::default();
    insert(&mut store, 1).unwrap();
    let key = store.keys.keys().next().unwrap().clone();
    let foreign = [&3u32.to_le_bytes()[..], &[9], b"new"].concat();
    let entry = store.keys.get_mut(&key).unwrap();
    entry.value.extend_from_slice(&foreign);
    entry.value.extend_from_slice(b"\xff\xff");
    insert(&mut store, 1).unwrap();
    update(&mut store, &record(1).key, |_| Change::Remove(())).unwrap();
    let value = &store.keys[&key].value;
    assert_eq!(value[1..], [&foreign[..], b"\xff\xff"].concat());
}

#[test]
fn a_readable_record_behind_an_unreadable_one_of_the_same_check_is_changed() {
    let mut store = Memory::default();
    insert(&mut store, 1).unwrap();
    let key = store.keys.keys().next().unwrap().clone();
    let bad = [&51u32.to_le_bytes()[..], &[FORMAT], &record(1).key.bytes(), b"{} "].concat();
    store.keys.get_mut(&key).unwrap().value.splice(1..1, bad);
    let mut bucket = ledger().bucket(&record(1).key);
    bucket.read(&mut store).unwrap();
    assert_eq!(bucket.find(&record(1).key), Some(&record(1)));
    let found = update(&mut store, &record(1).key, |found| Change::Keep(found.cloned()));
    assert_eq!(found, Ok(Some(record(1))), "what is read is what is changed");
}

#[test]
fn what_was_accepted_may_grow_in_a_full_bucket() {
    let mut store = Memory::default();
    let numbers = in_one_bucket(MAX_PENDING);
    let with = |number: u32, bytes: usize| {
        let mut record = record(number);
        record.make_large(bytes);
        record
    };
    for number in &numbers {
        put(&mut store, &with(*number, MAX_RECORD / 2)).unwrap();
    }
    for number in &numbers[..8] {
        assert_eq!(put(&mut store, &with(*number, MAX_RECORD + 1000)), Ok(()), "{number}");
    }
    assert_eq!(put(&mut store, &with(numbers[0], MAX_GROWN)), Err(LedgerError::TooLarge));
}

#[test]
fn no_bucket_is_full_of_bytes_and_none_grows_without_end() {
    let mut store = Memory::default();
    let numbers = in_one_bucket(MAX_PENDING + 1);
    for number in &numbers[..MAX_PENDING] {
        let mut large = record(*number);
        large.make_large(8 << 10);
        assert_eq!(put(&mut store, &large), Ok(()), "{number}");
    }
    assert_eq!(insert(&mut store, numbers[MAX_PENDING]), Err(LedgerError::Full));
    let mut large = record(1);
    large.make_large(MAX_RECORD);
    assert_eq!(put(&mut store, &large), Err(LedgerError::TooLarge));
}

#[test]
fn a_new_check_takes_the_place_of_the_one_that_has_been_done_the_longest() {
    let mut store = Memory::default();
    let numbers = in_one_bucket(2 * MAX_RECORDS + 2);
    let (finished, new) = numbers.split_at(MAX_RECORDS);
    for (second, number) in (0..).zip(finished) {
        put(&mut store, &done(*number, (second + 10) % 64)).unwrap();
    }
    for (count, number) in (1..).zip(new) {
        assert_eq!(insert(&mut store, *number), Ok(()), "{count}");
        let mut bucket = ledger().buckets().swap_remove(7);
        bucket.read(&mut store).unwrap();
        let is_done = |record: &&Record| matches!(record.state, State::Done(_));
        let left: Vec<u64> = bucket
            .records()
            .filter(is_done)
            .filter_map(|record| match &record.state {
                State::Done(done) => Some(done.at.mono.0 / 1_000),
                State::Pending(_) => None,
            })
            .collect();
        assert_eq!(left.len(), MAX_RECORDS.saturating_sub(count));
        assert!(left.iter().all(|second| usize::try_from(*second).unwrap() >= count), "{left:?}");
    }
}
