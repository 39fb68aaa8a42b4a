//! Plays a story on a host, step by step, and compares the outcome.

use crate::format::{
    AzureDevopsFault, AzureDevopsRoute, By, Cluster, Count, Credential, Deliver, Expected, FieldsIn,
    Scenario, Send, Step, TestkubeFault, TestkubeRoute,
};
use crate::host::{Answer, Host, Outgoing, Run};
use crate::seen::Kinds;
use anyhow::{Context, Result, bail, ensure};
use fakes::{Build, Event, Span, Status, azure, execution, testkube};
use std::collections::BTreeMap;

/// How long "soon" is, in milliseconds: longer than Envoy's timeouts and a fallen leader's lease.
const SOON: u64 = 60_000;
const PAUSE: u64 = 50;

/// The tag's key in `envoy/envoy.yaml`.
const TAG_KEY: &str = "ado-run";

/// Tells a story.
///
/// # Errors
/// Something came out otherwise than the story has it; or the host has failed.
pub fn tell(scenario: &Scenario, host: Box<dyn Host>) -> Result<()> {
    let mut teller = Teller { host, runs: BTreeMap::new(), named: BTreeMap::new(), executions: Vec::new() };
    for (n, step) in scenario.steps.iter().enumerate() {
        teller.step(step).with_context(|| format!("step {}, {step:?}", n + 1))?;
    }
    teller.end(scenario).context("in the end")?;
    teller.host.finish()
}

struct Teller {
    host: Box<dyn Host>,
    runs: BTreeMap<u32, Run>,
    named: BTreeMap<String, u64>,
    /// Each with its run, workflow and id, in the order they were added.
    executions: Vec<(u32, String, String)>,
}

impl Teller {
    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Execution { run, workflow, status, rerun_refused, artifacts, steps } => {
                let now = self.host.wall();
                let mut script = execution(workflow).tag(TAG_KEY, &self.run(*run)?.tag);
                script = script.at(now, named_status(status)?);
                if let Some(why) = rerun_refused {
                    script = script.rerun_refused(why);
                }
                for (name, content) in artifacts {
                    script = script.artifact(name, content.as_bytes());
                }
                for (name, after) in steps {
                    script = script.step(name, now + after);
                }
                let mut id = String::new();
                self.host.testkube(&mut |testkube| id = testkube.add(script.clone()));
                self.executions.push((*run, workflow.clone(), id));
                Ok(())
            }
            Step::Becomes { run, workflow, status } => self.becomes(*run, workflow, status),
            Step::EndCheck { run, result } => {
                let (plan, now) = (self.run(*run)?.spec.plan, self.host.wall());
                self.host.azure_devops(&mut |azure| {
                    azure.end_plan(&plan, now, result);
                });
                Ok(())
            }
            Step::CancelRun { run } => {
                let (spec, now) = (self.run(*run)?.spec, self.host.wall());
                let build = Build::new(&spec.project, spec.build.context("no build")?);
                let cancelled = build.started_at(now - 60_000).status_at(now, "cancelling");
                self.host.azure_devops(&mut |azure| {
                    azure.add_build(cancelled.clone());
                    azure.end_plan(&spec.plan, now, "canceled");
                });
                Ok(())
            }
            Step::Shows { run, log, record } => self.shows(*run, log, record.as_deref()),
            Step::Deliver(deliver) => self.deliver(deliver),
            Step::AnotherToken { run } => {
                let renewed = self.host.another_token(*run)?;
                self.runs.insert(*run, renewed);
                Ok(())
            }
            Step::Send(send) => {
                let target = self.target(send)?;
                let first = self.executions.first().map_or("", |(_, _, id)| id);
                let authorization = self.host.authorization(send.credential);
                let given = send.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let headers =
                    given.chain(authorization.iter().map(|value| ("authorization", value.as_str())));
                let request = Outgoing {
                    method: send.method.clone(),
                    target: target.replace("{execution}", first),
                    headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
                    body: Vec::new(),
                    connection: send.connection.clone(),
                    delivers: None,
                };
                let number = self.host.send(request)?;
                self.answered(number, SOON, &send.answer)
            }
            Step::Hint { run, credential, answer } => self.hint(*run, *credential, answer),
            Step::Answered { name, within, answer } => {
                let number = self.number(name)?;
                self.answered(number, within.unwrap_or(SOON), answer)
            }
            Step::Logged { once } => crate::host::logged(self.host.as_mut(), once),
            Step::Unanswered { name } => {
                let number = self.number(name)?;
                let answer = self.host.answer(number)?;
                ensure!(answer.is_none(), "it was answered: {answer:?}");
                Ok(())
            }
            Step::Event { run, result, log } => self.event(*run, result, log),
            Step::NoEvent { run } => {
                let events = self.events(*run)?;
                ensure!(events.iter().all(|event| !event.accepted), "{events:?}");
                Ok(())
            }
            Step::Pending { checks } => self.pending(*checks),
            Step::Sees { side, request, times } => {
                let enough = |teller: &mut Teller| Ok(teller.kinds(*side).times(request) >= *times as u64);
                self.soon(enough)?.then_some(()).with_context(|| format!("{:#?}", self.kinds(*side)))
            }
            Step::SeesNothing { side } => self.kinds(*side).check("this side", &[]),
            Step::TestkubeFault { route, times, fault } => {
                let (route, fault) = (testkube_route(*route), testkube_fault(fault));
                self.host.testkube(&mut |testkube| testkube.fault(route, span(*times), fault.clone()));
                Ok(())
            }
            Step::AzureDevopsFault { route, times, fault } => {
                let (route, fault) = (azure_route(*route), azure_fault(*fault));
                self.host.azure_devops(&mut |azure| azure.fault(route, span(*times), fault));
                Ok(())
            }
            Step::Outage { cluster, way } => {
                self.host.outage(*cluster, Some(*way));
                Ok(())
            }
            Step::Calm {} => {
                self.host.testkube(&mut |testkube| testkube.clear_faults());
                self.host.azure_devops(&mut |azure| azure.clear_faults());
                self.host.outage(Cluster::Testkube, None);
                self.host.outage(Cluster::AzureDevops, None);
                Ok(())
            }
            Step::Reload { plugin, accepted } => {
                let was = self.host.reload(plugin)?;
                ensure!(was == *accepted, "Envoy {}", if was { "took it" } else { "refused it" });
                Ok(())
            }
            Step::Trap {} => {
                let answer = self.host.trap()?;
                ensure!((answer.status, answer.by) == (503, By::Envoy), "{answer:?}");
                Ok(())
            }
            Step::Pass { ms } => {
                self.host.pass(*ms);
                Ok(())
            }
        }
    }

    fn end(&mut self, scenario: &Scenario) -> Result<()> {
        let counted =
            |teller: &mut Teller| Ok(mismatch(&teller.host.counters()?, &scenario.counters).is_none());
        if !self.soon(counted)? {
            let counters = self.host.counters()?;
            bail!("{}: {counters:?}", mismatch(&counters, &scenario.counters).unwrap_or_default());
        }
        for run in self.runs.keys().copied().collect::<Vec<_>>() {
            let events = self.events(run)?;
            let expected = scenario.events.get(&run).copied().unwrap_or(Count::Exactly(0));
            ensure!(expected.fits(events.len() as u64), "run {run} has the events {events:?}");
        }
        if let Some(expected) = &scenario.testkube {
            self.kinds(Cluster::Testkube).check("Testkube", expected)?;
        }
        if let Some(expected) = &scenario.azure_devops {
            self.kinds(Cluster::AzureDevops).check("Azure DevOps", expected)?;
        }
        Ok(())
    }

    fn run(&mut self, number: u32) -> Result<Run> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(run.clone());
        }
        let run = self.host.run(number)?;
        self.runs.insert(number, run.clone());
        Ok(run)
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.named.get(name).copied().with_context(|| format!("no request has the name {name:?}"))
    }

    fn soon(&mut self, is_so: impl FnMut(&mut Teller) -> Result<bool>) -> Result<bool> {
        self.until(SOON, is_so)
    }

    /// Lets time pass until a condition holds; false: it does not within this number of milliseconds.
    fn until(&mut self, span: u64, mut is_so: impl FnMut(&mut Teller) -> Result<bool>) -> Result<bool> {
        let end = self.host.wall() + i64::try_from(span)?;
        while !is_so(self)? {
            if self.host.wall() > end {
                return Ok(false);
            }
            self.host.pass(PAUSE);
        }
        Ok(true)
    }

    fn deliver(&mut self, deliver: &Deliver) -> Result<()> {
        let run = self.run(deliver.run)?;
        let fields = fields(&run, &deliver.fields);
        let mut request = Outgoing {
            method: "POST".into(),
            target: match deliver.synchronous {
                true => "/testrelay/v1/checks/evaluate".into(),
                false => "/testrelay/v1/checks".into(),
            },
            headers: vec![("content-type".into(), "application/json".into())],
            body: Vec::new(),
            connection: deliver.connection.clone(),
            delivers: (!deliver.synchronous).then_some(deliver.run),
        };
        if matches!(deliver.fields_in, FieldsIn::Headers) {
            request.headers.extend(fields.into_iter().map(|(name, value)| (name.to_lowercase(), value)));
        } else {
            request.body = body(deliver.fields_in, &fields);
        }
        let authorization = self.host.authorization(deliver.credential);
        request.headers.extend(authorization.map(|value| ("authorization".into(), value)));
        let number = self.host.send(request)?;
        match (&deliver.name, &deliver.answer) {
            (Some(name), None) => {
                self.named.insert(name.clone(), number);
                Ok(())
            }
            (None, Some(answer)) => self.answered(number, SOON, answer),
            _ => bail!("a delivery has either a name or an answer"),
        }
    }

    /// With the tag of the first run where `{tag}` stands.
    fn target(&mut self, send: &Send) -> Result<String> {
        Ok(match send.target.contains("{tag}") {
            true => send.target.replace("{tag}", &self.run(1)?.tag),
            false => send.target.clone(),
        })
    }

    /// As `pkg/event/kind/webhook/listener.go` of Testkube sends it, shortened.
    fn hint(&mut self, run: u32, credential: Credential, answer: &Expected) -> Result<()> {
        let tag = self.run(run)?.tag;
        let execution = serde_json::json!({ "name": "shop-e2e-1", "tags": { TAG_KEY: tag } });
        let event = serde_json::json!({
            "id": "5c9e4a0e-8b5f-4f5e-9a55-0c8f6a6b3c11",
            "type": "end-testworkflow-success",
            "testWorkflowExecution": execution,
        });
        let mut headers = vec![("content-type".into(), "application/json".into())];
        let authorization = self.host.authorization(credential);
        headers.extend(authorization.map(|value| ("authorization".into(), value)));
        let number = self.host.send(Outgoing {
            method: "POST".into(),
            target: "/testrelay/v1/events".into(),
            headers,
            body: vec![(0, event.to_string().into_bytes())],
            connection: None,
            delivers: None,
        })?;
        self.answered(number, SOON, answer)
    }

    fn answered(&mut self, number: u64, within: u64, expected: &Expected) -> Result<()> {
        let mut got = None;
        self.until(within, |teller| {
            got = teller.host.answer(number)?;
            Ok(got.is_some())
        })?;
        let got = got.context("it was not answered")?;
        let text = String::from_utf8_lossy(&got.body);
        ensure!(
            (got.status, got.by) == (expected.status, expected.by),
            "{} by {:?}: {text}",
            got.status,
            got.by
        );
        for (name, value) in &expected.headers {
            let values: Vec<_> = got.headers.iter().filter(|(other, _)| other == name).collect();
            ensure!(matches!(&values[..], [(_, only)] if only == value), "{name}: {values:?}");
        }
        for part in &expected.says {
            ensure!(text.contains(part), "{part:?} is not in {text}");
        }
        ensure!(expected.body.as_ref().is_none_or(|body| *body == text), "{text:?}");
        Ok(())
    }

    fn event(&mut self, run: u32, result: &str, log: &[String]) -> Result<()> {
        self.soon(|teller| Ok(teller.taken(run)?.is_some()))?;
        let taken = self.taken(run)?;
        let mut lines = Vec::new();
        let plan = self.run(run)?.spec.plan;
        self.host.azure_devops(&mut |azure| lines = azure.log_lines(&plan));
        let lines = lines.join("\n");
        ensure!(taken.as_deref() == Some(result), "{taken:?}: {lines}");
        for part in log {
            ensure!(lines.contains(part), "{part:?} is not in the log: {lines}");
        }
        Ok(())
    }

    fn becomes(&mut self, run: u32, workflow: &str, status: &str) -> Result<()> {
        let is_it = |(of, named, _): &&(u32, String, String)| *of == run && named == workflow;
        let (.., id) = self.executions.iter().rev().find(is_it).context("no such execution")?;
        let now = self.host.wall();
        let status = if status == "deleted" { None } else { Some(named_status(status)?) };
        self.host.testkube(&mut |testkube| {
            testkube.change(id, |execution| match &status {
                Some(status) => execution.at(now, status.clone()),
                None => execution.deleted_at(now),
            });
        });
        Ok(())
    }

    fn shows(&mut self, run: u32, log: &[String], record: Option<&str>) -> Result<()> {
        let spec = self.run(run)?.spec;
        let (mut lines, mut shown) = (String::new(), String::new());
        let all = self.soon(|teller| {
            let now = teller.host.wall();
            teller.host.azure_devops(&mut |azure| {
                lines = azure.log_lines(&spec.plan).join("\n");
                shown = azure.record(&spec.plan, &spec.task, now).unwrap_or_default().to_string();
            });
            Ok(log.iter().all(|part| lines.contains(part)) && record.is_none_or(|part| shown.contains(part)))
        })?;
        ensure!(all, "{log:?} and {record:?} are not in {lines}\n{shown}");
        Ok(())
    }

    /// The result of the event that Azure DevOps took.
    fn taken(&mut self, run: u32) -> Result<Option<String>> {
        let taken = self.events(run)?.into_iter().find(|event| event.accepted);
        Ok(taken.and_then(|event| event.result))
    }

    fn events(&mut self, run: u32) -> Result<Vec<Event>> {
        let plan = self.run(run)?.spec.plan;
        let mut events = Vec::new();
        self.host.azure_devops(&mut |azure| events = azure.events(&plan));
        Ok(events)
    }

    fn pending(&mut self, checks: u32) -> Result<()> {
        let expected = format!("pending checks: {checks}\n");
        let mut got: Option<Answer> = None;
        let is_so = self.soon(|teller| {
            let request = Outgoing {
                method: "GET".into(),
                target: "/testrelay/readyz".into(),
                headers: Vec::new(),
                body: Vec::new(),
                connection: None,
                delivers: None,
            };
            let number = teller.host.send(request)?;
            teller.soon(|teller| {
                got = teller.host.answer(number)?;
                Ok(got.is_some())
            })?;
            Ok(got.as_ref().is_some_and(|got| got.body.ends_with(expected.as_bytes())))
        })?;
        is_so.then_some(()).with_context(|| format!("{got:?}"))
    }

    fn kinds(&self, side: Cluster) -> Kinds {
        let mut kinds = Kinds::default();
        match side {
            Cluster::Testkube => {
                self.host.testkube(&mut |testkube| kinds = Kinds::of(testkube.requests()));
            }
            Cluster::AzureDevops => {
                self.host.azure_devops(&mut |azure| kinds = Kinds::of(azure.requests()));
            }
        }
        kinds
    }
}

/// The check task's default headers, as Azure DevOps expands them, and the tag.
fn fields(run: &Run, more: &BTreeMap<String, Option<String>>) -> Vec<(String, String)> {
    let spec = &run.spec;
    let build = spec.build.unwrap_or_default().to_string();
    let defaults = [
        ("PlanUrl", "https://dev.azure.com/fabrikam/"),
        ("ProjectId", &spec.project),
        ("HubName", &spec.hub),
        ("PlanId", &spec.plan),
        ("JobId", &spec.job),
        ("TimelineId", &spec.timeline),
        ("TaskInstanceId", &spec.task),
        ("AuthToken", &spec.token),
        ("BuildId", &build),
        ("Testrelay-Tag", &run.tag),
    ];
    let kept = defaults.into_iter().filter(|(name, _)| !more.contains_key(*name));
    let kept = kept.map(|(name, value)| (name.to_owned(), value.to_owned()));
    kept.chain(more.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)))).collect()
}

/// The fields as a JSON body, in one piece or two.
fn body(place: FieldsIn, fields: &[(String, String)]) -> Vec<(u64, Vec<u8>)> {
    let member = |name: &str| name.strip_prefix("Testrelay-").unwrap_or(name).to_owned();
    let members: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| (member(name), value.as_str().into())).collect();
    let mut body = serde_json::Value::from(members).to_string().into_bytes();
    match place {
        FieldsIn::Headers => Vec::new(),
        FieldsIn::Body => vec![(0, body)],
        FieldsIn::Halves { pause } => {
            let rest = body.split_off(body.len() / 2);
            vec![(0, body), (pause, rest)]
        }
        FieldsIn::Padded { bytes } => {
            body.resize(bytes.max(body.len()), b' ');
            vec![(0, body)]
        }
    }
}

/// The first counter that is not as expected.
fn mismatch(counters: &BTreeMap<String, u64>, expected: &BTreeMap<String, Count>) -> Option<String> {
    let of = |name: &str| counters.get(name).copied().unwrap_or_default();
    let moved = counters.iter().find(|(name, value)| **value > 0 && !expected.contains_key(*name));
    let other = expected.iter().find(|(name, count)| !count.fits(of(name)));
    moved.map(|(name, _)| name).or(other.map(|(name, _)| name)).map(|name| format!("{name} is {}", of(name)))
}

fn named_status(name: &str) -> Result<Status> {
    Ok(match name {
        "queued" => Status::Queued,
        "running" => Status::Running,
        "passed" => Status::Passed,
        "failed" => Status::Failed,
        "aborted" => Status::Aborted,
        "canceled" => Status::Canceled,
        other => bail!("{other:?} is no status of a story's"),
    })
}

fn span(times: Option<u32>) -> Span {
    times.map_or(Span::UntilCleared, Span::Next)
}

fn testkube_route(route: TestkubeRoute) -> testkube::Route {
    match route {
        TestkubeRoute::List => testkube::Route::List,
        TestkubeRoute::Get => testkube::Route::Get,
        TestkubeRoute::Artifact => testkube::Route::Artifact,
    }
}

fn testkube_fault(fault: &TestkubeFault) -> testkube::Fault {
    match *fault {
        TestkubeFault::Status(status) => testkube::Fault::Status(status),
        TestkubeFault::Html => testkube::Fault::Html,
        TestkubeFault::TruncatedJson => testkube::Fault::TruncatedJson,
        TestkubeFault::Slow(millis) => testkube::Fault::Slow { millis },
        TestkubeFault::Reset => testkube::Fault::Reset,
        TestkubeFault::Cut(bytes) => testkube::Fault::Cut { bytes },
    }
}

fn azure_route(route: AzureDevopsRoute) -> azure::Route {
    match route {
        AzureDevopsRoute::Events => azure::Route::Events,
        AzureDevopsRoute::LogCreate => azure::Route::LogCreate,
        AzureDevopsRoute::LogAppend => azure::Route::LogAppend,
        AzureDevopsRoute::Records => azure::Route::Records,
        AzureDevopsRoute::Build => azure::Route::Build,
        AzureDevopsRoute::All => azure::Route::All,
    }
}

fn azure_fault(fault: AzureDevopsFault) -> azure::Fault {
    match fault {
        AzureDevopsFault::Status(status) => azure::Fault::Status { status, retry_after: None },
        AzureDevopsFault::Html => azure::Fault::Html { status: 203 },
        AzureDevopsFault::ResetBefore => azure::Fault::ResetBefore,
        AzureDevopsFault::ResetAfter => azure::Fault::ResetAfter,
        AzureDevopsFault::Slow(millis) => azure::Fault::Slow { millis },
    }
}
