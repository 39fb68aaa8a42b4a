//! Reporting a decision: the last lines, the record, then the event; and after it what could not be written before.
//!
//! Lines and record are tried three times before the event, because the stage waits for it. The event is sent until
//! Azure DevOps takes it, says that the run is over, or the token has ended.

use super::answers::{AzureCall, MAX_RETRY, claim_time, in_words_of};
use super::proving::log_of;
use super::step::count_end;
use super::{
    Check, Claim, Counter, Cx, Decided, Effects, Log, Outcome, Owing, Part, Phase, Reporting, results,
};
use crate::secret::Secret;
use crate::time::{Mono, in_words};
use crate::wire::azure::{self, Answer, Entry};
use crate::wire::call::CallOutcome;
use log::Level;
use std::time::Duration;

/// Maximum tries of lines and record before the event, and maximum pause between them.
const MAX_TRIES: u32 = 3;
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long an event waits until its decision is stored in the cluster store.
const FENCE: Duration = Duration::from_secs(60);

/// How long after the event the owed parts are tried.
const OWING: Duration = Duration::from_secs(15 * 60);

impl Check {
    /// Starts the next part of the report. Returns whether another may follow at once.
    pub(super) fn report(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let Phase::Decided(decided) = &self.durable.phase else { return false };
        let decided = decided.clone();
        match decided.next {
            Part::CancelBuild => self.cancel_build(cx, fx),
            Part::OpenLog | Part::Line | Part::Link => self.write(cx, fx, &decided),
            Part::Event if decided.outcome.is_silent() => {
                self.finish(fx, cx.now, false);
                false
            }
            Part::Event => self.send_event(cx, fx, decided.outcome),
        }
    }

    fn cancel_build(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let callback = self.durable.callback.clone();
        let Some(build) = callback.build else { return self.pass_part(Part::CancelBuild) };
        let request = |entry: &Entry, token: &Secret| azure::cancel_build(entry, &callback, token, build);
        self.call_azure(cx, fx, AzureCall::CancelBuild, request);
        false
    }

    /// Writes the log, its last lines and the record, as far as possible, and skips the rest.
    fn write(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, decided: &Decided) -> bool {
        let now = cx.now.mono;
        let told = cx.log.is_about(&self.durable);
        // They may be awaited while the lines before are under way.
        if decided.next == Part::Line {
            self.volatile.results_since.get_or_insert(now);
        }
        if let Some(until) = cx.log.holds_decision(now).filter(|_| told && decided.next != Part::OpenLog) {
            self.volatile.next = until;
            return false;
        }
        let callback = self.durable.callback.clone();
        match (decided.next, self.durable.log, callback.timeline) {
            (Part::OpenLog, Log::Unopened, _) => {
                let request = |entry: &Entry, token: &Secret| azure::create_log(entry, &callback, token);
                self.call_azure(cx, fx, AzureCall::OpenLog, request);
            }
            (Part::Line, Log::Open(_), _) if self.awaits_results(cx, decided.outcome) => return false,
            (Part::Line, Log::Open(log), _) => {
                let is_late = matches!(self.durable.phase, Phase::Owing(_)) && !decided.owed.lines;
                let tag = self.durable.ask.as_ref().map(|ask| &ask.tag);
                let files = tag.and_then(|tag| cx.config.public_files(tag));
                let lines = match is_late {
                    false => cx.log.last_lines(decided, &self.durable, cx.config, files),
                    true => cx.log.late_lines(&self.durable, cx.config, cx.now.wall),
                };
                if lines.is_empty() {
                    return self.pass_part(Part::Line);
                }
                cx.log.offer_results();
                let request = |entry: &Entry, token: &Secret| {
                    azure::append_log(entry, &callback, token, log, lines.clone())
                };
                self.call_azure(cx, fx, AzureCall::Lines, request);
            }
            (Part::Link, Log::Open(log), Some(timeline)) => {
                let change = cx.log.last_change(decided, self.durable.observe, Some(log));
                let request = |entry: &Entry, token: &Secret| {
                    azure::change_record(entry, &callback, token, timeline, &change)
                };
                self.call_azure(cx, fx, AzureCall::Link, request);
            }
            (part, ..) => return self.pass_part(part),
        }
        false
    }

    /// Whether the last lines wait for the results of tests: before the event for a short time, after it for longer. If
    /// that time is over before the event, names of failed tests are owed.
    fn awaits_results(&mut self, cx: &mut Cx<'_>, outcome: Outcome) -> bool {
        let now = cx.now.mono;
        let since = *self.volatile.results_since.get_or_insert(now);
        let is_owed = matches!(self.durable.phase, Phase::Owing(_));
        let for_names = since.plus(if is_owed { results::OWED } else { results::HOLD });
        let for_counts = since.plus(results::HOLD_COUNTS);
        let awaits_names = cx.log.awaits_results(&self.durable, results::Kind::Names);
        if let Phase::Decided(decided) = &mut self.durable.phase {
            decided.owed.results = awaits_names && now >= for_names && outcome == Outcome::Failed;
        }
        let until = match () {
            () if awaits_names => for_names,
            () if cx.log.awaits_results(&self.durable, results::Kind::Counts) => for_counts,
            () => since,
        };
        if now < until {
            self.volatile.next = until;
        } else if is_owed && awaits_names {
            cx.log.give_up_results();
        }
        now < until
    }

    /// Takes word of an answer about the results of tests: the last lines may wait for it.
    pub(super) fn tested(&mut self) {
        if self.volatile.results_since.is_some() && self.volatile.tries == 0 {
            self.volatile.next = Mono(0);
        }
    }

    /// Writes what is still owed of a reported decision.
    pub(super) fn write_owed(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        let Phase::Owing(owing) = &self.durable.phase else { return false };
        if owing.decided.owed.is_empty() {
            self.end_owing(fx);
            return false;
        }
        let decided = owing.decided.clone();
        self.write(cx, fx, &decided)
    }

    /// Ends a reported check, whatever is still owed.
    pub(super) fn end_owing(&mut self, fx: &mut Effects) {
        fx.done = self.durable.reported();
    }

    /// Takes the answer to the cancellation of the build: the log says whether it succeeded.
    pub(super) fn build_cancelled(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, answer: &Answer) {
        if let Answer::Later(_, after) = answer
            && self.retry(cx, after.map(|after| after.min(MAX_PAUSE)), MAX_PAUSE) < MAX_TRIES
        {
            return;
        }
        let Some(build) = self.durable.callback.build else { return };
        let note = match answer {
            Answer::Taken => format!(" Build {build} is being cancelled (checks.on_open_gate)."),
            Answer::Forbidden | Answer::TokenRefused => format!(
                " Build {build} could not be cancelled ({}): the build service's identity needs the permission `Stop builds`.",
                in_words_of(answer)
            ),
            _ => format!(" Build {build} could not be cancelled ({}).", in_words_of(answer)),
        };
        fx.say(Level::Warn, format!("check {}: the gate is open.{note}", self.key.id()));
        if let Phase::Decided(decided) = &mut self.durable.phase
            && decided.next == Part::CancelBuild
        {
            decided.reason.push_str(&note);
            self.pass_part(Part::CancelBuild);
        }
    }

    /// Takes the answer to a call that writes a part. After a success the report goes on; after several failures the
    /// part is owed.
    pub(super) fn part_answered(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        ask: AzureCall,
        token: u32,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        let part = match ask {
            AzureCall::OpenLog => Part::OpenLog,
            AzureCall::Lines => Part::Line,
            _ => Part::Link,
        };
        let after = match answer {
            // Another caller's token may do less: the other token has its turn.
            Answer::Forbidden | Answer::Refused(_) if self.is_foreign(token) => None,
            Answer::Taken | Answer::Forbidden if part == Part::OpenLog => {
                self.durable.log = if *answer == Answer::Taken { log_of(outcome) } else { Log::Off };
                self.note_written(part);
                return;
            }
            Answer::Taken | Answer::Forbidden | Answer::Refused(_) => {
                if part == Part::Line && *answer == Answer::Taken {
                    cx.log.note_results_taken();
                }
                return self.note_written(part);
            }
            Answer::Over(_) => return self.skip_to_event(fx),
            Answer::Later(_, after) => *after,
            Answer::TokenRefused => None,
        };
        if matches!(self.durable.phase, Phase::Owing(_)) {
            self.retry(cx, after, MAX_RETRY);
        } else if self.retry(cx, after.map(|after| after.min(MAX_PAUSE)), MAX_PAUSE) >= MAX_TRIES {
            self.owe(part);
            self.pass_part(part);
        }
    }

    /// Notes that a part was written, or cannot be.
    fn note_written(&mut self, part: Part) {
        if let Phase::Owing(owing) = &mut self.durable.phase {
            match part {
                Part::Line => (owing.decided.owed.lines, owing.decided.owed.results) = (false, false),
                Part::Link => owing.decided.owed.record = false,
                _ => {}
            }
        }
        self.pass_part(part);
    }

    /// Moves on from this part to the next; returns true.
    fn pass_part(&mut self, part: Part) -> bool {
        let log = self.durable.log;
        self.restart();
        match &mut self.durable.phase {
            Phase::Decided(decided) if decided.next == part => {
                decided.next = match (part, log) {
                    (Part::CancelBuild, _) => log.first_part(),
                    (Part::OpenLog, Log::Open(_)) => Part::Line,
                    (Part::Line, _) => Part::Link,
                    _ => Part::Event,
                };
            }
            Phase::Owing(owing) if owing.decided.next == part => {
                let owed = &mut owing.decided.owed;
                owing.decided.next = match (part, log) {
                    (Part::OpenLog, Log::Open(_)) if owed.has_lines() => Part::Line,
                    (Part::OpenLog | Part::Line, Log::Open(_)) if owed.record => Part::Link,
                    _ => {
                        *owed = super::Owed::default();
                        Part::Event
                    }
                };
            }
            _ => {}
        }
        true
    }

    /// Notes that the part is owed after the event. Without a log, its lines and its link are.
    fn owe(&mut self, part: Part) {
        let has_record = self.durable.callback.timeline.is_some();
        if let Phase::Decided(decided) = &mut self.durable.phase {
            decided.owed.lines |= part != Part::Link;
            decided.owed.record |= part == Part::Link || (part == Part::OpenLog && has_record);
        }
    }

    fn skip_to_event(&mut self, fx: &mut Effects) {
        self.restart();
        match &mut self.durable.phase {
            Phase::Decided(decided) => decided.next = Part::Event,
            Phase::Owing(_) => self.end_owing(fx),
            _ => {}
        }
    }

    /// Claims the event, then sends it.
    fn send_event(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, outcome: Outcome) -> bool {
        let now = cx.now.mono;
        if let Some(claim) = self.durable.claim.filter(|claim| now < claim.until) {
            self.volatile.next = claim.until;
            return false;
        }
        if !self.passes_fence(cx, fx) {
            return false;
        }
        let Some(entry) = self.reach(cx, fx) else { return false };
        let callback = self.durable.callback.clone();
        let passes = outcome == Outcome::Passed || self.durable.observe;
        let request = |entry: &Entry, token: &Secret| azure::complete_task(entry, &callback, token, passes);
        let until = now.plus(claim_time(&request(&entry, self.durable.tokens.current())));
        // An expired claim was for an event that may have been taken: nobody read its answer.
        self.durable.taken |= self.durable.claim.is_some();
        let delivery = self.durable.delivery;
        self.durable.claim = Some(Claim { holder: cx.holder, send: cx.random.draw(), delivery, until });
        match (self.call_azure(cx, fx, AzureCall::Event, request), &mut self.durable.phase) {
            (true, Phase::Decided(decided)) => decided.sends = decided.sends.saturating_add(1),
            (true, _) => {}
            (false, _) => self.durable.claim = None,
        }
        false
    }

    /// Whether its event may be sent: its decision is stored, so that no replica that adopts it decides anew. If the API
    /// server does not answer for [`FENCE`], the event is sent all the same.
    fn passes_fence(&mut self, cx: &Cx<'_>, fx: &mut Effects) -> bool {
        if cx.config.store.is_none() || self.durable.is_fenced() {
            return true;
        }
        let until = *self.volatile.fence.get_or_insert(cx.now.mono.plus(FENCE));
        if cx.now.mono < until {
            self.volatile.next = until;
            return false;
        }
        if self.durable.claim.is_none() {
            let (id, wait) = (self.key.id(), in_words(FENCE));
            fx.say(
                Level::Warn,
                format!("check {id}: its decision could not be stored for {wait}: it is sent all the same, and a replica that adopts the check may send another"),
            );
            fx.count(Counter::Unfenced);
        }
        true
    }

    /// Takes the answer to a TaskCompleted.
    pub(super) fn event_answered(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        reporting: Reporting,
        answer: &Answer,
    ) {
        let token = reporting.token;
        let (is_refused, after) = match answer {
            // The run that is over belongs to another delivery's values.
            Answer::Over(_) if self.drop_candidate(token) => return self.unclaim(reporting.send),
            Answer::Taken | Answer::Over(_) => return self.conclude(cx, fx, reporting, answer),
            Answer::Later(fault, after) => {
                // The event may have been taken although its answer was lost: a later "the run is over" is then due to
                // it.
                self.durable.taken |= !fault.was_refused();
                (false, *after)
            }
            Answer::TokenRefused | Answer::Forbidden | Answer::Refused(_) => (true, None),
        };
        self.unclaim(reporting.send);
        if self.durable.is_proven() {
            self.note_token(true, token, answer);
            self.retry(cx, after, MAX_RETRY);
        } else if self.rests_on_reading() {
            // The verdict belongs to this delivery's values: no other token sends it.
            if !is_refused || !self.drop_candidate(token) {
                self.retry(cx, after, MAX_RETRY);
            }
        } else {
            self.pass_turn(cx, fx, token, is_refused, after);
        }
    }

    /// Whether its decision rests on a reading of the executions.
    fn rests_on_reading(&self) -> bool {
        let outcome = self.durable.decided().map(|decided| decided.outcome);
        matches!(outcome, Some(Outcome::Passed | Outcome::Failed)) && self.durable.known.is_none()
    }

    /// Ends the check, because Azure DevOps took the event for a delivery, or no longer wants it. If a newer delivery
    /// has come meanwhile the check goes on: an answer belongs to the delivery that it was sent for, and the newer one
    /// is told too.
    fn conclude(&mut self, cx: &Cx<'_>, fx: &mut Effects, reporting: Reporting, answer: &Answer) {
        let is_taken = *answer == Answer::Taken;
        let Phase::Decided(decided) = &self.durable.phase else { return };
        if self.durable.delivery > reporting.delivery {
            self.durable.taken |= is_taken;
            self.durable.is_reported |= is_taken;
            // Another one may be under way by now.
            self.unclaim(reporting.send);
            if is_taken {
                self.durable.token_was_taken(reporting.token);
            }
            return self.restart();
        }
        if let Answer::Over(why) = answer
            && !self.durable.taken
        {
            let id = self.key.id();
            fx.say(Level::Info, format!("check {id}: Azure DevOps no longer waits for it ({why})"));
        }
        if !is_taken || decided.owed.is_empty() {
            return self.finish(fx, cx.now, is_taken || self.durable.taken);
        }
        let next = match (self.durable.log, decided.owed.has_lines()) {
            (Log::Unopened, _) => Part::OpenLog,
            (_, true) => Part::Line,
            (_, false) => Part::Link,
        };
        let decided = Decided { next, ..decided.clone() };
        self.volatile.results_since = None;
        count_end(fx, &self.durable.done(true, cx.now));
        self.durable.claim = None;
        self.durable.token_was_taken(reporting.token);
        let until = cx.now.mono.plus(OWING);
        // It is free of the limits from here on.
        self.durable.leave_place();
        self.durable.phase = Phase::Owing(Owing { decided, reported: cx.now, until });
        self.restart();
    }

    /// Drops the claim of a send that is no longer under way.
    pub(super) fn unclaim(&mut self, send: u64) {
        self.durable.claim.take_if(|claim| claim.send == send);
    }

    /// Gives up the log: the decision comes without it.
    pub(super) fn lose_log(&mut self, fx: &mut Effects, why: &str) {
        self.durable.log = Log::Off;
        let id = self.key.id();
        let line = format!("check {id}: its log cannot be written ({why}); the decision is sent without it");
        fx.say(Level::Warn, line);
        fx.count(Counter::LogLost);
    }
}
