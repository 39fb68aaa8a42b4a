//! What the module costs in a real Envoy: `cargo xtask bench` beyond its fuel.
//!
//! A figure of a machine that does other things too says little, so each is a ratio: the same Envoy with the same
//! configuration runs twice, with the module and with what it is compared with, and both take turns in each round.
//! Envoy has one worker and one processor; the load and the fakes have the others ([`machine`]), so that Envoy is
//! what is measured, and the table says how busy its processor was.
//!
//! - [`downloads`]: artifacts through Envoy with and without the module.
//! - [`checks`]: checks that are accepted and stored, against a module that only answers 200.
//! - [`scale`]: ten thousand checks that wait, in absolute figures.
//! - [`targets`]: what is promised, and what was missed. [`figures`]: ratios and their spread. [`table`]: the print.
//! - [`load`] sends requests, [`upstream`] is a Testkube that costs next to nothing, [`modules`] has the modules that
//!   ours is compared with.

pub mod checks;
pub mod downloads;
pub mod figures;
pub mod load;
pub mod machine;
pub mod modules;
pub mod scale;
pub mod table;
pub mod targets;
pub mod upstream;

use std::path::PathBuf;

/// What is run, and how often.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The module as released.
    pub module: PathBuf,
    /// The Envoy.
    pub envoy: PathBuf,
}
