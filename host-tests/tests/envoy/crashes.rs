//! A crash of the module or a change of its configuration does nothing to pending checks.

use anyhow::Result;
use fakes::azure::{Fault, Route};
use fakes::{Span, Status, execution};
use host_tests::polls::{Polls, leads_taken};
use host_tests::scene::{Decision, Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Reload, Request, Setup, config, wait_until};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A lease that runs out, a worker's patience, the brake after the first fall, and polling.
const AFTER_A_FALL: Duration = Duration::from_secs(90);

#[test]
fn one_worker_and_the_main_thread_are_one_poller() -> Result<()> {
    there_is_one_poller(1)
}

#[test]
fn four_workers_and_the_main_thread_are_one_poller() -> Result<()> {
    there_is_one_poller(4)
}

fn there_is_one_poller(workers: u32) -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(workers))?;
    let run = scene.pipeline(1);
    accepted(&envoy, &run, "shop-e2e")?;
    runs(&scene, &run, "shop-e2e", 15_000, Status::Passed);
    let decision = decided(&scene, &run, SOON)?;
    assert_eq!(decision.result(), "succeeded", "{}", decision.text());

    let polls = Polls::of(&scene.testkube());
    let spacing = polls.spacing(&run.tag);
    assert_eq!(polls.too_close(&run.tag), 0, "{spacing:?}");
    assert!(spacing.len() >= 4, "{spacing:?}");
    assert_eq!(leads_taken(&envoy.log()), 1);
    envoy.stop()
}

#[test]
fn a_trap_on_every_worker_loses_no_check() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.wire(Setup::with_test_hooks()?))?;
    let all: Vec<Pipeline> = (1..=6).map(|n| scene.pipeline(n)).collect();
    for (run, ms) in all.iter().zip([0, 4_000, 8_000, 12_000, 16_000, 20_000]) {
        accepted(&envoy, run, "shop-e2e")?;
        let last = if ms == 8_000 { Status::Failed } else { Status::Passed };
        runs(&scene, run, "shop-e2e", ms, last);
    }
    let polled = || !Polls::of(&scene.testkube()).of_tag(&all[5].tag).is_empty();
    wait_until("the last check to be polled", SOON, polled)?;

    // A connection belongs to one worker; fresh ones reach both sooner or later.
    wait_until("a trap on both workers", SOON, || {
        let trapped = Request::get("/test-hooks/trap").send(envoy.address());
        assert!(trapped.is_ok_and(|answer| answer.status == 503));
        threads_that_trapped(&envoy.log()).len() >= 2
    })?;
    let alive = || Request::get("/testrelay/healthz").send(envoy.address());
    wait_until("a worker that serves again", SOON, || alive().is_ok_and(|answer| answer.status == 200))?;

    for run in &all {
        let decision = decided(&scene, run, AFTER_A_FALL)?;
        let expected = if run.tag == all[2].tag { "failed" } else { "succeeded" };
        assert_eq!(decision.result(), expected, "{}", decision.text());
    }
    Ok(())
}

/// The defence against an answer that no VM survives: two VMs trap on it, the second long after the first, and then the
/// module gives up that check and no other.
#[test]
fn an_answer_that_kills_its_reader_costs_two_vms_and_one_check() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.wire(Setup::with_test_hooks()?))?;
    let (healthy, poisonous) = (scene.pipeline(1), scene.pipeline(2));
    let begin = now_ms();
    runs(&scene, &poisonous, "trap-the-reader", 1_000, Status::Passed);
    runs(&scene, &healthy, "shop-e2e", 1_000, Status::Passed);
    accepted(&envoy, &healthy, "shop-e2e, shop-api")?;
    accepted(&envoy, &poisonous, "trap-the-reader")?;

    let _probes = Probes::start(envoy.address());
    wait_until("the first fall", SOON, || threads_that_trapped(&envoy.log()).len() == 1)?;
    runs(&scene, &healthy, "shop-api", 0, Status::Passed);
    // The second fall may well come between the healthy check's reading and its confirmation.
    let good = decided(&scene, &healthy, Duration::from_secs(200))?;
    let bad = scene.decision(&poisonous, Duration::from_secs(200))?;
    println!("healthy after {} ms, poisonous after {} ms", good.event.at - begin, bad.event.at - begin);
    assert_eq!(good.result(), "succeeded", "{}", good.text());
    assert_eq!(bad.result(), "failed");
    assert!(bad.text().contains("could not be determined"), "{}", bad.text());
    assert!(bad.text().contains("Testrelay failed twice"), "{}", bad.text());
    // Each time the lease (15 s, renewed up to a second before) and then the brake must pass: 30 s, then 60 s.
    assert!(bad.event.at - begin >= (14 + 30 + 14 + 60) * 1_000, "{} ms", bad.event.at - begin);
    let log = envoy.log();
    assert_eq!(threads_that_trapped(&log).len(), 2, "{log}");
    assert_eq!(envoy.stat("wasmcustom.testrelay_leader_falls")?, 2);
    envoy.stop()
}

#[test]
fn a_new_configuration_finds_checks_in_every_phase_and_loses_none() -> Result<()> {
    let scene = Scene::new()?;
    let setup = scene.setup()?.dynamic_listener().drain_time(Duration::from_secs(3));
    let mut envoy = Envoy::start(&setup)?;
    let [accepted_only, proven, absent, running, undelivered] = [1, 2, 3, 4, 5].map(|n| scene.pipeline(n));
    let unavailable = Fault::Status { status: 503, retry_after: None };
    let asked = |what: &str, ending: &str, plan: &str| {
        let contains = |target: &str| target.contains(plan) && target.contains(ending);
        wait_until(what, SOON, || scene.azure().requests().iter().any(|r| contains(&r.request.target)))
    };

    for run in [&absent, &running, &undelivered] {
        accepted(&envoy, run, "shop-e2e")?;
    }
    runs(&scene, &running, "shop-e2e", 10_000, Status::Passed);
    let polled = || {
        let polls = Polls::of(&scene.testkube());
        [&absent, &running, &undelivered].iter().all(|run| !polls.of_tag(&run.tag).is_empty())
    };
    wait_until("three checks to be polled", SOON, polled)?;
    scene.azure().fault(Route::Build, Span::UntilCleared, unavailable);
    accepted(&envoy, &proven, "shop-e2e")?;
    let build = proven.spec.build.unwrap_or_default().to_string();
    asked("the second check's build to be read", "/build/builds/", &build)?;
    scene.azure().fault(Route::LogCreate, Span::UntilCleared, unavailable);
    accepted(&envoy, &accepted_only, "shop-e2e")?;
    asked("the first check's log to be asked for", "/logs", &accepted_only.spec.plan)?;
    scene.azure().fault(Route::Events, Span::UntilCleared, unavailable);
    runs(&scene, &undelivered, "shop-e2e", 0, Status::Passed);
    asked("the last check's event", "/events", &undelivered.spec.plan)?;
    assert!(scene.azure().events(&undelivered.spec.plan).iter().all(|event| !event.accepted));

    let mut plugin = envoy.plugin()?;
    plugin["checks"] = json!({ "lookback": "5h" });
    assert_eq!(envoy.reload(&plugin)?, Reload::Accepted);
    wait_until("the new configuration to lead", SOON, || leads_taken(&envoy.log()) == 2)?;
    scene.azure().clear_faults();
    for run in [&accepted_only, &proven, &absent] {
        runs(&scene, run, "shop-e2e", 3_000, Status::Failed);
    }
    for run in [&accepted_only, &proven, &absent, &running, &undelivered] {
        let decision = decided(&scene, run, AFTER_A_FALL)?;
        let passes = [&running.tag, &undelivered.tag].contains(&&run.tag);
        let expected = if passes { "succeeded" } else { "failed" };
        assert_eq!(decision.result(), expected, "{}", decision.text());
        let too_close = Polls::of(&scene.testkube()).too_close(&run.tag);
        assert!(too_close <= 1, "{} was looked up {too_close} times too soon", run.tag);
    }
    assert_eq!(envoy.stat("wasmcustom.testrelay_leader_falls")?, 0);
    envoy.stop()
}

#[test]
fn a_configuration_that_comes_back_while_it_drains_leads_again() -> Result<()> {
    let scene = Scene::new()?;
    let drain = Duration::from_secs(5);
    let mut envoy = Envoy::start(&scene.setup()?.dynamic_listener().drain_time(drain))?;
    let run = scene.pipeline(1);
    accepted(&envoy, &run, "shop-e2e")?;
    let first = envoy.plugin()?;
    let mut second = first.clone();
    second["checks"] = json!({ "lookback": "5h" });

    wait_until("the first configuration to lead", SOON, || leads_taken(&envoy.log()) == 1)?;
    assert_eq!(envoy.reload(&second)?, Reload::Accepted);
    wait_until("the second configuration to lead", SOON, || leads_taken(&envoy.log()) == 2)?;
    assert_eq!(envoy.reload(&first)?, Reload::Accepted);
    wait_until("the second one's end", SOON, || {
        envoy.log().contains("gives up the lead; pending checks: 1")
    })?;
    wait_until("the first configuration to lead again", SOON, || leads_taken(&envoy.log()) == 3)?;
    runs(&scene, &run, "shop-e2e", 3_000, Status::Passed);

    let decision = decided(&scene, &run, SOON)?;
    assert_eq!(decision.result(), "succeeded", "{}", decision.text());
    assert!(Polls::of(&scene.testkube()).too_close(&run.tag) <= 2);
    assert_eq!(envoy.stat("wasmcustom.testrelay_leader_falls")?, 0);
    envoy.stop()
}

#[test]
fn two_listeners_with_one_plugin_name_share_one_leader() -> Result<()> {
    let scene = Scene::new()?;
    let setup = scene.setup()?.edit(|bootstrap| {
        let mut other = config::listener(bootstrap)?.clone();
        other["name"] = json!("other");
        // Another configuration creates another root context on each thread, beside the first listener's.
        let mut plugin = config::plugin(&mut other)?;
        plugin["checks"] = json!({ "lookback": "5h" });
        config::set_plugin(&mut other, &plugin.to_string())?;
        config::list(bootstrap, "/static_resources/listeners")?.push(other);
        Ok(())
    });
    let envoy = Envoy::start(&setup)?;
    let runs_of = [(scene.pipeline(1), envoy.address()), (scene.pipeline(2), envoy.address_of("other")?)];
    for (run, address) in &runs_of {
        accepted_at(*address, run, "shop-e2e")?;
        runs(&scene, run, "shop-e2e", 10_000, Status::Passed);
    }
    for (run, _) in &runs_of {
        assert_eq!(decided(&scene, run, SOON)?.result(), "succeeded");
    }
    let leads = leads_taken(&envoy.log());
    let polls = Polls::of(&scene.testkube());
    for (run, _) in &runs_of {
        assert!(polls.too_close(&run.tag) < leads, "{leads} leads: {:?}", polls.spacing(&run.tag));
    }
    // Newer configurations are preferred, and a thread reads both at the start: the lead changes a few times, then stays.
    assert!(leads <= 6, "{leads} leads");
    envoy.stop()
}

fn accepted(envoy: &Envoy, run: &Pipeline, expect: &str) -> Result<()> {
    accepted_at(envoy.address(), run, expect)
}

fn accepted_at(listener: SocketAddr, run: &Pipeline, expect: &str) -> Result<()> {
    let answer = run.check(expect).send(listener)?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()?["status"], "accepted");
    Ok(())
}

/// An execution for a run that begins now and ends after `ms`.
fn runs(scene: &Scene, run: &Pipeline, workflow: &str, ms: i64, end: Status) {
    let now = now_ms();
    let tagged = execution(workflow).tag(TAG_KEY, &run.tag);
    scene.execution(tagged.at(now, Status::Running).at(now + ms, end));
}

/// The decision of a run: one, and no second try of it.
fn decided(scene: &Scene, run: &Pipeline, timeout: Duration) -> Result<Decision> {
    let decision = scene.decision(run, timeout)?;
    let taken = scene.azure().events(&run.spec.plan).iter().filter(|event| event.accepted).count();
    assert_eq!(taken, 1, "{}", run.tag);
    let truth = scene.testkube().truth(TAG_KEY, &run.tag, decision.event.at);
    let all_passed = !truth.is_empty() && truth.iter().all(|e| e.finished && e.status == Status::Passed);
    assert_eq!(decision.result() == "succeeded", all_passed, "{truth:?}");
    Ok(decision)
}

/// A readiness probe each second, over a connection of its own: a worker's VM that fell is built anew at the worker's next
/// request.
struct Probes {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Probes {
    fn start(envoy: SocketAddr) -> Probes {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                // A probe may fail while a VM is being rebuilt.
                let _ = Request::get("/testrelay/healthz").send(envoy);
            }
        });
        Probes { stop, thread: Some(thread) }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The threads, by their number in the log, on which a VM fell.
fn threads_that_trapped(log: &str) -> BTreeSet<String> {
    let fallen = log.lines().filter(|line| line.contains("Function: proxy_on_") && line.contains("failed"));
    fallen.filter_map(|line| Some(line.split(']').nth(1)?.trim_start_matches('[').to_owned())).collect()
}

#[test]
fn the_same_delivery_again_while_the_event_is_under_way_is_told_by_a_second_one() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    scene.azure().fault(Route::Events, Span::Next(1), Fault::Slow { millis: 4_000 });
    runs(&scene, &run, "shop-e2e", 0, Status::Passed);
    accepted(&envoy, &run, "shop-e2e")?;
    wait_until("the event", SOON, || !scene.azure().events(&run.spec.plan).is_empty())?;
    accepted(&envoy, &run, "shop-e2e")?;
    // Whether the first one was for the delivery that came meanwhile, nobody can know.
    wait_until("the end of the check", SOON, || {
        let ended = |(name, n): (&String, &u64)| name.contains("testrelay_delivered") && *n > 0;
        envoy.stats().is_ok_and(|all| all.iter().any(ended))
    })?;
    assert_eq!(scene.azure().events(&run.spec.plan).len(), 2);
    assert_eq!(envoy.stat("wasmcustom.testrelay_undelivered")?, 0);
    envoy.stop()
}
