//! The two kinds of objects, as they are written and read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// The `type` of Testrelay's Secrets. Nobody can change it once the object exists, and an update without it gets 422.
const TYPE: &str = "testrelay.dev/check";

/// The key of a Secret's `data` that holds the record.
const RECORD: &str = "record";

/// An object to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<B> {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// What stands beside the metadata.
    pub body: B,
}

/// An object as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<B> {
    /// What it holds.
    pub object: Object<B>,
    /// Which state of it this is.
    pub version: Version,
}

/// One state of one object. Only an object that was read has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    uid: String,
    resource_version: String,
}

/// The body of a Secret that holds a check's record. Its `Debug` hides the record, which holds tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// The record's bytes; `None` where the Secret has none that can be read.
    pub record: Option<Vec<u8>>,
}

/// The body of a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// Who holds it.
    #[serde(rename = "holderIdentity")]
    pub holder: Option<String>,
    /// Its length in seconds, above 0.
    #[serde(rename = "leaseDurationSeconds")]
    pub seconds: Option<u32>,
    /// When it was renewed, as `2026-11-28T07:00:05.123456Z`: six digits behind the point, no fewer and no more. What was read is
    /// compared as text, with what was read before.
    #[serde(rename = "renewTime")]
    pub renewed: Option<String>,
}

/// The body of an object of which only the metadata was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataOnly;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<B> {
    /// The objects on it, by name.
    pub items: Vec<Stored<B>>,
    /// The token that the request for the next page presents; `None`: this page is the last.
    pub next: Option<String>,
}

/// What stands beside an object's metadata.
pub trait Body: Sized {
    /// The path and the resource of its API, with the namespace left out between them.
    const RESOURCE: (&'static str, &'static str);
    /// What `Accept` says in a list of them.
    const LIST: &'static str = super::request::JSON;

    /// Its members, `apiVersion` and `kind` among them.
    fn members(&self) -> Map<String, Value>;

    /// Reads it from an object's members.
    fn of(members: Members) -> Self;
}

impl Body for Secret {
    const RESOURCE: (&'static str, &'static str) = ("/api/v1", "secrets");

    fn members(&self) -> Map<String, Value> {
        let record = self.record.as_ref().map(|record| (RECORD.to_owned(), json!(STANDARD.encode(record))));
        let data: Map<String, Value> = record.into_iter().collect();
        members([
            ("apiVersion", "v1".into()),
            ("kind", "Secret".into()),
            ("type", TYPE.into()),
            ("data", data.into()),
        ])
    }

    fn of(members: Members) -> Secret {
        let record = members.data.and_then(|mut data| data.remove(RECORD)?);
        Secret { record: record.and_then(|record| STANDARD.decode(record).ok()) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.record.is_some() { "<record>" } else { "<no record>" })
    }
}

impl Body for Lease {
    const RESOURCE: (&'static str, &'static str) = ("/apis/coordination.k8s.io/v1", "leases");

    fn members(&self) -> Map<String, Value> {
        let spec = json!({
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.seconds,
            "renewTime": self.renewed,
        });
        members([("apiVersion", "coordination.k8s.io/v1".into()), ("kind", "Lease".into()), ("spec", spec)])
    }

    fn of(members: Members) -> Lease {
        members.spec.unwrap_or_default()
    }
}

/// Only Secrets are listed so.
impl Body for MetadataOnly {
    const RESOURCE: (&'static str, &'static str) = Secret::RESOURCE;
    const LIST: &'static str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

    fn members(&self) -> Map<String, Value> {
        Map::new()
    }

    fn of(_: Members) -> MetadataOnly {
        MetadataOnly
    }
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The members that are read of an object.
#[derive(Deserialize)]
pub struct Members {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    spec: Option<Lease>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Version {
    /// Adds it to an object's metadata, or to the preconditions of a deletion.
    pub(super) fn add_to(&self, members: &mut Map<String, Value>) {
        members.insert("uid".into(), json!(self.uid));
        members.insert("resourceVersion".into(), json!(self.resource_version));
    }
}

impl<B: Body> Object<B> {
    /// Its JSON; with a version where it replaces what was read.
    pub(super) fn to_json(&self, replaces: Option<&Version>) -> Vec<u8> {
        let mut metadata = members([
            ("name", json!(self.name)),
            ("labels", json!(self.labels)),
            ("annotations", json!(self.annotations)),
        ]);
        if let Some(version) = replaces {
            version.add_to(&mut metadata);
        }
        let mut members = self.body.members();
        members.insert("metadata".into(), metadata.into());
        Value::Object(members).to_string().into_bytes()
    }
}

impl<B: Body> Stored<B> {
    /// Reads an object's JSON.
    pub(super) fn from_json(json: &[u8]) -> Option<Stored<B>> {
        serde_json::from_slice(json).ok().map(Stored::of)
    }

    fn of(mut members: Members) -> Stored<B> {
        let metadata = std::mem::take(&mut members.metadata);
        let object = Object {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            body: B::of(members),
        };
        let version = Version { uid: metadata.uid, resource_version: metadata.resource_version };
        Stored { object, version }
    }
}

impl<B: Body> Page<B> {
    /// Reads a list's JSON.
    pub(super) fn from_json(json: &[u8]) -> Option<Page<B>> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMetadata,
            items: Vec<Members>,
        }
        let list: List = serde_json::from_slice(json).ok()?;
        let next = list.metadata.next.filter(|next| !next.is_empty());
        Some(Page { items: list.items.into_iter().map(Stored::of).collect(), next })
    }
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}
