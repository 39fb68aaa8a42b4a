//! Every configuration in the repository fits the schema.

use super::{Judges, parsed};
use crate::page::{fenced, pages};
use crate::repository::{files, root};
use anyhow::{Context, Result, ensure};
use host_tests::config;
use host_tests::manifests::{Embedded, Form, documents, embedded};
use serde_json::Value;

/// The configurations in one of the files of `envoy/`: in an Envoy's own form, or in a manifest.
fn configurations(text: &str) -> Result<Vec<Embedded>> {
    let documents = documents(text)?;
    let mut found = embedded(&documents)?;
    let own =
        documents.into_iter().filter(|document| document.pointer("/static_resources/listeners").is_some());
    found.extend(own.map(|own| Embedded { place: "an Envoy's own".into(), form: Form::Bootstrap(own) }));
    Ok(found)
}

#[test]
fn every_configuration_in_the_manifests_fits() -> Result<()> {
    let judges = Judges::new()?;
    let mut seen = Vec::new();
    for file in files(&root().join("envoy"))? {
        let name = file.strip_prefix(root())?.display().to_string();
        if !name.ends_with(".yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        for part in configurations(&text).with_context(|| name.clone())? {
            let plugin = part.plugin().with_context(|| name.clone())?;
            ensure!(judges.agree(&name, &plugin)?, "{name}: {:?}", parsed(&plugin));
            seen.push(name.clone());
        }
    }
    assert_eq!(
        seen,
        [
            "envoy/envoy.yaml",
            "envoy/gateway/policy.yaml",
            "envoy/istio/envoyfilter.yaml",
            "envoy/istio/trafficextension.yaml",
            "envoy/istio/wasmplugin.yaml",
            "envoy/kubernetes/replicas/envoy.yaml",
            "envoy/kubernetes/sidecar/envoy.yaml",
            "envoy/kubernetes/standalone/envoy.yaml",
        ]
    );
    Ok(())
}

#[test]
fn every_configuration_in_a_page_fits() -> Result<()> {
    let judges = Judges::new()?;
    let mut seen = 0;
    for file in pages()? {
        let page = file.display().to_string();
        for block in fenced(&std::fs::read_to_string(&file)?, "json") {
            let value: Value = serde_json::from_str(&block).with_context(|| format!("{page}: {block}"))?;
            if value.get("azure_devops").is_some() {
                ensure!(judges.agree(&page, &value)?, "{page}: {:?}", parsed(&value));
                seen += 1;
            }
        }
    }
    assert!(seen >= 4, "{seen}");
    Ok(())
}

#[test]
fn every_configuration_of_a_story_fits() -> Result<()> {
    let judges = Judges::new()?;
    let shipped = config::plugin(config::listener(&mut config::shipped()?)?)?;
    for (name, story) in scenarios::all()? {
        let mut plugin = shipped.clone();
        config::merge(&mut plugin, &story.envoy.plugin);
        ensure!(judges.agree(&name, &plugin)?, "{name}: {:?}", parsed(&plugin));
    }
    Ok(())
}

/// What random changes have made of configurations: each is taken by both, or by neither, or is one of those that only the
/// parser can refuse.
#[test]
fn both_say_the_same_of_what_fuzzing_has_found() -> Result<()> {
    const ONLY_THE_PARSER: [&str; 4] = [
        "is also a `cluster`",
        "is used twice",
        "the environment variable that it names",
        "executions are expected",
    ];
    let judges = Judges::new()?;
    let (mut taken, mut refused) = (0, 0);
    for file in files(&root().join("host-tests/fuzz/corpus/configuration"))? {
        let Ok(configuration) = serde_json::from_slice::<Value>(&std::fs::read(&file)?) else { continue };
        let said = parsed(&configuration).err().unwrap_or_default();
        let of_the_parser = |error: &str| ONLY_THE_PARSER.iter().any(|words| error.contains(words));
        if said.split(" | ").all(of_the_parser) && judges.schema_takes(&configuration) {
            continue;
        }
        match judges.agree(&file.display().to_string(), &configuration)? {
            true => taken += 1,
            false => refused += 1,
        }
    }
    assert!(taken > 2 && refused > 10, "{taken} taken, {refused} refused");
    Ok(())
}
