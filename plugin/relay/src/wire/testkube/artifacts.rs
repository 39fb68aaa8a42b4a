//! What an execution has kept: the list of its artifacts, and Testkube's own paths to them.

use super::query::get;
use crate::at_most::AtMost;
use crate::wire::call::{Fault, Request, Response};
use crate::wire::percent::percent_encoded;
use crate::wire::testkube::Testkube;
use serde::Deserialize;

/// A file that an execution has kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its path relative to the execution, with slashes.
    pub name: String,
    /// In bytes; `None` from 2 GiB on, where Testkube's 32-bit number is negative.
    pub size: Option<u64>,
}

/// How many artifacts of one execution are listed, and how many bytes of Testkube's list are read: a name of 80 bytes takes some
/// 110 of them.
pub const MAX_NAMES: usize = 20_000;
const MAX_LIST: usize = 2 << 20;

/// Asks for the artifacts of one execution.
pub fn list_artifacts(testkube: &Testkube, id: &str) -> Request {
    let path = format!("{}/artifacts", execution_path(testkube, id));
    Request { max_body: MAX_LIST, ..get(testkube, path) }
}

/// Asks whether an execution has kept a file of this name: 200, without reading it from its storage; 500 if it is missing, as for
/// other faults.
pub fn has_artifact(testkube: &Testkube, id: &str, name: &str) -> Request {
    Request { method: "HEAD", ..get(testkube, artifact_path(testkube, id, name)) }
}

/// Reads the answer to [`list_artifacts`], which is `null` where there are none.
///
/// # Errors
/// Which fault it is; 404 means that the execution is gone, [`Fault::TooLarge`] that it has more than is listed.
pub fn artifacts(response: &Response) -> Result<Vec<Artifact>, Fault> {
    #[derive(Deserialize)]
    struct Wire {
        name: String,
        size: Option<i64>,
    }
    let list = response.json::<Option<AtMost<Wire, MAX_NAMES>>>()?.unwrap_or_default();
    if list.is_cut {
        return Err(Fault::TooLarge(response.body.as_ref().map_or(0, Vec::len)));
    }
    let read = |wire: Wire| Artifact { name: wire.name, size: u64::try_from(wire.size.unwrap_or(0)).ok() };
    Ok(list.items.into_iter().map(read).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: String) -> Result<Vec<Artifact>, Fault> {
        let body = Ok(body.into_bytes());
        artifacts(&Response {
            status: 200,
            content_type: "application/json".into(),
            asks: Default::default(),
            from_envoy: false,
            body,
        })
    }

    #[test]
    fn no_more_names_are_kept_than_are_listed() {
        assert_eq!(read("null".into()), Ok(Vec::new()));
        let names = |count: usize| format!("[{}]", vec![r#"{"name":"f"}"#; count].join(","));
        assert_eq!(read(names(MAX_NAMES)).map(|list| list.len()), Ok(MAX_NAMES));
        assert!(matches!(read(names(MAX_NAMES + 1)), Err(Fault::TooLarge(_))));
    }
}
