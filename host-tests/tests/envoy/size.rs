//! What is released: its size, what it asks of its host, and that it has nothing that only tests want.

use anyhow::Result;
use host_tests::{Envoy, Request, Setup, env};
use wasmparser::{Parser, Payload};

/// A module travels to every Envoy, through Istio's agent and its limits, and is compiled there on each start.
const MOST_BYTES: usize = 1 << 20;

/// What Envoy's WASI offers and the module may use. A module that imports anything else does not load.
const WASI: [&str; 6] =
    ["clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "proc_exit", "random_get"];

#[test]
fn the_released_module_is_at_most_one_mebibyte() -> Result<()> {
    let size = std::fs::metadata(env::module()?)?.len();
    assert!(size <= MOST_BYTES as u64, "{size} bytes");
    Ok(())
}

#[test]
fn the_released_module_asks_nothing_of_its_host_that_envoy_does_not_offer() -> Result<()> {
    let module = std::fs::read(env::module()?)?;
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(&module) {
        if let Payload::ImportSection(section) = payload? {
            for import in section.into_imports() {
                let import = import?;
                imports.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
    }
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
