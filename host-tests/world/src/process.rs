//! The Envoy process: threads, VMs, plugins, and the loop that lets time pass.

use crate::host::{Context, Deferred, Host};
use crate::own::Own;
use crate::plugins::{Filter, OnThread, Plugin, Plugins};
use crate::queues::Registrant;
use crate::rules::Fate;
use crate::state::{Event, MILLISECOND, SECOND, State};
use crate::stream::Streams;
use crate::vm::{Callback, Fallen, Vm, VmId};
use anyhow::Result;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// The main thread.
pub(crate) const MAIN: usize = 0;

/// VM memory never shrinks: its size is the most that it ever needed.
const MAX_MEMORY: usize = 48 << 20;

/// A queue has no limit of its own: whoever fills it must empty it.
const MAX_WAITING: usize = 10_000;

pub(crate) struct Process {
    pub(crate) state: Rc<RefCell<State>>,
    /// The listeners and plugins of the process whose event runs.
    pub(crate) plugins: RefCell<Plugins>,
    /// The listeners and plugins of the other processes.
    pub(crate) others: RefCell<BTreeMap<u32, Plugins>>,
    pub(crate) streams: RefCell<Streams>,
    pub(crate) settings: Settings,
    pub(crate) vms: RefCell<BTreeMap<VmId, Rc<RefCell<Vm>>>>,
    next_look: Cell<u64>,
    me: Weak<Process>,
}

/// Settings of Envoy's own configuration.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) drain: u64,
    pub(crate) stream_idle_timeout: u64,
    /// The `idle_timeout` of the artifacts' route.
    pub(crate) route_idle_timeout: u64,
    /// `reload_config.backoff.base_interval`: the minimum time from a VM's creation to its rebuilding, plus up to half of
    /// it (`JitteredLowerBoundBackOffStrategy`).
    pub(crate) reload_backoff: u64,
    pub(crate) buffer_limit: usize,
}

impl Process {
    pub(crate) fn new(state: State, settings: Settings) -> Rc<Process> {
        Rc::new_cyclic(|me| Process {
            state: Rc::new(RefCell::new(state)),
            plugins: RefCell::default(),
            others: RefCell::default(),
            streams: RefCell::default(),
            settings,
            vms: RefCell::default(),
            next_look: Cell::new(0),
            me: me.clone(),
        })
    }

    /// Lets time pass until `until`, event by event. Re-entrant: see [`Process::interlude`].
    pub(crate) fn run_until(&self, until: u64) {
        while self.step(until) {}
        let mut state = self.state.borrow_mut();
        state.now = state.now.max(until);
    }

    /// Runs the next event that is due until `until`; false: there is none.
    pub(crate) fn step(&self, until: u64) -> bool {
        let Some((process, event)) = self.state.borrow_mut().next(until) else { return false };
        self.look();
        let before = self.switch(process);
        match event.thread() {
            None => self.happen(event),
            Some(thread) => {
                if let Some(event) = self.postponed(thread, event) {
                    self.begin(thread);
                    self.happen(event);
                    self.finish(thread);
                }
            }
        }
        self.switch(before);
        true
    }

    /// A host call of one thread takes so long that others run meanwhile.
    pub(crate) fn interlude(&self, pause: u64) {
        let until = self.state.borrow().now.saturating_add(pause);
        self.run_until(until);
    }

    /// A busy or stalled thread handles its events in order when it is free again.
    fn postponed(&self, thread: usize, event: Event) -> Option<Event> {
        let mut state = self.state.borrow_mut();
        let now = state.now;
        let thread = &mut state.own.threads[thread];
        if thread.is_busy || now < thread.stalled_until {
            thread.backlog.push_back((now, event));
            return None;
        }
        Some(event)
    }

    pub(crate) fn begin(&self, thread: usize) {
        let mut state = self.state.borrow_mut();
        let now = state.now;
        state.own.threads[thread].is_busy = true;
        state.own.threads[thread].busy_since = now;
        state.depth += 1;
    }

    pub(crate) fn finish(&self, thread: usize) {
        let mut state = self.state.borrow_mut();
        state.depth -= 1;
        state.own.threads[thread].is_busy = false;
        let stood_still = state.now - state.own.threads[thread].busy_since;
        *state.stood_still.entry(thread).or_default() += stood_still;
        Process::release(&mut state, thread);
    }

    /// One turn of libevent's loop: socket events come before due timers.
    fn release(state: &mut State, thread: usize) {
        let mut waiting: Vec<Event> =
            state.own.threads[thread].backlog.drain(..).map(|(_, event)| event).collect();
        waiting.sort_by_key(|event| matches!(event, Event::Tick { .. } | Event::StreamIdle { .. }));
        for event in waiting {
            let now = state.now;
            state.at(now, event);
        }
    }

    /// A thread stalls for a while, between two callbacks.
    pub(crate) fn stall(&self, thread: usize, span: u64) {
        let mut state = self.state.borrow_mut();
        let until = state.now + span;
        state.trace_line(format_args!("thread {thread} stalls for {} ms", span / MILLISECOND));
        state.own.threads[thread].stalled_until = until;
        *state.stood_still.entry(thread).or_default() += span;
        state.last_stall = state.last_stall.max(Some(until));
        state.at(until, Event::Release { thread });
    }

    fn happen(&self, event: Event) {
        match event {
            Event::Tick { vm, context, generation, .. } => self.tick(VmId(vm), context, generation),
            Event::Arrive { call } => self.state.borrow_mut().arrive(call),
            Event::CallDone { call, .. } => self.call_done(call),
            Event::Configure { thread, generation } => self.configure(thread, generation),
            Event::End { thread, generation } => self.end(thread, generation),
            Event::Drained { generation } => self.drained(generation),
            Event::ProcessEnds => self.end_process(),
            Event::ClockSteps { by } => {
                let mut state = self.state.borrow_mut();
                let skew = state.skew() + by;
                state.set_clock(skew);
            }
            Event::QueueReady { registrant, token } => self.queue_ready(&registrant, token),
            Event::Release { thread } => {
                let mut state = self.state.borrow_mut();
                if state.now >= state.own.threads[thread].stalled_until && !state.own.threads[thread].is_busy
                {
                    Process::release(&mut state, thread);
                }
            }
            Event::StreamBegins { thread, stream } => self.stream_begins(thread, stream),
            Event::StreamBody { stream, chunk, .. } => self.stream_body(stream, chunk),
            Event::StreamTrailers { stream, .. } => self.stream_trailers(stream),
            Event::StreamUpstream { stream, .. } => self.stream_upstream(stream),
            Event::StreamArrives { stream } => self.stream_arrives(stream),
            Event::StreamPart { stream, .. } => self.stream_part(stream),
            Event::StreamOverflows { stream, .. } => self.overloaded(stream),
            Event::CallWaited { call } => self.state.borrow_mut().call_waited(call),
            Event::Connected { thread, cluster } => self.state.borrow_mut().connected(thread, &cluster),
            Event::StreamIdle { stream, .. } => self.stream_idle(stream),
            Event::ClientGone { stream, .. } => self.client_gone(stream),
        }
    }

    /// Once a second: the rules that hold all the time, in each process.
    fn look(&self) {
        self.look_at_bounds();
        let now = self.state.borrow().now;
        if now < self.next_look.get() {
            return;
        }
        self.next_look.set(now + SECOND);
        let largest = {
            let vms = self.vms.borrow();
            vms.values().filter_map(|vm| vm.try_borrow().ok().map(|vm| vm.memory())).max().unwrap_or(0)
        };
        if largest > MAX_MEMORY {
            self.state.borrow_mut().violation("bounds", format!("a VM has {largest} bytes of memory"));
        }
        let others: Vec<u32> = self.state.borrow().others.keys().copied().collect();
        self.look_at_process();
        for process in others {
            let before = self.switch(process);
            self.look_at_process();
            // Of a hot restart's two processes the driven one is enough.
            if self.state.borrow().machines.len() > 1 {
                self.look_at_bounds();
            }
            self.switch(before);
        }
    }

    /// Rule `bounds` in the process that runs: the driven one after every event, each replica once a second.
    fn look_at_bounds(&self) {
        let State { own, network, process, now, .. } = &mut *self.state.borrow_mut();
        for (_, shared) in &own.spaces {
            own.rules.bounds(*now, shared, network.in_flight(*process));
        }
    }

    fn look_at_process(&self) {
        let plugins = self.plugins.borrow();
        let mut state = self.state.borrow_mut();
        let now = state.now;
        let runs = |thread: usize, own: &Own| {
            now >= own.threads[thread].stalled_until && !own.threads[thread].is_busy
        };
        let ahead = state.monotonic() - now;
        let State { own, .. } = &mut *state;
        let ticks = |plugin: &&Plugin| {
            let on = plugin.on.iter().enumerate();
            on.filter(|(_, on)| matches!(on, OnThread::Living { .. })).any(|(thread, _)| runs(thread, own))
        };
        let ticking = plugins.all.iter().filter(ticks);
        let ticking = ticking.map(|plugin| (plugin.filter.vm_id.clone(), plugin.instance.clone())).collect();
        let Own { rules, spaces, queues, .. } = own;
        rules.each_second(now, ahead, spaces, &ticking);
        let waiting = queues.waiting();
        if waiting > MAX_WAITING {
            state.violation("bounds", format!("{waiting} items wait in shared queues"));
        }
    }

    /// A clone of the base VM.
    pub(crate) fn make_vm(&self, thread: usize, filter: &Filter) -> Result<VmId> {
        let key = filter.vm_key();
        let base = self.plugins.borrow().bases.get(&key).map(|base| base.environment.clone());
        let environment = base.unwrap_or_else(|| filter.environment.clone());
        let vm = {
            let mut state = self.state.borrow_mut();
            state.last_vm += 1;
            state.counts.add("vm made");
            VmId(state.last_vm)
        };
        let host = Host::new(self.state.clone(), self.me.clone(), vm, key, thread, environment);
        let made = Vm::new(&filter.code, thread, host)?;
        self.vms.borrow_mut().insert(vm, Rc::new(RefCell::new(made)));
        Ok(vm)
    }

    /// The root context that serves a plugin's requests on a worker; a fallen VM is rebuilt only here
    /// (`maybeReloadHandleIfNeeded` in `createContext`).
    pub(crate) fn root_for_request(&self, thread: usize, plugin: usize) -> Option<(VmId, u32)> {
        let on = self.plugins.borrow().all[plugin].on[thread];
        match on {
            OnThread::Living { vm, root } => Some((vm, root)),
            OnThread::Absent => None,
            OnThread::Fallen => {
                let last = self.plugins.borrow().all[plugin].last_load[thread];
                let backoff = self.settings.reload_backoff;
                let mut state = self.state.borrow_mut();
                let is_early = state.now < last + backoff + state.random.below(backoff / 2);
                state.counts.add(if is_early { "vm reload: backoff" } else { "vm reload: success" });
                drop(state);
                if is_early { None } else { self.make_on_thread(thread, plugin) }
            }
        }
    }

    /// Gives a new context a number in its VM.
    pub(crate) fn next_context(&self, vm: VmId, context: Context) -> Option<u32> {
        self.with(vm, |host| {
            host.last_context += 1;
            host.contexts.insert(host.last_context, context);
            host.last_context
        })
    }

    /// Cancels the traps of all VMs.
    pub(crate) fn disarm(&self) {
        for vm in self.vms.borrow().values() {
            if let Ok(mut vm) = vm.try_borrow_mut() {
                vm.disarm();
            }
        }
    }

    /// Accesses a VM's host side, between callbacks.
    pub(crate) fn with<R>(&self, vm: VmId, then: impl FnOnce(&mut Host) -> R) -> Option<R> {
        let vm = self.vms.borrow().get(&vm).cloned()?;
        let mut vm = vm.try_borrow_mut().ok()?;
        Some(then(vm.host()))
    }

    /// Runs a callback and what it deferred. `None`: the VM is dead, now or before.
    pub(crate) fn call(&self, id: VmId, callback: Callback) -> Option<u32> {
        let vm = self.vms.borrow().get(&id).cloned()?;
        let mut vm = vm.try_borrow_mut().ok()?;
        let thread = vm.thread;
        {
            let mut state = self.state.borrow_mut();
            if !callback.configures()
                && let Some(at) = state.own.threads[thread].trap_at.take()
            {
                vm.trap_at(at);
            }
        }
        let (result, fuel) = vm.call(callback);
        let deferred = vm.take_deferred();
        drop(vm);
        {
            let mut state = self.state.borrow_mut();
            state.used(thread, callback.name(), fuel);
            state.trace_line(format_args!(
                "vm {} context {}: {} used {fuel}",
                id.0,
                callback.context(),
                callback.name()
            ));
        }
        match result {
            Ok(answer) => {
                for (context, deferred) in deferred {
                    self.apply(id, thread, context, deferred);
                }
                Some(answer)
            }
            Err(fallen) => {
                self.fall(id, thread, callback, &fallen);
                None
            }
        }
    }

    fn apply(&self, vm: VmId, thread: usize, context: u32, deferred: Deferred) {
        match deferred {
            Deferred::SetTick { period, generation } if period > 0 => self.state.borrow_mut().after(
                u64::from(period) * MILLISECOND,
                Event::Tick { thread, vm: vm.0, context, generation },
            ),
            Deferred::SetTick { .. } => {}
            Deferred::Reply { status, headers, body } => self.local_reply(vm, context, status, headers, body),
            Deferred::ContinueRequest => self.continue_request(vm, context),
            Deferred::Delete => self.delete(vm, context),
            Deferred::CloseStream => self.close_stream(vm, context),
            Deferred::ContinueResponse => {
                self.state.borrow_mut().violation("host", format!("{deferred:?} is not in this host"));
            }
        }
    }

    /// A VM traps: every context in it stops; its paused streams stay silent; its calls are cancelled.
    fn fall(&self, id: VmId, thread: usize, callback: Callback, fallen: &Fallen) {
        {
            let mut state = self.state.borrow_mut();
            let (name, wall) = (callback.name(), state.true_wall());
            state.own.rules.fell(wall);
            state.trace_line(format_args!("vm {} on thread {thread} falls in {name}: {}", id.0, fallen.why));
            match fallen.injected {
                true => state.counts.add(&format!("fault: trap in {name}")),
                false => {
                    state.violation("no fall", format!("{name} on thread {thread} trapped: {}", fallen.why))
                }
            }
        }
        let mut plugins = self.plugins.borrow_mut();
        plugins.vms.retain(|_, vm| *vm != id);
        let mut state = self.state.borrow_mut();
        for on in plugins.on_vm(id) {
            if let OnThread::Living { root, .. } = *on {
                state.own.rules.context_gone(id, root);
            }
            *on = OnThread::Fallen;
        }
        drop(state);
        drop(plugins);
        self.drop_vm(id);
    }

    pub(crate) fn drop_vm(&self, id: VmId) {
        self.vms.borrow_mut().remove(&id);
        let mut state = self.state.borrow_mut();
        let lost: Vec<(u64, u32)> = state
            .network
            .calls
            .iter()
            .filter(|(_, call)| call.outgoing.vm == id)
            .map(|(number, call)| (*number, call.outgoing.token))
            .collect();
        let now = state.now;
        for (_, token) in lost {
            state.own.rules.call_ends(now, id, token, Fate::Lost);
        }
    }

    /// The timer is armed again after the callback.
    fn tick(&self, vm: VmId, context: u32, generation: u64) {
        let current =
            self.with(vm, |host| host.root(context).map(|root| (root.tick_generation, root.tick_period)));
        let Some(Some((now, period))) = current else { return };
        if now != generation || period == 0 {
            return;
        }
        if self.call(vm, Callback::Tick { context }).is_some() {
            let thread = self.with(vm, |host| host.thread).unwrap_or(MAIN);
            let generation = self.with(vm, |host| host.root(context).map(|root| root.tick_generation));
            if generation == Some(Some(now)) {
                self.state.borrow_mut().after(
                    u64::from(period) * MILLISECOND,
                    Event::Tick { thread, vm: vm.0, context, generation: now },
                );
            }
        }
    }

    /// `getThreadLocalWasm`, then `getContext`: by now there may be another VM, and the number may belong to another
    /// context.
    fn queue_ready(&self, registrant: &Registrant, token: u32) {
        let place = (registrant.thread, registrant.key.clone());
        let vm = self.plugins.borrow().vms.get(&place).copied();
        let Some(vm) = vm else { return };
        let context = registrant.context;
        if self.with(vm, |host| host.contexts.contains_key(&context)) == Some(true) {
            self.call(vm, Callback::QueueReady { context, token });
        }
    }
}
