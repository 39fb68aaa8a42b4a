//! In which form an answer is wanted: whole objects or their metadata, by `Accept`.

use serde_json::{Value, json};

use super::call::Resource;
use super::object::Object;
use super::status::{failure, json_body};
use crate::http::{Request, Response};

/// What `Accept` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    /// `as=PartialObjectMetadata`.
    Partial,
    /// `as=PartialObjectMetadataList`.
    PartialList,
}

impl View {
    /// The first form that the server has; else 406. It has no tables, no YAML and no protobuf.
    pub(super) fn of(request: &Request) -> Result<View, Response> {
        let accept = request.value("accept").unwrap_or_else(|| "*/*".to_owned());
        accept.split(',').find_map(View::read).ok_or_else(|| {
            let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                           application/vnd.kubernetes.protobuf";
            failure(406, "NotAcceptable", message, json!({}))
        })
    }

    fn read(media: &str) -> Option<View> {
        let mut parts = media.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
            return None;
        }
        match parts.find_map(|part| part.strip_prefix("as=")) {
            None => Some(View::Whole),
            Some("PartialObjectMetadata") => Some(View::Partial),
            Some("PartialObjectMetadataList") => Some(View::PartialList),
            Some(_) => None,
        }
    }

    /// One object.
    pub(super) fn object(self, status: u16, resource: Resource, object: &Object) -> Response {
        match self {
            View::Whole => json_body(status, &object.whole(resource)),
            View::Partial => json_body(status, &object.partial()),
            View::PartialList => mismatch("PartialObjectMetadataList", "not a list", resource.kind()),
        }
    }

    /// A list; `metadata` is the list's own.
    pub(super) fn list<'a>(
        self,
        resource: Resource,
        metadata: Value,
        objects: impl Iterator<Item = &'a Object>,
    ) -> Response {
        let list = format!("{}List", resource.kind());
        let (kind, version, items) = match self {
            View::Whole => (&*list, resource.api_version(), objects.map(Object::item).collect()),
            View::PartialList => {
                ("PartialObjectMetadataList", "meta.k8s.io/v1", objects.map(Object::partial).collect())
            }
            View::Partial => return mismatch("PartialObjectMetadata", "a list", &list),
        };
        let items: Value = items;
        // An empty list of metadata has none, not an empty one.
        let has_none = matches!(self, View::PartialList) && items.as_array().is_some_and(Vec::is_empty);
        let items = if has_none { Value::Null } else { items };
        json_body(200, &json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items}))
    }
}

fn mismatch(asked: &str, is: &str, kind: &str) -> Response {
    let package = if kind.starts_with("Secret") { "core" } else { "coordination" };
    let message = format!("you requested {asked}, but the requested object is {is} (*{package}.{kind})");
    failure(406, "NotAcceptable", &message, Value::Null)
}
