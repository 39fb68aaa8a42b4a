//! Everything that can happen to a secret, and every place where it could be read afterwards.

use anyhow::{Context, Result, ensure};
use fakes::azure::{Fault, Route};
use fakes::{AzureDevOps, Database, Recorded, Span, Status, Testkube, execution, testkube};
use host_tests::scene::{PROJECT, Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{Envoy, Reload, Request, Response, Setup};
use serde_json::json;
use std::time::Duration;

/// A secret that is easily recognised.
#[derive(Clone, Copy)]
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
}

/// With characters that percent-encoding, JSON and both alphabets of Base64 write differently.
pub(crate) const CANARIES: [Canary; 4] = [
    Canary { name: "AuthToken", value: AUTH_TOKEN },
    Canary { name: "password", value: PASSWORD },
    Canary { name: "bearer", value: BEARER },
    Canary { name: "Testkube's token", value: TESTKUBE_TOKEN },
];

pub(crate) const AUTH_TOKEN: &str = "azure/token+\"5b\\1%20~?>the=canary&of/the+\"check\\7%2e";
pub(crate) const PASSWORD: &str = "pass word/+\"c4\\9%41~?>of the=canary&of/azure+\"pipelines\\";
pub(crate) const BEARER: &str = "bearer/secret+\"0e\\3%7e~?>of=canary&pipeline/jobs+\"4\\%5c.";
pub(crate) const TESTKUBE_TOKEN: &str = "tkcapi_/agent+\"77\\d%2F~?>the=canary&control/plane+\"6\\%25.";

/// A secret that somebody has written into the configuration, where its variable's name belongs.
pub(crate) const MISPLACED: &str = "misplaced/secret+\"2a\\8%30~?>in=canary&the/configuration";

/// Something that can be read afterwards.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// Where Testkube's control plane has the API of an environment.
pub(crate) const API_PREFIX: &str = "/organizations/acme/environments/test/agent";

const SOON: Duration = Duration::from_secs(60);

/// Plays everything in one Envoy, and collects its outputs.
pub(crate) fn tell(setup: Setup) -> Result<Vec<Place>> {
    let testkube = Testkube::control_plane(Database::Postgres, "acme", "test", TESTKUBE_TOKEN);
    let scene = Scene::with(testkube, AzureDevOps::new("/fabrikam"))?;
    let route = json!({ "cluster": "testkube", "timeout": "0s" });
    let setup = scene
        .wire(setup)
        .environment("TESTRELAY_PASSWORD", PASSWORD)
        .environment("TESTRELAY_BEARER", BEARER)
        .environment("TESTKUBE_TOKEN", TESTKUBE_TOKEN)
        .plugin(json!({ "testkube": { "api_prefix": API_PREFIX, "bearer_env": "TESTKUBE_TOKEN" } }))
        .route(json!({ "name": "control-plane", "match": { "prefix": "/organizations/" }, "route": route }))
        .log_level("wasm", "trace")
        .dynamic_listener();
    let mut told = Told { envoy: Envoy::start(&setup)?, scene, answers: Vec::new() };
    told.checks_and_artifacts()?;
    told.requests_that_are_refused()?;
    told.faults_of_the_other_sides()?;
    told.a_configuration_that_is_refused()?;
    told.places()
}

struct Told {
    envoy: Envoy,
    scene: Scene,
    answers: Vec<Place>,
}

impl Told {
    /// Sends a request and keeps the whole answer.
    fn ask(&mut self, what: &str, status: u16, request: Request) -> Result<Response> {
        let answer = request.send(self.envoy.address())?;
        ensure!(answer.status == status, "{what}: {} instead of {status}: {}", answer.status, answer.text());
        let headers =
            answer.headers.iter().flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat());
        let text = headers.chain(answer.body.iter().copied()).collect();
        self.answers.push(Place { name: format!("the answer to {what}"), text });
        Ok(answer)
    }

    /// A pipeline whose token is the canary.
    fn pipeline(&self, n: u32) -> Pipeline {
        let mut run = self.scene.pipeline(n);
        run.spec.token = AUTH_TOKEN.into();
        self.scene.azure().start_check(now_ms(), run.spec.clone());
        run
    }

    fn check(&mut self, what: &str, run: &Pipeline) -> Result<()> {
        let request = run.fields("shop-e2e").anonymous_request().basic(USER, PASSWORD);
        self.ask(what, 200, request).map(drop)
    }

    fn runs(&self, run: &Pipeline, end: Status) -> String {
        let tagged = execution("shop-e2e").tag(TAG_KEY, &run.tag);
        self.scene.execution(tagged.at(now_ms(), end).artifact("junit.xml", "<testsuite/>"))
    }

    fn checks_and_artifacts(&mut self) -> Result<()> {
        let [good, failing, rejected, waiting] = [1, 2, 3, 4].map(|n| self.pipeline(n));
        let id = self.runs(&good, Status::Passed);
        self.runs(&failing, Status::Failed);
        self.check("a check", &good)?;
        self.check("a check that will fail", &failing)?;
        let unbound =
            rejected.fields("shop-e2e").with("Testrelay-Tag", "nobody's").with("Testrelay-Settle", "soon");
        self.ask("a rejected check", 200, unbound.anonymous_request().basic(USER, PASSWORD))?;
        self.check("a check that waits", &waiting)?;
        let other = waiting.fields("another").anonymous_request().basic(USER, PASSWORD);
        self.ask("the same check with other values", 409, other)?;
        self.check("the same check again", &waiting)?;
        let in_body = self.pipeline(5);
        let body = in_body.fields("shop-e2e").json_body()?;
        let request = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD).json(&body);
        self.ask("a check in a body", 200, request)?;
        for run in [&good, &failing, &rejected] {
            self.scene.decision(run, SOON)?;
        }
        self.check("a check that was reported", &good)?;

        let path = format!("{API_PREFIX}/test-workflow-executions/{id}/artifacts/junit.xml");
        let artifact = Request::get(&path)
            .header("AuthToken", AUTH_TOKEN)
            .header("Cookie", format!("session={PASSWORD}"))
            .header("Proxy-Authorization", format!("Bearer {BEARER}"));
        let stranger = artifact.clone().bearer(&format!("{BEARER}x"));
        self.ask("an artifact for a stranger", 401, stranger)?;
        self.ask("an artifact for the wrong credential", 403, artifact.clone().basic(USER, PASSWORD))?;
        let answer = artifact.bearer(BEARER).send(self.envoy.address())?;
        self.answers.push(Place { name: "the answer to an artifact".into(), text: answer.body });
        Ok(())
    }

    fn requests_that_are_refused(&mut self) -> Result<()> {
        let run = self.pipeline(6);
        let fields = run.fields("shop-e2e");
        let anonymous = fields.anonymous_request();
        let authorized = || Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
        self.ask("a check without a credential", 401, anonymous.clone())?;
        self.ask("a check with another's password", 401, anonymous.clone().basic("somebody", PASSWORD))?;
        self.ask(
            "a check with the wrong password",
            401,
            anonymous.clone().basic(USER, &format!("{PASSWORD}.")),
        )?;
        self.ask("a check with the wrong credential", 403, anonymous.bearer(BEARER))?;
        let whole = fields.json_body()?.to_string();
        let broken = whole.get(..whole.len() - 1).context("a body")?;
        let json = |body: &str| authorized().header("Content-Type", "application/json").body(body);
        self.ask("a body that breaks off", 400, json(broken))?;
        self.ask("a body that is a list", 400, json(&format!("[{whole}]")))?;
        let twice = fields
            .clone()
            .without("Content-Type")
            .with("AuthToken", "another")
            .anonymous_request()
            .basic(USER, PASSWORD)
            .json(&fields.json_body()?);
        self.ask("two tokens", 400, twice)?;
        let spaced = fields.clone().with("AuthToken", format!("{AUTH_TOKEN} {AUTH_TOKEN}"));
        self.ask("a token with a space", 400, spaced.anonymous_request().basic(USER, PASSWORD))?;
        let elsewhere = fields.with("PlanUrl", "https://dev.azure.com/somebody");
        self.ask("another organisation", 403, elsewhere.anonymous_request().basic(USER, PASSWORD))?;
        let encoded =
            |canary: Canary| -> String { canary.value.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let query = CANARIES.map(encoded).join("&");
        self.ask("an unknown path", 404, Request::get(format!("/testrelay/nowhere?{query}")).bearer(BEARER))?;
        self.ask(
            "a wrong method",
            405,
            Request::new("PUT", format!("/testrelay/v1/checks?{query}")).bearer(BEARER),
        )?;
        self.ask("a probe", 200, Request::get(format!("/testrelay/healthz?{query}")).basic(USER, PASSWORD))
            .map(drop)
    }

    fn faults_of_the_other_sides(&mut self) -> Result<()> {
        let run = self.pipeline(7);
        let status = |status| Fault::Status { status, retry_after: None };
        {
            let mut azure = self.scene.azure();
            azure.fault(Route::LogCreate, Span::Next(1), status(401));
            azure.fault(Route::LogCreate, Span::Next(1), status(500));
            azure.fault(Route::Build, Span::Next(1), Fault::Html { status: 203 });
            azure.fault(Route::LogAppend, Span::Next(1), Fault::ResetBefore);
            azure.fault(Route::Events, Span::Next(1), status(401));
            azure.fault(Route::Events, Span::Next(1), status(500));
            let mut testkube = self.scene.testkube();
            for fault in [
                testkube::Fault::Status(500),
                testkube::Fault::Html,
                testkube::Fault::Reset,
                testkube::Fault::TruncatedJson,
            ] {
                testkube.fault(testkube::Route::List, Span::Next(1), fault);
            }
            testkube.fault(testkube::Route::Get, Span::Next(1), testkube::Fault::Status(401));
        }
        self.runs(&run, Status::Passed);
        self.check("a check in bad times", &run)?;
        self.scene.decision(&run, SOON)?;
        // A token that Azure DevOps does not know: it echoes nothing, and the module only logs the refusal.
        let mut stranger = self.scene.pipeline(8);
        stranger.spec.token = format!("{AUTH_TOKEN}x");
        stranger.spec.project = PROJECT.into();
        self.check("a check with an unknown token", &stranger)?;
        let plan = stranger.spec.plan.clone();
        host_tests::wait_until("the unknown token to be refused", SOON, || {
            let azure = self.scene.azure();
            azure.requests().iter().any(|r| r.request.target.contains(&plan) && r.status == Some(401))
        })
    }

    fn a_configuration_that_is_refused(&mut self) -> Result<()> {
        let good = self.envoy.plugin()?;
        let mut bad = good.clone();
        bad["credentials"][0]["secret_env"] = json!(MISPLACED);
        bad["credentials"][1]["secret_env_next"] = json!(MISPLACED);
        bad["testkube"]["bearer_env"] = json!({ "value": MISPLACED });
        ensure!(matches!(self.envoy.reload(&bad)?, Reload::Refused(_)), "a bad configuration was taken");
        self.ask("a probe after it", 200, Request::get("/testrelay/readyz")).map(drop)
    }

    fn places(self) -> Result<Vec<Place>> {
        let Told { envoy, scene, answers: mut places } = self;
        let logged = |name: &str, text: String| Place { name: name.into(), text: text.into_bytes() };
        places.push(logged("Envoy's log", envoy.log()));
        places.push(logged("the access log", envoy.access_log()));
        for page in
            ["/stats", "/stats?format=prometheus", "/config_dump?include_eds", "/clusters", "/listeners"]
        {
            places.push(logged(page, envoy.admin_get(page)?));
        }
        let own = [format!("Bearer {TESTKUBE_TOKEN}")];
        places.extend(scene.testkube().requests().iter().map(|request| got("Testkube", request, &own)));
        let own = [AUTH_TOKEN.to_owned(), format!("{AUTH_TOKEN}x")].map(|token| format!("Bearer {token}"));
        places.extend(scene.azure().requests().iter().map(|request| got("Azure DevOps", request, &own)));
        Ok(places)
    }
}

/// What one side got, without the header in which its own secret must come.
fn got(who: &str, recorded: &Recorded, own: &[String]) -> Place {
    let request = &recorded.request;
    let is_own =
        |name: &str, value: &[u8]| name == "authorization" && own.iter().any(|own| own.as_bytes() == value);
    let others = request.headers.iter().filter(|(name, value)| !is_own(name, value));
    let headers = others.flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat());
    let text = request.target.bytes().chain(*b"\r\n").chain(headers).chain(request.body.iter().copied());
    Place { name: format!("{who}'s {} {}", request.method, request.path()), text: text.collect() }
}
