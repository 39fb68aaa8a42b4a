//! Random histories: submissions, executions, faults of every kind, and then quiet, in which every debt must be paid.

use crate::network::{Rule, Way, outage};
use crate::pipeline::Pipeline;
use crate::random::Random;
use crate::reference::{Delivered, all_decided, judge};
use crate::rules::Violation;
use crate::setup::{LISTENER, Setup, configuration};
use crate::state::{Counts, Interleaving, MILLISECOND, MINUTE, SECOND, START};
use crate::stream::Answer;
use crate::vm::TrapAt;
use crate::world::World;
use anyhow::Result;
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::testkube::{Fault as TestkubeFault, Route};
use fakes::{Actor, Execution, Request, Span, Status};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a history came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The rules that it broke.
    pub violations: Vec<Violation>,
    /// What happened in it, how often.
    pub counts: Counts,
    /// The most fuel that each callback took.
    pub fuel: BTreeMap<&'static str, u64>,
    /// The trace, if it was to be kept.
    pub trace: String,
    /// How much virtual time it had, in microseconds.
    pub span: u64,
}

impl Outcome {
    /// What went wrong, with the command that replays it; `None`: nothing.
    pub fn failure(&self) -> Option<String> {
        let first = self.violations.first()?;
        let mut text = format!("seed {}: {first}\n", self.seed);
        for more in self.violations.iter().skip(1).take(9) {
            // Writing to a String cannot fail.
            let _done = writeln!(text, "  and {more}");
        }
        let _done = write!(text, "replay it with: cargo xtask replay {}", self.seed);
        Some(text)
    }
}

/// Plays the history of a seed.
///
/// # Errors
/// There is no module.
pub fn play(seed: u64, trace: bool) -> Result<Outcome> {
    let mut random = Random::new(seed ^ 0x5eed_0041_5700_0417);
    let workers = 1 + usize::try_from(random.below(4)).unwrap_or(0);
    let setup = Setup {
        workers,
        drain: (5 + random.below(60)) * SECOND,
        allow_on_headers_stop_iteration: !random.once_in(4),
        more_listeners: if random.once_in(4) { vec!["inbound".into()] } else { Vec::new() },
        interleaving: Interleaving {
            short: if random.once_in(2) { 32 * (1 + random.below(30)) } else { 0 },
            long: if random.once_in(3) { 20_000 } else { 0 },
        },
        trace,
        ..Setup::new(seed)
    };
    let long_stalls = setup.interleaving.long > 0;
    let allow = setup.allow_on_headers_stop_iteration;
    let mut history = History {
        world: setup.start()?,
        random,
        workers,
        allow,
        checks: Vec::new(),
        variant: 0,
        version: 0,
        stalled: long_stalls,
        at_once: false,
        waiting: Vec::new(),
    };
    history.submissions();
    history.faults();
    let left = history.quiet();
    history.end(left)
}

struct History {
    world: World,
    random: Random,
    workers: usize,
    allow: bool,
    checks: Vec<Delivered>,
    variant: u32,
    version: u32,
    stalled: bool,
    /// Whether requests are sent without waiting for the answer to the one before.
    at_once: bool,
    /// Requests that are not waited for: which check, when Azure DevOps began to wait.
    waiting: Vec<(u64, usize, i64)>,
}

impl History {
    /// Checks arrive, most of them good, while executions begin and end.
    fn submissions(&mut self) {
        let runs = 3 + self.random.below(14);
        let gap = self.random.one_of(&[200 * MILLISECOND, 2 * SECOND, 10 * SECOND]);
        let runs = usize::try_from(runs).unwrap_or(0);
        // Checks of one bucket, all at once: each other's compare-and-swap is in their way.
        self.at_once = self.random.once_in(3);
        let numbers = match self.at_once {
            true => Pipeline::in_one_bucket(runs),
            false => (1..).take(runs).collect(),
        };
        for n in numbers {
            let pipeline = self.world.pipeline(n);
            self.executions(&pipeline);
            let expect = self.random.one_of(&["a", "a, b", "2", "", "a"]).to_string();
            let is_good = !self.random.once_in(12);
            let check = Delivered {
                pipeline,
                expect,
                is_good,
                owed_since: None,
                is_over: false,
                bound: START - 4 * 3_600_000,
            };
            self.checks.push(check);
            let at = self.world.wall();
            self.submit(self.checks.len() - 1, at);
            let wait = self.random.below(if self.at_once { MILLISECOND } else { gap });
            self.world.pass(wait);
        }
    }

    fn executions(&mut self, pipeline: &Pipeline) {
        let mut ids = Vec::new();
        for workflow in ["a", "b", "c"] {
            if self.random.once_in(if workflow == "c" { 2 } else { 9 }) {
                continue;
            }
            let execution = self.execution(pipeline, workflow);
            ids.push((workflow, self.world.testkube(|testkube| testkube.add(execution))));
        }
        let Some((workflow, first)) = ids.first().cloned() else { return };
        if self.random.once_in(5) {
            // A child of it: judged through its parent alone.
            let child = self.execution(pipeline, "child").child_of(workflow, &first);
            self.world.testkube(|testkube| testkube.add(child));
        }
        if self.random.once_in(4) {
            let again = self.execution(pipeline, workflow);
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
        if self.random.once_in(6) {
            // Long before the run.
            let before = START - 7 * 3_600_000;
            let old = pipeline.tagged("a").at(before, Status::Running).at(before + 1_000, Status::Failed);
            self.world.testkube(|testkube| testkube.add(old));
        }
    }

    fn execution(&mut self, pipeline: &Pipeline, workflow: &str) -> Execution {
        let mut ms = |n| i64::try_from(self.random.below(n)).unwrap_or(0);
        let begins = START + ms(240_000);
        let ends = begins + 500 + ms(180_000);
        let (middle, gone) = ((begins + ends) / 2, ends + 1_000 + ms(120_000));
        let status = self.random.one_of(&[
            Status::Passed,
            Status::Passed,
            Status::Passed,
            Status::Passed,
            Status::Failed,
            Status::Aborted,
            Status::Canceled,
            Status::Other("pending".into()),
        ]);
        let execution = pipeline.tagged(workflow).at(begins, Status::Queued);
        let execution = match self.random.below(6) {
            0 => execution.at(middle, Status::Stopping).at(middle + 300, Status::Scheduling),
            1 => {
                execution.at_with_finished(middle, Status::Assigned, true).at(middle + 1_500, Status::Running)
            }
            _ => execution.at(middle, Status::Running),
        };
        let execution = execution.at(ends, status);
        if self.random.once_in(15) { execution.deleted_at(gone) } else { execution }
    }

    /// Delivers a check, in headers or in a body, and mostly waits for the answer.
    fn submit(&mut self, index: usize, since: i64) {
        let check = self.checks[index].clone();
        let tag = if check.is_good { check.pipeline.tag.clone() } else { "shop-of-another-run".into() };
        let more = [
            ("Testrelay-Expect", check.expect.as_str()),
            ("Testrelay-Tag", tag.as_str()),
            ("Testrelay-Appear-Timeout", "150s"),
            ("Testrelay-Timeout", "7m"),
        ];
        self.world.note_delivery(&check.pipeline);
        let stream = match self.allow && self.random.once_in(3) {
            true => {
                let request = check.pipeline.check_in_body(&more);
                let cut = usize::try_from(self.random.below(request.body.len() as u64)).unwrap_or(0);
                let (first, second) = request.body.split_at(cut);
                let delay = self.random.below(2 * SECOND);
                let chunks = vec![(self.random.below(SECOND), first.to_vec()), (delay, second.to_vec())];
                self.world.send_in_pieces(LISTENER, request, chunks)
            }
            false => self.world.send(check.pipeline.check(&more)),
        };
        if self.at_once || self.random.once_in(10) {
            self.waiting.push((stream, index, since));
        } else {
            let answer = self.world.wait(stream);
            self.answered(index, &answer, since);
        }
    }

    fn answered(&mut self, index: usize, answer: &Answer, since: i64) {
        self.checks[index].answered(answer, since);
        let right = match (answer.by, answer.status) {
            (crate::stream::By::Module, 200) | (crate::stream::By::Envoy, 0 | 503 | 408) => true,
            // The same check is delivered again with the same values: never a conflict.
            _ => false,
        };
        if !right {
            let text = format!(
                "run {} was answered {} by {:?}: {}",
                self.checks[index].pipeline.n,
                answer.status,
                answer.by,
                answer.text()
            );
            self.world.violation("answers", text);
        }
    }

    /// What was not waited for.
    fn collect(&mut self) {
        for (stream, index, since) in std::mem::take(&mut self.waiting) {
            match self.world.answer(stream) {
                Some(answer) => self.answered(index, &answer, since),
                None => self.waiting.push((stream, index, since)),
            }
        }
    }

    fn faults(&mut self) {
        let poisoned = self.random.once_in(8).then_some(0);
        if let Some(check) = poisoned.and_then(|index: usize| self.checks.get(index)).cloned() {
            self.world.poison("poison-");
            let execution = check.pipeline.tagged("poison").at(START, Status::Passed);
            self.world.testkube(|testkube| testkube.add(execution));
        }
        for _ in 0..4 + self.random.below(12) {
            self.fault();
            let wait = self.random.below(self.random.clone().one_of(&[2 * SECOND, 20 * SECOND, MINUTE]));
            self.idle(wait);
        }
    }

    /// Time passes; something probes the listener each few seconds, as Kubernetes does.
    fn idle(&mut self, span: u64) {
        let end = self.world.now() + span;
        while self.world.now() < end {
            self.world.send(Request::new("GET", "/testrelay/healthz"));
            let step = (2 * SECOND + self.random.below(3 * SECOND)).min(end - self.world.now());
            self.world.pass(step);
            self.collect();
        }
    }

    fn fault(&mut self) {
        let length = i64::try_from(self.random.below(60_000)).unwrap_or(0);
        let span = Span::Between { from: self.world.wall(), until: self.world.wall() + length };
        let thread = usize::try_from(self.random.below(self.workers as u64 + 1)).unwrap_or(0);
        match self.random.below(18) {
            0 => {
                let fault = self.random.one_of(&[
                    TestkubeFault::Status(502),
                    TestkubeFault::Status(401),
                    TestkubeFault::TruncatedJson,
                    TestkubeFault::Html,
                    TestkubeFault::Reset,
                    TestkubeFault::Cut { bytes: 20 },
                    TestkubeFault::Slow { millis: 12_000 },
                    TestkubeFault::Dribble { chunk: 100, millis: 300 },
                    TestkubeFault::ContentType("text/plain".into()),
                ]);
                let route = self.random.one_of(&[Route::All, Route::List, Route::Get]);
                self.count(&format!("fault: Testkube {}", name_of(&fault)));
                self.world.testkube(|testkube| testkube.fault(route, span, fault));
            }
            1 | 2 => {
                let fault = self.random.one_of(&[
                    AzureFault::Status { status: 503, retry_after: Some(3) },
                    AzureFault::Status { status: 500, retry_after: None },
                    AzureFault::Status { status: 429, retry_after: Some(10) },
                    AzureFault::ResetBefore,
                    AzureFault::ResetAfter,
                    AzureFault::Slow { millis: 25_000 },
                    AzureFault::Html { status: 203 },
                ]);
                let route = self.random.one_of(&[
                    AzureRoute::All,
                    AzureRoute::Events,
                    AzureRoute::Events,
                    AzureRoute::LogCreate,
                    AzureRoute::Build,
                ]);
                self.count(&format!("fault: Azure DevOps {}", name_of(&fault)));
                self.world.azure(|azure| azure.fault(route, span, fault));
            }
            3 | 4 => {
                let cluster = self.random.one_of(&["testkube", "azure-devops"]);
                let rule = outage(&mut self.random);
                self.count(&format!("fault: outage of {cluster}"));
                self.world.network(cluster, rule);
                let span = self.random.below(90 * SECOND);
                self.idle(span);
                self.world.network(cluster, Rule::default());
            }
            5 => {
                let cluster = self.random.one_of(&["testkube", "azure-devops"]);
                self.count(&format!("fault: {cluster} is unknown"));
                self.world.network(cluster, Rule { is_known: false, ..Rule::default() });
                self.idle(10 * SECOND);
                self.world.network(cluster, Rule::default());
            }
            6..=8 => {
                let at = match self.random.below(6) {
                    0 => TrapAt::NextCallback,
                    1..=3 => TrapAt::In(self.random.one_of(&HOST_CALLS)),
                    4 => TrapAt::HostCall(u32::try_from(self.random.below(600)).unwrap_or(0)),
                    _ => TrapAt::Fuel(self.random.below(400_000)),
                };
                self.world.trap(thread, at);
            }
            9 => {
                let span = self.random.below(40 * SECOND);
                self.stalled = true;
                self.world.stall(thread, span);
            }
            10 => {
                let day = 86_400_000;
                let skew = i64::try_from(self.random.below(2 * day)).unwrap_or(0) - 86_400_000;
                self.world.set_clock(skew);
            }
            11 | 12 => {
                // One of a few configurations: often one that has been there a moment ago.
                self.variant = u32::try_from(self.random.below(3)).unwrap_or(0);
                self.reload();
            }
            13 => {
                self.count("fault: a configuration that is refused");
                if let Ok(true) = self.world.reload("{\"no\": \"configuration\"}") {
                    self.world.violation("configuration", "a broken configuration was taken".into());
                }
            }
            14 => {
                self.version += 1;
                self.count("fault: new code");
                if !matches!(self.world.upgrade(self.version), Ok(true)) {
                    self.world.violation("configuration", "new code was refused".into());
                }
            }
            15 => self.falls_while_it_waits(),
            _ => {
                // Azure DevOps evaluates one of them again, with another token.
                let index = usize::try_from(self.random.below(self.checks.len() as u64)).unwrap_or(0);
                let mut pipeline = self.checks[index].pipeline.clone();
                let at = self.world.wall();
                self.world.another_delivery(&mut pipeline);
                self.checks[index].pipeline = pipeline;
                self.count("delivered again");
                self.submit(index, at);
            }
        }
    }

    /// A check whose body is slow, on a worker whose VM falls meanwhile.
    fn falls_while_it_waits(&mut self) {
        if !self.allow {
            return;
        }
        let check = self.checks[0].clone();
        let worker = 1 + usize::try_from(self.random.below(self.workers as u64)).unwrap_or(0);
        let request = check.pipeline.check_in_body(&[("Testrelay-Expect", "a")]);
        let (first, second) = request.body.split_at(10);
        let chunks = vec![(MILLISECOND, first.to_vec()), (50 * SECOND, second.to_vec())];
        let stream = self.world.send_on(LISTENER, worker, request, chunks);
        self.world.pass(SECOND);
        self.world.trap(worker, TrapAt::NextCallback);
        if self.random.once_in(2) {
            self.world.hang_up(stream);
        }
    }

    fn count(&mut self, name: &str) {
        self.world.count(name);
    }

    fn reload(&mut self) {
        self.count("fault: another configuration");
        if !matches!(self.world.reload(&configuration(self.variant)), Ok(true)) {
            self.world.violation("configuration", "a good configuration was refused".into());
        }
    }

    /// No more faults. Every debt must be paid now; how long it took, in microseconds.
    fn quiet(&mut self) -> u64 {
        let began = self.world.now();
        self.world.calm();
        for cluster in ["testkube", "azure-devops"] {
            self.world.network(cluster, Rule { ways: vec![Way::NoConnection], ..Rule::default() });
        }
        // Deadline, a brake of 5 min, a wait of 5 min between two tries of an event, and some to spare.
        let end = began + 45 * MINUTE;
        while self.world.now() < end {
            self.idle(10 * SECOND);
            if self.waiting.is_empty() && all_decided(&self.world, &self.checks) {
                break;
            }
        }
        let took = self.world.now() - began;
        self.idle(40 * SECOND);
        took
    }

    fn end(mut self, took: u64) -> Result<Outcome> {
        for (stream, ..) in std::mem::take(&mut self.waiting) {
            self.world.violation("7", format!("request {stream} was never answered"));
        }
        let (owed, succeeded) = judge(&mut self.world, &self.checks, self.stalled);
        let mut counts = self.world.counts();
        *counts.by_name.entry("rule 1 (checks owed)".into()).or_default() += owed;
        *counts.by_name.entry("rule 3 (events that say succeeded)".into()).or_default() += succeeded;
        *counts.by_name.entry("seconds until all was quiet".into()).or_default() += took / SECOND;
        Ok(Outcome {
            seed: self.world.seed(),
            violations: self.world.violations(),
            counts,
            fuel: self.world.fuel(),
            trace: self.world.trace(),
            span: self.world.now(),
        })
    }
}

/// Every host function that the module calls once it is configured.
const HOST_CALLS: [&str; 14] = [
    "clock_time_get",
    "random_get",
    "proxy_log",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_set_shared_data",
    "proxy_set_shared_data",
    "proxy_http_call",
    "proxy_http_call",
    "proxy_send_local_response",
    "proxy_increment_metric",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_buffer_bytes",
];

/// The variant's name alone: its numbers would make a count of each.
fn name_of(fault: &impl std::fmt::Debug) -> String {
    let text = format!("{fault:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}
