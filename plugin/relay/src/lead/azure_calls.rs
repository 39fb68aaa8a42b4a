//! Calls to Azure DevOps: whether one may be started, what becomes of it, and when it is tried again.

use super::prove::Proof;
use super::{Counter, GRACE, Lead, MOST_AZURE_CALLS, Output, Purpose, Turn};
use crate::azure::{Answer, Callback, Entry, Urgency, classify};
use crate::backoff::delay;
use crate::call::{Outcome as CallOutcome, Request};
use crate::check::{CheckKey, Pending};
use crate::secret::Secret;
use crate::time::{Mono, in_words};
use std::fmt;
use std::time::Duration;

/// What a call to Azure DevOps is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
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
    /// Append the decision's line.
    Line,
    /// Link the log.
    Link,
    /// Send the TaskCompleted, as send number `send` with the token of `delivery`.
    Event {
        /// The claim's own number.
        send: u64,
        /// The delivery.
        delivery: u32,
    },
    /// Append lines while the check waits.
    Tell,
    /// Show the progress on the record.
    Show,
    /// Look whether the run goes on, for a delivery.
    AskRun {
        /// The delivery.
        delivery: u32,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prove(Proof::Log) => "the check's log, which proves its token",
            Step::Prove(Proof::Record) => "the request for the check's own record, which proves its token",
            Step::Prove(Proof::Build) => "the request for the build, which proves its token",
            Step::ReadTimeline => "the request for the build's timeline",
            Step::ReadBuild => "the request for the build",
            Step::CancelBuild => "the cancellation of the build",
            Step::OpenLog => "the check's log",
            Step::Line => "the log line",
            Step::Link => "the link to the log",
            Step::Event { .. } => "TaskCompleted",
            Step::Tell => "lines of the log",
            Step::Show => "the record's progress",
            Step::AskRun { .. } => "the question whether the run goes on",
        })
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// However long Azure DevOps was away, what is owed is delivered about a minute after its return.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl Lead {
    /// Where a check is answered, if a call may be started there now.
    pub(super) fn reachable(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        pending: &Pending,
    ) -> Option<Entry> {
        let Some(entry) = self.entry_of(pending) else {
            self.has_no_entry(turn, key, pending);
            return None;
        };
        let busy = self.in_flight(|purpose| matches!(purpose, Purpose::Azure(..))) >= MOST_AZURE_CALLS;
        (!busy && self.may_call(turn.now.mono, &pending.callback, Urgency::Owed)).then_some(entry)
    }

    /// The configured entry where a check is answered.
    pub(super) fn entry_of(&self, pending: &Pending) -> Option<Entry> {
        self.config.azure_devops.iter().find(|entry| entry.url() == pending.callback.entry).cloned()
    }

    /// Whether its Azure DevOps has not asked to be left alone by such calls.
    pub(super) fn may_call(&self, now: Mono, callback: &Callback, urgency: Urgency) -> bool {
        self.paces.may_call(now, &callback.entry, callback.project, urgency)
    }

    /// Starts a call to Azure DevOps for a check, if there is room for one. `None`: not now.
    pub(super) fn call_azure(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        pending: &Pending,
        step: Step,
        request: impl Fn(&Entry, &Secret) -> Request,
    ) -> Option<()> {
        let entry = self.reachable(turn, key, pending)?;
        let request = request(&entry, pending.tokens.current());
        let (request, token) = self.by_the_way_that_is_due(key, pending, &entry, step, request);
        self.start(turn, request, Purpose::Azure(*key, step, token)).then_some(())
    }

    /// What became of a call to Azure DevOps.
    pub(super) fn azure_answered(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        step: Step,
        token: u32,
        outcome: &CallOutcome,
    ) {
        let answer = classify(outcome);
        if let Some(Callback { entry, project, .. }) = self.find(key).map(|pending| pending.callback.clone())
        {
            self.paces.answered(turn.now.mono, &entry, project, outcome);
        }
        if !matches!(answer, Answer::Taken | Answer::Over(_)) {
            log::warn!("check {}: Azure DevOps did not take {step}: {}", key.id(), in_words_of(&answer));
            turn.out.push(Output::Count(Counter::AzureFault));
        }
        self.note_refusal(key, step, token, &answer);
        self.note_token(turn, key, step, token, &answer);
        match step {
            Step::Prove(proof) => self.proved(turn, key, proof, token, &answer, outcome),
            Step::ReadTimeline => self.timeline_read(turn, key, &answer, outcome),
            Step::ReadBuild => self.build_read(turn, key, &answer, outcome),
            Step::CancelBuild => self.build_cancelled(turn, key, &answer),
            Step::OpenLog => self.log_opened(turn, key, &answer, outcome),
            Step::Line | Step::Link => self.told(turn, key, step, &answer),
            Step::Event { send, delivery } => self.event_answered(turn, key, send, delivery, token, &answer),
            Step::Tell | Step::Show | Step::AskRun { .. } => {
                self.tell_answered(turn, key, step, &answer, outcome);
            }
        }
    }

    /// Notes what an answer says about the token that was presented. Of a check that is not proven its proof notes it.
    fn note_token(&mut self, turn: &mut Turn<'_>, key: &CheckKey, step: Step, token: u32, answer: &Answer) {
        let Some(pending) = self.find(key).filter(|pending| pending.is_proven()) else { return };
        let is_event = matches!(step, Step::Event { .. });
        match answer {
            Answer::TokenRefused => {
                self.change(turn, key, |pending| {
                    pending.tokens.refused(token);
                    Some(())
                });
            }
            // Most answers are for a token that was taken before, and events have their own record.
            Answer::Taken if !is_event && pending.tokens.can_take(token) => {
                self.change(turn, key, |pending| pending.token_was_taken(token).then_some(()));
            }
            _ => {}
        }
    }

    /// Waits before the next try of the step at hand; answers how many there were.
    pub(super) fn retry(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        after: Option<Duration>,
        longest: Duration,
    ) -> u32 {
        let tries = self.tasks.get(key).map_or(0, |task| task.tries).saturating_add(1);
        let wait = self.random.jitter(delay(tries, FIRST_RETRY, longest)).max(after.unwrap_or_default());
        let task = self.tasks.entry(*key).or_default();
        (task.tries, task.next) = (tries, turn.now.mono.plus(wait));
        tries
    }

    /// The next step begins with no failures and at once.
    pub(super) fn restart(&mut self, key: &CheckKey) {
        if let Some(task) = self.tasks.get_mut(key) {
            (task.tries, task.next) = (0, Default::default());
        }
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
