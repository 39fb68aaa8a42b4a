//! What the people at the pipeline see while a stage waits: the lines of the check's log, and its record's progress.
//!
//! A [`Scene`] is what is known of one check's executions. Lines are the difference between the scene that was told and
//! the present one, so a line is written when something has changed and never because time has passed.

mod advice;
mod line;
mod view;

use crate::check::retry::Tried;
use crate::check::verdict::Assessment;
use crate::collections::{in_order, tree};
use crate::text::one_line;
use crate::time::{Wall, in_words};
use crate::wire::testkube::Dashboard;
use crate::wire::testkube::{Execution, FailedStep, NEVER_BEGAN, Status, Steps};
pub(crate) use advice::STAYS_SO;
pub use advice::advice;
pub(in crate::check) use line::MAX_TEXT;
pub use line::{Line, Mark};
use std::collections::BTreeMap;
use std::time::Duration;

/// The known state of the executions with a check's tag.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// In the order of their scheduling. A list, because most checks have few, and there are thousands of checks.
    executions: Vec<Shown>,
    /// Executions that do not count, and why, up to [`MAX_IGNORED`].
    ignored: BTreeMap<String, String>,
    /// Number of further ones.
    more_ignored: usize,
    /// The missing part of the expectation.
    missing: Vec<String>,
    /// If all executions are older than the lower bound: when the newest was scheduled.
    only_older: Option<Wall>,
    /// When it was read.
    read_at: Wall,
    /// When the failures decide, if they wait for a re-run until then.
    pub grace_ends: Option<Wall>,
    /// Why nothing, or not all, is known of Testkube, once that has lasted long enough to be told.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: String,
    name: String,
    workflow: String,
    scheduled: Wall,
    status: Status,
    ended: bool,
    /// Whether it may fail.
    is_optional: bool,
    /// Whether it may run again.
    may_repeat: bool,
    /// What was tried for it.
    tried: Tried,
    took: Option<Duration>,
    message: Option<String>,
    steps: Steps,
    began: bool,
    /// Since when it has been stopping, if that is long enough that it may stay so.
    stuck: Option<Wall>,
    /// Whether it passed, or its steps have been looked at since it ended.
    is_explained: bool,
}

/// Maximum executions that do not count and are told one by one; of the others the number is told.
const MAX_TOLD_IGNORED: usize = 10;
/// Maximum of them that are remembered, because a tag may be on any number of old ones.
const MAX_IGNORED: usize = 100;

impl Scene {
    /// Takes a complete reading made at `now`. Known steps stay.
    pub fn read(&mut self, read: &Assessment<'_>, now: Wall) {
        let mut before = std::mem::take(&mut self.executions);
        for (at, execution) in read.counted.iter().enumerate() {
            let mut shown = Shown::of(execution, read.is_optional(execution), now);
            shown.tried = read.tried(execution).clone();
            if let Some(known) = find_mut(&mut before, at, &execution.id) {
                shown.steps = std::mem::take(&mut known.steps);
                shown.message = known.message.take();
                shown.is_explained |= known.is_explained;
            }
            self.executions.push(shown);
        }
        let ignored = read.ignored.iter().take(MAX_IGNORED);
        self.ignored = tree(ignored.map(|(e, why)| (e.id.clone(), why.in_words(e))));
        self.more_ignored = read.ignored.len().saturating_sub(MAX_IGNORED);
        self.missing = read.missing.clone();
        self.read_at = now;
        self.only_older = read.only_older().map(|newest| newest.scheduled);
    }

    /// When the newest execution was scheduled, if all are older than the lower bound.
    pub fn only_older(&self) -> Option<Wall> {
        self.only_older
    }

    /// Notes which failures may run again: they are no errors yet.
    pub fn may_repeat<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        for id in ids {
            if let Some(shown) = find_mut(&mut self.executions, 0, id) {
                shown.may_repeat = true;
            }
        }
    }

    /// Notes that an execution is to run again.
    pub fn asks_for(&mut self, id: &str) {
        if let Some(shown) = find_mut(&mut self.executions, 0, id) {
            let is_new = !std::mem::replace(&mut shown.tried.is_asked, true);
            shown.tried.reruns = shown.tried.reruns.saturating_add(usize::from(is_new));
        }
    }

    /// Takes the answer for a single execution. Returns whether its steps have changed.
    pub fn look(&mut self, execution: &Execution) -> bool {
        let Some(shown) = find_mut(&mut self.executions, 0, &execution.id) else { return false };
        let before = std::mem::replace(&mut shown.steps, execution.steps.clone());
        shown.message = execution.message.clone();
        shown.is_explained |= execution.ended;
        before != shown.steps
    }

    /// The execution to look at next, after `last`: one that ended without passing and has not been looked at since,
    /// else the next that runs.
    pub fn next_look(&self, last: &str) -> Option<String> {
        let all = &self.executions;
        let unexplained = all.iter().find(|shown| shown.ended && !shown.is_explained);
        let after = all.iter().position(|shown| shown.id == last).map_or(0, |at| at + 1);
        let running = || all.iter().cycle().skip(after).take(all.len()).find(|shown| shown.is_under_way());
        unexplained.or_else(running).map(|shown| shown.id.clone())
    }

    /// Whether the steps of an execution have been seen.
    pub fn knows_steps_of(&self, id: &str) -> bool {
        self.get(0, id).is_some_and(|shown| shown.steps.total > 0)
    }

    /// A number that is equal for scenes that give the same log, steps aside. One context leaves it for the next.
    pub fn fingerprint(&self) -> u64 {
        let stuck = |e: &Shown| if e.stuck.is_some() { " stuck" } else { "" };
        let id_of = |at: usize| self.executions.get(at).map(|e| &e.id);
        let by_id = in_order(self.executions.len(), &|a, b| id_of(a).cmp(&id_of(b)));
        let counted = by_id.iter().filter_map(|at| self.executions.get(*at));
        let counted = counted.map(|e| format!("{} {} {}{}\n", e.id, e.status, e.ended, stuck(e)));
        let ignored = self.ignored.keys().map(|id| format!("-{id}\n"));
        let more = (self.more_ignored > 0).then(|| format!("-{}\n", self.more_ignored));
        crate::hash::fnv1a(counted.chain(ignored).chain(more).collect::<String>().as_bytes())
    }

    /// The execution with this id, which is usually at this index.
    fn get(&self, at: usize, id: &str) -> Option<&Shown> {
        let there = self.executions.get(at).filter(|shown| shown.id == id);
        there.or_else(|| self.executions.iter().find(|shown| shown.id == id))
    }

    /// Whether no counted execution has appeared.
    pub fn is_empty(&self) -> bool {
        self.executions.is_empty()
    }

    /// The counted executions that have not ended, by id and name.
    pub fn under_way(&self) -> Vec<(String, String)> {
        let running = self.executions.iter().filter(|shown| !shown.ended);
        running.map(|shown| (shown.id.clone(), one_line(&shown.name, 80))).collect()
    }

    /// The missing part of the expectation, as a list; empty if nothing is missing.
    pub fn missing(&self) -> String {
        crate::text::listed(self.missing.iter().cloned(), 10)
    }

    /// Whether the change since `said` is news: an execution has appeared, ended or gone.
    pub fn is_news(&self, said: &Scene) -> bool {
        self.trouble.is_some() != said.trouble.is_some()
            || self.new_grace(said).is_some()
            || self.ignored.keys().any(|id| !said.ignored.contains_key(id))
            || self.more_ignored > said.more_ignored
            || self.executions.len() != said.executions.len()
            || self
                .executions
                .iter()
                .enumerate()
                .any(|(at, e)| said.get(at, &e.id).is_none_or(|s| s.ended != e.ended || s.tried != e.tried))
    }

    /// The lines for what has changed since `said`.
    pub fn lines(&self, said: &Scene, dashboard: Option<&Dashboard>) -> Vec<(Mark, String)> {
        let mut lines = Vec::new();
        for (at, now) in self.executions.iter().enumerate() {
            now.lines(said.get(at, &now.id), dashboard, &mut lines);
        }
        for (at, gone) in said.executions.iter().enumerate() {
            if self.get(at, &gone.id).is_some() {
                continue;
            }
            let name = one_line(&gone.name, 80);
            lines.push((Mark::Warning, format!("{name} no longer counts")));
        }
        self.ignored_lines(said, &mut lines);
        if let Some(ends) = self.new_grace(said) {
            self.grace_lines(ends, dashboard, &mut lines);
        }
        match (&said.trouble, &self.trouble) {
            (None, Some(trouble)) => lines.push((Mark::Warning, format!("{trouble}; Testrelay tries again"))),
            (Some(_), None) => lines.push((Mark::Plain, "Testkube answers again".into())),
            _ => {}
        }
        lines
    }

    /// When the failures decide, if that has not been told.
    pub(super) fn new_grace(&self, said: &Scene) -> Option<Wall> {
        // It moves while Testkube does not answer: not each little move is told.
        const SAME: Duration = Duration::from_secs(120);
        let ends = self.grace_ends?;
        said.grace_ends.is_none_or(|said| said.plus(SAME) < ends).then_some(ends)
    }

    /// Until when a re-run of the failures counts, and how to make one. Only a call with a running context makes Testkube note
    /// what the new execution repeats; its CLI sends one with a control plane alone (`commands/testworkflows/rerun.go`).
    fn grace_lines(&self, ends: Wall, dashboard: Option<&Dashboard>, lines: &mut Vec<(Mark, String)>) {
        let ends = ends.clock(self.read_at);
        let text = format!(
            "The check fails at {ends} unless a re-run of each failed execution passes before then (Testrelay-Grace). To re-run it through Testkube's API:"
        );
        lines.push((Mark::Warning, text));
        for failed in self.executions.iter().filter(|shown| shown.has_failed()).take(MAX_ISSUES) {
            let link =
                dashboard.map(|d| format!("  {}", d.link(&failed.workflow, &failed.id))).unwrap_or_default();
            let (name, id) = (one_line(&failed.name, 80), one_line(&failed.id, 64));
            lines.push((Mark::Plain, format!(
                "  {name}: curl -X POST \"$TESTKUBE/v1/test-workflow-executions/{id}/rerun\" -H 'Content-Type: application/json' -d '{{\"interface\":{{\"type\":\"cli\"}},\"actor\":{{\"type\":\"user\"}}}}'{link}"
            )));
        }
    }

    fn ignored_lines(&self, said: &Scene, lines: &mut Vec<(Mark, String)>) {
        let is_new = |(id, _): &(&String, &String)| !said.ignored.contains_key(*id);
        let new: Vec<&String> = self.ignored.iter().filter(is_new).map(|(_, words)| words).collect();
        let room = MAX_TOLD_IGNORED.saturating_sub(said.ignored.len());
        for words in new.iter().take(room) {
            lines.push((Mark::Plain, format!("not counted: {words}")));
        }
        let more = self.more_ignored.saturating_sub(said.more_ignored);
        match new.len().saturating_sub(room).saturating_add(more) {
            0 => {}
            more => {
                let text = format!("not counted: {more} more executions with the tag");
                lines.push((Mark::Plain, text));
            }
        }
    }

    /// 0 to 99: the mean progress of the executions; a missing one counts as not begun.
    pub fn percent(&self) -> u8 {
        let all = self.executions.len().saturating_add(self.missing.len()).max(1);
        let done: usize = self.executions.iter().map(|shown| usize::from(shown.percent())).sum();
        u8::try_from((done / all).min(99)).unwrap_or(99)
    }

    /// What happens now, for the record's `currentOperation`.
    pub fn operation(&self) -> String {
        let (all, ended) = (self.executions.len(), self.executions.iter().filter(|e| e.ended).count());
        let running = self.executions.iter().find_map(|e| {
            Some(format!("{}: {}", one_line(&e.name, 60), e.steps.current.as_deref().filter(|_| !e.ended)?))
        });
        let mut parts = Vec::new();
        if all > 0 {
            parts.push(format!("{ended} of {all} executions ended"));
        }
        let repeated = self.executions.iter().find(|e| e.tried.is_awaited());
        if let Some(repeated) = repeated {
            parts.push(format!("waiting for a re-run of {}", one_line(&repeated.name, 60)));
        }
        if let Some(ends) = self.grace_ends {
            parts.push(format!("waiting for a re-run until {}", ends.clock(self.read_at)));
        }
        if self.trouble.is_some() {
            parts.push("Testkube gives no usable answer".into());
        } else if all == 0 {
            parts.push("waiting for the first execution".into());
        } else if !self.missing.is_empty() {
            parts.push(format!("waiting for {}", self.missing()));
        }
        parts.extend(running);
        one_line(&parts.join("; "), 200)
    }

    /// One text for each execution that did not pass, for the record's issues.
    pub fn failures(&self) -> Vec<String> {
        self.executions
            .iter()
            .filter(|shown| shown.has_failed())
            .take(MAX_ISSUES)
            .map(Shown::ended_in_words)
            .collect()
    }

    /// The executions as a plain-text table, one line each; first those that did not pass.
    pub fn table(&self, dashboard: Option<&Dashboard>) -> Vec<String> {
        let rows: Vec<&Shown> = self.by_urgency().collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let width = rows.iter().map(|e| e.name.chars().count().min(60)).max().unwrap_or_default().max(9);
        let mut table = vec![format!("  {:width$}  {:10}  duration", "execution", "status")];
        let left_out = rows.len().saturating_sub(MAX_ROWS);
        for e in rows.into_iter().take(MAX_ROWS) {
            let took = e.took.filter(|_| e.began).map(in_words).unwrap_or_default();
            let link = dashboard.map(|d| d.link(&e.workflow, &e.id)).unwrap_or_default();
            let optional = if e.is_optional && e.status != Status::Passed { "(optional) " } else { "" };
            let row =
                format!("  {:width$}  {:10}  {took:8}  {optional}{link}", one_line(&e.name, 60), e.status);
            table.push(row.trim_end().to_string());
        }
        if left_out > 0 {
            table.push(format!("  and {left_out} more"));
        }
        table
    }
}

/// The execution with this id, which is usually at this index.
fn find_mut<'a>(all: &'a mut [Shown], at: usize, id: &str) -> Option<&'a mut Shown> {
    let is_there = all.get(at).is_some_and(|shown| shown.id == id);
    let at = if is_there { at } else { all.iter().position(|shown| shown.id == id)? };
    all.get_mut(at)
}

const MAX_ISSUES: usize = 10;
const MAX_ROWS: usize = 50;

impl Shown {
    fn of(execution: &Execution, is_optional: bool, now: Wall) -> Shown {
        Shown {
            id: execution.id.clone(),
            name: execution.name.clone(),
            workflow: execution.workflow.clone(),
            scheduled: execution.scheduled,
            status: execution.status.clone(),
            ended: execution.ended,
            is_optional,
            may_repeat: false,
            tried: Tried::default(),
            took: execution.took,
            message: None,
            steps: Steps::default(),
            began: execution.began,
            stuck: execution.stopping_since.filter(|_| execution.is_stuck(now)),
            is_explained: execution.ended && execution.status == Status::Passed,
        }
    }

    /// Whether it has ended without passing, and was to pass.
    fn has_failed(&self) -> bool {
        self.ended && self.status != Status::Passed && !self.is_optional
    }

    fn is_under_way(&self) -> bool {
        !self.ended && (self.steps.total > 0 || self.status == Status::NotYet("running".into()))
    }

    fn percent(&self) -> u8 {
        let steps = &self.steps;
        match (self.ended, steps.total) {
            (true, _) => 100,
            (false, 0) => 0,
            (false, total) => u8::try_from(steps.done.saturating_mul(100) / total).unwrap_or(100),
        }
    }

    fn lines(&self, said: Option<&Shown>, dashboard: Option<&Dashboard>, lines: &mut Vec<(Mark, String)>) {
        let name = one_line(&self.name, 80);
        if said.is_none() {
            let link =
                dashboard.map(|d| format!("  {}", d.link(&self.workflow, &self.id))).unwrap_or_default();
            let workflow = one_line(&self.workflow, 80);
            // Its failure may have been replaced before it could be told.
            let rerun = match self.tried.number() {
                0 => String::new(),
                number => format!(", re-run {number}"),
            };
            let text = format!("{name} (workflow {workflow}{rerun}): {}{link}", self.status);
            lines.push((Mark::Plain, text));
        }
        let ended_before = said.is_some_and(|said| said.ended);
        let ends = self.ended && !ended_before;
        let failed_before = said.map_or(0, |said| said.steps.failed.len());
        // The line about the end names the failed step that is not optional.
        let told_at_the_end = |step: &&FailedStep| ends && self.status != Status::Passed && !step.optional;
        for step in self.steps.failed.iter().skip(failed_before).filter(|step| !told_at_the_end(step)) {
            let mark = if step.optional || self.is_optional { Mark::Warning } else { Mark::Error };
            lines.push((mark, format!("{name}: {}", step.in_words())));
        }
        match said {
            _ if ends => {
                let (mark, optional) = match &self.status {
                    Status::Passed => (Mark::Section, ""),
                    _ if self.is_optional => {
                        (Mark::Warning, " (optional: without Testrelay-Optional it would fail this check)")
                    }
                    _ if self.is_to_repeat() => (Mark::Warning, " (it is to run again: Testrelay-Retry)"),
                    _ => (Mark::Error, ""),
                };
                lines.push((mark, format!("{}{optional}", self.ended_in_words())));
            }
            Some(said) if said.status != self.status => {
                lines.push((Mark::Plain, format!("{name}: {} → {}", said.status, self.status)));
            }
            _ => {}
        }
        self.rerun_lines(said.filter(|_| !ends), &name, lines);
        if let (Some(since), None) = (self.stuck, said.and_then(|said| said.stuck)) {
            let since = since.clock(since);
            let text = format!("{name} has been stopping since {since}: {STAYS_SO}");
            lines.push((Mark::Warning, text));
        }
        let steps = &self.steps;
        let moved =
            said.is_none_or(|said| (said.steps.done, &said.steps.current) != (steps.done, &steps.current));
        if let (true, false, Some(current)) = (moved, self.ended, &steps.current) {
            lines.push((
                Mark::Plain,
                format!("{name}: {} of {} steps, now: {current}", steps.done, steps.total),
            ));
        }
    }

    fn is_to_repeat(&self) -> bool {
        self.may_repeat || self.tried.is_asked
    }

    fn rerun_lines(&self, said: Option<&Shown>, name: &str, lines: &mut Vec<(Mark, String)>) {
        let (now, before) = (&self.tried, said.map(|said| &said.tried));
        // The line about its end says so too.
        if now.is_asked && before.is_some_and(|before| !before.is_asked) {
            let number = now.reruns;
            lines.push((
                Mark::Warning,
                format!("{name} is to run again in Testkube: re-run {number} (Testrelay-Retry)"),
            ));
        }
        if let Some(why) = now.why.as_ref().filter(|_| before.is_none_or(|before| before.why.is_none())) {
            let (mark, what) = match now.is_refused {
                true => (Mark::Error, format!("{name} does not run again: {why}")),
                false => (
                    Mark::Warning,
                    format!("whether {name} runs again is unknown ({why}): Testrelay looks for it"),
                ),
            };
            lines.push((mark, what));
        }
    }

    /// `shop-e2e-17 failed after 4m 12s: step Unit failed (exit code 1)`.
    fn ended_in_words(&self) -> String {
        let took = self.took.filter(|_| self.began);
        let took = took.map(|took| format!(" after {}", in_words(took))).unwrap_or_default();
        let why = match (&self.status, &self.message, self.steps.failed.iter().find(|step| !step.optional)) {
            (Status::Passed, ..) => String::new(),
            (_, Some(message), _) => format!(": {}", one_line(&crate::text::plain(message), 300)),
            (_, None, Some(step)) => format!(": {}", step.in_words()),
            (_, None, None) if self.is_explained && !self.began => format!(": {NEVER_BEGAN}"),
            (_, None, None) => String::new(),
        };
        format!("{} {}{took}{why}", one_line(&self.name, 80), self.status)
    }
}

#[cfg(test)]
mod tests;
