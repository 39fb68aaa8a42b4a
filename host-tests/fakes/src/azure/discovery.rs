//! The locations of resources, which Microsoft's Python and Node clients ask before anything else.

use serde_json::{Value, json};

use super::answer;
use crate::http::Response;

const PLAN: &str = "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/plans/{planId}";

/// Location id, resource name and what follows the plan in the route (`TaskResourceIds`).
const RESOURCES: [(&str, &str, &str); 5] = [
    ("557624af-b29e-4c20-8ab0-0399d2204f3f", "events", "/{resource}"),
    ("46f5667d-263a-4684-91b1-dff7fdcf64e2", "logs", "/{resource}/{logId}"),
    ("8893bc5b-35b2-4be7-83cb-99e683551db4", "records", "/timelines/{timelineId}/{resource}"),
    ("858983e4-19bd-4c5e-864c-507b59b58b12", "feed", "/timelines/{timelineId}/records/{recordId}/{resource}"),
    (
        "7898f959-9cdf-4096-b29e-7f293031629e",
        "attachments",
        "/timelines/{timelineId}/records/{recordId}/{resource}/{type}/{name}",
    ),
];

/// The answer to OPTIONS.
pub(crate) fn locations() -> Response {
    let location = |id: &str, name: &str, template: String| -> Value {
        json!({"id": id, "area": "distributedtask", "resourceName": name, "routeTemplate": template,
            "resourceVersion": 1, "minVersion": "1.0", "maxVersion": "7.2", "releasedVersion": "0.0"})
    };
    let mut all: Vec<Value> =
        RESOURCES.iter().map(|(id, name, tail)| location(id, name, format!("{PLAN}{tail}"))).collect();
    all.push(location(
        "5cecd946-d704-471e-a45f-3b4064fcfaba",
        "plans",
        "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/{resource}/{planId}".into(),
    ));
    answer::collection(all)
}

/// The answer of a server on premises: every area is where the collection is.
pub(crate) fn resource_areas() -> Response {
    answer::ok(&json!({"count": 0, "value": null}))
}
