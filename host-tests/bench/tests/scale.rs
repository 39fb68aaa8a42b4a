//! The bench of many checks, with few: every row gives its figures. Which, says `cargo xtask bench scale`.

use anyhow::Result;
use bench::Programs;
use bench::scale::{Plan, Row, measure, report};
use host_tests::env;
use std::time::Duration;

#[test]
fn every_row_gives_its_figures() -> Result<()> {
    let programs = Programs { module: env::module()?, envoy: env::envoy()? };
    // `worker` is `stalls` once more, after some starts of Envoy.
    let only = Row::ALL.into_iter().filter(|row| *row != Row::Worker).collect();
    let plan = Plan { pending: 60, only, window: Duration::from_secs(4), watch: Duration::from_secs(2) };
    let mut lines = Vec::new();
    measure(&programs, &plan, &mut lines, |_| {})?;
    let text = report::table(&lines);
    assert!(!text.contains("unknown"), "{text}");
    for what in [
        "stored a second",
        "decisions a second",
        "found by poll",
        "with a hint",
        "calls to Testkube",
        "looks at runs",
        "tokens of 2 KiB",
        "tokens of 8 KiB",
        "after the last event",
        "main thread",
        "worker",
        "% of one core",
        "gets 429",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    // What a slow machine does not change.
    for kept in ["of them refused", "not decided", "lists for one look"] {
        assert!(lines.iter().any(|line| line.what.contains(kept) && !line.is_missed()), "{kept}: {text}");
    }
    Ok(())
}
