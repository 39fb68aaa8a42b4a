//! Testkube is down, slow, or answers something else: a check keeps waiting and uses the good answer that comes at last; if
//! its time ends first, it names the fault.

use anyhow::{Context, Result, ensure};
use fakes::testkube::{Fault, Route};
use fakes::{Span, Status, execution};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, wait_until};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// 10 MiB, more than the module takes over.
const HUGE: Fault = Fault::Huge { bytes: 10 << 20 };

fn tests_pass(scene: &Scene, run: &Pipeline) {
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
}

fn send(envoy: &Envoy, run: &Pipeline, timeout: &str) -> Result<()> {
    let check = run.fields("shop-e2e").with("Testrelay-Timeout", timeout).request();
    let answer = check.send(envoy.address())?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}

/// One check whose time ends while Testkube fails in this way, and one that waits until it works again.
fn fails_then_recovers(fault: &Fault, words: &str) -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    scene.testkube().fault(Route::List, Span::UntilCleared, fault.clone());
    let (short, long) = (scene.pipeline(1), scene.pipeline(2));
    for run in [&short, &long] {
        tests_pass(&scene, run);
    }
    send(&envoy, &short, "6s")?;
    send(&envoy, &long, "1h")?;

    let decision = scene.decision(&short, SOON)?;
    let text = decision.text();
    ensure!(decision.result() == "failed", "{text}");
    for part in [
        "failed (inconclusive: could not be determined). The check's time of 6s is over. Requests to Testkube have failed since",
        words,
    ] {
        ensure!(text.contains(part), "{part:?} expected: {text}");
    }
    ensure!(
        scene.azure().events(&long.spec.plan).is_empty(),
        "the other check was decided without an answer"
    );

    scene.testkube().clear_faults();
    let decision = scene.decision(&long, SOON)?;
    ensure!(decision.result() == "succeeded", "{}", decision.text());
    envoy.stop()
}

/// Runs every case in its own Envoy, all at once, because they mostly wait.
fn all_at_once(cases: &[(Fault, &str)]) -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = cases
            .iter()
            .map(|(fault, words)| scope.spawn(move || fails_then_recovers(fault, words)))
            .collect();
        for (thread, (fault, _)) in running.into_iter().zip(cases) {
            thread.join().expect("a case that returns").with_context(|| format!("{fault:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn a_check_outlives_every_fault_and_its_deadline_names_the_one_that_lasted() -> Result<()> {
    all_at_once(&[
        (Fault::Status(502), "(HTTP 502: failed to connect to `user=testkube database=backend`"),
        (Fault::Status(429), "(HTTP 429: injected: Too Many Requests × "),
        (Fault::Html, "(an answer that is not JSON (text/html; charset=utf-8) × "),
        (Fault::TruncatedJson, "(JSON cut off in the middle × "),
        (HUGE, "(an answer of 10 MiB × "),
        (Fault::Reset, "(connection refused or broken × "),
        (Fault::Cut { bytes: 20 }, "(connection broken during the answer × "),
        (Fault::Slow { millis: 30_000 }, "(no answer in time × "),
    ])
}

#[test]
fn a_testkube_that_is_not_there_is_named_as_no_connection() -> Result<()> {
    let scene = Scene::new()?;
    let nobody: SocketAddr = "127.0.0.1:9".parse()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1).testkube(nobody))?;
    let run = scene.pipeline(1);
    send(&envoy, &run, "2s")?;
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "failed");
    assert!(decision.text().contains("Requests to Testkube have failed since"), "{}", decision.text());
    assert!(decision.text().contains("(connection refused or broken"), "{}", decision.text());
    envoy.stop()
}

#[test]
fn a_testkube_cluster_that_envoy_does_not_have_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let cluster = serde_json::json!({ "testkube": { "cluster": "testcube" } });
    let envoy = Envoy::start(&scene.setup()?.concurrency(1).plugin(cluster))?;
    let run = scene.pipeline(1);
    send(&envoy, &run, "2s")?;
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "failed");
    assert!(decision.text().contains("(Envoy has no cluster `testcube`"), "{}", decision.text());
    assert!(envoy.log().contains("request to Testkube failed: Envoy has no cluster `testcube`"));
    envoy.stop()
}

#[test]
fn a_decision_is_not_made_while_its_execution_cannot_be_looked_at_again() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = scene.pipeline(1);
    tests_pass(&scene, &run);
    scene.testkube().fault(Route::Get, Span::Next(1), Fault::Html);
    scene.testkube().fault(Route::Get, Span::Next(1), Fault::Status(404));
    send(&envoy, &run, "1h")?;
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.result(), "succeeded");
    let looks = {
        let testkube = scene.testkube();
        let single = |target: &str| {
            target.starts_with("/v1/test-workflow-executions/") && !target.ends_with("/artifacts")
        };
        testkube.requests().iter().filter(|r| single(&r.request.target)).count()
    };
    assert_eq!(looks, 3);
    envoy.stop()
}

/// One of the memory sizes of a process, in KiB.
fn memory(envoy: &Envoy, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()).context("no such size")?.parse().context("no number")
}

/// A check whose time ends is looked up once more whatever the back-off: short checks, a few at a time, make more
/// readings than the back-off alone would.
#[test]
fn twenty_answers_of_ten_megabytes_cost_bounded_memory_and_the_check_still_passes() -> Result<()> {
    const ANSWERS: u32 = 20;
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let waiting = scene.pipeline(1);
    tests_pass(&scene, &waiting);
    scene.testkube().fault(Route::List, Span::UntilCleared, HUGE);
    let before = memory(&envoy, "VmRSS")?;
    send(&envoy, &waiting, "1h")?;
    let mut short: Vec<Pipeline> = Vec::new();
    let mut sent = 1;
    wait_until("twenty huge answers", Duration::from_secs(240), || {
        short.retain(|run| scene.azure().events(&run.spec.plan).is_empty());
        if short.len() < 12 {
            sent += 1;
            let run = scene.pipeline(sent);
            if send(&envoy, &run, "4s").is_ok() {
                short.push(run);
            }
        }
        scene.testkube().requests().len() >= ANSWERS as usize
    })?;
    let received = envoy.stat("cluster.testkube.upstream_cx_rx_bytes_total")?;
    assert!(received > u64::from(ANSWERS - 1) * (10 << 20), "{received} bytes of {ANSWERS} answers");
    let grown = memory(&envoy, "VmHWM")?.saturating_sub(before) >> 10;
    assert!(grown < 150, "at most {grown} MiB more than before, with {ANSWERS} answers");
    assert!(scene.azure().events(&waiting.spec.plan).is_empty());

    scene.testkube().clear_faults();
    // One good answer, for whichever check, ends the back-off for all.
    let last = scene.pipeline(100_000);
    send(&envoy, &last, "1s")?;
    assert_eq!(scene.decision(&waiting, SOON)?.result(), "succeeded");
    envoy.stop()
}
