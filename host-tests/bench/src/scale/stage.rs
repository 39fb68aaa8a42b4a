//! One Envoy with its crowd: both fakes, which answer late, and the checks that are sent, told, ended.

use super::crowd;
use super::late::{Kind, Late};
use super::loops;
use crate::Programs;
use crate::load::{self, Expected, Sent};
use crate::machine::{self, Processors};
use anyhow::{Context, Result, bail, ensure};
use fakes::{AzureDevOps, Build, Database, Identity, Recorded, Server, Status, Testkube};
use host_tests::scene::{Pipeline, now_ms};
use host_tests::{Envoy, Setup, validate, wait_for};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Number of connections over which the checks come.
const CONNECTIONS: usize = 16;

/// What shows that everybody has been told: nothing new within this.
const STILL: Duration = Duration::from_secs(20);

/// How long is waited for that at most.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How often an Envoy is started anew at most, until the wanted thread leads: which one does is decided by who ticks first.
const STARTS: usize = 16;

/// The thread that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Envoy's main thread, which leads after every fall.
    Main,
    /// The worker, which serves requests as well.
    Worker,
}

impl Leader {
    /// Its thread, in words.
    pub fn thread(self) -> &'static str {
        match self {
            Leader::Main => "main thread",
            Leader::Worker => "worker",
        }
    }

    /// Who leads in an Envoy, by its log; `None`: nobody yet.
    fn of(envoy: &Envoy) -> Option<Leader> {
        let log = envoy.log();
        let last = log.lines().rev().find(|line| line.ends_with(": leads"))?;
        // The second bracket of a line is the thread; the main thread's is the process.
        let thread: u32 = last.split(['[', ']']).nth(3)?.parse().ok()?;
        Some(if thread == envoy.pid() { Leader::Main } else { Leader::Worker })
    }
}

/// What is set up.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many checks.
    pub checks: usize,
    /// How long their tokens are, in bytes.
    pub token: usize,
    /// Who leads.
    pub leader: Leader,
}

/// One check of the crowd.
#[derive(Clone, Debug)]
pub struct Member {
    /// The run.
    pub run: Pipeline,
    /// The id of its execution.
    pub execution: String,
}

/// Everything that runs.
pub struct Stage {
    /// The Envoy.
    pub envoy: Envoy,
    /// The checks that have not ended.
    pub crowd: Vec<Member>,
    /// The thread that leads.
    pub leader: Leader,
    testkube: Arc<Mutex<Late<Testkube>>>,
    azure: Arc<Mutex<Late<AzureDevOps>>>,
    _servers: [Server; 2],
    _folder: tempfile::TempDir,
}

/// How busy processors were, in percent of one.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    /// Envoy's threads together.
    pub envoy: f64,
    /// Its main thread alone.
    pub main: f64,
    /// For how much of the time its threads were ready and had no processor, because others had it.
    pub waits: f64,
    /// The load and the fakes.
    pub others: f64,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Busy { envoy, main, waits, others } = self;
        write!(
            f,
            "CPU: Envoy {envoy:.0} % (main thread {main:.0} %; it waited for the processor {waits:.0} %), load and fakes {others:.0} %"
        )
    }
}

/// How many checks of `wanted` this module lets be pending: an older one knows a lower limit.
///
/// # Errors
/// Envoy refuses the configuration for another reason.
pub fn limit(programs: &Programs, wanted: usize) -> Result<usize> {
    let setup = |checks: usize| -> Result<Setup> { Ok(setup(programs).room_for(u32::try_from(checks)?)) };
    let said = validate(&setup(wanted)?)?;
    if said.accepted {
        return Ok(wanted);
    }
    let (_, limit) = said.text.split_once("whole numbers from 1 to ").context(said.text.clone())?;
    let digits: String = limit.chars().take_while(char::is_ascii_digit).collect();
    let limit: usize = digits.parse().context("the limit that the module names")?;
    ensure!(limit < wanted && validate(&setup(limit)?)?.accepted, "{}", said.text);
    Ok(limit)
}

fn setup(programs: &Programs) -> Setup {
    let measured = |bootstrap: &mut serde_json::Value| {
        loops::settings(bootstrap);
        Ok(())
    };
    let setup = Setup::with_module(&programs.module).envoy(&programs.envoy).concurrency(1);
    setup.plugin(crowd::credentials()).edit(measured)
}

/// An Envoy in which this thread leads.
fn led_by(setup: &Setup, wanted: Leader) -> Result<Envoy> {
    for _ in 0..STARTS {
        let envoy = Envoy::start(setup)?;
        let leader = wait_for("a leader", Duration::from_secs(30), || Leader::of(&envoy))?;
        if leader == wanted {
            return Ok(envoy);
        }
        envoy.stop()?;
    }
    bail!("the {} did not lead in {STARTS} Envoys", wanted.thread())
}

impl Stage {
    /// Sets everything up; nothing is sent yet.
    ///
    /// # Errors
    /// Envoy does not start.
    pub fn set(programs: &Programs, processors: &Processors, wanted: Wanted) -> Result<Stage> {
        let Wanted { checks, token, leader } = wanted;
        let mut testkube = Testkube::new(Database::Postgres);
        let mut azure = AzureDevOps::new("/fabrikam");
        let (now, mut all) = (now_ms(), Vec::new());
        for n in 0..checks {
            let run = crowd::pipeline(n, token)?;
            if let Some(build) = run.spec.build.filter(|_| n % crowd::OF_BUILD == 0) {
                azure.add_build(Build::new(&run.spec.project, build).started_at(now - 1_000));
            }
            azure.start_check(now, run.spec.clone());
            let execution = testkube.add(crowd::running(&run.tag, now));
            all.push(Member { run, execution });
        }
        let identity = Identity::for_names(&["dev.azure.com"])?;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, identity.ca_pem()).context("the CA could not be written")?;
        let testkube = Arc::new(Mutex::new(Late::new(testkube)));
        let azure = Arc::new(Mutex::new(Late::new(azure)));
        let servers = [Server::start(testkube.clone())?, Server::start_tls(azure.clone(), &identity)?];
        let setup = setup(programs)
            .room_for(u32::try_from(checks)?)
            .testkube(servers[0].addr())
            .azure_devops(servers[1].addr())
            .trusted_ca(&ca);
        let envoy = led_by(&setup, leader)?;
        processors.bind_envoy(envoy.pid())?;
        Ok(Stage { envoy, crowd: all, leader, testkube, azure, _servers: servers, _folder: folder })
    }

    /// The Testkube, locked.
    pub fn testkube(&self) -> MutexGuard<'_, Late<Testkube>> {
        self.testkube.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Azure DevOps, locked.
    pub fn azure(&self) -> MutexGuard<'_, Late<AzureDevOps>> {
        self.azure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What both have got since they were last asked.
    pub fn take(&self) -> (Vec<Recorded>, Vec<Recorded>) {
        (self.testkube().take(), self.azure().take())
    }

    /// Sends all checks at once. Some may be refused.
    ///
    /// # Errors
    /// A connection failed.
    pub fn send(&self) -> Result<Sent> {
        let requests = self.crowd.iter().map(|member| load::request(&member.run.check(crowd::WORKFLOW)));
        let requests = requests.collect::<Result<Vec<_>>>()?;
        load::send(self.envoy.address(), CONNECTIONS, requests, Expected::Counted)
    }

    /// Waits until each of `checks` checks is watched and its people know: its first lines and its record are written.
    /// Says how long that took; or, where it did not come to that within a minute, how many lines and records were written.
    ///
    /// # Errors
    /// Envoy has ended.
    pub fn told(&self, checks: usize) -> Result<String> {
        let began = Instant::now();
        let (mut best, mut since) = (0, Instant::now());
        loop {
            let (lines, changes) = {
                let azure = self.azure();
                (azure.count(Kind::Lines), azure.count(Kind::Change))
            };
            if lines >= checks && changes >= checks {
                return Ok(format!("all were told {:.0} s later", began.elapsed().as_secs_f64()));
            }
            if lines + changes > best {
                (best, since) = (lines + changes, Instant::now());
            }
            if since.elapsed() > STILL || began.elapsed() > MAX_WAIT {
                self.envoy.stat("server.live")?;
                return Ok(format!("{lines} were told, and {changes} records show it"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The executions of these checks end at a time, as passed.
    pub fn end(&self, members: &[Member], at: i64) {
        let mut testkube = self.testkube();
        for member in members {
            testkube.fake.change(&member.execution, |execution| execution.at(at, Status::Passed));
        }
    }

    /// Does something and says how busy everybody was meanwhile.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn busy<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Busy)> {
        let (envoy, own) = (self.envoy.pid(), std::process::id());
        let used = || -> Result<[Duration; 4]> {
            // Envoy's main thread has the program's name, its workers have others.
            let main = machine::processor_time_of(envoy, "envoy")?;
            Ok([
                machine::processor_time(envoy)?,
                main,
                machine::waiting_time(envoy)?,
                machine::processor_time(own)?,
            ])
        };
        let (began, before) = (Instant::now(), used()?);
        let done = work()?;
        let (after, took) = (used()?, began.elapsed().as_secs_f64());
        let [envoy, main, waits, others] =
            [0, 1, 2, 3].map(|n| after[n].saturating_sub(before[n]).as_secs_f64() / took * 100.0);
        Ok((done, Busy { envoy, main, waits, others }))
    }
}
