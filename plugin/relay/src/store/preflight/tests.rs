use super::*;
use crate::store::ledger::memory::Memory;
use crate::time::Mono;
use crate::wire::call::{Asks, Fault, Response};
use kept::Last;

const NOW: Now = Now { mono: Mono(60_000), wall: Wall(1_769_186_640_000) };
const LIST: &str = r#"{"totals":{"results":0},"filtered":{"results":0},"results":[]}"#;

fn config(more: &str) -> Rc<Config> {
    let text = format!(
        r#"{{"testkube": {{"cluster": "testkube"}}{more},
            "credentials": [{{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["status"]}}]}}"#
    );
    Rc::new(Config::parse(text.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap())
}

/// With everything that a preflight looks at.
fn whole() -> Rc<Config> {
    config(
        r#", "artifacts": {"cluster": "downloads"},
            "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops", "fallback_cluster": "identity"},
                             {"url": "https://tfs.example/tfs/Default", "cluster": "server"}],
            "store": {"kubernetes": {"cluster": "kubernetes", "namespace": "checks"}}"#,
    )
}

fn usual() -> Rc<Config> {
    config(r#", "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}]"#)
}

fn response(status: u16, content_type: &str, body: &str) -> Response {
    Response {
        status,
        content_type: content_type.into(),
        asks: Asks { sent: Some(NOW.wall), ..Asks::default() },
        from_envoy: false,
        body: Ok(body.as_bytes().to_vec()),
    }
}

fn json(status: u16, body: &str) -> CallOutcome {
    CallOutcome::Response(response(status, "application/json", body))
}

fn page(status: u16) -> CallOutcome {
    CallOutcome::Response(response(status, "text/html; charset=utf-8", "<html>"))
}

/// Envoy's own 503 with these words.
fn envoys(status: u16, words: &str) -> CallOutcome {
    let response = response(status, "text/plain", words);
    CallOutcome::Response(Response { from_envoy: true, asks: Asks::default(), ..response })
}

fn failed(fault: Fault) -> CallOutcome {
    CallOutcome::Failed(fault)
}

const TESTKUBE: usize = 1;
const AZURE: usize = 2;

/// The findings when the call with this number has this outcome, and the others good ones.
fn found(config: &Rc<Config>, number: usize, outcome: CallOutcome) -> Vec<Finding> {
    let (mut preflight, calls) = Preflight::begin(config, NOW);
    let mut is_whole = false;
    for (n, request) in calls {
        let good = match request.path.as_str() {
            path if path.ends_with("/info") => json(200, r#"{"version":"2.12.2","context":"oss"}"#),
            path if path.contains("/test-workflow-executions?") => json(200, LIST),
            path if path.contains("/_apis/projects") => json(401, "{}"),
            path if path.contains("/_apis/connectionData") => json(200, "{}"),
            _ => json(201, RIGHTS),
        };
        is_whole = preflight.answer(NOW, n, if n == number { &outcome } else { &good });
    }
    assert!(is_whole);
    preflight.findings()
}

const RIGHTS: &str = r#"{"status":{"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}],"incomplete":false}}"#;

/// The only finding that is not good: name, result and line.
fn only(findings: Vec<Finding>) -> (String, Health, String) {
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.result != Health::Ok).collect();
    let [bad] = bad[..] else { panic!("{findings:?}") };
    assert!(!bad.todo.is_empty(), "{bad:?}");
    (bad.name.clone(), bad.result, bad.line().1)
}

#[test]
fn each_thing_is_asked_once_without_a_token_and_without_effects() {
    let (_, calls) = Preflight::begin(&whole(), NOW);
    let seen: Vec<(&str, String)> = calls
        .iter()
        .map(|(_, call)| (call.cluster.as_str(), format!("{} {}", call.method, call.path)))
        .collect();
    let list = "GET /v1/test-workflow-executions?tagSelector=&startDate=2026-01-23T16%3A44%3A00.000Z&pageSize=1&page=0";
    assert_eq!(
        seen,
        [
            ("testkube", "GET /v1/info".to_owned()),
            ("testkube", list.to_owned()),
            ("downloads", list.to_owned()),
            ("azure-devops", "GET /fabrikam/_apis/projects?api-version=6.0&$top=1".to_owned()),
            ("identity", "GET /fabrikam/_apis/connectionData".to_owned()),
            ("server", "GET /tfs/Default/_apis/projects?api-version=6.0&$top=1".to_owned()),
            (
                "kubernetes",
                "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews?timeout=4s".to_owned()
            ),
        ]
    );
    for (_, call) in &calls {
        let value = |name: &str| call.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(value("authorization"), None, "{}", call.path);
        assert!(value("user-agent").is_some_and(|agent| agent.ends_with(" (preflight)")), "{}", call.path);
        assert_eq!(call.timeout, TIMEOUT);
    }
}

#[test]
fn a_process_that_has_all_it_needs_says_so() {
    let found = found(&whole(), usize::MAX, failed(Fault::Lost));
    let names: Vec<&str> = found.iter().map(|finding| finding.name.as_str()).collect();
    let azure = ["azure_devops[0]", "azure_devops[0].fallback_cluster", "azure_devops[1]"];
    assert_eq!(
        names,
        [&["version", "testkube", "clock", "artifacts.cluster"][..], &azure, &["store"]].concat()
    );
    assert!(found.iter().all(|finding| finding.result == Health::Ok && finding.todo.is_empty()), "{found:?}");
    let lines: Vec<(Level, String)> = found.iter().map(Finding::line).collect();
    assert!(lines.iter().all(|(level, _)| *level == Level::Info));
    assert_eq!(lines[0].1, "preflight: version: ok: Testkube's version is 2.12.2");
    assert_eq!(lines[1].1, "preflight: testkube: ok: Testkube answers, and lists executions");
    assert_eq!(
        lines[4].1,
        "preflight: azure_devops[0]: ok: HTTP 401 to a call without a token, as it should be; whether the certificate is verified is not visible from here"
    );
    let shown: serde_json::Value = serde_json::from_str(&shown(&found, NOW.wall)).unwrap();
    assert_eq!((&shown["result"], &shown["as_of"]), (&"ok".into(), &"2026-01-23T16:44:00.000Z".into()));
    assert_eq!(
        shown["checks"][1],
        serde_json::json!({"name": "testkube", "result": "ok", "detail": "Testkube answers, and lists executions", "todo": null})
    );
}

#[test]
fn what_envoy_says_of_a_failed_call_is_told_apart() {
    const BROKEN: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    let broken = |reason: &str| envoys(503, &[BROKEN, reason].concat());
    let cases = [
        (
            failed(Fault::UnknownCluster("testkube".into())),
            Health::Failed,
            "failed: Envoy has no cluster `testkube`.",
        ),
        (
            failed(Fault::Refused),
            Health::Failed,
            "cluster `testkube`: refused by Envoy itself: DNS does not know",
        ),
        (
            broken(
                "remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end",
            ),
            Health::Failed,
            "the TLS handshake failed: Envoy does not trust the server's certificate. Compare the cluster's `trusted_ca`",
        ),
        (
            broken(
                "connection failure, transport failure reason: TLS error: 268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER",
            ),
            Health::Failed,
            "the TLS handshake failed. Look whether the cluster's port is one of TLS",
        ),
        (
            broken(
                "remote connection failure, transport failure reason: delayed connect error: Connection refused",
            ),
            Health::Failed,
            "the connection was refused. Look whether the server runs",
        ),
        (
            broken("remote connection failure, transport failure reason: delayed connect error: 111"),
            Health::Failed,
            "the connection was refused.",
        ),
        (
            broken("connection timeout"),
            Health::Failed,
            "no connection came about in time. Look for a firewall",
        ),
        (broken("connection termination"), Health::Failed, "connection refused or broken. Look"),
        (envoys(503, "no healthy upstream"), Health::Failed, "no host of it is healthy. Look up"),
        (
            envoys(504, "upstream request timeout"),
            Health::Failed,
            "no answer within 5 s. Look for a firewall",
        ),
        (failed(Fault::Reset), Health::Unknown, "connection broken during the answer. Ask again"),
        (failed(Fault::Lost), Health::Unknown, "call lost. Ask again"),
        (failed(Fault::Stalled), Health::Unknown, "Envoy's thread stalled. Ask again"),
    ];
    for (outcome, health, words) in cases {
        let (name, result, line) = only(found(&usual(), TESTKUBE, outcome));
        assert_eq!((name.as_str(), result), ("testkube", health), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn another_service_at_testkubes_address_is_not_taken_for_testkube() {
    let problem = r#"{"type":"about:blank","status":502,"detail":"rpc error: code = Internal desc = ERROR: No space left on device"}"#;
    let cases = [
        (
            page(200),
            "the answer is not that of Testkube, but an answer that is not JSON (text/html; charset=utf-8)",
        ),
        (json(200, "{}"), "the answer is not that of Testkube, but JSON without `results`"),
        (json(200, "[]"), "the answer is not that of Testkube, but unexpected JSON"),
        (json(404, "{}"), "the answer is not that of Testkube, but HTTP 404: another service is there"),
        (page(302), "the answer is not that of Testkube, but HTTP 302"),
        (json(401, "{}"), "Testkube does not take the token: HTTP 401. Compare the variable"),
        (json(403, "{}"), "Testkube does not take the token: HTTP 403"),
        (
            json(502, problem),
            "cannot list executions: HTTP 502: ERROR: No space left on device. Look at Testkube's database",
        ),
        (json(503, ""), "executions cannot be listed: HTTP 503. Look at the log"),
    ];
    for (outcome, words) in cases {
        let (name, result, line) = only(found(&usual(), TESTKUBE, outcome));
        assert_eq!((name.as_str(), result), ("testkube", Health::Failed), "{line}");
        assert!(line.contains(words), "{line}");
    }
    let (_, result, line) = only(found(&usual(), TESTKUBE, json(429, "")));
    assert!(result == Health::Warning && line.contains("has too much to do: HTTP 429"), "{line}");
    // A control plane need not have the path for the version.
    for info in [json(404, "{}"), json(200, "{}"), json(200, r#"{"version":"<b>"}"#), failed(Fault::Reset)] {
        let found = found(&usual(), 0, info);
        assert_eq!(found[0].line().1, "preflight: testkube: ok: Testkube answers, and lists executions");
    }
}

#[test]
fn a_clock_that_is_apart_is_named_with_the_way_and_by_how_much() {
    let clock = |apart: i64| {
        let mut response = response(200, "application/json", LIST);
        response.asks.sent = Some(Wall(NOW.wall.0 + apart));
        found(&usual(), TESTKUBE, CallOutcome::Response(response))
    };
    for apart in [-30_000, -1_000, 0, 30_000] {
        assert_eq!(clock(apart)[2].line().1, "preflight: clock: ok: Testkube's clock and Envoy's agree");
    }
    let (name, result, line) = only(clock(-31_000));
    assert_eq!((name.as_str(), result), ("clock", Health::Warning));
    assert!(line.contains("Testkube's clock is 31s behind Envoy's, which is more than checks.clock_skew allows for. Run `date -u`"), "{line}");
    assert!(only(clock(7_200_000)).2.contains("2h ahead of Envoy's"));
    let mut undated = response(200, "application/json", LIST);
    undated.asks.sent = None;
    let (name, result, line) = only(found(&usual(), TESTKUBE, CallOutcome::Response(undated)));
    assert!(
        name == "clock" && result == Health::Unknown && line.contains("does not say when it was sent"),
        "{line}"
    );
}

#[test]
fn azure_devops_is_known_by_its_refusal_of_strangers() {
    for good in [json(401, "{}"), page(203), page(302), page(401), json(200, r#"{"count":0,"value":[]}"#)] {
        let found = found(&usual(), AZURE, good);
        assert!(found.iter().all(|finding| finding.result == Health::Ok), "{found:?}");
    }
    let cases = [
        (
            page(200),
            Health::Failed,
            "HTTP 200 with something that Azure DevOps does not send: a proxy or another host answers",
        ),
        (
            json(404, "{}"),
            Health::Failed,
            "HTTP 404: no such organisation or collection is there. Compare `url`",
        ),
        (
            page(407),
            Health::Warning,
            "HTTP 407, where Azure DevOps answers 401, 203 or 302: a proxy or another host answers",
        ),
        (page(403), Health::Warning, "HTTP 403, where Azure DevOps"),
        (json(503, ""), Health::Warning, "HTTP 503: Azure DevOps, or a proxy before it, is in trouble"),
        (
            failed(Fault::UnknownCluster("azure-devops".into())),
            Health::Failed,
            "Envoy has no cluster `azure-devops`",
        ),
    ];
    for (outcome, health, words) in cases {
        let (name, result, line) = only(found(&usual(), AZURE, outcome));
        assert_eq!((name.as_str(), result), ("azure_devops[0]", health), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn envoys_identity_must_be_taken_where_a_strangers_call_must_not() {
    const FALLBACK: usize = 4;
    for status in [203, 302, 401] {
        let (name, result, line) = only(found(&whole(), FALLBACK, page(status)));
        assert_eq!((name.as_str(), result), ("azure_devops[0].fallback_cluster", Health::Failed));
        assert!(line.contains(&format!("HTTP {status}: Envoy has no identity to add, or Azure")), "{line}");
    }
    assert!(only(found(&whole(), FALLBACK, json(403, "{}"))).1 == Health::Warning);
}

#[test]
fn the_store_is_good_only_with_all_rights() {
    const STORE: usize = 6;
    let cases = [
        (
            json(201, r#"{"status":{"resourceRules":[]}}"#),
            Health::Failed,
            "the ServiceAccount may not get, list, create, update and delete Secrets; ",
        ),
        (
            json(401, "{}"),
            Health::Failed,
            "the API server does not take the token. Look at the ServiceAccount's token",
        ),
        (json(403, "{}"), Health::Unknown, "HTTP 403: the API server does not say which rights"),
        (json(201, "{}"), Health::Unknown, "HTTP 201: the API server does not say which rights"),
        (page(200), Health::Failed, "HTTP 200, which no API server of Kubernetes answers"),
        (failed(Fault::Refused), Health::Failed, "cluster `kubernetes`: refused by Envoy itself"),
    ];
    for (outcome, health, words) in cases {
        let (name, result, line) = only(found(&whole(), STORE, outcome));
        assert_eq!((name.as_str(), result), ("store", health), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn answers_may_come_in_any_order_and_a_second_one_changes_nothing() {
    let (mut preflight, calls) = Preflight::begin(&usual(), NOW);
    let last = calls.len() - 1;
    assert!(!preflight.answer(NOW, AZURE, &json(401, "{}")));
    assert!(!preflight.answer(NOW, AZURE, &failed(Fault::Lost)), "late");
    assert!(!preflight.answer(NOW, 99, &failed(Fault::Lost)), "nobody's");
    assert!(!preflight.answer(NOW, TESTKUBE, &json(200, LIST)));
    assert!(preflight.answer(NOW, 0, &json(200, r#"{"version":"2.12.2"}"#)));
    assert_eq!(last, AZURE);
    let names: Vec<(String, Health)> =
        preflight.findings().into_iter().map(|finding| (finding.name, finding.result)).collect();
    let ok = |name: &str| (name.to_owned(), Health::Ok);
    assert_eq!(names, [ok("version"), ok("testkube"), ok("clock"), ok("azure_devops[0]")]);
}

#[test]
fn many_entries_are_not_all_looked_at_and_long_words_are_cut() {
    let entry = |n: usize| format!(r#"{{"url": "https://dev.azure.com/o{n}", "cluster": "a"}}"#);
    let entries: Vec<String> = (0..40).map(entry).collect();
    let config = config(&format!(r#", "azure_devops": [{}]"#, entries.join(",")));
    let found = found(&config, TESTKUBE, json(502, &format!(r#"{{"detail":"{}"}}"#, "word ".repeat(9_000))));
    assert_eq!(found.len(), 1 + 1 + 1 + MAX_ENTRIES + 1);
    assert_eq!(
        found.last().map(|finding| finding.detail.as_str()),
        Some("only the first 16 entries are looked at; there are 24 more")
    );
    assert!(shown(&found, NOW.wall).len() < 16 << 10);
}

#[test]
fn a_result_serves_for_half_a_minute_and_one_look_is_made_at_a_time() {
    let mut store = Memory::default();
    let at = |seconds: u64| Mono(1_000 * seconds);
    let Ok(Last::Old(seen)) = kept::last(&mut store, "p/", at(0), 7) else { panic!("nothing is known") };
    assert_eq!(kept::claim(&mut store, "p/", at(0), 7, seen), Ok(true));
    assert_eq!(kept::claim(&mut store, "p/", at(0), 7, seen), Ok(false), "another worker");
    assert_eq!(kept::last(&mut store, "p/", at(14), 7), Ok(Last::UnderWay));
    assert!(matches!(kept::last(&mut store, "p/", at(15), 7), Ok(Last::Old(Some(_)))), "abandoned");
    kept::keep(&mut store, "p/", at(2), 7, "{}");
    assert!(
        matches!(kept::last(&mut store, "p/", at(3), 8), Ok(Last::Old(Some(_)))),
        "another configuration"
    );
    assert_eq!(kept::last(&mut store, "p/", at(31), 7), Ok(Last::Fresh("{}".into())));
    assert!(matches!(kept::last(&mut store, "p/", at(32), 7), Ok(Last::Old(Some(_)))));
}

#[test]
fn leaders_that_fall_begin_three_times_and_one_that_has_told_ends_it() {
    let mut store = Memory::default();
    for may in [true, true, true, false, false] {
        assert_eq!(kept::begin_to_tell(&mut store, "p/"), Ok(may));
    }
    assert_eq!(kept::begin_to_tell(&mut store, "q/"), Ok(true));
    kept::end_telling(&mut store, "q/");
    assert_eq!(kept::begin_to_tell(&mut store, "q/"), Ok(false));
}
