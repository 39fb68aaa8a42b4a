//! The bodies of Azure DevOps: JSON, the error object, the sign-in page.

use serde::Serialize;
use serde_json::{Value, json};

use crate::http::Response;

const JSON: &str = "application/json; charset=utf-8; api-version=7.2";

/// The error object; field names and order as recorded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    #[serde(rename = "$id")]
    id: &'static str,
    inner_exception: Option<()>,
    message: &'a str,
    type_name: String,
    type_key: &'a str,
    error_code: u32,
    event_id: u32,
}

/// 200 with a JSON body.
pub(crate) fn ok(value: &impl Serialize) -> Response {
    Response::with_body(200, JSON, serde_json::to_string(value).unwrap_or_default())
}

/// An array in its wrapper.
pub(crate) fn collection(values: Vec<Value>) -> Response {
    ok(&json!({"count": values.len(), "value": values}))
}

/// An error by the name of its exception.
pub(crate) fn failure(status: u16, type_key: &str, message: &str) -> Response {
    let failure = Failure {
        id: "1",
        inner_exception: None,
        message,
        type_name: format!(
            "Microsoft.TeamFoundation.DistributedTask.WebApi.{type_key}, Microsoft.TeamFoundation"
        ),
        type_key,
        error_code: 0,
        event_id: 3000,
    };
    Response::with_body(status, JSON, serde_json::to_string(&failure).unwrap_or_default())
}

/// 400 for a request whose body or result no server would take.
pub(crate) fn bad_request(message: &str) -> Response {
    failure(400, "ArgumentException", message)
}

/// The sign-in page: HTML where a client expects JSON.
pub(crate) fn sign_in_page(status: u16) -> Response {
    let page = "<!DOCTYPE html>\r\n<html lang=\"en-US\"><head><title>Azure DevOps Services | Sign In</title></head>\
                <body>Sign in to your account</body></html>";
    Response::with_body(status, "text/html; charset=utf-8", page)
}

/// An injected status, with the body that Azure DevOps gives it.
pub(crate) fn injected(status: u16, retry_after: Option<u64>) -> Response {
    let response = match status {
        429 => {
            let message = "TF400733: The request has been canceled: Request was blocked due to exceeding usage of \
                           resource 'Concurrency' in namespace 'Host'.";
            failure(429, "RequestBlockedException", message)
                .header("x-ratelimit-resource", "AzureDevOps/TSTUs")
                .header("x-ratelimit-limit", "200")
                .header("x-ratelimit-remaining", "0")
        }
        503 => Response::with_body(
            503,
            "text/html; charset=utf-8",
            "<h2>Our services aren't available right now</h2>",
        ),
        _ => failure(status, "VssServiceException", "The server could not process the request."),
    };
    match retry_after {
        Some(seconds) => response.header("retry-after", &seconds.to_string()),
        None => response,
    }
}
