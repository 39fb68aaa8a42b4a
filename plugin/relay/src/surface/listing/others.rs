//! The checks of all replicas, as their Secrets' annotations show them.

use super::rows::Rank;
use super::{Shown, members, time_of};
use crate::check::CheckKey;
use crate::config::ClusterStore;
use crate::store::cluster::lease::Replica;
use crate::store::cluster::secret::{OwnedView, owned_view};
use crate::store::cluster::standing::Standing;
use crate::store::ledger::{Store, StoreError};
use crate::time::Wall;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{self, ApiAnswer, LeaseBody, ListPage, MetadataOnly, Server, StoredObject};
use serde_json::{Value, json};
use std::time::Duration;

/// Timeout of each call.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum checks of other replicas that are shown.
const MAX_SHOWN: usize = 2_000;

/// The state of a check of which another replica reads the executions.
const WATCHING: &str = "watching";
const NO_OWNER: &str =
    "No replica owns it at present: another one takes it over within half a minute, if any is there.";
const LAST_WRITTEN: &str = "This is what its replica last wrote; that replica's own list knows more.";
const ASK_THE_OWNER: &str =
    "Its replica reads its executions: the check's log, and that replica's own list, say what it waits for.";

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
    accepted: Wall,
    pub(super) members: Shown,
}

impl Other {
    /// Its place in the list.
    pub(super) fn rank(&self) -> Rank {
        match self.members.get("state").and_then(Value::as_str) {
            Some("done") => {
                let ended = time_of(&self.members, "since").unwrap_or(self.accepted);
                Rank::done(ended, &self.key)
            }
            _ => Rank::pending(self.accepted, &self.key),
        }
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
        let mut members = members(view.as_bytes());
        // Its owner reads its executions, and writes its Secret rarely: this is all that is known here.
        let named = self.named(owner);
        let state = members.get("state").and_then(Value::as_str).unwrap_or_default();
        let explained = match state {
            "done" => None,
            _ if named.is_null() => Some(NO_OWNER),
            "waiting" | "running" => Some(ASK_THE_OWNER),
            _ => Some(LAST_WRITTEN),
        };
        if matches!(state, "waiting" | "running") {
            members.insert("state".into(), WATCHING.into());
        }
        if let Some(explained) = explained {
            members.insert("explain".into(), explained.into());
        }
        // A sender chooses none of these.
        members.insert("id".into(), key.id().into());
        members.insert("as_of".into(), written.into());
        members.insert("replica".into(), named);
        let accepted = members.get("history").and_then(|history| history.get(0)?.get("at")?.as_str());
        let accepted = accepted.and_then(Wall::parse).unwrap_or_default();
        Some(Other { key, accepted, members })
    }

    /// This replica and its pod.
    pub(super) fn me(&self) -> Value {
        self.named(&self.replica.id)
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
