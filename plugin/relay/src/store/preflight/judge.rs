//! What an answer to a call of a preflight means, and what to do about it.

use super::{Health, TIMEOUT};
use crate::time::{Wall, in_words};
use crate::wire::call::{CallOutcome, Fault, Response};
use crate::wire::kubernetes::{Server, missing_rights};
use crate::wire::testkube;
use std::time::Duration;

/// How good it is, what was seen, and what to do; empty: nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged(pub(super) Health, pub(super) String, pub(super) &'static str);

/// `Date` has whole seconds, and an answer takes its time.
const LEAST_SKEW: Duration = Duration::from_secs(6);

const ANOTHER_SERVICE: &str = "Compare the cluster's host and port with Testkube's API server (8088), and `testkube.api_prefix` with the reference.";

/// The server's answer; else why there is none, as far as Envoy says.
pub(super) fn answered<'a>(outcome: &'a CallOutcome, cluster: &str) -> Result<&'a Response, Judged> {
    let fault = match outcome {
        CallOutcome::Response(response) if !response.from_envoy => return Ok(response),
        CallOutcome::Response(response) => response.fault(),
        CallOutcome::Failed(fault) => fault.clone(),
    };
    let words = match outcome {
        CallOutcome::Response(response) => response.body.as_deref().unwrap_or_default(),
        CallOutcome::Failed(_) => &[],
    };
    let (health, seen, todo) = match fault {
        Fault::UnknownCluster(_) => {
            let todo =
                "Give a cluster of Envoy that name, or name another one in the plugin's configuration.";
            return Err(Judged(Health::Failed, fault.to_string(), todo));
        }
        Fault::NoConnection => connection(words),
        Fault::NoAnswer => (
            Health::Failed,
            format!("no answer within {}", in_words(TIMEOUT)),
            "Look for a firewall or a NetworkPolicy in the way, for a TLS handshake that hangs, and at the server's own log.",
        ),
        Fault::Refused => (
            Health::Failed,
            fault.to_string(),
            "Look up the cluster's host from Envoy's pod, and the cluster's `membership_healthy` on Envoy's admin page. If Envoy adds a token there, look whether its file is there and not empty.",
        ),
        _ => (Health::Unknown, fault.to_string(), "Ask again with `GET /v1/preflight`."),
    };
    Err(Judged(health, format!("cluster `{cluster}`: {seen}"), todo))
}

/// Why Envoy has no connection, by the words of its own 503. Some versions say less (envoyproxy/envoy#45011).
fn connection(words: &[u8]) -> (Health, String, &'static str) {
    let words = String::from_utf8_lossy(words);
    let says = |part: &str| has(&words, part);
    let (seen, todo) = if says("CERTIFICATE_VERIFY_FAILED") {
        (
            "the TLS handshake failed: Envoy does not trust the server's certificate",
            "Compare the cluster's `trusted_ca` and its SAN match with the server's certificate.",
        )
    } else if says("TLS_error") || says("TLS error") {
        (
            "the TLS handshake failed",
            "Look whether the cluster's port is one of TLS, and which versions the server allows.",
        )
    } else if says("no healthy upstream") {
        (
            "no host of it is healthy",
            "Look up the cluster's host from Envoy's pod, and at its health checks on Envoy's admin page.",
        )
    } else if says("onnection refused") || says("delayed connect error: 111") {
        ("the connection was refused", "Look whether the server runs, and at the cluster's port.")
    } else if says("connection timeout") {
        (
            "no connection came about in time",
            "Look for a firewall or a NetworkPolicy in the way, and at the cluster's address.",
        )
    } else {
        (
            "connection refused or broken",
            "Look whether the server runs, at the cluster's port, and whether both sides speak TLS and trust each other's certificate.",
        )
    };
    (Health::Failed, seen.to_owned(), todo)
}

/// Not inlined seven times.
#[inline(never)]
fn has(words: &str, part: &str) -> bool {
    words.contains(part)
}

/// The answer to a list of Testkube's executions.
pub(super) fn testkube(response: &Response) -> Judged {
    let Err(fault) = testkube::page(response) else {
        return Judged(Health::Ok, "Testkube answers, and lists executions".into(), "");
    };
    match testkube::said(fault, response) {
        fault @ (Fault::Status(401 | 403) | Fault::Said(401 | 403, _)) => Judged(
            Health::Failed,
            format!("Testkube does not take the token: {fault}"),
            "Compare the variable that `testkube.bearer_env` names with a token of the control plane.",
        ),
        fault @ (Fault::Status(429) | Fault::Said(429, _)) => Judged(
            Health::Warning,
            format!("Testkube has too much to do: {fault}"),
            "Look at what else calls it.",
        ),
        // Only Testkube has this form of words; the list needs its database, other paths do not.
        fault @ Fault::Said(500.., _) => Judged(
            Health::Failed,
            format!("Testkube answers, but cannot list executions: {fault}"),
            "Look at Testkube's database, and at the log of its API server.",
        ),
        fault @ Fault::Status(500..) => Judged(
            Health::Failed,
            format!("executions cannot be listed: {fault}"),
            "Look at the log of Testkube's API server, and at what stands between it and Envoy.",
        ),
        fault => Judged(
            Health::Failed,
            format!("the answer is not that of Testkube, but {fault}: another service is there"),
            ANOTHER_SERVICE,
        ),
    }
}

/// The server's clock against this one.
pub(super) fn clock(response: &Response, now: Wall, skew: Duration) -> Judged {
    let Some(sent) = response.asks.sent else {
        let detail = "Testkube's answer does not say when it was sent".into();
        return Judged(Health::Unknown, detail, "Compare `date -u` on Testkube's node and on Envoy's.");
    };
    let apart = Duration::from_millis(sent.0.abs_diff(now.0));
    let seconds = in_words(Duration::from_secs(apart.as_secs()).max(Duration::from_secs(1)));
    if apart <= skew.max(LEAST_SKEW) {
        return Judged(Health::Ok, "Testkube's clock and Envoy's agree".into(), "");
    }
    let way = if sent < now { "behind" } else { "ahead of" };
    Judged(
        Health::Warning,
        format!(
            "Testkube's clock is {seconds} {way} Envoy's, which is more than checks.clock_skew ({}) allows for",
            in_words(skew)
        ),
        "Run `date -u` on both nodes, and set the wrong clock: executions could count that began before the run, or be left out.",
    )
}

/// As whom Azure DevOps is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AtAzure {
    /// Without a token.
    Stranger,
    /// With the identity that Envoy adds.
    Known,
}

/// The answer of Azure DevOps.
pub(super) fn azure(response: &Response, who: AtAzure) -> Judged {
    let status = response.status;
    let is_refused = matches!(status, 203 | 302 | 401);
    let is_json = !response.is_html() && response.content_type.contains("json");
    let good = |seen: String| Judged(Health::Ok, seen, "");
    match (who, status) {
        (AtAzure::Stranger, _) if is_refused => good(format!(
            "HTTP {status} to a call without a token, as it should be; whether the certificate is verified is not visible from here"
        )),
        (AtAzure::Stranger, 200) if is_json => good(
            "HTTP 200 to a call without a token, as organisations with public projects answer; whether the certificate is verified is not visible from here".into(),
        ),
        (AtAzure::Known, 200) if is_json => good("Azure DevOps takes the identity that Envoy adds".into()),
        (AtAzure::Known, _) if is_refused => Judged(
            Health::Failed,
            format!("HTTP {status}: Envoy has no identity to add, or Azure DevOps does not take it"),
            "Look whether the identity's secret is there and has not expired, and whether it is a user of the organisation.",
        ),
        (_, 404) => Judged(
            Health::Failed,
            "HTTP 404: no such organisation or collection is there".into(),
            "Compare `url` of this entry with the address of your organisation or collection, and the cluster's host with it.",
        ),
        (_, 200) => Judged(
            Health::Failed,
            "HTTP 200 with something that Azure DevOps does not send: a proxy or another host answers".into(),
            "Look who answers: run `curl -si` with `url` of this entry and `/_apis/projects` from Envoy's pod.",
        ),
        (_, 429 | 500..) => Judged(
            Health::Warning,
            format!("HTTP {status}: Azure DevOps, or a proxy before it, is in trouble"),
            "Look at status.dev.azure.com, or at the Server's event log.",
        ),
        _ => Judged(
            Health::Warning,
            format!("HTTP {status}, where Azure DevOps answers 401, 203 or 302: a proxy or another host answers"),
            "Look who answers: run `curl -si` with `url` of this entry and `/_apis/projects` from Envoy's pod.",
        ),
    }
}

/// The API server's answer to the question for rights.
pub(super) fn store(response: &Response, outcome: &CallOutcome, server: &Server) -> Judged {
    const ROLE: &str = "Give the ServiceAccount the role in envoy/kubernetes/replicas/checks.yaml.";
    let status = response.status;
    match missing_rights(outcome) {
        Some(missing) if missing.is_empty() => Judged(
            Health::Ok,
            "the API server answers, and the ServiceAccount has all rights that the store needs".into(),
            "",
        ),
        Some(missing) => Judged(
            Health::Failed,
            format!("the ServiceAccount may not {missing} in the namespace {}", server.namespace),
            ROLE,
        ),
        None if status == 401 => Judged(
            Health::Failed,
            "HTTP 401: the API server does not take the token".into(),
            "Look at the ServiceAccount's token: its file, its audience, and the filter of the cluster that adds it.",
        ),
        None if status == 201 || status == 403 => Judged(
            Health::Unknown,
            format!("HTTP {status}: the API server does not say which rights the ServiceAccount has"),
            "Run `kubectl auth can-i --list` as the ServiceAccount, and compare with envoy/kubernetes/replicas/checks.yaml.",
        ),
        None => Judged(
            Health::Failed,
            format!("HTTP {status}, which no API server of Kubernetes answers to this call when it is well"),
            "Compare the cluster's host and port with the API server's, and look at its log.",
        ),
    }
}
