//! Bodies: too large, no JSON, nested, contradictory, or simply there.

use super::table::{CANARY, Outcome::*, Row, row, unanswerable};
use host_tests::PASSWORD;
use host_tests::client::Request;
use host_tests::scene::{Fields, Pipeline, USER};
use serde_json::{Value, json};

const NOT_JSON: &str = "The body is not JSON";
const TOO_LARGE: &str = "The body is too large";

fn good(run: &Pipeline) -> Fields {
    run.fields("shop-e2e")
}

/// Everything in headers, and a body.
fn also(run: &Pipeline, body: impl AsRef<[u8]>) -> Request {
    good(run).request().body(body)
}

/// Nothing in headers but the content type.
fn only(body: impl AsRef<[u8]>) -> Request {
    typed("application/json", body)
}

fn typed(content_type: &str, body: impl AsRef<[u8]>) -> Request {
    bare().header("Content-Type", content_type).body(body)
}

fn bare() -> Request {
    Request::post("/testrelay/v1/checks").basic(USER, PASSWORD)
}

fn members(run: &Pipeline) -> Value {
    good(run).json_body().unwrap_or_default()
}

fn changed(run: &Pipeline, name: &str, value: Value) -> Request {
    let mut body = members(run);
    body[name] = value;
    only(body.to_string())
}

pub(crate) const ROWS: &[Row] = &[
    row("everything in the body", |run| only(members(run).to_string()), Accepted),
    row(
        "names in other cases in the body",
        |run| only(members(run).to_string().replace("PlanId", "planid").replace("JobId", "JOB_ID")),
        Accepted,
    ),
    row(
        "everything in a chunked body",
        |run| {
            bare()
                .header("Content-Type", "application/json; charset=utf-8")
                .chunks(members(run).to_string().as_bytes().chunks(50))
        },
        Accepted,
    ),
    row(
        "ids in headers and the tag in the body",
        |run| good(run).without("Testrelay-Tag").request().body(json!({ "tag": run.tag }).to_string()),
        Accepted,
    ),
    row("an expectation as a list", |run| changed(run, "Expect", json!(["shop-e2e"])), Accepted),
    row(
        "an expectation as a number",
        |run| {
            let mut body = members(run);
            body["Expect"] = json!(1);
            body["settle"] = json!("1s");
            only(body.to_string())
        },
        Accepted,
    ),
    row(
        "an expectation as a list of numbers",
        |run| changed(run, "Expect", json!([1])),
        Rejected("Testrelay-Expect: must be a text or a number"),
    ),
    row(
        "a BuildId as a number",
        |run| {
            let build = json!(run.spec.build);
            changed(run, "BuildId", build)
        },
        Accepted,
    ),
    row("an empty chunked body", |run| good(run).request().chunks([""; 0]), Accepted),
    row(
        "an empty chunked body and no ids",
        |_| bare().header("Content-Type", "application/json").chunks([""; 0]),
        unanswerable("PlanId: missing"),
    ),
    row("a body of white space", |run| also(run, " \r\n"), Accepted),
    row("an empty object", |run| also(run, "{}"), Accepted),
    row(
        "the same PlanId in header and body",
        |run| also(run, json!({ "PlanId": run.spec.plan }).to_string()),
        Accepted,
    ),
    row(
        "another PlanId in the body",
        |run| also(run, json!({ "PlanId": run.spec.task }).to_string()),
        unanswerable("PlanId: was sent twice with different values"),
    ),
    row(
        "another tag in the body",
        |run| also(run, json!({ "tag": "shop-1" }).to_string()),
        Rejected("Testrelay-Tag: was sent twice with different values"),
    ),
    row(
        "two tags in the body",
        |run| {
            let tag = &run.tag;
            good(run).without("Testrelay-Tag").request().body(format!(r#"{{"tag": "{tag}", "Tag": "x-1"}}"#))
        },
        Rejected("was sent twice with different values"),
    ),
    row(
        "another token in the body",
        |run| also(run, json!({ "AuthToken": CANARY }).to_string()),
        unanswerable("AuthToken: was sent twice"),
    ),
    row(
        "an unknown member",
        |run| also(run, r#"{"timeuot": "5m"}"#),
        Rejected("the body's member `timeuot` is unknown"),
    ),
    row(
        "a PlanId that is a list",
        |run| changed(run, "PlanId", json!([1])),
        unanswerable("PlanId: must be a text or a number"),
    ),
    row(
        "a token that is an object",
        |run| changed(run, "AuthToken", json!({ "x": CANARY })),
        unanswerable("AuthToken: must be a text or a number"),
    ),
    row(
        "a body that is not JSON",
        |run| also(run, "PlanId=1&canary-6b1f"),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "a body cut off",
        |run| only(members(run).to_string().split_at(90).0),
        unanswerable("body: is not a JSON object"),
    ),
    row("a body that is a list", |run| also(run, "[]"), Rejected("body: is not a JSON object")),
    row("a body that is null", |run| also(run, "null"), Rejected("body: is not a JSON object")),
    row("a body that is a text", |run| also(run, "\"hello\""), Rejected("body: is not a JSON object")),
    row(
        "a body that is a secret",
        |run| also(run, format!("\"{CANARY}\"")),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "a body that is not UTF-8",
        |run| also(run, b"{\"tag\": \"\xff\xfe\"}"),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "lists ten thousand deep",
        |run| also(run, "[".repeat(10_000)),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "objects ten thousand deep",
        |run| also(run, r#"{"x":"#.repeat(10_000)),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "a member ten thousand deep",
        |run| also(run, format!(r#"{{"tag":{}"#, "[".repeat(10_000))),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "ids that are not in a JSON body",
        |run| typed("text/plain", members(run).to_string()),
        Refused(415, NOT_JSON, "Content-Type: application/json"),
    ),
    row(
        "ids in a form",
        |_| typed("application/x-www-form-urlencoded", "PlanId=1"),
        Refused(415, NOT_JSON, ""),
    ),
    row(
        "ids in a body without a type",
        |run| bare().body(members(run).to_string()),
        Refused(415, NOT_JSON, ""),
    ),
    row(
        "all ids in headers and a text",
        |run| good(run).with("Content-Type", "text/plain").request().body("hello"),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "all ids in headers and a body without a type",
        |run| good(run).without("Content-Type").request().body("expect: shop-e2e"),
        Rejected("body: is not a JSON object"),
    ),
    row(
        "a policy in a text",
        |run| {
            let body = r#"{"expect": "shop-e2e"}"#;
            good(run).without("Testrelay-Expect").with("Content-Type", "text/plain").request().body(body)
        },
        Accepted,
    ),
    row(
        "a wrong policy in a text",
        |run| good(run).with("Content-Type", "text/plain").request().body(r#"{"expect": "shop-api"}"#),
        Rejected("Testrelay-Expect: was sent twice with different values"),
    ),
    row(
        "white space as a text",
        |run| good(run).with("Content-Type", "text/plain").request().body(" \r\n"),
        Accepted,
    ),
    row(
        "the older task's default body",
        |run| {
            let spec = &run.spec;
            let ids = json!({"JobId": spec.job, "PlanId": spec.plan, "TimelineId": spec.timeline, "ProjectId": spec.project,
                             "VstsUrl": host_tests::scene::PLAN_URL, "AuthToken": spec.token});
            also(run, ids.to_string())
        },
        Accepted,
    ),
    row(
        "the token as a member's name",
        |run| also(run, json!({ &run.spec.token: 1 }).to_string()),
        Rejected("the body's member (it contains a part of this request's token"),
    ),
    row(
        "a part of the token as a member's name",
        |run| also(run, json!({ &run.spec.token[4..24]: 1 }).to_string()),
        Rejected("the body's member (it contains a part of this request's token"),
    ),
    row(
        "the token as tag",
        |run| good(run).with("Testrelay-Tag", &run.spec.token).request(),
        Rejected("Testrelay-Tag: contains a part of this request's token"),
    ),
    row(
        "the password as expectation",
        |run| good(run).with("Testrelay-Expect", PASSWORD).request(),
        Rejected("Testrelay-Expect: contains a part of this request's token"),
    ),
    row(
        "the token as PlanId",
        |run| good(run).with("PlanId", &run.spec.token).request(),
        unanswerable("PlanId: contains a part of this request's token"),
    ),
    row("a body over 64 KiB", |run| also(run, " ".repeat(65_537)), Refused(413, TOO_LARGE, "at most 64 KiB")),
    row("a body of just 64 KiB", |run| also(run, " ".repeat(65_536)), Accepted),
    row(
        "a body that claims 2 GiB",
        |run| good(run).request().header("Content-Length", "2147483648").chunks([""; 0]),
        ByEnvoy(400),
    ),
    row(
        "a chunked body over 64 KiB",
        |run| good(run).request().chunks(std::iter::repeat_n([b' '; 1_000], 100)),
        Refused(413, TOO_LARGE, "at most 64 KiB"),
    ),
    row(
        "a chunked body of 96 KiB",
        |run| good(run).request().chunks(std::iter::repeat_n([b' '; 16_384], 6)),
        Refused(413, TOO_LARGE, "at most 64 KiB"),
    ),
    // If much of a body arrives at once, Envoy's own 413 comes before the module's.
    row(
        "a chunked body of 768 KiB",
        |run| good(run).request().chunks(std::iter::repeat_n([b' '; 16_384], 48)),
        ByEnvoy(413),
    ),
    row(
        "a chunked body of 2 MiB",
        |run| good(run).request().chunks(std::iter::repeat_n([b' '; 16_384], 128)),
        ByEnvoy(413),
    ),
];
