//! What the list says.

use super::{PREFIX, World};
use crate::lead::showing::health_key;
use crate::store::ledger::Store;
use crate::surface::exchange::Step;
use crate::surface::listing::{Form, Listing};
use serde_json::Value;

impl World {
    /// `GET /v1/checks`'s entry about the only check.
    pub(in crate::lead::tests) fn listed(&mut self) -> Value {
        let (config, now) = (self.config(), self.now);
        let headers: [(Vec<u8>, Vec<u8>); 0] = [];
        let mut listing =
            Listing::new(&config, PREFIX, &mut self.store, &headers, (None, Form::Json)).unwrap();
        let Step::Reply(reply, None) = listing.begin(now, &mut self.store) else {
            panic!("nobody is to be asked")
        };
        let list: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(list["checks"].as_array().unwrap().len(), 1, "{list}");
        list["checks"][0].clone()
    }

    /// What the list says of the servers.
    pub(in crate::lead::tests) fn health(&mut self) -> Value {
        let key = health_key(PREFIX);
        let entry = self.store.get(&key).unwrap().unwrap();
        let whole = entry.value.split(|c| *c == b'\n').next_back().unwrap();
        serde_json::from_slice(whole).unwrap()
    }
}
