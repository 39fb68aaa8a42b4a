//! `GET /v1/checks` and `/v1/checks/{id}`: pending and recently decided checks. Never a token.
//!
//! Without a cluster store they are this process's. With one they are those of all replicas: its own from the ledger,
//! the others as their owners last wrote them.

mod others;

use crate::check::{Record, State, View};
use crate::config::Config;
use crate::config::{Allow, Credential};
use crate::guid::Guid;
use crate::store::ledger::{Ledger, Store};
use crate::surface::accept::{CallerId, Headers, caller};
use crate::surface::exchange::Step;
use crate::surface::problem::Reply;
use crate::tag::Tag;
use crate::time::{Mono, Now};
use crate::wire::call::CallOutcome;
use others::{Other, Others};
use serde::Serialize;
use serde_json::{Map, Value};
use std::rc::Rc;
use std::time::Duration;

/// Maximum lists that one VM makes at the same time with the cluster store, for one credential and in all.
pub const MAX_LISTS_OF_ONE: usize = 2;
/// As above.
pub const MAX_LISTS: usize = 8;

/// Time after which a list whose calls are never answered is answered, at the next tick, which comes within a second.
pub const GIVEN_UP: Duration = Duration::from_secs(15);

/// Time after which a list begins no further call, so that its last answer comes before [`GIVEN_UP`].
const LAST_CALL: Duration = Duration::from_secs(10);

/// A request for one check or all.
pub struct Listing {
    config: Rc<Config>,
    caller: CallerId,
    /// The check that is asked for; `None`: all.
    id: Option<String>,
    own: Vec<Record>,
    others: Option<Others>,
    began: Mono,
}

/// The answer to a list that waits for calls which are never answered.
pub fn lost() -> Reply {
    Reply::problem(503, "The checks cannot be read", "Kubernetes's API server does not answer.")
}

/// The answer to a list beyond [`MAX_LISTS`].
pub fn busy() -> Reply {
    let detail = "Two lists of this credential, or eight of this worker, are under way, and each asks Kubernetes's API server. Try again.";
    Reply::problem(429, "Too many lists at the same time", detail).with("retry-after", "1")
}

impl Listing {
    /// Begins a list of all checks that the caller's credential covers, or of that with this id, which the answer to its
    /// delivery stated.
    ///
    /// # Errors
    /// The refusal.
    pub fn new<B: AsRef<[u8]>>(
        config: &Rc<Config>,
        prefix: &str,
        store: &mut dyn Store,
        headers: &Headers<B>,
        id: Option<&str>,
    ) -> Result<Listing, Reply> {
        let caller = caller(config, headers, Allow::Status)?;
        let failed = |status: crate::store::ledger::StoreError| {
            log::error!("shared data failed with status {}: checks cannot be listed", status.0);
            Reply::problem(503, "The checks cannot be read", "Envoy's shared data does not answer.")
        };
        let mut own = Vec::new();
        for mut bucket in Ledger::buckets_of(prefix) {
            bucket.read(store).map_err(failed)?;
            for record in bucket.records().filter(|record| covers(caller, &record.state)) {
                own.push(record.clone());
            }
        }
        let others = match &config.store {
            Some(shared) => Some(Others::new(store, prefix, shared).map_err(failed)?),
            None => None,
        };
        let (caller, id) = (CallerId::of(config, caller), id.map(str::to_owned));
        Ok(Listing { config: config.clone(), caller, id, own, others, began: Mono(0) })
    }

    /// Who asks.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// Whether the API server must be asked.
    pub fn asks(&self) -> bool {
        let is_own = |id: &String| self.own.iter().any(|own| own.key.id() == *id);
        self.others.is_some() && !self.id.as_ref().is_some_and(is_own)
    }

    /// The first step.
    pub fn begin(&mut self, now: Now) -> Step {
        self.began = now.mono;
        match (&self.others, &self.config.store) {
            (Some(others), Some(shared)) if self.asks() => Step::call(others.first(&shared.server)),
            _ => self.reply(now).into(),
        }
    }

    /// Takes the outcome of a call.
    pub fn answer(&mut self, now: Now, outcome: &CallOutcome) -> Step {
        let (credential, id) = (self.caller.credential(&self.config), self.id.as_ref());
        if let (Some(others), Some(shared)) = (&mut self.others, &self.config.store)
            && let Some(next) = others.answer(&shared.server, outcome, |shown| {
                id.is_none_or(|id| shown.key.id() == *id) && shown.is_covered_by(credential)
            })
        {
            if now.mono.since(self.began) < LAST_CALL {
                return Step::call(next);
            }
            others.took_too_long();
        }
        self.reply(now).into()
    }

    /// The answer, oldest check first.
    fn reply(&mut self, now: Now) -> Reply {
        let mut incomplete = None;
        let mut all = Vec::new();
        if let Some(others) = &mut self.others {
            incomplete = others.fault.take();
            for Other { key, accepted, members } in std::mem::take(&mut others.found) {
                // What this process has of a check that another owns is out of date.
                self.own.retain(|own| own.key != key);
                all.push((accepted, key, Shown::Stored(members)));
            }
        }
        for record in &self.own {
            let accepted = match &record.state {
                State::Pending(pending) => pending.accepted.wall,
                State::Done(done) => done.accepted,
            };
            let view = View::of(&record.key, &record.state, now);
            let shown = match &self.others {
                Some(others) => others.own(&view),
                None => Shown::Own(view),
            };
            all.push((accepted.to_string(), record.key, shown));
        }
        all.sort_unstable_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        let Some(id) = &self.id else {
            let checks = all.into_iter().map(|(.., shown)| shown).collect();
            return private(Reply::json(200, &AllShown { checks, incomplete }));
        };
        let mut found = all.into_iter().filter(|(_, key, _)| key.id() == *id).map(|(.., shown)| shown);
        match (found.next(), found.next(), incomplete) {
            (None, _, Some(fault)) => Reply::problem(
                503,
                "The checks cannot be read",
                &format!("This process has no such check. {fault}"),
            ),
            (None, ..) => Reply::problem(
                404,
                "No such check",
                "No check with this id is pending or was decided in the last ten minutes, or it belongs to another credential.",
            ),
            (Some(shown), None, _) => private(Reply::json(200, &shown)),
            // An id is short, and the sender of a check chooses what it is made from.
            _ => Reply::problem(
                409,
                "More than one check has this id",
                "Somebody has sent a check with forged ids. `GET /v1/checks` lists them all.",
            ),
        }
    }
}

fn private(reply: Reply) -> Reply {
    reply.with("cache-control", "no-store")
}

/// Whether a credential covers a check.
fn covers(caller: Option<&Credential>, state: &State) -> bool {
    let (project, tag) = match state {
        State::Pending(pending) => (Some(pending.callback.project), pending.ask.as_ref().map(|ask| &ask.tag)),
        State::Done(done) => (done.project, done.tag.as_ref()),
    };
    is_covered(caller, project, tag)
}

/// A check whose tag could not be read is covered by its project alone.
fn is_covered(caller: Option<&Credential>, project: Option<Guid>, tag: Option<&Tag>) -> bool {
    caller.is_none_or(|caller| {
        project.is_some_and(|project| caller.covers_project(&project))
            && tag.is_none_or(|tag| caller.covers_tag(tag))
    })
}

/// The list.
#[derive(Serialize)]
struct AllShown<'a> {
    checks: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
}

/// A check in the list.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    /// Of this process, without a cluster store.
    Own(View<'a>),
    /// With the replica that owns it.
    Stored(Map<String, Value>),
}

#[cfg(test)]
mod tests;
