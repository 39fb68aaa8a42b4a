//! Asking Testkube to run an execution again (`ReRunTestWorkflowExecutionHandler` in `testworkflows.go`).

use super::problem::details;
use super::query::get;
use super::{Testkube, said};
use crate::text::clip;
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::percent::percent_encoded;
use std::time::Duration;

/// The running context, which is the whole body. Only with the interface `ui`, `cli` or `ci/cd` does Testkube note in
/// the new execution which one it repeats (`GetNewRunningContext`).
const CONTEXT: &str = r#"{"interface":{"name":"Testrelay","type":"ci/cd"},"actor":{"type":"user"}}"#;

/// The answer to a re-run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rerun {
    /// Testkube runs it again.
    Taken,
    /// Testkube does not, and has started nothing. Its own words, or the status.
    Refused(String),
    /// Nothing was started, and a later call may be taken.
    NotTaken(Fault),
    /// Nobody knows.
    Unknown(Fault),
}

/// Runs one execution again, by its id, with its tags.
pub(crate) fn rerun_execution(testkube: &Testkube, id: &str) -> Request {
    let path = format!("{}/test-workflow-executions/{}/rerun", testkube.api_prefix, percent_encoded(id));
    let mut request = get(testkube, path);
    request.headers.push(("content-type", "application/json".into()));
    Request { method: "POST", body: CONTEXT.into(), timeout: Duration::from_secs(30), ..request }
}

/// Testkube's words for a fault before it starts anything.
const LOOKED_AT: &str = "client problem: ";

/// Maximum length of a refusal's text, in bytes.
const MAX_REFUSAL: usize = 200;

/// What the answer to [`rerun_execution`] means. Testkube looks at the execution before it starts anything, and answers 404 or
/// 502 with its own words for what it finds there (a parameter that is sensitive or was truncated); 500 is the answer when
/// the start itself has failed, perhaps half-way.
pub(crate) fn rerun_answer(outcome: &CallOutcome) -> Rerun {
    let (fault, details) = match outcome {
        CallOutcome::Response(response) if (200..300).contains(&response.status) => return Rerun::Taken,
        CallOutcome::Response(response) => {
            (said(response.fault(), response), details(response).unwrap_or_default())
        }
        CallOutcome::Failed(fault) => (fault.clone(), String::new()),
    };
    match fault {
        fault @ (Fault::Refused | Fault::UnknownCluster(_) | Fault::Stalled) => Rerun::NotTaken(fault),
        fault @ (Fault::Status(429) | Fault::Said(429, _)) => Rerun::NotTaken(fault),
        Fault::Said(502, words) if details.contains(LOOKED_AT) => match is_refusal(&details) {
            true => Rerun::Refused(last_words(&words)),
            // Its database has not answered.
            false => Rerun::NotTaken(Fault::Said(502, words)),
        },
        Fault::Status(404) => {
            Rerun::Refused("HTTP 404: Testkube has no such execution, or no such call".into())
        }
        Fault::Said(status @ (400..=407 | 409..=499), words) => {
            Rerun::Refused(format!("HTTP {status}: {}", last_words(&words)))
        }
        Fault::Status(status @ (400..=407 | 409..=499)) => Rerun::Refused(format!("HTTP {status}")),
        fault => Rerun::Unknown(fault),
    }
}

/// Whether Testkube's words are about the execution, which stays as it is.
fn is_refusal(details: &str) -> bool {
    ["can't rerun ", "can't find "].iter().any(|words| details.contains(words))
}

/// The words after the layers of Testkube that passed them on.
fn last_words(words: &str) -> String {
    let last = words.rsplit_once(LOOKED_AT).map_or(words, |(_, last)| last);
    clip(last.to_owned(), MAX_REFUSAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::Response;

    fn response(status: u16, detail: &str) -> CallOutcome {
        let body = serde_json::json!({"type": "about:blank", "status": status, "detail": detail});
        CallOutcome::Response(Response {
            status,
            content_type: "application/problem+json".into(),
            asks: Default::default(),
            from_envoy: false,
            body: Ok(if detail.is_empty() { Vec::new() } else { body.to_string().into_bytes() }),
        })
    }

    #[test]
    fn what_testkube_says_before_it_starts_anything_is_a_refusal() {
        let prefix = "failed to rerun test workflow execution: client problem: ";
        for (status, detail, says) in [
            (
                502,
                "can't rerun test workflow execution with sensitive prameters",
                "can't rerun test workflow execution with sensitive prameters",
            ),
            (502, "can't find resolved workflow spec", "can't find resolved workflow spec"),
        ] {
            let answer = rerun_answer(&response(status, &format!("{prefix}{detail}, context: null")));
            assert_eq!(answer, Rerun::Refused(says.into()));
        }
        let refused = |status, detail| matches!(rerun_answer(&response(status, detail)), Rerun::Refused(_));
        assert!(
            refused(404, "client not found: rpc error") && refused(403, "") && refused(400, "invalid body")
        );
    }

    #[test]
    fn an_answer_that_may_come_after_a_start_is_unknown() {
        for status in [500, 502, 503, 504, 408] {
            let answer = rerun_answer(&response(status, ""));
            assert!(matches!(answer, Rerun::Unknown(_)), "{status}: {answer:?}");
        }
        let execution_error = "failed to rerun test workflow execution: execution error: rpc error";
        assert!(matches!(rerun_answer(&response(500, execution_error)), Rerun::Unknown(_)));
        for fault in [Fault::NoAnswer, Fault::NoConnection, Fault::Reset, Fault::Lost] {
            assert!(matches!(rerun_answer(&CallOutcome::Failed(fault)), Rerun::Unknown(_)));
        }
        for fault in [Fault::Refused, Fault::Stalled, Fault::UnknownCluster("a".into())] {
            assert!(matches!(rerun_answer(&CallOutcome::Failed(fault)), Rerun::NotTaken(_)));
        }
        let database = "failed to rerun test workflow execution: client problem: rpc error: code = Internal desc = failed to connect to `user=testkube`";
        for (status, detail) in [(429, ""), (502, database)] {
            assert!(matches!(rerun_answer(&response(status, detail)), Rerun::NotTaken(_)), "{status}");
        }
        assert_eq!(rerun_answer(&response(200, "")), Rerun::Taken);
    }
}
