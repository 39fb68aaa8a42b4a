//! The state of one Envoy process. There are two during a hot restart, and as many more as there are replicas.

use crate::pool::Pool;
use crate::queues::Queues;
use crate::rules::Rules;
use crate::shared_data::SharedData;
use crate::state::Thread;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A process's own part of the state.
#[derive(Default)]
pub(crate) struct Own {
    /// The main thread and the workers.
    pub(crate) threads: Vec<Thread>,
    /// Shared data, one table for each vm_id, in the order in which they were first named.
    pub(crate) spaces: Vec<(String, SharedData)>,
    pub(crate) queues: Queues,
    /// Connections by cluster.
    pub(crate) pools: BTreeMap<String, Pool>,
    /// Each process has one poller of its own, and owes the checks that it took.
    pub(crate) rules: Rules,
    /// Counters by name.
    pub(crate) metrics: Vec<(String, i64)>,
    /// The pod that it runs in; processes of a pod that was restarted have the same.
    pub(crate) pod: Rc<str>,
    /// The machine that it runs on.
    pub(crate) machine: usize,
    /// The process that a hot restart replaced with this one.
    pub(crate) parent: Option<u32>,
    pub(crate) is_killed: bool,
    /// The clusters that it does not reach.
    pub(crate) cut_off_from: BTreeSet<String>,
}

impl Own {
    pub(crate) fn new(threads: usize) -> Own {
        Own { threads: (0..threads).map(|_| Thread::default()).collect(), ..Own::default() }
    }

    /// The number of a vm_id's table.
    pub(crate) fn space(&mut self, vm_id: &str) -> usize {
        let known = self.spaces.iter().position(|(name, _)| name == vm_id);
        known.unwrap_or_else(|| {
            self.spaces.push((vm_id.into(), SharedData::default()));
            self.spaces.len() - 1
        })
    }

    /// The last VM with this vm_id has gone, and its shared data with it.
    pub(crate) fn forget(&mut self, vm_id: &str) {
        let space = self.space(vm_id);
        self.spaces[space].1.clear();
        self.queues.forget(vm_id);
    }
}
