//! JUnit reports: whatever is in them, a reading keeps little, adds up, and shows nothing that a log takes for a command.
//!
//! An input is a report.

use crate::texts::assert_one_line;
use testrelay::wire::junit::{
    self, Counts, MAX_FAILURES, MAX_MESSAGE, MAX_NAME, MAX_PROLOGUE, Report, Suites,
};

/// How the tag of each suite begins, and of all suites.
const SUITE: &str = "<testsuite";

/// Runs one input.
pub fn run(input: &[u8]) {
    let looks_like_one = junit::looks_like(input);
    let Ok(report) = junit::read(input) else { return };
    assert_adds_up(&report);
    assert_is_safe(&report);
    assert_tells_suites_once(input, &report);
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.starts_with(['\u{feff}', '\0']) || text.starts_with("<\0") {
        return;
    }
    let is_early = text.find(SUITE).is_some_and(|at| at + SUITE.len() <= MAX_PROLOGUE);
    assert!(looks_like_one || !is_early, "a report is not recognised");
    assert_reads_the_same(text, &report);
}

fn assert_adds_up(report: &Report) {
    let Counts { tests, passed, failed, errored, skipped, flaky } = report.counts;
    assert_eq!(tests, passed + failed + errored + skipped);
    assert!(flaky <= passed);
    assert!(report.failures.len() <= MAX_FAILURES);
    assert_eq!(report.failures.len() as u64, (failed + errored).min(MAX_FAILURES as u64));
    let mut twice = report.clone();
    twice.add(report.clone());
    assert_eq!(twice.counts.tests, 2 * tests);
    assert_eq!(twice.failures.len() as u64, (2 * (failed + errored)).min(MAX_FAILURES as u64));
}

fn assert_is_safe(report: &Report) {
    for failure in &report.failures {
        let file = failure.file.as_deref().unwrap_or_default();
        let names = [failure.suite.as_str(), &failure.name, file].map(|name| (name, MAX_NAME));
        for (text, most) in names.into_iter().chain([(failure.message.as_str(), MAX_MESSAGE)]) {
            assert_one_line("a text of a report", text);
            assert!(!text.contains("##"), "a command in a report: {text}");
            assert!(text.chars().count() <= most + 1, "too long: {text}");
        }
    }
}

/// Panics if a report says something else as the first of several, or more when it comes again.
fn assert_tells_suites_once(input: &[u8], report: &Report) {
    let mut told = Suites::default();
    assert_eq!(junit::read_one_of(input, &mut told).as_ref(), Ok(report), "as the first");
    let again = junit::read_one_of(input, &mut told).expect("it was read before");
    let Counts { tests, passed, failed, errored, skipped, .. } = again.counts;
    assert_eq!(tests, passed + failed + errored + skipped);
    assert!(tests <= report.counts.tests && failed + errored <= report.counts.failed + report.counts.errored);
    assert_eq!(again.failures.len() as u64, (failed + errored).min(MAX_FAILURES as u64));
}

/// Panics if the same report says something else in UTF-16, or two of them say anything but twice as much.
fn assert_reads_the_same(text: &str, report: &Report) {
    let utf_16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(junit::read(&utf_16).as_ref(), Ok(report), "in UTF-16");
    let twice = junit::read(text.repeat(2).as_bytes()).expect("two reports one after another");
    assert_eq!(twice.counts.tests, 2 * report.counts.tests);
}
