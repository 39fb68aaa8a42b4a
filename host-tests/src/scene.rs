//! The scene of every story: a Testkube, an Azure DevOps that Envoy reaches over verified TLS, and pipelines whose stages
//! wait for a check.

use crate::client::Request;
use crate::setup::{PASSWORD, Setup};
use crate::wait::wait_for;
use anyhow::{Context, Result, anyhow};
use fakes::{AzureDevOps, Build, CheckSpec, Database, Event, Execution, Identity, Server, Stage, Testkube};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both fakes, listening; they end when it is dropped.
pub struct Scene {
    testkube: Arc<Mutex<Testkube>>,
    azure: Arc<Mutex<AzureDevOps>>,
    testkube_server: Server,
    azure_server: Server,
    ca: PathBuf,
    _folder: tempfile::TempDir,
}

/// The organisation that `envoy.yaml` names, at the fake.
pub const PLAN_URL: &str = "https://dev.azure.com/fabrikam/";

/// The tag's key that `envoy.yaml` names.
pub const TAG_KEY: &str = "ado-run";

/// The user name of the service connection in `envoy.yaml`.
pub const USER: &str = "testrelay";

impl Scene {
    /// An empty Testkube on PostgreSQL and an Azure DevOps with one organisation.
    ///
    /// # Errors
    /// No port or certificate could be had.
    pub fn new() -> Result<Scene> {
        Scene::with(Testkube::new(Database::Postgres), AzureDevOps::new("/fabrikam"))
    }

    /// The same with other fakes.
    ///
    /// # Errors
    /// No port or certificate could be had.
    pub fn with(testkube: Testkube, azure: AzureDevOps) -> Result<Scene> {
        Scene::of_server("dev.azure.com", testkube, azure)
    }

    /// The same with an Azure DevOps of another name: its certificate is only for that name.
    ///
    /// # Errors
    /// No port or certificate could be had.
    pub fn of_server(host: &str, testkube: Testkube, azure: AzureDevOps) -> Result<Scene> {
        let identity = Identity::for_names(&[host])?;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let ca = folder.path().join("azure-devops-ca.pem");
        std::fs::write(&ca, identity.ca_pem()).context("the CA could not be written")?;
        let (testkube, azure) = (Arc::new(Mutex::new(testkube)), Arc::new(Mutex::new(azure)));
        let testkube_server = Server::start(testkube.clone())?;
        let azure_server = Server::start_tls(azure.clone(), &identity)?;
        Ok(Scene { testkube, azure, testkube_server, azure_server, ca, _folder: folder })
    }

    /// `envoy.yaml` with the fakes' addresses and CA put in.
    ///
    /// # Errors
    /// The built module or Envoy is not named in the environment.
    pub fn setup(&self) -> Result<Setup> {
        Ok(self.wire(Setup::new()?))
    }

    /// A set-up with the fakes' addresses and CA put in.
    pub fn wire(&self, setup: Setup) -> Setup {
        setup
            .testkube(self.testkube_server.addr())
            .azure_devops(self.azure_server.addr())
            .trusted_ca(&self.ca)
    }

    /// The Testkube, locked: drop the guard before waiting for anything.
    pub fn testkube(&self) -> MutexGuard<'_, Testkube> {
        self.testkube.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Azure DevOps, locked: drop the guard before waiting for anything.
    pub fn azure(&self) -> MutexGuard<'_, AzureDevOps> {
        self.azure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the Testkube listens.
    pub fn testkube_address(&self) -> std::net::SocketAddr {
        self.testkube_server.addr()
    }

    /// Where the Azure DevOps listens, under TLS and its name: `dev.azure.com`, unless it got another.
    pub fn azure_address(&self) -> std::net::SocketAddr {
        self.azure_server.addr()
    }

    /// The PEM file of the authority that signed the Azure DevOps's certificate.
    pub fn ca(&self) -> &std::path::Path {
        &self.ca
    }

    /// Adds an execution.
    pub fn execution(&self, execution: Execution) -> String {
        self.testkube().add(execution)
    }

    /// A run, number `n`, whose gated stage waits from now on. The build and its stage `Test` began a second ago.
    pub fn pipeline(&self, n: u32) -> Pipeline {
        let guid = |kind: u32| format!("{n:08x}-{kind:04x}-5000-8000-00000000{kind:04x}");
        let build = 4_000 + u64::from(n);
        let spec = CheckSpec {
            project: PROJECT.into(),
            hub: "checks".into(),
            plan: guid(1),
            job: guid(2),
            timeline: guid(1),
            task: guid(3),
            token: format!("azure-token-{n}-{:016x}", u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            build: Some(build),
        };
        let began = now_ms() - 1_000;
        let stage =
            Stage { name: "Test".into(), identifier: "test".into(), attempt: 1, start_time: Some(began) };
        let mut azure = self.azure();
        azure.add_build(Build::new(PROJECT, build).started_at(began).stage(stage));
        azure.start_check(now_ms(), spec.clone());
        Pipeline { spec, tag: format!("shop-{build}") }
    }

    /// The decision of a pipeline's check, once Azure DevOps has taken it.
    ///
    /// # Errors
    /// None came in time.
    pub fn decision(&self, pipeline: &Pipeline, timeout: Duration) -> Result<Decision> {
        let plan = &pipeline.spec.plan;
        let decided = || self.azure().events(plan).into_iter().find(|event| event.accepted);
        let event = wait_for(&format!("the decision for tag {}", pipeline.tag), timeout, decided)?;
        Ok(Decision { event, log: self.azure().log_lines(plan).to_vec() })
    }
}

/// A run of a pipeline whose stage waits for its check.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The ids and the token.
    pub spec: CheckSpec,
    /// The tag's value.
    pub tag: String,
}

/// The decision that Azure DevOps got.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The event that was taken.
    pub event: Event,
    /// The log of the check at that time.
    pub log: Vec<String>,
}

impl Decision {
    /// `succeeded` or `failed`.
    pub fn result(&self) -> &str {
        self.event.result.as_deref().unwrap_or_default()
    }

    /// The log's line with the decision.
    pub fn line(&self) -> &str {
        self.log.iter().find(|line| line.contains("]Testrelay: ")).map(String::as_str).unwrap_or_default()
    }

    /// The log's text.
    pub fn text(&self) -> String {
        self.log.join("\n")
    }
}

impl Pipeline {
    /// The header fields that Azure DevOps sends: the check task's defaults, as it expands them, and Testrelay's own.
    pub fn fields(&self, expect: &str) -> Fields {
        let spec = &self.spec;
        let mut fields = Fields(Vec::new());
        for (name, value) in [
            ("Content-Type", "application/json"),
            ("PlanUrl", PLAN_URL),
            ("ProjectId", &spec.project),
            ("HubName", &spec.hub),
            ("PlanId", &spec.plan),
            ("JobId", &spec.job),
            ("TimelineId", &spec.timeline),
            ("TaskInstanceId", &spec.task),
            ("AuthToken", &spec.token),
            ("BuildId", &spec.build.unwrap_or_default().to_string()),
            ("Testrelay-Tag", &self.tag),
            ("Testrelay-Expect", expect),
        ] {
            fields = fields.with(name, value);
        }
        fields
    }

    /// The request that Azure DevOps sends, with the service connection's password.
    pub fn check(&self, expect: &str) -> Request {
        self.fields(expect).request()
    }
}

/// The fields of a check request.
#[derive(Clone, Debug)]
pub struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    /// Sets a field, in place of the one of that name.
    pub fn with(self, name: &str, value: impl AsRef<[u8]>) -> Fields {
        self.without(name).and(name, value)
    }

    /// Adds a field, beside the one of that name.
    pub fn and(mut self, name: &str, value: impl AsRef<[u8]>) -> Fields {
        self.0.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Takes a field away.
    pub fn without(mut self, name: &str) -> Fields {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// All of them as headers of a POST with an empty body, with the service connection's password.
    pub fn request(&self) -> Request {
        self.anonymous_request().basic(USER, PASSWORD)
    }

    /// The same without a credential.
    pub fn anonymous_request(&self) -> Request {
        self.0
            .iter()
            .fold(Request::post("/testrelay/v1/checks"), |request, (name, value)| request.header(name, value))
    }

    /// All of them as members of a JSON body, but for the content type.
    ///
    /// # Errors
    /// A value is not UTF-8.
    pub fn json_body(&self) -> Result<serde_json::Value> {
        let mut members = serde_json::Map::new();
        for (name, value) in self.0.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type")) {
            let member = name.strip_prefix("Testrelay-").unwrap_or(name);
            let text = std::str::from_utf8(value).map_err(|e| anyhow!("{name}: {e}"))?;
            members.insert(member.to_string(), text.into());
        }
        Ok(members.into())
    }
}

/// The project of every pipeline.
pub const PROJECT: &str = "69f48e94-bdb4-42d7-a560-0f2b54f91cc8";

/// The wall clock in Unix milliseconds, which the fakes' scenarios are written in.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
