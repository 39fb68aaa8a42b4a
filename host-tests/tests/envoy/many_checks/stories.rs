//! Checks with a story each: what happens to their executions, and what their logs must say.

use anyhow::{Result, ensure};
use fakes::{Actor, Event, Status, Truth, execution};
use host_tests::Scene;
use host_tests::scene::{Fields, Pipeline, TAG_KEY};
use std::collections::BTreeMap;

/// What happens to the executions of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// Both named ones pass.
    BothPass,
    /// One workflow runs twice, as a matrix does, and both runs pass.
    TwicePasses,
    /// The first attempt fails, and the same resource has started a second one that passes.
    RerunPasses,
    /// As many as a number says, whatever they are called; they pass.
    NumberPasses,
    /// One of two named ones does not.
    OneOfTwo(Failure),
    /// The named one passes, another with the same tag does not.
    UnnamedFails,
    /// None ever has the tag.
    NeverAppears,
    /// The second one comes long after the first has ended, and decides.
    GrowsLate { passes: bool },
    /// Nothing is said to be expected, and the second one comes while the first has to stay alone for some seconds.
    GrowsWhileSettling { passes: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Failed,
    Aborted,
    Canceled,
}

/// A check, and what happens to its executions.
pub(crate) struct Check {
    pub(crate) run: Pipeline,
    pub(crate) story: Story,
    /// When its story begins, in Unix milliseconds.
    begins: i64,
}

impl Check {
    /// Number `n`. Of twenty, seven pass, seven fail, three never get an execution and three grow, well mixed.
    pub(crate) fn new(scene: &Scene, n: usize) -> Check {
        let of = |all: &[Story]| all[n / 20 % all.len()];
        let story = match n % 20 {
            0..7 => of(&[Story::BothPass, Story::TwicePasses, Story::RerunPasses, Story::NumberPasses]),
            7..14 => of(&[
                Story::OneOfTwo(Failure::Failed),
                Story::OneOfTwo(Failure::Aborted),
                Story::OneOfTwo(Failure::Canceled),
                Story::UnnamedFails,
            ]),
            14..17 => Story::NeverAppears,
            _ => of(&[
                Story::GrowsLate { passes: true },
                Story::GrowsWhileSettling { passes: false },
                Story::GrowsLate { passes: false },
                Story::GrowsWhileSettling { passes: true },
            ]),
        };
        Check { run: scene.pipeline(u32::try_from(n).unwrap_or_default() + 1), story, begins: 0 }
    }

    /// The request's fields.
    pub(crate) fn fields(&self) -> Fields {
        match self.story {
            Story::BothPass | Story::OneOfTwo(_) | Story::GrowsLate { .. } => {
                self.run.fields("shop-e2e, shop-api")
            }
            Story::TwicePasses => self.run.fields("shop-e2e*2"),
            Story::RerunPasses | Story::UnnamedFails => self.run.fields("shop-e2e"),
            Story::NumberPasses => self.run.fields("2").with("Testrelay-Settle", "4s"),
            Story::NeverAppears => self.run.fields("shop-e2e").with("Testrelay-Appear-Timeout", "12s"),
            Story::GrowsWhileSettling { .. } => {
                self.run.fields("").without("Testrelay-Expect").with("Testrelay-Settle", "8s")
            }
        }
    }

    /// Whether the set must stay unchanged for a time.
    pub(crate) fn settles(&self) -> bool {
        matches!(self.story, Story::NumberPasses | Story::GrowsWhileSettling { .. })
    }

    /// Workflow, resource, begin and end in milliseconds after the story's begin, end status.
    fn script(&self) -> Vec<(&str, &str, i64, i64, Status)> {
        let passed_if = |passes| if passes { Status::Passed } else { Status::Failed };
        let e2e = ("shop-e2e", "e2e", 0, 4_000, Status::Passed);
        match self.story {
            Story::BothPass => vec![e2e, ("shop-api", "api", 500, 6_000, Status::Passed)],
            Story::TwicePasses => vec![e2e, ("shop-e2e", "e2e-firefox", 300, 7_000, Status::Passed)],
            Story::RerunPasses => {
                let first = ("shop-e2e", "e2e", 0, 4_000, Status::Failed);
                vec![first, ("shop-e2e", "e2e", 2_000, 8_000, Status::Passed)]
            }
            Story::NumberPasses => vec![e2e, ("shop-load", "load", 3_000, 6_000, Status::Passed)],
            Story::OneOfTwo(failure) => {
                let status = match failure {
                    Failure::Failed => Status::Failed,
                    Failure::Aborted => Status::Aborted,
                    Failure::Canceled => Status::Canceled,
                };
                vec![e2e, ("shop-api", "api", 500, 5_000, status)]
            }
            Story::UnnamedFails => vec![e2e, ("shop-smoke", "smoke", 0, 3_000, Status::Failed)],
            Story::NeverAppears => vec![],
            Story::GrowsLate { passes } => {
                vec![e2e, ("shop-api", "api", 9_000, 11_000, passed_if(passes))]
            }
            Story::GrowsWhileSettling { passes } => {
                vec![e2e, ("shop-late", "late", 7_000, 9_000, passed_if(passes))]
            }
        }
    }

    /// Lets the story begin at a time, in Unix milliseconds.
    pub(crate) fn begin(&mut self, scene: &Scene, at: i64) {
        self.begins = at;
        for (workflow, resource, begin, end, status) in self.script() {
            let actor = Actor {
                kind: "testworkflowexecution".into(),
                name: format!("{resource}-{}", self.run.tag),
                execution_id: None,
                execution_reference: None,
            };
            scene.execution(
                execution(workflow)
                    .tag(TAG_KEY, &self.run.tag)
                    .actor(actor)
                    .at(at + begin, Status::Queued)
                    .at(at + begin + 200, Status::Running)
                    .at(at + end, status),
            );
        }
    }

    /// Every try to post the check's event, oldest first.
    pub(crate) fn events(&self, scene: &Scene) -> Vec<Event> {
        scene.azure().events(&self.run.spec.plan)
    }

    /// The lines of the check's log.
    pub(crate) fn lines(&self, scene: &Scene) -> Vec<String> {
        scene.azure().log_lines(&self.run.spec.plan)
    }

    /// Those of them that say the decision.
    pub(crate) fn decisions(&self, scene: &Scene) -> Vec<String> {
        self.lines(scene).into_iter().filter(|line| line.contains("]Testrelay: ")).collect()
    }

    /// Compares an event that Azure DevOps took, and the log, with what Testkube held at that moment.
    pub(crate) fn judge(&self, scene: &Scene, event: &Event) -> Result<()> {
        ensure!(event.accepted && event.name == "TaskCompleted", "{event:?}");
        let lines = self.lines(scene);
        let told = || format!("{event:?} {lines:?}");

        let truth = scene.testkube().truth(TAG_KEY, &self.run.tag, event.at);
        let ended = self.script().iter().map(|(_, _, _, end, _)| self.begins + end).max();
        ensure!(ended.is_none_or(|ended| ended <= event.at), "before its last execution ended: {}", told());
        ensure!(truth.len() == self.script().len(), "before its last execution came: {}", told());
        let expected = if passes(&truth) { "succeeded" } else { "failed" };
        ensure!(event.result.as_deref() == Some(expected), "not {expected}: {}; {truth:?}", told());

        // Best effort: there may be none, and one whose answer was lost comes again.
        let decisions = self.decisions(scene);
        let Some(line) = decisions.first() else { return Ok(()) };
        ensure!(decisions.iter().all(|other| other == line), "two decisions: {lines:?}");
        let words = match (self.story, expected) {
            (Story::NeverAppears, _) => "could not be determined). No execution tagged",
            (_, "succeeded") => "passed. ",
            _ => "did not pass",
        };
        ensure!(line.contains(words), "{words:?} is not in {line:?}");
        Ok(())
    }
}

/// A second opinion on a counted set: only the newest run of each resource counts, and each must have passed.
fn passes(truth: &[Truth]) -> bool {
    let newest: BTreeMap<&str, &Truth> = truth.iter().map(|e| (e.actor.name.as_str(), e)).collect();
    !truth.is_empty() && newest.values().all(|e| e.finished && e.status == Status::Passed)
}
