mod bounds;
mod links;

use super::*;
use crate::time::Mono;
use crate::wire::call::Response;
use serde_json::{Value, json};

const NOW: Now = Now { wall: Wall(1_769_186_643_000), mono: Mono(5_000) };

/// A Testkube for these tests: executions in JSON, newest first, and their artifacts.
struct Testkube {
    executions: Vec<Value>,
    kept: Vec<(&'static str, Value)>,
    /// The paths that were asked for.
    asked: Vec<String>,
    memory: VisitMemory,
    /// Whether it answers HEAD.
    knows_heads: bool,
    /// Whether it, or a proxy before it, answers no request for artifacts at present.
    is_lost: bool,
}

/// `name` is `workflow-number`; the id is made of the number.
fn execution(name: &str, status: &str) -> Value {
    let (workflow, number) = name.rsplit_once('-').unwrap();
    let number: i64 = number.parse().unwrap();
    let finished = if status == "running" { "0001-01-01T00:00:00Z" } else { "2026-01-23T16:44:00Z" };
    json!({
        "id": id(name), "name": name, "number": number, "scheduledAt": format!("2026-01-23T16:00:{number:02}Z"),
        "result": {"status": status, "finishedAt": finished}, "workflow": {"name": workflow},
        "tags": {"ado-run": "shop-1"},
        "runningContext": {"actor": {"type": "testworkflowexecution", "name": format!("cr-{name}")}},
    })
}

fn id(name: &str) -> String {
    format!("id-{name}")
}

fn testkube(executions: &[Value], kept: &[(&'static str, Value)]) -> Testkube {
    Testkube {
        executions: executions.to_vec(),
        kept: kept.to_vec(),
        asked: Vec::new(),
        memory: VisitMemory::default(),
        knows_heads: true,
        is_lost: false,
    }
}

fn config(credentials: &str) -> Rc<Config> {
    let text = format!(
        r#"{{"testkube":{{"cluster":"t"}},"azure_devops":[{{"url":"https://dev.azure.com/o","cluster":"a"}}],{credentials}}}"#
    );
    Rc::new(Config::parse(text.as_bytes(), &|_| Some("secret-of-24-characters!".into())).unwrap())
}

fn headers() -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = [
        (":scheme", "https"),
        (":authority", "relay.example:8443"),
        ("authorization", "Bearer secret-of-24-characters!"),
    ];
    pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).into()
}

#[derive(Debug, PartialEq)]
enum End {
    Reply(u16, String),
    Forward(String),
}

/// The only call that a visit asks for.
fn call_of(step: &Step) -> Option<Request> {
    match step {
        Step::Call(calls) => match calls.as_slice() {
            [(_, request)] => Some(request.clone()),
            _ => panic!("not one call"),
        },
        _ => None,
    }
}

impl Testkube {
    /// The end of `GET /testrelay/v1/artifacts/{rest}`.
    fn get(&mut self, rest: &str) -> End {
        self.get_at(NOW, &config(r#""insecure_no_auth":true"#), rest)
    }

    fn get_at(&mut self, now: Now, config: &Rc<Config>, rest: &str) -> End {
        let mut visit = match Visit::new(config, now, &headers(), rest.as_bytes()) {
            Ok(visit) => visit,
            Err(reply) => return End::Reply(reply.status, reply.body),
        };
        let mut step = visit.step(now, &mut self.memory);
        while let Some(request) = call_of(&step) {
            let outcome = self.answer(&request);
            self.asked.push(format!("{} {}", request.method, request.path));
            step = visit.answer(now, &mut self.memory, &outcome);
        }
        match step {
            Step::Reply(reply, _) => End::Reply(reply.status, reply.body),
            Step::Forward(forward) => End::Forward(forward.path.clone()),
            Step::Call(_) | Step::Wait | Step::Pause(_) => panic!("a visit asks one thing at a time"),
        }
    }

    fn answer(&self, request: &Request) -> CallOutcome {
        let rest = request.path.strip_prefix("/v1/test-workflow-executions").unwrap();
        let kept = |id: &str| {
            let kept = self.kept.iter().find(|(name, _)| id == format!("/id-{name}"));
            kept.map_or(Value::Null, |(_, names)| names.clone())
        };
        let (status, body) = match (rest.split_once("/artifacts"), request.method) {
            (None, _) => {
                let size: usize =
                    rest.split("pageSize=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
                let page: Vec<&Value> = self.executions.iter().take(size).collect();
                (200, json!({"filtered": {"results": self.executions.len()}, "results": page}).to_string())
            }
            (Some(_), _) if self.is_lost => (404, String::new()),
            (Some((id, "")), _) => (200, kept(id).to_string()),
            (Some((id, file)), method) => {
                assert_eq!(method, "HEAD");
                let name = unescaped(file.strip_prefix('/').unwrap());
                let kept = kept(id);
                let is_there =
                    kept.as_array().is_some_and(|kept| kept.iter().any(|one| one["name"] == name.as_str()));
                let missing = if self.knows_heads { 500 } else { 405 };
                (if is_there && self.knows_heads { 200 } else { missing }, String::new())
            }
        };
        let body = match body.len() > request.max_body {
            true => Err(body.len()),
            false => Ok(body.into_bytes()),
        };
        let content_type = "application/json".into();
        CallOutcome::Response(Response {
            status,
            content_type,
            asks: Default::default(),
            from_envoy: false,
            body,
        })
    }

    fn json(&mut self, rest: &str) -> Value {
        match self.get(rest) {
            End::Reply(200, body) => serde_json::from_str(&body).unwrap(),
            other => panic!("{rest}: {other:?}"),
        }
    }

    /// Status and detail of a refusal.
    fn refusal(&mut self, rest: &str) -> (u16, String) {
        match self.get(rest) {
            End::Reply(status, body) => {
                let body: Value = serde_json::from_str(&body).unwrap();
                (status, body["detail"].as_str().unwrap_or_default().into())
            }
            other => panic!("{rest}: {other:?}"),
        }
    }
}

fn names(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name, "size": 7})).collect()
}

/// A path segment as Testkube decodes it: `url.QueryUnescape`, twice.
fn unescaped(segment: &str) -> String {
    let once = |text: &[u8]| {
        let spaces: Vec<u8> = text.iter().map(|c| if *c == b'+' { b' ' } else { *c }).collect();
        crate::wire::percent::percent_decoded(&spaces)
    };
    String::from_utf8(once(&once(segment.as_bytes()))).unwrap()
}

/// The part of a link that [`Testkube::get`] takes.
fn rest_of(url: &str) -> &str {
    url.strip_prefix("https://relay.example:8443/testrelay/v1/artifacts/").unwrap()
}

#[test]
fn a_tag_lists_what_its_executions_have_kept_with_links() {
    let mut testkube = testkube(
        &[execution("shop-e2e-2", "passed")],
        &[(
            "shop-e2e-2",
            json!([{"name": "results/junit.xml", "size": 18342}, {"name": "empty"}, {"name": "big", "size": -2}]),
        )],
    );
    let list = testkube.json("ado-run=shop-1");
    assert_eq!(list["tag"], "ado-run=shop-1");
    let shown = &list["executions"][0];
    assert_eq!(
        (&shown["name"], &shown["status"], &shown["ended"]),
        (&json!("shop-e2e-2"), &json!("passed"), &json!(true))
    );
    let base = "https://relay.example:8443/testrelay/v1/artifacts/ado-run=shop-1";
    assert_eq!(
        shown["artifacts"],
        json!([
            {"name": "results/junit.xml", "size": 18342, "url": format!("{base}/results/junit.xml")},
            {"name": "empty", "size": 0, "url": format!("{base}/empty")},
            {"name": "big", "size": null, "url": format!("{base}/big")},
        ])
    );
    assert_eq!(shown["logs"], format!("{base}/shop-e2e-2/logs"));
    assert_eq!(list, testkube.json("shop-1"), "a value alone gets the configured key");
    let text = format!("{base}/results/junit.xml\n{base}/empty\n{base}/big\n");
    assert_eq!(testkube.get("shop-1?format=text"), End::Reply(200, text));
    assert!(testkube.asked[0].contains("startDate=2025-12-24T"), "30 days back: {}", testkube.asked[0]);
}

#[test]
fn a_file_goes_on_to_testkube_with_a_name_that_survives_two_unescapings() {
    let kept = names(&["results/junit.xml", "a b.txt", "trace+v2.zip", "100%.txt", "50%20x", "é/ü.html"]);
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", kept)]);
    for (asked, name) in [
        ("results/junit.xml", "results/junit.xml"),
        ("results%2Fjunit.xml", "results/junit.xml"),
        ("a%20b.txt", "a b.txt"),
        ("trace+v2.zip", "trace+v2.zip"),
        ("trace%2Bv2.zip", "trace+v2.zip"),
        ("100%.txt", "100%.txt"),
        ("100%25.txt", "100%.txt"),
        ("50%2520x", "50%20x"),
        ("é/ü.html", "é/ü.html"),
        ("%C3%A9/%c3%bc.html", "é/ü.html"),
    ] {
        let End::Forward(path) = testkube.get(&format!("shop-1/{asked}")) else { panic!("{asked}") };
        let segment = path.strip_prefix("/v1/test-workflow-executions/id-shop-e2e-2/artifacts/").unwrap();
        assert_eq!(unescaped(segment), name);
    }
    assert_eq!(testkube.asked.len(), 1 + 10, "the executions were remembered");
    assert!(testkube.asked[1..].iter().all(|asked| asked.starts_with("HEAD ")), "{:?}", testkube.asked);
    testkube.json("shop-1");
    for file in ["results/junit.xml", "a%20b.txt"] {
        assert!(matches!(testkube.get(&format!("shop-1/{file}")), End::Forward(_)));
    }
    assert_eq!(testkube.asked.len(), 1 + 10 + 1, "what a list has said is asked for nowhere else");
}

#[test]
fn names_that_climb_are_refused_in_every_encoding() {
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    for path in [
        "../x",
        "a/../x",
        "..%2Fx",
        "%2e%2e/x",
        "%252e%252e%252fx",
        "%25252e%25252e/x",
        "..%5Cx",
        "a/./b",
        ".",
        "x%00",
        "x%0a",
    ] {
        assert_eq!(testkube.refusal(&format!("shop-1/{path}")).0, 400, "{path}");
    }
    assert!(testkube.asked.is_empty());
}

#[test]
fn a_credential_in_the_path_is_refused_and_not_repeated() {
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    for path in [
        "secret-of-24-characters!",
        "shop-secret-of-24-characters-1",
        "shop-1/secret-of-24-characters!",
        "shop-1?mask=of-24-characters",
        "shop-1?secret%2Dof%2D24%2Dcharacters%21=1",
    ] {
        let (status, detail) = testkube.refusal(path);
        assert!(status == 400 && detail.contains("not repeated") && !detail.contains("of-24"), "{detail}");
    }
    assert!(testkube.asked.is_empty());
}

#[test]
fn of_several_executions_the_links_carry_the_name_and_what_fits_two_is_a_choice() {
    let mut testkube = testkube(
        &[execution("shop-e2e-2", "passed"), execution("shop-api-1", "failed")],
        &[("shop-e2e-2", names(&["junit.xml", "only-e2e"])), ("shop-api-1", names(&["junit.xml"]))],
    );
    let base = "https://relay.example:8443/testrelay/v1/artifacts/ado-run=shop-1";
    let text =
        format!("{base}/shop-api-1/junit.xml\n{base}/shop-e2e-2/junit.xml\n{base}/shop-e2e-2/only-e2e\n");
    assert_eq!(testkube.get("shop-1?format=text"), End::Reply(200, text));
    let End::Reply(409, body) = testkube.get("shop-1/junit.xml") else { panic!() };
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["links"],
        json!([format!("{base}/shop-api-1/junit.xml"), format!("{base}/shop-e2e-2/junit.xml")])
    );
    assert!(matches!(testkube.get("shop-1/only-e2e"), End::Forward(path) if path.contains("id-shop-e2e-2")));
    assert!(
        matches!(testkube.get("shop-1/shop-api-1/junit.xml"), End::Forward(path) if path.contains("id-shop-api-1"))
    );
    assert_eq!(testkube.json("shop-1/shop-api-1")["executions"].as_array().unwrap().len(), 1);

    let End::Reply(409, body) = testkube.get("shop-1/archive?mask=.*%5C.xml") else { panic!() };
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["links"][1], format!("{base}/shop-e2e-2/archive?mask=.%2A%5C.xml"));
    let one = "/v1/test-workflow-executions/id-shop-api-1";
    assert_eq!(testkube.get("shop-1/shop-api-1/logs"), End::Forward(format!("{one}/logs")));
    assert_eq!(
        testkube.get("shop-1/shop-api-1/archive?mask=a&mask=%5Eb"),
        End::Forward(format!("{one}/artifact-archive?mask=a&mask=%5Eb"))
    );
    // Testkube must get the mask as it was understood here: in Go, a bare `+` is a blank.
    assert_eq!(
        testkube.get("shop-1/shop-api-1/archive?mask=big+file,^[+-z]*%24"),
        End::Forward(format!("{one}/artifact-archive?mask=big%2Bfile%2C%5E%5B%2B-z%5D%2A%24"))
    );
}

#[test]
fn of_reruns_the_newest_is_listed_and_an_older_one_is_reached_by_its_name() {
    let mut again = execution("shop-e2e-3", "passed");
    again["runningContext"]["actor"]["name"] = "cr-shop-e2e-2".into();
    let mut testkube = testkube(
        &[again, execution("shop-e2e-2", "failed")],
        &[("shop-e2e-3", names(&["junit.xml"])), ("shop-e2e-2", names(&["junit.xml"]))],
    );
    let shown = |list: &Value| -> Vec<String> {
        list["executions"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(shown(&testkube.json("shop-1")), ["shop-e2e-3"]);
    let all = testkube.json("shop-1?all=true");
    assert_eq!(shown(&all).len(), 2);
    let url = all["executions"][0]["artifacts"][0]["url"].as_str().unwrap();
    assert!(url.ends_with("/shop-e2e-2/junit.xml?all=true"), "{url}");
    assert!(
        matches!(testkube.get("shop-1/shop-e2e-2/junit.xml"), End::Forward(path) if path.contains("id-shop-e2e-2"))
    );
    assert!(matches!(testkube.get("shop-1/junit.xml"), End::Forward(path) if path.contains("id-shop-e2e-3")));
}

#[test]
fn what_is_not_there_or_has_not_ended_says_so() {
    let mut empty = testkube(&[], &[]);
    let (status, detail) = empty.refusal("shop-1");
    assert_eq!(status, 404);
    assert!(
        detail.contains("no execution tagged ado-run=shop-1 that was scheduled since 2025-12-24T"),
        "{detail}"
    );

    let mut running = testkube(&[execution("shop-e2e-2", "running")], &[("shop-e2e-2", names(&["x"]))]);
    for rest in ["shop-1", "shop-1/x", "shop-1/logs"] {
        let (status, detail) = running.refusal(rest);
        assert_eq!(status, 409);
        assert!(detail.contains("shop-e2e-2 has not ended (running)"), "{detail}");
    }
    let partial = running.json("shop-1?partial=true");
    let url = partial["executions"][0]["artifacts"][0]["url"].as_str().unwrap();
    assert!(url.ends_with("/x?partial=true"), "{url}");
    assert!(matches!(running.get(rest_of(url)), End::Forward(_)));

    let mut passed = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    let (status, detail) = passed.refusal("shop-1/y");
    assert_eq!(status, 404);
    assert!(detail.starts_with("`y` is not among the 1 artifacts of shop-e2e-2."), "{detail}");
    let mut deleted = testkube(&[execution("shop-e2e-2", "passed")], &[]);
    let (status, detail) = deleted.refusal("shop-1/y");
    assert_eq!(
        (status, detail.as_str()),
        (404, "shop-e2e-2 kept no artifacts, or Testkube no longer has them.")
    );
    assert_eq!(deleted.get("shop-1?format=text"), End::Reply(200, String::new()));
}

#[test]
fn a_404_is_not_remembered() {
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    for rest in ["shop-1/x", "shop-1/archive", "shop-1?format=text"] {
        testkube.is_lost = true;
        testkube.get(rest);
        testkube.is_lost = false;
    }
    assert!(matches!(testkube.get("shop-1/x"), End::Forward(_)));
    assert_eq!(testkube.json("shop-1")["executions"][0]["artifacts"][0]["name"], "x");
}

#[test]
fn a_request_that_cannot_be_read_says_what_to_change() {
    let mut testkube = testkube(&[], &[]);
    for (rest, what) in [
        ("other=shop-1", "the tag's key is `other`"),
        ("a%2Cb", "cannot be a tag's value"),
        ("shop-1?since=yesterday", "`since` is not a time"),
        ("shop-1?format=xml", "`format=xml` is not a parameter"),
        ("shop-1?mas=x", "`mas=x` is not a parameter"),
        ("shop-1/%ff", "not UTF-8"),
    ] {
        let (status, detail) = testkube.refusal(rest);
        assert_eq!(status, 400);
        assert!(detail.contains(what), "{rest}: {detail}");
    }
    assert!(testkube.asked.is_empty());
}

#[test]
fn a_credential_reads_only_the_tags_that_it_covers() {
    let with = |tags: &str, allow: &str| {
        config(&format!(
            r#""credentials":[{{"name":"jobs","kind":"bearer","secret_env":"S","allow":["{allow}"],"tags":["{tags}"]}}]"#
        ))
    };
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[]);
    for (tags, allow, expected) in
        [("shop-*", "artifacts", 200), ("bank-*", "artifacts", 403), ("shop-*", "status", 403)]
    {
        let End::Reply(status, body) = testkube.get_at(NOW, &with(tags, allow), "shop-1") else { panic!() };
        assert_eq!(status, expected, "{body}");
    }
    assert_eq!(testkube.asked.len(), 2, "only the first one was asked of Testkube");
}

#[test]
fn what_was_learned_is_good_for_ten_seconds_and_only_when_it_has_ended() {
    let open = config(r#""insecure_no_auth":true"#);
    let at = |ms| Now { mono: Mono(NOW.mono.0 + ms), ..NOW };
    let mut ended = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    for (ms, asked) in [(0, 2), (9_999, 3), (10_000, 5)] {
        assert!(matches!(ended.get_at(at(ms), &open, "shop-1/x"), End::Forward(_)));
        assert_eq!(ended.asked.len(), asked);
    }
    let mut running = testkube(&[execution("shop-e2e-2", "running")], &[("shop-e2e-2", names(&["x"]))]);
    for asked in [2, 4] {
        assert!(matches!(running.get("shop-1/x?partial=true"), End::Forward(_)));
        assert_eq!(running.asked.len(), asked);
    }
}

#[test]
fn a_file_is_a_download_of_its_own_type_that_no_browser_runs() {
    let value = |forward: &Forward, name: &str| {
        let mut headers = forward.answer_headers();
        headers.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).unwrap()
    };
    let file = |name: &str| Forward::file("/".into(), name);
    for (forward, content_type, name) in [
        (file("a/junit.xml"), "application/xml", "junit.xml"),
        (file("report.HTML"), "text/html; charset=utf-8", "report.HTML"),
        (file("core"), "application/octet-stream", "core"),
        (Forward::archive("/".into(), "shop-e2e-2"), "application/gzip", "shop-e2e-2.tar.gz"),
        (Forward::logs("/".into(), "shop-e2e-2"), "text/plain; charset=utf-8", "shop-e2e-2.log"),
    ] {
        assert_eq!(value(&forward, "content-type"), content_type);
        assert_eq!(
            value(&forward, "content-disposition"),
            format!("attachment; filename=\"{name}\"; filename*=UTF-8''{name}")
        );
        assert_eq!(value(&forward, "x-content-type-options"), "nosniff");
        assert_eq!(value(&forward, "content-security-policy"), "sandbox; default-src 'none'");
        assert_eq!(value(&forward, "cache-control"), "private, no-store");
    }
    assert_eq!(
        value(&file("é\"\r\nx: y.txt"), "content-disposition"),
        "attachment; filename=\"____x_ y.txt\"; filename*=UTF-8''%C3%A9%22%0D%0Ax%3A%20y.txt"
    );
}

#[test]
fn what_jobs_ask_goes_through_the_cluster_for_artifacts() {
    let own = config(r#""insecure_no_auth":true,"artifacts":{"cluster":"downloads"}"#);
    for (config, cluster) in [(config(r#""insecure_no_auth":true"#), "t"), (own, "downloads")] {
        let testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
        for rest in ["shop-1", "shop-1/x", "shop-1/archive"] {
            let mut memory = VisitMemory::default();
            let mut visit = Visit::new(&config, NOW, &headers(), rest.as_bytes()).unwrap();
            let mut step = visit.step(NOW, &mut memory);
            while let Some(request) = call_of(&step) {
                assert_eq!(request.cluster, cluster);
                let outcome = testkube.answer(&request);
                step = visit.answer(NOW, &mut memory, &outcome);
            }
        }
    }
}
