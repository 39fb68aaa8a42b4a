//! The requests to the API server.

use super::object::{Body, ListPage, Object, Version};
use crate::secret::Secret;
use crate::wire::call::Request;
use crate::wire::percent::percent_encoded;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The media type of single objects.
pub(super) const JSON: &str = "application/json";

/// Objects on a page of a list. The metadata of 500 Secrets has about 0.35 MB.
const PAGE: u32 = 500;

/// Maximum response body to copy, in bytes.
const MAX_BODY: usize = 8 << 20;

/// The API server, and the namespace of the objects.
#[derive(Debug)]
pub struct Server {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority` of calls.
    pub authority: String,
    /// The namespace.
    pub namespace: String,
    /// The bearer token; `None` if Envoy adds it to the calls.
    pub token: Option<Secret>,
}

impl Server {
    /// Creates an object. Read its answer with [`created`](super::created).
    pub fn create<B: Body>(&self, object: &Object<B>, timeout: Duration) -> Request {
        let body = object.to_json(None);
        Request { method: "POST", body, ..self.request::<B>("", JSON, "", timeout) }
    }

    /// Reads an object. Read its answer with [`stored`](super::stored).
    pub fn get<B: Body>(&self, name: &str, timeout: Duration) -> Request {
        self.request::<B>(name, JSON, "", timeout)
    }

    /// Replaces an object that was read, with its labels and annotations. Read its answer with [`stored`](super::stored).
    pub fn update<B: Body>(&self, replaces: &Version, object: &Object<B>, timeout: Duration) -> Request {
        let body = object.to_json(Some(replaces));
        Request { method: "PUT", body, ..self.request::<B>(&object.name, JSON, "", timeout) }
    }

    /// Deletes an object if it is as it was read. Read its answer with [`deleted`](super::deleted).
    pub fn delete<B: Body>(&self, name: &str, version: &Version, timeout: Duration) -> Request {
        let mut preconditions = Map::new();
        version.add_to(&mut preconditions);
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": Value::from(preconditions)});
        let body = options.to_string().into_bytes();
        Request { method: "DELETE", body, ..self.request::<B>(name, JSON, "", timeout) }
    }

    /// Lists the objects that a label selector matches, page by page; `after` is the previous page. Read its answer with
    /// [`listed`](super::listed).
    pub fn list<B: Body>(&self, selector: &str, after: Option<&ListPage<B>>, timeout: Duration) -> Request {
        let mut query = format!("&limit={PAGE}&labelSelector={}", percent_encoded(selector));
        if let Some(next) = after.and_then(|page| page.next.as_deref()) {
            query.extend(["&continue=", &percent_encoded(next)]);
        }
        self.request::<B>("", B::LIST, &query, timeout)
    }

    fn request<B: Body>(&self, name: &str, accept: &str, query: &str, timeout: Duration) -> Request {
        let (api, resource) = B::RESOURCE;
        let slash = if name.is_empty() { "" } else { "/" };
        let (namespace, name) = (percent_encoded(&self.namespace), percent_encoded(name));
        let path = format!("{api}/namespaces/{namespace}/{resource}{slash}{name}?timeout=");
        let request = self.at(path, accept, timeout);
        Request { path: request.path + query, ..request }
    }

    /// A GET of a path, to which the time limit is added. The server's own is a second shorter than the call's, so that its
    /// answer still arrives.
    pub(super) fn at(&self, path: String, accept: &str, timeout: Duration) -> Request {
        let mut headers = vec![
            ("accept", accept.to_owned()),
            ("content-type", JSON.into()),
            ("user-agent", crate::USER_AGENT.into()),
        ];
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {}", token.reveal())));
        }
        let seconds = timeout.as_secs().saturating_sub(1).max(1);
        Request {
            cluster: self.cluster.clone(),
            method: "GET",
            scheme: "https",
            authority: self.authority.clone(),
            path: format!("{path}{seconds}s"),
            headers,
            body: Vec::new(),
            timeout,
            max_body: MAX_BODY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ApiAnswer, LeaseBody, MetadataOnly, StoredObject, Texts, stored};
    use super::*;
    use crate::wire::call::{Asks, CallOutcome, Response};

    fn server() -> Server {
        Server {
            cluster: "kubernetes".into(),
            authority: "kubernetes.default.svc".into(),
            namespace: "testrelay".into(),
            token: None,
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn lease(renewed: &str) -> Object<LeaseBody> {
        let labels = Texts::of(&[("testrelay.dev/instance", "testrelay")]);
        let body =
            LeaseBody { holder: Some("replica-a".into()), seconds: Some(15), renewed: Some(renewed.into()) };
        Object { name: "testrelay-a".into(), labels, annotations: Default::default(), body }
    }

    fn read() -> StoredObject<LeaseBody> {
        let body =
            br#"{"metadata":{"name":"testrelay-a","uid":"7a36508e","resourceVersion":"25340"},"spec":{}}"#;
        let response = Response {
            status: 200,
            content_type: String::new(),
            asks: Asks::default(),
            from_envoy: false,
            body: Ok(body.to_vec()),
        };
        let ApiAnswer::Done(lease) = stored(&CallOutcome::Response(response)) else { panic!() };
        lease
    }

    #[test]
    fn a_list_names_its_labels_and_its_page() {
        let list = server().list::<MetadataOnly>("testrelay.dev/owner=a,b", None, TIMEOUT);
        assert_eq!(
            list.path,
            "/api/v1/namespaces/testrelay/secrets?timeout=4s&limit=500&labelSelector=testrelay.dev%2Fowner%3Da%2Cb"
        );
        assert!(list.headers.iter().any(|(_, value)| value.contains("as=PartialObjectMetadataList")));
        let page = ListPage { items: Vec::new(), next: Some("a/b".into()) };
        let list = server().list::<LeaseBody>("x", Some(&page), TIMEOUT);
        assert!(list.path.ends_with("&labelSelector=x&continue=a%2Fb"), "{}", list.path);
        assert!(list.headers.contains(&("accept", "application/json".into())));
    }

    #[test]
    fn what_replaces_an_object_names_what_was_read() {
        let update = server().update(&read().version, &lease("2026-11-28T07:00:10.000000Z"), TIMEOUT);
        assert_eq!(
            (update.method, update.path.as_str()),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/testrelay/leases/testrelay-a?timeout=4s")
        );
        let body: Value = serde_json::from_slice(&update.body).unwrap();
        assert_eq!(
            body,
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": "testrelay-a", "uid": "7a36508e", "resourceVersion": "25340",
                    "labels": {"testrelay.dev/instance": "testrelay"}, "annotations": {},
                },
                "spec": {"holderIdentity": "replica-a", "leaseDurationSeconds": 15, "renewTime": "2026-11-28T07:00:10.000000Z"},
            })
        );
        let delete = server().delete::<LeaseBody>("testrelay-a", &read().version, TIMEOUT);
        let body: Value = serde_json::from_slice(&delete.body).unwrap();
        assert_eq!(body["preconditions"], json!({"uid": "7a36508e", "resourceVersion": "25340"}));
        let create = server().create(&lease("2026-11-28T07:00:10.000000Z"), TIMEOUT);
        let body: Value = serde_json::from_slice(&create.body).unwrap();
        assert_eq!(body["metadata"].get("resourceVersion"), None);
    }
}
