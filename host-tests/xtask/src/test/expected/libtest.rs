//! What a test program of Rust prints: its lists, and which tests passed or failed.

use std::collections::{BTreeMap, BTreeSet};

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// With what it said first.
    Failed(String),
}

/// The names in the output of `--list`.
pub(crate) fn listed(stdout: &str) -> BTreeSet<String> {
    stdout.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The verdicts in a program's output. A program that crashed leaves some tests without one; what its last lines claim in
/// passing (`running 3 tests`) says nothing about them.
pub(crate) fn verdicts(stdout: &str) -> BTreeMap<String, Verdict> {
    let verdict = |line: &str| {
        let (name, ended) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        let verdict = match ended {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed(said_first(stdout, name)),
            // With its reason where there is one: `FAILED (time limit exceeded)`; `ignored` is no verdict.
            _ if ended.starts_with("FAILED") => Verdict::Failed(ended.to_owned()),
            _ => return None,
        };
        Some((name.to_owned(), verdict))
    };
    // What follows is what failed tests printed, among it perhaps another program's verdicts.
    stdout.lines().take_while(|line| *line != "failures:").filter_map(verdict).collect()
}

/// The first line of a failed test's panic, or of what it printed.
fn said_first(stdout: &str, test: &str) -> String {
    let head = format!("---- {test} stdout ----");
    let printed: Vec<&str> = stdout
        .lines()
        .skip_while(|line| *line != head)
        .skip(1)
        .take_while(|line| !line.starts_with("---- ") && *line != "failures:")
        .filter(|line| !line.trim().is_empty())
        .collect();
    panic_in(&printed).or(printed.first().copied()).unwrap_or("what it said is lost").trim().to_owned()
}

/// What follows `thread 'NAME' (ID) panicked at FILE:LINE:COLUMN:`.
fn panic_in<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let at = lines.iter().position(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
    lines.get(at + 1).copied()
}

/// What a program that was ended said last on standard error, or first where it panicked.
pub(crate) fn last_words(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    panic_in(&lines).or(lines.last().copied()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from rustc 1.95's test harness: `cargo test -- --ignored`.
    const RECORDED: &str = include_str!("recorded/failed-and-passed.txt");
    /// The same, of a program in which one test had no end to its stack.
    const CRASHED: &str = include_str!("recorded/crashed.txt");
    const CRASHED_STDERR: &str = include_str!("recorded/crashed-stderr.txt");

    #[test]
    fn each_test_of_a_program_that_ends_has_a_verdict() {
        let failed = |said: &str| Verdict::Failed(said.into());
        assert_eq!(
            verdicts(RECORDED).into_iter().collect::<Vec<_>>(),
            [
                ("tests::an_assertion".into(), failed("assertion `left == right` failed: of 3")),
                ("tests::an_error".into(), failed("Error: \"no such thing\"")),
                (
                    "tests::it_must_panic".into(),
                    failed("note: test did not panic as expected at src/lib.rs:23:8")
                ),
                ("tests::it_passes".into(), Verdict::Passed),
                ("tests::it_printed_before".into(), failed("called `Option::unwrap()` on a `None` value")),
                ("tests::it_rightly_panics".into(), Verdict::Passed),
            ]
        );
    }

    #[test]
    fn a_program_that_crashes_leaves_tests_without_a_verdict() {
        let verdicts = verdicts(CRASHED);
        assert_eq!(verdicts.get("tests::it_passes"), Some(&Verdict::Passed));
        assert_eq!(verdicts.get("tests::it_overflows_its_stack"), None);
        assert_eq!(verdicts.get("tests::an_error"), Some(&Verdict::Failed("what it said is lost".into())));
        assert_eq!(verdicts.len(), 6);
        assert_eq!(last_words(CRASHED_STDERR), "fatal runtime error: stack overflow, aborting");
    }

    #[test]
    fn a_list_has_tests_alone() {
        let list = "a::b: test\nc: test\nd: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(listed(list).into_iter().collect::<Vec<_>>(), ["a::b", "c"]);
    }
}
