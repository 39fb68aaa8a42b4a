//! Whether a run still waits for its check, from Azure DevOps's answers.

use super::MAX_RECORDS;
use crate::at_most::AtMost;
use crate::guid::Guid;
use crate::time::Wall;
use serde::Deserialize;
use std::time::Duration;

/// A check's own timeline record.
#[derive(Debug, PartialEq, Eq)]
pub struct OwnRecord {
    /// Whether `state` is `completed`: then nobody waits for the check.
    pub completed: bool,
    /// `result`, as Azure DevOps names it; empty if absent.
    pub result: String,
    /// `startTime`, by Azure DevOps's clock, as `finishTime` is.
    pub started: Option<Wall>,
    /// `finishTime`.
    pub finished: Option<Wall>,
}

/// How long Azure DevOps waits for the answer that accepts a check (Microsoft Learn, `invoke-rest-api-v1`; not
/// configurable).
const ANSWERED: Duration = Duration::from_secs(20);

impl OwnRecord {
    /// Whether the answer that accepted the check also completed it, as completion event ApiResponse does: its record
    /// ended with `succeeded` before Azure DevOps would have given up on that answer. A record that ended later was
    /// bypassed. A time that the record lacks is replaced by this process's: `came` for the start, `now` for the end.
    pub fn is_open_gate(&self, came: Wall, now: Wall) -> bool {
        let (started, finished) = (self.started.unwrap_or(came), self.finished.unwrap_or(now));
        self.completed && self.result == "succeeded" && finished < started.plus(ANSWERED)
    }
}

/// Finds the record `task` in the answer to [`read_records`](super::read_records).
pub fn own_record(body: &[u8], task: &Guid) -> Option<OwnRecord> {
    #[derive(Deserialize)]
    struct Records {
        value: AtMost<Record, MAX_RECORDS>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        id: String,
        state: Option<String>,
        result: Option<String>,
        start_time: Option<String>,
        finish_time: Option<String>,
    }
    let records: Records = crate::json::read(body).ok()?;
    let own = records
        .value
        .items
        .into_iter()
        .find(|record| Guid::parse(&record.id).is_some_and(|id| id == *task))?;
    Some(OwnRecord {
        completed: own.state.is_some_and(|state| state.eq_ignore_ascii_case("completed")),
        result: crate::text::one_line(&own.result.unwrap_or_default(), 32),
        started: own.start_time.as_deref().and_then(Wall::parse),
        finished: own.finish_time.as_deref().and_then(Wall::parse),
    })
}

/// Reads the answer to [`build`](super::build): the build's status if it is `completed` or `cancelling`, and when it
/// ended. `None` if the body is not a build.
pub fn build_over(body: &[u8]) -> Option<(Option<&'static str>, Option<Wall>)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Build {
        status: String,
        finish_time: Option<String>,
    }
    let build: Build = crate::json::read(body).ok()?;
    let over = ["completed", "cancelling"].into_iter().find(|over| build.status.eq_ignore_ascii_case(over));
    Some((over, build.finish_time.as_deref().and_then(Wall::parse)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "61153303-347e-5f06-a6a1-ce2102bd68eb";

    #[test]
    fn the_own_record_is_found_by_its_id_in_any_case() {
        let body = r#"{"count":2,"value":[{"id":"11111111-1111-1111-1111-111111111111","state":"completed"},
            {"id":"61153303-347E-5F06-A6A1-CE2102BD68EB","state":"completed","result":"succeeded","startTime":"2026-01-23T16:44:00.25Z","finishTime":"2026-01-23T16:44:01.5Z"}]}"#;
        let own = own_record(body.as_bytes(), &Guid::parse(TASK).unwrap()).unwrap();
        assert!(own.completed && own.result == "succeeded");
        assert_eq!(own.started, Wall::parse("2026-01-23T16:44:00.25Z"));
        assert_eq!(own.finished, Wall::parse("2026-01-23T16:44:01.5Z"));
        assert_eq!(own_record(b"{\"value\":[]}", &Guid::parse(TASK).unwrap()), None);
        assert_eq!(own_record(b"<html>", &Guid::parse(TASK).unwrap()), None);
    }

    #[test]
    fn an_open_gate_is_told_from_a_bypass_by_how_long_the_record_took() {
        let at = |seconds: i64| Wall(1_769_186_640_000 + seconds * 1_000);
        let record = |result: &str, started: Option<i64>, finished: Option<i64>| OwnRecord {
            completed: true,
            result: result.into(),
            started: started.map(at),
            finished: finished.map(at),
        };
        let is_open = |record: OwnRecord| record.is_open_gate(at(100), at(130));
        // Azure DevOps's clock is 100 s behind, equal, and 100 s ahead.
        for start in [0, 100, 200] {
            assert!(is_open(record("succeeded", Some(start), Some(start))));
            assert!(is_open(record("succeeded", Some(start), Some(start + 19))));
            assert!(!is_open(record("succeeded", Some(start), Some(start + 20))));
        }
        assert!(!is_open(record("failed", Some(0), Some(0))));
        assert!(
            !OwnRecord { completed: false, ..record("succeeded", Some(0), Some(0)) }
                .is_open_gate(at(0), at(0))
        );
        // A server that leaves out a time.
        assert!(is_open(record("succeeded", None, Some(101))));
        assert!(!is_open(record("succeeded", None, Some(121))));
        assert!(!is_open(record("succeeded", Some(100), None)));
        assert!(record("succeeded", Some(100), None).is_open_gate(at(100), at(102)));
    }

    #[test]
    fn of_a_timeline_that_is_too_long_the_first_records_are_read() {
        let other = r#"{"id":""}"#;
        let own = format!(r#"{{"id":"{TASK}","state":"completed"}}"#);
        let body = |count: usize| format!(r#"{{"value":[{},{own}]}}"#, vec![other; count].join(","));
        let task = Guid::parse(TASK).unwrap();
        assert!(own_record(body(MAX_RECORDS - 1).as_bytes(), &task).is_some());
        assert_eq!(own_record(body(MAX_RECORDS).as_bytes(), &task), None);
    }

    #[test]
    fn a_build_is_over_when_it_is_completed_or_cancelling() {
        let over = |body: &str| build_over(body.as_bytes()).map(|(status, at)| (status, at.is_some()));
        assert_eq!(over(r#"{"status":"inProgress"}"#), Some((None, false)));
        assert_eq!(over(r#"{"status":"cancelling"}"#), Some((Some("cancelling"), false)));
        let completed = r#"{"status":"completed","finishTime":"2026-01-23T16:44:01.5Z"}"#;
        assert_eq!(over(completed), Some((Some("completed"), true)));
        assert_eq!(over("{}"), None);
    }
}
