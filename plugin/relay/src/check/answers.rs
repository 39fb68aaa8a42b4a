//! The calls of a check: which one it waits for, and what an answer says.

use super::naming::{AGAIN, named};
use super::proving::Proof;
use super::{Call, Check, Claim, Counter, Cx, Effects, Phase, Reporting, Room, Space};
use crate::secret::Secret;
use crate::time::in_words;
use crate::wire::azure::{Answer, Entry, classify};
use crate::wire::call::{CallId, GRACE, Outcome as CallOutcome, Request};
use log::Level;
use std::fmt;
use std::time::Duration;

/// The call that a check waits for.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) id: CallId,
    pub(super) asked: Asked,
}

/// What it is for.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// A reading of its executions.
    Reading,
    /// One execution is looked at again.
    Confirm,
    /// Azure DevOps, with the token that this delivery brought.
    Azure { ask: AzureCall, token: u32, report: Option<Reporting> },
}

/// What a call to Azure DevOps is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AzureCall {
    /// See that the token is taken.
    Prove(Proof),
    /// Read the build's timeline for a stage's start.
    ReadTimeline,
    /// Read the build for its start.
    ReadBuild,
    /// Cancel the build whose gate is open.
    CancelBuild,
    /// Create the log for a decision.
    OpenLog,
    /// Append the decision's lines.
    Lines,
    /// Bring the record up to date with the decision.
    Link,
    /// Send the TaskCompleted.
    Event,
}

impl AzureCall {
    /// Whether it is made at the check's own plan, where nobody else's token is taken.
    fn is_at_plan(self) -> bool {
        !matches!(self, AzureCall::ReadTimeline | AzureCall::ReadBuild | AzureCall::CancelBuild)
    }
}

impl fmt::Display for AzureCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AzureCall::Prove(Proof::Log) => "the check's log, which proves its token",
            AzureCall::Prove(Proof::Record) => {
                "the request for the check's own record, which proves its token"
            }
            AzureCall::Prove(Proof::Build) => "the request for the build, which proves its token",
            AzureCall::ReadTimeline => "the request for the build's timeline",
            AzureCall::ReadBuild => "the request for the build",
            AzureCall::CancelBuild => "the cancellation of the build",
            AzureCall::OpenLog => "the check's log",
            AzureCall::Lines => "the log line",
            AzureCall::Link => "the link to the log",
            AzureCall::Event => "TaskCompleted",
        })
    }
}

/// However long Azure DevOps was away, what is owed is delivered about a minute after its return.
pub(super) const MAX_RETRY: Duration = Duration::from_secs(60);

/// A check whose entry is not in the configuration is given up after this: another configuration may come.
const ENTRY_MISSING: Duration = Duration::from_secs(30 * 60);

impl Check {
    /// Starts a call to Azure DevOps, if there is room for it; whether it was started.
    pub(super) fn call_azure(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        ask: AzureCall,
        request: impl Fn(&Entry, &Secret) -> Request,
    ) -> bool {
        let Some(entry) = self.reach(cx, fx) else { return false };
        let request = request(&entry, self.durable.tokens.current());
        let (request, token) = self.by_the_way_that_is_due(fx, &entry, ask, request);
        let report = self.durable.claim.filter(|_| ask == AzureCall::Event);
        let began = self.durable.began;
        let report = report.map(|Claim { send, delivery, .. }| Reporting { began, send, delivery, token });
        self.volatile.waiting = Some(Waiting { id: cx.call, asked: Asked::Azure { ask, token, report } });
        fx.call = Some(Call { id: cx.call, room: Room::Azure, request, report });
        true
    }

    /// Where the check is answered, if a call may be started there now.
    pub(super) fn reach(&mut self, cx: &Cx<'_>, fx: &mut Effects) -> Option<Entry> {
        let Some(entry) = self.entry(cx.config) else {
            self.entry_is_missing(cx, fx);
            return None;
        };
        self.volatile.entry_missing = None;
        match (cx.space)(Room::Azure, &self.durable.callback) {
            Space::Free => return Some(entry.clone()),
            Space::Full => self.queue(fx, Room::Azure),
            Space::Quiet(until) => self.volatile.held_until = until,
        }
        None
    }

    pub(super) fn queue(&mut self, fx: &mut Effects, room: Room) {
        fx.queue = Some(room);
        self.volatile.is_queued = true;
    }

    fn entry_is_missing(&mut self, cx: &Cx<'_>, fx: &mut Effects) {
        let now = cx.now.mono;
        let (check, url) = (named(&self.key, &self.durable), &self.durable.callback.entry);
        let since = *self.volatile.entry_missing.get_or_insert(now);
        if now.since(since) >= ENTRY_MISSING {
            let ended = format!(
                "{check} ends unreported: {url} has not been among `azure_devops` for {}. {AGAIN}",
                in_words(now.since(since))
            );
            fx.say(Level::Error, ended);
            return self.finish(fx, cx.now, false);
        }
        fx.say(Level::Error, format!("{check} waits: {url} is not among `azure_devops`"));
        self.volatile.next = now.plus(MAX_RETRY);
    }

    /// A call was answered, or never will be. The answer to a call that is not waited for says nothing.
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, id: CallId, outcome: &CallOutcome) {
        let Some(waiting) = self.volatile.waiting.take_if(|waiting| waiting.id == id) else { return };
        match waiting.asked {
            Asked::Reading => {}
            Asked::Confirm => self.confirmed(cx, fx, outcome),
            Asked::Azure { ask, token, .. } => {
                let answer = classify(outcome);
                self.note_answer(fx, ask, token, &answer);
                self.azure_answered(cx, fx, ask, token, &answer, outcome);
            }
        }
    }

    /// A TaskCompleted was answered, to this context, whoever leads.
    pub(super) fn reported(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        id: CallId,
        reporting: Reporting,
        outcome: &CallOutcome,
    ) {
        self.volatile.waiting.take_if(|waiting| waiting.id == id);
        let answer = classify(outcome);
        self.note_fault(fx, &AzureCall::Event.to_string(), &answer);
        // What became of another evaluation's says nothing of this one's tokens.
        if reporting.began != self.durable.began {
            return;
        }
        self.note_refusal(AzureCall::Event, reporting.token, &answer);
        self.event_answered(cx, fx, reporting, &answer);
    }

    fn azure_answered(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        ask: AzureCall,
        token: u32,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        match (ask, &self.durable.phase) {
            (AzureCall::Prove(proof), _) => self.proved(cx, fx, proof, token, answer, outcome),
            (AzureCall::ReadTimeline, Phase::Proven) => self.timeline_read(cx, fx, answer, outcome),
            (AzureCall::ReadBuild, Phase::Proven) => self.build_read(cx, fx, answer, outcome),
            (AzureCall::CancelBuild, _) => self.build_cancelled(cx, fx, answer),
            (AzureCall::OpenLog | AzureCall::Lines | AzureCall::Link, _) => {
                self.part_answered(cx, fx, ask, token, answer, outcome);
            }
            // The event's answer comes as an event of its own; a bound that was found meanwhile stays.
            (AzureCall::Event | AzureCall::ReadTimeline | AzureCall::ReadBuild, _) => {}
        }
    }

    fn note_answer(&mut self, fx: &mut Effects, ask: AzureCall, token: u32, answer: &Answer) {
        self.note_fault(fx, &ask.to_string(), answer);
        self.note_refusal(ask, token, answer);
        self.note_token(ask.is_at_plan(), token, answer);
    }

    pub(super) fn note_fault(&mut self, fx: &mut Effects, what: &str, answer: &Answer) {
        if !matches!(answer, Answer::Taken | Answer::Over(_)) {
            let id = self.key.id();
            let why = in_words_of(answer);
            fx.say(Level::Warn, format!("check {id}: Azure DevOps did not take {what}: {why}"));
            fx.count(Counter::AzureFault);
        }
    }

    /// Notes what an answer says about the token that was presented. Of a check that is not proven its proof notes it.
    pub(super) fn note_token(&mut self, is_at_plan: bool, token: u32, answer: &Answer) {
        if !self.durable.is_proven() {
            return;
        }
        match answer {
            Answer::TokenRefused => self.durable.tokens.refused(token),
            // Who may do less here than the token that was taken, or does not see the plan, is somebody else.
            Answer::Forbidden | Answer::Refused(_) | Answer::Over(_)
                if is_at_plan && self.is_foreign(token) =>
            {
                self.durable.tokens.refused(token);
            }
            // Most answers are for a token that was taken before.
            Answer::Taken if is_at_plan && self.durable.tokens.can_take(token) => {
                self.durable.token_was_taken(token);
            }
            _ => {}
        }
    }

    /// Whether another token was taken at the plan, and the one that this delivery brought never.
    pub(super) fn is_foreign(&self, token: u32) -> bool {
        let tokens = &self.durable.tokens;
        tokens.came_with(token) && tokens.are_proven() && !tokens.was_taken_with(token)
    }
}

/// How long the answer to a TaskCompleted may take before it counts as lost.
pub(super) fn claim_time(request: &Request) -> Duration {
    request.timeout.saturating_add(GRACE)
}

/// A token that is good and presented in the wrong way gets the same answer as one that is not.
const TOKEN_REFUSED: &str = "the token is not valid (401, or a sign-in page), or is not presented as this server takes it (`azure_devops[].auth`)";

/// An answer as the end of a sentence.
pub(super) fn in_words_of(answer: &Answer) -> String {
    match answer {
        Answer::Taken => "taken".into(),
        Answer::TokenRefused => TOKEN_REFUSED.into(),
        Answer::Forbidden => "the token may not do this (HTTP 403)".into(),
        Answer::Over(why) => why.clone(),
        Answer::Refused(fault) | Answer::Later(fault, None) => fault.to_string(),
        Answer::Later(fault, Some(after)) => format!("{fault}, to be tried again in {}", in_words(*after)),
    }
}
