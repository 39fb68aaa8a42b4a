//! The calls of a check: the one that it waits for, and the meaning of each answer.

use super::naming::{AGAIN, named};
use super::proving::Proof;
use super::{Call, Check, Claim, Counter, Cx, Effects, Phase, Reporting, Room, Space};
use crate::secret::Secret;
use crate::time::{Wall, in_words};
use crate::wire::azure::{Answer, Entry, classify};
use crate::wire::call::{CallId, CallOutcome, GRACE, Request};
use log::Level;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The call that a check waits for.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) id: CallId,
    pub(super) asked: Asked,
}

/// The purpose of the call.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// A reading of its executions.
    Reading,
    /// A second look at one execution.
    Confirm,
    /// A second look at a failed execution that is to run again.
    Failure,
    /// Its re-run.
    Rerun,
    /// A call to Azure DevOps, with the token that delivery number `token` brought.
    Azure { ask: AzureCall, token: u32, report: Option<Reporting> },
}

/// The purpose of a call to Azure DevOps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AzureCall {
    /// Prove that the token is taken.
    Prove(Proof),
    /// Read its own record, because another process may have ended it; when it had this number of deliveries.
    Doubt(u32),
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
    /// Write the decision into the record.
    Link,
    /// Send the TaskCompleted.
    Event,
}

impl AzureCall {
    /// Whether it is made at the check's own plan, which takes no other token.
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
            AzureCall::Doubt(_) => "the request for the check's own record",
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

/// Calls of one check that Azure DevOps did not accept, in a row.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) since: Wall,
    pub(super) failures: u32,
    /// The last answer, in words.
    pub(super) last: String,
}

impl Outage {
    /// The outage after one more failure.
    fn after(before: Option<&Outage>, now: Wall, last: String) -> Outage {
        match before {
            None => Outage { since: now, failures: 1, last },
            Some(before) => Outage { since: before.since, failures: before.failures.saturating_add(1), last },
        }
    }
}

/// Maximum pause between tries: after an outage of Azure DevOps, however long, the report arrives within about a
/// minute.
pub(super) const MAX_RETRY: Duration = Duration::from_secs(60);

/// How long a check whose entry is missing from the configuration waits for another configuration.
const ENTRY_MISSING: Duration = Duration::from_secs(30 * 60);

impl Check {
    /// Starts a call to Azure DevOps, if there is room for it. Returns whether it did.
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

    /// The entry of the check, if a call may be started there now.
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

    /// Takes the outcome of a call. It is ignored if the call is not awaited.
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, id: CallId, outcome: &CallOutcome) {
        let Some(waiting) = self.volatile.waiting.take_if(|waiting| waiting.id == id) else { return };
        match waiting.asked {
            Asked::Reading => {}
            Asked::Confirm => self.confirmed(cx, fx, outcome),
            Asked::Failure => self.failure_confirmed(cx, fx, outcome),
            Asked::Rerun => self.rerun_answered(cx, fx, outcome),
            Asked::Azure { ask, token, .. } => {
                let answer = classify(outcome);
                self.note_fault(cx.now.wall, fx, &ask.to_string(), &answer);
                self.note_refusal(ask, token, &answer);
                self.note_token(ask.is_at_plan(), token, &answer);
                self.azure_answered(cx, fx, ask, token, &answer, outcome);
            }
        }
    }

    /// Takes the answer to a TaskCompleted, which this context got, whether it leads or not.
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
        self.note_fault(cx.now.wall, fx, &AzureCall::Event.to_string(), &answer);
        // The answer for another evaluation says nothing about this one's tokens.
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
            (AzureCall::Doubt(delivery), _) => self.doubt_answered(cx, fx, delivery, answer, outcome),
            (AzureCall::ReadTimeline, Phase::Proven) => self.timeline_read(cx, fx, answer, outcome),
            (AzureCall::ReadBuild, Phase::Proven) => self.build_read(cx, fx, answer, outcome),
            (AzureCall::CancelBuild, _) => self.build_cancelled(cx, fx, answer),
            (AzureCall::OpenLog | AzureCall::Lines | AzureCall::Link, _) => {
                self.part_answered(cx, fx, ask, token, answer, outcome);
            }
            // The event's answer is an event of its own; a bound that was found meanwhile stays.
            (AzureCall::Event | AzureCall::ReadTimeline | AzureCall::ReadBuild, _) => {}
        }
    }

    /// Notes whether Azure DevOps accepted a call that a decision, or the report of one, waits for.
    fn note_fault(&mut self, now: Wall, fx: &mut Effects, what: &str, answer: &Answer) {
        self.say_fault(fx, what, answer);
        let before = self.volatile.outage.take();
        if !matches!(answer, Answer::Taken | Answer::Over(_)) {
            let outage = Outage::after(before.as_deref(), now, in_words_of(answer));
            self.volatile.outage = Some(Rc::new(outage));
        }
    }

    /// Says that Azure DevOps did not accept a call.
    pub(super) fn say_fault(&mut self, fx: &mut Effects, what: &str, answer: &Answer) {
        if !matches!(answer, Answer::Taken | Answer::Over(_)) {
            let id = self.key.id();
            let why = in_words_of(answer);
            fx.say(Level::Warn, format!("check {id}: Azure DevOps did not accept {what}: {why}"));
            fx.count(Counter::AzureFault);
        }
    }

    /// Notes what an answer says about the presented token. For an unproven check its proof does this.
    pub(super) fn note_token(&mut self, is_at_plan: bool, token: u32, answer: &Answer) {
        if !self.durable.is_proven() {
            return;
        }
        match answer {
            Answer::TokenRefused => self.durable.tokens.refused(token),
            // A token that may do less than the taken one, or does not see the plan, is somebody else's.
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

    /// Whether another token was taken at the plan, but never the one that this delivery brought.
    pub(super) fn is_foreign(&self, token: u32) -> bool {
        let tokens = &self.durable.tokens;
        tokens.came_with(token) && tokens.are_proven() && !tokens.was_taken_with(token)
    }
}

/// How long to wait for the answer to a TaskCompleted before it counts as lost.
pub(super) fn claim_time(request: &Request) -> Duration {
    request.timeout.saturating_add(GRACE)
}

/// A valid token that is presented in the wrong way gets the same answer as an invalid one.
const TOKEN_REFUSED: &str = "the token is not valid (401, or a sign-in page), or this server expects it in another form (`azure_devops[].auth`)";

/// An answer in words, as the end of a sentence.
pub(super) fn in_words_of(answer: &Answer) -> String {
    match answer {
        Answer::Taken => "taken".into(),
        Answer::TokenRefused => TOKEN_REFUSED.into(),
        Answer::Forbidden => "the token may not do this (HTTP 403)".into(),
        Answer::Over(why) => why.clone(),
        Answer::Refused(fault) | Answer::Later(fault, None) => fault.to_string(),
        Answer::Later(fault, Some(after)) => format!("{fault}, retry in {}", in_words(*after)),
    }
}
