//! What a process keeps in Envoy's shared data, which outlives its VMs: the checks' records, the counters of places,
//! hints, what evaluations have seen, what is shown of the checks, and what the last preflight found.

pub mod cluster;
pub(crate) mod decided;
pub mod hints;
pub mod ledger;
pub(crate) mod live_views;
pub(crate) mod looks;
pub mod places;
pub mod preflight;
