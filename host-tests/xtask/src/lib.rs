//! What `cargo xtask` does, one file per story; `main.rs` is only its command line.
//!
//! - [`setup`]: everything a build, a test or a demo needs; [`doctor`]: the same questions, changing nothing.
//!   - [`toolchain`]: a compiler that can build for `wasm32-wasip1`.
//!   - [`envoy_binary`]: an Envoy that can run the module.
//! - [`module`]: builds the module, [`callbacks`] takes out of it what Envoy need not call; [`prepared`]: set-up and
//!   build in one, for whatever runs the module.
//! - [`image`]: the module as an OCI image; [`dist`]: all that a release consists of.
//! - [`demo`]: a whole story with a real Envoy, told as it happens.
//! - [`test`](mod@test): all tests; [`size`]: whose bytes are in the module; [`profiles`]: what other release
//!   profiles would weigh, and how fast they would be.
//! - [`bench`]: what the module costs, in instructions and in a real Envoy.
//! - [`fuzz`]: the fuzz targets.
//! - [`manifests`]: what `envoy/` has for Kubernetes, Istio and Envoy Gateway.
//! - [`mutations`]: deliberate faults that the simulated Envoy must catch.
//! - [`replay`]: one history of the simulated Envoy once more; [`soak`]: many.
//! - [`workspace`] knows the paths, [`program`] runs other programs.

pub mod bench;
pub mod callbacks;
pub mod demo;
pub mod dist;
pub mod doctor;
pub mod envoy_binary;
pub mod fuzz;
pub mod image;
pub mod manifests;
pub mod module;
pub mod mutations;
pub mod prepared;
pub mod profiles;
pub mod program;
pub mod replay;
pub mod setup;
pub mod size;
pub mod soak;
pub mod test;
pub mod toolchain;
pub mod wasm_sections;
pub mod workspace;
