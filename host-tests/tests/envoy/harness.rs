//! The harness itself: Envoy starts with the shipped configuration, shows its state, and ends.

use anyhow::Result;
use host_tests::{Connection, Envoy, Reload, Request, Setup, config, validate, wait_for, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
const DOWNLOAD: &str = "/v1/test-workflow-executions/66a/artifacts/a%2Fb%252Fc//..;d";

/// A module that forwards everything and refuses the configuration `{}`.
const MODULE: &str = r#"
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "an empty configuration")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32)
    (if (i32.eq (local.get $size) (i32.const 2))
      (then (drop (call $log (i32.const 4) (i32.const 1024) (i32.const 22)))))
    (i32.ne (local.get $size) (i32.const 2))))
"#;

/// A server that answers every request with 200 and passes on its target.
fn upstream() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || answer(stream.unwrap(), |head| drop(sender.send(head))));
        }
    });
    (address, receiver)
}

fn answer(mut stream: TcpStream, mut seen: impl FnMut(String)) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            seen(String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfile");
        }
    }
}

fn module(directory: &TempDir) -> Result<PathBuf> {
    let file = directory.path().join("module.wasm");
    std::fs::write(&file, wat::parse_str(MODULE)?)?;
    Ok(file)
}

/// False too for a process that has ended and that nobody has waited for.
fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[test]
fn a_download_reaches_testkube_byte_for_byte_and_the_log_holds_no_query() -> Result<()> {
    let (testkube, seen) = upstream();
    let envoy = Envoy::start(&Setup::without_filter().testkube(testkube))?;
    let mut connection = Connection::open(envoy.address())?;
    for _ in 0..2 {
        let request = Request::get(format!("{DOWNLOAD}?secret=1")).bearer("never-logged");
        let response = connection.send(&request)?;
        assert_eq!((response.status, response.text().as_str()), (200, "file"));
        assert_eq!(response.header("server"), Some("testrelay"));
        let head = seen.recv_timeout(SOON)?;
        assert!(head.starts_with(&format!("GET {DOWNLOAD}?secret=1 HTTP/1.1\r\n")), "{head}");
    }
    let lines = wait_for("two lines of the access log", SOON, || {
        let log = envoy.access_log();
        (log.lines().count() == 2).then_some(log)
    })?;
    let line: Value = serde_json::from_str(lines.lines().next().unwrap_or_default())?;
    assert_eq!(line["path"], DOWNLOAD);
    assert_eq!((&line["status"], &line["route"]), (&json!(200), &json!("artifacts")));
    assert!(!lines.contains("secret") && !lines.contains("never-logged"), "{lines}");
    assert_eq!(envoy.stat("cluster.testkube-artifacts.upstream_rq_200")?, 2);
    envoy.stop()
}

#[test]
fn what_has_no_route_never_reaches_testkube() -> Result<()> {
    let (testkube, seen) = upstream();
    let setup = Setup::without_filter().testkube(testkube);
    let envoy = Envoy::start(&setup)?;
    for path in
        ["/", "/v1/test-workflows", "/v1/test-workflow-executions/66a", "/v1/test-workflow-executions//logs"]
    {
        assert_eq!(Request::get(path).send(envoy.address())?.status, 404, "{path}");
    }
    assert!(seen.try_recv().is_err());
    let envoy = Envoy::start(&setup.route_everything())?;
    assert_eq!(Request::get("/v1/test-workflows").send(envoy.address())?.status, 200);
    Ok(())
}

#[test]
fn a_cluster_without_an_address_refuses_connections() -> Result<()> {
    let envoy = Envoy::start(&Setup::without_filter())?;
    let response = Request::get(DOWNLOAD).send(envoy.address())?;
    assert_eq!(response.status, 503);
    assert!(response.text().contains("connection failure"), "{}", response.text());
    Ok(())
}

#[test]
fn no_process_is_left_by_stop_or_drop() -> Result<()> {
    let setup = Setup::without_filter();
    let envoy = Envoy::start(&setup)?;
    let pid = envoy.pid();
    assert!(runs(pid));
    envoy.stop()?;
    assert!(!runs(pid));
    let envoy = Envoy::start(&setup)?;
    let pid = envoy.pid();
    drop(envoy);
    assert!(!runs(pid));
    Ok(())
}

#[test]
fn an_envoy_ends_with_a_test_program_that_is_killed() -> Result<()> {
    const NAME: &str = "harness::an_envoy_ends_with_a_test_program_that_is_killed";
    const INNER: &str = "TESTRELAY_HARNESS_INNER";
    if let Some(pid_file) = std::env::var_os(INNER) {
        let envoy = Envoy::start(&Setup::without_filter())?;
        std::fs::write(pid_file, envoy.pid().to_string())?;
        std::thread::sleep(SOON * 2);
        return Ok(());
    }
    let directory = TempDir::new()?;
    let pid_file = directory.path().join("pid");
    let mut program = Command::new(std::env::current_exe()?)
        .args(["--exact", NAME])
        .env(INNER, &pid_file)
        // The program that is killed cannot clean up: its directory is to be within this one.
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .spawn()?;
    let pid = wait_for("the inner program's Envoy", SOON, || {
        std::fs::read_to_string(&pid_file).ok().and_then(|pid| pid.parse().ok())
    });
    program.kill()?;
    program.wait()?;
    let pid = pid?;
    wait_until("the end of the Envoy", SOON, || !runs(pid))
}

#[test]
fn a_download_may_be_silent_for_longer_than_other_requests() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let setup = Setup::without_filter().testkube(silent.local_addr()?).route_everything().edit(|bootstrap| {
        let listener = config::listener(bootstrap)?;
        config::connection_manager(listener)?["stream_idle_timeout"] = json!("1s");
        // A route without a time of its own has the listener's.
        let everything = &mut config::route(listener, "everything")?["route"];
        everything.as_object_mut().and_then(|route| route.remove("idle_timeout"));
        Ok(())
    });
    let envoy = Envoy::start(&setup)?;
    let mut download = Connection::open(envoy.address())?;
    download.send_only(&Request::get(DOWNLOAD))?;
    assert_eq!(Request::get("/other").send(envoy.address())?.status, 504);
    // Sent first, and still waiting.
    let waiting = download.timeout(Duration::from_millis(1500))?.receive("GET").unwrap_err();
    let kind = waiting.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::WouldBlock), "{waiting:#}");
    envoy.stop()
}

#[test]
fn an_envoy_outlives_the_thread_that_started_it() -> Result<()> {
    let started = std::thread::spawn(|| Envoy::start(&Setup::without_filter()));
    let envoy = started.join().unwrap()?;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(envoy.admin_get("/ready")?, "LIVE\n");
    envoy.stop()
}

#[test]
fn two_envoys_run_side_by_side() -> Result<()> {
    let (one, two) = (Envoy::start(&Setup::without_filter())?, Envoy::start(&Setup::without_filter())?);
    assert_ne!(one.address(), two.address());
    one.stop()?;
    two.stop()
}

#[test]
fn validation_says_yes_and_no() -> Result<()> {
    let setup = Setup::without_filter();
    let yes = validate(&setup)?;
    assert!(yes.accepted, "{}", yes.text);
    assert!(!yes.text.contains("deprecated"), "{}", yes.text);
    let no = validate(&setup.edit_cluster("testkube", |cluster| cluster["no_such_field"] = json!(1)))?;
    assert!(!no.accepted);
    assert!(no.text.contains("no_such_field"), "{}", no.text);
    Ok(())
}

#[test]
fn a_refused_start_says_why() -> Result<()> {
    let directory = TempDir::new()?;
    let setup = Setup::with_module(&module(&directory)?).plugin_text("{}");
    for setup in [setup.clone(), setup.dynamic_listener()] {
        let error = format!("{:#}", Envoy::start(&setup).unwrap_err());
        assert!(error.contains("an empty configuration"), "{error}");
    }
    Ok(())
}

#[test]
fn a_module_is_loaded_by_the_shipped_configuration() -> Result<()> {
    let directory = TempDir::new()?;
    let (testkube, _seen) = upstream();
    let setup =
        Setup::with_module(&module(&directory)?).testkube(testkube).environment("TESTKUBE_TOKEN", "x");
    let checked = validate(&setup)?;
    assert!(checked.accepted, "{}", checked.text);
    assert!(!checked.text.contains("deprecated"), "{}", checked.text);
    for setup in [setup.clone(), setup.without_headers_stop_iteration().plain_azure_devops().concurrency(1)] {
        let envoy = Envoy::start(&setup)?;
        assert_eq!(Request::get(DOWNLOAD).send(envoy.address())?.status, 200);
        envoy.stop()?;
    }
    Ok(())
}

#[test]
fn a_reload_is_accepted_or_refused_and_keeps_the_port() -> Result<()> {
    let directory = TempDir::new()?;
    let (testkube, _seen) = upstream();
    let setup = Setup::with_module(&module(&directory)?)
        .testkube(testkube)
        .drain_time(Duration::from_secs(1))
        .dynamic_listener();
    let mut envoy = Envoy::start(&setup)?;
    let address = envoy.address();
    let works = || Request::get(DOWNLOAD).send(address).map(|response| response.status);
    assert_eq!(works()?, 200);

    let first = envoy.plugin()?;
    assert_eq!(envoy.reload(&json!({ "tag": { "key": "other" } }))?, Reload::Accepted);
    assert_eq!(envoy.plugin()?, json!({ "tag": { "key": "other" } }));
    assert_eq!(works()?, 200);
    assert!(envoy.admin_get("/config_dump")?.contains(r#"{\"tag\":{\"key\":\"other\"}}"#));

    let Reload::Refused(why) = envoy.reload_text("{}")? else { panic!("{{}} was accepted") };
    assert!(why.contains("an empty configuration"), "{why}");
    assert_eq!(works()?, 200);

    assert_eq!(envoy.reload(&first)?, Reload::Accepted);
    assert_eq!(envoy.reload_listener(config::remove_wasm)?, Reload::Accepted);
    assert_eq!(works()?, 200);
    assert_eq!(envoy.address_of("testrelay")?, address);
    wait_until("the end of the modules that were replaced", SOON, || {
        envoy.stat("wasm.envoy.wasm.runtime.v8.active").is_ok_and(|active| active == 0)
    })?;
    envoy.stop()
}
