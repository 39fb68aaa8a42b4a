//! The lower bound: the time since which executions count, from the best source that the request names.

use super::answers::{AzureCall, MAX_RETRY, in_words_of};
use super::{Check, Cx, Effects, Phase, ReasonCode, Watch};
use crate::config::Policy;
use crate::secret::Secret;
use crate::text::one_line;
use crate::time::{Mono, Wall, in_words};
use crate::wire::azure::{self, Answer, Attempt, Entry};
use crate::wire::call::CallOutcome;
use std::time::Duration;

const MAX_TRIES: u32 = 8;

impl Check {
    /// Finds the lower bound. Returns whether it is known already.
    pub(super) fn find_bound(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let callback = self.durable.callback.clone();
        let tests_build = self.tests_build();
        let wants_stage = self.durable.ask.as_ref().is_some_and(|ask| ask.since_stage.is_some());
        match tests_build.or(callback.build) {
            Some(build) if wants_stage => {
                let request = |entry: &Entry, token: &Secret| azure::timeline(entry, &callback, token, build);
                self.call_azure(cx, fx, AzureCall::ReadTimeline, request);
                false
            }
            Some(build) => {
                let request = |entry: &Entry, token: &Secret| azure::build(entry, &callback, token, build);
                self.call_azure(cx, fx, AzureCall::ReadBuild, request);
                false
            }
            None => {
                self.bound_by_arrival(cx, "no BuildId was sent");
                true
            }
        }
    }

    pub(super) fn timeline_read(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        let stage = self.durable.ask.as_ref().and_then(|ask| ask.since_stage.clone());
        let Some(stage) = stage.filter(|_| !self.retries_bound(cx, answer)) else { return };
        let shown = one_line(&stage, 64);
        let unreadable = match (answer, outcome) {
            (Answer::Taken, CallOutcome::Response(response)) => {
                let body = response.body.as_deref().map_err(|_| "the build's timeline is too large");
                match body.and_then(|body| azure::newest_attempt(body, &stage)) {
                    Ok(attempt) => return self.watch_attempt(cx, &attempt, &shown),
                    Err(why) => why.to_string(),
                }
            }
            (Answer::Over(_), _) => return self.finish(fx, cx.now, false),
            _ => format!("the build's timeline could not be read ({})", in_words_of(answer)),
        };
        let reason =
            format!("The check asks for executions since the start of stage `{shown}`, but {unreadable}.");
        self.decide(cx, fx, ReasonCode::StageUnreadable, reason);
    }

    pub(super) fn build_read(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        if self.retries_bound(cx, answer) {
            return;
        }
        let tests_build = self.tests_build();
        let start = match (answer, outcome) {
            (Answer::Taken, CallOutcome::Response(response)) => {
                response.body.as_deref().ok().and_then(azure::build_start)
            }
            (Answer::Over(_), _) if tests_build.is_none() => return self.finish(fx, cx.now, false),
            _ => None,
        };
        match (start, tests_build) {
            (Some(start), None) => self.watch_since(cx, start, "start of the build".into()),
            (Some(start), Some(build)) => self.watch_since(cx, start, format!("start of build {build}")),
            (None, None) => self.bound_by_arrival(cx, "the build's start could not be read"),
            (None, Some(build)) => {
                let why = match answer {
                    Answer::Taken => "its answer has no start time".into(),
                    answer => in_words_of(answer),
                };
                let advice = match answer {
                    Answer::Taken | Answer::TokenRefused | Answer::Later(..) => String::new(),
                    _ => {
                        format!(
                            " If build {build} is such a run, look at \"Limit job authorization scope to current project\" in the project's pipeline settings, and at who may view that pipeline's builds."
                        )
                    }
                };
                let reason = format!(
                    "The check counts executions since the start of build {build} (Testrelay-Tests-Build), which could not be read: {why}. Name a run of this project that has started.{advice}"
                );
                self.decide(cx, fx, ReasonCode::BuildUnreadable, reason);
            }
        }
    }

    /// The run of another pipeline whose start is the only bound.
    fn tests_build(&self) -> Option<u64> {
        self.durable.ask.as_ref()?.policies.tests_build
    }

    /// Whether another try may find the bound; if so, it is due.
    fn retries_bound(&mut self, cx: &mut Cx<'_>, answer: &Answer) -> bool {
        let after = match answer {
            Answer::Later(_, after) => *after,
            Answer::TokenRefused => None,
            _ => return false,
        };
        let tries = self.retry(cx, after, MAX_RETRY);
        // Without another bound, an outage is waited out, until the check's deadline at the latest.
        tries < MAX_TRIES || self.tests_build().is_some() && matches!(answer, Answer::Later(..))
    }

    fn bound_by_arrival(&mut self, cx: &Cx<'_>, why: &str) {
        let lookback = cx.config.checks.lookback;
        let from = format!("{} before the check arrived, because {why}", in_words(lookback));
        self.watch_since(cx, self.durable.accepted.wall.minus(lookback), from);
    }

    /// Counts executions since the start of the stage's newest attempt or, where only some of its jobs ran and the credential
    /// allows it, since that of the attempts before.
    fn watch_attempt(&mut self, cx: &Cx<'_>, attempt: &Attempt, stage: &str) {
        let Attempt { start, number, kept } = *attempt;
        let own = cx.config.credential(&self.durable.credential);
        let is_allowed = cx.config.credentials.is_empty()
            || own.is_some_and(|own| own.forbids(Policy::RerunJobs).is_none());
        match kept.filter(|kept| is_allowed && *kept < start) {
            None => self.watch_since(cx, start, format!("start of stage `{stage}`, attempt {number}")),
            Some(kept) => {
                let from = format!(
                    "start of the jobs of stage `{stage}` that did not run again in its attempt {number}"
                );
                self.watch_since(cx, kept, from);
                if let Phase::Watching(watch) = &mut self.durable.phase {
                    watch.attempt = Some(start.minus(cx.config.checks.clock_skew));
                }
            }
        }
    }

    /// Fixes the lower bound and begins to ask Testkube.
    fn watch_since(&mut self, cx: &Cx<'_>, start: Wall, bound_from: String) {
        if self.durable.phase == Phase::Proven {
            let bound = start.minus(cx.config.checks.clock_skew);
            let fixed = Some(cx.now.wall);
            self.durable.phase = Phase::Watching(Watch {
                bound,
                bound_from,
                attempt: None,
                fixed,
                seen: None,
                absent: Duration::ZERO,
                retries: super::Retries::default(),
            });
            self.volatile.poll = Mono(0);
        }
        self.restart();
    }
}
