//! One running Envoy process.

use crate::client::{Request, Response};
use crate::process::Process;
use crate::reload::{self, DynamicListener};
use crate::{Setup, config, env, wait_for};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Two workers that compile a module on a busy machine take a few seconds.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
/// The number of lines of Envoy's log that an error shows.
const TAIL: usize = 40;

/// A running Envoy. Dropping it kills the process; it ends with the test program too, however that ends.
#[derive(Debug)]
pub struct Envoy {
    // The process must end before its directory goes.
    process: Process,
    directory: TempDir,
    admin: SocketAddr,
    address: SocketAddr,
    listener: Option<DynamicListener>,
}

impl Envoy {
    /// Starts Envoy and waits until it is live and listens. If Envoy refuses the configuration or ends, the error
    /// holds the end of its log.
    pub fn start(setup: &Setup) -> Result<Envoy> {
        let directory = TempDir::with_prefix("testrelay-envoy-")?;
        let path = directory.path();
        let (bootstrap, listener) = if setup.dynamic_listener {
            let (bootstrap, listener) = DynamicListener::split(setup, path)?;
            (bootstrap, Some(listener))
        } else {
            (setup.bootstrap(any_port())?, None)
        };
        let mut command = command(setup, path, &bootstrap)?;
        command.arg("--admin-address-path").arg(path.join("admin"));
        let mut process = Process::spawn(command)?;
        let (admin, address) = match live(&mut process, path) {
            Ok(addresses) => addresses,
            Err(error) => bail!("{error:#}; the end of its log:\n{}", tail(&log(path))),
        };
        Ok(Envoy { process, directory, admin, address, listener })
    }

    /// Where the listener `testrelay` listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin page is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where another listener listens, one that the test has added.
    pub fn address_of(&self, listener: &str) -> Result<SocketAddr> {
        listening(self.admin, listener)?.with_context(|| format!("Envoy has no listener {listener:?}"))
    }

    /// Everything that Envoy and the module have logged.
    pub fn log(&self) -> String {
        log(self.directory.path())
    }

    /// The access log so far: one JSON object a line. It is written ten times a second.
    pub fn access_log(&self) -> String {
        read(&self.directory.path().join("stdout"))
    }

    /// GET of an admin page, which must answer 200.
    pub fn admin_get(&self, path: &str) -> Result<String> {
        admin(self.admin, &Request::get(path))
    }

    /// POST to an admin page, which must answer 200.
    pub fn admin_post(&self, path: &str) -> Result<String> {
        admin(self.admin, &Request::post(path))
    }

    /// All counters and gauges.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>> {
        stats(self.admin)
    }

    /// One counter or gauge; 0 if Envoy does not (yet) have it.
    pub fn stat(&self, name: &str) -> Result<u64> {
        Ok(self.stats()?.get(name).copied().unwrap_or_default())
    }

    /// Asks Envoy to end and waits for it. It is an error if it had ended before, or crashed.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.process.exited()? {
            bail!("Envoy had ended before: {status}; the end of its log:\n{}", tail(&self.log()));
        }
        let status = self.process.terminate(STOP)?;
        ensure!(status.success(), "Envoy ended with {status}; the end of its log:\n{}", tail(&self.log()));
        Ok(())
    }

    pub(crate) fn dynamic_listener(&mut self) -> Result<&mut DynamicListener> {
        self.listener.as_mut().context("a reload needs Setup::dynamic_listener")
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // A failed test shows the log of Envoy and the module.
        if std::thread::panicking() {
            eprintln!("the end of Envoy's log:\n{}", tail(&self.log()));
        }
    }
}

/// What `envoy --mode validate` said.
#[derive(Debug, Clone)]
pub struct Validation {
    /// Envoy would start with this configuration.
    pub accepted: bool,
    /// Envoy's output, including the module's log lines.
    pub text: String,
}

/// Lets Envoy check a setup without serving: it loads the module and configures it, once.
pub fn validate(setup: &Setup) -> Result<Validation> {
    let directory = TempDir::with_prefix("testrelay-validate-")?;
    let mut command = command(setup, directory.path(), &setup.bootstrap(any_port())?)?;
    command.args(["--mode", "validate"]);
    let mut process = Process::spawn(command)?;
    let status = wait_for("the end of envoy --mode validate", START, || process.exited().transpose())??;
    let said = read(&directory.path().join("stdout"));
    Ok(Validation { accepted: status.success(), text: log(directory.path()) + &said })
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Envoy with a configuration, its output in files of `directory`, and nothing else of the test's environment.
fn command(setup: &Setup, directory: &Path, bootstrap: &Value) -> Result<Command> {
    let file = directory.join("envoy.json");
    std::fs::write(&file, serde_json::to_vec_pretty(bootstrap)?)?;
    let levels: Vec<String> =
        setup.log_levels.iter().map(|(component, level)| format!("{component}:{level}")).collect();
    let program = setup.envoy.clone().map_or_else(env::envoy, Ok)?;
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(&file)
        .args(["-l", "warning", "--component-log-level", &levels.join(",")])
        .args(["--concurrency", &setup.concurrency.to_string()])
        .args(["--file-flush-interval-msec", "100"])
        .args(&setup.arguments)
        .current_dir(directory)
        .env_clear()
        .envs(&setup.environment)
        .stdin(Stdio::null())
        .stdout(File::create(directory.join("stdout"))?)
        // Not --log-path: Envoy writes that file late, and not at all if it crashes.
        .stderr(File::create(directory.join("log"))?);
    // Lets several Envoys run on one host. --use-dynamic-base-id would too, but each would leave a file in /dev/shm.
    if !setup.arguments.iter().any(|argument| argument == "--base-id") {
        command.arg("--disable-hot-restart");
    }
    if let Some(time) = setup.drain_time {
        command.args(["--drain-time-s", &time.as_secs().to_string()]);
    }
    Ok(command)
}

/// Waits until Envoy serves: the addresses of its admin page and of its listener.
fn live(process: &mut Process, directory: &Path) -> Result<(SocketAddr, SocketAddr)> {
    let end = Instant::now() + START;
    loop {
        if let Some(status) = process.exited()? {
            bail!("Envoy ended at once with {status}");
        }
        if let Ok(admin) = read(&directory.join("admin")).trim().parse()
            && ask(admin, &Request::get("/ready")).is_ok_and(|response| response.status == 200)
        {
            if let Some(address) = listening(admin, "testrelay")? {
                return Ok((admin, address));
            }
            if reload::rejected(&stats(admin)?) > 0 {
                bail!("Envoy refused the listener");
            }
        }
        if Instant::now() > end {
            bail!("Envoy was not live after {START:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listening(admin_address: SocketAddr, name: &str) -> Result<Option<SocketAddr>> {
    let mut page: Value =
        serde_json::from_str(&admin(admin_address, &Request::get("/listeners?format=json"))?)?;
    if page.get("listener_statuses").is_none() {
        return Ok(None);
    }
    let Ok(listener) = config::named(&mut page, "/listener_statuses", name) else { return Ok(None) };
    let socket = &listener["local_address"]["socket_address"];
    let (Some(ip), Some(port)) = (socket["address"].as_str(), socket["port_value"].as_u64()) else {
        return Ok(None);
    };
    Ok(Some(SocketAddr::new(ip.parse()?, u16::try_from(port)?)))
}

fn admin(address: SocketAddr, request: &Request) -> Result<String> {
    let response = ask(address, request)?;
    ensure!(response.status == 200, "the admin page answered {}: {}", response.status, response.text());
    Ok(response.text())
}

fn ask(address: SocketAddr, request: &Request) -> Result<Response> {
    request.clone().header("Connection", "close").send(address)
}

/// Histograms and texts are left out: their values are not whole numbers.
fn stats(address: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let page = admin(address, &Request::get("/stats"))?;
    let numbers = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(numbers.collect())
}

fn log(directory: &Path) -> String {
    read(&directory.join("log"))
}

/// Empty while the file is not there.
fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
