//! HTTP as plain values: a request, its answer, and how the answer fails on its way.
//!
//! Nothing here knows a socket or a clock, so that the same state machine serves a real listener
//! ([`Server`](crate::Server)) and a simulation in virtual time.

/// One request, as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method in upper case.
    pub method: String,
    /// Raw `path?query`, exactly as on the wire: never decoded, never normalised.
    pub target: String,
    /// Names in lower case; values as raw bytes, which need not be UTF-8.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body, chunks already joined.
    pub body: Vec<u8>,
    /// The number of the connection it came on.
    pub connection: u64,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), ..Self::default() }
    }

    /// The same request with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }

    /// The same request with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of a header, by its lower-case name; bytes outside UTF-8 become U+FFFD.
    pub fn value(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }

    /// Whether it is a call of a preflight, which belongs to no check and may come at any time.
    pub(crate) fn is_preflight(&self) -> bool {
        self.value("user-agent").is_some_and(|agent| agent.ends_with(" (preflight)"))
    }

    /// The raw path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The raw query, without its question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// One answer.
///
/// A `transfer-encoding: chunked` header says that the answer goes out without Content-Length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer with this status and nothing else.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An answer with a body of the given content type.
    pub fn with_body(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(status).header("content-type", content_type) }
    }

    /// The same answer with this header set; an earlier value is replaced.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.into(), value.as_bytes().to_vec()));
        self
    }

    /// The first value of a header, by its lower-case name; bytes outside UTF-8 become U+FFFD.
    pub fn value(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }

    /// Whether the answer goes out in chunks, without Content-Length.
    pub fn is_chunked(&self) -> bool {
        self.value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    /// What HEAD gets: the same headers, with the length that GET would have had, and no body.
    pub fn without_body(mut self) -> Self {
        if !self.is_chunked() && self.value("content-length").is_none() {
            let length = self.body.len().to_string();
            self = self.header("content-length", &length);
        }
        self.body.clear();
        self
    }
}

/// The outcome of a request: an answer, or a way in which it fails to arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The whole answer, at once.
    Answer(Response),
    /// Nothing for a while, then the reply.
    After {
        /// The delay.
        millis: u64,
        /// What follows the delay.
        reply: Box<Reply>,
    },
    /// The connection is closed before any byte of an answer.
    Reset,
    /// The answer promises its whole length, and the connection is closed inside the body.
    Truncated {
        /// The answer as it should have been.
        response: Response,
        /// The number of bytes of the body that are sent.
        bytes: usize,
    },
    /// The body comes in small pieces.
    Dribble {
        /// The answer, complete in the end.
        response: Response,
        /// Bytes in a piece.
        chunk: usize,
        /// The pause between two pieces.
        millis: u64,
    },
}

impl Reply {
    /// The status that the client sees; `None` when the connection is reset before it.
    pub fn status(&self) -> Option<u16> {
        self.response().map(|response| response.status)
    }

    /// The answer inside, whatever happens to it on its way; `None` for a reset.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Answer(response) | Self::Truncated { response, .. } | Self::Dribble { response, .. } => {
                Some(response)
            }
            Self::After { reply, .. } => reply.response(),
            Self::Reset => None,
        }
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}

/// A server without sockets: a state machine that gets the time from its caller.
pub trait Service {
    /// Handles one request at `now` (Unix milliseconds).
    fn handle(&mut self, now: i64, request: &Request) -> Reply;
}

/// A request that a fake got, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When, in Unix milliseconds.
    pub at: i64,
    /// The request as it arrived.
    pub request: Request,
    /// The status of the answer; `None` when the connection was reset instead.
    pub status: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_the_raw_bytes_on_both_sides_of_the_first_question_mark() {
        let request = Request::new("GET", "/a%2Fb//c?x=%3D?&y");
        assert_eq!(request.path(), "/a%2Fb//c");
        assert_eq!(request.query(), "x=%3D?&y");
    }

    #[test]
    fn head_keeps_the_length_of_the_body_it_does_not_get() {
        let head = Response::with_body(200, "text/plain", "hello").without_body();
        assert_eq!(head.value("content-length").as_deref(), Some("5"));
        assert!(head.body.is_empty());
        assert_eq!(head.clone().without_body(), head);
    }

    #[test]
    fn a_reply_knows_its_status_through_a_delay() {
        let late = Reply::After { millis: 5, reply: Box::new(Response::new(204).into()) };
        assert_eq!(late.status(), Some(204));
        assert_eq!(Reply::Reset.status(), None);
    }
}
