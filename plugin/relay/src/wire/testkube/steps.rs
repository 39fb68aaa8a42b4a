//! The progress of one execution's steps: `signature` names the steps, `result.steps` holds the result of each.
//!
//! Only the leaves of the signature count. Testkube's own progress ("2/4 steps") counts them too, and a group's status
//! only repeats that of its leaves.

use super::execution::wire::{Node, StepResult};
use std::collections::BTreeMap;

/// The steps of one execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Number of steps; 0 until a runner has accepted the execution.
    pub total: u32,
    /// Number of steps that have ended.
    pub done: u32,
    /// Path of the running step, such as `Run tests › Unit`.
    pub current: Option<String>,
    /// The steps that did not pass, in order.
    pub failed: Vec<FailedStep>,
}

/// A step that ended and did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    /// Path, such as `Run tests › Unit`.
    pub path: String,
    /// `failed`, `timeout`, `aborted` or `canceled`.
    pub status: String,
    /// Exit code of its process, if not 0.
    pub exit_code: Option<i64>,
    /// `errorMessage`; empty if absent.
    pub message: String,
    /// Whether the execution can pass without this step.
    pub optional: bool,
}

/// Maximum failed steps that are kept: the answer comes from outside.
const MAX_FAILED: usize = 10;

impl Steps {
    pub(super) fn of(signature: &[Node], steps: &BTreeMap<String, StepResult>) -> Steps {
        let mut found = Steps::default();
        found.visit(signature, steps, &mut Vec::new(), false);
        found
    }

    fn visit<'a>(
        &mut self,
        nodes: &'a [Node],
        steps: &BTreeMap<String, StepResult>,
        path: &mut Vec<&'a str>,
        optional: bool,
    ) {
        for node in nodes {
            let optional = optional || node.optional.unwrap_or_default();
            path.push(node.label());
            match node.children.as_slice() {
                children if !children.is_empty() => self.visit(children, steps, path, optional),
                _ => self.leaf(path, steps.get(node.reference.as_deref().unwrap_or_default()), optional),
            }
            path.pop();
        }
    }

    fn leaf(&mut self, path: &[&str], step: Option<&StepResult>, optional: bool) {
        self.total = self.total.saturating_add(1);
        let Some(step) = step else { return };
        let status = step.status.as_deref().unwrap_or_default();
        let words = || crate::text::one_line(&path.join(" › "), 120);
        match status {
            "" | "queued" => return,
            "running" | "paused" => {
                self.current.get_or_insert_with(words);
                return;
            }
            "passed" | "skipped" => {}
            _ if self.failed.len() >= MAX_FAILED => {}
            _ => self.failed.push(FailedStep {
                path: words(),
                status: crate::text::one_line(status, 32),
                exit_code: step.exit_code.filter(|code| *code != 0),
                message: crate::text::plain(step.error_message.as_deref().unwrap_or_default()),
                optional,
            }),
        }
        self.done = self.done.saturating_add(1);
    }
}

impl FailedStep {
    /// `step Run tests › Unit failed (exit code 1): assertion failed`.
    pub fn in_words(&self) -> String {
        let code = self.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
        let what = match self.status.as_str() {
            "timeout" => "ran out of time",
            "aborted" | "canceled" => "was stopped",
            _ => "failed",
        };
        let optional = if self.optional { ", which is optional" } else { "" };
        match crate::text::one_line(&self.message, 300) {
            message if message.is_empty() => format!("step {} {what}{code}{optional}", self.path),
            message => format!("step {} {what}{code}{optional}: {message}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::Response;
    use crate::wire::testkube::single;

    fn steps(body: &str) -> Steps {
        let response = Response {
            status: 200,
            content_type: "application/json".into(),
            asks: Default::default(),
            from_envoy: false,
            body: Ok(body.as_bytes().to_vec()),
        };
        single(&response).unwrap().steps
    }

    #[test]
    fn the_leaves_are_counted_and_the_running_one_is_named_with_its_groups() {
        let running = steps(testkube_fixture!("execution-running"));
        assert_eq!((running.done, running.total), (1, 4));
        assert_eq!(running.current.as_deref(), Some("Run tests › Run shell command"));
        assert!(running.failed.is_empty());
    }

    #[test]
    fn a_failed_step_says_which_how_and_why() {
        let failed = steps(testkube_fixture!("execution-failed"));
        assert_eq!((failed.done, failed.total, failed.current.as_deref()), (4, 4, None));
        let words: Vec<String> = failed.failed.iter().map(FailedStep::in_words).collect();
        assert_eq!(words, ["step Run tests › Run shell command failed (exit code 1)"]);
        let optional = steps(testkube_fixture!("execution-passed-optional-step-failed"));
        assert!(optional.failed.iter().all(|step| step.optional) && !optional.failed.is_empty());
    }

    #[test]
    fn an_execution_that_never_began_has_none() {
        assert_eq!(steps(testkube_fixture!("execution-aborted-init")).total, 0);
    }

    #[test]
    fn no_more_steps_are_kept_than_a_workflow_has() {
        let body = |signature: &str, steps: &str| {
            format!(
                r#"{{"id":"x","scheduledAt":"2026-01-23T16:44:00Z","signature":{signature},"result":{{"steps":{steps}}}}}"#
            )
        };
        let many = |one: &str, count: usize| vec![one; count].join(",");
        let total = |signature: &str| steps(&body(signature, "{}")).total;
        assert_eq!(total(&format!("[{}]", many("{}", 2_000))), 2_000);
        assert_eq!(total(&format!("[{}]", many("{}", 300_000))), 2_000);
        let group = format!(r#"{{"children":[{}]}}"#, many("{}", 99));
        assert_eq!(total(&format!("[{}]", many(&group, 1_000))), 20 * 99, "groups count too");
        assert_eq!(total("null"), 0);
        assert_eq!(total(r#"[{"children":null,"ref":null,"optional":null,"x":[1]}]"#), 1);
        let members = (0..300_000).map(|n| format!(r#""s{n}":{{}}"#)).collect::<Vec<_>>().join(",");
        assert_eq!(steps(&body(r#"[{"ref":"s1"}]"#, &format!("{{{members}}}"))).total, 1);
    }

    #[test]
    fn a_message_from_a_test_stays_on_its_line() {
        let step = FailedStep {
            path: "Unit".into(),
            status: "failed".into(),
            exit_code: None,
            message: "expected\n##[error]1\u{1b}[0m".into(),
            optional: false,
        };
        assert_eq!(step.in_words(), "step Unit failed: expected·# #[error]1·[0m");
    }
}
