//! What the people at one check have been told, and what is to be told next.

use super::reason;
use super::run::{Look, RunWatch};
use crate::azure::{HubName, RecordChange};
use crate::check::{Ask, Decided, Log, Outcome, Pending, Phase, Reported, Told, Watch};
use crate::config::Dashboard;
use crate::expect::Expect;
use crate::status::{Line, Mark, Scene, advice};
use crate::testkube::Execution;
use crate::time::{Mono, Now, Wall, in_words};
use crate::verdict::Assessment;
use std::time::Duration;

/// News is told after this; the rest waits longer.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(150);

/// A decision waits for lines that are on their way, so that its own stands below them, but no longer than this.
const LINES_FIRST: Duration = Duration::from_secs(3);

/// What the people at one check have been told, and what they have not.
#[derive(Default)]
pub(super) struct Teller {
    /// The acceptance of the check that this is about.
    pub(super) accepted: Mono,
    pub(super) scene: Scene,
    pub(super) said: Scene,
    /// Whether another context has told the beginning, and this one has not read since.
    pub(super) is_adopted: bool,
    /// Whether another context has told the beginning.
    pub(super) has_taken_over: bool,
    /// Nothing is to be told until something changes.
    is_quiet: bool,
    /// Whether an execution is worth a look.
    may_look: bool,
    /// What to say once in place of the changes that nobody here has seen.
    pub(super) digest: Option<String>,
    pub(super) advice: u8,
    pub(super) absent: Duration,
    /// What the record shows.
    pub(super) shown: Option<(u8, String)>,
    /// No TimelineId was sent, which has been counted.
    pub(super) is_unshown: bool,
    /// Azure DevOps does not let this token change the record.
    pub(super) is_record_closed: bool,
    /// The call in flight and since when.
    pub(super) sending: Option<(Sending, Mono)>,
    /// Lines have been sent: the record is brought up to date as well.
    pub(super) shows_next: bool,
    /// When lines were last sent.
    pub(super) sent: Mono,
    /// What is not news waits until then.
    pub(super) due: Mono,
    pub(super) failures: u32,
    /// No call before this, after a failure.
    pub(super) held_until: Mono,
    pub(super) is_looking: bool,
    pub(super) next_look: Mono,
    pub(super) last_look: String,
    pub(super) run: RunWatch,
}

/// What a call in flight says: known to have been said when its answer has come.
pub(super) enum Sending {
    Lines(Box<Scene>, Told),
    Record(RecordChange),
    /// Nothing: it asks whether the run goes on.
    Run(Look),
}

/// What to do next for one check.
pub(super) enum Next {
    Lines(String, Told),
    Record(RecordChange),
    Run(Look),
}

impl Teller {
    pub(super) fn of(pending: &Pending) -> Teller {
        Teller {
            accepted: pending.accepted.mono,
            is_adopted: pending.told.is_some(),
            has_taken_over: pending.told.is_some(),
            advice: pending.told.as_ref().map_or(0, |told| told.advice),
            ..Teller::default()
        }
    }

    /// Whether this is about the evaluation at hand, and not about an earlier one of the same check.
    pub(super) fn is_about(&self, pending: &Pending) -> bool {
        self.accepted == pending.accepted.mono
    }

    /// What a complete reading shows.
    pub(super) fn read(&mut self, read: &Assessment<'_>, told: Option<&Told>, now: Wall) {
        let before = (self.scene.print(), self.scene.missing());
        self.scene.read(read, now);
        self.is_quiet &= before == (self.scene.print(), self.scene.missing());
        if std::mem::take(&mut self.is_adopted) {
            let same = told.is_some_and(|told| told.print == self.scene.print());
            let now = read.statuses();
            self.digest = (!same && !now.is_empty()).then(|| format!("now: {now}"));
            self.said = self.scene.clone();
        }
    }

    /// For how long the expected has been absent.
    pub(super) fn is_absent(&mut self, absent: Duration) {
        self.absent = absent;
        self.is_quiet &= advice(absent, self.advice).is_none();
    }

    /// Whether a turn may have something to do here: most of the time it has not, and there are thousands of checks.
    pub(super) fn may_act(&self, now: Mono, is_in_trouble: bool) -> bool {
        let looks = self.may_look && !self.is_looking && now >= self.next_look;
        let tells =
            self.sending.is_none() && now >= self.held_until && (!self.is_quiet || self.run.is_due(now));
        looks || tells || is_in_trouble != self.scene.trouble.is_some()
    }

    /// Notes that there was nothing to do.
    pub(super) fn rests(&mut self, now: Mono) {
        self.is_quiet = self.sending.is_none() && now >= self.due && now >= self.held_until;
        self.may_look = self.scene.next_look("").is_some();
    }

    pub(super) fn next(&self, now: Now, pending: &Pending, dashboard: Option<&Dashboard>) -> Option<Next> {
        let (Phase::Watching(watch), Some(ask)) = (&pending.phase, pending.ask.as_ref()) else { return None };
        if self.sending.is_some() || now.mono < self.held_until {
            return None;
        }
        let is_open = matches!(pending.log, Log::Open(_));
        if is_open && pending.told.is_none() {
            let told = Told { print: self.scene.print(), advice: self.advice };
            return Some(Next::Lines(rendered(now.wall, opening(pending, ask, watch, now)), told));
        }
        if let Some(look) = self.run.due(now.mono, &pending.callback) {
            return Some(Next::Run(look));
        }
        let is_due = now.mono >= self.due;
        let is_news = self.scene.is_news(&self.said) && now.mono.since(self.sent) >= SHORTEST_PAUSE;
        if is_open && (is_due || is_news) {
            let (lines, advice) = self.lines(ask, watch, dashboard);
            if !lines.is_empty() {
                let told = Told { print: self.scene.print(), advice };
                return Some(Next::Lines(rendered(now.wall, lines), told));
            }
        }
        let can_show = pending.callback.timeline.is_some() && !self.is_record_closed;
        let shows = (self.scene.percent(), self.scene.operation());
        let differs = self.shown.as_ref() != Some(&shows);
        (can_show && differs && (is_due || self.shows_next)).then(|| {
            let log = match (pending.log, &self.shown) {
                (Log::Open(log), None) => Some(log),
                _ => None,
            };
            let (percent, operation) = shows;
            Next::Record(RecordChange {
                begin: self.shown.is_none(),
                log,
                percent: Some(percent),
                operation: Some(operation),
                errors: Vec::new(),
            })
        })
    }

    /// What is to be said now, and how much advice has been given then.
    fn lines(&self, ask: &Ask, watch: &Watch, dashboard: Option<&Dashboard>) -> (Vec<(Mark, String)>, u8) {
        let mut lines: Vec<(Mark, String)> =
            self.digest.iter().map(|digest| (Mark::Plain, digest.clone())).collect();
        lines.extend(self.scene.lines(&self.said, dashboard));
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
        (lines, advice.map_or(self.advice, |(given, _)| given))
    }

    /// Lines were taken, sent at `since`.
    pub(super) fn have_said(&mut self, scene: Scene, told: &Told, now: Mono, since: Mono) {
        (self.said, self.advice, self.digest) = (scene, told.advice, None);
        (self.sent, self.shows_next, self.is_quiet) = (since, true, false);
        self.due = now.plus(self.pause(now, now.since(since)));
    }

    /// A change of the record was taken, sent at `since`.
    pub(super) fn has_shown(&mut self, change: &RecordChange, now: Mono, since: Mono) {
        self.shown = Some((change.percent.unwrap_or_default(), change.operation.clone().unwrap_or_default()));
        self.shows_next = false;
        self.due = now.plus(self.pause(now, now.since(since)));
    }

    /// How long changes are gathered after an answer that took so long.
    pub(super) fn pause(&self, now: Mono, took: Duration) -> Duration {
        let by_age = (now.since(self.accepted) / 3).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        // Azure DevOps answers late before it refuses: a slow answer asks for fewer calls.
        by_age.max(took.saturating_mul(30).min(LONGEST_PAUSE * 2))
    }
}

impl Teller {
    /// Whether a decision that is made now waits a moment for lines that are on their way.
    pub(super) fn holds_decision(&self, now: Mono) -> bool {
        self.sending.as_ref().is_some_and(|(_, since)| now.since(*since) < LINES_FIRST)
    }

    /// What the answer for a single execution shows.
    pub(super) fn looked_at(&mut self, execution: &Execution) {
        self.scene.look(execution);
        self.is_quiet = false;
        // The steps that an earlier context has told are not told again.
        if self.has_taken_over && !self.said.knows_steps_of(&execution.id) {
            self.said.look(execution);
        }
    }

    /// The last lines: what has not been said yet, the decision, a table of the executions, and where their files are listed.
    pub(super) fn last_lines(
        &self,
        decided: &Decided,
        pending: &Pending,
        dashboard: Option<&Dashboard>,
        files: Option<String>,
    ) -> String {
        let observe = pending.observe;
        let mut lines: Vec<(Mark, String)> = self.scene.lines(&self.said, dashboard);
        if pending.told.is_none() {
            lines.extend(pending.before.map(|before| again(before, pending.callback.hub, decided.at)));
        }
        lines.push(decision(decided, observe));
        let table = self.scene.table(dashboard);
        let files = files.filter(|_| !table.is_empty());
        lines.extend(table.into_iter().map(|row| (Mark::Plain, row)));
        lines.extend(files.map(|link| (Mark::Plain, format!("Their files: {link}"))));
        rendered(decided.at, lines)
    }

    /// The record as the decision leaves it.
    pub(super) fn last_change(
        &self,
        decided: &Decided,
        observe: bool,
        log: Option<crate::azure::LogId>,
    ) -> RecordChange {
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

/// The decision as a line.
fn decision(decided: &Decided, observe: bool) -> (Mark, String) {
    let mark = match decided.outcome {
        Outcome::Passed => Mark::Section,
        _ if observe => Mark::Warning,
        Outcome::Over => Mark::Warning,
        _ => Mark::Error,
    };
    (mark, format!("Testrelay: {}. {}", in_words_of(decided.outcome, observe), decided.reason))
}

/// An outcome as its people read it.
fn in_words_of(outcome: Outcome, observe: bool) -> String {
    match observe && !outcome.is_silent() {
        true => format!("OBSERVE ONLY, would have been: {outcome}"),
        false => outcome.to_string(),
    }
}

/// Says that a check which was answered is evaluated anew, and how that is mended if nobody wants it.
fn again(before: Reported, hub: HubName, now: Wall) -> (Mark, String) {
    let why = match hub {
        HubName::Checks => {
            "If nobody has re-run it, its `Time between evaluations` is not 0, and a negative result does not end it: set it to 0 in the check's settings (REST: retryInterval 0)"
        }
        // A server task of an agentless job: all its attempts have the same ids.
        HubName::Build | HubName::Release => {
            "If nobody has re-run the job, its task is retried: a negative result does not end it while `retryCountOnTaskFailure` is more than 0"
        }
    };
    let text = format!(
        "Azure DevOps has sent this check again, although `{}` was reported at {}: it is evaluated anew. {why}",
        before.outcome,
        before.at.clock(now)
    );
    (Mark::Warning, text)
}

/// What the log begins with.
fn opening(pending: &Pending, ask: &Ask, watch: &Watch, now: Now) -> Vec<(Mark, String)> {
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
                "No expectation was given (Testrelay-Expect): one execution is enough, once nothing has changed for {}",
                in_words(ask.settle)
            ),
        ),
        expect => (Mark::Plain, format!("Expected: {expect}. Every execution with the tag must pass")),
    });
    lines.push((
        Mark::Plain,
        format!(
            "Counted since {} ({}). Decided when all have ended, at the latest after {}; what is expected must appear within {}",
            watch.bound.clock(now.wall),
            watch.bound_from,
            pending.deadline().in_words(pending.tokens.ends().unwrap_or_default()),
            in_words(ask.appear_timeout)
        ),
    ));
    lines.extend(pending.before.map(|before| again(before, pending.callback.hub, now.wall)));
    lines
}

fn rendered(at: Wall, lines: Vec<(Mark, String)>) -> String {
    lines.into_iter().map(|(mark, text)| Line { at, mark, text }.render()).collect()
}
