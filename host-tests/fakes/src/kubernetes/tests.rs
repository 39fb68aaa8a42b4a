//! Faults, and what time does. What a server without faults answers is compared with a real one's answers in
//! `tests/kubernetes`.

use super::*;

const NOW: i64 = 1_800_000_000_000;
const SECRETS: &str = "/api/v1/namespaces/testrelay/secrets";

fn server() -> Kubernetes {
    Kubernetes::new("testrelay", "T")
}

fn request(method: &str, target: &str) -> Request {
    Request::new(method, target).header("authorization", "Bearer T")
}

fn post(name: &str) -> Request {
    request("POST", SECRETS)
        .body(json!({"metadata": {"name": name}, "type": "testrelay.dev/check"}).to_string())
}

fn status(kubernetes: &mut Kubernetes, now: i64, request: &Request) -> Option<u16> {
    kubernetes.handle(now, request).status()
}

fn names(kubernetes: &mut Kubernetes, now: i64) -> Vec<String> {
    let objects = kubernetes.objects(now, Resource::Secrets, "testrelay");
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.response().unwrap().body).unwrap()
}

/// The delay, and what follows it.
fn late(reply: Reply) -> (u64, Reply) {
    match reply {
        Reply::After { millis, reply } => (millis, *reply),
        reply => (0, reply),
    }
}

#[test]
fn a_request_whose_answer_is_lost_is_done() {
    let mut kubernetes = server();
    kubernetes.fault(Route::Only(Resource::Secrets, Verb::Create), Span::Next(1), Fault::ResetAfter);
    assert_eq!(kubernetes.handle(NOW, &post("a")), Reply::Reset);
    assert_eq!(status(&mut kubernetes, NOW, &post("a")), Some(409));
}

#[test]
fn a_request_that_is_done_later_meets_what_is_there_then() {
    let mut kubernetes = server();
    for name in ["a", "b"] {
        kubernetes.fault(Route::Writes, Span::Next(1), Fault::DoneLater { millis: 5_000 });
        assert_eq!(kubernetes.handle(NOW, &post(name)), Reply::Reset);
    }
    assert_eq!(status(&mut kubernetes, NOW + 4_999, &request("GET", &format!("{SECRETS}/a"))), Some(404));
    assert_eq!(status(&mut kubernetes, NOW + 4_999, &post("b")), Some(201));
    let written = kubernetes.objects(NOW + 4_999, Resource::Secrets, "testrelay");
    assert_eq!(names(&mut kubernetes, NOW + 5_000), ["a", "b"]);
    assert_eq!(kubernetes.objects(NOW + 5_000, Resource::Secrets, "testrelay")[1], written[0]);
}

#[test]
fn a_late_answer_is_cut_short_by_the_requests_own_time_and_the_request_is_done_all_the_same() {
    let mut kubernetes = server();
    kubernetes.fault(Route::Writes, Span::UntilCleared, Fault::Late { millis: 3_000 });
    let (millis, reply) = late(kubernetes.handle(NOW, &post("a")));
    assert_eq!((millis, reply.status()), (3_000, Some(201)));
    let mut short = post("b");
    short.target.push_str("?timeout=2s");
    let (millis, reply) = late(kubernetes.handle(NOW, &short));
    assert_eq!((millis, reply.status()), (2_000, Some(504)));
    assert_eq!(names(&mut kubernetes, NOW), ["a", "b"]);
}

#[test]
fn a_slow_etcd_does_nothing_for_a_request_whose_time_is_over() {
    let mut kubernetes = server();
    kubernetes.fault(Route::All, Span::UntilCleared, Fault::Slow { millis: 5_000 });
    let timed = |request: Request, limit: &str| {
        let target = format!("{}?timeout={limit}", request.target);
        Request { target, ..request }
    };
    let (millis, reply) = late(kubernetes.handle(NOW, &timed(post("a"), "4s")));
    assert_eq!((millis, reply.status()), (4_000, Some(504)));
    assert_eq!(names(&mut kubernetes, NOW), [""; 0]);
    let (millis, reply) = late(kubernetes.handle(NOW, &timed(post("a"), "6s")));
    assert_eq!((millis, reply.status()), (5_000, Some(201)));
    let list = request("GET", SECRETS);
    assert_eq!(late(kubernetes.handle(NOW, &timed(list.clone(), "4s"))), (4_000, Reply::Reset));
    assert_eq!(late(kubernetes.handle(NOW, &list)).0, 5_000);
    let wrong = Request::new("GET", SECRETS).header("authorization", "Bearer U");
    assert_eq!(status(&mut kubernetes, NOW, &wrong), Some(401), "etcd is not asked");
}

#[test]
fn a_write_that_was_told_of_its_end_may_be_done_when_etcd_goes_on() {
    let mut kubernetes = server();
    kubernetes.fault(Route::Writes, Span::UntilCleared, Fault::Stalled { millis: 5_000 });
    let mut short = post("a");
    short.target.push_str("?timeout=2s");
    let (millis, reply) = late(kubernetes.handle(NOW, &short));
    assert_eq!((millis, reply.status()), (2_000, Some(504)));
    assert_eq!(names(&mut kubernetes, NOW + 4_999), [""; 0]);
    assert_eq!(names(&mut kubernetes, NOW + 5_000), ["a"]);
    let (millis, reply) = late(kubernetes.handle(NOW + 5_000, &post("a")));
    assert_eq!((millis, reply.status()), (5_000, Some(409)));
}

#[test]
fn without_etcd_writes_are_refused_after_34_s_and_reads_are_cut_after_60() {
    let mut kubernetes = server();
    kubernetes.handle(NOW, &post("a"));
    kubernetes.fault(Route::All, Span::UntilCleared, Fault::EtcdAway);
    let (millis, reply) = late(kubernetes.handle(NOW, &post("b")));
    assert_eq!((millis, reply.status()), (34_000, Some(504)));
    assert_eq!(late(kubernetes.handle(NOW, &request("GET", SECRETS))), (60_000, Reply::Reset));
    let cached = kubernetes.handle(NOW, &request("GET", &format!("{SECRETS}?resourceVersion=0")));
    assert_eq!(body(&cached)["items"].as_array().map(Vec::len), Some(1));
    let (millis, reply) = late(kubernetes.handle(NOW, &Request::new("GET", "/readyz")));
    assert_eq!((millis, reply.status()), (4_000, Some(500)));
}

#[test]
fn an_answer_that_is_cut_has_its_headers() {
    let mut kubernetes = server();
    kubernetes.fault(Route::Writes, Span::Next(1), Fault::Cut { bytes: 0 });
    let reply = kubernetes.handle(NOW, &post("a"));
    assert!(matches!(&reply, Reply::Truncated { response, bytes: 0 } if response.status == 201), "{reply:?}");
    assert_eq!(names(&mut kubernetes, NOW), ["a"]);
}

#[test]
fn a_server_that_has_just_started_knows_no_roles() {
    let mut kubernetes = server();
    let starting = Span::Between { from: NOW, until: NOW + 100 };
    kubernetes.fault(Route::All, starting, Fault::Starting);
    let reply = kubernetes.handle(NOW, &post("a"));
    let message = body(&reply)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("cannot create resource \"secrets\""), "{message}");
    assert_eq!(reply.status(), Some(403));
    assert_eq!(status(&mut kubernetes, NOW, &Request::new("GET", "/readyz")), Some(500));
    assert_eq!(status(&mut kubernetes, NOW + 100, &post("a")), Some(201));
}

#[test]
fn refusals_leave_nothing() {
    let mut kubernetes = server();
    for (fault, expected) in [
        (Fault::Away, None),
        (Fault::Throttled { retry_after: 1 }, Some(429)),
        (Fault::WebhookDown, Some(500)),
        (Fault::RefusedByPolicy, Some(422)),
        (Fault::Unauthorized, Some(401)),
    ] {
        kubernetes.fault(Route::Writes, Span::Next(1), fault.clone());
        assert_eq!(status(&mut kubernetes, NOW, &post("a")), expected, "{fault:?}");
        assert_eq!(names(&mut kubernetes, NOW), [""; 0], "{fault:?}");
    }
}

#[test]
fn a_list_goes_on_until_its_state_is_forgotten() {
    let mut kubernetes = server();
    for name in ["a", "b", "c"] {
        kubernetes.handle(NOW, &post(name));
    }
    let page = body(&kubernetes.handle(NOW, &request("GET", &format!("{SECRETS}?limit=1"))));
    let token = page["metadata"]["continue"].as_str().unwrap();
    let next = request("GET", &format!("{SECRETS}?limit=1&continue={token}"));
    kubernetes.handle(NOW, &request("DELETE", &format!("{SECRETS}/b")));
    kubernetes.fault(Route::Reads, Span::Next(1), Fault::ContinueExpired);
    assert_eq!(status(&mut kubernetes, NOW, &next), Some(410));
    let first = |body: &Value| body["items"][0]["metadata"]["name"].as_str().map(str::to_owned);
    // States are forgotten that were over at the last time but one.
    for (minutes, expected) in [(4, Some(200)), (6, Some(200)), (11, Some(410))] {
        let reply = kubernetes.handle(NOW + minutes * 60_000, &next);
        assert_eq!(reply.status(), expected, "{minutes}");
        if expected == Some(200) {
            assert_eq!(first(&body(&reply)).as_deref(), Some("b"));
        } else {
            let token = body(&reply)["metadata"]["continue"].as_str().unwrap().to_owned();
            let rest = request("GET", &format!("{SECRETS}?limit=1&continue={token}"));
            let rest = kubernetes.handle(NOW + minutes * 60_000, &rest);
            assert_eq!(first(&body(&rest)).as_deref(), Some("c"), "the rest, as of now");
        }
    }
}

#[test]
fn a_quota_frees_when_it_is_counted_anew() {
    let mut kubernetes = server();
    kubernetes.quota("testrelay", Quota::secrets("q", 1).recounts_after(5_000));
    kubernetes.count("testrelay");
    assert_eq!(status(&mut kubernetes, NOW, &post("a")), Some(201));
    assert_eq!(status(&mut kubernetes, NOW, &post("b")), Some(403));
    assert_eq!(status(&mut kubernetes, NOW, &request("DELETE", &format!("{SECRETS}/a"))), Some(200));
    assert_eq!(status(&mut kubernetes, NOW + 4_999, &post("b")), Some(403));
    assert_eq!(status(&mut kubernetes, NOW + 5_000, &post("b")), Some(201));
}

#[test]
fn a_store_that_is_set_back_has_its_old_versions() {
    let mut kubernetes = server();
    kubernetes.handle(NOW, &post("a"));
    let (backup, before) = (kubernetes.backup(), kubernetes.objects(NOW, Resource::Secrets, "testrelay"));
    kubernetes.handle(NOW, &request("DELETE", &format!("{SECRETS}/a")));
    let made = body(&kubernetes.handle(NOW, &post("b")));
    kubernetes.restore(backup);
    assert_eq!(kubernetes.objects(NOW, Resource::Secrets, "testrelay"), before);
    let again = body(&kubernetes.handle(NOW, &post("b")));
    let version =
        |body: &Value| body["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(version(&again) < version(&made), "{again} {made}");
    assert_ne!(again["metadata"]["uid"], made["metadata"]["uid"]);
}

#[test]
fn each_verb_is_asked_for() {
    let mut kubernetes = server();
    kubernetes.handle(NOW, &post("a"));
    let one = format!("{SECRETS}/a");
    let put = request("PUT", &one)
        .body(json!({"metadata": {"name": "a"}, "type": "testrelay.dev/check"}).to_string());
    for (verb, request) in [
        (Verb::Get, request("GET", &one)),
        (Verb::List, request("GET", SECRETS)),
        (Verb::Create, post("b")),
        (Verb::Update, put),
        (Verb::Delete, request("DELETE", &one)),
    ] {
        let account = Token::of("testrelay", "testrelay");
        kubernetes.forbid(&account, verb);
        assert_eq!(status(&mut kubernetes, NOW, &request), Some(403), "{verb:?}");
        kubernetes.allow(&account, "testrelay", Resource::Secrets, &[verb]);
        assert!(status(&mut kubernetes, NOW, &request).is_some_and(|status| status < 300), "{verb:?}");
    }
}
