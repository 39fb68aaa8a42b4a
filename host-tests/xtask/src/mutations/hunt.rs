//! Running tests on a mutated module until one of them fails.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::program::{Program, native_cargo};
use crate::workspace::Workspace;

/// The world's tests, built.
pub struct Hunt {
    folder: PathBuf,
    histories: PathBuf,
    scenarios: Vec<PathBuf>,
    most: u64,
}

/// What found a fault.
#[derive(Debug, PartialEq, Eq)]
pub struct Catch {
    /// The broken rule with its text, or the test's name.
    pub what: String,
    /// How many random histories were played up to the one that broke it; `None`: a scenario.
    pub after: Option<u64>,
}

/// Builds the core's unit tests of a copy of the sources, and runs those whose names have one of these texts in them.
///
/// # Errors
/// They do not build, or cannot be run.
pub fn in_core(copy: &Workspace, names: &[&str]) -> Result<Option<Catch>> {
    let tests = || {
        let mut cargo = native_cargo();
        cargo.current_dir(copy.root()).env("CARGO_TARGET_DIR", copy.target());
        cargo.args(["test", "--quiet", "--locked", "--package", "testrelay", "--lib"]);
        cargo
    };
    let built = tests().arg("--no-run").output().context("cargo cannot be run")?;
    if !built.status.success() {
        bail!("the core's tests do not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let (passed, text) = outcome_of(tests().args(["--", "--format=pretty"]).args(names))?;
    Ok((!passed).then(|| Catch { what: first_failed(&text), after: None }))
}

/// Whether a test program passed, and what it printed.
fn outcome_of(program: &mut Program) -> Result<(bool, String)> {
    let Output { status, stdout, stderr } = program.output().context("a test program cannot be run")?;
    if status.code().is_none() {
        bail!("a test program was ended from outside ({status}), which is no catch");
    }
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((status.success(), text))
}

/// The tests that check the simulated Envoy itself and not the module.
const OF_THE_WORLD: [&str; 1] = ["probes"];

impl Hunt {
    /// Builds the tests of the package `testrelay-world`. A module gets through `most` histories.
    ///
    /// # Errors
    /// They do not build.
    pub fn prepare(workspace: &Workspace, most: u64) -> Result<Hunt> {
        let mut cargo = native_cargo();
        cargo.current_dir(workspace.root());
        cargo.args(["test", "--locked", "--package", "testrelay-world", "--no-run", "--message-format=json"]);
        let built = cargo.stderr(std::process::Stdio::inherit()).output().context("cargo cannot be run")?;
        if !built.status.success() {
            bail!("the world's tests do not build");
        }
        let (mut histories, mut scenarios) = (None, Vec::new());
        for (name, path) in test_programs(&String::from_utf8_lossy(&built.stdout)) {
            match name.as_str() {
                "histories" => histories = Some(path),
                // It compares instructions with those of the release profile: any change would be a catch.
                "fuel" => {}
                name if OF_THE_WORLD.contains(&name) => {}
                _ => scenarios.push(path),
            }
        }
        let histories = histories.context("the world has no test program `histories`")?;
        Ok(Hunt { folder: workspace.root().join("host-tests/world"), histories, scenarios, most })
    }

    /// Plays histories, more at a time as they go well, then the scenarios; until something fails.
    ///
    /// # Errors
    /// A test program cannot be run.
    pub fn on(&self, module: &Path) -> Result<Option<Catch>> {
        let (mut from, mut size) = (0, 16);
        while from < self.most {
            let to = (from + size).min(self.most);
            if let Some(catch) = self.play(module, from, to)? {
                return Ok(Some(catch));
            }
            (from, size) = (to, size * 2);
        }
        self.told_by_scenarios(module)
    }

    /// The first `histories` histories and the scenarios.
    ///
    /// # Errors
    /// A test program cannot be run.
    pub fn once(&self, module: &Path, histories: u64) -> Result<Option<Catch>> {
        match self.play(module, 0, histories)? {
            None => self.told_by_scenarios(module),
            caught => Ok(caught),
        }
    }

    fn play(&self, module: &Path, from: u64, to: u64) -> Result<Option<Catch>> {
        let range = format!("{from}-{to}");
        let mut program = Program::new(&self.histories);
        program.args(["--exact", "no_history_breaks_a_rule"]).env("TESTRELAY_HISTORIES", range);
        let (passed, text) = self.test(&mut program, module)?;
        Ok((!passed).then(|| in_histories(&text)))
    }

    fn told_by_scenarios(&self, module: &Path) -> Result<Option<Catch>> {
        for path in &self.scenarios {
            let (passed, text) = self.test(&mut Program::new(path), module)?;
            if !passed {
                return Ok(Some(in_scenarios(&text)));
            }
        }
        Ok(None)
    }

    fn test(&self, program: &mut Program, module: &Path) -> Result<(bool, String)> {
        outcome_of(program.current_dir(&self.folder).env("TESTRELAY_WASM", module))
    }
}

/// The test programs that cargo's messages name. A library's own unit tests are none of them: they need no module.
fn test_programs(messages: &str) -> Vec<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter_map(|message| Some((message.target?, message.executable?)))
        .filter(|(target, _)| target.kind == ["test"])
        .map(|(target, path)| (target.name, path))
        .collect()
}

/// The failure of the lowest seed: `seed 5: at 12.000 s, rule verdict: …`.
fn in_histories(text: &str) -> Catch {
    let failure = |line: &str| {
        let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
        Some((seed.parse::<u64>().ok()?, what.to_owned()))
    };
    match text.lines().filter_map(failure).min() {
        Some((seed, what)) => Catch { what: shortened(&rule_first(&what)), after: Some(seed + 1) },
        None => Catch { what: "histories: the test program failed".into(), after: None },
    }
}

/// The first test that failed, with the rule that it names, if it names one.
fn in_scenarios(text: &str) -> Catch {
    let name = first_failed(text);
    let rule = text.lines().find(|line| line.contains(" s, rule ")).map(|line| rule_first(line.trim()));
    let what = rule.map_or(name.clone(), |rule| format!("{name}: {rule}"));
    Catch { what: shortened(&what), after: None }
}

fn first_failed(text: &str) -> String {
    let failed = |line: &str| line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned);
    text.lines().find_map(failed).unwrap_or_else(|| "a test program that failed".into())
}

/// A violation without its time.
fn rule_first(violation: &str) -> String {
    violation.find("rule ").map_or(violation, |at| &violation[at..]).to_owned()
}

fn shortened(text: &str) -> String {
    const MAX_SHOWN: usize = 140;
    match text.chars().count() {
        ..=MAX_SHOWN => text.to_owned(),
        _ => text.chars().take(MAX_SHOWN).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_seeds_first_violation_is_told() {
        let text = "2 of them failed\nseed 9: at 1.000 s, rule one event: twice\n  and at 2.000 s, rule verdict: no\nreplay it with: cargo xtask replay 9\nseed 4: at 7.500 s, rule reported: not told\n";
        assert_eq!(in_histories(text), Catch { what: "rule reported: not told".into(), after: Some(5) });
        let scenario =
            "test a_check ... ok\ntest b_check ... FAILED\n\nat 3.000 s, rule secrets: a secret in a log\n";
        assert_eq!(
            in_scenarios(scenario),
            Catch { what: "b_check: rule secrets: a secret in a log".into(), after: None }
        );
    }

    #[test]
    fn only_integration_tests_are_hunters() {
        let message = |name: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}","kind":["{kind}"]}},"executable":"/t/{name}"}}"#
            )
        };
        let messages = [message("world", "lib"), message("histories", "test"), "{}".into()].join("\n");
        assert_eq!(test_programs(&messages), [("histories".to_owned(), PathBuf::from("/t/histories"))]);
    }
}
