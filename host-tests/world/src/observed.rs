//! What a test can observe of a world.

use crate::*;
use std::collections::BTreeMap;

impl World {
    /// How often each thing happened, and how often each rule was checked.
    pub fn counts(&self) -> Counts {
        let state = self.process.state.borrow();
        let mut counts = state.counts.clone();
        for (rule, checked) in state.processes().flat_map(|own| &own.rules.checked) {
            *counts.by_name.entry(format!("rule {rule}")).or_default() += checked;
        }
        counts
    }

    /// The most fuel that each callback took.
    pub fn fuel(&self) -> BTreeMap<&'static str, u64> {
        self.process.state.borrow().fuel.most.clone()
    }

    /// A counter of the module.
    pub fn metric(&self, name: &str) -> i64 {
        self.process.state.borrow().metric(name)
    }

    /// The same, summed over all processes so far.
    pub(crate) fn metric_of_all(&self, name: &str) -> i64 {
        let state = self.process.state.borrow();
        let all = state.processes().flat_map(|own| &own.metrics);
        all.filter(|(own, _)| own == name).map(|(_, value)| *value).sum()
    }

    /// The calls of the process that are under way to a cluster, each as `METHOD target`.
    pub fn under_way(&self, cluster: &str) -> Vec<String> {
        let state = self.process.state.borrow();
        let calls = state.network.calls.values().map(|call| &call.outgoing);
        let own = calls.filter(|call| call.process == state.process && call.cluster == cluster);
        own.map(|call| format!("{} {}", call.request.method, call.request.target)).collect()
    }

    /// How many keys shared data has, and how many bytes.
    pub fn shared_size(&self) -> (usize, usize) {
        let state = self.process.state.borrow();
        let sizes = state.own.spaces.iter().map(|(_, data)| data.size());
        sizes.fold((0, 0), |(keys, bytes), (more_keys, more_bytes)| (keys + more_keys, bytes + more_bytes))
    }

    /// The number of keys whose names contain this text.
    pub fn shared_keys(&self, part: &str) -> usize {
        let state = self.process.state.borrow();
        let all = state.own.spaces.iter().flat_map(|(_, data)| data.iter());
        all.filter(|(key, _)| String::from_utf8_lossy(key).contains(part)).count()
    }

    /// The size of all values whose keys do not contain this text.
    pub(crate) fn shared_bytes_without(&self, parts: &[&str]) -> usize {
        let state = self.process.state.borrow();
        let all = state.own.spaces.iter().flat_map(|(_, data)| data.iter());
        let others = all.filter(|(key, _)| {
            let key = String::from_utf8_lossy(key);
            !parts.iter().any(|part| key.contains(part))
        });
        others.map(|(_, value)| value.len()).sum()
    }

    /// The value of a key of shared data, in the first vm_id that has it.
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.process.state.borrow();
        let mut found = state.own.spaces.iter().filter_map(|(_, data)| data.get(key.as_bytes()));
        found.next().map(|(value, _)| value.to_vec())
    }

    /// The values of all keys of shared data whose names contain this, in every vm_id.
    pub fn shared_like(&self, part: &str) -> Vec<Vec<u8>> {
        let state = self.process.state.borrow();
        let all = state.own.spaces.iter().flat_map(|(_, data)| data.iter());
        let found = all.filter(|(key, _)| String::from_utf8_lossy(key).contains(part));
        found.map(|(_, value)| value.to_vec()).collect()
    }

    /// The random key with which the process spreads checks over its buckets; `None` until it has stored one.
    pub fn hash_key(&self) -> Option<[u8; 16]> {
        let state = self.process.state.borrow();
        let mut all = state.own.spaces.iter().flat_map(|(_, data)| data.iter());
        all.find(|(key, _)| key.ends_with(b"/hash-key")).and_then(|(_, value)| value.try_into().ok())
    }

    /// The last lines of the log.
    pub fn log(&self) -> Vec<String> {
        self.process.state.borrow().log.iter().map(|(level, line)| format!("{level} {line}")).collect()
    }

    /// The trace, if it is kept.
    pub fn trace(&self) -> String {
        self.process.state.borrow().trace.text().to_string()
    }
}
