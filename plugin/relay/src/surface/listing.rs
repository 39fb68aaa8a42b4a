//! `GET /v1/checks` and `/v1/checks/{id}`: pending and recently decided checks. Never a token.

use crate::check::{CheckKey, Done, Outcome, Pending, Phase, ReasonCode, Record, State};
use crate::config::Config;
use crate::config::{Allow, Credential};
use crate::guid::Guid;
use crate::store::ledger::{Ledger, Store};
use crate::surface::accept::{Headers, caller};
use crate::surface::problem::Reply;
use crate::time::{Now, Wall};
use serde::Serialize;
use std::collections::BTreeMap;

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
            let checks = records.iter().map(|record| shown(record, now)).collect();
            private(Reply::json(200, &AllShown { checks }))
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
    let mut found: BTreeMap<(Wall, CheckKey), Box<Record>> = BTreeMap::new();
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
            found.insert((came, record.key), Box::new(record.clone()));
        }
    }
    Ok(found.into_values().map(|record| *record).collect())
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

/// The list.
#[derive(Serialize)]
struct AllShown<'a> {
    checks: Vec<Shown<'a>>,
}

/// A check in the list. The members of each object are in the order of their names.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Pending(PendingShown<'a>),
    Done(DoneShown),
}

#[derive(Serialize)]
struct PendingShown<'a> {
    azure_devops: &'a str,
    build: Option<u64>,
    code: Option<ReasonCode>,
    decided_by: String,
    deadline: &'static str,
    decision: Option<&'static str>,
    deliveries: u32,
    expect: Option<String>,
    history: Vec<Moment>,
    id: String,
    observe_only: bool,
    project: Guid,
    reason: Option<&'a str>,
    reported: bool,
    state: &'static str,
    tag: Option<String>,
}

#[derive(Serialize)]
struct DoneShown {
    code: Option<ReasonCode>,
    decision: Option<&'static str>,
    history: Vec<Moment>,
    id: String,
    observe_only: bool,
    project: Option<Guid>,
    reason: String,
    reported: bool,
    state: &'static str,
    tag: Option<String>,
}

/// What happened to a check, and when.
#[derive(Serialize)]
struct Moment {
    at: String,
    what: String,
}

impl Moment {
    fn new(at: Wall, what: impl Into<String>) -> Moment {
        Moment { at: at.to_string(), what: what.into() }
    }
}

fn shown(record: &Record, now: Now) -> Shown<'_> {
    let id = record.key.id();
    match &record.state {
        State::Pending(pending) => match pending.reported() {
            Some(done) => Shown::Done(done_shown(&done, id)),
            None => Shown::Pending(pending_shown(pending, id, now)),
        },
        State::Done(done) => Shown::Done(done_shown(done, id)),
    }
}

fn pending_shown(pending: &Pending, id: String, now: Now) -> PendingShown<'_> {
    let ask = pending.ask.as_ref();
    let (state, decision) = match &pending.phase {
        Phase::Accepted => ("accepted", None),
        Phase::Proven => ("proven", None),
        Phase::Watching(watch) if watch.seen.is_none() => ("waiting", None),
        Phase::Watching(_) => ("running", None),
        Phase::Decided(decided) => ("decided", Some(decided)),
        Phase::Owing(owing) => ("done", Some(&owing.decided)),
    };
    let mut history = vec![Moment::new(pending.accepted.wall, "accepted")];
    if let Phase::Watching(watch) = &pending.phase {
        let bound = format!("counts executions since {} ({})", watch.bound, watch.bound_from);
        let fixed = watch.fixed.unwrap_or(pending.accepted.wall);
        history.push(Moment::new(fixed, bound));
        if let Some(seen) = &watch.seen {
            let at = now.wall.minus(now.mono.since(seen.since));
            history.push(Moment::new(at, "the counted executions last changed"));
        }
    }
    if let Some(decided) = decision {
        history.push(Moment::new(decided.at, "decided"));
    }
    let deadline = pending.deadline();
    let decided_by = match now.mono <= deadline.at {
        true => now.wall.plus(deadline.at.since(now.mono)),
        false => now.wall.minus(now.mono.since(deadline.at)),
    };
    let is_assumed = pending.tokens.ends().is_some_and(|ends| ends.assumed);
    PendingShown {
        azure_devops: &pending.callback.entry,
        build: pending.callback.build,
        code: decision.and_then(|decided| decided.code),
        decided_by: decided_by.to_string(),
        deadline: match (deadline.by_token, is_assumed) {
            (false, _) => "timeout",
            (true, false) => "token",
            (true, true) => "token_life",
        },
        decision: decision.map(|decided| decided.outcome.code()),
        deliveries: pending.delivery,
        expect: ask.map(|ask| ask.expect.to_string()),
        history,
        id,
        observe_only: pending.observe,
        project: pending.callback.project,
        reason: decision.map(|decided| decided.reason.as_str()),
        reported: false,
        state,
        tag: ask.map(|ask| ask.tag.to_string()),
    }
}

fn done_shown(done: &Done, id: String) -> DoneShown {
    let mut history = vec![Moment::new(done.accepted, "accepted")];
    if let Some(at) = done.decided {
        history.push(Moment::new(at, "decided"));
    }
    let end = if done.reported { "reported" } else { "ended without a report" };
    history.push(Moment::new(done.at.wall, end));
    DoneShown {
        code: done.code,
        decision: done.outcome.map(Outcome::code),
        history,
        id,
        observe_only: done.observe,
        project: done.project,
        reason: done.reason.clone(),
        reported: done.reported,
        state: "done",
        tag: done.tag.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests;
