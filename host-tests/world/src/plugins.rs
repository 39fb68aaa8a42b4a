//! Listeners, plugins and the VMs that they run in: Envoy's three keys.

use crate::module::Code;
use crate::vm::VmId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The environment variables that a VM sees.
pub(crate) type Environment = Rc<BTreeMap<String, String>>;

/// The settings of a listener's filter.
#[derive(Clone)]
pub(crate) struct Filter {
    /// Envoy's plugin name; several listeners may share it.
    pub(crate) name: String,
    /// The plugin's configuration.
    pub(crate) configuration: Rc<Vec<u8>>,
    /// The space that shared data and queues live in, and a part of the VM key.
    pub(crate) vm_id: String,
    /// The code, another part of it.
    pub(crate) code: Code,
    pub(crate) environment: Environment,
    /// Whether the environment belongs to the VM key: since Envoy 1.39 (envoy#44563).
    pub(crate) environment_in_key: bool,
    /// Whether body callbacks run while the stream is paused at its headers (Envoy ≥ 1.35).
    pub(crate) allow_on_headers_stop_iteration: bool,
}

impl Filter {
    pub(crate) fn vm_key(&self) -> VmKey {
        let environment = self.environment_in_key.then(|| self.environment.clone());
        VmKey { vm_id: self.vm_id.clone(), code: self.code.version, environment }
    }

    /// Whether it keeps its checks where other processes find them.
    pub(crate) fn shares_checks(&self) -> bool {
        let configuration: Value = serde_json::from_slice(&self.configuration).unwrap_or_default();
        configuration["store"]["kubernetes"].is_object()
    }

    /// The instance that the module makes of it.
    pub(crate) fn instance(&self) -> String {
        let configuration: Value = serde_json::from_slice(&self.configuration).unwrap_or_default();
        configuration["instance"].as_str().unwrap_or(&self.name).into()
    }

    /// Envoy's has the plugin's name, the listener's direction and metadata, and the configuration.
    pub(crate) fn plugin_key(&self, listener: &str) -> PluginKey {
        (self.vm_key(), format!("{}|{listener}", self.name), self.configuration.clone())
    }
}

/// The VM key: on a thread even different plugins with the same key share a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VmKey {
    pub(crate) vm_id: String,
    pub(crate) code: u32,
    pub(crate) environment: Option<Environment>,
}

pub(crate) type PluginKey = (VmKey, String, Rc<Vec<u8>>);

/// The VM on the main thread that all others of its key are clones of.
pub(crate) struct Base {
    /// A clone sees the environment of its base, whatever the filter says by then (envoy#40881).
    pub(crate) environment: Environment,
    /// What a canary said to a configuration: it does not run again, whatever it said.
    pub(crate) canaried: BTreeMap<PluginKey, bool>,
    /// A configuration that the canary had accepted failed on a thread: Envoy refuses later pushes for ever (envoy#43751).
    pub(crate) is_failed: bool,
}

/// A root context on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnThread {
    /// Not configured there.
    Absent,
    Living {
        vm: VmId,
        root: u32,
    },
    /// Its VM trapped.
    Fallen,
}

/// A plugin: one root context on each thread.
pub(crate) struct Plugin {
    pub(crate) filter: Filter,
    /// [`Filter::instance`], kept because it is asked for each second.
    pub(crate) instance: String,
    pub(crate) key: PluginKey,
    /// How many listeners, draining ones included, hold it.
    pub(crate) holders: usize,
    pub(crate) on: Vec<OnThread>,
    /// When it was last made on a thread, or should have been.
    pub(crate) last_load: Vec<u64>,
}

/// One version of a listener.
pub(crate) struct Generation {
    pub(crate) listener: String,
    pub(crate) plugin: usize,
    pub(crate) is_drained: bool,
}

/// All of one process.
#[derive(Default)]
pub(crate) struct Plugins {
    /// What each listener was given last.
    pub(crate) filters: Vec<(String, Filter)>,
    pub(crate) all: Vec<Plugin>,
    pub(crate) generations: Vec<Generation>,
    /// The newest generation of each listener.
    pub(crate) newest: BTreeMap<String, usize>,
    /// The generation that takes a listener's new connections, on each thread.
    pub(crate) serving: BTreeMap<(String, usize), usize>,
    pub(crate) bases: BTreeMap<VmKey, Base>,
    /// The VM of each thread and VM key.
    pub(crate) vms: BTreeMap<(usize, VmKey), VmId>,
}

impl Plugins {
    /// The plugin of that key, while anybody holds it.
    pub(crate) fn living(&self, key: &PluginKey) -> Option<usize> {
        self.all.iter().position(|plugin| plugin.holders > 0 && plugin.key == *key)
    }

    /// The root contexts in a VM.
    pub(crate) fn on_vm(&mut self, vm: VmId) -> impl Iterator<Item = &mut OnThread> {
        let all = self.all.iter_mut().flat_map(|plugin| plugin.on.iter_mut());
        all.filter(move |on| matches!(on, OnThread::Living { vm: other, .. } if *other == vm))
    }

    /// Removes the base VMs that nobody holds any more; returns the vm_ids that ended with them.
    pub(crate) fn sweep(&mut self) -> Vec<String> {
        let Plugins { all, vms, bases, .. } = self;
        let before: Vec<String> = bases.keys().map(|key| key.vm_id.clone()).collect();
        bases.retain(|key, _| {
            all.iter().any(|plugin| plugin.holders > 0 && plugin.key.0 == *key)
                || vms.keys().any(|(_, other)| other == key)
        });
        before.into_iter().filter(|vm_id| bases.keys().all(|key| key.vm_id != *vm_id)).collect()
    }
}
