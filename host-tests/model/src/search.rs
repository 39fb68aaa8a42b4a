//! Two searches over all states that can be reached. [`shortest`] goes breadth first and finds the shortest run that
//! breaks a rule. [`exhaust`] goes depth first, needs 9 bytes for each state that it has seen, and also finds runs that go
//! round: where there is none, every run ends, and what holds at all ends holds "in the end".

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use crate::model::{Model, Step};
use crate::properties::Broken;
use crate::system::System;

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// States, where those that differ only in the names of processes and checks are one.
    pub states: u64,
    /// Steps between them.
    pub steps: u64,
    /// States in which nothing more must happen.
    pub ends: u64,
    /// The longest run of the breadth-first search; the deepest of the depth-first one.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The first run that breaks a rule.
    pub found: Option<Counterexample>,
}

/// A run that breaks a rule.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// Which.
    pub broken: Broken,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// The states that were seen, by their fingerprints, which need no other hash.
type Seen = HashSet<u64, Identity>;

#[derive(Clone, Copy, Default)]
struct Identity;

impl BuildHasher for Identity {
    type Hasher = Itself;
    fn build_hasher(&self) -> Itself {
        Itself(0)
    }
}

struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash.rotate_left(8) ^ u64::from(byte));
    }
    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

/// Breadth first, up to a number of states: the shortest run that breaks a rule, or `wanted` and no other.
pub fn shortest(model: &Model, max_states: usize, wanted: Option<Broken>) -> Report {
    let is_wanted = |broken: &Broken| wanted.is_none_or(|wanted| wanted == *broken);
    let began = Instant::now();
    let mut report = Report { states: 0, steps: 0, ends: 0, depth: 0, took: Duration::ZERO, found: None };
    let mut scratch = Vec::new();
    let start = model.start_state();
    let mut seen = Seen::default();
    seen.insert(start.fingerprint(&mut scratch));
    // Each state's step and the state before it, in the order in which they were found.
    let mut came: Vec<(Step, u32)> = vec![(Step::Start, 0)];
    let mut level = vec![(start, 0_u32)];
    let mut steps = Vec::new();
    'search: while !level.is_empty() {
        let mut next_level = Vec::new();
        for (system, at) in level {
            model.steps(&system, &mut steps);
            let mut goes_on = false;
            for &step in &steps {
                let next = model.after(&system, step);
                if next == system {
                    continue;
                }
                goes_on |= step.must_happen();
                report.steps += 1;
                if let Some(broken) = next.broken.filter(is_wanted) {
                    report.found = Some(run_to(&came, at, Some(step), broken));
                    break 'search;
                }
                if seen.insert(next.fingerprint(&mut scratch)) {
                    next_level.push((next, came.len() as u32));
                    came.push((step, at));
                }
            }
            if !goes_on {
                report.ends += 1;
                if let Some(broken) = model.at_the_end(&system).filter(is_wanted) {
                    report.found = Some(run_to(&came, at, None, broken));
                    break 'search;
                }
            }
        }
        report.depth += 1;
        if came.len() > max_states {
            break;
        }
        level = next_level;
    }
    report.states = came.len() as u64;
    report.took = began.elapsed();
    report
}

fn run_to(came: &[(Step, u32)], at: u32, last: Option<Step>, broken: Broken) -> Counterexample {
    let mut steps: Vec<Step> = last.into_iter().collect();
    let mut at = at;
    while at != 0 {
        let (step, before) = came[at as usize];
        steps.push(step);
        at = before;
    }
    steps.reverse();
    Counterexample { broken, steps }
}

/// A state on the way, and the steps from it that were not gone yet.
struct Fork {
    system: System,
    fingerprint: u64,
    steps: Vec<Step>,
    came_by: Step,
    goes_on: bool,
}

/// Depth first, all states: the first run that breaks a rule, or `wanted` and no other. `progress` is told how many states
/// were seen, every few seconds.
pub fn exhaust(model: &Model, wanted: Option<Broken>, mut progress: impl FnMut(u64)) -> Report {
    let is_wanted = |broken: &Broken| wanted.is_none_or(|wanted| wanted == *broken);
    let began = Instant::now();
    let mut report = Report { states: 1, steps: 0, ends: 0, depth: 0, took: Duration::ZERO, found: None };
    let mut scratch = Vec::new();
    let mut seen = Seen::default();
    let mut on_the_way = Seen::default();
    let mut spare: Vec<Vec<Step>> = Vec::new();
    let start = model.start_state();
    let fingerprint = start.fingerprint(&mut scratch);
    seen.insert(fingerprint);
    on_the_way.insert(fingerprint);
    let mut steps = Vec::new();
    model.steps(&start, &mut steps);
    let mut way = vec![Fork { system: start, fingerprint, steps, came_by: Step::Start, goes_on: false }];
    while let Some(fork) = way.last_mut() {
        let Some(step) = fork.steps.pop() else {
            let ends = !fork.goes_on;
            let broken = if ends { model.at_the_end(&fork.system) } else { None };
            report.ends += u64::from(ends);
            if let Some(broken) = broken.filter(is_wanted) {
                report.found = Some(way_to(&way, None, broken));
                break;
            }
            if let Some(done) = way.pop() {
                on_the_way.remove(&done.fingerprint);
                spare.push(done.steps);
            }
            continue;
        };
        let next = model.after(&fork.system, step);
        if next == fork.system {
            continue;
        }
        fork.goes_on |= step.must_happen();
        report.steps += 1;
        let fingerprint = next.fingerprint(&mut scratch);
        let broken = next.broken.or(on_the_way.contains(&fingerprint).then_some(Broken::GoesRound));
        if let Some(broken) = broken.filter(is_wanted) {
            report.found = Some(way_to(&way, Some(step), broken));
            break;
        }
        if seen.insert(fingerprint) {
            report.states += 1;
            if report.states.is_multiple_of(1 << 22) {
                progress(report.states);
            }
            on_the_way.insert(fingerprint);
            let mut steps = spare.pop().unwrap_or_default();
            model.steps(&next, &mut steps);
            way.push(Fork { system: next, fingerprint, steps, came_by: step, goes_on: false });
            report.depth = report.depth.max(way.len());
        }
    }
    report.took = began.elapsed();
    report
}

fn way_to(way: &[Fork], last: Option<Step>, broken: Broken) -> Counterexample {
    let steps = way.iter().skip(1).map(|fork| fork.came_by).chain(last).collect();
    Counterexample { broken, steps }
}
