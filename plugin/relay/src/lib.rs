//! The core of Testrelay: Azure DevOps checks that wait for Testkube executions, as two machines without I/O.
//!
//! - [`accept`](surface::accept::accept) runs in the stream, on any worker: it turns a request into a record in the
//!   [`ledger`](store::ledger) and an answer, and keeps nothing.
//! - [`Lead`] runs in the ticks of one root context per process: it asks Testkube, makes the decision
//!   ([`verdict`](check::verdict)) and delivers it to Azure DevOps.
//!
//! Time is passed in, calls are passed out, and the host's shared data is an abstract compare-and-swap store: the same
//! code runs in Envoy, in a simulated world and in unit tests.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::too_many_lines
    )
)]

/// What a Testkube answered: the text of one of the files that the fake Testkube is compared with, too.
#[cfg(test)]
macro_rules! testkube_fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../host-tests/fakes/fixtures/testkube/",
            $name,
            ".json"
        ))
    };
}

mod at_most;
mod backoff;
pub mod check;
mod collections;
pub mod config;
pub mod expect;
pub mod guid;
mod hash;
mod instance;
mod json;
pub mod lead;
pub mod seal;
pub mod secret;
pub mod store;
pub mod surface;
pub mod tag;
mod text;
pub mod time;
pub mod wire;

pub use check::Counter;
pub use instance::{instance, key_prefix};
pub use lead::{Lead, Output};

/// `user-agent` of the calls to both clusters.
const USER_AGENT: &str = concat!("testrelay/", env!("CARGO_PKG_VERSION"));
