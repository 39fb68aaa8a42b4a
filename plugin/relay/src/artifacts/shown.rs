//! The list, as JSON and as text.

use super::Visit;
use super::ask::Scope;
use crate::accept::Headers;
use crate::problem::Reply;
use crate::testkube::{Artifact, Execution};
use serde_json::{Value, json};

impl Visit {
    /// All chosen executions with what they have kept.
    pub(super) fn list(&self) -> Reply {
        let all = || self.all_chosen().zip(&self.kept);
        let reply = match self.ask.text {
            true => {
                let links = all().flat_map(|(execution, kept)| {
                    kept.iter().filter_map(|artifact| self.link_to_file(execution, &artifact.name))
                });
                let mut text: String = links.map(|link| link + "\n").collect();
                // Reply::text ends with a line's end of its own.
                text.pop();
                match text.is_empty() {
                    true => Reply { body: String::new(), ..Reply::text(200, "") },
                    false => Reply::text(200, &text),
                }
            }
            false => {
                let executions: Vec<Value> =
                    all().map(|(execution, kept)| self.shown(execution, kept)).collect();
                let since = (self.ask.scope != Scope::All).then(|| self.since.to_string());
                let tag = self.ask.tag.to_string();
                Reply::json(200, &json!({"tag": tag, "since": since, "executions": executions}))
            }
        };
        reply.with("cache-control", "private, no-store").with("x-content-type-options", "nosniff")
    }

    fn shown(&self, execution: &Execution, kept: &[Artifact]) -> Value {
        let artifact = |artifact: &Artifact| {
            let url = self.link_to_file(execution, &artifact.name);
            json!({"name": artifact.name, "size": artifact.size, "url": url})
        };
        json!({
            "id": execution.id,
            "name": execution.name,
            "workflow": execution.workflow,
            "status": execution.status.to_string(),
            "ended": execution.ended,
            "scheduled": execution.scheduled.to_string(),
            "logs": self.link(execution, "logs", ""),
            "archive": self.link(execution, "archive", ""),
            "artifacts": kept.iter().map(artifact).collect::<Vec<_>>(),
        })
    }
}

/// The scheme and the host of a request, as it gives them; empty where it does not.
pub(super) fn asked_at<B: AsRef<[u8]>>(headers: &Headers<B>) -> (Vec<u8>, Vec<u8>) {
    let value = |name: &[u8]| {
        let found = headers.iter().find(|(own, _)| own.as_ref() == name);
        found.map(|(_, value)| value.as_ref().to_vec()).unwrap_or_default()
    };
    (value(b":scheme"), value(b":authority"))
}

/// `https://testrelay.example.com`, as the caller has reached it; empty where its host is none, and then links are paths.
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
