//! `envoy/troubleshooting.md`: mistakes, and the lines that people see of them.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// The page.
pub const PAGE: &str = include_str!("../../envoy/troubleshooting.md");

/// The line for each mistake of a section, as `## Istio`: under the mistake's heading the first line of the first block.
///
/// # Errors
/// There is no such section, or one of its headings has no block.
pub fn lines(section: &str) -> Result<BTreeMap<&'static str, &'static str>> {
    let (_, text) = PAGE.split_once(&format!("\n{section}\n")).with_context(|| format!("no {section:?}"))?;
    let text = text.split("\n## ").next().unwrap_or_default();
    let mut lines = BTreeMap::new();
    for part in text.split("\n### ").skip(1) {
        let (heading, rest) = part.split_once('\n').context("a heading alone")?;
        let block = rest.split_once("\n```text\n").with_context(|| format!("{heading}: no block"))?.1;
        lines.insert(heading, block.lines().next().unwrap_or_default());
    }
    Ok(lines)
}
