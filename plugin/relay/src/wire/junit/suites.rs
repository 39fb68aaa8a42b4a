//! Suites that stand in several reports of an execution. Ant and TestNG write one report for each class and another with all
//! of them, and a folder may be collected under two names.

use super::case::{Kind, Outcome};
use super::text;
use super::xml::Tag;
use crate::hash::{fnv1a, mixed};

/// Maximum suites that are remembered. One beyond that is counted as often as it is told.
const MAX_SUITES: usize = 200;

/// The suites of the reports that were read, as prints.
#[derive(Debug, Default)]
pub struct Suites {
    prints: Vec<u64>,
    /// Number of those that are not of the report that is being read.
    of_others: usize,
}

impl Suites {
    /// Begins another report.
    pub(super) fn begin(&mut self) {
        self.of_others = self.prints.len();
    }

    /// Forgets the suites of the report that is being read.
    pub(super) fn undo(&mut self) {
        self.prints.truncate(self.of_others);
    }

    /// Notes a suite. Returns whether another report has told it.
    pub(super) fn note(&mut self, print: u64) -> bool {
        let is_told = self.prints.iter().take(self.of_others).any(|of| *of == print);
        if !is_told && self.prints.len() < MAX_SUITES {
            self.prints.push(print);
        }
        is_told
    }
}

/// What an open suite or test case holds: the same for the same results in any order, whatever is around them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Print {
    /// The sum of the prints of the test cases.
    sum: u64,
    /// Whether a time tells these results from those of another run of the same tests.
    is_dated: bool,
}

impl Print {
    /// Adds what a suite or test case in it holds.
    pub(super) fn add(&mut self, inside: Print) {
        self.sum = self.sum.wrapping_add(inside.sum);
        self.is_dated |= inside.is_dated;
    }

    /// Adds how the suite or test case itself went.
    pub(super) fn end(&mut self, tag: Tag<'_>, kind: Kind, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else { return };
        let mut print = mixed(0, outcome as u64);
        if kind != Kind::Case {
            return self.sum = self.sum.wrapping_add(print);
        }
        // The order of attributes is not kept by all who copy them.
        for key in ["classname", "name", "time"] {
            let raw = tag.attribute(key).unwrap_or_default();
            print = print.wrapping_add(print_of(key, raw));
            self.is_dated |= key == "time" && raw.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        }
        // Not the same if two test cases change their times or how they went.
        self.sum = self.sum.wrapping_add(mixed(print, print >> 32));
    }

    /// The print of a suite; `None` if nothing in it tells it from another run of the same tests.
    pub(super) fn of_suite(self, tag: Tag<'_>, kind: Kind) -> Option<u64> {
        let stamp = tag.attribute("timestamp").unwrap_or_default();
        let is_dated = self.is_dated || !stamp.is_empty();
        (kind == Kind::Suite && self.sum != 0 && is_dated).then(|| self.sum.wrapping_add(print_of("", stamp)))
    }
}

/// The print of an attribute, however its value is escaped.
fn print_of(key: &str, raw: &str) -> u64 {
    text::unescaped(raw).fold(fnv1a(key.as_bytes()), |print, c| mixed(print, u64::from(u32::from(c))))
}
