//! Submissions: checks of every kind with their executions, and how their answers are judged.

use super::{History, Waiting};
use crate::coverage;
use crate::deliveries::BUILD_BEGAN;
use crate::pipeline::Pipeline;
use crate::reference::{Delivered, Kind};
use crate::setup::{LISTENER, bearer};
use crate::state::{MILLISECOND, SECOND};
use crate::stream::{Answer, By};
use fakes::{Actor, Execution, Request, Status};

impl History {
    /// One more check arrives, most of them good, while executions begin and end.
    pub(super) fn submission(&mut self) {
        let Some(n) = self.numbers.pop_front() else { return };
        let beside = self.random.once_in(6).then(|| self.checks.first()).flatten();
        let beside = beside.filter(|check| check.kind == Kind::Good).map(|check| check.pipeline.clone());
        let mut pipeline = beside.as_ref().map_or_else(|| Pipeline::new(n), |other| other.stage_beside(n));
        if self.random.once_in(8) && !self.clock_was_set {
            let minutes = 6 + self.random.below(50);
            let end = self.world.wall() + i64::try_from(minutes * 60_000).unwrap_or(0);
            pipeline = pipeline.token_ends_at(end);
        }
        self.world.begin(&pipeline);
        let kind = match self.random.below(24) {
            0 | 1 => Kind::Rejected,
            2 => Kind::Malformed,
            _ => Kind::Good,
        };
        let expect = self.random.one_of(&["a", "a, b", "2", "", "a"]);
        let mut check = Delivered::new(pipeline, kind, expect);
        check.since_stage = kind == Kind::Good && self.random.once_in(8);
        check.listener = match self.other.clone().filter(|_| self.random.once_in(3)) {
            Some(other) => other,
            None => self.random.one_of(&self.listeners),
        };
        if beside.is_some() {
            self.count("submission: a second stage with the same tag");
            (check.last_change, check.vanishes_at) = (self.checks[0].last_change, self.checks[0].vanishes_at);
            check.shares_tag = true;
            self.checks[0].shares_tag = true;
        } else {
            self.executions(&mut check);
        }
        self.checks.push(check);
        self.submit(self.checks.len() - 1);
    }

    fn executions(&mut self, check: &mut Delivered) {
        let pipeline = check.pipeline.clone();
        let mut ids = Vec::new();
        for workflow in ["a", "b", "c"] {
            if self.random.once_in(if workflow == "c" { 2 } else { 9 }) {
                continue;
            }
            let execution = self.execution(check, workflow);
            let bytes: Vec<u8> =
                (0..self.random.below(600)).map(|_| self.random.draw().to_le_bytes()[0]).collect();
            let execution = execution.artifact("junit.xml", bytes.clone());
            let id = self.world.testkube(|testkube| testkube.add(execution));
            self.files.push((id.clone(), bytes));
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
            // A child of it: judged through its parent alone.
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
                // A matrix: the same workflow by another resource.
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
        let is_deleted = self.random.once_in(15);
        check.last_change = check.last_change.max(if is_deleted { gone } else { ends });
        if !is_deleted {
            return execution;
        }
        check.vanishes_at = Some(check.vanishes_at.map_or(gone, |first| first.min(gone)));
        execution.deleted_at(gone)
    }

    /// Delivers a check, in headers or in a body, and mostly waits for the answer.
    pub(super) fn submit(&mut self, index: usize) {
        let since = self.world.wall();
        self.checks[index].deliveries.push(since);
        self.checks[index].newest_is_taken = false;
        let check = self.checks[index].clone();
        let mut more = vec![
            ("Testrelay-Expect", check.expect.as_str()),
            ("Testrelay-Appear-Timeout", "150s"),
            ("Testrelay-Timeout", "5m"),
        ];
        match check.kind {
            Kind::Good => {}
            Kind::Rejected => more.push(("Testrelay-Tag", "shop-of-another-run")),
            Kind::Malformed => more.push(match check.pipeline.n % 3 {
                0 => ("PlanUrl", "https://dev.azure.example/fabrikam/"),
                1 => ("PlanId", "no-guid"),
                _ => ("AuthToken", ""),
            }),
        }
        if check.since_stage {
            more.push(("Testrelay-Since-Stage", "Test"));
        }
        self.world.note_delivery(&check.pipeline);
        let mut is_slow = false;
        let stream = match self.allow && self.random.once_in(3) {
            true => {
                let request = check.pipeline.check_in_body(&more);
                let cut = usize::try_from(self.random.below(request.body.len() as u64)).unwrap_or(0);
                let (first, second) = request.body.split_at(cut);
                is_slow = self.random.once_in(2);
                let delay = self.random.below(if is_slow { 25 * SECOND } else { SECOND });
                let chunks = vec![(self.random.below(SECOND), first.to_vec()), (delay, second.to_vec())];
                self.world.send_in_pieces(&check.listener, request, chunks)
            }
            false => self.world.send_in_pieces(&check.listener, check.pipeline.check(&more), Vec::new()),
        };
        if self.at_once || is_slow || self.random.once_in(10) {
            self.waiting.push(Waiting { stream, check: index, since, is_old: false });
        } else {
            let answer = self.world.wait(stream);
            self.answered(index, &answer, since, false);
        }
    }

    fn answered(&mut self, index: usize, answer: &Answer, since: i64, is_old: bool) {
        let now = self.world.wall();
        // What a process takes that has been restarted may end with it.
        if !is_old {
            self.checks[index].answered(answer, since, now);
        }
        let kind = self.checks[index].kind;
        let is_right = match (answer.by, answer.status) {
            (By::Envoy, 0 | 503 | 408) | (By::Nobody, _) => true,
            (By::Module, 200) => kind != Kind::Malformed,
            // By a clock that was set, its token has ended.
            (By::Module, 400) if self.clock_was_set && self.checks[index].pipeline.token_end.is_some() => {
                true
            }
            (By::Module, 400 | 403) => kind == Kind::Malformed,
            (By::Module, 503) => self.is_full(),
            _ => false,
        };
        if !is_right {
            self.wrong_answer(index, answer);
        }
        if answer.by == By::Module && answer.status == 503 {
            self.count(coverage::FULL);
        }
    }

    /// Whether a check's token has ended by a clock that somebody set.
    fn may_have_ended(&self, index: usize) -> bool {
        self.clock_was_set && self.checks[index].pipeline.token_end.is_some()
    }

    /// Whether there can have been too many. The leader publishes how many are pending at each of its turns: what was decided
    /// lately may still be counted.
    fn is_full(&self) -> bool {
        let delivered = self.checks.iter().filter(|check| check.kind != Kind::Malformed).count();
        delivered >= self.room as usize
    }

    fn wrong_answer(&mut self, index: usize, answer: &Answer) {
        let (n, text) = (self.checks[index].pipeline.n, answer.text());
        let text = format!("run {n} was answered {} by {:?}: {text}", answer.status, answer.by);
        self.world.violation("answers", text);
    }

    /// The same check with another tag while it is pending: it must be refused, and change nothing.
    pub(super) fn conflict(&mut self) {
        let Some(index) = self.some_check(|check| check.kind == Kind::Good && check.newest_is_taken) else {
            return;
        };
        let check = self.checks[index].clone();
        // What was done is forgotten ten minutes later, and the check is a new one then.
        if self.world.wall() > check.deliveries[0] + 8 * 60_000 {
            return;
        }
        let tag = format!("{}-other", check.pipeline.tag);
        let request = check.pipeline.check(&[("Testrelay-Tag", &tag)]);
        let stream = self.world.send_in_pieces(&check.listener, request, Vec::new());
        let answer = self.world.wait(stream);
        let is_over = || ["reported", "over"].iter().any(|status| answer.text().contains(status));
        let is_right = match (answer.by, answer.status) {
            (By::Module, 409) => {
                self.count(coverage::CONFLICT);
                true
            }
            (By::Module, 200) => is_over(),
            (By::Module, 400) => self.may_have_ended(index),
            (By::Envoy, 0 | 503) => true,
            _ => false,
        };
        if !is_right {
            self.wrong_answer(index, &answer);
        }
    }

    /// Azure DevOps evaluates one of them again, with another token.
    pub(super) fn deliver_again(&mut self) {
        let Some(index) = self.some_check(|check| !check.is_over && check.kind != Kind::Malformed) else {
            return;
        };
        let ends = self.checks[index].pipeline.token_end;
        if ends.is_some_and(|end| self.clock_was_set || self.world.wall() > end - 240_000) {
            return;
        }
        let mut pipeline = self.checks[index].pipeline.clone();
        self.world.another_delivery(&mut pipeline);
        self.checks[index].pipeline = pipeline;
        self.submit(index);
    }

    /// The run is canceled, or deleted, while its check waits: nobody wants an event any more.
    pub(super) fn run_ends(&mut self) {
        let Some(index) = self.some_check(|check| !check.is_over && check.owed_since.is_some()) else {
            return;
        };
        let plan = self.checks[index].pipeline.spec().plan;
        let (now, is_deleted) = (self.world.wall(), self.random.once_in(3));
        self.checks[index].is_over = true;
        self.world.azure(|azure| match is_deleted {
            true => azure.delete_plan(&plan, now),
            false => azure.end_plan(&plan, now, "canceled"),
        });
    }

    fn some_check(&mut self, fits: impl Fn(&Delivered) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.checks.len()).filter(|index| fits(&self.checks[*index])).collect();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// A job downloads a file.
    pub(super) fn fetch(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let (id, bytes) = self.random.one_of(&self.files);
        let path = format!("/v1/test-workflow-executions/{id}/artifacts/junit.xml");
        let request = Request::new("GET", &path).header("authorization", &format!("Bearer {}", bearer()));
        let listener = self.some_listener();
        self.artifacts.push((self.world.send_in_pieces(&listener, request, Vec::new()), bytes));
    }

    /// What was not waited for.
    pub(super) fn collect(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match self.world.answer(waiting.stream) {
                Some(answer) => self.answered(waiting.check, &answer, waiting.since, waiting.is_old),
                None => self.waiting.push(waiting),
            }
        }
        for (stream, bytes) in std::mem::take(&mut self.artifacts) {
            match self.world.answer(stream) {
                Some(answer) => self.fetched(&answer, &bytes),
                None => self.artifacts.push((stream, bytes)),
            }
        }
    }

    /// A download is the file byte for byte, or visibly not.
    fn fetched(&mut self, answer: &Answer, bytes: &[u8]) {
        self.count(coverage::ARTIFACTS);
        let is_right = match (answer.by, answer.status) {
            (By::Module, _) => false,
            (By::Upstream, 200) if answer.is_complete => answer.body == bytes || self.testkube_lies,
            _ => true,
        };
        if !is_right {
            let text =
                format!("an artifact was answered {} by {:?}: {}", answer.status, answer.by, answer.text());
            self.world.violation("answers", text);
        }
    }

    /// A new process beside the old one, which works on for a while. What it has not decided by then is lost, and known to be:
    /// DESIGN section 5.
    pub(super) fn restart(&mut self) {
        if self.restarted {
            return;
        }
        self.restarted = true;
        let shutdown = (10 + self.random.below(110)) * SECOND;
        if !matches!(self.world.hot_restart(shutdown), Ok(true)) {
            self.world.violation("configuration", "the new process refuses its configuration".into());
        }
        self.connection = None;
        for check in &mut self.checks {
            (check.owed_since, check.newest_is_taken, check.was_in_old_process) = (None, false, true);
        }
        for waiting in &mut self.waiting {
            waiting.is_old = true;
        }
    }

    /// A check whose body is slow, on a worker whose VM falls meanwhile.
    pub(super) fn falls_while_it_waits(&mut self) {
        let Some(index) = self.some_check(|check| check.kind == Kind::Good).filter(|_| self.allow) else {
            return;
        };
        let worker = 1 + usize::try_from(self.random.below(self.workers as u64)).unwrap_or(0);
        let request = self.checks[index].pipeline.check_in_body(&[("Testrelay-Expect", "a")]);
        let (first, second) = request.body.split_at(10);
        let chunks = vec![(MILLISECOND, first.to_vec()), (50 * SECOND, second.to_vec())];
        let stream = self.world.send_on(LISTENER, worker, request, chunks);
        self.world.pass(SECOND);
        self.world.trap(worker, crate::vm::TrapAt::NextCallback);
        if self.random.once_in(2) {
            self.world.hang_up(stream);
        }
    }
}
