//! A replica's Lease: its name, and what stands in it.

use super::secret;
use crate::time::Wall;
use crate::wire::kubernetes::{LeaseBody, Object, StoredObject, Texts, Version};

/// `leaseDurationSeconds` of a Lease. For readers only: no replica compares a Lease's time with a clock.
const LEASE_SECONDS: u32 = 15;

pub(super) const INSTANCE: &str = "testrelay.dev/instance";
pub(super) const KIND: &str = "testrelay.dev/kind";
const REPLICA: &str = "replica";
const POD: &str = "testrelay.dev/pod";
const FORMAT: &str = "testrelay.dev/format";
const DRAINS: &str = "testrelay.dev/drains";

/// The owner of checks that were given up: none.
pub(crate) const NOBODY: &str = "";

/// The identity of a replica, constant while its process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The instance, as in labels and names.
    pub instance: String,
    /// Its id, drawn at random by its process, as `1f3870be274f6c49`.
    pub id: String,
    /// The pod's name; empty if unknown.
    pub pod: String,
    /// The newest record format that it reads.
    pub format: u8,
}

/// The content of a replica's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
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

impl Replica {
    /// The replica with this id of the instance whose keys begin with `prefix`.
    pub(crate) fn new(prefix: &str, id: &str, pod: &str) -> Replica {
        let instance = secret::name_of(crate::instance::of_prefix(prefix));
        Replica { instance, id: id.into(), pod: pod.into(), format: secret::FORMAT }
    }

    /// The label selector of all replicas' Leases.
    pub(super) fn selector(&self) -> String {
        format!("{INSTANCE}={},{KIND}={REPLICA}", self.instance)
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

impl Word {
    /// Reads a Lease. `None` if it has no holder.
    pub(super) fn of(lease: &StoredObject<LeaseBody>) -> Option<Word> {
        let Object { annotations, body, .. } = &lease.object;
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
