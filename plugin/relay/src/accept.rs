//! Accepting a check: from a request to a record in the ledger and an answer, in one turn of the stream.

use crate::auth::{Allow, Credential, Denied, authorize};
use crate::check::{CheckKey, Done, Falls, Log, Outcome, Pending, Phase, Record, State, Tokens};
use crate::config::Config;
use crate::ledger::{Bucket, Change, LedgerError, Store};
use crate::problem::{FieldError, Reply};
use crate::request::{self, Body, CheckRequest, MOST_BODY, Unanswerable};
use crate::secret::Secret;
use crate::shares::{self, Share};
use crate::time::{Mono, Now, Wall, in_words};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The header fields of a request, names in lower case, values as bytes off the wire; owned, or borrowed where only looked at.
pub type Headers<B = Vec<u8>> = [(B, B)];

/// What is known when a check request's headers have come.
#[derive(Debug)]
pub enum Admission {
    /// It can be answered now: send this.
    Reply(Reply),
    /// Everything is there, or it must come with the body: read that, then call [`accept`].
    AwaitBody(CallerId),
    /// There is no body: call [`accept`].
    Ready,
    /// Everything is there, and a body that this Envoy does not hand over: call [`accept`], which rejects it.
    Unread,
}

/// Which credential of its configuration a request came with, as a number; all without one are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerId(u32);

impl CallerId {
    /// The number of a credential of this configuration.
    pub(crate) fn of(config: &Config, caller: Option<&Credential>) -> CallerId {
        let is_own = |own: &Credential| caller.is_some_and(|caller| own.name == caller.name);
        let place = config.credentials.iter().position(is_own);
        CallerId(place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX))
    }

    /// The credential's name in this configuration; empty for those without one.
    pub fn name(self, config: &Config) -> &str {
        let place = usize::try_from(self.0).ok();
        place.and_then(|place| config.credentials.get(place)).map_or("", |credential| &credential.name)
    }
}

/// What a check that was accepted counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A new check.
    Accepted,
    /// A new check that cannot be evaluated.
    Rejected,
    /// A known one, delivered again.
    Repeated,
    /// Turned away.
    Refused,
}

/// Looks at the headers of a check request: who sends it, and whether its body is needed.
pub fn admit<B: AsRef<[u8]>>(config: &Config, headers: &Headers<B>, has_body: bool) -> Admission {
    admit_as(config, headers, has_body, request::is_complete)
}

/// The same; `is_complete` says whether the headers alone hold what the request must have.
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
    if length.is_some_and(|n| n > MOST_BODY) {
        return Admission::Reply(too_large());
    }
    let complete = is_complete(headers);
    match (config.read_body, complete) {
        // Whatever its type: what stands in it may be a policy.
        (true, true) => Admission::AwaitBody(sender),
        (false, true) => Admission::Unread,
        (true, false) if header(headers, b"content-type").is_some_and(is_json) => {
            Admission::AwaitBody(sender)
        }
        (true, false) => Admission::Reply(Reply::problem(
            415,
            "The body is not JSON",
            "The headers lack fields, and the body that may hold them is not `Content-Type: application/json`. Send everything in headers, or a JSON object.",
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

/// The answer to a body over [`MOST_BODY`].
pub fn too_large() -> Reply {
    Reply::problem(
        413,
        "The body is too large",
        &format!("A check's body may have at most {} KiB.", MOST_BODY >> 10),
    )
}

/// The refusal of a caller that may not use `route`; `None` if it may.
pub fn unauthorized<B: AsRef<[u8]>>(config: &Config, headers: &Headers<B>, route: Allow) -> Option<Reply> {
    match caller(config, headers, route) {
        // A path by an execution's id does not say its tag.
        Ok(Some(caller)) if route == Allow::Artifacts && !caller.tags.is_empty() => Some(Reply::problem(
            403,
            "Not allowed",
            &format!("The credential `{}` is bound to tags, and this path names none.", caller.name),
        )),
        Ok(_) => None,
        Err(refusal) => Some(refusal),
    }
}

/// Who calls; `None` where everybody may (`insecure_no_auth`).
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
            &format!("The credential `{name}` is known, and its `allow` does not list this route."),
        ),
    })
}

/// The refusal of a check that its caller's credential does not cover: nothing is stored, and nobody is called.
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

/// Stores a check and answers it. `prefix` is what the instance's keys begin with.
pub fn accept<'b, B: AsRef<[u8]>>(
    config: &Config,
    prefix: &str,
    store: &mut dyn Store,
    now: Now,
    headers: &Headers<B>,
    body: impl Into<Body<'b>>,
) -> (Reply, Counted) {
    let request = match request::read(config, headers, body) {
        Ok(request) => request,
        Err(unanswerable) => return (unanswerable_reply(&unanswerable), Counted::Refused),
    };
    let ends = match TokenEnds::of(&request.token, now) {
        Some(ends) => ends,
        None => {
            let error = FieldError { field: "AuthToken", detail: "has expired".into() };
            return (
                unanswerable_reply(&Unanswerable { not_listed: false, errors: vec![error] }),
                Counted::Refused,
            );
        }
    };
    let caller = match caller(config, headers, Allow::Checks) {
        Ok(caller) => caller,
        Err(refusal) => return (refusal, Counted::Refused),
    };
    if let Some(refusal) = caller.and_then(|caller| uncovered(caller, &request)) {
        return (refusal, Counted::Refused);
    }
    let sender = Sender {
        credential: caller.map_or("", |caller| &caller.name),
        observe: caller.is_some_and(|caller| caller.observe),
    };
    let no_room = shares::full(store, prefix).share_of(sender.credential, &request.callback.project);
    let key = CheckKey::of(&request.callback);
    let mut bucket = Bucket::of(prefix, &key);
    let stored = bucket.update(store, &key, |found| deliver(found, &request, &sender, &ends, now, no_room));
    let id = key.id();
    match stored {
        Ok(delivered) => answer(&id, &request, delivered),
        Err(e) => {
            log::error!("check {id} could not be stored: {e}");
            (unstored(&e), Counted::Refused)
        }
    }
}

/// What a delivery turned out to be.
enum Delivered {
    New,
    Again,
    Reported(Done),
    Different,
    NoRoom(Share),
}

/// Who sends a check.
struct Sender<'a> {
    credential: &'a str,
    observe: bool,
}

/// The step of the ledger for one delivery.
fn deliver(
    found: Option<&Record>,
    request: &CheckRequest,
    sender: &Sender<'_>,
    ends: &TokenEnds,
    now: Now,
    no_room: Option<Share>,
) -> Change<Delivered> {
    let key = CheckKey::of(&request.callback);
    let is_token_of = |done: &Done| done.token == Tokens::new(request.token.clone()).print();
    match found.map(|record| &record.state) {
        // Nobody waits for what is there: the same delivery again hears so, another one is a new check.
        Some(State::Pending(pending)) if pending.is_over() && is_token_of(&pending.done(false, now)) => {
            Change::Keep(Delivered::Reported(pending.done(false, now)))
        }
        Some(State::Pending(pending))
            if !pending.is_over()
                && (pending.callback != request.callback || pending.sent != request.sent) =>
        {
            Change::Keep(Delivered::Different)
        }
        Some(State::Pending(pending)) if !pending.is_over() => {
            let mut pending = pending.clone();
            if !pending.tokens.add(request.token.clone()) {
                return Change::Keep(Delivered::Again);
            }
            pending.delivery = pending.delivery.saturating_add(1);
            // One that is to be enforced cannot be loosened by another credential.
            pending.observe &= sender.observe;
            (pending.token_end, pending.decide_by) = (ends.token, ends.decide_by);
            Change::Put(Box::new(Record { key, state: State::Pending(pending) }), Delivered::Again)
        }
        Some(State::Done(done)) if is_token_of(done) => Change::Keep(Delivered::Reported(done.clone())),
        other => match no_room {
            Some(share) => Change::Keep(Delivered::NoRoom(share)),
            None => {
                let mut pending = Box::new(first_delivery(request, sender, ends, now));
                pending.before = match other {
                    Some(State::Done(done)) => done.reported(),
                    _ => None,
                };
                Change::Put(Box::new(Record { key, state: State::Pending(pending) }), Delivered::New)
            }
        },
    }
}

fn first_delivery(request: &CheckRequest, sender: &Sender<'_>, ends: &TokenEnds, now: Now) -> Pending {
    let mut pending = Pending {
        callback: request.callback.clone(),
        ask: request.ask.as_ref().ok().cloned(),
        sent: request.sent,
        tokens: Tokens::new(request.token.clone()),
        delivery: 1,
        accepted: now,
        token_end: ends.token,
        decide_by: ends.decide_by,
        log: Log::Unopened,
        claim: None,
        taken: false,
        falls: Falls::default(),
        credential: sender.credential.into(),
        observe: sender.observe,
        before: None,
        told: None,
        phase: Phase::Accepted,
    };
    if let Err(wrong) = &request.ask {
        pending.decide(
            Outcome::Rejected,
            format!("This check cannot be evaluated: {}", in_one(wrong)),
            now.wall,
        );
    }
    pending
}

/// What a check that was taken is answered.
#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    message: &'a str,
    status: &'static str,
}

fn answer(id: &str, request: &CheckRequest, delivered: Delivered) -> (Reply, Counted) {
    let reply = |status, message: String| Reply::json(200, &Answer { id, message: &message, status });
    match (delivered, &request.ask) {
        (Delivered::Different, _) => {
            let detail = "A check with the same PlanId, JobId and TaskInstanceId is pending with another tag, policy or place. A pending check cannot be changed; cancel the run and start it anew.";
            (Reply::problem(409, "The same check is pending with other values", detail), Counted::Refused)
        }
        (Delivered::NoRoom(share), _) => (full(share), Counted::Refused),
        (Delivered::Reported(Done { outcome: Some(outcome), reported: true, .. }), _) => {
            let message = format!("Testrelay has already reported `{outcome}` for this check.");
            (reply("reported", message), Counted::Repeated)
        }
        (Delivered::Reported(_), _) => {
            let message = "This check is over: Azure DevOps does not wait for it any more.";
            (reply("over", message.into()), Counted::Repeated)
        }
        (Delivered::New, Err(wrong)) => {
            let message =
                format!("This check cannot be evaluated and will be reported as failed: {}", in_one(wrong));
            log::warn!("check {id} rejected: {}", in_one(wrong));
            (reply("rejected", message), Counted::Rejected)
        }
        (Delivered::Again, Err(_)) => (
            reply("rejected", "This check cannot be evaluated and will be reported as failed.".into()),
            Counted::Repeated,
        ),
        (Delivered::New, Ok(ask)) => {
            log::info!("check {id} accepted: tag {}", ask.tag);
            let message = format!(
                "Testrelay waits until every Testkube execution tagged {} has ended (expected: {}) and then reports back: within {}, or after {} if they do not appear.",
                ask.tag,
                ask.expect,
                in_words(ask.timeout),
                in_words(ask.appear_timeout),
            );
            (reply("accepted", message), Counted::Accepted)
        }
        (Delivered::Again, Ok(ask)) => {
            let message = format!("Testrelay is already waiting for the executions tagged {}.", ask.tag);
            (reply("accepted", message), Counted::Repeated)
        }
    }
}

fn unanswerable_reply(why: &Unanswerable) -> Reply {
    if why.not_listed {
        return Reply::problem_with(403, "PlanUrl is not configured here", &in_one(&why.errors), &why.errors);
    }
    Reply::problem_with(
        400,
        "This check could not be answered",
        &format!("Nothing was stored, and nothing will be reported. {}", in_one(&why.errors)),
        &why.errors,
    )
}

fn full(share: Share) -> Reply {
    let limit = match share {
        Share::All => "`checks.max_pending`",
        Share::Credential => "the credential's `max_pending`",
        Share::Project => "`checks.max_pending_per_project`",
    };
    Reply::problem(
        503,
        "Too many checks are pending",
        &format!(
            "This check was not taken and will not be reported: Azure DevOps does not send it again. Re-run the stage later, or raise {limit}."
        ),
    )
}

fn unstored(error: &LedgerError) -> Reply {
    match error {
        LedgerError::Full => full(Share::All),
        LedgerError::TooLarge => Reply::problem(
            400,
            "This check could not be answered",
            "Its fields are too large together. Nothing was stored, and nothing will be reported.",
        ),
        LedgerError::Busy | LedgerError::Store(_) => Reply::problem(
            503,
            "The check could not be stored",
            "This check was not taken and will not be reported: Azure DevOps does not send it again. Re-run the stage.",
        ),
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

/// When a token ends, and by when the decision must be made so that it is delivered before.
#[derive(Debug, PartialEq, Eq)]
struct TokenEnds {
    token: Mono,
    decide_by: Mono,
}

impl TokenEnds {
    /// A check's token is valid for 48 hours (Microsoft Learn, "Invoke Azure Function / REST API checks"), unless it is a
    /// JWT that says otherwise. Half an hour is kept for the callback, or a quarter of a short life. `None`: it has ended.
    fn of(token: &Secret, now: Now) -> Option<TokenEnds> {
        const LIFETIME: Duration = Duration::from_secs(48 * 3600);
        const RESERVE: Duration = Duration::from_secs(30 * 60);
        let left = match jwt_expiry(token.reveal()) {
            None => LIFETIME,
            Some(expiry) => {
                let left = u64::try_from(expiry.0.saturating_sub(now.wall.0)).ok().filter(|ms| *ms > 0)?;
                Duration::from_millis(left)
            }
        };
        let reserve = RESERVE.min(left / 4);
        Some(TokenEnds { token: now.mono.plus(left), decide_by: now.mono.plus(left.saturating_sub(reserve)) })
    }
}

/// The `exp` claim of a JSON Web Token (RFC 7519); `None` where the token is none.
fn jwt_expiry(token: &str) -> Option<Wall> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_header, claims, _signature, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let claims: Claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    let plausible = claims.exp.is_finite() && claims.exp > 0.0 && claims.exp < 1e12;
    plausible.then_some(Wall((claims.exp * 1_000.0) as i64))
}

#[cfg(test)]
mod tests;
