//! Programs print what the pages quote.

use crate::page::text;
use crate::repository::{files, root};
use anyhow::{Result, ensure};
use std::fs;

const GUIDE: &str = "envoy/guide.md";
const BEHAVIOUR: &str = "envoy/behaviour.md";
const OPERATIONS: &str = "envoy/operations.md";
const TROUBLESHOOTING: &str = "envoy/troubleshooting.md";
const REPLICAS: &str = "envoy/kubernetes/replicas/README.md";

/// A page, its quotation, the source's text (with `{` where a value is inserted), and the file or folder that has it.
const QUOTED: [(&str, &str, &str, &str); 50] = [
    ("README.md", "The stage goes on.", "The stage goes on.", "host-tests/xtask-envoy/src/demo"),
    (
        "README.md",
        "| part       | passed |  minutes |",
        "| part       | passed |  minutes |",
        "host-tests/xtask/src",
    ),
    (GUIDE, "The stage goes on.", "The stage goes on.", "host-tests/xtask-envoy/src/demo"),
    (
        GUIDE,
        "The failing test has stopped the stage, as it should.",
        "The failing test has stopped the stage, as it should.",
        "host-tests/xtask-envoy/src/demo",
    ),
    (GUIDE, "ready; pending checks: 0", "ready; pending checks: {", "plugin/relay/src"),
    (
        GUIDE,
        "403 PlanUrl is not configured here",
        "403, \"PlanUrl is not configured here\"",
        "plugin/relay/src",
    ),
    (GUIDE, "has not ended", "{running} has not ended (", "plugin/relay/src"),
    (
        GUIDE,
        "production: the check was created. Now run verify-check.",
        "$environment: the check was created. Now run verify-check.",
        "envoy/azure-pipelines/create-check.sh",
    ),
    (
        GUIDE,
        "production: the check is as it must be.",
        "{environment}: the check is as it must be.",
        "envoy/azure-pipelines/verify-check.sh",
    ),
    (
        GUIDE,
        "the completion event is ApiResponse",
        "the completion event is ApiResponse",
        "envoy/azure-pipelines/verify-check.sh",
    ),
    (GUIDE, "accepted: tag ado-run=shop-4711", "accepted: tag {", "plugin/relay/src"),
    (
        GUIDE,
        "waits for the Testkube executions tagged ado-run=shop-4711",
        "waits for the Testkube executions tagged {",
        "plugin/relay/src",
    ),
    (GUIDE, "not reported (the gate is open)", "not reported (the gate is open)", "plugin/relay/src"),
    (BEHAVIOUR, "OBSERVE ONLY, would have been:", "OBSERVE ONLY, would have been: {", "plugin/relay/src"),
    (OPERATIONS, "OBSERVE ONLY, would have been:", "OBSERVE ONLY, would have been: {", "plugin/relay/src"),
    (
        OPERATIONS,
        "OBSERVE ONLY: checks of the credential `shop` are always reported as succeeded",
        "OBSERVE ONLY: checks of the credential `{}` are always reported as succeeded",
        "plugin/src",
    ),
    (OPERATIONS, "\"observe_only\": true", "    observe_only: bool,", "plugin/relay/src/check"),
    (
        TROUBLESHOOTING,
        "OBSERVE ONLY, would have been:",
        "OBSERVE ONLY, would have been: {",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "not reported (the gate is open)",
        "not reported (the gate is open)",
        "plugin/relay/src",
    ),
    (TROUBLESHOOTING, "No expectation was given", "No expectation was given", "plugin/relay/src"),
    (TROUBLESHOOTING, "repeated by", ", repeated by {}", "plugin/relay/src"),
    (
        TROUBLESHOOTING,
        "Azure DevOps has sent this check again",
        "Azure DevOps has sent this check again",
        "plugin/relay/src",
    ),
    (TROUBLESHOOTING, "it never began", "it never began", "plugin/relay/src"),
    (TROUBLESHOOTING, "decided_by", "\"decided_by\"", "plugin/relay/src"),
    (
        TROUBLESHOOTING,
        "Azure DevOps did not accept the check's log",
        "Azure DevOps did not accept ",
        "plugin/relay/src",
    ),
    (
        REPLICAS,
        "replica e15b8d5f3c86733f of pod",
        "replica {} of pod `{}`: checks are kept in the namespace {}",
        "plugin/relay/src",
    ),
    (
        REPLICAS,
        "adopted 1 checks of replica e15b8d5f3c86733f: its Lease has not changed for 20 s, or is gone",
        "\": its Lease has not changed for 20 s, or is gone\"",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "the ServiceAccount may not … in the namespace …",
        "the ServiceAccount may not {missing} in the namespace {namespace}",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "its Secret was deleted: it is stored again",
        "its Secret was deleted: it is stored again",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "its Secret is gone, and Azure DevOps no longer waits for it",
        "its Secret is gone, and Azure DevOps no longer waits for it",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "a delivery that was accepted while the API server was away is dropped, because …",
        "a delivery that was accepted while the API server was away is dropped, because",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "another replica has it now, or has ended it",
        "another replica has it now, or has ended it",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "does not keep this replica's Lease: …",
        "Kubernetes's API server does not keep this replica's Lease",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "keeps this replica's Lease",
        "Kubernetes's API server keeps this replica's Lease",
        "plugin/relay/src",
    ),
    (TROUBLESHOOTING, "could not be stored: …", "could not be stored: {", "plugin/relay/src"),
    (
        TROUBLESHOOTING,
        "it is kept in this process alone until it does",
        "it is kept in this process alone until it does",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "its Secret could not be written: …",
        "its Secret could not be written: {",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "its decision could not be stored for 1m: it is sent all the same",
        "its decision could not be stored for {wait}: it is sent all the same",
        "plugin/relay/src",
    ),
    (TROUBLESHOOTING, "could not be adopted: …", "could not be adopted: {", "plugin/relay/src"),
    (
        TROUBLESHOOTING,
        "the checks' Secrets could not be listed: …",
        "the checks' Secrets could not be listed: {",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "the record in its Secret … cannot be read: ",
        "the record in its Secret {name} cannot be read: {why}",
        "plugin/relay/src/store",
    ),
    (TROUBLESHOOTING, "somebody has edited it`", "somebody has edited it", "plugin/relay/src/store"),
    (
        TROUBLESHOOTING,
        "a newer Testrelay has written it, in format …",
        "a newer Testrelay has written it, in format {format}",
        "plugin/relay/src/store",
    ),
    (
        TROUBLESHOOTING,
        "it is sealed with a key that this replica does not have",
        "it is sealed with a key that this replica does not have",
        "plugin/relay/src/store",
    ),
    (
        TROUBLESHOOTING,
        "is reported as inconclusive in …, unless a replica comes that can read it",
        "is reported as inconclusive in {wait}, unless a replica comes that can read it",
        "plugin/relay/src/store",
    ),
    (
        TROUBLESHOOTING,
        "It has no owner, and this replica cannot report it",
        "It has no owner, and this replica cannot report it",
        "plugin/relay/src/store",
    ),
    (
        TROUBLESHOOTING,
        "does not have the name of a check",
        "does not have the name of a check",
        "plugin/relay/src",
    ),
    (
        TROUBLESHOOTING,
        "executions tagged … are not aborted yet: the API server does not say …",
        "executions tagged {tag} are not aborted yet: the API server does not say ",
        "plugin/relay/src/store",
    ),
    (TROUBLESHOOTING, "it was adopted, but …", "it was adopted, but {", "plugin/relay/src"),
    (TROUBLESHOOTING, "it is stored, but …", "it is stored, but {", "plugin/relay/src"),
];

/// All text below a place.
fn below(place: &str) -> Result<String> {
    let path = root().join(place);
    if path.is_file() {
        return Ok(fs::read_to_string(path)?);
    }
    let files = files(&path)?;
    let texts =
        files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).map(fs::read_to_string);
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// With the ends of lines as spaces.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_pages_quote_is_what_the_programs_print() -> Result<()> {
    for (page, quoted, printed, place) in QUOTED {
        ensure!(in_one_line(&text(page)?).contains(&in_one_line(quoted)), "{page} does not quote {quoted:?}");
        ensure!(below(place)?.contains(printed), "{page}: nothing in {place} prints {printed:?}");
    }
    Ok(())
}

/// The states that the page tells people to look for are those that the list has.
#[test]
fn the_states_of_a_check_are_those_of_the_list() -> Result<()> {
    let listing = below("plugin/relay/src/check/view.rs")? + &below("plugin/relay/src/surface/listing")?;
    let page = text(TROUBLESHOOTING)?;
    let table = crate::page::section(&page, "### A stage hangs")?;
    let rows = crate::page::rows(table);
    let told: Vec<&str> = rows
        .iter()
        .filter(|row| row[0].starts_with('`'))
        .filter_map(|row| crate::page::quoted(row[0]).first().copied())
        .collect();
    assert_eq!(
        told,
        ["accepted", "proven", "waiting", "running", "watching", "decided", "unreadable", "done"]
    );
    for state in told {
        assert!(listing.contains(&format!("\"{state}\"")), "{state}");
    }
    Ok(())
}
