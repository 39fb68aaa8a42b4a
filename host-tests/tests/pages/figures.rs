//! Figures that pages tell, beside the constants and files that they are from.

use crate::page::{rows, section, text};
use anyhow::{Context, Result, ensure};
use host_tests::manifests::documents;
use std::time::Duration;
use testrelay::check::{MAX_CANDIDATES, MAX_OF_CREDENTIAL};
use testrelay::surface::{bodies, hint, request};
use testrelay::time::in_words;
use testrelay::{config, expect};

const OPERATIONS: &str = include_str!("../../../envoy/operations.md");
const REFERENCE: &str = include_str!("../../../envoy/reference.md");

/// A number as pages write it: `1,024`.
fn written(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

/// Without the blanks between numbers and units: pages write `30 m` for `30m`.
fn close(text: &str) -> String {
    let mut close = String::new();
    for word in text.split(' ') {
        let is_unit = word.starts_with(char::is_alphabetic) && close.ends_with(|c: char| c.is_ascii_digit());
        close += if is_unit { "" } else { " " };
        close += word;
    }
    close
}

/// Whether a text has a figure, with its unit if it has one. `6` is neither in `16` nor in `6,000`.
fn has(text: &str, figure: &str) -> bool {
    let [text, figure] = [text, figure].map(close);
    let figure = figure.trim();
    let is_digit = |c: char| c.is_ascii_digit();
    text.match_indices(figure).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + figure.len()..]);
        !before.ends_with(|c| is_digit(c) || c == ',') && !after.trim_start_matches(',').starts_with(is_digit)
    })
}

/// The second cell of the row that begins so.
fn cell<'a>(page: &'a str, heading: &str, first: &str) -> Result<&'a str> {
    let section = section(page, heading)?;
    let row = rows(section).into_iter().find(|row| row[0].starts_with(first));
    row.and_then(|row| row.get(1).copied()).with_context(|| format!("{heading} has no row {first:?}"))
}

#[test]
fn the_limits_are_those_of_the_code() -> Result<()> {
    let limits = [
        ("body of a check", format!("{} KiB", request::MAX_BODY >> 10)),
        ("body of a hint", format!("{} MiB", hint::MAX_BODY >> 20)),
        ("deliveries of one check", MAX_OF_CREDENTIAL.to_string()),
        ("deliveries of one check", MAX_CANDIDATES.to_string()),
        ("executions that count", expect::MAX_EXPECTED.to_string()),
        ("`Testrelay-Expect`", expect::MAX_EXPECTED.to_string()),
        ("deadline of a check", in_words(config::MAX_TIMEOUT)),
    ];
    for (first, figure) in limits {
        let told = cell(OPERATIONS, "## Limits", first)?;
        ensure!(has(told, &figure), "{first}: {figure} is not in {told:?}");
    }
    let read_body = rows(section(REFERENCE, "## Configuration")?);
    let read_body = read_body.iter().find(|row| row[0] == "`read_body`").context("no read_body")?;
    for figure in [
        written(bodies::MAX_BODIES),
        format!("{} MiB", bodies::MAX_BYTES >> 20),
        written(bodies::MAX_BODIES_OF_ONE),
        format!("{} MiB", bodies::MAX_BYTES_OF_ONE >> 20),
        written(bodies::MAX_LEFT),
        written(bodies::MAX_LEFT_OF_ONE),
    ] {
        ensure!(has(read_body[2], &figure), "{figure} is not in {:?}", read_body[2]);
    }
    let late = cell_of_error("The body did not arrive in time")?;
    ensure!(has(late, &in_words(Duration::from_secs(bodies::ALL_TICKS.into()))), "{late}");
    Ok(())
}

#[test]
fn a_part_of_a_figure_is_none() {
    for (text, figure) in [("6 of one, 8 of all", "8"), ("200; more", "200"), ("47 h 30 m", "47h 30m")] {
        assert!(has(text, figure), "{figure} is in {text}");
    }
    for (text, figure) in [("16", "6"), ("1,024", "24"), ("6,000", "6"), ("60", "6"), ("64 KiB", "4 KiB")] {
        assert!(!has(text, figure), "{figure} is not in {text}");
    }
}

/// What the table of errors says of a title.
fn cell_of_error(title: &str) -> Result<&'static str> {
    let rows = rows(section(REFERENCE, "### Errors")?);
    let row = rows.into_iter().find(|row| row[1].trim_matches('`') == title);
    row.and_then(|row| row.get(3).copied()).context("no such error")
}

#[test]
fn the_sizes_are_those_of_the_shipped_container() -> Result<()> {
    let container = text("envoy/kubernetes/container/container.yaml")?;
    let [container] = documents(&container)?.try_into().ok().context("not one document")?;
    let resources =
        container.pointer("/spec/template/spec/containers/0/resources").context("no resources")?;
    let size = |place: &str| resources.pointer(place).and_then(|size| size.as_str()).context("no size");
    let mib = |size: &str| size.replace("Mi", " MiB");
    let sizing = section(OPERATIONS, "## Sizing")?;
    for figure in [
        mib(size("/requests/memory")?),
        mib(size("/limits/memory")?),
        size("/requests/cpu")?.replace('m', " m"),
    ] {
        ensure!(sizing.contains(&figure), "{figure}");
    }
    for (setting, default) in [("checks.max_pending", "10000"), ("checks.max_pending_per_project", "1024")] {
        ensure!(sizing.contains(&format!("`{setting}` ({default})")), "{setting}");
        ensure!(cell(REFERENCE, "## Configuration", &format!("`{setting}`"))? == format!("`{default}`"));
    }
    Ok(())
}
