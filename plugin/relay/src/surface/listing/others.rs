//! The checks of all replicas, as their Secrets' annotations show them.

use super::{Shown, is_covered};
use crate::check::{CheckKey, View};
use crate::config::{ClusterStore, Credential};
use crate::guid::Guid;
use crate::store::cluster::lease::Replica;
use crate::store::cluster::secret::{OwnedView, owned_view};
use crate::store::cluster::standing::Standing;
use crate::store::ledger::{Store, StoreError};
use crate::tag::Tag;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{self, ApiAnswer, LeaseBody, ListPage, MetadataOnly, Server, StoredObject};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Timeout of each call.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum checks of other replicas that are shown.
const MAX_SHOWN: usize = 2_000;

const TOO_LONG: &str = "it took too long";

/// What is known of the other replicas' checks.
pub(super) struct Others {
    replica: Replica,
    /// The replicas with a Lease: id and pod. `None` until they were listed.
    pods: Option<Vec<(String, String)>>,
    pub(super) found: Vec<Other>,
    /// Why not all are there, as a sentence.
    pub(super) fault: Option<String>,
}

/// A check of another replica.
pub(super) struct Other {
    pub(super) key: CheckKey,
    /// When it was accepted, as in its view.
    pub(super) accepted: String,
    pub(super) members: Map<String, Value>,
}

impl Other {
    /// Whether a credential covers it.
    pub(super) fn is_covered_by(&self, caller: Option<&Credential>) -> bool {
        let text = |name: &str| self.members.get(name).and_then(Value::as_str);
        let tag = text("tag").and_then(|tag| tag.split_once('='));
        let tag = tag.map(|(key, value)| Tag { key: key.into(), value: value.into() });
        is_covered(caller, text("project").and_then(Guid::parse), tag.as_ref())
    }
}

impl Others {
    pub(super) fn new(
        store: &mut dyn Store,
        prefix: &str,
        shared: &ClusterStore,
    ) -> Result<Others, StoreError> {
        let standing = Standing::read(store, prefix)?.unwrap_or_default();
        let replica = Replica::new(prefix, &standing.id, &shared.pod, &shared.sealing);
        Ok(Others { replica, pods: None, found: Vec::new(), fault: None })
    }

    /// The first call: it lists the replicas.
    pub(super) fn first(&self, server: &Server) -> Request {
        server.list::<LeaseBody>(&self.replica.replicas(), None, TIMEOUT)
    }

    /// Takes the outcome of a call. Returns the next one, unless it was the last.
    pub(super) fn answer(
        &mut self,
        server: &Server,
        outcome: &CallOutcome,
        is_shown: impl Fn(&Other) -> bool,
    ) -> Option<Request> {
        if self.pods.is_none() {
            let page = self.page(kubernetes::listed::<LeaseBody>(outcome))?;
            self.pods = Some(page.items.iter().filter_map(Replica::pod_of).collect());
            return Some(server.list::<MetadataOnly>(&self.replica.checks(), None, TIMEOUT));
        }
        let page = self.page(kubernetes::listed::<MetadataOnly>(outcome))?;
        for secret in &page.items {
            let Some(other) = self.other(secret).filter(&is_shown) else { continue };
            if self.found.len() >= MAX_SHOWN {
                self.fault =
                    Some(format!("Other replicas have more than {MAX_SHOWN} checks: the first are shown."));
                return None;
            }
            self.found.push(other);
        }
        page.next.is_some().then(|| server.list(&self.replica.checks(), Some(&page), TIMEOUT))
    }

    /// The page of an answer, or its fault is noted.
    fn page<B>(&mut self, answer: ApiAnswer<ListPage<B>>) -> Option<ListPage<B>> {
        let why = match answer {
            ApiAnswer::Done(page) => return Some(page),
            answer => answer.fault().map_or_else(|| TOO_LONG.to_owned(), |fault| fault.to_string()),
        };
        self.note_fault(&why);
        None
    }

    /// Notes that no further page is asked for.
    pub(super) fn took_too_long(&mut self) {
        self.note_fault(TOO_LONG);
    }

    fn note_fault(&mut self, why: &str) {
        self.fault = Some(format!("Kubernetes's API server did not list the other replicas' checks: {why}"));
    }

    /// A check that is not this process's.
    fn other(&self, secret: &StoredObject<MetadataOnly>) -> Option<Other> {
        let key = self.replica.check_of(secret)?;
        let OwnedView { owner, view, written } = owned_view(&secret.object);
        if owner == self.replica.id {
            return None;
        }
        let mut members = members(view);
        // A sender chooses none of these.
        members.insert("id".into(), key.id().into());
        members.insert("as_of".into(), written.into());
        members.insert("replica".into(), self.named(owner));
        let accepted = members.get("history").and_then(|history| history.get(0)?.get("at")?.as_str());
        Some(Other { key, accepted: accepted.unwrap_or_default().to_owned(), members })
    }

    /// An own check, with its owner.
    pub(super) fn own(&self, view: &View<'_>) -> Shown<'static> {
        let mut members = members(&crate::json::text(view));
        members.insert("replica".into(), self.named(&self.replica.id));
        Shown::Stored(members)
    }

    /// A replica and its pod; `null` if no replica has the check at present.
    fn named(&self, id: &str) -> Value {
        let pods = self.pods.iter().flatten();
        match pods.into_iter().find(|(replica, _)| replica == id) {
            Some((_, pod)) => json!({"id": id, "pod": pod}),
            None if id == self.replica.id => json!({"id": id, "pod": self.replica.pod}),
            None => Value::Null,
        }
    }
}

/// The members of a view.
fn members(view: &str) -> Map<String, Value> {
    match serde_json::from_slice(view.as_bytes()) {
        Ok(Value::Object(members)) => members,
        _ => [("state".to_owned(), "unreadable".into())].into_iter().collect(),
    }
}
