//! A world: Envoy processes with the module in them, the servers, and the clock, as a test drives them.

use crate::network::Rule;
use crate::plugins::Filter;
use crate::process::Process;
use crate::rules::Violation;
use crate::setup::LISTENER;
use crate::state::{Event, Interleaving, MILLISECOND, SECOND, State, wall_of};
use crate::stream::{Answer, By};
use crate::vm::TrapAt;
use anyhow::Result;
use fakes::{AzureDevOps, CheckSpec, Kubernetes, Request, Testkube};
use std::collections::BTreeMap;
use std::rc::Rc;

/// An Envoy process, perhaps several, and everything around them. Its methods are about the driven process: the first one, the
/// new one after a hot restart, or another one inside of [`World::on`].
pub struct World {
    pub(crate) process: Rc<Process>,
    seed: u64,
}

impl World {
    pub(crate) fn new(process: Rc<Process>, seed: u64) -> World {
        World { process, seed }
    }

    /// Gives every listener its filter in the driven process, which has none yet. False: the module refuses a configuration.
    pub(crate) fn boot(&mut self, filters: Vec<(String, Filter)>) -> Result<bool> {
        self.process.plugins.borrow_mut().filters.clone_from(&filters);
        for (listener, filter) in filters {
            if !self.process.load(&listener, filter, true)? {
                return Ok(false);
            }
        }
        self.process.run_until(self.now() + 10 * MILLISECOND);
        Ok(true)
    }

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

    /// Lets time pass until a condition holds, at most `span`; returns whether it does.
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

    /// The same, looked at after every event.
    pub fn pass_closely_until(&mut self, span: u64, mut is_so: impl FnMut(&World) -> bool) -> bool {
        let end = self.now() + span;
        loop {
            if is_so(self) {
                return true;
            }
            if !self.process.step(end) {
                self.process.run_until(end);
                return is_so(self);
            }
        }
    }

    /// Sends a request on a new connection, which some worker takes; its body in one piece.
    pub fn send(&mut self, request: Request) -> u64 {
        let chunks = if request.body.is_empty() { Vec::new() } else { vec![(0, request.body.clone())] };
        self.send_in_pieces(LISTENER, request, chunks)
    }

    /// Sends a request whose body comes in pieces, each with its delay after the one before in microseconds.
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
        let connection = self.connect(listener, worker);
        self.send_over(connection, request, chunks)
    }

    /// A connection to a worker, counted from 1. All its requests go to that worker, and to the version of the listener that
    /// it finds at the first of them, until that version's drain ends.
    pub fn connect(&mut self, listener: &str, worker: usize) -> u64 {
        let process = self.process.state.borrow().process;
        self.process.streams.borrow_mut().connect(process, worker, listener)
    }

    /// A request over a connection; its body comes in pieces, each with its delay after the one before in microseconds.
    /// Over a closed connection it gets status 0.
    ///
    /// # Panics
    /// There never was such a connection.
    pub fn send_over(&mut self, connection: u64, request: Request, chunks: Vec<(u64, Vec<u8>)>) -> u64 {
        self.begin_stream(connection, request, chunks, false)
    }

    /// A request over HTTP/2 whose body, perhaps without a byte, ends by trailers.
    ///
    /// # Panics
    /// There never was such a connection.
    pub fn send_with_trailers(
        &mut self,
        connection: u64,
        request: Request,
        chunks: Vec<(u64, Vec<u8>)>,
    ) -> u64 {
        self.begin_stream(connection, request, chunks, true)
    }

    fn begin_stream(
        &mut self,
        connection: u64,
        request: Request,
        chunks: Vec<(u64, Vec<u8>)>,
        trailers: bool,
    ) -> u64 {
        let stream = self.process.streams.borrow_mut().add(connection, request, chunks, trailers);
        let stream = stream.expect("a connection that was made");
        self.to_stream(stream, |thread| Event::StreamBegins { thread, stream });
        stream
    }

    /// A further request on the connection of an earlier one.
    pub fn send_after(&mut self, earlier: u64, request: Request) -> Option<u64> {
        let connection = self.process.streams.borrow().all.get(&earlier)?.connection;
        let chunks = if request.body.is_empty() { Vec::new() } else { vec![(0, request.body.clone())] };
        Some(self.send_over(connection, request, chunks))
    }

    /// The client of a request goes away.
    pub fn hang_up(&mut self, stream: u64) {
        self.to_stream(stream, |thread| Event::ClientGone { thread, stream });
    }

    /// Something happens to a stream at once, in its process and on its thread.
    fn to_stream(&self, stream: u64, event: impl FnOnce(usize) -> Event) {
        let place = {
            let streams = self.process.streams.borrow();
            let connection = streams.all.get(&stream).map(|stream| stream.connection);
            let connection = connection.and_then(|number| streams.connections.get(&number));
            connection.map(|connection| (connection.process, connection.thread))
        };
        if let Some((process, thread)) = place {
            let before = self.process.switch(process);
            self.process.state.borrow_mut().after(0, event(thread));
            self.process.switch(before);
        }
    }

    /// The part of an unfinished answer that a request has received.
    pub fn so_far(&self, stream: u64) -> Option<Answer> {
        self.process.streams.borrow().all.get(&stream)?.begun.clone()
    }

    /// The answer to a request, if there is one yet.
    pub fn answer(&self, stream: u64) -> Option<Answer> {
        self.process.streams.borrow().all.get(&stream)?.answer.clone()
    }

    /// Sends a request and lets time pass until it is answered. Envoy answers at its idle timeout at the latest, or when a
    /// stalled thread goes on.
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
                self.process.state.borrow_mut().violation("answers", text);
                return Answer {
                    status: 0,
                    headers: Vec::new(),
                    body: Vec::new(),
                    by: By::Nobody,
                    is_complete: false,
                    at: self.now(),
                };
            }
        }
    }

    /// Accesses the fake Testkube.
    pub fn testkube<R>(&self, then: impl FnOnce(&mut Testkube) -> R) -> R {
        then(&mut self.process.state.borrow_mut().network.testkube)
    }

    /// Accesses the fake Azure DevOps.
    pub fn azure<R>(&self, then: impl FnOnce(&mut AzureDevOps) -> R) -> R {
        then(&mut self.process.state.borrow_mut().network.azure)
    }

    /// Accesses the fake Kubernetes API server.
    pub fn kubernetes<R>(&self, then: impl FnOnce(&mut Kubernetes) -> R) -> R {
        then(&mut self.process.state.borrow_mut().network.kubernetes)
    }

    /// Changes how a cluster treats calls.
    pub fn network(&mut self, cluster: &str, rule: Rule) {
        self.process.state.borrow_mut().network.rules.insert(cluster.into(), rule);
    }

    /// From now on every VM traps that reads an answer with this text.
    pub fn poison(&mut self, text: &str) {
        self.process.state.borrow_mut().network.poison = Some(text.into());
    }

    /// Makes a thread's VM trap; 0 is the main thread.
    pub fn trap(&mut self, thread: usize, at: TrapAt) {
        if let Some(thread) = self.process.state.borrow_mut().own.threads.get_mut(thread) {
            thread.trap_at = Some(at);
        }
    }

    /// A thread stalls for this number of microseconds.
    pub fn stall(&mut self, thread: usize, span: u64) {
        self.process.state.borrow_mut().counts.add("fault: a thread stalls between callbacks");
        self.process.stall(thread, span);
    }

    /// Sets the process's wall clock to this offset from the true time, in milliseconds. The monotonic clock does not move.
    pub fn set_clock(&mut self, skew: i64) {
        let mut state = self.process.state.borrow_mut();
        state.counts.add("fault: the wall clock jumps");
        state.set_clock(skew);
    }

    /// After `after` microseconds the process's wall clock is set forward, or back, by `by` milliseconds.
    pub fn step_clock(&mut self, after: u64, by: i64) {
        self.process.state.borrow_mut().after(after, Event::ClockSteps { by });
    }

    /// Every offset of the process's wall clock between these two times, in Unix milliseconds of the true clock.
    pub(crate) fn skews(&self, from: i64, until: i64) -> Vec<i64> {
        self.process.state.borrow().skews(from, until)
    }

    /// How often threads interleave from now on.
    pub fn interleave(&mut self, interleaving: Interleaving) {
        self.process.state.borrow_mut().interleaving = interleaving;
    }

    /// A new configuration for [`LISTENER`] and every other one with its plugin; false where it is refused.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn reload(&mut self, configuration: &str) -> Result<bool> {
        let filters = self.filters();
        let first = filters.first().map(|(_, filter)| (filter.name.clone(), filter.vm_id.clone()));
        self.change(|_, filter| {
            let is_the_first = first.as_ref() == Some(&(filter.name.clone(), filter.vm_id.clone()));
            is_the_first.then(|| Filter { configuration: Rc::new(configuration.into()), ..filter.clone() })
        })
    }

    /// A new configuration for one listener; false where it is refused.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn reload_one(&mut self, listener: &str, configuration: &str) -> Result<bool> {
        self.change(|name, filter| {
            let is_meant = name == listener;
            is_meant.then(|| Filter { configuration: Rc::new(configuration.into()), ..filter.clone() })
        })
    }

    /// Other environment variables, for every listener. Whether any VM sees them: [`Setup::environment_in_key`](crate::Setup).
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn change_environment(&mut self, environment: BTreeMap<String, String>) -> Result<bool> {
        let environment = Rc::new(environment);
        self.change(|_, filter| Some(Filter { environment: environment.clone(), ..filter.clone() }))
    }

    /// New code with the present configurations, for every listener.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn upgrade(&mut self, version: u32) -> Result<bool> {
        self.change(|_, filter| Some(Filter { code: filter.code.clone().version(version), ..filter.clone() }))
    }

    /// Loads the listeners that get another filter, up to the first that is refused.
    fn change(&mut self, change: impl Fn(&str, &Filter) -> Option<Filter>) -> Result<bool> {
        for (n, (listener, filter)) in self.filters().into_iter().enumerate() {
            let Some(next) = change(&listener, &filter) else { continue };
            if !self.process.load(&listener, next.clone(), false)? {
                return Ok(false);
            }
            self.process.plugins.borrow_mut().filters[n].1 = next;
        }
        Ok(true)
    }

    /// What each listener of the driven process has now.
    pub(crate) fn filters(&self) -> Vec<(String, Filter)> {
        self.process.plugins.borrow().filters.clone()
    }

    /// Takes the filter out of every listener.
    pub fn remove_filter(&mut self) {
        for (listener, _) in self.filters() {
            self.process.unload(&listener);
        }
    }

    /// Adds the filters again, as they were last.
    ///
    /// # Errors
    /// A VM could not be made.
    pub fn add_filter(&mut self) -> Result<bool> {
        self.change(|_, filter| Some(filter.clone()))
    }

    /// Cancels every fault that has not struck yet. A wall clock that was set stays as it is.
    pub fn calm(&mut self) {
        self.process.disarm();
        let mut state = self.process.state.borrow_mut();
        state.interleaving = Interleaving::default();
        let State { own, others, .. } = &mut *state;
        for own in std::iter::once(own).chain(others.values_mut()) {
            own.threads.iter_mut().for_each(|thread| thread.trap_at = None);
            own.cut_off_from.clear();
        }
        state.network.testkube.clear_faults();
        state.network.azure.clear_faults();
        state.network.kubernetes.clear_faults();
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
        let state = self.process.state.borrow();
        let all = state.processes().flat_map(|own| own.rules.violations.iter().cloned());
        let mut all: Vec<Violation> = all.collect();
        all.sort_by_key(|violation| violation.at);
        all
    }

    /// Records that a rule was broken.
    pub fn violation(&mut self, rule: &'static str, text: String) {
        self.process.state.borrow_mut().violation(rule, text);
    }

    /// How many VMs fell, and when the last one did, in Unix milliseconds of the true clock.
    pub(crate) fn falls(&self) -> (u64, Option<i64>) {
        let state = self.process.state.borrow();
        let all = state.processes().map(|own| own.rules.falls);
        all.fold((0, None), |(count, last), (more, at)| (count + more, last.max(at)))
    }

    /// Whether Azure DevOps has taken a call about this plan.
    pub(crate) fn is_proven(&self, plan: &str) -> bool {
        self.process.state.borrow().processes().any(|own| own.rules.is_proven(plan))
    }

    /// When the module has read a list of the executions with this tag, in Unix milliseconds.
    pub(crate) fn readings(&self, tag: &str) -> Vec<i64> {
        self.process.state.borrow().own.rules.readings(tag).to_vec()
    }

    /// Whether it was a stream that asked for this target then, in Unix milliseconds: an evaluation, or a request for artifacts.
    pub(crate) fn is_of_a_stream(&self, target: &str, at: i64) -> bool {
        self.process.state.borrow().processes().any(|own| own.rules.is_of_a_stream(target, at))
    }

    /// When the last stall of a thread ended, in Unix milliseconds of the true clock.
    pub(crate) fn last_stall(&self) -> Option<i64> {
        self.process.state.borrow().last_stall.map(wall_of)
    }

    /// The total time for which a stream's thread has stalled or run callbacks until now, in microseconds.
    pub(crate) fn stood_still(&self, stream: u64) -> u64 {
        let Some(thread) = self.process.streams.borrow().all.get(&stream).map(|stream| stream.thread) else {
            return 0;
        };
        let state = self.process.state.borrow();
        let all = state.stood_still.get(&thread).copied().unwrap_or(0);
        let to_come = |thread: &crate::state::Thread| thread.stalled_until.saturating_sub(state.now);
        all.saturating_sub(state.own.threads.get(thread).map_or(0, to_come))
    }

    /// Whether another context began to start calls in this time, in Unix milliseconds.
    pub(crate) fn was_handed_over(&self, from: i64, until: i64) -> bool {
        let state = self.process.state.borrow();
        let mut handovers = state.processes().flat_map(|own| &own.rules.handovers);
        handovers.any(|at| (from..=until).contains(&wall_of(*at)))
    }

    /// Whether Azure DevOps has taken an event for a check, and the module does not know it yet.
    pub(crate) fn is_event_taken_unanswered(&self, spec: &CheckSpec) -> bool {
        let state = self.process.state.borrow();
        let events = state.network.azure.events(&spec.plan);
        let taken = events.last().is_some_and(|event| event.accepted);
        taken && state.own.rules.is_event_under_way(state.now, spec)
    }
}
