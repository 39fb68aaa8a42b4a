//! What is known of the tests of one execution, and the lines about them.

use super::choice::File;
use crate::check::scene::Mark;
use crate::text::one_line;
use crate::wire::junit::{Counts, Failure, Report, Suites};
use crate::wire::testkube::{Execution, Status};

/// The tests of an execution that has ended.
pub(super) struct Tested {
    pub(super) id: String,
    /// [`print_of`] it.
    pub(super) print: u32,
    pub(super) name: String,
    pub(super) has_passed: bool,
    /// Whether it may fail.
    is_optional: bool,
    /// Whether it was in the counted set of the last reading.
    pub(super) is_counted: bool,
    pub(super) search: Search,
    /// Tries of the present call.
    pub(super) tries: u32,
    /// The counts that Testkube's control plane gives.
    pub(super) counts: Option<Counts>,
    /// What the files say that were read.
    pub(super) report: Option<Report>,
    /// The file to look at: the first with a failure, else the first.
    pub(super) file: Option<String>,
    /// Number of files that were asked for, of those that were read, and of those that may be reports.
    pub(super) asked: u32,
    pub(super) read: usize,
    pub(super) all: usize,
    /// The suites in those that were read.
    pub(super) suites: Suites,
    /// Why a file was not read.
    pub(super) note: Option<String>,
    /// Whether its lines are in the log, or in last lines that are under way.
    pub(super) is_told: bool,
    pub(super) is_offered: bool,
}

/// What is next to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// List its artifacts.
    List,
    /// Read these, the last first.
    Read(Vec<File>),
    /// Nothing.
    Done,
}

/// Maximum failed tests in a decision's line, and maximum length of each in characters.
pub(super) const MAX_NAMED: usize = 3;
const MAX_LABEL: usize = 100;

/// A number for an execution's id, and for whether it has passed: Testkube may change its mind. One context leaves it
/// for the next.
fn print_of(id: &str, has_passed: bool) -> u32 {
    let hash = crate::hash::fnv1a(id.as_bytes());
    let print = u32::try_from((hash ^ (hash >> 32)) & u64::from(u32::MAX)).unwrap_or_default();
    if has_passed { !print } else { print }
}

impl Tested {
    /// That of an execution, after another context has told those with these numbers.
    pub(super) fn of(execution: &Execution, is_optional: bool, told_before: &[u32]) -> Tested {
        let has_passed = execution.status == Status::Passed;
        let print = print_of(&execution.id, has_passed);
        let is_told = told_before.contains(&print);
        // Its counts are known, or told.
        let is_done = has_passed && (execution.reports.is_some() || is_told);
        Tested {
            id: execution.id.clone(),
            print,
            name: execution.name.clone(),
            has_passed,
            is_optional,
            is_counted: true,
            search: if is_done { Search::Done } else { Search::List },
            tries: 0,
            counts: execution.reports,
            report: None,
            file: None,
            asked: 0,
            read: 0,
            all: 0,
            suites: Suites::default(),
            note: None,
            is_told,
            is_offered: false,
        }
    }

    /// Whether its tests have decided nothing: they come after those of the failures that did.
    pub(super) fn is_minor(&self) -> bool {
        self.has_passed || self.is_optional
    }

    /// Whether its results are still sought.
    pub(super) fn is_open(&self) -> bool {
        self.is_counted && self.search != Search::Done
    }

    /// Ends the search.
    pub(super) fn end(&mut self) {
        (self.search, self.suites) = (Search::Done, Suites::default());
    }

    /// Whether it has lines that are not told yet.
    pub(super) fn has_news(&self) -> bool {
        let has_lines = self.report.is_some() || self.counts.is_some() || self.note.is_some();
        self.is_counted && !self.is_told && self.search == Search::Done && has_lines
    }

    /// Adds what a file says.
    pub(super) fn add(&mut self, file: &str, report: Report) {
        self.read = self.read.saturating_add(1);
        let had_failures = self.report.as_ref().is_some_and(|report| !report.failures.is_empty());
        if self.report.is_none() || (!had_failures && !report.failures.is_empty()) {
            self.file = Some(file.into());
        }
        self.report.get_or_insert_default().add(report);
    }

    /// Notes that its lines are in the log: what a decision's line names is all that is kept.
    pub(super) fn note_told(&mut self) {
        (self.is_told, self.is_offered) = (true, false);
        if let Some(report) = &mut self.report {
            report.failures.truncate(MAX_NAMED);
            report.failures.shrink_to_fit();
        }
    }

    /// `shop-e2e-17: 412 tests, 407 passed, 2 failed, 3 skipped`, the failed tests, and what was not read.
    pub(super) fn lines(&self, link: Option<String>, lines: &mut Vec<(Mark, String)>) {
        let name = one_line(&self.name, 80);
        let counts = self.counts.or(self.report.as_ref().map(|report| report.counts));
        if let Some(counts) = counts {
            let part = match self.counts.is_none() && self.read < self.all {
                true => format!(" (in {} of {} files)", self.read, self.all),
                false => String::new(),
            };
            let link = link.map(|link| format!("  {link}")).unwrap_or_default();
            lines.push((Mark::Plain, format!("{name}: {}{part}{link}", in_words(counts))));
        }
        // Of an execution that passed, the counts are enough.
        let report = self.report.as_ref().filter(|_| !self.has_passed);
        let failures = report.into_iter().flat_map(|report| &report.failures);
        let mark = if self.is_optional { Mark::Warning } else { Mark::Error };
        lines.extend(failures.map(|failure| (mark, format!("  {}", in_a_line(failure)))));
        match report.map_or(0, |report| self.all_failed().saturating_sub(report.failures.len() as u64)) {
            0 => {}
            more => lines.push((mark, format!("  and {more} more"))),
        }
        lines.extend(self.note.iter().map(|note| (Mark::Warning, format!("{name}: {note}"))));
    }

    /// The number of failed tests, as its counts or its files say: not all files may have been read.
    fn all_failed(&self) -> u64 {
        let counts = [self.counts, self.report.as_ref().map(|report| report.counts)];
        let failed = |counts: Counts| counts.failed.saturating_add(counts.errored);
        counts.into_iter().flatten().map(failed).max().unwrap_or_default()
    }

    /// The first failed tests, and the number of all.
    pub(super) fn failed(&self) -> (impl Iterator<Item = String>, u64) {
        let report = self.report.as_ref().filter(|_| self.is_counted && !self.is_minor());
        let all = report.map_or(0, |_| self.all_failed());
        let first = report.into_iter().flat_map(|report| report.failures.iter().take(MAX_NAMED));
        (first.map(|failure| one_line(&label(failure), MAX_LABEL)), all)
    }
}

/// `412 tests, 407 passed, 2 failed, 3 skipped`.
fn in_words(counts: Counts) -> String {
    let Counts { tests, passed, failed, errored, skipped, flaky } = counts;
    let s = if tests == 1 { "" } else { "s" };
    let mut words = format!("{tests} test{s}, {passed} passed");
    for (count, what) in [
        (failed, "failed"),
        (errored, "with an error"),
        (skipped, "skipped"),
        (flaky, "passed after a failure (flaky)"),
    ] {
        if count > 0 {
            words.push_str(&format!(", {count} {what}"));
        }
    }
    words
}

/// `CartTest › adds an item`.
fn label(failure: &Failure) -> String {
    match (failure.suite.as_str(), failure.name.as_str()) {
        ("", name) => name.into(),
        (suite, "") => suite.into(),
        (suite, name) => format!("{suite} › {name}"),
    }
}

/// `CartTest › adds an item: expected 2 but was 1 (tests/cart.spec.ts:41)`.
fn in_a_line(failure: &Failure) -> String {
    let mut line = label(failure);
    if !failure.message.is_empty() {
        line.push_str(&format!(": {}", failure.message));
    }
    match (&failure.file, failure.line) {
        (Some(file), Some(at)) => line.push_str(&format!(" ({file}:{at})")),
        (Some(file), None) => line.push_str(&format!(" ({file})")),
        (None, Some(at)) => line.push_str(&format!(" (line {at})")),
        (None, None) => {}
    }
    line
}
