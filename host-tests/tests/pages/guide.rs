//! `envoy/guide.md` quotes what programs print, and the programs print it.

use crate::repository::root;
use anyhow::{Context, Result};
use std::fs;

const PAGE: &str = include_str!("../../../envoy/guide.md");

/// A text that the guide quotes, and the file whose program prints it; `{}` is where that puts something in.
const QUOTED: [(&str, &str, &str); 12] = [
    ("The stage goes on.", "The stage goes on.", "host-tests/xtask-envoy/src/demo"),
    (
        "The failing test has stopped the stage, as it should.",
        "The failing test has stopped the stage, as it should.",
        "host-tests/xtask-envoy/src/demo",
    ),
    ("ready; pending checks: 0", "ready; pending checks: {", "plugin/relay/src/surface/health.rs"),
    (
        "403 PlanUrl is not configured here",
        "403, \"PlanUrl is not configured here\"",
        "plugin/relay/src/surface/accept.rs",
    ),
    ("has not ended", "{running} has not ended (", "plugin/relay/src/surface/artifacts.rs"),
    (
        "production: the check was created. Now run verify-check.",
        "$environment: the check was created. Now run verify-check.",
        "envoy/azure-pipelines/create-check.sh",
    ),
    (
        "production: the check is as it must be.",
        "{environment}: the check is as it must be.",
        "envoy/azure-pipelines/verify-check.sh",
    ),
    (
        "the completion event is ApiResponse",
        "the completion event is ApiResponse",
        "envoy/azure-pipelines/verify-check.sh",
    ),
    ("accepted: tag ado-run=shop-4711", "accepted: tag {", "plugin/relay/src"),
    (
        "waits for the Testkube executions tagged ado-run=shop-4711",
        "waits for the Testkube executions tagged {",
        "plugin/relay/src/check/telling.rs",
    ),
    ("not reported (the gate is open)", "not reported (the gate is open)", "plugin/relay/src"),
    ("Azure DevOps did not take the check's log", "Azure DevOps did not take ", "plugin/relay/src"),
];

/// All text below a place.
fn below(place: &str) -> Result<String> {
    let path = root().join(place);
    if path.is_file() {
        return Ok(fs::read_to_string(path)?);
    }
    let files = crate::repository::files(&path)?;
    let texts =
        files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).map(fs::read_to_string);
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// With the ends of lines as spaces.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_it_quotes_is_what_the_programs_print() -> Result<()> {
    let page = in_one_line(PAGE);
    for (quoted, printed, place) in QUOTED {
        assert!(page.contains(quoted), "the guide does not quote {quoted:?} any more");
        assert!(below(place)?.contains(printed), "nothing in {place} prints {printed:?}");
    }
    Ok(())
}

#[test]
fn its_scripts_get_as_many_arguments_as_they_want() -> Result<()> {
    let calls = |script: &str| -> Vec<usize> {
        let lines = PAGE.lines().filter_map(|line| line.strip_prefix(script));
        lines.map(|arguments| arguments.split_whitespace().count()).collect()
    };
    assert_eq!((calls("./create-check.sh "), calls("./verify-check.sh ")), (vec![4], vec![3]));
    for block in PAGE.split("\n```bash\n").skip(1) {
        let block = block.split("\n```").next().context("no end")?;
        let place = block.lines().find_map(|line| line.strip_prefix("cd "));
        assert!(place.is_none_or(|place| root().join(place).is_dir()), "{block}");
    }
    Ok(())
}
