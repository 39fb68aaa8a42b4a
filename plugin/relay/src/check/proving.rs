//! The proof of a check: Azure DevOps must take its token before Testkube is asked.

use super::answers::{AzureCall, MAX_RETRY};
use super::{Check, Cx, Effects, Log, Outcome, Phase, ReasonCode, Room, Space};
use crate::secret::Secret;
use crate::wire::azure::{self, Answer, Callback, Entry, LogId};
use crate::wire::call::{CallOutcome, Request};
use log::Level;
use std::time::Duration;

/// How long after the last delivery a token that was never taken is tried. Its sign-in, or a proxy's, can be broken for
/// a while, and the stage of a dropped check waits in vain.
const UNPROVEN: Duration = Duration::from_secs(30 * 60);

const NEVER_TAKEN: &str = "Azure DevOps accepted no call with this check's token for half an hour, so its origin is not certain, and Testkube was not asked.";

/// The calls that prove a token, in the order in which they are tried. Only a 2xx proves it: a caller that is known but
/// forbidden can be anybody known to this Azure DevOps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Create the check's log, which is needed anyway.
    Log,
    /// If that is forbidden: read the check's own timeline.
    Record,
    /// If that is forbidden too: read the build.
    Build,
}

impl Proof {
    /// The call to try after this one was forbidden.
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
            // In all recorded exchanges a check's timeline has its plan's id.
            (Proof::Record, _) => {
                azure::read_records(entry, callback, token, callback.timeline.unwrap_or(callback.plan))
            }
            (Proof::Log | Proof::Build, _) => azure::create_log(entry, callback, token),
        }
    }
}

impl Check {
    /// Makes a call that only a valid token is allowed.
    pub(super) fn prove(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        if !self.durable.rivals.is_empty() {
            // Deliveries for other entries need not wait until this one's Azure DevOps may be called.
            let is_listed = |callback: &Callback| {
                cx.config.azure_devops.iter().any(|entry| entry.url() == callback.entry)
            };
            let is_open = |callback: &Callback| {
                is_listed(callback) && !matches!((cx.space)(Room::Azure, callback), Space::Quiet(_))
            };
            if !is_open(&self.durable.callback) {
                self.durable.bring_forward(|one| is_open(&one.callback));
            }
        }
        let token = self.durable.tokens.current_delivery();
        // Another delivery may have come since: a token that may only read the build starts again beside it.
        let may_be = |proof: &Proof| *proof != Proof::Build || self.durable.are_others_refused();
        let begun = self.volatile.proof.filter(|(of, proof)| *of == token && may_be(proof));
        let proof = begun.map_or(Proof::Log, |(_, proof)| proof);
        let callback = self.durable.callback.clone();
        self.call_azure(cx, fx, AzureCall::Prove(proof), |entry, token| {
            proof.request(entry, &callback, token)
        });
        false
    }

    /// Takes the answer to a proof with the token that delivery number `token` brought.
    pub(super) fn proved(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        proof: Proof,
        token: u32,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        let is_here = self.durable.tokens.came_with(token);
        // Reading a build says nothing about the check's plan: a delivery that has proven itself there comes first.
        let may_be = |next: &Proof| *next != Proof::Build || self.durable.are_others_refused();
        let next = proof.next(&self.durable.callback).filter(|next| is_here && may_be(next));
        match (answer, next) {
            (Answer::Taken, _) => {
                let log = if proof == Proof::Log { log_of(outcome) } else { Log::Off };
                if self.proven(cx, fx, token, proof, log) && proof != Proof::Log {
                    self.lose_log(fx, "the token may not do this");
                }
            }
            (Answer::Forbidden, Some(next)) => {
                self.volatile.proof = Some((token, next));
                self.restart();
            }
            (Answer::Forbidden | Answer::Refused(_) | Answer::TokenRefused, _) => {
                self.pass_turn(cx, fx, token, true, None);
            }
            (Answer::Later(_, after), _) => self.pass_turn(cx, fx, token, false, *after),
            (Answer::Over(why), _) => {
                if !self.drop_candidate(token) {
                    fx.say(Level::Info, format!("check {}: the run is over ({why})", self.key.id()));
                    self.finish(fx, cx.now, false);
                }
            }
        }
    }

    /// Makes the values that came with the token the check's. False if it was proven before.
    fn proven(&mut self, cx: &Cx<'_>, fx: &mut Effects, token: u32, proof: Proof, log: Log) -> bool {
        let is_open = self.durable.phase == Phase::Accepted;
        self.restart();
        if !is_open || !self.durable.prove(token, proof != Proof::Build) {
            return false;
        }
        self.durable.log = log;
        self.durable.phase = Phase::Proven;
        // Only a repeated check knows what was reported before.
        if let Some(known) = self.durable.known.clone() {
            self.durable.before = self.durable.before.filter(|_| known.repeats_until.is_none());
            self.decide_as(cx, fx, known);
        }
        true
    }

    /// Passes the turn to the next delivery after a failed call of an unproven check, with a pause once all have had
    /// theirs. If all were refused for half an hour, "could not be determined" is reported, and the check is over.
    pub(super) fn pass_turn(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        token: u32,
        is_refused: bool,
        after: Option<Duration>,
    ) {
        if self.durable.is_proven() {
            return;
        }
        // An outage changes nothing for a check with a single delivery.
        let changes = is_refused || !self.durable.rivals.is_empty();
        let all_had_turn = !changes || self.durable.pass_turn(token, is_refused, cx.now.mono);
        self.volatile.proof = None;
        match all_had_turn {
            true => _ = self.retry(cx, after, MAX_RETRY),
            false => self.restart(),
        }
        let is_given_up = cx.now.mono.since(self.durable.delivered) >= UNPROVEN
            && self.durable.all_candidates(|one| one.is_refused);
        if is_given_up && self.durable.decided().is_some() {
            fx.say(
                Level::Error,
                format!(
                    "check {}: Azure DevOps never accepted its token; the check is dropped. Does `azure_devops[].auth` fit this server?",
                    self.key.id()
                ),
            );
            self.finish(fx, cx.now, false);
        } else if is_given_up {
            self.give_up_proof(cx, fx, ReasonCode::TokenRefused, NEVER_TAKEN);
        }
    }

    /// Decides a check that could not be proven, so that its event is tried with each of its tokens: a token may be
    /// allowed to send an event and nothing else.
    pub(super) fn give_up_proof(&mut self, cx: &Cx<'_>, fx: &mut Effects, code: ReasonCode, reason: &str) {
        let rejected = self
            .durable
            .known
            .clone()
            .filter(|known| self.durable.rivals.is_empty() && known.outcome == Outcome::Rejected);
        if self.durable.phase == Phase::Accepted {
            self.durable.forget_refusals();
            self.durable.log = Log::Off;
        }
        match rejected {
            Some(known) => self.decide_as(cx, fx, known),
            None => self.decide(cx, fx, code, reason.into()),
        }
    }

    /// Drops the unproven delivery that brought a token. False if it is the last, or one is proven.
    pub(super) fn drop_candidate(&mut self, token: u32) -> bool {
        let is_dropped = !self.durable.is_proven() && self.durable.drop_candidate(token);
        if is_dropped {
            self.restart();
        }
        is_dropped
    }
}

/// The log in the answer to [`azure::create_log`].
pub(super) fn log_of(outcome: &CallOutcome) -> Log {
    let CallOutcome::Response(response) = outcome else { return Log::Off };
    let log = response.body.as_deref().ok().and_then(|body| crate::json::read::<LogId>(body).ok());
    log.filter(|log| log.id > 0).map_or(Log::Off, Log::Open)
}
