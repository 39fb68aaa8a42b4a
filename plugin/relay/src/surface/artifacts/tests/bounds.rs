//! Limits of pages, time and size in requests to Testkube.

use super::*;

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
        let mut memory = VisitMemory::default();
        assert!(matches!(visit.step(NOW, &mut memory), Step::Call(_)));
        let Step::Reply(reply, _) = visit.answer(NOW, &mut memory, &CallOutcome::Failed(fault)) else {
            panic!()
        };
        assert_eq!(reply.status, status);
        assert!(reply.body.contains("The request to Testkube failed"));
    }
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
    assert!(detail(&archive, 500).1.contains("A `mask` is not a regular expression"));
    for (given, expected) in
        [(404, 404), (416, 416), (403, 502), (429, 503), (503, 503), (504, 504), (307, 502)]
    {
        assert_eq!(detail(&file, given).0, expected);
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
        let (mut now, mut memory) = (NOW, VisitMemory::default());
        let mut visit = Visit::new(&open, now, &headers(), b"shop-1").unwrap();
        let mut step = visit.step(now, &mut memory);
        while let Some(request) = call_of(&step) {
            let mut outcome = testkube.answer(&request);
            if let (Some(body), CallOutcome::Response(response)) = (&body, &mut outcome)
                && request.path.ends_with("/artifacts")
            {
                response.body = Ok(body.to_string().into_bytes());
            }
            now = Now { mono: Mono(now.mono.0 + each), ..now };
            step = visit.answer(now, &mut memory, &outcome);
        }
        match step {
            Step::Reply(reply, _) => (reply.status, reply.body),
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
    assert!(status == 409 && body.contains("more than 20000 artifacts"), "{status} {body}");
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
    // Of two executions, one is asked for its list as well: a file that is not there may be unreadable instead.
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
        // If HEAD is not answered, the request goes on to the only execution; among several, one must be named.
        testkube.knows_heads = false;
        assert!(matches!(testkube.get("shop-1/nope"), End::Forward(_)));
        testkube.executions.push(execution("shop-api-1", "passed"));
        testkube.memory = VisitMemory::default();
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
    // Four lists that can be read but are too much together; and one that is not, with its links.
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
        assert!(detail.contains("The files have 66MiB in all; an archive may have 64MiB"), "{detail}");
        assert!(detail.contains("/ado-run=shop-1/shop-e2e-2/NAME"), "{detail}");
    }
    for masks in ["?mask=%5C.xml%24", "?mask=webm", "?mask=.zip&mask=%5C.xml"] {
        assert!(matches!(testkube.get(&format!("shop-1/archive{masks}")), End::Forward(_)), "{masks}");
    }
    assert_eq!(testkube.asked.len(), 2, "the list is remembered");
    let large = config(r#""insecure_no_auth":true,"artifacts":{"max_archive":"66MiB"}"#);
    assert!(matches!(testkube.get_at(NOW, &large, "shop-1/archive"), End::Forward(_)));
    testkube.kept[0].1 = json!([{"name": "huge", "size": -2}]);
    testkube.memory = VisitMemory::default();
    assert!(testkube.refusal("shop-1/archive").1.contains("One of the files has 2GiB or more"));
}
