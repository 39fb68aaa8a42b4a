//! Methods and paths.

use super::table::{CANARY, Outcome, Outcome::*, Row, row};
use host_tests::client::Request;
use host_tests::scene::{Pipeline, USER};
use host_tests::{BEARER, PASSWORD};

const NOT_FOUND: Outcome = Refused(404, "Not found", "Testrelay has no such path");
const CLIMBS: Outcome = Refused(400, "Path refused", "in some encoding");
const WRONG_METHOD: &str = "Method not allowed";
const UNKNOWN: &str = "Unknown credential";

fn basic(method: &str, path: impl AsRef<[u8]>) -> Request {
    Request::new(method, path).basic(USER, PASSWORD)
}

/// GET of a file with these bytes as its name.
fn artifact(name: impl AsRef<[u8]>) -> Request {
    let path = [b"/v1/test-workflow-executions/66a0000000000000000000aa/artifacts/", name.as_ref()].concat();
    Request::get(path).bearer(BEARER)
}

const ARTIFACTS: &str = "/v1/test-workflow-executions/66a0000000000000000000aa/artifacts";

/// A good check, posted to another path.
fn check_at(run: &Pipeline, path: impl AsRef<[u8]>) -> Request {
    let spec = &run.spec;
    let build = spec.build.unwrap_or_default().to_string();
    let fields = [
        ("PlanUrl", "https://dev.azure.com/fabrikam/"),
        ("ProjectId", &spec.project),
        ("HubName", &spec.hub),
        ("PlanId", &spec.plan),
        ("JobId", &spec.job),
        ("TaskInstanceId", &spec.task),
        ("AuthToken", &spec.token),
        ("BuildId", &build),
        ("Testrelay-Tag", &run.tag),
        ("Testrelay-Expect", "shop-e2e"),
    ];
    let post = Request::post(path).basic(USER, PASSWORD);
    fields.iter().fold(post, |request, (name, value)| request.header(name, value))
}

pub(crate) const ROWS: &[Row] = &[
    row(
        "GET of the checks by a credential that may not",
        |_| basic("GET", "/testrelay/v1/checks"),
        Refused(403, "Not allowed", "`allow` does not list this route"),
    ),
    row(
        "GET of one check by nobody",
        |_| Request::get("/testrelay/v1/checks/0123456789abcdef"),
        Refused(401, "Unknown credential", "Authorization"),
    ),
    row("PUT of a check", |_| basic("PUT", "/testrelay/v1/checks"), Refused(405, WRONG_METHOD, "POST")),
    row("OPTIONS", |_| basic("OPTIONS", "/testrelay/v1/checks"), Refused(405, WRONG_METHOD, "POST")),
    row("a method of one's own", |_| basic("APPROVE", "/testrelay/v1/checks"), ByEnvoy(400)),
    row("POST to healthz", |_| Request::post("/testrelay/healthz"), Refused(405, WRONG_METHOD, "GET, HEAD")),
    row("a connection URL with a last slash", |run| check_at(run, "/testrelay//v1/checks"), Accepted),
    row(
        "a policy in the query",
        |run| check_at(run, "/testrelay/v1/checks?expect=shop-e2e"),
        Rejected("the URL has a query (`expect`)"),
    ),
    row("a query that is not UTF-8", |run| check_at(run, b"/testrelay/v1/checks?\xff\xfe"), ByEnvoy(400)),
    row("a path that is not UTF-8", |run| check_at(run, b"/testrelay/v1/checks\xff"), ByEnvoy(400)),
    row("the base path", |run| check_at(run, "/testrelay"), Refused(405, WRONG_METHOD, "`/v1/checks`")),
    row("a longer base path", |run| check_at(run, "/testrelayer/v1/checks"), NOT_FOUND),
    row("a path below the checks", |run| check_at(run, "/testrelay/v1/checks/x/y"), NOT_FOUND),
    row("an encoded check path", |run| check_at(run, "/testrelay/v1/%63hecks"), NOT_FOUND),
    row("a check path in capitals", |run| check_at(run, "/Testrelay/v1/Checks"), NOT_FOUND),
    row("a check path with dots", |run| check_at(run, "/testrelay/../v1/checks"), NOT_FOUND),
    row("the root", |_| basic("GET", "/"), NOT_FOUND),
    row("another of Testkube's paths", |_| Request::get("/v1/secrets").bearer(BEARER), NOT_FOUND),
    row("Testkube's list", |_| Request::get("/v1/test-workflow-executions").bearer(BEARER), NOT_FOUND),
    row(
        "an execution by its name",
        |_| Request::get("/v1/test-workflow-executions/shop-1/logs").bearer(BEARER),
        NOT_FOUND,
    ),
    row(
        "an execution itself",
        |_| Request::get("/v1/test-workflow-executions/66a0000000000000000000aa").bearer(BEARER),
        NOT_FOUND,
    ),
    row("a path of many kilobytes", |_| Request::get(format!("/{}", "a/".repeat(8_000))), NOT_FOUND),
    row("artifacts without a credential", |_| Request::get(ARTIFACTS), Refused(401, UNKNOWN, "")),
    row(
        "artifacts with a wrong bearer",
        |_| Request::get(ARTIFACTS).bearer(CANARY),
        Refused(401, UNKNOWN, ""),
    ),
    row(
        "artifacts with the checks' credential",
        |_| basic("GET", ARTIFACTS),
        Refused(403, "Not allowed", "`azure-pipelines`"),
    ),
    row(
        "POST of artifacts",
        |_| Request::post(ARTIFACTS).bearer(BEARER),
        Refused(405, WRONG_METHOD, "GET, HEAD"),
    ),
    row(
        "DELETE of artifacts",
        |_| Request::new("DELETE", ARTIFACTS).bearer(BEARER),
        Refused(405, WRONG_METHOD, "GET, HEAD"),
    ),
    row("dots", |_| artifact("../../../secrets"), CLIMBS),
    row("one dot", |_| artifact("./x"), CLIMBS),
    row("an encoded slash", |_| artifact("..%2F..%2Fsecrets"), CLIMBS),
    row("encoded dots", |_| artifact("%2e%2E/secrets"), CLIMBS),
    row("everything encoded", |_| artifact("%2e%2e%2fsecrets"), CLIMBS),
    row("encoded twice", |_| artifact("a%252F..%252Fsecrets"), CLIMBS),
    row("encoded three times", |_| artifact("%25252e%25252e%25252fsecrets"), CLIMBS),
    row("a backslash", |_| artifact("..\\secrets"), CLIMBS),
    row("an encoded backslash", |_| artifact("..%5Csecrets"), CLIMBS),
    row("an encoded line feed", |_| artifact("x%0d%0aAuthorization:%20x"), CLIMBS),
    row("an encoded NUL", |_| artifact("x%2500"), CLIMBS),
];
