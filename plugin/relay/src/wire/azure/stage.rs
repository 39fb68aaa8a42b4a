//! The start of a build's stage, from the build's timeline.
//!
//! "Rerun failed jobs" makes a new attempt of the stage in which only some of its jobs run. The others keep their records: the
//! attempt and the start of an earlier one.

use super::MAX_RECORDS;
use crate::at_most::AtMost;
use crate::time::Wall;
use serde::Deserialize;

#[derive(Deserialize)]
struct Timeline {
    records: AtMost<Record, MAX_RECORDS>,
}

/// A timeline record of any type; a stage has the type `Stage`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: Option<String>,
    /// The record that this one is part of: a phase of a stage, a job of a phase.
    parent_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The name on the page: `displayName` in the YAML.
    name: Option<String>,
    /// The stage's name in the YAML, by which stages depend on each other.
    identifier: Option<String>,
    attempt: Option<u32>,
    start_time: Option<String>,
}

/// The newest attempt of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it started.
    pub start: Wall,
    /// Its number, from 1.
    pub number: u32,
    /// When the first of the jobs started that ran in an earlier attempt and not in this one; `None` if all ran in it.
    pub kept: Option<Wall>,
}

impl Record {
    fn is_named(&self, stage: &str) -> bool {
        self.name.as_deref() == Some(stage)
    }

    fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(1)
    }

    fn start(&self) -> Option<Wall> {
        Wall::parse(self.start_time.as_deref()?)
    }
}

/// Returns the newest attempt of a stage, from the answer to [`timeline`](super::timeline). The stage is the one with this
/// identifier, else the only one with this display name.
///
/// # Errors
/// Why the stage's start is not known.
pub fn newest_attempt(body: &[u8], stage: &str) -> Result<Attempt, &'static str> {
    let timeline: Timeline = crate::json::read(body).map_err(|_| "the build's timeline could not be read")?;
    // The records that were not read may hold a newer attempt, or another stage of this name.
    if timeline.records.is_cut {
        return Err("the build's timeline has too many records");
    }
    let all = timeline.records.items.iter().filter(|record| record.kind.as_deref() == Some("Stage"));
    let (identified, others): (Vec<&Record>, Vec<&Record>) =
        all.partition(|record| record.identifier.as_deref() == Some(stage));
    let found = if identified.is_empty() { displayed(&others, stage)? } else { identified };
    let newest = found.into_iter().max_by_key(|record| (record.attempt(), record.start()));
    let newest = newest.ok_or("the build has no stage of this name")?;
    Ok(Attempt {
        start: newest.start().ok_or("that stage has not started")?,
        number: newest.attempt(),
        kept: kept_since(&timeline.records.items, newest),
    })
}

/// The earliest start of the stage's jobs that ran in an attempt before this one.
fn kept_since(all: &[Record], stage: &Record) -> Option<Wall> {
    /// A stage has phases, a phase has jobs.
    const DEPTH: usize = 4;
    let parent = |record: &Record| {
        let id = record.parent_id.as_deref()?;
        all.iter().find(|other| other.id.as_deref() == Some(id))
    };
    let is_of_stage = |job: &&Record| {
        let above = std::iter::successors(parent(job), |record| parent(record)).take(DEPTH);
        stage.id.is_some() && above.into_iter().any(|record| record.id == stage.id)
    };
    let jobs = all.iter().filter(|record| record.kind.as_deref() == Some("Job"));
    let kept = jobs.filter(|job| job.attempt() < stage.attempt()).filter(is_of_stage);
    kept.filter_map(Record::start).min()
}

/// The attempts of the stage with this display name. An error if two stages could be meant: two with this display name,
/// or one beside another whose identifier differs only in case. The wrong stage's earlier start would let old
/// executions count.
fn displayed<'a>(stages: &[&'a Record], stage: &str) -> Result<Vec<&'a Record>, &'static str> {
    let is_like =
        |record: &Record| record.identifier.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(stage));
    let mut meant = stages
        .iter()
        .filter(|record| record.is_named(stage) || is_like(record))
        .map(|record| record.identifier.as_deref());
    let first = meant.next();
    if meant.any(|other| Some(other) != first) {
        return Err(
            "the build has several stages of this name: name the stage by its identifier, `- stage:` in the YAML",
        );
    }
    Ok(stages.iter().copied().filter(|record| record.is_named(stage)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const EARLIER: &str = "2026-01-23T16:00:00Z";
    const LATER: &str = "2026-01-23T17:00:00.5Z";

    fn record(identifier: Option<&str>, name: &str, attempt: u32, start: Option<&str>) -> Value {
        json!({"type": "Stage", "name": name, "identifier": identifier, "attempt": attempt, "startTime": start})
    }

    fn start(records: &[Value], stage: &str) -> Result<(Wall, u32), &'static str> {
        let attempt = newest_attempt(json!({ "records": records }).to_string().as_bytes(), stage)?;
        assert_eq!(attempt.kept, None);
        Ok((attempt.start, attempt.number))
    }

    fn at(time: &str, attempt: u32) -> Result<(Wall, u32), &'static str> {
        Ok((Wall::parse(time).unwrap(), attempt))
    }

    #[test]
    fn a_stages_start_is_that_of_its_newest_attempt() {
        let records = [
            record(Some("test"), "Test", 1, Some(EARLIER)),
            record(Some("test"), "Test", 2, Some(LATER)),
            json!({"type": "Job", "name": "Deploy", "attempt": 1, "startTime": EARLIER}),
            record(None, "Deploy", 1, None),
        ];
        for stage in ["Test", "test"] {
            assert_eq!(start(&records, stage), at(LATER, 2));
        }
        assert_eq!(start(&records, "Deploy"), Err("that stage has not started"));
        assert_eq!(start(&records, "Nope"), Err("the build has no stage of this name"));
        assert_eq!(newest_attempt(b"<html>", "Test"), Err("the build's timeline could not be read"));
    }

    #[test]
    fn jobs_that_did_not_run_again_are_known_by_their_attempt() {
        let part = |kind: &str, id: &str, parent: Option<&str>, attempt: u32, start: Option<&str>| {
            json!({"type": kind, "id": id, "parentId": parent, "name": id, "identifier": id, "attempt": attempt,
                "startTime": start})
        };
        let kept = |jobs: [(u32, Option<&str>); 2]| {
            let mut records = vec![
                part("Stage", "other", None, 1, Some(EARLIER)),
                part("Phase", "other.p", Some("other"), 1, Some(EARLIER)),
                part("Job", "other.j", Some("other.p"), 1, Some(EARLIER)),
                part("Stage", "Test", None, 2, Some(LATER)),
                part("Phase", "Test.p", Some("Test"), 2, Some(LATER)),
            ];
            for (n, (attempt, start)) in jobs.into_iter().enumerate() {
                records.push(part("Job", &format!("Test.j{n}"), Some("Test.p"), attempt, start));
            }
            newest_attempt(json!({ "records": records }).to_string().as_bytes(), "Test").unwrap().kept
        };
        assert_eq!(kept([(2, Some(LATER)), (2, Some(LATER))]), None, "the whole stage ran again");
        assert_eq!(kept([(1, Some(EARLIER)), (2, Some(LATER))]), Wall::parse(EARLIER));
        assert_eq!(kept([(2, Some(LATER)), (1, None)]), None, "skipped both times");
        let circle =
            [part("Stage", "Test", None, 2, Some(LATER)), part("Job", "j", Some("j"), 1, Some(EARLIER))];
        let body = json!({ "records": circle }).to_string();
        assert_eq!(newest_attempt(body.as_bytes(), "Test").unwrap().kept, None);
    }

    #[test]
    fn a_timeline_that_is_too_long_names_no_stage() {
        let mut records = vec![record(Some("test"), "Test", 1, Some(EARLIER))];
        records.resize(MAX_RECORDS, json!({}));
        assert_eq!(start(&records, "test"), at(EARLIER, 1));
        records.push(json!({}));
        assert_eq!(start(&records, "test"), Err("the build's timeline has too many records"));
    }

    #[test]
    fn an_identifier_comes_before_another_stages_display_name() {
        let shown = |attempt| record(Some("Build"), "Test", attempt, Some(EARLIER));
        let meant = record(Some("Test"), "Run the tests", 1, Some(LATER));
        for attempt in [1, 2] {
            assert_eq!(start(&[shown(attempt), meant.clone()], "Test"), at(LATER, 1));
            assert_eq!(start(&[meant.clone(), shown(attempt)], "Test"), at(LATER, 1));
        }
    }

    #[test]
    fn a_name_of_two_stages_is_refused() {
        let one = |identifier| record(identifier, "Test", 1, Some(EARLIER));
        for other in [
            record(Some("b"), "Test", 2, Some(LATER)),
            record(None, "Test", 1, Some(LATER)),
            record(Some("TEST"), "Run the tests", 1, Some(LATER)),
        ] {
            for records in [[one(Some("a")), other.clone()], [other, one(Some("a"))]] {
                assert!(start(&records, "Test").unwrap_err().contains("several stages"), "{records:?}");
            }
        }
        assert_eq!(start(&[one(None), record(None, "Test", 2, Some(LATER))], "Test"), at(LATER, 2));
    }
}
