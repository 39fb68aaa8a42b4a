//! The destinations of links.

use super::*;

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
fn an_invalid_host_makes_links_without_a_host() {
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
        let mut memory = VisitMemory::default();
        let mut visit = Visit::new(config, NOW, &headers, b"shop-1?format=text").unwrap();
        let mut step = visit.step(NOW, &mut memory);
        while let Some(request) = call_of(&step) {
            let outcome = testkube.answer(&request);
            step = visit.answer(NOW, &mut memory, &outcome);
        }
        match step {
            Step::Reply(reply, _) => reply.body,
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
