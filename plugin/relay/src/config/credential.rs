//! The configured callers.

use super::Policy;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::tag::Tag;

/// One configured caller.
#[derive(Debug)]
pub struct Credential {
    /// The caller's name in logs.
    pub name: String,
    /// How it presents itself.
    pub kind: Kind,
    /// The secret, and during rotation also the next one.
    pub secrets: Vec<Secret>,
    /// The routes that it opens.
    pub allow: Vec<Allow>,
    /// The Azure DevOps projects that it may act for; empty: all.
    pub projects: Vec<Guid>,
    /// Patterns of the tag values that it may use; empty: all.
    pub tags: Vec<String>,
    /// Maximum pending checks.
    pub max_pending: u32,
    /// Maximum downloads under way in one VM.
    pub max_downloads: u32,
    /// Whether executions of its checks may be aborted when their run is over.
    pub abort_on_cancel: bool,
    /// The policies that its checks may use.
    pub policies: Vec<Policy>,
    /// Whether the verdicts on its checks are only logged, and `succeeded` is always posted.
    pub observe: bool,
}

impl Credential {
    /// Whether it may act for some projects or tags only.
    pub fn is_bound(&self) -> bool {
        !self.projects.is_empty() || !self.tags.is_empty()
    }

    /// Whether it may act for this project.
    pub fn covers_project(&self, project: &Guid) -> bool {
        self.projects.is_empty() || self.projects.contains(project)
    }

    /// Why its checks may not use this policy; `None` if they may.
    pub fn forbids(&self, policy: Policy) -> Option<String> {
        (!self.policies.contains(&policy)).then(|| {
            format!(
                "the credential `{}` does not allow it: add \"{}\" to its `allow_policies`",
                self.name,
                policy.name()
            )
        })
    }

    /// Whether it may use this tag.
    pub fn covers_tag(&self, tag: &Tag) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|pattern| crate::tag::fits(pattern, &tag.value))
    }
}

/// The form of a credential.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Authorization: Basic`, which a Generic service connection sends.
    Basic {
        /// The user name, which is not secret.
        username: String,
    },
    /// `Authorization: Bearer`.
    Bearer,
}

/// A group of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// `POST /v1/checks`.
    Checks,
    /// Testkube's artifact, archive and log paths.
    Artifacts,
    /// `GET /v1/checks`: pending and recently decided checks.
    Status,
    /// `POST /v1/events`: hints from Testkube's webhook.
    Events,
    /// `POST /v1/drain`.
    Drain,
}
