//! Whether all that this process needs is there and answers: Testkube, Azure DevOps, the cluster store.
//!
//! A [`Preflight`] makes one call without side effects for each of them, and judges each answer by itself. The leader
//! makes one after the process has started, and writes it into Envoy's log. Callers of `/v1/preflight` make one together,
//! at most every [`FRESH`]: its result is kept in shared data ([`kept`]).

mod judge;
pub(crate) mod kept;

use crate::config::Config;
use crate::time::{Now, Wall};
use crate::wire::azure::reach;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::testkube;
use judge::{AtAzure, Judged};
use log::Level;
use serde_json::Value;
use std::rc::Rc;
use std::time::Duration;

/// Timeout of each call.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a result is good enough for another caller.
pub const FRESH: Duration = Duration::from_secs(30);

/// What only those may read who are signed in, unless the organisation has public projects.
const PROJECTS: &str = "/_apis/projects?api-version=6.0&$top=1";

/// Who calls. Microsoft's agents ask for it when they connect, because any scope of a token allows it.
const CALLER: &str = "/_apis/connectionData";

/// Maximum entries of `azure_devops` that are looked at.
const MAX_ENTRIES: usize = 16;

/// Maximum response body to copy, in bytes. A sign-in page is larger, but only its status counts.
const MAX_BODY: usize = 64 << 10;

/// How good a finding is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) result: Health,
    /// What was seen, as a sentence.
    pub(crate) detail: String,
    /// What to do about it; empty: nothing.
    pub(crate) todo: &'static str,
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
        let (mut calls, mut asked) = (Vec::new(), Vec::new());
        for subject in subjects {
            if let Some(call) = request(config, subject, now) {
                calls.push((asked.len(), call));
                asked.push((subject, None));
            }
        }
        (Preflight { config: config.clone(), asked }, calls)
    }

    /// Takes the outcome of the call with this number; a second one is ignored. Returns whether all calls are answered.
    pub fn answer(&mut self, now: Now, number: usize, outcome: &CallOutcome) -> bool {
        let Preflight { config, asked } = self;
        if let Some((subject, found @ None)) = asked.get_mut(number) {
            *found = Some(judged(config, *subject, now, outcome));
        }
        self.asked.iter().all(|(_, found)| found.is_some())
    }

    /// What was found, in the order of the configuration.
    pub(crate) fn findings(self) -> Vec<Finding> {
        let mut all = Vec::new();
        for (_, found) in self.asked {
            all.append(&mut found.unwrap_or_default());
        }
        let more = self.config.azure_devops.len().saturating_sub(MAX_ENTRIES);
        if more > 0 {
            add(&mut all, "azure_devops", (&judge::MORE, more.to_string()));
        }
        all
    }
}

/// The findings as JSON, in the form of the answer to `/v1/preflight`.
pub(crate) fn shown(findings: &[Finding], as_of: Wall) -> String {
    let worst = findings.iter().map(|finding| finding.result).max().unwrap_or(Health::Unknown);
    let mut out = String::from("{");
    members(&mut out, &[("result", worst.word()), ("as_of", &as_of.to_string())]);
    out.push_str("\"checks\":[");
    for (n, Finding { name, result, detail, todo }) in findings.iter().enumerate() {
        out.push_str(if n == 0 { "{" } else { ",{" });
        members(&mut out, &[("name", name), ("result", result.word()), ("detail", detail), ("todo", todo)]);
        out.truncate(out.len().saturating_sub(1));
        out.push('}');
    }
    out.push_str("]}");
    out
}

/// Adds members of an object, each with a comma after it; an empty one is `null`.
fn members(out: &mut String, members: &[(&str, &str)]) {
    for (name, text) in members {
        let text = if text.is_empty() { Value::Null } else { Value::from(*text) };
        for piece in ["\"", name, "\":", &text.to_string(), ","] {
            out.push_str(piece);
        }
    }
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Unknown => "unknown",
            Health::Warning => "warning",
            Health::Failed => "failed",
        }
    }
}

impl Finding {
    /// The line of Envoy's log, and its level.
    pub(crate) fn line(&self) -> (Level, String) {
        let level = match self.result {
            Health::Ok => Level::Info,
            Health::Unknown | Health::Warning => Level::Warn,
            Health::Failed => Level::Error,
        };
        let Finding { name, result, detail, todo } = self;
        let stop = if todo.is_empty() { "" } else { ". " };
        (level, ["preflight: ", name, ": ", result.word(), ": ", detail, stop, todo].concat())
    }
}

/// The call about a subject.
fn request(config: &Config, subject: Subject, now: Now) -> Option<Request> {
    let testkube = &config.testkube;
    let entry = |n: usize| config.azure_devops.get(n);
    // As for a check, but with no tag: a page of one execution that begins from now on.
    let list = |cluster: &String| {
        let list = testkube::list_executions(testkube, "", &[], now.wall, 0, 1);
        Request { cluster: cluster.clone(), ..list }
    };
    let mut request = match subject {
        Subject::Info => testkube::get_info(testkube),
        Subject::Testkube => list(&testkube.cluster),
        Subject::Artifacts => list(&config.artifacts.cluster),
        Subject::Azure(n) => reach(entry(n)?, &entry(n)?.cluster, PROJECTS),
        Subject::Fallback(n) => reach(entry(n)?, entry(n)?.fallback.as_ref()?, CALLER),
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

/// Adds what was judged to the findings. The words are short: names of the configuration, numbers, and what
/// [`words`](crate::wire::words) leaves of a server's own.
fn add(found: &mut Vec<Finding>, name: &str, (meaning, words): Judged) {
    let detail = filled(meaning.seen, &words);
    found.push(Finding { name: name.to_owned(), result: meaning.health, detail, todo: meaning.todo });
}

/// A sentence with these words in place of its `…`, if it has one.
fn filled(sentence: &str, words: &str) -> String {
    match sentence.split_once('…') {
        Some((before, after)) => [before, words, after].concat(),
        None => sentence.to_owned(),
    }
}

/// What an outcome says about its subject.
fn judged(config: &Config, subject: Subject, now: Now, outcome: &CallOutcome) -> Vec<Finding> {
    let entry = |n: usize| config.azure_devops.get(n);
    let (before, n, after, cluster) = match subject {
        Subject::Info | Subject::Testkube => ("testkube", None, "", Some(&config.testkube.cluster)),
        Subject::Artifacts => ("artifacts.cluster", None, "", Some(&config.artifacts.cluster)),
        Subject::Azure(n) => ("azure_devops[", Some(n), "]", entry(n).map(|entry| &entry.cluster)),
        Subject::Fallback(n) => {
            let cluster = entry(n).and_then(|entry| entry.fallback.as_ref());
            ("azure_devops[", Some(n), "].fallback_cluster", cluster)
        }
        Subject::Store => ("store", None, "", config.store.as_ref().map(|store| &store.server.cluster)),
    };
    let name = [before, &n.map(|n| n.to_string()).unwrap_or_default(), after].concat();
    let mut found = Vec::new();
    if subject == Subject::Info {
        // A control plane need not say it.
        if let CallOutcome::Response(response) = outcome
            && let Some(version) = testkube::version(response)
        {
            add(&mut found, "version", (&judge::VERSION, version));
        }
        return found;
    }
    let mut clock = None;
    let judged = match (judge::answered(outcome, cluster.map_or("", String::as_str)), subject) {
        (Err(judged), _) => judged,
        (Ok(response), Subject::Azure(_)) => judge::azure(response, AtAzure::Stranger),
        (Ok(response), Subject::Fallback(_)) => judge::azure(response, AtAzure::Known),
        (Ok(response), Subject::Store) => {
            let namespace = config.store.as_ref().map_or("", |store| &store.server.namespace);
            judge::store(response, outcome, namespace)
        }
        (Ok(response), _) => {
            if subject == Subject::Testkube {
                clock = Some(judge::clock(response, now.wall, config.checks.clock_skew));
            }
            judge::testkube(response)
        }
    };
    add(&mut found, &name, judged);
    if let Some(clock) = clock {
        add(&mut found, "clock", clock);
    }
    found
}

#[cfg(test)]
mod tests;
