//! Shared data, with other threads in between.

use super::{
    CAS_MISMATCH, Host, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, begin, give, interlude, slice, write_u32,
};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_shared_data", get)?;
    linker.func_wrap("env", "proxy_set_shared_data", set)?;
    Ok(())
}

fn get(
    mut caller: Caller<'_, Host>,
    key: u32,
    key_size: u32,
    pointer: u32,
    size: u32,
    cas: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_get_shared_data")?;
    interlude(&caller, false);
    let Some(key) = slice(&caller, key, key_size) else { return Ok(INVALID_MEMORY_ACCESS) };
    let host = caller.data();
    let found = host.state.borrow().own.spaces[host.space].1.get(key);
    match found {
        Some((value, number)) => {
            let written = write_u32(&mut caller, cas, number);
            Ok(give(&mut caller, &value, pointer, size)?.max(written))
        }
        None => Ok(NOT_FOUND),
    }
}

fn set(
    mut caller: Caller<'_, Host>,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
    cas: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_set_shared_data")?;
    interlude(&caller, true);
    let (Some(key), Some(value)) = (slice(&caller, key, key_size), slice(&caller, value, value_size)) else {
        return Ok(INVALID_MEMORY_ACCESS);
    };
    let host = caller.data();
    let written = host.state.borrow_mut().set_shared(host.space, key, value, cas);
    Ok(if written { OK } else { CAS_MISMATCH })
}
