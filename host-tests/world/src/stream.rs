//! HTTP streams: from a client's request through the module to its answer.

use crate::host::{Context, Pairs, Stream as HostStream};
use crate::network::{Outcome, outcome};
use crate::process::Process;
use crate::state::{Event, MILLISECOND};
use crate::vm::{Callback, VmId};
use fakes::Request;
use std::collections::BTreeMap;

/// Who answered a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The module, by a local reply.
    Module,
    /// Envoy in its place.
    Envoy,
    /// Testkube, through the module.
    Upstream,
    /// Nobody: the client went away first.
    Nobody,
}

/// What a client got.
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
    /// When, in microseconds of the monotonic clock.
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
    listener: String,
    /// An open connection stays with the plugin that it began with while that drains.
    pub(crate) plugin: Option<usize>,
    request: Request,
    chunks: Vec<(u64, Vec<u8>)>,
    context: Option<(VmId, u32)>,
    is_paused: bool,
    paused_at_headers: bool,
    buffered: Vec<u8>,
    body_ended: bool,
    pub(crate) answer: Option<Answer>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) all: BTreeMap<u64, Stream>,
    last: u64,
}

impl Streams {
    /// A request that has not begun; its body comes in pieces, each so many microseconds after the one before.
    pub(crate) fn add(
        &mut self,
        listener: &str,
        thread: usize,
        plugin: Option<usize>,
        mut request: Request,
        chunks: Vec<(u64, Vec<u8>)>,
    ) -> u64 {
        self.last += 1;
        request.body.clear();
        let stream = Stream {
            thread,
            listener: listener.into(),
            plugin,
            request,
            body_ended: chunks.is_empty(),
            chunks,
            context: None,
            is_paused: false,
            paused_at_headers: false,
            buffered: Vec::new(),
            answer: None,
        };
        self.all.insert(self.last, stream);
        self.last
    }

    fn of(&self, vm: VmId, context: u32) -> Option<u64> {
        let mut found = self.all.iter().filter(|(_, stream)| stream.answer.is_none());
        found.find(|(_, stream)| stream.context == Some((vm, context))).map(|(number, _)| *number)
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

    pub(crate) fn stream_begins(&self, thread: usize, number: u64) {
        let Some((listener, pinned)) = self.stream(number, |s| (s.listener.clone(), s.plugin)) else {
            return;
        };
        let held = |plugin: &usize| self.plugins.borrow().all[*plugin].holders > 0;
        let plugin =
            pinned.filter(held).or_else(|| self.plugins.borrow().serving.get(&(listener, thread)).copied());
        let Some(plugin) = plugin else { return self.envoy_answers(number, 503, "no listener") };
        self.stream(number, |stream| stream.plugin = Some(plugin));
        let idle = self.settings.stream_idle_timeout;
        self.state.borrow_mut().after(idle, Event::StreamIdle { thread, stream: number });
        let Some((vm, root)) = self.root_for_request(thread, plugin) else {
            return self.envoy_answers(number, 503, "wasm_fail_stream");
        };
        let Some((headers, end)) =
            self.stream(number, |stream| (pairs(&stream.request), stream.chunks.is_empty()))
        else {
            return;
        };
        let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        let host = HostStream { root, request_headers: headers, ..HostStream::default() };
        let Some(context) = self.next_context(vm, Context::Stream(host)) else { return };
        self.stream(number, |stream| stream.context = Some((vm, context)));
        let action = self
            .call(vm, Callback::ContextCreate { context, parent: root })
            .and_then(|_| self.call(vm, Callback::RequestHeaders { context, headers: count, end }));
        let Some(action) = action else { return self.envoy_answers(number, 503, "wasm_fail_stream") };
        if !self.is_open(number) {
            return;
        }
        self.stream(number, |stream| {
            stream.is_paused = action != 0;
            stream.paused_at_headers = action != 0;
        });
        let delays: Vec<u64> = self
            .stream(number, |stream| stream.chunks.iter().map(|(delay, _)| *delay).collect())
            .unwrap_or_default();
        let mut at = 0;
        let mut state = self.state.borrow_mut();
        for (chunk, delay) in delays.into_iter().enumerate() {
            at += delay;
            state.after(at, Event::StreamBody { thread, stream: number, chunk });
        }
        if end && action == 0 {
            state.after(5 * MILLISECOND, Event::StreamUpstream { thread, stream: number });
        }
    }

    /// A piece of the body. Paused at its headers, a stream gets body callbacks only with
    /// `allow_on_headers_stop_iteration`; a buffer over its limit is Envoy's 413.
    pub(crate) fn stream_body(&self, number: u64, chunk: usize) {
        if !self.is_open(number) {
            return;
        }
        let Some((plugin, paused, at_headers, thread)) =
            self.stream(number, |s| (s.plugin, s.is_paused, s.paused_at_headers, s.thread))
        else {
            return;
        };
        let (size, end) = self
            .stream(number, |stream| {
                let end = chunk + 1 == stream.chunks.len();
                let bytes = stream.chunks[chunk].1.clone();
                if !stream.is_paused {
                    stream.buffered.clear();
                }
                stream.buffered.extend(bytes);
                stream.body_ended |= end;
                (stream.buffered.len(), end)
            })
            .unwrap_or_default();
        if paused && size > self.settings.buffer_limit {
            return self.envoy_answers(number, 413, "Payload Too Large");
        }
        let Some((vm, context)) = self.lives(number) else {
            // A paused stream of a fallen VM stays silent; one that streams is cut at its next piece.
            if !paused {
                self.envoy_answers(number, 503, "wasm_fail_stream");
            }
            return;
        };
        let allow =
            plugin.is_some_and(|p| self.plugins.borrow().all[p].filter.allow_on_headers_stop_iteration);
        if at_headers && !allow {
            return;
        }
        let body = self.stream(number, |stream| stream.buffered.clone());
        self.with(vm, |host| host.stream(context).map(|stream| stream.request_body = body));
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match self.call(vm, Callback::RequestBody { context, size, end }) {
            None => self.envoy_answers(number, 503, "wasm_fail_stream"),
            Some(action) if self.is_open(number) => {
                self.stream(number, |stream| {
                    stream.is_paused = action != 0;
                    stream.paused_at_headers &= action != 0;
                });
                if action == 0 && end {
                    self.state
                        .borrow_mut()
                        .after(5 * MILLISECOND, Event::StreamUpstream { thread, stream: number });
                }
            }
            Some(_) => {}
        }
    }

    /// `proxy_continue_stream`: what was held back goes on.
    pub(crate) fn continue_request(&self, vm: VmId, context: u32) {
        let Some(number) = self.streams.borrow().of(vm, context) else { return };
        let go = self.stream(number, |stream| {
            (stream.is_paused, stream.paused_at_headers) = (false, false);
            (stream.body_ended, stream.thread)
        });
        if let Some((true, thread)) = go {
            self.state.borrow_mut().after(5 * MILLISECOND, Event::StreamUpstream { thread, stream: number });
        }
    }

    /// The request goes on to the route's cluster: the shipped configuration has one route, for artifacts.
    pub(crate) fn stream_upstream(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let Some((vm, context)) = self.lives(number) else {
            return self.envoy_answers(number, 503, "wasm_fail_stream");
        };
        let Some(Some(headers)) =
            self.with(vm, |host| host.stream(context).map(|stream| stream.request_headers.clone()))
        else {
            return;
        };
        let mut request = self.stream(number, |stream| stream.request.clone()).unwrap_or_default();
        request.headers.clear();
        for (name, value) in headers {
            let name = String::from_utf8_lossy(&name).into_owned();
            match name.as_str() {
                ":path" => request.target = String::from_utf8_lossy(&value).into_owned(),
                ":method" => request.method = String::from_utf8_lossy(&value).into_owned(),
                ":authority" => request = request.header("host", &String::from_utf8_lossy(&value)),
                _ if name.starts_with(':') => {}
                _ => request.headers.push((name, value)),
            }
        }
        if !has_route(request.path()) {
            return self.envoy_answers(number, 404, "");
        }
        let mut state = self.state.borrow_mut();
        for (name, value) in &request.headers {
            state.scan(&format!("a request that goes on to Testkube ({name})"), value);
        }
        let now = state.true_wall();
        let reply = state.network.handle("testkube", now, &request);
        drop(state);
        match outcome(reply).1 {
            Outcome::Answer(response) => {
                let headers = response
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()));
                let at = self.state.borrow().now;
                let answer = Answer {
                    status: response.status,
                    headers: headers.collect(),
                    body: response.body,
                    by: By::Upstream,
                    at,
                };
                self.stream_ends(number, answer);
            }
            Outcome::NoConnection | Outcome::Broken => {
                self.envoy_answers(number, 503, "upstream connect error")
            }
        }
    }

    /// Nothing moved for `stream_idle_timeout`.
    pub(crate) fn stream_idle(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let ended = self.stream(number, |stream| stream.body_ended) == Some(true);
        match (self.lives(number), ended) {
            // The reply passes the filter, whose VM is dead: 503.
            (None, _) => {
                self.state.borrow_mut().counts.add("paused request of a fallen VM: 503 at the idle timeout");
                self.envoy_answers(number, 503, "stream timeout");
            }
            (Some(_), true) => {
                let text = format!("request {number} was complete and nobody answered it");
                self.state.borrow_mut().violation("7", text);
                self.envoy_answers(number, 504, "stream timeout");
            }
            (Some(_), false) => self.envoy_answers(number, 408, "stream timeout"),
        }
    }

    pub(crate) fn client_gone(&self, number: u64) {
        if self.is_open(number) {
            let at = self.state.borrow().now;
            let answer = Answer { status: 0, headers: Vec::new(), body: Vec::new(), by: By::Nobody, at };
            self.stream_ends(number, answer);
        }
    }

    /// The module's own reply; it passes the module's response callbacks too.
    pub(crate) fn local_reply(&self, vm: VmId, context: u32, status: u16, headers: Pairs, body: Vec<u8>) {
        let Some(number) = self.streams.borrow().of(vm, context) else { return };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers = headers.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let at = self.state.borrow().now;
        self.stream_ends(number, Answer { status, headers, body, by: By::Module, at });
    }

    fn envoy_answers(&self, number: u64, status: u16, body: &str) {
        let at = self.state.borrow().now;
        let answer = Answer { status, headers: Vec::new(), body: body.into(), by: By::Envoy, at };
        self.stream_ends(number, answer);
    }

    fn stream_ends(&self, number: u64, answer: Answer) {
        let living = self.lives(number);
        {
            let mut state = self.state.borrow_mut();
            let place = format!("the answer to request {number}");
            state.trace_line(format_args!("request {number} gets {} from {:?}", answer.status, answer.by));
            if answer.by == By::Module {
                state.scan(&place, &answer.body);
                for (_, value) in &answer.headers {
                    state.scan(&place, value.as_bytes());
                }
            }
        }
        let (status, size) = (answer.status, answer.body.len());
        let (headers, body) = (answer.headers.clone(), answer.body.clone());
        self.stream(number, |stream| {
            stream.answer = Some(answer);
            stream.chunks.clear();
        });
        let Some((vm, context)) = living else { return };
        if status > 0 {
            let mut all: Pairs = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            all.extend(headers.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())));
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            self.with(vm, |host| {
                if let Some(stream) = host.stream(context) {
                    (stream.response_headers, stream.response_body) = (all, Some(body));
                }
            });
            let end = size == 0;
            self.call(vm, Callback::ResponseHeaders { context, headers: count, end });
            if !end {
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                self.call(vm, Callback::ResponseBody { context, size, end: true });
            }
        }
        for callback in [Callback::Log { context }, Callback::Done { context }, Callback::Delete { context }]
        {
            if self.call(vm, callback).is_none() {
                return;
            }
        }
        self.with(vm, |host| host.contexts.remove(&context));
    }
}

fn pairs(request: &Request) -> Pairs {
    let authority = request.value("host").unwrap_or_else(|| "testrelay.example".into());
    let mut pairs: Pairs = [
        (":method", request.method.as_str()),
        (":path", request.target.as_str()),
        (":authority", authority.as_str()),
        (":scheme", "https"),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .into();
    let others = request.headers.iter().filter(|(name, _)| name != "host");
    pairs.extend(others.map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.clone())));
    pairs
}

/// The route of `envoy/envoy.yaml`.
fn has_route(path: &str) -> bool {
    let rest = path.strip_prefix("/v1/test-workflow-executions/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(id, what)| {
        !id.is_empty()
            && (matches!(what, "artifacts" | "artifact-archive" | "logs") || what.starts_with("artifacts/"))
    })
}
