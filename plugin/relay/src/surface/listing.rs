//! `GET /v1/checks` and `/v1/checks/{id}`: pending checks and why they wait, and what was decided lately. Never a token.
//!
//! Without a cluster store they are this process's. With one they are those of all replicas: its own from the ledger,
//! the others as their owners last wrote them. What a record does not say of a pending check comes from its leader
//! ([`live_views`]); what was decided lately from a ring ([`decided`]).

mod others;
mod query;
mod rows;

use crate::check::{CheckKey, Record, State, View, explain};
use crate::collections::Few;
use crate::config::Config;
use crate::config::{Allow, Credential};
use crate::guid::Guid;
use crate::json::{self, Members, members_of};
use crate::lead::showing::health_key;
use crate::store::decided;
use crate::store::ledger::{Ledger, Store, StoreError};
use crate::store::live_views::{self, LiveView};
use crate::surface::accept::{CallerId, Headers, caller};
use crate::surface::exchange::Step;
use crate::surface::page;
use crate::surface::problem::Reply;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::call::CallOutcome;
use others::Others;
use query::Query;
use rows::{Page, Rank};
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

/// The members of a check's JSON, as another context wrote it.
type Shown = Map<String, Value>;

/// For whom the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For programs.
    Json,
    /// For people: [`page`].
    Page,
}

/// The check that is asked for, by its id, or all; and for whom.
pub type Asked<'a> = (Option<&'a str>, Form);

/// A request for one check or all.
pub struct Listing {
    form: Form,
    config: Rc<Config>,
    caller: CallerId,
    prefix: String,
    query: Query,
    /// The check that is asked for; `None`: all.
    id: Option<String>,
    own: Page<Row>,
    others: Option<Others>,
    began: Mono,
}

/// The answer to a list that waits for calls which are never answered.
pub fn lost() -> Reply {
    Reply::problem(503, "The checks cannot be read", "Kubernetes's API server does not answer.")
}

/// The answer to a list beyond [`MAX_LISTS`].
fn busy() -> Reply {
    let detail = "Two lists of this credential, or eight of this worker, are under way, and each asks Kubernetes's API server. Try again.";
    Reply::problem(429, "Too many lists at the same time", detail).with("retry-after", "1")
}

impl Listing {
    /// Begins a list of the checks that the caller's credential covers, or of that with this id, which the answer to its
    /// delivery stated.
    ///
    /// # Errors
    /// The refusal.
    pub fn new<B: AsRef<[u8]>>(
        config: &Rc<Config>,
        prefix: &str,
        store: &mut dyn Store,
        headers: &Headers<B>,
        (id, form): Asked<'_>,
    ) -> Result<Listing, Reply> {
        let begun = Listing::begun(config, prefix, store, headers, id);
        match begun {
            Ok(listing) => Ok(Listing { form, ..listing }),
            Err(refusal) if form == Form::Page => Err(page::problem(refusal, &config.base_path)),
            Err(refusal) => Err(refusal),
        }
    }

    fn begun<B: AsRef<[u8]>>(
        config: &Rc<Config>,
        prefix: &str,
        store: &mut dyn Store,
        headers: &Headers<B>,
        id: Option<&str>,
    ) -> Result<Listing, Reply> {
        let caller = caller(config, headers, Allow::Status)?;
        let target = headers.iter().find(|(name, _)| name.as_ref() == b":path");
        let query = Query::parse(target.map_or(&[][..], |(_, target)| target.as_ref()))?;
        if id.is_some() && !query.is_plain() {
            let detail = "One check is asked for: leave the parameters out.";
            return Err(Reply::problem(400, "The parameters cannot be read", detail));
        }
        if let (Some(caller), Some(project)) = (caller, query.project)
            && !caller.covers_project(&project)
        {
            let detail =
                "This credential does not cover the project. Leave `project` out, or use another credential.";
            return Err(Reply::problem(403, "The project is not covered", detail));
        }
        let mut own = Page::new(query.after, query.limit);
        for (number, mut bucket) in Ledger::buckets_of(prefix).into_iter().enumerate() {
            bucket.read(store).map_err(failed)?;
            for record in bucket.records().filter(|record| covers(caller, &record.state)) {
                let rank = rank(record);
                if !own.may_hold(rank) || !is_wanted(record, &query, id) {
                    continue;
                }
                own.add(rank, Row::Own(number, Box::new(record.clone())));
            }
        }
        let others = match &config.store {
            Some(shared) => Some(Others::new(store, prefix, shared).map_err(failed)?),
            None => None,
        };
        let (caller, id) = (CallerId::of(config, caller), id.map(str::to_owned));
        let prefix = prefix.to_owned();
        let (config, form) = (config.clone(), Form::Json);
        Ok(Listing { form, config, caller, prefix, query, id, own, others, began: Mono(0) })
    }

    /// Who asks.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// The answer if too many lists are under way.
    pub fn busy(&self) -> Reply {
        self.formed(busy(), Wall(0))
    }

    /// Whether the API server must be asked.
    pub fn asks(&self) -> bool {
        self.others.is_some() && !(self.id.is_some() && self.own.holds_pending())
    }

    /// The first step.
    pub fn begin(&mut self, now: Now, store: &mut dyn Store) -> Step {
        self.began = now.mono;
        match (&self.others, &self.config.store) {
            (Some(others), Some(shared)) if self.asks() => Step::call(others.first(&shared.server)),
            _ => self.end(now, store).into(),
        }
    }

    /// Takes the outcome of a call.
    pub fn answer(&mut self, now: Now, store: &mut dyn Store, outcome: &CallOutcome) -> Step {
        let (credential, id) = (self.caller.credential(&self.config), self.id.as_ref());
        let query = &self.query;
        if let (Some(others), Some(shared)) = (&mut self.others, &self.config.store)
            && let Some(next) = others.answer(&shared.server, outcome, |shown| {
                id.is_none_or(|id| shown.key.id() == *id)
                    && is_covered(credential, project_of(&shown.members), tag_of(&shown.members).as_ref())
                    && fits(query, &shown.members)
                    && query.after.is_none_or(|after| shown.rank() > after)
            })
        {
            if now.mono.since(self.began) < LAST_CALL {
                return Step::call(next);
            }
            others.took_too_long();
        }
        self.end(now, store).into()
    }

    fn end(&mut self, now: Now, store: &mut dyn Store) -> Reply {
        let reply = self.reply(now, store);
        self.formed(reply, now.wall)
    }

    /// The same answer for those who asked.
    fn formed(&self, reply: Reply, now: Wall) -> Reply {
        let base = &self.config.base_path;
        match (self.form, reply.status) {
            (Form::Json, _) => reply,
            (Form::Page, 200) => {
                let shown = serde_json::from_slice(reply.body.as_bytes()).unwrap_or_default();
                match self.id {
                    None => page::overview(&shown, now, base, &self.query.text),
                    Some(_) => page::one(&shown, now, base),
                }
            }
            (Form::Page, _) => page::problem(reply, base),
        }
    }

    fn reply(&mut self, now: Now, store: &mut dyn Store) -> Reply {
        let shown = match self.shown(now, store) {
            Ok(shown) => shown,
            Err(status) => return failed(status),
        };
        let incomplete = self.others.as_mut().and_then(|others| others.fault.take());
        match self.id {
            Some(_) => one(&shown.checks, shown.pending, incomplete),
            None => {
                let mut all = Members::default();
                all.text("as_of", &now.wall.to_string());
                all.raw("checks", &json::list(&shown.checks));
                all.raw("health", &self.health(store));
                if let Some(fault) = incomplete {
                    all.text("incomplete", &fault);
                }
                if let Some(next) = shown.next {
                    all.text("next", &next.to_string());
                }
                if let Some(others) = &self.others {
                    all.raw("replica", &json::text(&others.me()));
                }
                all.text("version", crate::USER_AGENT);
                answer(&all.object())
            }
        }
    }

    /// JSON that says whether the servers answer, as the leader last wrote it; null before. Who sees some projects only
    /// does not learn which other servers there are.
    fn health(&self, store: &mut dyn Store) -> String {
        let entry = store.get(&health_key(&self.prefix)).ok().flatten();
        let written = entry.and_then(|entry| String::from_utf8(entry.value).ok()).unwrap_or_default();
        let (alone, whole) = written.split_once('\n').unwrap_or(("null", "null"));
        let caller = self.caller.credential(&self.config);
        if caller.is_some_and(Credential::is_bound) { alone.into() } else { whole.into() }
    }

    /// The checks of one page, in order.
    fn shown(&mut self, now: Now, store: &mut dyn Store) -> Result<OnePage, StoreError> {
        let empty = Page::new(self.query.after, self.query.limit);
        let mut own = std::mem::replace(&mut self.own, empty);
        let mut page = Page::new(self.query.after, self.query.limit);
        let mut ended_elsewhere = Vec::new();
        if let Some(others) = &mut self.others {
            for other in std::mem::take(&mut others.found) {
                // What this process has of a check that another owns is out of date.
                own.retain(|row| !matches!(row, Row::Own(_, record) if record.key == other.key));
                let rank = other.rank();
                if rank.is_done {
                    ended_elsewhere.push(other.key);
                }
                page.add(rank, Row::Other(other.members));
            }
        }
        let ended = self.note_decided(store, &mut page, &ended_elsewhere)?;
        let (records, end) = own.finish();
        for (rank, row) in records {
            if !ended.iter().any(|ended| ended.ends(rank, now.wall)) {
                page.add(rank, row);
            }
        }
        end.into_iter().for_each(|end| page.leave_out(end));
        let (rows, end) = page.finish();
        let next = end.and(rows.last()).map(|(rank, _)| *rank);
        let pending = rows.iter().filter(|(rank, _)| !rank.is_done).count();
        let mut views: Few<usize, Vec<u8>> = Few::default();
        let checks = rows.into_iter().map(|(_, row)| match row {
            Row::Other(members) => json::text(&members),
            Row::Own(bucket, record) => {
                let views = views.entry(bucket, || live_views::read(store, &self.prefix, bucket));
                self.own(views.map_or(&[][..], |views| views), &record, now)
            }
        });
        Ok(OnePage { checks: checks.collect(), pending, next })
    }

    /// Adds what was decided lately, but for what other replicas show as ended. Returns the places.
    fn note_decided(
        &self,
        store: &mut dyn Store,
        page: &mut Page<Row>,
        elsewhere: &[CheckKey],
    ) -> Result<Vec<Rank>, StoreError> {
        let mut ended = Vec::new();
        if !self.query.wants_done() {
            return Ok(ended);
        }
        let credential = self.caller.credential(&self.config);
        decided::newest_first(store, &self.prefix, |one| {
            let rank = Rank::done(one.at, &one.key);
            ended.push(rank);
            let is_asked_for = self.id.as_ref().is_none_or(|id| one.key.id() == *id);
            if !is_asked_for || !page.may_hold(rank) || elsewhere.contains(&one.key) {
                return true;
            }
            let mut members = members(&one.json);
            let is_covered = is_covered(credential, project_of(&members), tag_of(&members).as_ref());
            if is_covered && fits(&self.query, &members) {
                if let Some(others) = &self.others {
                    members.insert("replica".into(), others.me());
                }
                page.add(rank, Row::Other(members));
            }
            true
        })?;
        Ok(ended)
    }

    /// JSON of an own check, with what its leader knows of it.
    fn own(&self, views: &[u8], record: &Record, now: Now) -> String {
        let mut members = Members::default();
        members.extend(members_of(&json::text(&View::of(&record.key, &record.state, now))));
        if let State::Pending(pending) = &record.state {
            let is_its = |view: &LiveView<'_>| view.key == record.key && view.began == pending.began;
            let live = live_views::views(views).find(is_its);
            match live.and_then(|view| std::str::from_utf8(view.json).ok()) {
                Some(live) => members.extend(live),
                None => {
                    members.text("explain", &explain(pending, None, now));
                    members.raw("live", "null");
                }
            }
        }
        if let Some(others) = &self.others {
            members.raw("replica", &json::text(&others.me()));
        }
        members.object()
    }
}

/// One page of the list, and the last check's place if there are more.
struct OnePage {
    /// Each as JSON.
    checks: Vec<String>,
    /// Number of those that are pending.
    pending: usize,
    next: Option<Rank>,
}

/// A check on a page.
enum Row {
    Own(usize, Box<Record>),
    /// As its owner last wrote it, or as it ended.
    Other(Shown),
}

/// The answer for one check. What is pending comes first, then what ended last.
fn one(found: &[String], pending: usize, incomplete: Option<String>) -> Reply {
    if pending > 1 {
        // An id is short, and the sender of a check chooses what it is made from.
        return Reply::problem(
            409,
            "More than one check has this id",
            "Somebody has sent a check with forged ids. `GET /v1/checks` lists them all.",
        );
    }
    match (found.first(), incomplete) {
        (Some(found), _) => answer(found),
        (None, Some(fault)) => Reply::problem(
            503,
            "The checks cannot be read",
            &format!("This process has no such check. {fault}"),
        ),
        (None, None) => Reply::problem(
            404,
            "No such check",
            "No check with this id is pending or was decided lately, or it belongs to another credential.",
        ),
    }
}

fn failed(status: StoreError) -> Reply {
    log::error!("shared data failed with status {}: checks cannot be listed", status.0);
    Reply::problem(503, "The checks cannot be read", "Envoy's shared data does not answer.")
}

/// An answer with this JSON, for nobody to keep.
fn answer(json: &str) -> Reply {
    let headers = vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
    Reply { status: 200, headers, body: [json, "\n"].concat() }
}

fn rank(record: &Record) -> Rank {
    match &record.state {
        State::Pending(pending) => match pending.reported() {
            Some(done) => Rank::done(done.at.wall, &record.key),
            None => Rank::pending(pending.accepted.wall, &record.key),
        },
        State::Done(done) => Rank::done(done.at.wall, &record.key),
    }
}

/// Whether an own check is asked for.
fn is_wanted(record: &Record, query: &Query, id: Option<&str>) -> bool {
    if id.is_some_and(|id| record.key.id() != id) {
        return false;
    }
    let (project, tag, state) = match &record.state {
        State::Pending(pending) => (
            Some(pending.callback.project),
            pending.ask.as_ref().map(|ask| &ask.tag),
            pending.state_in_a_word(),
        ),
        State::Done(done) => (done.project, done.tag.as_ref(), "done"),
    };
    query.fits(project, tag.map(ToString::to_string).as_deref(), state)
}

/// Whether a check that is shown so is asked for.
fn fits(query: &Query, members: &Shown) -> bool {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    query.fits(project_of(members), text("tag"), text("state").unwrap_or_default())
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

fn project_of(members: &Shown) -> Option<Guid> {
    members.get("project").and_then(Value::as_str).and_then(Guid::parse)
}

fn tag_of(members: &Shown) -> Option<Tag> {
    let (key, value) = members.get("tag").and_then(Value::as_str)?.split_once('=')?;
    Some(Tag { key: key.into(), value: value.into() })
}

/// The members of a view.
fn members(view: &[u8]) -> Shown {
    match serde_json::from_slice(view) {
        Ok(Value::Object(members)) => members,
        _ => [("state".to_owned(), "unreadable".into())].into_iter().collect(),
    }
}

/// A time in a view.
fn time_of(members: &Shown, name: &str) -> Option<Wall> {
    members.get(name).and_then(Value::as_str).and_then(Wall::parse)
}

#[cfg(test)]
mod tests;
