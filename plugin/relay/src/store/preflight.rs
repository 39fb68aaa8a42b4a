//! Whether all that this process needs is there and answers: Testkube, Azure DevOps, the cluster store.
//!
//! A [`Preflight`] makes one call without side effects for each of them, and judges each answer by itself. The leader
//! makes one after the process has started, and writes it into Envoy's log. Callers of `/v1/preflight` make one together,
//! at most every [`FRESH`]: its result is kept in shared data ([`kept`]).

mod judge;
pub(crate) mod kept;

use crate::config::Config;
use crate::text::clip;
use crate::time::{Now, Wall};
use crate::wire::azure::{Reach, reach};
use crate::wire::call::{CallOutcome, Request};
use crate::wire::testkube;
use judge::{AtAzure, Judged};
use log::Level;
use serde::Serialize;
use std::rc::Rc;
use std::time::Duration;

/// Timeout of each call.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a result is good enough for another caller.
pub const FRESH: Duration = Duration::from_secs(30);

/// Maximum entries of `azure_devops` that are looked at.
const MAX_ENTRIES: usize = 16;

/// Maximum response body to copy, in bytes. A sign-in page is larger, but only its status counts.
const MAX_BODY: usize = 64 << 10;

/// Maximum length of a sentence, in bytes.
const MAX_DETAIL: usize = 600;

/// How good a finding is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// As it should be.
    Ok,
    /// Not visible from here.
    Unknown,
    /// Checks may suffer.
    Warning,
    /// Checks will fail.
    Failed,
}

/// What was found about one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) result: Health,
    /// What was seen, as a sentence.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) todo: Option<&'static str>,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Testkube's version.
    Info,
    /// Testkube's list, through the cluster of the checks.
    Testkube,
    /// The same through the cluster of the artifacts.
    Artifacts,
    /// An entry of Azure DevOps, by its place.
    Azure(usize),
    /// Its fallback cluster.
    Fallback(usize),
    /// The cluster store.
    Store,
}

/// One look at everything.
pub struct Preflight {
    config: Rc<Config>,
    /// What is asked about, by the calls' numbers, and the findings so far; `None`: not answered yet.
    asked: Vec<(Subject, Option<Vec<Finding>>)>,
    /// Testkube's version, if it has said one.
    version: Option<String>,
}

/// The result of a look, in the form of the answer to `/v1/preflight`.
#[derive(Serialize)]
struct Shown<'a> {
    result: Health,
    as_of: String,
    checks: &'a [Finding],
}

impl Preflight {
    /// Begins a look at what this configuration names. Returns its calls with their numbers; all may be under way at once.
    pub fn begin(config: &Rc<Config>, now: Now) -> (Preflight, Vec<(usize, Request)>) {
        let mut subjects = vec![Subject::Info, Subject::Testkube];
        if config.artifacts.cluster != config.testkube.cluster {
            subjects.push(Subject::Artifacts);
        }
        for (n, entry) in config.azure_devops.iter().enumerate().take(MAX_ENTRIES) {
            subjects.push(Subject::Azure(n));
            if entry.fallback.is_some() {
                subjects.push(Subject::Fallback(n));
            }
        }
        if config.store.is_some() {
            subjects.push(Subject::Store);
        }
        let asks = |subject: &Subject| request(config, *subject, now);
        let calls =
            subjects.iter().enumerate().filter_map(|(n, subject)| Some((n, asks(subject)?))).collect();
        let asked = subjects.into_iter().map(|subject| (subject, None)).collect();
        (Preflight { config: config.clone(), asked, version: None }, calls)
    }

    /// Takes the outcome of the call with this number; a second one is ignored. Returns whether all calls are answered.
    pub fn answer(&mut self, now: Now, number: usize, outcome: &CallOutcome) -> bool {
        let Preflight { config, asked, version } = self;
        if let Some((subject, found @ None)) = asked.get_mut(number) {
            *found = Some(match *subject {
                Subject::Info => {
                    if let CallOutcome::Response(response) = outcome {
                        *version = testkube::version(response);
                    }
                    Vec::new()
                }
                subject => judged(config, subject, now, outcome),
            });
        }
        self.asked.iter().all(|(_, found)| found.is_some())
    }

    /// What was found, in the order of the configuration.
    pub(crate) fn findings(self) -> Vec<Finding> {
        let Preflight { config, asked, version } = self;
        let mut all: Vec<Finding> = asked.into_iter().filter_map(|(_, found)| found).flatten().collect();
        if let (Some(version), Some(first)) = (version, all.first_mut())
            && first.result == Health::Ok
        {
            first.detail = format!("Testkube {version} answers, and lists executions");
        }
        let more = config.azure_devops.len().saturating_sub(MAX_ENTRIES);
        if more > 0 {
            let detail = format!("only the first {MAX_ENTRIES} entries are looked at; there are {more} more");
            let todo = Some("Look at the others with `curl` from Envoy's pod.");
            all.push(Finding { name: "azure_devops".into(), result: Health::Unknown, detail, todo });
        }
        all
    }
}

/// The findings as JSON.
pub(crate) fn shown(findings: &[Finding], as_of: Wall) -> String {
    let result = findings.iter().map(|finding| finding.result).max().unwrap_or(Health::Unknown);
    crate::json::text(&Shown { result, as_of: as_of.to_string(), checks: findings })
}

impl Finding {
    /// The line of Envoy's log, and its level.
    pub(crate) fn line(&self) -> (Level, String) {
        let (level, result) = match self.result {
            Health::Ok => (Level::Info, "ok"),
            Health::Unknown => (Level::Warn, "unknown"),
            Health::Warning => (Level::Warn, "warning"),
            Health::Failed => (Level::Error, "failed"),
        };
        let Finding { name, detail, todo, .. } = self;
        let todo = todo.map(|todo| format!(". {todo}")).unwrap_or_default();
        (level, format!("preflight: {name}: {result}: {detail}{todo}"))
    }
}

/// The call about a subject.
fn request(config: &Config, subject: Subject, now: Now) -> Option<Request> {
    let testkube = &config.testkube;
    let entry = |n: usize| config.azure_devops.get(n);
    let mut request = match subject {
        Subject::Info => testkube::get_info(testkube),
        Subject::Testkube => testkube::list_newest(testkube, &testkube.cluster, now.wall),
        Subject::Artifacts => testkube::list_newest(testkube, &config.artifacts.cluster, now.wall),
        Subject::Azure(n) => reach(entry(n)?, &entry(n)?.cluster, Reach::Projects),
        Subject::Fallback(n) => reach(entry(n)?, entry(n)?.fallback.as_ref()?, Reach::Caller),
        Subject::Store => config.store.as_ref()?.server.rights(TIMEOUT),
    };
    // So that its receiver can tell it from a check's.
    if let Some((_, agent)) = request.headers.iter_mut().find(|(name, _)| *name == "user-agent") {
        agent.push_str(" (preflight)");
    }
    request.timeout = TIMEOUT;
    if subject != Subject::Store {
        request.max_body = MAX_BODY;
    }
    Some(request)
}

/// What an outcome says about its subject.
fn judged(config: &Config, subject: Subject, now: Now, outcome: &CallOutcome) -> Vec<Finding> {
    let entry = |n: usize| config.azure_devops.get(n);
    let (name, cluster) = match subject {
        Subject::Info | Subject::Testkube => ("testkube".to_owned(), config.testkube.cluster.as_str()),
        Subject::Artifacts => ("artifacts.cluster".to_owned(), config.artifacts.cluster.as_str()),
        Subject::Azure(n) => {
            (format!("azure_devops[{n}]"), entry(n).map_or("", |entry| entry.cluster.as_str()))
        }
        Subject::Fallback(n) => (
            format!("azure_devops[{n}].fallback_cluster"),
            entry(n).and_then(|entry| entry.fallback.as_deref()).unwrap_or_default(),
        ),
        Subject::Store => {
            ("store".to_owned(), config.store.as_ref().map_or("", |store| store.server.cluster.as_str()))
        }
    };
    let (judged, clock) = match (judge::answered(outcome, cluster), subject, &config.store) {
        (Err(judged), ..) => (judged, None),
        (Ok(response), Subject::Azure(_), _) => (judge::azure(response, AtAzure::Stranger), None),
        (Ok(response), Subject::Fallback(_), _) => (judge::azure(response, AtAzure::Known), None),
        (Ok(response), Subject::Store, Some(store)) => (judge::store(response, outcome, &store.server), None),
        (Ok(response), Subject::Testkube, _) => {
            (judge::testkube(response), Some(judge::clock(response, now.wall, config.checks.clock_skew)))
        }
        (Ok(response), ..) => (judge::testkube(response), None),
    };
    let finding = |name: String, Judged(result, detail, todo): Judged| {
        let todo = Some(todo).filter(|todo| !todo.is_empty());
        Finding { name, result, detail: clip(detail, MAX_DETAIL), todo }
    };
    let clock = clock.map(|judged| finding("clock".to_owned(), judged));
    [finding(name, judged)].into_iter().chain(clock).collect()
}

#[cfg(test)]
mod tests;
