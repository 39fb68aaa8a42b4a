//! Which toolchain to take, decided from facts: what is there, and what has failed before.

use std::fs;

use super::debian::Debian;
use super::rustup::Rustup;
use super::{Compiler, Origin, TARGET, Toolchain, debian, rustup};
use crate::program::{output, without_build_settings};
use crate::workspace::Workspace;

/// What this machine has. Gathering them changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The `rustc` on PATH; `None` if it cannot be run.
    pub active: Option<Compiler>,
    /// Whether that one has the standard library for [`TARGET`].
    pub active_has_target: bool,
    /// Whether rustup could add it.
    pub rustup: Rustup,
    /// Whether Debian's packages are or could be installed.
    pub debian: Debian,
}

/// What to do next on the way to a toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This one can be used.
    Use(Toolchain),
    /// `rustup target add`.
    AddByRustup,
    /// Install Debian's packages.
    InstallDebian,
    /// The user must do something; the text says what.
    Impossible(String),
}

impl Facts {
    /// Looks around.
    pub fn gather(workspace: &Workspace) -> Facts {
        let active = Compiler::ask("rustc").ok();
        Facts {
            active_has_target: active_has_target(),
            rustup: rustup::look(workspace, active.as_ref()),
            debian: debian::look(),
            active,
        }
    }
}

/// The next step: the way that changes least on the machine comes first.
pub fn decide(facts: &Facts) -> Step {
    if let (Some(compiler), true) = (&facts.active, facts.active_has_target) {
        return Step::Use(Toolchain { origin: Origin::Active, compiler: compiler.clone() });
    }
    match (&facts.rustup, &facts.debian) {
        (Rustup::Untried, _) => Step::AddByRustup,
        (_, Debian::Ready(compiler)) => {
            Step::Use(Toolchain { origin: Origin::Debian, compiler: compiler.clone() })
        }
        (_, Debian::Installable) => Step::InstallDebian,
        (rustup, Debian::Unusable(reason)) => Step::Impossible(format!(
            "no compiler for {TARGET}. Any one of these helps, then run `cargo xtask setup` again: \
             (1) a toolchain that has the target's standard library; \
             (2) `rustup target add {TARGET}` ({}); \
             (3) on Debian or Ubuntu, as root: `apt-get install {}` ({reason})",
            rustup.describe(),
            debian::PACKAGES.join(" "),
        )),
    }
}

/// Whether the `rustc` on PATH has the standard library for [`TARGET`].
pub fn active_has_target() -> bool {
    let folder =
        output(without_build_settings("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    let Ok(entries) = folder.and_then(|folder| Ok(fs::read_dir(folder)?)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(release: &str) -> Compiler {
        Compiler { release: release.to_owned(), commit: "c0ffee".to_owned(), sysroot: "/sysroot".into() }
    }

    fn nothing_but_rustc() -> Facts {
        Facts {
            active: Some(compiler("1.95.0")),
            active_has_target: false,
            rustup: Rustup::Absent,
            debian: Debian::Unusable("this is not Debian".to_owned()),
        }
    }

    #[test]
    fn the_active_toolchain_wins_if_it_has_the_target() {
        let facts = Facts {
            active_has_target: true,
            rustup: Rustup::Untried,
            debian: Debian::Ready(compiler("1.96.0")),
            ..nothing_but_rustc()
        };
        assert_eq!(
            decide(&facts),
            Step::Use(Toolchain { origin: Origin::Active, compiler: compiler("1.95.0") })
        );
    }

    #[test]
    fn rustup_is_asked_before_debian() {
        let facts = Facts { rustup: Rustup::Untried, debian: Debian::Installable, ..nothing_but_rustc() };
        assert_eq!(decide(&facts), Step::AddByRustup);
    }

    #[test]
    fn after_a_failure_of_rustup_debian_is_next_and_is_not_installed_twice() {
        let failed = Rustup::FailedBefore("no network".to_owned());
        let installable =
            Facts { rustup: failed.clone(), debian: Debian::Installable, ..nothing_but_rustc() };
        assert_eq!(decide(&installable), Step::InstallDebian);
        let ready =
            Facts { rustup: failed, debian: Debian::Ready(compiler("1.96.0")), ..nothing_but_rustc() };
        assert_eq!(
            decide(&ready),
            Step::Use(Toolchain { origin: Origin::Debian, compiler: compiler("1.96.0") })
        );
    }

    #[test]
    fn a_machine_without_any_way_is_told_all_three() {
        let Step::Impossible(text) = decide(&nothing_but_rustc()) else { panic!("there is no way") };
        for part in
            ["(1)", "(2) `rustup target add", "not one of rustup's", "(3)", "rust-web-src", "not Debian"]
        {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
