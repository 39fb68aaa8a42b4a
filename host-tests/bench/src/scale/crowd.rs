//! The crowd: as many checks as are wanted, each with a tag, a plan and a token of its own. Four of them gate the stages of one
//! build, and the builds belong to ten projects.

use crate::checks::CLAIMS;
use anyhow::{Context, Result};
use fakes::{CheckSpec, Execution, Status, execution};
use host_tests::scene::{Pipeline, TAG_KEY};
use serde_json::{Value, json};

/// How many projects there are.
pub const PROJECTS: usize = 10;

/// How many checks a build has.
pub const OF_BUILD: usize = 4;

/// The only workflow, which every check expects.
pub const WORKFLOW: &str = "shop-e2e";

/// The project of check number `n`.
pub fn project(n: usize) -> String {
    format!("69f48e94-bdb4-42d7-a560-{:012x}", n / OF_BUILD % PROJECTS)
}

/// The run of check number `n`, with a token of this many bytes.
///
/// # Errors
/// The number is too large for an id.
pub fn pipeline(n: usize, token: usize) -> Result<Pipeline> {
    let id = u32::try_from(n).context("too many checks")?;
    let guid = |kind: u32| format!("{id:08x}-{kind:04x}-5000-8000-00000000{kind:04x}");
    let build = 4_000 + u64::from(id) / OF_BUILD as u64;
    let spec = CheckSpec {
        project: project(n),
        hub: "checks".into(),
        plan: guid(1),
        job: guid(2),
        timeline: guid(1),
        task: guid(3),
        token: of_length(id, token),
        build: Some(build),
    };
    Ok(Pipeline { spec, tag: format!("shop-{build}-{}", n % OF_BUILD) })
}

/// A token of the form of Azure DevOps's. Tokens differ in their first bytes, so that the fake tells them apart soon.
fn of_length(id: u32, length: usize) -> String {
    let first = format!("{:016x}{}", u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15), "h".repeat(70));
    let rest = length.saturating_sub(first.len() + CLAIMS.len() + 2);
    format!("{first}.{CLAIMS}.{}", "s".repeat(rest))
}

/// The execution that a check waits for, running since then.
pub fn running(tag: &str, since: i64) -> Execution {
    execution(WORKFLOW).tag(TAG_KEY, tag).at(since, Status::Running)
}

/// What Testkube's webhook sends when the execution with a tag has ended.
pub fn ended(tag: &str) -> Value {
    let execution = json!({
        "id": "6973a5d2e1c4b0a7f3d9e201", "name": "shop-e2e-1", "tags": { TAG_KEY: tag },
        "signature": [], "result": { "status": "passed" }, "resolvedWorkflow": { "spec": {} },
    });
    json!({ "id": "1", "type": "end-testworkflow-success", "testWorkflowExecution": execution })
}

/// A credential for checks and one for hints.
pub fn credentials() -> Value {
    json!({ "credentials": [
        { "name": "azure-pipelines", "kind": "basic", "username": "testrelay",
          "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks"] },
        { "name": "testkube", "kind": "bearer", "secret_env": "TESTRELAY_BEARER", "allow": ["events"] },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_checks_share_a_tag_a_plan_or_a_token() {
        let all: Vec<Pipeline> = (0..100).map(|n| pipeline(n, 2_048).unwrap()).collect();
        for part in [
            |run: &Pipeline| run.tag.clone(),
            |run: &Pipeline| run.spec.plan.clone(),
            |run: &Pipeline| run.spec.token.clone(),
        ] {
            assert_eq!(all.iter().map(part).collect::<BTreeSet<_>>().len(), 100);
        }
        assert!(all.iter().all(|run| run.spec.token.len() == 2_048));
        assert_eq!(all.iter().map(|run| run.spec.build).collect::<BTreeSet<_>>().len(), 25);
        assert_eq!(all.iter().map(|run| &run.spec.project).collect::<BTreeSet<_>>().len(), PROJECTS);
    }
}
