//! What the API server keeps of the checks: Secrets, and the Leases of replicas.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bench::scale::crowd;
use fakes::Request;
use kubernetes::Client;
use serde_json::Value;

use super::deliveries::TOKEN;
use super::replicas::NAMESPACE;

/// A check's Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The replica that owns the check; empty: none.
    pub(crate) owner: String,
    /// Whether it names a token: the check waits.
    pub(crate) has_token: bool,
}

/// All checks' Secrets of a namespace.
pub(crate) fn secrets(administrator: &Client, namespace: &str) -> Result<Vec<Kept>> {
    // All tokens end in the same way.
    let token = crowd::pipeline(0, TOKEN)?.spec.token;
    let end = token.rsplit('.').next().context("a token of three parts")?;
    let secrets = list(administrator, &format!("/api/v1/namespaces/{namespace}/secrets"))?;
    Ok(secrets.iter().map(|secret| kept(secret, end)).collect())
}

/// How many checks that wait the replicas' namespace has.
pub(crate) fn with_tokens(administrator: &Client) -> Result<usize> {
    Ok(secrets(administrator, NAMESPACE)?.iter().filter(|secret| secret.has_token).count())
}

/// The replicas of a pod: their Leases' holders.
pub(crate) fn replicas_of(administrator: &Client, pod: &str) -> Result<Vec<String>> {
    let leases = list(administrator, &format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"))?;
    let of_pod = leases.iter().filter(|lease| lease["metadata"]["annotations"]["testrelay.dev/pod"] == pod);
    Ok(of_pod.filter_map(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned)).collect())
}

fn list(administrator: &Client, path: &str) -> Result<Vec<Value>> {
    let answer = administrator.ask(&Request::new("GET", path))?;
    ensure!(answer.status == 200, "GET {path} was answered {}", answer.status);
    let mut list: Value = serde_json::from_slice(&answer.body)?;
    let Value::Array(items) = list["items"].take() else { bail!("GET {path}: the answer is no list") };
    Ok(items)
}

fn kept(secret: &Value, end: &str) -> Kept {
    let values = secret["data"].as_object().into_iter().flatten();
    let mut texts = values.filter_map(|(_, value)| STANDARD.decode(value.as_str()?).ok());
    Kept {
        owner: secret["metadata"]["labels"]["testrelay.dev/owner"].as_str().unwrap_or_default().to_owned(),
        has_token: texts.any(|text| String::from_utf8_lossy(&text).contains(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_has_an_owner_and_names_a_token_or_none() {
        let secret = |record: &str| {
            json!({
                "metadata": {"labels": {"testrelay.dev/owner": "a1"}},
                "data": {"record": STANDARD.encode(record)},
            })
        };
        let of = |has_token| Kept { owner: "a1".into(), has_token };
        assert_eq!(kept(&secret(r#"{"tokens":["h.c.sss"]}"#), "sss"), of(true));
        assert_eq!(kept(&secret(r#"{"done":{}}"#), "sss"), of(false));
        assert_eq!(kept(&json!({"metadata": {}}), "sss"), Kept { owner: String::new(), has_token: false });
    }
}
