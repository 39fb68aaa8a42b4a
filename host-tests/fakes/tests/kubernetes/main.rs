//! The fake API server beside a real one: every recorded request is put to it, in the recorded order and from the recorded
//! state, and its answer is the recorded one.

mod compare;
mod recording;

use compare::Pairs;
use fakes::kubernetes::{Fault, Quota, Route, Token};
use fakes::{Kubernetes, Reply, Request, Response, Service, Span};
use recording::{ADMINISTRATOR, Exchange, TOKEN, exchanges, secret};
use serde_json::{Value, json};

/// The first recorded second.
const NOW: i64 = 1_795_849_543_000;
const SECRETS: &str = "/api/v1/namespaces/testrelay/secrets";

/// What the fake says in other words: it reads JSON with another library. Status and reason are compared.
const OTHER_WORDS: [&str; 12] = [
    "secret-create-data-number",
    "secret-create-broken-json",
    "secret-create-empty-body",
    "secret-label-number",
    "secret-delete-broken-body",
    "list-continue-bogus",
    "lease-microtime-0",
    "lease-microtime-1",
    "lease-microtime-6",
    "lease-microtime-8",
    "etcd-down-readyz",
    "list-label-bad",
];

/// What the fake does otherwise, and a client must bear both: a GET is always cut after a minute, and `/readyz` knows in time that
/// etcd is away.
const OTHERWISE: [&str; 2] = ["etcd-paused-get", "etcd-paused-readyz"];

/// One run of the recording: a server from its start on.
struct Session {
    kubernetes: Kubernetes,
    now: i64,
    pairs: Pairs,
}

impl Session {
    fn new() -> Session {
        let mut kubernetes = Kubernetes::new("testrelay", TOKEN);
        kubernetes.token(ADMINISTRATOR, Token::administrator());
        kubernetes.namespace("default");
        kubernetes.end_namespace("ending");
        let nobody = Token::of("testrelay", "gone");
        kubernetes.token("TOKEN-OF-ANOTHER-ACCOUNT", nobody.clone());
        kubernetes.token("TOKEN-OF-THE-FUTURE", nobody.clone().between(NOW + 3_600_000, NOW + 7_200_000));
        kubernetes.token("EXPIRED-TOKEN", nobody.between(NOW - 720_000, NOW - 120_000));
        Session { kubernetes, now: NOW, pairs: Pairs::default() }
    }

    /// What somebody else did between two exchanges; the object that it left.
    fn act(&mut self, method: &str, target: &str, body: Option<&Value>) -> Value {
        let mut request = Request::new(method, target);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let reply = self.kubernetes.act(self.now, &request);
        let response = reply.response().unwrap();
        assert!(response.status < 300, "{method} {target}: {response:?}");
        serde_json::from_slice(&response.body).unwrap()
    }

    fn make(&mut self, name: &str) -> Value {
        self.act("POST", SECRETS, Some(&secret(name)))
    }

    fn knows(&mut self, recorded: &str, ours: &Value) {
        self.pairs.pair(recorded, ours.as_str().unwrap()).unwrap();
    }

    /// A version that does not exist yet.
    fn knows_future(&mut self, recorded: &str) {
        let last = self.act("GET", &format!("{SECRETS}?limit=1"), None);
        let version: u64 = last["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        self.pairs.pair(recorded, &(version + 1000).to_string()).unwrap();
    }

    fn ask(&mut self, exchange: &Exchange) -> Reply {
        let request = exchange.request(|text| self.pairs.translate(text));
        self.now += 10;
        self.kubernetes.handle(self.now, &request)
    }

    /// An error says what differs.
    fn compare(&mut self, exchange: &Exchange, reply: Reply) -> Result<(), String> {
        let (millis, reply) = match reply {
            Reply::After { millis, reply } => (millis, *reply),
            reply => (0, reply),
        };
        let Some(status) = exchange.status() else {
            return (reply == Reply::Reset)
                .then_some(())
                .ok_or_else(|| format!("it was answered: {reply:?}"));
        };
        let Reply::Answer(answer) = reply else { return Err(format!("not answered: {reply:?}")) };
        if u64::from(answer.status) != status {
            return Err(format!("{} instead of {status}: {}", answer.status, text(&answer)));
        }
        if exchange.millis().abs_diff(millis) > 25 {
            return Err(format!("after {millis} ms instead of {}", exchange.millis()));
        }
        for (name, usual) in [
            ("Content-Type", Some("application/json")),
            ("Retry-After", None),
            ("Connection", None),
            ("Warning", None),
        ] {
            let (given, recorded) = (answer.value(&name.to_lowercase()), exchange.header(name).or(usual));
            if given.as_deref() != recorded {
                return Err(format!("{name}: {given:?} instead of {recorded:?}"));
            }
        }
        self.compare_body(exchange, &answer)
    }

    fn compare_body(&mut self, exchange: &Exchange, answer: &Response) -> Result<(), String> {
        let mut recorded = exchange.body();
        if recorded == json!("(as sent)") {
            return Ok(());
        }
        let mut ours = serde_json::from_slice(&answer.body).unwrap_or_else(|_| text(answer).into());
        if OTHER_WORDS.contains(&exchange.id.as_str()) {
            for body in [&mut recorded, &mut ours] {
                match body.as_object_mut() {
                    Some(body) => drop(body.remove("message")),
                    None => *body = Value::Null,
                }
            }
        }
        self.pairs.compare("", &recorded, &ours)
    }
}

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Exchanges from whose first one on the recording had a fresh server.
const FRESH: [&str; 7] = [
    "secret-create",
    "list-empty",
    "lease-create",
    "auth-garbage",
    "quota-no-status",
    "etcd-paused-get-rv0",
    "list-continue-expired",
];

/// Brings about what had happened before an exchange.
fn before(session: &mut Session, id: &str) {
    match id {
        "secret-put-future" => session.knows_future("26055"),
        "secret-delete-rv-mismatch" => {
            let made = session.make("check-ua");
            session.knows("25059", &made["metadata"]["resourceVersion"]);
            session.knows("282a907e-d374-43c9-ac54-adce75f8d9fa", &made["metadata"]["uid"]);
        }
        "secret-delete-unknown-field" => drop(session.make("check-ua3")),
        "secret-delete-finalizer" => {
            let mut made = secret("check-fin");
            made["metadata"]["finalizers"] = json!(["testrelay.dev/x"]);
            session.act("POST", SECRETS, Some(&made));
        }
        "lost-answer-1" => {
            session.kubernetes.fault(Route::Writes, Span::Next(1), Fault::ResetAfter);
            let post = Request::new("POST", SECRETS).header("Authorization", &format!("Bearer {TOKEN}"));
            let reply = session.kubernetes.handle(session.now, &post.body(secret("check-lost").to_string()));
            assert_eq!(reply, Reply::Reset);
        }
        "list" => make_list(session),
        "list-continue" => {
            session.act("DELETE", &format!("{SECRETS}/check-5"), None);
            session.make("check-4b");
        }
        "list-rv-future" => {
            let mut other = session.act("GET", &format!("{SECRETS}/other"), None);
            other["metadata"]["labels"] = json!({"a": "b"});
            let written = session.act("PUT", &format!("{SECRETS}/other"), Some(&other));
            session.knows("761", &written["metadata"]["resourceVersion"]);
            session.knows_future("1760");
        }
        _ => before_weather(session, id),
    }
}

/// Of accounts, quotas, policies and etcd.
fn before_weather(session: &mut Session, id: &str) {
    let Session { kubernetes, .. } = session;
    let next = Span::Next(1);
    match id {
        "auth-account-deleted" => kubernetes.remove_token("TOKEN-OF-A-DELETED-ACCOUNT"),
        "auth-none-no-anonymous" => kubernetes.refuse_anonymous(),
        "quota-no-status" => kubernetes.quota("testrelay", Quota::secrets("q", 3)),
        "quota-exceeded" => {
            session.make("q-1");
            session.make("q-1b");
            session.kubernetes.count("testrelay");
        }
        "quota-after-delete" => drop(session.act("DELETE", &format!("{SECRETS}/q-0"), None)),
        "policy-denied" => kubernetes.fault(Route::Writes, next, Fault::RefusedByPolicy),
        "webhook-down" => kubernetes.fault(Route::Writes, next, Fault::WebhookDown),
        "apf-429-get" | "apf-429-post" | "apf-429-lease" => {
            kubernetes.fault(Route::All, next, Fault::Throttled { retry_after: 2 });
        }
        "etcd-paused-get-rv0" => (0..6).for_each(|n| drop(session.make(&format!("e-{n}")))),
        "etcd-paused-3s-post" => kubernetes.fault(Route::Writes, next, Fault::Slow { millis: 3000 }),
        "etcd-paused-timeout-then-retry" => {
            kubernetes.fault(Route::Writes, next, Fault::Slow { millis: 4000 });
        }
        "list-continue-expired" => make_pages(session),
        _ => {}
    }
    let is_slow = id.starts_with("etcd-paused-3s") || id.starts_with("etcd-paused-timeout");
    if (id.starts_with("etcd-paused") || id.starts_with("etcd-down")) && !is_slow {
        session.kubernetes.fault(Route::All, next, Fault::EtcdAway);
    }
}

/// Eight Secrets, the last of another type and without labels.
fn make_list(session: &mut Session) {
    for n in 0..7 {
        let mut made = secret(&format!("check-{n}"));
        let owner = if n % 3 == 0 { "a" } else { "b" };
        made["metadata"]["labels"]["testrelay.dev/owner"] = owner.into();
        session.act("POST", SECRETS, Some(&made));
    }
    session.act("POST", SECRETS, Some(&json!({"metadata": {"name": "other"}, "type": "Opaque"})));
}

/// A list that has begun, and whose state is forgotten.
fn make_pages(session: &mut Session) {
    for name in (1..=4).map(|n| format!("c-{n}")).chain((0..21).map(|n| format!("d-{n:02}"))) {
        session.make(&name);
    }
    let page = session.act("GET", &format!("{SECRETS}?limit=1"), None);
    let metadata = &page["metadata"];
    session.knows("985", &metadata["resourceVersion"]);
    session.knows(
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTg1LCJzdGFydCI6Ii9jLTFcdTAwMDAifQ",
        &metadata["continue"],
    );
    session.make("d-99");
    session.act("DELETE", &format!("{SECRETS}/d-99"), None);
    session.kubernetes.compact();
}

#[test]
fn the_fake_answers_as_the_real_server_did() {
    let mut session = Session::new();
    let mut wrong = Vec::new();
    let exchanges = exchanges();
    for exchange in &exchanges {
        if FRESH.contains(&exchange.id.as_str()) {
            session = Session::new();
        }
        before(&mut session, &exchange.id);
        let reply = session.ask(exchange);
        let compared = session.compare(exchange, reply);
        match compared {
            Err(_) if OTHERWISE.contains(&exchange.id.as_str()) => {}
            Ok(()) if OTHERWISE.contains(&exchange.id.as_str()) => {
                wrong.push(format!("{} is as recorded", exchange.id));
            }
            Err(why) => wrong.push(format!("{}: {why}", exchange.id)),
            Ok(()) => {}
        }
    }
    assert!(wrong.is_empty(), "of {}:\n{}", exchanges.len(), wrong.join("\n"));
    assert_eq!(exchanges.len(), 175);
}
