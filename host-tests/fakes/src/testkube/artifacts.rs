//! Artifacts: the list that may be `null`, the name that is unescaped twice, the archive.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::percent_decode;
use regex::Regex;
use serde::Serialize;

use super::execution::Execution;
use super::wire;
use crate::http::Response;

#[derive(Serialize)]
struct Artifact<'a> {
    name: &'a str,
    /// An int32 in Go, omitted when zero and negative above 2 GiB.
    #[serde(skip_serializing_if = "is_zero")]
    size: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature that serde asks for.
fn is_zero(size: &i32) -> bool {
    *size == 0
}

/// The list; without artifacts the body is `null`. They are kept under the execution's id: by its name there are none.
pub(crate) fn list(execution: &Execution, key: &str) -> Response {
    let kept = execution.artifacts.iter().filter(|_| key == execution.id);
    #[allow(clippy::cast_possible_truncation)] // What Go does too.
    let artifacts: Vec<_> = kept.map(|(name, bytes)| Artifact { name, size: bytes.len() as i32 }).collect();
    wire::json_body(200, &(!artifacts.is_empty()).then_some(artifacts))
}

/// One artifact, by the raw path segment of its name.
pub(crate) fn download(execution: &Execution, segment: &str) -> Response {
    let name = unescape(segment);
    match execution.artifacts.get(&name) {
        Some(bytes) => stream(bytes.clone()),
        None => wire::problem(
            500,
            &format!(
                "failed to get artifact {name} for workflow execution {}: could not download file: error getting \
                 file from presigned url: expected 200 OK response code, got 404",
                execution.id
            ),
        ),
    }
}

/// All artifacts whose names match one of the masks, as a tar.gz; no mask means all.
pub(crate) fn archive(execution: &Execution, query: &str) -> Response {
    let masks = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "mask");
    let masks: Vec<String> =
        masks.flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    let masks: Result<Vec<Regex>, _> =
        masks.iter().filter(|mask| !mask.is_empty()).map(|mask| Regex::new(mask)).collect();
    let Ok(masks) = masks else {
        return wire::problem(
            500,
            &format!(
                "failed to get artifact archive for test workflow execution {}: could not download workflow artifact \
                 archive: error parsing regexp: missing closing ): `(`",
                execution.id
            ),
        );
    };
    let chosen = |name: &str| masks.is_empty() || masks.iter().any(|mask| mask.is_match(name));
    let files = execution.artifacts.iter().filter(|(name, _)| chosen(name)).collect();
    match tar_gz(&files) {
        Ok(bytes) => stream(bytes),
        Err(error) => wire::problem(500, &format!("failed to archive artifacts: {error}")),
    }
}

/// A body of unknown length: chunked, and `text/plain` whatever it is (Fiber's `SendStream`).
pub(crate) fn stream(bytes: Vec<u8>) -> Response {
    Response::with_body(200, "text/plain; charset=utf-8", bytes).header("transfer-encoding", "chunked")
}

/// `url.QueryUnescape`, twice; a pass that fails is skipped.
fn unescape(segment: &str) -> String {
    let mut name = segment.as_bytes().to_vec();
    for _ in 0..2 {
        name = query_unescape(&name).unwrap_or(name);
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// As Go: `+` is a space, and one malformed escape makes the whole fail.
fn query_unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut escapes = text.split(|byte| *byte == b'%').skip(1);
    let are_whole = escapes.all(|rest| rest.len() > 1 && rest.iter().take(2).all(u8::is_ascii_hexdigit));
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    are_whole.then(|| percent_decode(&spaced).collect())
}

fn tar_gz(files: &BTreeMap<&String, &Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::super::execution::execution;
    use super::*;

    const NAMES: [&str; 5] = ["results/junit.xml", "a b.txt", "trace+v2.zip", "100%.txt", "50%20x"];

    fn loaded() -> Execution {
        NAMES.iter().fold(execution("w"), |execution, name| execution.artifact(name, *name))
    }

    fn found(segment: &str) -> Option<String> {
        let answer = download(&loaded(), segment);
        (answer.status == 200).then(|| String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn a_name_encoded_twice_is_always_found() {
        let encode = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        for name in NAMES {
            assert_eq!(found(&encode(&encode(name))).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_name_encoded_once_is_found_unless_it_decodes_further() {
        assert_eq!(found("results%2Fjunit.xml").as_deref(), Some("results/junit.xml"));
        assert_eq!(found("a%20b.txt").as_deref(), Some("a b.txt"));
        assert_eq!(found("100%25.txt").as_deref(), Some("100%.txt"));
        assert_eq!(found("trace%2Bv2.zip"), None);
        assert_eq!(found("50%2520x"), None);
        assert_eq!((query_unescape(b"100%"), query_unescape(b"%4x")), (None, None));
    }

    #[test]
    fn a_missing_file_is_a_500_as_recorded() {
        let mut execution = execution("w");
        execution.id = "6b0a81073b46a43c7547eec9".into();
        let answer = download(&execution, "nope.xml");
        let expected = include_str!("../../fixtures/testkube/recorded-error-500-artifact-missing.json");
        let (answer, expected): (serde_json::Value, serde_json::Value) =
            (serde_json::from_slice(&answer.body).unwrap(), serde_json::from_str(expected).unwrap());
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_list_without_artifacts_is_null_and_a_size_of_zero_is_omitted() {
        assert_eq!(list(&execution("w"), "").body, b"null");
        let listed = list(&execution("w").artifact("a", "xy").artifact("b", ""), "");
        assert_eq!(listed.body, br#"[{"name":"a","size":2},{"name":"b"}]"#);
    }

    #[test]
    fn an_archive_holds_what_the_masks_match() {
        let answer = archive(&loaded(), "mask=%5C.xml%24,zip&mask=^a");
        let mut files = tar::Archive::new(GzDecoder::new(answer.body.as_slice()));
        let names: Vec<String> = files
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                assert_eq!(content, entry.path().unwrap().to_string_lossy());
                content
            })
            .collect();
        assert_eq!(names, ["a b.txt", "results/junit.xml", "trace+v2.zip"]);
        assert_eq!(archive(&loaded(), "mask=(").status, 500);
    }
}
