//! The latest answer of Testkube about a tag, shared for a short time: evaluations use the readings of pending checks
//! and of each other. Executions that had not passed are remembered beside them, and longer ([`unpassed`]).
//!
//! The readings are kept in shared data under a fixed number of keys for each credential. The tag's keyed hash selects
//! the key: two tags with the same key displace each other, which costs a call. No credential displaces what another
//! one relies on, however many tags it names. The leader shares its own readings only while somebody evaluates, for the
//! credentials of the waiting checks.

mod unpassed;

pub(crate) use unpassed::UnpassedMemory;

use crate::store::ledger::{Ledger, Store, StoreError};
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::testkube::{self, Execution};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a kept reading is good enough for the answer "pending". A caller who asks every few minutes learns of the
/// end up to this much later, as a pending check does between two polls.
const FRESH: Duration = Duration::from_secs(20);
/// How long after an evaluation the leader goes on sharing its readings.
const WANTED: Duration = Duration::from_secs(600);
/// How often evaluations note that they happen.
const SAID: Duration = Duration::from_secs(60);

/// Keys for each credential.
const SLOTS: u64 = 16;
/// Maximum size of a kept reading, in bytes.
const MAX_LOOK: usize = 16 << 10;

/// The first line of a kept reading; the second holds the executions.
#[derive(Serialize, Deserialize)]
struct Head {
    tag: Tag,
    at: Mono,
    /// The time before which scheduled executions were not asked for.
    since: Wall,
}

/// A complete reading of one tag.
pub(crate) struct KeptReading {
    head: Head,
    pub(crate) executions: Vec<Execution>,
}

impl KeptReading {
    fn from_bytes(bytes: &[u8]) -> Option<KeptReading> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        Some(KeptReading {
            head: crate::json::read(lines.next()?).ok()?,
            executions: testkube::from_json(lines.next()?)?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let key = &self.head.tag.key;
        let head = crate::json::text(&self.head);
        let executions = testkube::to_json(&self.executions, key);
        format!("{head}\n{executions}").into_bytes()
    }

    /// Its age; `None` if it is too old for an answer to rest on it, or does not reach back to `since`.
    pub(crate) fn age(&self, now: Now, since: Wall) -> Option<Duration> {
        let age = now.mono.since(self.head.at);
        (self.head.since <= since && age < FRESH).then_some(age)
    }
}

/// The last reading of this tag that was kept for this credential.
pub(crate) fn recall(
    store: &mut dyn Store,
    ledger: &Ledger,
    credential: &str,
    tag: &Tag,
) -> Option<KeptReading> {
    let entry = store.get(&key_of(ledger, credential, tag)).ok()??;
    KeptReading::from_bytes(&entry.value).filter(|look| look.head.tag == *tag)
}

/// Keeps a complete reading of this tag since `since`, and remembers its executions that have not passed. A reading
/// that is too large is not kept and is made again.
pub(crate) fn keep(
    store: &mut dyn Store,
    ledger: &Ledger,
    credential: &str,
    now: Now,
    tag: &Tag,
    since: Wall,
    executions: &[Execution],
) -> (KeptReading, UnpassedMemory) {
    let found: Vec<Execution> =
        executions.iter().filter(|execution| execution.carries(tag)).cloned().collect();
    let memory = unpassed::remember(store, ledger, credential, now, tag, since, &found);
    let look = KeptReading { head: Head { tag: tag.clone(), at: now.mono, since }, executions: found };
    let value = look.to_bytes();
    if value.len() <= MAX_LOOK {
        write(store, &key_of(ledger, credential, tag), &value);
    }
    (look, memory)
}

/// Notes that somebody evaluates, so that the leader shares its readings for some time.
pub(crate) fn want(store: &mut dyn Store, prefix: &str, now: Now) {
    if !is_asked_since(store, prefix, now, SAID) {
        write(store, &asked_key(prefix), now.mono.0.to_string().as_bytes());
    }
}

/// Whether somebody has evaluated recently.
pub(crate) fn are_wanted(store: &mut dyn Store, prefix: &str, now: Now) -> bool {
    is_asked_since(store, prefix, now, WANTED)
}

fn is_asked_since(store: &mut dyn Store, prefix: &str, now: Now, time: Duration) -> bool {
    let entry = store.get(&asked_key(prefix)).ok().flatten();
    let at = entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
    at.is_some_and(|at| now.mono.since(Mono(at)) < time)
}

/// Writes a key, unless another context writes first: that one knows as much.
pub(super) fn write(store: &mut dyn Store, key: &str, value: &[u8]) {
    let mut swap = || -> Result<bool, StoreError> {
        let seen = store.get(key)?.map(|entry| entry.cas);
        store.swap(key, seen, value)
    };
    if let Err(status) = swap() {
        log::error!("shared data failed with status {}: what was seen is not shared", status.0);
    }
}

fn asked_key(prefix: &str) -> String {
    format!("{prefix}evaluated")
}

fn key_of(ledger: &Ledger, credential: &str, tag: &Tag) -> String {
    let slot = ledger.keyed("look", &[&tag.key, &tag.value]) % SLOTS;
    format!("{}look/{credential}/{slot:02}", ledger.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rerun;
    use crate::store::ledger::{Cas, Entry, memory};
    use std::collections::BTreeMap;

    const LIST: &str = testkube_fixture!("list-4-done-totals-wrong");

    fn tag(value: &str) -> Tag {
        Tag { key: "ado-run".into(), value: value.into() }
    }

    fn listed() -> Vec<Execution> {
        let list: serde_json::Value = serde_json::from_str(LIST).unwrap();
        testkube::from_json(list["results"].to_string().as_bytes()).unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::with_key("p/", b"a-key-of-16-byte")
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(1_000 * seconds), wall: Wall(0) }
    }

    #[test]
    fn a_look_comes_back_with_all_that_a_verdict_needs() {
        let mut store = memory::Memory::default();
        let (tag, all) = (tag("20260123.4"), listed());
        keep(&mut store, &ledger(), "ado", at(10), &tag, Wall(5), &all);
        let look = recall(&mut store, &ledger(), "ado", &tag).unwrap();
        assert_eq!(look.age(at(14), Wall(5)), Some(Duration::from_secs(4)));
        let reduced: Vec<Execution> = all
            .into_iter()
            .map(|execution| Execution { took: None, began: false, stopping_since: None, ..execution })
            .collect();
        assert_eq!(look.executions, reduced);
    }

    #[test]
    fn an_old_look_or_one_at_another_tag_is_not_used() {
        let mut store = memory::Memory::default();
        keep(&mut store, &ledger(), "ado", at(10), &tag("20260123.4"), Wall(5), &listed());
        let look = recall(&mut store, &ledger(), "ado", &tag("20260123.4")).unwrap();
        let is_good = |seconds, since| look.age(at(seconds), Wall(since)).is_some();
        assert!(is_good(29, 9));
        assert!(!is_good(30, 9));
        assert!(!is_good(10, 4), "what came before was not asked for");
        for other in 0..100 {
            assert!(recall(&mut store, &ledger(), "ado", &tag(&format!("shop-{other}"))).is_none());
        }
    }

    /// `count` executions of one tag: the first has failed, the others have passed.
    fn one_failed(count: usize) -> Vec<Execution> {
        let first = listed().remove(0);
        let one = |n: usize| Execution {
            id: format!("{n:024x}"),
            name: format!("shop-e2e-{n}"),
            status: if n == 0 { testkube::Status::Failed } else { testkube::Status::Passed },
            ended: true,
            actor: testkube::Actor { kind: "user".into(), ..testkube::Actor::default() },
            ..first.clone()
        };
        (0..count).map(one).collect()
    }

    fn lost(memory: &UnpassedMemory) -> Vec<&str> {
        memory.lost(Rerun::Latest).collect()
    }

    #[test]
    fn what_has_not_passed_and_is_gone_is_remembered_until_it_is_back_or_not_asked_for() {
        let mut store = memory::Memory::default();
        let (tag, all) = (tag("20260123.4"), one_failed(3));
        let mut look = |seconds, since, executions: &[Execution]| {
            let (_, memory) = keep(&mut store, &ledger(), "ado", at(seconds), &tag, since, executions);
            assert!(memory.is_whole);
            memory.lost(Rerun::Latest).map(str::to_owned).collect::<Vec<String>>()
        };
        assert!(look(10, Wall(5), &all).is_empty());
        for seconds in [11, 1_000, 86_000] {
            assert_eq!(look(seconds, Wall(5), &all[1..]), ["shop-e2e-0"]);
        }
        assert!(look(86_001, all[0].scheduled.plus(Duration::from_millis(1)), &all[1..]).is_empty());
        assert_eq!(look(86_002, Wall(5), &all[1..]), ["shop-e2e-0"], "another asker asks for less");
        assert!(look(86_410, Wall(5), &all[1..]).is_empty(), "a day after it was seen");
        assert!(look(90_000, Wall(5), &all).is_empty());
        assert_eq!(look(90_001, Wall(5), &all[1..]), ["shop-e2e-0"]);
        let passed: Vec<Execution> =
            all.iter().cloned().map(|e| Execution { status: testkube::Status::Passed, ..e }).collect();
        assert!(look(90_002, Wall(5), &passed).is_empty(), "it is there, and has passed now");
        assert!(look(90_003, Wall(5), &passed[1..]).is_empty());
    }

    #[test]
    fn one_failed_execution_among_many_is_not_forgotten_for_the_length_of_the_list() {
        for count in [2, 120, 199, 400] {
            let mut store = memory::Memory::default();
            let (tag, all) = (tag("20260123.4"), one_failed(count));
            let running: Vec<Execution> = all
                .iter()
                .cloned()
                .map(|e| Execution { ended: false, status: testkube::Status::NotYet("running".into()), ..e })
                .collect();
            let mut look = |executions: &[Execution]| {
                keep(&mut store, &ledger(), "ado", at(10), &tag, Wall(5), executions).1
            };
            look(&all);
            assert_eq!(lost(&look(&all[1..])), ["shop-e2e-0"], "{count}");
            look(&running);
            let memory = look(&all[1..]);
            // More executions than are remembered are not known to be all.
            assert!(lost(&memory) == ["shop-e2e-0"] && memory.is_whole == (count < 200), "{count}");
        }
    }

    #[test]
    fn no_chosen_tag_and_no_number_of_tags_puts_out_what_has_failed() {
        let mut store = memory::Memory::default();
        let (of_run, all) = (tag("20260123.4"), one_failed(3));
        keep(&mut store, &ledger(), "ado", at(10), &of_run, Wall(5), &all);
        // Nor can a holder of the credential displace it, with tags that share its place.
        let slot = |t: &Tag| key_of(&ledger(), "ado", t);
        let chosen = (0..).map(|n| tag(&format!("x-{n}"))).filter(|t| slot(t) == slot(&of_run)).take(20);
        for (n, chosen) in (11..).zip(chosen) {
            let others = one_failed(120);
            let others: Vec<Execution> = others.into_iter().map(|e| carrying(e, &chosen)).collect();
            keep(&mut store, &ledger(), "ado", at(n), &chosen, Wall(5), &others);
        }
        let memory = keep(&mut store, &ledger(), "ado", at(40), &of_run, Wall(5), &all[1..]).1;
        assert!(lost(&memory) == ["shop-e2e-0"] && memory.is_whole);
        // However many executions there are, the place is bounded, fresh ones stay, and what found no room is not
        // known.
        let many: Vec<Execution> = one_failed(200)
            .into_iter()
            .map(|e| Execution { status: testkube::Status::Failed, ..e })
            .collect();
        let mut unknown = 0;
        for n in 0..200 {
            let tag = tag(&format!("y-{n}"));
            let many: Vec<Execution> = many.iter().cloned().map(|e| carrying(e, &tag)).collect();
            keep(&mut store, &ledger(), "ado", at(50), &tag, Wall(5), &many);
            let memory = keep(&mut store, &ledger(), "ado", at(51), &tag, Wall(5), &many[1..]).1;
            assert!(!memory.is_whole || lost(&memory) == ["shop-e2e-0"], "{n}");
            unknown += u32::from(!memory.is_whole);
        }
        assert!((1..200).contains(&unknown), "{unknown}");
        let memory = keep(&mut store, &ledger(), "ado", at(52), &of_run, Wall(5), &all[1..]).1;
        assert_eq!(lost(&memory), ["shop-e2e-0"]);
        let bytes: usize = store.keys.values().map(|entry| entry.value.len()).sum();
        assert!(bytes <= 16 * (64 << 10) + 16 * MAX_LOOK && store.keys.len() <= 32, "{bytes}");
        // A day later there is room again.
        let memory = keep(&mut store, &ledger(), "ado", at(86_460), &tag("z-1"), Wall(5), &[]).1;
        assert!(memory.is_whole);
    }

    #[test]
    fn a_faster_writer_is_not_overwritten_and_a_failing_store_keeps_nothing() {
        fn rival(keys: &mut BTreeMap<String, Entry>, write: u32) {
            for (_, entry) in keys.iter_mut().filter(|(key, _)| write < 3 && key.contains("unpassed")) {
                entry.cas = Cas(1_000 + write);
            }
        }
        let mut store = memory::Memory::default();
        let (tag, all) = (tag("20260123.4"), one_failed(3));
        keep(&mut store, &ledger(), "ado", at(10), &tag, Wall(5), &all);
        store.writes = 0;
        store.rival = Some(rival);
        let memory = keep(&mut store, &ledger(), "ado", at(100), &tag, Wall(5), &all).1;
        assert!(memory.is_whole);
        store.rival = None;
        for key in store.keys.keys().cloned().collect::<Vec<String>>() {
            store.put(&key, b"something else");
        }
        let memory = keep(&mut store, &ledger(), "ado", at(101), &tag, Wall(5), &all[1..]).1;
        assert!(!memory.is_whole && lost(&memory).is_empty());
    }

    fn carrying(execution: Execution, tag: &Tag) -> Execution {
        Execution { tags: [(tag.key.clone(), tag.value.clone())].into(), ..execution }
    }

    #[test]
    fn a_long_list_is_not_kept_and_the_keys_are_few() {
        let mut store = memory::Memory::default();
        let many: Vec<Execution> = listed().into_iter().cycle().take(400).collect();
        keep(&mut store, &ledger(), "ado", at(10), &tag("20260123.4"), Wall(5), &many);
        assert!(recall(&mut store, &ledger(), "ado", &tag("20260123.4")).is_none());
        for n in 0..1_000 {
            keep(&mut store, &ledger(), "ado", at(10), &tag(&n.to_string()), Wall(5), &[]);
        }
        assert!(store.keys.len() <= 32, "{}", store.keys.len());
    }

    #[test]
    fn another_credential_puts_out_nothing_however_many_tags_it_names() {
        let mut store = memory::Memory::default();
        let (tag_of_run, all) = (tag("20260123.4"), one_failed(3));
        keep(&mut store, &ledger(), "ado", at(10), &tag_of_run, Wall(5), &all);
        for n in 0..500 {
            keep(&mut store, &ledger(), "other", at(10), &tag(&n.to_string()), Wall(5), &all);
        }
        // Nor with the same tag, of which it has seen something else.
        keep(&mut store, &ledger(), "other", at(11), &tag_of_run, Wall(5), &[]);
        assert_eq!(recall(&mut store, &ledger(), "ado", &tag_of_run).unwrap().executions.len(), all.len());
        let memory = keep(&mut store, &ledger(), "ado", at(12), &tag_of_run, Wall(5), &all[1..]).1;
        assert_eq!(lost(&memory).len(), 1);
    }

    #[test]
    fn looks_are_wanted_for_ten_minutes_after_an_evaluation() {
        let mut store = memory::Memory::default();
        assert!(!are_wanted(&mut store, "p/", at(10)));
        want(&mut store, "p/", at(10));
        assert!(are_wanted(&mut store, "p/", at(609)) && !are_wanted(&mut store, "p/", at(610)));
        want(&mut store, "p/", at(69));
        assert!(!are_wanted(&mut store, "p/", at(610)), "it was said a moment ago");
        want(&mut store, "p/", at(70));
        assert!(are_wanted(&mut store, "p/", at(669)));
    }
}
