//! `POST /v1/events`: Testkube's webhook says "look now" for a tag. A hint brings the next look forward and decides nothing.
//!
//! The last hints stand under one key in shared data, each with its time. Whoever takes one sees there how many came within
//! the last second; the leader reads those that it does not know. Of the body only the execution's tags are read.

use crate::accept::{CallerId, Headers, caller, header};
use crate::auth::Allow;
use crate::config::Config;
use crate::hash::fnv1a;
use crate::ledger::{Cas, Store, StoreError};
use crate::problem::Reply;
use crate::time::{Mono, Now};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// The largest body that is read. Testkube sends the whole execution, its workflow's definition twice.
pub const MOST_BODY: usize = 1 << 20;

const MOST_A_SECOND: usize = 10;
const SECOND: Duration = Duration::from_secs(1);
/// More than arrive between two ticks.
const KEPT: usize = 32;
const TRIES: u32 = 10;

/// Looks at the headers of an event: who sends it, and whether its body can be read.
///
/// # Errors
/// The answer, where the body is not needed for it.
pub fn admit<B: AsRef<[u8]>>(
    config: &Config,
    headers: &Headers<B>,
    has_body: bool,
) -> Result<CallerId, Reply> {
    let sender = CallerId::of(config, caller(config, headers, Allow::Events)?);
    if !has_body {
        return Err(answer(false));
    }
    let length = header(headers, b"content-length").and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    match (length.is_some_and(|n: usize| n > MOST_BODY), config.read_body) {
        (true, _) => Err(too_large()),
        (false, false) => Err(body_unread()),
        (false, true) => Ok(sender),
    }
}

/// Takes an event. `true`: it is a hint that nobody has seen yet, so the leader is to be woken.
pub fn take<B: AsRef<[u8]>>(
    config: &Config,
    prefix: &str,
    store: &mut dyn Store,
    now: Now,
    headers: &Headers<B>,
    body: &[u8],
) -> (Reply, bool) {
    let caller = match caller(config, headers, Allow::Events) {
        Ok(caller) => caller,
        Err(refusal) => return (refusal, false),
    };
    let value = tag_of(config, body).filter(|value| {
        caller.is_none_or(|c| c.tags.is_empty() || c.tags.iter().any(|tag| crate::tag::fits(tag, value)))
    });
    let taken = value.is_some_and(|value| {
        add(store, prefix, now.mono, print(&value)).unwrap_or_else(|status| {
            log::error!("shared data failed with status {}: a hint is lost", status.0);
            false
        })
    });
    (answer(taken), taken)
}

/// The answer to a body over [`MOST_BODY`].
pub fn too_large() -> Reply {
    let detail = format!("An event's body may have at most {} MiB.", MOST_BODY >> 20);
    Reply::problem(413, "The body is too large", &detail)
}

/// The answer to an event whose body this Envoy does not hand over.
pub fn body_unread() -> Reply {
    Reply::problem(
        422,
        "This Envoy does not read bodies",
        "An event's tags stand in its body: let Envoy hand bodies over, with `allow_on_headers_stop_iteration: true` on the filter and `\"read_body\": true` in the plugin's configuration. Checks are decided without events too, only later.",
    )
}

fn answer(taken: bool) -> Reply {
    let status = if taken { "taken" } else { "ignored" };
    Reply::json(202, &json!({ "status": status }))
}

/// The value of the tag that checks wait for, of the execution that an event is about.
fn tag_of(config: &Config, body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "testWorkflowExecution")]
        execution: Tagged,
    }
    #[derive(Deserialize)]
    struct Tagged {
        tags: BTreeMap<String, String>,
    }
    let event: Event = serde_json::from_slice(body).ok()?;
    let (key, mut tags) = (&config.tag.key, event.execution.tags);
    // Testkube stores keys with full-width dots.
    tags.remove(key).or_else(|| tags.remove(&key.replace('.', "\u{ff0e}")))
}

/// A tag's value as it stands among the hints.
pub(crate) fn print(value: &str) -> u64 {
    fnv1a(value.as_bytes())
}

/// Adds a hint. False: there were too many within a second.
fn add(store: &mut dyn Store, prefix: &str, now: Mono, tag: u64) -> Result<bool, StoreError> {
    let key = key(prefix);
    for _ in 0..TRIES {
        let found = store.get(&key)?;
        let mut hints = found.as_ref().and_then(|entry| Hints::from_bytes(&entry.value)).unwrap_or_default();
        if !hints.has_room(now) {
            return Ok(false);
        }
        hints.add(tag, now);
        if store.swap(&key, found.map(|entry| entry.cas), &hints.to_bytes())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key(prefix: &str) -> String {
    format!("{prefix}hints")
}

/// What a leader has seen of the hints.
pub struct Inbox {
    key: String,
    cas: Option<Cas>,
    count: u64,
}

impl Inbox {
    /// Nothing has been seen.
    pub fn new(prefix: &str) -> Inbox {
        Inbox { key: key(prefix), cas: None, count: 0 }
    }

    /// The tags of the hints that are new, as [`print`] has them.
    pub(crate) fn news(&mut self, store: &mut dyn Store) -> Vec<u64> {
        let Ok(Some(entry)) = store.get(&self.key) else { return Vec::new() };
        if self.cas.replace(entry.cas) == Some(entry.cas) {
            return Vec::new();
        }
        let Some(hints) = Hints::from_bytes(&entry.value) else { return Vec::new() };
        let new = hints.count.wrapping_sub(std::mem::replace(&mut self.count, hints.count));
        let seen = hints.last.len().saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
        hints.last.iter().skip(seen).map(|(tag, _)| *tag).collect()
    }
}

/// The last hints, as they stand in shared data: a byte for the layout's version, how many there were in all, then tag and
/// time of each, the oldest first; numbers of eight bytes, little-endian.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hints {
    count: u64,
    last: Vec<(u64, Mono)>,
}

const LAYOUT: u8 = 1;

impl Hints {
    fn has_room(&self, now: Mono) -> bool {
        let before = self.last.len().checked_sub(MOST_A_SECOND).and_then(|at| self.last.get(at));
        before.is_none_or(|(_, at)| now.since(*at) >= SECOND)
    }

    fn add(&mut self, tag: u64, now: Mono) {
        if self.last.len() >= KEPT {
            self.last.remove(0);
        }
        self.last.push((tag, now));
        self.count = self.count.wrapping_add(1);
    }

    fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.last.iter().flat_map(|(tag, at)| [*tag, at.0]);
        let mut bytes = vec![LAYOUT];
        for number in std::iter::once(self.count).chain(numbers) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The inverse; `None` for what another version, or nobody, wrote.
    fn from_bytes(bytes: &[u8]) -> Option<Hints> {
        let (&LAYOUT, rest) = bytes.split_first()? else { return None };
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut hints = Hints { count: numbers.next()?, last: Vec::new() };
        while let Some(tag) = numbers.next() {
            hints.last.push((tag, Mono(numbers.next()?)));
        }
        (hints.last.len() <= KEPT).then_some(hints)
    }
}

#[cfg(test)]
mod tests;
