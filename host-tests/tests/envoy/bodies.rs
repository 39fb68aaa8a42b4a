//! Bodies that end with trailers, arrive late, or never end.

use crate::hints::{credentials, event, webhook};
use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::client::{Http2, Http2Answer};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{BEARER, Connection, Envoy, PASSWORD, Request, Setup, config, wait_for};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

fn passed(scene: &Scene, n: u32) -> Pipeline {
    let run = scene.pipeline(n);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    run
}

fn in_body(run: &Pipeline, path: &str) -> Result<(Request, String)> {
    let request = Request::post(path).basic(USER, PASSWORD).header("Content-Type", "application/json");
    Ok((request, run.fields("shop-e2e").json_body()?.to_string()))
}

/// A request whose body, in two pieces if there is one, ends by trailers.
fn by_trailers(address: SocketAddr, request: &Request, body: &str) -> Result<Http2Answer> {
    let mut client = Http2::open(address)?;
    let stream = client.begin(request, false)?;
    let (first, second) = body.split_at(body.len() / 2);
    for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
        client.data(stream, piece.as_bytes(), false)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    client.trailers(stream)?;
    client.answer(stream)
}

#[test]
fn whatever_ends_by_trailers_is_answered_here_and_never_goes_on_with_its_credentials() -> Result<()> {
    for with_catch_all in [false, true] {
        let scene = Scene::new()?;
        let setup = scene.setup()?.concurrency(1).plugin(credentials());
        let envoy = Envoy::start(&if with_catch_all { setup.route_everything() } else { setup })?;
        let address = envoy.address();
        let (in_headers, with_data) = (passed(&scene, 1), passed(&scene, 2));
        let answer = by_trailers(address, &in_headers.check("shop-e2e"), "")?;
        ensure!(answer.status == Some(200) && answer.text.contains("accepted"), "without data: {answer:?}");
        let (request, body) = in_body(&with_data, "/testrelay/v1/checks")?;
        let answer = by_trailers(address, &request, &body)?;
        ensure!(answer.status == Some(200) && answer.text.contains("accepted"), "{answer:?}");
        for run in [&in_headers, &with_data] {
            ensure!(scene.decision(run, SOON)?.result() == "succeeded");
        }
        let (request, body) = in_body(&with_data, "/testrelay/v1/checks/evaluate")?;
        let answer = by_trailers(address, &request, &body)?;
        ensure!(answer.status == Some(200) && answer.text.contains("succeeded"), "{answer:?}");
        let answer = by_trailers(address, &webhook("")?, &event(&with_data))?;
        ensure!(answer.status == Some(202) && answer.text.contains("taken"), "{answer:?}");
        let answer = by_trailers(address, &Request::post("/testrelay/v1/checks"), &body)?;
        ensure!(answer.status == Some(401), "{answer:?}");
        // Nobody waits for a body that was reset.
        let mut client = Http2::open(address)?;
        let given_up = passed(&scene, 3);
        let (request, body) = in_body(&given_up, "/testrelay/v1/checks")?;
        let stream = client.begin(&request, false)?;
        client.data(stream, body.as_bytes(), false)?;
        client.reset(stream)?;
        let stream = client.begin(&Request::get("/testrelay/healthz"), true)?;
        ensure!(client.answer(stream)?.status == Some(200));
        for seen in scene.testkube().requests() {
            let told = |name| seen.request.value(name).is_some();
            ensure!(!told("authtoken") && !told("authorization"), "Testkube was told: {:?}", seen.request);
            ensure!(!seen.request.target.contains("testrelay"), "{:?}", seen.request);
        }
        ensure!(scene.azure().events(&given_up.spec.plan).is_empty());
        envoy.stop()?;
    }
    Ok(())
}

#[test]
fn a_download_by_tag_that_ends_by_trailers_waits_for_testkubes_answer() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = scene.pipeline(1);
    let kept = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed);
    scene.execution(kept.artifact("a.txt", "the file"));
    let path = format!("/testrelay/v1/artifacts/{}/shop-e2e-1/a.txt?all=true", run.tag);
    let answer = by_trailers(envoy.address(), &Request::get(path).bearer(BEARER), "")?;
    ensure!(answer.status == Some(200) && answer.text == "the file", "{answer:?}");
    for seen in scene.testkube().requests() {
        ensure!(seen.request.value("authorization").is_none(), "{:?}", seen.request);
    }
    envoy.stop()
}

#[test]
fn a_client_that_pauses_before_its_body_loses_no_check() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    for (n, pause) in [(1, 5), (2, 13)] {
        let run = passed(&scene, n);
        let (request, body) = in_body(&run, "/testrelay/v1/checks")?;
        let mut connection = Connection::open(envoy.address())?;
        connection.write(&request.body(&body).head())?;
        std::thread::sleep(Duration::from_secs(pause));
        connection.write(body.as_bytes())?;
        let (head, mut answer) = connection.receive("POST")?;
        let text = answer.read_all()?;
        ensure!(head.status == 200, "after {pause} s: {} {}", head.status, String::from_utf8_lossy(&text));
        ensure!(scene.decision(&run, SOON)?.result() == "succeeded");
    }
    envoy.stop()
}

/// The process's resident memory in bytes.
fn resident(envoy: &Envoy) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

/// What an attack did to Envoy's memory.
#[derive(Default)]
struct Watched {
    before: usize,
    most: usize,
}

impl Watched {
    fn look(&mut self, envoy: &Envoy) -> Result<()> {
        let now = resident(envoy)?;
        self.before = if self.before == 0 { now } else { self.before };
        self.most = self.most.max(now);
        Ok(())
    }
}

/// A good check with a body, sent over HTTP/1.1 and decided.
fn good_check_is_decided(scene: &Scene, envoy: &Envoy, n: u32) -> Result<()> {
    let run = passed(scene, n);
    let (request, body) = in_body(&run, "/testrelay/v1/checks")?;
    let answer = request.body(&body).send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    ensure!(scene.decision(&run, SOON)?.result() == "succeeded");
    Ok(())
}

const ATTACKERS: usize = 430;

/// Head and all but the last byte of a body of 1 MiB; the connections stay open.
fn endless_requests(address: SocketAddr, request: &Request) -> Vec<TcpStream> {
    let piece = vec![b' '; 64 << 10];
    let head = request.clone().body(vec![b' '; MIB]).head();
    let one = || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&head)?;
        let mut left = MIB - 1;
        while left > 0 {
            let now = left.min(piece.len());
            // The module closes what it gives up.
            if stream.write_all(&piece[..now]).is_err() {
                break;
            }
            left -= now;
        }
        Ok(stream)
    };
    let some = || (0..ATTACKERS / 10).filter_map(|_| one().ok()).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Two workers that accept bodies of 1 MiB over either protocol, without an overload manager: any limit is the module's
/// own.
fn module_alone(setup: Setup) -> Setup {
    setup.concurrency(2).plugin(credentials()).edit(|bootstrap| {
        bootstrap.as_object_mut().and_then(|bootstrap| bootstrap.remove("overload_manager"));
        let listener = config::listener(bootstrap)?;
        listener["per_connection_buffer_limit_bytes"] = json!(2 * MIB);
        let http2 = &mut config::connection_manager(listener)?["http2_protocol_options"];
        http2["initial_stream_window_size"] = json!(2 * MIB);
        http2["initial_connection_window_size"] = json!(64 * MIB);
        Ok(())
    })
}

#[test]
fn requests_that_stop_one_byte_short_leave_memory_and_place_for_a_good_check() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&module_alone(scene.setup()?))?;
    let mut watched = Watched::default();
    watched.look(&envoy)?;
    let held = endless_requests(envoy.address(), &webhook("")?);
    watched.look(&envoy)?;
    let began = Instant::now();
    good_check_is_decided(&scene, &envoy, 1)?;
    while began.elapsed() < Duration::from_secs(3) {
        watched.look(&envoy)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("HTTP/1.1: {} MiB before, at most {} MiB", watched.before / MIB, watched.most / MIB);
    ensure!(watched.most < 512 * MIB, "{} MiB", watched.most / MIB);
    ensure!(watched.most - watched.before < 2 * 16 * MIB + 64 * MIB, "two workers, 16 MiB each and a margin");
    wait_for("the warning that names the credential", SOON, || {
        envoy.log().contains("the last one came with the credential `testkube`").then_some(())
    })?;
    drop(held);
    good_check_is_decided(&scene, &envoy, 2)?;
    envoy.stop()
}

#[test]
fn over_http_2_too() -> Result<()> {
    let scene = Scene::new()?;
    let setup = module_alone(scene.setup()?);
    let envoy = Envoy::start(&setup)?;
    let mut watched = Watched::default();
    watched.look(&envoy)?;
    let body = vec![b' '; MIB - 1];
    let mut clients: Vec<Http2> = (0..5).map(|_| Http2::open(envoy.address())).collect::<Result<_>>()?;
    let mut streams = Vec::new();
    for (client, connection) in clients.iter_mut().enumerate() {
        for _ in 0..ATTACKERS / 5 {
            let stream = connection.begin(&webhook("")?, false)?;
            streams.push((client, stream));
        }
        for (_, stream) in streams.iter().filter(|(of, _)| *of == client) {
            connection.data(*stream, &body, false)?;
        }
        watched.look(&envoy)?;
    }
    good_check_is_decided(&scene, &envoy, 1)?;
    watched.look(&envoy)?;
    let mut answers = BTreeMap::new();
    for (client, stream) in streams {
        let status = clients[client].answered(stream)?.map(|answer| answer.status);
        *answers.entry(status).or_insert(0) += 1;
    }
    println!(
        "HTTP/2: {} MiB before, at most {} MiB; answers: {answers:?}",
        watched.before / MIB,
        watched.most / MIB
    );
    ensure!(watched.most < 512 * MIB, "{} MiB", watched.most / MIB);
    // Two workers hold 16 of them each; on a slow machine some are too late, and answered so.
    ensure!(answers.remove(&None).unwrap_or(0) <= 32, "too many wait");
    ensure!(answers.keys().all(|status| matches!(status, Some(Some(503 | 408)))), "{answers:?}");
    good_check_is_decided(&scene, &envoy, 2)?;
    envoy.stop()
}

#[test]
fn a_stranger_holds_no_body_at_all() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1).plugin(credentials()))?;
    for path in ["/testrelay/v1/checks", "/testrelay/v1/checks/evaluate", "/testrelay/v1/events"] {
        let mut connection = Connection::open(envoy.address())?;
        let request = Request::post(path).bearer("of-nobody-in-the-configuration").body(vec![b' '; 1_000]);
        connection.write(&request.head())?;
        let (head, _) = connection.receive("POST")?;
        ensure!(head.status == 401, "{path}: {}", head.status);
    }
    envoy.stop()
}
