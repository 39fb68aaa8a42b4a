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
        if proof::is_poll(asked) && came_by_envoy(asked) {
            return self.listed(scene, asked);
        }
        let path = asked.request.path();
        let truth = scene.testkube().truth(TAG_KEY, &self.tag, asked.at);
        if let Some(truth) = truth.iter().find(|truth| path.ends_with(&truth.id)) {
            return format!("{} once more, by its id: {}", truth.name, answered(asked.status));
        }
        // An execution's id is long, and has been seen.
        let from = path.find("/artifacts").unwrap_or_default();
        let (before, tail) = path.split_at(from);
        let told = format!("{} …{tail}: {}", asked.request.method, answered(asked.status));
        match (asked.request.method.as_str(), asked.status) {
            ("HEAD", Some(500)) => {
                let holder = truth.iter().find(|truth| before.ends_with(&truth.id));
                let holder = holder.map_or("this execution", |truth| truth.name.as_str());
                format!("{told}, which says that {holder} has no such file")
            }
            _ => told,
        }
    }

    /// A list of executions: a poll for the check, or a question of somebody who wants an artifact.
    fn listed(&mut self, scene: &Scene, asked: &Recorded) -> String {
        let mut selected = proof::selected(&asked.request);
        let is_own = selected.contains(&self.run.tag);
        let tag = if is_own { self.run.tag.clone() } else { selected.pop().unwrap_or_default() };
        let found = scene.testkube().truth(TAG_KEY, &tag, asked.at);
        let answer = match (asked.status, statuses(&found)) {
            (Some(200), None) => format!("nothing is tagged {TAG_KEY}={tag}"),
            (Some(200), Some(statuses)) => statuses,
            (status, _) => answered(status),
        };
        if self.is_over || !is_own {
            return format!("which executions are tagged {TAG_KEY}={tag}? {answer}");
        }
        self.polls += 1;
        match self.polls {
            1 => {
                let query = proof::parameters(&asked.request).take(2);
                let query: Vec<_> = query.map(|(name, value)| format!("{name}={value}")).collect();
                format!("poll 1: GET {}\n{}, …\n{answer}", asked.request.path(), query.join(", "))
            }
            poll => format!("poll {poll}: {answer}"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use fakes::{Status, execution};
    use host_tests::Request;

    /// What is told of requests that come to Testkube by Envoy, in one line.
    fn told(scene: &Scene, witness: &mut Witness, requests: &[(&str, String)]) -> String {
        for (method, target) in requests {
            let request = Request::new(method, target).header("x-request-id", "1");
            request.send(scene.testkube_address()).unwrap();
        }
        let mut out = Vec::new();
        witness.tell(scene, &mut Voice::new(&mut out, false)).unwrap();
        String::from_utf8(out).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_list_for_another_tag_is_no_poll_of_the_check() {
        let scene = Scene::new().unwrap();
        let run = scene.pipeline(2);
        let mut witness = Witness::new(&scene, &run, &run.tag);
        let list = |tag: &str| {
            ("GET", format!("/v1/test-workflow-executions?tagSelector={TAG_KEY}%3D{tag}&startDate=x"))
        };
        let other = told(&scene, &mut witness, &[list("shop-4001")]);
        assert!(
            other.ends_with(
                "which executions are tagged ado-run=shop-4001? nothing is tagged ado-run=shop-4001"
            ),
            "{other}"
        );
        assert_eq!(witness.polls(), 0);
        let own = told(&scene, &mut witness, &[list("shop-4001%2Cado-run%3Dshop-4002")]);
        assert!(own.contains("poll 1: GET /v1/test-workflow-executions tagSelector="), "{own}");
        assert!(own.ends_with("nothing is tagged ado-run=shop-4002"), "{own}");
        assert_eq!(witness.polls(), 1);
    }

    #[test]
    fn a_head_of_a_file_that_is_missing_is_explained() {
        let scene = Scene::new().unwrap();
        let run = scene.pipeline(2);
        let id = scene.execution(execution("shop-api").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
        let mut witness = Witness::new(&scene, &run, &run.tag);
        let head = ("HEAD", format!("/v1/test-workflow-executions/{id}/artifacts/junit.xml"));
        let told = told(&scene, &mut witness, &[head]);
        assert!(
            told.ends_with("HEAD …/artifacts/junit.xml: 500, which says that shop-api-1 has no such file"),
            "{told}"
        );
    }
}
