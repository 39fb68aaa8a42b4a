//! What one test needs of its Envoy.

use crate::{config, env};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `TESTRELAY_PASSWORD` in every Envoy started here, unless a test sets another: user `testrelay`, for checks.
pub const PASSWORD: &str = "password-of-azure-pipelines-9c1f04d7";
/// `TESTRELAY_BEARER` in every Envoy started here, unless a test sets another: for artifacts.
pub const BEARER: &str = "bearer-of-pipeline-jobs-52ab8e60";

/// `TESTRELAY_STATUS` in every Envoy started here, unless a test sets another: user `people`, for the list of checks.
pub const STATUS: &str = "status-of-people-4be07a93";

/// Nothing listens at the discard port: a cluster that a test does not set refuses connections.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

type Edit = Arc<dyn Fn(&mut Value) -> Result<()> + Send + Sync>;

/// `envoy.yaml` with a test's changes. Everything else stays as users have it; only addresses, ports, the kind of name
/// resolution and file paths are always replaced.
///
/// Changes of the configuration are applied in the order in which they were made.
#[derive(Clone)]
pub struct Setup {
    module: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
    testkube: SocketAddr,
    azure_devops: SocketAddr,
    trusted_ca: Option<PathBuf>,
    edits: Vec<Edit>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) concurrency: u32,
    pub(crate) log_levels: BTreeMap<String, String>,
    pub(crate) drain_time: Option<Duration>,
    pub(crate) dynamic_listener: bool,
    pub(crate) arguments: Vec<OsString>,
}

impl Setup {
    /// With the module as users get it ([`env::module`]).
    pub fn new() -> Result<Setup> {
        Ok(Setup::with_module(&env::module()?))
    }

    /// With the module that has test hooks ([`env::module_with_test_hooks`]).
    pub fn with_test_hooks() -> Result<Setup> {
        Ok(Setup::with_module(&env::module_with_test_hooks()?))
    }

    /// With any other module.
    pub fn with_module(module: &Path) -> Setup {
        Setup { module: Some(module.to_owned()), ..Setup::without_filter() }
    }

    /// With the wasm filter taken out: Envoy alone, to compare with.
    pub fn without_filter() -> Setup {
        let environment =
            [("TESTRELAY_PASSWORD", PASSWORD), ("TESTRELAY_BEARER", BEARER), ("TESTRELAY_STATUS", STATUS)];
        Setup {
            module: None,
            envoy: None,
            testkube: NOBODY,
            azure_devops: NOBODY,
            trusted_ca: None,
            edits: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            concurrency: 2,
            log_levels: [("wasm".to_owned(), "info".to_owned())].into(),
            drain_time: None,
            dynamic_listener: false,
            arguments: Vec::new(),
        }
    }

    /// Runs this Envoy program. Unset, it is the one that the environment names ([`env::envoy`]).
    pub fn envoy(mut self, program: &Path) -> Setup {
        self.envoy = Some(program.to_owned());
        self
    }

    /// Where the clusters `testkube` and `testkube-artifacts` lead. Unset, they refuse connections.
    pub fn testkube(mut self, address: SocketAddr) -> Setup {
        self.testkube = address;
        self
    }

    /// Where the cluster `azure-devops` leads. Unset, it refuses connections. It speaks TLS as shipped (name
    /// `dev.azure.com`, see [`Setup::trusted_ca`]) unless [`Setup::plain_azure_devops`] is asked for.
    pub fn azure_devops(mut self, address: SocketAddr) -> Setup {
        self.azure_devops = address;
        self
    }

    /// A PEM file with the certificate authority that signed the certificate behind `azure-devops`. Unset, the path
    /// is that of `envoy.yaml`: the system's authorities on Debian and Alpine.
    pub fn trusted_ca(mut self, file: &Path) -> Setup {
        self.trusted_ca = Some(file.to_owned());
        self
    }

    /// Where the cluster `kubernetes` leads, if the configuration has one, and a folder with `ca.crt` and `token` in it, as
    /// the pod's volume has them.
    pub fn kubernetes(self, address: SocketAddr, folder: &Path) -> Setup {
        let folder = folder.to_owned();
        self.edit(move |bootstrap| {
            let Ok(cluster) = config::cluster(bootstrap, "kubernetes") else { return Ok(()) };
            config::set_cluster_address(cluster, address)?;
            config::set_trusted_ca(cluster, &folder.join("ca.crt"))?;
            config::set_token(cluster, &folder)
        })
    }

    /// Plain HTTP to the cluster `azure-devops`.
    pub fn plain_azure_devops(self) -> Setup {
        self.edit_cluster("azure-devops", |cluster| {
            cluster.as_object_mut().and_then(|cluster| cluster.remove("transport_socket"));
        })
    }

    /// Changes the plugin's configuration by a JSON merge patch: members replace, `null` removes, lists are replaced
    /// whole.
    pub fn plugin(self, patch: Value) -> Setup {
        self.edit_plugin(move |plugin| config::merge(plugin, &patch))
    }

    /// Changes the plugin's configuration, where a merge is not enough.
    pub fn edit_plugin(self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Setup {
        self.edit(move |bootstrap| {
            let listener = config::listener(bootstrap)?;
            let mut plugin = config::plugin(listener)?;
            edit(&mut plugin);
            config::set_plugin(listener, &plugin.to_string())
        })
    }

    /// Sets all limits of pending checks to this number.
    pub fn room_for(self, checks: u32) -> Setup {
        self.edit_plugin(move |plugin| {
            plugin["checks"]["max_pending"] = json!(checks);
            plugin["checks"]["max_pending_per_project"] = json!(checks);
            for credential in plugin["credentials"].as_array_mut().into_iter().flatten() {
                credential["max_pending"] = json!(checks);
            }
        })
    }

    /// Replaces the plugin's configuration by a text, JSON or not.
    pub fn plugin_text(self, text: &str) -> Setup {
        let text = text.to_owned();
        self.edit(move |bootstrap| config::set_plugin(config::listener(bootstrap)?, &text))
    }

    /// One more cluster, as Envoy's configuration writes it.
    pub fn cluster(self, cluster: Value) -> Setup {
        self.edit(move |bootstrap| {
            config::list(bootstrap, "/static_resources/clusters")?.push(cluster.clone());
            Ok(())
        })
    }

    /// One more cluster that speaks plain HTTP/1.1 to one address.
    pub fn plain_cluster(self, name: &str, address: SocketAddr) -> Setup {
        let socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
        let endpoint = json!({ "endpoint": { "address": { "socket_address": socket } } });
        self.cluster(json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }))
    }

    /// Changes one cluster of `envoy.yaml`, or one added before.
    pub fn edit_cluster(self, name: &str, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Setup {
        let name = name.to_owned();
        self.edit(move |bootstrap| {
            edit(config::cluster(bootstrap, &name)?);
            Ok(())
        })
    }

    /// One more route, the last in order.
    pub fn route(self, route: Value) -> Setup {
        self.edit(move |bootstrap| {
            config::routes(config::listener(bootstrap)?)?.push(route.clone());
            Ok(())
        })
    }

    /// The route that `"passthrough": "all"` needs, as a comment of `envoy.yaml` gives it: everything to Testkube.
    pub fn route_everything(self) -> Setup {
        let route = json!({ "cluster": "testkube-artifacts", "timeout": "0s", "idle_timeout": "300s" });
        self.route(json!({ "name": "everything", "match": { "prefix": "/" }, "route": route }))
    }

    /// Changes one route: `artifacts`, or one added before.
    pub fn edit_route(self, name: &str, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Setup {
        let name = name.to_owned();
        self.edit(move |bootstrap| {
            edit(config::route(config::listener(bootstrap)?, &name)?);
            Ok(())
        })
    }

    /// Without `allow_on_headers_stop_iteration`, as where Istio or Envoy Gateway do not offer it.
    pub fn without_headers_stop_iteration(self) -> Setup {
        self.edit(|bootstrap| {
            let wasm = config::wasm(config::listener(bootstrap)?)?;
            wasm.as_object_mut().and_then(|wasm| wasm.remove("allow_on_headers_stop_iteration"));
            Ok(())
        })
    }

    /// Any other change of the whole configuration; [`config`] finds the places in it.
    pub fn edit(mut self, edit: impl Fn(&mut Value) -> Result<()> + Send + Sync + 'static) -> Setup {
        self.edits.push(Arc::new(edit));
        self
    }

    /// Sets a variable of Envoy's environment, which is otherwise empty but for [`PASSWORD`], [`BEARER`] and
    /// [`STATUS`], and lists it for the module to see.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.insert(name.to_owned(), value.to_owned());
        if self.module.is_none() {
            return self;
        }
        let name = json!(name);
        self.edit(move |bootstrap| {
            let wasm = config::wasm(config::listener(bootstrap)?)?;
            let keys = config::list(wasm, "/vm_config/environment_variables/host_env_keys")?;
            if !keys.contains(&name) {
                keys.push(name.clone());
            }
            Ok(())
        })
    }

    /// Removes a variable from Envoy's environment; its name stays listed for the module.
    pub fn without_environment(mut self, name: &str) -> Setup {
        self.environment.remove(name);
        self
    }

    /// How many workers (2).
    pub fn concurrency(mut self, workers: u32) -> Setup {
        self.concurrency = workers;
        self
    }

    /// What one of Envoy's components logs: `("wasm", "debug")`. Unset: `wasm` from `info`, the others from `warning`.
    pub fn log_level(mut self, component: &str, level: &str) -> Setup {
        self.log_levels.insert(component.to_owned(), level.to_owned());
        self
    }

    /// How long a replaced listener drains, in whole seconds (Envoy's default: 600).
    pub fn drain_time(mut self, time: Duration) -> Setup {
        self.drain_time = Some(time);
        self
    }

    /// Puts the listener into a file that Envoy watches, which makes [`Envoy::reload`](crate::Envoy::reload) possible.
    pub fn dynamic_listener(mut self) -> Setup {
        self.dynamic_listener = true;
        self
    }

    /// One more argument for Envoy's command line. Hot restart is off unless `--base-id` is among them.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Setup {
        self.arguments.push(argument.into());
        self
    }

    /// The whole configuration, on any port: to take parts of it.
    pub fn bootstrap_for_a_look(&self) -> Result<Value> {
        self.bootstrap(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// The whole configuration, with the listener at `listener`.
    pub(crate) fn bootstrap(&self, listener: SocketAddr) -> Result<Value> {
        let mut bootstrap = config::shipped()?;
        config::set_address(config::at(&mut bootstrap, "/admin")?, SocketAddr::new(listener.ip(), 0))?;
        let place = config::listener(&mut bootstrap)?;
        config::set_address(place, listener)?;
        match &self.module {
            Some(module) => {
                let filename = config::at(config::wasm(place)?, "/vm_config/code/local/filename")?;
                *filename = config::path(module)?;
            }
            None => config::remove_wasm(place)?,
        }
        for name in config::OF_TESTKUBE {
            config::set_cluster_address(config::cluster(&mut bootstrap, name)?, self.testkube)?;
        }
        let azure_devops = config::cluster(&mut bootstrap, "azure-devops")?;
        config::set_cluster_address(azure_devops, self.azure_devops)?;
        if let Some(file) = &self.trusted_ca {
            config::set_trusted_ca(azure_devops, file)?;
        }
        for edit in &self.edits {
            edit(&mut bootstrap).context("a change that the test asked for")?;
        }
        Ok(bootstrap)
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("module", &self.module)
            .field("edits", &self.edits.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
