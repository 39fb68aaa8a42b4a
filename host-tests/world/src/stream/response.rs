//! The response path: answers of the module, of Envoy and of an upstream, piece by piece.

use super::{Answer, By, has_route};
use crate::host::Pairs;
use crate::network::{OnItsWay, ROUTED, Routed, Way};
use crate::process::Process;
use crate::state::{Event, State};
use crate::vm::{Callback, VmId};
use fakes::{Reply, Response};
use std::collections::VecDeque;

/// A piece of an upstream's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Status and headers; whether that is all.
    Head(Response, bool),
    Body(Vec<u8>),
    End,
    /// The connection breaks.
    Break,
}

/// Envoy reads a body in pieces of at most this size.
const PIECE: usize = 64 << 10;

impl Process {
    /// The request goes on to the route's cluster: the shipped configuration has one route, for artifacts.
    pub(crate) fn stream_upstream(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let Some(request) = self.forwarded(number) else { return };
        if !has_route(request.path()) {
            return self.envoy_answers(number, 404, "");
        }
        let mut state = self.state.borrow_mut();
        let State { own, network, now, .. } = &mut *state;
        own.rules.scan_call(*now, ROUTED, &request, &network.tokens);
        let Some(thread) = self.stream(number, |stream| stream.thread) else { return };
        let routed = state.route(number, thread, request);
        drop(state);
        match routed {
            Routed::Sent => {
                self.stream(number, |stream| stream.upstream = Some(ROUTED));
            }
            Routed::Overloaded => self.overloaded(number),
            Routed::NoConnection => self.upstream_fails(number, "connection termination"),
        }
    }

    /// A circuit breaker has opened.
    pub(crate) fn overloaded(&self, number: u64) {
        self.upstream_fails(number, "overflow");
    }

    /// The request reaches its upstream, which decides the reply. Outside of Envoy: no thread.
    pub(crate) fn stream_arrives(&self, number: u64) {
        let mut state = self.state.borrow_mut();
        let Some(OnItsWay { request, way }) = state.network.routed.remove(&number) else { return };
        if state.own.cut_off_from.contains(ROUTED) {
            return;
        }
        let thread = self.stream(number, |stream| stream.thread).unwrap_or_default();
        if way == Some(Way::NoConnection) {
            drop(state);
            self.stream(number, |stream| stream.coming = [(0, Part::Break)].into());
            return self.state.borrow_mut().after(0, Event::StreamPart { thread, stream: number });
        }
        let now = state.true_wall();
        let reply = state.network.handle(ROUTED, now, &request);
        state.trace_line(format_args!("request {number} reaches {ROUTED}: {:?}", reply.status()));
        let mut coming = parts(reply);
        match way {
            Some(Way::LostAnswer | Way::Silence) => return,
            Some(Way::ResetBeforeAnswer) => coming = [(0, Part::Break)].into(),
            // Half of the reply, at least the headers.
            Some(Way::ResetInAnswer) => {
                coming.truncate((coming.len() / 2).max(1));
                coming.push_back((0, Part::Break));
            }
            _ => {}
        }
        let latency = state.network.rules.get(ROUTED).map_or(0, |rule| rule.latency);
        let pause = latency + coming.front().map_or(0, |(pause, _)| *pause);
        self.stream(number, |stream| stream.coming = coming);
        state.after(pause, Event::StreamPart { thread, stream: number });
    }

    /// The next piece of an upstream's answer. Where the VM has fallen meanwhile, the stream fails at it (`CHECK_FAIL_HTTP`).
    pub(crate) fn stream_part(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let Some(Some((_, part))) = self.stream(number, |stream| stream.coming.pop_front()) else { return };
        self.moved(number);
        match part {
            Part::Head(response, end) => {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let headers = response.headers.iter().map(|(name, value)| (name.clone(), text(value)));
                self.begin_answer(number, By::Upstream, response.status, headers.collect(), end);
                if end && self.is_open(number) {
                    self.ends(number, true);
                }
            }
            Part::Body(bytes) => self.hand_over(number, bytes, false),
            Part::End => {
                self.hand_over(number, Vec::new(), true);
                if self.is_open(number) {
                    self.ends(number, true);
                }
            }
            Part::Break => match self.stream(number, |stream| stream.begun.is_some()) {
                Some(true) => self.cut(number),
                _ => self.upstream_fails(number, "connection termination"),
            },
        }
        let next =
            self.stream(number, |stream| stream.coming.front().map(|(pause, _)| (*pause, stream.thread)));
        if let Some(Some((pause, thread))) = next.filter(|_| self.is_open(number)) {
            self.state.borrow_mut().after(pause, Event::StreamPart { thread, stream: number });
        }
    }

    /// The module's own reply; it passes the module's response callbacks too, unless it is given in these: then Envoy sends it
    /// as it is (`DownstreamFilterManager::sendDirectLocalReply`).
    pub(crate) fn local_reply(&self, vm: VmId, context: u32, status: u16, headers: Pairs, body: Vec<u8>) {
        let Some(number) = self.streams.borrow().of(vm, context) else { return };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers: Vec<(String, String)> =
            headers.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        {
            let mut state = self.state.borrow_mut();
            let place = format!("the answer to request {number}");
            state.scan(&place, &body);
            for (_, value) in &headers {
                state.scan(&place, value.as_bytes());
            }
        }
        if self.stream(number, |stream| stream.in_answer_headers) == Some(true) {
            let at = self.state.borrow().now;
            let begun = Answer { status, headers, body, by: By::Module, is_complete: false, at };
            self.stream(number, |stream| stream.begun = Some(begun));
            return self.ends(number, true);
        }
        self.answer(number, By::Module, status, headers, body);
    }

    /// Envoy's own reply. Once an answer has begun, it can only break it off.
    pub(crate) fn envoy_answers(&self, number: u64, status: u16, body: &str) {
        match self.stream(number, |stream| stream.begun.is_some()) {
            Some(true) => self.cut(number),
            _ => self.answer(number, By::Envoy, status, Vec::new(), body.into()),
        }
    }

    /// The stream's VM has fallen (`failStream`: `wasm_fail_stream`).
    pub(super) fn fails(&self, number: u64) {
        self.envoy_answers(number, 503, "");
    }

    fn upstream_fails(&self, number: u64, reason: &str) {
        let body =
            format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
        let overloaded = reason == "overflow";
        let headers = overloaded.then(|| ("x-envoy-overloaded".to_string(), "true".to_string()));
        self.answer(number, By::Envoy, 503, headers.into_iter().collect(), body.into_bytes());
    }

    fn answer(&self, number: u64, by: By, status: u16, headers: Vec<(String, String)>, body: Vec<u8>) {
        if !self.is_open(number) {
            return;
        }
        let end = body.is_empty();
        self.begin_answer(number, by, status, headers, end);
        if !end && self.is_open(number) {
            self.hand_over(number, body, true);
        }
        if self.is_open(number) {
            self.ends(number, true);
        }
    }

    /// The headers of an answer, through the module where its VM lives. An upstream's answer needs it to live.
    fn begin_answer(&self, number: u64, by: By, status: u16, headers: Vec<(String, String)>, end: bool) {
        let living = self.lives(number);
        if living.is_none() && by == By::Upstream {
            return self.fails(number);
        }
        let at = self.state.borrow().now;
        let mut all: Pairs = vec![(b":status".to_vec(), status.to_string().into_bytes())];
        all.extend(
            headers.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())),
        );
        let begun = Answer { status, headers, body: Vec::new(), by, is_complete: false, at };
        let Some((vm, context)) = living else {
            self.stream(number, |stream| stream.begun = Some(begun));
            return;
        };
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        self.with(vm, |host| host.stream(context).map(|stream| stream.response_headers = Some(all)));
        self.stream(number, |stream| stream.in_answer_headers = true);
        let called = self.call(vm, Callback::ResponseHeaders { context, headers: count, end });
        self.stream(number, |stream| stream.in_answer_headers = false);
        match called {
            Some(_) if !self.is_open(number) => return,
            Some(action) => self.never_pauses(action),
            // This reply replaces the one that Envoy or the module had under way.
            None => return self.stream_falls_in_its_answer(number),
        }
        let left =
            self.with(vm, |host| host.stream(context).and_then(|stream| stream.response_headers.take()));
        let headers = left.flatten().map_or(begun.headers.clone(), texts);
        self.stream(number, |stream| stream.begun = Some(Answer { headers, ..begun }));
    }

    /// The VM fell over the answer's headers: the client gets a 503 in its place.
    fn stream_falls_in_its_answer(&self, number: u64) {
        let at = self.state.borrow().now;
        let begun = Answer {
            status: 503,
            headers: Vec::new(),
            body: Vec::new(),
            by: By::Envoy,
            is_complete: false,
            at,
        };
        self.stream(number, |stream| stream.begun = Some(begun));
        self.ends(number, true);
    }

    /// A piece of an answer's body, through the module.
    fn hand_over(&self, number: u64, bytes: Vec<u8>, end: bool) {
        if let Some((vm, context)) = self.lives(number) {
            let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let body = bytes.clone();
            self.with(vm, |host| host.stream(context).map(|stream| stream.response_body = Some(body)));
            match self.call(vm, Callback::ResponseBody { context, size, end }) {
                Some(action) => self.never_pauses(action),
                None => return self.cut(number),
            }
            self.with(vm, |host| host.stream(context).map(|stream| stream.response_body = None));
        } else if self.stream(number, |stream| stream.upstream.is_some()) == Some(true) {
            return self.cut(number);
        }
        self.stream(number, |stream| stream.begun.as_mut().map(|begun| begun.body.extend(bytes)));
    }

    fn never_pauses(&self, action: u32) {
        if action != 0 {
            let text = "the module pauses an answer, which this host does not have".to_string();
            self.state.borrow_mut().violation("host", text);
        }
    }

    /// `proxy_close_stream`: the stream is reset.
    pub(crate) fn close_stream(&self, vm: VmId, context: u32) {
        let number = self.streams.borrow().of(vm, context);
        if let Some(number) = number {
            self.cut(number);
        }
    }

    /// The connection is closed, inside an answer or before any.
    pub(crate) fn cut(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let at = self.state.borrow().now;
        let nothing = Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            by: By::Envoy,
            is_complete: false,
            at,
        };
        self.stream(number, |stream| stream.begun.get_or_insert(nothing).is_complete = false);
        self.ends(number, false);
    }

    pub(crate) fn client_gone(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let at = self.state.borrow().now;
        let nothing = Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            by: By::Nobody,
            is_complete: false,
            at,
        };
        self.stream(number, |stream| {
            let begun = stream.begun.get_or_insert(nothing);
            (begun.by, begun.is_complete) = (By::Nobody, false);
        });
        self.ends(number, false);
    }

    /// Nothing more comes: the client has its answer, and the stream's context ends.
    fn ends(&self, number: u64, is_complete: bool) {
        let living = self.lives(number);
        let now = self.state.borrow().now;
        let ended = self.stream(number, |stream| {
            stream.answer = stream.begun.take().map(|begun| Answer { is_complete, at: now, ..begun });
            stream.chunks.clear();
            stream.coming.clear();
            stream.buffered.clear();
            (stream.upstream.take(), stream.context, stream.answer.clone())
        });
        let Some((upstream, context, Some(answer))) = ended else { return };
        if let Some(context) = context {
            self.streams.borrow_mut().by_context.remove(&context);
        }
        {
            let mut state = self.state.borrow_mut();
            let whole = if is_complete { "" } else { ", broken off" };
            let (status, by, size) = (answer.status, answer.by, answer.body.len());
            state.trace_line(format_args!("request {number} gets {status} from {by:?}, {size} bytes{whole}"));
            if upstream.is_some() {
                state.routed_ends(number);
                state.counts.add(if is_complete { "download: complete" } else { "download: broken off" });
            }
        }
        let Some((vm, context)) = living else { return };
        for callback in [Callback::Log { context }, Callback::Done { context }, Callback::Delete { context }]
        {
            if self.call(vm, callback).is_none() {
                return;
            }
        }
        self.with(vm, |host| host.contexts.remove(&context));
    }
}

/// The headers as the module has left them, without the pseudo headers.
fn texts(pairs: Pairs) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = pairs.iter().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| !name.starts_with(':')).collect()
}

/// How an upstream's reply arrives: the parts, and the pause before each in microseconds.
fn parts(reply: Reply) -> VecDeque<(u64, Part)> {
    let whole = |response: Response, size: usize, pause: u64, ends: bool| -> VecDeque<(u64, Part)> {
        let body = response.body.clone();
        let is_all = body.is_empty() && ends;
        let mut parts = VecDeque::from([(0, Part::Head(Response { body: Vec::new(), ..response }, is_all))]);
        parts.extend(body.chunks(size.max(1)).map(|piece| (pause, Part::Body(piece.to_vec()))));
        match (ends, is_all) {
            (true, true) => {}
            (true, false) => parts.push_back((0, Part::End)),
            (false, _) => parts.push_back((0, Part::Break)),
        }
        parts
    };
    match reply {
        Reply::Answer(response) => whole(response, PIECE, 0, true),
        Reply::After { millis, reply } => {
            let mut parts = parts(*reply);
            if let Some(first) = parts.front_mut() {
                first.0 += millis * 1_000;
            }
            parts
        }
        Reply::Reset => [(0, Part::Break)].into(),
        Reply::Truncated { mut response, bytes } => {
            response.body.truncate(bytes);
            whole(response, PIECE, 0, false)
        }
        Reply::Dribble { response, chunk, millis } => whole(response, chunk, millis * 1_000, true),
    }
}
