//! Who may call, as it is configured.

use crate::guid::Guid;
use crate::secret::Secret;
use crate::tag::Tag;

/// One configured caller.
#[derive(Debug)]
pub struct Credential {
    /// The name that logs give it.
    pub name: String,
    /// How it presents itself.
    pub kind: Kind,
    /// The secret, and while it is being rotated the next one.
    pub secrets: Vec<Secret>,
    /// The routes that it opens.
    pub allow: Vec<Allow>,
    /// The Azure DevOps projects that it may speak for; empty: all.
    pub projects: Vec<Guid>,
    /// Patterns of the tag values that it may name; empty: all.
    pub tags: Vec<String>,
    /// How many of its checks may be pending.
    pub max_pending: u32,
    /// How many downloads it may have under way in one VM.
    pub max_downloads: u32,
    /// Whether executions of its checks may be aborted when their run is over.
    pub abort_on_cancel: bool,
    /// Whether the verdict on its checks is only told, and `succeeded` posted whatever it is.
    pub observe: bool,
}

impl Credential {
    /// Whether it may speak for this project.
    pub fn covers_project(&self, project: &Guid) -> bool {
        self.projects.is_empty() || self.projects.contains(project)
    }

    /// Whether it may name this tag.
    pub fn covers_tag(&self, tag: &Tag) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|pattern| crate::tag::fits(pattern, &tag.value))
    }
}

/// How a credential presents itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Authorization: Basic`, which a Generic service connection sends.
    Basic {
        /// The user name, which is no secret.
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
    /// `GET /v1/checks`: what is pending and what was decided lately.
    Status,
    /// `POST /v1/events`: hints of Testkube's webhook.
    Events,
}
