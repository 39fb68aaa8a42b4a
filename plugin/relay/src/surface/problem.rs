//! Answers: a status, a media type and a body.

use serde::Serialize;
use serde_json::{Value, json};

/// Usual maximum of an answer's body, in bytes.
const USUAL_BODY: usize = 512;

/// An answer made by the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Further headers, including the content type.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json<T: Serialize>(status: u16, body: &T) -> Reply {
        let mut text = Vec::with_capacity(USUAL_BODY);
        // No answer has a map whose keys are not texts.
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

    /// A problem document with one more member, unless it is null.
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

/// A wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name in the documentation.
    pub field: &'static str,
    /// What is wrong with it, and what is expected.
    pub detail: String,
}
