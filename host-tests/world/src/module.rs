//! The module's code: compiled once per process. A VM is a fresh store on it (36–91 µs), so tests run in parallel.

use crate::host::{self, Host};
use anyhow::{Context, Result, anyhow};
use std::sync::{Arc, LazyLock};
use wasmtime::{Config, Engine, InstancePre, Linker, Module};

/// Compiled code, linked with this host. An import that the host does not have is an error, as it is in Envoy
/// ("Failed to load Wasm module due to a missing import").
#[derive(Clone)]
pub struct Code {
    pub(crate) pre: InstancePre<Host>,
    /// What Envoy's VM key has of the code: its hash. Here a number.
    pub(crate) version: u32,
}

impl Code {
    /// The module that `TESTRELAY_WASM` names.
    ///
    /// # Errors
    /// The variable is not set, or what it names is no module that this host can run.
    pub fn testrelay() -> Result<Code> {
        static CODE: LazyLock<Result<Arc<Code>, String>> = LazyLock::new(|| {
            let load = || -> Result<Code> {
                let path = std::env::var_os("TESTRELAY_WASM").filter(|value| !value.is_empty());
                let path =
                    path.context("TESTRELAY_WASM is not set: run the tests with `cargo xtask test`")?;
                let bytes = std::fs::read(&path)
                    .with_context(|| format!("TESTRELAY_WASM names {}", path.to_string_lossy()))?;
                Code::compile(&bytes)
            };
            load().map(Arc::new).map_err(|e| format!("{e:#}"))
        });
        CODE.as_ref().map(|code| code.as_ref().clone()).map_err(|e| anyhow!("{e}"))
    }

    /// Any module.
    ///
    /// # Errors
    /// It is none, or it imports what this host does not have.
    pub fn compile(bytes: &[u8]) -> Result<Code> {
        let module = Module::new(&ENGINE, bytes).map_err(|e| anyhow!("{e:#}"))?;
        let mut linker = Linker::new(&ENGINE);
        host::link(&mut linker).map_err(|e| anyhow!("{e:#}"))?;
        let pre = linker.instantiate_pre(&module).map_err(|e| anyhow!("{e:#}"))?;
        Ok(Code { pre, version: 0 })
    }

    /// The same code under another VM key, as after an upgrade of the module.
    pub fn version(mut self, version: u32) -> Code {
        self.version = version;
        self
    }
}

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.consume_fuel(true);
    // Every setting above exists in the build of wasmtime that this crate asks for.
    Engine::new(&config).unwrap_or_default()
});
