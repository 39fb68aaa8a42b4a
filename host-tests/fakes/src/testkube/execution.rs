//! A test workflow execution as a script: its state at any moment depends only on that moment.

use super::rerun::Again;
use std::collections::BTreeMap;

/// The status of a test workflow execution (`model_test_workflow_status.go`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are Testkube's.
pub enum Status {
    Queued,
    Assigned,
    Starting,
    Scheduling,
    Running,
    Pausing,
    Paused,
    Resuming,
    Stopping,
    Passed,
    Failed,
    Aborted,
    Canceled,
    /// A status of another version: `pending` was one in 2.2.2, and more may come.
    Other(String),
}

impl Status {
    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Starting => "starting",
            Self::Scheduling => "scheduling",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
            Self::Stopping => "stopping",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Canceled => "canceled",
            Self::Other(text) => text,
        }
    }

    /// Whether nothing follows it: `TestWorkflowTerminalStatus`.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Aborted | Self::Canceled)
    }

    /// The status of that text, as the list's `status` filter reads it: unknown ones are none.
    pub(crate) fn known(text: &str) -> Option<Self> {
        use Status::*;
        let all = [
            Queued, Assigned, Starting, Scheduling, Running, Pausing, Paused, Resuming, Stopping, Passed,
            Failed, Aborted, Canceled,
        ];
        all.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether the pod has run: before that, `queuedAt` and `startedAt` stay in the year 1.
    fn has_started(&self) -> bool {
        use Status::*;
        matches!(self, Running | Pausing | Paused | Resuming | Stopping | Passed | Failed)
    }
}

/// Who started an execution (`runningContext.actor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// cron, testtrigger, user, testworkflow, testworkflowexecution, program, gitintegration.
    pub kind: String,
    /// For a TestWorkflowExecution resource: its name.
    pub name: String,
    /// For a child: the parent execution's id.
    pub execution_id: Option<String>,
    /// For a rerun: the original execution's id.
    pub execution_reference: Option<String>,
}

/// One step of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transition {
    at: i64,
    status: Status,
    finished: bool,
}

/// A test workflow execution, built as a script and given to [`Testkube::add`](super::Testkube::add).
///
/// It is invisible before its first transition.
#[derive(Clone, Debug)]
pub struct Execution {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) workflow: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotation_bytes: usize,
    pub(crate) actor: Actor,
    /// `runningContext.actor.executionPath`: a child's ancestors, the parent last, with slashes between them.
    pub(crate) path: String,
    pub(crate) artifacts: BTreeMap<String, Vec<u8>>,
    pub(crate) log: Option<String>,
    pub(crate) initialization_error: Option<String>,
    pub(crate) step_error: Option<String>,
    pub(crate) optional_step_failed: bool,
    pub(crate) steps: Vec<(String, i64)>,
    pub(crate) has_no_pod: bool,
    pub(crate) again: Again,
    tags: BTreeMap<String, String>,
    replaced_tags: Option<(i64, BTreeMap<String, String>)>,
    scheduled_at: Option<i64>,
    script: Vec<Transition>,
    deleted_at: Option<i64>,
}

/// An execution of a workflow, as a TestWorkflowExecution resource of that workflow's name starts it.
pub fn execution(workflow: &str) -> Execution {
    Execution {
        id: String::new(),
        name: String::new(),
        number: 0,
        workflow: workflow.into(),
        labels: BTreeMap::new(),
        annotation_bytes: 0,
        actor: Actor {
            kind: "testworkflowexecution".into(),
            name: workflow.into(),
            execution_id: None,
            execution_reference: None,
        },
        path: String::new(),
        artifacts: BTreeMap::new(),
        log: None,
        initialization_error: None,
        step_error: None,
        optional_step_failed: false,
        steps: Vec::new(),
        has_no_pod: false,
        again: Again::Ends(2_000, Status::Passed),
        tags: BTreeMap::new(),
        replaced_tags: None,
        scheduled_at: None,
        script: Vec::new(),
        deleted_at: None,
    }
}

impl Execution {
    /// Adds a tag, as the resource, the CLI and the API do.
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Adds a label of the workflow.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets `scheduledAt`; without it, it is the time of the first transition.
    pub fn scheduled_at(mut self, at: i64) -> Self {
        self.scheduled_at = Some(at);
        self
    }

    /// Says who started it.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// Started by the API without a running context: no actor is named.
    pub fn of_nobody(self) -> Self {
        self.actor(Actor {
            kind: String::new(),
            name: String::new(),
            execution_id: None,
            execution_reference: None,
        })
    }

    /// A re-run of the execution with this id, by somebody with the CLI, which says so.
    pub fn rerun_of(self, execution_id: &str) -> Self {
        self.actor(Actor {
            kind: "user".into(),
            name: String::new(),
            execution_id: None,
            execution_reference: Some(execution_id.into()),
        })
    }

    /// Makes it a child that an `execute` step of the given execution started: tags are inherited, and it is
    /// recognised by its actor alone.
    pub fn child_of(self, workflow: &str, execution_id: &str) -> Self {
        self.actor(Actor {
            kind: "testworkflow".into(),
            name: workflow.into(),
            execution_id: Some(execution_id.into()),
            execution_reference: None,
        })
        .below(&[execution_id])
    }

    /// Makes it a child of the last of these executions, each of which has started the next, as Testkube 2.13 does below one
    /// that a Git event has started: the actor keeps its type and name.
    pub fn git_child_of(self, ancestors: &[&str]) -> Self {
        self.actor(Actor {
            kind: "gitintegration".into(),
            name: "Git Integration".into(),
            execution_id: ancestors.last().map(|id| (*id).into()),
            execution_reference: None,
        })
        .below(ancestors)
    }

    /// Sets `executionPath`; whoever calls the API may write anything into it.
    pub fn below(mut self, ancestors: &[&str]) -> Self {
        self.path = ancestors.join("/");
        self
    }

    /// From `at` on it has this status; `finishedAt` is set when the status is terminal.
    pub fn at(self, at: i64, status: Status) -> Self {
        let finished = status.is_terminal();
        self.at_with_finished(at, status, finished)
    }

    /// From `at` on it has this status, with `finishedAt` set or not whatever the status says: an execution whose
    /// workflow cannot be resolved is `assigned` and finished for a second or two.
    pub fn at_with_finished(mut self, at: i64, status: Status, finished: bool) -> Self {
        self.script.push(Transition { at, status, finished });
        self.script.sort_by_key(|transition| transition.at);
        self
    }

    /// Somebody aborts it: `stopping` for 0.7 s, then it ends.
    pub(super) fn abort(&mut self, now: i64) {
        self.script.retain(|transition| transition.at <= now);
        self.script.push(Transition { at: now, status: Status::Stopping, finished: false });
        self.script.push(Transition { at: now + 700, status: Status::Canceled, finished: true });
    }

    /// The same workflow with the same tags, started by somebody at `now` and listed from a later time on.
    pub(super) fn again_from(&self, now: i64, listed: i64, actor: Actor) -> Self {
        let again = execution(&self.workflow).actor(actor).scheduled_at(now);
        let mut again = again.at(listed, Status::Running);
        (again.tags, again.labels, again.again) =
            (self.tags.clone(), self.labels.clone(), self.again.clone());
        again
    }

    /// From `at` on it is gone, with its artifacts and its log.
    pub fn deleted_at(mut self, at: i64) -> Self {
        self.deleted_at = Some(at);
        self
    }

    /// From `at` on it has these tags and no others, as `PATCH …/tags` does; dotted keys set that way are shown
    /// but never found again.
    pub fn tags_replaced_at(mut self, at: i64, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.replaced_tags = Some((at, tags));
        self
    }

    /// Adds an artifact.
    pub fn artifact(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.artifacts.insert(name.into(), bytes.into());
        self
    }

    /// Sets the log, readable once the status is terminal; without one there never is a log.
    pub fn log(mut self, text: &str) -> Self {
        self.log = Some(text.into());
        self
    }

    /// Sets `result.initialization.errorMessage`, which makes `result.initialization` aborted.
    pub fn initialization_error(mut self, message: &str) -> Self {
        self.initialization_error = Some(message.into());
        self
    }

    /// Sets the `errorMessage` of the step that failed, when the status is `failed`.
    pub fn step_error(mut self, message: &str) -> Self {
        self.step_error = Some(message.into());
        self
    }

    /// Adds a step that ends at `ends`, after those that were added before; the first one begins with the execution. Without
    /// any, the execution has the four steps of a workflow that clones, tests and uploads.
    pub fn step(mut self, name: &str, ends: i64) -> Self {
        self.steps.push((name.into(), ends));
        self
    }

    /// Its pod never runs. It still is `running` as soon as its job exists; when that ends, no step has run.
    pub fn without_pod(mut self) -> Self {
        self.has_no_pod = true;
        self
    }

    /// Lets the optional step fail, which leaves a `passed` execution passed.
    pub fn optional_step_failed(mut self) -> Self {
        self.optional_step_failed = true;
        self
    }

    /// Sets how many bytes the workflow's annotations have: `last-applied-configuration` carries whole specs.
    pub fn annotations_of(mut self, bytes: usize) -> Self {
        self.annotation_bytes = bytes;
        self
    }

    pub(crate) fn scheduled(&self) -> i64 {
        self.scheduled_at.or(self.script.first().map(|first| first.at)).unwrap_or(0)
    }

    /// Whether it has this tag at any time.
    pub(crate) fn ever_has(&self, key: &str, value: &str) -> bool {
        let replaced = self.replaced_tags.as_ref().map(|(_, tags)| tags);
        [Some(&self.tags), replaced]
            .into_iter()
            .flatten()
            .any(|tags| tags.get(key).is_some_and(|is| is == value))
    }

    /// The parent and the parent's ancestors, the nearest first.
    pub(crate) fn ancestors(&self) -> Vec<String> {
        let path = self.path.rsplit('/').map(str::to_owned);
        self.actor.execution_id.iter().cloned().chain(path).filter(|id| !id.is_empty()).collect()
    }

    /// What it is at `now`; nothing before the first transition and after its deletion.
    pub(crate) fn state(&self, now: i64) -> Option<State<'_>> {
        if self.deleted_at.is_some_and(|at| now >= at) {
            return None;
        }
        let past = &self.script[..self.script.partition_point(|transition| transition.at <= now)];
        let current = past.last()?;
        let replaced = self.replaced_tags.as_ref().filter(|(at, _)| now >= *at);
        Some(State {
            now,
            execution: self,
            status: &current.status,
            status_at: current.at,
            started: past.iter().any(|transition| transition.status.has_started()),
            finished_at: current.finished.then_some(current.at),
            tags: replaced.map_or(&self.tags, |(_, tags)| tags),
            tags_are_escaped: replaced.is_none(),
        })
    }
}

/// An execution at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<'a> {
    pub(crate) now: i64,
    pub(crate) execution: &'a Execution,
    pub(crate) status: &'a Status,
    pub(crate) status_at: i64,
    pub(crate) started: bool,
    pub(crate) finished_at: Option<i64>,
    pub(crate) tags: &'a BTreeMap<String, String>,
    /// Dots of keys are stored as U+FF0E, except when the tags came by PATCH.
    tags_are_escaped: bool,
}

impl State<'_> {
    /// The value stored under a key as a selector names it, which always escapes the dots.
    pub(crate) fn stored_tag(&self, key: &str) -> Option<&str> {
        if key.contains('.') && !self.tags_are_escaped {
            return None;
        }
        self.tags.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_seen_before_the_first_transition_and_after_the_deletion() {
        let script = execution("w").at(10, Status::Running).at(20, Status::Passed).deleted_at(30);
        let seen: Vec<_> = [9, 10, 19, 20, 29, 30]
            .iter()
            .map(|now| script.state(*now).map(|state| state.status.as_str().to_owned()))
            .collect();
        let seen: Vec<_> = seen.iter().map(Option::as_deref).collect();
        assert_eq!(seen, [None, Some("running"), Some("running"), Some("passed"), Some("passed"), None]);
    }

    #[test]
    fn a_status_may_go_backwards() {
        let script = execution("w").at(10, Status::Stopping).at(20, Status::Scheduling);
        assert_eq!(script.state(25).map(|state| state.status.clone()), Some(Status::Scheduling));
    }

    #[test]
    fn a_dotted_key_set_by_patch_is_shown_but_not_found() {
        let script = execution("w").tag("app.version", "1").at(0, Status::Running);
        assert_eq!(script.state(0).unwrap().stored_tag("app.version"), Some("1"));
        let patched = script.tags_replaced_at(5, &[("app.version", "2")]);
        let state = patched.state(5).unwrap();
        assert_eq!(state.tags["app.version"], "2");
        assert_eq!(state.stored_tag("app.version"), None);
    }
}
