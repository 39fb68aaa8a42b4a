//! Before Testkube is asked: that Azure DevOps takes the check's token, and since when executions count.

use super::azure_calls::{LONGEST_RETRY, Step, in_words_of};
use super::{Lead, Turn};
use crate::azure::{self, Answer, Entry, LogId};
use crate::call::Outcome as CallOutcome;
use crate::check::{CheckKey, Log, Outcome, Pending, Phase, Watch};
use crate::secret::Secret;
use crate::time::{Wall, in_words};
use std::time::Duration;

/// A token that Azure DevOps has never taken is tried this often, over some half an hour: its sign-in can be broken for a
/// while, or a proxy's, and a check that is dropped is one that its stage waits for in vain.
const UNPROVEN_TRIES: u32 = 36;
/// An answer that needs a decision without a proof is waited for this often.
const REFUSED_TRIES: u32 = 3;
const BOUND_TRIES: u32 = 8;

impl Lead {
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

    pub(super) fn proved(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        match answer {
            Answer::Taken => self.proven(turn, key, log_of(outcome)),
            // Only who is known can be forbidden something: the token is good.
            Answer::Forbidden => {
                self.proven(turn, key, Log::Off);
                self.lose_log(turn, key, "the token may not do this");
            }
            Answer::Over(why) => {
                log::info!("check {}: the run is over ({why})", key.id());
                self.finish(turn, key, false);
            }
            Answer::TokenRefused => {
                self.retry(turn, key, None, LONGEST_RETRY);
                if self.refusals(key) >= UNPROVEN_TRIES {
                    log::error!("check {}: Azure DevOps never took its token; it is dropped", key.id());
                    self.finish(turn, key, false);
                }
            }
            Answer::Refused(fault) => {
                self.retry(turn, key, None, LONGEST_RETRY);
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
                self.retry(turn, key, *after, LONGEST_RETRY);
            }
        }
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

    pub(super) fn timeline_read(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
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

    pub(super) fn build_read(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
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
        self.retry(turn, key, after, LONGEST_RETRY) < BOUND_TRIES
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
}

/// The log that the answer to [`azure::create_log`] names.
pub(super) fn log_of(outcome: &CallOutcome) -> Log {
    let CallOutcome::Response(response) = outcome else { return Log::Off };
    let log = response.body.as_deref().ok().and_then(|body| serde_json::from_slice::<LogId>(body).ok());
    log.filter(|log| log.id > 0).map_or(Log::Off, Log::Open)
}
