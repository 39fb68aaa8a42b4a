//! A replica's Lease: its name, and what stands in it. And bells, which are Leases of their own, so that they say nothing
//! about their owner's life.

use super::secret::{self, OWNER, TAG};
use crate::seal::Sealing;
use crate::time::{Mono, Wall};
use crate::wire::kubernetes::{LeaseBody, Object, StoredObject, Texts, Version};

/// `leaseDurationSeconds` of a Lease. For readers only: no replica compares a Lease's time with a clock.
const LEASE_SECONDS: u32 = 15;

pub(super) const INSTANCE: &str = "testrelay.dev/instance";
pub(super) const KIND: &str = "testrelay.dev/kind";
const REPLICA: &str = "replica";
const BELL: &str = "bell";
const POD: &str = "testrelay.dev/pod";
const FORMAT: &str = "testrelay.dev/format";
const DRAINS: &str = "testrelay.dev/drains";

/// The owner of checks that were given up: none.
pub(crate) const NOBODY: &str = "";

/// The identity of a replica, constant while its process lives.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The instance, as in labels and names.
    pub instance: String,
    /// Its id, drawn at random by its process, as `1f3870be274f6c49`.
    pub id: String,
    /// The pod's name; empty if unknown.
    pub pod: String,
    /// The newest record format that it reads.
    pub format: u8,
    /// The keys that records are sealed with.
    pub sealing: Sealing,
}

/// The content of a replica's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(super) id: String,
    pub(super) pod: String,
    /// `None` if this code cannot read it: then only the oldest format may be written.
    pub(super) format: Option<u8>,
    pub(super) drains: bool,
    /// Changes with each renewal.
    pub(super) renewed: String,
    /// Its name, and the version that was listed.
    pub(super) name: String,
    pub(super) version: Version,
}

/// A bell: a Lease that tells a replica to look at the checks of a tag at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bell {
    /// The replica that is to look.
    pub(super) owner: String,
    /// The hash of the tag; `None` if this code cannot read it.
    pub(super) tag: Option<u64>,
    /// Its name, and the version that was listed.
    pub(super) name: String,
    pub(super) version: Version,
}

impl Replica {
    /// The replica with this id of the instance whose keys begin with `prefix`.
    pub(crate) fn new(prefix: &str, id: &str, pod: &str, sealing: &Sealing) -> Replica {
        let instance = secret::name_of(crate::instance::of_prefix(prefix));
        Replica { instance, id: id.into(), pod: pod.into(), format: secret::FORMAT, sealing: sealing.clone() }
    }

    /// The label selector of all replicas' Leases, and of all bells.
    pub(super) fn selector(&self) -> String {
        format!("{INSTANCE}={},{KIND} in ({REPLICA},{BELL})", self.instance)
    }

    /// The label selector of all replicas' Leases.
    pub(crate) fn replicas(&self) -> String {
        format!("{INSTANCE}={},{KIND}={REPLICA}", self.instance)
    }

    /// The id and the pod of the replica with this Lease.
    pub(crate) fn pod_of(lease: &StoredObject<LeaseBody>) -> Option<(String, String)> {
        Word::of(lease).map(|word| (word.id, word.pod))
    }

    /// A bell for the owner of checks whose tag has this hash.
    pub(super) fn bell(&self, now: Mono, owner: &str, tag: u64) -> Object<LeaseBody> {
        let tag = secret::hash_label(tag);
        let labels = [(INSTANCE, self.instance.as_str()), (KIND, BELL), (OWNER, owner), (TAG, &tag)];
        Object {
            // Two of one time are for different owners or tags. If another replica has made it just now, one is enough.
            name: format!("{}-bell-{owner}-{tag}-{:x}", self.instance, now.0),
            labels: Texts::of(&labels),
            annotations: Texts::default(),
            body: LeaseBody { holder: Some(self.id.clone()), ..LeaseBody::default() },
        }
    }

    /// The name of its Lease.
    pub(super) fn lease_name(&self) -> String {
        format!("{}-{}", self.instance, self.id)
    }

    /// Its Lease at renewal number `n`. The last three digits of the renewal's time are `n`'s, so that its text differs
    /// from the last one whatever the wall clock does.
    pub(super) fn lease(&self, now: Wall, n: u64, drains: bool) -> Object<LeaseBody> {
        let renewed = now.to_string();
        let renewed = format!("{}{:03}Z", renewed.trim_end_matches('Z'), n % 1_000);
        let labels = [(INSTANCE, self.instance.as_str()), (KIND, REPLICA)];
        let format = self.format.to_string();
        let mut annotations = vec![(POD, self.pod.as_str()), (FORMAT, &format)];
        if drains {
            annotations.push((DRAINS, "true"));
        }
        Object {
            name: self.lease_name(),
            labels: Texts::of(&labels),
            annotations: Texts::of(&annotations),
            body: LeaseBody {
                holder: Some(self.id.clone()),
                seconds: Some(LEASE_SECONDS),
                renewed: Some(renewed),
            },
        }
    }
}

impl Bell {
    /// Reads a Lease. `None` if it is no bell.
    pub(super) fn of(lease: &StoredObject<LeaseBody>) -> Option<Bell> {
        let Object { name, labels, .. } = &lease.object;
        (labels.get(KIND) == Some(BELL)).then(|| Bell {
            owner: secret::owner_of(&lease.object).into(),
            tag: secret::tag_of(&lease.object),
            name: name.clone(),
            version: lease.version.clone(),
        })
    }
}

impl Word {
    /// Reads a Lease. `None` if it has no holder, or is a bell.
    pub(super) fn of(lease: &StoredObject<LeaseBody>) -> Option<Word> {
        let Object { annotations, labels, body, .. } = &lease.object;
        if labels.get(KIND) == Some(BELL) {
            return None;
        }
        let said = |name: &str| annotations.get(name).unwrap_or_default();
        Some(Word {
            id: body.holder.clone().filter(|holder| !holder.is_empty())?,
            pod: said(POD).into(),
            format: crate::text::number(said(FORMAT)),
            drains: said(DRAINS) == "true",
            renewed: body.renewed.clone().unwrap_or_default(),
            name: lease.object.name.clone(),
            version: lease.version.clone(),
        })
    }
}
