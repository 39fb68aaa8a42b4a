//! Listeners, plugins and the VMs that they run in: Envoy's three keys (facts B1).

use crate::module::Code;
use crate::vm::VmId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a listener's filter says.
#[derive(Clone)]
pub(crate) struct Filter {
    /// Envoy's plugin name; several listeners may share it.
    pub(crate) name: String,
    /// The plugin's configuration.
    pub(crate) configuration: Rc<Vec<u8>>,
    /// The code, and with it the VM key.
    pub(crate) code: Code,
    /// Whether body callbacks run while the stream is paused at its headers (Envoy ≥ 1.35).
    pub(crate) allow_on_headers_stop_iteration: bool,
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
    /// Plugin name, direction (here: the listener) and configuration.
    pub(crate) key: PluginKey,
    /// How many listeners, draining ones included, hold it.
    pub(crate) holders: usize,
    pub(crate) on: Vec<OnThread>,
}

pub(crate) type PluginKey = (u32, String, Rc<Vec<u8>>);

/// One version of a listener.
pub(crate) struct Generation {
    pub(crate) plugin: usize,
    pub(crate) is_drained: bool,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Plugins {
    pub(crate) all: Vec<Plugin>,
    pub(crate) generations: Vec<Generation>,
    /// The newest generation of each listener.
    pub(crate) newest: BTreeMap<String, usize>,
    /// The plugin that a listener's new requests go to, on each thread.
    pub(crate) serving: BTreeMap<(String, usize), usize>,
    /// Configurations that a canary has taken, by code version: it does not run again for those.
    pub(crate) canaried: BTreeSet<PluginKey>,
    /// Base VMs whose configuration failed on a thread: later pushes are refused for ever (envoy#43751).
    pub(crate) failed: BTreeSet<u32>,
    /// The VM of each thread and VM key, and when it was made.
    pub(crate) vms: BTreeMap<(usize, u32), (VmId, u64)>,
    pub(crate) last_vm: u32,
}

impl Plugins {
    /// The plugin of that key, while anybody holds it.
    pub(crate) fn living(&self, key: &PluginKey) -> Option<usize> {
        self.all.iter().position(|plugin| plugin.holders > 0 && plugin.key == *key)
    }

    pub(crate) fn new_vm(&mut self) -> VmId {
        self.last_vm += 1;
        VmId(self.last_vm)
    }

    /// The plugin whose root context this is.
    pub(crate) fn on_vm(&mut self, vm: VmId) -> impl Iterator<Item = (usize, &mut OnThread)> {
        self.all.iter_mut().enumerate().flat_map(move |(i, plugin)| {
            plugin.on.iter_mut().filter_map(move |on| match on {
                OnThread::Living { vm: other, .. } if *other == vm => Some((i, on)),
                _ => None,
            })
        })
    }
}
