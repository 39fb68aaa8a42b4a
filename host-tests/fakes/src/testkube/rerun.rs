//! `POST …/{id}/rerun` (`ReRunTestWorkflowExecutionHandler`, `GetNewRunningContext` and `GetLegacyRunningContext` of 2.12.2).

use super::{Actor, Execution, Status, Testkube, wire};
use crate::http::{Request, Response};
use serde_json::Value;

/// What becomes of an execution that is run again.
#[derive(Clone, Debug)]
pub(crate) enum Again {
    /// It runs, and ends after this many milliseconds.
    Ends(i64, Status),
    /// Testkube refuses, with these words behind its own.
    Refused(String),
}

impl Execution {
    /// If it is run again, the re-run ends after this many milliseconds. Without this it passes after two seconds.
    pub fn when_rerun(mut self, millis: i64, status: Status) -> Self {
        self.again = Again::Ends(millis, status);
        self
    }

    /// Testkube does not run it again: `can't rerun test workflow execution with truncated parameters`.
    pub fn rerun_refused(mut self, why: &str) -> Self {
        self.again = Again::Refused(why.into());
        self
    }
}

impl Testkube {
    pub(super) fn rerun(&mut self, now: i64, id: &str, request: &Request) -> Response {
        const WHAT: &str = "failed to rerun test workflow execution";
        // An empty body is none (`fiber.ErrUnprocessableEntity` without a content type).
        let Ok(context) = serde_json::from_slice::<Value>(&request.body) else {
            return wire::problem(400, &format!("{WHAT}: invalid body: invalid character"));
        };
        let Some(first) = self.by_id(id).filter(|execution| execution.state(now).is_some()).cloned() else {
            let why = "client not found: rpc error: code = NotFound desc =  not found";
            return wire::problem(404, &format!("{WHAT}: {why}"));
        };
        let (ends, status) = match first.again.clone() {
            Again::Ends(millis, status) => (now + millis, status),
            Again::Refused(why) => {
                return wire::problem(502, &format!("{WHAT}: client problem: {why}"));
            }
        };
        // The control plane lists it a little later.
        let late = i64::try_from(self.handled % 5).unwrap_or(0) * 900;
        let again = first.again_from(now, now + late, actor(&context, id)).at(ends + late, status);
        let new = self.add(again);
        self.reruns.push(id.to_owned());
        self.find(now + late, None, &new, "get execution", |state| wire::full(&state, self.database))
    }

    /// The ids of the executions with this tag that were run again by a call, once for each time.
    pub fn reruns(&self, tag_key: &str, tag_value: &str) -> Vec<String> {
        let of =
            |id: &&String| self.executions.iter().any(|e| e.id == **id && e.ever_has(tag_key, tag_value));
        self.reruns.iter().filter(of).cloned().collect()
    }
}

/// Only a call that names an interface for people, or a user by name and address, leaves an actor.
fn actor(context: &Value, id: &str) -> Actor {
    let text = |pointer: &str| context.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let has_user = !text("/actor/name").is_empty() && !text("/actor/email").is_empty();
    match text("/interface/type") {
        "ui" | "cli" | "ci/cd" => {}
        _ if has_user => {}
        _ => {
            return Actor {
                kind: String::new(),
                name: String::new(),
                execution_id: None,
                execution_reference: None,
            };
        }
    }
    Actor {
        kind: "user".into(),
        name: text("/actor/name").into(),
        execution_id: None,
        execution_reference: Some(id.into()),
    }
}
