//! What the API server has of the module's, as a test looks at it.

use crate::pipeline::Pipeline;
use crate::setup::NAMESPACE;
use crate::world::World;
use fakes::Request;
use fakes::kubernetes::Resource;
use serde_json::Value;

/// A write to a check's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// When it reached the API server, in Unix milliseconds.
    pub at: i64,
    /// POST, PUT or DELETE.
    pub method: String,
    /// The answer's status; `None` where there was none.
    pub status: Option<u16>,
}

impl World {
    /// All Secrets, by name.
    pub fn secrets(&self) -> Vec<Value> {
        self.objects(Resource::Secrets)
    }

    /// The Secret of a check of the instance `testrelay`.
    pub fn secret(&self, pipeline: &Pipeline) -> Option<Value> {
        let name = pipeline.secret_name();
        self.secrets().into_iter().find(|secret| secret["metadata"]["name"] == *name)
    }

    /// The replica that a check's Secret names as its owner.
    pub fn owner(&self, pipeline: &Pipeline) -> Option<String> {
        let secret = self.secret(pipeline)?;
        secret["metadata"]["labels"]["testrelay.dev/owner"].as_str().map(str::to_string)
    }

    /// The ids of the replicas in this pod that have a Lease.
    pub fn replicas_in(&self, pod: &str) -> Vec<String> {
        let own = self.leases().into_iter();
        let own = own.filter(|lease| lease["metadata"]["annotations"]["testrelay.dev/pod"] == *pod);
        own.filter_map(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_string)).collect()
    }

    /// The Leases of all replicas, by name.
    pub fn leases(&self) -> Vec<Value> {
        let mut leases = self.objects(Resource::Leases);
        leases.retain(|lease| lease["metadata"]["labels"]["testrelay.dev/kind"] == "replica");
        leases
    }

    fn objects(&self, resource: Resource) -> Vec<Value> {
        let now = self.wall();
        self.kubernetes(|server| server.objects(now, resource, NAMESPACE))
    }

    /// Every write to a check's Secret that reached the API server, oldest first.
    pub fn writes(&self, pipeline: &Pipeline) -> Vec<Written> {
        let name = pipeline.secret_name();
        let is_about = |request: &Request| match request.method.as_str() {
            "PUT" | "DELETE" => request.path().ends_with(&name),
            "POST" => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                body["metadata"]["name"] == *name
            }
            _ => false,
        };
        self.kubernetes(|server| {
            let about = server.requests().iter().filter(|recorded| is_about(&recorded.request));
            let written = about.map(|recorded| Written {
                at: recorded.at,
                method: recorded.request.method.clone(),
                status: recorded.status,
            });
            written.collect()
        })
    }

    /// Somebody deletes a check's Secret by hand.
    pub fn delete_secret(&mut self, pipeline: &Pipeline) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{}", pipeline.secret_name());
        let now = self.wall();
        self.kubernetes(|server| server.act(now, &Request::new("DELETE", &path)));
    }
}

impl Pipeline {
    /// The name of its check's Secret.
    pub(crate) fn secret_name(&self) -> String {
        let spec = self.spec();
        format!("testrelay-{}-{}-{}", spec.plan, spec.job, spec.task).to_ascii_lowercase()
    }
}
