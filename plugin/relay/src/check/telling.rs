//! The texts for Azure DevOps: the lines of the log and the changes of the record; and what the answers to them mean
//! for the check.

use super::code::in_brackets;
use super::heard::News;
use super::run::may_abort;
use super::{
    Ask, Check, Counter, Cx, Decided, Effects, Heard, LiveLog, LogCx, Outcome, Pending, Phase, ReasonCode,
    Reported, Told, Watch, reason,
};
use crate::check::scene::{Line, MAX_TEXT, Mark, advice};
use crate::config::Config;
use crate::expect::Expect;
use crate::text::{listed, one_line};
use crate::time::{Mono, Now, Wall, in_words};
use crate::wire::azure::{HubName, LogId, RecordChange};
use log::Level;

impl Check {
    /// Takes an answer of Azure DevOps to the live log. `others_wait`: another check waits for the same tag.
    pub(super) fn heard(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, heard: &Heard, others_wait: bool) {
        if heard.began != self.durable.began {
            return;
        }
        self.say_fault(fx, heard.what, &heard.answer);
        self.note_token(heard.is_at_plan, heard.token, &heard.answer);
        let is_watching = matches!(self.durable.phase, Phase::Watching(_));
        if self.volatile.tries == 0 {
            // Wakes a decision that waited for this.
            self.volatile.next = Mono(0);
        }
        let id = self.key.id();
        match &heard.news {
            Some(News::Told(told)) => self.durable.told = Some(told.clone()),
            Some(News::LogLost(why)) if is_watching => self.lose_log(fx, why),
            Some(News::RecordLost(why)) => {
                fx.say(
                    Level::Warn,
                    format!(
                        "check {id}: its timeline record cannot be written ({why}); the decision is sent without it"
                    ),
                );
                fx.count(Counter::LogLost);
            }
            Some(News::RunOver(why)) if is_watching => {
                fx.say(Level::Info, format!("check {id}: the run is over ({why})"));
                self.finish(fx, cx.now, false);
            }
            Some(News::RunEnded { outcome, reason, by_build }) if is_watching => {
                let aborts = match *by_build && may_abort(cx.config, &self.durable) {
                    true => abort(cx, fx, &self.durable, others_wait),
                    false => String::new(),
                };
                let code = match outcome {
                    Outcome::OpenGate => ReasonCode::OpenGate,
                    _ => ReasonCode::RunOver,
                };
                self.decide(cx, fx, code, format!("{reason}{aborts}"));
            }
            _ => {}
        }
    }
}

/// Aborts the counted executions that still run, after Azure DevOps has said that the run is over, unless another check
/// waits for them. Returns the continuation of the reason.
fn abort(cx: &Cx<'_>, fx: &mut Effects, pending: &Pending, others_wait: bool) -> String {
    let running = cx.log.under_way();
    if running.is_empty() {
        return String::new();
    }
    if others_wait {
        return " Its executions go on, because another check waits for them.".into();
    }
    let names = listed(running.iter().map(|(_, name)| name.clone()), 10);
    fx.aborts = pending.ask.as_ref().map(|ask| (ask.tag.clone(), running));
    format!(" Testrelay aborts its executions that still run: {names}.")
}

impl LiveLog {
    /// The lines to write now, and what the log says with them.
    pub(super) fn lines(
        &self,
        ask: &Ask,
        watch: &Watch,
        pending: &Pending,
        cx: &LogCx<'_>,
    ) -> (Vec<(Mark, String)>, Told) {
        let dashboard = cx.config.testkube.dashboard.as_ref();
        let mut lines: Vec<(Mark, String)> =
            self.digest.iter().map(|digest| (Mark::Plain, digest.clone())).collect();
        lines.extend(self.scene.lines(&self.said, dashboard));
        let results = self.result_lines(pending, cx.config, &mut lines);
        lines.extend(cx.explained.iter().map(|why| (Mark::Plain, why.clone())));
        let advice = advice(self.absent, self.advice);
        if let Some((_, text)) = advice {
            let absent = in_words(self.absent);
            let words = match (self.scene.only_older(), self.scene.is_empty()) {
                (Some(newest), _) => format!("after {absent}: {}", reason::only_older(ask, watch, newest)),
                (None, true) => format!("no execution tagged {}, after {absent}. {text}", ask.tag),
                (None, false) => format!("still missing: {}, after {absent}. {text}", self.scene.missing()),
            };
            lines.push((Mark::Warning, words));
        }
        let advice = advice.map_or(self.advice, |(given, _)| given);
        (lines, Told { fingerprint: self.scene.fingerprint(), advice, results })
    }

    /// The last lines: changes not told yet, the decision, a table of the executions, and the link to their files.
    pub(super) fn last_lines(
        &self,
        decided: &Decided,
        pending: &Pending,
        config: &Config,
        files: Option<String>,
    ) -> String {
        let (observe, dashboard) = (pending.observe, config.testkube.dashboard.as_ref());
        let mut lines: Vec<(Mark, String)> = self.scene.lines(&self.said, dashboard);
        self.result_lines(pending, config, &mut lines);
        if pending.told.is_none() {
            lines.extend(pending.before.map(|before| again(before, pending.callback.hub, decided.at)));
        }
        lines.push(decision(decided, observe, &self.failed_tests()));
        let table = self.scene.table(dashboard);
        let files = files.filter(|_| !table.is_empty());
        lines.extend(table.into_iter().map(|row| (Mark::Plain, row)));
        lines.extend(files.map(|link| (Mark::Plain, format!("Their files: {link}"))));
        rendered(decided.at, lines)
    }

    /// The record's last change.
    pub(super) fn last_change(&self, decided: &Decided, observe: bool, log: Option<LogId>) -> RecordChange {
        let is_over = decided.outcome.is_silent();
        let mut errors = self.scene.failures();
        if matches!(decided.outcome, Outcome::OpenGate)
            || (errors.is_empty() && decided.outcome != Outcome::Passed)
        {
            errors = vec![format!("Testrelay: {}", crate::text::clip(decided.reason.clone(), 500))];
        }
        if decided.outcome == Outcome::Over || decided.outcome == Outcome::Passed {
            errors.clear();
        }
        RecordChange {
            begin: self.shown.is_none() && !is_over,
            log: log.filter(|_| self.shown.is_none()),
            percent: (!is_over).then_some(100),
            operation: (!is_over).then(|| in_words_of(decided.outcome, observe)),
            errors,
        }
    }
}

/// The decision as a line, with the first failed tests.
fn decision(decided: &Decided, observe: bool, failed_tests: &str) -> (Mark, String) {
    let mark = match decided.outcome {
        Outcome::Passed => Mark::Section,
        _ if observe => Mark::Warning,
        Outcome::Over => Mark::Warning,
        _ => Mark::Error,
    };
    let failed_tests = if decided.outcome == Outcome::Passed { "" } else { failed_tests };
    let code = in_brackets(decided.code.filter(|code| *code != ReasonCode::AllPassed));
    let outcome = in_words_of(decided.outcome, observe);
    let (mut begin, end) =
        (format!("Testrelay: {outcome}. {}", decided.reason), format!("{failed_tests}{code}"));
    // Programs read the code, so the reason is what is cut. Between two `#` comes a space.
    if 2 * begin.len() + end.len() > MAX_TEXT {
        begin = one_line(&begin, MAX_TEXT.saturating_sub(end.chars().count()).saturating_sub(1));
    }
    (mark, begin + &end)
}

/// An outcome in words.
fn in_words_of(outcome: Outcome, observe: bool) -> String {
    match observe && !outcome.is_silent() {
        true => format!("OBSERVE ONLY, would have been: {outcome}"),
        false => outcome.to_string(),
    }
}

/// The line that says that an answered check is evaluated again, and how to stop that if it is not wanted.
fn again(before: Reported, hub: HubName, now: Wall) -> (Mark, String) {
    let why = match hub {
        HubName::Checks => {
            "Unless somebody has re-run it, its `Time between evaluations` is not 0, so a negative result is not final: set it to 0 in the check's settings (REST: retryInterval 0)"
        }
        // A server task of an agentless job: all its attempts have the same ids.
        HubName::Build | HubName::Release => {
            "Unless somebody has re-run the job, its task is retried: a negative result is not final while `retryCountOnTaskFailure` is more than 0"
        }
    };
    let text = format!(
        "Azure DevOps has sent this check again, although `{}` was reported at {}: it is evaluated anew. {why}",
        before.outcome,
        before.at.clock(now)
    );
    (Mark::Warning, text)
}

/// The first lines of the log.
pub(super) fn opening(pending: &Pending, ask: &Ask, watch: &Watch, now: Now) -> Vec<(Mark, String)> {
    let mut lines = vec![(
        Mark::Plain,
        format!(
            "Testrelay {} waits for the Testkube executions tagged {}",
            env!("CARGO_PKG_VERSION"),
            ask.tag
        ),
    )];
    lines.push(match &ask.expect {
        Expect::Any => (
            Mark::Warning,
            format!(
                "No expectation was given (Testrelay-Expect): one execution{} is enough, once nothing has changed for {}",
                if ask.policies.optional.is_empty() { "" } else { " that is not optional" },
                in_words(ask.settle)
            ),
        ),
        expect => {
            let but = if ask.policies.optional.is_empty() { "" } else { ", but for the optional ones" };
            (Mark::Plain, format!("Expected: {expect}. Every execution with the tag must pass{but}"))
        }
    });
    lines.extend(ask.policies.in_words().into_iter().map(|words| (Mark::Plain, words)));
    if pending.observe && ask.policies.retry > 0 {
        lines.push((Mark::Warning, "While the credential only observes, nothing is run again".into()));
    }
    lines.push((
        Mark::Plain,
        format!(
            "Counted since {} ({}). Decided when all have ended, at the latest after {}; the expected executions must appear within {}",
            watch.bound.clock(now.wall),
            watch.bound_from,
            pending.deadline().in_words(pending.tokens.ends().unwrap_or_default()),
            in_words(ask.appear_timeout)
        ),
    ));
    lines.extend(pending.before.map(|before| again(before, pending.callback.hub, now.wall)));
    lines
}

pub(super) fn rendered(at: Wall, lines: Vec<(Mark, String)>) -> String {
    lines.into_iter().map(|(mark, text)| Line { at, mark, text }.render()).collect()
}
