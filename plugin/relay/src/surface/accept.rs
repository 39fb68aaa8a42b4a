//! Accepting a check: from a request to a record in the ledger and an answer, in one turn of the stream; with a cluster
//! store in several ([`Acceptance`]).

mod ends;
mod replies;
mod sharing;

use crate::check::{
    Ask, Candidate, CheckKey, Delivered, Delivery, Known, Outcome, ReasonCode, Record, State, Tokens, deliver,
};
use crate::config::{Allow, Config, Credential, Policy};
use crate::store::ledger::{Change, Ledger, LedgerError, OldHome, Store, StoreError};
use crate::store::places::{self, Grant, Limits, Share};
use crate::surface::auth::{Denied, authorize};
use crate::surface::problem::{FieldError, Reply};
use crate::surface::request::{self, Body, CheckRequest, MAX_BODY, Unanswerable};
use crate::time::Now;
use crate::wire::azure::Entry;
use ends::ends_of;
pub use replies::lost;
use replies::{answer, full, unanswerable_reply, unstored};
pub use sharing::{Acceptance, GIVEN_UP};
use std::time::Duration;

/// The header fields of a request: names in lower case, values as bytes off the wire; owned or borrowed.
pub type Headers<B = Vec<u8>> = [(B, B)];

/// What to do with a check request once its headers have come.
#[derive(Debug)]
pub enum Admission {
    /// Send this answer now.
    Reply(Reply),
    /// Read the body, then accept the request ([`accept`], [`Acceptance`]): it holds missing fields, or must be read
    /// because it was sent.
    AwaitBody(CallerId),
    /// Accept it: there is no body.
    Ready,
    /// Accept it, which rejects the request: the headers are complete, but there is a body that this Envoy does
    /// not hand over.
    Unread,
}

/// The number of the credential that a request came with; all requests without one share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerId(u32);

impl CallerId {
    /// The number of this credential in the configuration.
    pub(crate) fn of(config: &Config, caller: Option<&Credential>) -> CallerId {
        let is_own = |own: &Credential| caller.is_some_and(|caller| own.name == caller.name);
        let place = config.credentials.iter().position(is_own);
        CallerId(place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX))
    }

    /// The credential's name in this configuration; empty for callers without a credential.
    pub fn name(self, config: &Config) -> &str {
        self.credential(config).map_or("", |credential| &credential.name)
    }

    /// The credential in this configuration; `None` for callers without one.
    pub(crate) fn credential(self, config: &Config) -> Option<&Credential> {
        config.credentials.get(usize::try_from(self.0).ok()?)
    }
}

/// How the outcome of a check request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A new check.
    Accepted,
    /// A new check that cannot be evaluated.
    Rejected,
    /// A known check, delivered again.
    Repeated,
    /// A refused request.
    Refused,
}

/// Reads the headers of a check request: who sends it, and whether its body is needed.
pub fn admit<B: AsRef<[u8]>>(config: &Config, headers: &Headers<B>, has_body: bool) -> Admission {
    admit_as(config, headers, has_body, request::is_complete)
}

/// The same; `is_complete` says whether the headers alone hold all required fields.
pub(crate) fn admit_as<B: AsRef<[u8]>>(
    config: &Config,
    headers: &Headers<B>,
    has_body: bool,
    is_complete: fn(&Headers<B>) -> bool,
) -> Admission {
    let sender = match caller(config, headers, Allow::Checks) {
        Ok(caller) => CallerId::of(config, caller),
        Err(refusal) => return Admission::Reply(refusal),
    };
    let length =
        header(headers, b"content-length").and_then(|v| std::str::from_utf8(v).ok()?.parse::<usize>().ok());
    if !has_body || length == Some(0) {
        return Admission::Ready;
    }
    if length.is_some_and(|n| n > MAX_BODY) {
        return Admission::Reply(too_large());
    }
    let complete = is_complete(headers);
    match (config.read_body, complete) {
        // Read whatever its type: it may hold a policy.
        (true, true) => Admission::AwaitBody(sender),
        (false, true) => Admission::Unread,
        (true, false) if header(headers, b"content-type").is_some_and(is_json) => {
            Admission::AwaitBody(sender)
        }
        (true, false) => Admission::Reply(Reply::problem(
            415,
            "The body is not JSON",
            "The headers lack fields, and the body that may contain them is not `Content-Type: application/json`. Send everything in headers, or a JSON object.",
        )),
        (false, false) => Admission::Reply(body_unread()),
    }
}

/// The answer to a request whose fields may be in a body that this Envoy does not hand over.
pub fn body_unread() -> Reply {
    Reply::problem(
        422,
        "The headers lack fields, and this Envoy does not read bodies",
        "Send every field as a header (Azure DevOps's default headers and Testrelay-Tag), or let Envoy hand bodies over: `allow_on_headers_stop_iteration: true` on the filter and `\"read_body\": true` in the plugin's configuration.",
    )
}

/// Whether a request has headers that only Azure DevOps's check sends.
pub fn carries_a_check<B: AsRef<[u8]>>(headers: &Headers<B>) -> bool {
    header(headers, b"authtoken").is_some() || header(headers, b"planid").is_some()
}

/// The answer to a method that a path does not allow; `allow` lists the allowed ones. A check that was set to GET is
/// told what to change, because GET of its path is another request.
pub fn wrong_method<B: AsRef<[u8]>>(allow: &'static str, headers: &Headers<B>) -> Reply {
    let detail = match (carries_a_check(headers), allow.contains("POST")) {
        (true, false) => format!(
            "This path answers to {allow}. A check belongs to the path that ends with `/v1/checks`: put that into the form's `URL suffix and parameters`. Nothing was accepted."
        ),
        (true, true) => {
            "This request carries a check (PlanId or AuthToken), and a check must be sent by POST: choose POST as the method of the `Invoke REST API` check or task. Nothing was accepted.".to_owned()
        }
        (false, _) => format!("This path answers to {allow}."),
    };
    Reply::problem(405, "Method not allowed", &detail).with("allow", allow)
}

/// The answer to a path that would be Testrelay's without a blank; `blank` is its encoded form, such as `%20`.
pub fn blank_in_path(blank: &str) -> Reply {
    let detail = format!(
        "The path has `{blank}`, which is a blank: remove it from the URL of the service connection, or from the `urlSuffix` of the check. It is often at the end, where nobody sees it."
    );
    Reply::problem(404, "A blank in the path", &detail)
}

/// The answer to a body over [`MAX_BODY`].
pub fn too_large() -> Reply {
    Reply::problem(
        413,
        "The body is too large",
        &format!("A check's body may have at most {} KiB.", MAX_BODY >> 10),
    )
}

/// The refusal of a caller that may not use `route`; `None` if it may.
pub fn unauthorized<B: AsRef<[u8]>>(config: &Config, headers: &Headers<B>, route: Allow) -> Option<Reply> {
    caller(config, headers, route).err()
}

/// The caller's credential; `None` if everybody may call (`insecure_no_auth`).
///
/// # Errors
/// The refusal of a caller that may not use `route`.
pub fn caller<'a, B: AsRef<[u8]>>(
    config: &'a Config,
    headers: &Headers<B>,
    route: Allow,
) -> Result<Option<&'a Credential>, Reply> {
    let is_credential = |(name, _): &&(B, B)| name.as_ref() == b"authorization";
    let given = headers.iter().filter(is_credential).map(|(_, value)| value.as_ref());
    authorize(&config.credentials, given, route).map_err(|denied| match denied {
        Denied::Unknown => Reply::problem(
            401,
            "Unknown credential",
            "Send one `Authorization` header with a credential that is configured here. In Azure DevOps: the user name and password of the Generic service connection.",
        )
        .with("www-authenticate", "Basic realm=\"testrelay\", charset=\"UTF-8\""),
        Denied::NotAllowed(name) => Reply::problem(
            403,
            "Not allowed",
            &format!("The credential `{name}` is known, but its `allow` does not list this route."),
        ),
    })
}

/// The refusal of a check that its caller's credential does not cover. Nothing is stored, and nobody is called.
fn uncovered(caller: &Credential, request: &CheckRequest) -> Option<Reply> {
    let name = &caller.name;
    let what = if !caller.covers_project(&request.callback.project) {
        format!("The credential `{name}` does not cover this ProjectId: its `projects` do not list it.")
    } else if request.ask.as_ref().is_ok_and(|ask| !caller.covers_tag(&ask.tag)) {
        format!(
            "The credential `{name}` does not cover this tag: none of its `tags` patterns fits the value."
        )
    } else {
        return None;
    };
    Some(Reply::problem(403, "Not allowed", &what))
}

/// A request whose policies its caller's credential allows.
///
/// # Errors
/// Each policy that it does not allow.
pub(super) fn allowed(ask: Ask, caller: Option<&Credential>) -> Result<Ask, Vec<FieldError>> {
    let forbidden = |policy: Policy| {
        let detail = caller?.forbids(policy)?;
        Some(FieldError { field: request::field_of(policy), detail })
    };
    let wrong: Vec<FieldError> = ask.policies.used().filter_map(forbidden).collect();
    if wrong.is_empty() { Ok(ask) } else { Err(wrong) }
}

/// A check request that was read, and whose caller may send it.
pub(super) struct Admitted {
    key: CheckKey,
    /// The request as a delivery.
    new: Candidate,
    /// Why it cannot be evaluated; empty if it can.
    wrong: Vec<FieldError>,
    limits: Limits,
    /// The number of its acceptance, drawn at random, by which it recognises its own write; zero without a cluster store.
    number: u64,
}

/// Reads a check request.
///
/// # Errors
/// Its refusal.
fn admitted<'b, B: AsRef<[u8]>>(
    config: &Config,
    now: Now,
    headers: &Headers<B>,
    body: impl Into<Body<'b>>,
) -> Result<Admitted, Reply> {
    let request = request::read(config, headers, body).map_err(|e| unanswerable_reply(&e))?;
    let entry = config.azure_devops.iter().find(|entry| entry.is_named(&request.callback.entry));
    let token_life = entry.map_or(Entry::TOKEN_LIFE, |entry| entry.token_life);
    let ends = ends_of(&request.token, now, token_life, config.checks.clock_skew).ok_or_else(|| {
        let error = FieldError { field: "AuthToken", detail: "has expired".into() };
        unanswerable_reply(&Unanswerable { not_listed: false, errors: vec![error] })
    })?;
    let caller = caller(config, headers, Allow::Checks)?;
    if let Some(refusal) = caller.and_then(|caller| uncovered(caller, &request)) {
        return Err(refusal);
    }
    let key = CheckKey::of(&request.callback);
    let limits = Limits {
        all: config.checks.max_pending,
        credential: caller.map_or(u32::MAX, |caller| caller.max_pending),
        project: config.checks.max_pending_per_project,
    };
    let CheckRequest { callback, token, ask } = request;
    let ask = ask.and_then(|ask| allowed(ask, caller));
    let (ask, wrong) = match ask {
        Ok(ask) => (Some(ask), Vec::new()),
        Err(wrong) => (None, wrong),
    };
    let known = ask.is_none().then(|| Known {
        outcome: Outcome::Rejected,
        reason: format!("This check cannot be evaluated: {}", in_one(&wrong)),
        code: Some(ReasonCode::of_rejected(wrong.first().map_or("", |wrong| wrong.field))),
        repeats_until: None,
    });
    let new = Candidate {
        callback,
        ask,
        known,
        tokens: Tokens::new(token, 1, ends),
        credential: caller.map(|caller| caller.name.clone()).unwrap_or_default(),
        observe: caller.is_some_and(|caller| caller.observe),
        accepted: now,
        earlier: Duration::ZERO,
        tries: 0,
        turn: now.mono,
        is_refused: false,
    };
    Ok(Admitted { key, new, wrong, limits, number: 0 })
}

/// Stores a check in the instance's ledger and answers it.
pub fn accept<'b, B: AsRef<[u8]>>(
    config: &Config,
    ledger: &Ledger,
    store: &mut dyn Store,
    now: Now,
    headers: &Headers<B>,
    body: impl Into<Body<'b>>,
) -> (Reply, Counted) {
    let admitted = match admitted(config, now, headers, body) {
        Ok(admitted) => admitted,
        Err(refusal) => return (refusal, Counted::Refused),
    };
    match stored(ledger, store, &admitted, now) {
        Ok(Stored::In(delivered)) => answer(&admitted, delivered),
        Ok(Stored::NoRoom(share)) => (full(share), Counted::Refused),
        Err(e) => {
            log::error!("check {} could not be stored: {e}", admitted.key.id());
            (unstored(&e), Counted::Refused)
        }
    }
}

/// The answer to a check when the ledger could not be opened.
pub fn unopened(status: StoreError) -> (Reply, Counted) {
    let error = LedgerError::Store(status);
    log::error!("a check could not be stored: {error}");
    (unstored(&error), Counted::Refused)
}

/// The outcome of a delivery.
enum Stored {
    /// The ledger's answer.
    In(Delivered),
    /// It is a new check, and this limit is reached.
    NoRoom(Share),
}

/// Stores a delivery in the ledger, together with what an older module has kept of the same check. Takes a place only
/// for a new check.
fn stored(
    ledger: &Ledger,
    store: &mut dyn Store,
    admitted: &Admitted,
    now: Now,
) -> Result<Stored, LedgerError> {
    let (prefix, key) = (ledger.prefix(), &admitted.key);
    let old = OldHome::find(store, prefix, key).map_err(LedgerError::Store)?;
    let place = admitted.new.place();
    let mut bucket = ledger.bucket(key);
    let mut grant = None;
    // As of the last try: whether a new record notes the place that was taken, and the place of a record that it
    // replaces.
    let (mut is_noted, mut left) = (false, None);
    let mut change = |found: Option<&Record>, grant: Option<Grant>| {
        let found = found.or(old.as_ref()).map(|record| &record.state);
        let before = found.and_then(State::held);
        let inherits = before == Some(&place);
        // A check that nobody waits for leaves its place to the one that replaces it.
        let has_place = inherits || grant == Some(Grant::Taken);
        let delivery = deliver(found, &admitted.new, now, has_place);
        let is_new =
            !inherits && matches!(delivery, Delivery::Put(_, delivered) if delivered.begins_evaluation());
        (is_noted, left) = (is_new, before.filter(|_| is_new).cloned());
        match delivery {
            Delivery::Kept(delivered) => Change::Keep(delivered),
            Delivery::Put(mut pending, delivered) => {
                pending.begin_evaluation(delivered, admitted.number);
                Change::Put(Box::new(Record { key: *key, state: State::Pending(pending) }), delivered)
            }
        }
    };
    let mut delivered = bucket.update(store, key, |found| change(found, None));
    if matches!(delivered, Ok(Delivered::Unplaced)) {
        let taken = places::take(store, ledger, &place, admitted.limits)?;
        grant = Some(taken);
        delivered = match taken {
            Grant::Taken => bucket.update_read(store, key, |found| change(found, grant)),
            // The same check may have come twice at once, and its first delivery taken the last place: then it is no
            // longer new.
            Grant::Full(_) => bucket.update(store, key, |found| change(found, grant)),
        };
    }
    if grant == Some(Grant::Taken) && !(is_noted && delivered.is_ok()) {
        places::give_back(store, ledger, &place);
    }
    if let Some(left) = left.filter(|_| delivered.is_ok()) {
        places::give_back(store, ledger, &left);
    }
    let delivered = match (delivered?, grant) {
        (Delivered::Unplaced, Some(Grant::Full(share))) => return Ok(Stored::NoRoom(share)),
        (kept @ (Delivered::Different | Delivered::Crowded), _) => return Ok(Stored::In(kept)),
        (delivered, _) => delivered,
    };
    tell_leader(ledger, store, key);
    if old.is_some() {
        OldHome::remove(store, prefix, key)?;
    }
    Ok(Stored::In(delivered))
}

/// Notes for the leader that there is a new check.
fn tell_leader(ledger: &Ledger, store: &mut dyn Store, key: &CheckKey) {
    if let Err(status) = ledger.note(store, key) {
        log::error!("shared data failed with status {}: the leader finds a check within a minute", status.0);
    }
}

pub(crate) fn in_one(errors: &[FieldError]) -> String {
    errors.iter().map(|e| format!("{}: {}.", e.field, e.detail)).collect::<Vec<_>>().join(" ")
}

pub(crate) fn header<'a, B: AsRef<[u8]>>(headers: &'a Headers<B>, name: &[u8]) -> Option<&'a [u8]> {
    headers.iter().find(|(n, _)| n.as_ref() == name).map(|(_, value)| value.as_ref())
}

fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|c| *c == b';').next().unwrap_or_default().trim_ascii();
    let behind = media_type.split_at_checked(b"application/".len());
    behind.is_some_and(|(kind, name)| {
        let suffix = name.get(name.len().saturating_sub(5)..).unwrap_or_default();
        kind.eq_ignore_ascii_case(b"application/")
            && (name.eq_ignore_ascii_case(b"json") || suffix.eq_ignore_ascii_case(b"+json"))
    })
}

#[cfg(test)]
mod tests;
