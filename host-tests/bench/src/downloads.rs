//! Artifacts through Envoy, with the module and without: one large file, and many small ones at once.

use crate::Programs;
use crate::figures::{Collected, Figures, Measure, Work};
use crate::load::{self, Expected, Sent};
use crate::machine::{self, Processors};
use crate::modules::Modules;
use crate::targets::{LARGE, LARGE_BY_TAG, SMALL, SMALL_BY_TAG, SMALL_FLOOR, SMALL_LEAST};
use crate::upstream::{Content, FILES, Upstream, own_path, path_by_tag};
use anyhow::{Context, Result};
use host_tests::{BEARER, Envoy, Request, Setup};
use serde_json::json;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many rounds, each with all variants in turn.
    pub rounds: usize,
    /// The large file, in bytes. Its memory is compared with that for a sixteenth of it.
    pub large: u64,
    /// The small files, in bytes.
    pub small: u64,
    /// How many of them are fetched in each round.
    pub requests: usize,
    /// Over how many connections.
    pub connections: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { rounds: 10, large: 1_000_000_000, small: 20_000, requests: 10_000, connections: 64 }
    }
}

/// What is done in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Without,
    With,
    ByTag,
    Floor,
    Least,
}

const ALL: [Variant; 5] = [Variant::Without, Variant::With, Variant::ByTag, Variant::Floor, Variant::Least];

/// Number of pieces in which each variant fetches its small files, in turns with the others: what else the machine does meanwhile
/// falls on all of them.
const PIECES: usize = 4;

/// What came of one round for one variant.
struct Turn {
    large: Option<Download>,
    small: Work,
}

/// One large file.
struct Download {
    work: Work,
    /// In bytes.
    growth: f64,
}

/// The Envoys of a round, all running: one is measured while the others have nothing to do.
struct Stage<'a> {
    plan: &'a Plan,
    upstream: &'a Upstream,
    without: Envoy,
    with: Envoy,
    floor: Envoy,
    least: Envoy,
}

/// Plays all rounds. `told` hears of each.
///
/// Each round has fresh Envoys: how fast one is depends by some percent on where its memory happens to lie, and stays so as
/// long as it runs.
///
/// # Errors
/// An Envoy did not start, or a file did not come as it should.
pub fn measure(programs: &Programs, plan: &Plan, mut told: impl FnMut(usize)) -> Result<Vec<Figures>> {
    let processors = Processors::divide()?;
    processors.bind_load()?;
    let lengths = [plan.large, plan.large / 16, plan.small];
    let upstream = Upstream::start(Some(&processors), &lengths, Content::Repeated)?;
    let modules = Modules::assemble()?;
    let mut all = Collected::default();
    for round in 0..plan.rounds {
        // Who begins changes, so that nobody always has the place after another.
        let mut order = ALL;
        if round % 2 == 1 {
            order.reverse();
        }
        order.rotate_left(round / 2 % ALL.len());
        let stage = Stage::set(programs, plan, &processors, &upstream, &modules)?;
        let turns = stage.play(order)?;
        stage.stop()?;
        add(&mut all, &turns)?;
        told(round + 1);
    }
    Ok(all.figures)
}

impl<'a> Stage<'a> {
    fn set(
        programs: &Programs,
        plan: &'a Plan,
        processors: &Processors,
        upstream: &'a Upstream,
        modules: &Modules,
    ) -> Result<Stage<'a>> {
        let start = |setup: Setup| -> Result<Envoy> {
            let setup = setup.envoy(&programs.envoy).testkube(upstream.address()).concurrency(1);
            let envoy = Envoy::start(&setup)?;
            processors.bind_envoy(envoy.pid())?;
            Ok(envoy)
        };
        let without = start(Setup::without_filter())?;
        let with = start(Setup::with_module(&programs.module).edit_plugin(|plugin| {
            // One download for each connection is more than a credential may have by default.
            for credential in plugin["credentials"].as_array_mut().into_iter().flatten() {
                credential["max_downloads"] = json!(1_024);
            }
        }))?;
        let floor = start(Setup::with_module(&modules.passes))?;
        let least = start(Setup::with_module(&modules.takes_off))?;
        Ok(Stage { plan, upstream, without, with, floor, least })
    }

    fn stop(self) -> Result<()> {
        for envoy in [self.without, self.with, self.floor, self.least] {
            envoy.stop()?;
        }
        Ok(())
    }

    fn envoy(&self, variant: Variant) -> &Envoy {
        match variant {
            Variant::Without => &self.without,
            Variant::With | Variant::ByTag => &self.with,
            Variant::Floor => &self.floor,
            Variant::Least => &self.least,
        }
    }

    /// V8 compiles what runs often once more, and the first request by tag is the one that asks.
    fn warm_up(&self, variant: Variant) -> Result<()> {
        self.fetch(variant, self.plan.small, self.plan.requests / 2 + 1, self.plan.connections)?;
        self.fetch(variant, self.plan.large / 16, 1, 1)?;
        Ok(())
    }

    /// All variants, in this order.
    fn play(&self, order: [Variant; ALL.len()]) -> Result<Vec<(Variant, Turn)>> {
        let mut turns = Vec::new();
        for variant in order {
            let large = || {
                self.warm_up(variant)?;
                match variant {
                    Variant::Floor | Variant::Least => Ok(None),
                    _ => self.download(variant).map(Some),
                }
            };
            let large = large().with_context(|| format!("{variant:?}"))?;
            turns.push((variant, Turn { large, small: Work::default() }));
        }
        for _ in 0..PIECES {
            for (variant, turn) in &mut turns {
                let piece = self.small(*variant).with_context(|| format!("{variant:?}"))?;
                turn.small.add(piece);
            }
        }
        Ok(turns)
    }

    /// A piece of the small files.
    fn small(&self, variant: Variant) -> Result<Work> {
        // What was remembered of the tag may be too old by now.
        self.fetch(variant, self.plan.small, self.plan.connections, self.plan.connections)?;
        let (requests, connections) = (self.plan.requests / PIECES, self.plan.connections);
        let pid = self.envoy(variant).pid();
        Work::of(pid, || self.fetch(variant, self.plan.small, requests, connections))
    }

    fn download(&self, variant: Variant) -> Result<Download> {
        let pid = self.envoy(variant).pid();
        machine::reset_peak(pid)?;
        self.fetch(variant, self.plan.large / 16, 1, 1)?;
        let peak_before = machine::peak(pid)?;
        machine::reset_peak(pid)?;
        let work = Work::of(pid, || self.fetch(variant, self.plan.large, 1, 1))?;
        let growth = machine::peak(pid)? as f64 - peak_before as f64;
        Ok(Download { work, growth })
    }

    fn fetch(&self, variant: Variant, length: u64, requests: usize, connections: usize) -> Result<Sent> {
        let target = |n: usize| match variant {
            Variant::ByTag => path_by_tag(length, n),
            _ => own_path(self.upstream.id(), length, n),
        };
        let files: Vec<load::Request> = (0..FILES)
            .map(|n| load::request(&Request::get(target(n)).bearer(BEARER)))
            .collect::<Result<_>>()?;
        let requests = files.into_iter().cycle().take(requests);
        load::send(self.envoy(variant).address(), connections, requests, Expected::Length(length))
    }
}

/// One round more: each variant beside the one without the module.
fn add(all: &mut Collected, turns: &[(Variant, Turn)]) -> Result<()> {
    let turn = |wanted: Variant| {
        let found = turns.iter().find(|(variant, _)| *variant == wanted);
        found.map(|(_, turn)| turn).with_context(|| format!("no turn of {wanted:?}"))
    };
    let without = turn(Variant::Without)?;
    for (case, variant) in [(LARGE, Variant::With), (LARGE_BY_TAG, Variant::ByTag)] {
        if let (Some(without), Some(with)) = (&without.large, &turn(variant)?.large) {
            add_large(all, case, without, with);
        }
    }
    for (case, variant) in [
        (SMALL, Variant::With),
        (SMALL_BY_TAG, Variant::ByTag),
        (SMALL_FLOOR, Variant::Floor),
        (SMALL_LEAST, Variant::Least),
    ] {
        let turns = (&without.small, &turn(variant)?.small);
        all.add_requests(case, turns.0, turns.1);
    }
    Ok(())
}

fn add_large(all: &mut Collected, case: &'static str, without: &Download, with: &Download) {
    const MIB: f64 = 1024.0 * 1024.0;
    let mut put =
        |measure, value: fn(&Download) -> f64| all.put(case, measure, (value(without), value(with)));
    put(Measure::Throughput, |own| own.work.sent.throughput());
    put(Measure::Processor, |own| own.work.per_request());
    put(Measure::Growth, |own| own.growth / MIB);
    put(Measure::Busy, |own| own.work.busy());
}
