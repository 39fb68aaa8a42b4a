//! An Azure DevOps Server with its own CA: the commands of `envoy/kubernetes/README.md` make a configuration that decides
//! its checks.

use crate::istio::setup;
use anyhow::{Context, Result, ensure};
use fakes::{AzureDevOps, Database, Status, Testkube, execution};
use host_tests::Envoy;
use host_tests::manifests::{Embedded, Form};
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PAGE: &str = include_str!("../../../envoy/kubernetes/README.md");

/// The section's commands.
fn commands() -> Result<&'static str> {
    let (_, text) = PAGE.split_once("\n### Azure DevOps Server\n").context("no such section")?;
    let block = text.split_once("\n```bash\n").context("no commands")?.1;
    Ok(block.split("\n```").next().unwrap_or_default())
}

/// The two files that the commands change, in a copy of their folder.
fn typed(folder: &Path) -> Result<[Value; 2]> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/kubernetes/standalone");
    let copy = folder.join("envoy/kubernetes/standalone");
    std::fs::create_dir_all(&copy)?;
    for file in ["envoy.yaml", "kustomization.yaml"] {
        std::fs::copy(shipped.join(file), copy.join(file)).context(file)?;
    }
    std::fs::write(folder.join("company-ca.pem"), "an authority")?;
    let mut bash = Command::new("bash");
    bash.args(["-euc", commands()?]).current_dir(folder).env("HOME", folder);
    let ended = bash.output().context("bash cannot be run")?;
    ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    ensure!(copy.join("company-ca.pem").is_file(), "the authority is not beside the configuration");
    let read = |file: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(copy.join(file))?)?)
    };
    Ok([read("envoy.yaml")?, read("kustomization.yaml")?])
}

#[test]
fn the_commands_for_a_server_make_a_configuration_that_decides_its_checks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [bootstrap, kustomization] = typed(folder.path())?;
    let files = &kustomization["configMapGenerator"][0]["files"];
    assert_eq!(files, &json!(["envoy.yaml", "company-ca.pem"]));
    // Where the ConfigMap is mounted.
    let text = bootstrap.to_string();
    assert!(text.contains("\"/etc/testrelay/company-ca.pem\"") && !text.contains("dev.azure.com"), "{text}");

    let server = AzureDevOps::new("/DefaultCollection");
    let scene = Scene::of_server("ado.example.com", Testkube::new(Database::Postgres), server)?;
    let embedded = Embedded { place: "envoy.yaml".into(), form: Form::Bootstrap(bootstrap) };
    let envoy = Envoy::start(&setup(&scene, &embedded)?)?;
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let of = |url: &str| run.fields("shop-e2e").with("PlanUrl", url).request().send(envoy.address());
    // Another collection is another place, and so is the organisation that stood there before.
    for other in ["https://ado.example.com/OtherCollection/", "https://dev.azure.com/fabrikam/"] {
        assert_eq!(of(other)?.status, 403, "{other}");
    }
    let answer = of("https://ado.example.com/DefaultCollection/")?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.decision(&run, Duration::from_secs(60))?.result(), "succeeded");
    envoy.stop()
}
