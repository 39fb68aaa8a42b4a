//! Imports of the SDK that the module does not use: a call is an error in this host, or the module has changed.

use super::{Host, UNIMPLEMENTED, begin};
use wasmtime::{Caller, Linker, Result};

/// Reports that the module used something that this host does not have.
pub(super) fn report(caller: &mut Caller<'_, Host>, name: &'static str) -> Result<u32> {
    begin(caller, name)?;
    let text = format!("the module called {name}, which this host does not have");
    caller.data().state.borrow_mut().violation("host", text);
    Ok(UNIMPLEMENTED)
}

macro_rules! unused {
    ($linker:ident, $name:literal $(, $argument:ident)*) => {
        $linker.func_wrap("env", $name, |mut caller: Caller<'_, Host> $(, $argument: u32)*| {
            $(let _ = $argument;)*
            report(&mut caller, $name)
        })?;
    };
}

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    unused!(linker, "proxy_grpc_cancel", a);
    unused!(linker, "proxy_grpc_close", a);
    unused!(linker, "proxy_grpc_send", a, b, c, d);
    unused!(linker, "proxy_grpc_stream", a, b, c, d, e, f, g, h, i);
    unused!(linker, "proxy_grpc_call", a, b, c, d, e, f, g, h, i, j, k, l);
    unused!(linker, "proxy_call_foreign_function", a, b, c, d, e, f);
    Ok(())
}
