//! Random histories: submissions, executions, faults of every kind, and then a quiet time in which every pending check must
//! be told.

mod again;
mod evaluations;
mod executions;
mod faults;
mod protocol;
mod replicas;
mod submissions;

pub use replicas::play_replicas;

use crate::coverage;
use crate::module::Code;
use crate::network::{Rule, Way};
use crate::pipeline::Pipeline;
use crate::pool::Limits;
use crate::random::Random;
use crate::reference::{Delivered, End, is_owed, judge};
use crate::rules::Violation;
use crate::setup::{LISTENER, Plugin, Setup, configuration_for};
use crate::state::{Counts, Interleaving, MILLISECOND, MINUTE, SECOND};
use crate::world::World;
use anyhow::Result;
use fakes::Request;
use std::collections::VecDeque;
use std::fmt::Write;

/// The outcome of a history.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The command that replays it, but for the seed.
    pub replay: &'static str,
    /// The rules that it broke.
    pub violations: Vec<Violation>,
    /// How often each thing happened in it.
    pub counts: Counts,
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
        let _done = write!(text, "replay it with: {} {}", self.replay, self.seed);
        Some(text)
    }
}

/// Plays the history of a seed. An endless callback is stopped only if the trace is kept, which counts fuel.
///
/// # Errors
/// There is no module.
pub fn play(seed: u64, trace: bool) -> Result<Outcome> {
    play_with(if trace { Code::testrelay()? } else { Code::testrelay_uncounted()? }, seed, trace)
}

/// The same for a module that may loop endlessly: that is a violation, like any other trap.
///
/// # Errors
/// There is no module.
pub fn play_counting(seed: u64) -> Result<Outcome> {
    play_with(Code::testrelay()?, seed, false)
}

fn play_with(code: Code, seed: u64, trace: bool) -> Result<Outcome> {
    let mut random = Random::new(seed ^ 0x5eed_0041_5700_0417);
    let workers = random.one_of(&[1, 2, 2, 3, 3, 4, 4, 5, 6, 8]);
    let room = if random.once_in(8) { 4 } else { 2_000 };
    let setup = Setup {
        workers,
        drain: (5 + random.below(60)) * SECOND,
        allow_on_headers_stop_iteration: !random.once_in(4),
        more_listeners: if random.once_in(4) { vec!["inbound".into()] } else { Vec::new() },
        more_plugins: if random.once_in(5) {
            vec![Plugin::new("other", "other", &configuration_for(room))]
        } else {
            Vec::new()
        },
        interleaving: Interleaving {
            short: if random.once_in(2) { 32 * (1 + random.below(30)) } else { 0 },
            long: if random.once_in(3) { 20_000 } else { 0 },
        },
        configuration: configuration_for(room),
        code: Some(code),
        trace,
        ..Setup::new(seed)
    };
    let stalled = setup.interleaving.long > 0;
    let allow = setup.allow_on_headers_stop_iteration;
    let listeners = std::iter::once(LISTENER.to_string()).chain(setup.more_listeners.clone()).collect();
    let other = setup.more_plugins.first().map(|plugin| plugin.listener.clone());
    let limits = match random.once_in(8) {
        true => Limits { connections: 8, pending: 8, requests: 8 },
        false => Limits::default(),
    };
    let mut history = History {
        world: setup.start()?,
        random,
        workers,
        allow,
        room,
        forged: 0,
        checks: Vec::new(),
        numbers: VecDeque::new(),
        version: 0,
        stalled,
        stalled_until: 0,
        is_poisoned: false,
        at_once: false,
        waiting: Vec::new(),
        connection: None,
        artifacts: Vec::new(),
        evaluations: Vec::new(),
        files: Vec::new(),
        listeners,
        other,
        limits,
        restarted: false,
        testkube_lies: false,
        has_crowd: false,
    };
    for cluster in CLUSTERS {
        history.recover(cluster);
    }
    history.events();
    let calm_at = history.quiet();
    history.end(calm_at)
}

struct History {
    world: World,
    random: Random,
    workers: usize,
    allow: bool,
    /// `checks.max_pending`, but for a reload's variant.
    room: u32,
    /// Forged deliveries, each of which may have taken a place.
    forged: usize,
    checks: Vec<Delivered>,
    /// The numbers of the checks to come.
    numbers: VecDeque<u32>,
    version: u32,
    stalled: bool,
    /// In microseconds of the monotonic clock.
    stalled_until: u64,
    is_poisoned: bool,
    /// Whether requests are sent without waiting for the answer to the one before.
    at_once: bool,
    waiting: Vec<Waiting>,
    /// An earlier request whose connection is kept.
    connection: Option<u64>,
    /// Requests for artifacts that are under way, and what each must get.
    artifacts: Vec<Fetch>,
    /// Evaluations that have no answer yet.
    evaluations: Vec<evaluations::Evaluation>,
    /// Executions with an artifact: id and bytes.
    files: Vec<File>,
    /// Listeners with the plugin under test.
    listeners: Vec<String>,
    /// A listener with another instance of it in the same VMs.
    other: Option<String>,
    /// The clusters' circuit breakers.
    limits: Limits,
    restarted: bool,
    /// Testkube has given other bytes than a file's.
    testkube_lies: bool,
    /// A tag has more executions than a page of Testkube's list.
    has_crowd: bool,
}

const CLUSTERS: [&str; 2] = ["testkube", "azure-devops"];

/// A delivery that is not waited for.
struct Waiting {
    stream: u64,
    check: usize,
    /// When Azure DevOps began to wait for its event, in Unix milliseconds.
    since: i64,
    /// A process that has been restarted since took it, or will.
    is_old: bool,
}

/// An artifact of an execution.
#[derive(Clone)]
struct File {
    execution: String,
    /// The tag's value.
    tag: String,
    bytes: Vec<u8>,
}

/// A request for an artifact that is under way, and what it must get.
struct Fetch {
    stream: u64,
    bytes: Vec<u8>,
    by_tag: bool,
}

impl History {
    /// Checks arrive and faults strike, in any order.
    fn events(&mut self) {
        let runs = usize::try_from(3 + self.random.below(12)).unwrap_or(0);
        let gap = self.random.one_of(&[200 * MILLISECOND, 2 * SECOND, 10 * SECOND]);
        // Checks of one bucket, all at once, so that their compare-and-swaps collide.
        self.at_once = self.random.once_in(3);
        self.numbers = match self.world.hash_key().filter(|_| self.at_once) {
            Some(hash_key) => Pipeline::in_one_bucket(runs, &hash_key).into(),
            None => (1..).take(runs).collect(),
        };
        if self.at_once {
            while self.numbers.len() > 2 {
                self.submission();
                let wait = self.random.below(MILLISECOND);
                self.world.pass(wait);
            }
            self.at_once = false;
        }
        if self.random.once_in(3) {
            self.events_are_refused();
        }
        let mut faults = 4 + self.random.below(12);
        while faults > 0 || !self.numbers.is_empty() {
            let left = self.numbers.len() as u64;
            if self.random.below(left + faults) < left {
                self.submission();
                let wait = self.random.below(gap);
                self.idle(wait);
            } else {
                faults -= 1;
                self.fault();
                let longest = self.random.one_of(&[2 * SECOND, 20 * SECOND, MINUTE]);
                let wait = self.random.below(longest);
                self.idle(wait);
            }
        }
    }

    /// Time passes. A probe asks the listener every few seconds, as Kubernetes does, and jobs fetch artifacts.
    fn idle(&mut self, span: u64) {
        let end = self.world.now() + span;
        while self.world.now() < end {
            let probe = Request::new("GET", "/testrelay/healthz");
            let kept = self.connection.filter(|_| self.random.once_in(2));
            let stream = kept.and_then(|earlier| self.world.send_after(earlier, probe.clone()));
            self.connection = Some(stream.unwrap_or_else(|| {
                let listener = self.some_listener();
                self.world.send_in_pieces(&listener, probe, Vec::new())
            }));
            if self.random.once_in(6) {
                self.fetch();
            }
            if self.random.once_in(12) {
                self.evaluate();
            }
            let step = (2 * SECOND + self.random.below(3 * SECOND)).min(end.saturating_sub(self.world.now()));
            self.world.pass(step);
            self.collect();
        }
    }

    /// Each listener is probed.
    fn some_listener(&mut self) -> String {
        let all: Vec<String> = self.listeners.iter().chain(&self.other).cloned().collect();
        self.random.one_of(&all)
    }

    /// Restores a cluster to its first state.
    fn recover(&mut self, cluster: &str) {
        self.world.network(cluster, Rule { limits: self.limits, ..Rule::default() });
    }

    fn count(&mut self, name: &str) {
        self.world.count(name);
    }

    /// No more faults. Every debt must be paid now. Since when nothing prevents that, in Unix milliseconds.
    fn quiet(&mut self) -> i64 {
        let began = self.world.now();
        self.world.calm();
        for cluster in CLUSTERS {
            self.world.network(cluster, Rule { ways: vec![Way::NoConnection], ..Rule::default() });
        }
        let stall = i64::try_from(self.stalled_until.saturating_sub(began) / MILLISECOND).unwrap_or(0);
        let calm_at = self.world.wall() + stall;
        // The longest deadline, a brake of 5 min for each fall over one answer, and a margin.
        let end = began + 45 * MINUTE;
        while self.world.now() < end {
            self.idle(10 * SECOND);
            let all_told = !self.checks.iter().any(|check| is_owed(&self.world, check));
            if all_told && self.waiting.is_empty() {
                break;
            }
        }
        // From here on nothing more may happen.
        self.idle(40 * SECOND);
        calm_at
    }

    fn end(mut self, healthy_since: i64) -> Result<Outcome> {
        for waiting in std::mem::take(&mut self.waiting) {
            self.world.violation("answers", format!("request {} was never answered", waiting.stream));
        }
        let (fell, last_fall) = self.world.falls();
        // A leader that stalls for longer than its lease looks the same as one that fell.
        let lost = u64::try_from(self.world.metric_of_all("testrelay_leader_falls")).unwrap_or(0);
        let falls = fell.max(lost);
        let last_fall = if lost > fell { last_fall.max(self.world.last_stall()) } else { last_fall };
        let stalled = self.stalled;
        let end = End {
            healthy_since,
            last_fall,
            falls,
            is_poisoned: self.is_poisoned,
            stalled,
            // A stalled leader may read an answer after it has lost the lead.
            lists_tell_all: !self.has_crowd && !stalled,
        };
        let judged = judge(&mut self.world, &self.checks, &end);
        self.each_check_has_its_place();
        if self.random.once_in(16) {
            self.forgets();
        }
        let mut counts = self.world.counts();
        for (name, count) in [
            (coverage::OWED, judged.owed),
            (coverage::SUCCEEDED, judged.succeeded),
            (coverage::FAILED, judged.failed),
            (coverage::GIVEN_UP, judged.given_up),
            (coverage::RERUN, judged.reruns),
        ] {
            *counts.by_name.entry(name.into()).or_default() += count;
        }
        Ok(Outcome {
            seed: self.world.seed(),
            replay: "cargo xtask replay",
            violations: self.world.violations(),
            counts,
            trace: self.world.trace(),
            span: self.world.now(),
        })
    }

    /// Rule `bounds`: what is done is forgotten ten minutes later.
    fn forgets(&mut self) {
        const EMPTY: usize = 16 << 10;
        // A decision can be as late as the last deadline, and what is done stays ten minutes.
        let owed = |world: &World, checks: &[Delivered]| checks.iter().any(|check| is_owed(world, check));
        if owed(&self.world, &self.checks) {
            return;
        }
        self.idle(20 * MINUTE);
        let bytes = self.world.shared_bytes_without(&["/look/", "/decided/"]);
        self.count(coverage::FORGOTTEN);
        if bytes > EMPTY {
            self.world.violation("bounds", format!("shared data still has {bytes} bytes when all is done"));
        }
        self.each_check_has_its_place();
    }

    /// Each pending check has one place, and nothing else has one, whatever fell while it took or gave back one.
    fn each_check_has_its_place(&mut self) {
        const PENDING: &[u8] = br#"{"pending":"#;
        // It was reported, has given its place back, and writes what it still owes of its log.
        const OWING: &[u8] = br#""phase":{"owing":"#;
        let count =
            |bucket: &[u8], what: &[u8]| bucket.windows(what.len()).filter(|bytes| *bytes == what).count();
        let in_bucket = |bucket: &Vec<u8>| count(bucket, PENDING) - count(bucket, OWING);
        let pending: usize = self.world.shared_like("/checks/").iter().map(in_bucket).sum();
        let [of_credentials, of_projects] = ["/places/credentials", "/places/projects/"]
            .map(|keys| self.world.shared_like(keys).iter().map(|counts| places(counts)).sum::<usize>());
        self.count(coverage::PLACES);
        if pending > 0 {
            self.count(coverage::PLACES_HELD);
        }
        if (of_credentials, of_projects) != (pending, pending) {
            let text = format!(
                "{pending} checks are pending, and {of_credentials} places of credentials and {of_projects} of projects are taken"
            );
            self.world.violation("limits", text);
        }
    }
}

/// The number of taken places in a value of the module's counters: a byte, then for each name its length, the name and how
/// many places it has (both numbers of four bytes, little-endian).
fn places(counts: &[u8]) -> usize {
    let mut rest = counts.get(1..).unwrap_or_default();
    let mut places = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let Some((count, behind)) =
            behind.get(u32::from_le_bytes(*length) as usize..).and_then(<[u8]>::split_first_chunk)
        else {
            break;
        };
        places += u32::from_le_bytes(*count) as usize;
        rest = behind;
    }
    places
}
