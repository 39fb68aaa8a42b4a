//! Shared queues: messages from one context to another, on any thread.

use super::{
    EMPTY, Host, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, begin, give, interlude, read, text, write_u32,
};
use crate::queues::Registrant;
use crate::state::Event;
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_register_shared_queue", register)?;
    linker.func_wrap("env", "proxy_resolve_shared_queue", resolve)?;
    linker.func_wrap("env", "proxy_enqueue_shared_queue", enqueue)?;
    linker.func_wrap("env", "proxy_dequeue_shared_queue", dequeue)?;
    Ok(())
}

/// `on_queue_ready` is the root context's, also where a stream registers.
fn register(mut caller: Caller<'_, Host>, name: u32, size: u32, token: u32) -> Result<u32> {
    begin(&mut caller, "proxy_register_shared_queue")?;
    interlude(&caller, true);
    let Some(name) = read(&caller, name, size) else { return Ok(INVALID_MEMORY_ACCESS) };
    let host = caller.data();
    let registrant =
        Registrant { thread: host.thread, key: host.key.clone(), context: host.effective_root() };
    let mut state = host.state.borrow_mut();
    let now = state.now;
    state.own.rules.scan_key(now, &name);
    let number = state.own.queues.register(&host.key.vm_id, &name, registrant);
    drop(state);
    Ok(write_u32(&mut caller, token, number))
}

/// An empty vm_id is the VM's own.
fn resolve(
    mut caller: Caller<'_, Host>,
    vm_id: u32,
    vm_id_size: u32,
    name: u32,
    name_size: u32,
    token: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_resolve_shared_queue")?;
    interlude(&caller, false);
    let (Some(vm_id), Some(name)) = (text(&caller, vm_id, vm_id_size), read(&caller, name, name_size)) else {
        return Ok(INVALID_MEMORY_ACCESS);
    };
    let host = caller.data();
    let vm_id = if vm_id.is_empty() { host.key.vm_id.clone() } else { vm_id };
    let found = host.state.borrow().own.queues.resolve(&vm_id, &name);
    match found {
        Some(number) => Ok(write_u32(&mut caller, token, number)),
        None => Ok(NOT_FOUND),
    }
}

fn enqueue(mut caller: Caller<'_, Host>, token: u32, item: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_enqueue_shared_queue")?;
    interlude(&caller, true);
    let Some(item) = read(&caller, item, size) else { return Ok(INVALID_MEMORY_ACCESS) };
    let mut state = caller.data().state.borrow_mut();
    match state.own.queues.enqueue(token, &item) {
        Some(registrant) => {
            state.after(0, Event::QueueReady { registrant, token });
            Ok(OK)
        }
        None => Ok(NOT_FOUND),
    }
}

fn dequeue(mut caller: Caller<'_, Host>, token: u32, pointer: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_dequeue_shared_queue")?;
    interlude(&caller, true);
    let taken = caller.data().state.borrow_mut().own.queues.dequeue(token);
    match taken {
        None => Ok(NOT_FOUND),
        Some(None) => Ok(EMPTY),
        Some(Some(item)) => give(&mut caller, &item, pointer, size),
    }
}
