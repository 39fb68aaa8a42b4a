//! The witness: tells what the fakes have recorded since it looked last, in the order in which it happened.

use std::collections::BTreeMap;

use anyhow::Result;
use fakes::{Recorded, Truth};
use host_tests::Scene;
use host_tests::scene::{Pipeline, TAG_KEY, now_ms};

use super::proof;
use super::voice::Voice;

/// Watches one run of the pipeline.
pub(super) struct Witness {
    run: Pipeline,
    /// The tag that the executions really carry.
    tag: String,
    testkube_seen: usize,
    azure_seen: usize,
    statuses: BTreeMap<String, String>,
    polls: usize,
    /// From then on the executions are looked up for the pipeline's job.
    is_over: bool,
}

/// Who recorded it.
enum Side {
    Testkube,
    Azure,
}

impl Witness {
    /// Tells what comes from now on.
    pub(super) fn new(scene: &Scene, run: &Pipeline, tag: &str) -> Witness {
        let testkube_seen = scene.testkube().requests().len();
        let azure_seen = scene.azure().requests().len();
        let (run, tag) = (run.clone(), tag.to_owned());
        Witness { run, tag, testkube_seen, azure_seen, statuses: BTreeMap::new(), polls: 0, is_over: false }
    }

    /// How many times Testkube was polled for this run.
    pub(super) fn polls(&self) -> usize {
        self.polls
    }

    /// The decision has come: nobody polls any more.
    pub(super) fn is_over(&mut self) {
        self.is_over = true;
    }

    /// Tells what is new.
    pub(super) fn tell(&mut self, scene: &Scene, voice: &mut Voice<'_>) -> Result<()> {
        let mut fresh = Vec::new();
        for asked in scene.testkube().requests().get(self.testkube_seen..).unwrap_or_default() {
            fresh.push((Side::Testkube, asked.clone()));
            self.testkube_seen += 1;
        }
        for told in scene.azure().requests().get(self.azure_seen..).unwrap_or_default() {
            fresh.push((Side::Azure, told.clone()));
            self.azure_seen += 1;
        }
        fresh.sort_by_key(|(_, recorded)| recorded.at);
        for (side, recorded) in &fresh {
            self.tell_changes(scene, voice, recorded.at)?;
            match side {
                Side::Testkube => {
                    let what = self.asked_testkube(scene, recorded);
                    let who = if came_by_envoy(recorded) { "Envoy -> Testkube" } else { "you -> Testkube" };
                    voice.event(recorded.at, who, &what)?;
                }
                Side::Azure => {
                    if let Some(what) = self.told_azure(recorded) {
                        voice.event(recorded.at, "Envoy -> Azure DevOps", &what)?;
                    }
                    if let Some(page) = self.page(recorded) {
                        voice.event(recorded.at, "Azure DevOps shows", &page)?;
                    }
                }
            }
        }
        self.tell_changes(scene, voice, now_ms())
    }

    /// Executions that came or changed their status until `at`.
    fn tell_changes(&mut self, scene: &Scene, voice: &mut Voice<'_>, at: i64) -> Result<()> {
        let truth = scene.testkube().truth(TAG_KEY, &self.tag, at);
        for Truth { name, status, .. } in truth {
            let status = status.as_str();
            let what = match self.statuses.insert(name.clone(), status.to_owned()) {
                None => format!("{name}: {status}, tagged {TAG_KEY}={}", self.tag),
                Some(before) if before != status => format!("{name}: {status}"),
                Some(_) => continue,
            };
            voice.event(at, "in Testkube", &what)?;
        }
        Ok(())
    }

    fn asked_testkube(&mut self, scene: &Scene, asked: &Recorded) -> String {
        let path = asked.request.path();
        if proof::is_poll(asked) && came_by_envoy(asked) {
            self.polls += usize::from(!self.is_over);
            let found = scene.testkube().truth(TAG_KEY, &self.run.tag, asked.at);
            let tagged = format!("tagged {TAG_KEY}={}", self.run.tag);
            let answer = match (asked.status, statuses(&found)) {
                (Some(200), None) => format!("nothing is {tagged}"),
                (Some(200), Some(statuses)) => statuses,
                (status, _) => answered(status),
            };
            match self.polls {
                _ if self.is_over => format!("which executions carry the tag? {answer}"),
                1 => {
                    let query = proof::parameters(&asked.request).take(2);
                    let query: Vec<_> = query.map(|(name, value)| format!("{name}={value}")).collect();
                    format!("poll 1: GET {path}\n{}, …\n{answer}", query.join(", "))
                }
                poll => format!("poll {poll}: {answer}"),
            }
        } else {
            let name = scene.testkube().truth(TAG_KEY, &self.tag, asked.at).into_iter();
            let name = name.filter(|truth| path.ends_with(&truth.id)).map(|truth| truth.name).next();
            match name {
                Some(name) => format!("{name} once more, by its id: {}", answered(asked.status)),
                None => {
                    // An execution's id is long, and has been seen.
                    let from = path.find("/artifacts").unwrap_or_default();
                    let tail = path.get(from..).unwrap_or(path);
                    format!("{} …{tail}: {}", asked.request.method, answered(asked.status))
                }
            }
        }
    }

    fn told_azure(&self, told: &Recorded) -> Option<String> {
        let path = told.request.path();
        let build = format!("/builds/{}", self.run.spec.build.unwrap_or_default());
        let what = if path.ends_with(&build) {
            "when did this run begin? Older executions do not count".to_owned()
        } else if !path.contains(&self.run.spec.plan) {
            return None;
        } else if path.ends_with("/logs") {
            "opens the check's log, which also proves the token".to_owned()
        } else if path.contains("/logs/") {
            match lines(told).count() {
                1 => "writes a line into the check's log".to_owned(),
                n => format!("writes {n} lines into the check's log"),
            }
        } else if path.ends_with("/records") && told.request.method == "GET" {
            "does anybody still wait? The check's own record".to_owned()
        } else if path.ends_with("/records") {
            "changes the check's record".to_owned()
        } else if path.ends_with("/events") {
            let body: serde_json::Value = serde_json::from_slice(&told.request.body).unwrap_or_default();
            let text = |name: &str| body[name].as_str().unwrap_or("nothing").to_owned();
            format!("POST …/events: {}, result \"{}\"", text("name"), text("result"))
        } else {
            format!("{} {path}", told.request.method)
        };
        Some(format!("{what} ({})", answered(told.status)))
    }

    /// What a request has changed on the page of the run: lines of the log, without their times, or the bar.
    fn page(&self, told: &Recorded) -> Option<String> {
        let path = told.request.path();
        if told.status != Some(200) || !path.contains(&self.run.spec.plan) {
            return None;
        }
        if path.contains("/logs/") {
            let texts = lines(told)
                .map(|line| line.split_once("Z ").map_or(line.as_str(), |(_, text)| text).to_owned());
            return Some(texts.collect::<Vec<_>>().join("\n"));
        }
        let body: serde_json::Value = serde_json::from_slice(&told.request.body).ok()?;
        let record = &body["value"][0];
        let percent = usize::try_from(record["percentComplete"].as_u64()?).ok()?.min(100);
        let full = percent / 10;
        let operation = record["currentOperation"].as_str().unwrap_or_default();
        Some(format!("[{}{}] {percent} %  {operation}", "#".repeat(full), "-".repeat(10 - full)))
    }
}

/// The lines of an append.
fn lines(told: &Recorded) -> impl Iterator<Item = String> {
    String::from_utf8_lossy(&told.request.body).lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The executions with their statuses; `None` if there are none.
pub(super) fn statuses(executions: &[Truth]) -> Option<String> {
    let statuses = executions.iter().map(|truth| format!("{} {}", truth.name, truth.status.as_str()));
    Some(statuses.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

/// What a reader asks Testkube directly has none of the headers that Envoy adds.
fn came_by_envoy(asked: &Recorded) -> bool {
    let headers = &asked.request.headers;
    headers.iter().any(|(name, _)| name.starts_with("x-envoy-") || name == "x-request-id")
}

fn answered(status: Option<u16>) -> String {
    status.map_or("no answer".to_owned(), |status| status.to_string())
}
