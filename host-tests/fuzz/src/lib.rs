//! Fuzz targets for everything in the core that reads bytes from outside.
//!
//! A target is a function of bytes that panics when a property does not hold: no input may make the core panic, show a
//! secret, repeat more than a little of what was sent, or report a pass that nothing proves. `cargo xtask fuzz` runs them
//! under libFuzzer; the tests replay the inputs in `corpus/`, so that what was found once stays found.
//!
//! Inputs are text wherever the wire has text, so that a person can read and write one.

pub mod azure_answers;
pub mod check_request;
pub mod configuration;
pub mod junit;
pub mod ledger;
pub mod testkube_answers;

mod answers;
mod leader;
mod logs;
mod setting;
mod store;
mod texts;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its program's and its corpus folder's name.
    pub name: &'static str,
    /// Runs one input. Panics if a property does not hold.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 6] = [
    Target { name: "check_request", run: check_request::run },
    Target { name: "configuration", run: configuration::run },
    Target { name: "testkube_answers", run: testkube_answers::run },
    Target { name: "azure_answers", run: azure_answers::run },
    Target { name: "ledger", run: ledger::run },
    Target { name: "junit", run: junit::run },
];
