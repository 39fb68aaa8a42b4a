//! Before Testkube is asked: that Azure DevOps takes the check's token, and since when executions count.

use super::azure_calls::{LONGEST_RETRY, Step, in_words_of};
use super::{Lead, Turn};
use crate::azure::{self, Answer, Callback, Entry, LogId, Urgency};
use crate::call::{Outcome as CallOutcome, Request};
use crate::check::{CheckKey, Log, Outcome, Pending, Phase, Watch};
use crate::secret::Secret;
use crate::time::{Wall, in_words};
use std::time::Duration;

/// A token that Azure DevOps has never taken is tried for so long after its check was last delivered: its sign-in can be
/// broken for a while, or a proxy's, and a check that is dropped is one that its stage waits for in vain.
const UNPROVEN: Duration = Duration::from_secs(30 * 60);
const BOUND_TRIES: u32 = 8;

/// What shows that Azure DevOps takes a token, in the order in which it is asked. Only a 2xx proves one: who is known and
/// may not do something can be anybody whom this Azure DevOps knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The check's log is created, which is needed anyway.
    Log,
    /// Where that is forbidden: the check's own timeline can be read.
    Record,
    /// Where that is forbidden too: the build can.
    Build,
}

impl Proof {
    /// What is asked next where this was forbidden.
    fn next(self, callback: &Callback) -> Option<Proof> {
        match self {
            Proof::Log => Some(Proof::Record),
            Proof::Record => callback.build.map(|_| Proof::Build),
            Proof::Build => None,
        }
    }

    fn request(self, entry: &Entry, callback: &Callback, token: &Secret) -> Request {
        match (self, callback.build) {
            (Proof::Build, Some(build)) => azure::build(entry, callback, token, build),
            // A check's timeline has its plan's id in all recorded exchanges.
            (Proof::Record, _) => {
                azure::read_records(entry, callback, token, callback.timeline.unwrap_or(callback.plan))
            }
            (Proof::Log | Proof::Build, _) => azure::create_log(entry, callback, token),
        }
    }
}

impl Lead {
    /// Accepted: asks something that only who has a good token is answered.
    pub(super) fn prove(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        if !pending.rivals.is_empty() && !self.is_open(turn, &pending.callback) {
            // Others need not wait until this one's Azure DevOps may be asked.
            let open: Vec<String> = self.config.azure_devops.iter().map(Entry::url).collect();
            let now = turn.now.mono;
            let paces = self.paces.clone();
            let is_open = |Callback { entry, project, .. }: &Callback| {
                open.contains(entry) && paces.may_call(now, entry, *project, Urgency::Owed)
            };
            self.change(turn, key, |pending| {
                pending.bring_forward(|one| is_open(&one.callback)).then_some(())
            });
        }
        let Some(pending) = self.find(key).cloned() else { return };
        let token = pending.tokens.current_delivery();
        let begun = self.tasks.get(key).and_then(|task| task.proof).filter(|(of, _)| *of == token);
        let proof = begun.map_or(Proof::Log, |(_, proof)| proof);
        let callback = &pending.callback;
        self.call_azure(turn, key, &pending, Step::Prove(proof), |entry, token| {
            proof.request(entry, callback, token)
        });
    }

    fn is_open(&self, turn: &Turn<'_>, callback: &Callback) -> bool {
        let is_listed = self.config.azure_devops.iter().any(|entry| entry.url() == callback.entry);
        is_listed && self.may_call(turn.now.mono, callback, Urgency::Owed)
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

    /// The answer to a proof with the token that delivery number `token` brought.
    pub(super) fn proved(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        proof: Proof,
        token: u32,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        let front = self.find(key).filter(|pending| pending.tokens.came_with(token));
        let next = front.and_then(|pending| proof.next(&pending.callback));
        match (answer, next) {
            (Answer::Taken, _) => {
                let log = if proof == Proof::Log { log_of(outcome) } else { Log::Off };
                if self.proven(turn, key, token, log) && proof != Proof::Log {
                    self.lose_log(turn, key, "the token may not do this");
                }
            }
            (Answer::Forbidden | Answer::Refused(_), Some(next)) => {
                self.tasks.entry(*key).or_default().proof = Some((token, next));
                self.restart(key);
            }
            (Answer::Forbidden | Answer::Refused(_) | Answer::TokenRefused, _) => {
                self.pass_turn(turn, key, token, true, None);
            }
            (Answer::Later(_, after), _) => self.pass_turn(turn, key, token, false, *after),
            (Answer::Over(why), _) => {
                if !self.drop_candidate(turn, key, token) {
                    log::info!("check {}: the run is over ({why})", key.id());
                    self.finish(turn, key, false);
                }
            }
        }
    }

    /// The values that the token came with are the check's; false where it was proven before.
    fn proven(&mut self, turn: &mut Turn<'_>, key: &CheckKey, token: u32, log: Log) -> bool {
        let at = turn.now.wall;
        let known = self.change(turn, key, |pending| {
            let is_open = pending.phase == Phase::Accepted;
            (is_open && pending.prove(token)).then(|| {
                pending.log = log;
                pending.phase = Phase::Proven;
                let known = pending.known.take();
                if let Some(known) = &known {
                    pending.decide(known.outcome, known.reason.clone(), at);
                }
                known
            })
        });
        if let Some(Some(known)) = &known {
            log::info!("check {}: {}: {}", key.id(), known.outcome, known.reason);
        }
        self.restart(key);
        known.is_some()
    }

    /// A call for a check that is not proven has failed: the next of its deliveries has its turn, after a pause where all had
    /// theirs. Where all were refused for half an hour, what could not be determined is reported, and then it is over.
    pub(super) fn pass_turn(
        &mut self,
        turn: &mut Turn<'_>,
        key: &CheckKey,
        token: u32,
        is_refused: bool,
        after: Option<Duration>,
    ) {
        let has_rivals = self.find(key).is_some_and(|pending| !pending.rivals.is_empty());
        // An outage changes nothing of a check that stands alone.
        let all_had_turn = if is_refused || has_rivals {
            self.change(turn, key, |pending| {
                (!pending.is_proven()).then(|| pending.pass_turn(token, is_refused))
            })
        } else {
            Some(true)
        };
        self.tasks.entry(*key).or_default().proof = None;
        match all_had_turn {
            Some(true) => _ = self.retry(turn, key, after, LONGEST_RETRY),
            Some(false) => self.restart(key),
            None => return,
        }
        let now = turn.now.mono;
        let is_given_up = self.find(key).is_some_and(|pending| {
            !pending.is_proven()
                && now.since(pending.delivered) >= UNPROVEN
                && pending.all_candidates(|one| one.is_refused)
        });
        if is_given_up {
            let was_sent = self.find(key).is_some_and(|pending| matches!(pending.phase, Phase::Decided(_)));
            if was_sent {
                log::error!(
                    "check {}: Azure DevOps never took its token; it is dropped. Is `azure_devops[].auth` as this server takes tokens?",
                    key.id()
                );
                return self.finish(turn, key, false);
            }
            self.give_up_proof(
                turn,
                key,
                "Azure DevOps took no call with this check's token for half an hour, so it is not certain where it comes from, and nothing was asked of Testkube.",
            );
        }
    }

    /// What could not be proven is decided, so that its event is tried with each of its tokens: an event may be allowed where
    /// everything else is not.
    pub(super) fn give_up_proof(&mut self, turn: &mut Turn<'_>, key: &CheckKey, reason: &str) {
        let alone = self.find(key).filter(|pending| pending.rivals.is_empty());
        let rejected = alone.and_then(|pending| pending.known.clone());
        let rejected = rejected.filter(|known| known.outcome == Outcome::Rejected);
        let (outcome, reason) = match rejected {
            Some(known) => (known.outcome, known.reason),
            None => (Outcome::Inconclusive, reason.to_string()),
        };
        self.change(turn, key, |pending| {
            (pending.phase == Phase::Accepted).then(|| {
                pending.forget_refusals();
                pending.log = Log::Off;
            })
        });
        self.decide(turn, key, outcome, reason);
    }

    /// Takes the delivery that brought a token off those that are not proven; false where it is the last, or one is proven.
    pub(super) fn drop_candidate(&mut self, turn: &mut Turn<'_>, key: &CheckKey, token: u32) -> bool {
        let is_dropped = self.change(turn, key, |pending| {
            (!pending.is_proven() && pending.drop_candidate(token)).then_some(())
        });
        self.restart(key);
        is_dropped.is_some()
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
        let fixed = Some(turn.now.wall);
        self.change(turn, key, |pending| {
            let open = pending.phase == Phase::Proven;
            open.then(|| {
                let bound_from = bound_from.clone();
                pending.phase =
                    Phase::Watching(Watch { bound, bound_from, fixed, seen: None, absent: Duration::ZERO });
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
