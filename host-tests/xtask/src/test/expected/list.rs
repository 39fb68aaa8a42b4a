//! The list of expected failures, `host-tests/expected-failures.txt`: one line each, `PART PATH  # what is wrong today`.

use anyhow::{Context, Result, bail, ensure};

use crate::test::part::Part;

/// Its place in the repository.
pub const FILE: &str = "host-tests/expected-failures.txt";

/// The parts whose tests may be expected to fail.
const PARTS: [Part; 3] = [Part::Core, Part::World, Part::Envoy];
/// The first word of a line that names a seed.
const HISTORY: &str = "history";

/// What is expected to fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A test, as `cargo test` prints it; where two programs of a part have one of that name, `PROGRAM::PATH`.
    Test { part: Part, path: String },
    /// A random history, by its seed.
    History(u64),
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) what: What,
    /// What is wrong today.
    pub(crate) why: String,
}

/// Reads the list. Blank lines, and lines that begin with `#`, are for people.
///
/// # Errors
/// A line that is none of these, or what an earlier line has: with its number.
pub(crate) fn parse(text: &str) -> Result<Vec<Expected>> {
    let mut all: Vec<Expected> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let expected = expected(line).with_context(|| format!("{FILE}, line {number}: {line}"))?;
        ensure!(
            all.iter().all(|earlier| earlier.what != expected.what),
            "{FILE}, line {number}: {line}: an earlier line says so already"
        );
        all.push(expected);
    }
    Ok(all)
}

fn expected(line: &str) -> Result<Expected> {
    let (what, why) = line.split_once('#').context("after a # it must say what is wrong today")?;
    let why = why.trim().to_owned();
    ensure!(!why.is_empty(), "after the # it must say what is wrong today");
    let words: Vec<&str> = what.split_whitespace().collect();
    let [kind, name] = words[..] else { bail!("before the # it must have a part and a test's path") };
    if kind == HISTORY {
        let seed = name.parse().with_context(|| format!("{name:?} is no seed"))?;
        return Ok(Expected { what: What::History(seed), why });
    }
    let part = Part::named(kind).filter(|part| PARTS.contains(part)).with_context(|| {
        let parts = PARTS.map(Part::name).join(", ");
        format!("{kind:?} is none of {parts} and {HISTORY}")
    })?;
    Ok(Expected { what: What::Test { part, path: name.to_owned() }, why })
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Test { part, path } => write!(f, "{} {path}", part.name()),
            What::History(seed) => write!(f, "{HISTORY} {seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_test_or_a_seed_and_says_what_is_wrong() {
        let list = parse(
            "# for people\n\ncore lead::tests::a_b  # it # is\nworld probes::c_d#wrong\n  history 5002526  # settle\n",
        );
        let expected = |what, why: &str| Expected { what, why: why.into() };
        assert_eq!(
            list.unwrap(),
            [
                expected(What::Test { part: Part::Core, path: "lead::tests::a_b".into() }, "it # is"),
                expected(What::Test { part: Part::World, path: "probes::c_d".into() }, "wrong"),
                expected(What::History(5_002_526), "settle"),
            ]
        );
    }

    #[test]
    fn a_line_that_says_too_little_is_named_with_its_number() {
        for (text, says) in [
            ("core a", "after a # it must say"),
            ("core a #", "after the # it must say"),
            ("core # wrong", "a part and a test's path"),
            ("core a b # wrong", "a part and a test's path"),
            ("tools a # wrong", "\"tools\" is none of core, world, envoy and history"),
            ("history a # wrong", "\"a\" is no seed"),
            ("core a # x\ncore a # y", "line 2: core a # y: an earlier line"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(says) && error.contains("expected-failures.txt, line "), "{error}");
        }
    }

    #[test]
    fn the_committed_list_can_be_read() {
        parse(include_str!("../../../../expected-failures.txt")).unwrap();
    }
}
