//! What an execution has kept: the list of its artifacts, and Testkube's own paths to them.

use super::query::get;
use crate::call::{Fault, Request, Response, percent_encoded};
use crate::config::Testkube;
use serde::Deserialize;

/// A file that an execution has kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its path relative to the execution, with slashes.
    pub name: String,
    /// In bytes; `None` from 2 GiB on, where Testkube's 32-bit number is negative.
    pub size: Option<u64>,
}

/// Asks for the artifacts of one execution.
pub fn list_artifacts(testkube: &Testkube, id: &str) -> Request {
    get(testkube, format!("{}/artifacts", execution_path(testkube, id)))
}

/// Reads the answer to [`list_artifacts`], which is `null` where there are none.
///
/// # Errors
/// Which fault it is; 404 means that the execution is gone.
pub fn artifacts(response: &Response) -> Result<Vec<Artifact>, Fault> {
    #[derive(Deserialize)]
    struct Wire {
        name: String,
        size: Option<i64>,
    }
    let list: Option<Vec<Wire>> = response.json()?;
    let read = |wire: Wire| Artifact { name: wire.name, size: u64::try_from(wire.size.unwrap_or(0)).ok() };
    Ok(list.unwrap_or_default().into_iter().map(read).collect())
}

/// The path of one artifact. Testkube takes a single segment and unescapes it twice, so what is encoded twice arrives as it
/// was, whatever characters it has.
pub fn artifact_path(testkube: &Testkube, id: &str, name: &str) -> String {
    format!("{}/artifacts/{}", execution_path(testkube, id), percent_encoded(&percent_encoded(name)))
}

/// The path of all artifacts in one archive; `query` is empty, or `?` and what follows it.
pub fn archive_path(testkube: &Testkube, id: &str, query: &str) -> String {
    format!("{}/artifact-archive{query}", execution_path(testkube, id))
}

/// The path of an execution's log.
pub fn logs_path(testkube: &Testkube, id: &str) -> String {
    format!("{}/logs", execution_path(testkube, id))
}

fn execution_path(testkube: &Testkube, id: &str) -> String {
    format!("{}/test-workflow-executions/{}", testkube.api_prefix, percent_encoded(id))
}
