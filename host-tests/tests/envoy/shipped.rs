//! What `envoy.yaml` does by itself: which scheme links have behind a proxy that ends TLS, and that slow downloads take no
//! connection from the looks at Testkube.

use anyhow::{Context, Result, ensure};
use fakes::testkube::{Fault, Route};
use fakes::{Span, Status, execution};
use host_tests::client::Request;
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, STATUS, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The load balancer or the Ingress says how it was reached. Without it links would lead callers, and their credential, past
/// TLS.
#[test]
fn links_begin_with_the_scheme_that_the_proxy_in_front_was_reached_by() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = scene.pipeline(1);
    let passed = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed);
    scene.execution(passed.artifact("junit.xml", b"<testsuite/>".to_vec()));
    let list = format!("/testrelay/v1/artifacts/{TAG_KEY}={}?format=text", run.tag);
    let links = |request: Request| -> Result<String> {
        let answer = request.bearer(BEARER).send(envoy.address())?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(answer.text())
    };
    let behind =
        Request::get(&list).header("X-Forwarded-Proto", "https").header("X-Forwarded-For", "203.0.113.7");
    let said = links(behind)?;
    assert!(said.starts_with("https://testrelay.example/testrelay/v1/artifacts/"), "{said}");
    let said = links(Request::get(&list))?;
    assert!(said.starts_with("http://testrelay.example/testrelay/v1/artifacts/"), "{said}");
    envoy.stop()
}

#[test]
fn the_shipped_credential_for_people_sees_checks_and_may_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = scene.pipeline(1);
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    let people = |path: &str| Request::get(path).basic("people", STATUS).send(envoy.address());
    let seen = people("/testrelay/v1/checks")?;
    assert!(seen.status == 200 && seen.text().contains(&run.tag), "{} {}", seen.status, seen.text());
    assert_eq!(people(&format!("/testrelay/v1/artifacts/{TAG_KEY}={}", run.tag))?.status, 403);
    let check = run.fields("shop-e2e").anonymous_request().basic("people", STATUS);
    assert_eq!(check.send(envoy.address())?.status, 403);
    envoy.stop()
}

/// More downloads than Testkube is given connections for, none of which gets an answer.
const DOWNLOADS: usize = 300;

#[test]
fn downloads_that_stand_still_keep_no_check_waiting() -> Result<()> {
    let scene = Scene::new()?;
    // More than the shipped bound lets one credential have: it is the cluster's own that is tried here.
    let setup = scene.setup()?.edit_plugin(|plugin| {
        for credential in plugin["credentials"].as_array_mut().into_iter().flatten() {
            credential["max_downloads"] = serde_json::json!(1_024);
        }
    });
    let envoy = Envoy::start(&setup)?;
    let id = scene.execution(execution("other").at(now_ms(), Status::Passed));
    scene.testkube().fault(Route::Artifact, Span::UntilCleared, Fault::Slow { millis: 600_000 });
    let path = format!("/v1/test-workflow-executions/{id}/artifacts/large.bin");
    let head = Request::get(path).bearer(BEARER).head();
    let mut held = Vec::new();
    for _ in 0..DOWNLOADS {
        let mut stream = TcpStream::connect(envoy.address())?;
        stream.write_all(&head)?;
        held.push(stream);
    }
    let full = || envoy.stat("cluster.testkube-artifacts.upstream_rq_pending_overflow").is_ok_and(|n| n > 0);
    wait_until("downloads to be too many", SOON, full)?;
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    let decision = scene.decision(&run, SOON).context("no look at Testkube found a connection")?;
    assert_eq!(decision.result(), "succeeded");
    drop(held);
    envoy.stop()
}
