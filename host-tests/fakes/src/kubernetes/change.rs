//! What was changed, by whose request: for tests that judge each write.

use serde_json::Value;

use super::Kubernetes;
use super::call::{Resource, Verb};
use super::write::Write;
use crate::http::{Request, Response};

/// A write that was done.
#[derive(Clone, Debug)]
pub struct Change {
    /// When, in Unix milliseconds.
    pub at: i64,
    /// Whose resource it is.
    pub resource: Resource,
    /// What asked for it, with all its headers.
    pub request: Request,
    /// The object before; `None`: there was none.
    pub before: Option<Value>,
    /// The object after; `None`: it is gone.
    pub after: Option<Value>,
}

impl Kubernetes {
    /// From now on each write that is done is kept.
    pub fn keep_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The writes that were done since they are kept, oldest first.
    pub fn changes(&self) -> &[Change] {
        self.changes.as_deref().unwrap_or_default()
    }

    /// Writes, by somebody who may.
    pub(super) fn change(
        &mut self,
        write: &Write<'_>,
        verb: &Verb,
        name: &str,
    ) -> Result<Response, Response> {
        let version = self.store.version();
        let made = match verb {
            Verb::Create => write.name(),
            _ => name.to_owned(),
        };
        let before = self.changes.is_some().then(|| self.whole(write, &made)).flatten();
        let written = match verb {
            Verb::Create => self.create(write),
            Verb::Update => self.update(write, name),
            _ => self.delete(write, name),
        };
        let is_done = self.store.version() != version;
        let after = (is_done && self.changes.is_some()).then(|| self.whole(write, &made)).flatten();
        if let (true, Some(changes)) = (is_done, &mut self.changes) {
            let Write { now: at, resource, request, .. } = *write;
            changes.push(Change { at, resource, request: request.clone(), before, after });
        }
        written
    }

    fn whole(&self, write: &Write<'_>, name: &str) -> Option<Value> {
        Some(self.store.get(&write.key(name))?.whole(write.resource))
    }
}
