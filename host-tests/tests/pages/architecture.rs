//! What plugin/ARCHITECTURE.md says of the core's floors, who may know whom; and that the files are there which it and
//! CONTRIBUTING.md name.

use super::repository::{files, root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// What one check may know: what goes over the wire, the configuration, and values.
const BELOW_A_CHECK: [&str; 15] = [
    "azure", "backoff", "call", "check", "config", "expect", "guid", "hash", "secret", "status", "tag",
    "testkube", "text", "time", "verdict",
];

/// The modules that a file names as `crate::…`, comments and tests left out.
fn named(path: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let modules = lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>());
    Ok(modules.filter(|module| !module.is_empty()).collect())
}

fn sources(folder: &str) -> Result<Vec<std::path::PathBuf>> {
    let relay = root().join("plugin/relay/src");
    let mut all = files(&relay.join(folder))?;
    all.retain(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    all.retain(|path| path.file_name().is_some_and(|name| name != "tests.rs"));
    all.push(relay.join(format!("{folder}.rs")));
    Ok(all)
}

#[test]
fn a_check_knows_no_store_no_leader_and_nothing_that_a_client_meets() -> Result<()> {
    for path in sources("check")? {
        let above: Vec<String> =
            named(&path)?.into_iter().filter(|module| !BELOW_A_CHECK.contains(&module.as_str())).collect();
        ensure!(above.is_empty(), "{} names {above:?}", path.display());
    }
    Ok(())
}

#[test]
fn the_leader_knows_no_phase() -> Result<()> {
    for path in sources("lead")? {
        let text = std::fs::read_to_string(&path)?;
        ensure!(!text.contains("Phase"), "{} names a phase", path.display());
    }
    Ok(())
}

#[test]
fn the_files_that_are_named_are_there() -> Result<()> {
    for page in ["plugin/ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(page))?;
        let words = text.split(|c: char| c.is_whitespace() || "`()|,;".contains(c));
        let is_file =
            |word: &&str| word.ends_with(".rs") || word.ends_with(".json") || word.ends_with(".yaml");
        let named: BTreeSet<&str> = words.filter(is_file).collect();
        ensure!(named.len() > 20, "{page}: {named:?}");
        for name in named {
            let places = ["plugin/relay/src", "plugin", "."].map(|folder| root().join(folder).join(name));
            ensure!(places.iter().any(|path| path.exists()), "{page}: there is no {name}");
        }
    }
    Ok(())
}
