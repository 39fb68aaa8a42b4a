//! `GET /v1/checks` and `/v1/checks/{id}`: pending and recently decided checks. Never a token.

use crate::check::{CheckKey, Done, Outcome, Pending, Phase, Record, State};
use crate::config::Config;
use crate::config::{Allow, Credential};
use crate::store::ledger::{Ledger, Store};
use crate::surface::accept::{Headers, caller};
use crate::surface::problem::Reply;
use crate::time::{Now, Wall};
use serde_json::{Value, json};

/// All checks that the caller's credential covers, oldest first.
pub fn list<B: AsRef<[u8]>>(
    config: &Config,
    prefix: &str,
    store: &mut dyn Store,
    now: Now,
    headers: &Headers<B>,
) -> Reply {
    match covered(config, prefix, store, headers) {
        Err(refusal) => refusal,
        Ok(records) => {
            let all: Vec<Value> = records.iter().map(|record| shown(record, now)).collect();
            private(Reply::json(200, &json!({ "checks": all })))
        }
    }
}

/// The check with this id, which the answer to its delivery stated.
pub fn one<B: AsRef<[u8]>>(
    config: &Config,
    prefix: &str,
    store: &mut dyn Store,
    now: Now,
    headers: &Headers<B>,
    id: &str,
) -> Reply {
    match covered(config, prefix, store, headers) {
        Err(refusal) => refusal,
        Ok(mut records) => {
            records.retain(|record| record.key.id() == id);
            match records.as_slice() {
                [] => Reply::problem(
                    404,
                    "No such check",
                    "No check with this id is pending or was decided in the last ten minutes, or it belongs to another credential.",
                ),
                [record] => private(Reply::json(200, &shown(record, now))),
                // An id is short, and the sender of a check chooses what it is made from.
                _ => Reply::problem(
                    409,
                    "More than one check has this id",
                    "One of them was sent with ids that were chosen for it. `GET /v1/checks` lists them all.",
                ),
            }
        }
    }
}

fn private(reply: Reply) -> Reply {
    reply.with("cache-control", "no-store")
}

fn covered<B: AsRef<[u8]>>(
    config: &Config,
    prefix: &str,
    store: &mut dyn Store,
    headers: &Headers<B>,
) -> Result<Vec<Record>, Reply> {
    let caller = caller(config, headers, Allow::Status)?;
    let mut found: std::collections::BTreeMap<(Wall, CheckKey), Record> = std::collections::BTreeMap::new();
    for mut bucket in Ledger::buckets_of(prefix) {
        bucket.read(store).map_err(|status| {
            log::error!("shared data failed with status {}: checks cannot be listed", status.0);
            Reply::problem(503, "The checks cannot be read", "Envoy's shared data does not answer.")
        })?;
        for record in bucket.records().filter(|record| caller.is_none_or(|caller| covers(caller, record))) {
            let came = match &record.state {
                State::Pending(pending) => pending.accepted.wall,
                State::Done(done) => done.accepted,
            };
            found.insert((came, record.key), record.clone());
        }
    }
    Ok(found.into_values().collect())
}

/// A check whose tag could not be read is covered by its project alone.
fn covers(caller: &Credential, record: &Record) -> bool {
    let (project, tag) = match &record.state {
        State::Pending(pending) => (Some(pending.callback.project), pending.ask.as_ref().map(|ask| &ask.tag)),
        State::Done(done) => (done.project, done.tag.as_ref()),
    };
    project.is_some_and(|project| caller.covers_project(&project))
        && tag.is_none_or(|tag| caller.covers_tag(tag))
}

fn shown(record: &Record, now: Now) -> Value {
    let mut shown = match &record.state {
        State::Pending(pending) => match pending.reported() {
            Some(done) => done_shown(&done),
            None => pending_shown(pending, now),
        },
        State::Done(done) => done_shown(done),
    };
    if let Some(members) = shown.as_object_mut() {
        members.insert("id".into(), record.key.id().into());
    }
    shown
}

fn pending_shown(pending: &Pending, now: Now) -> Value {
    let ask = pending.ask.as_ref();
    let (state, decision) = match &pending.phase {
        Phase::Accepted => ("accepted", None),
        Phase::Proven => ("proven", None),
        Phase::Watching(watch) if watch.seen.is_none() => ("waiting", None),
        Phase::Watching(_) => ("running", None),
        Phase::Decided(decided) => ("decided", Some(decided)),
        Phase::Owing(owing) => ("done", Some(&owing.decided)),
    };
    let mut history = vec![json!({"at": pending.accepted.wall.to_string(), "what": "accepted"})];
    if let Phase::Watching(watch) = &pending.phase {
        let bound = format!("counts executions since {} ({})", watch.bound, watch.bound_from);
        let fixed = watch.fixed.unwrap_or(pending.accepted.wall);
        history.push(json!({"at": fixed.to_string(), "what": bound}));
        if let Some(seen) = &watch.seen {
            let at = now.wall.minus(now.mono.since(seen.since)).to_string();
            history.push(json!({"at": at, "what": "the counted executions last changed"}));
        }
    }
    if let Some(decided) = decision {
        history.push(json!({"at": decided.at.to_string(), "what": "decided"}));
    }
    let deadline = pending.deadline();
    let decided_by = match now.mono <= deadline.at {
        true => now.wall.plus(deadline.at.since(now.mono)),
        false => now.wall.minus(now.mono.since(deadline.at)),
    };
    let is_assumed = pending.tokens.ends().is_some_and(|ends| ends.assumed);
    json!({
        "state": state,
        "decided_by": decided_by.to_string(),
        "deadline": match (deadline.by_token, is_assumed) {
            (false, _) => "timeout",
            (true, false) => "token",
            (true, true) => "token_life",
        },
        "azure_devops": pending.callback.entry,
        "project": pending.callback.project,
        "build": pending.callback.build,
        "tag": ask.map(|ask| ask.tag.to_string()),
        "expect": ask.map(|ask| ask.expect.to_string()),
        "deliveries": pending.delivery,
        "observe_only": pending.observe,
        "decision": decision.map(|decided| decided.outcome.code()),
        "reason": decision.map(|decided| &decided.reason),
        "code": decision.and_then(|decided| decided.code),
        "reported": false,
        "history": history,
    })
}

fn done_shown(done: &Done) -> Value {
    let mut history = vec![json!({"at": done.accepted.to_string(), "what": "accepted"})];
    if let Some(at) = done.decided {
        history.push(json!({"at": at.to_string(), "what": "decided"}));
    }
    let end = if done.reported { "reported" } else { "ended without a report" };
    history.push(json!({"at": done.at.wall.to_string(), "what": end}));
    json!({
        "state": "done",
        "project": done.project,
        "tag": done.tag.as_ref().map(ToString::to_string),
        "observe_only": done.observe,
        "decision": done.outcome.map(Outcome::code),
        "reason": done.reason,
        "code": done.code,
        "reported": done.reported,
        "history": history,
    })
}

#[cfg(test)]
mod tests;
