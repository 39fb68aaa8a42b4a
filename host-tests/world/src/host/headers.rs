//! Header maps: a stream's request and response, and the answer to a call.

use super::{
    BAD_ARGUMENT, Host, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, Pairs, begin, deserialized, give, read,
    serialized,
};
use wasmtime::{Caller, Linker, Result};

const REQUEST: u32 = 0;
const RESPONSE: u32 = 2;
const CALL_RESPONSE: u32 = 6;

/// proxy-wasm-cpp-host `limits.h`: a map beyond either is handed over empty, without an error.
const MAX_PAIRS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_header_map_pairs", get_pairs)?;
    linker.func_wrap("env", "proxy_set_header_map_pairs", set_pairs)?;
    linker.func_wrap("env", "proxy_get_header_map_value", get)?;
    linker.func_wrap("env", "proxy_replace_header_map_value", replace)?;
    linker.func_wrap("env", "proxy_add_header_map_value", add)?;
    linker.func_wrap("env", "proxy_remove_header_map_value", remove)?;
    Ok(())
}

impl Host {
    fn map(&mut self, map: u32) -> Option<&mut Pairs> {
        let context = self.effective;
        match map {
            REQUEST => self.stream(context).and_then(|stream| stream.request_headers.as_mut()),
            RESPONSE => self.stream(context).and_then(|stream| stream.response_headers.as_mut()),
            // Without an answer Envoy has no map.
            CALL_RESPONSE => {
                self.call_response.as_mut().map(|(headers, _)| headers).filter(|headers| !headers.is_empty())
            }
            _ => None,
        }
    }
}

fn get_pairs(mut caller: Caller<'_, Host>, map: u32, pointer: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_get_header_map_pairs")?;
    let bytes = match caller.data_mut().map(map) {
        Some(pairs) if pairs.is_empty() || pairs.len() > MAX_PAIRS => Vec::new(),
        Some(pairs) => Some(serialized(pairs)).filter(|bytes| bytes.len() <= MAX_BYTES).unwrap_or_default(),
        None => Vec::new(),
    };
    give(&mut caller, &bytes, pointer, size)
}

fn set_pairs(mut caller: Caller<'_, Host>, map: u32, pairs: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_set_header_map_pairs")?;
    let Some(bytes) = read(&caller, pairs, size) else { return Ok(INVALID_MEMORY_ACCESS) };
    Ok(match (deserialized(&bytes), caller.data_mut().map(map)) {
        (Some(pairs), Some(map)) => {
            *map = pairs;
            OK
        }
        _ => BAD_ARGUMENT,
    })
}

/// The first value of that name.
fn get(
    mut caller: Caller<'_, Host>,
    map: u32,
    key: u32,
    key_size: u32,
    pointer: u32,
    size: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_get_header_map_value")?;
    let Some(key) = read(&caller, key, key_size) else { return Ok(INVALID_MEMORY_ACCESS) };
    let Some(pairs) = caller.data_mut().map(map) else { return Ok(BAD_ARGUMENT) };
    let found = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)).map(|(_, v)| v.clone());
    match found {
        Some(value) => give(&mut caller, &value, pointer, size),
        None => Ok(NOT_FOUND),
    }
}

fn replace(
    mut caller: Caller<'_, Host>,
    map: u32,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_replace_header_map_value")?;
    change(
        &mut caller,
        map,
        (key, key_size),
        |pairs, key, value| {
            pairs.retain(|(name, _)| !name.eq_ignore_ascii_case(&key));
            pairs.push((key, value.unwrap_or_default()));
        },
        Some((value, value_size)),
    )
}

fn add(
    mut caller: Caller<'_, Host>,
    map: u32,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_add_header_map_value")?;
    change(
        &mut caller,
        map,
        (key, key_size),
        |pairs, key, value| {
            pairs.push((key, value.unwrap_or_default()));
        },
        Some((value, value_size)),
    )
}

fn remove(mut caller: Caller<'_, Host>, map: u32, key: u32, key_size: u32) -> Result<u32> {
    begin(&mut caller, "proxy_remove_header_map_value")?;
    change(
        &mut caller,
        map,
        (key, key_size),
        |pairs, key, _| {
            pairs.retain(|(name, _)| !name.eq_ignore_ascii_case(&key));
        },
        None,
    )
}

fn change(
    caller: &mut Caller<'_, Host>,
    map: u32,
    key: (u32, u32),
    change: impl FnOnce(&mut Pairs, Vec<u8>, Option<Vec<u8>>),
    value: Option<(u32, u32)>,
) -> Result<u32> {
    let Some(key) = read(caller, key.0, key.1) else { return Ok(INVALID_MEMORY_ACCESS) };
    let value = match value {
        Some((at, size)) => match read(caller, at, size) {
            Some(value) => Some(value),
            None => return Ok(INVALID_MEMORY_ACCESS),
        },
        None => None,
    };
    let Some(pairs) = caller.data_mut().map(map) else { return Ok(BAD_ARGUMENT) };
    change(pairs, key.to_ascii_lowercase(), value);
    Ok(OK)
}
