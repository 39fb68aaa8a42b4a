//! Runs other programs: with an environment they would have had without `cargo xtask` around them, and with
//! errors that name the command.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wait_timeout::ChildExt;

/// A program to run; the standard library's type under the name the reader thinks of.
pub type Program = Command;

/// Cargo's own settings that a user makes on purpose and that do not change what is built.
const KEPT_CARGO_VARIABLES: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_BUILD_JOBS",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "CARGO_CACHE_",
];

/// Compiler settings for the native build which must not reach the module's.
const COMPILER_VARIABLES: [&str; 7] = [
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// The cargo of the active toolchain with the user's settings, for native builds: only what the outer `cargo run`
/// says about the package xtask is taken away.
pub fn native_cargo() -> Program {
    let mut cargo = Program::new(active_cargo());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_")
            || ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME", "CARGO_CRATE_NAME"]
                .contains(&name.as_str())
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// A program that builds for wasm: nothing that steers the native build reaches it.
pub fn without_build_settings(program: impl AsRef<OsStr>) -> Program {
    let mut program = Program::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if steers_the_build(&text) {
            program.env_remove(&name);
        }
    }
    program
}

/// The cargo that runs this very program, else the one on PATH.
pub fn active_cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a program to its end; what it printed, without the white space around it, or an error with its last words.
pub fn output(program: &mut Program) -> Result<String> {
    let finished = program
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{}` cannot be run", command_line(program)))?;
    text_of(program, finished)
}

/// Like [`output`], but ends the program after the given time.
pub fn output_within(program: &mut Program, limit: Duration) -> Result<String> {
    let Ended { status, stdout, stderr } = ended_within(program, limit)?;
    let Some(status) = status else {
        bail!("`{}` did not finish in {} s", command_line(program), limit.as_secs());
    };
    text_of(program, Output { status, stdout, stderr })
}

/// How a program ended that had a limited time.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it was ended when its time was over.
    pub status: Option<ExitStatus>,
    /// What it had printed by then.
    pub stdout: Vec<u8>,
    /// The same of standard error.
    pub stderr: Vec<u8>,
}

/// Runs a program to its end, or ends it after the given time.
pub fn ended_within(program: &mut Program, limit: Duration) -> Result<Ended> {
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` cannot be run", command_line(program)))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = child.wait_timeout(limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let read = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Ended { status, stdout: read(stdout), stderr: read(stderr) })
}

/// Runs a program whose output the user sees; an error if it fails.
pub fn run(program: &mut Program) -> Result<()> {
    let status = program
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`{}` cannot be run", command_line(program)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", command_line(program));
    }
    Ok(())
}

fn steers_the_build(name: &str) -> bool {
    COMPILER_VARIABLES.contains(&name)
        || name.starts_with("CARGO_") && !KEPT_CARGO_VARIABLES.iter().any(|kept| name.starts_with(kept))
}

fn text_of(program: &Program, finished: Output) -> Result<String> {
    if finished.status.success() {
        return Ok(String::from_utf8_lossy(&finished.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&finished.stderr);
    bail!("`{}` failed ({}): {}", command_line(program), finished.status, last_words(&stderr));
}

/// The line that says most: the first that begins with `error` (in any case, or apt's `E:`), else the last one.
fn last_words(stderr: &str) -> &str {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.to_ascii_lowercase().starts_with("error") || line.starts_with("E:");
    lines.clone().find(is_error).or_else(|| lines.next_back()).unwrap_or("it said nothing")
}

fn command_line(program: &Program) -> String {
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A stream that breaks off still leaves what came before.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn settings_of_the_native_build_do_not_reach_the_module_and_network_settings_do() {
        for name in
            ["RUSTFLAGS", "RUSTC", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "CARGO_TARGET_DIR"]
        {
            assert!(steers_the_build(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_MIRROR_TOKEN", "PATH", "RUSTUP_HOME"]
        {
            assert!(!steers_the_build(name), "{name}");
        }
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let began = Instant::now();
        let error = output_within(Program::new("sleep").arg("30"), Duration::from_millis(100)).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("`sleep 30` did not finish"), "{error}");
    }

    #[test]
    fn a_failure_is_told_with_the_line_that_says_most() {
        assert_eq!(last_words("info: trying\nerror: no network\nhint: none\n"), "error: no network");
        assert_eq!(
            last_words("Reading lists\nE: Unable to locate package x\n"),
            "E: Unable to locate package x"
        );
        assert_eq!(last_words("one\ntwo\n\n"), "two");
    }
}
