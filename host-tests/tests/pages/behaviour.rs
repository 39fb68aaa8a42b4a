//! `envoy/behaviour.md`: its verdicts are the module's, and its figures are those of the sources.

use crate::page::{fenced, names, quoted, rows, section, text};
use crate::reference::metrics;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use testrelay::check::Outcome;

const PAGE: &str = include_str!("../../../envoy/behaviour.md");

/// All outcomes: a new one does not compile here.
fn outcomes() -> [Outcome; 6] {
    use Outcome::{Failed, Inconclusive, OpenGate, Over, Passed, Rejected};
    match Passed {
        Passed | Failed | Inconclusive | Rejected | Over | OpenGate => {}
    }
    [Passed, Failed, Inconclusive, Rejected, Over, OpenGate]
}

#[test]
fn its_verdicts_are_the_modules() -> Result<()> {
    let table = rows(section(PAGE, "## Verdicts")?);
    let codes: BTreeSet<String> = outcomes().iter().map(|outcome| outcome.code().to_owned()).collect();
    assert_eq!(names(&table), codes);
    let known = metrics()?;
    for outcome in outcomes() {
        let code = outcome.code();
        let row = table.iter().find(|row| quoted(row[0]) == [code]).context(code)?;
        assert_eq!(quoted(row[1]), [format!("Testrelay: {outcome}.")]);
        let told = match outcome {
            Outcome::Passed => "`succeeded`",
            outcome if outcome.is_silent() => "nothing",
            _ => "`failed`",
        };
        assert_eq!(row[3], told, "{code}");
        for metric in quoted(row[4]) {
            assert!(known.contains(&format!("wasmcustom.{metric}")), "{metric}");
            let is_delivered = metric == format!("testrelay_delivered_{code}");
            assert_eq!(is_delivered, !outcome.is_silent(), "{code}: {metric}");
        }
    }
    Ok(())
}

/// README has one of its logs, and every log is of this version.
#[test]
fn the_readmes_log_is_one_of_its_logs() -> Result<()> {
    let page = text("envoy/behaviour.md")?;
    let logs = fenced(section(&page, "## What the author of a pipeline sees")?, "text");
    let readme = text("README.md")?;
    let shown = fenced(section(&readme, "## One check's log")?, "text");
    assert_eq!(shown.len(), 1);
    assert!(logs.contains(&shown[0]), "{}", shown[0]);
    for log in logs.iter().filter(|log| log.contains(" waits for the ")) {
        assert!(log.contains(concat!("Testrelay ", env!("CARGO_PKG_VERSION"), " waits for")), "{log}");
    }
    Ok(())
}
