//! The Envoy process: threads, VMs, plugins, and the loop that lets time pass.

use crate::host::{Context, Deferred, Host, Pairs};
use crate::module::Code;
use crate::plugins::{OnThread, Plugins};
use crate::rules::{Fate, fate_of};
use crate::state::{Event, MILLISECOND, SECOND, State};
use crate::stream::Streams;
use crate::vm::{Callback, Fallen, TrapAt, Vm, VmId};
use anyhow::Result;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// The main thread.
pub(crate) const MAIN: usize = 0;

/// A VM is rebuilt at the earliest so long after it was made (`reload_config.backoff`, 1 s by default).
const RELOAD_BACKOFF: u64 = SECOND;

/// VM memory never shrinks: what it has is what it ever needed.
const MOST_MEMORY: usize = 48 << 20;

pub(crate) struct Process {
    pub(crate) state: Rc<RefCell<State>>,
    pub(crate) plugins: RefCell<Plugins>,
    pub(crate) streams: RefCell<Streams>,
    pub(crate) settings: Settings,
    vms: RefCell<BTreeMap<VmId, Rc<RefCell<Vm>>>>,
    next_look: Cell<u64>,
    me: Weak<Process>,
}

/// What Envoy's own configuration says.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) drain: u64,
    pub(crate) stream_idle_timeout: u64,
    pub(crate) buffer_limit: usize,
    pub(crate) environment: Rc<BTreeMap<String, String>>,
}

impl Process {
    pub(crate) fn new(state: State, settings: Settings) -> Rc<Process> {
        Rc::new_cyclic(|me| Process {
            state: Rc::new(RefCell::new(state)),
            plugins: RefCell::default(),
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
        let Some(event) = self.state.borrow_mut().next(until) else { return false };
        self.look();
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
        true
    }

    /// A host call of one thread takes so long that others run meanwhile.
    pub(crate) fn interlude(&self, pause: u64) {
        let until = self.state.borrow().now.saturating_add(pause);
        self.run_until(until);
    }

    /// A thread that is busy or stalled takes its events in their order when it comes to itself.
    fn postponed(&self, thread: usize, event: Event) -> Option<Event> {
        let mut state = self.state.borrow_mut();
        let now = state.now;
        let thread = &mut state.threads[thread];
        if thread.is_busy || now < thread.stalled_until {
            thread.backlog.push_back((now, event));
            return None;
        }
        Some(event)
    }

    pub(crate) fn begin(&self, thread: usize) {
        let mut state = self.state.borrow_mut();
        state.threads[thread].is_busy = true;
        state.depth += 1;
    }

    pub(crate) fn finish(&self, thread: usize) {
        let mut state = self.state.borrow_mut();
        state.depth -= 1;
        state.threads[thread].is_busy = false;
        Process::release(&mut state, thread);
    }

    /// One turn of libevent's loop: what sockets brought comes before timers that are due.
    fn release(state: &mut State, thread: usize) {
        let mut waiting: Vec<Event> =
            state.threads[thread].backlog.drain(..).map(|(_, event)| event).collect();
        waiting.sort_by_key(|event| matches!(event, Event::Tick { .. } | Event::StreamIdle { .. }));
        for event in waiting {
            let now = state.now;
            state.at(now, event);
        }
    }

    /// A thread does nothing for a while, between two callbacks.
    pub(crate) fn stall(&self, thread: usize, span: u64) {
        let mut state = self.state.borrow_mut();
        let until = state.now + span;
        state.trace_line(format_args!("thread {thread} stalls for {} ms", span / MILLISECOND));
        state.threads[thread].stalled_until = until;
        state.at(until, Event::Release { thread });
    }

    fn happen(&self, event: Event) {
        match event {
            Event::Tick { vm, context, generation, .. } => self.tick(VmId(vm), context, generation),
            Event::Arrive { call } => self.state.borrow_mut().arrive(call),
            Event::CallDone { call, .. } => self.call_done(call),
            Event::Configure { thread, plugin } => self.configure(thread, plugin),
            Event::End { thread, plugin } => self.end(thread, plugin),
            Event::Drained { generation } => self.drained(usize::try_from(generation).unwrap_or(usize::MAX)),
            Event::Release { thread } => {
                let mut state = self.state.borrow_mut();
                if state.now >= state.threads[thread].stalled_until && !state.threads[thread].is_busy {
                    Process::release(&mut state, thread);
                }
            }
            Event::StreamBegins { thread, stream } => self.stream_begins(thread, stream),
            Event::StreamBody { stream, chunk, .. } => self.stream_body(stream, chunk),
            Event::StreamUpstream { stream, .. } => self.stream_upstream(stream),
            Event::StreamIdle { stream, .. } => self.stream_idle(stream),
            Event::ClientGone { stream, .. } => self.client_gone(stream),
        }
    }

    /// Once a second: the rules that hold all the time.
    fn look(&self) {
        let now = self.state.borrow().now;
        if now < self.next_look.get() {
            return;
        }
        self.next_look.set(now + SECOND);
        let largest = {
            let vms = self.vms.borrow();
            vms.values().filter_map(|vm| vm.try_borrow().ok().map(|vm| vm.memory())).max().unwrap_or(0)
        };
        let plugins = self.plugins.borrow();
        let mut state = self.state.borrow_mut();
        let runs = |thread: usize, state: &State| {
            now >= state.threads[thread].stalled_until && !state.threads[thread].is_busy
        };
        let ticks = plugins.all.iter().any(|plugin| {
            let on = plugin.on.iter().enumerate();
            on.filter(|(_, on)| matches!(on, OnThread::Living { .. })).any(|(thread, _)| runs(thread, &state))
        });
        let State { rules, shared, network, .. } = &mut *state;
        rules.each_second(now, shared, ticks, network.in_flight());
        if largest > MOST_MEMORY {
            state.violation("6", format!("a VM has {largest} bytes of memory"));
        }
    }

    pub(crate) fn make_vm(&self, vm: VmId, thread: usize, code: &Code) -> Result<()> {
        let environment = self.settings.environment.clone();
        let host = Host::new(self.state.clone(), self.me.clone(), vm, thread, environment);
        let made = Vm::new(code, thread, host)?;
        self.vms.borrow_mut().insert(vm, Rc::new(RefCell::new(made)));
        self.state.borrow_mut().counts.add("vm made");
        Ok(())
    }

    /// The root context that serves a plugin's requests on a worker; a fallen VM is rebuilt here and nowhere else
    /// (`maybeReloadHandleIfNeeded` in `createContext`).
    pub(crate) fn root_for_request(&self, thread: usize, plugin: usize) -> Option<(VmId, u32)> {
        let on = self.plugins.borrow().all[plugin].on[thread];
        match on {
            OnThread::Living { vm, root } => Some((vm, root)),
            OnThread::Absent => None,
            OnThread::Fallen => {
                let now = self.state.borrow().now;
                let fallen_made = self.fallen_made(thread, plugin);
                if now < fallen_made + RELOAD_BACKOFF {
                    self.state.borrow_mut().counts.add("vm reload: backoff");
                    return None;
                }
                self.state.borrow_mut().counts.add("vm reload: success");
                self.make_on_thread(thread, plugin)
            }
        }
    }

    fn fallen_made(&self, thread: usize, plugin: usize) -> u64 {
        let version = self.plugins.borrow().all[plugin].filter.code.version;
        self.state.borrow().last_load.get(&(thread, version)).copied().unwrap_or(0)
    }

    /// Gives a new context a number in its VM.
    pub(crate) fn next_context(&self, vm: VmId, context: Context) -> Option<u32> {
        self.with(vm, |host| {
            host.last_context += 1;
            host.contexts.insert(host.last_context, context);
            host.last_context
        })
    }

    /// Something with a VM's host side, between callbacks.
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
                && let Some(at) = state.threads[thread].trap_at.take()
            {
                vm.trap_at(at);
            }
        }
        let (result, fuel) = vm.call(callback);
        let deferred = vm.take_deferred();
        drop(vm);
        {
            let mut state = self.state.borrow_mut();
            let most = state.fuel.entry(callback.name()).or_default();
            *most = fuel.max(*most);
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
            Deferred::ContinueResponse | Deferred::CloseStream => {
                self.state.borrow_mut().violation("host", format!("{deferred:?} is not in this host"));
            }
        }
    }

    /// A VM traps: every context in it stops; its paused streams stay silent; its calls are cancelled.
    fn fall(&self, id: VmId, thread: usize, callback: Callback, fallen: &Fallen) {
        {
            let mut state = self.state.borrow_mut();
            let name = callback.name();
            state.trace_line(format_args!("vm {} on thread {thread} falls in {name}: {}", id.0, fallen.why));
            match fallen.injected {
                true => state.counts.add(&format!("fault: trap in {name}")),
                false => state.violation("7", format!("{name} on thread {thread} trapped: {}", fallen.why)),
            }
        }
        let mut plugins = self.plugins.borrow_mut();
        let versions: Vec<(usize, u32)> =
            plugins.vms.iter().filter(|(_, (vm, _))| *vm == id).map(|(key, _)| *key).collect();
        let mut state = self.state.borrow_mut();
        for key in versions {
            if let Some((_, made)) = plugins.vms.remove(&key) {
                state.last_load.insert(key, made);
            }
        }
        for (_, on) in plugins.on_vm(id) {
            if let OnThread::Living { root, .. } = *on {
                state.rules.context_gone(id, root);
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
            state.rules.call_ends(now, id, token, Fate::Lost);
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

    /// The callback of a call, if its root context still lives.
    fn call_done(&self, number: u64) {
        let (call, poison) = {
            let mut state = self.state.borrow_mut();
            let Some(call) = state.network.calls.remove(&number) else { return };
            let body = call.answer.as_ref().map(|answer| answer.body.as_slice()).unwrap_or_default();
            let poison = state.network.poison.as_ref().is_some_and(|poison| {
                let body = String::from_utf8_lossy(body);
                body.contains(poison.as_str())
            });
            (call, poison)
        };
        let (vm, root, token) = (call.outgoing.vm, call.outgoing.root, call.outgoing.token);
        let lives = self.with(vm, |host| host.root(root).is_some()) == Some(true);
        let fate = fate_of(call.answer.as_ref(), call.from_upstream);
        if !lives {
            let mut state = self.state.borrow_mut();
            let now = state.now;
            return state.rules.call_ends(now, vm, token, Fate::Lost);
        }
        {
            let mut state = self.state.borrow_mut();
            let kind = match (&call.answer, call.from_upstream) {
                (None, _) => "call: broken",
                (Some(answer), false) if answer.status == 504 => "call: 504 of Envoy's own",
                (Some(_), false) => "call: 503 of Envoy's own",
                (Some(_), true) => "call: answer",
            };
            state.counts.add(kind);
            if poison {
                // Effective context, headers, body, two clocks, and the note of who is being read: then it falls.
                state.threads[call.outgoing.thread].trap_at = Some(TrapAt::HostCall(7));
            }
        }
        let (headers, body): (Pairs, Vec<u8>) = match call.answer {
            Some(answer) => {
                let status = (b":status".to_vec(), answer.status.to_string().into_bytes());
                let others = answer.headers.into_iter().map(|(name, value)| (name.into_bytes(), value));
                (std::iter::once(status).chain(others).collect(), answer.body)
            }
            None => (Vec::new(), Vec::new()),
        };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let callback = Callback::CallResponse {
            context: root,
            token,
            headers: number(headers.len()),
            body: number(body.len()),
        };
        self.with(vm, |host| host.call_response = Some((headers, body)));
        {
            let mut state = self.state.borrow_mut();
            let now = state.now;
            state.rules.call_ends(now, vm, token, fate);
        }
        if self.call(vm, callback).is_none() {
            self.state.borrow_mut().rules.call_unread(vm, token);
        }
    }
}
