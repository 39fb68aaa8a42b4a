//! The start of a build's stage, from the build's timeline.

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
struct Record {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The name on the page: `displayName` in the YAML.
    name: Option<String>,
    /// The stage's name in the YAML, by which stages depend on each other.
    identifier: Option<String>,
    attempt: Option<u32>,
    #[serde(rename = "startTime")]
    start_time: Option<String>,
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

/// Returns the start and number of the newest attempt of a stage, from the answer to [`timeline`](super::timeline). The
/// stage is the one with this identifier, else the only one with this display name.
///
/// # Errors
/// Why the stage's start is not known.
pub fn stage_start(body: &[u8], stage: &str) -> Result<(Wall, u32), &'static str> {
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
    Ok((newest.start().ok_or("that stage has not started")?, newest.attempt()))
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
        stage_start(json!({ "records": records }).to_string().as_bytes(), stage)
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
        assert_eq!(stage_start(b"<html>", "Test"), Err("the build's timeline could not be read"));
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
