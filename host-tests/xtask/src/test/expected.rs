//! `cargo xtask test expected`: the tests and histories that [`list`] says are known to fail. Each is run and must fail, and
//! no other test may be left out: a fault that is mended leaves the list, and none is forgotten behind `#[ignore]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Tests;
use super::part::Part;
use crate::program::{Program, ended_within, native_cargo, output};
use crate::workspace::Workspace;

mod libtest;
pub mod list;

use libtest::{Verdict, last_words, listed, verdicts};
use list::{Expected, FILE, What};

/// How long all ignored tests of one program may take together.
const PROGRAM_LIMIT: Duration = Duration::from_mins(15);
/// How long one test alone may take, or one history.
const ALONE_LIMIT: Duration = Duration::from_mins(3);

/// A test program, and what it says of its tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tested {
    part: Part,
    /// The name of cargo's target: `scenarios` for `tests/scenarios.rs`.
    program: String,
    /// All its tests.
    all: BTreeSet<String>,
    /// Those that are left out of an ordinary run, and how they ended.
    ignored: BTreeMap<String, Verdict>,
}

/// What was found of one line of the list, or of a test that should have one.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// As expected.
    Fails(String),
    /// This must be changed.
    Wrong(String),
}

/// Runs all of them and prints one line each. Exit code 0 only if each fails and the list is complete.
///
/// # Errors
/// The list cannot be read, or the tests cannot be built.
pub(super) fn run(workspace: &Workspace, tests: &Tests) -> Result<ExitCode> {
    let path = workspace.root().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let expected = list::parse(&text)?;
    let mut tested = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| *part != Part::Histories) {
        for call in part.calls() {
            for program in programs(workspace, part, call)? {
                tested.push(program.test(tests)?);
            }
        }
    }
    let histories = histories(workspace, tests, &expected)?;
    let findings = findings(&expected, &tested, &histories);
    println!("\n{}", report(&findings));
    let is_right = findings.iter().all(|(_, finding)| matches!(finding, Finding::Fails(_)));
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A test program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    part: Part,
    program: String,
    executable: PathBuf,
    /// The folder of its package, which cargo runs tests in.
    folder: PathBuf,
}

/// Builds the test programs of one call of `cargo test`.
fn programs(workspace: &Workspace, part: Part, call: &[&str]) -> Result<Vec<Built>> {
    // Examples in comments are no programs.
    if call.contains(&"--doc") {
        return Ok(Vec::new());
    }
    let built = native_cargo()
        .current_dir(workspace.root())
        .args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"])
        .args(call)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    if !built.status.success() {
        bail!("the tests of the part {} cannot be built", part.name());
    }
    Ok(built_in(part, &String::from_utf8_lossy(&built.stdout)))
}

/// The test programs that cargo's messages name.
fn built_in(part: Part, messages: &str) -> Vec<Built> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
        profile: Option<Profile>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter(|message| message.profile.as_ref().is_some_and(|profile| profile.test))
        .filter_map(|message| {
            let folder = message.manifest_path?.parent()?.to_path_buf();
            Some(Built { part, program: message.target?.name, executable: message.executable?, folder })
        })
        .collect()
}

impl Built {
    /// Runs the ignored tests: all at once, then those alone of which that told nothing.
    fn test(&self, tests: &Tests) -> Result<Tested> {
        let all = listed(&output(self.call().arg("--list"))?);
        let names = listed(&output(self.call().args(["--list", "--ignored"]))?);
        let mut ignored = BTreeMap::new();
        if !names.is_empty() {
            let ended = ended_within(tests.set(self.call().arg("--ignored")), PROGRAM_LIMIT)?;
            ignored = verdicts(&String::from_utf8_lossy(&ended.stdout));
            ignored.retain(|name, _| names.contains(name));
        }
        for name in &names {
            if !ignored.contains_key(name) {
                ignored.insert(name.clone(), self.alone(tests, name)?);
            }
        }
        Ok(Tested { part: self.part, program: self.program.clone(), all, ignored })
    }

    /// A test in a program of its own, which it may bring down.
    fn alone(&self, tests: &Tests, name: &str) -> Result<Verdict> {
        let ended = ended_within(tests.set(self.call().args(["--ignored", "--exact", name])), ALONE_LIMIT)?;
        if let Some(verdict) = verdicts(&String::from_utf8_lossy(&ended.stdout)).remove(name) {
            return Ok(verdict);
        }
        let words = last_words(&String::from_utf8_lossy(&ended.stderr));
        Ok(Verdict::Failed(match ended.status {
            None => format!("it did not end in {} s", ALONE_LIMIT.as_secs()),
            Some(status) => format!("its program crashed ({status}): {words}"),
        }))
    }

    fn call(&self) -> Program {
        let mut program = Program::new(&self.executable);
        program.current_dir(&self.folder);
        program
    }
}

/// Plays the listed histories. One of which nothing is told is none.
fn histories(workspace: &Workspace, tests: &Tests, expected: &[Expected]) -> Result<BTreeMap<u64, Verdict>> {
    let seeds: Vec<String> = expected
        .iter()
        .filter_map(|expected| match expected.what {
            What::History(seed) => Some(seed.to_string()),
            What::Test { .. } => None,
        })
        .collect();
    if seeds.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut cargo = native_cargo();
    cargo
        .current_dir(workspace.root())
        .args(["run", "--quiet", "--locked", "--package", "testrelay-world", "--bin", "verdicts", "--"])
        .args(&seeds)
        .stderr(Stdio::inherit());
    let limit = ALONE_LIMIT * u32::try_from(seeds.len()).unwrap_or(u32::MAX);
    let ended = ended_within(tests.set(&mut cargo), limit)?;
    Ok(told(&String::from_utf8_lossy(&ended.stdout)))
}

/// What the world's `verdicts` printed: `seed N: holds` or `seed N: ` and the first rule that it breaks.
fn told(stdout: &str) -> BTreeMap<u64, Verdict> {
    let verdict = |line: &str| {
        let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
        let verdict = if what == "holds" { Verdict::Passed } else { Verdict::Failed(what.to_owned()) };
        Some((seed.parse().ok()?, verdict))
    };
    stdout.lines().filter_map(verdict).collect()
}

/// Holds the list against what was run: first its lines in their order, then what has no line.
fn findings(
    expected: &[Expected],
    tested: &[Tested],
    histories: &BTreeMap<u64, Verdict>,
) -> Vec<(String, Finding)> {
    let mut findings = Vec::new();
    let mut have_lines = BTreeSet::new();
    for line in expected {
        let finding = match &line.what {
            What::History(seed) => of_history(line, histories.get(seed)),
            What::Test { part, path } => match found(tested, *part, path)[..] {
                [] => wrong("there is no such test: take the line out of the list, or correct its path"),
                [(program, name)] => {
                    have_lines.insert((*part, program.program.as_str(), name));
                    of_test(line, program.ignored.get(name))
                }
                _ => wrong("more than one program has such a test: write PROGRAM::PATH"),
            },
        };
        findings.push((line.what.to_string(), finding));
    }
    for program in tested {
        for name in program.ignored.keys() {
            if !have_lines.contains(&(program.part, program.program.as_str(), name.as_str())) {
                let what = format!("{} {}::{name}", program.part.name(), program.program);
                findings.push((what, wrong(&format!("it is ignored, and {FILE} has no line for it"))));
            }
        }
    }
    findings
}

/// The tests of a part that a path names: with or without the program's name before it.
fn found<'a>(tested: &'a [Tested], part: Part, path: &'a str) -> Vec<(&'a Tested, &'a str)> {
    let of_part = tested.iter().filter(|program| program.part == part);
    of_part
        .flat_map(|program| {
            let below = path.strip_prefix(&program.program).and_then(|rest| rest.strip_prefix("::"));
            let names = [Some(path), below].into_iter().flatten();
            names.filter(|name| program.all.contains(*name)).map(move |name| (program, name))
        })
        .collect()
}

fn of_test(line: &Expected, verdict: Option<&Verdict>) -> Finding {
    match verdict {
        None => wrong(
            "it is not ignored: mark it #[ignore = \"expected failure: …\"], or take the line out of the list",
        ),
        Some(Verdict::Passed) => {
            wrong("it PASSES: take the line out of the list, and #[ignore] from the test")
        }
        Some(Verdict::Failed(said)) => Finding::Fails(format!("{}\n          {}", line.why, shortened(said))),
    }
}

fn of_history(line: &Expected, verdict: Option<&Verdict>) -> Finding {
    match verdict {
        None => wrong("nothing was told of it"),
        Some(Verdict::Passed) => wrong(
            "it HOLDS: take the line out of the list. If the fault is still there, the module's calls have changed and the \
             seed plays something else: list one that shows it",
        ),
        Some(Verdict::Failed(said)) => Finding::Fails(format!("{}\n          {}", line.why, shortened(said))),
    }
}

fn wrong(text: &str) -> Finding {
    Finding::Wrong(text.to_owned())
}

/// What is said of all: what is as expected, then what is wrong, since that is read first from below.
fn report(findings: &[(String, Finding)]) -> String {
    let mut lines = vec![format!("expected failures ({FILE}):")];
    let mut right = 0;
    for (what, finding) in findings {
        if let Finding::Fails(why) = finding {
            right += 1;
            lines.push(format!("  fails   {what}: {why}"));
        }
    }
    for (what, finding) in findings {
        if let Finding::Wrong(why) = finding {
            lines.push(format!("  WRONG   {what}: {why}"));
        }
    }
    lines.push(format!("{right} fail as expected, {} wrong", findings.len() - right));
    lines.join("\n")
}

fn shortened(text: &str) -> String {
    const MAX_SHOWN: usize = 200;
    match text.chars().count() {
        ..=MAX_SHOWN => text.to_owned(),
        _ => text.chars().take(MAX_SHOWN).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const RECORDED: &str = include_str!("expected/recorded/failed-and-passed.txt");

    fn tested(program: &str, all: &[&str], ignored: &[(&str, Verdict)]) -> Tested {
        Tested {
            part: Part::World,
            program: program.into(),
            all: all.iter().map(ToString::to_string).collect(),
            ignored: ignored.iter().map(|(name, verdict)| (name.to_string(), verdict.clone())).collect(),
        }
    }

    fn failed() -> Verdict {
        Verdict::Failed("left: 1".into())
    }

    fn found_wrong(list: &str, tested: &[Tested], histories: &[(u64, Verdict)]) -> Vec<String> {
        let histories = histories.iter().cloned().collect();
        let findings = findings(&list::parse(list).unwrap(), tested, &histories);
        let wrong = findings.into_iter().filter_map(|(what, finding)| match finding {
            Finding::Wrong(why) => Some(format!("{what}: {why}")),
            Finding::Fails(_) => None,
        });
        wrong.collect()
    }

    #[test]
    fn tests_that_fail_as_listed_are_right() {
        let program = tested("probes", &["a::b", "c"], &[("a::b", failed()), ("c", failed())]);
        let list = "world a::b  # one\nworld probes::c  # another\nhistory 7  # a rule\n";
        assert_eq!(found_wrong(list, std::slice::from_ref(&program), &[(7, failed())]), [""; 0]);
        let histories = BTreeMap::from([(7, failed())]);
        let said = report(&findings(&list::parse(list).unwrap(), &[program], &histories));
        assert!(said.contains("  fails   world a::b: one\n          left: 1\n"), "{said}");
        assert!(said.ends_with("3 fail as expected, 0 wrong"), "{said}");
    }

    #[test]
    fn a_listed_test_that_passes_is_wrong() {
        let program = tested("probes", &["a"], &[("a", Verdict::Passed)]);
        let wrong = found_wrong("world a # x", &[program], &[]);
        assert!(wrong.len() == 1 && wrong[0].starts_with("world a: it PASSES"), "{wrong:?}");
    }

    #[test]
    fn a_listed_test_that_does_not_exist_or_is_not_ignored_is_wrong() {
        let program = tested("probes", &["a"], &[]);
        let wrong = found_wrong("world b # x\nworld a # x\ncore a # x", &[program], &[]);
        assert!(wrong[0].starts_with("world b: there is no such test"), "{wrong:?}");
        assert!(wrong[1].starts_with("world a: it is not ignored"), "{wrong:?}");
        assert!(wrong[2].starts_with("core a: there is no such test"), "{wrong:?}");
    }

    #[test]
    fn an_ignored_test_without_a_line_is_wrong() {
        let program = tested("probes", &["a", "b"], &[("a", failed()), ("b", failed())]);
        let wrong = found_wrong("world a # x", &[program], &[]);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("world probes::b: it is ignored, and host-tests/"), "{wrong:?}");
    }

    #[test]
    fn a_name_that_two_programs_have_needs_the_programs_name() {
        let programs = [
            tested("one", &["a"], &[("a", failed())]),
            tested("other", &["a", "one::a"], &[("one::a", failed())]),
        ];
        let wrong = found_wrong("world a # x", &programs, &[]);
        assert!(wrong[0].starts_with("world a: more than one program"), "{wrong:?}");
        let wrong = found_wrong("world other::one::a # x", &programs, &[]);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("world one::a: it is ignored"), "{wrong:?}");
    }

    #[test]
    fn a_listed_history_that_holds_or_is_not_played_is_wrong() {
        let told = told("seed 7: holds\nseed 8: at 1.000 s, rule verdict: no\nnoise\n");
        assert_eq!(told[&8], Verdict::Failed("at 1.000 s, rule verdict: no".into()));
        let told: Vec<(u64, Verdict)> = told.into_iter().collect();
        let wrong = found_wrong("history 7 # x\nhistory 8 # x\nhistory 9 # x", &[], &told);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("history 7: it HOLDS"), "{wrong:?}");
        assert!(wrong[1].starts_with("history 9: nothing was told of it"), "{wrong:?}");
    }

    #[test]
    fn a_recorded_run_is_held_against_a_list() {
        let verdicts = verdicts(RECORDED);
        let program = Tested {
            part: Part::World,
            program: "rec".into(),
            all: verdicts.keys().cloned().collect(),
            ignored: verdicts,
        };
        let list = "world tests::an_assertion # x\nworld tests::an_error # x\nworld tests::it_must_panic # x\n\
                    world tests::it_passes # x\nworld tests::it_printed_before # x\n";
        let wrong = found_wrong(list, &[program], &[]);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("world tests::it_passes: it PASSES"), "{wrong:?}");
        assert!(wrong[1].starts_with("world rec::tests::it_rightly_panics: it is ignored"), "{wrong:?}");
    }

    #[test]
    fn only_test_programs_are_run_and_each_in_its_packages_folder() {
        let message = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/{name}/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/{name}"}}"#
            )
        };
        let messages = [message("bench", false), message("histories", true), "{}".into()].join("\n");
        let built = Built {
            part: Part::World,
            program: "histories".into(),
            executable: "/t/histories".into(),
            folder: "/r/histories".into(),
        };
        assert_eq!(built_in(Part::World, &messages), [built]);
    }

    /// A program that talks like a test program. In one process its test crashes, as it did when it ran beside others.
    fn talks(folder: &Path, script: &str) -> Built {
        use std::os::unix::fs::PermissionsExt;
        let executable = folder.join("program");
        std::fs::write(&executable, format!("#!/bin/sh\ncase \"$*\" in\n{script}esac\n")).unwrap();
        std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
        Built { part: Part::Core, program: "p".into(), executable, folder: folder.into() }
    }

    #[test]
    fn a_test_that_brings_its_program_down_is_run_alone_and_so_are_those_it_took_along() {
        let folder = tempfile::tempdir().unwrap();
        let program = talks(
            folder.path(),
            "'--list') printf 'a: test\\nb: test\\nc: test\\nd: test\\n';;\n\
             '--list --ignored') printf 'a: test\\nb: test\\nc: test\\n';;\n\
             '--ignored') printf 'test a ... FAILED\\n'; kill -ABRT $$;;\n\
             '--ignored --exact b') printf 'test b ... ok\\n';;\n\
             '--ignored --exact c') echo 'stack overflow' >&2; kill -ABRT $$;;\n",
        );
        let tested = program.test(&Tests::native()).unwrap();
        assert_eq!(tested.all.len(), 4);
        assert_eq!(tested.ignored["b"], Verdict::Passed);
        let Verdict::Failed(said) = &tested.ignored["c"] else { panic!("{tested:?}") };
        assert!(said.contains("crashed") && said.ends_with("stack overflow"), "{said}");
        assert!(matches!(tested.ignored["a"], Verdict::Failed(_)));
    }
}
