//! Before Testkube is asked: that Azure DevOps takes the check's token, and since when executions count.

use super::{Counter, GRACE, Lead, MOST_AZURE_CALLS, Output, Purpose, Turn};
use crate::azure::{self, Answer, Entry, LogId, classify};
use crate::backoff::delay;
use crate::call::{Outcome as CallOutcome, Request};
use crate::check::{CheckKey, Log, Outcome, Pending, Phase, Watch};
use crate::secret::Secret;
use crate::time::{Wall, in_words};
use std::fmt;
use std::time::Duration;

/// What a call to Azure DevOps is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the log, and see with it that the token is taken.
    Prove,
    /// Read the build's timeline for a stage's start.
    ReadTimeline,
    /// Read the build for its start.
    ReadBuild,
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
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prove => "the check's log, which proves its token",
            Step::ReadTimeline => "the request for the build's timeline",
            Step::ReadBuild => "the request for the build",
            Step::OpenLog => "the check's log",
            Step::Line => "the log line",
            Step::Link => "the link to the log",
            Step::Event { .. } => "TaskCompleted",
        })
    }
}

/// A token that Azure DevOps has never taken is tried this often, over some five minutes.
const UNPROVEN_TRIES: u32 = 10;
/// An answer that needs a decision without a proof is waited for this often.
const REFUSED_TRIES: u32 = 3;
const BOUND_TRIES: u32 = 8;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
const LONGEST_EARLY_RETRY: Duration = Duration::from_secs(60);

impl Lead {
    /// Where a check is answered, if a call may be started there now.
    pub(super) fn reachable(&mut self, turn: &Turn<'_>, key: &CheckKey, pending: &Pending) -> Option<Entry> {
        let url = &pending.callback.entry;
        let Some(entry) = self.config.azure_devops.iter().find(|entry| entry.url() == *url) else {
            log::error!("check {} waits: {url} is no longer among `azure_devops`", key.id());
            self.tasks.entry(*key).or_default().next = turn.now.mono.plus(LONGEST_EARLY_RETRY);
            return None;
        };
        let busy = self.in_flight(|purpose| matches!(purpose, Purpose::Azure(..))) >= MOST_AZURE_CALLS;
        let quiet = self.quiet.get(url).is_some_and(|until| turn.now.mono < *until);
        (!busy && !quiet).then(|| entry.clone())
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
        let request = request(&self.reachable(turn, key, pending)?, pending.tokens.current());
        self.start(turn, request, Purpose::Azure(*key, step)).then_some(())
    }

    /// Accepted: creates the log. A 2xx proves the token.
    pub(super) fn prove(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        let callback = &pending.callback;
        self.call_azure(turn, key, pending, Step::Prove, |entry, token| {
            azure::create_log(entry, callback, token)
        });
    }

    /// Proven: finds the lower bound, from the best source that the request names.
    pub(super) fn find_bound(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        let callback = &pending.callback;
        let wants_stage = pending.ask.as_ref().is_some_and(|ask| ask.since_stage.is_some());
        match callback.build {
            Some(build) if wants_stage => {
                let request = |entry: &Entry, token: &Secret| azure::timeline(entry, callback, token, build);
                self.call_azure(turn, key, pending, Step::ReadTimeline, request);
            }
            Some(build) => {
                let request = |entry: &Entry, token: &Secret| azure::build(entry, callback, token, build);
                self.call_azure(turn, key, pending, Step::ReadBuild, request);
            }
            None => self.bound_by_arrival(turn, key, "no BuildId was sent"),
        }
    }

    /// What became of a call to Azure DevOps.
    pub(super) fn azure_answered(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        step: Step,
        outcome: &CallOutcome,
    ) {
        let answer = classify(outcome);
        if let (Answer::Later(_, Some(after)), Some(pending)) = (&answer, self.find(key)) {
            self.quiet.insert(pending.callback.entry.clone(), turn.now.mono.plus(*after));
        }
        if !matches!(answer, Answer::Taken | Answer::Over(_)) {
            log::warn!("check {}: Azure DevOps did not take {step}: {}", key.id(), in_words_of(&answer));
            turn.out.push(Output::Count(Counter::AzureFault));
        }
        let refused = matches!(answer, Answer::TokenRefused | Answer::Refused(_));
        if let Some(task) = self.tasks.get_mut(key) {
            task.refusals = if refused { task.refusals.saturating_add(1) } else { 0 };
        }
        if answer == Answer::TokenRefused {
            self.change(turn, key, |pending| {
                pending.tokens.refused();
                Some(())
            });
        }
        match step {
            Step::Prove => self.proved(turn, key, &answer, outcome),
            Step::ReadTimeline => self.timeline_read(turn, key, &answer, outcome),
            Step::ReadBuild => self.build_read(turn, key, &answer, outcome),
            Step::OpenLog => self.log_opened(turn, key, &answer, outcome),
            Step::Line | Step::Link => self.told(turn, key, step, &answer),
            Step::Event { send, delivery } => self.event_answered(turn, key, send, delivery, &answer),
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

    /// The same for a TaskCompleted, which is owed: the waits may grow longer.
    pub(super) fn retry_event(&mut self, turn: &mut Turn<'_>, key: &CheckKey, after: Option<Duration>) {
        self.retry(turn, key, after, LONGEST_RETRY);
    }

    fn proved(&mut self, turn: &mut Turn<'_>, key: &CheckKey, answer: &Answer, outcome: &CallOutcome) {
        match answer {
            Answer::Taken => self.proven(turn, key, log_of(outcome)),
            // Only who is known can be forbidden something: the token is good.
            Answer::Forbidden => self.proven(turn, key, Log::Off),
            Answer::Over(why) => {
                log::info!("check {}: the run is over ({why})", key.id());
                self.finish(turn, key, false);
            }
            Answer::TokenRefused => {
                self.retry(turn, key, None, LONGEST_EARLY_RETRY);
                if self.refusals(key) >= UNPROVEN_TRIES {
                    log::error!("check {}: Azure DevOps never took its token; it is dropped", key.id());
                    self.finish(turn, key, false);
                }
            }
            Answer::Refused(fault) => {
                self.retry(turn, key, None, LONGEST_EARLY_RETRY);
                if self.refusals(key) >= REFUSED_TRIES {
                    self.change(turn, key, |pending| {
                        pending.log = Log::Off;
                        Some(())
                    });
                    let reason = format!(
                        "Azure DevOps refused this check's log ({fault}), so it is not certain where it comes from, and nothing was asked of Testkube."
                    );
                    self.decide(turn, key, Outcome::Inconclusive, reason);
                }
            }
            Answer::Later(_, after) => {
                self.retry(turn, key, *after, LONGEST_EARLY_RETRY);
            }
        }
    }

    /// How often in a row a check was refused, outages not counted.
    fn refusals(&self, key: &CheckKey) -> u32 {
        self.tasks.get(key).map_or(0, |task| task.refusals)
    }

    fn proven(&mut self, turn: &mut Turn<'_>, key: &CheckKey, log: Log) {
        self.change(turn, key, |pending| {
            let open = pending.phase == Phase::Accepted;
            open.then(|| {
                pending.log = log;
                pending.phase = Phase::Proven;
            })
        });
        self.restart(key);
    }

    fn timeline_read(&mut self, turn: &mut Turn<'_>, key: &CheckKey, answer: &Answer, outcome: &CallOutcome) {
        let Some(stage) = self.find(key).and_then(|p| p.ask.as_ref()?.since_stage.clone()) else { return };
        if self.retry_bound(turn, key, answer) {
            return;
        }
        let unreadable = match (answer, outcome) {
            (Answer::Taken, CallOutcome::Response(response)) => {
                let body = response.body.as_deref().map_err(|_| "the build's timeline is too large");
                match body.and_then(|body| azure::stage_start(body, &stage)) {
                    Ok((start, attempt)) => {
                        let from = format!(
                            "start of stage `{}`, attempt {attempt}",
                            crate::text::one_line(&stage, 64)
                        );
                        return self.watch_since(turn, key, start, from);
                    }
                    Err(why) => why.to_string(),
                }
            }
            (Answer::Over(_), _) => return self.finish(turn, key, false),
            _ => format!("the build's timeline could not be read ({})", in_words_of(answer)),
        };
        let stage = crate::text::one_line(&stage, 64);
        let reason =
            format!("The check asks for executions since the start of stage `{stage}`, but {unreadable}.");
        self.decide(turn, key, Outcome::Inconclusive, reason);
    }

    fn build_read(&mut self, turn: &mut Turn<'_>, key: &CheckKey, answer: &Answer, outcome: &CallOutcome) {
        if self.retry_bound(turn, key, answer) {
            return;
        }
        let start = match (answer, outcome) {
            (Answer::Taken, CallOutcome::Response(response)) => {
                response.body.as_deref().ok().and_then(azure::build_start)
            }
            (Answer::Over(_), _) => return self.finish(turn, key, false),
            _ => None,
        };
        match start {
            Some(start) => self.watch_since(turn, key, start, "start of the build".into()),
            None => self.bound_by_arrival(turn, key, "the build's start could not be read"),
        }
    }

    /// Whether the bound is worth another try, and if so, when.
    fn retry_bound(&mut self, turn: &mut Turn<'_>, key: &CheckKey, answer: &Answer) -> bool {
        let after = match answer {
            Answer::Later(_, after) => *after,
            Answer::TokenRefused => None,
            _ => return false,
        };
        self.retry(turn, key, after, LONGEST_EARLY_RETRY) < BOUND_TRIES
    }

    fn bound_by_arrival(&mut self, turn: &mut Turn<'_>, key: &CheckKey, why: &str) {
        let Some(accepted) = self.find(key).map(|pending| pending.accepted.wall) else { return };
        let lookback = self.config.checks.lookback;
        let from = format!("{} before the check came, because {why}", in_words(lookback));
        self.watch_since(turn, key, accepted.minus(lookback), from);
    }

    /// Fixes the lower bound and begins to ask Testkube.
    fn watch_since(&mut self, turn: &mut Turn<'_>, key: &CheckKey, start: Wall, bound_from: String) {
        let bound = start.minus(self.config.checks.clock_skew);
        self.change(turn, key, |pending| {
            let open = pending.phase == Phase::Proven;
            open.then(|| {
                let bound_from = bound_from.clone();
                pending.phase =
                    Phase::Watching(Watch { bound, bound_from, seen: None, absent: Duration::ZERO });
            })
        });
        self.restart(key);
    }

    /// The next step begins with no failures and at once.
    pub(super) fn restart(&mut self, key: &CheckKey) {
        if let Some(task) = self.tasks.get_mut(key) {
            (task.tries, task.next) = (0, Default::default());
        }
    }
}

/// The log that the answer to [`azure::create_log`] names.
pub(super) fn log_of(outcome: &CallOutcome) -> Log {
    let CallOutcome::Response(response) = outcome else { return Log::Off };
    let log = response.body.as_deref().ok().and_then(|body| serde_json::from_slice::<LogId>(body).ok());
    log.filter(|log| log.id > 0).map_or(Log::Off, Log::Open)
}

/// How long the answer to a TaskCompleted may take before it counts as lost.
pub(super) fn claim_time(request: &Request) -> Duration {
    request.timeout.saturating_add(GRACE)
}

fn in_words_of(answer: &Answer) -> String {
    match answer {
        Answer::Taken => "taken".into(),
        Answer::TokenRefused => "the token is not valid (401, or a sign-in page)".into(),
        Answer::Forbidden => "the token may not do this (HTTP 403)".into(),
        Answer::Over(why) => why.clone(),
        Answer::Refused(fault) | Answer::Later(fault, None) => fault.to_string(),
        Answer::Later(fault, Some(after)) => format!("{fault}, to be tried again in {}", in_words(*after)),
    }
}
