//! What every configuration in `envoy/` must have, however it installs the module.

use crate::repository::{files, root};
use anyhow::{Context, Result, ensure};
use host_tests::config;
use host_tests::manifests::{Embedded, Form, documents, embedded};
use serde_json::{Value, json};
use std::path::Path;

/// A configuration of the plugin, and all documents in the same folder.
struct Shipped {
    file: String,
    embedded: Embedded,
    way: Vec<Value>,
}

impl Shipped {
    fn plugin(&self) -> Result<Value> {
        self.embedded.plugin().with_context(|| self.file.clone())
    }
}

/// All configurations in `envoy/`.
fn shipped() -> Result<Vec<Shipped>> {
    let mut all = Vec::new();
    for file in yaml_files(&root().join("envoy"))? {
        let name = file.strip_prefix(root())?.display().to_string();
        let own = documents(&std::fs::read_to_string(&file)?)?;
        let mut parts = embedded(&own)?;
        for bootstrap in
            own.iter().filter(|document| document.pointer("/static_resources/listeners").is_some())
        {
            parts.push(Embedded { place: name.clone(), form: Form::Bootstrap(bootstrap.clone()) });
        }
        let mut way = Vec::new();
        for neighbour in yaml_files(file.parent().context("no folder")?)? {
            way.extend(documents(&std::fs::read_to_string(neighbour)?)?);
        }
        all.extend(parts.into_iter().map(|embedded| Shipped {
            file: name.clone(),
            embedded,
            way: way.clone(),
        }));
    }
    ensure!(all.len() == 8, "{} configurations", all.len());
    Ok(all)
}

fn yaml_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    Ok(files(folder)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect())
}

fn bootstraps() -> Result<Vec<(String, Value)>> {
    let forms = shipped()?.into_iter().filter_map(|shipped| match shipped.embedded.form {
        Form::Bootstrap(bootstrap) => Some((shipped.file, bootstrap)),
        _ => None,
    });
    Ok(forms.collect())
}

#[test]
fn each_names_its_instance_so_that_no_renamed_filter_leaves_checks_behind() -> Result<()> {
    for shipped in shipped()? {
        ensure!(shipped.plugin()?["instance"].is_string(), "{}", shipped.file);
    }
    let instances = ["wasmplugin.yaml", "trafficextension.yaml"].map(|name| {
        let all = shipped().unwrap_or_default();
        let found = all.iter().find(|shipped| shipped.file.ends_with(name));
        found.and_then(|shipped| Some(shipped.plugin().ok()?["instance"].clone()))
    });
    // The name that istiod up to 1.29 gives, and the module's own default: whoever adds the line loses nothing either.
    assert_eq!(instances, [Some(json!("testrelay.testrelay")), Some(json!("testrelay.testrelay"))]);
    Ok(())
}

#[test]
fn each_has_a_credential_that_may_see_the_checks_and_nothing_else() -> Result<()> {
    for shipped in shipped()? {
        let plugin = shipped.plugin()?;
        let credentials = plugin["credentials"].as_array().context("no credentials")?;
        let own: Vec<&Value> =
            credentials.iter().filter(|credential| credential["allow"] == json!(["status"])).collect();
        let [own] = own[..] else { anyhow::bail!("{}: {} of them", shipped.file, own.len()) };
        let variable = own["secret_env"].as_str().context("no secret_env")?;
        let text = std::fs::read_to_string(root().join(&shipped.file))?;
        // Named in the configuration, and among the variables that the module may see.
        ensure!(text.matches(variable).count() > 1, "{}: the module is not given {variable}", shipped.file);
        for other in credentials {
            let shared = other["name"] != own["name"] && other["secret_env"] == own["secret_env"];
            ensure!(!shared, "{}: another credential has the same secret", shipped.file);
        }
    }
    Ok(())
}

#[test]
fn each_asks_testkube_through_another_cluster_than_downloads_take() -> Result<()> {
    for shipped in shipped()? {
        let [polls, _, by_tag] = shipped.embedded.clusters()?;
        ensure!(by_tag != polls, "{}: what a request by tag asks takes {polls}", shipped.file);
        let downloads = downloads(&shipped)?;
        ensure!(!downloads.is_empty(), "{}: no route", shipped.file);
        ensure!(!downloads.contains(&polls), "{}: both take {polls}", shipped.file);
    }
    Ok(())
}

/// Circuit breakers count for all workers together, `max_downloads` in each.
#[test]
fn the_downloads_of_one_credential_leave_half_of_the_connections_to_others() -> Result<()> {
    const WORKERS: u64 = 2;
    let schema = std::fs::read_to_string(root().join("envoy/testrelay.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let default = "/properties/credentials/items/properties/max_downloads/default";
    let default = schema.pointer(default).and_then(Value::as_u64).context("no default")?;
    for (file, bootstrap) in bootstraps()? {
        let clusters = bootstrap.pointer("/static_resources/clusters").and_then(Value::as_array);
        let downloads =
            clusters.context("no clusters")?.iter().find(|cluster| cluster["name"] == "testkube-artifacts");
        let Some(downloads) = downloads else { continue };
        let threshold = &downloads["circuit_breakers"]["thresholds"][0];
        for bound in ["max_connections", "max_requests"] {
            let bound = threshold[bound].as_u64().context(file.clone())?;
            ensure!(WORKERS * default <= bound / 2, "{file}: {default} in each worker, of {bound}");
        }
    }
    for file in ["envoy/README.md", "envoy/kubernetes/container/container.yaml"] {
        let text = std::fs::read_to_string(root().join(file))?;
        let workers = text.split("--concurrency").nth(if file.ends_with("md") { 1 } else { 2 });
        let workers = workers.context(file)?.trim_start_matches(|c: char| !c.is_ascii_digit());
        ensure!(workers.starts_with(&WORKERS.to_string()), "{file}: {}", &workers[..20.min(workers.len())]);
    }
    Ok(())
}

/// The clusters to which routes lead.
fn downloads(shipped: &Shipped) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if let Form::Bootstrap(bootstrap) = &shipped.embedded.form {
        for route in config::routes(config::listener(&mut bootstrap.clone())?)? {
            found.extend(route["route"]["cluster"].as_str().map(str::to_owned));
        }
    }
    for document in &shipped.way {
        let [namespace, name] =
            ["namespace", "name"].map(|m| document["metadata"][m].as_str().unwrap_or_default());
        let list = |value: &Value, member: &str| value[member].as_array().cloned().unwrap_or_default();
        if document["kind"] == "VirtualService" {
            for route in list(&document["spec"], "http").iter().flat_map(|http| list(http, "route")) {
                let to = &route["destination"];
                let [host, subset] = ["host", "subset"].map(|m| to[m].as_str().unwrap_or_default());
                found.push(format!("outbound|{}|{subset}|{host}", to["port"]["number"]));
            }
        }
        if document["kind"] == "HTTPRoute" && name == "testrelay" {
            for (n, rule) in list(&document["spec"], "rules").iter().enumerate() {
                let is_download = rule.to_string().contains("artifact-archive");
                found.extend(is_download.then(|| format!("httproute/{namespace}/{name}/rule/{n}")));
            }
        }
    }
    Ok(found)
}

/// What Envoy must do before it runs out of memory, in its order. A 503 loses a check, so that comes last.
#[test]
fn each_bootstrap_gives_way_before_its_memory_ends_and_turns_checks_away_last() -> Result<()> {
    const ACTIONS: [&str; 5] = [
        "shrink_heap",
        "reduce_timeouts",
        "reset_high_memory_stream",
        "stop_accepting_connections",
        "stop_accepting_requests",
    ];
    for (file, bootstrap) in bootstraps()? {
        let manager = &bootstrap["overload_manager"];
        let mut full = Vec::new();
        for (action, expected) in manager["actions"].as_array().context(file.clone())?.iter().zip(ACTIONS) {
            ensure!(action["name"] == format!("envoy.overload_actions.{expected}"), "{file}: {action}");
            let trigger = &action["triggers"][0];
            ensure!(trigger["name"] == "envoy.resource_monitors.fixed_heap", "{file}: {action}");
            let at = [&trigger["threshold"]["value"], &trigger["scaled"]["saturation_threshold"]];
            full.push(at.into_iter().find_map(Value::as_f64).context(file.clone())?);
        }
        ensure!(full.len() == ACTIONS.len() && full.is_sorted(), "{file}: {full:?}");
        ensure!(manager["buffer_factory_config"].is_object(), "{file}: no stream is ever counted");
    }
    Ok(())
}

/// Testkube's API server has these ports of its pod: its own two, its controllers' metrics, its message bus.
#[test]
fn the_sidecar_takes_no_port_that_testkube_has_in_the_same_pod() -> Result<()> {
    const OF_TESTKUBE: [u64; 4] = [8088, 8089, 8080, 4222];
    let folder = root().join("envoy/kubernetes/sidecar");
    let read = |name: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(folder.join(name))?)?)
    };
    let mut bootstrap = read("envoy.yaml")?;
    let admin = bootstrap["admin"]["address"]["socket_address"]["port_value"].as_u64().context("no admin")?;
    let socket = config::listener(&mut bootstrap)?["address"]["socket_address"].clone();
    let own = socket["port_value"].as_u64().context("no port")?;
    for port in [admin, own] {
        ensure!(!OF_TESTKUBE.contains(&port), "{port}");
    }
    let deployment = read("deployment.yaml")?;
    let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
    ensure!(ports[1] == json!({ "name": "testrelay", "containerPort": own }), "{ports}");
    Ok(())
}

/// `sidecar/envoy.yaml` is written by hand, because its comments are for its reader; what is not named here is the same.
#[test]
fn the_sidecar_differs_from_the_plain_form_in_this_and_in_nothing_else() -> Result<()> {
    let mut plain = config::shipped()?;
    for name in ["testkube", "testkube-artifacts"] {
        let cluster = config::cluster(&mut plain, name)?;
        cluster["type"] = json!("STATIC");
        cluster.as_object_mut().context("no cluster")?.remove("dns_lookup_family");
        let at = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
        *config::at(cluster, at)? = json!("127.0.0.1");
    }
    let limits =
        config::at(config::cluster(&mut plain, "testkube-artifacts")?, "/circuit_breakers/thresholds/0")?;
    for (limit, value) in [("max_connections", 1024), ("max_pending_requests", 256), ("max_requests", 1024)] {
        limits[limit] = json!(value);
    }
    let listener = config::listener(&mut plain)?;
    listener["address"]["socket_address"]["port_value"] = json!(8090);
    let mut plugin = config::plugin(listener)?;
    plugin["passthrough"] = json!("all");
    let manager = config::connection_manager(listener)?;
    manager["request_timeout"] = json!("60s");
    manager["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }]);
    *config::routes(listener)? = serde_json::from_value(json!([
        {
            "name": "own",
            "match": { "path_separated_prefix": "/testrelay" },
            "direct_response":
                { "status": 503, "body": { "inline_string": "Testrelay is not in this filter chain\n" } },
        },
        {
            "name": "everything",
            "match": { "prefix": "/" },
            "route": { "cluster": "testkube-artifacts", "timeout": "0s", "idle_timeout": "3600s" },
        },
    ]))?;

    let file = root().join("envoy/kubernetes/sidecar/envoy.yaml");
    let mut sidecar: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    assert_eq!(config::plugin(config::listener(&mut sidecar)?)?, plugin);
    // The same text, so that only what is around it is compared.
    for bootstrap in [&mut plain, &mut sidecar] {
        config::set_plugin(config::listener(bootstrap)?, &plugin.to_string())?;
    }
    assert_eq!(sidecar, plain);
    Ok(())
}

/// So is `replicas/envoy.yaml`.
#[test]
fn the_replicas_differ_from_the_plain_form_in_this_and_in_nothing_else() -> Result<()> {
    let file = root().join("envoy/kubernetes/replicas/envoy.yaml");
    let mut replicas: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    let clusters = config::list(&mut replicas, "/static_resources/clusters")?;
    let own = clusters.pop().context("no cluster")?;
    assert_eq!(own["name"], "kubernetes");
    let mut plain = config::shipped()?;
    let listener = config::listener(&mut plain)?;
    let mut plugin = config::plugin(listener)?;
    plugin["store"] = json!({
        "kubernetes": { "cluster": "kubernetes", "namespace": "testrelay-checks", "replica_env": "POD_NAME" },
    });
    let variables = "/vm_config/environment_variables/host_env_keys";
    config::list(config::wasm(listener)?, variables)?.push(json!("POD_NAME"));
    assert_eq!(config::plugin(config::listener(&mut replicas)?)?, plugin);
    for bootstrap in [&mut plain, &mut replicas] {
        config::set_plugin(config::listener(bootstrap)?, &plugin.to_string())?;
    }
    assert_eq!(replicas, plain);
    Ok(())
}
