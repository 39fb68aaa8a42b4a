//! The shipped clusters that add an identity: with it goes what is owed to a check whose token has expired, and nothing for
//! a check whose token was never accepted.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::{Identity, Reply, Response, Server, Service, Status, execution};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Setup, config, wait_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const ENTRA: &str = include_str!("../../../envoy/fallback-entra.yaml");
const PAT: &str = include_str!("../../../envoy/fallback-pat.yaml");
const SECRET: &str = include_str!("../../../envoy/fallback-secret.yaml");
const IDENTITY: &str = "identity-that-envoy-puts-on-77d1";
const CLIENT_SECRET: &str = "secret-of-the-client-20b4";

/// Entra's token endpoint.
#[derive(Default)]
struct TokenEndpoint {
    /// Target and body of each request.
    asked: Vec<(String, String)>,
}

impl Service for TokenEndpoint {
    fn handle(&mut self, _now: i64, request: &fakes::Request) -> Reply {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let is_good = body.contains("grant_type=client_credentials") && body.contains(CLIENT_SECRET);
        self.asked.push((request.target.clone(), body));
        let token = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": IDENTITY });
        match is_good {
            true => Response::with_body(200, "application/json; charset=utf-8", token.to_string()).into(),
            false => Response::with_body(401, "application/json", "{\"error\":\"invalid_client\"}").into(),
        }
    }
}

/// `envoy.yaml` with the clusters of a shipped file, the secret in a file of `folder`, and these addresses and authorities.
fn setup(
    scene: &Scene,
    file: &str,
    folder: &Path,
    secret: &str,
    entra: Option<(SocketAddr, &Path)>,
) -> Result<Setup> {
    let own = folder.to_str().context("a path that is not UTF-8")?;
    let mut shipped: Value = serde_saphyr::from_str(&file.replace("/etc/testrelay/fallback", own))?;
    std::fs::write(folder.join("secret.yaml"), SECRET.replace("change-me", secret))?;
    let places = [("azure-devops-fallback", Some((scene.azure_address(), scene.ca()))), ("entra", entra)];
    for (name, place) in places {
        let Some((address, ca)) = place else { continue };
        let cluster = config::cluster(&mut shipped, name)?;
        cluster["type"] = json!("STATIC");
        let socket = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
        *config::at(cluster, socket)? =
            json!({ "address": address.ip().to_string(), "port_value": address.port() });
        let trusted =
            "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
        *config::at(cluster, trusted)? = json!(ca);
    }
    let clusters = config::list(&mut shipped, "/static_resources/clusters")?.clone();
    let setup = clusters.into_iter().fold(scene.setup()?.concurrency(1), Setup::cluster);
    Ok(setup
        .edit_plugin(|plugin| plugin["azure_devops"][0]["fallback_cluster"] = json!("azure-devops-fallback")))
}

/// A check's token expires while it waits; meanwhile somebody sends another check's ids with another token.
fn only_what_is_owed_goes_out_with_the_identity(scene: &Scene, envoy: &Envoy) -> Result<()> {
    assert!(envoy.log().contains("`azure-devops-fallback`"), "the start does not say so: {}", envoy.log());
    let (run, victim) = (scene.pipeline(1), scene.pipeline(2));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    let forged = victim.fields("shop-e2e").with("AuthToken", "forged").request();
    assert_eq!(forged.send(envoy.address())?.status, 200);
    for both in [&run, &victim] {
        scene.execution(execution("shop-e2e").tag(TAG_KEY, &both.tag).at(now_ms() + 4_000, Status::Passed));
    }
    wait_until("the check's log", SOON, || !scene.azure().log_lines(&run.spec.plan).is_empty())?;
    scene.azure().expire_token(&run.spec.token, now_ms());
    let decision = scene.decision(&run, SOON)?;
    assert_eq!((decision.result(), decision.event.token_used.as_deref()), ("succeeded", Some(IDENTITY)));
    assert!(decision.line().contains("succeeded"), "{}", decision.text());
    let with_identity = calls_with_the_identity(scene);
    assert!(!with_identity.is_empty());
    for target in with_identity {
        assert!(target.contains(&run.spec.plan) && !target.contains(&victim.spec.plan), "{target}");
    }
    assert!(scene.azure().events(&victim.spec.plan).is_empty(), "the victim's check was finished");
    assert!(!envoy.log().contains(IDENTITY) && !envoy.log().contains(CLIENT_SECRET));
    Ok(())
}

fn calls_with_the_identity(scene: &Scene) -> Vec<String> {
    let azure = scene.azure();
    let basic = STANDARD.encode(format!(":{IDENTITY}"));
    let is_it = |value: String| value.contains(IDENTITY) || value.contains(&basic);
    let calls = azure.requests().iter().map(|seen| &seen.request);
    calls
        .filter(|call| call.value("authorization").is_some_and(is_it))
        .map(|call| call.target.clone())
        .collect()
}

#[test]
fn a_service_principal_of_entra_finishes_a_check_whose_token_has_died() -> Result<()> {
    let scene = Scene::new()?;
    scene.azure().know_identity(IDENTITY);
    let folder = tempfile::tempdir()?;
    let identity = Identity::for_names(&["login.microsoftonline.com"])?;
    let ca = folder.path().join("entra-ca.pem");
    std::fs::write(&ca, identity.ca_pem())?;
    let endpoint = Arc::new(Mutex::new(TokenEndpoint::default()));
    let server = Server::start_tls(endpoint.clone(), &identity)?;
    let setup = setup(&scene, ENTRA, folder.path(), CLIENT_SECRET, Some((server.addr(), &ca)))?;
    let envoy = Envoy::start(&setup)?;
    let asked = || endpoint.lock().unwrap_or_else(PoisonError::into_inner).asked.clone();
    wait_until("a token", SOON, || asked().iter().any(|(_, body)| body.contains(CLIENT_SECRET)))?;
    let (target, body) = asked().pop().context("nothing was asked")?;
    ensure!(
        target.ends_with("/oauth2/v2.0/token") && body.contains("499b84ac-1321-427f-aa17-267ca6975798"),
        "{target} {body}"
    );
    only_what_is_owed_goes_out_with_the_identity(&scene, &envoy)?;
    envoy.stop()
}

#[test]
fn a_personal_access_token_finishes_a_check_whose_token_has_died() -> Result<()> {
    let scene = Scene::new()?;
    scene.azure().know_identity(IDENTITY);
    let folder = tempfile::tempdir()?;
    let secret = format!("Basic {}", STANDARD.encode(format!(":{IDENTITY}")));
    let envoy = Envoy::start(&setup(&scene, PAT, folder.path(), &secret, None)?)?;
    only_what_is_owed_goes_out_with_the_identity(&scene, &envoy)?;
    envoy.stop()
}

/// As without it: the check waits for a token that is good.
#[test]
fn an_identity_that_cannot_be_had_leaves_the_check_to_its_tokens() -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let ca = scene.ca().to_owned();
    let setup = setup(&scene, ENTRA, folder.path(), CLIENT_SECRET, Some((nobody, &ca)))?;
    let envoy = Envoy::start(&setup)?;
    let mut run: Pipeline = scene.pipeline(1);
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    wait_until("the check's log", SOON, || !scene.azure().log_lines(&run.spec.plan).is_empty())?;
    scene.azure().expire_token(&run.spec.token, now_ms());
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    wait_until("a try through it", SOON, || envoy.log().contains("goes through the fallback cluster"))?;
    run.spec.token = "token-of-the-second-delivery".into();
    scene.azure().start_check(now_ms(), run.spec.clone());
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    let decision = scene.decision(&run, SOON)?;
    assert_eq!(decision.event.token_used.as_deref(), Some(run.spec.token.as_str()));
    envoy.stop()
}
