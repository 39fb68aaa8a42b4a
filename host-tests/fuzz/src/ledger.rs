//! The ledger's buckets and the lease: bytes in shared data, which another version may have written.
//!
//! An input's first line says what the rest is. `bucket`: a bucket's value as it is. `slots`: a record a line, as its
//! format (a digit) and JSON of its state, all under the same check's key, or under others where a `+` stands before.
//! `lease`: the lease's value.

use crate::answers::line;
use crate::leader::Leader;
use crate::logs;
use crate::setting::{ID, PREFIX, config, ledger, pending, record_of};
use crate::store::Memory;
use std::time::Duration;
use testrelay::check::{CheckKey, Record, State};
use testrelay::guid::Guid;
use testrelay::lead::lease::{Contender, Role, lease};
use testrelay::store::ledger::{Bucket, Change, LedgerError, Store};
use testrelay::time::{Mono, Now, Wall};

const FORMAT: u8 = 1;
const HEADER: usize = 5;
const KEY: usize = 48;

/// Runs one input.
pub fn run(input: &[u8]) {
    let (kind, rest) = line(input);
    logs::during(|| match kind {
        b"bucket" => bucket(rest),
        b"slots" => bucket(&value_of(rest)),
        b"lease" => lease_of(rest),
        _ => {}
    });
}

/// The key of the check that the target changes.
fn own_key() -> CheckKey {
    let id = Guid::parse(ID).expect("a GUID");
    CheckKey { plan: id, job: id, task: id }
}

/// The bucket that a `slots` input describes.
fn value_of(lines: &[u8]) -> Vec<u8> {
    let mut value = vec![1];
    for (n, line) in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let is_other = line.first() == Some(&b'+');
        let line = line.get(usize::from(is_other)..).unwrap_or_default();
        let format = line.first().map_or(FORMAT, |digit| digit.wrapping_sub(b'0'));
        let json = line.get(1..).unwrap_or_default();
        let mut key = own_key().bytes();
        if is_other {
            key[0] = key[0].wrapping_add(u8::try_from(n % 250).unwrap_or_default() + 1);
        }
        let length = u32::try_from(KEY + json.len()).expect("a short line");
        value.extend([&length.to_le_bytes()[..], &[format], &key, json].concat());
    }
    value
}

fn bucket(value: &[u8]) {
    let key = own_key();
    let name = format!("{PREFIX}checks/{:03}", ledger().bucket_of(&key));
    let mut store = Memory::default();
    store.set(&name, value);
    let before = read(&mut store);
    for record in before.records() {
        assert_round_trip(record);
    }
    let other_slots: Vec<&[u8]> = slots(value).into_iter().filter(|slot| !is_own(slot, &key)).collect();
    let others = other_slots.concat();
    // In a full bucket a new check takes the place of one that is done.
    let without_one = |gone: usize| {
        let left = other_slots.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, slot)| *slot);
        left.collect::<Vec<_>>().concat()
    };
    let may_displace = other_slots.len() >= 64;
    let is_kept = |store: &Memory| {
        let left = store.value(&name);
        left.ends_with(&others)
            || (may_displace
                && (0..other_slots.len())
                    .any(|at| is_done(other_slots[at]) && left.ends_with(&without_one(at))))
    };

    let new = Record { key, state: State::Pending(Box::new(pending(|_| {}, None))) };
    let mut changed = store.clone();
    let put = ledger().bucket(&key).update(&mut changed, &key, |_| Change::Put(Box::new(new.clone()), ()));
    match put {
        Ok(()) => {
            assert_eq!(record_of(&mut changed, &key), Some(new));
            let slot = store_slot_length(changed.value(&name), &others);
            assert!(
                is_kept(&changed) && (may_displace || slot > HEADER + KEY),
                "what others wrote is not as it was"
            );
        }
        Err(e) => {
            assert_eq!((e, &changed), (LedgerError::Full, &store));
        }
    }
    let mut removed = store.clone();
    let result = ledger().bucket(&key).update(&mut removed, &key, |_| Change::Remove(()));
    if result.is_ok() {
        assert_eq!(record_of(&mut removed, &key), None);
        assert_eq!(removed.value(&name).get(1..), Some(&others[..]), "what others wrote is not as it was");
    }
    let kept = ledger().bucket(&key).update(&mut store.clone(), &key, |found| Change::Keep(found.cloned()));
    assert!(kept.is_ok());
    lead_over(store, &name, value);
}

/// What a leader does with records that it did not write itself: it may not fall over them, and leaves other formats alone.
fn lead_over(store: Memory, name: &str, value: &[u8]) {
    let foreign =
        slots(value).into_iter().filter(|slot| slot.get(4) != Some(&FORMAT)).collect::<Vec<_>>().concat();
    let mut leader = Leader::over_foreign(config(""), store);
    for _ in 0..3 {
        leader.tick(Duration::from_secs(700));
        while let Some((id, _)) = leader.next_call() {
            leader.answer(id, &crate::answers::ok(r#"{"id":1,"filtered":{"results":0},"results":[]}"#));
        }
    }
    let left = leader.store.value(name);
    let left =
        slots(left).into_iter().filter(|slot| slot.get(4) != Some(&FORMAT)).collect::<Vec<_>>().concat();
    assert_eq!(left, foreign, "what others wrote is not as it was");
}

fn assert_round_trip(record: &Record) {
    let mut store = Memory::default();
    let put = ledger()
        .bucket(&record.key)
        .update(&mut store, &record.key, |_| Change::Put(Box::new(record.clone()), ()));
    match put {
        Ok(()) => assert_eq!(record_of(&mut store, &record.key).as_ref(), Some(record)),
        Err(e) => assert_eq!((e, &store), (LedgerError::TooLarge, &Memory::default())),
    }
}

fn read(store: &mut Memory) -> Bucket {
    let mut all = ledger().buckets();
    let mut bucket = all.swap_remove(usize::from(ledger().bucket_of(&own_key())));
    bucket.read(store).expect("the store answers");
    bucket
}

/// The slots of a bucket, read a second time by other code: the remainder that is no slot is the last one.
fn slots(value: &[u8]) -> Vec<&[u8]> {
    let mut slots = Vec::new();
    let mut rest = value.get(1..).unwrap_or_default();
    while !rest.is_empty() {
        let length = match rest {
            [a, b, c, d, ..] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + HEADER as u64,
            _ => u64::MAX,
        };
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        slots.push(&rest[..end]);
        rest = &rest[end..];
    }
    slots
}

fn is_own(slot: &[u8], key: &CheckKey) -> bool {
    slot.get(4) == Some(&FORMAT) && slot.get(HEADER..HEADER + KEY) == Some(&key.bytes()[..])
}

/// Whether a slot holds a check that is done, in the format of this version.
fn is_done(slot: &[u8]) -> bool {
    let json = slot.get(HEADER + KEY..).unwrap_or_default();
    slot.get(4) == Some(&FORMAT) && matches!(serde_json::from_slice(json), Ok(State::Done(_)))
}

/// The bytes that a bucket has before what others wrote, less its first.
fn store_slot_length(value: &[u8], others: &[u8]) -> usize {
    value.len().saturating_sub(others.len()).saturating_sub(1)
}

fn lease_of(value: &[u8]) {
    let mut store = Memory::default();
    let key = format!("{PREFIX}leader");
    store.set(&key, value);
    let found = lease(&mut store, PREFIX).expect("the store answers");
    store.set(&key, &found.to_bytes());
    assert_eq!(lease(&mut store, PREFIX), Ok(found.clone()), "a lease comes back from its bytes");
    store.set(&key, value);
    let mut contender = Contender::new(PREFIX, 7, 8, Mono(0));
    let mut tick = |after| {
        let now = Now { mono: Mono(found.until.0.saturating_add(after)), wall: Wall(0) };
        contender.tick(&mut store, now, Some(3)).expect("the store answers")
    };
    // What is no lease of this version may be one of another, until it has stood there for as long as one lasts.
    if tick(0) == Role::Follower {
        let role = tick(15_000);
        assert!(matches!(role, Role::Leader { .. }), "a lease that has ended can be taken");
    }
    let taken = lease(&mut store, PREFIX).expect("the store answers");
    assert_eq!((taken.holder, taken.pending, taken.configuration), (7, 3, 8));
    assert!(store.get(&key).is_ok_and(|entry| entry.is_some()));
}
