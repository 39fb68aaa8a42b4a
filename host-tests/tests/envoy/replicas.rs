//! `envoy/kubernetes/replicas`: its configuration, with a fake API server that has the certificate and the account of a real
//! one.

use crate::istio::setup;
use anyhow::{Context, Result, ensure};
use fakes::kubernetes::{Resource, Token, Verb};
use fakes::{Identity, Kubernetes, Server, Status, execution};
use host_tests::manifests::{Embedded, Form};
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Setup, wait_until};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const REPLICAS_YAML: &str = include_str!("../../../envoy/kubernetes/replicas/envoy.yaml");

const TOKEN: &str = "token-of-the-pod-5d0c1f77";
const SOON: Duration = Duration::from_secs(60);

/// An API server, and the volume of a pod of its cluster.
pub(crate) struct Cluster {
    kubernetes: Arc<Mutex<Kubernetes>>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(crate) const NAMESPACE: &str = "testrelay-checks";

    pub(crate) fn start() -> Result<Cluster> {
        let identity = Identity::for_names(&["kubernetes.default.svc"])?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ca.crt"), identity.ca_pem())?;
        std::fs::write(folder.path().join("token"), TOKEN)?;
        let mut kubernetes = Kubernetes::default();
        kubernetes.namespace(Cluster::NAMESPACE);
        for resource in [Resource::Secrets, Resource::Leases] {
            kubernetes.allow(&Cluster::account(), Cluster::NAMESPACE, resource, &Verb::NEEDED);
        }
        kubernetes.token(TOKEN, Cluster::account());
        let kubernetes = Arc::new(Mutex::new(kubernetes));
        let server = Server::start_tls(kubernetes.clone(), &identity)?;
        Ok(Cluster { kubernetes, server, folder })
    }

    pub(crate) fn kubernetes(&self) -> MutexGuard<'_, Kubernetes> {
        self.kubernetes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not an account of the checks' namespace.
    pub(crate) fn account() -> Token {
        Token::of("testrelay", "testrelay")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A set-up whose Envoy asks this API server.
    pub(crate) fn wire(&self, setup: Setup) -> Setup {
        setup.kubernetes(self.server.addr(), self.folder())
    }
}

#[test]
fn the_shipped_file_keeps_a_check_in_a_secret_that_has_no_token_after_its_end() -> Result<()> {
    let (scene, cluster) = (Scene::new()?, Cluster::start()?);
    let form = Form::Bootstrap(serde_saphyr::from_str(REPLICAS_YAML)?);
    let embedded = Embedded { place: "envoy.yaml".into(), form };
    let envoy = Envoy::start(&cluster.wire(setup(&scene, &embedded)?).environment("POD_NAME", "pod-1"))?;
    let objects = |resource| cluster.kubernetes().objects(now_ms(), resource, Cluster::NAMESPACE);
    wait_until("a Lease", SOON, || !objects(Resource::Leases).is_empty()).with_context(|| envoy.log())?;
    ensure!(objects(Resource::Leases)[0]["metadata"]["annotations"]["testrelay.dev/pod"] == "pod-1");

    let run = scene.pipeline(1);
    let answer = run.check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let secrets = objects(Resource::Secrets);
    ensure!(secrets.len() == 1 && secrets[0]["type"] == "testrelay.dev/check", "{secrets:?}");
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let decision = scene.decision(&run, SOON)?;
    ensure!(decision.result() == "succeeded", "{}", decision.text());
    wait_until("its end", SOON, || {
        let record = objects(Resource::Secrets)[0]["data"]["record"].as_str().map(decoded);
        record.is_some_and(|record| record.contains("\"done\"") && !record.contains("tokens"))
    })
    .with_context(|| envoy.log())?;

    for asked in cluster.kubernetes().requests() {
        let [credential, carrier] =
            ["authorization", "x-kubernetes-token"].map(|name| asked.request.value(name));
        ensure!(credential == Some(format!("Bearer {TOKEN}")) && carrier.is_none(), "{asked:?}");
    }
    envoy.stop()
}

/// A Secret's value.
fn decoded(value: &str) -> String {
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}
