//! The built module in a simulated Envoy.
//!
//! A [`World`] is one Envoy process, during a hot restart two, with replicas as many as are started and killed: a main thread,
//! workers, the canary, shared data and queues, timers, configuration reloads, VM crashes, clients' connections and downloads,
//! and calls to a Testkube, an Azure DevOps and a Kubernetes API server (`testrelay-fakes`), all under a virtual clock and from
//! one seed. A day passes in milliseconds, and the same seed gives the
//! same history, byte for byte.
//!
//! Nothing here is global but the compiled code: worlds run in parallel.
//!
//! - [`World`], [`Setup`]: what a scenario is written with.
//! - [`fuel`]: what the module's main paths cost.
//! - [`history`]: random histories and the command that replays one.
//! - [`reference`]: what must be true at a history's end.

mod answers;
mod clocks;
pub mod coverage;
mod deliveries;
pub mod fuel;
pub mod history;
mod host;
mod listeners;
mod module;
mod network;
mod observed;
mod own;
mod pipeline;
mod plugins;
mod pool;
mod process;
mod processes;
mod queues;
mod random;
pub mod reference;
mod replicas;
mod rules;
mod setup;
mod shared_data;
mod state;
mod stored;
mod stream;
mod trace;
mod vm;
mod world;

pub use deliveries::BUILD_BEGAN;
pub use module::Code;
pub use network::{Rule, Way, outage};
pub use pipeline::{PROJECT, Pipeline};
pub use pool::Limits;
pub use random::Random;
pub use rules::{MARK, Violation};
pub use setup::{LISTENER, NAMESPACE, POD_NAME, Plugin, Setup, changed, configuration, configuration_for};
pub use shared_data::SharedData;
pub use state::{Counts, Interleaving, MILLISECOND, MINUTE, SECOND, START};
pub use stored::Written;
pub use stream::{Answer, By};
pub use vm::TrapAt;
pub use world::World;
