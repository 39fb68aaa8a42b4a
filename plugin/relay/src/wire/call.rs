//! Calls to the two clusters: the requests, and their outcomes.

use crate::time::Wall;
use std::fmt;
use std::time::Duration;

/// The number of one of a [`Lead`](crate::Lead)'s calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// How long after its timeout a call is given up: its callback may never come.
pub const GRACE: Duration = Duration::from_secs(5);

/// An HTTP request through one of Envoy's clusters. No `Debug`, because it may hold a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The Envoy cluster.
    pub cluster: String,
    /// The method.
    pub method: &'static str,
    /// `:scheme`.
    pub scheme: &'static str,
    /// `:authority`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// Timeout of the call. Never zero: for Envoy 0 ms means no timeout.
    pub timeout: Duration,
    /// Maximum response body to copy into the VM, in bytes.
    pub max_body: usize,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// An answer came, from the server or from Envoy in its place.
    Response(Response),
    /// No answer came.
    Failed(Fault),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `:status`.
    pub status: u16,
    /// `content-type`; empty if there was none.
    pub content_type: String,
    /// What the answer asks of later calls, and when it was sent.
    pub asks: Asks,
    /// Whether Envoy made this 503 or 504 itself: `x-envoy-upstream-service-time`, which its router adds to every
    /// answer of an upstream, is missing.
    pub from_envoy: bool,
    /// The body, or its size in bytes if it exceeds the request's `max_body`.
    pub body: Result<Vec<u8>, usize>,
}

/// Maximum wait for a `Retry-After` date in an answer without `Date`: the wall clock may be behind by any amount.
const MAX_UNDATED: Duration = Duration::from_secs(60);

/// What an answer's headers ask of later calls, and when it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// `Retry-After`: the time before the next call.
    pub retry_after: Option<Duration>,
    /// `X-RateLimit-Delay`: for how long Azure DevOps delayed this call because of its rate limits.
    pub delayed: Option<Duration>,
    /// `Date`: when the server sent the answer, by its own clock, in whole seconds.
    pub sent: Option<Wall>,
}

impl Asks {
    /// Reads the headers, which `value` finds by lower-case name. `Retry-After` is a number of seconds or a date (RFC
    /// 9110 section 10.2.3). A date is compared with the answer's own `Date`, so that the difference between the two
    /// clocks does not matter; without one it is compared with `now`, and the wait is at most [`MAX_UNDATED`]. A value
    /// that cannot be read asks nothing.
    pub fn of(value: impl Fn(&str) -> Option<String>, now: Wall) -> Asks {
        let date = |text: String| Wall::parse_http(text.trim());
        let sent = value("date").and_then(date);
        let wait = |text: String| match crate::text::number::<u64>(text.trim()) {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => {
                let until = date(text)?;
                let since = |at: Wall| {
                    Duration::from_millis(u64::try_from(until.0.saturating_sub(at.0)).unwrap_or_default())
                };
                Some(sent.map_or_else(|| since(now).min(MAX_UNDATED), since))
            }
        };
        Asks {
            retry_after: value("retry-after").and_then(wait),
            delayed: value("x-ratelimit-delay").and_then(|text| seconds(text.trim())),
            sent,
        }
    }
}

/// Reads seconds with or without a fraction: `30`, `0.125`. Zero gives `None`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let millis = format!("{:0<3}", fraction.get(..fraction.len().min(3))?);
    let (whole, millis) = (crate::text::number::<u64>(whole)?, crate::text::number::<u64>(&millis)?);
    Some(Duration::from_secs(whole).saturating_add(Duration::from_millis(millis))).filter(|d| !d.is_zero())
}

/// Why a call has no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The server answered with this status.
    Status(u16),
    /// The same, with the server's own words.
    Said(u16, String),
    /// Envoy could not connect, or lost the connection before an answer began (its own 503).
    NoConnection,
    /// The request's timeout passed (Envoy's own 504).
    NoAnswer,
    /// The connection broke in the middle of the answer.
    Reset,
    /// Envoy refused the call at once: the cluster has no address or no healthy one, or a circuit breaker is open.
    /// Envoy does not say which; names unknown to DNS are by far the most common.
    Refused,
    /// Envoy has no cluster of this name.
    UnknownCluster(String),
    /// No callback came.
    Lost,
    /// Envoy's thread stood still between the decision to call and the call, which was not made.
    Stalled,
    /// The body exceeds what is read; its size in bytes.
    TooLarge(usize),
    /// The body is not JSON; holds its content type.
    NotJson(String),
    /// The body is JSON that is cut off.
    Truncated,
    /// The body is JSON, but not what was asked for.
    Unexpected(&'static str),
}

impl Fault {
    /// Whether the call certainly had no effect: it was answered, or never left Envoy.
    pub fn was_refused(&self) -> bool {
        !matches!(self, Fault::NoConnection | Fault::NoAnswer | Fault::Reset | Fault::Lost)
    }
}

impl Response {
    /// Whether the answer is a web page, which neither API sends when all is well.
    pub fn is_html(&self) -> bool {
        self.content_type.to_ascii_lowercase().starts_with("text/html")
    }

    /// The answer's status as a fault. Envoy's own answers are told apart from the server's.
    pub fn fault(&self) -> Fault {
        match (self.from_envoy, self.status) {
            (true, 504) => Fault::NoAnswer,
            (true, 503) => Fault::NoConnection,
            (_, status) => Fault::Status(status),
        }
    }

    /// Reads a 200's body as JSON of type `T`.
    ///
    /// # Errors
    /// The fault, if the answer is not a 200 with such a body.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        if self.status != 200 || self.from_envoy {
            return Err(self.fault());
        }
        let body = self.body.as_deref().map_err(|size| Fault::TooLarge(*size))?;
        crate::json::read(body).map_err(|e| match e.classify() {
            serde_json::error::Category::Eof => Fault::Truncated,
            serde_json::error::Category::Data => Fault::Unexpected("unexpected JSON"),
            _ => Fault::NotJson(crate::text::excerpt(&self.content_type)),
        })
    }
}

impl fmt::Display for Fault {
    /// The form used in `Requests to Testkube have failed since 14:02 UTC (HTTP 503 × 31)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status) => write!(f, "HTTP {status}"),
            Fault::Said(status, words) => write!(f, "HTTP {status}: {words}"),
            Fault::NoConnection => f.write_str("connection refused or broken"),
            Fault::NoAnswer => f.write_str("no answer in time"),
            Fault::Reset => f.write_str("connection broken during the answer"),
            Fault::Refused => f.write_str(
                "refused by Envoy itself: DNS does not know the cluster's host, no host is healthy, or the cluster's limits are reached",
            ),
            Fault::UnknownCluster(name) => write!(f, "Envoy has no cluster `{name}`"),
            Fault::Lost => f.write_str("call lost"),
            Fault::Stalled => f.write_str("Envoy's thread stalled"),
            Fault::TooLarge(size) => write!(f, "an answer of {} MiB", size >> 20),
            Fault::NotJson(content_type) if content_type.is_empty() => {
                f.write_str("an answer that is not JSON")
            }
            Fault::NotJson(content_type) => write!(f, "an answer that is not JSON ({content_type})"),
            Fault::Truncated => f.write_str("JSON cut off in the middle"),
            Fault::Unexpected(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
pub(crate) mod served;

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(headers: &[(&str, &str)]) -> Asks {
        let value = |name: &str| Some(headers.iter().find(|(n, _)| *n == name)?.1.to_string());
        Asks::of(value, Wall::parse("2026-01-23T16:44:00Z").unwrap())
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let wait = |text| asks(&[("retry-after", text)]).retry_after;
        assert_eq!(wait("60"), Some(Duration::from_secs(60)));
        assert_eq!(wait(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(wait("Fri, 23 Jan 2026 16:44:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Fri, 23 Jan 2026 16:43:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "+1", "1.5", "99999999999999999999"] {
            assert_eq!(wait(text), None, "{text}");
        }
        assert_eq!(asks(&[]), Asks::default());
    }

    #[test]
    fn a_date_is_compared_with_the_answers_own_clock() {
        let date =
            |date| asks(&[("retry-after", "Fri, 23 Jan 2026 16:45:30 GMT"), ("date", date)]).retry_after;
        assert_eq!(date("Fri, 23 Jan 2026 16:45:00 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(date("yesterday"), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_slow_wall_clock_does_not_stretch_a_retry_after_date() {
        let wait = |text| asks(&[("retry-after", text)]).retry_after;
        assert_eq!(wait("Fri, 23 Jan 2026 17:44:10 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Fri, 23 Jan 2026 16:44:10 GMT"), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_delay_is_seconds_with_a_fraction() {
        let delay = |text| asks(&[("x-ratelimit-delay", text)]).delayed.map(|d| d.as_millis());
        for (text, millis) in
            [("30", 30_000), ("0.125", 125), ("1.5", 1_500), (" 2.0009 ", 2_000), ("0.05", 50)]
        {
            assert_eq!(delay(text), Some(millis), "{text}");
        }
        for text in ["", "0", "0.000", ".", ".5", "1.é", "-1", "1e3", "long"] {
            assert_eq!(delay(text), None, "{text}");
        }
    }

    #[test]
    fn a_fault_in_a_body_is_named() {
        let response = |body: &str, content_type: &str| Response {
            status: 200,
            content_type: content_type.into(),
            asks: Asks::default(),
            from_envoy: false,
            body: Ok(body.as_bytes().to_vec()),
        };
        let fault =
            |body, content_type| response(body, content_type).json::<Vec<u32>>().unwrap_err().to_string();
        assert_eq!(fault("<html>", "text/html"), "an answer that is not JSON (text/html)");
        assert_eq!(fault("[1, 2", "application/json"), "JSON cut off in the middle");
        assert_eq!(fault("{}", "application/json"), "unexpected JSON");
        assert_eq!(response("[1]", "").json::<Vec<u32>>(), Ok(vec![1]));
    }
}
