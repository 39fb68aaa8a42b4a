//! Limits of downloads and lists: connections, memory, Testkube's own memory; and which of Testkube's answers are
//! forwarded.

use anyhow::{Context, Result, ensure};
use fakes::testkube::{Fault, Route};
use fakes::{Execution, Span, Status, execution};
use host_tests::client::{Connection, Request, Response};
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, Setup, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};

const TAG: &str = "shop-1";
const SOON: Duration = Duration::from_secs(60);

fn passed(workflow: &str) -> Execution {
    execution(workflow).tag(TAG_KEY, TAG).at(now_ms() - 60_000, Status::Passed)
}

fn by_tag(rest: &str) -> String {
    format!("/testrelay/v1/artifacts/{TAG_KEY}={TAG}{rest}")
}

fn get(envoy: &Envoy, target: &str) -> Result<Response> {
    Request::get(target).bearer(BEARER).send(envoy.address())
}

/// Downloads and what is asked for them go through a cluster of their own, as in the shipped files.
fn apart(scene: &Scene, setup: Setup) -> Setup {
    let artifacts = json!({ "artifacts": { "cluster": "downloads" } });
    let setup = setup.edit_plugin(|plugin| {
        for credential in plugin["credentials"].as_array_mut().into_iter().flatten() {
            credential["max_downloads"] = json!(32);
        }
    });
    setup
        .plugin(artifacts)
        .plain_cluster("downloads", scene.testkube_address())
        .edit_route("artifacts", |route| route["route"]["cluster"] = json!("downloads"))
}

/// The problem document of a refusal, without any text from Testkube.
fn refused(answer: &Response) -> Result<String> {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text());
    let body = answer.json()?;
    assert_eq!(body["status"], answer.status);
    let detail = body["detail"].as_str().context("detail")?.to_owned();
    assert!(!detail.contains("failed to") && !detail.contains("presigned"), "{detail}");
    Ok(detail)
}

#[test]
fn a_long_head_reaches_testkube_on_every_path() -> Result<()> {
    let scene = Scene::new()?;
    let id = scene.execution(passed("shop-e2e").artifact("x.xml", "1").log("log"));
    let envoy = Envoy::start(&scene.setup()?)?;
    let own = |rest: &str| format!("/v1/test-workflow-executions/{id}{rest}");
    for (target, body) in [
        (own("/artifacts/x.xml"), "1"),
        (own("/logs"), "log"),
        (by_tag("/x.xml"), "1"),
        (by_tag("/x.xml"), "1"),
        (by_tag("/logs"), "log"),
    ] {
        let long = Request::get(&target).bearer(BEARER).header("x-a", "x".repeat(1_400));
        let long = long.header("x-b", "y".repeat(200)).send(envoy.address())?;
        assert_eq!((long.status, long.text().as_str()), (200, body), "{target}");
    }
    for name in ["..;", "..;%2fx", "a/..;b/c", ".;/x", "%2e%2e%3bx", "a%5c..;"] {
        assert_eq!(get(&envoy, &own(&format!("/artifacts/{name}")))?.status, 400, "{name}");
        assert_eq!(get(&envoy, &by_tag(&format!("/{name}")))?.status, 400, "{name}");
    }
    envoy.stop()
}

#[test]
fn by_tag_nothing_but_the_file_of_testkubes_answers_goes_on() -> Result<()> {
    let scene = Scene::new()?;
    let id = scene.execution(passed("shop-e2e").artifact("x.xml", "1"));
    let envoy = Envoy::start(&scene.setup()?)?;
    let no_log = get(&envoy, &by_tag("/logs"))?;
    assert_eq!(no_log.status, 404);
    assert!(refused(&no_log)?.contains("The execution has no log"));
    assert_eq!(no_log.header("cache-control"), Some("private, no-store"));
    let head = Request::new("HEAD", by_tag("/logs")).bearer(BEARER).send(envoy.address())?;
    assert_eq!((head.status, head.body.len()), (404, 0));
    // Testkube's own path passes on what Testkube says.
    let own = get(&envoy, &format!("/v1/test-workflow-executions/{id}/logs"))?;
    assert!(own.status == 500 && own.json()?["title"] == "Internal Server Error", "{}", own.text());

    let bad_mask = get(&envoy, &by_tag("/archive?mask=("))?;
    assert_eq!(bad_mask.status, 502);
    assert!(refused(&bad_mask)?.contains("A `mask` is not a regular expression"));

    assert_eq!(get(&envoy, &by_tag("/x.xml"))?.text(), "1");
    for (fault, status) in [
        (Fault::Status(500), 502),
        (Fault::Status(404), 404),
        (Fault::Status(502), 502),
        (Fault::Status(429), 503),
        (Fault::Reset, 503),
    ] {
        // The execution may be cached, or is looked up again.
        scene.testkube().fault(Route::Artifact, Span::UntilCleared, fault);
        let answer = get(&envoy, &by_tag("/x.xml"))?;
        scene.testkube().clear_faults();
        // A look-up is an ordinary call, so its 429 becomes a 502.
        let is_right = answer.status == status || (status == 503 && answer.status == 502);
        ensure!(is_right, "{} and not {status}: {}", answer.status, answer.text());
        refused(&answer)?;
    }
    // A connection that has had such an answer is as good as any.
    let mut connection = Connection::open(envoy.address())?;
    for _ in 0..3 {
        assert_eq!(connection.send(&Request::get(by_tag("/logs")).bearer(BEARER))?.status, 404);
        assert_eq!(connection.send(&Request::get(by_tag("/x.xml")).bearer(BEARER))?.text(), "1");
    }
    envoy.stop()
}

#[test]
fn an_archive_over_its_bound_never_reaches_testkube() -> Result<()> {
    let scene = Scene::new()?;
    scene.execution(passed("shop-e2e").artifact("video.webm", vec![0; 3 << 20]).artifact("junit.xml", "1"));
    let envoy = Envoy::start(&scene.setup()?.plugin(json!({ "artifacts": { "max_archive": "2MiB" } })))?;
    let answer = get(&envoy, &by_tag("/archive"))?;
    assert_eq!(answer.status, 413);
    let detail = refused(&answer)?;
    assert!(detail.contains("3MiB in all") && detail.contains("/shop-e2e-1/NAME"), "{detail}");
    assert_eq!(get(&envoy, &by_tag("/archive?mask=%5C.xml%24"))?.status, 200);
    let seen = scene.testkube();
    let archives = seen.requests().iter().filter(|r| r.request.path().contains("/artifact-archive")).count();
    assert_eq!(archives, 1);
    drop(seen);
    envoy.stop()
}

/// The process's memory in kilobytes.
fn resident(envoy: &Envoy) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn lists_without_end_and_slow_readers_leave_the_process_its_memory() -> Result<()> {
    const READERS: usize = 24;
    let scene = Scene::new()?;
    let names = |count: usize| {
        (0..count).fold(passed("shop-e2e"), |execution, n| execution.artifact(&format!("f{n:07}"), "1"))
    };
    let id = scene.execution(names(250_000));
    let envoy = Envoy::start(&apart(&scene, scene.setup()?))?;
    assert_eq!(get(&envoy, "/testrelay/healthz")?.status, 200);
    let before = resident(&envoy)?;
    for rest in ["", "?format=text", "/shop-e2e-1"] {
        let answer = get(&envoy, &by_tag(rest))?;
        assert_eq!(answer.status, 409);
        let detail = refused(&answer)?;
        assert!(detail.contains("more than 20000") && detail.contains("/shop-e2e-1/NAME"), "{detail}");
    }
    assert_eq!(get(&envoy, &by_tag("/f0249999"))?.text(), "1");
    assert_eq!(get(&envoy, &by_tag("/nope"))?.status, 404);
    assert_eq!(get(&envoy, &by_tag("/archive"))?.status, 413);
    let slow_readers = || -> Result<Vec<Connection>> {
        let request = Request::get(by_tag("")).bearer(BEARER);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut reader = Connection::open(envoy.address())?;
            reader.send_only(&request)?;
            // Its answer has begun, and the rest of it waits.
            reader.is_answered_within(Duration::from_secs(30))?;
            readers.push(reader);
        }
        Ok(readers)
    };
    drop(slow_readers()?);
    let after = resident(&envoy)?;
    println!("250,000 names: {} MiB more", after.saturating_sub(before) >> 10);
    ensure!(after < before + (100 << 10), "{before} kB before, {after} kB with the longest lists");

    // The longest list that is answered, and nobody reads it. Older than the look-back.
    scene.testkube().change(&id, |execution| execution.scheduled_at(now_ms() - 40 * 86_400_000));
    scene.execution(names(15_000));
    // Each worker remembers for some seconds what it has read, and any of them may answer.
    wait_until("another list", SOON, || {
        (0..12).all(|_| get(&envoy, &by_tag("")).is_ok_and(|answer| answer.status == 200))
    })?;
    let list = get(&envoy, &by_tag(""))?;
    ensure!(list.body.len() > 1 << 20 && list.body.len() < 2 << 20, "{} bytes", list.body.len());
    let readers = slow_readers()?;
    let after = resident(&envoy)?;
    println!(
        "{} slow readers of {} bytes: {} MiB more",
        READERS,
        list.body.len(),
        after.saturating_sub(before) >> 10
    );
    ensure!(after < before + (150 << 10), "{before} kB before, {after} kB with {READERS} slow readers");
    drop(readers);
    envoy.stop()
}

/// Readers that take the beginning of a large file and no more.
fn slow_downloads(envoy: &Envoy, target: &str, count: usize) -> Result<(Vec<Connection>, usize)> {
    let (mut under_way, mut refused) = (Vec::new(), 0);
    for _ in 0..count {
        let mut connection = Connection::open(envoy.address())?.timeout(Duration::from_secs(30))?;
        let (head, _body) = connection.start(&Request::get(target).bearer(BEARER))?;
        match head.status {
            200 => under_way.push(connection),
            503 => {
                assert_eq!(head.header("retry-after"), Some("2"));
                refused += 1;
            }
            other => anyhow::bail!("{other}"),
        }
    }
    Ok((under_way, refused))
}

#[test]
fn slow_downloads_have_their_bound_and_checks_are_decided_beside_them() -> Result<()> {
    let scene = Scene::new()?;
    let id = scene.execution(passed("shop-e2e").artifact("video.webm", vec![7; 16 << 20]));
    let envoy = Envoy::start(&apart(&scene, scene.setup()?.concurrency(1)))?;
    let own = format!("/v1/test-workflow-executions/{id}/artifacts/video.webm");
    let mut under_way = Vec::new();
    let mut refused = 0;
    for target in [&own, &by_tag("/video.webm")] {
        let (some, others) = slow_downloads(&envoy, target, 40)?;
        under_way.extend(some);
        refused += others;
    }
    assert_eq!((under_way.len(), refused), (32, 48));
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let sent = Instant::now();
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    ensure!(sent.elapsed() < Duration::from_secs(15), "{:?}", sent.elapsed());
    // Each that ends makes room for one more.
    drop(under_way.pop());
    wait_until("room", SOON, || get(&envoy, &by_tag("/nope")).is_ok_and(|answer| answer.status == 404))?;
    drop(under_way);
    wait_until("no download", SOON, || {
        envoy.stat("cluster.downloads.upstream_rq_active").is_ok_and(|n| n == 0)
    })?;
    let (under_way, refused) = slow_downloads(&envoy, &own, 33)?;
    assert_eq!((under_way.len(), refused), (32, 1));
    drop(under_way);
    envoy.stop()
}

#[test]
fn a_vm_that_falls_with_all_its_downloads_leaves_none_of_them_counted() -> Result<()> {
    let scene = Scene::new()?;
    let id = scene.execution(passed("shop-e2e").artifact("video.webm", vec![7; 16 << 20]).artifact("x", "1"));
    let setup = scene.wire(Setup::with_test_hooks()?).concurrency(1);
    let envoy = Envoy::start(&apart(&scene, setup))?;
    let own = |name: &str| format!("/v1/test-workflow-executions/{id}/artifacts/{name}");
    let (under_way, refused) = slow_downloads(&envoy, &own("video.webm"), 33)?;
    assert_eq!((under_way.len(), refused), (32, 1));
    let trapped = Request::get("/test-hooks/trap").send(envoy.address());
    assert!(trapped.is_err() || trapped.is_ok_and(|answer| answer.status == 503));
    let passes =
        || get(&envoy, &own("x")).is_ok_and(|answer| (answer.status, answer.text().as_str()) == (200, "1"));
    wait_until("a download by the new VM", SOON, passes)?;
    drop(under_way);
    envoy.stop()
}

#[test]
fn a_check_by_get_or_with_a_blank_in_its_url_is_told_what_to_change() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    let by_get = Request::get("/testrelay/v1/checks")
        .header("PlanId", &run.spec.plan)
        .header("AuthToken", &run.spec.token)
        .send(envoy.address())?;
    assert_eq!((by_get.status, by_get.header("allow")), (405, Some("GET, HEAD, POST")));
    assert!(refused(&by_get)?.contains("choose POST as the method"));
    for target in ["/testrelay%20/v1/checks", "/testrelay/v1/checks%20"] {
        let answer = Request::post(target).send(envoy.address())?;
        assert_eq!(answer.status, 404);
        assert!(refused(&answer)?.contains("The path has `%20`, which is a blank"));
    }
    envoy.stop()
}
