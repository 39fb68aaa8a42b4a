//! `POST /testrelay/v1/checks`: header fields and body to an answer and a record.
//!
//! An input is a line with the configuration's options ([`config`]), header lines, an empty line and the body, if any. Every
//! token gets a secret in front; `{credential}` and `{basic}` stand for a caller's right credentials.

use crate::answers::line;
use crate::leader::{Leader, is_to_testkube};
use crate::logs;
use crate::setting::{
    CREDENTIAL, NOW, SECRETS, TOKEN, assert_key_names_are_clean, config, holds_a_secret, ledger, record_of,
};
use crate::store::Memory;
use crate::texts::{add_texts, assert_no_secret, assert_one_line, assert_repeats_little, assert_short};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::time::Duration;
use testrelay::check::{CheckKey, Outcome, Phase, Record, State};
use testrelay::config::Config;
use testrelay::surface::accept::{Admission, Counted, accept, admit};
use testrelay::surface::problem::Reply;
use testrelay::surface::request::{self, Body, CheckRequest};

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs one input.
pub fn run(input: &[u8]) {
    if holds_a_secret(input) {
        return;
    }
    let (_, lines) = logs::during(|| check(input));
    for line in lines {
        assert_no_secret("a log line", &line, &SECRETS);
        assert_one_line("a log line", &line);
        assert_short("a log line", &line);
    }
}

fn check(input: &[u8]) {
    let (options, request) = line(input);
    let options = String::from_utf8_lossy(options);
    let config = config(&options);
    let (headers, body) = read(request, TOKEN);
    let sent = Sent::of(&headers, body.as_deref());
    let body = match admit(&config, &headers, body.is_some()) {
        Admission::Reply(reply) => return assert_is_clean(&reply, &sent),
        Admission::Ready => Body::None,
        Admission::Unread => Body::Unread,
        Admission::AwaitBody(_) => body.as_deref().into(),
    };
    assert_is_known(&config, &headers);
    let mut store = Memory::default();
    let (reply, counted) = accept(&config, &ledger(), &mut store, NOW, &headers, body);
    assert_is_clean(&reply, &sent);
    assert_key_names_are_clean(&store);
    let Ok(request) = request::read(&config, &headers, body) else {
        assert_eq!((counted, reply.status / 100, &store), (Counted::Refused, 4, &Memory::default()));
        return;
    };
    assert_no_secret("Debug", &format!("{request:?}"), &SECRETS);
    if counted == Counted::Refused {
        // An expired token, or a record that is too large.
        assert_eq!((reply.status, &store), (400, &Memory::default()));
        return;
    }
    assert_eq!(reply.status, 200);
    assert_is_stored(&request, counted, &mut store);
    let again = input_with_other_token(input);
    assert_later_deliveries(&config, &headers, body, &again, &store);
    let mut leader = Leader::new(config, store);
    leader.tick(Duration::ZERO);
    let (_, call) = leader.next_call().expect("a new check has something to say to Azure DevOps");
    assert!(!is_to_testkube(&call), "Testkube is asked before Azure DevOps took the token");
}

/// The header fields, names in lower case as Envoy hands them over, and the body. `token` is put in front of every value
/// that is a token.
fn read(request: &[u8], token: &str) -> (Headers, Option<Vec<u8>>) {
    let basic = STANDARD.encode(format!("u:{CREDENTIAL}"));
    let mut headers = Headers::new();
    let mut rest = request;
    while !rest.is_empty() {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
        let name = header[..colon].to_ascii_lowercase();
        let value = header.get(colon + 1..).unwrap_or_default().trim_ascii();
        let value = match name.as_slice() {
            b"authtoken" => [token.as_bytes(), value].concat(),
            b"authorization" => replaced(&replaced(value, "{credential}", CREDENTIAL), "{basic}", &basic),
            _ => value.to_vec(),
        };
        headers.push((name, value));
    }
    let body = (!rest.is_empty()).then(|| with_token(rest, token));
    (headers, body)
}

/// A body whose members `authtoken`, in any case, begin with `token`. No parser is used, so that the token is also in
/// bodies that no parser takes.
fn with_token(body: &[u8], token: &str) -> Vec<u8> {
    const MEMBER: &[u8] = b"\"authtoken\"";
    let mut out = Vec::with_capacity(body.len() + token.len());
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        if rest.get(..MEMBER.len()).is_some_and(|name| name.eq_ignore_ascii_case(MEMBER)) {
            let value = &rest[MEMBER.len()..];
            let skipped = value.iter().take_while(|byte| b" \t\r\n:".contains(byte)).count();
            if value.get(skipped) == Some(&b'"') {
                out.extend_from_slice(&rest[..MEMBER.len() + skipped + 1]);
                out.extend_from_slice(token.as_bytes());
                rest = &value[skipped + 1..];
                continue;
            }
        }
        out.push(*first);
        rest = after;
    }
    out
}

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text.replace(from, to).into_bytes(),
        Err(_) => text.to_vec(),
    }
}

/// What a request holds, as texts that an answer could repeat.
struct Sent(Vec<String>);

impl Sent {
    fn of(headers: &Headers, body: Option<&[u8]>) -> Sent {
        let mut texts: Vec<String> =
            headers.iter().flat_map(|(name, value)| [name, value]).map(|b| lossy(b)).collect();
        if let Some(body) = body {
            texts.push(lossy(body));
            if let Ok(body) = serde_json::from_slice::<Value>(body) {
                add_texts(&body, &mut texts);
            }
        }
        Sent(texts)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Panics if an answer shows a secret, is not fit to be printed, or, where it says that something is wrong, repeats
/// more than a little of what was sent.
fn assert_is_clean(reply: &Reply, sent: &Sent) {
    assert!([200, 400, 401, 403, 409, 413, 415, 422].contains(&reply.status), "{}", reply.status);
    assert_no_secret("an answer", &reply.body, &SECRETS);
    assert_short("an answer", &reply.body);
    for (name, value) in &reply.headers {
        assert_no_secret("a header of an answer", value, &SECRETS);
        assert_one_line(name, value);
    }
    let body: Value = serde_json::from_str(&reply.body).expect("an answer is JSON");
    let mut texts = Vec::new();
    add_texts(&body, &mut texts);
    for text in texts {
        assert_one_line("an answer", &text);
        if reply.status != 200 || body["status"] == "rejected" {
            sent.0.iter().for_each(|sent| assert_repeats_little("a problem text", &text, sent));
        }
    }
}

/// Panics if a caller came in without the one right credential.
fn assert_is_known(config: &Config, headers: &Headers) {
    if config.credentials.is_empty() {
        return;
    }
    let given: Vec<String> =
        headers.iter().filter(|(name, _)| name == b"authorization").map(|(_, value)| lossy(value)).collect();
    let [given] = given.as_slice() else { panic!("{} credentials are one too many or too few", given.len()) };
    let basic = STANDARD.encode(format!("u:{CREDENTIAL}"));
    assert!(given.ends_with(CREDENTIAL) || given.ends_with(&basic), "a stranger came in");
}

fn assert_is_stored(request: &CheckRequest, counted: Counted, store: &mut Memory) {
    let key = CheckKey::of(&request.callback);
    let record = record_of(store, &key).expect("a check that was answered 200 is in the ledger");
    let json = serde_json::to_string(&record.state).expect("a state is JSON");
    let state: State = serde_json::from_str(&json).expect("and comes back from it");
    assert_eq!(Record { key, state }, record);
    let State::Pending(pending) = record.state else { panic!("a new check is pending") };
    assert_eq!((&pending.callback, &pending.phase), (&request.callback, &Phase::Accepted));
    assert_eq!(pending.tokens.current(), &request.token);
    assert!(pending.decide_by <= pending.token_end);
    match (&request.ask, counted, &pending.known) {
        (Ok(ask), Counted::Accepted, None) => {
            assert_eq!(pending.ask.as_ref(), Some(ask));
            assert!(
                !ask.tag.value.is_empty() && !ask.tag.to_string().replacen('=', "", 1).contains(['=', ','])
            );
            let longest = Duration::from_secs(48 * 3600);
            assert!(ask.settle < longest && ask.timeout < longest && ask.appear_timeout < longest);
        }
        (Err(wrong), Counted::Rejected, Some(known)) => {
            assert!(!wrong.is_empty() && pending.ask.is_none() && known.outcome == Outcome::Rejected);
            assert_no_secret("a reason", &known.reason, &SECRETS);
        }
        (_, counted, known) => panic!("{counted:?} as {known:?}"),
    }
}

/// The same request with another token.
fn input_with_other_token(input: &[u8]) -> (Headers, Option<Vec<u8>>) {
    read(line(input).1, &format!("{TOKEN}-2"))
}

/// Panics if the same delivery again is not the same check, one with another token is not kept beside it, or another policy for the same token not refused.
fn assert_later_deliveries(
    config: &Config,
    headers: &Headers,
    body: Body<'_>,
    (other_headers, other_body): &(Headers, Option<Vec<u8>>),
    store: &Memory,
) {
    let mut later = store.clone();
    let mut deliver = |headers: &Headers, body: Body<'_>| {
        let before = later.clone();
        let (reply, counted) = accept(config, &ledger(), &mut later, NOW, headers, body);
        (reply.status, counted == Counted::Refused, later == before)
    };
    assert_eq!(deliver(headers, body), (200, false, false), "the same once more");
    let mut changed = headers.clone();
    changed.push((b"testrelay-settle".to_vec(), b"3599s".to_vec()));
    if !headers.iter().any(|(name, _)| name == b"testrelay-settle") && body == Body::None {
        let is_rejected = request::read(config, headers, body).is_ok_and(|request| request.ask.is_err());
        let wanted = if is_rejected { (200, false, false) } else { (409, true, true) };
        assert_eq!(deliver(&changed, body), wanted, "with another policy and the same token");
    }
    let other_body = match body {
        Body::Read(_) => other_body.as_deref().into(),
        none => none,
    };
    if request::read(config, other_headers, other_body).is_ok() {
        assert_eq!(deliver(other_headers, other_body), (200, false, false), "with another token");
    }
}
