//! What an answer to a call of a preflight means, and what to do about it.

use super::Health;
use crate::time::{Wall, in_words};
use crate::wire::call::{CallOutcome, Fault, Response};
use crate::wire::kubernetes::missing_rights;
use crate::wire::testkube;
use std::time::Duration;

/// What an answer may mean. A table of them is less code than a function that makes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) health: Health,
    /// What was seen; `…` stands for what varies.
    pub(super) seen: &'static str,
    /// What to do; empty: nothing.
    pub(super) todo: &'static str,
}

/// A meaning, and what varies.
pub(super) type Judged = (&'static Meaning, String);

const fn good(seen: &'static str) -> Meaning {
    Meaning { health: Health::Ok, seen, todo: "" }
}

const fn unknown(seen: &'static str, todo: &'static str) -> Meaning {
    Meaning { health: Health::Unknown, seen, todo }
}

const fn warning(seen: &'static str, todo: &'static str) -> Meaning {
    Meaning { health: Health::Warning, seen, todo }
}

const fn failed(seen: &'static str, todo: &'static str) -> Meaning {
    Meaning { health: Health::Failed, seen, todo }
}

static NO_CLUSTER: Meaning =
    failed("…", "Give a cluster of Envoy that name, or name another one in the plugin's configuration.");
static REFUSED: Meaning = failed(
    "…",
    "Look up the cluster's host from Envoy's pod, and the cluster's `membership_healthy` on Envoy's admin page. If Envoy adds a token there, look whether its file is there and not empty.",
);
static NO_ANSWER: Meaning = failed(
    "…no answer within 5 s",
    "Look for a firewall or a NetworkPolicy in the way, for a TLS handshake that hangs, and at the server's own log.",
);
static NOT_SAID: Meaning = unknown("…", "Ask again with `GET /v1/preflight`.");
static UNTRUSTED: Meaning = failed(
    "…the TLS handshake failed: Envoy does not trust the server's certificate",
    "Compare the cluster's `trusted_ca` and its SAN match with the server's certificate.",
);
static NO_TLS: Meaning = failed(
    "…the TLS handshake failed",
    "Look whether the cluster's port is one of TLS, and which versions the server allows.",
);
static UNHEALTHY: Meaning = failed(
    "…no host of it is healthy",
    "Look up the cluster's host from Envoy's pod, and at its health checks on Envoy's admin page.",
);
static NOBODY: Meaning =
    failed("…the connection was refused", "Look whether the server runs, and at the cluster's port.");
static NO_WAY: Meaning = failed(
    "…no connection came about in time",
    "Look for a firewall or a NetworkPolicy in the way, and at the cluster's address.",
);
static BROKEN: Meaning = failed(
    "…connection refused or broken",
    "Look whether the server runs, at the cluster's port, and whether both sides speak TLS and trust each other's certificate.",
);

/// The server's answer; else why there is none, as far as Envoy says.
pub(super) fn answered<'a>(outcome: &'a CallOutcome, cluster: &str) -> Result<&'a Response, Judged> {
    let (fault, words) = match outcome {
        CallOutcome::Response(response) if !response.from_envoy => return Ok(response),
        CallOutcome::Response(response) => (&response.fault(), response.body.as_deref().unwrap_or_default()),
        CallOutcome::Failed(fault) => (fault, &[][..]),
    };
    let (meaning, said) = match fault {
        Fault::UnknownCluster(_) => return Err((&NO_CLUSTER, fault.to_string())),
        Fault::NoConnection => (connection(&String::from_utf8_lossy(words)), String::new()),
        Fault::NoAnswer => (&NO_ANSWER, String::new()),
        Fault::Refused => (&REFUSED, fault.to_string()),
        _ => (&NOT_SAID, fault.to_string()),
    };
    Err((meaning, ["cluster `", cluster, "`: ", &said].concat()))
}

/// Parts of Envoy's own 503, the first of which counts. Envoy 1.36 has them, 1.40 no longer (envoyproxy/envoy#45011).
static WORDS: [(&str, &Meaning); 7] = [
    ("CERTIFICATE_VERIFY_FAILED", &UNTRUSTED),
    ("TLS_error", &NO_TLS),
    ("TLS error", &NO_TLS),
    ("no healthy upstream", &UNHEALTHY),
    ("onnection refused", &NOBODY),
    ("delayed connect error: 111", &NOBODY),
    ("connection timeout", &NO_WAY),
];

/// Why Envoy has no connection.
fn connection(words: &str) -> &'static Meaning {
    WORDS.iter().find(|(part, _)| words.contains(part)).map_or(&BROKEN, |(_, meaning)| meaning)
}

/// There are more entries of Azure DevOps.
pub(super) static MORE: Meaning = unknown(
    "only the first 16 entries are looked at; there are … more",
    "Look at the others with `curl` from Envoy's pod.",
);
/// What it says of itself.
pub(super) static VERSION: Meaning = good("Testkube's version is …");
static LISTS: Meaning = good("Testkube answers, and lists executions");
static TOKEN: Meaning = failed(
    "Testkube does not take the token: …",
    "Compare the variable that `testkube.bearer_env` names with a token of the control plane.",
);
static BUSY: Meaning = warning("Testkube has too much to do: …", "Look at what else calls it.");
static NO_DATABASE: Meaning = failed(
    "Testkube answers, but cannot list executions: …",
    "Look at Testkube's database, and at the log of its API server.",
);
static NO_LIST: Meaning = failed(
    "executions cannot be listed: …",
    "Look at the log of Testkube's API server, and at what stands between it and Envoy.",
);
static ANOTHER: Meaning = failed(
    "the answer is not that of Testkube, but …: another service is there",
    "Compare the cluster's host and port with Testkube's API server (8088), and `testkube.api_prefix` with the reference.",
);

/// The answer to a list of Testkube's executions.
pub(super) fn testkube(response: &Response) -> Judged {
    let Err(fault) = testkube::page(response) else { return (&LISTS, String::new()) };
    let fault = testkube::said(fault, response);
    let meaning = match fault {
        Fault::Status(401 | 403) | Fault::Said(401 | 403, _) => &TOKEN,
        Fault::Status(429) | Fault::Said(429, _) => &BUSY,
        // Only Testkube has this form of words; the list needs its database, other paths do not.
        Fault::Said(500.., _) => &NO_DATABASE,
        Fault::Status(500..) => &NO_LIST,
        _ => &ANOTHER,
    };
    (meaning, fault.to_string())
}

/// `Date` has whole seconds, and an answer takes its time.
const LEAST_SKEW: Duration = Duration::from_secs(6);

static UNDATED: Meaning = unknown(
    "Testkube's answer does not say when it was sent",
    "Compare `date -u` on Testkube's node and on Envoy's.",
);
static AGREE: Meaning = good("Testkube's clock and Envoy's agree");
static APART: Meaning = warning(
    "Testkube's clock is … Envoy's, which is more than checks.clock_skew allows for",
    "Run `date -u` on both nodes, and set the wrong clock: executions could count that began before the run, or be left out.",
);

/// The server's clock against this one.
pub(super) fn clock(response: &Response, now: Wall, skew: Duration) -> Judged {
    let Some(sent) = response.asks.sent else { return (&UNDATED, String::new()) };
    let apart = Duration::from_millis(sent.0.abs_diff(now.0));
    if apart <= skew.max(LEAST_SKEW) {
        return (&AGREE, String::new());
    }
    let way = if sent < now { " behind" } else { " ahead of" };
    (&APART, in_words(apart) + way)
}

/// As whom Azure DevOps is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AtAzure {
    /// Without a token.
    Stranger,
    /// With the identity that Envoy adds.
    Known,
}

static STRANGER: Meaning = good(
    "HTTP … to a call without a token, as it should be; whether the certificate is verified is not visible from here",
);
static KNOWN: Meaning = good("Azure DevOps takes the identity that Envoy adds");
static NO_IDENTITY: Meaning = failed(
    "HTTP …: Envoy has no identity to add, or Azure DevOps does not take it",
    "Look whether the identity's secret is there and has not expired, and whether it is a user of the organisation.",
);
static NO_ORGANISATION: Meaning = failed(
    "HTTP …: no such organisation or collection is there",
    "Compare `url` of this entry with the address of your organisation or collection, and the cluster's host with it.",
);
static ANOTHER_HOST: Meaning =
    failed("HTTP … with something that Azure DevOps does not send: a proxy or another host answers", WHO);
static TROUBLE: Meaning = warning(
    "HTTP …: Azure DevOps, or a proxy before it, is in trouble",
    "Look at status.dev.azure.com, or at the Server's event log.",
);
static PROXY: Meaning =
    warning("HTTP …, where Azure DevOps answers 401, 203 or 302: a proxy or another host answers", WHO);
const WHO: &str =
    "Look who answers: run `curl -si` with `url` of this entry and `/_apis/projects` from Envoy's pod.";

/// The answer of Azure DevOps.
pub(super) fn azure(response: &Response, who: AtAzure) -> Judged {
    let is_json = !response.is_html() && response.content_type.contains("json");
    let meaning = match (who, response.status) {
        (AtAzure::Stranger, 203 | 302 | 401) => &STRANGER,
        (AtAzure::Known, 203 | 302 | 401) => &NO_IDENTITY,
        // As organisations with public projects answer.
        (AtAzure::Stranger, 200) if is_json => &STRANGER,
        (AtAzure::Known, 200) if is_json => &KNOWN,
        (_, 200) => &ANOTHER_HOST,
        (_, 404) => &NO_ORGANISATION,
        (_, 429 | 500..) => &TROUBLE,
        _ => &PROXY,
    };
    (meaning, response.status.to_string())
}

const ROLE: &str = "Run `kubectl auth can-i --list` as the ServiceAccount, and compare with envoy/kubernetes/replicas/checks.yaml.";
static RIGHTS: Meaning =
    good("the API server answers, and the ServiceAccount has all rights that the store needs");
static NO_RIGHTS: Meaning = failed(
    "the ServiceAccount may not …",
    "Give the ServiceAccount the role in envoy/kubernetes/replicas/checks.yaml.",
);
static NO_TOKEN: Meaning = failed(
    "HTTP …: the API server does not take the token",
    "Look at the ServiceAccount's token: its file, its audience, and the filter of the cluster that adds it.",
);
static UNSAID: Meaning =
    unknown("HTTP …: the API server does not say which rights the ServiceAccount has", ROLE);
static NO_SERVER: Meaning = failed(
    "HTTP …, which no API server of Kubernetes answers to this call when it is well",
    "Compare the cluster's host and port with the API server's, and look at its log.",
);

/// The API server's answer to the question for rights.
pub(super) fn store(response: &Response, outcome: &CallOutcome, namespace: &str) -> Judged {
    let meaning = match (missing_rights(outcome), response.status) {
        (Some(missing), _) if missing.is_empty() => &RIGHTS,
        (Some(missing), _) => {
            return (&NO_RIGHTS, [&missing, " in the namespace ", namespace].concat());
        }
        (None, 401) => &NO_TOKEN,
        (None, 201 | 403) => &UNSAID,
        _ => &NO_SERVER,
    };
    (meaning, response.status.to_string())
}
