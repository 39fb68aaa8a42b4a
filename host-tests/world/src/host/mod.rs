//! The host as a VM sees it: one file per family of host calls, on the state of the whole process.
//!
//! ABI: proxy-wasm 0.2.1, as in proxy-wasm-cpp-host's `exports.h`.

mod body;
mod control;
mod headers;
mod http_call;
mod log;
mod metrics;
mod pairs;
mod property;
mod shared_data;
mod shared_queue;
mod unused;
mod wasi;

use pairs::{deserialized, serialized};

use crate::plugins::VmKey;
use crate::process::Process;
use crate::state::State;
use crate::vm::{Callback, TrapAt, VmId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use wasmtime::{Caller, Error, Linker, Memory, Result, Store, TypedFunc};

pub(crate) const OK: u32 = 0;
pub(crate) const NOT_FOUND: u32 = 1;
pub(crate) const BAD_ARGUMENT: u32 = 2;
pub(crate) const INVALID_MEMORY_ACCESS: u32 = 6;
pub(crate) const EMPTY: u32 = 7;
pub(crate) const CAS_MISMATCH: u32 = 8;
pub(crate) const INTERNAL_FAILURE: u32 = 10;
pub(crate) const BROKEN_CONNECTION: u32 = 11;
pub(crate) const UNIMPLEMENTED: u32 = 12;

/// Names and values, as bytes off the wire.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One VM's side of the host.
pub(crate) struct Host {
    pub(crate) state: Rc<RefCell<State>>,
    process: Weak<Process>,
    pub(crate) vm: VmId,
    pub(crate) key: VmKey,
    pub(crate) thread: usize,
    /// The table of shared data that VMs of this vm_id have in this process.
    pub(crate) space: usize,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) deferred: Vec<(u32, Deferred)>,
    pub(crate) environment: Rc<BTreeMap<String, String>>,
    /// The plugin's configuration, inside `on_configure` only (sdk#203).
    pub(crate) configuration: Option<Rc<Vec<u8>>>,
    /// A call's answer, inside its callback only.
    pub(crate) call_response: Option<(Pairs, Vec<u8>)>,
    pub(crate) last_token: u32,
    pub(crate) last_context: u32,
    /// The context of the callback, and the one that `proxy_set_effective_context` chose.
    current: u32,
    effective: u32,
    callback: &'static str,
    callback_began: u64,
    memory: Option<Memory>,
    allocate: Option<Rc<TypedFunc<u32, u32>>>,
    host_calls_left: Option<u32>,
    trap_in: Option<&'static str>,
    made_to_trap: bool,
}

/// A context of the VM.
pub(crate) enum Context {
    Root(Root),
    Stream(Stream),
}

/// A root context: what the host keeps of it.
#[derive(Default)]
pub(crate) struct Root {
    pub(crate) plugin_name: String,
    pub(crate) root_id: String,
    /// The module's instance: what its configuration says, else the plugin's name. Each has a leader of its own.
    pub(crate) instance: String,
    pub(crate) tick_period: u32,
    /// Raised whenever its timer is set anew.
    pub(crate) tick_generation: u64,
    /// It answered `on_done` with false, and goes on until it calls `proxy_done`.
    pub(crate) is_pending_done: bool,
}

/// A stream's maps and buffers.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) root: u32,
    /// Until the module lets them go on.
    pub(crate) request_headers: Option<Pairs>,
    pub(crate) request_body: Option<Vec<u8>>,
    /// Only inside their callback.
    pub(crate) response_headers: Option<Pairs>,
    pub(crate) response_body: Option<Vec<u8>>,
}

/// What takes effect when the callback has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Reply {
        status: u16,
        headers: Pairs,
        body: Vec<u8>,
    },
    ContinueRequest,
    ContinueResponse,
    CloseStream,
    /// A root context that had postponed its end.
    Delete,
    SetTick {
        period: u32,
        generation: u64,
    },
}

impl Host {
    pub(crate) fn new(
        state: Rc<RefCell<State>>,
        process: Weak<Process>,
        vm: VmId,
        key: VmKey,
        thread: usize,
        environment: Rc<BTreeMap<String, String>>,
    ) -> Host {
        let space = state.borrow_mut().own.space(&key.vm_id);
        Host {
            state,
            process,
            vm,
            key,
            thread,
            space,
            contexts: BTreeMap::new(),
            deferred: Vec::new(),
            environment,
            configuration: None,
            call_response: None,
            last_token: 0,
            last_context: 0,
            current: 0,
            effective: 0,
            callback: "_initialize",
            callback_began: 0,
            memory: None,
            allocate: None,
            host_calls_left: None,
            trap_in: None,
            made_to_trap: false,
        }
    }

    /// The host side of another instance of the same VM, before it has taken over anything.
    pub(crate) fn successor(&self) -> Host {
        let (state, process, environment) =
            (self.state.clone(), self.process.clone(), self.environment.clone());
        Host::new(state, process, self.vm, self.key.clone(), self.thread, environment)
    }

    pub(crate) fn memory(&self) -> Option<Memory> {
        self.memory
    }

    pub(crate) fn attach(&mut self, memory: Option<Memory>, allocate: Option<TypedFunc<u32, u32>>) {
        (self.memory, self.allocate) = (memory, allocate.map(Rc::new));
    }

    pub(crate) fn memory_size(&self, store: &Store<Host>) -> usize {
        self.memory.map_or(0, |memory| memory.data_size(store))
    }

    pub(crate) fn enter(&mut self, callback: Callback, trap_at: Option<TrapAt>) {
        (self.current, self.effective) = (callback.context(), callback.context());
        self.callback = callback.name();
        self.callback_began = self.state.borrow().now;
        self.host_calls_left = match trap_at {
            Some(TrapAt::HostCall(left)) => Some(left),
            _ => None,
        };
        self.trap_in = match trap_at {
            Some(TrapAt::In(name)) => Some(name),
            _ => None,
        };
    }

    /// Ends a callback; how many host calls are left before the VM is made to trap.
    pub(crate) fn leave(&mut self) -> Option<u32> {
        self.configuration = None;
        self.call_response = None;
        self.host_calls_left.take()
    }

    pub(crate) fn was_made_to_trap(&self) -> bool {
        self.made_to_trap
    }

    pub(crate) fn root(&mut self, context: u32) -> Option<&mut Root> {
        match self.contexts.get_mut(&context) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    pub(crate) fn stream(&mut self, context: u32) -> Option<&mut Stream> {
        match self.contexts.get_mut(&context) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    /// The root context of the effective context: calls and ticks belong to it.
    pub(crate) fn effective_root(&self) -> u32 {
        match self.contexts.get(&self.effective) {
            Some(Context::Stream(stream)) => stream.root,
            _ => self.effective,
        }
    }
}

/// Defines everything that the module may import.
pub(crate) fn link(linker: &mut Linker<Host>) -> Result<()> {
    log::link(linker)?;
    headers::link(linker)?;
    body::link(linker)?;
    http_call::link(linker)?;
    shared_data::link(linker)?;
    shared_queue::link(linker)?;
    metrics::link(linker)?;
    property::link(linker)?;
    control::link(linker)?;
    wasi::link(linker)?;
    unused::link(linker)
}

/// Each host call begins here: it is counted and traced, and traps the VM if the history says so.
fn begin(caller: &mut Caller<'_, Host>, name: &'static str) -> Result<()> {
    let host = caller.data_mut();
    let is_last = host.host_calls_left == Some(0);
    if is_last || host.trap_in == Some(name) {
        host.made_to_trap = true;
        host.state.borrow_mut().covered(name);
        return Err(Error::msg(format!("made to trap in {name}")));
    }
    if let Some(left) = &mut host.host_calls_left {
        *left -= 1;
    }
    Ok(())
}

/// Other threads may run between two host calls of this one: shared data is the only thing they share.
fn interlude(caller: &Caller<'_, Host>, writes: bool) {
    let host = caller.data();
    let pause = host.state.borrow_mut().draw_interlude(host.thread, host.callback, writes);
    if let (Some(pause), Some(process)) = (pause, host.process.upgrade()) {
        process.interlude(pause);
    }
}

/// Bytes of the VM's memory; `None` where they lie outside.
fn read(caller: &Caller<'_, Host>, at: u32, size: u32) -> Option<Vec<u8>> {
    slice(caller, at, size).map(<[u8]>::to_vec)
}

fn slice<'a>(caller: &'a Caller<'_, Host>, at: u32, size: u32) -> Option<&'a [u8]> {
    let memory = caller.data().memory?;
    let at = usize::try_from(at).ok()?;
    memory.data(caller).get(at..at.checked_add(usize::try_from(size).ok()?)?)
}

fn text(caller: &Caller<'_, Host>, at: u32, size: u32) -> Option<String> {
    slice(caller, at, size).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn write(caller: &mut Caller<'_, Host>, at: u32, bytes: &[u8]) -> u32 {
    let Some(memory) = caller.data().memory else { return INVALID_MEMORY_ACCESS };
    match memory.write(caller, at as usize, bytes) {
        Ok(()) => OK,
        Err(_) => INVALID_MEMORY_ACCESS,
    }
}

fn write_u32(caller: &mut Caller<'_, Host>, at: u32, value: u32) -> u32 {
    write(caller, at, &value.to_le_bytes())
}

/// Passes bytes in memory that the VM allocates; no bytes are a null pointer (cpp-host `copyToPointerSize`).
fn give(caller: &mut Caller<'_, Host>, bytes: &[u8], pointer: u32, size: u32) -> Result<u32> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::msg("more than 4 GiB"))?;
    let mut at = 0;
    if length > 0 {
        let allocate = caller.data().allocate.clone().ok_or_else(|| Error::msg("no allocator"))?;
        at = allocate.call(&mut *caller, length)?;
        if at == 0 || write(caller, at, bytes) != OK {
            return Ok(INVALID_MEMORY_ACCESS);
        }
    }
    Ok(write_u32(caller, pointer, at).max(write_u32(caller, size, length)))
}
