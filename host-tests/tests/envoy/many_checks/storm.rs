//! Five hundred checks while the configuration changes, VMs fall and connections are cut, all the time.

use super::evidence::{Evidence, LOG_FORMAT};
use super::stories::Check;
use super::sum;
use anyhow::{Context, Result, bail, ensure};
use fakes::azure::{Fault, Route};
use fakes::{Recorded, Span, testkube};
use host_tests::scene::{Scene, USER, now_ms};
use host_tests::{
    BEARER, Connection, Envoy, PASSWORD, Reload, Request, Response, Setup, Wire, config, wait_for, wait_until,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const WORKERS: u32 = 3;
const WAVES: usize = 20;
const WAVE: usize = 25;
const CHECKS: usize = WAVES * WAVE;

/// In milliseconds: long enough that a cut, a fall or the next leader's first tick finds answers under way.
pub(super) const SLOW_EVENT: u64 = 1_500;
const SLOW_LIST: u64 = 100;

const SOON: Duration = Duration::from_secs(60);
/// How long a wave waits for something to cut; the first ones have nothing yet.
const FOR_PREY: Duration = Duration::from_secs(2);

#[test]
fn five_hundred_checks_in_a_storm_are_none_lost_and_none_decided_wrongly() -> Result<()> {
    let began = Instant::now();
    let mut storm = Storm::new()?;
    let mut checks: Vec<Check> = (0..CHECKS).map(|n| Check::new(&storm.scene, n)).collect();
    for (n, wave) in checks.chunks_mut(WAVE).enumerate() {
        let now = now_ms();
        wave.iter_mut().for_each(|check| check.begin(&storm.scene, now));
        storm.wave(n, wave)?;
    }
    // Whoever led may have fallen last: the next configuration's contexts take over at once.
    storm.change(WAVES)?;
    let raged = began.elapsed();
    let pending =
        || Request::get("/testrelay/readyz").send(storm.envoy.address()).map(|answer| answer.text());
    wait_until("the end of all checks", Duration::from_secs(180), || {
        pending().is_ok_and(|text| text.contains("pending checks: 0"))
    })?;
    println!("{raged:?} of storm, {:?} until nothing was pending; {storm}", began.elapsed());

    let evidence = Evidence::of(&storm.envoy.log());
    let mut again = BTreeMap::<&str, usize>::new();
    for check in &checks {
        let told = || format!("{} {:?}", check.run.tag, check.story);
        for lost in storm.judge(check, &evidence).with_context(told)? {
            *again.entry(lost).or_default() += 1;
        }
    }
    println!(
        "events that came again: {}, each after a lost answer: {again:?}",
        again.values().sum::<usize>()
    );

    let stats = storm.envoy.stats()?;
    println!("{:?}", stats.iter().filter(|(name, _)| name.contains("testrelay_")).collect::<Vec<_>>());
    assert_eq!(sum(&stats, "testrelay_checks_accepted"), CHECKS as u64);
    assert_eq!(sum(&stats, "testrelay_delivered_"), CHECKS as u64);
    assert_eq!(sum(&stats, "http.testrelay.downstream_rq_active"), 0, "a request was not answered");
    assert!(!again.is_empty() && storm.reloads >= WAVES / 2 && evidence.falls(None) >= WAVES / 2, "{storm}");
    assert!(storm.turned_away > 0, "{storm}");
    storm.no_secret_is_in_the_log()?;
    storm.envoy.stop()
}

/// The scene, and what has been done to it.
struct Storm {
    scene: Scene,
    to_testkube: Wire,
    to_azure: Wire,
    envoy: Envoy,
    configurations: Vec<Value>,
    reloads: usize,
    refused: usize,
    leaders: usize,
    cut: usize,
    turned_away: usize,
    halves: BTreeMap<u16, usize>,
}

impl std::fmt::Display for Storm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} reloads and {} refused ones, {} falls ({} of them a leader's), {} connections cut; {} deliveries \
             turned away; requests whose body came in two halves got {:?}",
            self.reloads,
            self.refused,
            Evidence::of(&self.envoy.log()).falls(None),
            self.leaders,
            self.cut,
            self.turned_away,
            self.halves,
        )
    }
}

impl Storm {
    fn new() -> Result<Storm> {
        let scene = Scene::new()?;
        let (to_testkube, to_azure) = (Wire::to(scene.testkube_address())?, Wire::to(scene.azure_address())?);
        let setup = scene
            .wire(Setup::with_test_hooks()?)
            .testkube(to_testkube.address())
            .azure_devops(to_azure.address())
            .edit(|bootstrap| {
                let manager = config::connection_manager(config::listener(bootstrap)?)?;
                manager["stream_idle_timeout"] = json!("5s");
                Ok(())
            })
            .concurrency(WORKERS)
            .room_for(2048)
            .argument("--log-format")
            .argument(LOG_FORMAT)
            .drain_time(Duration::from_secs(5))
            .dynamic_listener();
        let mut envoy = Envoy::start(&setup)?;
        let configurations = vec![envoy.plugin()?];
        scene.testkube().fault(
            testkube::Route::List,
            Span::UntilCleared,
            testkube::Fault::Slow { millis: SLOW_LIST },
        );
        Ok(Storm {
            scene,
            to_testkube,
            to_azure,
            envoy,
            configurations,
            reloads: 0,
            refused: 0,
            leaders: 0,
            cut: 0,
            turned_away: 0,
            halves: BTreeMap::new(),
        })
    }

    /// Delivers some checks while everything else happens: one of them with half its body before and half after.
    fn wave(&mut self, n: usize, checks: &[Check]) -> Result<()> {
        let address = self.envoy.address();
        let (halved, others) = checks.split_first().context("an empty wave")?;
        let half = HalfSent::begin(address, halved)?;
        self.trap()?;
        let turned_away = std::thread::scope(|scope| {
            let deliveries: Vec<_> =
                others.iter().map(|check| scope.spawn(move || deliver(address, check))).collect();
            self.blow(n)?;
            let each = deliveries.into_iter().map(|thread| thread.join().expect("a delivery has panicked"));
            each.sum::<Result<usize>>()
        })?;
        let answer = half.end()?;
        *self.halves.entry(answer.status).or_default() += 1;
        self.turned_away += turned_away;
        match answer.status {
            200 => {}
            // Its VM had fallen, or the body came too late.
            408 | 503 | 504 => self.turned_away += deliver(address, halved)?,
            other => bail!("{other}: {}", answer.text()),
        }
        Ok(())
    }

    fn blow(&mut self, n: usize) -> Result<()> {
        self.faults(n);
        self.change(n)?;
        if n % 4 == 3 {
            self.fell_the_leader()?;
        }
        let events = |scene: &Scene| events_of(scene.azure().requests(), "").len();
        let before = events(&self.scene);
        let prey = wait_until("an event under way", FOR_PREY, || events(&self.scene) > before);
        self.cut += prey.map_or(0, |()| self.to_azure.cut());
        let lists = |scene: &Scene| scene.testkube().requests().len();
        let before = lists(&self.scene);
        let prey = wait_until("a list under way", FOR_PREY, || lists(&self.scene) > before);
        self.cut += prey.map_or(0, |()| self.to_testkube.cut());
        Ok(())
    }

    /// Every event is slow; in each fifth wave some are not answered at all.
    fn faults(&self, n: usize) {
        let mut azure = self.scene.azure();
        azure.clear_faults();
        if n % 5 == 4 {
            azure.fault(Route::Events, Span::Next(1), Fault::ResetAfter);
            azure.fault(Route::Events, Span::Next(1), Fault::ResetBefore);
        }
        azure.fault(Route::Events, Span::UntilCleared, Fault::Slow { millis: SLOW_EVENT });
    }

    /// Of four changes two are new, one brings back what is still draining, and one is refused.
    fn change(&mut self, n: usize) -> Result<()> {
        let newest = self.configurations.last().context("a configuration")?;
        let with = |lookback: &str| {
            let mut plugin = newest.clone();
            plugin["checks"]["lookback"] = json!(lookback);
            plugin
        };
        let plugin = match n % 4 {
            2 => self.configurations.iter().rev().nth(1).context("two configurations")?.clone(),
            3 => with("soon"),
            _ => with(&format!("{}m", 300 + n)),
        };
        match (self.envoy.reload(&plugin)?, n % 4) {
            (Reload::Accepted, 0..3) => {
                self.configurations.push(plugin);
                self.reloads += 1;
            }
            (Reload::Refused(_), 3) => self.refused += 1,
            (other, _) => bail!("{plugin}: {other:?}"),
        }
        Ok(())
    }

    /// A trap on the worker that takes this connection.
    fn trap(&self) -> Result<()> {
        let answer = Request::get("/test-hooks/trap").send(self.envoy.address())?;
        ensure!(answer.status == 503, "{}", answer.status);
        Ok(())
    }

    /// Traps until the leader's thread has had one. The main thread serves no requests, so there it cannot be done.
    fn fell_the_leader(&mut self) -> Result<()> {
        let evidence = Evidence::of(&self.envoy.log());
        let main_thread = self.envoy.pid().to_string();
        let Some(leader) = evidence.leader().filter(|thread| *thread != main_thread) else { return Ok(()) };
        let before = evidence.falls(Some(leader));
        wait_until("the leader's fall", SOON, || {
            self.trap().is_ok() && Evidence::of(&self.envoy.log()).falls(Some(leader)) > before
        })?;
        self.leaders += 1;
        Ok(())
    }

    /// The decision is the right one, and each further event has its reason: the reasons.
    fn judge(&self, check: &Check, evidence: &Evidence) -> Result<Vec<&'static str>> {
        let events = check.events(&self.scene);
        check.judge(&self.scene, events.iter().find(|event| event.accepted).context("lost")?)?;
        let requests = events_of(self.scene.azure().requests(), &check.run.spec.plan);
        ensure!(requests.len() == events.len(), "{requests:?} {events:?}");
        let mut reasons = Vec::new();
        for ((event, request), next) in events.iter().zip(&requests).zip(events.iter().skip(1)) {
            let lost = evidence.lost(event, request, &self.to_azure);
            let known = || {
                let connection = request.request.connection;
                let (ended, cut) = (self.to_azure.ended_at(connection), self.to_azure.cut_at(connection));
                format!("ended {ended:?}, cut {cut:?}; {}", evidence.around(event.at))
            };
            let lost =
                lost.with_context(|| format!("twice, for no reason: {event:?} {next:?} {}", known()))?;
            reasons.push(lost.kind());
        }
        Ok(reasons)
    }

    /// But for what a test build says at its start.
    fn no_secret_is_in_the_log(&self) -> Result<()> {
        let log = self.envoy.log();
        let lines = log.lines().filter(|line| !line.contains("a test build, without redaction"));
        for line in lines {
            for secret in [PASSWORD, BEARER, "azure-token-"] {
                ensure!(!line.contains(secret), "{secret} is in {line:?}");
            }
        }
        Ok(())
    }
}

/// The requests to post an event, of one plan or (`""`) of all.
fn events_of(requests: &[Recorded], plan: &str) -> Vec<Recorded> {
    let is_event = |recorded: &&Recorded| {
        let path = recorded.request.path();
        path.ends_with("/events") && path.contains(plan)
    };
    requests.iter().filter(is_event).cloned().collect()
}

/// Delivers a check until it is accepted, each time over a new connection; returns how often it was refused. Every request
/// must be answered.
fn deliver(envoy: SocketAddr, check: &Check) -> Result<usize> {
    let mut turned_away = 0;
    wait_for("a check to be taken", SOON, || match check.fields().request().send(envoy) {
        Ok(answer) if answer.status == 200 => Some(Ok(turned_away)),
        // Envoy's, while it builds a VM. The module's would be a problem document.
        Ok(answer) if answer.status == 503 && answer.header("content-type") != Some(PROBLEM) => {
            turned_away += 1;
            None
        }
        Ok(answer) => Some(Err(anyhow::anyhow!("{}: {}", answer.status, answer.text()))),
        Err(error) => Some(Err(error.context("a delivery was not answered"))),
    })?
}

const PROBLEM: &str = "application/problem+json";

/// A check in a body of which half has been sent.
struct HalfSent {
    connection: Connection,
    rest: Vec<u8>,
}

impl HalfSent {
    fn begin(envoy: SocketAddr, check: &Check) -> Result<HalfSent> {
        let body = check.fields().json_body()?;
        let head = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD).json(&body).head();
        let mut first = body.to_string().into_bytes();
        let rest = first.split_off(first.len() / 2);
        let mut connection = Connection::open(envoy)?;
        connection.write(&[head, first].concat())?;
        Ok(HalfSent { connection, rest })
    }

    /// Sends the rest; the answer may have come before.
    fn end(mut self) -> Result<Response> {
        // An error is a connection that was answered and closed meanwhile.
        let _ = self.connection.write(&self.rest);
        let (head, mut body) = self.connection.receive("POST").context("half a request was not answered")?;
        Ok(Response { status: head.status, headers: head.headers, body: body.read_all()? })
    }
}
