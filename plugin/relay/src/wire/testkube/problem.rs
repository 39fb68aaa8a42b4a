//! Testkube's own words for an error: the `detail` of its problem document (RFC 9457 in shape, `pkg/problem`).
//!
//! These words say what nobody else knows ("No space left on device").

use crate::wire::call::{Fault, Response};
use crate::wire::words;
use serde::Deserialize;

/// Maximum body of a problem document, in bytes. A larger one is not Testkube's.
const MAX_BODY: usize = 16 << 10;

/// Adds Testkube's own words, if there are any, to `fault`, which is [`Response::fault`] of `response`. A 404 stays as
/// it is: it means that something does not exist.
#[inline(never)]
pub(crate) fn said(fault: Fault, response: &Response) -> Fault {
    match (fault, detail(response)) {
        (Fault::Status(status), Some(detail)) if status != 404 => Fault::Said(status, detail),
        (fault, _) => fault,
    }
}

fn detail(response: &Response) -> Option<String> {
    let detail = details(response)?;
    // The part before names the layers of Testkube that passed the error on.
    let detail = detail.rsplit_once(" desc = ").map_or(detail.as_str(), |(_, last)| last).trim();
    words::shown(detail)
}

/// The whole `detail` of Testkube's problem document.
pub(super) fn details(response: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
    }
    let body = response.body.as_deref().ok().filter(|body| body.len() <= MAX_BODY)?;
    let detail = crate::json::read::<Problem>(body).ok()?.detail?;
    Some(detail.strip_suffix(", context: null").unwrap_or(&detail).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(status: u16, body: &str) -> String {
        let response = Response {
            status,
            content_type: "application/json".into(),
            asks: Default::default(),
            from_envoy: false,
            body: Ok(body.as_bytes().to_vec()),
        };
        said(response.fault(), &response).to_string()
    }

    fn problem(detail: &str) -> String {
        serde_json::json!({"type": "about:blank", "status": 502, "detail": detail}).to_string()
    }

    #[test]
    fn testkubes_own_words_stand_behind_the_status() {
        let full = "failed to list test workflow executions: get execution results: client problem: rpc error: code = Internal desc = ERROR: could not extend file \"base/1\": No space left on device (SQLSTATE 53100), context: null";
        assert_eq!(
            said_of(502, &problem(full)),
            "HTTP 502: ERROR: could not extend file \"base/1\": No space left on device (SQLSTATE 53100)"
        );
        let down = testkube_fixture!("recorded-error-502-list-db-down");
        let words = said_of(502, down);
        assert!(
            words.starts_with("HTTP 502: failed to connect to `user=testkube database=backend`"),
            "{words}"
        );
        assert!(words.ends_with("connection refused"), "{words}");
    }

    #[test]
    fn only_testkubes_own_details_are_shown() {
        let long = problem(&"x ".repeat(MAX_BODY));
        for body in ["", "<html>", "[]", "{}", r#"{"detail":null}"#, r#"{"detail":7}"#, &problem(""), &long] {
            assert_eq!(said_of(503, body), "HTTP 503");
        }
        assert_eq!(said_of(404, &problem("not found")), "HTTP 404");
    }

    #[test]
    fn no_word_that_could_be_a_secret_is_shown_and_all_stays_on_a_short_line() {
        let signed = "get http://minio.testkube:9000/a?X-Amz-Credential=AKIA&X-Amz-Signature=0123456789abcdef0123456789abcdef: EOF";
        let words = said_of(500, &problem(signed));
        assert!(words.contains("minio.testkube") && words.ends_with(": EOF"), "{words}");
        assert!(!words.contains("0123456789abcdef"), "{words}");
        for secret in ["tkcapi_0123456789abcdef0123456789abcdef", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e.f"]
        {
            let words = said_of(401, &problem(&format!("bad token {secret}")));
            assert!(words.starts_with("HTTP 401: bad token …"), "{words}");
        }
        let words = said_of(500, &problem(&"a\n##vso[x]".repeat(100)));
        assert!(!words.contains('\n') && !words.contains("##") && words.chars().count() < 400, "{words}");
    }
}
