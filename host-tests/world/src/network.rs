//! The network between Envoy and the servers: rules per cluster over the stateful fakes.

use crate::pool::{Limits, Place, User};
use crate::random::Random;
use crate::rules::Tokens;
use crate::state::{Event, MILLISECOND, State};
use crate::vm::VmId;
use fakes::{AzureDevOps, Kubernetes, Reply, Request, Response, Service, Testkube};
use std::collections::BTreeMap;

/// `http.async_response_buffer_limit`: a larger answer is a reset after its headers.
const MAX_ANSWER: usize = 32 << 20;

/// The cluster that requests for artifacts go to: the shipped configuration's.
pub(crate) const ROUTED: &str = "testkube";

/// The cluster of the Kubernetes API server.
pub(crate) const KUBERNETES: &str = "kubernetes";

/// The header that names the calling process to the simulated API server, for the rules' sake. No Envoy sends it.
pub(crate) const CALLER: &str = "x-simulated-process";

/// How one cluster treats calls.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The minimum time to the server, and again back, in microseconds.
    pub latency: u64,
    /// The most that chance adds to it, in microseconds.
    pub jitter: u64,
    /// One call in this number fails, in one of the ways below; 0: none.
    pub fails: u64,
    /// The ways, drawn evenly.
    pub ways: Vec<Way>,
    /// Whether Envoy knows the cluster (BadArgument if not).
    pub is_known: bool,
    /// Its circuit breakers.
    pub limits: Limits,
}

/// Whether a cluster leads to Azure DevOps. A test may have several of them, all to the same one.
pub(crate) fn is_azure_devops(cluster: &str) -> bool {
    cluster.starts_with("azure-devops")
}

/// How a call, or a request for an artifact, fails on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Refused at once, as where no host is healthy: InternalFailure, and no callback.
    Refused,
    /// No connection: Envoy's own 503; the server knows nothing of it.
    NoConnection,
    /// The request took effect, then the connection broke before the answer: Envoy's own 503.
    ResetBeforeAnswer,
    /// The request took effect, and the connection broke inside the answer: a callback without headers.
    ResetInAnswer,
    /// The request never arrives: Envoy's own 504 at the timeout.
    LostRequest,
    /// The request took effect, and its answer never comes: Envoy's own 504 at the timeout.
    LostAnswer,
    /// The request took effect, and nobody is called back, ever. No Envoy is known to do so; the module must survive it all
    /// the same.
    Silence,
}

impl Way {
    /// All of them that an Envoy is known to have.
    pub const ALL: [Way; 6] = [
        Way::Refused,
        Way::NoConnection,
        Way::ResetBeforeAnswer,
        Way::ResetInAnswer,
        Way::LostRequest,
        Way::LostAnswer,
    ];
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            latency: 2_500,
            jitter: 20 * MILLISECOND,
            fails: 0,
            ways: Way::ALL.into(),
            is_known: true,
            limits: Limits::default(),
        }
    }
}

/// A call that the module wants to make.
pub(crate) struct Outgoing {
    pub(crate) process: u32,
    pub(crate) vm: VmId,
    pub(crate) thread: usize,
    pub(crate) root: u32,
    /// The context that makes it: the root context, or one of its streams.
    pub(crate) context: u32,
    /// The module's instance that the root context belongs to.
    pub(crate) instance: String,
    /// When the callback that makes it began.
    pub(crate) callback_began: u64,
    pub(crate) token: u32,
    pub(crate) cluster: String,
    pub(crate) request: Request,
    /// In microseconds; 0: none at all.
    pub(crate) timeout: u64,
}

impl Outgoing {
    /// Whether a stream makes it, and not a root context in its ticks and answers.
    pub(crate) fn is_of_a_stream(&self) -> bool {
        self.context != self.root
    }
}

/// Envoy's immediate answer to it.
pub(crate) enum Dispatch {
    UnknownCluster,
    Refused,
    Sent,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) outgoing: Outgoing,
    pub(crate) started: u64,
    way: Option<Way>,
    back: u64,
    /// When it reached its server, in Unix milliseconds.
    pub(crate) reached_at: Option<i64>,
    /// What the module will be handed: headers and body; no headers where the connection broke.
    pub(crate) answer: Option<Response>,
    /// Whether an upstream sent the answer.
    pub(crate) from_upstream: bool,
}

impl Call {
    /// Whether nobody is called back.
    pub(crate) fn is_silent(&self) -> bool {
        self.way == Some(Way::Silence)
    }

    /// When its timeout comes, if it has one.
    pub(crate) fn ends(&self) -> u64 {
        self.started.saturating_add(match self.outgoing.timeout {
            0 => u64::MAX / 2,
            timeout => timeout,
        })
    }
}

/// A client's request that Envoy forwards to its route.
pub(crate) struct OnItsWay {
    pub(crate) request: Request,
    pub(crate) way: Option<Way>,
}

/// Envoy's immediate decision about it.
pub(crate) enum Routed {
    Sent,
    Overloaded,
    NoConnection,
}

/// Clusters, servers, calls under way.
pub(crate) struct Network {
    pub(crate) testkube: Testkube,
    pub(crate) azure: AzureDevOps,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) calls: BTreeMap<u64, Call>,
    /// Forwarded requests that have not reached their upstream yet, by stream.
    pub(crate) routed: BTreeMap<u64, OnItsWay>,
    /// Every VM traps that reads an answer with this text.
    pub(crate) poison: Option<String>,
    /// The tokens that Azure DevOps has issued.
    pub(crate) tokens: Tokens,
    last_call: u64,
}

impl Network {
    pub(crate) fn new(testkube: Testkube, azure: AzureDevOps, kubernetes: Kubernetes) -> Network {
        let clusters = ["testkube", "azure-devops", KUBERNETES];
        let rules = clusters.map(|name| (name.to_string(), Rule::default()));
        Network {
            testkube,
            azure,
            kubernetes,
            rules: rules.into(),
            calls: BTreeMap::new(),
            routed: BTreeMap::new(),
            poison: None,
            tokens: Tokens::default(),
            last_call: 0,
        }
    }

    /// A server answers.
    pub(crate) fn handle(&mut self, cluster: &str, now: i64, request: &Request) -> Reply {
        match cluster {
            "testkube" => self.testkube.handle(now, request),
            KUBERNETES => self.kubernetes.handle(now, request),
            _ => self.azure.handle(now, request),
        }
    }

    /// The calls under way of a process.
    pub(crate) fn in_flight(&self, process: u32) -> usize {
        self.calls.values().filter(|call| call.outgoing.process == process).count()
    }
}

impl State {
    /// The module makes a call. The rules are checked now, because nobody can stop a thread that stalls before Envoy sends
    /// the request.
    pub(crate) fn asks_for_call(&mut self, outgoing: &Outgoing) {
        if self.network.rules.get(&outgoing.cluster).is_some_and(|rule| rule.is_known) {
            self.own.rules.call_starts(self.now, outgoing);
        }
    }

    /// Envoy `context.cc` `httpCall`, from the cluster's look-up on.
    pub(crate) fn dispatch(&mut self, mut outgoing: Outgoing) -> Dispatch {
        let Some(rule) = self.network.rules.get(&outgoing.cluster).filter(|rule| rule.is_known).cloned()
        else {
            self.counts.add("call: unknown cluster");
            self.own.rules.call_refused(&outgoing);
            return Dispatch::UnknownCluster;
        };
        let way = self.way(&outgoing.cluster, &rule);
        self.trace.line(
            self.now,
            format_args!(
                "call {} of {} vm {} root {} thread {}: {} {} {}{}",
                outgoing.token,
                outgoing.instance,
                outgoing.vm.0,
                outgoing.root,
                outgoing.thread,
                outgoing.cluster,
                outgoing.request.method,
                outgoing.request.target,
                way.map(|way| format!(" [{way:?}]")).unwrap_or_default(),
            ),
        );
        if way == Some(Way::Refused) {
            self.counts.add("call: Refused");
            self.own.rules.call_refused(&outgoing);
            return Dispatch::Refused;
        }
        if !outgoing.request.body.is_empty() || outgoing.request.method != "GET" {
            let length = outgoing.request.body.len().to_string();
            outgoing.request = outgoing.request.header("content-length", &length);
        }
        let expected = (outgoing.timeout / MILLISECOND).to_string();
        outgoing.request = outgoing
            .request
            .header("x-envoy-internal", "true")
            .header("x-envoy-expected-rq-timeout-ms", &expected);
        // Which process asks shows nowhere else once the request is on its way.
        if outgoing.cluster == KUBERNETES {
            outgoing.request = outgoing.request.header(CALLER, &outgoing.process.to_string());
        }
        let number = self.network.last_call + 1;
        let (started, thread, cluster) = (self.now, outgoing.thread, outgoing.cluster.clone());
        let timeout = outgoing.timeout;
        let place = self.place(&cluster, User::Call(number), thread);
        // The client's own 503 comes before the call has a name: nobody is called back (`AsyncClientImpl::send`).
        if place == Place::Overflow {
            self.own.rules.call_refused(&outgoing);
            return Dispatch::Refused;
        }
        self.network.last_call = number;
        let call =
            Call { outgoing, started, way, back: 0, reached_at: None, answer: None, from_upstream: false };
        self.network.calls.insert(number, call);
        match place {
            Place::Goes => self.send(number),
            _ if timeout > 0 => self.after(timeout, Event::CallWaited { call: number }),
            _ => {}
        }
        Dispatch::Sent
    }

    /// A call has its connection.
    pub(crate) fn send(&mut self, number: u64) {
        let Some(call) = self.network.calls.get(&number) else { return };
        let rule = self.network.rules.get(&call.outgoing.cluster).cloned().unwrap_or_default();
        let (way, thread, ends) = (call.way, call.outgoing.thread, call.ends());
        let there = rule.latency + self.random.below(rule.jitter);
        let back = rule.latency + self.random.below(rule.jitter);
        if let Some(call) = self.network.calls.get_mut(&number) {
            call.back = back;
        }
        match way {
            Some(Way::NoConnection) => {
                self.network.settle(number, 503);
                self.after(there, Event::CallDone { thread, call: number });
            }
            Some(Way::LostRequest) => {
                self.network.settle(number, 504);
                self.at(ends, Event::CallDone { thread, call: number });
            }
            _ => self.after(there, Event::Arrive { call: number }),
        }
    }

    /// A call's timeout comes while it waits for a connection.
    pub(crate) fn call_waited(&mut self, number: u64) {
        let Some(call) = self.network.calls.get(&number) else { return };
        let (cluster, thread) = (call.outgoing.cluster.clone(), call.outgoing.thread);
        if self.is_waiting(&cluster, User::Call(number)) {
            self.release(&cluster, User::Call(number));
            self.network.settle(number, 504);
            self.after(0, Event::CallDone { thread, call: number });
        }
    }

    /// A call has waited for a connection and may not use it: `max_requests` is reached.
    pub(crate) fn overflows(&mut self, number: u64) {
        self.network.settle(number, 503);
        if let Some(call) = self.network.calls.get_mut(&number) {
            call.answer = call.answer.take().map(|answer| answer.header("x-envoy-overloaded", "true"));
            let thread = call.outgoing.thread;
            self.after(0, Event::CallDone { thread, call: number });
        }
    }

    /// A client's request is forwarded to its route.
    pub(crate) fn route(&mut self, stream: u64, thread: usize, request: Request) -> Routed {
        let rule = self.network.rules.get(ROUTED).cloned().unwrap_or_default();
        let way = self.way(ROUTED, &rule);
        if way == Some(Way::Refused) {
            return Routed::NoConnection;
        }
        match self.place(ROUTED, User::Stream(stream), thread) {
            Place::Overflow => return Routed::Overloaded,
            place => {
                self.network.routed.insert(stream, OnItsWay { request, way });
                if place == Place::Goes {
                    self.send_routed(stream);
                }
            }
        }
        Routed::Sent
    }

    /// It has its connection.
    pub(crate) fn send_routed(&mut self, stream: u64) {
        let rule = self.network.rules.get(ROUTED).cloned().unwrap_or_default();
        let there = rule.latency + self.random.below(rule.jitter);
        match self.network.routed.get(&stream).and_then(|routed| routed.way) {
            Some(Way::LostRequest) => {}
            _ => self.after(there, Event::StreamArrives { stream }),
        }
    }

    /// A client's request has its answer, or no longer needs one.
    pub(crate) fn routed_ends(&mut self, stream: u64) {
        self.network.routed.remove(&stream);
        self.release(ROUTED, User::Stream(stream));
    }

    /// A request reaches its server.
    pub(crate) fn arrive(&mut self, number: u64) {
        if self.is_lost_on_its_way(number) {
            return;
        }
        let now = self.true_wall();
        let Some(call) = self.network.calls.get(&number) else { return };
        let (cluster, request) = (call.outgoing.cluster.clone(), call.outgoing.request.clone());
        let (way, back, thread) = (call.way, call.back, call.outgoing.thread);
        let ends = call.ends();
        if call.outgoing.is_of_a_stream() {
            self.own.rules.stream_asks(&request.target, now);
        }
        if let Some(call) = self.network.calls.get_mut(&number) {
            call.reached_at = Some(now);
        }
        self.own.rules.scan_call(self.now, &cluster, &request, &self.network.tokens);
        let reply = self.network.handle(&cluster, now, &request);
        self.trace.line(self.now, format_args!("{cluster} gets call {number}: {:?}", reply.status()));
        let (wait, outcome) = outcome(reply);
        if let (true, Outcome::Answer(answer)) = (is_azure_devops(&cluster), &outcome) {
            self.own.rules.azure_answers(&request, answer);
        }
        let at = self.now.saturating_add(wait).saturating_add(back);
        let (own, response) = match (way, outcome) {
            (Some(Way::LostAnswer | Way::Silence), _) => (Some(504), None),
            (Some(Way::ResetBeforeAnswer), _) | (_, Outcome::NoConnection) => (Some(503), None),
            (Some(Way::ResetInAnswer), _) | (_, Outcome::Broken) => (None, None),
            (_, Outcome::Answer(response)) if response.body.len() > MAX_ANSWER => (None, None),
            (_, Outcome::Answer(response)) => (None, Some(response)),
        };
        let (own, response, at) = if own == Some(504) || at >= ends {
            (Some(504), None, ends.max(self.now))
        } else {
            (own, response, at)
        };
        match (own, response) {
            (Some(status), _) => self.network.settle(number, status),
            (None, Some(response)) => {
                if let Some(call) = self.network.calls.get_mut(&number) {
                    let took = (at.saturating_sub(call.started) / MILLISECOND).to_string();
                    call.answer = Some(response.header("x-envoy-upstream-service-time", &took));
                    call.from_upstream = true;
                }
            }
            (None, None) => {}
        }
        self.at(at, Event::CallDone { thread, call: number });
        if self.own.is_killed {
            self.network.calls.remove(&number);
        }
    }
}

impl Network {
    /// Envoy answers instead of the server, without `x-envoy-upstream-service-time`.
    pub(crate) fn settle(&mut self, number: u64, status: u16) {
        let body = match status {
            504 => "upstream request timeout",
            _ => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            }
        };
        if let Some(call) = self.calls.get_mut(&number) {
            let length = body.len().to_string();
            call.answer =
                Some(Response::with_body(status, "text/plain", body).header("content-length", &length));
        }
    }
}

/// How a fake's reply arrives at Envoy.
pub(crate) enum Outcome {
    Answer(Response),
    NoConnection,
    Broken,
}

/// After how many microseconds it is complete, and what it is then.
pub(crate) fn outcome(reply: Reply) -> (u64, Outcome) {
    match reply {
        Reply::Answer(response) => (0, Outcome::Answer(response)),
        Reply::After { millis, reply } => {
            let (wait, outcome) = outcome(*reply);
            (wait + millis * MILLISECOND, outcome)
        }
        Reply::Reset => (0, Outcome::NoConnection),
        Reply::Truncated { .. } => (0, Outcome::Broken),
        Reply::Dribble { response, chunk, millis } => {
            let chunks = u64::try_from(response.body.len() / chunk.max(1)).unwrap_or(u64::MAX);
            (chunks.saturating_mul(millis * MILLISECOND), Outcome::Answer(response))
        }
    }
}

/// The rule for a cluster's outage in a history.
pub fn outage(random: &mut Random) -> Rule {
    let ways = match random.below(4) {
        0 => Way::ALL.into(),
        2 => vec![Way::Silence, Way::NoConnection],
        1 => vec![Way::NoConnection, Way::Refused],
        _ => vec![Way::LostAnswer, Way::ResetBeforeAnswer, Way::ResetInAnswer],
    };
    Rule { fails: 1 + random.below(4), ways, ..Rule::default() }
}
