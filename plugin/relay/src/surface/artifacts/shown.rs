//! The list, as JSON and as text. It is written directly, without a tree of values, up to [`MAX_ANSWER`] bytes.

use super::ask::Scope;
use super::links::{FileLink, NO_LINK};
use super::{MAX_ANSWER, Visit};
use crate::surface::accept::Headers;
use crate::surface::problem::Reply;
use crate::text::one_line;
use crate::wire::testkube::{Artifact, Execution};
use serde::{Serialize, Serializer};
use std::fmt::Write as _;

impl Visit {
    /// All chosen executions with their files; `None` if that is too much for one answer.
    pub(super) fn list(&self) -> Option<Reply> {
        let (content_type, body) = match self.ask.text {
            true => ("text/plain; charset=utf-8", self.text()?),
            false => {
                let list = List {
                    tag: self.ask.tag.to_string(),
                    since: (self.ask.scope != Scope::All).then(|| self.since.to_string()),
                    executions: Executions(self),
                };
                ("application/json", crate::json::within(&list, MAX_ANSWER)?)
            }
        };
        let reply = Reply { status: 200, headers: vec![("content-type", content_type.into())], body };
        Some(reply.with("cache-control", "private, no-store").with("x-content-type-options", "nosniff"))
    }

    /// One link a line. A line that begins with `#` names a file that has no link.
    fn text(&self) -> Option<String> {
        let mut text = String::new();
        for (execution, kept) in self.all_chosen().zip(&self.kept) {
            for artifact in kept.iter() {
                let written = match self.link_to_file(execution, &artifact.name) {
                    Some(link) => writeln!(text, "{link}"),
                    None => {
                        let (execution, name) =
                            (one_line(&execution.name, 80), one_line(&artifact.name, 200));
                        writeln!(text, "# {execution}, `{name}`: {NO_LINK}")
                    }
                };
                if written.is_err() || text.len() > MAX_ANSWER {
                    return None;
                }
            }
        }
        Some(text)
    }
}

#[derive(Serialize)]
struct List<'a> {
    tag: String,
    since: Option<String>,
    executions: Executions<'a>,
}

struct Executions<'a>(&'a Visit);

impl Serialize for Executions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let visit = self.0;
        serializer.collect_seq(visit.all_chosen().zip(&visit.kept).map(|(execution, kept)| Shown {
            id: &execution.id,
            name: &execution.name,
            workflow: &execution.workflow,
            status: execution.status.to_string(),
            ended: execution.ended,
            scheduled: execution.scheduled.to_string(),
            logs: visit.link(execution, "logs", ""),
            archive: visit.link(execution, "archive", ""),
            artifacts: Artifacts { visit, execution, kept },
        }))
    }
}

/// An execution of the list.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    workflow: &'a str,
    status: String,
    ended: bool,
    scheduled: String,
    logs: String,
    archive: String,
    artifacts: Artifacts<'a>,
}

struct Artifacts<'a> {
    visit: &'a Visit,
    execution: &'a Execution,
    kept: &'a [Artifact],
}

impl Serialize for Artifacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.kept.iter().map(|artifact| {
            let url = self.visit.link_to_file(self.execution, &artifact.name);
            let reason = url.is_none().then_some(NO_LINK);
            File { name: &artifact.name, size: artifact.size, url, reason }
        }))
    }
}

/// A file in the list.
#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    size: Option<u64>,
    url: Option<FileLink<'a>>,
    /// Why it has no link.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Serialize for FileLink<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The scheme and host by which a request reached Envoy, as far as it states them. Behind a load balancer that ends
/// TLS, the scheme is the load balancer's, if Envoy is told to trust it (`xff_num_trusted_hops`); otherwise Envoy sets
/// `x-forwarded-proto` itself.
pub(super) fn asked_at<B: AsRef<[u8]>>(headers: &Headers<B>) -> (Vec<u8>, Vec<u8>) {
    let value = |name: &[u8]| {
        let found = headers.iter().find(|(own, _)| own.as_ref() == name);
        found.map(|(_, value)| value.as_ref()).unwrap_or_default()
    };
    let scheme = match value(b"x-forwarded-proto") {
        forwarded @ (b"http" | b"https") => forwarded,
        _ => value(b":scheme"),
    };
    (scheme.to_vec(), value(b":authority").to_vec())
}

/// `https://testrelay.example.com`, as the caller reached it; empty if the host is not valid, and then links are paths.
pub(super) fn origin(scheme: &[u8], host: &[u8]) -> String {
    let is_host = !host.is_empty()
        && host.len() <= 255
        && host.iter().all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(c));
    match (is_host, scheme) {
        (true, b"http" | b"https") => {
            format!("{}://{}", String::from_utf8_lossy(scheme), String::from_utf8_lossy(host))
        }
        _ => String::new(),
    }
}
