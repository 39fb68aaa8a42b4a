//! One VM: an instance of the module in a store of its own, on one thread.

use crate::host::{Deferred, Host};
use crate::module::Code;
use anyhow::{Result, anyhow};
use wasmtime::{Instance, InstancePre, Store, Trap, TypedFunc, WasmParams, WasmResults};

/// Which VM, in the order of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VmId(pub u32);

/// More fuel than any callback may need. A callback that uses it up is in an endless loop, which would block a thread of
/// Envoy for good (envoy#14126).
pub(crate) const BUDGET: u64 = 3_000_000_000;

/// The unit in which WebAssembly's memory grows.
const PAGE: usize = 64 << 10;

/// A callback of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callback {
    ContextCreate { context: u32, parent: u32 },
    VmStart { context: u32 },
    Configure { context: u32, size: u32 },
    Tick { context: u32 },
    CallResponse { context: u32, token: u32, headers: u32, body: u32 },
    RequestHeaders { context: u32, headers: u32, end: bool },
    RequestBody { context: u32, size: u32, end: bool },
    RequestTrailers { context: u32, trailers: u32 },
    ResponseHeaders { context: u32, headers: u32, end: bool },
    ResponseBody { context: u32, size: u32, end: bool },
    QueueReady { context: u32, token: u32 },
    Done { context: u32 },
    Log { context: u32 },
    Delete { context: u32 },
}

/// How a VM is made to trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapAt {
    /// Before its next callback runs.
    NextCallback,
    /// At a host call, after this number of others, in any callback.
    HostCall(u32),
    /// In the next call of this host function.
    In(&'static str),
    /// After this number of instructions, in any callback.
    Fuel(u64),
}

/// Why a VM is dead.
#[derive(Debug)]
pub(crate) struct Fallen {
    /// What wasmtime says.
    pub(crate) why: String,
    /// Whether the history asked for it.
    pub(crate) injected: bool,
}

pub(crate) struct Vm {
    store: Store<Host>,
    exports: Exports,
    pub(crate) thread: usize,
    trap_at: Option<TrapAt>,
    /// Whether its code counts fuel.
    counts: bool,
}

/// Context, token, headers, size of the body, trailers.
type CallResponse = (u32, u32, u32, u32, u32);

struct Exports {
    context_create: Option<TypedFunc<(u32, u32), ()>>,
    vm_start: Option<TypedFunc<(u32, u32), u32>>,
    configure: Option<TypedFunc<(u32, u32), u32>>,
    tick: Option<TypedFunc<u32, ()>>,
    call_response: Option<TypedFunc<CallResponse, ()>>,
    request_headers: Option<TypedFunc<(u32, u32, u32), u32>>,
    request_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    request_trailers: Option<TypedFunc<(u32, u32), u32>>,
    response_headers: Option<TypedFunc<(u32, u32, u32), u32>>,
    response_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    queue_ready: Option<TypedFunc<(u32, u32), ()>>,
    done: Option<TypedFunc<u32, u32>>,
    log: Option<TypedFunc<u32, ()>>,
    delete: Option<TypedFunc<u32, ()>>,
}

impl Vm {
    /// A clone of the base VM: instantiated and `_initialize`d.
    pub(crate) fn new(code: &Code, thread: usize, host: Host) -> Result<Vm> {
        let mut store = Store::new(code.pre.module().engine(), host);
        if code.counts {
            store.set_fuel(BUDGET).map_err(|e| anyhow!("{e:#}"))?;
        }
        let (instance, exports) = instantiated(&code.pre, &mut store)?;
        if let Some(initialize) = export::<(), ()>(&instance, &mut store, "_initialize") {
            initialize.call(&mut store, ()).map_err(|e| anyhow!("_initialize: {e:#}"))?;
        }
        Ok(Vm { store, exports, thread, trap_at: None, counts: code.counts })
    }

    /// Moves to code that counts fuel, between two callbacks. Only the memory moves: the stack pointer and the function
    /// table are then as at the beginning.
    fn count_fuel(&mut self) -> Result<()> {
        let counting = Code::testrelay()?.pre;
        let host = self.store.data().successor();
        let mut store = Store::new(counting.module().engine(), host);
        std::mem::swap(store.data_mut(), self.store.data_mut());
        let bytes = store.data().memory().map(|memory| memory.data(&self.store).to_vec()).unwrap_or_default();
        let (_, exports) = instantiated(&counting, &mut store)?;
        if let Some(memory) = store.data().memory() {
            let more = bytes.len().saturating_sub(memory.data_size(&store)) / PAGE;
            memory.grow(&mut store, more as u64).map_err(|e| anyhow!("{e:#}"))?;
            memory.write(&mut store, 0, &bytes).map_err(|e| anyhow!("{e:#}"))?;
        }
        (self.store, self.exports, self.counts) = (store, exports, true);
        Ok(())
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// The bytes of its linear memory.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().memory_size(&self.store)
    }

    pub(crate) fn trap_at(&mut self, at: TrapAt) {
        self.trap_at = Some(at);
    }

    /// Cancels its trap.
    pub(crate) fn disarm(&mut self) {
        self.trap_at = None;
    }

    /// Runs a callback that the module exports, or answers 0 (Continue, and nothing to do) where it does not; with the
    /// fuel that it took, which is 0 where nothing counts it.
    pub(crate) fn call(&mut self, callback: Callback) -> (Result<u32, Fallen>, u64) {
        // A configuration that fails is refused for ever (envoy#43751); no module can prevent that.
        let trap_at = self.trap_at.take_if(|_| !callback.configures());
        let (result, used, left) = self.call_with(callback, trap_at);
        if left.is_some() {
            self.trap_at = left;
        }
        (result, used)
    }

    fn call_with(
        &mut self,
        callback: Callback,
        mut trap_at: Option<TrapAt>,
    ) -> (Result<u32, Fallen>, u64, Option<TrapAt>) {
        if trap_at == Some(TrapAt::NextCallback) {
            return (Err(Fallen { why: "made to trap".into(), injected: true }), 0, None);
        }
        let budget = match trap_at {
            Some(TrapAt::Fuel(left)) => left.min(BUDGET),
            _ => BUDGET,
        };
        if matches!(trap_at, Some(TrapAt::Fuel(_)))
            && !self.counts
            && let Err(error) = self.count_fuel()
        {
            return (Err(Fallen { why: format!("{error:#}"), injected: false }), 0, None);
        }
        self.store.data_mut().enter(callback, trap_at);
        if self.counts && self.store.set_fuel(budget).is_err() {
            return (Err(Fallen { why: "no fuel".into(), injected: false }), 0, None);
        }
        let result = self.run(callback);
        let used = budget.saturating_sub(self.store.get_fuel().unwrap_or(budget));
        let left = self.store.data_mut().leave();
        let fuel_was_short = matches!(trap_at, Some(TrapAt::Fuel(_)));
        match &mut trap_at {
            Some(TrapAt::HostCall(n)) => *n = left.unwrap_or(0),
            Some(TrapAt::Fuel(n)) => *n = n.saturating_sub(used),
            _ => {}
        }
        let result = result.map_err(|error| {
            let out_of_fuel = error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel);
            let injected = self.store.data().was_made_to_trap() || (fuel_was_short && out_of_fuel);
            let why = if out_of_fuel && !injected { "an endless loop".into() } else { format!("{error:?}") };
            Fallen { why, injected }
        });
        (result, used, trap_at)
    }

    /// What takes effect after the callback: local replies, continued streams.
    pub(crate) fn take_deferred(&mut self) -> Vec<(u32, Deferred)> {
        std::mem::take(&mut self.store.data_mut().deferred)
    }

    fn run(&mut self, callback: Callback) -> wasmtime::Result<u32> {
        let Vm { store, exports, .. } = self;
        use Callback::*;
        match callback {
            ContextCreate { context, parent } => nothing(&exports.context_create, store, (context, parent)),
            VmStart { context } => answer(&exports.vm_start, store, (context, 0), 1),
            Configure { context, size } => answer(&exports.configure, store, (context, size), 1),
            Tick { context } => nothing(&exports.tick, store, context),
            Callback::CallResponse { context, token, headers, body } => {
                nothing(&exports.call_response, store, (context, token, headers, body, 0))
            }
            RequestHeaders { context, headers, end } => {
                answer(&exports.request_headers, store, (context, headers, end.into()), 0)
            }
            RequestBody { context, size, end } => {
                answer(&exports.request_body, store, (context, size, end.into()), 0)
            }
            RequestTrailers { context, trailers } => {
                answer(&exports.request_trailers, store, (context, trailers), 0)
            }
            ResponseHeaders { context, headers, end } => {
                answer(&exports.response_headers, store, (context, headers, end.into()), 0)
            }
            ResponseBody { context, size, end } => {
                answer(&exports.response_body, store, (context, size, end.into()), 0)
            }
            QueueReady { context, token } => nothing(&exports.queue_ready, store, (context, token)),
            Done { context } => answer(&exports.done, store, context, 1),
            Log { context } => nothing(&exports.log, store, context),
            Delete { context } => nothing(&exports.delete, store, context),
        }
    }
}

impl Callback {
    pub(crate) fn context(self) -> u32 {
        use Callback::*;
        match self {
            ContextCreate { context, .. }
            | VmStart { context }
            | Configure { context, .. }
            | Tick { context }
            | CallResponse { context, .. }
            | RequestHeaders { context, .. }
            | RequestBody { context, .. }
            | RequestTrailers { context, .. }
            | ResponseHeaders { context, .. }
            | ResponseBody { context, .. }
            | QueueReady { context, .. }
            | Done { context }
            | Log { context }
            | Delete { context } => context,
        }
    }

    /// Whether it is part of creating a root context.
    pub(crate) fn configures(self) -> bool {
        use Callback::*;
        matches!(self, ContextCreate { parent: 0, .. } | VmStart { .. } | Configure { .. })
    }

    /// The name that its fuel is recorded under.
    pub(crate) fn name(self) -> &'static str {
        use Callback::*;
        match self {
            ContextCreate { .. } => "context_create",
            VmStart { .. } => "vm_start",
            Configure { .. } => "configure",
            Tick { .. } => "tick",
            CallResponse { .. } => "http_call_response",
            RequestHeaders { .. } => "request_headers",
            RequestBody { .. } => "request_body",
            RequestTrailers { .. } => "request_trailers",
            ResponseHeaders { .. } => "response_headers",
            ResponseBody { .. } => "response_body",
            QueueReady { .. } => "queue_ready",
            Done { .. } => "done",
            Log { .. } => "log",
            Delete { .. } => "delete",
        }
    }
}

impl Exports {
    fn of(instance: &Instance, store: &mut Store<Host>) -> Exports {
        Exports {
            context_create: export(instance, store, "proxy_on_context_create"),
            vm_start: export(instance, store, "proxy_on_vm_start"),
            configure: export(instance, store, "proxy_on_configure"),
            tick: export(instance, store, "proxy_on_tick"),
            call_response: export(instance, store, "proxy_on_http_call_response"),
            request_headers: export(instance, store, "proxy_on_request_headers"),
            request_body: export(instance, store, "proxy_on_request_body"),
            request_trailers: export(instance, store, "proxy_on_request_trailers"),
            response_headers: export(instance, store, "proxy_on_response_headers"),
            response_body: export(instance, store, "proxy_on_response_body"),
            queue_ready: export(instance, store, "proxy_on_queue_ready"),
            done: export(instance, store, "proxy_on_done"),
            log: export(instance, store, "proxy_on_log"),
            delete: export(instance, store, "proxy_on_delete"),
        }
    }
}

/// An instance whose host knows its memory, before `_initialize`.
fn instantiated(code: &InstancePre<Host>, store: &mut Store<Host>) -> Result<(Instance, Exports)> {
    let instance = code.instantiate(&mut *store).map_err(|e| anyhow!("{e:#}"))?;
    let memory = instance.get_memory(&mut *store, "memory");
    let allocate = export(&instance, store, "proxy_on_memory_allocate");
    store.data_mut().attach(memory, allocate);
    let exports = Exports::of(&instance, store);
    Ok((instance, exports))
}

fn export<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<Host>,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_typed_func(store, name).ok()
}

fn nothing<P: WasmParams>(
    function: &Option<TypedFunc<P, ()>>,
    store: &mut Store<Host>,
    arguments: P,
) -> wasmtime::Result<u32> {
    function.as_ref().map_or(Ok(0), |function| function.call(store, arguments).map(|()| 0))
}

fn answer<P: WasmParams>(
    function: &Option<TypedFunc<P, u32>>,
    store: &mut Store<Host>,
    arguments: P,
    otherwise: u32,
) -> wasmtime::Result<u32> {
    function.as_ref().map_or(Ok(otherwise), |function| function.call(store, arguments))
}
