//! What may be shown of a check: in `GET /v1/checks`, and as an annotation of its Secret. Never a token.

use super::{CheckKey, Done, Outcome, Pending, Phase, ReasonCode, State};
use crate::guid::Guid;
use crate::time::{Now, Wall};
use serde::Serialize;

/// What is shown of a check. The members of each object are in the order of their names.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum View<'a> {
    /// Of one that is not reported.
    Pending(Box<PendingView<'a>>),
    /// Of one that has ended.
    Done(Box<DoneView>),
}

#[derive(Serialize)]
pub(crate) struct PendingView<'a> {
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
    policies: Option<String>,
    project: Guid,
    reason: Option<&'a str>,
    reported: bool,
    state: &'static str,
    tag: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DoneView {
    code: Option<ReasonCode>,
    decision: Option<&'static str>,
    history: Vec<Moment>,
    id: String,
    observe_only: bool,
    policies: Option<String>,
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

impl View<'_> {
    /// What is shown of a check in this state.
    pub(crate) fn of<'a>(key: &CheckKey, state: &'a State, now: Now) -> View<'a> {
        let id = key.id();
        match state {
            State::Pending(pending) => match pending.reported() {
                Some(done) => View::Done(Box::new(DoneView::of(&done, id))),
                None => View::Pending(Box::new(PendingView::of(pending, id, now))),
            },
            State::Done(done) => View::Done(Box::new(DoneView::of(done, id))),
        }
    }
}

impl PendingView<'_> {
    fn of(pending: &Pending, id: String, now: Now) -> PendingView<'_> {
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
                if !seen.waited.is_zero() {
                    history.push(Moment::new(now.wall, "a failure waits for its re-run"));
                }
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
        PendingView {
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
            policies: ask.and_then(|ask| ask.policies.in_short()),
            project: pending.callback.project,
            reason: decision.map(|decided| decided.reason.as_str()),
            reported: false,
            state,
            tag: ask.map(|ask| ask.tag.to_string()),
        }
    }
}

impl DoneView {
    fn of(done: &Done, id: String) -> DoneView {
        let mut history = vec![Moment::new(done.accepted, "accepted")];
        if let Some(at) = done.decided {
            history.push(Moment::new(at, "decided"));
        }
        let end = if done.reported { "reported" } else { "ended without a report" };
        history.push(Moment::new(done.at.wall, end));
        DoneView {
            code: done.code,
            decision: done.outcome.map(Outcome::code),
            history,
            id,
            observe_only: done.observe,
            policies: done.values.as_ref().and_then(|values| values.ask.as_ref()?.policies.in_short()),
            project: done.project,
            reason: done.reason.clone(),
            reported: done.reported,
            state: "done",
            tag: done.tag.as_ref().map(ToString::to_string),
        }
    }
}
