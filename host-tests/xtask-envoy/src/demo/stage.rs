//! The stage: both fakes and an Envoy with the configuration that users copy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host_tests::{Envoy, Scene, Setup};

use super::{Interrupt, Programs};

/// How often the records are looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// So many lines of Envoy's log explain a failure.
const LAST_LINES: usize = 12;

/// What runs during a demo. All of it ends with it.
pub(super) struct Stage<'a> {
    // Envoy must end before the servers that it talks to.
    envoy: Envoy,
    pub(super) scene: Scene,
    interrupt: &'a Interrupt,
}

impl<'a> Stage<'a> {
    /// Starts the fakes and Envoy on free ports of this machine.
    pub(super) fn set(programs: &Programs, interrupt: &'a Interrupt) -> Result<Stage<'a>> {
        let scene = Scene::new().context("the fakes cannot be started")?;
        let setup = scene.wire(Setup::with_module(&programs.wasm).envoy(&programs.envoy));
        let envoy = Envoy::start(&setup).context("Envoy cannot be started")?;
        Ok(Stage { envoy, scene, interrupt })
    }

    pub(super) fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// The end of what Envoy and the module have logged.
    pub(super) fn last_words(&self) -> String {
        let log = self.envoy.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
    }

    /// Looks again and again until `look` finds something; its errors, a signal, and the end of the time end the wait.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let end = Instant::now() + patience;
        loop {
            self.interrupt.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= end {
                bail!("waited {} s in vain for {what}", patience.as_secs());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Calls `look` again and again until a signal comes, which is the error.
    pub(super) fn watch(&self, mut look: impl FnMut() -> Result<()>) -> Result<()> {
        loop {
            self.interrupt.check()?;
            look()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops everything; an error if Envoy had not lived until now.
    pub(super) fn strike(self) -> Result<()> {
        self.envoy.stop()
    }
}
