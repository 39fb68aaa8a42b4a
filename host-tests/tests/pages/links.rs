//! Every link between the pages leads to an existing file or heading.

use crate::page::pages;
use crate::repository::root;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A page's text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What stands in `](…)`, reading over the ends of lines.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The names under which GitHub shows a page's headings: lower case, spaces as hyphens, no other punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(name).collect()
}

/// Why a link of a page leads nowhere.
fn broken(page: &Path, text: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        _ => page.parent()?.join(file),
    };
    if !target.exists() {
        return Some(format!("there is no {}", target.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let target = if target.is_dir() { target.join("README.md") } else { target };
    let there = if file.is_empty() { text.to_owned() } else { fs::read_to_string(&target).ok()? };
    (!anchors(&prose(&there)).contains(anchor))
        .then(|| format!("{} has no heading #{anchor}", target.display()))
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages()? {
        let text = prose(&fs::read_to_string(&page).with_context(|| page.display().to_string())?);
        for link in links(&text) {
            seen += 1;
            wrong.extend(broken(&page, &text, link).map(|why| format!("{}: {link}: {why}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "{seen}");
    Ok(())
}

#[test]
fn a_broken_link_is_noticed() {
    let page = root().join("README.md");
    let text = "# One\n\n## `Two`, and 3. more!\n";
    for good in
        ["#one", "#two-and-3-more", "envoy/README.md", "envoy", "envoy#what-works", "https://nowhere.example"]
    {
        assert_eq!(broken(&page, text, good), None, "{good}");
    }
    for bad in ["#two", "envoy/nothing.md", "envoy#nothing", "envoy/README.md#nothing", "../nothing"] {
        assert!(broken(&page, text, bad).is_some(), "{bad}");
    }
}
