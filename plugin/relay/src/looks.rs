//! What Testkube last said about a tag, for whoever asks about it soon after: evaluations share the look-ups of pending
//! checks, and each other's. What an earlier look has seen and a later one has not is remembered with it: who deletes an
//! execution that has failed does not open a gate by that.
//!
//! The looks stand in shared data under a fixed number of keys for each credential, of which the tag's hash names one: two
//! tags with one key put each other out. Nobody puts out what another credential rests on, however many tags he names. The
//! leader keeps its own only while somebody evaluates, for the credentials of the checks that wait.

use crate::hash::fnv1a;
use crate::ledger::{Store, StoreError};
use crate::tag::Tag;
use crate::testkube::{self, Execution};
use crate::time::{Mono, Now, Wall};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a look is as good as a new one for the answer "pending". Who asks every few minutes hears of the end so many
/// seconds later, as a pending check does between two polls.
const FRESH: Duration = Duration::from_secs(20);
/// How long after an evaluation the leader goes on to keep its looks.
const WANTED: Duration = Duration::from_secs(600);
/// An evaluation says so at most so often.
const SAID: Duration = Duration::from_secs(60);

/// For each credential.
const SLOTS: u64 = 16;
/// The longest look that is kept, in bytes.
const MOST: usize = 16 << 10;

/// How many executions are remembered that are gone.
const MOST_LOST: usize = 20;

/// What stands on the first line of a look; on the second the executions, on the third those that are gone.
#[derive(Serialize, Deserialize)]
struct Head {
    tag: Tag,
    at: Mono,
    /// Executions scheduled before this were not asked for.
    since: Wall,
}

/// A complete look at one tag.
pub(crate) struct Look {
    head: Head,
    pub(crate) executions: Vec<Execution>,
    /// Executions that earlier looks have seen, and this one has not.
    pub(crate) lost: Vec<Execution>,
}

impl Look {
    fn from_bytes(bytes: &[u8]) -> Option<Look> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        Some(Look {
            head: serde_json::from_slice(lines.next()?).ok()?,
            executions: testkube::from_json(lines.next()?)?,
            lost: testkube::from_json(lines.next()?)?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let key = &self.head.tag.key;
        let head = serde_json::to_string(&self.head).unwrap_or_default();
        let [executions, lost] = [&self.executions, &self.lost].map(|all| testkube::to_json(all, key));
        format!("{head}\n{executions}\n{lost}").into_bytes()
    }

    /// How old it is; `None` where it is too old, or has not asked as far back as `since`, for an answer to rest on it.
    pub(crate) fn age(&self, now: Now, since: Wall) -> Option<Duration> {
        let age = now.mono.since(self.head.at);
        (self.head.since <= since && age < FRESH).then_some(age)
    }
}

/// The last look at this tag that was kept for this credential.
pub(crate) fn recall(store: &mut dyn Store, prefix: &str, credential: &str, tag: &Tag) -> Option<Look> {
    let entry = store.get(&key_of(prefix, credential, tag)).ok()??;
    Look::from_bytes(&entry.value).filter(|look| look.head.tag == *tag)
}

/// Keeps what a complete look has found of this tag since `since`, and remembers what is gone since the last one. A look that
/// is too long is not kept, and asked for again.
pub(crate) fn keep(
    store: &mut dyn Store,
    prefix: &str,
    credential: &str,
    now: Now,
    tag: &Tag,
    since: Wall,
    executions: &[Execution],
) -> Look {
    let found: Vec<Execution> =
        executions.iter().filter(|execution| execution.carries(tag)).cloned().collect();
    let is_lost = |execution: &Execution| {
        execution.scheduled >= since && !found.iter().any(|other| other.id == execution.id)
    };
    let before = recall(store, prefix, credential, tag);
    let seen = before.into_iter().flat_map(|look| look.lost.into_iter().chain(look.executions));
    let lost = seen.filter(is_lost).take(MOST_LOST).collect();
    let look = Look { head: Head { tag: tag.clone(), at: now.mono, since }, executions: found, lost };
    let value = look.to_bytes();
    if value.len() <= MOST {
        write(store, &key_of(prefix, credential, tag), &value);
    }
    look
}

/// Somebody evaluates: for some time the leader's looks are wanted.
pub(crate) fn want(store: &mut dyn Store, prefix: &str, now: Now) {
    if !is_asked_since(store, prefix, now, SAID) {
        write(store, &asked_key(prefix), now.mono.0.to_string().as_bytes());
    }
}

/// Whether somebody has evaluated lately.
pub(crate) fn are_wanted(store: &mut dyn Store, prefix: &str, now: Now) -> bool {
    is_asked_since(store, prefix, now, WANTED)
}

fn is_asked_since(store: &mut dyn Store, prefix: &str, now: Now, time: Duration) -> bool {
    let entry = store.get(&asked_key(prefix)).ok().flatten();
    let at = entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
    at.is_some_and(|at| now.mono.since(Mono(at)) < time)
}

/// Writes a key, unless somebody else is faster: that one knows as much.
fn write(store: &mut dyn Store, key: &str, value: &[u8]) {
    let mut swap = || -> Result<bool, StoreError> {
        let seen = store.get(key)?.map(|entry| entry.cas);
        store.swap(key, seen, value)
    };
    if let Err(status) = swap() {
        log::error!("shared data failed with status {}: a look at Testkube is not shared", status.0);
    }
}

fn asked_key(prefix: &str) -> String {
    format!("{prefix}evaluated")
}

fn key_of(prefix: &str, credential: &str, tag: &Tag) -> String {
    format!("{prefix}look/{credential}/{:02}", fnv1a(tag.to_string().as_bytes()) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;

    const LIST: &str = include_str!("testkube/fixtures/list-4-done-totals-wrong.json");

    fn tag(value: &str) -> Tag {
        Tag { key: "ado-run".into(), value: value.into() }
    }

    fn listed() -> Vec<Execution> {
        let list: serde_json::Value = serde_json::from_str(LIST).unwrap();
        testkube::from_json(list["results"].to_string().as_bytes()).unwrap()
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(1_000 * seconds), wall: Wall(0) }
    }

    #[test]
    fn a_look_comes_back_with_all_that_a_verdict_needs() {
        let mut store = Memory::default();
        let (tag, all) = (tag("20260123.4"), listed());
        keep(&mut store, "p/", "ado", at(10), &tag, Wall(5), &all);
        let look = recall(&mut store, "p/", "ado", &tag).unwrap();
        assert_eq!(look.age(at(14), Wall(5)), Some(Duration::from_secs(4)));
        let reduced: Vec<Execution> = all
            .into_iter()
            .map(|execution| Execution { took: None, began: false, stopping_since: None, ..execution })
            .collect();
        assert_eq!(look.executions, reduced);
    }

    #[test]
    fn a_look_that_is_old_or_at_something_else_is_none() {
        let mut store = Memory::default();
        keep(&mut store, "p/", "ado", at(10), &tag("20260123.4"), Wall(5), &listed());
        let look = recall(&mut store, "p/", "ado", &tag("20260123.4")).unwrap();
        let is_good = |seconds, since| look.age(at(seconds), Wall(since)).is_some();
        assert!(is_good(29, 9));
        assert!(!is_good(30, 9));
        assert!(!is_good(10, 4), "what came before was not asked for");
        for other in 0..100 {
            assert!(recall(&mut store, "p/", "ado", &tag(&format!("shop-{other}"))).is_none());
        }
    }

    #[test]
    fn what_is_gone_is_remembered_until_it_is_back_or_not_asked_for() {
        let mut store = Memory::default();
        let (tag, all) = (tag("20260123.4"), listed());
        let mut look = |since, executions: &[Execution]| -> Vec<String> {
            let look = keep(&mut store, "p/", "ado", at(10), &tag, since, executions);
            look.lost.into_iter().map(|execution| execution.name).collect()
        };
        assert!(look(Wall(5), &all).is_empty());
        for _ in 0..3 {
            assert_eq!(look(Wall(5), &all[1..]), [all[0].name.clone()]);
        }
        assert!(look(Wall(5), &all).is_empty());
        assert!(look(all[0].scheduled.plus(Duration::from_millis(1)), &all[1..]).is_empty());
    }

    #[test]
    fn a_long_list_is_not_kept_and_the_keys_are_few() {
        let mut store = Memory::default();
        let many: Vec<Execution> = listed().into_iter().cycle().take(400).collect();
        keep(&mut store, "p/", "ado", at(10), &tag("20260123.4"), Wall(5), &many);
        assert!(recall(&mut store, "p/", "ado", &tag("20260123.4")).is_none());
        for n in 0..1_000 {
            keep(&mut store, "p/", "ado", at(10), &tag(&n.to_string()), Wall(5), &[]);
        }
        assert!(store.keys.len() <= 16, "{}", store.keys.len());
    }

    #[test]
    fn another_credential_puts_out_nothing_however_many_tags_it_names() {
        let mut store = Memory::default();
        let (tag_of_run, all) = (tag("20260123.4"), listed());
        keep(&mut store, "p/", "ado", at(10), &tag_of_run, Wall(5), &all);
        for n in 0..500 {
            keep(&mut store, "p/", "other", at(10), &tag(&n.to_string()), Wall(5), &all);
        }
        // Nor by the same tag, of which it has seen something else.
        keep(&mut store, "p/", "other", at(11), &tag_of_run, Wall(5), &[]);
        assert_eq!(recall(&mut store, "p/", "ado", &tag_of_run).unwrap().executions.len(), all.len());
        let look = keep(&mut store, "p/", "ado", at(12), &tag_of_run, Wall(5), &all[1..]);
        assert_eq!(look.lost.len(), 1);
    }

    #[test]
    fn looks_are_wanted_for_ten_minutes_after_an_evaluation() {
        let mut store = Memory::default();
        assert!(!are_wanted(&mut store, "p/", at(10)));
        want(&mut store, "p/", at(10));
        assert!(are_wanted(&mut store, "p/", at(609)) && !are_wanted(&mut store, "p/", at(610)));
        want(&mut store, "p/", at(69));
        assert!(!are_wanted(&mut store, "p/", at(610)), "it was said a moment ago");
        want(&mut store, "p/", at(70));
        assert!(are_wanted(&mut store, "p/", at(669)));
    }
}
