//! The state of one Envoy process. During a hot restart there are two processes.

use crate::pool::Pool;
use crate::queues::Queues;
use crate::rules::Rules;
use crate::shared_data::SharedData;
use crate::state::Thread;
use std::collections::BTreeMap;

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
