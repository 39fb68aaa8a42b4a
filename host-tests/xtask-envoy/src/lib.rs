//! The part of `cargo xtask` that runs the module in a real Envoy, or a real API server, and is no test, one file per story; `main.rs` is only its
//! command line.
//!
//! It stands apart from `xtask` because it needs HTTP servers, TLS and YAML, which take a minute to compile and which a test
//! of the core does not need.
//!
//! - [`demo`]: a whole story with a real Envoy, told as it happens.
//! - [`bench`]: what the module costs, in instructions and in a real Envoy.
//! - [`profiles`]: what other release profiles would weigh, and how fast they would be.
//! - [`chaos`]: replicas that are killed while checks wait, with a real API server.
//! - [`kubernetes`]: an API server to try things on.
//! - [`manifests`]: what `envoy/` has for Kubernetes, Istio and Envoy Gateway.

pub mod bench;
pub mod chaos;
pub mod demo;
pub mod kubernetes;
pub mod manifests;
pub mod profiles;
