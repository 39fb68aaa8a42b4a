//! A root context: reads the configuration, ticks, and passes calls and their answers between Envoy and the core.

use crate::host::{self, Metrics, SharedData};
use crate::resumed::{Paused, Resumed};
use crate::stream::Stream;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use testrelay::config::{Config, Passthrough};
use testrelay::lead::STALE;
use testrelay::store::ledger::{Ledger, Store, StoreError};
use testrelay::surface::accept::{self, CallerId, Counted};
use testrelay::surface::artifacts::{self, Downloads, VisitMemory};
use testrelay::surface::bodies::{Bodies, Cut, CutOff, FIRST_TICKS, Posted};
use testrelay::surface::evaluate::{self, Answered};
use testrelay::surface::{listing, preflight};
use testrelay::time::{Mono, Now};
use testrelay::wire::call::{CallId, CallOutcome, Fault, Request};
use testrelay::{Lead, Output};

const TICK: Duration = Duration::from_secs(1);

/// Maximum wait of a request for the answer to a call, in time and in ticks: longer than the call itself may take. Its
/// callback may never come.
const CALL_WAIT: Duration = Duration::from_secs(12);
const CALL_TICKS: u32 = 3;

/// One root context.
pub(crate) struct Root {
    pub(crate) context_id: u32,
    pub(crate) plugin: Option<Rc<Plugin>>,
    configured_at: Mono,
    lead: Option<Lead>,
    calls: BTreeMap<u32, (CallId, usize)>,
    /// Calls for exchanges that go on after a pause.
    pub(crate) resumed: Vec<Resumed>,
}

/// The state that a root context shares with its streams.
pub(crate) struct Plugin {
    pub(crate) config: Rc<Config>,
    /// The prefix of the instance's keys in shared data.
    pub(crate) prefix: String,
    /// The ledger, once it was opened.
    ledger: OnceCell<Ledger>,
    pub(crate) metrics: Metrics,
    /// Streams that wait for the answer to a call.
    pub(crate) waiting: RefCell<BTreeMap<u32, Waiting>>,
    /// Streams whose exchange pauses, and until when.
    pub(crate) paused: RefCell<Vec<Paused>>,
    /// Streams that wait for a body or are reading one.
    bodies: RefCell<Bodies>,
    /// Whether a piece of a body is known to have come in this process.
    has_bodies: Cell<bool>,
    /// Number of streams that had to give way since the last tick, and the sender of the last one.
    crowded: Cell<(u32, Option<CallerId>)>,
    /// Testkube's answers to requests by tag.
    pub(crate) memory: RefCell<VisitMemory>,
    /// The downloads that are under way.
    pub(crate) downloads: Downloads,
    has_served: Cell<bool>,
}

/// What a stream waits for, since when, and for how many ticks.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    what: Awaited,
    since: Mono,
    ticks: u32,
}

/// An event that may never come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The answer to a call for artifacts.
    Call,
    /// The answers to an evaluation's calls.
    Evaluation,
    /// The cluster store.
    Acceptance,
    /// The other replicas' checks; asked for by this caller.
    Listing(CallerId),
    /// The answers to a preflight; asked for by this caller.
    Preflight(CallerId),
}

impl Plugin {
    /// The ledger. Opened on first use, not when the plugin is configured: a configuration must not depend on anything
    /// that differs between threads.
    ///
    /// # Errors
    /// The host's status.
    pub(crate) fn ledger(&self) -> Result<&Ledger, StoreError> {
        match self.ledger.get() {
            Some(ledger) => Ok(ledger),
            None => {
                let opened = Ledger::open(&mut SharedData, &self.prefix, host::random_bytes)?;
                Ok(self.ledger.get_or_init(|| opened))
            }
        }
    }

    /// Notes that a stream begins to wait.
    pub(crate) fn waits(&self, context: u32, what: Awaited) {
        self.waiting.borrow_mut().insert(context, Waiting { what, since: host::mono(), ticks: 0 });
    }

    /// Whether one more list of all replicas' checks, or preflight, may be made for this caller.
    pub(crate) fn has_room_to_list(&self, caller: CallerId) -> bool {
        let (mut all, mut own) = (0, 0);
        for waiting in self.waiting.borrow().values() {
            if let Awaited::Listing(of) | Awaited::Preflight(of) = waiting.what {
                all += 1;
                own += usize::from(of == caller);
            }
        }
        all < listing::MAX_LISTS && own < listing::MAX_LISTS_OF_ONE
    }

    /// Whether a stream still waits, so it has not been answered by the root context.
    pub(crate) fn is_waiting(&self, context: u32) -> bool {
        self.waiting.borrow().contains_key(&context)
    }

    /// Notes that a stream waits no longer. False if it did not wait, or was answered by the root context.
    pub(crate) fn waits_no_longer(&self, context: u32) -> bool {
        let waited = self.waiting.borrow_mut().remove(&context).is_some();
        self.paused.borrow_mut().retain(|paused| paused.stream != context);
        let read = self.bodies.borrow_mut().end(context);
        waited || read
    }

    /// Notes that a stream begins to wait for its body; `head` is the size of its headers in bytes. False if there is
    /// no room for it; then it is answered.
    pub(crate) fn awaits_body(&self, context: u32, caller: CallerId, posted: Posted, head: usize) -> bool {
        let cut = self.bodies.borrow_mut().begin(context, caller, posted, head);
        self.goes_on(cut)
    }

    /// Notes that `bytes` bytes of a stream's body are there. False if it is answered.
    pub(crate) fn has_of_body(&self, context: u32, bytes: usize) -> bool {
        if !self.has_bodies.replace(true) {
            // If another context has created the key already, there is nothing to add.
            let _created = SharedData.swap(&self.bodies_key(), None, b"1");
        }
        let grown = self.bodies.borrow_mut().grow(context, bytes);
        grown.is_some_and(|cut| self.goes_on(cut))
    }

    /// Answers the stream of the running callback if it is cut off. Returns false then.
    fn goes_on(&self, cut: Option<CutOff>) -> bool {
        let Some(cut) = cut else { return true };
        self.count(&cut);
        host::reply(&cut.reply());
        false
    }

    fn count(&self, cut: &CutOff) {
        if cut.why == Cut::Crowded {
            self.crowded.set((self.crowded.get().0.saturating_add(1), Some(cut.caller)));
        }
        if cut.posted != Posted::Hint {
            self.metrics.count_check(Counted::Refused);
        }
    }

    /// Whether a piece of a body has come in this process, to whichever VM.
    fn is_handed_over(&self) -> bool {
        let known = self.has_bodies.get() || matches!(SharedData.get(&self.bodies_key()), Ok(Some(_)));
        self.has_bodies.set(known);
        known
    }

    /// The key that has a value once a body has come: then this Envoy does hand bodies over.
    fn bodies_key(&self) -> String {
        format!("{}bodies", self.prefix)
    }
}

impl Root {
    /// A context without a configuration.
    pub(crate) fn new(context_id: u32) -> Root {
        Root {
            context_id,
            plugin: None,
            configured_at: Mono(0),
            lead: None,
            calls: BTreeMap::new(),
            resumed: Vec::new(),
        }
    }

    /// Starts the calls that a turn asks for. A call that Envoy refuses gets its outcome at once, because no callback
    /// comes for it.
    fn perform(&mut self, now: Now, outputs: Vec<Output>) {
        let (Some(plugin), Some(lead)) = (&self.plugin, &mut self.lead) else { return };
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Count(counter) => plugin.metrics.count(counter),
                Output::Listen => host::listen(&plugin.queue()),
                Output::Call(id, request) => match start(now, &request) {
                    Ok(token) => {
                        self.calls.insert(token, (id, request.max_body));
                    }
                    Err(fault) => {
                        queue.extend(lead.answer(now, &mut SharedData, id, &CallOutcome::Failed(fault)))
                    }
                },
            }
        }
    }

    /// Answers the streams that have waited too long.
    fn answer_waiting(&self, plugin: &Plugin, now: Now) {
        let mut late = Vec::new();
        plugin.waiting.borrow_mut().retain(|context, waiting| {
            waiting.ticks += 1;
            let is_late = match waiting.what {
                Awaited::Call => waiting.ticks > CALL_TICKS && now.mono.since(waiting.since) > CALL_WAIT,
                Awaited::Evaluation => now.mono.since(waiting.since) > evaluate::GIVEN_UP,
                Awaited::Acceptance => now.mono.since(waiting.since) > accept::GIVEN_UP,
                Awaited::Listing(_) => now.mono.since(waiting.since) > listing::GIVEN_UP,
                Awaited::Preflight(_) => now.mono.since(waiting.since) > preflight::GIVEN_UP,
            };
            if is_late {
                late.push((*context, waiting.what));
            }
            !is_late
        });
        let cut = plugin.bodies.borrow_mut().tick(|| plugin.is_handed_over());
        for cut in cut {
            if cut.why == Cut::Unread {
                log::warn!(
                    "no body came in {FIRST_TICKS} s: is `allow_on_headers_stop_iteration` set on the filter?"
                );
            }
            plugin.count(&cut);
            host::reply_to(cut.stream, self.context_id, &cut.reply());
        }
        if let (given_up @ 1.., Some(caller)) = plugin.crowded.take() {
            log::warn!(
                "{given_up} requests were dropped in the last second, because there were too many bodies; the last one came with the credential `{}`",
                caller.name(&plugin.config)
            );
        }
        for (context, what) in late {
            plugin.paused.borrow_mut().retain(|paused| paused.stream != context);
            let reply = match what {
                Awaited::Call => artifacts::lost(),
                Awaited::Evaluation => {
                    plugin.metrics.count_evaluation(Answered::Pending);
                    evaluate::lost()
                }
                Awaited::Acceptance => {
                    plugin.metrics.count_check(Counted::Refused);
                    accept::lost()
                }
                Awaited::Listing(_) => listing::lost(),
                Awaited::Preflight(_) => preflight::lost(),
            };
            host::reply_to(context, self.context_id, &reply);
        }
    }
}

impl Plugin {
    /// The queue through which hints wake the leader.
    pub(crate) fn queue(&self) -> String {
        format!("{}hints", self.prefix)
    }
}

/// Starts a call, unless the thread has stood still since the turn that asked for it: by now another context may lead,
/// and the claim on an event may have expired.
pub(crate) fn start(turn: Now, request: &Request) -> Result<u32, Fault> {
    match host::mono().since(turn.mono) < STALE {
        true => host::call(request),
        false => Err(Fault::Stalled),
    }
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        num_headers: usize,
        body_size: usize,
        _num_trailers: usize,
    ) {
        let now = host::now();
        if let Some(place) = self.resumed.iter().position(|resumed| resumed.token == token) {
            let resumed = self.resumed.swap_remove(place);
            let outcome = host::call_outcome(now, num_headers, body_size, resumed.max_body);
            return self.resumed_answered(now, resumed, &outcome);
        }
        let Some((id, max_body)) = self.calls.remove(&token) else { return };
        let outcome = host::call_outcome(now, num_headers, body_size, max_body);
        let outputs = self.lead.as_mut().map(|lead| lead.answer(now, &mut SharedData, id, &outcome));
        self.perform(now, outputs.unwrap_or_default());
    }
}

/// On deletion of the context, not in `on_done`: that export is removed from the built module, because Envoy would call
/// it for each download as well.
impl Drop for Root {
    fn drop(&mut self) {
        if let Some(lead) = &mut self.lead {
            lead.end(host::now(), &mut SharedData);
        }
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, _size: usize) -> bool {
        log::info!(
            "testrelay {} (git {}, rust {})",
            env!("CARGO_PKG_VERSION"),
            option_env!("TESTRELAY_GIT_REVISION").unwrap_or("unknown"),
            option_env!("TESTRELAY_RUST_VERSION").unwrap_or("unknown"),
        );
        true
    }

    /// Reads the configuration, the environment and the plugin's name, and nothing that could differ between threads: a
    /// configuration that only one of them refuses would be refused for ever (envoy#43751).
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = host::plugin_configuration();
        let config = match Config::parse(&text, &|name| std::env::var(name).ok()) {
            Ok(config) => config,
            Err(errors) => {
                log::error!("the plugin configuration is refused: {errors}");
                return false;
            }
        };
        if config.credentials.is_empty() {
            log::warn!(
                "insecure_no_auth: everybody who reaches this Envoy can start checks and read artifacts"
            );
        }
        for credential in config.credentials.iter().filter(|credential| credential.observe) {
            log::warn!(
                "OBSERVE ONLY: checks of the credential `{}` are always reported as succeeded",
                credential.name
            );
        }
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        for (entry, cluster) in
            config.azure_devops.iter().filter_map(|entry| Some((entry, entry.fallback.as_ref()?)))
        {
            log::info!(
                "{}: reports of a check whose token was accepted before and is refused later go through the fallback cluster `{cluster}`",
                entry.url()
            );
        }
        if config.passthrough == Passthrough::All && !config.credentials.is_empty() {
            log::info!(
                "passthrough is `all`: only checks need a credential, all other requests go on to Testkube"
            );
        }
        if cfg!(feature = "test-hooks") {
            log::warn!("a test build, without redaction: {config:?}");
        }
        let plugin_name = host::property("plugin_name");
        let prefix =
            testrelay::key_prefix(testrelay::instance(config.instance.as_deref(), plugin_name.as_deref()));
        self.configured_at = host::mono();
        self.plugin = Some(Rc::new(Plugin {
            downloads: Downloads::new(&config),
            config: Rc::new(config),
            prefix,
            ledger: OnceCell::new(),
            metrics: Metrics::define(),
            waiting: RefCell::default(),
            paused: RefCell::default(),
            bodies: RefCell::default(),
            has_bodies: Cell::default(),
            crowded: Cell::default(),
            memory: RefCell::default(),
            has_served: Cell::new(false),
        }));
        self.lead = None;
        host::tick_every(TICK);
        true
    }

    fn on_tick(&mut self) {
        let Some(plugin) = self.plugin.clone() else { return };
        let now = host::now();
        self.answer_waiting(&plugin, now);
        self.resume(&plugin, now);
        let lead = match &mut self.lead {
            Some(lead) => lead,
            None => match plugin.ledger() {
                Ok(ledger) => self.lead.insert(Lead::new(
                    plugin.config.clone(),
                    ledger.clone(),
                    host::random(),
                    self.configured_at,
                )),
                Err(status) => {
                    log::error!("shared data failed with status {}: this context cannot lead", status.0);
                    return;
                }
            },
        };
        if plugin.has_served.get() {
            lead.serves_requests();
        }
        let outputs = lead.tick(now, &mut SharedData);
        // The callback of a call that the core has given up may never come.
        self.calls.retain(|_, (id, _)| lead.waits_for(*id));
        self.perform(now, outputs);
    }

    /// Takes a hint's wake-up. The queue's items hold nothing: the hints are in shared data.
    fn on_queue_ready(&mut self, queue: u32) {
        host::empty(queue);
        let now = host::now();
        let outputs = self.lead.as_mut().map(|lead| lead.wake(now, &mut SharedData));
        self.perform(now, outputs.unwrap_or_default());
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        if let Some(plugin) = &self.plugin {
            plugin.has_served.set(true);
        }
        Some(Box::new(Stream::new(context_id, self.plugin.clone())))
    }
}
