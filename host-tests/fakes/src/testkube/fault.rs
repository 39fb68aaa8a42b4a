//! What can go wrong between Testkube and its client.

use super::wire;
use crate::http::{Reply, Response};

/// The routes that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /test-workflow-executions` and `GET /test-workflows/{name}/executions`.
    List,
    /// `GET …/{id}`.
    Get,
    /// Artifact list, artifact and archive.
    Artifact,
    /// `GET …/{id}/logs`.
    Log,
    /// `POST …/{id}/abort`.
    Abort,
    /// `POST …/{id}/rerun`.
    Rerun,
    /// Everything, `/v1/info`, `/health` and unknown paths included.
    All,
}

/// One way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with Testkube's own error body.
    Status(u16),
    /// 200 with an HTML page, as a sign-in proxy or a captive gateway answers.
    Html,
    /// The true answer's body, cut in half but framed correctly.
    TruncatedJson,
    /// The true answer, late.
    Slow {
        /// The delay.
        millis: u64,
    },
    /// The connection is closed before any byte of an answer.
    Reset,
    /// The true answer's framing, and the connection is closed after a number of bytes of the body.
    Cut {
        /// Bytes of the body that arrive.
        bytes: usize,
    },
    /// The true answer in small pieces.
    Dribble {
        /// Bytes in a piece.
        chunk: usize,
        /// The pause between two.
        millis: u64,
    },
    /// 200 with a body of this size that begins as an endless list of executions.
    Huge {
        /// The size of the body.
        bytes: usize,
    },
    /// The object store is down: a file and a log are an error at once, a list and an archive after ten silent seconds. The
    /// error holds the signed URL at which Testkube has asked.
    StorageAway,
    /// This status with this detail from Testkube.
    Detail(u16, String),
    /// The true list without its last row, while the counters still count it.
    RowMissing,
    /// The true answer with another content type.
    ContentType(String),
}

impl Fault {
    /// The reply instead of the true answer. `is_slow`: a list of artifacts or an archive is asked for.
    pub(crate) fn strike(self, is_slow: bool, answer: impl FnOnce() -> Response) -> Reply {
        match self {
            Self::StorageAway => {
                const SILENT: u64 = 9_500;
                let reply: Box<Reply> = Box::new(wire::problem(500, STORAGE_AWAY).into());
                if is_slow { Reply::After { millis: SILENT, reply } } else { *reply }
            }
            Self::Detail(status, detail) => wire::problem(status, &detail).into(),
            Self::RowMissing => {
                let mut response = answer();
                if let Ok(mut list) = serde_json::from_slice::<serde_json::Value>(&response.body)
                    && let Some(rows) = list["results"].as_array_mut()
                {
                    rows.pop();
                    response.body = list.to_string().into_bytes();
                }
                response.into()
            }
            Self::Status(status) => wire::problem(status, &detail(status)).into(),
            Self::Html => {
                let page = "<!DOCTYPE html><html><body>Please sign in</body></html>";
                Response::with_body(200, "text/html; charset=utf-8", page).into()
            }
            Self::TruncatedJson => {
                let mut response = answer();
                response.body.truncate(response.body.len() / 2);
                response.into()
            }
            Self::Slow { millis } => Reply::After { millis, reply: Box::new(answer().into()) },
            Self::Reset => Reply::Reset,
            Self::Cut { bytes } => Reply::Truncated { response: answer(), bytes },
            Self::Dribble { chunk, millis } => Reply::Dribble { response: answer(), chunk, millis },
            Self::Huge { bytes } => Response::with_body(200, "application/json", huge(bytes)).into(),
            Self::ContentType(content_type) => answer().header("content-type", &content_type).into(),
        }
    }
}

const STORAGE_AWAY: &str = "could not download file: error getting file from presigned url: Get \
    \"http://minio.testkube:9000/testkube-artifacts/a.xml?X-Amz-Credential=minio99&X-Amz-Expires=900&X-Amz-Signature=\
    5b1c0a7f3d9e2026973a5d2e1c4b0a7f3d9e2026973a5d2e1c4b0a7f3d9e2026\": dial tcp 10.0.0.9:9000: connect: connection refused";

fn detail(status: u16) -> String {
    match status {
        502 => "failed to list test workflow executions: get execution results: client problem: rpc error: code = \
                Internal desc = failed to connect to `user=testkube database=backend`: 10.0.0.7:5432 (10.0.0.7): dial \
                error: dial tcp 10.0.0.7:5432: connect: connection refused"
            .into(),
        _ => format!("injected: {}", wire::reason(status)),
    }
}

fn huge(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 128);
    body.extend_from_slice(br#"{"totals":{"results":9},"filtered":{"results":9},"results":["#);
    let mut number = 0;
    while body.len() < bytes {
        body.extend_from_slice(format!(r#"{{"id":"{number:024x}","name":"filler-{number}"}},"#).as_bytes());
        number += 1;
    }
    body.truncate(bytes);
    body
}
