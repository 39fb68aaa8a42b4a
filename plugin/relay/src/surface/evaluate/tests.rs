mod policies;

use super::*;
use crate::store::ledger::memory::Memory;
use crate::wire::call::Response;
use serde_json::Value;

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_769_186_642_000;

fn config(checks: Value) -> Rc<Config> {
    let text = json!({
        "testkube": {"cluster": "t"}, "read_body": true, "checks": checks,
        "azure_devops": [{"url": "https://dev.azure.com/f", "cluster": "a"}],
        "credentials": [
            {"name": "all", "kind": "bearer", "secret_env": "ALL", "allow": ["checks"],
             "allow_policies": ["optional", "max_age"]},
            {"name": "few", "kind": "bearer", "secret_env": "FEW", "allow": ["checks"], "tags": ["shop-*"],
             "projects": ["00000001-0000-4000-8000-000000000001"]},
            {"name": "observed", "kind": "bearer", "secret_env": "OBSERVED", "allow": ["checks"], "mode": "observe"},
            {"name": "reader", "kind": "bearer", "secret_env": "READER", "allow": ["artifacts"]},
        ],
    });
    Rc::new(
        Config::parse(text.to_string().as_bytes(), &|name| {
            Some(format!("secret-of-{}-in-tests", name.to_lowercase()))
        })
        .unwrap(),
    )
}

fn ledger() -> Ledger {
    Ledger::with_key("p/", b"a-key-of-16-byte")
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(1_000_000 + ms), wall: Wall(NOW + i64::try_from(ms).unwrap()) }
}

fn headers(secret: &str, more: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let authorization = format!("Bearer secret-of-{secret}-in-tests");
    let all =
        [("authorization", authorization.as_str()), ("testrelay-tag", "shop-4711"), ("buildid", "4711")];
    let all = all.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| name == other));
    let all = all.chain(more.iter().copied());
    all.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// `shop-e2e-1` with its status; begun an hour ago, ended `ago` seconds ago if its status is terminal.
fn execution(name: &str, status: &str, ago: i64) -> Value {
    let ended = ["passed", "failed", "aborted", "canceled"].contains(&status);
    let finished = if ended { Wall(NOW - ago * 1_000).to_string() } else { "0001-01-01T00:00:00Z".into() };
    json!({
        "id": format!("id-{name}"), "name": name, "scheduledAt": Wall(NOW - HOUR).to_string(),
        "workflow": {"name": name.rsplit_once('-').unwrap().0}, "tags": {"ado-run": "shop-4711"},
        "result": {"status": status, "finishedAt": finished},
        "runningContext": {"actor": {"type": "testworkflowexecution", "name": name}},
    })
}

fn answered(body: &Value) -> CallOutcome {
    CallOutcome::Response(Response {
        status: 200,
        content_type: "application/json".into(),
        asks: Default::default(),
        from_envoy: false,
        body: Ok(body.to_string().into_bytes()),
    })
}

/// The calls of an evaluation, the maximum under way, and its answer.
struct Evaluated {
    asked: Vec<String>,
    most: usize,
    status: String,
    reason: String,
}

/// A Testkube that lists some executions and has others by id.
struct Testkube<'a> {
    listed: &'a [Value],
    single: &'a [Value],
    /// Duration of each answer, in milliseconds.
    takes: u64,
}

impl Testkube<'_> {
    fn answer(&self, request: &Request) -> CallOutcome {
        assert!(request.timeout <= MAX_TIME);
        let id = request.path.strip_prefix("/v1/test-workflow-executions/");
        match id {
            None => answered(&json!({"results": self.listed, "filtered": {"results": self.listed.len()}})),
            Some(id) => match self.single.iter().find(|execution| execution["id"] == id) {
                Some(execution) => answered(execution),
                None => CallOutcome::Failed(Fault::Status(404)),
            },
        }
    }

    fn evaluate(&self, store: &mut Memory, ms: u64, headers: &Headers) -> Evaluated {
        let config = config(json!({}));
        let mut evaluation = Evaluation::new(&config, &ledger(), at(ms), headers, None).ok().unwrap();
        let mut step = evaluation.begin(at(ms), store);
        let (mut under_way, mut asked, mut most, mut passed) = (Vec::new(), Vec::new(), 0, ms);
        loop {
            match step {
                Step::Reply(reply, _) => {
                    assert_eq!(reply.status, 200);
                    let body: Value = serde_json::from_str(&reply.body).unwrap();
                    let text = |name: &str| body[name].as_str().unwrap().to_string();
                    return Evaluated { asked, most, status: text("status"), reason: text("reason") };
                }
                Step::Call(calls) => under_way.extend(calls),
                Step::Wait => {}
                Step::Forward(_) | Step::Pause(_) => panic!("an evaluation goes nowhere"),
            }
            most = most.max(under_way.len());
            let (n, request) = under_way.remove(0);
            passed += self.takes;
            asked.push(request.path.clone());
            step = evaluation.answer(at(passed), store, n, &self.answer(&request));
        }
    }
}

fn evaluate(executions: &[Value], more: &[(&str, &str)]) -> Evaluated {
    let testkube = Testkube { listed: executions, single: executions, takes: 10 };
    testkube.evaluate(&mut Memory::default(), 0, &headers("all", more))
}

fn refusal(secret: &str, more: &[(&str, &str)]) -> (u16, String) {
    match Evaluation::new(&config(json!({})), &ledger(), at(0), &headers(secret, more), None) {
        Err(reply) => (reply.status, reply.body),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn all_have_passed_and_each_was_looked_at_again() {
    let all = [execution("shop-e2e-1", "passed", 5), execution("shop-api-2", "passed", 9)];
    let seen = evaluate(&all, &[("testrelay-expect", "shop-e2e, shop-api")]);
    assert_eq!(seen.status, "succeeded");
    assert!(seen.reason.starts_with("All 2 executions tagged ado-run=shop-4711 passed: "), "{}", seen.reason);
    assert!(seen.reason.contains("(6h before this evaluation)"), "{}", seen.reason);
    assert!(seen.asked[0].contains("tagSelector=ado-run%3Dshop-4711&startDate=2026-01-23T04%3A44%3A02"));
    assert_eq!(seen.asked.len(), 3);
    assert!(seen.asked.contains(&"/v1/test-workflow-executions/id-shop-api-2".into()));
}

#[test]
fn one_failed_execution_is_failed_with_its_reason() {
    let all = [execution("shop-e2e-1", "failed", 5), execution("shop-api-2", "passed", 9)];
    let mut single = all.clone();
    single[0]["result"]["initialization"] = json!({"errorMessage": "no such template"});
    let testkube = Testkube { listed: &all, single: &single, takes: 10 };
    let seen = testkube.evaluate(&mut Memory::default(), 0, &headers("all", &[("testrelay-expect", "2")]));
    assert_eq!(seen.status, "pending", "a number settles for 15 s, and clocks differ by 30 s");
    let more = [("testrelay-expect", "shop-e2e")];
    let seen = testkube.evaluate(&mut Memory::default(), 0, &headers("all", &more));
    assert_eq!(seen.status, "failed");
    assert!(seen.reason.ends_with(" shop-e2e-1: no such template."), "{}", seen.reason);
}

#[test]
fn what_is_not_over_is_pending_with_a_reason() {
    let running = [execution("shop-e2e-1", "running", 0)];
    for (executions, expect, reason) in [
        (&[][..], "", "Missing: any execution. Found: none."),
        (&running, "shop-e2e", "Not everything has ended: shop-e2e-1 running."),
        (&running, "shop-e2e, shop-api", "Missing: shop-api. Found: shop-e2e-1 running."),
    ] {
        let seen = evaluate(executions, &[("testrelay-expect", expect)]);
        assert_eq!((seen.status.as_str(), seen.reason.as_str()), ("pending", reason));
        assert_eq!(seen.asked.len(), 1);
    }
}

#[test]
fn a_set_settles_by_testkubes_own_times() {
    for (expect, ago, status) in [
        ("shop-e2e", 0, "succeeded"),
        ("1", 44, "pending"),
        ("1", 45, "succeeded"),
        ("", 89, "pending"),
        ("", 90, "succeeded"),
    ] {
        let seen = evaluate(&[execution("shop-e2e-1", "passed", ago)], &[("testrelay-expect", expect)]);
        assert_eq!(seen.status, status, "{expect} {ago}: {}", seen.reason);
    }
    let late = json!(Wall(NOW - 10_000).to_string());
    let mut all = [execution("shop-e2e-1", "passed", 600), execution("shop-api-2", "passed", 600)];
    all[1]["scheduledAt"] = late;
    assert_eq!(evaluate(&all, &[]).status, "pending", "one has joined ten seconds ago");
}

#[test]
fn children_and_other_tags_do_not_count() {
    let mut child = execution("shop-child-3", "failed", 500);
    child["runningContext"]["actor"] = json!({"type": "testworkflow", "executionId": "id-shop-e2e-1"});
    let mut other = execution("shop-other-4", "failed", 500);
    other["tags"]["ado-run"] = "shop-47110".into();
    let seen = evaluate(&[execution("shop-e2e-1", "passed", 500), child, other], &[]);
    assert_eq!(seen.status, "succeeded");
    assert!(seen.reason.contains("Not counted: shop-child-3 (started by another workflow)."));
    assert!(!seen.reason.contains("shop-other-4"), "{}", seen.reason);
}

#[test]
fn a_child_whose_parent_is_not_listed_counts() {
    for actor in [
        json!({"type": "testworkflow"}),
        json!({"type": "gitintegration", "executionId": "id-shop-other-4"}),
        json!({"type": "user", "executionPath": "id-shop-other-4/id-shop-other-5"}),
    ] {
        let mut child = execution("shop-child-3", "failed", 500);
        child["runningContext"]["actor"] = actor;
        let seen = evaluate(&[execution("shop-e2e-1", "passed", 500), child], &[]);
        assert_eq!(seen.status, "failed", "{}", seen.reason);
    }
}

#[test]
fn what_an_older_execution_has_started_is_not_what_is_expected() {
    let mut parent = execution("shop-e2e-1", "passed", 500);
    parent["scheduledAt"] = json!(Wall(NOW - 7 * HOUR).to_string());
    let mut child = execution("shop-child-3", "passed", 500);
    child["runningContext"]["actor"] = json!({"type": "testworkflow", "executionId": "id-shop-e2e-1"});
    let seen = evaluate(&[parent, child], &[]);
    assert_eq!(seen.status, "pending", "{}", seen.reason);
}

#[test]
fn an_execution_that_is_not_as_it_was_listed_decides_nothing() {
    let listed = [execution("shop-e2e-1", "passed", 500)];
    let running = execution("shop-e2e-1", "running", 0);
    let mut retagged = listed[0].clone();
    retagged["tags"] = json!({});
    for single in [vec![running], vec![retagged], vec![]] {
        let testkube = Testkube { listed: &listed, single: &single, takes: 10 };
        let seen = testkube.evaluate(&mut Memory::default(), 0, &headers("all", &[]));
        assert_eq!(seen.status, "pending");
    }
}

#[test]
fn faults_are_pending_and_say_which() {
    let config = config(json!({}));
    let body = |text: &str| match answered(&json!(null)) {
        CallOutcome::Response(response) => {
            CallOutcome::Response(Response { body: Ok(text.as_bytes().to_vec()), ..response })
        }
        failed => failed,
    };
    for (outcome, reason) in [
        (CallOutcome::Failed(Fault::NoAnswer), "The request to Testkube failed: no answer in time."),
        (
            CallOutcome::Failed(Fault::Refused),
            "The request to Testkube failed: refused by Envoy itself: DNS does not know",
        ),
        (body("<html>"), "The request to Testkube failed: an answer that is not JSON"),
        (body(r#"{"results": [], "filtered": {"results": 3}}"#), "Testkube's list was incomplete."),
    ] {
        let mut evaluation =
            Evaluation::new(&config, &ledger(), at(0), &headers("all", &[]), None).ok().unwrap();
        let store = &mut Memory::default();
        assert!(matches!(evaluation.begin(at(0), store), Step::Call(_)));
        let Step::Reply(reply, Some(Ended::Evaluation(Answered::Pending))) =
            evaluation.answer(at(1), store, 0, &outcome)
        else {
            panic!("{reason}");
        };
        assert!(reply.body.contains(reason), "{}", reply.body);
    }
}

#[test]
fn many_are_confirmed_eight_at_a_time_and_too_many_are_a_failure() {
    let many = |n: u32| -> Vec<Value> {
        (0..n).map(|n| execution(&format!("shop-e2e-{n}"), "passed", 500)).collect()
    };
    let seen = evaluate(&many(40), &[]);
    assert_eq!((seen.status.as_str(), seen.most, seen.asked.len()), ("succeeded", 8, 41));
    let fast = |all: &[Value]| {
        let testkube = Testkube { listed: all, single: all, takes: 1 };
        testkube.evaluate(&mut Memory::default(), 0, &headers("all", &[]))
    };
    let seen = fast(&many(150));
    assert_eq!((seen.status.as_str(), seen.asked.len()), ("succeeded", 152));
    assert!(seen.asked[1].contains("pageSize=1000"));
    for n in [201, 1_001] {
        let seen = fast(&many(n));
        assert_eq!(seen.status, "failed");
        assert!(seen.reason.contains("More than 200 executions"), "{}", seen.reason);
    }
}

#[test]
fn a_slow_testkube_is_not_waited_for_longer_than_there_is_time() {
    let all: Vec<Value> = (0..40).map(|n| execution(&format!("shop-e2e-{n}"), "passed", 500)).collect();
    let testkube = Testkube { listed: &all, single: &all, takes: 300 };
    let seen = testkube.evaluate(&mut Memory::default(), 0, &headers("all", &[]));
    assert_eq!(seen.status, "pending");
    assert!(seen.reason.contains("too slow"), "{}", seen.reason);
    assert!(seen.asked.len() < 8);
}

#[test]
fn evaluations_share_a_look_for_what_is_pending_only() {
    let mut store = Memory::default();
    let running = [execution("shop-e2e-1", "running", 0)];
    let ended = [execution("shop-e2e-1", "passed", 500)];
    let mut evaluate = |ms, listed: &[Value]| {
        let testkube = Testkube { listed, single: listed, takes: 10 };
        testkube.evaluate(&mut store, ms, &headers("all", &[("testrelay-expect", "shop-e2e")]))
    };
    assert_eq!(evaluate(0, &running).asked.len(), 1);
    let shared = evaluate(12_000, &ended);
    assert_eq!((shared.status.as_str(), shared.asked.len()), ("pending", 0));
    assert!(shared.reason.ends_with("Testkube said so 11s ago."), "{}", shared.reason);
    for ms in [21_000, 22_000] {
        let own = evaluate(ms, &ended);
        assert_eq!(
            (own.status.as_str(), own.asked.len()),
            ("succeeded", 2),
            "a decision rests on a new look"
        );
    }
}

#[test]
fn what_was_deleted_lately_is_no_pass() {
    let mut store = Memory::default();
    let both = [execution("shop-e2e-1", "passed", 500), execution("shop-e2e-2", "failed", 500)];
    let mut evaluate = |ms, listed: &[Value]| {
        let testkube = Testkube { listed, single: listed, takes: 10 };
        let seen = testkube.evaluate(&mut store, ms, &headers("all", &[("testrelay-expect", "shop-e2e")]));
        (seen.status, seen.reason)
    };
    assert_eq!(evaluate(0, &both).0, "failed");
    for ms in [60_000, 120_000] {
        let (status, reason) = evaluate(ms, &both[..1]);
        assert_eq!(status, "failed");
        assert_eq!(
            reason,
            "Gone from Testkube, or no longer tagged, so the result is unknown: shop-e2e-2. Found now: shop-e2e-1 passed."
        );
    }
    let mut again = execution("shop-e2e-3", "passed", 400);
    again["runningContext"]["actor"] = json!({"type": "user", "executionReference": "id-shop-e2e-2"});
    again["number"] = 3.into();
    let (status, reason) = evaluate(180_000, &[both[0].clone(), again]);
    assert_eq!(status, "succeeded", "a re-run stands for it: {reason}");
}

#[test]
fn what_was_deleted_is_not_forgotten_over_another_credentials_evaluations() {
    let mut store = Memory::default();
    let both = [execution("shop-e2e-1", "passed", 500), execution("shop-e2e-2", "failed", 500)];
    let mut evaluate = |credential: &str, tag: &str, listed: &[Value]| {
        let testkube = Testkube { listed, single: listed, takes: 10 };
        let headers = headers(credential, &[("testrelay-expect", "shop-e2e"), ("testrelay-tag", tag)]);
        testkube.evaluate(&mut store, 0, &headers).status
    };
    assert_eq!(evaluate("all", "shop-4711", &both), "failed");
    for n in 0..96 {
        assert_eq!(evaluate("observed", &format!("other-4711-{n}"), &[]), "pending");
    }
    assert_eq!(evaluate("observed", "shop-4711", &both[..1]), "succeeded", "it has not seen the other one");
    assert_eq!(evaluate("all", "shop-4711", &both[..1]), "failed");
}

#[test]
fn one_of_many_that_failed_and_was_deleted_is_no_pass() {
    let mut store = Memory::default();
    let mut all: Vec<Value> = (0..120).map(|n| execution(&format!("shop-e2e-{n}"), "passed", 500)).collect();
    all[0] = execution("shop-e2e-0", "failed", 500);
    let mut evaluate = |ms, listed: &[Value]| {
        let testkube = Testkube { listed, single: listed, takes: 1 };
        testkube.evaluate(&mut store, ms, &headers("all", &[("testrelay-expect", "shop-e2e")]))
    };
    assert_eq!(evaluate(0, &all).status, "failed");
    for n in 0..96 {
        assert_eq!(evaluate(1_000 + n, &all[1..]).status, "failed");
    }
    // If only the first counts, a re-run of one that is there is not missed.
    assert_eq!(evaluate(2_000, &all[..1]).status, "failed");
}

#[test]
fn where_too_much_had_not_passed_to_be_remembered_nothing_passes() {
    let mut store = Memory::default();
    let failed: Vec<Value> = (0..180).map(|n| execution(&format!("shop-e2e-{n}"), "failed", 500)).collect();
    let of = |tag: &str, all: &[Value]| -> Vec<Value> {
        let tagged = all.iter().cloned().map(|mut one| {
            one["tags"]["ado-run"] = tag.into();
            one
        });
        tagged.collect()
    };
    let mut evaluate = |tag: &str, listed: &[Value]| {
        let testkube = Testkube { listed, single: listed, takes: 1 };
        let more = [("testrelay-expect", "shop-e2e"), ("testrelay-tag", tag)];
        testkube.evaluate(&mut store, 0, &headers("all", &more))
    };
    for n in 0..100 {
        let tag = format!("shop-4711-{n}");
        assert_eq!(evaluate(&tag, &of(&tag, &failed)).status, "failed");
    }
    let passed = [execution("shop-e2e-200", "passed", 500)];
    let mut reasons = Vec::new();
    for n in 0..100 {
        let tag = format!("shop-4711-{n}");
        let seen = evaluate(&tag, &of(&tag, &passed));
        assert_ne!(seen.status, "succeeded", "{n}");
        reasons.push((seen.status, seen.reason));
    }
    let is_forgotten = |(status, reason): &&(String, String)| status == "pending" && reason == FORGOTTEN;
    assert!((1..100).contains(&reasons.iter().filter(is_forgotten).count()), "{reasons:?}");
}

#[test]
fn a_request_that_cannot_be_evaluated_is_refused_with_what_to_change() {
    for (more, says) in [
        (&[("testrelay-tag", "")][..], "Testrelay-Tag: missing"),
        (&[("testrelay-tag", "shop-1")], "BuildId 4711"),
        (&[("buildid", "$(build.BuildId)")], "was not replaced by Azure DevOps"),
        (&[("buildid", "")], "no BuildId was sent"),
        (&[("testrelay-since-stage", "Test")], "Testrelay-Since-Stage: is for the asynchronous check"),
        (&[("testrelay-timeout", "1h")], "Testrelay-Timeout: is for the asynchronous check"),
        (&[("testrelay-appear-timeout", "1h")], "Testrelay-Appear-Timeout: is for the asynchronous check"),
        (&[("testrelay-expects", "a")], "is unknown"),
        (&[("projectid", "no-guid")], "ProjectId: `no-guid` is not a GUID"),
    ] {
        let (status, body) = refusal("all", more);
        assert_eq!(status, 400, "{more:?}");
        assert!(body.contains(says), "{says}: {body}");
    }
    let body = Some(&b"{\"tag\": 1, \"tag\": 2}"[..]);
    assert!(Evaluation::new(&config(json!({})), &ledger(), at(0), &headers("all", &[]), body).is_err());
}

#[test]
fn the_headers_of_the_asynchronous_check_do_no_harm() {
    let more = [("authtoken", "secret-token"), ("planurl", "https://elsewhere.example/x"), ("jobid", "x")];
    let seen = evaluate(&[execution("shop-e2e-1", "passed", 500)], &more);
    assert_eq!(seen.status, "succeeded");
    assert!(!seen.reason.contains("secret-token"));
}

#[test]
fn a_body_can_hold_the_fields() {
    let config = config(json!({}));
    let bare = [("testrelay-tag", ""), ("buildid", ""), ("content-type", "application/json")];
    let bare = headers("all", &bare);
    assert!(matches!(admit(&config, &bare, true), Admission::AwaitBody(_)));
    assert!(matches!(admit(&config, &headers("all", &[]), false), Admission::Ready));
    let body = br#"{"tag": "shop-4711", "BuildId": 4711, "expect": ["shop-e2e"]}"#;
    let evaluation = Evaluation::new(&config, &ledger(), at(0), &bare, Some(&body[..])).ok().unwrap();
    assert_eq!(evaluation.ask.expect.to_string(), "shop-e2e");
}

#[test]
fn a_credential_asks_for_its_own_tags_and_projects_only() {
    let project = ("projectid", "00000001-0000-4000-8000-000000000001");
    assert_eq!(refusal("nobody", &[]).0, 401);
    assert_eq!(refusal("reader", &[]).0, 403);
    let others = [("testrelay-tag", "bank-4711"), project];
    assert!(refusal("few", &others).1.contains("does not cover this tag"));
    assert!(refusal("few", &[]).1.contains("names none"));
    let other = ("projectid", "00000002-0000-4000-8000-000000000001");
    assert!(refusal("few", &[other]).1.contains("does not cover this ProjectId"));
    let own = headers("few", &[project]);
    assert!(Evaluation::new(&config(json!({})), &ledger(), at(0), &own, None).is_ok());
}

#[test]
fn what_is_observed_only_succeeds_when_there_is_a_verdict() {
    let evaluate = |status| {
        let all = [execution("shop-e2e-1", status, 500)];
        let testkube = Testkube { listed: &all, single: &all, takes: 10 };
        testkube.evaluate(&mut Memory::default(), 0, &headers("observed", &[]))
    };
    assert_eq!(evaluate("running").status, "pending");
    let seen = evaluate("failed");
    assert_eq!(seen.status, "succeeded");
    assert!(seen.reason.starts_with("OBSERVE ONLY, would have been: failed. "), "{}", seen.reason);
}
