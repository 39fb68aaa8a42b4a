//! The same check delivered again, and more checks than there is room for.

use super::table::check_nothing_fell;
use anyhow::{Result, ensure};
use fakes::azure::AtPlans;
use fakes::{Status, execution};
use host_tests::client::{Request, Response};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, wait_for, wait_until};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn send(envoy: &Envoy, request: Request) -> Result<(u16, String, String)> {
    let answer: Response = request.send(envoy.address())?;
    let body = answer.json()?;
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
    Ok((answer.status, text("status") + &text("title"), text("message") + &text("detail")))
}

fn tests_pass(scene: &Scene, run: &Pipeline) {
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
}

#[test]
fn a_pending_check_cannot_be_changed_and_a_delivery_after_its_decision_is_told_it_again() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = scene.pipeline(1);
    let fields = run.fields("shop-e2e");
    let accepted = |(status, word, _): &(u16, String, String)| (*status, word.as_str()) == (200, "accepted");
    ensure!(accepted(&send(&envoy, fields.request())?));
    // Until its token is taken, others stand beside it.
    wait_until("a look at Testkube, which only a taken token starts", SOON, || {
        scene.testkube().requests().iter().any(|asked| asked.request.target.contains(&run.tag))
    })?;

    for changed in [
        fields.clone().with("Testrelay-Tag", "other-4001"),
        fields.clone().with("Testrelay-Expect", "shop-api"),
        fields.clone().with("Testrelay-Timeout", "1h"),
        fields.clone().with("TimelineId", &run.spec.job),
        fields.clone().with("Testrelay-Expect", "0"),
    ] {
        let (status, title, detail) = send(&envoy, changed.request())?;
        assert_eq!((status, title.as_str()), (409, "The same check is pending with other values"));
        assert!(detail.contains("cannot be changed"), "{detail}");
    }
    let again = send(&envoy, fields.request())?;
    assert!(accepted(&again) && again.2.contains("already waiting"), "{again:?}");

    tests_pass(&scene, &run);
    assert_eq!(scene.decision(&run, SOON)?.result(), "succeeded");
    let reported = wait_for("the answer to a late delivery", SOON, || {
        send(&envoy, fields.request()).ok().filter(|(_, word, _)| word == "reported")
    })?;
    assert_eq!(
        (reported.0, reported.2.as_str()),
        (200, "Testrelay has just reported `succeeded` for this check, and reports the same decision again.")
    );
    // Azure DevOps no longer waits and says so; that answers the event before.
    wait_until("the decision once more", SOON, || scene.azure().events(&run.spec.plan).len() > 1)?;

    // One with another token so soon is told too. A repeat that is still on its way with the first token is as good: Azure
    // DevOps takes the event for whichever delivery waits.
    let mut second = run.clone();
    second.spec.token = "second-token-of-this-check".into();
    let since = now_ms();
    scene.azure().start_check(since, second.spec.clone());
    assert_eq!(send(&envoy, second.check("shop-e2e"))?.0, 200);
    wait_until("the decision for the new delivery", SOON, || {
        let events = scene.azure().events(&run.spec.plan);
        events.iter().any(|event| event.accepted && event.at >= since)
    })?;
    let told = scene.azure().events(&run.spec.plan).into_iter().rfind(|event| event.accepted);
    assert_eq!(told.and_then(|event| event.result).as_deref(), Some("succeeded"));
    check_nothing_fell(&envoy)?;
    envoy.stop()
}

/// Tag and expectation of a forged delivery whose fields had the same 64-bit FNV-1a as those of the true one, in the module.
const COLLIDING: (&str, &str) = ("evil-4711-jlc2Bnogp6wWJhBXxndb", "noop");

#[test]
fn a_forged_delivery_decides_nothing_and_keeps_no_true_one_out_whichever_comes_first() -> Result<()> {
    for (tag, expect) in [COLLIDING, ("evil-4711", "noop"), ("evil", "noop")] {
        for forged_first in [true, false] {
            let scene = Scene::new()?;
            let envoy = Envoy::start(&scene.setup()?.concurrency(2))?;
            let run = scene.pipeline(711);
            let truth = run.fields("shop-e2e").with("Testrelay-Tag", "shopa-4711");
            let forged = truth
                .clone()
                .with("AuthToken", "forged")
                .with("Testrelay-Tag", tag)
                .with("Testrelay-Expect", expect);
            let execution = |workflow, tag: &str, status| {
                scene.execution(execution(workflow).tag(TAG_KEY, tag).at(now_ms(), status));
            };
            execution("shop-e2e", "shopa-4711", Status::Failed);
            execution("noop", tag, Status::Passed);
            let both = [truth.request(), forged.request()];
            for at in if forged_first { [1, 0] } else { [0, 1] } {
                let (status, word, text) = send(&envoy, both[at].clone())?;
                ensure!(status == 200, "{status} {word} {text}");
            }
            let decision = scene.decision(&run, SOON)?;
            assert_eq!(decision.result(), "failed", "{tag}, forged first: {forged_first}");
            let asked = |tag: &str| {
                scene.testkube().requests().iter().any(|asked| asked.request.target.contains(tag))
            };
            ensure!(asked("shopa-4711") && !asked("evil"), "a forged tag was asked for");
            check_nothing_fell(&envoy)?;
            envoy.stop()?;
        }
    }
    Ok(())
}

/// A token that Azure DevOps knows: it may read every build of the project, and do nothing at the check's plan.
const READER: &str = "reader-of-builds-5b1e";

/// The answers to its calls: at the check's plan, and for the build.
fn reads(scene: &Scene, run: &Pipeline) -> [Vec<u16>; 2] {
    let azure = scene.azure();
    let own = azure.requests().iter().filter(|seen| {
        seen.request.value("authorization").is_some_and(|value| value == format!("Bearer {READER}"))
    });
    let (plan, build): (Vec<_>, Vec<_>) = own.partition(|seen| seen.request.target.contains(&run.spec.plan));
    [plan, build].map(|calls| calls.into_iter().filter_map(|call| call.status).collect())
}

#[test]
fn a_token_that_may_read_the_build_alone_decides_nothing_before_the_true_one_or_after_it() -> Result<()> {
    for is_first in [true, false] {
        let scene = Scene::new()?;
        let envoy = Envoy::start(&scene.setup()?.concurrency(2))?;
        scene.azure().know_reader(READER, AtPlans::Forbidden);
        let run = scene.pipeline(712);
        let truth = run.fields("shop-e2e");
        let reader = truth.clone().with("AuthToken", READER);
        let other = reader.clone().with("Testrelay-Tag", "evil-4712").with("Testrelay-Expect", "noop");
        scene.execution(execution("noop").tag(TAG_KEY, "evil-4712").at(now_ms(), Status::Passed));
        let asked =
            |tag: &str| scene.testkube().requests().iter().any(|seen| seen.request.target.contains(tag));
        if is_first {
            assert_eq!(send(&envoy, other.request())?.0, 200);
            wait_until("an event with the reader's token", SOON, || {
                scene.azure().events(&run.spec.plan).iter().any(|event| !event.accepted)
            })?;
            ensure!(asked("evil-4712"), "the token that may read the build did not go on");
            assert_eq!(send(&envoy, truth.request())?.0, 200);
        } else {
            assert_eq!(send(&envoy, truth.request())?.0, 200);
            wait_until("a look at Testkube", SOON, || asked(&run.tag))?;
            assert_eq!(send(&envoy, other.request())?.0, 409);
            assert_eq!(send(&envoy, reader.request())?.0, 200);
        }
        let begins = now_ms();
        let failing = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(begins, Status::Running);
        scene.execution(failing.at(begins + 6_000, Status::Failed));
        let decision = scene.decision(&run, SOON)?;
        assert_eq!(decision.result(), "failed", "reader first: {is_first}");
        assert_eq!(decision.event.token_used.as_ref(), Some(&run.spec.token));
        ensure!(decision.line().contains("failed"), "{}", decision.text());
        let [plan, build] = reads(&scene, &run);
        ensure!(!plan.is_empty() && plan.iter().all(|status| *status == 403), "at the plan: {plan:?}");
        ensure!(build.iter().all(|status| *status == 200), "{build:?}");
        assert_eq!(build.is_empty(), !is_first, "only a check that is not proven asks for the build with it");
        check_nothing_fell(&envoy)?;
        envoy.stop()?;
    }
    Ok(())
}

#[test]
fn a_check_that_finds_no_room_is_turned_away_and_nothing_is_sent_for_it() -> Result<()> {
    let scene = Scene::new()?;
    let envoy =
        Envoy::start(&scene.setup()?.concurrency(1).plugin(json!({ "checks": { "max_pending": 1 } })))?;
    let (first, second) = (scene.pipeline(1), scene.pipeline(2));
    assert_eq!(send(&envoy, first.check("shop-e2e"))?.0, 200);
    // The count is the leader's: it knows the first check with its next tick.
    wait_until("the first check to be counted", SOON, || {
        let ready = Request::get("/testrelay/readyz").send(envoy.address());
        ready.is_ok_and(|answer| answer.text().contains("pending checks: 1"))
    })?;
    let (status, title, detail) = send(&envoy, second.check("shop-e2e"))?;
    assert_eq!((status, title.as_str()), (503, "Too many checks are pending"));
    assert!(detail.contains("will not be reported") && detail.contains("Re-run the stage"), "{detail}");
    assert_eq!(send(&envoy, first.check("shop-e2e"))?.0, 200, "a known check needs no room");

    tests_pass(&scene, &first);
    tests_pass(&scene, &second);
    scene.decision(&first, SOON)?;
    let third = scene.pipeline(3);
    wait_until("room", SOON, || {
        send(&envoy, third.check("shop-e2e")).is_ok_and(|(status, ..)| status == 200)
    })?;
    tests_pass(&scene, &third);
    assert_eq!(scene.decision(&third, SOON)?.result(), "succeeded");
    assert!(!scene.azure().requests().iter().any(|r| r.request.target.contains(&second.spec.plan)));
    check_nothing_fell(&envoy)?;
    envoy.stop()
}
