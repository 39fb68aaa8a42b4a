//! Azure Pipelines: the mistakes in the check of `envoy/azure-pipelines`, as `verify-check` or the check's own log tells them.

use super::*;
use crate::pipelines::check::created;
use crate::pipelines::configurations::{Configurations, ENVIRONMENT, PROJECT, TOKEN};
use crate::readme;

pub(super) const MISTAKES: &[Mistake] = &[
    ("The completion event is ApiResponse", |_, line| {
        verified(|check| check["settings"]["inputs"]["waitForCompletion"] = json!("false"), line)
    }),
    ("The time between evaluations is not 0", |_, line| {
        verified(|check| check["settings"]["retryInterval"] = json!(5), line)
    }),
    ("The check was changed by hand, and a header is gone", |_, line| {
        let without = |check: &mut Value| {
            let headers = &mut check["settings"]["inputs"]["headers"];
            let mut members: Value =
                serde_json::from_str(headers.as_str().unwrap_or_default()).unwrap_or_default();
            members.as_object_mut().and_then(|members| members.remove("BuildId"));
            *headers = json!(members.to_string());
        };
        verified(without, line)
    }),
    ("`BuildId` is not among the headers", |scene, line| {
        told_in_log(scene, |run| run.fields("shop-e2e").without("BuildId").request(), line)
    }),
    ("The tag does not contain the BuildId", |scene, line| {
        told_in_log(scene, |run| run.fields("shop-e2e").with("Testrelay-Tag", "shop").request(), line)
    }),
    ("`TESTS_TAG` is not `Testrelay-Tag`", |scene, line| {
        // Nothing carries the tag of the check.
        let soon = |run: &Pipeline| run.fields("shop-e2e").with("Testrelay-Appear-Timeout", "3s").request();
        told_in_log(scene, soon, line)
    }),
    ("`Testrelay-Since-Stage` names a stage that the pipeline does not have", |scene, line| {
        let stage = |run: &Pipeline| run.fields("shop-e2e").with("Testrelay-Since-Stage", "Tests").request();
        told_in_log(scene, stage, line)
    }),
    ("The check's method is not POST", |scene, line| {
        let by_get = |run: &Pipeline| {
            let request = Request::get("/testrelay/v1/checks").basic(USER, PASSWORD);
            request.header("PlanId", &run.spec.plan).header("AuthToken", &run.spec.token)
        };
        answered(scene, scene.setup()?, by_get, line)
    }),
    ("The service connection's URL has a blank", |scene, line| {
        let blank = |_: &Pipeline| Request::post("/testrelay%20/v1/checks").basic(USER, PASSWORD);
        answered(scene, scene.setup()?, blank, line)
    }),
];

/// `verify-check` says it of the check that `create-check` creates, changed like this.
fn verified(change: fn(&mut Value), line: &str) -> Result<()> {
    let api = Configurations::new()?;
    let mut check = created()?;
    change(&mut check);
    api.set(vec![check]);
    let ended = api.run("verify-check.sh", TOKEN, &[PROJECT, ENVIRONMENT])?;
    ensure!(ended.code == Some(1) && ended.said.trim_end() == line, "{:?} {}", ended.code, ended.said);
    Ok(())
}

/// The last line of the check's log says it, whatever the numbers in it are.
fn told_in_log(scene: &Scene, request: fn(&Pipeline) -> Request, line: &str) -> Result<()> {
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let run = next(scene);
    let answer = request(&run).send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let decision = scene.decision(&run, SOON)?;
    let (said, line) = (readme::alike(decision.line()), readme::alike(line));
    ensure!(said.ends_with(&line), "{}", decision.line());
    envoy.stop()
}
