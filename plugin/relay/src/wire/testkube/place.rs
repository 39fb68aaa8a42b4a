//! Testkube's address.

use super::Dashboard;
use crate::secret::Secret;

/// Testkube's address, and how to call it.
#[derive(Debug)]
pub struct Testkube {
    /// The Envoy cluster.
    pub cluster: String,
    /// `:authority` of calls.
    pub authority: String,
    /// `/v1` for the API server; `/organizations/{org}/environments/{env}/agent` for a control plane.
    pub api_prefix: String,
    /// API token of a control plane.
    pub token: Option<Secret>,
    /// Template of links to an execution's page.
    pub dashboard: Option<Dashboard>,
}
