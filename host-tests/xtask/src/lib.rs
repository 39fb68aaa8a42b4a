//! What `cargo xtask` does, one file per story; `main.rs` is only its command line.
//!
//! - [`setup`]: everything a build, a test or a demo needs; [`doctor`]: the same questions, changing nothing.
//!   - [`toolchain`]: a compiler that can build for `wasm32-wasip1`.
//!   - [`envoy_binary`]: an Envoy that can run the module.
//! - [`api_server`]: a Kubernetes API server, found or built; [`browser`]: a Chromium and what looks at a page in it.
//! - [`module`]: builds the module, [`callbacks`] takes out of it what Envoy need not call; [`prepared`]: set-up and
//!   build in one, for whatever runs the module.
//! - [`image`]: the module as an OCI image; [`dist`]: all that a release consists of.
//! - [`test`](mod@test): all tests, and parts of them; [`size`]: whose bytes are in the module.
//! - [`fuzz`]: the fuzz targets.
//! - [`mutations`]: deliberate faults that the simulated Envoy must catch.
//! - [`replay`]: one history of the simulated Envoy once more; [`soak`]: many.
//! - Demo, benches and the look at `envoy/` are in the package `xtask-envoy`: this one compiles fast, because every test waits
//!   for it.
//! - [`workspace`] knows the paths, [`program`] runs other programs.

pub mod api_server;
pub mod browser;
pub mod callbacks;
pub mod dist;
pub mod doctor;
pub mod envoy_binary;
pub mod fuzz;
pub mod image;
pub mod module;
pub mod mutations;
pub mod prepared;
pub mod program;
pub mod replay;
pub mod setup;
pub mod size;
pub mod soak;
pub mod test;
pub mod toolchain;
pub mod wasm_sections;
pub mod workspace;
