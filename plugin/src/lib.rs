//! Testrelay as a proxy-wasm module: the adapter between Envoy and the core (`testrelay`).
//!
//! - [`root`]: a root context, one on each thread and for each configuration. Its ticks drive the pending checks.
//! - [`stream`]: an HTTP stream. It takes checks and lets artifact requests through.
//! - [`host`]: the only file that talks to the host.

// The SDK's macro exports `_initialize` without documentation.
#![allow(missing_docs)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::too_many_lines
)]

mod host;
mod resumed;
mod root;
mod status;
mod stream;

proxy_wasm::main! {{
    host::install_logger();
    proxy_wasm::set_root_context(|context_id| Box::new(root::Root::new(context_id)));
}}
