//! Secrets and Leases as they are read from a body, kept, and written into an answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::call::Resource;

/// An object as it is kept, and as a body gives it: unknown members are dropped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) content: Content,
}

/// What Secrets and Leases do not share.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Secret(Secret),
    Lease(Lease),
}

type Texts = BTreeMap<String, String>;

/// `ObjectMeta`, as far as somebody uses it here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub(super) generate_name: String,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) creation_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_grace_period_seconds: Option<u32>,
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: Texts,
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: Texts,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(super) owner_references: Vec<Value>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(super) finalizers: Vec<String>,
    /// Who wrote which fields. An empty list in an update ends that; none leaves it as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) managed_fields: Option<Vec<Value>>,
}

/// A Secret's own members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) immutable: Option<bool>,
    /// In base64.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) data: Texts,
    /// Merged into `data` when it is read, and never written.
    #[serde(default, deserialize_with = "texts", skip_serializing)]
    pub(super) string_data: Texts,
    /// `Opaque` where none is given.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) r#type: String,
}

/// A Lease's own members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lease {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) spec: LeaseSpec,
}

/// `LeaseSpec` of `coordination.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_duration_seconds: Option<i32>,
    /// Both times as [`micro_time`](super::valid::micro_time) writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_transitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strategy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preferred_holder: Option<String>,
}

impl Object {
    /// From a body whose `apiVersion` and `kind` fit; the error is what does not fit the type.
    pub(super) fn read(resource: Resource, body: &Value) -> Result<Object, serde_json::Error> {
        let metadata = body.get("metadata").filter(|metadata| !metadata.is_null());
        let metadata = metadata.map_or_else(|| Ok(Metadata::default()), Metadata::deserialize)?;
        let content = match resource {
            Resource::Secrets => Content::Secret(Secret::deserialize(body)?),
            Resource::Leases => Content::Lease(Lease::deserialize(body)?),
        };
        Ok(Object { metadata, content })
    }

    /// Of one object: with `kind` and `apiVersion`.
    pub(super) fn whole(&self, resource: Resource) -> Value {
        let mut body = self.item();
        body["kind"] = resource.kind().into();
        body["apiVersion"] = resource.api_version().into();
        body
    }

    /// As one of a list.
    pub(super) fn item(&self) -> Value {
        let content = match &self.content {
            Content::Secret(secret) => json!(secret),
            Content::Lease(lease) => json!(lease),
        };
        let mut body = content;
        body["metadata"] = json!(self.metadata);
        body
    }

    /// `PartialObjectMetadata`, alone or as one of a list: with `kind` in both.
    pub(super) fn partial(&self) -> Value {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.metadata})
    }

    /// The Secret's `type`.
    pub(super) fn secret_type(&self) -> Option<&str> {
        match &self.content {
            Content::Secret(secret) => Some(&secret.r#type),
            Content::Lease(_) => None,
        }
    }

    /// Whether an update to `new` writes nothing: all is as it was but the times in `managedFields`.
    pub(super) fn is_same_as(&self, new: &Object) -> bool {
        let mut metadata = new.metadata.clone();
        metadata.resource_version.clone_from(&self.metadata.resource_version);
        if metadata.managed_fields.is_some() == self.metadata.managed_fields.is_some() {
            metadata.managed_fields.clone_from(&self.metadata.managed_fields);
        }
        self.metadata == metadata && self.content == new.content
    }

    /// The entry of `managedFields` for a writer that has written all of it.
    pub(super) fn managed_by(&self, resource: Resource, manager: &str, time: &str) -> Value {
        let item = self.item();
        let members = item.as_object().into_iter().flatten();
        let mut fields: Map<String, Value> = members
            .filter(|(name, _)| *name != "metadata")
            .map(|(name, value)| (format!("f:{name}"), owned(value)))
            .collect();
        let mut metadata = Map::new();
        for (name, texts) in
            [("f:annotations", &self.metadata.annotations), ("f:labels", &self.metadata.labels)]
        {
            if !texts.is_empty() {
                metadata.insert(name.to_owned(), owned(&json!(texts)));
            }
        }
        if !metadata.is_empty() {
            fields.insert("f:metadata".to_owned(), metadata.into());
        }
        json!({
            "manager": manager, "operation": "Update", "apiVersion": resource.api_version(), "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }
}

/// A map is owned key by key, everything else whole.
fn owned(value: &Value) -> Value {
    let Some(members) = value.as_object() else { return json!({}) };
    let mut fields: Map<String, Value> =
        members.keys().map(|name| (format!("f:{name}"), json!({}))).collect();
    fields.insert(".".to_owned(), json!({}));
    fields.into()
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A map of texts, in which null is the empty one.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
    let read = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?.unwrap_or_default();
    Ok(read.into_iter().map(|(name, text)| (name, text.unwrap_or_default())).collect())
}
