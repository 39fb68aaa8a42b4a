//! `envoy/troubleshooting.md` holds: each mistake that it names is made here, in the file that has it, and the line that it
//! quotes is the one that people see.

use crate::istio::{only, setup};
use anyhow::{Context, Result, ensure};
use fakes::Identity;
use host_tests::client::Request;
use host_tests::manifests::{Embedded, Form};
use host_tests::scene::{Pipeline, Scene, USER};
use host_tests::{Envoy, PASSWORD, Setup, validate, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PAGE: &str = include_str!("../../../envoy/troubleshooting.md");
const STANDALONE: &str = include_str!("../../../envoy/kubernetes/standalone/envoy.yaml");
const SIDECAR: &str = include_str!("../../../envoy/kubernetes/sidecar/envoy.yaml");
const WASM_PLUGIN: &str = include_str!("../../../envoy/istio/wasmplugin.yaml");
const ENVOY_FILTER: &str = include_str!("../../../envoy/istio/envoyfilter.yaml");
const EXTENSION_POLICY: &str = include_str!("../../../envoy/gateway/policy.yaml");
const SOON: Duration = Duration::from_secs(30);

/// How many mistakes of a section are made at the same time: each has an Envoy of its own, which mostly waits.
const SIDE_BY_SIDE: usize = 4;

/// A mistake: the page's heading for it, and how it is made and noticed.
type Mistake = (&'static str, fn(&Scene, &str) -> Result<()>);

const KUBERNETES: &[Mistake] = &[
    ("The secret's key `bearer` is empty", |scene, line| {
        refused(setup(scene, &bootstrap(STANDALONE)?)?.environment("TESTRELAY_BEARER", ""), line)
    }),
    ("A field of the plugin's configuration is misspelt", |scene, line| {
        refused(plugin(scene, &bootstrap(STANDALONE)?, "/tag", json!({ "kye": "ado-run" }))?, line)
    }),
    ("The sidecar's organisation is missing", |scene, line| {
        let url = json!("https://dev.azure.com/");
        refused(plugin(scene, &bootstrap(SIDECAR)?, "/azure_devops/0/url", url)?, line)
    }),
    ("The plugin's configuration names a cluster that `envoy.yaml` does not have", |scene, line| {
        logged(scene, plugin(scene, &bootstrap(STANDALONE)?, "/testkube/cluster", json!("testkub"))?, line)
    }),
    ("Testkube's address is wrong, or a NetworkPolicy stands between", |scene, line| {
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        logged(scene, setup(scene, &bootstrap(STANDALONE)?)?.testkube(nobody), line)
    }),
    ("`trusted_ca` holds other authorities", |scene, line| {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, Identity::for_names(&["dev.azure.com"])?.ca_pem())?;
        logged(scene, setup(scene, &bootstrap(STANDALONE)?)?.trusted_ca(&file), line)
    }),
    ("The check comes from another organisation", |scene, line| {
        let foreign = |run: &Pipeline| {
            run.fields("shop-e2e").with("PlanUrl", "https://dev.azure.com/contoso/").request()
        };
        answered(scene, setup(scene, &bootstrap(STANDALONE)?)?, foreign, line)
    }),
    ("The service connection has another password", |scene, line| {
        let wrong = |run: &Pipeline| run.fields("shop-e2e").anonymous_request().basic(USER, "wrong");
        answered(scene, setup(scene, &bootstrap(STANDALONE)?)?, wrong, line)
    }),
];

const ISTIO: &[Mistake] = &[
    ("`vmConfig.env` lacks a secret", |scene, line| {
        refused(setup(scene, &without_variable(WASM_PLUGIN, "TESTRELAY_PASSWORD")?)?, line)
    }),
    ("The cluster's port is that of Azure DevOps, not that of the ServiceEntry", |scene, line| {
        let cluster = json!("outbound|443||dev.azure.com");
        logged(scene, plugin(scene, &only(WASM_PLUGIN)?, "/azure_devops/0/cluster", cluster)?, line)
    }),
    ("The WasmPlugin says `read_body: true`, and a check comes in a body", |scene, line| {
        let setup = plugin(scene, &only(WASM_PLUGIN)?, "/read_body", json!(true))?;
        let envoy = Envoy::start(&setup.concurrency(1))?;
        ensure!(in_body(&next(scene))?.send(envoy.address())?.status == 422);
        ensure!(holds(&envoy.log(), line), "{}", envoy.log());
        envoy.stop()
    }),
    ("A check comes in a body, and the WasmPlugin reads none", |scene, line| {
        let envoy = Envoy::start(&setup(scene, &only(WASM_PLUGIN)?)?.concurrency(1))?;
        told(&in_body(&next(scene))?, &envoy, line)
    }),
    ("The DestinationRule's authority is not the one that signed the Server's certificate", |scene, line| {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, Identity::for_names(&["dev.azure.com"])?.ca_pem())?;
        logged(scene, setup(scene, &only(WASM_PLUGIN)?)?.trusted_ca(&file), line)
    }),
    ("The EnvoyFilter's list lacks `proxy_http_call`", |scene, line| {
        let mut filter = only(ENVOY_FILTER)?;
        let Form::Filter(config) = &mut filter.form else { anyhow::bail!("no filter") };
        let list = config.pointer_mut("/capability_restriction_config/allowed_capabilities");
        let list = list.and_then(Value::as_object_mut).context("no list")?;
        ensure!(list.remove("proxy_http_call").is_some());
        logged(scene, setup(scene, &filter)?, line)
    }),
];

const GATEWAY: &[Mistake] = &[
    ("`env.hostKeys` lacks a secret", |scene, line| {
        refused(setup(scene, &without_variable(EXTENSION_POLICY, "TESTRELAY_BEARER")?)?, line)
    }),
    ("A route's rule has moved", |scene, line| {
        let cluster = json!("httproute/testrelay/testrelay/rule/2");
        logged(scene, plugin(scene, &only(EXTENSION_POLICY)?, "/testkube/cluster", cluster)?, line)
    }),
    ("A check comes in a body", |scene, line| {
        let envoy = Envoy::start(&setup(scene, &only(EXTENSION_POLICY)?)?.concurrency(1))?;
        told(&in_body(&next(scene))?, &envoy, line)
    }),
    ("A number stands where a text belongs", |scene, line| {
        refused(plugin(scene, &only(EXTENSION_POLICY)?, "/checks", json!({ "timeout": 12 }))?, line)
    }),
];

#[test]
fn the_lines_for_kubernetes_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Kubernetes", KUBERNETES)
}

#[test]
fn the_lines_for_istio_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Istio", ISTIO)
}

#[test]
fn the_lines_for_envoy_gateway_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Envoy Gateway", GATEWAY)
}

/// Makes every mistake of a section, and no other is in the section.
fn make_all(section: &str, mistakes: &[Mistake]) -> Result<()> {
    let lines = quoted(section)?;
    let names: Vec<&str> = mistakes.iter().map(|(name, _)| *name).collect();
    assert_eq!(lines.keys().copied().collect::<Vec<_>>(), {
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted
    });
    let scene = Scene::new()?;
    let mut wrong = Vec::new();
    for some in mistakes.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let (scene, lines) = (&scene, &lines);
            let started = some.iter().map(|(name, make)| (name, scope.spawn(|| make(scene, lines[name]))));
            for (name, mistake) in started.collect::<Vec<_>>() {
                match mistake.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => wrong.push(format!("{name}: {error:#}")),
                    Err(_) => wrong.push(format!("{name}: a panic")),
                }
            }
        });
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// The page's line for each of a section's headings: the first line of the heading's first block.
fn quoted(section: &str) -> Result<BTreeMap<&'static str, &'static str>> {
    let (_, text) = PAGE.split_once(&format!("\n{section}\n")).with_context(|| format!("no {section:?}"))?;
    let text = text.split("\n## ").next().unwrap_or_default();
    let mut lines = BTreeMap::new();
    for part in text.split("\n### ").skip(1) {
        let (heading, rest) = part.split_once('\n').context("a heading alone")?;
        let block = rest.split_once("\n```text\n").with_context(|| format!("{heading}: no block"))?.1;
        lines.insert(heading, block.lines().next().unwrap_or_default());
    }
    Ok(lines)
}

fn bootstrap(text: &str) -> Result<Embedded> {
    Ok(Embedded { place: "envoy.yaml".into(), form: Form::Bootstrap(serde_saphyr::from_str(text)?) })
}

/// With one value of the plugin's configuration replaced; its clusters stay.
fn plugin(scene: &Scene, embedded: &Embedded, place: &'static str, value: Value) -> Result<Setup> {
    Ok(setup(scene, embedded)?.edit_plugin(move |plugin| {
        let (parent, member) = place.rsplit_once('/').unwrap_or_default();
        if let Some(object) = plugin.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.insert(member.to_owned(), value.clone());
        }
    }))
}

fn without_variable(manifest: &str, name: &str) -> Result<Embedded> {
    let mut embedded = only(manifest)?;
    let Form::Plugin { environment, .. } = &mut embedded.form else { anyhow::bail!("no plugin") };
    environment.retain(|variable| variable != name);
    Ok(embedded)
}

/// All fields in a JSON body.
fn in_body(run: &Pipeline) -> Result<Request> {
    let request = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
    Ok(request.json(&run.fields("shop-e2e").json_body()?))
}

/// Envoy does not start with it, and says this.
fn refused(setup: Setup, line: &str) -> Result<()> {
    let said = validate(&setup)?;
    ensure!(!said.accepted && holds(&said.text, line), "{}", said.text);
    Ok(())
}

/// A check is accepted, and then this is logged.
fn logged(scene: &Scene, setup: Setup, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    let answer = next(scene).check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let seen = wait_until("the line", SOON, || holds(&envoy.log(), line));
    seen.with_context(|| envoy.log())?;
    envoy.stop()
}

/// The answer to a check says this.
fn answered(scene: &Scene, setup: Setup, request: fn(&Pipeline) -> Request, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    told(&request(&next(scene)), &envoy, line)
}

fn told(request: &Request, envoy: &Envoy, line: &str) -> Result<()> {
    let answer = request.send(envoy.address())?;
    let problem = answer.json()?;
    let said = format!(
        "{} {}: {}",
        answer.status,
        problem["title"].as_str().unwrap_or_default(),
        problem["detail"].as_str().unwrap_or_default()
    );
    ensure!(said == line, "{said}");
    Ok(())
}

/// A pipeline that no mistake had before.
fn next(scene: &Scene) -> Pipeline {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(100);
    scene.pipeline(NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether a log has a line that ends in this one, whatever the check's id.
fn holds(log: &str, line: &str) -> bool {
    let line = alike(line);
    log.lines().any(|logged| alike(logged).ends_with(&line))
}

/// A line with the ids of checks made alike.
fn alike(line: &str) -> String {
    let is_id = |word: &str| word.len() == 16 && word.bytes().all(|c| c.is_ascii_hexdigit());
    let word = |word: &str| match word.strip_suffix(':').filter(|word| is_id(word)) {
        Some(_) => "ID:".to_owned(),
        None => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
