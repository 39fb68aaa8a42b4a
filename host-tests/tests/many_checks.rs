//! Two hundred checks at once, while the configuration changes twice and a worker's VM falls.

use anyhow::{Context, Result, ensure};
use fakes::{Actor, Status, Truth, execution};
use host_tests::polls::{Polls, leads_taken};
use host_tests::scene::{Fields, Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Connection, Envoy, Reload, Request, Setup, wait_for, wait_until};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const WORKERS: u32 = 4;
/// The kernel deals connections out to workers by chance: with 40, a worker without any has a chance of 1 in 25,000.
const CONNECTIONS: usize = 40;
const PHASES: usize = 5;
const CHECKS: usize = CONNECTIONS * PHASES;

#[test]
fn two_hundred_checks_are_each_decided_once_and_by_what_testkube_held() -> Result<()> {
    let began = Instant::now();
    let scene = Scene::new()?;
    let setup = scene.wire(Setup::with_test_hooks()?).concurrency(WORKERS);
    let mut envoy = Envoy::start(&setup.dynamic_listener().drain_time(Duration::from_secs(5)))?;
    let checks: Vec<Check> = (0..CHECKS).map(|n| Check::new(&scene, n)).collect();
    let mut callers: Vec<Caller> = (0..CONNECTIONS).map(|_| Caller::new(&envoy)).collect::<Result<_>>()?;
    let mut phases = checks.chunks(CONNECTIONS);
    let mut phase = |callers: &mut [Caller]| {
        let checks = phases.next().context("too few checks")?;
        deliver(callers, checks)
    };

    let turned_away = phase(&mut callers)? + phase(&mut callers)?;
    assert_eq!(turned_away, 0, "a check was turned away before anything had happened");
    let trapped = Request::get("/test-hooks/trap").send(envoy.address())?;
    assert_eq!(trapped.status, 503);
    let base = now_ms();
    checks.iter().for_each(|check| check.run_from(&scene, base));
    // Envoy builds a fallen VM anew at the next request, but not in the first second; until then it answers 503.
    let turned_away = phase(&mut callers)?;

    let mut plugin = envoy.plugin()?;
    plugin["checks"] = json!({ "lookback": "5h" });
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    let mut after_the_fall = phase(&mut callers)?;
    let delivered = || Ok::<_, anyhow::Error>(sum(&envoy.stats()?, "testrelay_delivered_"));
    wait_for("the first ten decisions", Duration::from_secs(60), || delivered().ok().filter(|n| *n >= 10))?;
    plugin["checks"] = json!({ "lookback": "4h" });
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    after_the_fall += phase(&mut callers)?;
    assert_eq!(after_the_fall, 0, "a check was turned away long after the fall");

    let last = Duration::from_secs(90).saturating_sub(began.elapsed());
    let all = || sum(&envoy.stats().unwrap_or_default(), "testrelay_delivered_") == CHECKS as u64;
    wait_until("200 deliveries", last, all)?;
    let took = began.elapsed();

    let stats = envoy.stats()?;
    let leads = leads_taken(&envoy.log());
    for check in &checks {
        check.judge(&scene, base, leads).with_context(|| format!("{} {:?}", check.run.tag, check.story))?;
    }
    assert_eq!(sum(&stats, "testrelay_undelivered"), 0);
    assert_eq!(sum(&stats, "testrelay_checks_accepted"), CHECKS as u64);
    let polls = Polls::of(&scene.testkube());
    let spacings: Vec<i64> = checks.iter().flat_map(|check| polls.spacing(&check.run.tag)).collect();
    let lines = checks.iter().map(|check| scene.azure().log_lines(&check.run.spec.plan).len()).sum::<usize>();
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

/// What happens to the executions of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Both named ones pass.
    BothPass,
    /// One workflow runs twice, as a matrix does, and both runs pass.
    TwicePasses,
    /// The first attempt fails, and the same resource has started a second one that passes.
    RerunPasses,
    /// As many as a number says, whatever they are called; they pass.
    NumberPasses,
    /// One of two named ones does not.
    OneOfTwo(Failure),
    /// The named one passes, another with the same tag does not.
    UnnamedFails,
    /// None ever has the tag.
    NeverAppears,
    /// The second one comes long after the first has ended, and decides.
    GrowsLate { passes: bool },
    /// Nothing is said to be expected, and the second one comes while the first has to stay alone for some seconds.
    GrowsWhileSettling { passes: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Failed,
    Aborted,
    Canceled,
}

struct Check {
    run: Pipeline,
    story: Story,
    /// When its story begins, in milliseconds after the base.
    begins: i64,
}

impl Check {
    /// 70 that pass, 70 that fail, 30 without executions and 30 that grow, well mixed.
    fn new(scene: &Scene, n: usize) -> Check {
        let of = |all: &[Story]| all[n / 20 % all.len()];
        let story = match n % 20 {
            0..7 => of(&[Story::BothPass, Story::TwicePasses, Story::RerunPasses, Story::NumberPasses]),
            7..14 => of(&[
                Story::OneOfTwo(Failure::Failed),
                Story::OneOfTwo(Failure::Aborted),
                Story::OneOfTwo(Failure::Canceled),
                Story::UnnamedFails,
            ]),
            14..17 => Story::NeverAppears,
            _ => of(&[
                Story::GrowsLate { passes: true },
                Story::GrowsWhileSettling { passes: false },
                Story::GrowsLate { passes: false },
                Story::GrowsWhileSettling { passes: true },
            ]),
        };
        let begins = i64::try_from(n * 7 % CHECKS).unwrap_or_default() * 80;
        Check { run: scene.pipeline(u32::try_from(n).unwrap_or_default() + 1), story, begins }
    }

    fn fields(&self) -> Fields {
        match self.story {
            Story::BothPass | Story::OneOfTwo(_) | Story::GrowsLate { .. } => {
                self.run.fields("shop-e2e, shop-api")
            }
            Story::TwicePasses => self.run.fields("shop-e2e*2"),
            Story::RerunPasses | Story::UnnamedFails => self.run.fields("shop-e2e"),
            Story::NumberPasses => self.run.fields("2").with("Testrelay-Settle", "4s"),
            Story::NeverAppears => self.run.fields("shop-e2e").with("Testrelay-Appear-Timeout", "12s"),
            Story::GrowsWhileSettling { .. } => {
                self.run.fields("").without("Testrelay-Expect").with("Testrelay-Settle", "8s")
            }
        }
    }

    fn settles(&self) -> bool {
        matches!(self.story, Story::NumberPasses | Story::GrowsWhileSettling { .. })
    }

    /// Workflow, resource, begin and end in milliseconds after the story's begin, end status.
    fn script(&self) -> Vec<(&str, &str, i64, i64, Status)> {
        let passed_if = |passes| if passes { Status::Passed } else { Status::Failed };
        let e2e = ("shop-e2e", "e2e", 0, 4_000, Status::Passed);
        match self.story {
            Story::BothPass => vec![e2e, ("shop-api", "api", 500, 6_000, Status::Passed)],
            Story::TwicePasses => vec![e2e, ("shop-e2e", "e2e-firefox", 300, 7_000, Status::Passed)],
            Story::RerunPasses => {
                let first = ("shop-e2e", "e2e", 0, 4_000, Status::Failed);
                vec![first, ("shop-e2e", "e2e", 2_000, 8_000, Status::Passed)]
            }
            Story::NumberPasses => vec![e2e, ("shop-load", "load", 3_000, 6_000, Status::Passed)],
            Story::OneOfTwo(failure) => {
                let status = match failure {
                    Failure::Failed => Status::Failed,
                    Failure::Aborted => Status::Aborted,
                    Failure::Canceled => Status::Canceled,
                };
                vec![e2e, ("shop-api", "api", 500, 5_000, status)]
            }
            Story::UnnamedFails => vec![e2e, ("shop-smoke", "smoke", 0, 3_000, Status::Failed)],
            Story::NeverAppears => vec![],
            Story::GrowsLate { passes } => {
                vec![e2e, ("shop-api", "api", 9_000, 11_000, passed_if(passes))]
            }
            Story::GrowsWhileSettling { passes } => {
                vec![e2e, ("shop-late", "late", 7_000, 9_000, passed_if(passes))]
            }
        }
    }

    fn run_from(&self, scene: &Scene, base: i64) {
        let base = base + 2_000 + self.begins;
        for (workflow, resource, begin, end, status) in self.script() {
            let actor = Actor {
                kind: "testworkflowexecution".into(),
                name: format!("{resource}-{}", self.run.tag),
                execution_id: None,
                execution_reference: None,
            };
            scene.execution(
                execution(workflow)
                    .tag(TAG_KEY, &self.run.tag)
                    .actor(actor)
                    .at(base + begin, Status::Queued)
                    .at(base + begin + 200, Status::Running)
                    .at(base + end, status),
            );
        }
    }

    /// Compares what Azure DevOps was told with what Testkube held at that moment.
    fn judge(&self, scene: &Scene, base: i64, leads: usize) -> Result<()> {
        let plan = &self.run.spec.plan;
        let events = scene.azure().events(plan);
        let [event] = &events[..] else { anyhow::bail!("not one event: {events:?}") };
        ensure!(event.accepted && event.name == "TaskCompleted", "{event:?}");
        let lines = scene.azure().log_lines(plan);
        let told = || format!("{event:?} {lines:?}");

        let truth = scene.testkube().truth(TAG_KEY, &self.run.tag, event.at);
        let ended = self.script().iter().map(|(_, _, _, end, _)| base + 2_000 + self.begins + end).max();
        ensure!(ended.is_none_or(|ended| ended <= event.at), "before its last execution ended: {}", told());
        ensure!(truth.len() == self.script().len(), "before its last execution came: {}", told());
        let expected = if passes(&truth) { "succeeded" } else { "failed" };
        ensure!(event.result.as_deref() == Some(expected), "not {expected}: {}; {truth:?}", told());

        // A new leader cannot know whether the line that its predecessor was sending has arrived, and sends it again.
        let line = lines.first().context("no line")?;
        ensure!(lines.len() <= leads && lines.iter().all(|other| other == line), "not one line: {lines:?}");
        let words = match (self.story, expected) {
            (Story::NeverAppears, _) => "(could not be determined). No execution tagged",
            (_, "succeeded") => "passed. ",
            _ => "did not pass",
        };
        ensure!(line.contains(words), "{words:?} is not in {line:?}");
        let azure = scene.azure();
        let asked = |ending: &str| {
            let of_plan = |target: &str| target.contains(plan.as_str()) && target.contains(ending);
            azure.requests().iter().position(|recorded| of_plan(&recorded.request.target))
        };
        ensure!(asked("/logs/") < asked("/events"), "the event came before the log's line");
        Ok(())
    }
}

/// A second opinion on a counted set: of each resource only the newest run counts, and every one must have passed.
fn passes(truth: &[Truth]) -> bool {
    let newest: BTreeMap<&str, &Truth> = truth.iter().map(|e| (e.actor.name.as_str(), e)).collect();
    !truth.is_empty() && newest.values().all(|e| e.finished && e.status == Status::Passed)
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

    /// Delivers a check until it is taken; answers how often it was turned away. A connection that ends without an
    /// answer, as those of a drained listener do, leaves it open whether the check was taken.
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

/// Each caller delivers one check, all at the same time; answers how often one was turned away.
fn deliver(callers: &mut [Caller], checks: &[Check]) -> Result<u64> {
    std::thread::scope(|scope| {
        let pairs = callers.iter_mut().zip(checks);
        let threads: Vec<_> = pairs.map(|(caller, check)| scope.spawn(|| caller.deliver(check))).collect();
        let turned_away = threads.into_iter().map(|thread| thread.join().expect("a caller has panicked"));
        turned_away.sum()
    })
}

fn sum(stats: &BTreeMap<String, u64>, part: &str) -> u64 {
    stats.iter().filter(|(name, _)| name.contains(part)).map(|(_, value)| value).sum()
}

fn connections_by_worker(envoy: &Envoy) -> Result<Vec<u64>> {
    let port = format!("_{}.worker_", envoy.address().port());
    let stats = envoy.stats()?;
    let of_listener = |name: &str| {
        name.starts_with("listener.") && name.contains(&port) && name.ends_with(".downstream_cx_total")
    };
    Ok(stats.iter().filter(|(name, _)| of_listener(name)).map(|(_, value)| *value).collect())
}
