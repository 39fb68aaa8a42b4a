//! Kubernetes: the mistakes in `envoy/kubernetes` that Envoy or the module notices. Those that kustomize notices are made by
//! `cargo xtask manifests`.

use super::*;

const STANDALONE_YAML: &str = include_str!("../../../../envoy/kubernetes/standalone/envoy.yaml");
const SIDECAR_YAML: &str = include_str!("../../../../envoy/kubernetes/sidecar/envoy.yaml");

pub(super) const STANDALONE: &[Mistake] = &[
    ("The secret's key `bearer` is empty", |scene, line| {
        refused(setup(scene, &bootstrap(STANDALONE_YAML)?)?.environment("TESTRELAY_BEARER", ""), line)
    }),
    ("A field of the plugin's configuration is misspelt", |scene, line| {
        refused(plugin(scene, &bootstrap(STANDALONE_YAML)?, "/tag", json!({ "kye": "ado-run" }))?, line)
    }),
    ("The plugin's configuration names a cluster that `envoy.yaml` does not have", |scene, line| {
        logged(
            scene,
            plugin(scene, &bootstrap(STANDALONE_YAML)?, "/testkube/cluster", json!("testkub"))?,
            line,
        )
    }),
    ("Testkube's address is wrong, or a NetworkPolicy is in the way", |scene, line| {
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        logged(scene, setup(scene, &bootstrap(STANDALONE_YAML)?)?.testkube(nobody), line)
    }),
    ("`trusted_ca` names other authorities", |scene, line| {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, Identity::for_names(&["dev.azure.com"])?.ca_pem())?;
        logged(scene, setup(scene, &bootstrap(STANDALONE_YAML)?)?.trusted_ca(&file), line)
    }),
    ("The check comes from another organisation", |scene, line| {
        let foreign = |run: &Pipeline| {
            run.fields("shop-e2e").with("PlanUrl", "https://dev.azure.com/contoso/").request()
        };
        answered(scene, setup(scene, &bootstrap(STANDALONE_YAML)?)?, foreign, line)
    }),
    ("The service connection has another password", |scene, line| {
        let wrong = |run: &Pipeline| run.fields("shop-e2e").anonymous_request().basic(USER, "wrong");
        answered(scene, setup(scene, &bootstrap(STANDALONE_YAML)?)?, wrong, line)
    }),
];

pub(super) const SIDECAR: &[Mistake] = &[
    ("The organisation is missing", |scene, line| {
        let url = json!("https://dev.azure.com/");
        refused(plugin(scene, &bootstrap(SIDECAR_YAML)?, "/azure_devops/0/url", url)?, line)
    }),
    ("`passthrough` is misspelt", |scene, line| {
        refused(plugin(scene, &bootstrap(SIDECAR_YAML)?, "/passthrough", json!("everything"))?, line)
    }),
    ("Testkube listens on another port of the pod", |scene, line| {
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        logged(scene, setup(scene, &bootstrap(SIDECAR_YAML)?)?.testkube(nobody), line)
    }),
    ("The secret is not in Testkube's namespace, and its keys were made optional", |scene, line| {
        let setup = setup(scene, &bootstrap(SIDECAR_YAML)?)?;
        let secrets = ["TESTRELAY_PASSWORD", "TESTRELAY_BEARER", "TESTRELAY_STATUS"];
        refused(secrets.into_iter().fold(setup, |setup, name| setup.without_environment(name)), line)
    }),
    ("The sidecar listens on a port that Testkube has", |scene, line| {
        let testkube = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = testkube.local_addr()?.port();
        let setup = setup(scene, &bootstrap(SIDECAR_YAML)?)?.edit(move |bootstrap| {
            let socket = config::at(config::listener(bootstrap)?, "/address/socket_address")?;
            socket["port_value"] = json!(port);
            Ok(())
        });
        let Err(error) = Envoy::start(&setup) else { anyhow::bail!("both have the port") };
        let line = line.replace("0.0.0.0:8080", &format!("127.0.0.1:{port}"));
        ensure!(format!("{error:#}").contains(&line), "{error:#}");
        Ok(())
    }),
];

/// The file that an init container copies, or an image volume mounts.
const MODULE: &str = "/vm_config/code/local/filename";

pub(super) const FILE: &[Mistake] = &[
    ("It is not there", |scene, line| {
        refused(setup(scene, &bootstrap(STANDALONE_YAML)?)?.edit(|bootstrap| module(bootstrap, None)), line)
    }),
    ("It is no module", |scene, line| {
        let folder = tempfile::tempdir()?;
        let page = folder.path().join("testrelay.wasm");
        std::fs::write(&page, "<!DOCTYPE html><html>404</html>")?;
        let setup = setup(scene, &bootstrap(STANDALONE_YAML)?)?;
        refused(setup.edit(move |bootstrap| module(bootstrap, Some(&page))), line)
    }),
    ("It is older than the configuration", |scene, line| {
        // A field of a later version: this module does not know it.
        refused(plugin(scene, &bootstrap(STANDALONE_YAML)?, "/checks", json!({ "quorum": 2 }))?, line)
    }),
];

/// Names a file that the test's machine does not have.
fn module(bootstrap: &mut Value, file: Option<&std::path::Path>) -> Result<()> {
    let shipped = std::path::Path::new("/etc/envoy/testrelay.wasm");
    ensure!(file.is_some() || !shipped.exists(), "this machine has {}", shipped.display());
    *config::at(config::wasm(config::listener(bootstrap)?)?, MODULE)? = json!(file.unwrap_or(shipped));
    Ok(())
}
