//! The built module in a real Envoy, one file per behaviour.
//!
//! One program for all of them: each test has an Envoy of its own and mostly waits, so that many run side by side.
//! `cargo xtask test` says how many.

mod artifacts;
mod bad_input;
mod bodies;
mod bounds;
mod configuration;
mod crashes;
mod downloads;
mod fallback;
mod faults_azure;
mod faults_testkube;
mod harness;
mod hints;
mod istio;
mod limits;
mod main_job;
mod many_checks;
mod memory;
mod neighbours;
mod page;
mod pipelines;
mod readme;
mod replicas;
mod scenario_files;
mod secrets;
mod server;
mod shipped;
mod size;
mod test_results;
mod troubleshooting;
mod wire_form;
