//! A Chromium with its chromedriver, and axe-core, for the tests of the page: the machine's own browser, and axe-core by npm,
//! once.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use crate::program::{Program, output};

/// The axe-core that is fetched, and the SHA-256 of its `axe.min.js`. Its licence is MPL-2.0: it is not part of this
/// repository.
const AXE: (&str, &str) = ("4.14.1", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c");

/// The variables by which the tests find chromedriver, Chromium and `axe.min.js`.
pub const VARIABLES: [&str; 3] = ["TESTRELAY_CHROMEDRIVER", "TESTRELAY_CHROMIUM", "TESTRELAY_AXE"];

/// Names of the programs, by systems: Debian's first.
const DRIVERS: [&str; 1] = ["chromedriver"];
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// All three, in the order of [`VARIABLES`].
    Take([PathBuf; 3]),
    /// The browser is there, axe-core is to be fetched into this file.
    Fetch([PathBuf; 3]),
    /// The page is not looked at: why.
    Impossible(&'static str),
}

/// Finds what the tests need, and fetches axe-core if that alone is missing; `Err` says why the page is not looked at.
pub fn ensure() -> Result<[PathBuf; 3]> {
    match find() {
        Choice::Take(paths) => Ok(paths),
        Choice::Fetch(paths) => {
            fetch(&paths[2]).context("axe-core cannot be fetched by npm")?;
            Ok(paths)
        }
        Choice::Impossible(why) => Err(anyhow::anyhow!(why)),
    }
}

/// What [`ensure`] takes; changes nothing.
pub fn find() -> Choice {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let axe = crate::api_server::caches().map(|caches| caches.join(format!("axe-core-{}/axe.min.js", AXE.0)));
    choose(&path, axe, || output(Program::new("npm").arg("--version")).is_ok())
}

fn choose(path: &OsStr, axe: Option<PathBuf>, has_npm: impl FnOnce() -> bool) -> Choice {
    let on_path = |names: &[&str]| {
        let mut all =
            names.iter().flat_map(|name| std::env::split_paths(path).map(move |folder| folder.join(name)));
        all.find(|program| program.is_absolute() && program.is_file())
    };
    let (Some(driver), Some(browser)) = (on_path(&DRIVERS), on_path(&BROWSERS)) else {
        return Choice::Impossible(
            "install chromium and chromedriver (on Debian `chromium` and `chromium-driver`)",
        );
    };
    let Some(axe) = axe else {
        return Choice::Impossible("neither $XDG_CACHE_HOME nor $HOME says where axe-core can be kept");
    };
    if axe.is_file() {
        return Choice::Take([driver, browser, axe]);
    }
    match has_npm() {
        true => Choice::Fetch([driver, browser, axe]),
        false => Choice::Impossible("install npm, which fetches axe-core"),
    }
}

/// Two fetches at once do not disturb each other: the file gets its name when it is whole.
fn fetch(axe: &Path) -> Result<()> {
    let (version, digest) = AXE;
    println!("axe-core: fetching {version} from npm into {}", axe.display());
    let part = axe.with_extension(format!("{}.part", std::process::id()));
    fs::create_dir_all(&part)?;
    let fetched = packed(&part, version).and_then(|script| {
        let found: String = Sha256::digest(&script).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(found == digest, "axe.min.js of axe-core {version} has the SHA-256 {found}, not {digest}");
        let whole = part.join("axe.min.js");
        fs::write(&whole, script)?;
        Ok(fs::rename(whole, axe)?)
    });
    fs::remove_dir_all(&part)?;
    fetched
}

/// `axe.min.js` in npm's archive.
fn packed(folder: &Path, version: &str) -> Result<Vec<u8>> {
    output(Program::new("npm").args(["pack", &format!("axe-core@{version}")]).current_dir(folder))?;
    let archive = File::open(folder.join(format!("axe-core-{version}.tgz")))?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new("package/axe.min.js") {
            let mut script = Vec::new();
            entry.read_to_end(&mut script)?;
            return Ok(script);
        }
    }
    anyhow::bail!("npm's archive has no axe.min.js")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_fetched_or_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, axe) = (folder.path(), folder.path().join("axe.min.js"));
        let chosen = |npm| choose(path.as_os_str(), Some(axe.clone()), || npm);
        assert!(matches!(chosen(true), Choice::Impossible(why) if why.contains("chromium-driver")));
        fs::write(path.join("chromedriver"), "")?;
        fs::write(path.join("chromium-browser"), "")?;
        assert!(matches!(chosen(false), Choice::Impossible(why) if why.contains("npm")));
        let all = [path.join("chromedriver"), path.join("chromium-browser"), axe.clone()];
        assert_eq!(chosen(true), Choice::Fetch(all.clone()));
        fs::write(&axe, "")?;
        assert_eq!(chosen(false), Choice::Take(all));
        assert!(matches!(choose(path.as_os_str(), None, || true), Choice::Impossible(_)));
        Ok(())
    }
}
