//! The recorded exchanges: what their short forms stand for.

use fakes::Request;
use serde_json::{Map, Value, json};

/// Recorded, or ours.
pub(crate) const TOKEN: &str = "TOKEN";
pub(crate) const ADMINISTRATOR: &str = "ADMIN-TOKEN";

/// One of them.
pub(crate) struct Exchange {
    pub(crate) id: String,
    recorded: Value,
}

/// All, in the order in which they were recorded.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let file: Value = serde_json::from_str(include_str!("../../fixtures/kubernetes-exchanges.json")).unwrap();
    let all = file["exchanges"].as_array().unwrap().iter();
    all.map(|recorded| Exchange { id: recorded["id"].as_str().unwrap().into(), recorded: recorded.clone() })
        .collect()
}

impl Exchange {
    /// The request; `translate` puts our uids, versions and tokens into the place of the recorded ones.
    pub(crate) fn request(&self, translate: impl Fn(&str) -> String) -> Request {
        let recorded = &self.recorded["request"];
        let text = |name: &str| recorded[name].as_str().unwrap();
        let mut request = Request::new(text("method"), &translate(text("path")));
        let body = match &recorded["body"] {
            Value::Null => None,
            Value::String(text) => match text.strip_prefix("SECRET(") {
                Some(name) => Some(secret(name.trim_end_matches(')')).to_string()),
                None => Some(text.clone()),
            },
            body => Some(expanded(body).to_string()),
        };
        let mut headers = json!({"Authorization": format!("Bearer {TOKEN}"), "Accept": "application/json"});
        if body.is_some() {
            headers["Content-Type"] = "application/json".into();
        }
        let given = recorded["headers"].as_object().cloned().unwrap_or_default();
        headers.as_object_mut().unwrap().extend(given);
        for (name, value) in headers.as_object().unwrap() {
            if let Some(value) = value.as_str() {
                request = request.header(name, &value.replace("(blank)", " "));
            }
        }
        match body {
            Some(body) => request.body(translate(&body)),
            None => request,
        }
    }

    /// The status; `None` where the connection was closed instead.
    pub(crate) fn status(&self) -> Option<u64> {
        self.recorded["response"]["status"].as_u64()
    }

    /// How long the answer took, where that was long.
    pub(crate) fn millis(&self) -> u64 {
        self.recorded["response"]["ms"].as_u64().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.recorded["response"]["headers"][name].as_str()
    }

    /// The answer's body, with a whole `Status`.
    pub(crate) fn body(&self) -> Value {
        let mut body = self.recorded["response"]["body"].clone();
        if let Some(members) = body.as_object_mut()
            && let Some(status) = members.remove("STATUS")
        {
            let whole = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status});
            for (name, value) in whole.as_object().unwrap() {
                members.entry(name).or_insert_with(|| value.clone());
            }
        }
        body
    }
}

/// A Secret as the recorded ones are; `None` as its name: without one.
pub(crate) fn secret(name: &str) -> Value {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "testrelay.dev/check",
        "metadata": {"name": name, "labels": labels(), "annotations": annotations()},
        "data": {"record": "eyJ2IjoxLCJ0YWciOiJhZG8tcnVuPXNob3AtNDcxMSJ9"},
    });
    if name == "None" {
        secret["metadata"].as_object_mut().unwrap().remove("name");
    }
    secret
}

fn labels() -> Value {
    json!({"testrelay.dev/owner": "a", "testrelay.dev/state": "pending"})
}

fn annotations() -> Value {
    json!({"testrelay.dev/expires": "2026-11-28T08:00:00Z"})
}

fn lease_spec() -> Value {
    json!({
        "holderIdentity": "replica-a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2026-11-28T07:00:00.000000Z", "renewTime": "2026-11-28T07:00:00.000000Z",
    })
}

fn expanded(value: &Value) -> Value {
    match value {
        Value::String(text) => long(text).into(),
        Value::Array(items) => items.iter().map(expanded).collect(),
        Value::Object(members) => {
            let mut all = Map::new();
            match members.get("…").and_then(Value::as_str) {
                Some("labels, annotations") => {
                    all.insert("labels".into(), labels());
                    all.insert("annotations".into(), annotations());
                }
                Some("as in lease-create") => all = lease_spec().as_object().unwrap().clone(),
                _ => {}
            }
            let given = members.iter().filter(|(name, _)| *name != "…");
            all.extend(given.map(|(name, value)| (name.clone(), expanded(value))));
            all.into()
        }
        other => other.clone(),
    }
}

/// A text that was cut: `begin…(N characters)…end`; what is missing repeats its first four characters.
fn long(text: &str) -> String {
    let Some((begin, rest)) = text.split_once("…(") else { return text.to_owned() };
    let (length, end) = rest.split_once(" characters)…").unwrap();
    let length: usize = length.parse().unwrap();
    let repeated = begin[..4].repeat(length / 4 + 1);
    format!("{}{end}", &repeated[..length - end.len()])
}
