//! `envoy/azure-pipelines/`: the check and the steps that people copy, carried out as Azure DevOps and an agent do.

mod agent;
mod azure;
pub(crate) mod check;
pub(crate) mod configurations;
mod steps;
mod twins;
mod verify;

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;

/// A file or a folder of `envoy/azure-pipelines`.
fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../envoy/azure-pipelines").join(name)
}

fn text(name: &str) -> Result<String> {
    std::fs::read_to_string(shipped(name)).with_context(|| name.to_owned())
}

fn yaml(name: &str) -> Result<Value> {
    serde_saphyr::from_str(&text(name)?).with_context(|| name.to_owned())
}

fn json(name: &str) -> Result<Value> {
    serde_json::from_str(&text(name)?).with_context(|| name.to_owned())
}

/// The members of a list, none where it is no list.
fn members(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
