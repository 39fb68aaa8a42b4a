//! What an answer of Azure DevOps means.
//!
//! A 2xx is not always a success: without a valid token Azure DevOps answers 302 to its sign-in page or 203 with that
//! page. A 500 is not always a passing fault: `OrchestrationSessionNotFoundException` says that the plan has ended.

use crate::wire::call::{CallOutcome, Fault, Response};
use serde::Deserialize;
use std::time::Duration;

/// The meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Azure DevOps took the request, and with it the token.
    Taken,
    /// The token is not valid, or no longer.
    TokenRefused,
    /// The token is valid but may not do this.
    Forbidden,
    /// The run has ended and takes nothing more. Holds Azure DevOps's own name for the reason.
    Over(String),
    /// Azure DevOps understood the request and refused it.
    Refused(Fault),
    /// The request may succeed later; not before the given time, if there is one.
    Later(Fault, Option<Duration>),
}

/// Maximum `Retry-After` that is obeyed. A longer one would be a mistake or an attack, and a check has a deadline.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Exception types that mean that the plan has ended (github.com/actions/runner, `Sdk/DTWebApi`, and
/// azure-pipelines-tasks #15470).
const OVER: [&str; 4] = [
    "OrchestrationSessionNotFoundException",
    "TaskOrchestrationPlanNotFoundException",
    "TaskOrchestrationPlanTerminatedException",
    "TaskOrchestrationJobNotFoundException",
];

/// Classifies the outcome of a call.
pub fn classify(outcome: &CallOutcome) -> Answer {
    match outcome {
        CallOutcome::Failed(fault) => Answer::Later(fault.clone(), None),
        CallOutcome::Response(response) => classify_response(response),
    }
}

fn classify_response(response: &Response) -> Answer {
    let fault = response.fault();
    let retry_after = response.asks.retry_after.map(|d| d.min(MAX_RETRY_AFTER));
    if response.from_envoy {
        return Answer::Later(fault, retry_after);
    }
    if let Some(reason) = over(response) {
        return Answer::Over(reason);
    }
    match response.status {
        203 | 300..=399 | 401 => Answer::TokenRefused,
        200..=299 if response.is_html() => Answer::TokenRefused,
        200..=299 => Answer::Taken,
        403 => Answer::Forbidden,
        408 | 429 | 500..=599 => Answer::Later(fault, retry_after),
        _ => Answer::Refused(fault),
    }
}

fn over(response: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Exception {
        #[serde(rename = "typeKey")]
        type_key: String,
    }
    if response.status < 400 {
        return None;
    }
    let exception: Exception = crate::json::read(response.body.as_deref().ok()?).ok()?;
    OVER.contains(&exception.type_key.as_str()).then_some(exception.type_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::Asks;

    fn answer(status: u16, content_type: &str, body: &str) -> Answer {
        classify(&CallOutcome::Response(Response {
            status,
            content_type: content_type.into(),
            asks: Asks { retry_after: Some(Duration::from_secs(7)), ..Asks::default() },
            from_envoy: false,
            body: Ok(body.as_bytes().to_vec()),
        }))
    }

    fn exception(status: u16, type_key: &str) -> Answer {
        let body = format!(
            r#"{{"$id":"1","innerException":null,"message":"x","typeName":"y","typeKey":"{type_key}","errorCode":0,"eventId":3000}}"#
        );
        answer(status, "application/json; charset=utf-8", &body)
    }

    #[test]
    fn only_a_2xx_that_is_no_sign_in_page_is_taken() {
        assert_eq!(answer(204, "", ""), Answer::Taken);
        assert_eq!(answer(200, "application/json", "{}"), Answer::Taken);
        assert_eq!(answer(200, "text/html; charset=utf-8", "<html>"), Answer::TokenRefused);
        assert_eq!(answer(203, "text/html", "<html>"), Answer::TokenRefused);
        assert_eq!(answer(302, "", ""), Answer::TokenRefused);
        assert_eq!(exception(401, "UnauthorizedRequestException"), Answer::TokenRefused);
        assert_eq!(exception(403, "AccessDeniedException"), Answer::Forbidden);
    }

    #[test]
    fn a_plan_that_has_ended_is_told_from_a_passing_fault_by_its_type() {
        assert_eq!(
            exception(500, "OrchestrationSessionNotFoundException"),
            Answer::Over("OrchestrationSessionNotFoundException".into())
        );
        assert!(matches!(exception(404, "TaskOrchestrationPlanNotFoundException"), Answer::Over(_)));
        assert!(matches!(exception(500, "VssServiceException"), Answer::Later(Fault::Status(500), _)));
        assert!(matches!(
            exception(404, "ProjectDoesNotExistException"),
            Answer::Refused(Fault::Status(404))
        ));
    }

    #[test]
    fn busy_answers_are_tried_again_when_they_say() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(
                answer(status, "text/html", "x"),
                Answer::Later(Fault::Status(status), Some(Duration::from_secs(7))),
                "{status}"
            );
        }
        assert!(matches!(classify(&CallOutcome::Failed(Fault::Reset)), Answer::Later(Fault::Reset, None)));
    }
}
