use super::*;
use crate::time::Mono;
use crate::wire::call::Response;
use serde_json::{Value, json};

const NOW: Now = Now { wall: Wall(1_769_186_643_000), mono: Mono(5_000) };

/// A Testkube as far as this goes: executions in JSON, newest first, and what they have kept.
struct Testkube {
    executions: Vec<Value>,
    kept: Vec<(&'static str, Value)>,
    /// The paths that were asked for.
    asked: Vec<String>,
    memory: Memory,
    /// Whether it answers HEAD.
    knows_heads: bool,
    /// Whether it, or what stands before it, knows no execution's artifacts for now.
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
        memory: Memory::default(),
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

impl Testkube {
    /// What becomes of `GET /testrelay/v1/artifacts/{rest}`.
    fn get(&mut self, rest: &str) -> End {
        self.get_at(NOW, &config(r#""insecure_no_auth":true"#), rest)
    }

    fn get_at(&mut self, now: Now, config: &Rc<Config>, rest: &str) -> End {
        let mut visit = match Visit::new(config, now, &headers(), rest.as_bytes()) {
            Ok(visit) => visit,
            Err(reply) => return End::Reply(reply.status, reply.body),
        };
        let mut step = visit.step(now, &mut self.memory);
        loop {
            match step {
                Step::Reply(reply) => return End::Reply(reply.status, reply.body),
                Step::Forward(forward) => return End::Forward(forward.path.clone()),
                Step::Call(request) => {
                    let outcome = self.answer(&request);
                    self.asked.push(format!("{} {}", request.method, request.path));
                    step = visit.answer(now, &mut self.memory, &outcome);
                }
            }
        }
    }

    fn answer(&self, request: &Request) -> Outcome {
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
        Outcome::Response(Response {
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

/// What Testkube makes of a segment: `url.QueryUnescape`, twice.
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
fn every_link_leads_to_the_file_that_it_is_listed_for() {
    let printable: Vec<char> = (' '..='~').collect();
    let mut all: Vec<String> = printable.iter().map(ToString::to_string).collect();
    all.extend(printable.iter().flat_map(|a| printable.iter().map(move |b| format!("{a}{b}"))));
    all.extend(
        ["%2F", "%252F", "a%2Fb", "a%252Fb", "50%2525", "a+b", "e\u{301}", "\u{e9}", "x//y", "shop-e2e-2/x"]
            .map(String::from),
    );
    all.push("é".repeat(127) + "x");
    all.push("archive/x".into());
    all.push("archive".into());
    all.push("logs".into());
    let is_climber = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let refused = |name: &str| name.split(['/', '\\']).any(is_climber);
    for executions in [&["shop-e2e-2"][..], &["shop-e2e-2", "shop-api-1"]] {
        let listed: Vec<Value> = executions.iter().map(|name| execution(name, "passed")).collect();
        for some in all.chunks(1_500) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            let mut testkube =
                testkube(&listed, &[("shop-e2e-2", names(&some)), ("shop-api-1", names(&some))]);
            let list = testkube.json("shop-1");
            for shown in list["executions"].as_array().unwrap() {
                for artifact in shown["artifacts"].as_array().unwrap() {
                    let name = artifact["name"].as_str().unwrap();
                    let Some(url) = artifact["url"].as_str() else {
                        assert!(refused(name), "{name:?} has no link");
                        continue;
                    };
                    assert!(url.bytes().all(|c| c.is_ascii_graphic()), "{url}");
                    let End::Forward(path) = testkube.get(rest_of(url)) else {
                        panic!("{name:?} {url}: {:?}", testkube.get(rest_of(url)))
                    };
                    let prefix =
                        format!("/v1/test-workflow-executions/{}/artifacts/", shown["id"].as_str().unwrap());
                    assert_eq!(unescaped(path.strip_prefix(&prefix).unwrap()), name, "{url}");
                }
            }
        }
    }
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
    // Testkube is asked for what was understood here: to Go, a `+` that stands by itself is a blank.
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
        ("shop-1?since=yesterday", "`since` is no time"),
        ("shop-1?format=xml", "`format=xml` is no parameter"),
        ("shop-1?mas=x", "`mas=x` is no parameter"),
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
fn more_than_a_page_is_asked_for_at_once_and_more_than_that_is_refused() {
    let many = |n: i64| -> Vec<Value> {
        (0..n).map(|i| json!({"id": format!("id-{i}"), "name": format!("w-{i}"), "number": i, "scheduledAt": "2026-01-23T16:00:00Z",
            "result": {"status": "passed", "finishedAt": "2026-01-23T16:44:00Z"}, "workflow": {"name": "w"}, "tags": {"ado-run": "shop-1"}})).collect()
    };
    let mut some = testkube(&many(150), &[]);
    assert_eq!(some.refusal("shop-1").0, 409, "too many lists for one request");
    assert!(matches!(some.get("shop-1/w-7/logs"), End::Forward(path) if path.contains("/id-7/")));
    assert!(some.asked[1].contains("pageSize=1000"), "{:?}", some.asked);
    assert!(testkube(&many(1_001), &[]).refusal("shop-1").1.starts_with("1001 executions have this tag"));
}

#[test]
fn testkubes_faults_are_told_and_never_taken_for_nothing() {
    let open = config(r#""insecure_no_auth":true"#);
    for (fault, status) in [
        (Fault::NoAnswer, 504),
        (Fault::NoConnection, 503),
        (Fault::Status(500), 502),
        (Fault::Truncated, 502),
    ] {
        let mut visit = Visit::new(&open, NOW, &headers(), b"shop-1").unwrap();
        let mut memory = Memory::default();
        assert!(matches!(visit.step(NOW, &mut memory), Step::Call(_)));
        let Step::Reply(reply) = visit.answer(NOW, &mut memory, &Outcome::Failed(fault)) else { panic!() };
        assert_eq!(reply.status, status);
        assert!(reply.body.contains("Testkube could not be asked"));
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
fn of_testkubes_answers_only_a_file_or_a_part_of_one_goes_on() {
    let file = Forward::file("/".into(), "x.xml");
    let archive = Forward::archive("/".into(), "shop-e2e-2");
    let log = Forward::logs("/".into(), "shop-e2e-2");
    for forward in [&file, &archive, &log] {
        assert_eq!((forward.refusal(200), forward.refusal(206)), (None, None));
        for status in (0..600).filter(|status| !matches!(status, 200 | 206)) {
            let reply = forward.refusal(status).unwrap();
            assert!(reply.status >= 400, "{status}");
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(body["status"], reply.status);
            assert!(reply.headers.contains(&("content-type", "application/problem+json".into())));
            assert!(reply.headers.contains(&("cache-control", "private, no-store".into())));
        }
    }
    let detail = |forward: &Forward, status| {
        let reply = forward.refusal(status).unwrap();
        (reply.status, reply.body)
    };
    let (status, body) = detail(&log, 500);
    assert!(status == 404 && body.contains("The execution has no log"), "{status} {body}");
    let (status, body) = detail(&file, 500);
    assert!(status == 502 && body.contains("HTTP 500 when it was asked for this file"), "{status} {body}");
    assert!(detail(&archive, 500).1.contains("A `mask` is no regular expression"));
    for (given, expected) in
        [(404, 404), (416, 416), (403, 502), (429, 503), (503, 503), (504, 504), (307, 502)]
    {
        assert_eq!(detail(&file, given).0, expected);
    }
}

#[test]
fn a_host_that_is_none_makes_links_without_one() {
    let with = |host: &str| {
        let pairs = [(":scheme", "https"), (":authority", host)];
        let headers = pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let (scheme, host) = shown::asked_at(&headers);
        shown::origin(&scheme, &host)
    };
    assert_eq!(with("[::1]:8080"), "https://[::1]:8080");
    for host in ["", "a b", "x\"y", "a/b", "é"] {
        assert_eq!(with(host), "");
    }
}

#[test]
fn a_list_that_takes_too_long_or_too_much_names_what_to_do() {
    let open = config(r#""insecure_no_auth":true"#);
    let testkube = testkube(
        &[
            execution("shop-e2e-2", "passed"),
            execution("shop-api-1", "passed"),
            execution("shop-load-1", "passed"),
        ],
        &[("shop-e2e-2", names(&["x"]))],
    );
    let end = |each: u64, body: Option<Value>| {
        let (mut now, mut memory) = (NOW, Memory::default());
        let mut visit = Visit::new(&open, now, &headers(), b"shop-1").unwrap();
        let mut step = visit.step(now, &mut memory);
        while let Step::Call(request) = step {
            let mut outcome = testkube.answer(&request);
            if let (Some(body), Outcome::Response(response)) = (&body, &mut outcome)
                && request.path.ends_with("/artifacts")
            {
                response.body = Ok(body.to_string().into_bytes());
            }
            now = Now { mono: Mono(now.mono.0 + each), ..now };
            step = visit.answer(now, &mut memory, &outcome);
        }
        match step {
            Step::Reply(reply) => (reply.status, reply.body),
            _ => panic!("no reply"),
        }
    };
    assert_eq!(end(4_000, None).0, 200);
    let (status, body) = end(6_000, None);
    assert!(
        status == 504 && body.contains("of 2 of 3 executions in 15s: name one of them"),
        "{status} {body}"
    );
    let many: Value = (0..15_000).map(|n| json!({"name": format!("f{n}")})).collect();
    let (status, body) = end(1, Some(many));
    assert!(status == 409 && body.contains("more than 20000, or"), "{status} {body}");
}

#[test]
fn where_a_request_goes_is_known_as_long_as_the_answers_are_that_say_so() {
    let open = config(r#""insecure_no_auth":true"#);
    let later = |ms| Now { mono: Mono(NOW.mono.0 + ms), ..NOW };
    let mut testkube =
        testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["a.xml", "b.xml"]))]);
    let End::Forward(a) = testkube.get_at(NOW, &open, "shop-1/a.xml") else { panic!() };
    let End::Forward(b) = testkube.get_at(later(9_000), &open, "shop-1/b.xml") else { panic!() };
    assert_eq!(testkube.asked.len(), 3);
    let known = |ms, config: &Config, rest: &str| {
        known(config, later(ms).mono, &headers(), rest.as_bytes(), &testkube.memory)
            .map(|(_, to)| to.path.clone())
    };
    assert_eq!(known(9_999, &open, "shop-1/a.xml"), Some(a));
    assert_eq!(known(9_999, &open, "shop-1/b.xml"), Some(b));
    for rest in ["shop-1/a.xml", "shop-1/b.xml"] {
        assert_eq!(known(10_000, &open, rest), None, "the list is from the beginning");
    }
    for rest in ["shop-1/c.xml", "shop-1/a.xml?all=true", "ado-run=shop-1/a.xml", "shop-2/a.xml"] {
        assert_eq!(known(1, &open, rest), None, "{rest}");
    }
    for (allow, tags) in [("artifacts", "bank-*"), ("checks", "shop-*")] {
        let other = config(&format!(
            r#""credentials":[{{"name":"c","kind":"bearer","secret_env":"S","allow":["{allow}"],"tags":["{tags}"]}}]"#
        ));
        assert_eq!(known(1, &other, "shop-1/a.xml"), None);
        assert!(Visit::new(&other, NOW, &headers(), b"shop-1/a.xml").is_err_and(|reply| reply.status == 403));
    }
}

#[test]
fn where_a_request_goes_is_not_known_while_something_runs() {
    let open = config(r#""insecure_no_auth":true"#);
    let mut testkube = testkube(&[execution("shop-e2e-2", "running")], &[("shop-e2e-2", names(&["a.xml"]))]);
    let rest = "shop-1/a.xml?partial=true";
    assert!(matches!(testkube.get_at(NOW, &open, rest), End::Forward(_)));
    assert!(known(&open, NOW.mono, &headers(), rest.as_bytes(), &testkube.memory).is_none());
}

/// The names `f0`, `f1`, … with a thousand bytes of padding each where `is_long`.
fn many(count: usize, is_long: bool) -> Value {
    let padding = if is_long { "x".repeat(1_000) } else { String::new() };
    (0..count).map(|n| json!({"name": format!("{padding}f{n}"), "size": 7})).collect()
}

#[test]
fn a_file_needs_no_list_unless_it_is_missing() {
    let mut testkube = testkube(
        &[execution("shop-e2e-2", "passed"), execution("shop-api-1", "passed")],
        &[("shop-e2e-2", names(&["x"])), ("shop-api-1", names(&["y"]))],
    );
    assert!(matches!(testkube.get("shop-1/shop-e2e-2/x"), End::Forward(_)));
    assert_eq!(testkube.asked.len(), 2);
    assert!(
        testkube.asked[1].starts_with("HEAD ") && testkube.asked[1].ends_with("/id-shop-e2e-2/artifacts/x")
    );
    // Of two executions one is asked for its list as well: what is not there may as well be unreadable.
    assert!(matches!(testkube.get("shop-1/x"), End::Forward(path) if path.contains("id-shop-e2e-2")));
    let asked: Vec<&str> =
        testkube.asked[2..].iter().map(|asked| asked.split("/id-").nth(1).unwrap()).collect();
    assert_eq!(asked, ["shop-api-1/artifacts/x", "shop-api-1/artifacts", "shop-e2e-2/artifacts/x"]);
}

#[test]
fn of_more_files_than_can_be_listed_each_is_still_reached_by_its_name() {
    for kept in [many(MAX_NAMES + 1, false), many(3_000, true)] {
        let first = kept[0]["name"].as_str().unwrap().to_owned();
        let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", kept.clone())]);
        for rest in ["shop-1", "shop-1?format=text", "shop-1/shop-e2e-2"] {
            let (status, detail) = testkube.refusal(rest);
            assert_eq!(status, 409);
            let way = "https://relay.example:8443/testrelay/v1/artifacts/ado-run=shop-1/shop-e2e-2/NAME";
            assert!(detail.contains("more than 20000") && detail.contains(way), "{detail}");
        }
        assert!(matches!(testkube.get(&format!("shop-1/{first}")), End::Forward(_)));
        let (status, detail) = testkube.refusal("shop-1/nope");
        assert!(status == 404 && detail.contains("more than can be listed"), "{detail}");
        let (status, detail) = testkube.refusal("shop-1/archive");
        assert!(status == 413 && detail.contains("more files than can be listed"), "{detail}");
        // Where HEAD is not answered, the way of the only execution is taken; among several one must be named.
        testkube.knows_heads = false;
        assert!(matches!(testkube.get("shop-1/nope"), End::Forward(_)));
        testkube.executions.push(execution("shop-api-1", "passed"));
        testkube.memory = Memory::default();
        assert_eq!(testkube.refusal("shop-1/nope").0, 404);
    }
}

#[test]
fn where_testkube_answers_no_head_the_list_says_where_a_file_is() {
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
    testkube.knows_heads = false;
    assert!(matches!(testkube.get("shop-1/x"), End::Forward(_)));
    assert_eq!(testkube.refusal("shop-1/y").0, 404);
}

#[test]
fn a_list_is_never_longer_than_its_bound() {
    // Four lists that can be read, and that are too much together; and one that is, with its links.
    let four: Vec<Value> = (1..=4).map(|n| execution(&format!("w-{n}"), "passed")).collect();
    let kept: Vec<(&'static str, Value)> =
        ["w-1", "w-2", "w-3", "w-4"].map(|name| (name, many(800, true))).into();
    let mut together = testkube(&four, &kept);
    for rest in ["shop-1", "shop-1?format=text"] {
        let (status, detail) = together.refusal(rest);
        assert!(status == 409 && detail.contains("Name one execution in the path"), "{status} {detail}");
    }
    assert!(together.json("shop-1/w-1")["executions"].is_array());
    let mut alone = testkube(&four[..1], &[("w-1", many(15_000, false))]);
    let list = alone.get("shop-1");
    assert!(matches!(&list, End::Reply(200, body) if body.len() < MAX_ANSWER), "it fits");
    let encoded: Value =
        (0..3_000).map(|n| json!({"name": format!("{}{n}", "\u{e9}".repeat(200))})).collect();
    let mut encoded = testkube(&four[..1], &[("w-1", encoded)]);
    assert_eq!(encoded.refusal("shop-1").0, 409, "a link is three times as long as such a name");
}

#[test]
fn an_archive_that_testkube_would_collect_in_memory_is_refused_by_the_sizes_in_the_list() {
    let kept = json!([
        {"name": "video.webm", "size": 60 << 20}, {"name": "trace.zip", "size": 5 << 20},
        {"name": "results/junit.xml", "size": 1 << 20}, {"name": "empty"},
    ]);
    let mut testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", kept)]);
    for masks in ["", "?mask=.*", "?mask=(xml|zip)", "?mask=%5C.xml%24&mask=(a)", "?mask=webm,zip,x"] {
        let (status, detail) = testkube.refusal(&format!("shop-1/archive{masks}"));
        assert_eq!(status, 413, "{masks}");
        assert!(detail.contains("The files have 66MiB together; an archive may have 64MiB"), "{detail}");
        assert!(detail.contains("/ado-run=shop-1/shop-e2e-2/NAME"), "{detail}");
    }
    for masks in ["?mask=%5C.xml%24", "?mask=webm", "?mask=.zip&mask=%5C.xml"] {
        assert!(matches!(testkube.get(&format!("shop-1/archive{masks}")), End::Forward(_)), "{masks}");
    }
    assert_eq!(testkube.asked.len(), 2, "the list is remembered");
    let large = config(r#""insecure_no_auth":true,"artifacts":{"max_archive":"66MiB"}"#);
    assert!(matches!(testkube.get_at(NOW, &large, "shop-1/archive"), End::Forward(_)));
    testkube.kept[0].1 = json!([{"name": "huge", "size": -2}]);
    testkube.memory = Memory::default();
    assert!(testkube.refusal("shop-1/archive").1.contains("a file of 2GiB or more"));
}

#[test]
fn a_file_that_no_link_can_lead_to_is_listed_with_the_reason() {
    let mut testkube = testkube(
        &[execution("shop-e2e-2", "passed")],
        &[("shop-e2e-2", names(&["a/..;x/b", "a\n##vso[", "ok"]))],
    );
    let list = testkube.json("shop-1");
    let artifacts = list["executions"][0]["artifacts"].as_array().unwrap();
    for artifact in &artifacts[..2] {
        assert!(artifact["url"].is_null());
        assert!(artifact["reason"].as_str().unwrap().contains("no link can lead to it"), "{artifact}");
    }
    assert!(artifacts[2]["url"].is_string() && artifacts[2].get("reason").is_none());
    let End::Reply(200, text) = testkube.get("shop-1?format=text") else { panic!() };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("# shop-e2e-2, `a/..;x/b`: its name has"), "{text}");
    assert!(lines[1].starts_with("# shop-e2e-2, `a\u{b7}# #vso[`: "), "{text}");
    assert!(lines[2].ends_with("/ok"));
}

#[test]
fn links_begin_with_the_public_url_else_as_the_caller_has_reached_envoy() {
    let list = |config: &Rc<Config>, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
        let mut memory = Memory::default();
        let mut visit = Visit::new(config, NOW, &headers, b"shop-1?format=text").unwrap();
        let mut step = visit.step(NOW, &mut memory);
        while let Step::Call(request) = step {
            let outcome = testkube.answer(&request);
            step = visit.answer(NOW, &mut memory, &outcome);
        }
        match step {
            Step::Reply(reply) => reply.body,
            _ => panic!("no list"),
        }
    };
    let open = config(r#""insecure_no_auth":true"#);
    let public = config(r#""insecure_no_auth":true,"public_url":"https://relay.example/x""#);
    let direct = [(":scheme", "http"), (":authority", "10.0.0.7:8080")];
    let behind = [(":scheme", "http"), (":authority", "relay.example"), ("x-forwarded-proto", "https")];
    let strange =
        [(":scheme", "https"), (":authority", "relay.example"), ("x-forwarded-proto", "javascript")];
    let rest = "/testrelay/v1/artifacts/ado-run=shop-1/x\n";
    assert_eq!(list(&open, &direct), format!("http://10.0.0.7:8080{rest}"));
    assert_eq!(list(&open, &behind), format!("https://relay.example{rest}"));
    assert_eq!(list(&open, &strange), format!("https://relay.example{rest}"));
    for headers in [&direct[..], &behind, &strange] {
        assert_eq!(list(&public, headers), format!("https://relay.example/x{rest}"));
    }
}

#[test]
fn what_jobs_ask_goes_through_the_cluster_for_artifacts() {
    let own = config(r#""insecure_no_auth":true,"artifacts":{"cluster":"downloads"}"#);
    for (config, cluster) in [(config(r#""insecure_no_auth":true"#), "t"), (own, "downloads")] {
        let testkube = testkube(&[execution("shop-e2e-2", "passed")], &[("shop-e2e-2", names(&["x"]))]);
        for rest in ["shop-1", "shop-1/x", "shop-1/archive"] {
            let mut memory = Memory::default();
            let mut visit = Visit::new(&config, NOW, &headers(), rest.as_bytes()).unwrap();
            let mut step = visit.step(NOW, &mut memory);
            while let Step::Call(request) = step {
                assert_eq!(request.cluster, cluster);
                let outcome = testkube.answer(&request);
                step = visit.answer(NOW, &mut memory, &outcome);
            }
        }
    }
}
