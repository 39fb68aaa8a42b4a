//! A mutation's file: which fault it is, what is expected to catch it, and the unified diffs that make it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

/// A fault that is put into the module on purpose.
#[derive(Debug)]
pub struct Mutation {
    /// Its file's name.
    pub name: String,
    /// What it does, as a sentence: the line `Fault:`.
    pub fault: String,
    /// The rule or test that is expected to catch it: the line `Expected:`. Unit tests of the core are named as `core NAME`.
    pub expected: String,
    changes: Vec<Change>,
}

/// What it does to one file.
#[derive(Debug)]
struct Change {
    /// The file, from the repository's root.
    path: String,
    /// A unified diff.
    diff: String,
}

/// Every mutation, sorted by name.
///
/// # Errors
/// A file that is none.
pub fn all(root: &Path) -> Result<Vec<Mutation>> {
    let folder = root.join("host-tests/mutations");
    let mut mutations = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        mutations.push(Mutation::parse(name, &text)?);
    }
    mutations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutations)
}

impl Mutation {
    fn parse(name: String, text: &str) -> Result<Mutation> {
        let start = text.find("--- a/").with_context(|| format!("{name}.patch holds no diff"))?;
        let (head, diffs) = text.split_at(start);
        let line = |label: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(label))
                .map(|text| text.trim().to_owned())
                .with_context(|| format!("{name}.patch has no line `{label}`"))
        };
        let (fault, expected) = (line("Fault:")?, line("Expected:")?);
        let mut changes: Vec<Change> = Vec::new();
        for line in diffs.split_inclusive('\n') {
            if let Some(path) = line.strip_prefix("--- a/") {
                changes.push(Change { path: path.trim().to_owned(), diff: String::new() });
            }
            if let Some(change) = changes.last_mut() {
                change.diff.push_str(line);
            }
        }
        Ok(Mutation { name, fault, expected, changes })
    }

    /// The name, or a part of the name, of the core's unit tests that are expected to catch it, if those are.
    #[must_use]
    pub fn core_tests(&self) -> Option<&str> {
        self.expected.strip_prefix("core ")
    }

    /// Writes the mutated files of the repository at `root` to its copy.
    ///
    /// # Errors
    /// The mutation does not fit the sources any more.
    pub fn apply(&self, root: &Path, copy: &Path) -> Result<()> {
        for (path, text) in self.mutated(root)? {
            fs::write(copy.join(path), text).with_context(|| format!("cannot write {path}"))?;
        }
        Ok(())
    }

    /// Writes the files as they are in the repository to its copy.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn undo(&self, root: &Path, copy: &Path) -> Result<()> {
        for Change { path, .. } in &self.changes {
            fs::write(copy.join(path), fs::read(root.join(path))?)
                .with_context(|| format!("cannot write {path}"))?;
        }
        Ok(())
    }

    /// The mutated files, with their paths.
    fn mutated(&self, root: &Path) -> Result<Vec<(&str, String)>> {
        let mutated = |Change { path, diff }: &Change| {
            let source = fs::read_to_string(root.join(path))?;
            let diff = diffy::Patch::from_str(diff)?;
            diffy::apply(&source, &diff).map_err(|e| anyhow!("{e}"))
        };
        self.changes
            .iter()
            .map(|change| Ok((change.path.as_str(), mutated(change).with_context(|| self.unfit(change))?)))
            .collect()
    }

    fn unfit(&self, change: &Change) -> String {
        format!("the mutation {} does not fit {} any more: write its diff anew", self.name, change.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_still_fits_the_sources_and_changes_them() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let mutations = all(root).unwrap();
        assert!(mutations.len() >= 16, "{}", mutations.len());
        for mutation in mutations {
            for (path, text) in mutation.mutated(root).unwrap_or_else(|e| panic!("{e:#}")) {
                assert!(path.starts_with("plugin/"), "{}: {path} is not in the module", mutation.name);
                assert_ne!(text, fs::read_to_string(root.join(path)).unwrap(), "{}", mutation.name);
            }
        }
    }

    #[test]
    fn a_file_without_a_fault_or_a_diff_is_refused() {
        let diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
        let error = |text: &str| Mutation::parse("m".into(), text).unwrap_err().to_string();
        assert!(error(diff).contains("no line `Fault:`"));
        assert!(error("Fault: x\nExpected: y\n").contains("holds no diff"));
        let good = Mutation::parse("m".into(), &format!("Fault: x\nExpected: rule reported\n\n{diff}{diff}"))
            .unwrap();
        assert_eq!((good.changes.len(), good.expected.as_str()), (2, "rule reported"));
        assert_eq!(good.core_tests(), None);
        let of_core =
            Mutation::parse("m".into(), &format!("Fault: x\nExpected: core lead::tests\n\n{diff}")).unwrap();
        assert_eq!(of_core.core_tests(), Some("lead::tests"));
    }
}
