//! Fields that are missing, malformed, contradictory, or not Azure DevOps's.

use super::table::{CANARY, Outcome::*, Row, row, unanswerable};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host_tests::client::Request;
use host_tests::scene::{Fields, Pipeline, TAG_KEY};

const NIL: &str = "00000000-0000-0000-0000-000000000000";
const NOT_LISTED: &str = "PlanUrl is not configured here";

fn good(run: &Pipeline) -> Fields {
    run.fields("shop-e2e")
}

fn with(run: &Pipeline, name: &str, value: impl AsRef<[u8]>) -> Request {
    good(run).with(name, value).request()
}

fn without(run: &Pipeline, name: &str) -> Request {
    good(run).without(name).request()
}

fn plan_url(run: &Pipeline, url: &str) -> Request {
    with(run, "PlanUrl", url)
}

/// The request with a webhook in place of the fields that it replaces.
fn webhook(run: &Pipeline, name: &str, change: impl FnOnce(String) -> String) -> Request {
    let (project, plan) = (&run.spec.project, &run.spec.plan);
    let url = format!(
        "https://dev.azure.com/fabrikam/{project}/_apis/distributedtask/hubs/checks/plans/{plan}/events?api-version=2.0-preview.1"
    );
    let fields = good(run).without("PlanUrl").without("ProjectId").without("HubName").without("PlanId");
    fields.with(name, change(url)).request()
}

fn expired_jwt() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{CANARY}", part(r#"{"alg":"RS256"}"#), part(r#"{"exp":1700000000}"#))
}

pub(crate) const ROWS: &[Row] = &[
    // What the way back needs.
    row(
        "no PlanUrl",
        |run| without(run, "PlanUrl"),
        unanswerable("PlanUrl: missing: send `$(system.CollectionUri)`"),
    ),
    row("no ProjectId", |run| without(run, "ProjectId"), unanswerable("`$(system.TeamProjectId)`")),
    row("no HubName", |run| without(run, "HubName"), unanswerable("`$(system.HostType)`")),
    row("no PlanId", |run| without(run, "PlanId"), unanswerable("`$(system.PlanId)`")),
    row("no JobId", |run| without(run, "JobId"), unanswerable("`$(system.JobId)`")),
    row(
        "no TaskInstanceId",
        |run| without(run, "TaskInstanceId"),
        unanswerable("`$(system.TaskInstanceId)`"),
    ),
    row("no AuthToken", |run| without(run, "AuthToken"), unanswerable("`$(system.AccessToken)`")),
    row("no TimelineId", |run| without(run, "TimelineId"), Accepted),
    row("an empty PlanId", |run| with(run, "PlanId", ""), unanswerable("PlanId: missing")),
    row(
        "a ProjectId that is a name",
        |run| with(run, "ProjectId", "shop"),
        unanswerable("ProjectId: `shop` is not a GUID"),
    ),
    row(
        "a PlanId of another form",
        |run| with(run, "PlanId", "67be341f5310552fe0cd7c580e77b98b"),
        unanswerable("8-4-4-4-12"),
    ),
    row(
        "a JobId with a quote",
        |run| with(run, "JobId", "3a7e60dc-c5b0-5009-86eb-0f217c12e2e\""),
        unanswerable("JobId"),
    ),
    row(
        "a TaskInstanceId that climbs",
        |run| with(run, "TaskInstanceId", "../../../../../../../../../../events"),
        unanswerable("TaskInstanceId"),
    ),
    row("a nil PlanId", |run| with(run, "PlanId", NIL), unanswerable("PlanId")),
    row("a nil JobId", |run| with(run, "JobId", NIL), unanswerable("JobId")),
    row(
        "a TimelineId of another form",
        |run| with(run, "TimelineId", "1"),
        Rejected("TimelineId: `1` is not a GUID"),
    ),
    row(
        "a PlanId with capitals",
        |run| {
            let plan = run.spec.plan.to_uppercase();
            with(run, "PlanId", plan)
        },
        Accepted,
    ),
    row(
        "the hub of classic gates",
        |run| with(run, "HubName", "Gates"),
        unanswerable("classic release gates"),
    ),
    row(
        "an unknown hub",
        |run| with(run, "HubName", "deployment"),
        unanswerable("must be `checks`, `build` or `release`"),
    ),
    row("a hub with a path in it", |run| with(run, "HubName", "checks/../build"), unanswerable("HubName")),
    row("a hub in capitals", |run| with(run, "HubName", "CHECKS"), Accepted),
    // Macros that Azure DevOps did not replace.
    row(
        "a PlanUrl not replaced",
        |run| plan_url(run, "$(system.CollectionUri)"),
        unanswerable("was not replaced by Azure DevOps"),
    ),
    row(
        "a PlanId not replaced",
        |run| with(run, "PlanId", "$(system.PlanID)"),
        unanswerable("`$(system.PlanID)` was not replaced"),
    ),
    row(
        "a HubName not replaced",
        |run| with(run, "HubName", "$(system.HostTyp)"),
        unanswerable("was not replaced"),
    ),
    row(
        "a token not replaced",
        |run| with(run, "AuthToken", "$(system.AccessTokn)"),
        unanswerable("send `$(system.AccessToken)`"),
    ),
    row(
        "a tag not replaced",
        |run| with(run, "Testrelay-Tag", "shop-$(build.BuildId)"),
        Rejected("was not replaced by Azure DevOps"),
    ),
    row(
        "a BuildId not replaced",
        |run| with(run, "BuildId", "$(build.BuildId)"),
        Rejected("BuildId: `$(build.BuildId)` was not replaced"),
    ),
    row(
        "a time not replaced",
        |run| with(run, "Testrelay-Timeout", "$(timeout)"),
        Rejected("Testrelay-Timeout: `$(timeout)` was not"),
    ),
    // The token.
    row(
        "a token with a space",
        |run| with(run, "AuthToken", format!("{CANARY} x")),
        unanswerable("contains characters that a token cannot have"),
    ),
    row(
        "a token too long",
        |run| with(run, "AuthToken", CANARY.repeat(2_000)),
        unanswerable("is longer than 8192 bytes"),
    ),
    row(
        "an expired token",
        |run| with(run, "AuthToken", expired_jwt()),
        unanswerable("AuthToken: has expired"),
    ),
    row(
        "a token that is not UTF-8",
        |run| with(run, "AuthToken", b"canary-6b1f\xff"),
        unanswerable("AuthToken: is not UTF-8"),
    ),
    row(
        "two tokens",
        |run| good(run).and("AuthToken", CANARY).request(),
        unanswerable("AuthToken: was sent twice"),
    ),
    // Where the token would go.
    row(
        "another organisation",
        |run| plan_url(run, "https://dev.azure.com/contoso/"),
        Refused(403, NOT_LISTED, "`azure_devops` entries"),
    ),
    row(
        "a longer organisation",
        |run| plan_url(run, "https://dev.azure.com/fabrikam-evil/"),
        Refused(403, NOT_LISTED, ""),
    ),
    row("no organisation", |run| plan_url(run, "https://dev.azure.com/"), Refused(403, NOT_LISTED, "")),
    row("another host", |run| plan_url(run, "https://evil.example/fabrikam/"), Refused(403, NOT_LISTED, "")),
    row(
        "a look-alike host",
        |run| plan_url(run, "https://dev.azure.com.evil.example/fabrikam/"),
        Refused(403, NOT_LISTED, ""),
    ),
    row(
        "a host with a Cyrillic letter",
        |run| plan_url(run, "https://dev.аzure.com/fabrikam/"),
        unanswerable("characters that a URL cannot have"),
    ),
    row(
        "http in place of https",
        |run| plan_url(run, "http://dev.azure.com/fabrikam/"),
        Refused(403, NOT_LISTED, ""),
    ),
    row(
        "another port",
        |run| plan_url(run, "https://dev.azure.com:8443/fabrikam/"),
        Refused(403, NOT_LISTED, ""),
    ),
    row(
        "a port that is none",
        |run| plan_url(run, "https://dev.azure.com:99999/fabrikam/"),
        unanswerable("an invalid port"),
    ),
    row(
        "user information",
        |run| plan_url(run, "https://u:canary-6b1f@dev.azure.com/fabrikam/"),
        unanswerable("must not contain a user name or password"),
    ),
    row(
        "a host hidden as user",
        |run| plan_url(run, "https://dev.azure.com@evil.example/fabrikam/"),
        unanswerable("must not contain a user name"),
    ),
    row(
        "dots in the PlanUrl",
        |run| plan_url(run, "https://dev.azure.com/fabrikam/../contoso/"),
        unanswerable("must not have `.`, `..`"),
    ),
    row(
        "encoded dots in the PlanUrl",
        |run| plan_url(run, "https://dev.azure.com/fabrikam/%2e%2e/contoso/"),
        unanswerable("must not have `.`, `..`"),
    ),
    row(
        "a query in the PlanUrl",
        |run| plan_url(run, "https://dev.azure.com/fabrikam/?x=1"),
        unanswerable("a query or a fragment"),
    ),
    row(
        "a scheme that is none",
        |run| plan_url(run, "ftp://dev.azure.com/fabrikam/"),
        unanswerable("must begin with https://"),
    ),
    row("a PlanUrl without its last slash", |run| plan_url(run, "https://dev.azure.com/fabrikam"), Accepted),
    row(
        "a PlanUrl with capitals and port",
        |run| plan_url(run, "HTTPS://Dev.Azure.com:443/Fabrikam/"),
        Accepted,
    ),
    row(
        "the older name of PlanUrl",
        |run| good(run).without("PlanUrl").with("VstsUrl", "https://dev.azure.com/fabrikam/").request(),
        Accepted,
    ),
    // The webhook form.
    row("a good webhook", |run| webhook(run, "webhook", |url| url), Accepted),
    row("a good Testrelay-Webhook", |run| webhook(run, "Testrelay-Webhook", |url| url), Accepted),
    row(
        "a webhook to logs",
        |run| webhook(run, "webhook", |url| url.replace("/events", "/logs")),
        unanswerable("must have the form"),
    ),
    row(
        "a Testrelay-Webhook with more path",
        |run| webhook(run, "Testrelay-Webhook", |url| url.replace("/events", "/events/x")),
        unanswerable("must have the form"),
    ),
    row(
        "a webhook with another query",
        |run| webhook(run, "webhook", |url| url.replace("api-version", "redirect")),
        unanswerable("only the query"),
    ),
    row(
        "a webhook to another host",
        |run| webhook(run, "webhook", |url| url.replace("dev.azure.com", "evil.example")),
        Refused(403, NOT_LISTED, ""),
    ),
    row(
        "a webhook to another organisation",
        |run| webhook(run, "webhook", |url| url.replace("fabrikam", "contoso")),
        Refused(403, NOT_LISTED, ""),
    ),
    row(
        "a webhook to the gates hub",
        |run| webhook(run, "webhook", |url| url.replace("/checks/", "/Gates/")),
        unanswerable("classic release gates"),
    ),
    row(
        "a webhook that says something else",
        |run| {
            good(run)
                .with(
                    "webhook",
                    format!(
                        "https://dev.azure.com/fabrikam/{}/_apis/distributedtask/hubs/checks/plans/{}/events",
                        run.spec.project, run.spec.task
                    ),
                )
                .request()
        },
        unanswerable("contradicts the webhook URL"),
    ),
    // The same field twice.
    row(
        "two PlanIds",
        |run| good(run).and("PlanId", &run.spec.task).request(),
        unanswerable("PlanId: was sent twice with different values"),
    ),
    row("the same PlanId twice", |run| good(run).and("PlanId", &run.spec.plan).request(), Accepted),
    row(
        "two tags",
        |run| good(run).and("Testrelay-Tag", "shop-1").request(),
        Rejected("Testrelay-Tag: was sent twice with different values"),
    ),
    row(
        "two tags by two names",
        |run| good(run).and("Tag", "shop-1").request(),
        Rejected("was sent twice with different values"),
    ),
    row(
        "PlanUrl and another VstsUrl",
        |run| good(run).and("VstsUrl", "https://dev.azure.com/contoso/").request(),
        unanswerable("PlanUrl: was sent twice"),
    ),
    // The tag.
    row(
        "no tag",
        |run| without(run, "Testrelay-Tag"),
        Rejected("Testrelay-Tag: missing: send `shop-$(build.BuildId)`"),
    ),
    row(
        "a tag with =",
        |run| with(run, "Testrelay-Tag", format!("{TAG_KEY}={}=x", run.tag)),
        Rejected("cannot be a tag's value"),
    ),
    row(
        "a tag with a comma",
        |run| with(run, "Testrelay-Tag", format!("{},x", run.tag)),
        Rejected("cannot be a tag's value"),
    ),
    row(
        "a tag with a space",
        |run| with(run, "Testrelay-Tag", format!("{} x", run.tag)),
        Rejected("cannot be a tag's value"),
    ),
    row(
        "a tag without a value",
        |run| with(run, "Testrelay-Tag", format!("{TAG_KEY}=")),
        Rejected("cannot be a tag's value"),
    ),
    row(
        "a tag of another key",
        |run| with(run, "Testrelay-Tag", format!("other={}", run.tag)),
        Rejected("this Testrelay is configured for `ado-run`"),
    ),
    row(
        "a tag of two selectors",
        |run| with(run, "Testrelay-Tag", format!("{TAG_KEY}={},{TAG_KEY}=x", run.tag)),
        Rejected("cannot be a tag's value"),
    ),
    row(
        "a tag without the BuildId",
        |run| with(run, "Testrelay-Tag", "shop"),
        Rejected("does not contain the BuildId"),
    ),
    row(
        "a tag with a part of the BuildId",
        |run| with(run, "Testrelay-Tag", format!("{}0", run.tag)),
        Rejected("does not contain the BuildId"),
    ),
    row(
        "a tag that is not UTF-8",
        |run| with(run, "Testrelay-Tag", b"shop-\xff"),
        Rejected("Testrelay-Tag: is not UTF-8"),
    ),
    row(
        "a tag with a log command",
        |run| with(run, "Testrelay-Tag", "##vso[task.complete result=Succeeded;]"),
        Rejected("this Testrelay is configured for `ado-run`"),
    ),
    row("a tag with its key", |run| with(run, "Testrelay-Tag", format!("{TAG_KEY}={}", run.tag)), Accepted),
    row(
        "a tag under its short name",
        |run| good(run).without("Testrelay-Tag").with("Tag", &run.tag).request(),
        Accepted,
    ),
    row("no BuildId", |run| without(run, "BuildId"), Rejected("no BuildId was sent")),
    row(
        "a BuildId that is none",
        |run| with(run, "BuildId", "20260123.4"),
        Rejected("is not a build's number"),
    ),
    row("a BuildId of 0", |run| with(run, "BuildId", "0"), Rejected("is not a build's number")),
    row(
        "a BuildId too large",
        |run| with(run, "BuildId", "99999999999999999999"),
        Rejected("is not a build's number"),
    ),
    // Policies.
    row(
        "an unknown own header",
        |run| with(run, "Testrelay-Wait", "1m"),
        Rejected("the header `testrelay-wait` is unknown; known are Testrelay-Webhook"),
    ),
    row(
        "an unknown own header with x- and an underscore",
        |run| with(run, "X-Testrelay_Wait", "1m"),
        Rejected("the header `x-testrelay_wait` is unknown"),
    ),
    row(
        "a policy in HTTP's own header",
        |run| with(run, "Expect", "shop-e2e"),
        Rejected("the header `expect` belongs to HTTP"),
    ),
    row("nothing to expect", |run| with(run, "Testrelay-Expect", "0"), Rejected("allowed are 1 to 200")),
    row("too much to expect", |run| with(run, "Testrelay-Expect", "201"), Rejected("allowed are 1 to 200")),
    row(
        "no name to expect",
        |run| with(run, "Testrelay-Expect", "shop-e2e,"),
        Rejected("cannot be expected"),
    ),
    row(
        "no workflow's name",
        |run| with(run, "Testrelay-Expect", "Shop E2E"),
        Rejected("`Shop E2E` cannot be expected"),
    ),
    row(
        "a settle time without unit",
        |run| with(run, "Testrelay-Settle", "15"),
        Rejected("Testrelay-Settle: `15` is not a time"),
    ),
    row(
        "a settle time too long",
        |run| with(run, "Testrelay-Settle", "2h"),
        Rejected("Testrelay-Settle: `2h` is not a time"),
    ),
    row(
        "a timeout of a word",
        |run| with(run, "Testrelay-Timeout", "soon"),
        Rejected("write a number and a unit"),
    ),
    row("a timeout of nothing", |run| with(run, "Testrelay-Timeout", "0s"), Rejected("from 1s to 47h 30m")),
    row(
        "a timeout beyond the token",
        |run| with(run, "Testrelay-Timeout", "48h"),
        Rejected("from 1s to 47h 30m"),
    ),
    row(
        "a negative appear timeout",
        |run| with(run, "Testrelay-Appear-Timeout", "-1m"),
        Rejected("Testrelay-Appear-Timeout"),
    ),
    row(
        "a stage without a build",
        |run| good(run).without("BuildId").with("Testrelay-Since-Stage", "Test").request(),
        Rejected("Testrelay-Since-Stage: needs a BuildId"),
    ),
    row(
        "a stage's name too long",
        |run| with(run, "Testrelay-Since-Stage", "x".repeat(300)),
        Rejected("is longer than 256 bytes"),
    ),
];
