//! The artifacts of an execution: their list, and Testkube's paths to them.

use super::query::get;
use crate::at_most::AtMost;
use crate::wire::call::{Fault, Request, Response};
use crate::wire::percent::percent_encoded;
use crate::wire::testkube::Testkube;
use serde::Deserialize;

/// A file that an execution has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its path relative to the execution, with slashes.
    pub name: String,
    /// Size in bytes; `None` from 2 GiB on, where Testkube's 32-bit number is negative.
    pub size: Option<u64>,
}

/// Maximum artifacts listed of one execution, and maximum size of Testkube's list, in bytes: an artifact with a name of
/// 80 bytes takes some 110 bytes.
pub const MAX_NAMES: usize = 20_000;
const MAX_LIST: usize = 2 << 20;

/// Asks for the list of an execution's artifacts.
pub fn list_artifacts(testkube: &Testkube, id: &str) -> Request {
    let path = format!("{}/artifacts", execution_path(testkube, id));
    Request { max_body: MAX_LIST, ..get(testkube, path) }
}

/// Asks whether an execution has stored a file of this name. Testkube answers 200 without reading the file from its
/// storage, or 500 if it is missing, as for other faults.
pub fn has_artifact(testkube: &Testkube, id: &str, name: &str) -> Request {
    Request { method: "HEAD", ..get(testkube, artifact_path(testkube, id, name)) }
}

/// Asks for a file of at most `most` bytes.
pub fn get_artifact(testkube: &Testkube, id: &str, name: &str, most: usize) -> Request {
    Request { max_body: most, ..get(testkube, artifact_path(testkube, id, name)) }
}

/// Reads the answer to [`list_artifacts`], which is `null` for an execution without artifacts.
///
/// # Errors
/// The fault; 404 means that the execution is gone, [`Fault::TooLarge`] that it has more artifacts than are listed.
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

/// The path of one artifact. Testkube takes one segment and unescapes it twice, so a name that is encoded twice arrives
/// unchanged, whatever its characters.
pub fn artifact_path(testkube: &Testkube, id: &str, name: &str) -> String {
    format!("{}/artifacts/{}", execution_path(testkube, id), percent_encoded(&percent_encoded(name)))
}

/// The path of the archive of all artifacts; `query` is empty, or begins with `?`.
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
