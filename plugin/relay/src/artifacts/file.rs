//! A file that goes through: where it is at Testkube, and the headers that say what it is and that no browser runs it.

use crate::call::percent_encoded;

/// Where at Testkube a request goes on to, and what its answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Path and query.
    pub path: String,
    /// Testkube says `text/plain` for everything.
    content_type: &'static str,
    disposition: String,
}

/// Tests write these files, so whoever opens one in a browser must not run it: it is a download, in a sandbox, of the type that
/// its name says and no other.
const ALWAYS: [(&str, &str); 3] = [
    ("cache-control", "private, no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox; default-src 'none'"),
];

impl Forward {
    /// To an artifact, whose name says what it is.
    pub(super) fn file(path: String, name: &str) -> Forward {
        let name = name.rsplit('/').next().unwrap_or_default();
        Forward { path, content_type: content_type(name), disposition: disposition(name) }
    }

    /// To a tar.gz of an execution's artifacts.
    pub(super) fn archive(path: String, execution: &str) -> Forward {
        let disposition = disposition(&format!("{execution}.tar.gz"));
        Forward { path, content_type: "application/gzip", disposition }
    }

    /// To an execution's log.
    pub(super) fn logs(path: String, execution: &str) -> Forward {
        let disposition = disposition(&format!("{execution}.log"));
        Forward { path, content_type: "text/plain; charset=utf-8", disposition }
    }

    /// The headers of Testkube's answer with this status. What it says instead of the file, or of a part of it, keeps the type
    /// that it gave it.
    pub fn answer_headers(&self, status: u16) -> impl Iterator<Item = (&'static str, &str)> {
        let of_file = [("content-type", self.content_type), ("content-disposition", &self.disposition)];
        let is_file = matches!(status, 200 | 206);
        ALWAYS.into_iter().chain(of_file.into_iter().filter(move |_| is_file))
    }
}

/// The type of a file of this name.
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

/// RFC 6266, with the name in RFC 8187's form, and a plain one for who cannot read that.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_. ".contains(c) { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name))
}
