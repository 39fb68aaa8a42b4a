//! Two hundred checks at once, while the configuration changes twice and a worker's VM falls.

use super::stories::Check;
use super::sum;
use anyhow::{Context, Result, ensure};
use host_tests::polls::{Polls, leads_taken};
use host_tests::scene::{Scene, now_ms};
use host_tests::{Connection, Envoy, Reload, Request, Setup, wait_for, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};

const WORKERS: u32 = 4;
/// The kernel spreads connections over workers at random: with 40, the chance of a worker without any is 1 in 25,000.
const CONNECTIONS: usize = 40;
const PHASES: usize = 5;
const CHECKS: usize = CONNECTIONS * PHASES;

#[test]
fn two_hundred_checks_are_each_decided_once_and_by_what_testkube_held() -> Result<()> {
    let began = Instant::now();
    let scene = Scene::new()?;
    let setup = scene.wire(Setup::with_test_hooks()?).concurrency(WORKERS).room_for(2048);
    let mut envoy = Envoy::start(&setup.dynamic_listener().drain_time(Duration::from_secs(5)))?;
    let mut checks: Vec<Check> = (0..CHECKS).map(|n| Check::new(&scene, n)).collect();
    let mut callers: Vec<Caller> = (0..CONNECTIONS).map(|_| Caller::new(&envoy)).collect::<Result<_>>()?;

    let turned_away = phase(0, &mut callers, &checks)? + phase(1, &mut callers, &checks)?;
    assert_eq!(turned_away, 0, "a check was turned away before anything had happened");
    let trapped = Request::get("/test-hooks/trap").send(envoy.address())?;
    assert_eq!(trapped.status, 503);
    let base = now_ms();
    for (n, check) in checks.iter_mut().enumerate() {
        let offset = i64::try_from(n * 7 % CHECKS)? * 80;
        check.begin(&scene, base + 2_000 + offset);
    }
    // Envoy rebuilds a fallen VM at a later request, after a pause; until then it answers 503.
    let turned_away = phase(2, &mut callers, &checks)?;

    let mut plugin = envoy.plugin()?;
    plugin["checks"]["lookback"] = json!("5h");
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    let mut after_the_fall = phase(3, &mut callers, &checks)?;
    let delivered = || Ok::<_, anyhow::Error>(sum(&envoy.stats()?, "testrelay_delivered_"));
    wait_for("the first ten decisions", Duration::from_secs(60), || delivered().ok().filter(|n| *n >= 10))?;
    plugin["checks"]["lookback"] = json!("4h");
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    after_the_fall += phase(4, &mut callers, &checks)?;
    assert_eq!(after_the_fall, 0, "a check was turned away long after the fall");

    let all = || sum(&envoy.stats().unwrap_or_default(), "testrelay_delivered_") == CHECKS as u64;
    wait_until("200 deliveries", Duration::from_secs(120), all)?;
    let took = began.elapsed();

    let stats = envoy.stats()?;
    let leads = leads_taken(&envoy.log());
    for check in &checks {
        judge(check, &scene, leads).with_context(|| format!("{} {:?}", check.run.tag, check.story))?;
    }
    assert_eq!(sum(&stats, "testrelay_undelivered"), 0);
    assert_eq!(sum(&stats, "testrelay_checks_accepted"), CHECKS as u64);
    let polls = Polls::of(&scene.testkube());
    let spacings: Vec<i64> = checks.iter().flat_map(|check| polls.spacing(&check.run.tag)).collect();
    let lines = checks.iter().map(|check| check.lines(&scene).len()).sum::<usize>();
    println!(
        "{took:?}; {lines} lines; {} readings, {} looks at a tag, closest {:?} ms; lead taken {leads} times; turned away {turned_away}; {:?}; {:?}",
        polls.requests(),
        spacings.len() + CHECKS,
        spacings.iter().min(),
        connections_by_worker(&envoy)?,
        stats.iter().filter(|(name, _)| name.contains("testrelay_")).collect::<Vec<_>>(),
    );
    for check in &checks {
        // A new leader looks at once, and so does whoever waits for the end of a settle time.
        let allowed = leads - 1 + usize::from(check.settles());
        let spacing = polls.spacing(&check.run.tag);
        assert!(
            polls.too_close(&check.run.tag) <= allowed,
            "{} {:?}: {spacing:?}",
            check.run.tag,
            check.story
        );
    }
    let by_worker = connections_by_worker(&envoy)?;
    assert_eq!(by_worker.len(), WORKERS as usize);
    assert!(by_worker.iter().all(|connections| *connections > 0), "{by_worker:?}");
    envoy.stop()
}

/// Besides the right decision: one event, and before it one line.
fn judge(check: &Check, scene: &Scene, leads: usize) -> Result<()> {
    let events = check.events(scene);
    let [event] = &events[..] else { anyhow::bail!("not one event: {events:?}") };
    check.judge(scene, event)?;
    // A new leader cannot know whether the line that its predecessor was sending has arrived, and sends it again.
    let lines = check.decisions(scene);
    ensure!((1..=leads).contains(&lines.len()), "not one line: {lines:?}");
    let azure = scene.azure();
    let asked = |ending: &str| {
        let of_plan = |target: &str| target.contains(&check.run.spec.plan) && target.contains(ending);
        azure.requests().iter().position(|recorded| of_plan(&recorded.request.target))
    };
    ensure!(asked("/logs/") < asked("/events"), "the event came before the log's line");
    Ok(())
}

/// One caller with its connection, kept open as long as Envoy lets it.
struct Caller {
    envoy: std::net::SocketAddr,
    connection: Connection,
}

impl Caller {
    fn new(envoy: &Envoy) -> Result<Caller> {
        Ok(Caller { envoy: envoy.address(), connection: Connection::open(envoy.address())? })
    }

    /// Delivers a check until it is accepted; returns how often it was refused. If a connection ends without an answer, as
    /// in a drained listener, the check may have been accepted.
    fn deliver(&mut self, check: &Check) -> Result<u64> {
        let mut turned_away = 0;
        wait_for("a check to be taken", Duration::from_secs(15), || {
            let answer = match self.connection.send(&check.fields().request()) {
                Ok(answer) => answer,
                Err(_) => {
                    self.connection = Connection::open(self.envoy).ok()?;
                    return None;
                }
            };
            if answer.header("connection") == Some("close") {
                self.connection = Connection::open(self.envoy).ok()?;
            }
            match answer.status {
                200 => Some(Ok(turned_away)),
                503 => {
                    turned_away += 1;
                    None
                }
                other => Some(Err(anyhow::anyhow!("{other}: {}", answer.text()))),
            }
        })?
    }
}

/// All callers deliver their checks of phase `n` at the same time; returns how often one was refused.
fn phase(n: usize, callers: &mut [Caller], checks: &[Check]) -> Result<u64> {
    let checks = checks.chunks(CONNECTIONS).nth(n).context("too few checks")?;
    std::thread::scope(|scope| {
        let pairs = callers.iter_mut().zip(checks);
        let threads: Vec<_> = pairs.map(|(caller, check)| scope.spawn(|| caller.deliver(check))).collect();
        let turned_away = threads.into_iter().map(|thread| thread.join().expect("a caller has panicked"));
        turned_away.sum()
    })
}

fn connections_by_worker(envoy: &Envoy) -> Result<Vec<u64>> {
    let port = format!("_{}.worker_", envoy.address().port());
    let stats = envoy.stats()?;
    let of_listener = |name: &str| {
        name.starts_with("listener.") && name.contains(&port) && name.ends_with(".downstream_cx_total")
    };
    Ok(stats.iter().filter(|(name, _)| of_listener(name)).map(|(_, value)| *value).collect())
}
