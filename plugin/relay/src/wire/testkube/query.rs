//! The requests to Testkube.

use crate::time::Wall;
use crate::wire::call::{Request, Response};
use crate::wire::percent::{percent_encoded, percent_encoded_len};
use crate::wire::testkube::Testkube;
use serde_json::Value;
use std::time::Duration;

/// Maximum size of the values in one tag query, in bytes. Testkube's server refuses a request head of more than 4096
/// bytes with 431, and Envoy's own headers and a control plane's token need room too.
pub const MAX_QUERY: usize = 2_500;

/// Bytes that one tag value adds to a query.
pub fn selector_cost(key: &str, value: &str) -> usize {
    percent_encoded_len(key) + "%3D".len() + percent_encoded_len(value) + "%2C".len()
}

/// Asks for one page of the executions that carry any of these values of one tag key, scheduled since `since`. Values
/// of one key are OR on both of Testkube's databases; two keys would be AND on one and OR on the other.
pub fn list_executions(
    testkube: &Testkube,
    key: &str,
    values: &[&str],
    since: Wall,
    page: u32,
    page_size: u32,
) -> Request {
    let selector = values.iter().map(|value| selector_item(key, value)).collect::<Vec<_>>().join(",");
    let path = format!(
        "{}/test-workflow-executions?tagSelector={}&startDate={}&pageSize={page_size}&page={page}",
        testkube.api_prefix,
        percent_encoded(&selector),
        percent_encoded(&since.to_string()),
    );
    get(testkube, path)
}

/// Asks for one execution by its id.
pub fn get_execution(testkube: &Testkube, id: &str) -> Request {
    get(testkube, format!("{}/test-workflow-executions/{}", testkube.api_prefix, percent_encoded(id)))
}

/// Aborts one execution by its id.
pub fn abort_execution(testkube: &Testkube, id: &str) -> Request {
    let path = format!("{}/test-workflow-executions/{}/abort", testkube.api_prefix, percent_encoded(id));
    Request { method: "POST", ..get(testkube, path) }
}

/// Asks the API server about itself. Testkube answers it without its database.
pub fn get_info(testkube: &Testkube) -> Request {
    get(testkube, [&testkube.api_prefix, "/info"].concat())
}

/// The version in the answer to [`get_info`]; `None` if it has none that looks like one.
pub fn version(response: &Response) -> Option<String> {
    const MAX: usize = 32;
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'+' | b'_');
    let body = response.body.as_deref().ok().filter(|_| response.status == 200)?;
    let info: Value = serde_json::from_slice(body).ok()?;
    let version = info.get("version")?.as_str()?;
    let is_one = !version.is_empty() && version.len() <= MAX && version.bytes().all(is_plain);
    is_one.then(|| version.to_owned())
}

fn selector_item(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

pub(super) fn get(testkube: &Testkube, path: String) -> Request {
    let mut headers =
        vec![("accept", "application/json".to_string()), ("user-agent", crate::USER_AGENT.into())];
    if let Some(token) = &testkube.token {
        headers.push(("authorization", format!("Bearer {}", token.reveal())));
    }
    Request {
        cluster: testkube.cluster.clone(),
        method: "GET",
        scheme: "http",
        authority: testkube.authority.clone(),
        path,
        headers,
        body: Vec::new(),
        timeout: Duration::from_secs(10),
        max_body: 8 << 20,
    }
}
