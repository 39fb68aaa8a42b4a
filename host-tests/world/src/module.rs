//! The module's code: compiled once per process. A VM is a fresh store on it (36–91 µs), so tests run in parallel.

use crate::host::{self, Host};
use anyhow::{Context, Result, anyhow};
use std::sync::LazyLock;
use wasmtime::{Config, Engine, InstancePre, Linker, Module};

/// Compiled code, linked with this host. An import that the host does not have is an error, as it is in Envoy
/// ("Failed to load Wasm module due to a missing import").
#[derive(Clone)]
pub struct Code {
    pub(crate) pre: InstancePre<Host>,
    /// Whether it counts fuel.
    pub(crate) counts: bool,
    /// What Envoy's VM key has of the code: its hash. Here a number.
    pub(crate) version: u32,
}

impl Code {
    /// The module that `TESTRELAY_WASM` names.
    ///
    /// # Errors
    /// The variable is not set, or what it names is no module that this host can run.
    pub fn testrelay() -> Result<Code> {
        static CODE: LazyLock<Result<Code, String>> = LazyLock::new(|| {
            testrelay().and_then(|bytes| Code::compile(&bytes)).map_err(|e| format!("{e:#}"))
        });
        CODE.clone().map_err(|e| anyhow!("{e}"))
    }

    /// The same without fuel counters, which make a history a fifth slower. Nothing stops an endless loop. A VM that must
    /// trap at a given instruction moves to code with counters.
    ///
    /// # Errors
    /// As of [`Code::testrelay`].
    pub(crate) fn testrelay_uncounted() -> Result<Code> {
        static CODE: LazyLock<Result<InstancePre<Host>, String>> = LazyLock::new(|| {
            testrelay().and_then(|bytes| linked(&QUICK, &bytes)).map_err(|e| format!("{e:#}"))
        });
        let pre = CODE.clone().map_err(|e| anyhow!("{e}"))?;
        Ok(Code { pre, counts: false, version: 0 })
    }

    /// Any module.
    ///
    /// # Errors
    /// It is none, or it imports what this host does not have.
    pub fn compile(bytes: &[u8]) -> Result<Code> {
        Ok(Code { pre: linked(&COUNTING, bytes)?, counts: true, version: 0 })
    }

    /// The same code under another VM key, as after an upgrade of the module.
    pub fn version(mut self, version: u32) -> Code {
        self.version = version;
        self
    }
}

fn testrelay() -> Result<Vec<u8>> {
    let path = std::env::var_os("TESTRELAY_WASM").filter(|value| !value.is_empty());
    let path = path.context("TESTRELAY_WASM is not set: run the tests with `cargo xtask test`")?;
    std::fs::read(&path).with_context(|| format!("TESTRELAY_WASM names {}", path.to_string_lossy()))
}

fn linked(engine: &Engine, bytes: &[u8]) -> Result<InstancePre<Host>> {
    let module = Module::new(engine, bytes).map_err(|e| anyhow!("{e:#}"))?;
    let mut linker = Linker::new(engine);
    host::link(&mut linker).map_err(|e| anyhow!("{e:#}"))?;
    linker.instantiate_pre(&module).map_err(|e| anyhow!("{e:#}"))
}

static COUNTING: LazyLock<Engine> = LazyLock::new(|| engine(true));
static QUICK: LazyLock<Engine> = LazyLock::new(|| engine(false));

fn engine(counts_fuel: bool) -> Engine {
    let mut config = Config::new();
    config.consume_fuel(counts_fuel);
    // The setting exists in the build of wasmtime that this crate asks for.
    Engine::new(&config).unwrap_or_default()
}
