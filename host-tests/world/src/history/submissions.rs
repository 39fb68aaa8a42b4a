//! Submissions: checks of every kind, and how their answers are judged.

use super::{Fetch, History, Waiting};
use crate::coverage;
use crate::pipeline::Pipeline;
use crate::reference::{CLOCK_SKEW, Delivered, Kind};
use crate::rules::MARK;
use crate::setup::{LISTENER, bearer};
use crate::state::{MILLISECOND, SECOND};
use crate::stream::{Answer, By};
use fakes::Request;

impl History {
    /// Another check arrives, in most cases a good one, while executions begin and end.
    pub(super) fn submission(&mut self) {
        let Some(n) = self.numbers.pop_front() else { return };
        let beside = self.random.once_in(6).then(|| self.checks.first()).flatten();
        let beside = beside.filter(|check| check.kind == Kind::Good).map(|check| check.pipeline.clone());
        let mut pipeline = beside.as_ref().map_or_else(|| Pipeline::new(n), |other| other.stage_beside(n));
        if self.random.once_in(8) {
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
        self.policies(&mut check);
        check.listener = match self.other.clone().filter(|_| self.random.once_in(3)) {
            Some(other) => other,
            None => self.random.one_of(&self.listeners),
        };
        if beside.is_some() {
            self.count("submission: a second stage with the same tag");
            (check.last_change, check.vanishes_at) = (self.checks[0].last_change, self.checks[0].vanishes_at);
            check.shares_tag = true;
            self.checks[0].shares_tag = true;
        } else if kind == Kind::Good && !self.has_crowd && self.random.once_in(50) {
            self.crowd(&mut check);
        } else {
            self.executions(&mut check);
        }
        self.checks.push(check);
        let index = self.checks.len() - 1;
        self.checks[index].began = Some(self.world.wall());
        // Somebody else knows some of them, and sends them before or after Azure DevOps.
        let forger = self.checks[index].pipeline.n % 6;
        if forger == 1 {
            self.forge(index);
        }
        self.submit(index);
        if forger == 2 {
            self.forge(index);
        }
    }

    /// Some checks have policies. They follow from the check's number, and draw nothing.
    fn policies(&mut self, check: &mut Delivered) {
        if check.kind != Kind::Good {
            return;
        }
        if matches!(check.pipeline.n % 8, 1 | 6) {
            self.count(coverage::OPTIONAL);
            check.optional = if check.expect.contains('b') { "c" } else { "b" };
        }
        if matches!(check.pipeline.n % 8, 4 | 6) {
            self.count(coverage::GRACE);
            check.grace = 40_000;
        }
        if matches!(check.pipeline.n % 8, 3 | 6) {
            self.count(coverage::RETRY);
            check.retry = 1 + check.pipeline.n / 8 % 2;
        }
    }

    /// Somebody who knows a check's ids sends it with another tag and an invented token.
    fn forge(&mut self, index: usize) {
        let check = self.checks[index].clone();
        if self.at_once || check.kind == Kind::Malformed {
            return;
        }
        let (tag, token) = (format!("evil-{}", check.pipeline.tag), format!("{MARK}-forged-{index}"));
        self.world.forged_token(&check.pipeline, &token);
        self.world.note_delivery(&check.pipeline);
        self.forged += 1;
        let fields = [("AuthToken", token.as_str()), ("Testrelay-Tag", &tag), ("Testrelay-Expect", "noop")];
        let stream = self.world.send_in_pieces(&check.listener, check.pipeline.check(&fields), Vec::new());
        let answer = self.world.wait(stream);
        match (answer.by, answer.status) {
            (By::Module, 200 | 409) => self.count(coverage::FORGED),
            (By::Module, 503) if self.is_full() => {}
            (By::Envoy, 0 | 503 | 408) | (By::Nobody, _) => {}
            _ => self.wrong_answer(index, &answer),
        }
    }

    /// Delivers a check, in headers or in a body, and mostly waits for the answer.
    pub(super) fn submit(&mut self, index: usize) {
        if self.checks[index].deliveries.last() == Some(&self.world.wall()) {
            // The time distinguishes deliveries.
            self.world.pass(MILLISECOND);
        }
        let since = self.world.wall();
        self.checks[index].deliveries.push(since);
        self.checks[index].newest_is_taken = false;
        let check = self.checks[index].clone();
        let token = if check.kind == Kind::Malformed { self.unusable_token() } else { String::new() };
        let retry = check.retry.to_string();
        let mut more = vec![
            ("Testrelay-Expect", check.expect.as_str()),
            ("Testrelay-Appear-Timeout", "150s"),
            ("Testrelay-Timeout", "5m"),
        ];
        match check.kind {
            Kind::Good => {}
            Kind::Rejected => more.push(("Testrelay-Tag", "shop-of-another-run")),
            Kind::Malformed => more.push(match check.pipeline.n % 5 {
                0 => ("PlanUrl", "https://dev.azure.example/fabrikam/"),
                1 => ("PlanId", "no-guid"),
                2 => ("AuthToken", ""),
                _ => ("AuthToken", &token),
            }),
        }
        if !check.optional.is_empty() {
            more.push(("Testrelay-Optional", check.optional));
        }
        if check.grace > 0 {
            more.push(("Testrelay-Grace", "40s"));
        }
        if check.retry > 0 {
            more.push(("Testrelay-Retry", &retry));
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
        // A restarted process may take its checks with it.
        if !is_old {
            self.checks[index].answered(answer, since, now);
        }
        let kind = self.checks[index].kind;
        let is_right = match (answer.by, answer.status) {
            (By::Envoy, 0 | 503 | 408) | (By::Nobody, _) => true,
            (By::Module, 200) => kind != Kind::Malformed,
            (By::Module, 400) => kind == Kind::Malformed || self.may_have_ended(index, since),
            (By::Module, 403) => kind == Kind::Malformed,
            (By::Module, 503) => self.is_full(),
            // Longer than Azure DevOps waits.
            (By::Module, 408) => true,
            _ => false,
        };
        if !is_right {
            self.wrong_answer(index, answer);
        }
        if answer.by == By::Module && answer.status == 503 {
            self.count(coverage::FULL);
        }
    }

    /// Whether a check's token may have ended, by the process's clock, when a delivery was read between `since` and now.
    pub(super) fn may_have_ended(&self, index: usize, since: i64) -> bool {
        let now = self.world.wall();
        let fastest = self.world.skews(since, now).into_iter().max().unwrap_or(0);
        let ends = self.checks[index].pipeline.token_end;
        ends.is_some_and(|end| now + fastest >= end + CLOCK_SKEW)
    }

    /// Whether there can have been too many. A check that was decided lately, or that a fallen VM was accepting, may still
    /// have its place; this model does not know.
    fn is_full(&self) -> bool {
        let delivered = self.checks.iter().filter(|check| check.kind != Kind::Malformed).count();
        delivered + self.forged >= self.room as usize
    }

    pub(super) fn wrong_answer(&mut self, index: usize, answer: &Answer) {
        let (n, text) = (self.checks[index].pipeline.n, answer.text());
        let text = format!("run {n} was answered {} by {:?}: {text}", answer.status, answer.by);
        self.world.violation("answers", text);
    }

    /// The run is cancelled or deleted, or Azure DevOps completes the check itself, while it waits: nobody waits for an
    /// event any more.
    pub(super) fn run_ends(&mut self) {
        let Some(index) = self.some_check(|check| !check.is_over && check.owed_since.is_some()) else {
            return;
        };
        let plan = self.checks[index].pipeline.spec().plan;
        let (now, how) = (self.world.wall(), self.random.below(4));
        self.checks[index].is_over = true;
        self.checks[index].over_at = Some(now);
        if how == 0 {
            let pipeline = self.checks[index].pipeline.clone();
            for check in self.checks.iter_mut().filter(|check| check.pipeline.build == pipeline.build) {
                check.is_over = true;
                check.over_at = Some(now);
            }
            return self.world.cancel_build(&pipeline);
        }
        self.world.azure(|azure| match how {
            1 => azure.delete_plan(&plan, now),
            2 => azure.end_plan(&plan, now, "succeeded"),
            _ => azure.end_plan(&plan, now, "canceled"),
        });
    }

    pub(super) fn some_check(&mut self, fits: impl Fn(&Delivered) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.checks.len()).filter(|index| fits(&self.checks[*index])).collect();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// A job downloads a file, by Testkube's own path or by the tag.
    pub(super) fn fetch(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let file = self.random.one_of(&self.files);
        let now = self.world.wall();
        let truth = self.world.testkube(|testkube| testkube.truth("ado-run", &file.tag, now));
        let name = truth.into_iter().find(|truth| truth.id == file.execution).map(|truth| truth.name);
        let by_tag = name.filter(|_| self.random.once_in(2));
        let path = match &by_tag {
            Some(name) => {
                let tag = &file.tag;
                format!("/testrelay/v1/artifacts/{tag}/{name}/junit.xml?all=true&partial=true")
            }
            None => format!("/v1/test-workflow-executions/{}/artifacts/junit.xml", file.execution),
        };
        let request = Request::new("GET", &path).header("authorization", &format!("Bearer {}", bearer()));
        let listener = self.some_listener();
        let stream = self.world.send_in_pieces(&listener, request, Vec::new());
        self.artifacts.push(Fetch { stream, bytes: file.bytes, by_tag: by_tag.is_some() });
    }

    /// Answers that the history did not wait for.
    pub(super) fn collect(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match self.world.answer(waiting.stream) {
                Some(answer) => self.answered(waiting.check, &answer, waiting.since, waiting.is_old),
                None => self.waiting.push(waiting),
            }
        }
        for fetch in std::mem::take(&mut self.artifacts) {
            match self.world.answer(fetch.stream) {
                Some(answer) => self.fetched(&answer, &fetch),
                None => self.artifacts.push(fetch),
            }
        }
        self.collect_evaluations();
    }

    /// A download is the file byte for byte, or visibly incomplete. By tag the module may give the reason.
    fn fetched(&mut self, answer: &Answer, fetch: &Fetch) {
        self.count(if fetch.by_tag { coverage::ARTIFACTS_BY_TAG } else { coverage::ARTIFACTS });
        let is_right = match (answer.by, answer.status) {
            (By::Module, status) => fetch.by_tag && matches!(status, 404 | 409 | 502..=504),
            (By::Upstream, 200) if answer.is_complete => answer.body == fetch.bytes || self.testkube_lies,
            _ => true,
        };
        if !is_right {
            let text =
                format!("an artifact was answered {} by {:?}: {}", answer.status, answer.by, answer.text());
            self.world.violation("answers", text);
        }
    }

    /// A new process beside the old one, which keeps running for a while. What it has not decided by then is lost; that is
    /// a known limit.
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
            (check.owed_since, check.newest_is_taken, check.has_two_tokens) = (None, false, false);
            check.was_in_old_process = true;
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
