//! `POST /v1/events`: Testkube's webhook says "look now" for a tag. A hint brings the next look forward and decides
//! nothing. Only the execution's tags are read from the body.

use crate::config::Allow;
use crate::config::Config;
use crate::store::hints;
use crate::store::ledger::Store;
use crate::surface::accept::{CallerId, Headers, caller, header};
use crate::surface::problem::Reply;
use crate::time::Now;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Maximum body, in bytes. Testkube sends the whole execution, with its workflow's definition twice.
pub const MAX_BODY: usize = 1 << 20;

/// Reads the headers of an event: who sends it, and whether its body can be read.
///
/// # Errors
/// The answer, if the body is not needed for it.
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
    match (length.is_some_and(|n: usize| n > MAX_BODY), config.read_body) {
        (true, _) => Err(too_large()),
        (false, false) => Err(body_unread()),
        (false, true) => Ok(sender),
    }
}

/// Takes an event. `true` if it is a new hint, so that the leader must be woken.
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
        hints::add(store, prefix, now.mono, hints::fingerprint(&value)).unwrap_or_else(|status| {
            log::error!("shared data failed with status {}: a hint is lost", status.0);
            false
        })
    });
    (answer(taken), taken)
}

/// The answer to a body over [`MAX_BODY`].
pub fn too_large() -> Reply {
    let detail = format!("An event's body may have at most {} MiB.", MAX_BODY >> 20);
    Reply::problem(413, "The body is too large", &detail)
}

/// The answer to an event whose body this Envoy does not hand over.
pub fn body_unread() -> Reply {
    Reply::problem(
        422,
        "This Envoy does not read bodies",
        "An event's tags are in its body: let Envoy hand bodies over, with `allow_on_headers_stop_iteration: true` on the filter and `\"read_body\": true` in the plugin's configuration. Checks are decided without events too, but later.",
    )
}

fn answer(taken: bool) -> Reply {
    let status = if taken { "taken" } else { "ignored" };
    Reply::json(202, &json!({ "status": status }))
}

/// The value of the checks' tag on the execution of this event.
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
    let event: Event = crate::json::read(body).ok()?;
    let (key, tags) = (&config.tag.key, event.execution.tags);
    // Testkube stores keys with full-width dots.
    tags.get(key).or_else(|| tags.get(&key.replace('.', "\u{ff0e}"))).cloned()
}

#[cfg(test)]
mod tests;
