//! Artifacts by tag: the list, one file, the archive, the log, and what becomes of everything else.

use anyhow::{Context, Result};
use fakes::testkube::{Fault, Route};
use fakes::{Execution, Span, Status, execution};
use host_tests::client::{Connection, Request, Response};
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{BEARER, Envoy};
use serde_json::Value;

const TAG: &str = "shop-1";

fn passed(workflow: &str) -> Execution {
    execution(workflow).tag(TAG_KEY, TAG).at(now_ms() - 60_000, Status::Passed)
}

fn get(envoy: &Envoy, target: &str) -> Result<Response> {
    Request::get(target).bearer(BEARER).send(envoy.address())
}

fn by_tag(rest: &str) -> String {
    format!("/testrelay/v1/artifacts/{TAG_KEY}={TAG}{rest}")
}

/// The path of a link, which begins with the host that the test's client names.
fn path_of(url: &str) -> Result<String> {
    let path = url.strip_prefix("http://testrelay.example");
    path.map(str::to_owned).with_context(|| format!("{url} has another origin"))
}

#[test]
fn a_pipeline_that_knows_its_tag_gets_the_files() -> Result<()> {
    let scene = Scene::new()?;
    let junit = b"<testsuite tests=\"1\"/>\n\xff\x00".to_vec();
    let id = scene.execution(
        passed("shop-e2e")
            .artifact("results/junit.xml", junit.clone())
            .artifact("results/report 1.html", "<script>alert(1)</script>")
            .log("all is well\n"),
    );
    let envoy = Envoy::start(&scene.setup()?)?;

    let list = get(&envoy, &by_tag(""))?;
    assert_eq!(list.status, 200, "{}", list.text());
    let shown = &list.json()?["executions"][0];
    assert_eq!((shown["id"].as_str(), shown["status"].as_str()), (Some(id.as_str()), Some("passed")));
    assert_eq!(shown["artifacts"][0]["size"], junit.len());

    let links = get(&envoy, &by_tag("?format=text"))?.text();
    let links: Vec<&str> = links.lines().collect();
    assert_eq!(links.len(), 2, "{links:?}");
    let file = get(&envoy, &path_of(links[0])?)?;
    assert_eq!((file.status, file.body.as_slice()), (200, junit.as_slice()));
    let headers = |response: &Response, name: &str| response.header(name).unwrap_or_default().to_owned();
    assert_eq!(headers(&file, "content-type"), "application/xml");
    assert_eq!(
        headers(&file, "content-disposition"),
        "attachment; filename=\"junit.xml\"; filename*=UTF-8''junit.xml"
    );
    let page = get(&envoy, &path_of(links[1])?)?;
    assert_eq!((page.status, page.text().as_str()), (200, "<script>alert(1)</script>"));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("cache-control", "private, no-store"),
    ] {
        assert_eq!(headers(&page, name), value);
    }

    let log = get(&envoy, &by_tag("/logs"))?;
    assert_eq!((log.status, log.text().as_str()), (200, "all is well\n"));
    let archive = get(&envoy, &by_tag("/archive?mask=.*%5C.xml"))?;
    let own = get(&envoy, &format!("/v1/test-workflow-executions/{id}/artifact-archive?mask=.*%5C.xml"))?;
    assert_eq!((archive.status, &archive.body), (200, &own.body));
    assert_eq!(headers(&archive, "content-type"), "application/gzip");
    assert_eq!(
        headers(&own, "content-type"),
        "text/plain; charset=utf-8",
        "Testkube's own paths stay as they are"
    );

    let head = Request::new("HEAD", by_tag("/results/junit.xml")).bearer(BEARER).send(envoy.address())?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let seen = scene.testkube();
    let seen = seen.requests().iter().filter(|r| r.request.path().contains("/artifacts/"));
    assert!(seen.clone().count() >= 3);
    for request in seen {
        assert!(request.request.value("authorization").is_none(), "{:?}", request.request);
    }
    envoy.stop()
}

#[test]
fn every_name_comes_back_through_its_link() -> Result<()> {
    let scene = Scene::new()?;
    let printable = (' '..='~').filter(|c| !matches!(c, '.' | '/')).map(String::from);
    let special = [
        "a/b/c.xml",
        "%2F",
        "%252F",
        "a%2Fb",
        "50%20x",
        "100%",
        "a+b",
        "a b",
        "x//y",
        "?",
        "#",
        "a?b#c",
        "e\u{301}",
        "\u{e9}",
        "日本語/結果.xml",
        "\\",
        "a;b=c",
        "archive",
        "logs",
        "archive/x",
        "'\"<>",
    ];
    let mut names: Vec<String> = printable.chain(special.map(String::from)).collect();
    names.push("é".repeat(127) + "x");
    names.sort();
    names.dedup();
    let with_all = |workflow: &str| {
        let bytes = |name: &str| format!("{workflow}: {name}");
        names.iter().fold(passed(workflow), |execution, name| execution.artifact(name, bytes(name)))
    };
    scene.execution(with_all("shop-e2e"));
    let envoy = Envoy::start(&scene.setup()?)?;
    let fetch_all = |workflows: &[&str]| -> Result<()> {
        let list = get(&envoy, &by_tag(""))?.json()?;
        let executions = list["executions"].as_array().context("executions")?;
        assert_eq!(executions.len(), workflows.len());
        for shown in executions {
            let artifacts = shown["artifacts"].as_array().context("artifacts")?;
            assert_eq!(artifacts.len(), names.len());
            for artifact in artifacts {
                let (name, url) = (artifact["name"].as_str(), artifact["url"].as_str());
                let (name, url) = (name.context("name")?, url.with_context(|| format!("{artifact}"))?);
                let file = get(&envoy, &path_of(url)?)?;
                let expected = format!("{}: {name}", shown["workflow"].as_str().unwrap_or_default());
                assert_eq!((file.status, file.text()), (200, expected), "{url}");
            }
        }
        Ok(())
    };
    fetch_all(&["shop-e2e"])?;
    // The module caches what it learned about the tag for ten seconds; a list of everything is another question.
    scene.execution(with_all("shop-api"));
    let list = get(&envoy, &by_tag("?all=true"))?.json()?;
    assert_eq!(list["executions"].as_array().map(Vec::len), Some(2));
    for shown in list["executions"].as_array().context("executions")? {
        let url = shown["artifacts"][3]["url"].as_str().context("url")?;
        let file = get(&envoy, &path_of(url)?)?;
        let workflow = shown["workflow"].as_str().unwrap_or_default();
        assert!(file.status == 200 && file.text().starts_with(workflow), "{url}");
    }
    envoy.stop()
}

#[test]
fn what_cannot_be_given_is_refused_with_a_reason() -> Result<()> {
    let scene = Scene::new()?;
    scene.execution(passed("shop-e2e").artifact("junit.xml", "1"));
    scene.execution(passed("shop-api").artifact("junit.xml", "2"));
    let running = execution("shop-load").tag(TAG_KEY, "shop-2").at(now_ms() - 1_000, Status::Running);
    scene.execution(running.artifact("part.xml", "3"));
    let envoy = Envoy::start(&scene.setup()?)?;
    let refused = |target: &str| -> Result<(u16, String)> {
        let answer = get(&envoy, target)?;
        let detail = answer.json().ok().and_then(|body| Some(body["detail"].as_str()?.to_owned()));
        Ok((answer.status, detail.unwrap_or_else(|| answer.text())))
    };
    for (target, status, detail) in [
        (by_tag("/junit.xml"), 409, "2 executions have `junit.xml`: use one of the links."),
        (by_tag("/archive"), 409, "2 executions have `archive`"),
        (by_tag("/nope.xml"), 404, "`nope.xml` is not among the 2 artifacts of shop-e2e"),
        (by_tag("/..%2fx"), 400, "a `.` or `..` segment"),
        (by_tag("/%252e%252e/x"), 400, "a `.` or `..` segment"),
        ("/testrelay/v1/artifacts/shop-9".into(), 404, "no execution tagged ado-run=shop-9"),
        ("/testrelay/v1/artifacts/shop-2".into(), 409, "has not ended (running)"),
        ("/testrelay/v1/artifacts/a=b=c".into(), 400, "the tag's key is `a`"),
        ("/testrelay/v1/artifacts/".into(), 404, ""),
    ] {
        let (got, text) = refused(&target)?;
        assert!(got == status && text.contains(detail), "{target}: {got} {text}");
    }
    assert_eq!(get(&envoy, "/testrelay/v1/artifacts/shop-2/part.xml?partial=true")?.text(), "3");
    let anonymous = Request::get(by_tag("")).send(envoy.address())?;
    assert_eq!(anonymous.status, 401);
    let post = Request::post(by_tag("")).bearer(BEARER).send(envoy.address())?;
    assert_eq!(post.status, 405);

    scene.testkube().fault(Route::List, Span::Next(1), Fault::Reset);
    let (status, text) = refused("/testrelay/v1/artifacts/shop-9")?;
    assert!(status == 503 && text.contains("The request to Testkube failed"), "{status} {text}");
    envoy.stop()
}

#[test]
fn a_file_that_breaks_off_is_seen_to_be_broken() -> Result<()> {
    let scene = Scene::new()?;
    scene.execution(passed("shop-e2e").log(&"x".repeat(1 << 20)));
    let envoy = Envoy::start(&scene.setup()?)?;
    scene.testkube().fault(Route::Log, Span::Next(1), Fault::Cut { bytes: 1 << 19 });
    let mut connection = Connection::open(envoy.address())?;
    let (head, mut body) = connection.start(&Request::get(by_tag("/logs")).bearer(BEARER))?;
    assert_eq!(head.status, 200);
    assert!(body.read_all().is_err(), "a short file with a good end");
    assert_eq!(get(&envoy, &by_tag("/logs"))?.body.len(), 1 << 20);
    envoy.stop()
}

#[test]
fn a_head_that_testkube_would_refuse_is_made_short() -> Result<()> {
    let scene = Scene::new()?;
    let name = "é".repeat(127) + "x";
    let id = scene.execution(passed("shop-e2e").artifact(&name, "1").artifact("x", "2"));
    let envoy = Envoy::start(&scene.setup()?)?;
    let list: Value = get(&envoy, &by_tag(""))?.json()?;
    let artifacts = list["executions"][0]["artifacts"].as_array().context("artifacts")?;
    let own = format!("/v1/test-workflow-executions/{id}/artifacts/x");
    let by_name = |wanted: &str| artifacts.iter().find(|artifact| artifact["name"] == wanted);
    let url = by_name(&name).and_then(|artifact| artifact["url"].as_str()).context("url")?;
    for (target, body) in [(path_of(url)?, "1"), (own, "2")] {
        let request = Request::get(&target)
            .bearer(BEARER)
            .header("x-forwarded-client-cert", "x".repeat(3_000))
            .header("cookie", "y".repeat(3_000));
        let answer = request.send(envoy.address())?;
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{target}");
    }
    envoy.stop()
}
