//! Envoy's shared queues (proxy-wasm-cpp-host `src/shared_queue.cc`): named within a vm_id, without a bound, and whoever
//! registered last is woken.

use crate::plugins::VmKey;
use std::collections::{BTreeMap, VecDeque};

/// Who is woken: a root context by its number, in whichever VM of that key the thread has by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registrant {
    pub(crate) thread: usize,
    pub(crate) key: VmKey,
    pub(crate) context: u32,
}

#[derive(Debug)]
struct Queue {
    vm_id: String,
    name: Vec<u8>,
    registrant: Registrant,
    items: VecDeque<Vec<u8>>,
}

/// The queues of one process, by token.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    all: BTreeMap<u32, Queue>,
    last_token: u32,
}

impl Queues {
    /// Makes a queue, or takes over one that is there, with what is in it; its token.
    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], registrant: Registrant) -> u32 {
        if let Some(token) = self.resolve(vm_id, name) {
            if let Some(queue) = self.all.get_mut(&token) {
                queue.registrant = registrant;
            }
            return token;
        }
        self.last_token += 1;
        let queue = Queue { vm_id: vm_id.into(), name: name.into(), registrant, items: VecDeque::new() };
        self.all.insert(self.last_token, queue);
        self.last_token
    }

    /// The token of the queue with that name.
    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let mut found = self.all.iter().filter(|(_, queue)| queue.vm_id == vm_id && queue.name == name);
        found.next().map(|(token, _)| *token)
    }

    /// Adds an item and says who is to be woken; `None`: there is no such queue.
    pub(crate) fn enqueue(&mut self, token: u32, item: &[u8]) -> Option<Registrant> {
        let queue = self.all.get_mut(&token)?;
        queue.items.push_back(item.into());
        Some(queue.registrant.clone())
    }

    /// Takes the oldest item. Outer `None`: there is no such queue; inner `None`: it is empty.
    pub(crate) fn dequeue(&mut self, token: u32) -> Option<Option<Vec<u8>>> {
        Some(self.all.get_mut(&token)?.items.pop_front())
    }

    /// The last VM with this vm_id has gone.
    pub(crate) fn forget(&mut self, vm_id: &str) {
        self.all.retain(|_, queue| queue.vm_id != vm_id);
    }

    /// How many items wait in all queues.
    pub(crate) fn waiting(&self) -> usize {
        self.all.values().map(|queue| queue.items.len()).sum()
    }
}
