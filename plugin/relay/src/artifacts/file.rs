//! The headers of a file that goes through: what it is, and that no browser runs it.

use super::Forward;
use crate::call::percent_encoded;
use std::borrow::Cow;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An artifact; its name says what it is.
    File,
    /// A tar.gz of artifacts.
    Archive,
    /// An execution's log.
    Logs,
}

impl Forward {
    /// The headers of Testkube's answer with this status. Tests write these files, so whoever opens one in a browser must not
    /// run it: it is a download, in a sandbox, of the type that its name says and no other.
    pub fn answer_headers(&self, status: u16) -> Vec<(&'static str, Cow<'static, str>)> {
        let mut headers = vec![
            ("cache-control", "private, no-store".into()),
            ("x-content-type-options", "nosniff".into()),
            ("content-security-policy", "sandbox; default-src 'none'".into()),
        ];
        if status == 200 {
            headers.push(("content-type", self.content_type().into()));
            headers.push(("content-disposition", disposition(&self.name).into()));
        }
        headers
    }

    /// Testkube says `text/plain` for everything.
    fn content_type(&self) -> &'static str {
        match self.kind {
            Kind::Archive => "application/gzip",
            Kind::Logs => "text/plain; charset=utf-8",
            Kind::File => {
                let extension = self.name.rsplit_once('.').map_or("", |(_, extension)| extension);
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
        }
    }
}

/// RFC 6266, with the name in RFC 8187's form, and a plain one for who cannot read that.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_. ".contains(c) { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name))
}
