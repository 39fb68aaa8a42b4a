//! A real Chromium, driven over chromedriver's WebDriver protocol (https://www.w3.org/TR/webdriver2/).
//!
//! `cargo xtask test envoy` names the programs by variables. Where there are none, [`Browser::start`] says so and gives
//! none; where `TESTRELAY_BROWSER_REQUIRED` is set, that is an error: a page that nobody looked at must not look tested.

use crate::client::{Connection, Request};
use crate::process::Process;
use crate::wait_for;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// chromedriver: `TESTRELAY_CHROMEDRIVER`.
pub const CHROMEDRIVER: &str = "TESTRELAY_CHROMEDRIVER";
/// Chromium: `TESTRELAY_CHROMIUM`.
pub const CHROMIUM: &str = "TESTRELAY_CHROMIUM";
/// axe-core's `axe.min.js`: `TESTRELAY_AXE`.
pub const AXE: &str = "TESTRELAY_AXE";
/// If it is set, a test without a browser fails: `.ci/run` sets it once it has one.
const REQUIRED: &str = "TESTRELAY_BROWSER_REQUIRED";

/// A start on a busy machine takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Notes, before a page's own script runs, each thing that its policy forbids.
const WATCH: &str = "window.refused = []; addEventListener('securitypolicyviolation', (event) => \
    window.refused.push(event.effectiveDirective + ' ' + event.blockedURI + ' ' + event.sample));";

/// A browser with one window. Dropping it ends Chromium and chromedriver.
#[derive(Debug)]
pub struct Browser {
    // Ends before its folder goes.
    driver: Driver,
    session: String,
    axe: String,
    _folder: TempDir,
}

#[derive(Debug)]
struct Driver {
    _process: Process,
    address: SocketAddr,
}

/// A size of the window, and the colours that the user has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// Whether the user wants dark pages.
    pub dark: bool,
}

impl Browser {
    /// Starts one; `None`, and a line that says why, where there is none.
    ///
    /// # Errors
    /// It does not start; or there is none, and `TESTRELAY_BROWSER_REQUIRED` is set.
    pub fn start() -> Result<Option<Browser>> {
        let programs = [CHROMEDRIVER, CHROMIUM, AXE].map(variable);
        let [Some(driver), Some(chromium), Some(axe)] = programs else {
            let why = "no browser: `cargo xtask test envoy` names one where chromium, chromedriver and axe-core can be had";
            ensure!(std::env::var_os(REQUIRED).is_none(), "{why}");
            eprintln!("skipped: {why}");
            return Ok(None);
        };
        let axe = std::fs::read_to_string(&axe).with_context(|| AXE.to_owned())?;
        let folder = TempDir::with_prefix("testrelay-browser-")?;
        let driver = Driver::start(&driver, folder.path())?;
        let profile = folder.path().join("profile");
        let arguments = json!([
            "--headless=new",
            // Containers have no namespaces for a sandbox, and all pages are the test's own.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            // Letters in shades of one colour: screenshots are smaller.
            "--disable-lcd-text",
            "--lang=en-GB",
            // Chromium ends with chromedriver, however that ends.
            "--remote-debugging-pipe",
            format!("--user-data-dir={}", profile.display()),
        ]);
        let wanted = json!({
            "goog:chromeOptions": {"binary": chromium.to_string_lossy(), "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let made = driver.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}))?;
        let session = made["sessionId"].as_str().context("chromedriver names no session")?.to_owned();
        let browser = Browser { driver, session, axe, _folder: folder };
        browser.chrome("Page.addScriptToEvaluateOnNewDocument", &json!({"source": WATCH}))?;
        Ok(Some(browser))
    }

    /// Goes to an address and waits until it is loaded.
    pub fn open(&self, address: &str) -> Result<()> {
        self.post("/url", &json!({"url": address})).map(drop)
    }

    /// Runs the body of a function; what it returns. A promise is waited for.
    pub fn run(&self, body: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// What an expression is, as text.
    pub fn text(&self, expression: &str) -> Result<String> {
        let found = self.run(&format!("return String({expression})"))?;
        Ok(found.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true.
    pub fn wait_until(&self, expression: &str) -> Result<()> {
        let holds = || self.text(expression).is_ok_and(|found| found == "true");
        crate::wait_until(expression, PATIENCE, holds)
    }

    /// Shows pages in this size and these colours.
    pub fn view(&self, view: View) -> Result<()> {
        let View { width, height, dark } = view;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.chrome("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.chrome("Emulation.setEmulatedMedia", &media).map(drop)
    }

    /// Switches scripts of pages on or off, from the next page on.
    pub fn scripts(&self, on: bool) -> Result<()> {
        self.chrome("Emulation.setScriptExecutionDisabled", &json!({"value": !on})).map(drop)
    }

    /// Presses a key: a character, or one of WebDriver's, such as `\u{e004}` for the tabulator.
    pub fn press(&self, key: &str) -> Result<()> {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let keyboard = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.post("/actions", &keyboard).map(drop)
    }

    /// What is visible, as a PNG.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        let shot = self.driver.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null)?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(shot.as_str().unwrap_or_default());
        decoded.map_err(|error| anyhow::anyhow!("chromedriver's screenshot is not base64: {error}"))
    }

    /// What this page's policy has refused, and what the browser has complained about since the last call.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let refused = self.run("return window.refused")?;
        let log = self.post("/se/log", &json!({"type": "browser"}))?;
        let refused = refused.as_array().into_iter().flatten().map(|one| format!("policy: {one}"));
        let entries = log.as_array().into_iter().flatten();
        Ok(refused.chain(entries.map(|entry| format!("{}: {}", entry["level"], entry["message"]))).collect())
    }

    /// What axe-core finds wrong with the page: the rule, the element and what to do.
    pub fn accessibility(&self) -> Result<Vec<String>> {
        // Nothing is fetched: the style sheet is in the page.
        let run = "return axe.run(document, {preload: false}).then((found) => found.violations.flatMap((rule) => \
            rule.nodes.map((node) => rule.id + ': ' + node.html + ' ' + node.failureSummary)))";
        let found = self.run(&format!("{}\n{run}", self.axe))?;
        let found = found.as_array().context("axe-core answers no list")?;
        Ok(found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect())
    }

    /// A command of Chrome's DevTools protocol.
    fn chrome(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.driver.ask("POST", &format!("/session/{}{path}", self.session), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends by itself; otherwise with chromedriver.
        let _ = self.driver.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

impl Driver {
    fn start(program: &OsString, folder: &Path) -> Result<Driver> {
        let said = folder.join("chromedriver");
        let mut command = Command::new(program);
        command.arg("--port=0").env("HOME", folder).current_dir(folder);
        command.stdin(Stdio::null()).stdout(File::create(&said)?).stderr(Stdio::null());
        let mut process = Process::spawn(command)?;
        let port = wait_for("chromedriver's port", PATIENCE, || {
            if let Ok(Some(status)) = process.exited() {
                return Some(Err(anyhow::anyhow!("chromedriver ended at once with {status}")));
            }
            let text = std::fs::read_to_string(&said).ok()?;
            let (_, port) = text.split_once("started successfully on port ")?;
            Some(port.split_once('.')?.0.parse().context("chromedriver's port"))
        })??;
        Ok(Driver { _process: process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }

    /// A command of the protocol; its value.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        // It refuses a name that is not its host's.
        let mut request = Request::new(method, path).header("Host", self.address.to_string());
        if method == "POST" {
            request = request.json(body);
        }
        let answer = Connection::open(self.address)?.timeout(PATIENCE)?.send(&request)?;
        let text = answer.text();
        let mut answered: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        if answer.status != 200 {
            bail!("{method} {path}: {}", answered["value"]["message"].as_str().unwrap_or(&text));
        }
        Ok(answered["value"].take())
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
