//! What a process keeps in Envoy's shared data, which outlives its VMs: the checks' records, the counters of places,
//! hints, and what evaluations have seen.

pub mod cluster;
pub mod hints;
pub mod ledger;
pub(crate) mod looks;
pub mod places;
