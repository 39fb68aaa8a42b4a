//! The bodies of an API server's refusals: `Status` objects, and the texts that are none.

use serde_json::{Map, Value, json};

use super::call::{Resource, Target};
use crate::http::Response;

/// One reason among those of a 422.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) field: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Cause {
    pub(super) fn new(field: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Cause {
        Cause { field: field.into(), reason, message: message.into() }
    }
}

/// A `Status` of a failure. An empty reason is left out, and so are details that are `Null`.
pub(super) fn failure(status: u16, reason: &str, message: &str, details: Value) -> Response {
    let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
    body["message"] = message.into();
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    if !details.is_null() {
        body["details"] = details;
    }
    body["code"] = status.into();
    json_body(status, &body)
}

/// Any answer in JSON. From about 2 KB on it goes out in chunks.
pub(super) fn json_body(status: u16, body: &Value) -> Response {
    const MAX_WHOLE: usize = 2048;
    let response = Response::with_body(status, "application/json", body.to_string());
    if response.body.len() > MAX_WHOLE {
        return response.header("transfer-encoding", "chunked");
    }
    response
}

pub(super) fn text(status: u16, body: &str) -> Response {
    Response::with_body(status, "text/plain; charset=utf-8", body)
}

pub(super) fn bad_request(message: &str) -> Response {
    failure(400, "BadRequest", message, Value::Null)
}

/// A body that does not fit its type.
pub(super) fn undecodable(resource: Resource, why: &str) -> Response {
    let (kind, version) = (resource.kind(), resource.version());
    bad_request(&format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// No reason: the server did not foresee it.
pub(super) fn unforeseen(message: &str) -> Response {
    failure(500, "", message, Value::Null)
}

pub(super) fn unauthorized() -> Response {
    failure(401, "Unauthorized", "Unauthorized", Value::Null)
}

pub(super) fn not_found(resource: Resource, name: &str) -> Response {
    let message = format!("{} \"{name}\" not found", resource.qualified());
    failure(404, "NotFound", &message, details(resource, resource.plural(), name))
}

pub(super) fn already_exists(resource: Resource, name: &str, is_being_deleted: bool) -> Response {
    let before = if is_being_deleted { "object is being deleted: " } else { "" };
    let message = format!("{before}{} \"{name}\" already exists", resource.qualified());
    failure(409, "AlreadyExists", &message, details(resource, resource.plural(), name))
}

/// An update that met another one, or another object of that name.
pub(super) fn conflict(resource: Resource, name: &str, why: &str) -> Response {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
    failure(409, "Conflict", &message, details(resource, resource.plural(), name))
}

/// A delete whose precondition does not hold: told by kind.
pub(super) fn delete_conflict(resource: Resource, name: &str, why: &str) -> Response {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified_kind());
    failure(409, "Conflict", &message, details(resource, resource.kind(), name))
}

/// 422, told by kind.
pub(super) fn invalid(resource: Resource, name: &str, causes: &[Cause]) -> Response {
    invalid_as(&resource.qualified_kind(), details(resource, resource.kind(), name), name, causes)
}

/// 422, told by resource, as the store itself does.
pub(super) fn invalid_resource(resource: Resource, name: &str, cause: Cause) -> Response {
    invalid_as(&resource.qualified(), details(resource, resource.plural(), name), name, &[cause])
}

/// 422 for options of a list.
pub(super) fn invalid_options(cause: Cause) -> Response {
    let details = json!({"group": "meta.k8s.io", "kind": "ListOptions"});
    invalid_as("ListOptions.meta.k8s.io", details, "", &[cause])
}

fn invalid_as(what: &str, mut details: Value, name: &str, causes: &[Cause]) -> Response {
    let told: Vec<_> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let told = match &told[..] {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    };
    let cause =
        |cause: &Cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
    details["causes"] = causes.iter().map(cause).collect();
    failure(422, "Invalid", &format!("{what} \"{name}\" is invalid: {told}"), details)
}

/// 403 for an account without the right.
pub(super) fn forbidden(target: &Target, user: &str) -> Response {
    let Target { group, resource, namespace, name, verb } = target;
    let who = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
    let subject = if name.is_empty() { who } else { format!("{who} \"{name}\"") };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    let message = format!(
        "{subject} is forbidden: User \"{user}\" cannot {} resource \"{resource}\" in API group \"{group}\" {place}",
        verb.name()
    );
    failure(403, "Forbidden", &message, parts(group, resource, name))
}

/// 403 for a path that is no resource.
pub(super) fn forbidden_path(path: &str, user: &str) -> Response {
    let message = format!("forbidden: User \"{user}\" cannot get path \"{path}\"");
    failure(403, "Forbidden", &message, json!({}))
}

/// 403 by admission: of the namespace or of a quota.
pub(super) fn not_admitted(resource: Resource, name: &str, why: &str, cause: Option<Cause>) -> Response {
    let message = format!("{} \"{name}\" is forbidden: {why}", resource.qualified());
    let mut details = details(resource, resource.plural(), name);
    if let Some(Cause { field, reason, message }) = cause {
        details["causes"] = json!([{"reason": reason, "message": message, "field": field}]);
    }
    failure(403, "Forbidden", &message, details)
}

/// What a request gets that a policy of the cluster refuses.
pub(super) fn refused_by_policy(resource: Resource, name: &str) -> Response {
    let why = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: label team is missing";
    let mut details = details(resource, resource.plural(), name);
    details["causes"] = json!([{"message": why}]);
    let message = format!("{} \"{name}\" is forbidden: {why}", resource.qualified());
    failure(422, "Invalid", &message, details)
}

/// What a write gets while a webhook of the cluster is down.
pub(super) fn webhook_down() -> Response {
    let why = "failed calling webhook \"w.example.com\": failed to call webhook: Post \
               \"https://127.0.0.1:1/x?timeout=2s\": dial tcp 127.0.0.1:1: connect: connection refused";
    let details = json!({"causes": [{"message": why}]});
    failure(500, "InternalError", &format!("Internal error occurred: {why}"), details)
}

/// 429: no `Status`, and nothing was done.
pub(super) fn throttled(retry_after: u64) -> Response {
    text(429, "Too many requests, please try again later.\n").header("retry-after", &retry_after.to_string())
}

/// 504 for a write that etcd did not answer.
pub(super) fn stalled() -> Response {
    let message = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    failure(504, "Timeout", message, json!({}))
}

/// 504 when the request's own time is over: JSON without `kind`, sent as text.
pub(super) fn out_of_time() -> Response {
    let body = json!({
        "metadata": {}, "status": "Failure", "reason": "Timeout", "details": {}, "code": 504,
        "message": "Timeout: request did not complete within the allotted timeout",
    });
    text(504, &body.to_string())
}

/// 504 for a read that wants a version which does not exist yet.
pub(super) fn version_of_the_future(wanted: u64, current: u64) -> Response {
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    let details = json!({"causes": [cause], "retryAfterSeconds": 1});
    failure(504, "Timeout", &message, details).header("retry-after", "1")
}

/// 410 for a page of a list whose state is no longer kept; `go_on`: a token for the rest as of now.
pub(super) fn continue_expired(go_on: &str) -> Response {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                   list without the continue parameter, or use the continue token in this response to retrieve the \
                   remainder of the results. Continuing with the provided token results in an inconsistent list - \
                   objects that were created, modified, or deleted between the time the first chunk was returned and \
                   now may show up in the list.";
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {"continue": go_on}, "status": "Failure",
        "message": message, "reason": "Expired", "code": 410,
    });
    json_body(410, &body)
}

/// 200 for a delete: not the object.
pub(super) fn deleted(resource: Resource, name: &str, uid: &str) -> Response {
    let mut details = details(resource, resource.plural(), name);
    details["uid"] = uid.into();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    json_body(200, &body)
}

fn details(resource: Resource, kind: &str, name: &str) -> Value {
    parts(resource.group(), kind, name)
}

fn parts(group: &str, kind: &str, name: &str) -> Value {
    let parts = [("name", name), ("group", group), ("kind", kind)].into_iter();
    let given = parts.filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| (key.to_owned(), value.into())).collect::<Map<_, _>>().into()
}
