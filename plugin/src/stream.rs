//! An HTTP stream: takes checks, answers probes, and lets artifact requests through; those by tag once Testkube has
//! said where to.

use crate::host::{self, Header, HeaderMap, SharedData};
use crate::root::{Awaited, Plugin};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use testrelay::config::Credential;
use testrelay::surface::accept::{self, Acceptance, Admission, CallerId, Counted};
use testrelay::surface::artifacts::{self, Download, Forward, Visit};
use testrelay::surface::bodies::Posted;
use testrelay::surface::evaluate::{self, Evaluation};
use testrelay::surface::exchange::{Exchange, Step};
use testrelay::surface::listing::Form;
use testrelay::surface::problem::Reply;
use testrelay::surface::request::{Body, MAX_BODY};
use testrelay::surface::route::{Route, route};
use testrelay::surface::{drain, health, hint};
use testrelay::wire::call::CallOutcome;

/// One stream.
pub(crate) struct Stream {
    pub(crate) context_id: u32,
    plugin: Option<Rc<Plugin>>,
    state: State,
    /// The download that it holds until it ends.
    download: Option<Download>,
}

/// The progress of a stream.
enum State {
    /// Its headers have not come, or it belongs to another program.
    Open,
    /// It waits for, or reads, a request's body.
    Reading {
        /// The request's headers.
        headers: HeaderMap,
        /// Bytes of the body so far.
        size: usize,
        /// The kind of request.
        what: Posted,
    },
    /// It waits for answers.
    Asking { exchange: Box<Exchange>, calls: Vec<ExchangeCall> },
    /// A request by tag that has gone on to Testkube.
    Forwarded(Rc<Forward>),
    /// Answered.
    Answered,
}

/// A call under way for an exchange.
struct ExchangeCall {
    /// Envoy's number of the call.
    token: u32,
    /// The exchange's number of the call.
    number: usize,
    /// Maximum response body to copy, in bytes.
    max_body: usize,
}

impl Stream {
    /// A stream of a root context that was configured with `plugin`.
    pub(crate) fn new(context_id: u32, plugin: Option<Rc<Plugin>>) -> Stream {
        Stream { context_id, plugin, state: State::Open, download: None }
    }

    pub(crate) fn answer(&mut self, reply: &Reply) -> Action {
        host::reply(reply);
        self.state = State::Answered;
        Action::Pause
    }

    /// Takes a check by its headers, unless its body is needed.
    fn check(
        &mut self,
        plugin: &Plugin,
        headers: &[Header<'_>],
        end_of_stream: bool,
    ) -> Result<Action, CallerId> {
        if cfg!(feature = "test-hooks") {
            log::debug!("a test build, without redaction: {:?}", host::TextOf(headers));
        }
        match accept::admit(&plugin.config, headers, !end_of_stream) {
            Admission::Reply(reply) => {
                plugin.metrics.count_check(Counted::Refused);
                Ok(self.answer(&reply))
            }
            Admission::Ready => Ok(self.accept(plugin, headers, Body::None)),
            Admission::Unread => Ok(self.accept(plugin, headers, Body::Unread)),
            Admission::AwaitBody(caller) => Err(caller),
        }
    }

    /// Refuses an event by its headers, unless its body is needed.
    fn event(
        &mut self,
        plugin: &Plugin,
        headers: &[Header<'_>],
        end_of_stream: bool,
    ) -> Result<Action, CallerId> {
        match hint::admit(&plugin.config, headers, !end_of_stream) {
            Err(refusal) => Ok(self.answer(&refusal)),
            Ok(caller) => Err(caller),
        }
    }

    fn take_hint(&mut self, plugin: &Plugin, headers: &[Header<'_>], body: &[u8]) -> Action {
        let (reply, taken) =
            hint::take(&plugin.config, &plugin.prefix, &mut SharedData, host::now(), headers, body);
        if taken {
            plugin.metrics.count_hint();
            host::wake(&plugin.queue());
        }
        self.answer(&reply)
    }

    fn read_body(&mut self, plugin: &Plugin, headers: HeaderMap, caller: CallerId, what: Posted) -> Action {
        self.state = match plugin.awaits_body(self.context_id, caller, what, headers.bytes()) {
            true => State::Reading { headers, size: 0, what },
            false => State::Answered,
        };
        Action::Pause
    }

    /// Takes a body that has `size` bytes so far, or as many as before, and may be complete.
    fn body(&mut self, size: Option<usize>, is_whole: bool) -> Action {
        let Some(plugin) = self.plugin.clone() else { return Action::Continue };
        let (headers, size, what) = match std::mem::replace(&mut self.state, State::Answered) {
            State::Reading { headers, size: before, what } => (headers, size.unwrap_or(before), what),
            other => {
                let action = match other {
                    State::Open | State::Forwarded(_) => Action::Continue,
                    _ => Action::Pause,
                };
                self.state = other;
                return action;
            }
        };
        let (most, too_large) = match what {
            Posted::Hint => (hint::MAX_BODY, hint::too_large as fn() -> Reply),
            Posted::Check | Posted::Evaluation => (MAX_BODY, accept::too_large as fn() -> Reply),
        };
        if size > most {
            // The root context may have answered it already.
            if self.forget() {
                if what != Posted::Hint {
                    plugin.metrics.count_check(Counted::Refused);
                }
                host::reply(&too_large());
            }
            return Action::Pause;
        }
        if !plugin.has_of_body(self.context_id, size) {
            return Action::Pause;
        }
        if !is_whole {
            self.state = State::Reading { headers, size, what };
            return Action::Pause;
        }
        self.forget();
        let body = host::request_body(size);
        let headers = headers.pairs();
        match what {
            Posted::Check => self.accept(&plugin, &headers, Body::Read(&body)),
            Posted::Hint => self.take_hint(&plugin, &headers, &body),
            Posted::Evaluation => self.evaluate(&plugin, &headers, Body::Read(&body)),
        }
    }

    /// Begins an evaluation by its headers, unless its body is needed.
    fn evaluation(
        &mut self,
        plugin: &Plugin,
        headers: &[Header<'_>],
        end_of_stream: bool,
    ) -> Result<Action, CallerId> {
        match evaluate::admit(&plugin.config, headers, !end_of_stream) {
            Admission::Reply(reply) => {
                plugin.metrics.count_check(Counted::Refused);
                Ok(self.answer(&reply))
            }
            Admission::Ready => Ok(self.evaluate(plugin, headers, Body::None)),
            Admission::Unread => Ok(self.evaluate(plugin, headers, Body::Unread)),
            Admission::AwaitBody(caller) => Err(caller),
        }
    }

    fn evaluate(&mut self, plugin: &Plugin, headers: &[Header<'_>], body: Body<'_>) -> Action {
        let now = host::now();
        let ledger = match plugin.ledger() {
            Ok(ledger) => ledger,
            Err(status) => {
                plugin.metrics.count_evaluation(evaluate::Answered::Pending);
                return self.answer(&evaluate::unopened(status));
            }
        };
        match Evaluation::new(&plugin.config, ledger, now, headers, body) {
            Ok(evaluation) => {
                plugin.waits(self.context_id, Awaited::Evaluation);
                self.begin(plugin, Exchange::Evaluation(evaluation), headers)
            }
            Err(refusal) => {
                plugin.metrics.count_check(Counted::Refused);
                self.answer(&refusal)
            }
        }
    }

    pub(crate) fn begin(&mut self, plugin: &Plugin, mut new: Exchange, headers: &[Header<'_>]) -> Action {
        let step = new.begin(host::now(), &mut SharedData, &mut plugin.memory.borrow_mut());
        self.go_on(plugin, Box::new(new), Vec::new(), step, Some(headers))
    }

    /// Takes an exchange's next step: the request waits, is answered, or goes on. `headers`: the request's, if they
    /// have just been read.
    fn go_on(
        &mut self,
        plugin: &Plugin,
        mut exchange: Box<Exchange>,
        mut calls: Vec<ExchangeCall>,
        mut step: Step,
        headers: Option<&[Header<'_>]>,
    ) -> Action {
        // No callback comes for them.
        let mut refused = Vec::new();
        loop {
            match step {
                Step::Reply(reply, ended) => {
                    self.forget();
                    if let Some(ended) = ended {
                        plugin.metrics.count_ended(ended);
                    }
                    return self.answer(&reply);
                }
                // Its root context goes on with it, and answers.
                Step::Pause(until) => {
                    plugin.pause(self.context_id, until, exchange);
                    self.state = State::Answered;
                    return Action::Pause;
                }
                Step::Forward(forward) => {
                    self.forget();
                    return match headers {
                        Some(headers) => self.forward(plugin, headers, forward),
                        None => self.forward(plugin, &host::request_headers().pairs(), forward),
                    };
                }
                Step::Wait => {}
                Step::Call(requests) => {
                    for (number, request) in requests {
                        match host::call(&request) {
                            Ok(token) => {
                                calls.push(ExchangeCall { token, number, max_body: request.max_body });
                            }
                            Err(fault) => refused.push((number, fault)),
                        }
                    }
                }
            }
            let Some((number, fault)) = refused.pop() else {
                // Each call of a visit has its own time limit; the others have one from their beginning.
                if matches!(*exchange, Exchange::Visit(_)) {
                    plugin.waits(self.context_id, Awaited::Call);
                }
                self.state = State::Asking { exchange, calls };
                return Action::Pause;
            };
            let outcome = CallOutcome::Failed(fault);
            step = plugin.answer_to(host::now(), &mut exchange, number, &outcome);
        }
    }

    fn accept(&mut self, plugin: &Plugin, headers: &[Header<'_>], body: Body<'_>) -> Action {
        let (reply, counted) = match plugin.ledger() {
            Ok(ledger) if plugin.config.store.is_some() => {
                match Acceptance::new(&plugin.config, ledger, host::now(), headers, body, host::random()) {
                    Ok(acceptance) => {
                        plugin.waits(self.context_id, Awaited::Acceptance);
                        return self.begin(plugin, Exchange::Acceptance(Box::new(acceptance)), headers);
                    }
                    Err(refusal) => (refusal, Counted::Refused),
                }
            }
            Ok(ledger) => accept::accept(&plugin.config, ledger, &mut SharedData, host::now(), headers, body),
            Err(status) => accept::unopened(status),
        };
        plugin.metrics.count_check(counted);
        self.answer(&reply)
    }

    /// Lets a request for an artifact go on to Testkube, with its path untouched and its credentials removed.
    fn artifact(&mut self, plugin: &Plugin, headers: &[Header<'_>]) -> Action {
        let taken = artifacts::admit(&plugin.config, headers).and_then(|caller| self.take(plugin, caller));
        if let Err(refusal) = taken {
            return self.answer(&refusal);
        }
        if cfg!(feature = "test-hooks") {
            return Action::Continue;
        }
        for_testkube(plugin, headers);
        Action::Continue
    }

    /// Begins a request for artifacts by tag; `rest` is the part of its target after `artifacts/`.
    fn tagged(&mut self, plugin: &Plugin, headers: &[Header<'_>], rest: &[u8]) -> Action {
        let known = artifacts::known(&plugin.config, host::mono(), headers, rest, &plugin.memory.borrow())
            .map(|(caller, forward)| (caller, forward.clone()));
        let admitted = match &known {
            Some((caller, _)) => Ok(*caller),
            None => artifacts::admit_by_tag(&plugin.config, headers),
        };
        // Counted from here on, because a request that waits for Testkube's answers keeps them in memory.
        if let Err(refusal) = admitted.and_then(|caller| self.take(plugin, caller)) {
            return self.answer(&refusal);
        }
        if let Some((_, forward)) = known {
            return self.forward(plugin, headers, forward);
        }
        match Visit::new(&plugin.config, host::now(), headers, rest) {
            Ok(visit) => self.begin(plugin, Exchange::Visit(visit), headers),
            Err(refusal) => self.answer(&refusal),
        }
    }

    /// Counts a download of this credential.
    fn take(&mut self, plugin: &Plugin, caller: Option<&Credential>) -> Result<(), Reply> {
        self.download = Some(plugin.downloads.take(&plugin.config, caller)?);
        Ok(())
    }

    /// Lets a request by tag go on to its path at Testkube.
    fn forward(&mut self, plugin: &Plugin, headers: &[Header<'_>], forward: Rc<Forward>) -> Action {
        for_testkube(plugin, headers);
        host::set_request_header(":path", &forward.path);
        self.state = State::Forwarded(forward);
        Action::Continue
    }

    /// Lets another program's request go on as it is, but never with a check's token.
    fn pass_through(&mut self, headers: &[Header<'_>]) -> Action {
        if headers.iter().any(|(name, _)| *name == b"authtoken") {
            host::remove_request_header("authtoken");
        }
        Action::Continue
    }
}

impl Context for Stream {
    fn on_http_call_response(
        &mut self,
        token: u32,
        num_headers: usize,
        body_size: usize,
        _num_trailers: usize,
    ) {
        let Some(plugin) = self.plugin.clone() else { return };
        let (mut exchange, mut calls) = match std::mem::replace(&mut self.state, State::Answered) {
            State::Asking { exchange, calls } => (exchange, calls),
            other => {
                self.state = other;
                return;
            }
        };
        // A root context answers streams that wait too long, and removes them from the list.
        if !plugin.is_waiting(self.context_id) {
            return;
        }
        let Some(place) = calls.iter().position(|call| call.token == token) else {
            self.state = State::Asking { exchange, calls };
            return;
        };
        let call = calls.swap_remove(place);
        let now = host::now();
        let outcome = host::call_outcome(now, num_headers, body_size, call.max_body);
        let step = plugin.answer_to(now, &mut exchange, call.number, &outcome);
        if self.go_on(&plugin, exchange, calls, step, None) == Action::Continue {
            host::continue_request();
        }
    }
}

/// Removes the headers that Testkube must not see or does not need, and adds its own token.
fn for_testkube(plugin: &Plugin, headers: &[Header<'_>]) {
    for name in artifacts::to_take_off(headers) {
        host::remove_request_header(name);
    }
    if let Some(token) = &plugin.config.testkube.token {
        host::set_request_header("authorization", &format!("Bearer {}", token.reveal()));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        let Some(plugin) = self.plugin.clone() else {
            return self.answer(&Reply::problem(503, "Not configured", "This module has no configuration."));
        };
        // Read all at once: each call of the host costs as much as a download's whole path through this module.
        let map = host::request_headers();
        let headers = map.pairs();
        let value = |name: &str| {
            let found = headers.iter().find(|(own, _)| *own == name.as_bytes());
            found.map(|(_, value)| *value).unwrap_or_default()
        };
        let (method, path) = (value(":method"), value(":path"));
        if cfg!(feature = "test-hooks") && path == b"/test-hooks/trap" {
            std::process::abort();
        }
        match route(&plugin.config, method, path) {
            Route::Check => match self.check(&plugin, &headers, end_of_stream) {
                Ok(action) => action,
                Err(caller) => self.read_body(&plugin, map, caller, Posted::Check),
            },
            Route::Evaluate => match self.evaluation(&plugin, &headers, end_of_stream) {
                Ok(action) => action,
                Err(caller) => self.read_body(&plugin, map, caller, Posted::Evaluation),
            },
            Route::Event => match self.event(&plugin, &headers, end_of_stream) {
                Ok(action) => action,
                Err(caller) => self.read_body(&plugin, map, caller, Posted::Hint),
            },
            Route::Artifact => self.artifact(&plugin, &headers),
            Route::Tagged(rest) => self.tagged(&plugin, &headers, rest),
            Route::PassThrough => self.pass_through(&headers),
            Route::Drain => {
                self.answer(&drain::begin(&plugin.config, &mut SharedData, &plugin.prefix, &headers))
            }
            Route::Preflight => self.preflight(&plugin, &headers),
            Route::Health => self.answer(&health::healthy()),
            Route::Ready => self.answer(&health::ready(&mut SharedData, &plugin.prefix, host::now())),
            Route::Checks(None) if accept::carries_a_check(&headers) => {
                self.answer(&accept::wrong_method("GET, HEAD, POST", &headers))
            }
            Route::Checks(id) => self.checks(&plugin, &headers, (id, Form::Json)),
            Route::Page(id) => self.checks(&plugin, &headers, (id, Form::Page)),
            Route::WrongMethod(allow) => self.answer(&accept::wrong_method(allow, &headers)),
            Route::Blank(blank) => self.answer(&accept::blank_in_path(blank)),
            Route::Traversal => {
                let detail = "The path has a `.` or `..` segment, a backslash or a control character in some encoding.";
                self.answer(&Reply::problem(400, "Path refused", detail))
            }
            Route::Unknown => {
                let detail = "Testrelay has no such path. Post checks to <base path>/v1/checks; get artifacts at <base path>/v1/artifacts/<tag>.";
                self.answer(&Reply::problem(404, "Not found", detail))
            }
        }
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        self.body(Some(body_size), end_of_stream)
    }

    /// A body that ends by trailers never shows `end_of_stream`, and if there are only trailers no piece of it comes. A
    /// held-back request must not go on without the module's word: it carries the caller's credentials.
    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        self.body(None, true)
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let State::Forwarded(forward) = &self.state else { return Action::Continue };
        // Envoy sends this reply in place of the upstream's answer, and does not call this again for it.
        if let Some(refusal) = forward.refusal(host::response_status()) {
            return self.answer(&refusal);
        }
        for (name, value) in forward.answer_headers() {
            host::set_response_header(name, value);
        }
        Action::Continue
    }
}

/// Not in `on_done` or `on_log`: they are removed from the built module, because each callback of a download costs.
impl Drop for Stream {
    fn drop(&mut self) {
        self.forget();
        if let (Some(plugin), Some(download)) = (&self.plugin, self.download) {
            plugin.downloads.give_back(download);
        }
    }
}

impl Stream {
    /// Removes this stream from the list of waiting ones. False if it was not on it.
    fn forget(&self) -> bool {
        self.plugin.as_ref().is_some_and(|plugin| plugin.waits_no_longer(self.context_id))
    }
}
