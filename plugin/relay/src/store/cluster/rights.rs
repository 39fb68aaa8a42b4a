//! The rights that this process lacks in its namespace, said at its start and not at the first check.

use crate::time::Mono;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{Server, missing_rights};
use std::time::Duration;

/// Timeout of these calls.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between questions, and while a right is missing.
const INTERVAL: Duration = Duration::from_secs(600);
const MISSING_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of the own rights.
#[derive(Default)]
pub(crate) struct Rights {
    next: Mono,
    /// The missing ones; empty if none is, or nobody has said.
    missing: String,
}

impl Rights {
    /// The question, if it is due.
    pub(crate) fn due(&mut self, now: Mono, server: &Server) -> Option<Request> {
        if now < self.next {
            return None;
        }
        self.next = now.plus(MISSING_INTERVAL);
        Some(server.rights(TIMEOUT))
    }

    /// Takes its answer.
    pub(crate) fn answer(&mut self, now: Mono, server: &Server, outcome: &CallOutcome) {
        let Some(missing) = missing_rights(outcome) else { return };
        if missing.is_empty() {
            self.next = now.plus(INTERVAL);
        }
        if self.missing == missing {
            return;
        }
        self.missing = missing;
        match self.fault(server) {
            Some(fault) => log::error!("{fault}"),
            None => log::info!("the ServiceAccount has all rights that the store needs"),
        }
    }

    /// What is missing, and where.
    pub(crate) fn fault(&self, server: &Server) -> Option<String> {
        let (missing, namespace) = (&self.missing, &server.namespace);
        let has_fault = !missing.is_empty();
        has_fault.then(|| {
            format!("the ServiceAccount may not {missing} in the namespace {namespace}: give it the role in envoy/kubernetes/replicas/checks.yaml")
        })
    }
}
