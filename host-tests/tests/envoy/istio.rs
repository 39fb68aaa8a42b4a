//! The filters that Istio and Envoy Gateway make of the files in `envoy/`, on a real Envoy, in the form in which they send
//! them.

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::client::Request;
use host_tests::manifests::{Embedded, Form, documents, embedded};
use host_tests::scene::{Pipeline, Scene, TAG_KEY, USER, now_ms};
use host_tests::{BEARER, Envoy, PASSWORD, Reload, STATUS, Setup, config, env, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
const WASM_PLUGIN: &str = include_str!("../../../envoy/istio/wasmplugin.yaml");
const TRAFFIC_EXTENSION: &str = include_str!("../../../envoy/istio/trafficextension.yaml");
const ENVOY_FILTER: &str = include_str!("../../../envoy/istio/envoyfilter.yaml");
const TIMEOUTS: &str = include_str!("../../../envoy/istio/timeouts.yaml");
const TIMEOUTS_SIDECAR: &str = include_str!("../../../envoy/istio/timeouts-sidecar.yaml");
const EXTENSION_POLICY: &str = include_str!("../../../envoy/gateway/policy.yaml");
const SIDECAR: &str = include_str!("../../../envoy/kubernetes/sidecar/envoy.yaml");

/// What the only plugin in a manifest is.
pub(crate) fn only(manifest: &str) -> Result<Embedded> {
    let found = embedded(&documents(manifest)?)?;
    let [only] = found.try_into().ok().context("not one plugin")?;
    Ok(only)
}

/// An Envoy between the fakes with the plugin of a manifest.
pub(crate) fn setup(scene: &Scene, embedded: &Embedded) -> Result<Setup> {
    Ok(scene.wire(embedded.setup(&env::module()?)?).concurrency(2))
}

/// Accepts a check, decides it and serves its artifact.
fn the_main_job_is_done(scene: &Scene, envoy: &Envoy, n: u32) -> Result<()> {
    let run = scene.pipeline(n);
    let junit = b"<testsuite/>\n".to_vec();
    let passed = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed);
    let id = scene.execution(passed.artifact("results/junit.xml", junit.clone()));
    let answer = run.check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let decision = scene.decision(&run, SOON)?;
    ensure!(decision.result() == "succeeded", "{}", decision.text());
    let path = format!("/v1/test-workflow-executions/{id}/artifacts/results%252Fjunit.xml");
    let artifact = Request::get(&path).bearer(BEARER).send(envoy.address())?;
    ensure!((artifact.status, &artifact.body) == (200, &junit), "{} {}", artifact.status, artifact.text());
    // By tag the request waits for Testkube's answer and then takes another route than its own path has.
    let by_tag = format!("/testrelay/v1/artifacts/{TAG_KEY}={}", run.tag);
    let links = Request::get(format!("{by_tag}?format=text")).bearer(BEARER).send(envoy.address())?.text();
    let link = links.trim_end().strip_prefix("http://testrelay.example").context(links.clone())?;
    let file = Request::get(link).bearer(BEARER).send(envoy.address())?;
    ensure!((file.status, &file.body) == (200, &junit), "{link}: {} {}", file.status, file.text());
    ensure!(file.header("content-type") == Some("application/xml"), "{:?}", file.header("content-type"));
    Ok(())
}

fn nothing_fell(envoy: &Envoy) -> Result<()> {
    let log = envoy.log();
    for trace in
        ["[critical]", "panicked", "failed with status", "VM failed", "restricted proxy-wasm capability"]
    {
        ensure!(!log.contains(trace), "{trace:?} in the log: {log}");
    }
    Ok(())
}

/// The extension configuration in the file that Envoy watches, as Istio's agent hands it on by ECDS.
struct Ecds {
    folder: TempDir,
}

impl Ecds {
    /// The name that istiod gives to it.
    const NAME: &str = "extensions.istio.io/wasmplugin/testrelay.testrelay";

    fn new() -> Result<Ecds> {
        Ok(Ecds { folder: tempfile::tempdir()? })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ecds.json")
    }

    /// Removes the filter from the listener, which then waits for it.
    fn send(&self, setup: Setup) -> Setup {
        let file = self.file();
        setup.edit(move |bootstrap| {
            let manager = config::connection_manager(config::listener(bootstrap)?)?;
            let filter = config::named(manager, "/http_filters", "envoy.filters.http.wasm")?;
            let mut wasm = filter["typed_config"].clone();
            // What istiod writes for the agent; an agent that leaves it there must do no harm.
            wasm["config"]["vm_config"]["environment_variables"]["key_values"] =
                json!({ "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "4711" });
            write(&file, &wasm)?;
            let source = json!({ "path_config_source": { "path": file }, "resource_api_version": "V3",
                "initial_fetch_timeout": "0s" });
            let types = ["wasm.v3.Wasm", "rbac.v3.RBAC"]
                .map(|name| format!("type.googleapis.com/envoy.extensions.filters.http.{name}"));
            *filter = json!({
                "name": Ecds::NAME,
                "config_discovery": { "config_source": source, "type_urls": types },
            });
            Ok(())
        })
    }

    /// A change of the WasmPlugin: the same filter with another configuration.
    fn change(&self, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let mut discovery: Value = serde_json::from_slice(&std::fs::read(self.file())?)?;
        let wasm = config::at(&mut discovery, "/resources/0/typed_config")?;
        let text = config::at(wasm, "/config/configuration/value")?;
        let mut plugin: Value = serde_json::from_str(text.as_str().unwrap_or_default())?;
        edit(&mut plugin);
        *text = json!(plugin.to_string());
        write(&self.file(), &wasm.clone())
    }
}

fn write(file: &Path, wasm: &Value) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, discovery(Ecds::NAME, wasm).to_string())?;
    Ok(std::fs::rename(new, file)?)
}

fn discovery(name: &str, wasm: &Value) -> Value {
    json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": wasm,
    }] })
}

#[test]
fn a_wasm_plugin_that_arrives_by_ecds_does_the_main_job_and_keeps_checks_when_it_changes() -> Result<()> {
    let scene = Scene::new()?;
    let ecds = Ecds::new()?;
    let envoy = Envoy::start(&ecds.send(setup(&scene, &only(WASM_PLUGIN)?)?))?;
    the_main_job_is_done(&scene, &envoy, 1)?;
    // Envoy names the plugin where it serves a request, not where it ticks.
    assert!(envoy.log().contains("wasm log testrelay.testrelay testrelay: check "), "{}", envoy.log());
    assert!(envoy.log().contains("wasm log testrelay: leads"), "{}", envoy.log());
    nothing_fell(&envoy)?;

    let waits: Pipeline = scene.pipeline(2);
    assert_eq!(waits.check("shop-e2e").send(envoy.address())?.status, 200);
    ecds.change(|plugin| plugin["tag"]["kye"] = json!("run"))?;
    wait_until("a refusal", SOON, || envoy.log().contains("tag.kye: unknown field"))?;
    the_main_job_is_done(&scene, &envoy, 3)?;
    ecds.change(|plugin| {
        plugin["tag"].as_object_mut().map(|tag| tag.remove("kye"));
        plugin["base_path"] = json!("/gate");
    })?;
    wait_until("the new configuration", SOON, || {
        Request::get("/gate/healthz").send(envoy.address()).is_ok_and(|answer| answer.status == 200)
    })?;
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &waits.tag).at(now_ms(), Status::Passed));
    assert_eq!(scene.decision(&waits, SOON)?.result(), "succeeded");
    assert!(!envoy.log().contains("panicked"), "{}", envoy.log());
    envoy.stop()
}

/// A plugin as istiod hands it on: the name of the discovered resource, and the one that the module reads.
type Sent = (&'static str, &'static str);

/// Of a WasmPlugin up to Istio 1.29, of the same WasmPlugin from 1.30 on, and of a TrafficExtension.
const SENT: [Sent; 3] = [
    ("extensions.istio.io/wasmplugin/testrelay.testrelay", "testrelay.testrelay"),
    (
        "extensions.istio.io/trafficextension/testrelay.testrelay~istio-translated-wasmplugin",
        "testrelay.testrelay~istio-translated-wasmplugin",
    ),
    ("extensions.istio.io/trafficextension/testrelay.testrelay", "testrelay.testrelay"),
];

/// A filter that is discovered under this name, and the file in which it is.
fn discovered(folder: &Path, wasm: &Value, (resource, name): Sent) -> Result<Value> {
    let mut wasm = wasm.clone();
    wasm["config"]["name"] = json!(name);
    let file = folder.join(format!("{name}-{}.json", resource.len()));
    std::fs::write(&file, discovery(resource, &wasm).to_string())?;
    let source = json!({ "path_config_source": { "path": file }, "resource_api_version": "V3",
        "initial_fetch_timeout": "0s" });
    let types = ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"];
    Ok(json!({ "name": resource, "config_discovery": { "config_source": source, "type_urls": types } }))
}

/// Changes `pluginConfig` of a manifest's only plugin.
fn configured(manifest: &str, edit: fn(&mut Value)) -> Result<Embedded> {
    let mut embedded = only(manifest)?;
    let Form::Plugin { configuration, .. } = &mut embedded.form else { anyhow::bail!("no plugin") };
    edit(configuration);
    Ok(embedded)
}

/// A check that was accepted under one name is decided, once, after the plugin has another; and one that is accepted then.
fn a_pending_check_survives(from: &Embedded, to: &Embedded, names: [Sent; 2]) -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().to_owned();
    let filter_of = |embedded: &Embedded| -> Result<Value> {
        let mut bootstrap = setup(&scene, embedded)?.bootstrap_for_a_look()?;
        let manager = config::connection_manager(config::listener(&mut bootstrap)?)?;
        Ok(config::named(manager, "/http_filters", "envoy.filters.http.wasm")?["typed_config"].clone())
    };
    let (first, second) = (filter_of(from)?, filter_of(to)?);
    let before = discovered(&place, &first, names[0])?;
    let setup = setup(&scene, from)?
        .edit(move |bootstrap| {
            let manager = config::connection_manager(config::listener(bootstrap)?)?;
            *config::named(manager, "/http_filters", "envoy.filters.http.wasm")? = before.clone();
            Ok(())
        })
        .drain_time(Duration::from_secs(2))
        .dynamic_listener();
    let mut envoy = Envoy::start(&setup)?;
    let waits = scene.pipeline(1);
    assert_eq!(waits.check("shop-e2e").send(envoy.address())?.status, 200);
    let after = discovered(&place, &second, names[1])?;
    let reload = envoy.reload_listener(|listener| {
        let manager = config::connection_manager(listener)?;
        *config::named(manager, "/http_filters", names[0].0)? = after;
        Ok(())
    })?;
    ensure!(reload == Reload::Accepted, "{reload:?}");
    // Only a chain of filters has changed, so Envoy keeps the listener. Until the old chain is gone, its plugin works on.
    let draining = || envoy.stat("listener_manager.total_filter_chains_draining").unwrap_or_default();
    ensure!(draining() > 0, "nothing drains");
    wait_until("the end of the old chain", SOON, || draining() == 0)?;
    let also = scene.pipeline(2);
    assert_eq!(also.check("shop-e2e").send(envoy.address())?.status, 200);
    for run in [&waits, &also] {
        scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
        assert_eq!(scene.decision(run, SOON)?.result(), "succeeded");
        assert_eq!(scene.azure().events(&run.spec.plan).len(), 1, "one event");
    }
    nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn a_pending_check_survives_the_name_that_a_newer_istiod_gives_to_the_plugin() -> Result<()> {
    let unnamed = configured(WASM_PLUGIN, |plugin| {
        plugin.as_object_mut().map(|plugin| plugin.remove("instance"));
    })?;
    a_pending_check_survives(&unnamed, &unnamed, [SENT[0], SENT[1]])?;
    let shipped = only(WASM_PLUGIN)?;
    a_pending_check_survives(&shipped, &shipped, [SENT[0], SENT[1]])?;
    // Whoever adds the line at the same time loses nothing either.
    a_pending_check_survives(&unnamed, &shipped, [SENT[0], SENT[1]])
}

#[test]
fn a_pending_check_survives_the_move_from_the_wasm_plugin_to_the_traffic_extension() -> Result<()> {
    let (plugin, extension) = (only(WASM_PLUGIN)?, only(TRAFFIC_EXTENSION)?);
    a_pending_check_survives(&plugin, &extension, [SENT[0], SENT[2]])?;
    a_pending_check_survives(&plugin, &extension, [SENT[1], SENT[2]])
}

#[test]
fn the_traffic_extension_does_the_main_job() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&setup(&scene, &only(TRAFFIC_EXTENSION)?)?)?;
    the_main_job_is_done(&scene, &envoy, 1)?;
    nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn the_envoy_filter_reads_bodies_and_may_do_what_the_module_does() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&setup(&scene, &only(ENVOY_FILTER)?)?)?;
    the_main_job_is_done(&scene, &envoy, 1)?;
    let run = scene.pipeline(2);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Failed));
    let check = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
    let answer = check.json(&run.fields("shop-e2e").json_body()?).send(envoy.address())?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.decision(&run, SOON)?.result(), "failed");
    assert_eq!(envoy.stat("wasmcustom.testrelay_delivered_failed")?, 1);
    nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn the_extension_policy_does_the_main_job() -> Result<()> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&setup(&scene, &only(EXTENSION_POLICY)?)?)?;
    the_main_job_is_done(&scene, &envoy, 1)?;
    nothing_fell(&envoy)?;
    envoy.stop()
}

#[test]
fn the_sidecar_does_the_main_job_and_hands_on_the_rest() -> Result<()> {
    let scene = Scene::new()?;
    let form = Form::Bootstrap(serde_saphyr::from_str(SIDECAR)?);
    let envoy = Envoy::start(&setup(&scene, &Embedded { place: "sidecar".into(), form })?)?;
    the_main_job_is_done(&scene, &envoy, 1)?;
    let get = |path: &str| Request::get(path).send(envoy.address());
    assert_eq!(get("/health")?.status, 200, "Testkube's own");
    assert_eq!(get("/testrelay/nothing")?.status, 404);
    assert_eq!(get("/testrelay/v1/checks")?.status, 401);
    let checks = Request::get("/testrelay/v1/checks").basic("people", STATUS);
    assert_eq!(checks.send(envoy.address())?.status, 200);
    nothing_fell(&envoy)?;
    envoy.stop()
}

/// The patches of `timeouts.yaml` on what they are for: they say what `envoy.yaml` says, in words that Envoy takes.
#[test]
fn the_timeouts_that_istio_gets_are_those_of_the_plain_form() -> Result<()> {
    let manifest: Value = serde_saphyr::from_str(TIMEOUTS)?;
    they_say(&manifest, config::shipped()?, "artifacts")
}

/// The same of the twin for Testkube's own sidecar, and of `sidecar/envoy.yaml`.
#[test]
fn the_timeouts_that_testkubes_own_sidecar_gets_are_those_of_the_plain_sidecar() -> Result<()> {
    let manifest: Value = serde_saphyr::from_str(TIMEOUTS_SIDECAR)?;
    they_say(&manifest, serde_saphyr::from_str(SIDECAR)?, "everything")?;
    for patch in manifest["spec"]["configPatches"].as_array().context("no patches")? {
        ensure!(patch["match"]["context"] == "SIDECAR_INBOUND", "{patch}");
        // Not 8089: the agents' streams are silent for longer.
        let listener = &patch["match"]["listener"];
        let host = &patch["match"]["routeConfiguration"]["vhost"]["name"];
        ensure!(listener["portNumber"] == 8088 || host == "inbound|http|8088", "{patch}");
    }
    Ok(())
}

/// Each patch, put on what it is for, changes nothing.
fn they_say(manifest: &Value, mut bootstrap: Value, route: &str) -> Result<()> {
    let patches = manifest["spec"]["configPatches"].as_array().context("no patches")?.clone();
    assert_eq!(
        patches.iter().map(|patch| &patch["applyTo"]).collect::<Vec<_>>(),
        ["NETWORK_FILTER", "HTTP_ROUTE"]
    );
    let listener = config::listener(&mut bootstrap)?;
    let mut expected =
        vec![config::connection_manager(listener)?.clone(), config::route(listener, route)?.clone()];
    for (patch, shipped) in patches.iter().zip(&mut expected) {
        let value = patch.pointer("/patch/value").context("no value")?;
        let before = shipped.clone();
        config::merge(shipped, value.get("typed_config").unwrap_or(value));
        assert_eq!(*shipped, before, "another value than in envoy.yaml");
    }
    Ok(())
}
