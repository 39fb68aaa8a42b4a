//! JUnit reports, as test runners leave them among an execution's artifacts: how many tests there were, and which failed.
//!
//! There is no standard: every producer writes a dialect of what Ant's task once wrote. So this reads what the dialects
//! share, and passes over the rest. What counts are the test cases themselves; the sums in the attributes of suites are
//! not read, because producers leave them out, round them up from what ran twice, or sum nested suites twice.
//!
//! A report comes from whoever may write an artifact. It is never part of a verdict, and costs what it weighs: one pass,
//! no recursion, no memory per test, at most [`MAX_FAILURES`] names. A DTD is passed over: no entity is defined by it,
//! nothing is fetched for it.

mod case;
mod suites;
mod text;
mod xml;

#[cfg(test)]
mod tests;

use case::{Kind, Mark, Open, Outcome};
use std::borrow::Cow;
use std::fmt;
use suites::Print;
pub use suites::Suites;
use text::Message;
use xml::{Flaw, Piece, Scanner, Tag};

/// The most failed tests of a report that are told by name.
pub const MAX_FAILURES: usize = 10;

/// The most characters of a failed test's message.
pub const MAX_MESSAGE: usize = 80;

/// The most characters of the name of a test, of its suite and of its file.
pub const MAX_NAME: usize = 120;

/// The most elements that may be open at once. Each costs some hundred bytes while it is open.
pub const MAX_DEPTH: usize = 10_000;

/// Maximum suites around a test, the innermost first, that are looked at for its suite's and its file's name.
const MAX_AROUND: usize = 16;

/// The most bytes in whose course the first suite's tag must begin for a body to look like a report.
pub const MAX_PROLOGUE: usize = 1024;

/// What a report says. Texts in it are on one line, without terminal colours and without anything that a log could take
/// for a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How the tests went.
    pub counts: Counts,
    /// The first tests that failed or had an error, in the report's order, at most [`MAX_FAILURES`].
    pub failures: Vec<Failure>,
}

/// How many tests went how. Each test is in exactly one of `passed`, `failed`, `errored` and `skipped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All test cases. A suite that failed itself counts as one more: it holds a failure, or its attributes speak of
    /// failures or errors and none of its test cases has one (Newman's scripts).
    pub tests: u64,
    /// Without a failure, an error or a reason why they were skipped.
    pub passed: u64,
    /// With a `<failure>`: an assertion did not hold.
    pub failed: u64,
    /// With an `<error>` and no failure: the test could not be carried out.
    pub errored: u64,
    /// Skipped or disabled.
    pub skipped: u64,
    /// Those of `passed` that failed before they passed.
    pub flaky: u64,
}

/// A test that failed or had an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class that the producer names, else the innermost suite; may be empty.
    pub suite: String,
    /// The test. Empty where the suite itself failed.
    pub name: String,
    /// The first line of the message that says something; may be empty.
    pub message: String,
    /// The file, where the producer names one for the test or for a suite around it.
    pub file: Option<String>,
    /// The line in `file` as the producer gives it: most count from 1, pytest from 0.
    pub line: Option<u32>,
}

/// Why a body is not read as a report. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its first element is neither `<testsuites>` nor `<testsuite>`.
    NotJunit,
    /// It ends before its elements do.
    CutOff {
        /// The last line, or the one in which what does not end begins.
        line: usize,
    },
    /// An end tag without its start tag, or markup that is none.
    Malformed {
        /// Where.
        line: usize,
    },
    /// More than [`MAX_DEPTH`] elements are open at once.
    TooDeep {
        /// Where.
        line: usize,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJunit => f.write_str("it is not a JUnit report"),
            Self::CutOff { line } => write!(f, "it ends before its elements do (line {line})"),
            Self::Malformed { line } => write!(f, "it is not well-formed XML (line {line})"),
            Self::TooDeep { line } => write!(f, "its elements are nested too deep (line {line})"),
        }
    }
}

impl Report {
    /// Adds another report of the same execution.
    pub fn add(&mut self, other: Self) {
        self.counts.tests += other.counts.tests;
        self.counts.passed += other.counts.passed;
        self.counts.failed += other.counts.failed;
        self.counts.errored += other.counts.errored;
        self.counts.skipped += other.counts.skipped;
        self.counts.flaky += other.counts.flaky;
        self.failures.extend(other.failures);
        self.failures.truncate(MAX_FAILURES);
    }
}

/// Whether a body may be a report, by its beginning: a suite's tag stands in the first [`MAX_PROLOGUE`] bytes, in UTF-8
/// or UTF-16.
#[must_use]
pub fn looks_like(beginning: &[u8]) -> bool {
    let beginning = beginning.get(..MAX_PROLOGUE).unwrap_or(beginning);
    text::decoded(beginning).contains("<testsuite")
}

/// Reads a report in UTF-8 or UTF-16, with or without a byte order mark. Bytes that are no text become `�`. Several
/// reports one after another are read as one. UTF-8 is read where it is; anything else is copied, to at most three times
/// its size.
///
/// # Errors
/// The body is not a report, or not a whole one.
pub fn read(body: &[u8]) -> Result<Report, Broken> {
    read_with(body, None)
}

/// Reads one of several reports of the same execution. Suites that the others have told are passed over, because some
/// producers write their results twice; the rest of its suites is added to `told`.
///
/// # Errors
/// As for [`read`]. `told` is then what it was.
pub fn read_one_of(body: &[u8], told: &mut Suites) -> Result<Report, Broken> {
    told.begin();
    let report = read_with(body, Some(told));
    if report.is_err() {
        told.undo();
    }
    report
}

fn read_with(body: &[u8], suites: Option<&mut Suites>) -> Result<Report, Broken> {
    let body: Cow<'_, str> = text::decoded(body);
    let mut xml = Scanner::new(&body);
    let mut reading = Reading { suites, ..Reading::default() };
    loop {
        let piece = xml.piece().map_err(|flaw| {
            let line = xml.line();
            if flaw == Flaw::Cut { Broken::CutOff { line } } else { Broken::Malformed { line } }
        })?;
        match piece {
            None => break,
            Some(Piece::Open(tag)) => {
                reading.open(tag)?;
                if reading.depth > MAX_DEPTH {
                    return Err(Broken::TooDeep { line: xml.line() });
                }
            }
            Some(Piece::Alone(tag)) => {
                reading.open(tag)?;
                reading.close();
            }
            Some(Piece::Close) => reading.close(),
            Some(Piece::Text(raw)) => reading.text(&mut text::unescaped(raw)),
            Some(Piece::Raw(text)) => reading.text(&mut text.chars()),
        }
    }
    match (reading.depth, reading.is_junit) {
        (0, true) => Ok(reading.report),
        (0, false) => Err(Broken::NotJunit),
        _ => Err(Broken::CutOff { line: xml.line() }),
    }
}

/// A report that is being read.
#[derive(Default)]
struct Reading<'a> {
    report: Report,
    /// The suites of all reports of the execution; `None` if this is the only one.
    suites: Option<&'a mut Suites>,
    is_junit: bool,
    /// How many elements are open.
    depth: usize,
    /// The suites and test cases among them, from the outside in.
    open: Vec<Open<'a>>,
    /// For each of them, what the report had before it; empty without `suites`.
    before: Vec<Before>,
    /// The message that is being read, and the depth of its element.
    message: Option<(usize, Message)>,
}

/// What a report had when a suite or a test case was opened.
struct Before {
    counts: Counts,
    /// Number of failures told by name.
    failures: usize,
    /// Of what is in the suite or the test case.
    print: Print,
}

impl<'a> Reading<'a> {
    fn open(&mut self, tag: Tag<'a>) -> Result<(), Broken> {
        self.depth += 1;
        let kind = Kind::of(tag.name());
        self.is_junit |= matches!(kind, Kind::Suites | Kind::Suite);
        if !self.is_junit {
            return Err(Broken::NotJunit);
        }
        match kind {
            Kind::Suite | Kind::Case => {
                self.open.push(Open { depth: self.depth, tag, kind, ..Open::default() });
                if self.suites.is_some() {
                    let (counts, failures) = (self.report.counts, self.report.failures.len());
                    self.before.push(Before { counts, failures, print: Print::default() });
                }
            }
            Kind::Mark(mark) => self.mark(mark, tag),
            Kind::Suites | Kind::Other => {}
        }
        Ok(())
    }

    /// Something is said about the suite or the test case in which it directly stands.
    fn mark(&mut self, mark: Mark, tag: Tag<'_>) {
        let outside = self.depth.saturating_sub(1);
        let Some(about) = self.open.last_mut().filter(|open| open.depth == outside) else { return };
        let is_told_by_name = about.told.note(mark) && self.report.failures.len() < MAX_FAILURES;
        if is_told_by_name {
            self.message = Some((self.depth, Message::of(tag)));
        }
    }

    fn text(&mut self, text: &mut dyn Iterator<Item = char>) {
        if let Some((_, message)) = &mut self.message {
            message.push(text);
        }
    }

    fn close(&mut self) {
        if let Some((_, message)) = self.message.take_if(|(depth, _)| *depth == self.depth)
            && let Some(about) = self.open.last_mut()
        {
            about.told.message = message.finish();
        }
        if let Some(closed) = self.open.pop_if(|open| open.depth == self.depth) {
            self.count(closed);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn count(&mut self, closed: Open<'a>) {
        let outcome = closed.outcome();
        if let Some(around) = self.open.last_mut() {
            around.has_failed_inside |= closed.has_failed_inside || outcome >= Some(Outcome::Errored);
        }
        if let Some(suites) = &mut self.suites
            && let Some(Before { counts, failures, mut print }) = self.before.pop()
        {
            print.end(closed.tag, closed.kind, outcome);
            if let Some(around) = self.before.last_mut() {
                around.print.add(print);
            }
            if print.of_suite(closed.tag, closed.kind).is_some_and(|print| suites.note(print)) {
                self.report.counts = counts;
                return self.report.failures.truncate(failures);
            }
        }
        if let Some(outcome) = outcome {
            self.count_as(closed, outcome);
        }
    }

    fn count_as(&mut self, closed: Open<'a>, outcome: Outcome) {
        let counts = &mut self.report.counts;
        counts.tests += 1;
        match outcome {
            Outcome::Passed => {
                counts.passed += 1;
                counts.flaky += u64::from(closed.told.failed_before);
            }
            Outcome::Skipped => counts.skipped += 1,
            Outcome::Errored => counts.errored += 1,
            Outcome::Failed => counts.failed += 1,
        }
        if outcome >= Outcome::Errored && self.report.failures.len() < MAX_FAILURES {
            let failure = self.failure(closed);
            self.report.failures.push(failure);
        }
    }

    fn failure(&self, closed: Open<'a>) -> Failure {
        let near = self.open.iter().rev().take(MAX_AROUND);
        let around = |attribute| near.clone().find_map(|open| text::name(open.tag, attribute));
        let own = |attribute| text::name(closed.tag, attribute);
        let (suite, name) = match closed.kind {
            Kind::Case => (own("classname").or_else(|| around("name")), own("name")),
            _ => (own("name"), None),
        };
        Failure {
            suite: suite.unwrap_or_default(),
            name: name.unwrap_or_default(),
            file: own("file").or_else(|| around("file")),
            line: text::number(closed.tag, "line"),
            message: closed.told.message,
        }
    }
}
