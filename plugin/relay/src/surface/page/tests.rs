use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

const BASE: &str = "/testrelay";

/// Names that somebody may give a tag, a workflow or an answer to break a page.
const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'/><svg onload=alert(1)>",
    "\u{202e}dessap\u{2066}\u{200f}",
    "]]>--></title></style></main>&lt;b&gt;",
];

fn now() -> Wall {
    Wall::parse("2026-11-29T23:10:00Z").unwrap()
}

fn trouble(text: &str) -> Value {
    json!({"since": "2026-11-29T22:40:00.000Z", "failures": 31, "last": text, "next_try": "2026-11-29T23:10:12.000Z"})
}

/// A check that waits. Every text in it is `text`, or has it inside.
fn pending(text: &str) -> Value {
    json!({
        "id": "0123456789abcdef", "state": "waiting", "since": "2026-11-29T23:05:00.000Z", "tag": text,
        "project": "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "build": 4711,
        "build_url": format!("https://dev.azure.com/{text}"), "azure_devops": format!("https://{text}"), "expect": text,
        "policies": text, "observe_only": true, "deliveries": 2, "decided_by": "2026-11-30T11:00:00.000Z",
        "deadline": text, "decision": null, "code": text, "reason": text, "reported": false, "explain": text,
        "history": [
            {"at": "2026-11-29T23:00:00.000Z", "what": "accepted"}, {"at": "2026-11-29T23:00:02.000Z", "what": text},
        ],
        "as_of": "2026-11-29T23:09:00.000Z", "replica": {"id": text, "pod": text},
        "live": {
            "reading": {
                "at": "2026-11-29T23:09:58.000Z", "more": 3, "missing": text, "not_counted": [text],
                "executions": [
                    {"name": text, "workflow": text, "status": text, "scheduled": "2026-11-29T23:02:00.000Z",
                     "took_seconds": 252, "optional": true, "link": format!("https://{text}")},
                    {"name": "b", "workflow": "c", "status": "running", "scheduled": "2026-11-29T23:03:00.000Z",
                     "took_seconds": null, "optional": false, "link": "javascript:alert(1)"},
                ],
            },
            "testkube": trouble(text), "azure_devops": trouble(text),
        },
    })
}

fn decided(text: &str) -> Value {
    let mut check = pending(text);
    for (name, value) in [
        ("state", json!("done")),
        ("decision", json!("failed")),
        ("reported", json!(true)),
        ("attempts", json!(1)),
        ("decided_after_seconds", json!(662)),
        ("reported_after_seconds", json!(663)),
    ] {
        check[name] = value;
    }
    for name in ["decided_by", "deadline", "live"] {
        check.as_object_mut().unwrap().remove(name);
    }
    check
}

fn list(checks: Vec<Value>, text: &str) -> Value {
    json!({
        "checks": checks, "next": text, "incomplete": text, "as_of": "2026-11-29T23:10:00.000Z", "version": text,
        "replica": {"id": text, "pod": text},
        "health": {
            "testkube": {"url_or_cluster": text, "answered": "2026-11-29T22:39:58.000Z", "trouble": trouble(text)},
            "azure_devops": [{"url": text, "answered": null, "trouble": null}, {"url": text, "answered": "2026-11-29T23:09:00Z"}],
        },
    })
}

/// Each page that can be made of a text.
fn pages_of(text: &str) -> Vec<Reply> {
    let all = list(vec![pending(text), decided(text)], text);
    let errors = [crate::surface::problem::FieldError { field: "state", detail: text.into() }];
    vec![
        overview(&all, now(), BASE, &format!("tag={text}&after={text}")),
        one(&pending(text), now(), BASE),
        one(&decided(text), now(), BASE),
        problem(Reply::problem_with(400, text, text, &errors), BASE),
    ]
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_browser_may_apply_this_style_and_run_this_script_and_nothing_else() {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    for page in pages_of("x") {
        assert_eq!(header(&page, "content-security-policy"), Some(policy.as_str()));
        assert_eq!(header(&page, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(header(&page, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&page, "referrer-policy"), Some("no-referrer"));
        assert_eq!(header(&page, "cache-control"), Some("no-store"));
        assert!(page.body.contains(&format!("<style>{STYLE}</style>")));
        for refused in [" style=", " src=", " onclick", "javascript:", "http://"] {
            assert!(!page.body.contains(refused), "{refused}");
        }
    }
}

/// The markup of a page without its texts: what is between `<` and `>`, without the values of attributes.
fn skeleton(body: &str) -> String {
    let mut tags = String::new();
    let (mut inside, mut quoted) = (false, false);
    for c in body.replace(STYLE, "").replace(SCRIPT, "").chars() {
        match c {
            '<' if !quoted => inside = true,
            '"' if inside => quoted = !quoted,
            _ => {}
        }
        if inside && !quoted {
            tags.push(c);
        }
        if c == '>' && !quoted {
            inside = false;
        }
    }
    tags
}

#[test]
fn hostile_names_change_nothing_but_the_text() {
    // A text with neither markup nor a link, as the hostile ones are.
    let plain: Vec<String> = pages_of("a text").iter().map(|page| skeleton(&page.body)).collect();
    for text in HOSTILE {
        // A blank, so that no address with the text in it is a link.
        for (page, plain) in pages_of(&format!("{text} ")).iter().zip(&plain) {
            assert_eq!(&skeleton(&page.body), plain, "{text}");
            assert!(!page.body.contains(text), "{text}");
            assert!(
                !page.body.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
            );
        }
    }
}

#[test]
fn a_page_of_200_checks_has_at_most_200_kb_whatever_is_in_them() {
    for text in ["shop-e2e", "x", "\"", "\u{1f980}", "<&\"'"] {
        let text = text.repeat(10_000);
        for make in [pending, decided] {
            let all = list(vec![make(&text); 200], &text);
            let page = overview(&all, now(), BASE, "limit=200");

            assert!(page.body.len() <= 200_000, "{}", page.body.len());
            assert!(page.body.matches("<tr>").count() >= 200);
        }
        assert!(one(&pending(&text), now(), BASE).body.len() <= 60_000);
    }
}

#[test]
fn what_is_absent_is_not_shown() {
    for empty in [
        json!(null),
        json!({}),
        json!([]),
        json!({"checks": null, "health": null}),
        json!({"checks": [null, {}, 7]}),
    ] {
        let page = overview(&empty, now(), BASE, "");
        assert_eq!(page.status, 200);
        assert!(page.body.contains("<h1>What waits, and why</h1>") && !page.body.contains("null"));
        assert_eq!(one(&empty, now(), BASE).status, 200);
    }
    let page = overview(&json!({"checks": []}), now(), BASE, "");
    assert!(page.body.contains("No check waits.") && page.body.contains("No check was decided lately."));
    assert!(page.body.contains("<title>0 waiting · Testrelay</title>"));
    let unreadable = json!({"checks": [{"id": "0123456789abcdef", "state": "unreadable", "history": []}]});
    let page = overview(&unreadable, now(), BASE, "");
    assert!(
        page.body.contains("/testrelay/checks/0123456789abcdef\"><bdi>0123456789abcdef</bdi>"),
        "{}",
        page.body
    );
}

#[test]
fn the_list_says_what_waits_since_when_and_why() {
    let check = json!({
        "id": "0123456789abcdef", "state": "waiting", "since": "2026-11-29T23:05:00.000Z", "tag": "ado-run=shop-4711",
        "build": 4711, "build_url": "https://dev.azure.com/fabrikam/shop/_build/results?buildId=4711",
        "azure_devops": "https://dev.azure.com/fabrikam", "decided_by": "2026-11-30T11:00:00.000Z",
        "explain": "Waits for shop-api.", "history": [{"at": "2026-11-29T23:00:00.000Z", "what": "accepted"}],
    });
    let page =
        overview(&json!({"checks": [check], "next": "a b+c"}), now(), BASE, "state=waiting&after=x&limit=1")
            .body;
    for want in [
        "<title>1 waiting on this page · Testrelay</title>",
        "<a href=\"/testrelay/checks/0123456789abcdef\"><bdi>ado-run=shop-4711</bdi></a>",
        "build <a href=\"https://dev.azure.com/fabrikam/shop/_build/results?buildId=4711\"><bdi>4711</bdi></a>",
        "<b class=\"idle\"><bdi>waiting</bdi></b> for <time datetime=\"2026-11-29T23:05:00Z\" \
         title=\"2026-11-29 23:05:00 UTC\">5 min</time>",
        "<p><bdi>Waits for shop-api.</bdi>",
        ">10 min ago</time>",
        ">in 11 h</time>",
        "<a href=\"?state=waiting&amp;limit=1&amp;after=a%20b%2Bc\">More checks</a>",
    ] {
        assert!(page.contains(want), "{want}\n{page}");
    }
}

#[test]
fn a_check_shows_its_executions_as_bars_and_in_words() {
    let page = one(&pending("shop"), now(), BASE).body;
    for want in [
        "<h2 id=\"l\">Its life</h2><svg role=\"img\"",
        "23:00:00 UTC (<time",
        "<title>From 23:02:00 UTC to 23:06:12 UTC</title><rect class=\"idle\" x=\"0\" y=\"0\" width=\"527\"",
        "<title>From 23:03:00 UTC to 23:09:58 UTC</title><rect class=\"run\" x=\"125\"",
        "<td>4 min 12 s<td>",
        "<b class=\"warn\">Still missing</b> <bdi>shop</bdi>",
        "<p>And 3 more.</p>",
        "<b class=\"bad\">Testkube fails</b> 31 failed calls in a row, the first <time",
        "Next try: <time datetime=\"2026-11-29T23:10:12Z\" title=\"2026-11-29 23:10:12 UTC\">in 12 s</time>.",
    ] {
        assert!(page.contains(want), "{want}\n{page}");
    }
}

#[test]
fn a_refusal_is_a_page_of_the_same_status() {
    let refused = |status: u16| Reply::problem(status, "Not here", "Look elsewhere.");
    let page = problem(refused(404), BASE);
    assert_eq!((page.status, header(&page, "content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(
        page.body.contains("<title>404 Not here · Testrelay</title>")
            && page.body.contains("Look elsewhere.")
    );
    // Nothing asks for the password again and again.
    assert!(!page.body.contains("<script"));
    assert_eq!(header(&page, "www-authenticate"), None);
    assert_eq!(header(&problem(refused(401), BASE), "www-authenticate"), Some("Basic realm=\"testrelay\""));
    let basic = "Basic realm=\"testrelay\", charset=\"UTF-8\"";
    let page = problem(refused(401).with("www-authenticate", basic).with("retry-after", "1"), BASE);
    assert_eq!(page.headers.iter().filter(|(name, _)| *name == "www-authenticate").count(), 1);
    assert_eq!((header(&page, "www-authenticate"), header(&page, "retry-after")), (Some(basic), Some("1")));
    assert_eq!(problem(Reply::text(503, "not JSON"), BASE).status, 503);
}
