//! Local replies, pauses, ticks, contexts. All that touches a stream takes effect when the callback has returned.

use super::{
    BAD_ARGUMENT, BROKEN_CONNECTION, Deferred, Host, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, begin,
    deserialized, give, read, write_u32,
};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_send_local_response", send_local_response)?;
    linker.func_wrap("env", "proxy_continue_stream", continue_stream)?;
    linker.func_wrap("env", "proxy_close_stream", close_stream)?;
    linker.func_wrap("env", "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", set_tick_period)?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", current_time)?;
    linker.func_wrap("env", "proxy_done", done)?;
    linker.func_wrap("env", "proxy_get_status", status)?;
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn send_local_response(
    mut caller: Caller<'_, Host>,
    status: u32,
    _details: u32,
    _details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    _grpc: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_send_local_response")?;
    let (Some(body), Some(headers)) = (read(&caller, body, body_size), read(&caller, headers, headers_size))
    else {
        return Ok(INVALID_MEMORY_ACCESS);
    };
    let (Some(headers), Ok(status)) = (deserialized(&headers), u16::try_from(status)) else {
        return Ok(BAD_ARGUMENT);
    };
    let host = caller.data_mut();
    let context = host.effective;
    // A root context has nobody to answer: Envoy returns OK and does nothing.
    if host.stream(context).is_some() {
        let running = host.current;
        if running != context && host.stream(running).is_some() {
            // `stopNextIteration`: in Envoy, the running callback's own stream is stopped for good, and a piece of its body lost.
            let text =
                format!("stream {running} answers stream {context} in its own callback, which stops itself");
            host.state.borrow_mut().violation("host", text);
        }
        host.deferred.push((context, Deferred::Reply { status, headers, body }));
    }
    Ok(OK)
}

fn continue_stream(mut caller: Caller<'_, Host>, which: u32) -> Result<u32> {
    begin(&mut caller, "proxy_continue_stream")?;
    let host = caller.data_mut();
    let context = host.effective;
    let deferred = match which {
        0 => Deferred::ContinueRequest,
        1 => Deferred::ContinueResponse,
        _ => return Ok(BAD_ARGUMENT),
    };
    host.deferred.push((context, deferred));
    Ok(OK)
}

fn close_stream(mut caller: Caller<'_, Host>, _which: u32) -> Result<u32> {
    begin(&mut caller, "proxy_close_stream")?;
    let host = caller.data_mut();
    let context = host.effective;
    host.deferred.push((context, Deferred::CloseStream));
    Ok(OK)
}

fn set_effective_context(mut caller: Caller<'_, Host>, context: u32) -> Result<u32> {
    begin(&mut caller, "proxy_set_effective_context")?;
    let host = caller.data_mut();
    if !host.contexts.contains_key(&context) {
        return Ok(BAD_ARGUMENT);
    }
    host.effective = context;
    Ok(OK)
}

/// One timer per root context; from a stream it is the root's.
fn set_tick_period(mut caller: Caller<'_, Host>, period: u32) -> Result<u32> {
    begin(&mut caller, "proxy_set_tick_period_milliseconds")?;
    let host = caller.data_mut();
    let context = host.effective_root();
    let Some(root) = host.root(context) else { return Ok(BAD_ARGUMENT) };
    root.tick_period = period;
    root.tick_generation += 1;
    let generation = root.tick_generation;
    host.deferred.push((context, Deferred::SetTick { period, generation }));
    Ok(OK)
}

/// A root context that answered `on_done` with false has done what it wanted to; it is deleted when the callback returns.
fn done(mut caller: Caller<'_, Host>) -> Result<u32> {
    begin(&mut caller, "proxy_done")?;
    let host = caller.data_mut();
    let context = host.effective_root();
    match host.root(context).filter(|root| root.is_pending_done) {
        Some(root) => {
            root.is_pending_done = false;
            host.deferred.push((context, Deferred::Delete));
            Ok(OK)
        }
        None => Ok(NOT_FOUND),
    }
}

/// Why the call of this callback failed (`Context::onHttpCallFailure`).
fn status(mut caller: Caller<'_, Host>, code: u32, text: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_get_status")?;
    let is_broken = caller.data().call_response.as_ref().is_some_and(|(headers, _)| headers.is_empty());
    let (number, reason) = if is_broken { (BROKEN_CONNECTION, "reset") } else { (OK, "") };
    let written = write_u32(&mut caller, code, number);
    Ok(give(&mut caller, reason.as_bytes(), text, size)?.max(written))
}

fn current_time(mut caller: Caller<'_, Host>, at: u32) -> Result<u32> {
    begin(&mut caller, "proxy_get_current_time_nanoseconds")?;
    let nanoseconds = caller.data().state.borrow().wall_nanoseconds();
    let low = write_u32(&mut caller, at, nanoseconds as u32);
    Ok(write_u32(&mut caller, at.wrapping_add(4), (nanoseconds >> 32) as u32).max(low))
}
