//! Where Testkube is.

use super::Dashboard;
use crate::secret::Secret;

/// Where Testkube is and how it is asked.
#[derive(Debug)]
pub struct Testkube {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority` of calls.
    pub authority: String,
    /// `/v1` for the API server; `/organizations/{org}/environments/{env}/agent` for a control plane.
    pub api_prefix: String,
    /// A control plane's API token.
    pub token: Option<Secret>,
    /// Where people look at an execution.
    pub dashboard: Option<Dashboard>,
}
