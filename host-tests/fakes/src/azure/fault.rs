//! What can go wrong between Azure DevOps and its client.

use super::answer;
use crate::http::{Reply, Response};
use crate::timestamp;

/// The routes that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST …/events`.
    Events,
    /// `POST …/logs`.
    LogCreate,
    /// `POST …/logs/{id}`.
    LogAppend,
    /// `PATCH` and `GET …/records`.
    Records,
    /// `GET …/build/builds/{id}`.
    Build,
    /// `PATCH …/build/builds/{id}`.
    CancelBuild,
    /// `GET …/build/builds/{id}/timeline`.
    Timeline,
    /// Everything, unknown paths included.
    All,
}

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, without effect: 429 is `TF400733`, others have a general error body.
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The same with a date as `Retry-After` (RFC 9110 section 10.2.3), in Unix milliseconds, and the server's own `Date`.
    StatusUntil {
        /// The status.
        status: u16,
        /// The date.
        until: i64,
    },
    /// The true answer with an additional header, in seconds: Azure DevOps sends `Retry-After` and `X-RateLimit-Delay` on
    /// good answers before it refuses any.
    Throttled {
        /// The header's name, in lower case.
        header: &'static str,
        /// Its value.
        seconds: u64,
    },
    /// The connection is closed before any byte of an answer; nothing took effect.
    ResetBefore,
    /// The request takes effect, and the connection is closed before any byte of the answer.
    ResetAfter,
    /// The request takes effect at once; its answer is late, as it is before rate limits begin to block.
    Slow {
        /// The delay.
        millis: u64,
    },
    /// A sign-in page with this status (200 or 203), without effect.
    Html {
        /// The status.
        status: u16,
    },
}

impl Fault {
    /// The reply instead of the true one; `effect` lets the request take effect.
    pub(crate) fn strike(self, now: i64, effect: impl FnOnce() -> Response) -> Reply {
        match self {
            Self::Status { status, retry_after } => answer::injected(status, retry_after).into(),
            Self::StatusUntil { status, until } => {
                let answer = answer::injected(status, None).header("retry-after", &timestamp::http(until));
                answer.header("date", &timestamp::http(now)).into()
            }
            Self::Throttled { header, seconds } => effect().header(header, &seconds.to_string()).into(),
            Self::ResetBefore => Reply::Reset,
            Self::ResetAfter => {
                effect();
                Reply::Reset
            }
            Self::Slow { millis } => Reply::After { millis, reply: Box::new(effect().into()) },
            Self::Html { status } => answer::sign_in_page(status).into(),
        }
    }
}
