use super::*;
use crate::config::Config;
use crate::wire::call::{Asks, Response};
use serde_json::json;

const ID: &str = "6973a5d2e1c4b0a7f3d9e201";

/// Aborts and Testkube's side of them: `answer` gets the method and the time in seconds, and answers each due call at
/// once.
struct Story {
    aborts: Aborts,
    random: Random,
    calls: Vec<(u64, &'static str)>,
    effects: Vec<Effect>,
}

impl Story {
    fn new() -> Story {
        let (calls, effects) = (Vec::new(), Vec::new());
        let mut story = Story { aborts: Aborts::default(), random: Random::new(7), calls, effects };
        assert_eq!(story.aborts.ask(Mono(0), &tag(), vec![(ID.into(), "shop-e2e-17".into())]), 0);
        story
    }

    fn pass(
        &mut self,
        seconds: std::ops::Range<u64>,
        mut answer: impl FnMut(&'static str, u64) -> CallOutcome,
    ) {
        for second in seconds {
            let now = Mono(second * 1_000);
            while let Some((token, request)) = self.due(now, Waits::Nobody) {
                self.calls.push((second, request.method));
                let outcome = answer(request.method, second);
                self.effects.extend(self.aborts.answered(now, &mut self.random, token, &outcome));
            }
        }
    }

    /// The next call, where this is who waits for the tag.
    fn due(&mut self, now: Mono, who: Waits) -> Option<(Token, Request)> {
        self.aborts.due(now, &testkube(), &mut self.random, |awaited, _| match *awaited == tag() {
            true => who,
            false => Waits::Nobody,
        })
    }

    fn asks(&self) -> usize {
        self.calls.iter().filter(|(_, method)| *method == "POST").count()
    }
}

fn testkube() -> Testkube {
    let text = r#"{"testkube": {"cluster": "testkube"}, "insecure_no_auth": true,
        "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure"}]}"#;
    Config::parse(text.as_bytes(), &|_| None).unwrap().testkube
}

fn tag() -> Tag {
    Tag { key: "ado-run".into(), value: "shop-4711".into() }
}

fn status(status: u16) -> CallOutcome {
    let (content_type, asks, body) = (String::new(), Asks::default(), Ok(Vec::new()));
    CallOutcome::Response(Response { status, content_type, asks, from_envoy: false, body })
}

fn execution(status: &str) -> CallOutcome {
    let ended = ["passed", "failed", "aborted", "canceled"].contains(&status);
    let finished = if ended { "2026-01-23T16:45:00Z" } else { "0001-01-01T00:00:00Z" };
    let body = json!({
        "id": ID, "name": "shop-e2e-17", "number": 17, "scheduledAt": "2026-01-23T16:44:02Z",
        "statusAt": "2026-01-23T16:44:09Z", "workflow": {"name": "shop-e2e"}, "tags": {"ado-run": "shop-4711"},
        "result": {"status": status, "finishedAt": finished},
    });
    let (content_type, asks) = ("application/json".into(), Asks::default());
    let body = Ok(body.to_string().into_bytes());
    CallOutcome::Response(Response { status: 200, content_type, asks, from_envoy: false, body })
}

#[test]
fn an_execution_that_ends_is_counted_once_and_asked_once() {
    let mut story = Story::new();
    story.pass(0..900, |method, second| match (method, second) {
        ("POST", _) => status(204),
        (_, 0..6) => execution("stopping"),
        _ => execution("canceled"),
    });
    assert_eq!((story.asks(), story.effects.as_slice()), (1, [Effect::Aborted].as_slice()));
    assert!(story.aborts.executions.is_empty());
}

#[test]
fn an_execution_that_a_204_did_not_stop_is_asked_again_until_it_ends() {
    let mut story = Story::new();
    let mut is_aborted = false;
    story.pass(0..900, |method, second| {
        let runs = second >= 100;
        is_aborted |= method == "POST" && runs;
        match (method, is_aborted) {
            ("POST", _) => status(204),
            (_, true) => execution("canceled"),
            (_, false) => execution(if runs { "running" } else { "queued" }),
        }
    });
    assert_eq!(story.effects, [Effect::Aborted]);
    assert!(story.asks() > 2, "{:?}", story.calls);
}

#[test]
fn an_execution_that_goes_on_for_ever_is_given_up_and_not_counted() {
    let mut story = Story::new();
    story.pass(0..3_600, |method, _| if method == "POST" { status(204) } else { execution("queued") });
    assert_eq!((story.asks(), story.effects.len()), (12, 0), "{:?}", story.calls);
    assert!(story.aborts.executions.is_empty());
    let minutes = story.calls.last().map(|(second, _)| second / 60);
    assert!((10..=17).contains(&minutes.unwrap()), "{:?}", story.calls);
}

#[test]
fn one_that_is_stopping_is_only_looked_at() {
    let mut story = Story::new();
    story.pass(0..3_600, |method, _| if method == "POST" { status(204) } else { execution("stopping") });
    assert_eq!((story.asks(), story.effects.len()), (1, 0));
    assert!(story.aborts.executions.is_empty());
}

#[test]
fn an_execution_that_ends_by_itself_is_not_counted_as_aborted() {
    for (asked, seen) in
        [(status(204), execution("passed")), (status(204), status(404)), (status(400), status(500))]
    {
        let mut story = Story::new();
        story.pass(0..900, |method, _| if method == "POST" { asked.clone() } else { seen.clone() });
        assert_eq!((story.asks(), story.effects.len()), (1, 0));
        assert!(story.aborts.executions.is_empty());
    }
}

#[test]
fn an_abort_whose_answer_was_lost_is_counted_when_it_has_ended() {
    let mut story = Story::new();
    story.pass(0..900, |method, second| match (method, second) {
        ("POST", 0) => CallOutcome::Failed(Fault::NoAnswer),
        ("POST", _) => status(400),
        _ => execution("canceled"),
    });
    assert_eq!(story.effects, [Effect::Fault, Effect::Aborted]);
}

#[test]
fn a_testkube_that_is_away_is_asked_a_few_times() {
    let mut story = Story::new();
    story.pass(0..3_600, |_, _| status(502));
    assert_eq!(story.asks(), 13, "{:?}", story.calls);
    assert!(story.aborts.executions.is_empty());
}

#[test]
fn a_400_for_a_running_execution_does_not_loop() {
    let mut story = Story::new();
    story.pass(0..3_600, |method, second| match (method, second) {
        ("POST", 0) => status(204),
        ("POST", _) => status(400),
        _ => execution("running"),
    });
    assert!(story.calls.len() <= 30, "{:?}", story.calls);
}

#[test]
fn an_execution_for_which_a_check_waits_by_now_goes_on() {
    let mut story = Story::new();
    story.pass(0..3, |_, _| status(204));
    assert!(story.due(Mono(60_000), Waits::Here).is_none());
    assert!(story.aborts.executions.is_empty());
}

#[test]
fn an_answer_to_a_forgotten_abort_is_not_taken_for_anothers() {
    let mut story = Story::new();
    let (old, _) = story.due(Mono(0), Waits::Nobody).unwrap();
    story.aborts.clear();
    story.aborts.ask(Mono(0), &tag(), vec![("another".into(), "shop-e2e-18".into())]);
    assert_eq!(story.aborts.answered(Mono(0), &mut story.random, old, &status(502)), None);
    assert!(story.due(Mono(0), Waits::Nobody).is_some_and(|(token, _)| token != old));
}

#[test]
fn few_calls_are_under_way_and_one_that_could_not_be_started_is_due_again() {
    let mut story = Story::new();
    let more = (0..MAX_EXECUTIONS).map(|n| (format!("{n}"), "a".into())).collect();
    assert_eq!(story.aborts.ask(Mono(0), &tag(), more), 1);
    let mut due = || story.due(Mono(0), Waits::Nobody).map(|(token, _)| token);
    let (first, second) = (due().unwrap(), due().unwrap());
    assert!(due().is_none() && first != second);
    story.aborts.not_started(first);
    assert!(story.due(Mono(0), Waits::Nobody).is_some());
}
