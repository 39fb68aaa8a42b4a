//! A file that is streamed through: its path at Testkube, and the headers that state its type and keep browsers from
//! running it.

use crate::surface::problem::Reply;
use crate::wire::percent::percent_encoded;

/// The path at Testkube to which a request goes on, and the type of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Path and query.
    pub path: String,
    what: What,
    /// Testkube itself states `text/plain` for everything.
    content_type: &'static str,
    disposition: String,
}

/// The kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    File,
    Archive,
    Log,
}

/// Tests write these files, so no browser may run them: each is a download, in a sandbox, of the type that its name
/// states and no other.
const ALWAYS: [(&str, &str); 3] = [
    ("cache-control", "private, no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox; default-src 'none'"),
];

impl Forward {
    /// An artifact. Its name states its type.
    pub(super) fn file(path: String, name: &str) -> Forward {
        let name = name.rsplit('/').next().unwrap_or_default();
        Forward { path, what: What::File, content_type: content_type(name), disposition: disposition(name) }
    }

    /// A tar.gz of an execution's artifacts.
    pub(super) fn archive(path: String, execution: &str) -> Forward {
        let disposition = disposition(&format!("{execution}.tar.gz"));
        Forward { path, what: What::Archive, content_type: "application/gzip", disposition }
    }

    /// An execution's log.
    pub(super) fn logs(path: String, execution: &str) -> Forward {
        let disposition = disposition(&format!("{execution}.log"));
        Forward { path, what: What::Log, content_type: "text/plain; charset=utf-8", disposition }
    }

    /// The headers to set on Testkube's answer if it is the file, or a part of it.
    pub fn answer_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_file = [("content-type", self.content_type), ("content-disposition", &self.disposition)];
        ALWAYS.into_iter().chain(of_file)
    }

    /// The answer to send in place of Testkube's answer with this status; `None` if Testkube's answer is the file.
    ///
    /// No other text of Testkube goes on: while its object store is down, the text of its 500 contains the presigned
    /// address of the file (`X-Amz-Signature`), with which everybody may read it (seen with a real API server whose
    /// MinIO was stopped).
    pub fn refusal(&self, status: u16) -> Option<Reply> {
        let (what, own) = match self.what {
            What::File => {
                ("file", "The file is no longer there, or Testkube cannot reach the store of its artifacts.")
            }
            What::Archive => (
                "archive",
                "A `mask` is not a regular expression, or Testkube cannot reach the store of its artifacts.",
            ),
            What::Log => (
                "log",
                "The execution has no log, because it never ran or the log has expired; Testkube says the same while it cannot reach the store of its logs.",
            ),
        };
        let (to, title, why) = match status {
            200 | 206 => return None,
            404 => (404, "Not found", "The execution is no longer there."),
            416 => (416, "Range not satisfiable", "The file is shorter than the requested `range`."),
            500 if self.what == What::Log => (404, "No log", own),
            500 => (502, "Testkube could not provide it", own),
            401 | 403 => (
                502,
                "Testkube could not provide it",
                "Testkube does not accept the token of this Envoy (`testkube.bearer_env`).",
            ),
            429 | 503 => {
                (503, "Testkube could not provide it", "It is busy, or cannot be reached: try again later.")
            }
            504 => (504, "Testkube could not provide it", "It did not answer in time: try again later."),
            _ => (502, "Testkube could not provide it", "Its own log says why."),
        };
        let detail = format!("Testkube answered HTTP {status} when it was asked for this {what}. {why}");
        let mut reply = Reply::problem(to, title, &detail);
        reply.headers.extend(ALWAYS.map(|(name, value)| (name, value.to_owned())));
        Some(reply)
    }
}

/// The type of a file with this name.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "xml" | "trx" => "application/xml",
        "json" | "har" => "application/json",
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "log" | "md" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "webm" => "video/webm",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// A `Content-Disposition` (RFC 6266) with the name in RFC 8187's form, and a plain one for clients that cannot read
/// that.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_. ".contains(c) { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name))
}
