//! The harness: runs the built module in a real Envoy with the configuration that users copy.
//!
//! [`Setup`] says what a test needs, [`Envoy`] runs it, [`client`] talks to it. The configuration is always
//! `envoy/envoy.yaml`, parsed and changed at named places: the tests run what the pages document.
//!
//! ```no_run
//! use host_tests::{Envoy, Request, Setup};
//! use serde_json::json;
//!
//! fn main() -> anyhow::Result<()> {
//!     let testkube: std::net::SocketAddr = "127.0.0.1:18088".parse()?;
//!     let setup = Setup::new()?.testkube(testkube).plain_azure_devops().plugin(json!({ "tag": { "key": "run" } }));
//!     let envoy = Envoy::start(&setup)?;
//!     let answer = Request::get("/testrelay/healthz").send(envoy.address())?;
//!     assert_eq!(answer.status, 200);
//!     println!("{}", envoy.log());
//!     envoy.stop()
//! }
//! ```
//!
//! Envoy and the modules are named by environment variables ([`mod@env`]), which `cargo xtask test` sets. Every server
//! listens on 127.0.0.1, at a port that the system chooses.

pub mod browser;
pub mod client;
pub mod config;
pub mod env;
mod envoy;
pub mod manifests;
pub mod polls;
pub mod process;
mod reload;
pub mod scene;
mod setup;
pub mod troubleshooting;
mod wait;
pub mod wire;

pub use client::{Connection, Request, Response};
pub use envoy::{Envoy, Validation, validate};
pub use polls::Polls;
pub use reload::Reload;
pub use scene::Scene;
pub use setup::{BEARER, PASSWORD, STATUS, Setup};
pub use wait::{wait_for, wait_until};
pub use wire::Wire;
