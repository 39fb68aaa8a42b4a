//! Azure DevOps's answers: each has one meaning, and whatever comes, the check ends and is told at most once.
//!
//! An input's first line says what the check is like (`build`: with a BuildId; `stage`: since the start of the stage `Test`;
//! `fails`: its execution fails); then come the answers in the order of the calls. When they are used up, Azure DevOps
//! answers well.

use crate::answers;
use crate::leader::{Leader, event_result, is_to_testkube};
use crate::logs;
use crate::setting::{
    SECRETS, assert_key_names_are_clean, config, holds_a_secret, ledger_of, pending, record_of,
};
use crate::texts::{assert_no_secret, assert_one_line, assert_short};
use serde_json::{Value, json};
use std::time::Duration;
use testrelay::check::State;
use testrelay::wire::azure::{Answer, LogId, build_start, classify, newest_attempt};
use testrelay::wire::call::{CallOutcome, Fault, Request, Response};

const STAGE: &str = "Test";

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
    let (options, answers) = answers::read(input);
    let has = |option: &str| options.split_whitespace().any(|word| word == option);
    for answer in &answers {
        assert_meaning(answer);
        if let CallOutcome::Response(Response { body: Ok(body), .. }) = answer {
            assert_read_right(body);
        }
    }
    let build = (has("build") || has("stage")).then_some(4711);
    let check = pending(|ask| ask.since_stage = has("stage").then(|| STAGE.into()), build);
    let (store, key) = ledger_of(check);
    let mut story = Story { passes: !has("fails"), ..Story::default() };
    let mut leader = Leader::new(config(""), store);
    let mut answers = answers.into_iter();
    // More than every back-off and Retry-After together, and less than the check's 12 hours.
    for _ in 0..120 {
        leader.tick(Duration::from_secs(301));
        while let Some((id, call)) = leader.next_call() {
            let answer = match is_to_testkube(&call) {
                true => story.testkube(&call),
                false => answers.next().unwrap_or_else(|| answers::ok(r#"{"id":1}"#)),
            };
            story.note(&call, &answer);
            if answer != CallOutcome::Failed(Fault::Lost) {
                leader.answer(id, &answer);
            }
        }
        if matches!(record_of(&mut leader.store, &key).map(|r| r.state), None | Some(State::Done(_))) {
            return assert_key_names_are_clean(&leader.store);
        }
    }
    panic!("the check never ends");
}

/// What the two services have seen.
#[derive(Default)]
struct Story {
    passes: bool,
    /// Azure DevOps took the token, or refused something to somebody whom it knows.
    known: bool,
    /// Azure DevOps took a TaskCompleted.
    told: bool,
}

impl Story {
    fn note(&mut self, call: &Request, answer: &CallOutcome) {
        if is_to_testkube(call) {
            assert!(self.known, "Testkube was asked before Azure DevOps took the token");
            return;
        }
        // Lines that could not be written before are written still.
        if let Some(result) = event_result(call) {
            assert!(!self.told, "an event after one that was taken");
            assert!(self.passes || result == "failed", "a pass although the execution failed");
            self.told = is_taken(answer);
        }
        let forbidden = matches!(answer, CallOutcome::Response(r) if r.status == 403 && !r.from_envoy);
        self.known |= is_taken(answer) || forbidden;
    }

    /// Testkube: one execution with the tag, which has ended.
    fn testkube(&self, call: &Request) -> CallOutcome {
        let execution = json!({
            "id": "6973a5d2e1c4b0a7f3d9e202", "name": "shop-api-41", "number": 41,
            "scheduledAt": "2026-01-23T16:44:02.090Z", "tags": {"ado-run": "20260123.4"},
            "workflow": {"name": "shop-api"},
            "result": {
                "status": if self.passes { "passed" } else { "failed" },
                "finishedAt": "2026-01-23T16:45:10.552Z"
            }
        });
        let answer = match call.path.contains("tagSelector=") {
            true => json!({"filtered": {"results": 1}, "results": [execution]}),
            false => execution,
        };
        answers::ok(&answer.to_string())
    }
}

/// A 2xx of the server itself that is no sign-in page.
fn is_taken(answer: &CallOutcome) -> bool {
    let CallOutcome::Response(response) = answer else { return false };
    let is_page = response.content_type.to_ascii_lowercase().starts_with("text/html");
    (200..300).contains(&response.status) && response.status != 203 && !is_page && !response.from_envoy
}

fn assert_meaning(outcome: &CallOutcome) {
    let answer = classify(outcome);
    assert_eq!(answer == Answer::Taken, is_taken(outcome), "{answer:?}");
    let CallOutcome::Response(response) = outcome else {
        return assert!(matches!(answer, Answer::Later(_, None)));
    };
    match &answer {
        Answer::Taken => {}
        Answer::Over(why) => {
            assert!(response.status >= 400 && why.ends_with("Exception"), "{why}");
            let body: Option<Value> =
                response.body.as_ref().ok().and_then(|b| serde_json::from_slice(b).ok());
            assert!(body.is_none_or(|body| body.is_array() || body["typeKey"] == why.as_str()));
        }
        Answer::TokenRefused => assert!((200..400).contains(&response.status) || response.status == 401),
        Answer::Forbidden => assert_eq!(response.status, 403),
        Answer::Later(fault, after) => {
            assert!(response.from_envoy || response.status >= 500 || [408, 429].contains(&response.status));
            assert!(after.is_none_or(|after| after <= Duration::from_secs(600)));
            assert_one_line("a fault", &fault.to_string());
        }
        Answer::Refused(fault) => {
            assert!(!(200..300).contains(&response.status) && !response.from_envoy);
            assert_one_line("a fault", &fault.to_string());
        }
    }
}

/// Panics if what was read from a body is not in it, or is another thing when the body is spelt in another way.
fn assert_read_right(body: &[u8]) {
    // A list in the place of an object gives its members by their order; nobody answers like that.
    let Ok(value @ Value::Object(_)) = serde_json::from_slice(body) else { return };
    let respelt = value.to_string().into_bytes();
    if let Some(start) = build_start(body) {
        assert_eq!(build_start(&respelt), Some(start));
        assert!(value["startTime"].is_string());
    }
    if let Ok(attempt) = newest_attempt(body, STAGE) {
        assert_eq!(newest_attempt(&respelt, STAGE), Ok(attempt));
        let records = value["records"].as_array().expect("a timeline has records");
        if records.iter().any(Value::is_array) {
            return;
        }
        let is_stage = |r: &&Value| r["type"] == "Stage" && (r["name"] == STAGE || r["identifier"] == STAGE);
        let newest = records.iter().filter(is_stage).map(|r| r["attempt"].as_u64().unwrap_or(1)).max();
        assert_eq!(newest, Some(u64::from(attempt.number)), "not the newest attempt");
    }
    if let Ok(log) = serde_json::from_slice::<LogId>(body) {
        assert_eq!(value["id"].as_u64(), Some(log.id));
    }
}
