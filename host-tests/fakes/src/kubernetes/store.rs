//! What is kept, with the states that it had: a list goes on in the state in which it began.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::Resource;
use super::object::Object;

/// Every so often states are forgotten that were over before the last time, in milliseconds: the API server lets etcd compact
/// (`--etcd-compaction-interval`). The real one's cache keeps them a little longer.
const COMPACTION: i64 = 300_000;

/// Where an object is: resource, namespace, name.
pub(super) type Key = (Resource, String, String);

/// All objects, and one counter for their versions.
#[derive(Clone, Debug)]
pub(super) struct Store {
    version: u64,
    /// States before this version are forgotten.
    compacted: u64,
    /// How many objects were ever made.
    made: u64,
    objects: BTreeMap<Key, Vec<Revision>>,
    /// When states were last forgotten, and the version of that time.
    last: (i64, u64),
}

/// From a version on; `None`: deleted.
#[derive(Clone, Debug)]
struct Revision {
    version: u64,
    object: Option<Arc<Object>>,
}

impl Default for Store {
    fn default() -> Store {
        // A cluster has written a few hundred things before its first Secret.
        Store { version: 300, compacted: 0, made: 0, objects: BTreeMap::new(), last: (i64::MIN, 300) }
    }
}

impl Store {
    /// The version of the last write.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version whose state is kept.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)?.last()?.object.as_ref()
    }

    /// An identity that no object had before.
    pub(super) fn new_uid(&mut self) -> String {
        self.made += 1;
        format!("{:08x}-7e57-4000-8000-{:012x}", self.made, self.made)
    }

    /// Is what it was. A new object has an identity of its own all the same: real ones are drawn.
    pub(super) fn set_back(&mut self, to: Store) {
        *self = Store { made: self.made, ..to };
    }

    /// Keeps an object in a new version.
    pub(super) fn put(&mut self, key: Key, mut object: Object) -> Arc<Object> {
        let version = self.next_version();
        object.metadata.resource_version = version.to_string();
        let object = Arc::new(object);
        let revision = Revision { version, object: Some(Arc::clone(&object)) };
        self.objects.entry(key).or_default().push(revision);
        object
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let version = self.next_version();
        if let Some(revisions) = self.objects.get_mut(key) {
            revisions.push(Revision { version, object: None });
        }
    }

    /// The objects of a namespace as they were at a version, by name, from a name on.
    pub(super) fn at(
        &self,
        resource: Resource,
        namespace: &str,
        version: u64,
        from: &str,
    ) -> impl Iterator<Item = &Arc<Object>> {
        let start = (resource, namespace.to_owned(), from.to_owned());
        let here = move |key: &Key| key.0 == resource && key.1 == namespace;
        let objects = self.objects.range(start..).take_while(move |(key, _)| here(key));
        objects.filter_map(move |(_, revisions)| {
            revisions.iter().rev().find(|revision| revision.version <= version)?.object.as_ref()
        })
    }

    /// How many objects a namespace has now.
    pub(super) fn count(&self, resource: Resource, namespace: &str) -> usize {
        self.at(resource, namespace, self.version, "").count()
    }

    /// Forgets, when it is time, the states that were over before the last time.
    pub(super) fn age(&mut self, now: i64) {
        let (at, version) = self.last;
        if at == i64::MIN {
            self.last = (now, self.version);
        } else if now - at >= COMPACTION {
            self.last = (now, self.version);
            self.compact(version);
        }
    }

    /// Forgets the states before a version.
    pub(super) fn compact(&mut self, version: u64) {
        self.compacted = self.compacted.max(version);
        self.objects.retain(|_, revisions| {
            let kept = revisions.iter().rposition(|revision| revision.version <= version).unwrap_or(0);
            revisions.drain(..kept);
            revisions.last().is_some_and(|last| last.object.is_some() || last.version > version)
        });
    }

    /// Other objects of the cluster are written too, so that two versions of one are seldom neighbours.
    fn next_version(&mut self) -> u64 {
        self.version += 1 + self.version % 3;
        self.version
    }
}
