//! Builds and their timelines, which show a check that nobody waits for it any more.

use serde_json::{Value, json};

use crate::timestamp;

/// A build (a run of a pipeline), as a script.
#[derive(Clone, Debug)]
pub struct Build {
    pub(crate) project: String,
    pub(crate) id: u64,
    started_at: Option<i64>,
    script: Vec<(i64, String)>,
    stages: Vec<Stage>,
}

/// A stage of a build's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name that the page shows.
    pub name: String,
    /// The name in the YAML, by which stages depend on each other.
    pub identifier: String,
    /// 1 at first, one more with each retry.
    pub attempt: u32,
    /// When it started, in Unix milliseconds; before that it is pending.
    pub start_time: Option<i64>,
}

impl Build {
    /// A build that is in progress.
    pub fn new(project: &str, id: u64) -> Self {
        Self { project: project.into(), id, started_at: None, script: Vec::new(), stages: Vec::new() }
    }

    /// Sets `startTime`.
    pub fn started_at(mut self, at: i64) -> Self {
        self.started_at = Some(at);
        self
    }

    /// From `at` on it has this status: `notStarted`, `inProgress`, `cancelling`, `completed`, `postponed`.
    pub fn status_at(mut self, at: i64, status: &str) -> Self {
        self.script.push((at, status.into()));
        self.script.sort_by_key(|(at, _)| *at);
        self
    }

    /// Adds a stage to the timeline.
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Somebody cancels it, unless it is over.
    pub(crate) fn cancel(&mut self, now: i64) {
        let is_over = self.script.iter().any(|(at, status)| *at <= now && status == "completed");
        if !is_over {
            self.script.retain(|(at, _)| *at <= now);
            self.script.push((now, "cancelling".into()));
        }
    }

    pub(crate) fn describe(&self, now: i64) -> Value {
        let current = self.script.iter().rev().find(|(at, _)| *at <= now);
        let status = current.map_or("inProgress", |(_, status)| status.as_str());
        let completed = current.filter(|_| status == "completed").map(|(at, _)| timestamp::dotnet(*at));
        let started = self.started_at.map(timestamp::dotnet);
        json!({"id": self.id, "buildNumber": self.id.to_string(), "status": status,
            "result": completed.as_ref().map(|_| "canceled"), "queueTime": started, "startTime": started,
            "finishTime": completed, "project": {"id": self.project}, "definition": {"id": 1, "name": "shop"}})
    }

    pub(crate) fn timeline(&self, now: i64) -> Value {
        let stage = |(index, stage): (usize, &Stage)| {
            let started = stage.start_time.filter(|at| *at <= now);
            json!({"previousAttempts": [], "id": format!("{:08x}-0000-5000-8000-{:012x}", index + 1, self.id),
                "parentId": null, "type": "Stage", "name": stage.name, "identifier": stage.identifier,
                "startTime": started.map(timestamp::dotnet), "finishTime": null,
                "state": if started.is_some() { "inProgress" } else { "pending" }, "result": null,
                "order": index + 1, "attempt": stage.attempt, "log": null, "task": null})
        };
        let records: Vec<Value> = self.stages.iter().enumerate().map(stage).collect();
        json!({"records": records, "lastChangedBy": "00000002-0000-8888-8000-000000000000",
            "lastChangedOn": timestamp::dotnet(now), "id": format!("{:08x}-0000-5000-9000-000000000000", self.id),
            "changeId": records.len(), "url": null})
    }
}
