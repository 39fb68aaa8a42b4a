//! The names of failed tests in a check's log, from reports that test runners wrote, through a real Envoy.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::Envoy;
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The reports, with the producers' names, whose README says which and how.
fn reports() -> Result<Vec<(String, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fakes/fixtures/junit");
    let mut reports = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "xml") {
            let name = path.file_stem().and_then(|name| name.to_str()).context("a name")?.to_owned();
            reports.push((name, std::fs::read(&path)?));
        }
    }
    reports.sort();
    ensure!(reports.len() >= 12, "{} reports", reports.len());
    Ok(reports)
}

/// Each producer's report is that of another check; all end at the same time.
#[test]
fn the_reports_of_all_producers_are_in_the_logs() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let now = now_ms();
    let reports = reports()?;
    let mut runs = Vec::new();
    for (n, (name, body)) in (1..).zip(&reports) {
        let run = scene.pipeline(n);
        let found = testrelay::wire::junit::read(body).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        let tests = execution("shop").tag(TAG_KEY, &run.tag).artifact("results/junit.xml", body.clone());
        // A few at a time: names wait for one another, and the event for none of them.
        let end = now + 2_000 + i64::from(n) * 700;
        scene.execution(tests.at(now, Status::Running).at(end, Status::Failed));
        assert_eq!(run.check("shop").send(envoy.address())?.status, 200);
        runs.push((name, run, found));
    }
    for (name, run, found) in runs {
        let decision = scene.decision(&run, SOON)?;
        let (log, counts) = (decision.text(), found.counts);
        assert_eq!(decision.result(), "failed");
        for text in [format!(": {} test", counts.tests), format!(", {} passed", counts.passed)] {
            assert!(log.contains(&text), "{name}: {text}\n{log}");
        }
        for failure in &found.failures {
            assert!(log.contains(&failure.name), "{name}: {failure:?}\n{log}");
            assert!(log.contains(&failure.message), "{name}: {failure:?}\n{log}");
        }
        assert_eq!(found.failures.is_empty(), !log.contains(" Failed tests: "), "{name}\n{log}");
    }
    envoy.stop()
}

/// 2 MiB of tests and one that is more: the first is read, the second costs a line, and Envoy goes on.
#[test]
fn the_largest_report_is_read_and_a_larger_one_is_not() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    let test = "<testcase name='t'><failure message='want 2'/></testcase>";
    let count = ((2 << 20) - 32) / test.len();
    let body = format!("<testsuite name='s'>{}</testsuite>", test.repeat(count));
    let now = now_ms();
    let tests = execution("shop").tag(TAG_KEY, &run.tag).artifact("junit.xml", body);
    let tests = tests.artifact("larger/junit.xml", vec![b' '; (2 << 20) + 1]);
    scene.execution(tests.at(now, Status::Running).at(now + 3_000, Status::Failed));
    assert_eq!(run.check("shop").send(envoy.address())?.status, 200);
    let decision = scene.decision(&run, SOON)?;
    let log = decision.text();
    for text in [
        format!("shop-1: {count} tests, 0 passed, {count} failed"),
        format!("##[error]  and {} more", count - 10),
        "shop-1: larger/junit.xml is not read: it has 2.1 MiB; the limit is 2 MiB".into(),
    ] {
        assert!(log.contains(&text), "{text}\n{log}");
    }
    assert!(decision.event.at < now + 3_000 + 10_000, "{}", decision.event.at - now);
    envoy.stop()
}
