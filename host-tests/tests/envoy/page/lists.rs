//! Lists of checks, as `GET /v1/checks` answers them.

use serde_json::{Value, json};
use testrelay::time::Wall;

/// The time of all lists, so that a screenshot is always the same.
pub(super) const NOW: &str = "2026-11-29T14:10:00Z";

pub(super) fn now() -> Wall {
    Wall::parse(NOW).unwrap_or_default()
}

fn at(time: &str) -> String {
    format!("2026-11-29T{time}Z")
}

/// A check that waits for an execution that runs and one that is missing.
pub(super) fn waiting() -> Value {
    json!({
        "id": "5f0c7d1e9ab32c64", "state": "running", "since": at("14:02:11"), "tag": "ado-run=shop-4711",
        "project": "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "build": 4711,
        "build_url": "https://dev.azure.com/fabrikam/shop/_build/results?buildId=4711",
        "azure_devops": "https://dev.azure.com/fabrikam", "expect": "shop-api, shop-e2e", "policies": "retry shop-e2e*2",
        "observe_only": false, "deliveries": 1, "decided_by": "2026-11-30T02:00:00Z", "deadline": "timeout",
        "decision": null, "code": null, "reason": null, "reported": false,
        "explain": "Waits for shop-e2e-1, which runs, and for shop-api. Testkube answered at 14:09:56 UTC. \
                    Nothing new with this tag since 14:02 UTC.",
        "history": [
            {"at": at("14:00:00"), "what": "accepted"},
            {"at": at("14:00:01"), "what": "counts executions since 2026-11-29T13:58:20.000Z (the build's start)"},
            {"at": at("14:02:11"), "what": "the counted executions last changed"},
        ],
        "live": {
            "reading": {
                "at": at("14:09:56"), "more": 0, "missing": "shop-api",
                "not_counted": ["shop-e2e-0 (older than the run)"],
                "executions": [
                    {"name": "shop-e2e-1", "workflow": "shop-e2e", "status": "running", "scheduled": at("14:02:11"),
                     "took_seconds": null, "optional": false, "link": "https://testkube.example.com/e/1"},
                    {"name": "shop-smoke-1", "workflow": "shop-smoke", "status": "passed", "scheduled": at("14:00:40"),
                     "took_seconds": 88, "optional": true, "link": "https://testkube.example.com/e/2"},
                ],
            },
            "testkube": null, "azure_devops": null,
        },
    })
}

/// The same check after its end.
pub(super) fn failed() -> Value {
    json!({
        "id": "5f0c7d1e9ab32c64", "state": "done", "since": at("14:09:59"), "tag": "ado-run=shop-4711",
        "build": 4711, "build_url": "https://dev.azure.com/fabrikam/shop/_build/results?buildId=4711",
        "azure_devops": "https://dev.azure.com/fabrikam", "decision": "failed", "code": "failed", "reported": true,
        "reason": "1 of 2 executions failed: shop-e2e-1 (failed after 7 min 40 s).", "attempts": 1,
        "decided_after_seconds": 599, "reported_after_seconds": 599, "observe_only": false,
        "history": [
            {"at": at("14:00:00"), "what": "accepted"}, {"at": at("14:09:58"), "what": "decided"},
            {"at": at("14:09:59"), "what": "reported"},
        ],
    })
}

fn other(id: &str, members: &Value) -> Value {
    let mut check = failed();
    check["id"] = json!(id);
    for (name, value) in members.as_object().into_iter().flatten() {
        check[name] = value.clone();
    }
    check
}

/// A list with this check first, as somebody finds it who asks why a stage hangs.
pub(super) fn list(first: Value) -> Value {
    let stuck = other(
        "0b44e9c2f7d8a150",
        &json!({
            "tag": "ado-run=billing-988", "build": 988, "state": "waiting", "since": at("13:31:00"),
            "decision": null, "code": null, "reason": null, "reported": false, "decided_by": at("14:31:00"),
            "build_url": "https://dev.azure.com/fabrikam/billing/_build/results?buildId=988",
            "explain": "Waits for billing-load. Testkube has answered nothing readable since 13:40 UTC.",
            "history": [{"at": at("13:31:00"), "what": "accepted"}],
        }),
    );
    let passed = other(
        "c1d20f6a7788e3b9",
        &json!({
            "tag": "ado-run=shop-4710", "build": 4710, "decision": "succeeded", "code": "all_passed",
            "reason": "3 of 3 executions passed.", "since": at("13:58:02"), "decided_after_seconds": 412,
            "build_url": "https://dev.azure.com/fabrikam/shop/_build/results?buildId=4710",
        }),
    );
    let unclear = other(
        "77aa0e31c95b4d02",
        &json!({
            "tag": "ado-run=search-12", "build": 12, "decision": "inconclusive", "code": "none_appeared",
            "reason": "Nothing with the tag ado-run=search-12 appeared within 30m.", "since": at("13:20:45"),
            "build_url": "https://dev.azure.com/fabrikam/search/_build/results?buildId=12",
            "decided_after_seconds": 1800, "reported": false,
        }),
    );
    json!({
        "checks": [stuck, first, passed, unclear], "as_of": NOW, "version": "testrelay 0.1.0", "replica": null,
        "health": {
            "testkube": {
                "url_or_cluster": "testkube", "answered": at("13:39:58"),
                "trouble": {"since": at("13:40:02"), "failures": 31, "last": "HTTP 503: disk full", "next_try": at("14:10:12")},
            },
            "azure_devops": [
                {"url": "https://dev.azure.com/fabrikam", "answered": at("14:09:59"), "trouble": null},
                {"url": "https://ado.example.com/DefaultCollection", "answered": null, "trouble": null},
            ],
        },
    })
}

/// The list, and its checks, with a text in each place that somebody outside can fill.
pub(super) fn hostile(text: &str) -> Value {
    let mut list = list(waiting());
    list["checks"] = json!([fill(waiting(), text), fill(failed(), text)]);
    for name in ["incomplete", "version", "next"] {
        list[name] = json!(text);
    }
    list["health"]["testkube"]["trouble"]["last"] = json!(text);
    list
}

fn fill(mut check: Value, text: &str) -> Value {
    for name in ["tag", "expect", "policies", "reason", "explain", "code"] {
        check[name] = json!(text);
    }
    check["replica"] = json!({"id": text, "pod": text});
    check["build_url"] = json!(format!("https://{text}"));
    if let Some(reading) = check.pointer_mut("/live/reading") {
        reading["missing"] = json!(text);
        reading["not_counted"] = json!([text]);
        for name in ["name", "workflow", "status", "link"] {
            reading["executions"][0][name] = json!(text);
        }
    }
    check
}
