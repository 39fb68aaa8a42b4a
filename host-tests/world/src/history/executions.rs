//! Executions: which a check finds, when they begin and end, and in which order Testkube shows them.

use super::{File, History};
use crate::coverage;
use crate::deliveries::BUILD_BEGAN;
use crate::reference::Delivered;
use crate::world::World;
use fakes::{Actor, Execution, Status};

/// What an execution leaves as its report: a whole one that says the truth or not, a broken or a hostile one, a large one,
/// or these bytes.
fn report(workflow: &str, bytes: Vec<u8>) -> Vec<u8> {
    let seed = bytes.iter().fold(0_usize, |sum, byte| sum * 31 % 1_000_003 + usize::from(*byte));
    let failed = "<testcase classname='##vso[x]' name='&#10;##[error]t'><failure message='m'/></testcase>";
    let suite = |inside: String| format!("<testsuite name='{workflow}'>{inside}</testsuite>").into_bytes();
    match seed % 16 {
        0..5 => suite("<testcase name='t'/>".repeat(1 + seed % 40)),
        5..10 => suite(failed.repeat(1 + seed % 20)),
        10 => suite("<testsuite>".repeat(seed % 12_000)),
        11 => suite(failed.repeat(3_000)),
        12 if seed.is_multiple_of(5) => vec![b' '; (2 << 20) + seed % 3],
        13 => [b"<testsuite>".to_vec(), bytes].concat(),
        _ => bytes,
    }
}

impl History {
    pub(super) fn executions(&mut self, check: &mut Delivered) {
        let pipeline = check.pipeline.clone();
        let mut ids = Vec::new();
        for workflow in ["a", "b", "c"] {
            if self.random.once_in(if workflow == "c" { 2 } else { 9 }) {
                continue;
            }
            let execution = self.execution(check, workflow);
            let bytes: Vec<u8> =
                (0..self.random.below(600)).map(|_| self.random.draw().to_le_bytes()[0]).collect();
            let bytes = report(workflow, bytes);
            let execution = execution.artifact("junit.xml", bytes.clone());
            let id = self.world.testkube(|testkube| testkube.add(execution));
            self.files.push(File { execution: id.clone(), tag: pipeline.tag.clone(), bytes });
            ids.push((workflow, id));
        }
        if check.since_stage || self.random.once_in(6) {
            // Before the run: long before it, or before the stage that the check names.
            let before =
                if check.since_stage { BUILD_BEGAN - 3_600_000 } else { BUILD_BEGAN - 7 * 3_600_000 };
            let status = if self.random.once_in(2) { Status::Passed } else { Status::Failed };
            let old = pipeline.tagged("a").at(before, Status::Running).at(before + 1_000, status);
            self.world.testkube(|testkube| testkube.add(old));
        }
        let Some((workflow, first)) = ids.first().cloned() else { return };
        if self.random.once_in(5) {
            // A child of it, judged only through its parent.
            let child = self.execution(check, "child").child_of(workflow, &first);
            self.world.testkube(|testkube| testkube.add(child));
        }
        if self.random.once_in(4) {
            let again = self.execution(check, workflow);
            let again = match self.random.below(3) {
                // Provably a re-run.
                0 => again.actor(Actor {
                    kind: "user".into(),
                    name: "somebody".into(),
                    execution_id: None,
                    execution_reference: Some(first),
                }),
                // The same resource once more.
                1 => again,
                // A matrix: the same workflow started by another resource.
                _ => again.actor(Actor {
                    kind: "testworkflowexecution".into(),
                    name: "a-second".into(),
                    execution_id: None,
                    execution_reference: None,
                }),
            };
            self.world.testkube(|testkube| testkube.add(again));
        }
    }

    /// More ended executions than fit on a page of Testkube's list: two that count, and many that one of them has started.
    /// Executions of the same instant change pages from request to request; when some are deleted, others move up.
    pub(super) fn crowd(&mut self, check: &mut Delivered) {
        self.has_crowd = true;
        self.count(coverage::CROWD);
        check.expect = "a".into();
        let now = self.world.wall();
        let (began, is_instant) = (now - 60_000, self.random.once_in(2));
        let add = |world: &World, execution: Execution, deleted: Option<i64>| {
            let execution = match deleted {
                Some(at) => execution.deleted_at(at),
                None => execution,
            };
            world.testkube(|testkube| testkube.add(execution))
        };
        let ended = |workflow: &str, at: i64, status| {
            check.pipeline.tagged(workflow).at(at, Status::Running).at(at + 5_000, status)
        };
        let other = self.random.one_of(&[Status::Failed, Status::Failed, Status::Passed]);
        let parent = add(&self.world, ended("a", began, Status::Passed), None);
        let newer = 90 + i64::try_from(self.random.below(120)).unwrap_or(0);
        for i in -20..newer {
            let at = began + if is_instant { 0 } else { i };
            let child = ended("child", at, Status::Passed).child_of("a", &parent);
            let deleted = (!is_instant && i > 0).then_some(now + 10 * i);
            add(&self.world, child, deleted);
        }
        // Its id is far from the first one's: neighbours would be lost together.
        add(&self.world, ended("b", began, other), None);
    }

    fn execution(&mut self, check: &mut Delivered, workflow: &str) -> Execution {
        let now = self.world.wall();
        let mut ms = |n| i64::try_from(self.random.below(n)).unwrap_or(0);
        // It may have begun a little before its stage's check came.
        let begins = now - 10_000 + ms(120_000);
        let ends = begins + 500 + ms(90_000);
        let (middle, gone) = ((begins + ends) / 2, ends + 1_000 + ms(120_000));
        let status = self.random.one_of(&[
            Status::Passed,
            Status::Passed,
            Status::Passed,
            Status::Passed,
            Status::Failed,
            Status::Aborted,
            Status::Canceled,
        ]);
        let never_ends = self.random.once_in(30);
        let status = if never_ends { Status::Other("pending".into()) } else { status };
        let execution = check.pipeline.tagged(workflow).at(begins, Status::Queued);
        let execution = match self.random.below(6) {
            0 => execution.at(middle, Status::Stopping).at(middle + 300, Status::Scheduling),
            1 => {
                execution.at_with_finished(middle, Status::Assigned, true).at(middle + 1_500, Status::Running)
            }
            _ => execution.at(middle, Status::Running),
        };
        let execution = execution.at(ends, status);
        // What a re-run does follows from this one's times, and draws nothing.
        let execution = match ends % 7 {
            0..4 => execution.when_rerun(500 + begins % 30_000, Status::Passed),
            4 | 5 => execution.when_rerun(500 + begins % 30_000, Status::Failed),
            _ => execution.rerun_refused("can't rerun test workflow execution with sensitive prameters"),
        };
        let is_deleted = self.random.once_in(15);
        check.last_change = check.last_change.max(if is_deleted { gone } else { ends });
        if !is_deleted {
            return execution;
        }
        check.vanishes_at = Some(check.vanishes_at.map_or(gone, |first| first.min(gone)));
        execution.deleted_at(gone)
    }
}
