//! One round: a fresh Envoy with one worker takes checks from a closed loop of callers.
//!
//! Every check is a new one and must be answered `accepted`, so each request is the whole way of a real one: headers,
//! credential, token, the read-modify-write of its bucket in the ledger, the answer. Azure DevOps is a socket that takes
//! connections and says nothing, and Testkube refuses them: the leader's first calls stay open and nothing else of it
//! comes in between.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use fakes::CheckSpec;
use host_tests::scene::{PROJECT, Pipeline};
use host_tests::{Connection, Envoy, Request, Setup};

/// How many callers there are; each sends its next check when the one before is answered.
pub const CONNECTIONS: usize = 8;

/// How many checks are measured in a round: at the end about twelve lie in each of the ledger's 256 buckets.
pub const CHECKS: usize = 3_000;

/// Sent first and not measured.
const WARM_UP: usize = 200;

/// The name that Envoy gives to the thread of its only worker.
const WORKER_THREAD: &str = "wrk:worker_0";

/// What a round gave.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// From the start of the process until the listener takes requests: the compilation of the module is in it.
    pub start: Duration,
    /// Half of the checks were answered within this time.
    pub p50: Duration,
    /// 99 of 100 checks were.
    pub p99: Duration,
    /// Checks answered per second.
    pub rate: f64,
    /// Processor time of the worker's thread per check; `None` where the system does not tell it (only Linux does).
    pub processor: Option<Duration>,
}

/// Plays one round with this Envoy and this module.
///
/// # Errors
/// Envoy did not start, or a check was not accepted.
pub fn play(envoy: &Path, module: &Path) -> Result<Round> {
    let silent = TcpListener::bind("127.0.0.1:0").context("no port")?;
    let setup = Setup::with_module(module)
        .envoy(envoy)
        .azure_devops(silent.local_addr()?)
        .room_for(8192)
        .concurrency(1);
    let began = Instant::now();
    let envoy = Envoy::start(&setup)?;
    let start = began.elapsed();

    let checks: Vec<Request> = (0..WARM_UP + CHECKS).map(check).collect();
    let (warm_up, measured) = checks.split_at(WARM_UP);
    send_all(envoy.address(), warm_up)?;
    let processor_before = worker_time(envoy.pid());
    let (latencies, took) = send_all(envoy.address(), measured)?;
    let processor = worker_time(envoy.pid())
        .zip(processor_before)
        .map(|(after, before)| after.saturating_sub(before) / u32::try_from(CHECKS).unwrap_or(u32::MAX));

    let accepted = envoy.stat("wasmcustom.testrelay_checks_accepted")?;
    ensure!(accepted == checks.len() as u64, "{accepted} checks of {} were accepted", checks.len());
    envoy.stop()?;
    Ok(Round {
        start,
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        rate: CHECKS as f64 / took.as_secs_f64(),
        processor,
    })
}

/// Sends the checks over [`CONNECTIONS`] connections: how long each waited for its answer, shortest first, and how long
/// it took altogether.
fn send_all(address: SocketAddr, checks: &[Request]) -> Result<(Vec<Duration>, Duration)> {
    let connections: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<Result<_>>()?;
    let began = Instant::now();
    let waited: Vec<Result<Vec<Duration>>> = thread::scope(|scope| {
        let shares = connections.into_iter().zip(checks.chunks(checks.len().div_ceil(CONNECTIONS)));
        let callers: Vec<_> =
            shares.map(|(connection, share)| scope.spawn(move || send(connection, share))).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Err(anyhow!("a caller has panicked"))))
            .collect()
    });
    let took = began.elapsed();
    let mut latencies = waited.into_iter().collect::<Result<Vec<_>>>()?.concat();
    latencies.sort();
    Ok((latencies, took))
}

fn send(mut connection: Connection, checks: &[Request]) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(checks.len());
    for check in checks {
        let began = Instant::now();
        let answer = connection.send(check)?;
        latencies.push(began.elapsed());
        let text = answer.text();
        ensure!(
            answer.status == 200 && text.contains(r#""status":"accepted""#),
            "a check was answered {}: {text}",
            answer.status
        );
    }
    Ok(latencies)
}

/// A check that no other number gives, as Azure DevOps sends it.
fn check(n: usize) -> Request {
    let guid = |kind: u32| format!("{n:08x}-{kind:04x}-5000-8000-00000000{kind:04x}");
    let build = 4_000 + n as u64;
    let spec = CheckSpec {
        project: PROJECT.into(),
        hub: "checks".into(),
        plan: guid(1),
        job: guid(2),
        timeline: guid(1),
        task: guid(3),
        token: token(),
        build: Some(build),
    };
    Pipeline { spec, tag: format!("shop-{build}") }.check("shop-e2e, shop-api")
}

/// A token of the form and length of Azure DevOps's: three parts, of which the module reads the middle one.
fn token() -> String {
    format!("{}.{CLAIMS}.{}", "h".repeat(86), "s".repeat(342))
}

/// What a job's token says, valid until 2100:
/// `{"nameid": "c3a1f0de-0d3c-4a55-8d0e-5b7f6a4f2a10", "scp": "app_token", "iss": "app.vstoken.visualstudio.com", "aud": "app.vstoken.visualstudio.com|vso:6f1c4a0e-2b0d-4c58-9a3b-7d1f5e8c9b24", "nbf": 1700000000, "exp": 4102444800}`
const CLAIMS: &str = concat!(
    "eyJuYW1laWQiOiJjM2ExZjBkZS0wZDNjLTRhNTUtOGQwZS01YjdmNmE0ZjJhMTAiLCJzY3AiOiJhcHBfdG9rZW4i",
    "LCJpc3MiOiJhcHAudnN0b2tlbi52aXN1YWxzdHVkaW8uY29tIiwiYXVkIjoiYXBwLnZzdG9rZW4udmlzdWFsc3R1",
    "ZGlvLmNvbXx2c286NmYxYzRhMGUtMmIwZC00YzU4LTlhM2ItN2QxZjVlOGM5YjI0IiwibmJmIjoxNzAwMDAwMDAw",
    "LCJleHAiOjQxMDI0NDQ4MDB9",
);

/// The value below which `percent` of the values lie; they are sorted.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The processor time that the worker's thread has used so far. It does not count the time in which the thread waits for
/// a processor, so it depends less than a latency does on what else the machine does.
fn worker_time(envoy: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{envoy}/task")).ok()?;
    let is_worker = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == WORKER_THREAD)
    };
    let worker = threads.flatten().find(is_worker)?;
    let times = fs::read_to_string(worker.path().join("schedstat")).ok()?;
    Some(Duration::from_nanos(times.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(100));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(198));
        assert_eq!(percentile(&sorted[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn no_two_checks_are_the_same() {
        let heads: std::collections::BTreeSet<Vec<u8>> = (0..100).map(|n| check(n).head()).collect();
        assert_eq!(heads.len(), 100);
    }
}
