//! Calls that are answered by the fakes, for tests.

use super::{Asks, CallOutcome, Fault, Request, Response};
use crate::time::{Wall, millis};
use fakes::Reply;

/// A call's request as it arrives at a fake.
pub(crate) fn request_of(request: &Request) -> fakes::Request {
    let wire = fakes::Request::new(request.method, &request.path)
        .header("host", &request.authority)
        .body(request.body.clone());
    request.headers.iter().fold(wire, |wire, (name, value)| wire.header(name, value))
}

/// A call's outcome, and its delay in milliseconds.
pub(crate) fn outcome_of(request: &Request, reply: Reply) -> (u64, CallOutcome) {
    let timeout = millis(request.timeout);
    match outcome(reply, request.max_body) {
        (wait, _) if wait >= timeout => (timeout, CallOutcome::Response(own_answer(504))),
        (wait, outcome) => (wait, outcome),
    }
}

fn outcome(reply: Reply, max_body: usize) -> (u64, CallOutcome) {
    match reply {
        Reply::Answer(response) => (0, answer(&response, max_body)),
        Reply::After { millis, reply } => {
            let (wait, outcome) = outcome(*reply, max_body);
            (wait + millis, outcome)
        }
        Reply::Reset => (0, CallOutcome::Response(own_answer(503))),
        Reply::Truncated { .. } => (0, CallOutcome::Failed(Fault::Reset)),
        Reply::Dribble { response, chunk, millis } => {
            let chunks = u64::try_from(response.body.len() / chunk.max(1)).unwrap();
            (chunks * millis, answer(&response, max_body))
        }
    }
}

fn answer(response: &fakes::Response, max_body: usize) -> CallOutcome {
    CallOutcome::Response(Response {
        status: response.status,
        content_type: response.value("content-type").unwrap_or_default().to_string(),
        asks: Asks::of(|name| response.value(name), Wall::default()),
        from_envoy: false,
        body: if response.body.len() > max_body {
            Err(response.body.len())
        } else {
            Ok(response.body.clone())
        },
    })
}

fn own_answer(status: u16) -> Response {
    Response {
        status,
        content_type: "text/plain".into(),
        asks: Asks::default(),
        from_envoy: true,
        body: Ok(b"upstream".to_vec()),
    }
}
