//! What the module needs in a cluster: a namespace, an account, its role, its token.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fakes::{Request, Response};
use host_tests::wait_for;
use serde_json::{Value, json};

use crate::{ApiServer, Client};

/// How long the token is good, in seconds.
const TOKEN_LIFE: u64 = 86_400;
/// A role takes a moment to be known.
const PATIENCE: Duration = Duration::from_secs(20);

/// The account `testrelay` of a namespace, with the rights that the module needs and no other.
#[derive(Debug, Clone)]
pub struct Account {
    /// The namespace.
    pub namespace: String,
    /// The account's token.
    pub token: String,
    /// A file that holds it and nothing else. It goes with the server.
    pub token_file: PathBuf,
    client: Client,
}

impl Account {
    /// Asks with the account's token.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        self.client.ask(request)
    }

    /// Who asks with it.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl ApiServer {
    /// Makes a namespace with account, role and token, and waits until the role is known.
    pub fn account(&self, namespace: &str) -> Result<Account> {
        let spaces = "/api/v1/namespaces".to_owned();
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let accounts = format!("{spaces}/{namespace}/serviceaccounts");
        let name = json!({"name": "testrelay"});
        let role = json!({
            "metadata": name,
            "rules": [
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "create", "update", "delete"]},
                {
                    "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                    "verbs": ["get", "list", "create", "update", "delete"],
                },
            ],
        });
        let binding = json!({
            "metadata": name,
            "subjects": [{"kind": "ServiceAccount", "name": "testrelay", "namespace": namespace}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "testrelay"},
        });
        let token = json!({"spec": {"expirationSeconds": TOKEN_LIFE}});
        let make = |path: String, body: Value| self.make(&path, &body);
        make(spaces.clone(), json!({"metadata": {"name": namespace}}))?;
        make(accounts.clone(), json!({"metadata": name}))?;
        make(format!("{roles}/roles"), role)?;
        make(format!("{roles}/rolebindings"), binding)?;
        let made = make(format!("{accounts}/testrelay/token"), token)?;
        let token = made["status"]["token"].as_str().context("no token came")?;
        let token_file = self.write(&format!("token-{namespace}"), token)?;
        let client = self.client(Some(token))?;
        let list = Request::new("GET", &format!("{spaces}/{namespace}/secrets?limit=1"));
        wait_for("the account's rights", PATIENCE, || {
            client.ask(&list).ok().filter(|answer| answer.status == 200)
        })?;
        Ok(Account { namespace: namespace.to_owned(), token: token.to_owned(), token_file, client })
    }

    /// Makes something as the administrator; what the server made of it.
    pub fn make(&self, path: &str, body: &Value) -> Result<Value> {
        let request = Request::new("POST", path).header("content-type", "application/json");
        let answer = self.administrator()?.ask(&request.body(body.to_string()))?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 201, "POST {path} was answered {}: {text}", answer.status);
        Ok(serde_json::from_str(&text)?)
    }
}
