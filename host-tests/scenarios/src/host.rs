//! What a host that plays stories must be able to do.

use crate::format::{By, Cluster, Credential, Outage};
use anyhow::{Result, ensure};
use fakes::{AzureDevOps, CheckSpec, Testkube};
use serde_json::Value;
use std::collections::BTreeMap;

/// An Envoy with the module in it, real or simulated, between the two fakes.
pub trait Host {
    /// A run whose stage waits for its check from now on. Its build began a minute ago.
    ///
    /// # Errors
    /// The host has failed.
    fn run(&mut self, number: u32) -> Result<Run>;

    /// A run's check waits again, with another token.
    ///
    /// # Errors
    /// There is no such run.
    fn another_token(&mut self, number: u32) -> Result<Run>;

    /// The value of an `Authorization` header; `None`: no such header.
    fn authorization(&self, of: Credential) -> Option<String>;

    /// Sends a request without waiting for the answer; returns its number.
    ///
    /// # Errors
    /// The host has failed.
    fn send(&mut self, request: Outgoing) -> Result<u64>;

    /// The answer to a request, if there is one yet.
    ///
    /// # Errors
    /// There will never be one: the connection has ended.
    fn answer(&mut self, request: u64) -> Result<Option<Answer>>;

    /// Lets time pass.
    fn pass(&mut self, milliseconds: u64);

    /// The clock of both fakes, in Unix milliseconds.
    fn wall(&self) -> i64;

    /// Accesses the fake Testkube.
    fn testkube(&self, then: &mut dyn FnMut(&mut Testkube));

    /// Accesses the fake Azure DevOps.
    fn azure_devops(&self, then: &mut dyn FnMut(&mut AzureDevOps));

    /// Breaks the connection to a cluster, or repairs it.
    fn outage(&mut self, cluster: Cluster, way: Option<Outage>);

    /// A new configuration of the plugin: the first one with a merge patch. False: refused.
    ///
    /// # Errors
    /// The host has failed.
    fn reload(&mut self, patch: &Value) -> Result<bool>;

    /// Lets the worker's VM trap in a request, and says what that request got.
    ///
    /// # Errors
    /// The host has failed.
    fn trap(&mut self) -> Result<Answer>;

    /// Envoy's log so far.
    fn log(&self) -> String;

    /// The module's counters, by their names; those at 0 may be missing.
    ///
    /// # Errors
    /// The host has failed.
    fn counters(&mut self) -> Result<BTreeMap<String, u64>>;

    /// The end: reports whatever the host itself found wrong.
    ///
    /// # Errors
    /// Something was wrong besides what the story looked at.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Waits until Envoy's log has a line with each of these parts. A second one is wrong.
pub(crate) fn logged(host: &mut dyn Host, parts: &[String]) -> Result<()> {
    const PAUSE: u64 = 250;
    const SOON: u64 = 60_000;
    for part in parts {
        let mut waited = 0;
        let times = loop {
            let times = host.log().lines().filter(|line| line.contains(part)).count();
            if times > 0 || waited >= SOON {
                break times;
            }
            host.pass(PAUSE);
            waited += PAUSE;
        };
        ensure!(times == 1, "{part:?} is in the log {times} times:\n{}", host.log());
    }
    Ok(())
}

/// A pipeline's run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The ids and the token.
    pub spec: CheckSpec,
    /// The tag's value.
    pub tag: String,
}

/// A request on its way to Envoy.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case. `host` and the framing are the host's to add.
    pub headers: Vec<(String, String)>,
    /// Pieces of the body, each with its delay after the one before in milliseconds. None: no body.
    pub body: Vec<(u64, Vec<u8>)>,
    /// The kept connection that it goes over.
    pub connection: Option<String>,
    /// The run whose check it delivers.
    pub delivers: Option<u32>,
}

/// The answer that a caller got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// From whom.
    pub by: By,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}
