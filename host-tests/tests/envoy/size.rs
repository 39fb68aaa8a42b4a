//! The released module: its size, its imports, and that it has no test hooks.

use anyhow::{Context, Result};
use host_tests::manifests::Form;
use host_tests::{Envoy, Request, Setup, env};
use serde_json::Value;
use std::collections::BTreeSet;
use wasmparser::{Parser, Payload};

const HOST: &str = include_str!("../../../plugin/src/host.rs");
const ROOT: &str = include_str!("../../../plugin/src/root.rs");
const STREAM: &str = include_str!("../../../plugin/src/stream.rs");
const ENVOY_FILTER: &str = include_str!("../../../envoy/istio/envoyfilter.yaml");

/// Every Envoy downloads the module, through Istio's agent and its limits, and compiles it at each start.
/// 1.3 MiB.
const MAX_BYTES: usize = (13 << 20) / 10;

/// What Envoy's WASI offers and the module may use. A module that imports anything else does not load.
const WASI: [&str; 6] =
    ["clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "proc_exit", "random_get"];

#[test]
fn the_released_module_is_no_larger_than_its_bound() -> Result<()> {
    let size = std::fs::metadata(env::module()?)?.len();
    assert!(size <= MAX_BYTES as u64, "{size} bytes");
    Ok(())
}

#[test]
fn the_released_module_asks_nothing_of_its_host_that_envoy_does_not_offer() -> Result<()> {
    let Interface { imports, .. } = interface(&std::fs::read(env::module()?)?)?;
    assert!(!imports.is_empty());
    let offered = |module: &str, name: &str| match module {
        "env" => name.starts_with("proxy_"),
        "wasi_snapshot_preview1" => WASI.contains(&name),
        _ => false,
    };
    let foreign: Vec<_> = imports.iter().filter(|(module, name)| !offered(module, name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    Ok(())
}

/// Of what the module imports, the SDK has the rest, in wrappers that it never calls; likewise with the callbacks.
#[test]
fn the_envoy_filters_list_of_capabilities_is_what_the_module_uses() -> Result<()> {
    const OF_THE_SDK: [&str; 2] = ["proxy_http_call", "proxy_set_effective_context"];
    let Form::Filter(config) = crate::istio::only(ENVOY_FILTER)?.form else { anyhow::bail!("no filter") };
    let list = config.pointer("/capability_restriction_config/allowed_capabilities");
    let list = list.and_then(Value::as_object).context("no list")?;
    let (callbacks, calls): (BTreeSet<&str>, _) =
        list.keys().map(String::as_str).partition(|name| name.starts_with("proxy_on_"));
    let own = HOST.lines().filter_map(|line| line.trim().strip_prefix("fn proxy_")?.split_once('('));
    let own: Vec<String> = own.map(|(name, _)| format!("proxy_{name}")).collect();
    let used = own.iter().map(String::as_str).chain(OF_THE_SDK).chain(WASI);
    assert_eq!(calls, used.collect());
    let Interface { imports, exports } = interface(&std::fs::read(env::module()?)?)?;
    assert!(calls.iter().all(|call| imports.iter().any(|(_, name)| name == call)), "{imports:?}");
    assert!(callbacks.iter().all(|callback| exports.iter().any(|name| name == callback)), "{exports:?}");
    let own = [ROOT, STREAM].into_iter().flat_map(str::lines).filter_map(|line| {
        let name = line.trim().strip_prefix("fn on_")?.split_once('(')?.0;
        let of_a_stream = name.strip_prefix("http_").filter(|_| name != "http_call_response");
        Some(format!("proxy_on_{}", of_a_stream.unwrap_or(name)))
    });
    let own: BTreeSet<String> =
        own.chain(["proxy_on_context_create", "proxy_on_delete"].map(Into::into)).collect();
    assert_eq!(callbacks, own.iter().map(String::as_str).collect());
    Ok(())
}

#[test]
fn the_released_module_has_no_test_hook() -> Result<()> {
    const SAID_BY_A_TEST_BUILD: &[u8] = b"a test build, without redaction";
    let holds =
        |module: &[u8]| module.windows(SAID_BY_A_TEST_BUILD.len()).any(|at| at == SAID_BY_A_TEST_BUILD);
    assert!(holds(&std::fs::read(env::module_with_test_hooks()?)?));
    assert!(!holds(&std::fs::read(env::module()?)?));
    let envoy = Envoy::start(&Setup::new()?.concurrency(1))?;
    assert_eq!(Request::get("/test-hooks/trap").send(envoy.address())?.status, 404);
    envoy.stop()
}

/// What a module and its host are to each other.
#[derive(Default)]
struct Interface {
    /// Module and name.
    imports: Vec<(String, String)>,
    exports: Vec<String>,
}

fn interface(module: &[u8]) -> Result<Interface> {
    let mut interface = Interface::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    interface.imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    interface.exports.push(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(interface)
}
