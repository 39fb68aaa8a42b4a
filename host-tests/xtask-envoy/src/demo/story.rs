//! The story in five steps. Each tells what happens and ends with its proofs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fakes::azure::{Fault, Route};
use fakes::{Event, Span};
use host_tests::client::Request;
use host_tests::scene::{Pipeline, TAG_KEY, now_ms};
use host_tests::{BEARER, PASSWORD, STATUS};

use super::cast::{ARTIFACT, EXPECT};
use super::stage::Stage;
use super::voice::Voice;
use super::witness::{Witness, statuses};
use super::{Options, Sabotage, cast, proof};

const PATIENCE: Duration = Duration::from_secs(30);
/// For a decision that is known not to come.
const SHORT_PATIENCE: Duration = Duration::from_secs(8);
/// In milliseconds: longer than the interval between two polls.
const QUIET: i64 = 2_600;

/// One step: what it tells, or why it did not happen.
type Act<Story> = fn(&mut Story, &mut Voice<'_>) -> Result<()>;

/// The story so far.
pub(super) struct Story<'a> {
    stage: &'a Stage<'a>,
    options: Options,
    run: Pipeline,
    witness: Witness,
    /// When Testkube was told what will happen, from which the script counts.
    entered: i64,
    /// The execution with the artifact.
    execution: String,
    /// What its test wrote.
    written: String,
}

impl<'a> Story<'a> {
    /// A run of the pipeline whose stage waits for its check.
    pub(super) fn new(stage: &'a Stage<'a>, options: Options) -> Story<'a> {
        let run = stage.scene.pipeline(1);
        let tag = cast::tag(&run, options);
        let witness = Witness::new(&stage.scene, &run, &tag);
        let written = cast::junit(&run, options.fail);
        Story { stage, options, run, witness, entered: now_ms(), execution: String::new(), written }
    }

    /// Tells all of it; the error names the step that did not happen.
    pub(super) fn tell(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        let steps: [(&str, Act<Self>); 5] = [
            ("Azure DevOps sends the check", Self::check),
            ("Testrelay polls Testkube, which has nothing yet", Self::polling),
            ("The tests appear and run", Self::tests),
            ("The decision", Self::decision),
            ("The artifact", Self::artifact),
        ];
        self.introduce(voice)?;
        self.preflight(voice).context("the preflight does not find all in order")?;
        for (number, (title, act)) in (1..).zip(steps) {
            voice.title(&format!("{number}. {title}"))?;
            act(self, voice).with_context(|| format!("step {number} of 5, \"{title}\", did not happen"))?;
        }
        let end = match self.options.fail {
            true => "The failing test has stopped the stage, as it should.",
            false => "The stage goes on.",
        };
        voice.title(&format!("All five steps happened, {} after the start. {end}", voice.seconds(now_ms())))
    }

    /// The path under which a pipeline's job downloads the artifact: it knows the tag, and no id of Testkube's.
    pub(super) fn artifact_path(&self) -> String {
        format!("{}/{ARTIFACT}", self.artifacts_path())
    }

    /// Where at Testkube that leads to. The name is one path segment, encoded twice: Testkube decodes it twice.
    fn own_path(&self) -> String {
        let name = ARTIFACT.replace('/', "%252F");
        format!("/v1/test-workflow-executions/{}/artifacts/{name}", self.execution)
    }

    /// The run that was told.
    pub(super) fn run(&self) -> &Pipeline {
        &self.run
    }

    /// How it is played.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    fn introduce(&self, voice: &mut Voice<'_>) -> Result<()> {
        let (scene, envoy) = (&self.stage.scene, self.stage.envoy());
        voice.title("Testrelay: an Azure DevOps stage waits for tests that run in Testkube")?;
        voice.verbatim(&format!(
            "\n  Azure DevOps (fake)  {} as https://dev.azure.com\n  \
             Envoy + Testrelay    {}, process {}; envoy/envoy.yaml, only addresses and files put in\n  \
             Testkube (fake)      {}\n",
            scene.azure_address(),
            envoy.address(),
            envoy.pid(),
            scene.testkube_address(),
        ))?;
        voice.text(&format!(
            "Run {} of a pipeline has deployed a shop. Its next stage may start only when the Testkube executions \
             tagged {TAG_KEY}={} have passed. What follows is what both fakes recorded, with the seconds since the \
             start.",
            self.run.spec.build.unwrap_or_default(),
            self.run.tag,
        ))?;
        match self.options.sabotage {
            None => Ok(()),
            Some(Sabotage::Tag) => {
                voice.text("SABOTAGE: the executions carry another tag. This must not succeed.")
            }
            Some(Sabotage::Callback) => {
                voice.text("SABOTAGE: Azure DevOps takes no event. This must not succeed.")
            }
            Some(Sabotage::Artifact) => {
                voice.text("SABOTAGE: Testkube has a changed artifact. This must not succeed.")
            }
            Some(Sabotage::Testkube) => {
                voice.text("SABOTAGE: another service is at Testkube's address. This must not succeed.")
            }
            Some(Sabotage::AzureDevops) => {
                voice.text("SABOTAGE: Azure DevOps has no such organisation. This must not succeed.")
            }
            Some(Sabotage::Clock) => {
                voice.text("SABOTAGE: Testkube's clock is an hour behind. This must not succeed.")
            }
        }
    }

    /// What Testrelay needs is there.
    fn preflight(&self, voice: &mut Voice<'_>) -> Result<()> {
        let scene = &self.stage.scene;
        match self.options.sabotage {
            Some(Sabotage::Testkube) => {
                let page = fakes::testkube::Fault::Html;
                scene.testkube().fault(fakes::testkube::Route::All, Span::UntilCleared, page);
            }
            Some(Sabotage::AzureDevops) => {
                let unknown = Fault::Status { status: 404, retry_after: None };
                scene.azure().fault(Route::All, Span::UntilCleared, unknown);
            }
            Some(Sabotage::Clock) => scene.testkube().set_clock_ahead(-3_600_000),
            _ => {}
        }
        let request = Request::get("/testrelay/v1/preflight").basic("people", STATUS);
        let answer = request.send(self.stage.envoy().address())?;
        voice.event(
            now_ms(),
            "people -> Envoy",
            &format!("GET /testrelay/v1/preflight\n{}", answer.status),
        )?;
        voice.proof(&proof::preflight(&answer)?)
    }

    fn check(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        if self.options.sabotage == Some(Sabotage::Callback) {
            let refusal = Fault::Status { status: 503, retry_after: None };
            self.stage.scene.azure().fault(Route::Events, Span::UntilCleared, refusal);
        }
        let mut fields = self.run.fields(EXPECT);
        let mut shown = format!("Testrelay-Tag: {}\nTestrelay-Expect: {EXPECT}", self.run.tag);
        if self.options.sabotage == Some(Sabotage::Tag) {
            fields = fields.with("Testrelay-Appear-Timeout", "6s");
            shown += "\nTestrelay-Appear-Timeout: 6s";
        }
        let request = format!("POST /testrelay/v1/checks\n{shown}\nPlanUrl, ids, AuthToken: where to answer");
        voice.event(now_ms(), "Azure DevOps -> Envoy", &request)?;
        let answer = fields.request().send(self.stage.envoy().address())?;
        let message = answer.json().ok().and_then(|body| body["message"].as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| answer.text());
        voice.event(now_ms(), "Azure DevOps <- Envoy", &format!("{}: {message}", answer.status))?;
        voice.proof(&proof::accepted(&answer)?)
    }

    fn polling(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        let polled = |story: &Self| (story.witness.polls() > 0).then_some(());
        self.watch_for(voice, "the first poll of Testkube", PATIENCE, polled)?;
        self.entered = now_ms();
        self.execution = cast::enter(&self.stage.scene, &self.run, self.options, self.entered, &self.written);
        let appear = self.entered + cast::FIRST_APPEARS;
        let appeared = |_: &Self| (now_ms() >= appear).then_some(());
        self.watch_for(voice, "the first execution", PATIENCE, appeared)?;
        let (azure, testkube) = self.records();
        voice.proof(&proof::token_came_first(&azure, &testkube)?)?;
        voice.proof(&proof::polled_in_vain(&testkube, appear)?)
    }

    fn tests(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        let tag = cast::tag(&self.run, self.options);
        let all_ended = |story: &Self| {
            let truth = story.stage.scene.testkube().truth(TAG_KEY, &tag, now_ms());
            (truth.len() == 2 && truth.iter().all(|one| one.finished)).then_some(truth)
        };
        let ended = self.watch_for(voice, "the end of the last execution", PATIENCE, all_ended)?;
        let (_, testkube) = self.records();
        voice.proof(&format!(
            "Both executions have ended: {}. Testkube was polled {} so far.",
            statuses(&ended).unwrap_or_default(),
            proof::times(self.witness.polls())
        ))?;
        voice.proof(&proof::polls_are_bounded(&testkube, &self.run.tag)?)
    }

    fn decision(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        let event = self.await_event(voice)?;
        let log = self.stage.scene.azure().log_lines(&self.run.spec.plan);
        let wanted = if self.options.fail { "failed" } else { "succeeded" };
        let told = event.result.clone().unwrap_or_default();
        let log = log.join(" ");
        ensure!(
            told == wanted,
            "Azure DevOps was told \"{told}\" and not \"{wanted}\"; the check's log: {log}"
        );
        let e2e = if self.options.fail { "shop-e2e-1 failed" } else { "shop-e2e-1 passed" };
        for wanted in [e2e, "shop-api-1 passed"] {
            ensure!(log.contains(wanted), "the check's log does not say \"{wanted}\": {log}");
        }
        let long_ago = |_: &Self| (now_ms() >= event.at + QUIET).then_some(());
        self.watch_for(voice, "silence", PATIENCE, long_ago)?;
        let (azure, testkube) = self.records();
        let plan = &self.run.spec.plan;
        let last_end = self.entered + cast::LAST_ENDS;
        voice.proof(&proof::not_too_early(&testkube, &event, last_end, |at| voice.seconds(at))?)?;
        voice.proof(&proof::in_order(&azure, plan)?)?;
        let events = self.stage.scene.azure().events(plan);
        voice.proof(&proof::one_event(&events, &self.run.spec, wanted)?)?;
        let record = self.stage.scene.azure().record(plan, &self.run.spec.task, now_ms()).unwrap_or_default();
        ensure!(
            record["state"] == "completed" && record["result"] == wanted && record["log"]["id"].is_u64(),
            "the check's timeline record is not completed, {wanted} and linked to its log: {record}"
        );
        voice
            .proof(&format!("The check's timeline record is completed, \"{wanted}\", and shows that log."))?;
        voice.proof(&proof::quiet(&testkube, &azure, event.at)?)
    }

    /// The event that Azure DevOps took.
    fn await_event(&mut self, voice: &mut Voice<'_>) -> Result<Event> {
        let plan = self.run.spec.plan.clone();
        let sabotaged = self.options.sabotage == Some(Sabotage::Callback);
        let patience = if sabotaged { SHORT_PATIENCE } else { PATIENCE };
        let events = |story: &Self| story.stage.scene.azure().events(&plan);
        let taken = |story: &Self| events(story).into_iter().find(|event| event.accepted);
        let event = self.watch_for(voice, "an event that Azure DevOps accepts", patience, taken);
        event.with_context(|| {
            let refused = events(self).len();
            format!("the decision did not arrive; Azure DevOps refused it {}", proof::times(refused))
        })
    }

    fn artifact(&mut self, voice: &mut Voice<'_>) -> Result<()> {
        self.witness.is_over();
        // The check has read this report too, for its counts.
        let of_the_check = self.records().1.len();
        let get = |path: &str| Request::get(path).bearer(BEARER).send(self.stage.envoy().address());
        let list = get(&format!("{}?format=text", self.artifacts_path()))?;
        let asked =
            format!("GET {}?format=text\n{}: {}", self.artifacts_path(), list.status, list.text().trim());
        voice.event(now_ms(), "pipeline job -> Envoy", &asked)?;
        ensure!(list.status == 200, "the list of artifacts was answered {}: {}", list.status, list.text());
        let path = self.artifact_path();
        ensure!(
            list.text().lines().any(|link| link.ends_with(&format!("/{ARTIFACT}"))),
            "the list of artifacts does not name {ARTIFACT}"
        );
        let file = get(&path)?;
        voice.event(
            now_ms(),
            "pipeline job -> Envoy",
            &format!("GET {path}\n{}: {} bytes\n{}", file.status, file.body.len(), file.text().trim_end()),
        )?;
        self.witness.tell(&self.stage.scene, voice)?;
        ensure!(file.status == 200, "the artifact was answered {}: {}", file.status, file.text());
        voice.proof(&proof::same_bytes(ARTIFACT, &file.body, self.written.as_bytes())?)?;
        let (_, testkube) = self.records();
        let own = self.own_path();
        // The module may look first whether the file is there.
        let is_download =
            |asked: &&fakes::Recorded| asked.request.method == "GET" && asked.request.target == own;
        let same = testkube.iter().skip(of_the_check).filter(is_download).count();
        ensure!(same == 1, "the job asked Testkube {same} times for exactly {own}, not once");
        voice.proof("The job asked Testkube for this file once, and the name arrived as it is.")?;
        let request = self.run.check(EXPECT).head();
        let request = String::from_utf8_lossy(&request);
        let basic = request.lines().find_map(|line| line.strip_prefix("Authorization: Basic "));
        let basic = basic.context("the check was sent without a credential")?;
        let secrets = [PASSWORD, BEARER, &self.run.spec.token, basic];
        voice.proof(&proof::no_credential(&testkube, &secrets)?)
    }

    fn artifacts_path(&self) -> String {
        format!("/testrelay/v1/artifacts/{}", self.run.tag)
    }

    /// Tells what happens until something is found.
    fn watch_for<T>(
        &mut self,
        voice: &mut Voice<'_>,
        what: &str,
        patience: Duration,
        look: impl Fn(&Self) -> Option<T>,
    ) -> Result<T> {
        let stage = self.stage;
        stage.wait(what, patience, || {
            self.witness.tell(&stage.scene, voice)?;
            Ok(look(self))
        })
    }

    /// What Azure DevOps and Testkube have got.
    fn records(&self) -> (Vec<fakes::Recorded>, Vec<fakes::Recorded>) {
        let scene = &self.stage.scene;
        let azure = scene.azure().requests().to_vec();
        (azure, scene.testkube().requests().to_vec())
    }
}
