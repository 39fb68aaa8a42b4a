//! A world: one Envoy process with the module in it, the two servers, and the clock, as a test drives them.

use crate::module::Code;
use crate::network::{Network, Rule};
use crate::pipeline::{PROJECT, Pipeline, USER, password};
use crate::plugins::Filter;
use crate::process::{Process, Settings};
use crate::rules::{MARK, Violation, check_name};
use crate::state::{Counts, Event, Interleaving, MILLISECOND, SECOND, START, State};
use crate::stream::Answer;
use crate::vm::TrapAt;
use anyhow::{Result, ensure};
use fakes::{AzureDevOps, Build, Database, Request, Stage, Testkube};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The listener that every world begins with.
pub const LISTENER: &str = "testrelay";

/// What a world is made of.
pub struct Setup {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// Workers beside the main thread.
    pub workers: usize,
    /// How long an old listener drains, in microseconds (Envoy: 600 s by default).
    pub drain: u64,
    /// Envoy's `stream_idle_timeout`, in microseconds; the shipped configuration has 30 s.
    pub stream_idle_timeout: u64,
    /// `per_connection_buffer_limit_bytes`; 1 MiB by default.
    pub buffer_limit: usize,
    /// `allow_on_headers_stop_iteration`.
    pub allow_on_headers_stop_iteration: bool,
    /// The plugin's configuration, as JSON.
    pub configuration: String,
    /// Listeners besides [`LISTENER`] with the same plugin: each is another plugin key.
    pub more_listeners: Vec<String>,
    /// The code; the module under test if none is given.
    pub code: Option<Code>,
    /// How often threads run in each other's midst.
    pub interleaving: Interleaving,
    /// Whether the trace is kept.
    pub trace: bool,
}

impl Setup {
    /// One worker, the shipped configuration's bounds, a quiet network.
    pub fn new(seed: u64) -> Setup {
        Setup {
            seed,
            workers: 1,
            drain: 600 * SECOND,
            stream_idle_timeout: 30 * SECOND,
            buffer_limit: 1 << 20,
            allow_on_headers_stop_iteration: true,
            configuration: configuration(0),
            more_listeners: Vec::new(),
            code: None,
            interleaving: Interleaving::default(),
            trace: false,
        }
    }

    /// Boots the process: canary, main thread, workers.
    ///
    /// # Errors
    /// There is no module, or it refuses the configuration.
    pub fn start(self) -> Result<World> {
        let code = match self.code {
            Some(code) => code,
            None => Code::testrelay()?,
        };
        let network = Network::new(Testkube::new(Database::Postgres), AzureDevOps::new("/fabrikam"));
        let mut state = State::new(self.seed, self.workers + 1, network, self.trace);
        state.interleaving = self.interleaving;
        let environment = BTreeMap::from([
            ("TESTRELAY_PASSWORD".to_string(), password()),
            ("TESTRELAY_BEARER".to_string(), format!("bearer-{MARK}-5b0e")),
        ]);
        let settings = Settings {
            workers: self.workers,
            drain: self.drain,
            stream_idle_timeout: self.stream_idle_timeout,
            buffer_limit: self.buffer_limit,
            environment: Rc::new(environment),
        };
        let filter = Filter {
            name: "testrelay".into(),
            configuration: Rc::new(self.configuration.into_bytes()),
            code,
            allow_on_headers_stop_iteration: self.allow_on_headers_stop_iteration,
        };
        let listeners = std::iter::once(LISTENER.to_string()).chain(self.more_listeners).collect();
        let process = Process::new(state, settings);
        let world = World { process, filter, listeners, seed: self.seed };
        for listener in &world.listeners {
            let taken = world.process.load(listener, world.filter.clone(), true)?;
            ensure!(taken, "the module refuses its configuration:\n{}", world.log().join("\n"));
        }
        world.process.run_until(world.now() + 10 * MILLISECOND);
        Ok(world)
    }
}

/// One Envoy process and everything around it.
pub struct World {
    process: Rc<Process>,
    filter: Filter,
    listeners: Vec<String>,
    seed: u64,
}

impl World {
    /// The monotonic clock, in microseconds.
    pub fn now(&self) -> u64 {
        self.process.state.borrow().now
    }

    /// The true wall time, in Unix milliseconds.
    pub fn wall(&self) -> i64 {
        self.process.state.borrow().true_wall()
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: u64) {
        self.process.run_until(self.now() + span);
    }

    /// Lets time pass until something is so, at most `span`; whether it became so.
    pub fn pass_until(&mut self, span: u64, mut is_so: impl FnMut(&World) -> bool) -> bool {
        let end = self.now() + span;
        while !is_so(self) {
            if self.now() >= end {
                return false;
            }
            self.process.run_until((self.now() + 100 * MILLISECOND).min(end));
        }
        true
    }

    /// A run, number `n`, whose gated stage waits from now on. Its build began ten minutes before the world.
    pub fn pipeline(&mut self, n: u32) -> Pipeline {
        let pipeline =
            Pipeline { n, tag: format!("shop-{}", 4_000 + n), token: format!("token-{MARK}-{n}-1") };
        let now = self.wall();
        let began = START - 600_000;
        let stage =
            Stage { name: "Test".into(), identifier: "test".into(), attempt: 1, start_time: Some(began) };
        self.azure(|azure| {
            azure.add_build(Build::new(PROJECT, pipeline.build()).started_at(began).stage(stage));
            azure.start_check(now, pipeline.spec());
        });
        pipeline
    }

    /// The check waits once more, with another token, as when Azure DevOps evaluates it again.
    pub fn another_delivery(&mut self, pipeline: &mut Pipeline) {
        pipeline.token.push('x');
        let now = self.wall();
        self.azure(|azure| azure.start_check(now, pipeline.spec()));
    }

    /// Delivers a check on some worker and waits for the answer.
    pub fn deliver(&mut self, pipeline: &Pipeline, more: &[(&str, &str)]) -> Answer {
        self.note_delivery(pipeline);
        self.ask(pipeline.check(more))
    }

    /// Tells the rules that a check is about to be delivered.
    pub fn note_delivery(&mut self, pipeline: &Pipeline) {
        let spec = pipeline.spec();
        let name = check_name(&spec.plan, &spec.job, &spec.task);
        self.process.state.borrow_mut().rules.delivery(&name);
    }

    /// Sends a request on a new connection, which some worker takes; its body in one piece.
    pub fn send(&mut self, request: Request) -> u64 {
        let chunks = if request.body.is_empty() { Vec::new() } else { vec![(0, request.body.clone())] };
        self.send_in_pieces(LISTENER, request, chunks)
    }

    /// Sends a request whose body comes in pieces, each so many microseconds after the one before.
    pub fn send_in_pieces(&mut self, listener: &str, request: Request, chunks: Vec<(u64, Vec<u8>)>) -> u64 {
        let workers = self.process.settings.workers as u64;
        let thread = 1 + usize::try_from(self.process.state.borrow_mut().random.below(workers)).unwrap_or(0);
        self.send_on(listener, thread, request, chunks)
    }

    /// The same on a chosen worker, counted from 1.
    pub fn send_on(
        &mut self,
        listener: &str,
        worker: usize,
        request: Request,
        chunks: Vec<(u64, Vec<u8>)>,
    ) -> u64 {
        let stream = self.process.streams.borrow_mut().add(listener, worker, None, request, chunks);
        self.process.state.borrow_mut().after(0, Event::StreamBegins { thread: worker, stream });
        stream
    }

    /// A further request on the connection of an earlier one: it stays with the plugin of that while it drains.
    pub fn send_after(&mut self, earlier: u64, request: Request) -> Option<u64> {
        let (thread, plugin) = {
            let streams = self.process.streams.borrow();
            let stream = streams.all.get(&earlier)?;
            (stream.thread, stream.plugin)
        };
        let chunks = if request.body.is_empty() { Vec::new() } else { vec![(0, request.body.clone())] };
        let stream = self.process.streams.borrow_mut().add(LISTENER, thread, plugin, request, chunks);
        self.process.state.borrow_mut().after(0, Event::StreamBegins { thread, stream });
        Some(stream)
    }

    /// The client of a request goes away.
    pub fn hang_up(&mut self, stream: u64) {
        let thread = self.process.streams.borrow().all.get(&stream).map(|stream| stream.thread);
        if let Some(thread) = thread {
            self.process.state.borrow_mut().after(0, Event::ClientGone { thread, stream });
        }
    }

    /// What a request got, if it got anything yet.
    pub fn answer(&self, stream: u64) -> Option<Answer> {
        self.process.streams.borrow().all.get(&stream)?.answer.clone()
    }

    /// Sends a request and lets time pass until it is answered. Envoy answers at the latest at its idle timeout, and a
    /// stalled thread after its stall.
    pub fn ask(&mut self, request: Request) -> Answer {
        let stream = self.send(request);
        self.wait(stream)
    }

    /// Lets time pass until a request is answered.
    pub fn wait(&mut self, stream: u64) -> Answer {
        let end = self.now() + 600 * SECOND;
        loop {
            if let Some(answer) = self.answer(stream) {
                return answer;
            }
            if self.now() >= end || !self.process.step(end) {
                let text = format!("request {stream} got no answer at all");
                self.process.state.borrow_mut().violation("7", text);
                return Answer {
                    status: 0,
                    headers: Vec::new(),
                    body: Vec::new(),
                    by: crate::stream::By::Nobody,
                    at: self.now(),
                };
            }
        }
    }

    /// Says or asks something of Testkube.
    pub fn testkube<R>(&self, then: impl FnOnce(&mut Testkube) -> R) -> R {
        then(&mut self.process.state.borrow_mut().network.testkube)
    }

    /// Says or asks something of Azure DevOps.
    pub fn azure<R>(&self, then: impl FnOnce(&mut AzureDevOps) -> R) -> R {
        then(&mut self.process.state.borrow_mut().network.azure)
    }

    /// Changes what a cluster does to calls.
    pub fn network(&mut self, cluster: &str, rule: Rule) {
        self.process.state.borrow_mut().network.rules.insert(cluster.into(), rule);
    }

    /// No VM survives an answer that holds this text.
    pub fn poison(&mut self, text: &str) {
        self.process.state.borrow_mut().network.poison = Some(text.into());
    }

    /// Lets a thread's VM trap; 0 is the main thread.
    pub fn trap(&mut self, thread: usize, at: TrapAt) {
        if let Some(thread) = self.process.state.borrow_mut().threads.get_mut(thread) {
            thread.trap_at = Some(at);
        }
    }

    /// A thread does nothing for so many microseconds.
    pub fn stall(&mut self, thread: usize, span: u64) {
        self.process.state.borrow_mut().counts.add("fault: a thread stalls between callbacks");
        self.process.stall(thread, span);
    }

    /// Somebody sets the process's wall clock: so many milliseconds off the true time. The monotonic clock does not move.
    pub fn set_clock(&mut self, skew: i64) {
        let mut state = self.process.state.borrow_mut();
        state.counts.add("fault: the wall clock jumps");
        state.skew = skew;
    }

    /// How often threads run in each other's midst from now on.
    pub fn interleave(&mut self, interleaving: Interleaving) {
        self.process.state.borrow_mut().interleaving = interleaving;
    }

    /// A new configuration for every listener; false where it is refused.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn reload(&mut self, configuration: &str) -> Result<bool> {
        let filter =
            Filter { configuration: Rc::new(configuration.as_bytes().to_vec()), ..self.filter.clone() };
        self.change(filter)
    }

    /// New code with the present configuration, for every listener.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn upgrade(&mut self, version: u32) -> Result<bool> {
        let filter = Filter { code: self.filter.code.clone().version(version), ..self.filter.clone() };
        self.change(filter)
    }

    fn change(&mut self, filter: Filter) -> Result<bool> {
        for listener in &self.listeners {
            if !self.process.load(listener, filter.clone(), false)? {
                return Ok(false);
            }
        }
        self.filter = filter;
        Ok(true)
    }

    /// Takes the filter out of every listener.
    pub fn remove_filter(&mut self) {
        for listener in &self.listeners {
            self.process.unload(listener);
        }
    }

    /// Adds the filter again, as it was last.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn add_filter(&mut self) -> Result<bool> {
        self.change(self.filter.clone())
    }

    /// Ends every fault that was arranged and has not struck yet. A wall clock that was set stays as it is.
    pub fn calm(&mut self) {
        let mut state = self.process.state.borrow_mut();
        state.interleaving = Interleaving::default();
        for thread in &mut state.threads {
            thread.trap_at = None;
        }
        state.network.testkube.clear_faults();
        state.network.azure.clear_faults();
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Counts something that happened.
    pub fn count(&mut self, name: &str) {
        self.process.state.borrow_mut().counts.add(name);
    }

    /// What rules were broken.
    pub fn violations(&self) -> Vec<Violation> {
        self.process.state.borrow().rules.violations.clone()
    }

    /// Says that a rule was broken.
    pub fn violation(&mut self, rule: &'static str, text: String) {
        self.process.state.borrow_mut().violation(rule, text);
    }

    /// What happened how often, and how often rules were checked.
    pub fn counts(&self) -> Counts {
        let state = self.process.state.borrow();
        let mut counts = state.counts.clone();
        for (rule, checked) in &state.rules.checked {
            *counts.by_name.entry(format!("rule {rule}")).or_default() += checked;
        }
        counts
    }

    /// The most fuel that each callback took.
    pub fn fuel(&self) -> BTreeMap<&'static str, u64> {
        self.process.state.borrow().fuel.clone()
    }

    /// A counter of the module.
    pub fn metric(&self, name: &str) -> i64 {
        self.process.state.borrow().metric(name)
    }

    /// How many keys shared data has, and how many bytes.
    pub fn shared_size(&self) -> (usize, usize) {
        self.process.state.borrow().shared.size()
    }

    /// The value of a key of shared data.
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.process.state.borrow().shared.get(key.as_bytes()).map(|(value, _)| value.to_vec())
    }

    /// The last lines of the log.
    pub fn log(&self) -> Vec<String> {
        self.process.state.borrow().log.iter().map(|(level, line)| format!("{level} {line}")).collect()
    }

    /// The trace, if it is kept.
    pub fn trace(&self) -> String {
        self.process.state.borrow().trace.text().to_string()
    }
}

/// The shipped configuration, as the core's tests have it; each `variant` is another one that says the same.
pub fn configuration(variant: u32) -> String {
    format!(
        r#"{{"testkube": {{"cluster": "testkube"}}, "read_body": true, "tag": {{"key": "ado-run"}},
    "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}}],
    "credentials": [
      {{"name": "azure-pipelines", "kind": "basic", "username": "{USER}", "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks"]}},
      {{"name": "pipeline-jobs", "kind": "bearer", "secret_env": "TESTRELAY_BEARER", "allow": ["artifacts"]}}],
    "checks": {{"max_pending": {}}}}}"#,
        2_000 + variant
    )
}
