//! What a caller gets: a status, a media type and a body.

use serde::Serialize;
use serde_json::{Value, json};

/// What an answer's body seldom exceeds, in bytes.
const USUAL_BODY: usize = 512;

/// An answer of the module's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Further headers; the content type is among them.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json<T: Serialize>(status: u16, body: &T) -> Reply {
        let mut text = Vec::with_capacity(USUAL_BODY);
        // Nothing that is answered has a map whose keys are no texts.
        if crate::json::add(body, &mut text).is_err() {
            text = b"{}".to_vec();
        }
        text.push(b'\n');
        let body = String::from_utf8(text).unwrap_or_default();
        Reply { status, headers: vec![("content-type", "application/json".into())], body }
    }

    /// An answer with a line of text.
    pub fn text(status: u16, line: &str) -> Reply {
        Reply {
            status,
            headers: vec![("content-type", "text/plain; charset=utf-8".into())],
            body: format!("{line}\n"),
        }
    }

    /// A problem document (RFC 9457). `detail` says what to change.
    pub fn problem(status: u16, title: &str, detail: &str) -> Reply {
        Reply::problem_with(status, title, detail, &[])
    }

    /// A problem document with one entry for each field that is wrong.
    pub fn problem_with(status: u16, title: &str, detail: &str, errors: &[FieldError]) -> Reply {
        let list = errors.iter().map(|e| json!({"field": e.field, "detail": e.detail})).collect();
        let member = if errors.is_empty() { Value::Null } else { Value::Array(list) };
        Reply::problem_with_member(status, title, detail, "errors", member)
    }

    /// A problem document with one more member, unless that is null.
    pub fn problem_with_member(status: u16, title: &str, detail: &str, name: &str, member: Value) -> Reply {
        let mut body = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        if let (false, Some(members)) = (member.is_null(), body.as_object_mut()) {
            members.insert(name.into(), member);
        }
        let mut reply = Reply::json(status, &body);
        reply.headers = vec![("content-type", "application/problem+json".into())];
        reply
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// One field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, as the documentation writes it.
    pub field: &'static str,
    /// What is wrong with it and what is expected.
    pub detail: String,
}
