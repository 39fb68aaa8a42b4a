//! Random histories with replicas: processes that start, are killed, restarted and cut off, checks that come and come again at
//! any of them, an API server in trouble, and then a quiet time in which every owed check must be told.

mod end;

use super::Outcome;

use crate::coverage::HOST_CALLS;
use crate::module::Code;
use crate::network::{KUBERNETES, Rule, outage};
use crate::pipeline::{Pipeline, password};
use crate::random::Random;
use crate::reference::told_at;
use crate::setup::{Setup, changed};
use crate::state::{Interleaving, MINUTE, SECOND};
use crate::stream::By;
use crate::vm::TrapAt;
use crate::world::World;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::kubernetes::{Fault, Resource, Route, Verb};
use fakes::{Kubernetes, Request, Span, Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The most processes that live at one time.
const MAX_LIVING: usize = 5;

/// The commands that replay such histories.
const REPLAY: &str = "cargo run --package testrelay-world --bin replay -- replicas";
const REPLAY_APART: &str = "cargo run --package testrelay-world --bin replay -- replicas-apart";

/// Who lists checks and lets processes drain; Testkube's events come with this name too.
const PEOPLE: &str = "people";

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
    let setup = if shares { with_people(setup.with_cluster_store()) } else { setup };
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

/// The same with a credential for whatever people and Testkube do.
fn with_people(setup: Setup) -> Setup {
    let configuration = changed(&setup.configuration, |value| {
        let people = json!({
            "name": "people", "kind": "basic", "username": PEOPLE, "secret_env": "TESTRELAY_PASSWORD",
            "allow": ["events", "status", "drain"],
        });
        value["credentials"].as_array_mut().expect("credentials").push(people);
    });
    Setup { configuration, ..setup }
}

enum Trouble {
    /// A process that drains has its time until it is killed.
    Drains(u32),
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

fn as_people(method: &str, target: &str) -> Request {
    let credential = STANDARD.encode(format!("{PEOPLE}:{}", password()));
    Request::new(method, target).header("authorization", &format!("Basic {credential}"))
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
                    Trouble::Drains(process) => self.world.kill(process),
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
        match self.random.below(22) {
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
            17 if self.shares => self.drain(process)?,
            18 | 19 if self.shares => self.hint(process),
            20 if self.shares => drop(self.list(process)),
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

    /// It gives its checks to the others, and ends a few seconds later. Whatever is in front of it has learnt of it.
    fn drain(&mut self, process: u32) -> Result<()> {
        if self.living.len() == 1 {
            self.start()?;
        }
        self.world.count("replicas: drained");
        self.world.on(process, |world| world.send(as_people("POST", "/testrelay/v1/drain")));
        self.gone.insert(process);
        self.living.retain(|other| *other != process);
        let until = self.world.now() + (2 + self.random.below(20)) * SECOND;
        self.troubles.push((until, Trouble::Drains(process)));
        Ok(())
    }

    /// Testkube's event about an execution arrives at any process, in time or not.
    fn hint(&mut self, process: u32) {
        if self.checks.is_empty() {
            return;
        }
        let tag = self.random.one_of(&(0..self.checks.len()).collect::<Vec<_>>());
        let tag = &self.checks[tag].pipeline.tag;
        let body = json!({"testWorkflowExecution": {"tags": {"ado-run": tag}}}).to_string();
        self.world.count("replicas: events of Testkube");
        self.world.on(process, |world| world.send(as_people("POST", "/testrelay/v1/events").body(body)));
    }

    /// Somebody looks at the list.
    fn list(&mut self, process: u32) -> Option<Value> {
        let answer = self.world.on(process, |world| world.ask(as_people("GET", "/testrelay/v1/checks")));
        match (answer.by, answer.status) {
            (By::Module, 200) => {
                self.world.count("replicas: listed");
                serde_json::from_slice(&answer.body).ok()
            }
            (By::Module | By::Envoy, 0 | 503 | 504) => None,
            _ => {
                let text = format!("a list was answered {}: {}", answer.status, answer.text());
                self.world.violation("answers", text);
                None
            }
        }
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
        for (_, trouble) in std::mem::take(&mut self.troubles) {
            if let Trouble::Drains(process) = trouble {
                self.world.kill(process);
            }
        }
        for cluster in CLUSTERS {
            self.world.network(cluster, Rule::default());
        }
        let end = self.world.now() + 30 * MINUTE;
        while self.world.now() < end && self.checks.iter().any(|check| self.owed_since(check).is_some()) {
            self.pass(10 * SECOND);
        }
        self.pass(MINUTE);
        if self.shares {
            self.lists_agree();
        }
    }
}
