//! The proofs: what the fakes recorded, held against what Testrelay promises.
//!
//! Each answers with the sentence that is then proven, or with the error that says what was found instead.

use anyhow::{Context, Result, bail, ensure};
use fakes::{CheckSpec, Event, Recorded, Request};
use host_tests::Response;
use host_tests::scene::TAG_KEY;

/// Whether a request asks Testkube for executions by tag.
pub(super) fn is_poll(recorded: &Recorded) -> bool {
    recorded.request.path() == "/v1/test-workflow-executions"
}

/// The check was answered 200 `accepted`.
pub(super) fn accepted(answer: &Response) -> Result<String> {
    let status = answer.json().ok().and_then(|body| body["status"].as_str().map(str::to_owned));
    ensure!(
        answer.status == 200 && status.as_deref() == Some("accepted"),
        "the check was answered {}, not 200 accepted: {}",
        answer.status,
        answer.text()
    );
    Ok("The check was answered 200 \"accepted\" at once; the HTTP request is over.".to_owned())
}

/// The preflight found nothing wrong.
pub(super) fn preflight(answer: &Response) -> Result<String> {
    ensure!(answer.status == 200, "it was answered {}: {}", answer.status, answer.text());
    let body = answer.json()?;
    let found = body["checks"].as_array().context("it has no checks")?;
    let text = |found: &serde_json::Value, name: &str| found[name].as_str().unwrap_or_default().to_owned();
    if let Some(wrong) = found.iter().find(|found| found["result"] != "ok") {
        let [name, result, detail, todo] = ["name", "result", "detail", "todo"].map(|name| text(wrong, name));
        bail!("{name}: {result}: {detail}. {todo}");
    }
    let names: Vec<String> = found.iter().map(|found| text(found, "name")).collect();
    ensure!(names.len() >= 3 && body["result"] == "ok", "it looked only at {}", names.join(", "));
    Ok(format!("All that Testrelay needs is there and answers: {}.", names.join(", ")))
}

/// Azure DevOps took the check's token before Testkube was asked anything.
pub(super) fn token_came_first(azure: &[Recorded], testkube: &[Recorded]) -> Result<String> {
    let took = azure.iter().find(|told| told.status == Some(200)).map(|told| told.at);
    let took = took.context("Azure DevOps has not accepted a call with the check's token")?;
    let asked = testkube.first().map(|asked| asked.at).context("Testkube was never asked")?;
    ensure!(took <= asked, "Testkube was asked before Azure DevOps had accepted the check's token");
    Ok("Azure DevOps had accepted the check's token before Testkube was asked anything.".to_owned())
}

/// Testkube was polled while there was nothing to find.
pub(super) fn polled_in_vain(testkube: &[Recorded], appeared: i64) -> Result<String> {
    let polls = testkube.iter().filter(|asked| is_poll(asked) && asked.at < appeared).count();
    ensure!(polls > 0, "Testkube was not polled before the first execution appeared");
    Ok(format!("Testkube had been polled {} before the first execution appeared.", times(polls)))
}

/// Every poll names the tag and a lower bound in time.
pub(super) fn polls_are_bounded(testkube: &[Recorded], tag: &str) -> Result<String> {
    let polls: Vec<&Request> =
        testkube.iter().filter(|asked| is_poll(asked)).map(|asked| &asked.request).collect();
    ensure!(!polls.is_empty(), "Testkube was never polled");
    let wanted = format!("{TAG_KEY}={tag}");
    for poll in &polls {
        ensure!(
            selected(poll).iter().any(|value| value == tag),
            "a poll does not select {wanted}: {}",
            poll.target
        );
        let since = parameter(poll, "startDate").unwrap_or_default();
        ensure!(!since.is_empty(), "a poll has no startDate: {}", poll.target);
    }
    Ok(format!("All {} polls asked for tagSelector={wanted} and carried a startDate.", polls.len()))
}

/// No secret, and no header that could hold one, reached Testkube.
pub(super) fn no_credential(testkube: &[Recorded], secrets: &[&str]) -> Result<String> {
    for Recorded { request, .. } in testkube {
        for (name, value) in &request.headers {
            ensure!(
                !["authorization", "authtoken", "cookie"].contains(&name.as_str()),
                "a request to Testkube carried the header {name}: {}",
                request.target
            );
            ensure!(!holds(value, secrets), "a request to Testkube carried a secret in the header {name}");
        }
        ensure!(
            !holds(request.target.as_bytes(), secrets) && !holds(&request.body, secrets),
            "a request to Testkube carried a secret in its address or body"
        );
    }
    Ok(format!(
        "None of the {} requests that Testkube got carried a credential: no password, no token, no Authorization.",
        testkube.len()
    ))
}

/// One event only, of the check's task, with its token and the expected result.
pub(super) fn one_event(events: &[Event], spec: &CheckSpec, result: &str) -> Result<String> {
    let [event] = events else { bail!("Azure DevOps got {} events, not one", events.len()) };
    ensure!(event.accepted, "Azure DevOps refused the event");
    ensure!(event.name == "TaskCompleted", "the event is {:?}, not TaskCompleted", event.name);
    ensure!(event.result.as_deref() == Some(result), "the result is {:?}, not {result}", event.result);
    ensure!(
        event.task == spec.task && event.job == spec.job,
        "the event names task {} of job {}, not {} of {}",
        event.task,
        event.job,
        spec.task,
        spec.job
    );
    ensure!(
        event.token_used.as_deref() == Some(&spec.token),
        "the event did not come with the check's own token"
    );
    Ok(format!(
        "Azure DevOps got exactly one event and accepted it: TaskCompleted, \"{result}\", with the check's token."
    ))
}

/// First the log lines, then the record, then the event.
pub(super) fn in_order(azure: &[Recorded], plan: &str) -> Result<String> {
    let taken = azure.iter().filter(|told| told.status.is_some_and(|status| status < 300));
    let of_plan = taken.filter_map(|told| told.request.path().split_once(plan).map(|(_, rest)| rest));
    let paths: Vec<&str> = of_plan.collect();
    let line = paths.iter().rposition(|path| path.starts_with("/logs/"));
    let record = paths.iter().rposition(|path| path.ends_with("/records"));
    let event = paths.iter().position(|path| *path == "/events");
    match (line, record, event) {
        (Some(line), Some(record), Some(event)) if line < record && record < event => {
            Ok("The order was: the log line, then the log's link in the record, then the event.".to_owned())
        }
        _ => bail!("log line, record and event did not come in this order: {}", paths.join(", ")),
    }
}

/// The decision, and a poll that it rests on, came after the last execution had ended.
pub(super) fn not_too_early(
    testkube: &[Recorded],
    event: &Event,
    last_end: i64,
    seconds: impl Fn(i64) -> String,
) -> Result<String> {
    let end = seconds(last_end);
    ensure!(
        event.at >= last_end,
        "the decision came at {}, before the last execution ended at {end}",
        seconds(event.at)
    );
    let polled = testkube.iter().any(|asked| is_poll(asked) && (last_end..=event.at).contains(&asked.at));
    ensure!(polled, "no poll came between the last execution's end at {end} and the decision");
    Ok(format!("The last execution ended at {end}; a poll after that saw it; then came the decision."))
}

/// After the decision nobody is called any more.
pub(super) fn quiet(testkube: &[Recorded], azure: &[Recorded], decided: i64) -> Result<String> {
    let later = |recorded: &&Recorded| recorded.at > decided;
    let (polls, calls) = (testkube.iter().filter(later).count(), azure.iter().filter(later).count());
    ensure!(
        polls + calls == 0,
        "after the decision came {polls} more requests to Testkube and {calls} to Azure DevOps"
    );
    Ok("After the event all is quiet: no further poll, no second event.".to_owned())
}

/// Every byte of the download is the one that the test wrote.
pub(super) fn same_bytes(name: &str, got: &[u8], written: &[u8]) -> Result<String> {
    if let Some(at) = got.iter().zip(written).position(|(got, written)| got != written) {
        bail!("byte {at} of {name} is not the one that the test wrote");
    }
    ensure!(
        got.len() == written.len(),
        "{name} came with {} bytes, but the test wrote {}",
        got.len(),
        written.len()
    );
    Ok(format!("All {} bytes of {name} are the ones that the test wrote.", got.len()))
}

/// "once", "3 times".
pub(super) fn times(n: usize) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// The decoded parameters of a query.
pub(super) fn parameters(request: &Request) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(request.query().as_bytes()).into_owned()
}

/// The values of the tag that a list call asks for.
pub(super) fn selected(request: &Request) -> Vec<String> {
    let selector = parameter(request, "tagSelector").unwrap_or_default();
    let value = |part: &str| Some(part.strip_prefix(TAG_KEY)?.strip_prefix('=')?.to_owned());
    selector.split(',').filter_map(value).collect()
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    parameters(request).find(|(other, _)| other == name).map(|(_, value)| value)
}

fn holds(text: &[u8], secrets: &[&str]) -> bool {
    let found = |secret: &&str| text.windows(secret.len()).any(|part| part == secret.as_bytes());
    secrets.iter().any(found)
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
