//! Testkube's lists and single executions: a reading with garbage in it is never a pass.
//!
//! An input's first line is what the check expects (`shop-api, shop-e2e`, `3`, nothing); then come the answers to the
//! requests for lists and executions, in the order in which they are asked for. Azure DevOps answers well.

use crate::answers;
use crate::leader::{Leader, event_result, is_to_testkube};
use crate::logs;
use crate::setting::{NOW, SECRETS, assert_key_names_are_clean, config, holds_a_secret, ledger_of, pending};
use crate::texts::{assert_no_secret, assert_one_line, assert_short};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testrelay::check::{Phase, Watch};
use testrelay::expect::Expect;
use testrelay::time::Wall;
use testrelay::wire::call::{CallOutcome, Response};
use testrelay::wire::testkube::{self, Execution, Status};

/// The check counts executions scheduled since then.
const BOUND: Wall = Wall(NOW.wall.0);

/// Runs one input.
pub fn run(input: &[u8]) {
    if holds_a_secret(input) {
        return;
    }
    let (_, lines) = logs::during(|| check(input));
    for line in lines {
        assert_no_secret("a log line", &line, &SECRETS);
        assert_one_line("a log line", &line);
        assert_short("a log line", &line);
    }
}

fn check(input: &[u8]) {
    let (expect, answers) = answers::read(input);
    let expect = Expect::parse(&expect).unwrap_or(Expect::Any);
    for answer in &answers {
        if let CallOutcome::Response(response) = answer {
            assert_read_right(response);
        }
    }
    let mut check = pending(|ask| ask.expect = expect.clone(), None);
    check.phase = Phase::Watching(Watch {
        bound: BOUND,
        bound_from: "start of the build".into(),
        attempt: None,
        fixed: None,
        seen: None,
        absent: Duration::ZERO,
        retries: Default::default(),
    });
    let (store, _) = ledger_of(check);
    let mut leader = Leader::new(config(""), store);
    let mut answers = answers.into_iter();
    let mut seen = Seen::default();
    'story: for _ in 0..24 {
        leader.tick(Duration::from_secs(61));
        while let Some((id, call)) = leader.next_call() {
            if is_to_testkube(&call) {
                let Some(answer) = answers.next() else { break 'story };
                seen.note(&call.path, &answer);
                leader.answer(id, &answer);
                continue;
            }
            if let Some(result) = event_result(&call) {
                if result == "succeeded" {
                    seen.assert_proves_a_pass(&expect);
                }
                break 'story;
            }
            if call.path.contains("/logs/") {
                let lines = String::from_utf8(call.body).expect("a log line is UTF-8");
                for line in lines.strip_suffix('\n').expect("a line ends").split('\n') {
                    assert_log_line(line);
                }
            }
            leader.answer(id, &answers::ok(r#"{"id":1}"#));
        }
    }
    assert_key_names_are_clean(&leader.store);
}

/// Panics if a line of the log lacks its time, or holds more than the one command that stands at its begin.
fn assert_log_line(line: &str) {
    assert_one_line("a line of the check's log", line);
    let (stamp, text) = line.split_once(' ').expect("a line begins with its time");
    assert!(stamp.len() == 28 && stamp.ends_with('Z'), "no time: {line}");
    let marks = ["##[section]", "##[warning]", "##[error]"];
    let text = marks.iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text);
    assert!(!text.contains("##"), "a command in the log: {line}");
}

/// Panics if an answer that was understood does not say what a reader of plain JSON finds in it, or says something else
/// when it is written in another spelling.
fn assert_read_right(response: &Response) {
    let value = response.body.as_ref().ok().and_then(|body| plain(body));
    let respelt = |value: &Value| Response { body: Ok(value.to_string().into_bytes()), ..response.clone() };
    if let Ok(page) = testkube::page(response) {
        assert_eq!((response.status, response.from_envoy), (200, false));
        let Some(value) = &value else { return };
        let rows = value["results"].as_array().expect("a page has results");
        assert_eq!(page.executions.len(), rows.len(), "every row or none");
        page.executions.iter().zip(rows).for_each(|(execution, row)| assert_is(execution, row));
        let again = testkube::page(&respelt(value)).expect("the same JSON in another spelling");
        assert_eq!((again.executions, again.filtered), (page.executions, page.filtered));
    }
    if let Ok(execution) = testkube::single(response) {
        assert_eq!((response.status, response.from_envoy), (200, false));
        let Some(value) = &value else { return };
        assert_is(&execution, value);
        assert_eq!(testkube::single(&respelt(value)).as_ref(), Ok(&execution));
    }
}

/// A body as plain JSON; `None` where it is more than that. A list in the place of an object gives the object's members by
/// their order, and numbers and texts in places that nobody reads may be more than a [`Value`] takes.
fn plain(body: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let rows = value["results"].as_array().map_or_else(|| vec![&value], |rows| rows.iter().collect());
    let objects = rows.iter().flat_map(|row| {
        let context = &row["runningContext"];
        [*row, &row["result"], &row["result"]["initialization"], &row["workflow"], context, &context["actor"]]
    });
    let is_odd = objects.chain([&value, &value["filtered"]]).any(Value::is_array);
    (!is_odd).then_some(value)
}

fn assert_is(execution: &Execution, row: &Value) {
    assert_eq!(row["id"], execution.id);
    assert!(!execution.id.is_empty());
    assert_eq!(execution.ended, has_ended(row), "{row}");
    assert_eq!(execution.status == Status::Passed, row["result"]["status"] == "passed", "{row}");
    assert_one_line("a status", &execution.status.to_string());
}

fn has_ended(row: &Value) -> bool {
    let is_terminal =
        ["passed", "failed", "aborted", "canceled"].iter().any(|s| row["result"]["status"] == *s);
    is_terminal && time(&row["result"]["finishedAt"]).is_some_and(|at| at > Wall(0))
}

fn time(value: &Value) -> Option<Wall> {
    Wall::parse(value.as_str()?)
}

/// What Testkube has said since the last reading began, as plain JSON.
#[derive(Default)]
struct Seen {
    rows: BTreeMap<String, Value>,
    /// Everything that was answered to requests for one execution.
    confirmed: Vec<Value>,
    complete: bool,
    /// Whether an answer was read that is too odd for a reader of plain JSON.
    is_odd: bool,
}

impl Seen {
    fn note(&mut self, path: &str, answer: &CallOutcome) {
        let is_list = path.contains("tagSelector=");
        if is_list && path.contains("&page=0") {
            *self = Seen::default();
        }
        let value = match answer {
            CallOutcome::Response(Response { status: 200, from_envoy: false, body: Ok(body), .. }) => {
                plain(body)
            }
            _ => Some(Value::Null),
        };
        let Some(value) = value else {
            self.is_odd = true;
            return;
        };
        if !is_list {
            return self.confirmed.push(value);
        }
        for row in value["results"].as_array().into_iter().flatten() {
            let id = row["id"].as_str().unwrap_or_default();
            self.rows.entry(id.into()).or_insert_with(|| row.clone());
        }
        self.complete = value["filtered"]["results"].as_u64().is_some_and(|n| n <= self.rows.len() as u64);
    }

    fn assert_proves_a_pass(&self, expect: &Expect) {
        if self.is_odd {
            return;
        }
        assert!(self.complete, "a pass from a part of the list");
        let counted: Vec<&Value> = self.rows.values().filter(|row| self.counts(row)).collect();
        assert!(!counted.is_empty(), "a pass from nothing");
        let mut workflows: BTreeMap<&str, u32> = BTreeMap::new();
        for row in &counted {
            assert!(has_passed(row), "a pass in spite of {row}");
            let same = |other: &&Value| other["id"] == row["id"] && has_passed(other);
            assert!(self.confirmed.iter().any(|other| same(&other)), "a pass without a second look at {row}");
            *workflows.entry(row["workflow"]["name"].as_str().unwrap_or_default()).or_insert(0) += 1;
        }
        assert_eq!(expect.missing(&workflows), Vec::<String>::new());
    }

    /// Whether an execution must have passed for the check to pass.
    fn counts(&self, row: &Value) -> bool {
        has_tag(row)
            && row["runningContext"]["actor"]["type"] != "testworkflow"
            && time(&row["scheduledAt"]).is_some_and(|at| at >= BOUND)
            && !self.rows.values().any(|other| may_repeat(other, row))
    }
}

fn has_passed(row: &Value) -> bool {
    has_tag(row) && row["result"]["status"] == "passed" && has_ended(row)
}

fn has_tag(row: &Value) -> bool {
    row["tags"]["ado-run"] == "20260123.4"
}

/// Whether `later` could be a re-run of `earlier`: it names it, or both come from the same resource.
fn may_repeat(later: &Value, earlier: &Value) -> bool {
    let actor = |row: &Value, member: &str| {
        row["runningContext"]["actor"][member].as_str().unwrap_or_default().to_owned()
    };
    let by_reference =
        later["id"] != earlier["id"] && earlier["id"] == actor(later, "executionReference").as_str();
    let kinds: BTreeSet<String> = [later, earlier].map(|row| actor(row, "type")).into();
    let same_resource = later["id"] != earlier["id"]
        && kinds == BTreeSet::from(["testworkflowexecution".to_owned()])
        && !actor(later, "name").is_empty()
        && actor(later, "name") == actor(earlier, "name");
    has_tag(later)
        && later["workflow"]["name"] == earlier["workflow"]["name"]
        && time(&later["scheduledAt"]) >= time(&earlier["scheduledAt"])
        && (by_reference || same_resource)
}
