//! What a preflight can say, and what it tells people to do, is what `envoy/troubleshooting.md` has of it.

use super::page::{literals, quoted, rows, section, source, text};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// The core's sentences, each with `{…}` where something is put in.
fn sentences() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in ["store/preflight/judge.rs", "store/preflight.rs", "wire/call.rs"] {
        let code = source(file)?;
        all.extend(literals(&code).into_iter().map(str::to_owned));
    }
    Ok(all)
}

/// Whether a sentence has these parts, one after the other.
fn has(sentence: &str, quote: &str) -> bool {
    let mut rest = sentence;
    quote.split('…').map(str::trim).all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn each_sentence_of_a_preflight_has_its_row_with_the_same_advice() -> Result<()> {
    let page = text("envoy/troubleshooting.md")?;
    let table = rows(section(&page, "### What a preflight says")?);
    let sentences = sentences()?;
    let mut quotes = Vec::new();
    for row in &table {
        for quote in quoted(row[0]) {
            ensure!(sentences.iter().any(|sentence| has(sentence, quote)), "nothing says {quote:?}");
            quotes.push(quote);
        }
    }
    let advice: BTreeSet<&str> = table.iter().map(|row| row[2]).collect();
    let begins = ["Ask ", "Compare ", "Give ", "Look ", "Run "];
    let given: BTreeSet<&str> = sentences
        .iter()
        .map(String::as_str)
        .filter(|text| begins.iter().any(|begin| text.starts_with(begin)) && text.ends_with('.'))
        .collect();
    assert_eq!(advice, given);
    // What a preflight says of something that is not as it should be has a row.
    let judge = source("store/preflight/judge.rs")?;
    let said = literals(&judge).into_iter().filter(|text| {
        let is_advice = begins.iter().any(|begin| text.starts_with(begin));
        let is_good = text.contains("without a token, as")
            || text.contains("has all rights")
            || text.contains("agree")
            || text.contains("version is")
            || text.contains("identity that Envoy adds");
        text.trim().split(' ').count() > 3 && !is_advice && !is_good
    });
    // The first is good, the second Envoy's own.
    let others = ["Testkube answers, and lists executions", "delayed connect error: 111"];
    let said: Vec<&str> = said.filter(|text| !others.contains(text)).collect();
    ensure!(said.len() > 15, "{said:?}");
    for sentence in said {
        ensure!(quotes.iter().any(|quote| has(sentence, quote)), "no row has {sentence:?}");
    }
    Ok(())
}
