//! HTTP streams: from a client's request through the module to its answer.

pub(crate) mod connection;
mod request;
mod response;

use crate::host::Pairs;
use crate::process::Process;
use crate::vm::VmId;
use connection::Connection;
use fakes::Request;
use response::Part;
use std::collections::{BTreeMap, VecDeque};

/// Who answered a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The module, by a local reply.
    Module,
    /// Envoy in its place. Status 0: it closed the connection, because a listener's drain or the process had ended.
    Envoy,
    /// Testkube, through the module.
    Upstream,
    /// Nobody: the client disconnected first.
    Nobody,
}

/// The answer that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 where nobody answered.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who answered.
    pub by: By,
    /// Whether the answer is complete; false if the connection broke inside it.
    pub is_complete: bool,
    /// When it ended, in microseconds of the monotonic clock.
    pub at: u64,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request of a client.
pub(crate) struct Stream {
    pub(crate) thread: usize,
    pub(crate) connection: u64,
    /// The version of the listener that it goes through.
    generation: Option<usize>,
    request: Request,
    chunks: Vec<(u64, Vec<u8>)>,
    /// Whether its body ends with trailers, right after the last piece.
    trailers: bool,
    context: Option<(VmId, u32)>,
    is_paused: bool,
    paused_at_headers: bool,
    buffered: Vec<u8>,
    body_ended: bool,
    /// The request's headers as the module forwarded them; from then on it cannot read them.
    forwarded: Option<Pairs>,
    /// The parts of an upstream's answer that are on their way, each with the pause before it.
    coming: VecDeque<(u64, Part)>,
    /// Whether it waits for, or gets, an answer through this cluster.
    upstream: Option<&'static str>,
    /// What the client has received of an answer that has begun.
    pub(crate) begun: Option<Answer>,
    /// The module looks at an answer's headers: a reply that it gives now takes the answer's place.
    in_answer_headers: bool,
    /// When anything moved last.
    moved_at: u64,
    pub(crate) answer: Option<Answer>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) all: BTreeMap<u64, Stream>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// Streams that have no answer yet, by their context.
    by_context: BTreeMap<(VmId, u32), u64>,
    last: u64,
    last_connection: u64,
}

impl Streams {
    /// A request that has not begun. Its body comes in pieces, each with its delay after the one before in microseconds,
    /// perhaps with trailers at the end.
    pub(crate) fn add(
        &mut self,
        connection: u64,
        mut request: Request,
        chunks: Vec<(u64, Vec<u8>)>,
        trailers: bool,
    ) -> Option<u64> {
        let thread = self.connections.get(&connection)?.thread;
        self.last += 1;
        request.body.clear();
        let stream = Stream {
            thread,
            connection,
            generation: None,
            request,
            body_ended: chunks.is_empty() && !trailers,
            chunks,
            trailers,
            context: None,
            is_paused: false,
            paused_at_headers: false,
            buffered: Vec::new(),
            forwarded: None,
            coming: VecDeque::new(),
            upstream: None,
            begun: None,
            in_answer_headers: false,
            moved_at: 0,
            answer: None,
        };
        self.all.insert(self.last, stream);
        Some(self.last)
    }

    fn of(&self, vm: VmId, context: u32) -> Option<u64> {
        self.by_context.get(&(vm, context)).copied()
    }
}

impl Process {
    fn stream<R>(&self, number: u64, then: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        self.streams.borrow_mut().all.get_mut(&number).map(then)
    }

    fn is_open(&self, number: u64) -> bool {
        self.stream(number, |stream| stream.answer.is_none()) == Some(true)
    }

    /// Whether the stream's context still is in a VM that runs.
    fn lives(&self, number: u64) -> Option<(VmId, u32)> {
        let (vm, context) = self.stream(number, |stream| stream.context)??;
        (self.with(vm, |host| host.stream(context).is_some()) == Some(true)).then_some((vm, context))
    }

    /// Something moved: restarts the idle timeout.
    fn moved(&self, number: u64) {
        let now = self.state.borrow().now;
        self.stream(number, |stream| stream.moved_at = now);
    }
}

/// The route of `envoy/envoy.yaml`.
fn has_route(path: &str) -> bool {
    let rest = path.strip_prefix("/v1/test-workflow-executions/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(id, what)| {
        !id.is_empty()
            && (matches!(what, "artifacts" | "artifact-archive" | "logs") || what.starts_with("artifacts/"))
    })
}
