//! The pipeline's steps: the tests run their bash scripts from the YAML as an agent does, against a real Envoy with a
//! Testkube behind it. What the pipeline would publish is what the tests have written, byte for byte.

mod secret;

use super::agent::{Agent, Ended, files};
use super::azure::{expanded, invoke_rest_api};
use super::check::{connection, created};
use super::{members, yaml};
use anyhow::{Context, Result, ensure};
use fakes::testkube::{Fault, Route};
use fakes::{Actor, Build, Execution, Span, Stage, Status, execution};
use host_tests::scene::{Decision, PROJECT, Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy, wait_until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// How the steps start the tests.
#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    GitOps,
    Cli,
}

/// One run of `azure-pipelines.yml` with an agent, Testkube, Azure DevOps and Testrelay.
struct Run {
    scene: Scene,
    envoy: Envoy,
    agent: Agent,
    pipeline: Value,
    check: Value,
    run: Pipeline,
    trigger: Trigger,
    /// What the controller has started already.
    started: BTreeSet<String>,
    /// What the last attempt's step remembered, and when it did.
    since: String,
    asked: i64,
}

/// What came of one attempt.
struct Attempt {
    decision: Decision,
    /// The ids of its executions.
    executions: Vec<String>,
    /// What is in the folder whose files are published, by path as the tests wrote it.
    published: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn new(trigger: Trigger) -> Result<Run> {
        let scene = Scene::new()?;
        let run = scene.pipeline(1);
        let envoy = Envoy::start(&scene.setup()?)?;
        let mut agent = Agent::new()?;
        let pipeline = yaml("azure-pipelines.yml")?;
        let build = run.spec.build.unwrap_or_default().to_string();
        let known = BTreeMap::from([("build.buildid", build.clone())]);
        for variable in members(&pipeline["variables"]) {
            if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                agent.environment.insert(name.into(), expanded(value, &known));
            }
        }
        assert_eq!(agent.environment["TESTS_TAG"], run.tag);
        let url =
            agent.environment.insert("TESTRELAY_URL".into(), format!("http://{}/testrelay", envoy.address()));
        assert_eq!(url, Some(connection().url));
        agent.environment.insert("BUILD_BUILDID".into(), build);
        let temporary = agent.folder().join("temporary");
        std::fs::create_dir(&temporary)?;
        agent.environment.insert("AGENT_TEMPDIRECTORY".into(), temporary.display().to_string());
        let (started, since) = (BTreeSet::new(), String::new());
        let check = created()?;
        let run = Run { scene, envoy, agent, pipeline, check, run, trigger, started, since, asked: 0 };
        run.install()?;
        Ok(run)
    }

    /// The programs that the steps need, and the GitOps repository.
    fn install(&self) -> Result<()> {
        let agent = &self.agent;
        agent.program("testkube", "#!/bin/sh\necho \"$@\" >> \"$HOME/testkube-was-told\"\n")?;
        agent.program(
            "kustomize",
            "#!/bin/sh\n[ \"$1 $2 $3\" = 'edit add resource' ] && echo \"- $4\" >> kustomization.yaml\n",
        )?;
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
        agent.git(agent.folder(), &["init", "-q", "--bare", "-b", "main", "gitops"])?;
        agent.git(agent.folder(), &["clone", "-q", "gitops", "checkout"])?;
        let checkout = self.checkout();
        std::fs::write(checkout.join("kustomization.yaml"), "resources:\n")?;
        agent.git(&checkout, &["checkout", "-q", "-B", "main"])?;
        agent.git(&checkout, &["add", "."])?;
        agent.git(&checkout, &[&identity[..], &["commit", "-q", "-m", "begin"]].concat())?;
        agent.git(&checkout, &["push", "-q", "-u", "origin", "main"])?;
        // As the task that checks out leaves it.
        agent.git(&checkout, &["checkout", "-q", "--detach"])?;
        Ok(())
    }

    fn checkout(&self) -> PathBuf {
        self.agent.folder().join("checkout")
    }

    /// The job of a stage.
    fn job(&self, stage: &str) -> Result<&Value> {
        Ok(&named(&self.pipeline["stages"], "stage", stage)?["jobs"][0])
    }

    /// Runs the bash scripts of a stage's steps in order; returns how the last one that ran ended.
    fn steps(&self, stage: &str) -> Result<Ended> {
        let mut ended = None;
        let templates = members(&self.job(stage)?["steps"]).filter_map(|step| step["template"].as_str());
        for template in templates {
            let template = match (template, self.trigger) {
                ("steps/request-by-gitops.yml", Trigger::Cli) => "steps/request-by-cli.yml",
                (other, _) => other,
            };
            let mut step = None;
            for one in members(&yaml(template)?["steps"]) {
                if let Some(script) = one["bash"].as_str() {
                    step = Some(self.step(one, script)?);
                }
            }
            let step = step.with_context(|| format!("{template} has no bash script"))?;
            let (failed, said) = (step.code != Some(0), step.said.clone());
            let before = ended.take().map_or(String::new(), |before: Ended| before.said);
            ended = Some(Ended { said: before + &said, ..step });
            if failed {
                break;
            }
        }
        ended.context("no step")
    }

    fn step(&self, step: &Value, script: &str) -> Result<Ended> {
        let secrets = BTreeMap::from([("testrelay_bearer", BEARER.to_owned())]);
        let variables = step["env"].as_object().into_iter().flatten();
        let mut exports = String::new();
        for (name, value) in variables {
            let value = expanded(value.as_str().context("a variable is no text")?, &secrets);
            exports += &format!("export {name}='{value}'\n");
        }
        self.agent.bash(&self.checkout(), &(exports + script))
    }

    /// The stage Test, until the executions run.
    fn request(&mut self, attempt: u32, ends: [Status; 2]) -> Result<Vec<String>> {
        self.agent.environment.insert("SYSTEM_STAGEATTEMPT".into(), attempt.to_string());
        let ended = self.steps("Test")?;
        ensure!(ended.code == Some(0), "{}", ended.said);
        let told = "##vso[task.setvariable variable=since;isOutput=true]";
        let mut lines = ended.said.lines().filter_map(|line| line.strip_prefix(told));
        self.since = lines.next().context("the step did not remember the time")?.to_owned();
        self.asked = now_ms();
        let started = match self.trigger {
            Trigger::GitOps => self.synced()?,
            Trigger::Cli => self.told()?,
        };
        let names: Vec<&str> = started.iter().map(|execution| execution.0.as_str()).collect();
        assert_eq!(names, ["shop-e2e", "shop-api"]);
        let mut ids = Vec::new();
        for ((workflow, execution), end) in started.into_iter().zip(ends) {
            let execution = written(&workflow, attempt)
                .into_iter()
                .fold(execution, |execution, (name, bytes)| execution.artifact(&name, bytes));
            ids.push(self.scene.execution(execution.artifact("log.txt", "no result").at(now_ms(), end)));
        }
        Ok(ids)
    }

    /// The executions that the controller starts for the resources that were pushed.
    fn synced(&mut self) -> Result<Vec<(String, Execution)>> {
        let gitops = self.agent.folder().join("gitops");
        let show = |file: &str| -> Result<Value> {
            Ok(serde_saphyr::from_str(&self.agent.git(&gitops, &["show", &format!("main:{file}")])?)?)
        };
        let mut started = Vec::new();
        for file in members(&show("kustomization.yaml")?["resources"]) {
            let resource = show(file.as_str().context("a resource is no text")?)?;
            let part = |pointer: &str| -> Result<String> {
                let text = resource.pointer(pointer).and_then(Value::as_str);
                Ok(text.with_context(|| format!("{file} has no {pointer}"))?.to_owned())
            };
            assert_eq!(part("/kind")?, "TestWorkflowExecution");
            let (name, workflow) = (part("/metadata/name")?, part("/spec/testWorkflow/name")?);
            if self.started.insert(name.clone()) {
                let tag = part(&format!("/spec/executionRequest/tags/{TAG_KEY}"))?;
                let actor = Actor {
                    kind: "testworkflowexecution".into(),
                    name,
                    execution_id: None,
                    execution_reference: None,
                };
                started.push((workflow.clone(), execution(&workflow).tag(TAG_KEY, &tag).actor(actor)));
            }
        }
        Ok(started)
    }

    /// The executions that the CLI was told to start.
    fn told(&self) -> Result<Vec<(String, Execution)>> {
        let told = std::fs::read_to_string(self.agent.folder().join("testkube-was-told"))?;
        let actor = Actor {
            kind: "user".into(),
            name: "agent".into(),
            execution_id: None,
            execution_reference: None,
        };
        let started = told.lines().map(|line| {
            let ["run", "testworkflow", workflow, "--tag", tag] = line.split(' ').collect::<Vec<_>>()[..]
            else {
                anyhow::bail!("the CLI does not know: {line}")
            };
            let (key, value) = tag.split_once('=').context("no tag")?;
            Ok((workflow.to_owned(), execution(workflow).tag(key, value).actor(actor.clone())))
        });
        started.collect()
    }

    /// The stage Deploy: what its check decides.
    fn gate(&self) -> Result<Decision> {
        let answer = invoke_rest_api(&self.check["settings"]["inputs"], &connection(), &self.run)?;
        let answer = answer.send(self.envoy.address())?;
        assert_eq!(
            (answer.status, &answer.json()?["status"]),
            (200, &json!("accepted")),
            "{}",
            answer.text()
        );
        self.scene.decision(&self.run, SOON)
    }

    /// The stage Report.
    fn report(&mut self) -> Result<Ended> {
        self.agent.environment.insert("TESTS_SINCE".into(), self.since.clone());
        self.steps("Report")
    }

    /// The folder in which the task that publishes looks for `**/*.xml`.
    fn published(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let steps = yaml("steps/publish-results.yml")?;
        let mut publish = members(&steps["steps"]).filter(|step| step["task"] == "PublishTestResults@2");
        let inputs = &publish.next().context("nothing is published")?["inputs"];
        assert_eq!(inputs["testResultsFiles"], "**/*.xml");
        let temporary = &self.agent.environment["AGENT_TEMPDIRECTORY"];
        let known = BTreeMap::from([("agent.tempdirectory", temporary.clone())]);
        let folder = expanded(inputs["searchFolder"].as_str().context("no folder")?, &known);
        let found = files(&PathBuf::from(folder))?.into_iter().filter(|(name, _)| name.ends_with(".xml"));
        let mut published = BTreeMap::new();
        for (name, bytes) in found {
            let (number, name) = name.split_once('/').context("no folder of its own")?;
            ensure!(number.parse::<u32>().is_ok(), "{number}/{name}");
            ensure!(published.insert(name.to_owned(), bytes).is_none(), "{name} twice");
        }
        Ok(published)
    }

    fn attempt(&mut self, attempt: u32, ends: [Status; 2]) -> Result<Attempt> {
        let executions = self.request(attempt, ends)?;
        let decision = self.gate()?;
        let ended = self.report()?;
        ensure!(ended.code == Some(0), "{}", ended.said);
        assert!(!ended.said.contains(BEARER), "{}", ended.said);
        Ok(Attempt { decision, executions, published: self.published()? })
    }

    /// Ten minutes pass, and the stage Test is run again; afterwards Deploy is another check of the same build.
    fn ten_minutes_later(&mut self, executions: &[String]) -> Result<()> {
        let now = now_ms();
        for id in executions {
            self.scene.testkube().change(id, |execution| execution.scheduled_at(now - 600_000));
        }
        let build = self.run.spec.build.unwrap_or_default();
        let run = self.scene.pipeline(2);
        self.run.spec = fakes::CheckSpec { build: Some(build), ..run.spec };
        let stage = Stage {
            name: "Test".into(),
            identifier: "Test".into(),
            attempt: 2,
            start_time: Some(now - 1_000),
        };
        let began = Build::new(PROJECT, build).started_at(now - 700_000).stage(stage);
        self.scene.azure().add_build(began);
        // The time that the step remembers has whole seconds, and the one of the first attempt was long ago.
        let asked = self.asked / 1_000;
        wait_until("the next second", SOON, || now_ms() / 1_000 > asked)
    }
}

/// What the tests of a workflow have written in an attempt.
fn written(workflow: &str, attempt: u32) -> BTreeMap<String, Vec<u8>> {
    let junit = |what: &str| {
        let cases = format!("<testcase name=\"{workflow} {attempt} {what}\"/>\n").repeat(1_000);
        [cases.as_bytes(), b"\xff\x00\r\n"].concat()
    };
    let names = ["results/junit.xml", "results/part 2+3 \u{fc} 100%.xml"];
    names.map(|name| (name.to_owned(), junit(name))).into()
}

/// What is to be published of these executions: each file by its execution's name and its own.
fn expected(attempt: u32, number: u32) -> BTreeMap<String, Vec<u8>> {
    let all = ["shop-e2e", "shop-api"].into_iter().flat_map(|workflow| {
        let files = written(workflow, attempt).into_iter();
        files.map(move |(name, bytes)| (format!("{workflow}-{number}/{name}"), bytes))
    });
    all.collect()
}

/// A job or a stage by its name.
fn named<'a>(list: &'a Value, kind: &str, name: &str) -> Result<&'a Value> {
    members(list).find(|one| one[kind] == name).with_context(|| format!("there is no {kind} {name}"))
}

#[test]
fn the_results_are_published_whatever_was_decided_and_with_the_remembered_time() -> Result<()> {
    let outputs = |from: &str| {
        let output = |step| format!("{from}.outputs['{step}.since']");
        format!("$[ coalesce({}, {}) ]", output("bash"), output("powershell"))
    };
    let whatever = |of: &str| {
        json!(format!(
            "and(not(canceled()), in(dependencies.{of}.result, 'Succeeded', 'SucceededWithIssues'))"
        ))
    };
    let remember = yaml("steps/remember-start.yml")?;
    let names: Vec<&Value> = members(&remember["steps"]).map(|step| &step["name"]).collect();
    assert_eq!(names, ["bash", "powershell"]);

    let pipeline = yaml("azure-pipelines.yml")?;
    let report = named(&pipeline["stages"], "stage", "Report")?;
    assert_eq!((&report["dependsOn"], &report["condition"]), (&json!(["Test", "Deploy"]), &whatever("Test")));
    let job = named(&report["jobs"], "job", "publish_results")?;
    assert_eq!(job["variables"]["TESTS_SINCE"], outputs("stageDependencies.Test.request_tests"));
    let deploy = named(&pipeline["stages"], "stage", "Deploy")?;
    assert_eq!(
        (&deploy["dependsOn"], &deploy["jobs"][0]["environment"]),
        (&json!("Test"), &json!("production"))
    );

    let agentless = yaml("agentless.yml")?;
    assert_eq!(agentless["variables"], pipeline["variables"]);
    assert_eq!(named(&agentless["stages"], "stage", "Deploy")?["dependsOn"], "Test");
    let jobs = &named(&agentless["stages"], "stage", "Test")?["jobs"];
    let steps = &named(jobs, "job", "request_tests")?["steps"];
    assert_eq!(steps, &named(&pipeline["stages"], "stage", "Test")?["jobs"][0]["steps"]);
    let publish = named(jobs, "job", "publish_results")?;
    let depends = json!(["request_tests", "wait_for_tests"]);
    assert_eq!((&publish["dependsOn"], &publish["condition"]), (&depends, &whatever("request_tests")));
    assert_eq!(publish["variables"]["TESTS_SINCE"], outputs("dependencies.request_tests"));
    assert_eq!(publish["steps"], job["steps"]);
    Ok(())
}

#[test]
fn a_run_that_passes_is_deployed_and_its_results_are_published() -> Result<()> {
    let mut run = Run::new(Trigger::GitOps)?;
    let first = run.attempt(1, [Status::Passed, Status::Passed])?;
    assert_eq!(first.decision.result(), "succeeded", "{}", first.decision.text());
    assert_eq!(first.published, expected(1, 1));
    run.envoy.stop()
}

#[test]
fn a_run_that_fails_is_not_deployed_and_the_second_attempt_publishes_only_its_own_results() -> Result<()> {
    let mut run = Run::new(Trigger::GitOps)?;
    let first = run.attempt(1, [Status::Passed, Status::Failed])?;
    assert_eq!(first.decision.result(), "failed");
    assert_eq!(first.published, expected(1, 1));

    run.ten_minutes_later(&first.executions)?;
    let second = run.attempt(2, [Status::Passed, Status::Passed])?;
    assert_eq!(second.decision.result(), "succeeded", "{}", second.decision.text());
    assert_eq!(second.published, expected(2, 2));
    run.envoy.stop()
}

#[test]
fn tests_that_the_cli_starts_are_waited_for_and_published_too() -> Result<()> {
    let mut run = Run::new(Trigger::Cli)?;
    let first = run.attempt(1, [Status::Passed, Status::Passed])?;
    assert_eq!(first.decision.result(), "succeeded", "{}", first.decision.text());
    assert_eq!(first.published, expected(1, 1));
    run.envoy.stop()
}

#[test]
fn a_report_that_cannot_be_whole_fails_and_says_why() -> Result<()> {
    let report = |run: &mut Run, why: &[&str]| -> Result<()> {
        let ended = run.report()?;
        let said = &ended.said;
        assert_eq!((ended.code, said.contains(BEARER)), (Some(1), false), "{said}");
        assert!(why.iter().all(|why| said.contains(why)), "{said}");
        Ok(())
    };
    let mut run = Run::new(Trigger::GitOps)?;
    let unread = "the list of the files of shop-4001 could not be read";
    run.since = "2026-01-01T00:00:00Z".into();
    report(&mut run, &[unread, "Testkube has no execution tagged ado-run=shop-4001"])?;
    run.request(1, [Status::Passed, Status::Running])?;
    report(&mut run, &[unread, "shop-api-1", "has not ended"])?;
    run.envoy.stop()?;

    // What follows a script's failure is not published: the task has no condition of its own.
    assert_eq!(yaml("steps/publish-results.yml")?["steps"][2]["condition"], Value::Null);
    let mut run = Run::new(Trigger::GitOps)?;
    run.request(1, [Status::Passed, Status::Passed])?;
    // A list takes less time than that, a file more.
    run.scene.testkube().fault(Route::Artifact, Span::UntilCleared, Fault::Cut { bytes: 10_000 });
    report(&mut run, &["results/junit.xml could not be downloaded"])?;
    run.scene.testkube().clear_faults();
    run.agent.environment.insert("TESTS_JUNIT".into(), r"/nothing[^/]*\.xml$".into());
    report(&mut run, &[r"no file of shop-4001 fits /nothing[^/]*\.xml$"])?;
    run.envoy.stop()
}

#[test]
fn files_are_saved_under_the_names_that_the_tests_gave_them_as_far_as_a_file_system_takes_them() -> Result<()>
{
    let mut run = Run::new(Trigger::GitOps)?;
    let cyrillic = "\u{43f}".repeat(54);
    let long = format!("{}\u{fc}.xml", "\u{20ac}".repeat(98));
    assert_eq!(long.len(), 300);
    let kept_of_long = format!("{}\u{fc}.xml", "\u{20ac}".repeat(38));
    let names = [
        (format!("{cyrillic}.xml"), format!("{cyrillic}.xml")),
        ("a%2Fb.xml".into(), "a%2Fb.xml".into()),
        ("a/b..c.xml".into(), "a/b..c.xml".into()),
        ("x.xml".into(), "x.xml".into()),
        ("X.xml".into(), "X.xml".into()),
        ("x.xml/y.xml".into(), "x.xml/y.xml".into()),
        (r"\x41\c&$(id)`.xml".into(), "_x41_c&$(id)`.xml".into()),
        (
            "##vso[task.complete result=Succeeded;]done.xml".into(),
            "__vso_task.complete result=Succeeded;_done.xml".into(),
        ),
        (format!("r/{long}"), format!("r/{kept_of_long}")),
    ];
    let execution = execution("shop-e2e").tag(TAG_KEY, &run.run.tag).at(now_ms(), Status::Passed);
    let with = |execution: Execution, (name, _): &(String, String)| execution.artifact(name, name.as_bytes());
    let execution =
        names.iter().fold(execution, with).artifact("a/../up.xml", "up").artifact("..;/p.xml", "p");
    run.scene.execution(execution);
    let other = fakes::execution("shop-api").tag(TAG_KEY, &run.run.tag).at(now_ms(), Status::Passed);
    run.scene.execution(other.artifact("x.xml", "another"));
    run.agent.environment.insert("TESTS_JUNIT".into(), r"\.xml$".into());
    run.since = "2026-01-01T00:00:00Z".into();
    let ended = run.report()?;
    ensure!(ended.code == Some(0), "{}", ended.said);
    let own = names.iter().map(|(name, saved)| (format!("shop-e2e-1/{saved}"), name.clone().into_bytes()));
    let expected: BTreeMap<_, _> = own.chain([("shop-api-1/x.xml".into(), b"another".to_vec())]).collect();
    assert_eq!(run.published()?, expected);
    assert!(!ended.said.contains("##"), "{}", ended.said);
    for name in ["a/../up.xml", "..;/p.xml"] {
        assert!(
            ended.said.contains(&format!("without a link: shop-e2e-1, `{name}`: its name")),
            "{}",
            ended.said
        );
    }
    run.envoy.stop()
}
