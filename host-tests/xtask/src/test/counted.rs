//! How many tests the test programs ran. A name that no test has is no success: cargo itself ends with 0 then.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Result, bail};

/// What the last lines of test programs say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Programs that ran to their end. `--list` and `--no-run` leave none.
    programs: u64,
    /// Tests that were chosen, with those that are ignored.
    chosen: u64,
}

impl Counted {
    /// Passes the lines on to `out`, and counts in them.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub(super) fn read(&mut self, from: impl Read, mut out: impl Write) -> Result<()> {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line)? > 0 {
            out.write_all(&line)?;
            self.line(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(out.flush()?)
    }

    /// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 8 filtered out; finished in 0.1s`.
    pub(super) fn line(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|said| said.split_once(". "))
        else {
            return;
        };
        self.programs += 1;
        for count in counts.split("; ") {
            let (number, of) = count.trim_end().split_once(' ').unwrap_or_default();
            if ["passed", "failed", "ignored", "measured"].contains(&of) {
                self.chosen += number.parse::<u64>().unwrap_or_default();
            }
        }
    }

    /// Whether the arguments of `cargo test` chose a test.
    ///
    /// # Errors
    /// Programs ran, and none of their tests was chosen.
    pub(super) fn check(self, arguments: &[String]) -> Result<()> {
        if self.programs == 0 || self.chosen > 0 {
            return Ok(());
        }
        match arguments {
            [name, ..] if !name.starts_with('-') => bail!("no test's path contains {name:?}"),
            _ => bail!("`{}` chooses no test", arguments.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str =
        "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 871 filtered out; finished in 0.01s";
    const ONE: &str =
        "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 870 filtered out; finished in 0.01s";
    const IGNORED: &str =
        "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";

    /// What two programs' lines lead to: the error, or nothing.
    fn said(lines: &[&str], arguments: &[&str]) -> Option<String> {
        let mut counted = Counted::default();
        let (text, mut out) = (format!("running 2 tests\n{}\n\n", lines.join("\n")), Vec::new());
        counted.read(text.as_bytes(), &mut out).unwrap();
        assert_eq!(out, text.as_bytes());
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        counted.check(&arguments).err().map(|error| error.to_string())
    }

    #[test]
    fn a_name_that_no_test_has_is_an_error() {
        assert_eq!(
            said(&[NONE, NONE], &["no_such_name"]).as_deref(),
            Some("no test's path contains \"no_such_name\"")
        );
        assert_eq!(said(&[NONE], &["--", "--exact", "x"]).as_deref(), Some("`-- --exact x` chooses no test"));
    }

    #[test]
    fn one_test_of_one_program_is_enough_and_a_list_runs_none() {
        assert_eq!(said(&[NONE, ONE], &["table_of"]), None);
        assert_eq!(said(&[IGNORED, NONE], &["slow"]), None);
        assert_eq!(said(&["check::tests::a_name: test", "1 test, 0 benchmarks"], &["--", "--list"]), None);
    }
}
