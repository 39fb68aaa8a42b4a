//! The module asks Testkube nothing about a check before Azure DevOps has accepted its token once. Otherwise anybody who
//! can reach the module could make it ask.

use super::{Rules, plan_of, tags_of};
use crate::network::Outgoing;
use fakes::{Request, Response};
use std::collections::{BTreeMap, BTreeSet};

/// The plans that wait for each tag, and the plans whose tokens Azure DevOps accepted.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// The plans by the value of the tag.
    waiting: BTreeMap<String, BTreeSet<String>>,
    proven: BTreeSet<String>,
}

impl Proofs {
    /// A check of this plan waits for executions with this tag.
    pub(super) fn needed(&mut self, plan: &str, tag: &str) {
        self.waiting.entry(tag.into()).or_default().insert(plan.to_ascii_lowercase());
    }
}

impl Rules {
    /// Azure DevOps has answered a call. Only an accepted call proves a token: a 403 may go to anybody whom it knows, and a
    /// sign-in page goes to strangers.
    pub(crate) fn azure_answers(&mut self, request: &Request, answer: &Response) {
        let is_page = answer.value("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        let is_taken = matches!(answer.status, 200..=299) && !is_page;
        if let Some(plan) = plan_of(request.path()).filter(|_| is_taken) {
            self.checks.borrow_mut().proofs.proven.insert(plan.to_ascii_lowercase());
        }
    }

    /// Whether Azure DevOps has taken a call about this plan.
    pub(crate) fn is_proven(&self, plan: &str) -> bool {
        self.checks.borrow().proofs.proven.contains(plan)
    }

    /// Every tag in a request to Testkube belongs to a check whose token was accepted.
    pub(super) fn proven_before_asked(&mut self, now: u64, outgoing: &Outgoing) {
        for tag in tags_of(&outgoing.request) {
            self.checked("proof (Testkube is asked once the token was taken)");
            let plans = self.checks.borrow().proofs.waiting.get(&tag).cloned();
            if !plans.as_ref().is_some_and(|plans| plans.iter().any(|plan| self.is_proven(plan))) {
                let text = format!(
                    "Testkube is asked for {tag} before Azure DevOps has taken the token of {plans:?}"
                );
                self.violation(now, "proof", text);
            }
        }
    }
}
