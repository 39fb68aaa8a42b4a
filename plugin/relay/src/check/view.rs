//! What may be shown of a check: in `GET /v1/checks`, and as an annotation of its Secret. Never a token.

mod live;

use super::{CheckKey, Done, Outcome, Pending, Phase, ReasonCode, State};
use crate::guid::Guid;
use crate::json::{Members, members_of};
use crate::time::{Mono, Now, Wall};
use crate::wire::azure::Callback;
pub(crate) use live::{Live, explain, shown_trouble};
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
    build_url: Option<String>,
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
    since: String,
    state: &'static str,
    tag: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DoneView {
    attempts: u32,
    azure_devops: Option<String>,
    build: Option<u64>,
    build_url: Option<String>,
    code: Option<ReasonCode>,
    decided_after_seconds: Option<u64>,
    decision: Option<&'static str>,
    deliveries: u32,
    expect: Option<String>,
    history: Vec<Moment>,
    id: String,
    observe_only: bool,
    policies: Option<String>,
    project: Option<Guid>,
    reason: String,
    reported: bool,
    reported_after_seconds: Option<u64>,
    since: String,
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

/// A time of this process's monotonic clock on the wall clock.
fn wall_of(at: Mono, now: Now) -> Wall {
    match now.mono <= at {
        true => now.wall.plus(at.since(now.mono)),
        false => now.wall.minus(now.mono.since(at)),
    }
}

impl Pending {
    /// Its state, as it is shown.
    pub(crate) fn state_in_a_word(&self) -> &'static str {
        match &self.phase {
            Phase::Accepted => "accepted",
            Phase::Proven => "proven",
            Phase::Watching(watch) if watch.seen.is_none() => "waiting",
            Phase::Watching(_) => "running",
            Phase::Decided(_) => "decided",
            Phase::Owing(_) => "done",
        }
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

impl View<'_> {
    /// JSON of what is shown of an ended check, with JSON of the last reading.
    pub(crate) fn ended(key: &CheckKey, done: &Done, reading: &str) -> String {
        let view = View::Done(Box::new(DoneView::of(done, key.id())));
        let mut members = Members::default();
        members.extend(members_of(&crate::json::text(&view)));
        members.raw("live", &["{\"reading\":", reading, "}"].concat());
        members.object()
    }
}

impl PendingView<'_> {
    fn of(pending: &Pending, id: String, now: Now) -> PendingView<'_> {
        let ask = pending.ask.as_ref();
        let decision = pending.decided();
        let since = match &pending.phase {
            Phase::Accepted | Phase::Proven => pending.accepted.wall,
            Phase::Watching(watch) => watch.fixed.unwrap_or(pending.accepted.wall),
            Phase::Decided(decided) => decided.at,
            Phase::Owing(owing) => owing.reported.wall,
        };
        let mut history = vec![Moment::new(pending.accepted.wall, "accepted")];
        if let Phase::Watching(watch) = &pending.phase {
            let bound = format!("counts executions since {} ({})", watch.bound, watch.bound_from);
            let fixed = watch.fixed.unwrap_or(pending.accepted.wall);
            history.push(Moment::new(fixed, bound));
            if let Some(seen) = &watch.seen {
                let at = now.wall.minus(now.mono.since(seen.since));
                history.push(Moment::new(at, "the counted executions have been seen unchanged since then"));
                if !seen.waited.is_zero() {
                    let from = now.wall.minus(seen.waited);
                    history.push(Moment::new(from, "a failure waits for its re-run"));
                }
            }
        }
        if let Some(decided) = decision {
            history.push(Moment::new(decided.at, "decided"));
        }
        let deadline = pending.deadline();
        let is_assumed = pending.tokens.ends().is_some_and(|ends| ends.assumed);
        PendingView {
            azure_devops: &pending.callback.entry,
            build: pending.callback.build,
            build_url: pending.callback.build_url(),
            code: decision.and_then(|decided| decided.code),
            decided_by: wall_of(deadline.at, now).to_string(),
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
            since: since.to_string(),
            state: pending.state_in_a_word(),
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
        let callback = done.values.as_ref().map(|values| &values.callback);
        let ask = done.values.as_ref().and_then(|values| values.ask.as_ref());
        let seconds =
            |at: Wall| u64::try_from(at.0.saturating_sub(done.accepted.0)).unwrap_or_default() / 1_000;
        DoneView {
            attempts: done.sends,
            azure_devops: callback.map(|callback| callback.entry.clone()),
            build: callback.and_then(|callback| callback.build),
            build_url: callback.and_then(Callback::build_url),
            code: done.code,
            decided_after_seconds: done.decided.map(seconds),
            decision: done.outcome.map(Outcome::code),
            deliveries: done.served,
            expect: ask.map(|ask| ask.expect.to_string()),
            history,
            id,
            observe_only: done.observe,
            policies: ask.and_then(|ask| ask.policies.in_short()),
            project: done.project,
            reason: done.reason.clone(),
            reported: done.reported,
            reported_after_seconds: done.reported.then(|| seconds(done.at.wall)),
            since: done.at.wall.to_string(),
            state: "done",
            tag: done.tag.as_ref().map(ToString::to_string),
        }
    }
}
