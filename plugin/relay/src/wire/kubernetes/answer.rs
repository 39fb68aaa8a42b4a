//! The API server's answers, classed by status alone: an answer that Envoy makes itself, or a server in trouble, has no
//! reliable body.

use super::object::{Body, ListPage, StoredObject};
use crate::wire::call::{CallOutcome, Fault, Response};
use crate::wire::words;
use serde::Deserialize;
use std::time::Duration;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAnswer<T> {
    /// It was done.
    Done(T),
    /// An object of this name exists: perhaps from an earlier try of the same request.
    Exists,
    /// The object has changed since it was read, or no longer exists.
    Conflict,
    /// The object does not exist.
    Missing,
    /// The list's first page is too old: begin the list again.
    Expired,
    /// Not done, and the same request never will be.
    Refused(Fault),
    /// Not done; a later try may succeed, after the server's `Retry-After` if it sent one.
    Later(Fault, Option<Duration>),
    /// It may have been done, or may be done later. Read the object before the next write.
    Unknown(Fault),
}

impl<T> ApiAnswer<T> {
    /// The fault, if there is one.
    pub fn fault(self) -> Option<Fault> {
        match self {
            ApiAnswer::Refused(fault) | ApiAnswer::Later(fault, _) | ApiAnswer::Unknown(fault) => Some(fault),
            ApiAnswer::Done(_)
            | ApiAnswer::Exists
            | ApiAnswer::Conflict
            | ApiAnswer::Missing
            | ApiAnswer::Expired => None,
        }
    }
}

/// The answer to [`Server::create`](super::Server::create).
pub fn created<B: Body>(outcome: &CallOutcome) -> ApiAnswer<StoredObject<B>> {
    match answer(outcome, StoredObject::from_json) {
        ApiAnswer::Conflict => ApiAnswer::Exists,
        // The namespace does not exist.
        ApiAnswer::Missing => ApiAnswer::Later(fault(outcome), None),
        answer => answer,
    }
}

/// The answer to [`Server::get`](super::Server::get) and [`Server::update`](super::Server::update).
pub fn stored<B: Body>(outcome: &CallOutcome) -> ApiAnswer<StoredObject<B>> {
    answer(outcome, StoredObject::from_json)
}

/// The answer to [`Server::list`](super::Server::list).
pub fn listed<B: Body>(outcome: &CallOutcome) -> ApiAnswer<ListPage<B>> {
    answer(outcome, ListPage::from_json)
}

/// The answer to [`Server::delete`](super::Server::delete). An object with somebody's finalizer stays until that is removed.
pub fn deleted(outcome: &CallOutcome) -> ApiAnswer<()> {
    answer(outcome, |_| Some(()))
}

fn answer<T>(outcome: &CallOutcome, read: impl Fn(&[u8]) -> Option<T>) -> ApiAnswer<T> {
    let response = match outcome {
        CallOutcome::Response(response) => response,
        CallOutcome::Failed(fault) if fault.was_refused() => return ApiAnswer::Later(fault.clone(), None),
        CallOutcome::Failed(fault) => return ApiAnswer::Unknown(fault.clone()),
    };
    match response.status {
        200 | 201 => match response.body.as_deref() {
            Ok(body) => {
                read(body).map_or(ApiAnswer::Unknown(Fault::Unexpected("unexpected JSON")), ApiAnswer::Done)
            }
            Err(size) => ApiAnswer::Unknown(Fault::TooLarge(*size)),
        },
        404 => ApiAnswer::Missing,
        409 => ApiAnswer::Conflict,
        410 => ApiAnswer::Expired,
        400 | 405 | 406 | 413 | 415 | 422 => ApiAnswer::Refused(fault(outcome)),
        // Never final: a server that has just started refuses good tokens for a moment, and quotas become free.
        401 | 403 | 429 => ApiAnswer::Later(fault(outcome), response.asks.retry_after),
        _ => ApiAnswer::Unknown(fault(outcome)),
    }
}

/// The fault with the server's own words, which name the verb and resource that a role lacks, or the quota.
fn fault(outcome: &CallOutcome) -> Fault {
    let response = match outcome {
        CallOutcome::Response(response) => response,
        CallOutcome::Failed(fault) => return fault.clone(),
    };
    match (response.fault(), message(response)) {
        (Fault::Status(status), Some(message)) => Fault::Said(status, message),
        (fault, _) => fault,
    }
}

/// Maximum body of a `Status`, in bytes.
const MAX_STATUS: usize = 16 << 10;

/// The message of a `Status`, or the whole text if the body is none.
fn message(response: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let body = response.body.as_deref().ok().filter(|body| body.len() <= MAX_STATUS)?;
    match crate::json::read::<Status>(body) {
        Ok(status) => words::shown(&status.message),
        Err(_) => words::shown(std::str::from_utf8(body).ok()?.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LeaseBody, SecretBody};
    use super::*;
    use crate::wire::call::Asks;

    fn response(status: u16, content_type: &str, body: &str) -> Response {
        let body = Ok(body.as_bytes().to_vec());
        Response { status, content_type: content_type.into(), asks: Asks::default(), from_envoy: false, body }
    }

    fn json(status: u16, body: &str) -> CallOutcome {
        CallOutcome::Response(response(status, "application/json", body))
    }

    const LEASE: &str = r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"testrelay-a","uid":"7a36508e-8ed6-4a47-b544-5b583162a24f","resourceVersion":"25340","creationTimestamp":"2026-11-28T07:05:48Z","managedFields":[{"manager":"unknown"}]},"spec":{"holderIdentity":"replica-a","leaseDurationSeconds":15,"renewTime":"2026-11-28T07:00:05.123456Z"}}"#;

    #[test]
    fn an_object_is_read_with_its_version() {
        let ApiAnswer::Done(lease) = created::<LeaseBody>(&json(201, LEASE)) else { panic!() };
        assert_eq!(lease.object.body.renewed.as_deref(), Some("2026-11-28T07:00:05.123456Z"));
        assert_eq!((lease.object.name.as_str(), lease.object.labels.get("a")), ("testrelay-a", None));
        assert_ne!(stored::<LeaseBody>(&json(200, &LEASE.replace("25340", "25341"))), ApiAnswer::Done(lease));
    }

    /// Somebody may have edited it: it must still be listed and ended.
    #[test]
    fn a_secret_that_holds_no_record_is_read_without_one() {
        let read = |data: &str| {
            let metadata = r#"{"name":"a","uid":"u","resourceVersion":"1","labels":null}"#;
            let secret = format!(r#"{{"metadata":{metadata},"type":"testrelay.dev/check","data":{data}}}"#);
            let ApiAnswer::Done(secret) = stored::<SecretBody>(&json(200, &secret)) else { panic!("{data}") };
            secret.object.body.record
        };
        assert_eq!(read(r#"{"record":"eyJ2IjoxfQ=="}"#).as_deref(), Some(&br#"{"v":1}"#[..]));
        for data in ["null", "{}", r#"{"record":null}"#, r#"{"record":"*"}"#, r#"{"other":"eyJ2IjoxfQ=="}"#] {
            assert_eq!(read(data), None, "{data}");
        }
    }

    #[test]
    fn an_answer_is_told_by_its_status() {
        let told = |outcome: &CallOutcome| match created::<LeaseBody>(outcome) {
            ApiAnswer::Done(_) => "done",
            ApiAnswer::Exists => "exists",
            ApiAnswer::Conflict => "conflict",
            ApiAnswer::Missing => "missing",
            ApiAnswer::Expired => "expired",
            ApiAnswer::Refused(_) => "refused",
            ApiAnswer::Later(..) => "later",
            ApiAnswer::Unknown(_) => "unknown",
        };
        let by_status = [
            ("exists", &[409][..]),
            ("refused", &[400, 405, 406, 413, 415, 422]),
            ("later", &[401, 403, 404, 429]),
            ("unknown", &[200, 201, 302, 408, 500, 502, 503, 504]),
        ];
        for (expected, statuses) in by_status {
            for status in statuses {
                assert_eq!(told(&json(*status, "")), expected, "{status}");
            }
        }
        for fault in [Fault::Refused, Fault::Stalled, Fault::UnknownCluster("a".into())] {
            assert_eq!(told(&CallOutcome::Failed(fault)), "later");
        }
        for fault in [Fault::NoConnection, Fault::NoAnswer, Fault::Reset, Fault::Lost] {
            assert_eq!(told(&CallOutcome::Failed(fault)), "unknown");
        }
        assert_eq!(stored::<LeaseBody>(&json(409, "")), ApiAnswer::Conflict);
        assert_eq!(stored::<LeaseBody>(&json(404, "404 page not found")), ApiAnswer::Missing);
        assert_eq!(deleted(&json(200, "")), ApiAnswer::Done(()));
    }

    #[test]
    fn the_servers_own_words_are_told() {
        let words = |status, content_type: &str, body: &str| match created::<LeaseBody>(
            &CallOutcome::Response(response(status, content_type, body)),
        ) {
            ApiAnswer::Later(fault, _) | ApiAnswer::Refused(fault) | ApiAnswer::Unknown(fault) => {
                fault.to_string()
            }
            answer => panic!("{answer:?}"),
        };
        let quota = r#"{"kind":"Status","status":"Failure","message":"secrets \"q-2\" is forbidden: exceeded quota: q, used: count/secrets=3, limited: count/secrets=3","reason":"Forbidden","code":403}"#;
        assert_eq!(
            words(403, "application/json", quota),
            "HTTP 403: secrets \"q-2\" is forbidden: exceeded quota: q, used: count/secrets=3, limited: count/secrets=3"
        );
        let busy = "Too many requests, please try again later.\n";
        assert_eq!(words(429, "text/plain; charset=utf-8", busy), format!("HTTP 429: {}", busy.trim()));
        let timeout = r#"{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout","code":504}"#;
        assert_eq!(
            words(504, "text/plain; charset=utf-8", timeout),
            "HTTP 504: Timeout: request did not complete within the allotted timeout"
        );
        assert_eq!(words(500, "", ""), "HTTP 500");
    }

    #[test]
    fn the_last_page_names_no_other() {
        let page = |metadata: &str| {
            let body = format!(r#"{{"kind":"LeaseList","metadata":{metadata},"items":[{LEASE}]}}"#);
            let ApiAnswer::Done(page) = listed::<LeaseBody>(&json(200, &body)) else { panic!() };
            (page.items.len(), page.next)
        };
        assert_eq!(page(r#"{"resourceVersion":"758"}"#), (1, None));
        let empty =
            r#"{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"758"},"items":null}"#;
        let ApiAnswer::Done(page_of_none) = listed::<LeaseBody>(&json(200, empty)) else { panic!() };
        assert!(page_of_none.items.is_empty());
        assert_eq!(page(r#"{"resourceVersion":"758","continue":""}"#), (1, None));
        assert_eq!(page(r#"{"continue":"eyJ2","remainingItemCount":5}"#), (1, Some("eyJ2".into())));
    }
}
