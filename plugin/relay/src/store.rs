//! What a process keeps in Envoy's shared data, which outlives its VMs: the checks' records, the counters of places,
//! hints, what evaluations have seen, and what the last preflight found.

pub mod cluster;
pub mod hints;
pub mod ledger;
pub(crate) mod looks;
pub mod places;
pub mod preflight;
