//! What can go wrong between an API server and its client, behind it and around it.

use serde_json::{Value, json};

use super::call::{Call, Found, Options, Probe, Resource, Verb};
use super::{Kubernetes, status};
use crate::http::{Reply, Request, Response};

/// How long a write waits for etcd, in milliseconds.
const WRITE_LIMIT: u64 = 34_000;
/// How long a read does.
const READ_LIMIT: u64 = 60_000;
/// The time after which `/readyz` says that etcd does not answer.
const PROBE_LIMIT: u64 = 4_000;

/// The requests that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One verb on one resource.
    Only(Resource, Verb),
    /// GET and LIST of both resources.
    Reads,
    /// POST, PUT and DELETE of both.
    Writes,
    /// Everything, `/readyz` and unknown paths included.
    All,
}

impl Route {
    pub(super) fn has(self, request: &Request) -> bool {
        let (verb, resource) = match Call::of(request) {
            Call::Resource(target, Found::Resource(resource)) => (target.verb, resource),
            _ => return self == Route::All,
        };
        match self {
            Route::Only(of, only) => (of, only) == (resource, verb),
            Route::Reads => matches!(verb, Verb::Get | Verb::List),
            Route::Writes => matches!(verb, Verb::Create | Verb::Update | Verb::Delete),
            Route::All => true,
        }
    }
}

/// One way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection, or one that breaks before the request arrives: nothing is done.
    Away,
    /// The request is done, and the connection is closed before any byte of the answer.
    ResetAfter,
    /// The connection is closed at once, and the request is done so much later, in whatever state things are then.
    DoneLater {
        /// The delay, in milliseconds.
        millis: u64,
    },
    /// The request is done at once and answered so much later. Where its own `timeout=` is shorter, that is what it is told of.
    Late {
        /// The delay, in milliseconds.
        millis: u64,
    },
    /// etcd answers so much later. A request whose time is over before is not done.
    Slow {
        /// The delay, in milliseconds.
        millis: u64,
    },
    /// etcd stands still so long, and then does all that it was sent: a write whose time is over before is told that by a 504, and
    /// is done all the same. The real server was seen to do so, and to do nothing.
    Stalled {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// etcd is away: writes get 504 after 34 s, reads are cut after 60 s, or at their own `timeout=`; `resourceVersion=0` is
    /// answered from the cache. The real server gives some reads the 504 that a write gets, as its timers happen to end.
    EtcdAway,
    /// The request is done; status, headers and the first `bytes` of the body arrive, then the connection breaks.
    Cut {
        /// Bytes of the body.
        bytes: usize,
    },
    /// 429 as text, nothing is done.
    Throttled {
        /// `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// 500 to a write: a webhook of the cluster is down. Nothing is done.
    WebhookDown,
    /// 422 to a write: a policy of the cluster refuses it. Nothing is done.
    RefusedByPolicy,
    /// 403 to a good token, as from a server that has just started and does not know its roles yet; `/readyz` is 500.
    Starting,
    /// 401: the token is not taken, whatever it is.
    Unauthorized,
    /// A list that goes on is told that its state is forgotten: 410, with a token for the rest as of now.
    ContinueExpired,
}

impl Kubernetes {
    /// The reply instead of the true one.
    pub(super) fn strike(&mut self, fault: Fault, now: i64, request: &Request) -> Reply {
        let refused = |response: Response| -> Reply { response.into() };
        match fault {
            Fault::Away => Reply::Reset,
            Fault::ResetAfter => {
                self.answer(now, request);
                Reply::Reset
            }
            Fault::DoneLater { millis } => {
                let at = now.saturating_add_unsigned(millis);
                self.late.push((at, request.clone()));
                Reply::Reset
            }
            Fault::Late { millis } => {
                let reply = Box::new(self.answer(now, request));
                match timeout(request).filter(|limit| *limit <= millis) {
                    Some(limit) => after(limit, status::out_of_time().into()),
                    None => Reply::After { millis, reply },
                }
            }
            Fault::Slow { millis } => self.wait_for_etcd(now, request, millis),
            Fault::Stalled { millis } => {
                let reply = self.wait_for_etcd(now, request, millis);
                if Route::Writes.has(request) && reply.status() == Some(504) {
                    self.late.push((now.saturating_add_unsigned(millis), request.clone()));
                }
                reply
            }
            Fault::EtcdAway => self.wait_for_etcd(now, request, u64::MAX),
            Fault::Cut { bytes } => match self.answer(now, request) {
                Reply::Answer(response) => Reply::Truncated { response, bytes },
                other => other,
            },
            Fault::Throttled { retry_after } => refused(status::throttled(retry_after)),
            Fault::WebhookDown => refused(status::webhook_down()),
            Fault::RefusedByPolicy => {
                let (resource, name) = subject(request);
                refused(status::refused_by_policy(resource, &name))
            }
            Fault::Starting => self.answer_without_roles(now, request),
            Fault::Unauthorized => refused(status::unauthorized()),
            Fault::ContinueExpired => self.answer_in(now, request, true),
        }
    }

    /// What etcd is not needed for is answered at once.
    fn wait_for_etcd(&mut self, now: i64, request: &Request, millis: u64) -> Reply {
        let options = Options::of(request);
        match Call::of(request) {
            Call::Open(Probe::Ready) if millis >= PROBE_LIMIT => {
                let body = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nreadyz check failed\n";
                after(PROBE_LIMIT, status::text(500, body).into())
            }
            Call::Resource(target, Found::Resource(_)) => {
                let reads = matches!(target.verb, Verb::Get | Verb::List);
                if self.refusal(now, request).is_some()
                    || reads && options.get("resourceVersion") == Some("0")
                {
                    return self.answer(now, request);
                }
                match (timeout(request), reads) {
                    (Some(limit), true) if limit <= millis => after(limit, Reply::Reset),
                    (Some(limit), false) if limit <= millis => after(limit, status::out_of_time().into()),
                    (None, true) if READ_LIMIT <= millis => after(READ_LIMIT, Reply::Reset),
                    (None, false) if WRITE_LIMIT <= millis => after(WRITE_LIMIT, status::stalled().into()),
                    _ => after(millis, self.answer(now, request)),
                }
            }
            _ => self.answer(now, request),
        }
    }

    fn answer_without_roles(&mut self, now: i64, request: &Request) -> Reply {
        match (Call::of(request), self.access.user(now, request)) {
            (Call::Open(Probe::Ready), _) => {
                let body = "[+]ping ok\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n\
                            readyz check failed\n";
                status::text(500, body).into()
            }
            (Call::Resource(target, _), Some(user)) => status::forbidden(&target, &user.name).into(),
            _ => self.answer(now, request),
        }
    }
}

fn timeout(request: &Request) -> Option<u64> {
    Options::of(request).timeout().flatten()
}

fn after(millis: u64, reply: Reply) -> Reply {
    Reply::After { millis, reply: Box::new(reply) }
}

/// What a request writes, by its path or its body.
fn subject(request: &Request) -> (Resource, String) {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_else(|_| json!({}));
    let named = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match Call::of(request) {
        Call::Resource(target, Found::Resource(resource)) => {
            (resource, if target.name.is_empty() { named.to_owned() } else { target.name })
        }
        _ => (Resource::Secrets, named.to_owned()),
    }
}
