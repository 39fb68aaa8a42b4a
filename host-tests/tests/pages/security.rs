//! `envoy/security.md`: each item under "Could not" names a test, and each of these tests exists.

use crate::repository;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../envoy/security.md");

/// The programs whose tests a page may name, and the file that each begins with.
const PROGRAMS: [(&str, &str); 4] = [
    ("testrelay", "plugin/relay/src/lib.rs"),
    ("envoy", "host-tests/tests/envoy/main.rs"),
    ("pages", "host-tests/tests/pages/main.rs"),
    ("probes", "host-tests/world/tests/probes/main.rs"),
];

/// Whether there is a test `program::module::…::name`, and it is compiled.
fn exists(test: &str) -> Result<()> {
    let mut path: Vec<&str> = test.split("::").collect();
    let (program, name) = (path.remove(0), path.pop().context("no name")?);
    let root = PROGRAMS.iter().find(|(known, _)| *known == program).context("no such program")?.1;
    let mut file = repository::root().join(root);
    let mut folder = file.parent().context("no folder")?.to_owned();
    let mut text = fs::read_to_string(&file)?;
    for module in path {
        match declaration(&text, module) {
            Some(Declared::Inside(inner)) => text = inner,
            Some(Declared::InFile) => {
                file = in_folder(&folder, module)?;
                text = fs::read_to_string(&file)?;
            }
            None => bail!("{} has no module `{module}`", file.display()),
        }
        folder.push(module);
    }
    ensure!(has_test(&text, name), "{} has no test `{name}`", file.display());
    Ok(())
}

enum Declared {
    /// `mod name;`
    InFile,
    /// `mod name { … }`: what follows its brace.
    Inside(String),
}

fn declaration(text: &str, module: &str) -> Option<Declared> {
    let is = |line: &str, end: &str| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line == format!("mod {module}{end}")
    };
    if text.lines().any(|line| is(line, ";")) {
        return Some(Declared::InFile);
    }
    let mut lines = text.lines();
    lines.find(|line| is(line, " {"))?;
    let inner = lines.take_while(|line| *line != "}");
    let inner: Vec<&str> = inner.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    Some(Declared::Inside(inner.join("\n")))
}

fn in_folder(folder: &Path, module: &str) -> Result<PathBuf> {
    let places = [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")];
    let found = places.iter().find(|place| place.is_file()).cloned();
    found.with_context(|| format!("no file for the module `{module}` in {}", folder.display()))
}

/// A function under `#[test]`, with other attributes between or none, that is not ignored.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| line.starts_with(&format!("fn {name}("));
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        let attributes: Vec<&&str> =
            lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).collect();
        attributes.iter().any(|line| ***line == *"#[test]")
            && !attributes.iter().any(|line| line.contains("ignore"))
    })
}

/// The tests that a text names: code with `::` in it.
fn named(text: &str) -> Vec<&str> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter(|code| code.contains("::")).collect()
}

/// The items of a list, each in one line.
fn items(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("- "), all.last_mut()) {
            (Some(first), _) => all.push(first.to_owned()),
            (None, Some(item)) if line.starts_with("  ") => *item = format!("{item} {}", line.trim()),
            _ => {}
        }
    }
    all
}

#[test]
fn every_named_test_exists() -> Result<()> {
    let mut missing = Vec::new();
    for test in named(PAGE) {
        missing.extend(exists(test).err().map(|error| format!("{test}: {error:#}")));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    Ok(())
}

/// For each attacker the page says what they could do, and what they could not, with a test for each item of the latter.
#[test]
fn everything_that_somebody_could_not_do_names_a_test() -> Result<()> {
    let (mut attackers, mut claims) = (0, 0);
    for section in PAGE.split("\n## ").filter(|section| section.contains("\nCould not:\n")) {
        let attacker = section.lines().next().unwrap_or_default();
        let (could, could_not) = section.split_once("\nCould not:\n").context("no such part")?;
        let (_, could) = could.split_once("\nCould:\n").with_context(|| format!("{attacker}: no Could"))?;
        ensure!(!items(could).is_empty(), "{attacker}: nothing that they could do");
        for item in items(could_not) {
            ensure!(!named(&item).is_empty(), "{attacker}: no test shows this: {item}");
            claims += 1;
        }
        attackers += 1;
    }
    ensure!(attackers >= 5 && claims > 25, "{attackers} attackers, {claims} claims");
    Ok(())
}

/// What does not exist is noticed.
#[test]
fn a_test_that_is_not_there_is_named_with_its_file() {
    for (test, reason) in [
        ("envoy::secrets::no_secret", "has no test `no_secret`"),
        ("envoy::secret::no_secret", "has no module `secret`"),
        ("nobody::x", "no such program"),
        ("testrelay::tag::tests::is_key", "has no test `is_key`"),
        ("pages::security::exists", "has no test `exists`"),
    ] {
        let error = exists(test).map_or_else(|error| format!("{error:#}"), |()| "it exists".into());
        assert!(error.contains(reason), "{test}: {error}");
    }
    assert!(exists("pages::security::every_named_test_exists").is_ok());
    assert!(exists("testrelay::tag::tests::a_value_alone_gets_the_configured_key").is_ok());
}
