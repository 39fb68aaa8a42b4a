//! The reader of JUnit reports.

mod dialects;
mod hostile;
mod producers;
mod suites;

use super::{Counts, Failure, Report};

/// `tests passed failed errored skipped flaky`.
fn counted(counts: Counts) -> [u64; 6] {
    let Counts { tests, passed, failed, errored, skipped, flaky } = counts;
    [tests, passed, failed, errored, skipped, flaky]
}

/// `SUITE / NAME: MESSAGE (FILE:LINE)`.
fn told(failure: &Failure) -> String {
    let Failure { suite, name, message, file, line } = failure;
    let place = match (file, line) {
        (None, _) => String::new(),
        (Some(file), None) => format!(" ({file})"),
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
    };
    format!("{suite} / {name}: {message}{place}")
}

fn read(body: impl AsRef<[u8]>) -> Report {
    super::read(body.as_ref()).expect("a report")
}
