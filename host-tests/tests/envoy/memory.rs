//! Memory: what Envoy's overload manager can see, and that with the shipped configuration the process stays below the limit
//! of the shipped pods while bodies that never end come in, without a good check being lost.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::client::Request;
use host_tests::manifests::documents;
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, config, wait_until};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const CONTAINER: &str = include_str!("../../../envoy/kubernetes/container/container.yaml");
const MIB: u64 = 1 << 20;

/// How long an attack goes on.
const ATTACK: Duration = Duration::from_secs(20);
/// What Azure DevOps waits for the answer to a check.
const PATIENCE: Duration = Duration::from_secs(20);

/// The limit of the shipped container.
fn limit() -> Result<u64> {
    let [container] = documents(CONTAINER)?.try_into().ok().context("not one document")?;
    let limit = container.pointer("/spec/template/spec/containers/0/resources/limits/memory");
    let limit = limit.and_then(|limit| limit.as_str()?.strip_suffix("Mi")?.parse::<u64>().ok());
    Ok(limit.context("no limit in Mi")? * MIB)
}

/// Resident bytes of the process.
fn resident(envoy: &Envoy) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// Takes 64 MiB in each of its VMs when it is configured, and writes to every page of it.
const GREEDY: &str = r#"
(module
  (memory (export "memory") 16)
  (global $heap (mut i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $n i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $n))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.mul (memory.grow (i32.const 1024)) (i32.const 65536)))
    (block $end (loop $more
      (br_if $end (i32.ge_u (local.get $at) (i32.mul (memory.size) (i32.const 65536))))
      (i32.store8 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br $more)))
    (i32.const 1)))
"#;

/// The basis of the shipped numbers: of the 512 MiB only Envoy's own memory is counted.
#[test]
fn the_overload_manager_sees_envoys_memory_and_not_that_of_modules() -> Result<()> {
    const PRESSURE: &str = "overload.envoy.resource_monitors.fixed_heap.pressure";
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("greedy.wasm");
    std::fs::write(&file, wat::parse_str(GREEDY).context("the module's text")?)?;
    let scene = Scene::new()?;
    let seen = |greedy: bool| -> Result<(u64, u64)> {
        let filter = json!({
            "name": "envoy.filters.http.wasm.greedy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": { "name": "greedy", "root_id": "greedy", "vm_config": {
                    "vm_id": "greedy", "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": &file } },
                } },
            },
        });
        let setup = scene.setup()?.concurrency(2).edit(move |bootstrap| {
            let manager = config::connection_manager(config::listener(bootstrap)?)?;
            if greedy {
                config::list(manager, "/http_filters")?.insert(0, filter.clone());
            }
            Ok(())
        });
        let envoy = Envoy::start(&setup)?;
        wait_until("a look at the memory", SOON, || envoy.stat(PRESSURE).is_ok_and(|pressure| pressure > 0))?;
        std::thread::sleep(Duration::from_secs(1));
        let found = (resident(&envoy)?, envoy.stat(PRESSURE)?);
        envoy.stop()?;
        Ok(found)
    };
    let ((without, low), (with, high)) = (seen(false)?, seen(true)?);
    ensure!(with > without + 120 * MIB, "{} MiB and {} MiB resident", without / MIB, with / MIB);
    // 1 % of the shipped number is 3.84 MiB.
    ensure!(
        high <= low + 5,
        "the pressure rose from {low} to {high} %: then the shipped numbers can be others"
    );
    Ok(())
}

/// One attacker, until it is told to stop: where to, and as what.
type Attack = fn(SocketAddr, &AtomicBool);

#[test]
fn bodies_that_stop_one_byte_short_over_http_1_stay_below_the_limit_and_cost_no_check() -> Result<()> {
    under(http_1)
}

#[test]
fn bodies_that_stop_one_byte_short_over_http_2_stay_below_the_limit_and_cost_no_check() -> Result<()> {
    under(http_2)
}

/// Three attackers at full speed, each with 200 connections. Meanwhile good checks, each over a connection of its own, are
/// answered in time and decided.
fn under(attack: Attack) -> Result<()> {
    let limit = limit()?;
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.plugin(crate::hints::credentials()))?;
    let stop = AtomicBool::new(false);
    let (mut peak, mut runs) = (0, Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..3 {
            scope.spawn(|| attack(envoy.address(), &stop));
        }
        let began = Instant::now();
        let mut good = Vec::new();
        let watched = (|| {
            while began.elapsed() < ATTACK {
                peak = peak.max(resident(&envoy)?);
                std::thread::sleep(Duration::from_millis(20));
                if began.elapsed() > Duration::from_secs(2) * u32::try_from(good.len() + 1)? {
                    let run = scene.pipeline(u32::try_from(good.len() + 1)?);
                    let envoy = &envoy;
                    let passed = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed);
                    scene.execution(passed);
                    good.push(scope.spawn(move || (in_time(&run, envoy.address()), run)));
                }
            }
            anyhow::Ok(())
        })();
        for check in good {
            let (answered, run) = check.join().ok().context("a panic")?;
            answered?;
            runs.push(run);
        }
        stop.store(true, Ordering::Relaxed);
        watched
    })?;
    for run in &runs {
        assert_eq!(scene.decision(run, SOON)?.result(), "succeeded");
    }
    ensure!(runs.len() >= 8, "{} checks", runs.len());
    ensure!(peak < limit, "{} of {} MiB", peak / MIB, limit / MIB);
    envoy.stop()
}

fn in_time(run: &Pipeline, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let answer = run.check("shop-e2e").send(address)?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    ensure!(began.elapsed() < PATIENCE, "after {:?}", began.elapsed());
    Ok(())
}

/// How many connections an attacker holds.
const CONNECTIONS: usize = 200;

/// As large as the shipped listener lets a body become.
fn http_1(address: SocketAddr, stop: &AtomicBool) {
    const BODY: usize = 131_072;
    let head = Request::post("/testrelay/v1/events").bearer(BEARER).body(vec![b'x'; BODY]).head();
    let bytes = [head, vec![b'x'; BODY - 1]].concat();
    let mut held: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        held.retain_mut(is_open);
        if held.len() >= CONNECTIONS {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { continue };
        let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
        if stream.write_all(&bytes).is_ok() {
            held.push(stream);
        }
    }
}

/// Whether Envoy has neither answered nor closed.
fn is_open(stream: &mut TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    matches!(stream.read(&mut [0; 1024]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A hundred streams on each connection, each as large as the window of a stream lets it become.
fn http_2(address: SocketAddr, stop: &AtomicBool) {
    let mut held = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        if held.len() >= CONNECTIONS {
            held.pop_front();
        }
        if let Ok(connection) = http2::fill(address, 100, 65_000) {
            held.push_back(connection);
        }
    }
}

/// The part of HTTP/2 that is needed to send bodies that never end.
mod http2 {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    const END_HEADERS: u8 = 4;
    const ACK: u8 = 1;

    /// A connection with a number of streams, each with this many bytes of a body, or fewer if Envoy accepts no more.
    pub(super) fn fill(address: SocketAddr, streams: u32, bytes: usize) -> Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.write_all(PREFACE)?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        let mut window = 65_535_usize;
        for stream_id in (0..streams).map(|n| 2 * n + 1) {
            stream.write_all(&frame(HEADERS, END_HEADERS, stream_id, &headers()))?;
            let mut left = bytes;
            while left > 0 {
                let now = left.min(16_384).min(window);
                if now == 0 {
                    window += more(&mut stream)?;
                    continue;
                }
                stream.write_all(&frame(DATA, 0, stream_id, &vec![b'x'; now]))?;
                left -= now;
                window -= now;
            }
        }
        Ok(stream)
    }

    /// Literal fields, never indexed.
    fn headers() -> Vec<u8> {
        let bearer = format!("Bearer {BEARER}");
        let fields = [
            (":method", "POST"),
            (":path", "/testrelay/v1/events"),
            (":scheme", "http"),
            (":authority", "testrelay.example"),
            ("authorization", &bearer),
            ("content-type", "application/json"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0x10);
            for text in [name, value] {
                // Lengths below 127 take one byte.
                block.push(u8::try_from(text.len()).unwrap_or_default());
                block.extend(text.as_bytes());
            }
        }
        block
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Reads frames until the connection's window grows: by how much.
    fn more(stream: &mut TcpStream) -> Result<usize> {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length)?];
            stream.read_exact(&mut payload)?;
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
                (WINDOW_UPDATE, _) if id == 0 => {
                    let by = payload.first_chunk().map(|by| u32::from_be_bytes(*by));
                    return Ok(usize::try_from(by.unwrap_or_default())?);
                }
                _ => {}
            }
        }
    }
}
