//! The core's floors, as plugin/ARCHITECTURE.md describes them: which may use which. And the files that it and
//! CONTRIBUTING.md name exist.

use super::page::{quoted, rows, section, text};
use super::repository::{files, root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// The core's floors, the lowest first: each knows itself, those before it, and the values that lie beside the folders.
const FLOORS: [&str; 6] = ["wire", "config", "check", "store", "lead", "surface"];

/// The values that everybody knows.
const VALUES: [&str; 13] = [
    "at_most",
    "backoff",
    "collections",
    "expect",
    "guid",
    "hash",
    "instance",
    "json",
    "seal",
    "secret",
    "tag",
    "text",
    "time",
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
fn a_floor_knows_only_those_below_it() -> Result<()> {
    for (at, floor) in FLOORS.iter().enumerate() {
        let known = FLOORS.iter().take(at + 1).chain(&VALUES).copied().collect::<BTreeSet<&str>>();
        for path in sources(floor)? {
            let above: Vec<String> =
                named(&path)?.into_iter().filter(|module| !known.contains(module.as_str())).collect();
            ensure!(above.is_empty(), "{} names {above:?}", path.display());
        }
    }
    for value in VALUES {
        let path = root().join(format!("plugin/relay/src/{value}.rs"));
        let above: Vec<String> =
            named(&path)?.into_iter().filter(|module| FLOORS.contains(&module.as_str())).collect();
        ensure!(above.is_empty(), "{} names {above:?}", path.display());
    }
    Ok(())
}

#[test]
fn every_module_has_its_floor() -> Result<()> {
    let relay = root().join("plugin/relay/src");
    for entry in std::fs::read_dir(&relay)? {
        let name = entry?.file_name().to_string_lossy().replace(".rs", "");
        let is_known = FLOORS.contains(&name.as_str()) || VALUES.contains(&name.as_str()) || name == "lib";
        ensure!(is_known, "plugin/relay/src/{name} stands on no floor");
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

/// A file that tells two stories must be split.
#[test]
fn no_file_has_more_than_500_lines() -> Result<()> {
    for folder in ["plugin", "host-tests"] {
        for path in files(&root().join(folder))? {
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if is_source {
                let lines = std::fs::read_to_string(&path)?.lines().count();
                ensure!(lines <= 500, "{} has {lines} lines", path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn the_files_that_are_named_are_there() -> Result<()> {
    for page in ["plugin/ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(page))?;
        let words = text.split(|c: char| c.is_whitespace() || "`()|,;".contains(c));
        // ARCHITECTURE.md also names folders by their last part alone.
        let ends = if page == "CONTRIBUTING.md" {
            &[".rs", ".json", ".yaml", "/"][..]
        } else {
            &[".rs", ".json", ".yaml"]
        };
        let is_file =
            |word: &&str| ends.iter().any(|end| word.ends_with(end)) && !word.starts_with("target/");
        let named: BTreeSet<&str> = words.filter(is_file).collect();
        ensure!(named.len() > 20, "{page}: {named:?}");
        for name in named {
            let places = ["plugin/relay/src", "plugin", "."].map(|folder| root().join(folder).join(name));
            ensure!(places.iter().any(|path| path.exists()), "{page}: there is no {name}");
        }
    }
    Ok(())
}

#[test]
fn the_invariants_name_rules_and_tests_that_are_there() -> Result<()> {
    let mut tests = String::new();
    for folder in ["host-tests/world/tests", "host-tests/model/tests"] {
        for file in files(&root().join(folder))? {
            tests.push_str(&std::fs::read_to_string(file)?);
        }
    }
    let page = text("plugin/ARCHITECTURE.md")?;
    let table = rows(section(&page, "## Invariants, and the tests that hold them")?);
    ensure!(table.len() > 10, "{table:?}");
    for row in table {
        let quoted: Vec<&str> = row.iter().flat_map(|cell| quoted(cell)).collect();
        match row[..] {
            [test, _] => {
                let name = test.trim_matches('`');
                ensure!(tests.contains(&format!("#[test]\nfn {name}()")), "there is no test {name}");
            }
            [_, rule, _] => {
                let name = format!("\"{}\"", rule.trim_matches('`'));
                for file in quoted.iter().filter(|word| word.ends_with(".rs")) {
                    ensure!(text(file)?.contains(&name), "{file} has no rule {name}");
                }
            }
            _ => anyhow::bail!("{row:?}"),
        }
    }
    Ok(())
}

/// The parts of `cargo xtask test`, and the programs of tests that are chosen in one of them.
#[test]
fn the_tests_that_contributing_names_for_a_change_are_there() -> Result<()> {
    let page = text("CONTRIBUTING.md")?;
    let parts = text("host-tests/xtask/src/test/part.rs")?;
    let table = rows(section(&page, "## To change something")?);
    ensure!(table.len() >= 15, "{} rows", table.len());
    for run in table.iter().filter_map(|row| row.last()).flat_map(|cell| quoted(cell)) {
        if run.starts_with("cargo ") {
            continue;
        }
        let (part, chosen) =
            run.split_once(" -- ").map_or((run, None), |(part, chosen)| (part, Some(chosen)));
        ensure!(parts.contains(&format!("\"{part}\"")), "there is no part {part}");
        if let Some(name) = chosen {
            let file = root().join(format!("host-tests/tests/{part}/{name}.rs"));
            ensure!(file.exists(), "{part} has no tests {name}");
        }
    }
    Ok(())
}
