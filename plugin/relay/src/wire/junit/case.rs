//! What a report's elements mean, and how a test went.

use super::text;
use super::xml::Tag;

/// What an element is, by its name without a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Suites,
    Suite,
    Case,
    Mark(Mark),
    Other,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "testsuites" => Self::Suites,
            "testsuite" => Self::Suite,
            "testcase" => Self::Case,
            "failure" => Self::Mark(Mark::Failure),
            "error" => Self::Mark(Mark::Error),
            "skipped" => Self::Mark(Mark::Skipped),
            "flakyFailure" | "flakyError" | "rerunFailure" | "rerunError" => Self::Mark(Mark::OtherTry),
            _ => Self::Other,
        }
    }
}

/// What an element says about the one around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Failure,
    Error,
    Skipped,
    /// Another try of the same test failed. How the test went in the end, its failure or its error says, or none.
    OtherTry,
}

/// How a test went, from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    #[default]
    Passed,
    Skipped,
    Errored,
    Failed,
}

/// What is told about a suite or a test case while it is open.
#[derive(Debug, Default)]
pub(super) struct Told {
    outcome: Outcome,
    /// Whether another try failed.
    pub(super) failed_before: bool,
    pub(super) message: String,
}

impl Told {
    /// Adds what a mark says. Returns whether it is the first to say why the test failed.
    pub(super) fn note(&mut self, mark: Mark) -> bool {
        let is_first = self.outcome < Outcome::Errored;
        let outcome = match mark {
            Mark::Failure => Outcome::Failed,
            Mark::Error => Outcome::Errored,
            Mark::Skipped => Outcome::Skipped,
            Mark::OtherTry => {
                self.failed_before = true;
                Outcome::Passed
            }
        };
        self.outcome = self.outcome.max(outcome);
        is_first && outcome >= Outcome::Errored
    }
}

/// An open suite or test case.
#[derive(Debug, Default)]
pub(super) struct Open<'a> {
    /// How many elements are open with it.
    pub(super) depth: usize,
    pub(super) tag: Tag<'a>,
    pub(super) kind: Kind,
    /// Whether a test in it failed or had an error.
    pub(super) has_failed_inside: bool,
    pub(super) told: Told,
}

impl Open<'_> {
    /// How it went; `None` for a suite that did not fail itself.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let told = self.told.outcome;
        if self.kind == Kind::Case {
            // GoogleTest and CTest say it so.
            let is_disabled = || text::is_one_of(self.tag, "status", &["notrun", "disabled"]);
            return Some(if told == Outcome::Passed && is_disabled() { Outcome::Skipped } else { told });
        }
        let speaks_of = |attribute| text::number::<u64>(self.tag, attribute).is_some_and(|count| count > 0);
        match told {
            Outcome::Errored | Outcome::Failed => Some(told),
            _ if !self.has_failed_inside && speaks_of("failures") => Some(Outcome::Failed),
            _ if !self.has_failed_inside && speaks_of("errors") => Some(Outcome::Errored),
            _ => None,
        }
    }
}
