//! `--keep`: the stage stays, with commands to try it by hand.

use anyhow::Result;
use host_tests::scene::{PROJECT, Pipeline, TAG_KEY, USER, now_ms};
use host_tests::{BEARER, PASSWORD, Request};

use super::Options;
use super::cast::{self, EXPECT};
use super::curl::{line, quoted};
use super::stage::Stage;
use super::story::Story;
use super::voice::Voice;
use super::witness::Witness;

/// Prints addresses and commands, then tells what is done with them until a signal comes.
pub(super) fn keep(stage: &Stage<'_>, story: &Story<'_>, voice: &mut Voice<'_>) -> Result<()> {
    addresses(stage, voice)?;
    commands(stage, story, voice)?;
    let mut next = Run::offer(stage, 2, voice)?;
    stage.watch(|| {
        next.go_on(stage, story.options().fail)?;
        next.witness.tell(&stage.scene, voice)?;
        if let Some(decision) = next.decision(stage) {
            voice.event(now_ms(), "Azure DevOps shows", &decision)?;
            next = Run::offer(stage, next.number + 1, voice)?;
        }
        Ok(())
    })
}

/// A run whose check the reader sends.
struct Run {
    number: u32,
    pipeline: Pipeline,
    witness: Witness,
    began: bool,
}

impl Run {
    /// Lets Azure DevOps know the check's ids, and prints the command that sends it.
    fn offer(stage: &Stage<'_>, number: u32, voice: &mut Voice<'_>) -> Result<Run> {
        let pipeline = stage.scene.pipeline(number);
        let request = pipeline.fields(EXPECT).anonymous_request();
        let credential = format!("-i -u {USER}:{PASSWORD}");
        voice.verbatim(
            "\n# a new check; its tests begin when Testrelay takes it, and its story is told below",
        )?;
        voice.verbatim(&line(stage.envoy().address(), &request, &credential))?;
        voice.verbatim("\nCtrl-C ends everything.")?;
        let witness = Witness::new(&stage.scene, &pipeline, &pipeline.tag);
        Ok(Run { number, pipeline, witness, began: false })
    }

    /// Adds the executions once the check has been sent.
    fn go_on(&mut self, stage: &Stage<'_>, fail: bool) -> Result<()> {
        let scene = &stage.scene;
        let plan = &self.pipeline.spec.plan;
        if self.began || !scene.azure().requests().iter().any(|told| told.request.path().contains(plan)) {
            return Ok(());
        }
        self.began = true;
        let written = cast::junit(&self.pipeline, fail);
        let options = Options { fail, ..Options::default() };
        cast::enter(scene, &self.pipeline, options, now_ms(), &written);
        Ok(())
    }

    /// The log, once Azure DevOps has taken the event.
    fn decision(&self, stage: &Stage<'_>) -> Option<String> {
        let azure = stage.scene.azure();
        let plan = &self.pipeline.spec.plan;
        azure.events(plan).iter().any(|event| event.accepted).then(|| azure.log_lines(plan).join("\n"))
    }
}

fn addresses(stage: &Stage<'_>, voice: &mut Voice<'_>) -> Result<()> {
    let (envoy, scene) = (stage.envoy(), &stage.scene);
    voice.title("All of it stays. To try it yourself, in another terminal:")?;
    voice.verbatim(&format!(
        "\nEnvoy's listener     http://{}\nEnvoy's admin page   http://{}\nTestkube (fake)      http://{}\n\
         Azure DevOps (fake)  https://dev.azure.com:{} at {}",
        envoy.address(),
        envoy.admin(),
        scene.testkube_address(),
        scene.azure_address().port(),
        scene.azure_address().ip(),
    ))
}

fn commands(stage: &Stage<'_>, story: &Story<'_>, voice: &mut Voice<'_>) -> Result<()> {
    let (envoy, scene) = (stage.envoy().address(), &stage.scene);
    let spec = &story.run().spec;
    let executions = format!("/v1/test-workflow-executions?tagSelector={TAG_KEY}%3D{}", story.run().tag);
    let port = scene.azure_address().port();
    let record = format!(
        "curl --cacert {} --resolve dev.azure.com:{port}:127.0.0.1 -H {} \\\n  {}",
        quoted(&scene.ca().display().to_string()),
        quoted(&format!("Authorization: Bearer {}", spec.token)),
        quoted(&format!(
            "https://dev.azure.com:{port}/fabrikam/{PROJECT}/_apis/distributedtask/hubs/checks/plans/{}/timelines/{}/records?api-version=6.0",
            spec.plan, spec.timeline
        )),
    );
    let get = |path: &str| line(envoy, &Request::get(path), "-i");
    let artifact = Request::get(story.artifact_path()).bearer(BEARER);
    for (what, command) in [
        ("does the module live?", get("/testrelay/healthz")),
        ("does it take checks?", get("/testrelay/readyz")),
        ("the artifact", line(envoy, &artifact, "-i")),
        ("what Testkube has", line(scene.testkube_address(), &Request::get(&executions), "-s")),
        ("what Azure DevOps shows of the check", record),
    ] {
        voice.verbatim(&format!("\n# {what}\n{command}"))?;
    }
    Ok(())
}
