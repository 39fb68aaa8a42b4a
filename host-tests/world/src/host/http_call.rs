//! Calls to clusters: what is refused at once, and what goes out.

use super::{
    BAD_ARGUMENT, Host, INTERNAL_FAILURE, INVALID_MEMORY_ACCESS, begin, deserialized, interlude, read, text,
    write_u32,
};
use crate::network::{Dispatch, Outgoing};
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_http_call", call)?;
    Ok(())
}

/// Envoy `context.cc` `httpCall`: a missing pseudo header or an unknown cluster is BadArgument, a refusal by the client
/// InternalFailure; in neither case does a callback come.
#[allow(clippy::too_many_arguments)]
fn call(
    mut caller: Caller<'_, Host>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    _trailers: u32,
    _trailers_size: u32,
    timeout: u32,
    token: u32,
) -> Result<u32> {
    begin(&mut caller, "proxy_http_call")?;
    let (Some(cluster), Some(headers), Some(body)) = (
        text(&caller, cluster, cluster_size),
        read(&caller, headers, headers_size),
        read(&caller, body, body_size),
    ) else {
        return Ok(INVALID_MEMORY_ACCESS);
    };
    let Some(headers) = deserialized(&headers) else { return Ok(BAD_ARGUMENT) };
    let value = |name: &str| {
        let found = headers.iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let (Some(method), Some(path), Some(authority)) = (value(":method"), value(":path"), value(":authority"))
    else {
        return Ok(BAD_ARGUMENT);
    };
    let mut request = fakes::Request { method, target: path, body, ..fakes::Request::default() };
    request = request.header("host", &authority);
    let others = headers.iter().filter(|(name, _)| !name.starts_with(b":"));
    request
        .headers
        .extend(others.map(|(name, v)| (String::from_utf8_lossy(name).to_ascii_lowercase(), v.clone())));
    let host = caller.data_mut();
    let next = host.last_token.wrapping_add(4);
    let process = host.state.borrow().process;
    let root = host.effective_root();
    let instance = host.root(root).map(|root| root.instance.clone()).unwrap_or_default();
    let outgoing = Outgoing {
        process,
        vm: host.vm,
        thread: host.thread,
        root,
        context: host.effective,
        instance,
        callback_began: host.callback_began,
        token: next,
        cluster,
        request,
        timeout: u64::from(timeout) * 1_000,
    };
    host.state.borrow_mut().asks_for_call(&outgoing);
    interlude(&caller, true);
    let host = caller.data_mut();
    let dispatch = host.state.borrow_mut().dispatch(outgoing);
    Ok(match dispatch {
        Dispatch::UnknownCluster => BAD_ARGUMENT,
        Dispatch::Refused => {
            host.last_token = next;
            INTERNAL_FAILURE
        }
        Dispatch::Sent => {
            host.last_token = next;
            write_u32(&mut caller, token, next)
        }
    })
}
