//! One row per case: a request, its answer, and what Azure DevOps gets. All rows use one worker of one Envoy, so if a
//! request breaks something, the next row shows it.

use anyhow::{Context, Result, bail, ensure};
use fakes::{Status, execution};
use host_tests::client::{Request, Response};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, PASSWORD};
use std::time::Duration;

/// A case.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// What is wrong, as a sentence's subject.
    pub(crate) name: &'static str,
    /// The request of a pipeline.
    pub(crate) request: fn(&Pipeline) -> Request,
    /// What becomes of it.
    pub(crate) outcome: Outcome,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// A problem document with this status and title, whose text holds these words. Nothing is stored or sent.
    Refused(u16, &'static str, &'static str),
    /// 200 `rejected`. These words stand in the answer and in the check's log, and the check fails.
    Rejected(&'static str),
    /// 200 `accepted`, and the check passes.
    Accepted,
    /// Envoy answers with this status before the module sees the request.
    ByEnvoy(u16),
}

use Outcome::{Accepted, ByEnvoy, Refused, Rejected};

/// The title for requests whose outcome nobody could be told.
pub(crate) const UNANSWERABLE: &str = "This check could not be answered";

/// Part of every value that stands for a secret.
pub(crate) const CANARY: &str = "canary-6b1f";

/// A row.
pub(crate) const fn row(name: &'static str, request: fn(&Pipeline) -> Request, outcome: Outcome) -> Row {
    Row { name, request, outcome }
}

/// 400, because there is no way back to Azure DevOps; with these words.
pub(crate) const fn unanswerable(words: &'static str) -> Outcome {
    Refused(400, UNANSWERABLE, words)
}

const SOON: Duration = Duration::from_secs(60);

/// Sends every row, a good check after each tenth, and then looks at what reached Azure DevOps and Testkube. The error
/// lists every row that went wrong.
pub(crate) fn run(rows: &[Row]) -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?.concurrency(1))?;
    let (mut sent, mut wrong) = (Vec::new(), Vec::new());
    let good = row("a good check", |run| run.check("shop-e2e"), Accepted);
    for (n, row) in rows.iter().enumerate() {
        let is_break = n % 10 == 9 || n + 1 == rows.len();
        for row in [*row].into_iter().chain(is_break.then_some(good)) {
            let pipeline = pipeline(&scene, sent.len())?;
            wrong.extend(send(&row, &pipeline, &envoy).err().map(|e| format!("{}: {e:#}", row.name)));
            sent.push((row, pipeline));
        }
    }
    // The last row is a good check: once it is decided, everything that was stored before has been looked at.
    for (row, pipeline) in sent.iter().rev() {
        let decided = check_decision(row, pipeline, &scene);
        wrong.extend(decided.err().map(|e| format!("afterwards, {}: {e:#}", row.name)));
    }
    if !wrong.is_empty() {
        bail!("{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    }
    check_nothing_fell(&envoy)?;
    envoy.stop()
}

fn send(row: &Row, pipeline: &Pipeline, envoy: &Envoy) -> Result<()> {
    let answer = (row.request)(pipeline).send(envoy.address())?;
    check_answer(row, pipeline, &answer).with_context(|| format!("{} {}", answer.status, answer.text()))?;
    let alive = Request::get("/testrelay/healthz").send(envoy.address())?;
    ensure!(alive.status == 200, "afterwards the module is gone: {} {}", alive.status, alive.text());
    Ok(())
}

/// The module has not trapped, and nothing was to be rebuilt.
pub(crate) fn check_nothing_fell(envoy: &Envoy) -> Result<()> {
    let log = envoy.log();
    for trace in ["[critical]", "panicked", "Uncaught", "failed with status", "VM failed", "wasm vm reload"] {
        ensure!(!log.contains(trace), "{trace:?} in the log: {log}");
    }
    let reloads = envoy.stats()?.into_iter().find(|(name, n)| name.contains("vm_reload") && *n > 0);
    ensure!(reloads.is_none(), "{reloads:?}");
    Ok(())
}

/// A pipeline whose tests have passed: a request that is wrongly accepted as a check would pass, and be noticed.
fn pipeline(scene: &Scene, n: usize) -> Result<Pipeline> {
    let pipeline = scene.pipeline(u32::try_from(n)? + 1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &pipeline.tag).at(now_ms(), Status::Passed));
    Ok(pipeline)
}

fn check_answer(row: &Row, pipeline: &Pipeline, answer: &Response) -> Result<()> {
    let text = answer.text();
    let said = |name: &str| answer.json().ok().and_then(|body| Some(body[name].as_str()?.to_string()));
    match row.outcome {
        Refused(status, title, words) => {
            ensure!(answer.status == status, "{status} expected");
            ensure!(answer.header("content-type") == Some("application/problem+json"));
            ensure!(said("title").as_deref() == Some(title), "the title {title:?} expected");
            ensure!(answer.json()?["status"] == status, "the document's status");
            ensure!(text.contains(words), "{words:?} expected");
            ensure!(
                status != 401 || answer.header("www-authenticate").is_some_and(|v| v.starts_with("Basic "))
            );
            ensure!(status != 405 || answer.header("allow").is_some(), "allow expected");
        }
        Rejected(words) => {
            ensure!(
                (answer.status, said("status").as_deref()) == (200, Some("rejected")),
                "rejection expected"
            );
            ensure!(text.contains(words), "{words:?} expected");
        }
        Accepted => {
            ensure!(
                (answer.status, said("status").as_deref()) == (200, Some("accepted")),
                "acceptance expected"
            );
        }
        ByEnvoy(status) => ensure!(answer.status == status, "{status} expected"),
    }
    for secret in [pipeline.spec.token.as_str(), PASSWORD, BEARER, CANARY] {
        ensure!(!text.contains(secret), "the answer holds a secret");
    }
    Ok(())
}

fn check_decision(row: &Row, pipeline: &Pipeline, scene: &Scene) -> Result<()> {
    match row.outcome {
        Accepted => {
            let decision = scene.decision(pipeline, SOON)?;
            ensure!(decision.result() == "succeeded", "{}", decision.text());
        }
        Rejected(words) => {
            let decision = scene.decision(pipeline, SOON)?;
            ensure!(decision.result() == "failed", "{}", decision.text());
            ensure!(decision.text().contains(words), "{words:?} expected in the log: {}", decision.text());
            ensure!(!decision.text().contains("##vso["), "a command in the log: {}", decision.text());
            ensure!(!asked_of_testkube(scene, &pipeline.tag), "Testkube was asked for a rejected check");
        }
        Refused(..) | ByEnvoy(_) => {
            let azure = scene.azure();
            let told = azure.requests().iter().find(|r| r.request.target.contains(&pipeline.spec.plan));
            ensure!(told.is_none(), "sent to Azure DevOps: {told:?}");
            ensure!(!asked_of_testkube(scene, &pipeline.tag), "Testkube was asked for a refused check");
        }
    }
    Ok(())
}

/// A tag's value ends at the end of the selector or at the comma before the next one.
fn asked_of_testkube(scene: &Scene, tag: &str) -> bool {
    let item = format!("{TAG_KEY}%3D{tag}");
    scene.testkube().requests().iter().any(|r| {
        let target = &r.request.target;
        target.contains("/artifacts/")
            || target.contains(&format!("{item}&"))
            || target.contains(&format!("{item}%2C"))
    })
}
