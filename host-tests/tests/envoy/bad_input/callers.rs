//! Who calls, and headers that no HTTP library would let through.

use super::table::{CANARY, Outcome::*, Row, row, unanswerable};
use host_tests::client::Request;
use host_tests::scene::{Fields, Pipeline, USER};
use host_tests::{BEARER, PASSWORD};

const UNKNOWN: &str = "Unknown credential";

fn good(run: &Pipeline) -> Fields {
    run.fields("shop-e2e")
}

fn anonymous(run: &Pipeline) -> Request {
    good(run).anonymous_request()
}

fn authorization(run: &Pipeline, value: impl AsRef<[u8]>) -> Request {
    anonymous(run).header("Authorization", value)
}

pub(crate) const ROWS: &[Row] = &[
    row("no credential", anonymous, Refused(401, UNKNOWN, "Generic service connection")),
    row("a wrong password", |run| anonymous(run).basic(USER, CANARY), Refused(401, UNKNOWN, "")),
    row("no password", |run| anonymous(run).basic(USER, ""), Refused(401, UNKNOWN, "")),
    row(
        "a longer password",
        |run| anonymous(run).basic(USER, &format!("{PASSWORD}x")),
        Refused(401, UNKNOWN, ""),
    ),
    row("a wrong user", |run| anonymous(run).basic("Testrelay", PASSWORD), Refused(401, UNKNOWN, "")),
    row("a wrong bearer", |run| anonymous(run).bearer(CANARY), Refused(401, UNKNOWN, "")),
    row("the password as bearer", |run| anonymous(run).bearer(PASSWORD), Refused(401, UNKNOWN, "")),
    row("an empty Authorization", |run| authorization(run, ""), Refused(401, UNKNOWN, "")),
    row("an Authorization without a scheme", |run| authorization(run, CANARY), Refused(401, UNKNOWN, "")),
    row(
        "Basic that is not Base64",
        |run| authorization(run, "Basic canary-6b1f!"),
        Refused(401, UNKNOWN, ""),
    ),
    row(
        "another scheme",
        |run| authorization(run, "Digest username=\"canary-6b1f\""),
        Refused(401, UNKNOWN, ""),
    ),
    row(
        "an Authorization that is not UTF-8",
        |run| authorization(run, b"Basic \xff\xfe\x80"),
        Refused(401, UNKNOWN, ""),
    ),
    row("a scheme that is not UTF-8", |run| authorization(run, b"\xc3\x28"), Refused(401, UNKNOWN, "")),
    row("two credentials", |run| good(run).request().bearer(BEARER), Refused(401, UNKNOWN, "")),
    row(
        "the same credential twice",
        |run| good(run).request().basic(USER, PASSWORD),
        Refused(401, UNKNOWN, ""),
    ),
    row(
        "the credential of another route",
        |run| anonymous(run).bearer(BEARER),
        Refused(403, "Not allowed", "`pipeline-jobs`"),
    ),
    row(
        "a stranger with a large body",
        |run| anonymous(run).body(" ".repeat(70_000)),
        Refused(401, UNKNOWN, ""),
    ),
    row("a stranger with a wrong body", |run| anonymous(run).body("["), Refused(401, UNKNOWN, "")),
    row(
        "a PlanId that is not UTF-8",
        |run| good(run).with("PlanId", b"\xff\xfe").request(),
        unanswerable("PlanId: is not UTF-8 text"),
    ),
    row(
        "a PlanUrl that is not UTF-8",
        |run| good(run).with("PlanUrl", b"https://dev.azure.com/\xe9/").request(),
        unanswerable("PlanUrl: is not UTF-8 text"),
    ),
    row(
        "a content type that is not UTF-8",
        |run| good(run).with("Content-Type", b"\xff").request(),
        Accepted,
    ),
    row(
        "an unrelated header that is not UTF-8",
        |run| good(run).with("X-Unrelated", b"\xff\x80\xc3").request(),
        Accepted,
    ),
    row("a user agent that is not UTF-8", |run| good(run).with("User-Agent", b"\xff").request(), Accepted),
    row(
        "an own header that is not UTF-8",
        |run| good(run).with("Testrelay-Settle", b"\xff").request(),
        Rejected("Testrelay-Settle: is not UTF-8 text"),
    ),
    row("an empty own header", |run| good(run).with("Testrelay-Settle", "").request(), Accepted),
    row(
        "white space around a value",
        |run| good(run).with("PlanId", format!("  {}\t", run.spec.plan)).request(),
        Accepted,
    ),
    row(
        "names in capitals",
        |run| good(run).without("PlanId").with("PLANID", &run.spec.plan).request(),
        Accepted,
    ),
    row("a caller that waits for 100", |run| good(run).with("Expect", "100-continue").request(), Accepted),
    row("a header with a NUL", |run| good(run).with("X-Unrelated", b"a\0b").request(), ByEnvoy(400)),
    row("a name with a byte over 127", |run| good(run).with("Testrelay-Täg", "x").request(), ByEnvoy(400)),
    row(
        "a hundred more headers",
        |run| (0..100).fold(good(run), |fields, n| fields.with(&format!("X-{n}"), "x")).request(),
        ByEnvoy(431),
    ),
    row(
        "sixty-four more KiB of headers",
        |run| good(run).with("X-Large", "x".repeat(65_536)).request(),
        ByEnvoy(431),
    ),
];
