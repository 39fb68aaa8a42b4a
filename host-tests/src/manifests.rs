//! What Envoy gets from the manifests in `envoy/`: whole configurations in a ConfigMap, and plugins that Istio or Envoy
//! Gateway adds to its own configuration.

mod verified;

pub use verified::unverified;

use crate::{Setup, config};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;

/// Something in a manifest that an Envoy gets.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Where it is: kind, name, and which part.
    pub place: String,
    /// What it is.
    pub form: Form,
}

/// In which form a manifest holds it.
#[derive(Clone, Debug)]
pub enum Form {
    /// The whole configuration of an Envoy, in a ConfigMap.
    Bootstrap(Value),
    /// The wasm filter's `config`, in an EnvoyFilter.
    Filter(Value),
    /// The plugin's own configuration and the variables that it may see, in a WasmPlugin, a TrafficExtension or an
    /// EnvoyExtensionPolicy.
    Plugin {
        /// The rest of the wasm filter's `config` that Istio or Envoy Gateway adds, above all its name.
        around: Value,
        /// Its configuration.
        configuration: Value,
        /// Names of variables of the proxy's environment.
        environment: Vec<String>,
    },
}

/// The documents of a YAML text, the empty ones left out.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("not YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// All that an Envoy gets from these documents.
pub fn embedded(documents: &[Value]) -> Result<Vec<Embedded>> {
    let mut found = Vec::new();
    for document in documents {
        let [kind, name] =
            [&document["kind"], &document["metadata"]["name"]].map(|v| v.as_str().unwrap_or("?"));
        let forms = match kind {
            "ConfigMap" => bootstraps(document),
            "EnvoyFilter" => filters(document),
            "WasmPlugin" => Ok(vec![mesh_plugin(document, &document["spec"])]),
            "TrafficExtension" => Ok(vec![mesh_plugin(document, &document["spec"]["wasm"])]),
            "EnvoyExtensionPolicy" => Ok(extension_policies(document)),
            _ => Ok(Vec::new()),
        };
        let forms = forms.with_context(|| format!("{kind} {name}"))?;
        found.extend(forms.into_iter().map(|form| Embedded { place: format!("{kind} {name}"), form }));
    }
    Ok(found)
}

impl Embedded {
    /// The plugin's own configuration.
    pub fn plugin(&self) -> Result<Value> {
        match &self.form {
            Form::Bootstrap(bootstrap) => config::plugin(config::listener(&mut bootstrap.clone())?),
            Form::Filter(filter) => {
                let text = filter["configuration"]["value"].as_str().context("no configuration")?;
                serde_json::from_str(text).context("the plugin's configuration")
            }
            Form::Plugin { configuration, .. } => Ok(configuration.clone()),
        }
    }

    /// The clusters that the plugin's configuration names: Testkube's for checks, Azure DevOps's, and Testkube's for downloads.
    pub fn clusters(&self) -> Result<[String; 3]> {
        let plugin = self.plugin()?;
        let name = |pointer| Some(plugin.pointer(pointer)?.as_str()?.to_owned());
        let names = [name("/testkube/cluster"), name("/azure_devops/0/cluster")];
        let [Some(testkube), Some(azure_devops)] = names else {
            bail!("{}: a cluster is missing", self.place)
        };
        let downloads = name("/artifacts/cluster").unwrap_or_else(|| testkube.clone());
        Ok([testkube, azure_devops, downloads])
    }

    /// An Envoy with it. What Istio or Envoy Gateway makes around a plugin (listener, routes, clusters of these names) is
    /// taken from `envoy.yaml`; a test's addresses and files are put in either way.
    pub fn setup(&self, module: &Path) -> Result<Setup> {
        let form = self.form.clone();
        let clusters = self.clusters()?;
        Ok(Setup::with_module(module).edit(move |bootstrap| match &form {
            Form::Bootstrap(own) => {
                *bootstrap = with_addresses_of(bootstrap, own.clone())?;
                Ok(())
            }
            Form::Filter(filter) => {
                rename_clusters(bootstrap, &clusters)?;
                put_filter(bootstrap, filter.clone())
            }
            Form::Plugin { around, configuration, environment } => {
                rename_clusters(bootstrap, &clusters)?;
                put_filter(bootstrap, sent_by_the_mesh(around, configuration, environment))
            }
        }))
    }
}

/// The wasm filter's `config` that Istio and Envoy Gateway make of a plugin: compact JSON, and no
/// `allow_on_headers_stop_iteration`.
fn sent_by_the_mesh(around: &Value, configuration: &Value, environment: &[String]) -> Value {
    let mut config = json!({
        "root_id": "testrelay",
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": "" } },
            "environment_variables": { "host_env_keys": environment },
        },
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": configuration.to_string(),
        },
    });
    config::merge(&mut config, around);
    config
}

fn bootstraps(document: &Value) -> Result<Vec<Form>> {
    let mut found = Vec::new();
    for (_, text) in document["data"].as_object().into_iter().flatten() {
        let text = text.as_str().context("a value that is no text")?;
        let Ok(value) = serde_saphyr::from_str::<Value>(text) else { continue };
        if value.get("static_resources").is_some() {
            found.push(Form::Bootstrap(value));
        }
    }
    Ok(found)
}

fn filters(document: &Value) -> Result<Vec<Form>> {
    let patches = document["spec"]["configPatches"].as_array().context("no configPatches")?;
    let filters = patches.iter().filter_map(|patch| patch.pointer("/patch/value/typed_config/config"));
    Ok(filters.cloned().map(Form::Filter).collect())
}

/// What istiod makes of a WasmPlugin up to 1.29, and of a TrafficExtension from 1.30 on: the same, except for the place of
/// the fields.
fn mesh_plugin(document: &Value, spec: &Value) -> Form {
    let [namespace, name] =
        ["namespace", "name"].map(|m| document["metadata"][m].as_str().unwrap_or_default());
    let variables = spec["vmConfig"]["env"].as_array().into_iter().flatten();
    Form::Plugin {
        // No vm_id: all WasmPlugins of one proxy share their memory.
        around: json!({
            "name": format!("{namespace}.{name}"),
            "failure_policy": match spec["failStrategy"].as_str() {
                None | Some("FAIL_CLOSE") => "FAIL_CLOSED",
                Some(strategy) => strategy,
            },
        }),
        configuration: spec["pluginConfig"].clone(),
        environment: texts(variables.filter(|v| v["valueFrom"] == "HOST").map(|variable| &variable["name"])),
    }
}

fn extension_policies(document: &Value) -> Vec<Form> {
    let plugins = document["spec"]["wasm"].as_array().into_iter().flatten();
    let form = |plugin: &Value| Form::Plugin {
        // The name and the vm_id are made of the policy's; nothing says what follows a crash.
        around: json!({ "name": plugin["name"], "vm_config": { "vm_id": "envoyextensionpolicy/0" } }),
        configuration: plugin["config"].clone(),
        environment: texts(plugin["env"]["hostKeys"].as_array().into_iter().flatten()),
    };
    plugins.map(form).collect()
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A whole configuration with the addresses and files from another one, where a test has set them.
fn with_addresses_of(other: &mut Value, mut own: Value) -> Result<Value> {
    let address = "/address/socket_address";
    own["admin"] = other["admin"].clone();
    *config::at(config::listener(&mut own)?, address)? =
        config::at(config::listener(other)?, address)?.clone();
    let module = "/vm_config/code/local/filename";
    let file = config::at(config::wasm(config::listener(other)?)?, module)?.clone();
    *config::at(config::wasm(config::listener(&mut own)?)?, module)? = file;
    for name in config::OF_TESTKUBE.into_iter().chain(["azure-devops"]) {
        let (theirs, ours) = (config::cluster(other, name)?.clone(), config::cluster(&mut own, name)?);
        for member in ["type", "load_assignment"] {
            ours[member] = theirs[member].clone();
        }
        let trusted =
            "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
        if let Some(file) = theirs.pointer(trusted) {
            *config::at(ours, trusted)? = file.clone();
        }
    }
    Ok(own)
}

/// Gives the clusters of `envoy.yaml` these names, and its routes with them.
fn rename_clusters(bootstrap: &mut Value, names: &[String; 3]) -> Result<()> {
    let [checks, _, downloads] = names;
    let all = ["testkube", "azure-devops", "testkube-artifacts"].into_iter().zip(names);
    for (from, to) in all.take(if downloads == checks { 2 } else { 3 }) {
        let cluster = config::cluster(bootstrap, from)?;
        cluster["name"] = json!(to);
        cluster["load_assignment"]["cluster_name"] = json!(to);
        let listener = config::listener(bootstrap)?;
        rename_route(listener, from, to);
    }
    Ok(())
}

fn rename_route(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() == Some(from) && name == "cluster" {
                    true => *member = json!(to),
                    false => rename_route(member, from, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_route(item, from, to)),
        _ => {}
    }
}

/// Puts a filter's `config` into the place of the one in `envoy.yaml`, with the module that stands there.
fn put_filter(bootstrap: &mut Value, mut filter: Value) -> Result<()> {
    let place = config::wasm(config::listener(bootstrap)?)?;
    let file = config::at(place, "/vm_config/code/local/filename")?.clone();
    *config::at(&mut filter, "/vm_config/code/local/filename")? = file;
    *place = filter;
    Ok(())
}
