//! What a world is made of, and the configuration that its module gets.

use crate::module::Code;
use crate::network::{KUBERNETES, Network};
use crate::pipeline::{USER, password};
use crate::plugins::Filter;
use crate::process::{Process, Settings};
use crate::rules::MARK;
use crate::state::{Interleaving, MILLISECOND, SECOND, State};
use crate::world::World;
use anyhow::{Result, ensure};
use fakes::{AzureDevOps, Database, Kubernetes, Testkube};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The listener that every world begins with.
pub const LISTENER: &str = "testrelay";

/// The plugin's name and the vm_id of `envoy/envoy.yaml`.
const PLUGIN: &str = "testrelay";

/// The environment variable with the pod's name.
pub const POD_NAME: &str = "POD_NAME";

/// The namespace of the fake API server.
pub const NAMESPACE: &str = "testrelay";

const KUBERNETES_TOKEN: &str = "KUBERNETES_TOKEN";

/// An additional filter, on its own listener, with the same code.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The listener's name.
    pub listener: String,
    /// Envoy's plugin name; the module's instance, unless its configuration names another.
    pub name: String,
    /// Filters with the same vm_id share VMs and shared data.
    pub vm_id: String,
    /// The plugin's configuration, as JSON.
    pub configuration: String,
}

impl Plugin {
    /// A filter in the same VM as the first one.
    pub fn new(listener: &str, name: &str, configuration: &str) -> Plugin {
        Plugin {
            listener: listener.into(),
            name: name.into(),
            vm_id: PLUGIN.into(),
            configuration: configuration.into(),
        }
    }
}

/// What a world is made of.
pub struct Setup {
    /// The seed of all random choices.
    pub seed: u64,
    /// Workers beside the main thread.
    pub workers: usize,
    /// How long an old listener drains, in microseconds (Envoy: 600 s by default).
    pub drain: u64,
    /// Envoy's `stream_idle_timeout`, in microseconds; the shipped configuration has 30 s.
    pub stream_idle_timeout: u64,
    /// The `idle_timeout` of the artifacts' route, in microseconds; the shipped configuration has 300 s.
    pub route_idle_timeout: u64,
    /// `reload_config.backoff.base_interval`, in microseconds; the shipped configuration has 0.1 s, Envoy by itself 1 s.
    pub reload_backoff: u64,
    /// `per_connection_buffer_limit_bytes`; 1 MiB by default.
    pub buffer_limit: usize,
    /// `allow_on_headers_stop_iteration`.
    pub allow_on_headers_stop_iteration: bool,
    /// The plugin's configuration, as JSON.
    pub configuration: String,
    /// Listeners besides [`LISTENER`] with the same plugin: each is another plugin key.
    pub more_listeners: Vec<String>,
    /// Additional listeners with their own plugins.
    pub more_plugins: Vec<Plugin>,
    /// The first process's pod, in its environment as [`POD_NAME`]; empty: it knows none.
    pub pod: String,
    /// `environment_variables`.
    pub environment: BTreeMap<String, String>,
    /// Whether a change of the environment makes new VMs: since Envoy 1.39 (envoy#44563). Before, a VM does not see it
    /// while any VM of the code lives (envoy#40881).
    pub environment_in_key: bool,
    /// The code; the module under test if none is given.
    pub code: Option<Code>,
    /// How often threads interleave.
    pub interleaving: Interleaving,
    /// Whether the trace is kept.
    pub trace: bool,
}

impl Setup {
    /// One worker, the shipped configuration's bounds, a quiet network.
    pub fn new(seed: u64) -> Setup {
        Setup {
            seed,
            workers: 1,
            drain: 600 * SECOND,
            stream_idle_timeout: 30 * SECOND,
            route_idle_timeout: 300 * SECOND,
            reload_backoff: 100 * MILLISECOND,
            buffer_limit: 1 << 20,
            allow_on_headers_stop_iteration: true,
            configuration: configuration(0),
            more_listeners: Vec::new(),
            more_plugins: Vec::new(),
            pod: String::new(),
            environment: environment(),
            environment_in_key: true,
            code: None,
            interleaving: Interleaving::default(),
            trace: false,
        }
    }

    /// The same with its checks in the API server, where other processes find them.
    pub fn with_cluster_store(mut self) -> Setup {
        self.configuration = changed(&self.configuration, |configuration| {
            configuration["store"]["kubernetes"] = json!({
                "cluster": KUBERNETES, "namespace": NAMESPACE, "replica_env": POD_NAME, "token_env": KUBERNETES_TOKEN,
            });
        });
        self.pod = "relay-0".into();
        self.environment.insert(KUBERNETES_TOKEN.into(), kubernetes_token());
        self
    }

    /// Boots the process: canary, main thread, workers.
    ///
    /// # Errors
    /// There is no module, or it refuses the configuration.
    pub fn start(mut self) -> Result<World> {
        if !self.pod.is_empty() {
            self.environment.insert(POD_NAME.into(), self.pod.clone());
        }
        let code = match self.code {
            Some(code) => code,
            None => Code::testrelay()?,
        };
        let kubernetes = Kubernetes::new(NAMESPACE, &kubernetes_token());
        let network =
            Network::new(Testkube::new(Database::Postgres), AzureDevOps::new("/fabrikam"), kubernetes);
        let mut state = State::new(self.seed, self.workers + 1, network, self.trace);
        state.interleaving = self.interleaving;
        state.own.pod = self.pod.into();
        state.trace_process();
        let settings = Settings {
            workers: self.workers,
            drain: self.drain,
            stream_idle_timeout: self.stream_idle_timeout,
            route_idle_timeout: self.route_idle_timeout,
            reload_backoff: self.reload_backoff,
            buffer_limit: self.buffer_limit,
        };
        let filter = Filter {
            name: PLUGIN.into(),
            configuration: Rc::new(self.configuration.into_bytes()),
            vm_id: PLUGIN.into(),
            code,
            environment: Rc::new(self.environment),
            environment_in_key: self.environment_in_key,
            allow_on_headers_stop_iteration: self.allow_on_headers_stop_iteration,
        };
        let first = std::iter::once(LISTENER.to_string()).chain(self.more_listeners);
        let mut filters: Vec<(String, Filter)> = first.map(|listener| (listener, filter.clone())).collect();
        filters.extend(self.more_plugins.into_iter().map(|plugin| {
            let Plugin { listener, name, vm_id, configuration } = plugin;
            let configuration = Rc::new(configuration.into_bytes());
            (listener, Filter { name, vm_id, configuration, ..filter.clone() })
        }));
        let mut world = World::new(Process::new(state, settings), self.seed);
        ensure!(world.boot(filters)?, "the module refuses its configuration:\n{}", world.log().join("\n"));
        Ok(world)
    }
}

/// The secrets that the shipped configuration names.
pub(crate) fn environment() -> BTreeMap<String, String> {
    [("TESTRELAY_PASSWORD".to_string(), password()), ("TESTRELAY_BEARER".to_string(), bearer())].into()
}

/// The credential of the pipelines' jobs, which may fetch artifacts.
pub(crate) fn bearer() -> String {
    format!("bearer-{MARK}-5b0e")
}

/// The token of the module's account in the API server.
pub(crate) fn kubernetes_token() -> String {
    format!("account-{MARK}-77d1")
}

/// The shipped configuration, as the core's tests have it; each `variant` is another text with the same meaning.
pub fn configuration(variant: u32) -> String {
    configuration_for(2_000 + variant)
}

/// A configuration with something changed: another instance, more credentials.
///
/// # Panics
/// It is no JSON.
pub fn changed(configuration: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value = serde_json::from_str(configuration).expect("a configuration");
    change(&mut value);
    value.to_string()
}

/// The shipped configuration with `checks.max_pending` set to this number.
pub fn configuration_for(max_pending: u32) -> String {
    format!(
        r#"{{"testkube": {{"cluster": "testkube"}}, "read_body": true, "tag": {{"key": "ado-run"}},
    "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}}],
    "credentials": [
      {{"name": "azure-pipelines", "kind": "basic", "username": "{USER}", "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks"], "max_pending": {max_pending},
       "allow_policies": ["optional", "grace", "retry"]}},
      {{"name": "pipeline-jobs", "kind": "bearer", "secret_env": "TESTRELAY_BEARER", "allow": ["artifacts"]}}],
    "checks": {{"max_pending": {max_pending}, "max_pending_per_project": {max_pending}}}}}"#
    )
}
