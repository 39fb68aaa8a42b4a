//! The request of a check.

use super::{Policies, is_default};
use crate::config::Rerun;
use crate::expect::Expect;
use crate::tag::Tag;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The request of a check: its tag, expectation and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The tag of its executions.
    pub tag: Tag,
    /// The executions that must be there.
    pub expect: Expect,
    /// How long the counted set must stay unchanged.
    pub settle: Duration,
    /// Total deadline, counted from acceptance.
    pub timeout: Duration,
    /// How long the expected executions may take to appear, counted while Testkube answers.
    pub appear_timeout: Duration,
    /// The stage whose newest start is the lower bound.
    pub since_stage: Option<String>,
    /// Policy for re-runs.
    #[serde(default)]
    pub rerun: Rerun,
    /// Further policies. Only a request sets them, so they are compared as they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policies: Policies,
    /// The settings that the request set itself; the others are the configuration's. `None` in records of modules that
    /// did not note it.
    #[serde(default)]
    pub given: Option<Given>,
}

/// Which settings a request set itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    /// `expect`.
    #[serde(skip_serializing_if = "is_default")]
    pub expect: bool,
    /// `settle`.
    #[serde(skip_serializing_if = "is_default")]
    pub settle: bool,
    /// `timeout`.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: bool,
    /// `appear_timeout`.
    #[serde(skip_serializing_if = "is_default")]
    pub appear_timeout: bool,
    /// `rerun`.
    #[serde(skip_serializing_if = "is_default")]
    pub rerun: bool,
}

impl Given {
    const ALL: Given = Given { expect: true, settle: true, timeout: true, appear_timeout: true, rerun: true };
}

impl Ask {
    /// Whether another request asks the same. Settings that neither of them set do not count: they may come from
    /// different configurations.
    pub fn is_same(&self, other: &Ask) -> bool {
        let given = match (self.given, other.given) {
            (Some(own), Some(others)) if own != others => return false,
            (own, others) => own.or(others).unwrap_or(Given::ALL),
        };
        self.tag == other.tag
            && self.since_stage == other.since_stage
            && self.policies == other.policies
            && (!given.expect || self.expect == other.expect)
            && (!given.settle || self.settle == other.settle)
            && (!given.timeout || self.timeout == other.timeout)
            && (!given.appear_timeout || self.appear_timeout == other.appear_timeout)
            && (!given.rerun || self.rerun == other.rerun)
    }
}
