//! Buffers: bodies, and the plugin's configuration.

use super::{BAD_ARGUMENT, Host, NOT_FOUND, begin, give};
use wasmtime::{Caller, Linker, Result};

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_buffer_bytes", get)?;
    linker.func_wrap("env", "proxy_set_buffer_bytes", set)?;
    Ok(())
}

impl Host {
    fn buffer(&mut self, buffer: u32) -> Option<&[u8]> {
        let context = self.effective;
        match buffer {
            REQUEST_BODY => self.stream(context)?.request_body.as_deref(),
            RESPONSE_BODY => self.stream(context)?.response_body.as_deref(),
            CALL_RESPONSE_BODY => self.call_response.as_ref().map(|(_, body)| body.as_slice()),
            PLUGIN_CONFIGURATION => self.configuration.as_ref().map(|text| text.as_slice()),
            _ => None,
        }
    }
}

/// At most `most` bytes from `start`: what exists is returned, without an error for the rest.
fn get(
    mut caller: Caller<'_, Host>,
    buffer: u32,
    start: u32,
    most: u32,
    pointer: u32,
    size: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_get_buffer_bytes")?;
    // Start and length are added as 32-bit numbers in Envoy.
    if start.checked_add(most).is_none() {
        return Ok(BAD_ARGUMENT);
    }
    let Some(bytes) = caller.data_mut().buffer(buffer) else { return Ok(NOT_FOUND) };
    let start = (start as usize).min(bytes.len());
    let end = start.saturating_add(most as usize).min(bytes.len());
    let part = bytes.get(start..end).unwrap_or_default().to_vec();
    give(&mut caller, &part, pointer, size)
}

/// The module rewrites no body, so a call would be new.
fn set(mut caller: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32) -> Result<u32> {
    super::unused::report(&mut caller, "proxy_set_buffer_bytes")
}
