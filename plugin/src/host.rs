//! The host: every function that the module imports from Envoy and WASI. Of the SDK it uses only `dispatch_http_call`
//! (which registers the call with the SDK's dispatcher) and `set_effective_context`.
//!
//! The SDK's other wrappers panic on statuses that they do not list, and its header getters panic on bytes that are not
//! UTF-8, which any client can send. A panic stops the VM of its thread: hence own declarations, statuses as numbers,
//! and headers as bytes. ABI: proxy-wasm 0.2.1, as in proxy-wasm-cpp-host's `exports.h`.

mod metrics;

pub(crate) use metrics::Metrics;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use std::ptr::{null, null_mut};
use std::time::Duration;
use testrelay::store::ledger::{Cas, Entry, Store, StoreError};
use testrelay::surface::problem::Reply;
use testrelay::time::{Mono, Now, Wall};
use testrelay::wire::call::{Asks, CallOutcome, Fault, Request, Response};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        most: usize,
        data: *mut *mut u8,
        data_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, pairs_size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm_id: *const u8,
        vm_id_size: usize,
        name: *const u8,
        name_size: usize,
        queue: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, item: *const u8, item_size: usize) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, item: *mut *mut u8, item_size: *mut usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u16;
    fn random_get(buffer: *mut u8, size: usize) -> u16;
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

const BUFFER_REQUEST_BODY: u32 = 0;
const BUFFER_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;

const STREAM_REQUEST: u32 = 0;

const MAP_REQUEST_HEADERS: u32 = 0;
const MAP_RESPONSE_HEADERS: u32 = 2;
const MAP_CALL_RESPONSE_HEADERS: u32 = 6;

/// A name and a value, as bytes off the wire. Envoy gives names in lower case.
pub(crate) type Header<'a> = (&'a [u8], &'a [u8]);

/// Headers as the host gave them, in one piece of memory, so that readers copy nothing.
#[derive(Default)]
pub(crate) struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// Names and values.
    pub(crate) fn pairs(&self) -> Vec<Header<'_>> {
        deserialized(&self.0).unwrap_or_default()
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Sends the `log` crate's lines, and the text of a panic, to Envoy's log.
pub(crate) fn install_logger() {
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            write_log(5 - record.level() as u32, &record.args().to_string());
        }

        fn flush(&self) {}
    }
    static LOGGER: Logger = Logger;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
        std::panic::set_hook(Box::new(|panic| write_log(CRITICAL, &panic.to_string())));
    }
}

const CRITICAL: u32 = 5;

/// Levels: 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
fn write_log(level: u32, message: &str) {
    // A line that cannot be written cannot be reported either.
    let _status = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Both WASI clocks, which Envoy implements.
pub(crate) fn now() -> Now {
    Now { wall: Wall(i64::try_from(clock(0)).unwrap_or(i64::MAX)), mono: mono() }
}

/// The monotonic clock, which all VMs of the process share.
pub(crate) fn mono() -> Mono {
    Mono(clock(1))
}

fn clock(id: u32) -> u64 {
    let mut nanoseconds = 0;
    let errno = unsafe { clock_time_get(id, 1_000_000, &mut nanoseconds) };
    if errno == 0 { nanoseconds / 1_000_000 } else { 0 }
}

/// A random number.
pub(crate) fn random() -> u64 {
    u64::from_le_bytes(random_bytes())
}

/// Random bytes; from the clock, if the host has none.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let errno = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    if errno != 0 {
        let seed = (now().mono.0 ^ u64::from(bytes.as_ptr().addr() as u32)).to_le_bytes();
        bytes.iter_mut().zip(seed).for_each(|(byte, from)| *byte = from);
    }
    bytes
}

/// A text property of the host; `None` if it has none of that name.
pub(crate) fn property(name: &str) -> Option<String> {
    let value = unsafe { returned(|data, size| proxy_get_property(name.as_ptr(), name.len(), data, size)) };
    String::from_utf8(value.ok()?).ok()
}

/// The plugin's configuration; only inside `on_configure`.
pub(crate) fn plugin_configuration() -> Vec<u8> {
    buffer(BUFFER_PLUGIN_CONFIGURATION, usize::MAX)
}

/// Ticks each `period`; at least a millisecond, because 0 turns ticks off.
pub(crate) fn tick_every(period: Duration) {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX).max(1);
    report("proxy_set_tick_period_milliseconds", unsafe { proxy_set_tick_period_milliseconds(period) });
}

/// All headers of the request; none if there are more than 1024 or more than 1 MiB of them.
pub(crate) fn request_headers() -> HeaderMap {
    header_map(MAP_REQUEST_HEADERS)
}

/// Removes a header from the request, with all of its lines.
pub(crate) fn remove_request_header(name: &str) {
    let status = unsafe { proxy_remove_header_map_value(MAP_REQUEST_HEADERS, name.as_ptr(), name.len()) };
    report("proxy_remove_header_map_value", status);
}

/// Sets a header of the request to one value.
pub(crate) fn set_request_header(name: &str, value: &str) {
    set_header(MAP_REQUEST_HEADERS, name, value);
}

/// Lets a held-back request go on, outside its own callbacks.
pub(crate) fn continue_request() {
    report("proxy_continue_stream", unsafe { proxy_continue_stream(STREAM_REQUEST) });
}

/// The status of the upstream's answer; 0 if there is none. Only in the callback of its headers.
pub(crate) fn response_status() -> u16 {
    let status = header(MAP_RESPONSE_HEADERS, ":status");
    status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok()).unwrap_or_default()
}

/// Sets a header of the answer to one value.
pub(crate) fn set_response_header(name: &str, value: &str) {
    set_header(MAP_RESPONSE_HEADERS, name, value);
}

/// The first `most` bytes of the request's body so far.
pub(crate) fn request_body(most: usize) -> Vec<u8> {
    buffer(BUFFER_REQUEST_BODY, most)
}

/// Answers the request of the effective context when the callback returns.
pub(crate) fn reply(reply: &Reply) {
    let headers: Vec<(&str, &str)> =
        reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let pairs = serialized(&headers);
    let status = unsafe {
        proxy_send_local_response(
            u32::from(reply.status),
            null(),
            0,
            reply.body.as_ptr(),
            reply.body.len(),
            pairs.as_ptr(),
            pairs.len(),
            -1,
        )
    };
    report("proxy_send_local_response", status);
}

/// Answers the request of another context, then returns to `own`.
pub(crate) fn reply_to(context: u32, own: u32, answer: &Reply) {
    if hostcalls::set_effective_context(context).is_ok() {
        reply(answer);
    }
    if hostcalls::set_effective_context(own).is_err() {
        log::error!("proxy_set_effective_context failed for the context's own id {own}");
    }
}

/// Starts a call through a cluster.
///
/// # Errors
/// Envoy's refusal; then no callback comes.
pub(crate) fn call(request: &Request) -> Result<u32, Fault> {
    let mut headers = vec![
        (":method", request.method),
        (":scheme", request.scheme),
        (":authority", request.authority.as_str()),
        (":path", request.path.as_str()),
    ];
    headers.extend(request.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let body = Some(request.body.as_slice()).filter(|body| !body.is_empty());
    let timeout = request.timeout.max(Duration::from_millis(1));
    hostcalls::dispatch_http_call(&request.cluster, headers, body, vec![], timeout).map_err(|status| {
        match status {
            // Method, path and authority are always there, so the cluster is wrong.
            Status::BadArgument => Fault::UnknownCluster(request.cluster.clone()),
            _ => Fault::Refused,
        }
    })
}

/// The outcome of a call, inside its callback. Without headers there is no answer, and Envoy has no map to ask for.
pub(crate) fn call_outcome(now: Now, num_headers: usize, body_size: usize, max_body: usize) -> CallOutcome {
    if num_headers == 0 {
        return CallOutcome::Failed(Fault::Reset);
    }
    let map = header_map(MAP_CALL_RESPONSE_HEADERS);
    let headers = map.pairs();
    let text = |name: &str| {
        let found = headers.iter().find(|(n, _)| *n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let Some(status) = text(":status").and_then(|status| status.parse().ok()) else {
        return CallOutcome::Failed(Fault::Reset);
    };
    let from_upstream = text("x-envoy-upstream-service-time").is_some();
    CallOutcome::Response(Response {
        status,
        content_type: text("content-type").unwrap_or_default(),
        asks: Asks::of(text, now.wall),
        from_envoy: !from_upstream && matches!(status, 503 | 504),
        body: if body_size > max_body {
            Err(body_size)
        } else {
            Ok(buffer(BUFFER_CALL_RESPONSE_BODY, body_size))
        },
    })
}

/// Envoy's shared data. For a missing key it ignores the given cas, and cas 0 overwrites any value. So a key that was
/// not found is written with a cas that no entry has, which creates it only if nobody else has done so meanwhile.
pub(crate) struct SharedData;

const CREATE: u32 = u32::MAX;

impl Store for SharedData {
    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        let mut cas = 0;
        let value = unsafe {
            returned(|data, size| proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas))
        };
        match value {
            Ok(value) => Ok(Some(Entry { value, cas: Cas(cas) })),
            Err(NOT_FOUND) => Ok(None),
            Err(status) => Err(StoreError(status)),
        }
    }

    fn swap(&mut self, key: &str, seen: Option<Cas>, value: &[u8]) -> Result<bool, StoreError> {
        let cas = seen.map_or(CREATE, |cas| cas.0);
        match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) } {
            OK => Ok(true),
            CAS_MISMATCH => Ok(false),
            status => Err(StoreError(status)),
        }
    }
}

/// Makes this queue wake the effective root context, in place of an earlier listener. A queue has no bound of its own:
/// items that nobody took are dropped.
pub(crate) fn listen(name: &str) {
    let mut queue = 0;
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) };
    report("proxy_register_shared_queue", status);
    if status == OK {
        empty(queue);
    }
}

/// Removes all items of a queue.
pub(crate) fn empty(queue: u32) {
    while unsafe { returned(|item, size| proxy_dequeue_shared_queue(queue, item, size)) }.is_ok() {}
}

/// Wakes the listener of this queue, if there is one, in this or another VM of the same vm_id.
pub(crate) fn wake(name: &str) {
    let (mut queue, item) = (0, b"!");
    let found = unsafe { proxy_resolve_shared_queue(null(), 0, name.as_ptr(), name.len(), &mut queue) };
    if found == OK {
        let status = unsafe { proxy_enqueue_shared_queue(queue, item.as_ptr(), item.len()) };
        report("proxy_enqueue_shared_queue", status);
    }
}

fn report(function: &str, status: u32) {
    if status != OK {
        log::error!("{function} failed with status {status}");
    }
}

fn set_header(map: u32, name: &str, value: &str) {
    let status = unsafe {
        proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    report("proxy_replace_header_map_value", status);
}

fn header(map: u32, name: &str) -> Option<Vec<u8>> {
    unsafe { returned(|data, size| proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size)) }
        .ok()
}

fn header_map(map: u32) -> HeaderMap {
    let pairs = unsafe { returned(|data, size| proxy_get_header_map_pairs(map, data, size)) };
    HeaderMap(pairs.unwrap_or_default())
}

fn buffer(buffer: u32, most: usize) -> Vec<u8> {
    unsafe { returned(|data, size| proxy_get_buffer_bytes(buffer, 0, most, data, size)) }.unwrap_or_default()
}

/// Runs a host function that returns bytes, and takes them over.
///
/// # Safety
/// When `function` answers OK, its pointer must be null or have come from this module's `proxy_on_memory_allocate` with
/// exactly the size that it gives: the ABI promises this.
unsafe fn returned(function: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, u32> {
    let (mut data, mut size) = (null_mut(), 0);
    match function(&mut data, &mut size) {
        OK if data.is_null() => Ok(Vec::new()),
        OK => Ok(unsafe { Vec::from_raw_parts(data, size, size) }),
        status => Err(status),
    }
}

/// A header map in the ABI's form: the number of pairs, the lengths of each name and value, then name, 0, value, 0.
fn serialized(headers: &[(&str, &str)]) -> Vec<u8> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = length(headers.len()).to_vec();
    for (name, value) in headers {
        out.extend_from_slice(&length(name.len()));
        out.extend_from_slice(&length(value.len()));
    }
    for (name, value) in headers {
        for text in [name, value] {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
    }
    out
}

/// The inverse of [`serialized`], with bytes for texts. `None` if the form is broken.
fn deserialized(bytes: &[u8]) -> Option<Vec<Header<'_>>> {
    let count = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let (lengths, _) = bytes.get(4..at)?.as_chunks::<4>();
    let mut take = |length: &[u8; 4]| {
        let end = at.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let text = bytes.get(at..end)?;
        at = end.checked_add(1)?;
        Some(text)
    };
    let (lengths, _) = lengths.as_chunks::<2>();
    let mut headers = Vec::with_capacity(lengths.len());
    for [name, value] in lengths {
        headers.push((take(name)?, take(value)?));
    }
    Some(headers)
}

/// Headers as text, for the test build without redaction.
pub(crate) struct TextOf<'a>(pub(crate) &'a [Header<'a>]);

impl std::fmt::Debug for TextOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.0.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}
