//! Counters.

use super::{BAD_ARGUMENT, Host, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, begin, text, write_u32};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_define_metric", define)?;
    linker.func_wrap("env", "proxy_increment_metric", increment)?;
    Ok(())
}

/// The same name is the same metric, on whichever thread.
fn define(mut caller: Caller<'_, Host>, kind: u32, name: u32, size: u32, id: u32) -> Result<u32> {
    begin(&mut caller, "proxy_define_metric")?;
    let Some(name) = text(&caller, name, size) else { return Ok(INVALID_MEMORY_ACCESS) };
    if kind > 2 {
        return Ok(BAD_ARGUMENT);
    }
    let number = caller.data().state.borrow_mut().define_metric(&name);
    Ok(write_u32(&mut caller, id, number))
}

/// A counter only rises: Envoy answers BadArgument to anything else.
fn increment(mut caller: Caller<'_, Host>, id: u32, by: i64) -> Result<u32> {
    begin(&mut caller, "proxy_increment_metric")?;
    if by <= 0 {
        return Ok(BAD_ARGUMENT);
    }
    Ok(if caller.data().state.borrow_mut().increment_metric(id, by) { OK } else { NOT_FOUND })
}
