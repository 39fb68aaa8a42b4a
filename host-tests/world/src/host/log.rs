//! Lines of Envoy's log.

use super::{BAD_ARGUMENT, Host, INVALID_MEMORY_ACCESS, OK, begin, text};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", log)?;
    Ok(())
}

/// Levels: 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
fn log(mut caller: Caller<'_, Host>, level: u32, message: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_log")?;
    let Some(line) = text(&caller, message, size) else { return Ok(INVALID_MEMORY_ACCESS) };
    if level > 5 {
        return Ok(BAD_ARGUMENT);
    }
    let host = caller.data();
    host.state.borrow_mut().logged(host.thread, level, &line);
    Ok(OK)
}
