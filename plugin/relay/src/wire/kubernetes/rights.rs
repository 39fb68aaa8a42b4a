//! What this process may do in its namespace, as the API server says itself: a `SelfSubjectRulesReview`, which every account
//! may create (`system:basic-user`).

use super::request::{JSON, Server};
use crate::wire::call::{CallOutcome, Request};
use serde_json::{Value, json};
use std::time::Duration;

/// The verbs that the store needs, and on what.
const VERBS: [&str; 5] = ["get", "list", "create", "update", "delete"];
const RESOURCES: [(&str, &str, &str); 2] =
    [("", "secrets", "Secrets"), ("coordination.k8s.io", "leases", "Leases")];

/// Maximum response body to copy, in bytes.
const MAX_BODY: usize = 256 << 10;

/// Whether a rule allows a verb on all objects of a resource.
fn allows(rule: &Value, verb: &str, group: &str, resource: &str) -> bool {
    let has = |member: &str, one: &str| {
        let all = rule.get(member).and_then(Value::as_array);
        all.is_some_and(|all| all.iter().any(|each| *each == *one || *each == *"*"))
    };
    let is_for_some =
        rule.get("resourceNames").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
    !is_for_some && has("verbs", verb) && has("apiGroups", group) && has("resources", resource)
}

impl Server {
    /// Asks what this process may do. Read its answer with [`missing_rights`].
    #[inline(never)]
    pub fn rights(&self, timeout: Duration) -> Request {
        let review = json!({
            "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"namespace": self.namespace},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews?timeout=";
        Request {
            method: "POST",
            body: review.to_string().into_bytes(),
            max_body: MAX_BODY,
            ..self.at(path.to_owned(), JSON, timeout)
        }
    }
}

/// The missing rights, as in `create and update Secrets; delete Leases`; empty if none is missing. `None` if the server does not
/// say: it is away, or another authority than its roles decides.
#[inline(never)]
pub fn missing_rights(outcome: &CallOutcome) -> Option<String> {
    let CallOutcome::Response(response) = outcome else { return None };
    let body = response.body.as_deref().ok().filter(|_| response.status == 201)?;
    let review: Value = serde_json::from_slice(body).ok()?;
    let status = review.get("status")?;
    // An error says that rules could not be read.
    let has_error =
        status.get("evaluationError").and_then(Value::as_str).is_some_and(|error| !error.is_empty());
    if has_error || status.get("incomplete") == Some(&Value::Bool(true)) {
        return None;
    }
    let rules = status.get("resourceRules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let missing = |(group, resource, name): (&str, &str, &str)| {
        let is_missing = |verb: &&str| !rules.iter().any(|rule| allows(rule, verb, group, resource));
        let verbs: Vec<&str> = VERBS.into_iter().filter(is_missing).collect();
        let (last, others) = verbs.split_last()?;
        let verbs =
            if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) };
        Some(format!("{verbs} {name}"))
    };
    Some(RESOURCES.into_iter().filter_map(missing).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::{Asks, Response};

    fn missing(status: u16, body: &str) -> Option<String> {
        let body = Ok(body.as_bytes().to_vec());
        let response =
            Response { status, content_type: String::new(), asks: Asks::default(), from_envoy: false, body };
        missing_rights(&CallOutcome::Response(response))
    }

    /// As a real API server (1.36.3) answers an account with the role of `envoy/kubernetes/replicas/checks.yaml`.
    fn review(rules: &str, incomplete: bool) -> String {
        format!(
            r#"{{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","metadata":{{"managedFields":[]}},"spec":{{}},"status":{{"resourceRules":[{{"verbs":["create"],"apiGroups":["authorization.k8s.io"],"resources":["selfsubjectaccessreviews","selfsubjectrulesreviews"]}}{rules}],"nonResourceRules":[{{"verbs":["get"],"nonResourceURLs":["/healthz"]}}],"incomplete":{incomplete}}}}}"#
        )
    }

    #[test]
    fn what_is_missing_is_named_by_verb_and_resource() {
        const SECRETS: &str = r#",{"verbs":["get","list","create","update","delete"],"apiGroups":[""],"resources":["secrets"]}"#;
        const LEASES: &str = r#",{"verbs":["get","list","create","update","delete"],"apiGroups":["coordination.k8s.io"],"resources":["leases"]}"#;
        let whole = [SECRETS, LEASES].concat();
        let cases = [
            (whole.clone(), ""),
            (r#",{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#.into(), ""),
            (SECRETS.into(), "get, list, create, update and delete Leases"),
            (whole.replacen("\"create\",", "", 1), "create Secrets"),
            (
                whole.replace(",\"update\",\"delete\"", ""),
                "update and delete Secrets; update and delete Leases",
            ),
            // Rights on single objects do not help.
            (
                whole.replacen("[\"secrets\"]", "[\"secrets\"],\"resourceNames\":[\"a\"]", 1),
                "get, list, create, update and delete Secrets",
            ),
        ];
        for (rules, expected) in cases {
            assert_eq!(missing(201, &review(&rules, false)).as_deref(), Some(expected), "{rules}");
            assert_eq!(missing(201, &review(&rules, true)), None);
        }
        for (status, body) in
            [(403, review("", false)), (201, "{}".into()), (201, "no JSON".into()), (404, String::new())]
        {
            assert_eq!(missing(status, &body), None, "{status} {body}");
        }
        assert_eq!(missing(201, r#"{"status":{"resourceRules":null}}"#).map(|all| all.len()), Some(89));
    }
}
