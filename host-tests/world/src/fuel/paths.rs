//! The main paths, played on the built module in quiet worlds with fixed seeds.

use super::{Table, Used};
use crate::{Pipeline, SECOND, START, Setup, World, configuration_for};
use anyhow::{Context, Result, ensure};
use fakes::testkube::{Fault, Route};
use fakes::{Actor, Execution, Request, Span, Status};

/// How many checks are pending while ticks are measured.
const PENDING: [u32; 7] = [0, 1, 10, 100, 500, 1_000, 2_000];
/// The numbers among these that have a row in the table.
const IN_TABLE: [u32; 4] = [0, 1, 100, 2_000];

/// The seeds of the worlds in which they are measured.
const TICKING: [u64; 3] = [1, 2, 3];

/// The most fuel that the answer to a list may take if 20,000 executions have the tag: about half a second.
const MAX_OF_MANY: u64 = 1_000_000_000;

/// What was measured.
pub struct Measured {
    /// The version of the compiler that the module was made with.
    pub compiler: String,
    /// The main paths.
    pub table: Table,
    /// How many checks were pending, and what the leader's tick took on average.
    pub ticks: Vec<(u32, u64)>,
    /// The most that a callback took.
    pub most: u64,
}

impl Measured {
    /// What each pending check adds to the leader's tick, on average, for each number of pending checks but none.
    pub fn for_each_pending(&self) -> Vec<(u32, u64)> {
        let none = self.ticks.first().map_or(0, |(_, fuel)| *fuel);
        let some = self.ticks.iter().filter(|(pending, _)| *pending > 0);
        some.map(|(pending, fuel)| (*pending, fuel.saturating_sub(none) / u64::from(*pending))).collect()
    }
}

/// Plays the main paths.
///
/// # Errors
/// There is no module, or it does not do on one of the paths what it should.
pub fn measure() -> Result<Measured> {
    let mut worlds = Worlds { rows: Vec::new(), most: 0 };
    let compiler = worlds.requests()?;
    let ticks = worlds.ticks()?;
    worlds.answers()?;
    Ok(Measured { compiler, table: Table { rows: worlds.rows }, ticks, most: worlds.most })
}

/// What ticks took.
struct Ticks {
    follower: u64,
    leader: u64,
    /// The leader's in which all were due.
    largest: u64,
}

struct Worlds {
    rows: Vec<(String, u64)>,
    most: u64,
}

impl Worlds {
    fn row(&mut self, name: &str, fuel: Option<u64>) -> Result<()> {
        let fuel = fuel.with_context(|| format!("nothing was measured for the row `{name}`"))?;
        self.rows.push((name.into(), fuel));
        Ok(())
    }

    /// A worker's work for its clients. The module's first log line has the compiler's version.
    fn requests(&mut self) -> Result<String> {
        let mut world = start(1, 100)?;
        let compiler = compiler(&world.log()).context("the module does not say which compiler made it")?;
        let pipelines: Vec<Pipeline> = (1..=20).map(|n| world.pipeline(n)).collect();
        let ask = [("Testrelay-Expect", "a")];
        let of =
            |each: &dyn Fn(&Pipeline) -> Request| -> Vec<Request> { pipelines.iter().map(each).collect() };
        let (in_headers, in_bodies) = pipelines.split_at(10);
        let wrong = |pipeline: &Pipeline| {
            let mut request = pipeline.check(&ask);
            request.headers.retain(|(name, _)| name != "authorization");
            request.header("authorization", "Basic bm9ib2R5Om5vdGhpbmc=")
        };
        let headers = in_headers.iter().map(|pipeline| pipeline.check(&ask)).collect();
        self.request(&mut world, "check, fields in headers", 200, headers)?;
        let bodies = in_bodies.iter().map(|pipeline| pipeline.check_in_body(&ask)).collect();
        self.request(&mut world, "check, fields in a JSON body", 200, bodies)?;
        self.request(&mut world, "check, delivered again", 200, of(&|pipeline| pipeline.check(&ask)))?;
        let more: Vec<Pipeline> = (21..=30).map(|n| world.pipeline(n)).collect();
        let rejected = more.iter().map(|p| p.check(&[("Testrelay-Tag", "no-build-in-it")])).collect();
        self.request(&mut world, "check, rejected for its tag", 200, rejected)?;
        self.request(&mut world, "check, unknown credential", 401, of(&wrong))?;
        let artifact = |_: &Pipeline| {
            Request::new(
                "GET",
                "/v1/test-workflow-executions/6973a5d2e1c4b0a7f3d9e201/artifacts/results%252Fa.xml",
            )
            .header("authorization", &format!("Bearer {}", crate::setup::bearer()))
        };
        self.request(&mut world, "artifact", 404, of(&artifact))?;
        let kept = tagged(&pipelines[0], 0).at(START, Status::Passed).artifact("results/a.xml", "x");
        world.testkube(|testkube| testkube.add(kept));
        let path = format!("/testrelay/v1/artifacts/{}/results/a.xml", pipelines[0].tag);
        let by_tag = |_: &Pipeline| {
            Request::new("GET", &path).header("authorization", &format!("Bearer {}", crate::setup::bearer()))
        };
        // Most of them: the first one on each worker asks Testkube.
        self.request(&mut world, "artifact by tag, remembered", 200, of(&by_tag))?;
        self.request(&mut world, "healthz", 200, of(&|_| Request::new("GET", "/testrelay/healthz")))?;
        self.seen(&mut world)?;
        Ok(compiler)
    }

    /// What one request takes, all its callbacks together: the median of these.
    fn request(&mut self, world: &mut World, name: &str, status: u16, requests: Vec<Request>) -> Result<()> {
        let mut sums = Vec::new();
        for request in requests {
            recorded(world);
            let answer = world.ask(request);
            ensure!(answer.status == status, "{name}: {} {}", answer.status, answer.text());
            let used = recorded(world).into_iter().filter(|used| used.thread != 0 && used.callback != "tick");
            sums.push(used.map(|used| used.fuel).sum());
        }
        self.row(name, median(sums))
    }

    /// The fuel of ticks, on average over some worlds: the module's heap differs in each, and so does the cost of an
    /// allocation.
    fn ticks(&mut self) -> Result<Vec<(u32, u64)>> {
        let worlds = TICKING.map(|seed| self.ticks_of(seed)).into_iter().collect::<Result<Vec<_>>>()?;
        let count = worlds.len() as u64;
        let mean = |n: usize, of: fn(&Ticks) -> u64| {
            let all: Option<u64> = worlds.iter().map(|world| world.get(n).map(of)).sum();
            all.map(|all| all / count)
        };
        self.row("tick of a follower", mean(0, |ticks| ticks.follower))?;
        let mut leader = Vec::new();
        for (n, pending) in PENDING.into_iter().enumerate() {
            let fuel = mean(n, |ticks| ticks.leader);
            leader.push((pending, fuel.unwrap_or(0)));
            if IN_TABLE.contains(&pending) {
                self.row(&format!("tick of the leader, {pending} pending"), fuel)?;
            }
        }
        let (n, most) = (PENDING.len() - 1, PENDING[PENDING.len() - 1]);
        self.row(&format!("tick of the leader, {most} due"), mean(n, |ticks| ticks.largest))?;
        Ok(leader)
    }

    /// Ticks with a number of pending checks, in one world. Testkube is down, so nothing is due most of the time, and now
    /// and then everything is.
    fn ticks_of(&mut self, seed: u64) -> Result<Vec<Ticks>> {
        let most = PENDING[PENDING.len() - 1];
        let mut world = start(seed, most + 1)?;
        world.testkube(|testkube| testkube.fault(Route::All, Span::UntilCleared, Fault::Status(503)));
        let (mut there, mut all) = (0, Vec::new());
        for pending in PENDING {
            for n in there + 1..=pending {
                let pipeline = world.pipeline(n);
                let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "a")]);
                ensure!(answer.status == 200, "check {n}: {} {}", answer.status, answer.text());
            }
            there = pending;
            world.pass(120 * SECOND);
            recorded(&mut world);
            // Two back-offs of a minute at most: everything is due at least once.
            world.pass(120 * SECOND);
            let used = recorded(&mut world);
            let of = |main: bool| -> Vec<u64> {
                let ticks = used.iter().filter(|used| used.callback == "tick" && (used.thread == 0) == main);
                ticks.map(|used| used.fuel).collect()
            };
            // The mean, because ticks differ: one reads one half of the ledger and the next the other, and once a minute each
            // check's run is looked at.
            let leader = of(true);
            let mean = leader.iter().sum::<u64>() / (leader.len().max(1) as u64);
            all.push(Ticks {
                follower: median(of(false)).unwrap_or(0),
                leader: mean,
                largest: leader.into_iter().max().unwrap_or(0),
            });
        }
        self.seen(&mut world)?;
        Ok(all)
    }

    /// What answers take: to one list, to a confirmation, to a TaskCompleted.
    fn answers(&mut self) -> Result<()> {
        let lists = |used: &[Used]| median(fuel_of(used, |call| call.contains("tagSelector=")));
        for executions in [1, 100] {
            let mut world = start(1, 10)?;
            let pipeline = world.pipeline(1);
            for n in 0..executions {
                let execution = tagged(&pipeline, n).at(START, Status::Running);
                world.testkube(|testkube| testkube.add(execution));
            }
            let answer = world.deliver(&pipeline, &[("Testrelay-Expect", &executions.to_string())]);
            ensure!(answer.status == 200, "{}", answer.text());
            world.pass(30 * SECOND);
            recorded(&mut world);
            world.pass(60 * SECOND);
            let name = format!("answer to a list, {executions} running");
            self.row(&name, lists(&recorded(&mut world)))?;
            self.seen(&mut world)?;
        }
        self.many_of_one_tag()?;
        let mut world = start(1, 100)?;
        recorded(&mut world);
        for n in 1..=20 {
            let pipeline = world.pipeline(n);
            let execution = tagged(&pipeline, 0).at(START, Status::Passed);
            world.testkube(|testkube| testkube.add(execution));
            let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "1")]);
            ensure!(answer.status == 200, "{}", answer.text());
            world.pass(15 * SECOND);
        }
        let used = recorded(&mut world);
        let is_confirmation = |call: &str| {
            call.starts_with("GET /v1/test-workflow-executions/")
                && !call.contains("tagSelector=")
                && !call.contains("/artifacts")
        };
        self.row("answer to a confirmation, the last", median(fuel_of(&used, is_confirmation)))?;
        self.row("answer to a TaskCompleted", median(fuel_of(&used, |call| call.contains("/events?"))))?;
        self.seen(&mut world)?;
        self.report()
    }

    /// What the largest JUnit report takes that is read.
    fn report(&mut self) -> Result<()> {
        let mut world = start(1, 10)?;
        let pipeline = world.pipeline(1);
        let test =
            "<testcase classname='c' name='t'><failure message='want 2'>text &amp; more</failure></testcase>";
        let tests = test.repeat(((2 << 20) - 100) / test.len());
        let execution = tagged(&pipeline, 0).artifact("junit.xml", format!("<testsuite>{tests}</testsuite>"));
        world.testkube(|testkube| testkube.add(execution.at(START, Status::Failed)));
        let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "1")]);
        ensure!(answer.status == 200, "{}", answer.text());
        recorded(&mut world);
        world.pass(30 * SECOND);
        let reports = fuel_of(&recorded(&mut world), |call| call.contains("/artifacts/"));
        self.row("answer with a JUnit report of 2 MiB", reports.into_iter().max())?;
        self.seen(&mut world)
    }

    /// The most expensive answer if this number of executions has the tag: each page is read, and the last one leads to the
    /// judgement. Half of the executions are re-runs, and a quarter are children.
    fn many_of_one_tag(&mut self) -> Result<()> {
        const MANY: u32 = 20_000;
        let mut world = start(1, 10)?;
        let pipeline = world.pipeline(1);
        let mut parent = String::new();
        for n in 0..MANY {
            let execution = match n % 4 {
                0 | 1 => tagged(&pipeline, n / 4),
                2 => tagged(&pipeline, n),
                _ => tagged(&pipeline, n).child_of("shop-e2e", &parent),
            };
            let execution = execution.at(START + i64::from(n), Status::Passed);
            parent = world.testkube(|testkube| testkube.add(execution));
        }
        let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "1")]);
        ensure!(answer.status == 200, "{}", answer.text());
        recorded(&mut world);
        world.pass(60 * SECOND);
        let lists = fuel_of(&recorded(&mut world), |call| call.contains("tagSelector="));
        let most = lists.into_iter().max();
        // This one callback judges all of them, so it may take more than any other.
        ensure!(most.is_none_or(|fuel| fuel < MAX_OF_MANY), "20,000 with one tag take {most:?}");
        self.row("answer to a list, 20,000 with one tag", most)?;
        let violations = world.violations();
        ensure!(violations.is_empty(), "{violations:?}");
        Ok(())
    }

    /// The world was healthy.
    fn seen(&mut self, world: &mut World) -> Result<()> {
        let violations = world.violations();
        ensure!(violations.is_empty(), "{violations:?}");
        self.most = world.fuel().into_values().chain([self.most]).max().unwrap_or(0);
        Ok(())
    }
}

fn start(seed: u64, max_pending: u32) -> Result<World> {
    let mut world = Setup { configuration: configuration_for(max_pending), ..Setup::new(seed) }.start()?;
    // The main thread leads, and no context has anything new to read.
    world.pass(10 * SECOND);
    Ok(world)
}

fn recorded(world: &mut World) -> Vec<Used> {
    world.process.state.borrow_mut().record_fuel()
}

fn tagged(pipeline: &Pipeline, n: u32) -> Execution {
    let actor = Actor {
        kind: "testworkflowexecution".into(),
        name: format!("cr-{}-{n}", pipeline.n),
        execution_id: None,
        execution_reference: None,
    };
    pipeline.tagged("shop-e2e").actor(actor)
}

fn fuel_of(used: &[Used], call: impl Fn(&str) -> bool) -> Vec<u64> {
    let of = |used: &&Used| used.call.as_deref().is_some_and(&call);
    used.iter().filter(of).map(|used| used.fuel).collect()
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// `testrelay 0.1.0 (git 6337247, rust 1.95.0)`
fn compiler(log: &[String]) -> Option<String> {
    let (_, after) = log.iter().find_map(|line| line.split_once(", rust "))?;
    after.split_once(')').map(|(version, _)| version.into())
}
