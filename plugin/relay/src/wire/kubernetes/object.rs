//! The two kinds of objects, as they are written and read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;

/// The `type` of Testrelay's Secrets. It is immutable, and an update without it gets 422.
const TYPE: &str = "testrelay.dev/check";

/// The key of a Secret's `data` that holds the record.
const RECORD: &str = "record";

/// An object to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<B> {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Texts,
    /// `metadata.annotations`.
    pub annotations: Texts,
    /// The fields beside the metadata.
    pub body: B,
}

/// An object in the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject<B> {
    /// Its content.
    pub object: Object<B>,
    /// Its version.
    pub version: Version,
}

/// The version of an object that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    uid: String,
    resource_version: String,
}

/// The body of a Secret with a check's record. `Debug` hides the record, which holds tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBody {
    /// The record's bytes; `None` if the Secret has none that can be read.
    pub record: Option<Vec<u8>>,
}

/// The body of a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseBody {
    /// Its holder.
    #[serde(rename = "holderIdentity")]
    pub holder: Option<String>,
    /// Its length in seconds, above 0.
    #[serde(rename = "leaseDurationSeconds")]
    pub seconds: Option<u32>,
    /// The time of its renewal, as `2026-11-28T07:00:05.123456Z`: exactly six digits behind the point. Compared as text only.
    #[serde(rename = "renewTime")]
    pub renewed: Option<String>,
}

/// The body of a Secret of which only the metadata was requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataOnly;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<B> {
    /// The objects on it, by name.
    pub items: Vec<StoredObject<B>>,
    /// The continue token of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// The fields beside an object's metadata.
pub trait Body: Sized {
    /// The API's path and its resource; the namespace stands between them.
    const RESOURCE: (&'static str, &'static str);
    /// The `Accept` header of a list.
    const LIST: &'static str = super::request::JSON;

    /// Its fields, with `apiVersion` and `kind`.
    fn fields(&self) -> Map<String, Value>;

    /// Reads it from the fields of an object.
    fn of(fields: Fields) -> Self;
}

impl Body for SecretBody {
    const RESOURCE: (&'static str, &'static str) = ("/api/v1", "secrets");

    fn fields(&self) -> Map<String, Value> {
        let record = self.record.as_ref().map(|record| (RECORD.to_owned(), json!(STANDARD.encode(record))));
        let mut data = Map::new();
        data.extend(record);
        fields([
            ("apiVersion", "v1".into()),
            ("kind", "Secret".into()),
            ("type", TYPE.into()),
            ("data", data.into()),
        ])
    }

    fn of(fields: Fields) -> SecretBody {
        let record = fields.data.and_then(|data| data.record);
        SecretBody { record: record.and_then(|record| STANDARD.decode(record).ok()) }
    }
}

impl fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.record.is_some() { "<record>" } else { "<no record>" })
    }
}

impl Body for LeaseBody {
    const RESOURCE: (&'static str, &'static str) = ("/apis/coordination.k8s.io/v1", "leases");

    fn fields(&self) -> Map<String, Value> {
        let spec = json!({
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.seconds,
            "renewTime": self.renewed,
        });
        fields([("apiVersion", "coordination.k8s.io/v1".into()), ("kind", "Lease".into()), ("spec", spec)])
    }

    fn of(fields: Fields) -> LeaseBody {
        fields.spec.unwrap_or_default()
    }
}

impl Body for MetadataOnly {
    const RESOURCE: (&'static str, &'static str) = SecretBody::RESOURCE;
    const LIST: &'static str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

    fn fields(&self) -> Map<String, Value> {
        Map::new()
    }

    fn of(_: Fields) -> MetadataOnly {
        MetadataOnly
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let mut members = Map::new();
    members.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    members
}

/// The fields of an object that are read.
#[derive(Deserialize)]
pub struct Fields {
    metadata: Metadata,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    spec: Option<LeaseBody>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    #[serde(default)]
    labels: Option<Texts>,
    #[serde(default)]
    annotations: Option<Texts>,
}

/// The part of a Secret's data that is read.
#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    record: Option<String>,
}

/// Labels or annotations: a few names, each with its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(Vec<(String, String)>);

impl Texts {
    /// With these names and texts.
    pub fn of(texts: &[(&str, &str)]) -> Texts {
        Texts(texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    /// The text of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, text)| text.as_str())
    }

    fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.extend(self.0.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
        members.into()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(member) = map.next_entry()? {
                    texts.push(member);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Version {
    /// Adds it to an object's metadata, or to a deletion's preconditions.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        fields.insert("uid".into(), json!(self.uid));
        fields.insert("resourceVersion".into(), json!(self.resource_version));
    }
}

impl<B: Body> Object<B> {
    /// Its JSON, with the version that it replaces, if any.
    pub(super) fn to_json(&self, replaces: Option<&Version>) -> Vec<u8> {
        let mut metadata = fields([
            ("name", json!(self.name)),
            ("labels", self.labels.to_json()),
            ("annotations", self.annotations.to_json()),
        ]);
        if let Some(version) = replaces {
            version.add_to(&mut metadata);
        }
        let mut fields = self.body.fields();
        fields.insert("metadata".into(), metadata.into());
        Value::Object(fields).to_string().into_bytes()
    }
}

impl<B: Body> StoredObject<B> {
    /// Reads an object's JSON.
    pub(super) fn from_json(json: &[u8]) -> Option<StoredObject<B>> {
        crate::json::read(json).ok().map(StoredObject::of)
    }

    fn of(mut fields: Fields) -> StoredObject<B> {
        let metadata = std::mem::take(&mut fields.metadata);
        let object = Object {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            body: B::of(fields),
        };
        let version = Version { uid: metadata.uid, resource_version: metadata.resource_version };
        StoredObject { object, version }
    }
}

impl<B: Body> ListPage<B> {
    /// Reads a list's JSON.
    pub(super) fn from_json(json: &[u8]) -> Option<ListPage<B>> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMetadata,
            /// `null` if there are none, in a list of metadata.
            items: Option<Vec<Fields>>,
        }
        let list: List = crate::json::read(json).ok()?;
        let next = list.metadata.next.filter(|next| !next.is_empty());
        Some(ListPage {
            items: list.items.unwrap_or_default().into_iter().map(StoredObject::of).collect(),
            next,
        })
    }
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}
