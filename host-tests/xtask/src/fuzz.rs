//! `cargo xtask fuzz`: the fuzz targets of `host-tests/fuzz` under libFuzzer.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::program::{Program, active_cargo, native_cargo, output, run as run_program};
use crate::workspace::Workspace;

/// What to fuzz.
#[derive(Debug)]
pub struct Options {
    /// One target; `None`: each in turn.
    pub target: Option<String>,
    /// How long each runs, in seconds.
    pub seconds: u64,
}

/// The release profile that fuzzing wants: fast, with every check that a debug build has, and linked in no time.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
];

/// No larger inputs, in bytes, and no input may take longer than ten seconds.
const LIBFUZZER: [&str; 3] = ["-max_len=8192", "-timeout=10", "-print_final_stats=1"];

/// Folders of other tests whose files a target begins with too.
const FIXTURES: [(&str, &str); 1] = [("junit", "host-tests/fakes/fixtures/junit")];

/// Runs the targets. New inputs go to `target/fuzz/corpus/TARGET`, what makes a target panic to
/// `target/fuzz/artifacts/TARGET`: put that file into `host-tests/fuzz/corpus/TARGET` and the tests replay it.
///
/// # Errors
/// An unknown target, no cargo-fuzz, or an input that breaks a property.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let known = targets(workspace)?;
    let targets = match &options.target {
        None => known,
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => bail!("there is no target `{name}`; there are {}", known.join(", ")),
    };
    if output(Program::new(active_cargo()).args(["fuzz", "--version"])).is_err() {
        bail!(
            "cargo-fuzz is missing: install it with `cargo install cargo-fuzz --locked` (it needs a C++ compiler)"
        );
    }
    for target in &targets {
        let folders = Folders::of(workspace, target)?;
        let mut artifacts = OsString::from("-artifact_prefix=");
        artifacts.push(folders.artifacts.join(""));
        let mut cargo = native_cargo();
        // libFuzzer's instrumentation is an unstable option of the compiler, the same in stable ones.
        cargo.env("RUSTC_BOOTSTRAP", "1").envs(PROFILE).current_dir(workspace.root());
        cargo.args(["fuzz", "run", "--sanitizer", "none", "--features", "libfuzzer", "--fuzz-dir"]);
        cargo.arg("host-tests/fuzz").arg("--target-dir").arg(workspace.target().join("fuzz"));
        cargo.arg(target).arg(&folders.found).arg(&folders.committed);
        cargo.args(
            FIXTURES.iter().filter(|(of, _)| of == target).map(|(_, folder)| workspace.root().join(folder)),
        );
        cargo.arg("--").args(LIBFUZZER);
        cargo.arg(format!("-max_total_time={}", options.seconds)).arg(artifacts);
        run_program(&mut cargo).with_context(|| format!("the target {target} failed"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets: the programs in `host-tests/fuzz/fuzz_targets`.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("host-tests/fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

/// Where a target's inputs are.
struct Folders {
    committed: PathBuf,
    found: PathBuf,
    artifacts: PathBuf,
}

impl Folders {
    fn of(workspace: &Workspace, target: &str) -> Result<Folders> {
        let own = workspace.target().join("fuzz");
        let folders = Folders {
            committed: workspace.root().join("host-tests/fuzz/corpus").join(target),
            found: own.join("corpus").join(target),
            artifacts: own.join("artifacts").join(target),
        };
        for folder in [&folders.found, &folders.artifacts] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(folders)
    }
}
