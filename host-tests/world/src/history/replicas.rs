//! Random histories with replicas: processes that start, are killed, restarted and cut off, checks that come and come again at
//! any of them, an API server in trouble, and then a quiet time in which every owed check must be told.

use super::Outcome;
use super::protocol::{Life, Protocol};
use crate::coverage::HOST_CALLS;
use crate::module::Code;
use crate::network::{KUBERNETES, Rule, outage};
use crate::pipeline::Pipeline;
use crate::random::Random;
use crate::reference::told_at;
use crate::setup::Setup;
use crate::state::{Interleaving, MINUTE, SECOND};
use crate::stream::By;
use crate::vm::TrapAt;
use crate::world::World;
use anyhow::Result;
use fakes::kubernetes::{Fault, Resource, Route, Verb};
use fakes::{Kubernetes, Request, Span, Status};
use serde_json::Value;
use std::collections::BTreeSet;

/// The most processes that live at one time.
const MAX_LIVING: usize = 5;

/// The commands that replay such histories.
const REPLAY: &str = "cargo run --package testrelay-world --bin replay -- replicas";
const REPLAY_APART: &str = "cargo run --package testrelay-world --bin replay -- replicas-apart";

const CLUSTERS: [&str; 3] = ["testkube", "azure-devops", KUBERNETES];

/// Plays the history of a seed. `shares`: the replicas share their checks, so that none is lost with its process.
///
/// # Errors
/// There is no module, or it does not know the store.
pub fn play_replicas(seed: u64, shares: bool, trace: bool) -> Result<Outcome> {
    let mut random = Random::new(seed ^ 0x2e97_11ca_05ee_d0ff);
    let setup = Setup {
        workers: random.one_of(&[1, 1, 2, 3]),
        drain: (5 + random.below(30)) * SECOND,
        interleaving: Interleaving {
            short: if random.once_in(2) { 32 * (1 + random.below(30)) } else { 0 },
            long: 0,
        },
        pod: "relay-0".into(),
        code: Some(if trace { Code::testrelay()? } else { Code::testrelay_uncounted()? }),
        trace,
        ..Setup::new(seed)
    };
    let workers = setup.workers;
    let setup = if shares { setup.with_cluster_store() } else { setup };
    let mut history = Replicas {
        world: setup.start()?,
        random,
        workers,
        shares,
        living: vec![0],
        gone: BTreeSet::new(),
        pods: 1,
        checks: Vec::new(),
        troubles: Vec::new(),
    };
    for _ in 0..history.random.below(3) {
        history.start()?;
    }
    if shares {
        history.world.kubernetes(Kubernetes::keep_changes);
    }
    history.events()?;
    history.quiet();
    Ok(history.end())
}

struct Replicas {
    world: World,
    random: Random,
    workers: usize,
    shares: bool,
    /// The processes that take checks, never none.
    living: Vec<u32>,
    /// Those that were killed, or replaced by a hot restart.
    gone: BTreeSet<u32>,
    /// How many pods there have been.
    pods: u32,
    checks: Vec<Check>,
    /// What will be over by itself, each with its time in microseconds of the monotonic clock.
    troubles: Vec<(u64, Trouble)>,
}

enum Trouble {
    /// A process does not reach a cluster.
    CutOff(u32, &'static str),
    /// Nobody reaches it well.
    Outage(&'static str),
}

/// A run whose execution ends one way, whoever looks.
struct Check {
    pipeline: Pipeline,
    result: &'static str,
    /// When its execution ends, in Unix milliseconds.
    ends: i64,
    /// The deliveries that were answered 200: by which process, and since when Azure DevOps waited for it.
    taken: Vec<(u32, i64)>,
    /// When each of those was answered, in Unix milliseconds.
    answered: Vec<i64>,
    /// Its id in log lines, once it was answered 200.
    id: String,
    /// Somebody has deleted its Secret. If its owner is dead, or dies before it notices, the check is lost.
    is_deleted: bool,
}

impl Replicas {
    fn events(&mut self) -> Result<()> {
        let (mut runs, mut faults) = (4 + self.random.below(16), 4 + self.random.below(14));
        let longest = self.random.one_of(&[SECOND, 5 * SECOND, 20 * SECOND]);
        while runs + faults > 0 {
            if self.random.below(runs + faults) < runs {
                runs -= 1;
                self.submission();
            } else {
                faults -= 1;
                self.fault()?;
            }
            let span = self.random.below(longest);
            self.pass(span);
        }
        Ok(())
    }

    /// Time passes, and each process is probed, as Kubernetes does.
    fn pass(&mut self, span: u64) {
        let end = self.world.now() + span;
        while self.world.now() < end {
            for process in self.living.clone() {
                self.world.on(process, |world| world.send(Request::new("GET", "/testrelay/healthz")));
            }
            let step = (2 * SECOND).min(end - self.world.now());
            self.world.pass(step);
            let now = self.world.now();
            let (over, left) = std::mem::take(&mut self.troubles)
                .into_iter()
                .partition(|(at, _): &(u64, Trouble)| *at <= now);
            self.troubles = left;
            for (_, trouble) in over {
                match trouble {
                    Trouble::CutOff(process, cluster) => self.world.partition(process, cluster, false),
                    Trouble::Outage(cluster) => self.world.network(cluster, Rule::default()),
                }
            }
        }
    }

    fn some_process(&mut self) -> u32 {
        self.random.one_of(&self.living)
    }

    fn submission(&mut self) {
        let n = u32::try_from(self.checks.len()).unwrap_or(0);
        let pipeline = self.world.pipeline(n);
        let from = self.world.wall();
        let span = self.random.one_of(&[2_000, 20_000, 120_000]);
        let ends = from + 1_000 + i64::try_from(self.random.below(span)).unwrap_or(0);
        let (status, result) =
            if self.random.once_in(3) { (Status::Failed, "failed") } else { (Status::Passed, "succeeded") };
        let execution = pipeline.tagged("a").at(from, Status::Running).at(ends, status);
        self.world.testkube(|testkube| testkube.add(execution));
        self.checks.push(Check {
            pipeline,
            result,
            ends,
            taken: Vec::new(),
            answered: Vec::new(),
            id: String::new(),
            is_deleted: false,
        });
        self.deliver(self.checks.len() - 1);
    }

    fn deliver(&mut self, index: usize) {
        let process = self.some_process();
        let (pipeline, since) = (self.checks[index].pipeline.clone(), self.world.wall());
        let answer = self.world.on(process, |world| world.deliver(&pipeline, &[("Testrelay-Expect", "a")]));
        match (answer.by, answer.status) {
            (By::Module, 200) => {
                self.checks[index].taken.push((process, since));
                self.checks[index].answered.push(self.world.wall());
                let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
                self.checks[index].id = body["id"].as_str().unwrap_or_default().to_owned();
            }
            // 504: its thread stalled for longer than Envoy waits.
            (By::Module | By::Envoy, 0 | 503 | 504) => self.world.count("replicas: refused"),
            _ => {
                let text = format!("run {index} was answered {}: {}", answer.status, answer.text());
                self.world.violation("answers", text);
            }
        }
    }

    fn deliver_again(&mut self) {
        let pending = |check: &Check| !check.is_deleted && self.owed_since(check).is_some();
        let all: Vec<usize> = (0..self.checks.len()).filter(|n| pending(&self.checks[*n])).collect();
        if all.is_empty() {
            return;
        }
        let index = self.random.one_of(&all);
        self.world.count("replicas: delivered again");
        let mut pipeline = self.checks[index].pipeline.clone();
        self.world.another_delivery(&mut pipeline);
        self.checks[index].pipeline = pipeline;
        self.deliver(index);
    }

    fn fault(&mut self) -> Result<()> {
        let process = self.some_process();
        match self.random.below(18) {
            0..=2 => self.kill(process)?,
            3 | 4 => {
                self.gone.insert(process);
                let next = self.world.restart(process)?;
                self.replace(process, next);
            }
            5 => self.start()?,
            6 | 7 => self.cut_off(process, KUBERNETES),
            8 => {
                let cluster = self.random.one_of(&CLUSTERS);
                self.cut_off(process, cluster);
            }
            9 | 10 => self.api_server_fails(),
            11 => {
                let (cluster, rule) = (self.random.one_of(&CLUSTERS), outage(&mut self.random));
                self.world.network(cluster, rule);
                let until = self.world.now() + self.random.below(90 * SECOND);
                self.troubles.push((until, Trouble::Outage(cluster)));
            }
            12 => {
                let skew = i64::try_from(self.random.below(600_000)).unwrap_or(0) - 300_000;
                self.world.on(process, |world| world.set_clock(skew));
            }
            13 => self.trap(process),
            14 => {
                let thread = self.thread();
                let span = self.random.below(40 * SECOND);
                self.world.on(process, |world| world.stall(thread, span));
            }
            15 => self.hot_restart(process)?,
            16 if self.shares => self.delete_by_hand(),
            _ => self.deliver_again(),
        }
        Ok(())
    }

    fn thread(&mut self) -> usize {
        usize::try_from(self.random.below(self.workers as u64 + 1)).unwrap_or(0)
    }

    fn start(&mut self) -> Result<()> {
        if self.living.len() < MAX_LIVING {
            let process = self.world.start_replica(&format!("relay-{}", self.pods))?;
            self.pods += 1;
            self.living.push(process);
        }
        Ok(())
    }

    /// The last one has a successor soon.
    fn kill(&mut self, process: u32) -> Result<()> {
        self.world.kill(process);
        self.gone.insert(process);
        self.living.retain(|other| *other != process);
        if self.living.is_empty() {
            let span = self.random.below(40 * SECOND);
            self.world.pass(span);
            self.start()?;
        }
        Ok(())
    }

    fn replace(&mut self, old: u32, new: u32) {
        self.living.retain(|other| *other != old);
        self.living.push(new);
    }

    fn hot_restart(&mut self, process: u32) -> Result<()> {
        let span = (5 + self.random.below(40)) * SECOND;
        let next = self.world.on(process, |world| -> Result<Option<u32>> {
            let is_done = !world.has_parent() && world.hot_restart(span)?;
            Ok(is_done.then(|| world.process()))
        })?;
        if let Some(next) = next {
            self.gone.insert(process);
            self.replace(process, next);
        }
        Ok(())
    }

    fn cut_off(&mut self, process: u32, cluster: &'static str) {
        self.world.partition(process, cluster, true);
        let longest = self.random.one_of(&[10, 40, 120]);
        let until = self.world.now() + self.random.below(longest * SECOND);
        self.troubles.push((until, Trouble::CutOff(process, cluster)));
    }

    fn api_server_fails(&mut self) {
        let millis = 200 + self.random.below(15_000);
        let fault = self.random.one_of(&[
            Fault::Away,
            Fault::EtcdAway,
            Fault::ResetAfter,
            Fault::DoneLater { millis },
            Fault::Late { millis },
            Fault::Slow { millis },
            Fault::Stalled { millis },
            Fault::Cut { bytes: 40 },
            Fault::Throttled { retry_after: 2 },
            Fault::WebhookDown,
            Fault::Starting,
            Fault::Unauthorized,
        ]);
        let route = self.random.one_of(&[
            Route::All,
            Route::All,
            Route::Reads,
            Route::Writes,
            Route::Only(Resource::Secrets, Verb::Create),
            Route::Only(Resource::Secrets, Verb::Update),
            Route::Only(Resource::Leases, Verb::Update),
        ]);
        let from = self.world.wall();
        let longest = self.random.one_of(&[2_000, 30_000, 120_000]);
        let span = match self.random.once_in(3) {
            true => Span::Next(1 + u32::try_from(self.random.below(3)).unwrap_or(0)),
            false => {
                Span::Between { from, until: from + i64::try_from(self.random.below(longest)).unwrap_or(0) }
            }
        };
        self.world.count("fault: the API server is in trouble");
        self.world.kubernetes(|server| server.fault(route, span, fault));
    }

    fn trap(&mut self, process: u32) {
        let at = match self.random.below(3) {
            0 => TrapAt::NextCallback,
            1 => TrapAt::In(self.random.one_of(&HOST_CALLS)),
            _ => TrapAt::HostCall(u32::try_from(self.random.below(600)).unwrap_or(0)),
        };
        let thread = self.thread();
        self.world.on(process, |world| world.trap(thread, at));
    }

    /// A check that came twice may lose its newest token with it.
    fn delete_by_hand(&mut self) {
        let stored = |check: &Check| check.taken.len() == 1 && self.owed_since(check).is_some();
        let Some(index) = self.checks.iter().position(stored) else { return };
        self.world.count("fault: a Secret is deleted by hand");
        self.checks[index].is_deleted = true;
        let pipeline = self.checks[index].pipeline.clone();
        self.world.delete_secret(&pipeline);
    }

    /// Since when Azure DevOps waits for the newest delivery that must be told and was not.
    fn owed_since(&self, check: &Check) -> Option<i64> {
        if check.is_deleted && !self.gone.is_empty() {
            return None;
        }
        let kept = |process: u32| self.shares || !self.gone.contains(&process);
        let since =
            check.taken.iter().filter(|(process, _)| kept(*process)).map(|(_, since)| *since).max()?;
        let events = self.world.azure(|azure| azure.events(&check.pipeline.spec().plan));
        told_at(&events, since).is_none().then_some(since)
    }

    /// No more faults: every debt must be paid now.
    fn quiet(&mut self) {
        self.world.calm();
        self.troubles.clear();
        for cluster in CLUSTERS {
            self.world.network(cluster, Rule::default());
        }
        let end = self.world.now() + 30 * MINUTE;
        while self.world.now() < end && self.checks.iter().any(|check| self.owed_since(check).is_some()) {
            self.pass(10 * SECOND);
        }
        self.pass(MINUTE);
    }

    fn end(mut self) -> Outcome {
        self.judge();
        if self.shares {
            self.leaves_nothing();
            self.obeys_the_protocol();
        }
        Outcome {
            seed: self.world.seed(),
            replay: if self.shares { REPLAY } else { REPLAY_APART },
            violations: self.world.violations(),
            counts: self.world.counts(),
            trace: self.world.trace(),
            span: self.world.now(),
        }
    }

    fn judge(&mut self) {
        // After the second fall over the same check its result counts as unknown.
        let (fell, _) = self.world.falls();
        let lost = u64::try_from(self.world.metric_of_all("testrelay_leader_falls")).unwrap_or(0);
        let may_be_unknown = fell.max(lost) >= 2;
        for check in &self.checks {
            let n = check.pipeline.n;
            let events = self.world.azure(|azure| azure.events(&check.pipeline.spec().plan));
            let mut broken = Vec::new();
            if let Some(since) = self.owed_since(check) {
                let text = format!("run {n} was answered 200 and waits since {since}: {events:?}");
                broken.push(("1", text));
            }
            for event in events.iter().filter(|event| event.name == "TaskCompleted") {
                let is_early = event.at < check.ends && event.result.as_deref() == Some("succeeded");
                let is_right = event.result.as_deref() == Some(check.result);
                let is_unknown = may_be_unknown && event.result.as_deref() == Some("failed");
                if is_early || !(is_right || is_unknown) {
                    broken.push(("3", format!("run {n} {}: {event:?}", check.result)));
                }
            }
            let state = &self.world.process.state;
            broken.into_iter().for_each(|(rule, text)| state.borrow_mut().violation(rule, text));
            self.world.process.state.borrow_mut().counts.add("replicas: judged");
        }
    }

    /// What is done is deleted ten minutes later, and a dead replica's Lease once it has no checks.
    fn leaves_nothing(&mut self) {
        self.pass(15 * MINUTE);
        let (secrets, leases) = (self.world.secrets().len(), self.world.leases().len());
        if secrets > 0 || leases != self.living.len() {
            let text = format!("{secrets} Secrets are left, and {leases} Leases of {:?}", self.living);
            self.world.violation("6", text);
        }
    }

    /// Every write to a check's Secret, every event and every 200 is one that the protocol has.
    fn obeys_the_protocol(&mut self) {
        let (changes, log) = (self.world.kubernetes(|server| server.changes().to_vec()), self.world.log());
        let protocol = Protocol::of(&changes, &log);
        for check in &self.checks {
            let accepted = check.taken.iter().zip(&check.answered);
            let life = Life {
                secret: check.pipeline.secret_name(),
                id: check.id.clone(),
                accepted: accepted.map(|((process, since), until)| (*process, *since, *until)).collect(),
                events: self.world.azure(|azure| azure.events(&check.pipeline.spec().plan)),
            };
            let mut state = self.world.process.state.borrow_mut();
            match protocol.judge(&life) {
                Ok(writes) => {
                    *state.counts.by_name.entry("replicas: writes judged".into()).or_default() += writes;
                }
                Err(text) => state.violation("7", format!("run {}: {text}", check.pipeline.n)),
            }
        }
    }
}
