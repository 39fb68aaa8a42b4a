//! A replica's Lease: how it is named, and what it says.

use crate::time::Wall;
use crate::wire::kubernetes::{self, Object, Stored};
use std::collections::BTreeMap;

/// How long a Lease is good for, in seconds. Nobody compares its time with a clock: this is for people who look at it.
const LEASE_SECONDS: u32 = 15;

const INSTANCE: &str = "testrelay.dev/instance";
const KIND: &str = "testrelay.dev/kind";
const REPLICA: &str = "replica";
const POD: &str = "testrelay.dev/pod";
const FORMAT: &str = "testrelay.dev/format";
const DRAINS: &str = "testrelay.dev/drains";

/// What a replica says of itself for as long as its process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The instance, as it stands in labels and names.
    pub instance: String,
    /// Its id, drawn by its process at random: `1f3870be274f6c49`.
    pub id: String,
    /// The pod's name; empty where nobody has told it. Two replicas of one pod's name are one pod that was started anew.
    pub pod: String,
    /// The newest format of records that it reads.
    pub format: u8,
}

/// What a Lease says of its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub(super) id: String,
    pub(super) pod: String,
    /// `None`: it says none that this code can read, so nothing may be written that an old module does not read.
    pub(super) format: Option<u8>,
    pub(super) drains: bool,
    /// Changes with each renewal.
    pub(super) renewed: String,
}

impl Replica {
    /// The labels that a list of all replicas' Leases asks for.
    pub(super) fn selector(&self) -> String {
        format!("{INSTANCE}={},{KIND}={REPLICA}", self.instance)
    }

    /// The name of its Lease.
    pub(super) fn lease_name(&self) -> String {
        format!("{}-{}", self.instance, self.id)
    }

    /// Its Lease, renewed now for the `n`th time. The text of a renewal differs from the one before, whatever the wall clock does:
    /// its last three digits are `n`'s.
    pub(super) fn lease(&self, now: Wall, n: u64, drains: bool) -> Object<kubernetes::Lease> {
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
            labels: owned(&labels),
            annotations: owned(&annotations),
            body: kubernetes::Lease {
                holder: Some(self.id.clone()),
                seconds: Some(LEASE_SECONDS),
                renewed: Some(renewed),
            },
        }
    }
}

impl Word {
    /// Reads a Lease. `None`: nobody holds it.
    pub(super) fn of(lease: &Stored<kubernetes::Lease>) -> Option<Word> {
        let Object { annotations, body, .. } = &lease.object;
        let said = |name: &str| annotations.get(name).map(String::as_str).unwrap_or_default();
        Some(Word {
            id: body.holder.clone().filter(|holder| !holder.is_empty())?,
            pod: said(POD).into(),
            format: crate::text::number(said(FORMAT)),
            drains: said(DRAINS) == "true",
            renewed: body.renewed.clone().unwrap_or_default(),
        })
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}
