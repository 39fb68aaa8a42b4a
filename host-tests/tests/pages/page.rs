//! Pages as tests read them: sections, tables, fenced blocks, code in the prose.

use crate::repository::{files, root};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All pages of the repository.
pub(crate) fn pages() -> Result<Vec<PathBuf>> {
    let top = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "plugin/ARCHITECTURE.md",
        "host-tests/model/README.md",
    ];
    let mut all: Vec<PathBuf> = top.iter().map(|page| root().join(page)).collect();
    all.extend(files(&root().join("envoy"))?.into_iter().filter(|file| is_page(file)));
    Ok(all)
}

fn is_page(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "md")
}

/// The text of one of the repository's files.
pub(crate) fn text(file: impl AsRef<Path>) -> Result<String> {
    let path = root().join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The text under a heading, up to the next heading of the same or a higher level.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).with_context(|| format!("no {heading:?}"))?;
    let level = heading.split(' ').next().unwrap_or_default().len();
    let ends = (1..=level).filter_map(|n| rest.find(&format!("\n{} ", "#".repeat(n))));
    Ok(&rest[..ends.min().unwrap_or(rest.len())])
}

/// The fenced blocks of one language, without the indentation of their list.
pub(crate) fn fenced(text: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open: Option<usize> = None;
    for line in text.lines() {
        let indentation = line.len() - line.trim_start().len();
        match open {
            None if line.trim_start() == format!("```{language}") => {
                open = Some(indentation);
                blocks.push(String::new());
            }
            Some(_) if line.trim_start() == "```" => open = None,
            Some(before) => {
                let block = blocks.last_mut().map(|block| (block, line.get(before..).unwrap_or_default()));
                if let Some((block, line)) = block {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            None => {}
        }
    }
    blocks
}

/// The cells of each row of a text's tables, without heads and rules.
pub(crate) fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_rule = |line: &str| line.starts_with("|---");
    let body = lines.iter().enumerate().filter(|(at, line)| {
        let is_head = lines.get(at + 1).is_some_and(|next| is_rule(next));
        line.starts_with("| ") && !is_head
    });
    body.map(|(_, line)| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The texts between backticks.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The one name in the first cell of each row.
pub(crate) fn names(rows: &[Vec<&str>]) -> BTreeSet<String> {
    rows.iter().flat_map(|row| quoted(row[0])).map(str::to_owned).collect()
}

/// The sources of the module and of its core, with their tests left out.
pub(crate) fn sources() -> Result<Vec<(PathBuf, String)>> {
    let mut all = Vec::new();
    for folder in ["plugin/src", "plugin/relay/src"] {
        for file in files(&root().join(folder))? {
            let is_test = file.iter().any(|part| part == "tests" || part == "tests.rs");
            if !is_test && file.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&file)?;
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                all.push((file, code));
            }
        }
    }
    Ok(all)
}

/// The source whose path ends so, in whichever folder it is.
pub(crate) fn source(end: &str) -> Result<String> {
    let found = sources()?.into_iter().find(|(file, _)| file.ends_with(end));
    Ok(found.with_context(|| format!("no source {end}"))?.1)
}

/// The texts in quotes of a piece of source.
pub(crate) fn literals(code: &str) -> Vec<&str> {
    code.split('"').skip(1).step_by(2).collect()
}

#[test]
fn blocks_in_lists_and_rows_of_tables_are_read() {
    let text = "a\n```bash\none\n```\n1. b\n\n   ```bash\n   two\n     three\n   ```\n\n| a | b |\n|---|---|\n| `c` | d |\n";
    assert_eq!(fenced(text, "bash"), ["one\n", "two\n  three\n"]);
    assert_eq!(rows(text), [["`c`", "d"]]);
    assert_eq!(section("\n## A\nx\n### B\ny\n## C\nz", "## A").ok(), Some("x\n### B\ny"));
}
