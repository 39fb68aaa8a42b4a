//! `envoy/troubleshooting.md` has at least three mistakes for each folder of `envoy/`.

use crate::repository::root;
use anyhow::{Context, Result};
use host_tests::troubleshooting::{PAGE, lines};
use std::collections::{BTreeMap, BTreeSet};

/// The sections of the page's table, by folder.
fn sections() -> BTreeMap<String, String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| [`"));
    let cells = rows.filter_map(|row| row.split_once("`](").zip(row.split_once("| [")));
    let cell = |((folder, _), (_, section)): ((&str, &str), (&str, &str))| {
        let section = section.split("](").next().unwrap_or_default();
        (folder.to_owned(), section.to_owned())
    };
    cells.map(cell).collect()
}

/// The folders in `envoy/` that people copy from; those of `kubernetes/` each for itself.
fn folders() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for place in ["", "kubernetes/"] {
        for entry in std::fs::read_dir(root().join("envoy").join(place))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.insert(format!("{place}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.remove("kubernetes");
    // Screenshots.
    found.remove("images");
    Ok(found)
}

#[test]
fn each_folder_has_three_mistakes_of_its_own() -> Result<()> {
    let sections = sections();
    let mut named: BTreeSet<String> = sections.keys().cloned().collect();
    assert!(named.remove("envoy.yaml"), "{named:?}");
    assert_eq!(named, folders()?);
    let mut own = BTreeSet::new();
    for (folder, section) in &sections {
        let lines = lines(&format!("## {section}")).context(folder.clone())?;
        assert!(lines.len() >= 3, "{folder}: {lines:?}");
        assert!(own.insert(section), "{section} is there for two folders");
        for (mistake, line) in lines {
            assert!(line.len() > 15 && !line.contains("TODO"), "{folder}: {mistake}: {line:?}");
        }
    }
    Ok(())
}
