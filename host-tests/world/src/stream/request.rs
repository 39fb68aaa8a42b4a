//! The request path: headers and body through the module, until it is answered or forwarded.

use super::{Stream, has_route};
use crate::host::Pairs;
use crate::host::{Context, Stream as HostStream};
use crate::process::Process;
use crate::state::{Event, MILLISECOND};
use crate::vm::{Callback, VmId};
use fakes::Request;

/// How long a forwarded request takes to reach the connection pool.
const TO_THE_POOL: u64 = 5 * MILLISECOND;

impl Process {
    pub(crate) fn stream_begins(&self, thread: usize, number: u64) {
        let Some(connection) = self.stream(number, |stream| stream.connection) else { return };
        let Some(generation) = self.generation_of(connection) else { return self.cut(number) };
        self.stream(number, |stream| stream.generation = Some(generation));
        let plugin = self.plugins.borrow().generations[generation].plugin;
        self.moved(number);
        self.state.borrow_mut().after(0, Event::StreamIdle { thread, stream: number });
        let Some((vm, root)) = self.root_for_request(thread, plugin) else {
            return self.envoy_answers(number, 503, "");
        };
        let Some((headers, end)) = self.stream(number, |stream| (pairs(&stream.request), stream.body_ended))
        else {
            return;
        };
        let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        let host = HostStream { root, request_headers: Some(headers), ..HostStream::default() };
        let Some(context) = self.next_context(vm, Context::Stream(host)) else { return };
        self.stream(number, |stream| stream.context = Some((vm, context)));
        self.streams.borrow_mut().by_context.insert((vm, context), number);
        let action = self
            .call(vm, Callback::ContextCreate { context, parent: root })
            .and_then(|_| self.call(vm, Callback::RequestHeaders { context, headers: count, end }));
        let Some(action) = action else { return self.fails(number) };
        if !self.is_open(number) {
            return;
        }
        self.stream(number, |stream| {
            stream.is_paused = action != 0;
            stream.paused_at_headers = action != 0;
        });
        if action == 0 {
            self.forward(number);
        }
        let (delays, trailers): (Vec<u64>, bool) = self
            .stream(number, |stream| {
                (stream.chunks.iter().map(|(delay, _)| *delay).collect(), stream.trailers)
            })
            .unwrap_or_default();
        let mut at = 0;
        let mut state = self.state.borrow_mut();
        for (chunk, delay) in delays.into_iter().enumerate() {
            at += delay;
            state.after(at, Event::StreamBody { thread, stream: number, chunk });
        }
        if trailers {
            state.after(at, Event::StreamTrailers { thread, stream: number });
        }
        if end && action == 0 {
            state.after(TO_THE_POOL, Event::StreamUpstream { thread, stream: number });
        }
    }

    /// A piece of the body. Paused at its headers, a stream gets body callbacks only with
    /// `allow_on_headers_stop_iteration`; a buffer over its limit is Envoy's 413.
    pub(crate) fn stream_body(&self, number: u64, chunk: usize) {
        if !self.is_open(number) {
            return;
        }
        self.moved(number);
        let Some(paused) = self.stream(number, |stream| stream.is_paused) else { return };
        let (size, end) = self
            .stream(number, |stream| {
                let end = chunk + 1 == stream.chunks.len() && !stream.trailers;
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
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.stream_callback(number, end, |context| Callback::RequestBody { context, size, end });
    }

    /// The end of a body by trailers. If it goes on, everything that was held back goes with it
    /// (`commonHandleAfterTrailersCallback`).
    pub(crate) fn stream_trailers(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        self.moved(number);
        self.stream(number, |stream| stream.body_ended = true);
        self.stream_callback(number, true, |context| Callback::RequestTrailers { context, trailers: 1 });
    }

    fn stream_callback(&self, number: u64, end: bool, callback: impl Fn(u32) -> Callback) {
        let Some((generation, at_headers, thread)) =
            self.stream(number, |s| (s.generation, s.paused_at_headers, s.thread))
        else {
            return;
        };
        let allow = generation.is_some_and(|generation| {
            let plugins = self.plugins.borrow();
            plugins.all[plugins.generations[generation].plugin].filter.allow_on_headers_stop_iteration
        });
        if at_headers && !allow {
            return;
        }
        // A stream of a fallen VM fails at its next callback, paused or not; without one it stays silent.
        let Some((vm, context)) = self.lives(number) else { return self.fails(number) };
        let body = self.stream(number, |stream| stream.buffered.clone());
        self.with(vm, |host| host.stream(context).map(|stream| stream.request_body = body));
        match self.call(vm, callback(context)) {
            None => self.fails(number),
            Some(action) if self.is_open(number) => {
                self.stream(number, |stream| {
                    stream.is_paused = action != 0;
                    stream.paused_at_headers &= action != 0;
                });
                if action == 0 {
                    self.forward(number);
                    if end {
                        let event = Event::StreamUpstream { thread, stream: number };
                        self.state.borrow_mut().after(TO_THE_POOL, event);
                    }
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
        self.forward(number);
        if let Some((true, thread)) = go {
            self.state.borrow_mut().after(TO_THE_POOL, Event::StreamUpstream { thread, stream: number });
        }
    }

    /// The headers leave the module: Envoy no longer returns them (`Context::decodeHeaders`).
    fn forward(&self, number: u64) {
        let Some((vm, context)) = self.lives(number) else { return };
        let headers = self.with(vm, |host| host.stream(context).and_then(|s| s.request_headers.take()));
        if let Some(Some(headers)) = headers {
            self.stream(number, |stream| stream.forwarded = Some(headers));
        }
    }

    /// Nothing moved for `stream_idle_timeout`, or the route's own `idle_timeout`. The reply passes the filter: where its VM
    /// is dead, that makes it a 503.
    pub(crate) fn stream_idle(&self, number: u64) {
        if !self.is_open(number) {
            return;
        }
        let Some((thread, moved_at, has_route)) =
            self.stream(number, |s| (s.thread, s.moved_at, has_route(s.request.path())))
        else {
            return;
        };
        let timeout = match has_route {
            true => self.settings.route_idle_timeout,
            false => self.settings.stream_idle_timeout,
        };
        if self.state.borrow().now < moved_at + timeout {
            let event = Event::StreamIdle { thread, stream: number };
            return self.state.borrow_mut().at(moved_at + timeout, event);
        }
        let (ended, waits) =
            self.stream(number, |stream| (stream.body_ended, stream.upstream.is_some())).unwrap_or_default();
        match (self.lives(number), ended) {
            (None, _) => {
                self.state.borrow_mut().counts.add("paused request of a fallen VM: 503 at the idle timeout");
                self.envoy_answers(number, 503, "");
            }
            (Some(_), true) => {
                // If its thread stalled, or was in a callback when the time was over, the stream had no chance to give up
                // what it waits for.
                let state = self.state.borrow();
                let was_busy = state.now > moved_at + timeout;
                let stood_still = was_busy || state.own.rules.has_stalled_since(thread, moved_at);
                drop(state);
                if !waits && !stood_still {
                    let text = format!("request {number} was complete and nobody answered it");
                    self.state.borrow_mut().violation("answers", text);
                }
                self.envoy_answers(number, 504, "stream timeout");
            }
            (Some(_), false) => self.envoy_answers(number, 408, "stream timeout"),
        }
    }

    /// The request as the module lets it go on.
    pub(super) fn forwarded(&self, number: u64) -> Option<Request> {
        self.stream(number, |Stream { request, forwarded, .. }| {
            let mut request = Request { headers: Vec::new(), ..request.clone() };
            for (name, value) in forwarded.take()? {
                let name = String::from_utf8_lossy(&name).into_owned();
                match name.as_str() {
                    ":path" => request.target = String::from_utf8_lossy(&value).into_owned(),
                    ":method" => request.method = String::from_utf8_lossy(&value).into_owned(),
                    ":authority" => request = request.header("host", &String::from_utf8_lossy(&value)),
                    _ if name.starts_with(':') => {}
                    _ => request.headers.push((name, value)),
                }
            }
            Some(request)
        })?
    }
}

/// With what Envoy's connection manager adds before any filter sees them (`use_remote_address`).
fn pairs(request: &Request) -> Pairs {
    let authority = request.value("host").unwrap_or_else(|| "testrelay.example".into());
    let mut pairs: Pairs = [
        (":method", request.method.as_str()),
        (":path", request.target.as_str()),
        (":authority", authority.as_str()),
        (":scheme", "https"),
        ("x-envoy-external-address", "192.0.2.7"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7d0f9a52-3c1e-4b7a-9f60-0a1b2c3d4e5f"),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .into();
    let others = request.headers.iter().filter(|(name, _)| name != "host");
    pairs.extend(others.map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.clone())));
    pairs
}
