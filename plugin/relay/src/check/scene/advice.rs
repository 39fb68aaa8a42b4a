//! Advice for the people at a check, by what is missing and for how long.

use std::time::Duration;

/// Advice about an execution that keeps stopping.
pub(crate) const STAYS_SO: &str =
    "if Testkube's API server restarted meanwhile, it never ends; abort it and start the tests again";

/// Advice after executions have been absent for `absent`: its number and text, each given at most once.
pub fn advice(absent: Duration, given: u8) -> Option<(u8, &'static str)> {
    const ADVICE: [(u64, &str); 3] = [
        (
            120,
            "Look at the TestWorkflowExecution resource: status.error, its events (kubectl describe), and the tag under spec.executionRequest.tags.",
        ),
        (
            600,
            "Is Testkube's controller enabled (Helm: testkube-api.next.controllers.enabled), and is the resource in Testkube's own namespace, the only one that it watches? A resource that is applied again unchanged starts nothing: give it a new name for each run.",
        ),
        (
            1_200,
            "Has the GitOps sync reached the commit with the resource? Look at the Argo CD application or the Flux kustomization.",
        ),
    ];
    let (step, (_, text)) =
        ADVICE.iter().enumerate().rev().find(|(_, (after, _))| absent >= Duration::from_secs(*after))?;
    let step = u8::try_from(step).unwrap_or_default() + 1;
    (step > given).then_some((step, text))
}
