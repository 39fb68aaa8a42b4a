//! Istio: the mistakes in `envoy/istio`.

use super::*;

const WASM_PLUGIN: &str = include_str!("../../../../envoy/istio/wasmplugin.yaml");
const ENVOY_FILTER: &str = include_str!("../../../../envoy/istio/envoyfilter.yaml");

pub(super) const MISTAKES: &[Mistake] = &[
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
    ("The plugin asks Testkube through a subset that no DestinationRule has", |scene, line| {
        let other = "outbound|8088|others|testkube-api-server.testkube.svc.cluster.local";
        let subset = "outbound|8088|polls|testkube-api-server.testkube.svc.cluster.local";
        let setup = setup(scene, &only(WASM_PLUGIN)?)?.edit_cluster(subset, move |cluster| {
            cluster["name"] = json!(other);
            cluster["load_assignment"]["cluster_name"] = json!(other);
        });
        logged(scene, setup, line)
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
