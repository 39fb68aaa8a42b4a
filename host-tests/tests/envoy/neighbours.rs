//! Another module in the same Envoy: what it can read of Testrelay's depends on its `vm_id`.

use anyhow::{Context, Result};
use host_tests::scene::Scene;
use host_tests::{Envoy, config, wait_until};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Five times a second it reads every bucket of checks and logs what is in it.
const CURIOUS: &str = r#"
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $heap (mut i32) (i32.const 65536))
  (data (i32.const 1024) "testrelay/1/testrelay/checks/000")
  (data (i32.const 2048) "has looked everywhere")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $n i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $n))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 200)))
    (i32.const 1))
  (func $digit (param $at i32) (param $n i32)
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10)))))
  (func (export "proxy_on_tick") (param i32) (local $n i32)
    (global.set $heap (i32.const 65536))
    (loop $more
      (call $digit (i32.const 1053) (i32.div_u (local.get $n) (i32.const 100)))
      (call $digit (i32.const 1054) (i32.div_u (local.get $n) (i32.const 10)))
      (call $digit (i32.const 1055) (local.get $n))
      (if (i32.eqz (call $get (i32.const 1024) (i32.const 32) (i32.const 700) (i32.const 704) (i32.const 708)))
        (then (drop (call $log (i32.const 2) (i32.load (i32.const 700)) (i32.load (i32.const 704))))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $n) (i32.const 256))))
    (drop (call $log (i32.const 2) (i32.const 2048) (i32.const 21)))))
"#;

/// The curious module's log while a check is pending, and that check's token.
fn log_beside_a_pending_check(file: &Path, vm_id: &str) -> Result<(String, String)> {
    let filter = json!({
        "name": "envoy.filters.http.wasm.curious",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "curious",
                "root_id": "curious",
                "vm_config": {
                    "vm_id": vm_id,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": file } },
                },
            },
        },
    });
    let scene = Scene::new()?;
    let setup = scene.setup()?.concurrency(1).edit(move |bootstrap| {
        let manager = config::connection_manager(config::listener(bootstrap)?)?;
        config::list(manager, "/http_filters")?.insert(0, filter.clone());
        Ok(())
    });
    let envoy = Envoy::start(&setup)?;
    let run = scene.pipeline(1);
    let answer = run.check("shop-e2e").send(envoy.address())?;
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let looks = || envoy.log().matches("has looked everywhere").count();
    let before = looks();
    wait_until("the curious module to look", SOON, || looks() > before + 4)?;
    let log = envoy.log();
    envoy.stop()?;
    Ok((log, run.spec.token))
}

#[test]
fn a_module_with_the_same_vm_id_reads_tokens_and_one_with_another_reads_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("curious.wasm");
    std::fs::write(&file, wat::parse_str(CURIOUS).context("the module's text")?)?;
    // With the shipped `vm_id` it reads them; otherwise the next assertion would prove nothing.
    let (log, token) = log_beside_a_pending_check(&file, "testrelay")?;
    assert!(log.contains(&token), "the token is not in shared data any more: then the page is wrong");
    for other in ["", "curious"] {
        let (log, _) = log_beside_a_pending_check(&file, other)?;
        let said = log.lines().filter_map(|line| line.split_once("wasm log curious: "));
        for (_, said) in said {
            assert_eq!(said, "has looked everywhere", "vm_id {other:?}");
        }
    }
    Ok(())
}
