//! Properties: what a root context may know of itself.

use super::{Host, INVALID_MEMORY_ACCESS, NOT_FOUND, begin, give, text, unused};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_property", get)?;
    linker.func_wrap("env", "proxy_set_property", set)?;
    Ok(())
}

fn get(mut caller: Caller<'_, Host>, path: u32, path_size: u32, pointer: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_get_property")?;
    let Some(path) = text(&caller, path, path_size) else { return Ok(INVALID_MEMORY_ACCESS) };
    let host = caller.data_mut();
    host.state.borrow_mut().scan("a property's path", path.as_bytes());
    let (root, vm_id) = (host.effective_root(), host.key.vm_id.clone());
    let value = host.root(root).and_then(|root| match path.as_str() {
        "plugin_name" => Some(root.plugin_name.clone()),
        "plugin_root_id" => Some(root.root_id.clone()),
        "plugin_vm_id" => Some(vm_id),
        _ => None,
    });
    match value {
        Some(value) => give(&mut caller, value.as_bytes(), pointer, size),
        None => Ok(NOT_FOUND),
    }
}

fn set(mut caller: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32) -> Result<u32> {
    unused::report(&mut caller, "proxy_set_property")
}
