//! The plugin's configuration: from JSON to validated types.
//!
//! Parsing is strict, because a misspelt field that is ignored is an open gate: unknown fields are refused, and every
//! error states the field, its value and what is allowed. Secrets are given by the names of environment variables,
//! never by value, because Envoy shows the configuration in `/config_dump`.

mod credential;
mod doubled;
mod fields;
mod policy;
mod public;
mod read;
mod rerun;

use crate::expect::Expect;
use crate::seal::Sealing;
use crate::tag::TagRule;
use crate::wire::azure::Entry;
use crate::wire::kubernetes::Server;
use crate::wire::testkube::Testkube;
pub use credential::{Allow, Credential, Kind};
use fields::Fields;
pub use fields::{ConfigError, ConfigErrors};
pub use policy::Policy;
use read::{
    artifacts, azure_devops, checks, credential, is_base_path, is_instance, is_public_url, store, tag,
    testkube, unique,
};
pub use rerun::Rerun;
use serde_json::Value;
use std::time::Duration;

/// A plugin configuration.
#[derive(Debug)]
pub struct Config {
    /// The ledger and leader that this configuration shares; `None`: the host's `plugin_name` decides.
    pub instance: Option<String>,
    /// The prefix of Testrelay's own routes, without a trailing slash; `/testrelay` by default.
    pub base_path: String,
    /// The part of links before `base_path`, such as `https://testrelay.example.com`; `None`: the request's scheme and
    /// host.
    pub public_url: Option<String>,
    /// How other programs' requests are treated.
    pub passthrough: Passthrough,
    /// Testkube's address.
    pub testkube: Testkube,
    /// The Azure DevOps collections that checks may come from.
    pub azure_devops: Vec<Entry>,
    /// Who may call; empty only with `insecure_no_auth`.
    pub credentials: Vec<Credential>,
    /// The rule for tags.
    pub tag: TagRule,
    /// Whether Envoy hands a request's body over before its headers go on (the filter's
    /// `allow_on_headers_stop_iteration`).
    pub read_body: bool,
    /// Limits and defaults for checks.
    pub checks: Checks,
    /// Settings for what pipelines download.
    pub artifacts: Artifacts,
    /// The store of pending checks that several processes share; `None`: they live in this process alone.
    pub store: Option<ClusterStore>,
    /// A fingerprint of the configuration's text: root contexts with equal ones are interchangeable.
    pub fingerprint: u64,
    /// Sentences for the log about settings that are allowed but should be changed.
    pub warnings: Vec<String>,
}

/// How a request is treated whose path is neither Testrelay's nor one of Testkube's artifact paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// Answer 404: this Envoy serves Testrelay alone.
    Artifacts,
    /// Let it go on untouched: this Envoy is Testkube's sidecar.
    All,
}

/// Limits and defaults for checks.
#[derive(Debug)]
pub struct Checks {
    /// Total deadline.
    pub timeout: Duration,
    /// How long the expected executions may take to appear, counted while Testkube answers.
    pub appear_timeout: Duration,
    /// How far before its arrival a check looks for executions if no better bound is known.
    pub lookback: Duration,
    /// Maximum by which Testkube's clock may be behind Azure DevOps's.
    pub clock_skew: Duration,
    /// Whether a check without an expectation is rejected.
    pub require_expect: bool,
    /// Maximum pending checks.
    pub max_pending: u32,
    /// The default expectation.
    pub expect: Option<Expect>,
    /// How long the counted set must stay unchanged, unless the check or its expectation says otherwise.
    pub settle: Option<Duration>,
    /// Policy for re-runs.
    pub rerun: Rerun,
    /// Maximum pending checks of one project.
    pub max_pending_per_project: u32,
    /// Whether to cancel a build that did not wait for its check.
    pub cancels_open_gate: bool,
    /// Whether to abort executions that still run when their run is over, for credentials that allow it.
    pub abort_on_cancel: bool,
    /// Maximum files of one check that are read for the results of its tests; 0: none is looked for.
    pub test_files: u32,
}

/// A namespace of Kubernetes in which pending checks are kept.
#[derive(Debug)]
pub struct ClusterStore {
    /// The API server, and the namespace.
    pub server: Server,
    /// Whether a check is accepted although the API server does not answer.
    pub accepts_in_outage: bool,
    /// The name of this process's pod; empty if it is not known.
    pub pod: String,
    /// The keys that records are sealed with.
    pub sealing: Sealing,
}

/// Settings for what pipelines download.
#[derive(Debug)]
pub struct Artifacts {
    /// The Envoy cluster for calls to Testkube about requests by tag; the checks' own by default. Envoy's route decides
    /// where the file itself comes from.
    pub cluster: String,
    /// Maximum total size of the files in an archive by tag, in bytes.
    pub max_archive: u64,
}

/// Default for the maximum downloads under way of a caller, in one VM.
pub(crate) const DEFAULT_MAX_DOWNLOADS: u32 = 32;

/// Maximum value for a limit of pending checks. The ledger has room for more, and 10,000 were measured.
pub const MAX_PENDING: u32 = 16_384;

/// Maximum deadline of a check: Azure DevOps's token for a check ends after 48 hours (Microsoft Learn, "Invoke Azure
/// Function / REST API checks"), and half an hour is kept for the callback.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(47 * 3600 + 1800);

impl Config {
    /// Reads a configuration. `environment` looks up environment variables; it is called only with the names in
    /// fields whose name ends in `_env` or `_env_next`.
    ///
    /// # Errors
    /// Everything that is wrong with it, not only the first mistake.
    pub fn parse(text: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
        let value: Value = serde_json::from_slice(text).map_err(|e| {
            ConfigErrors::one("", format!("the plugin configuration is not JSON: {e} (a StringValue that holds a JSON object is expected)"))
        })?;
        if let Err(e) = serde_json::from_slice::<doubled::Undoubled>(text) {
            return Err(ConfigErrors::one(
                "",
                format!("{e}: only one of them would count: remove the other"),
            ));
        }
        let mut errors = ConfigErrors::default();
        let mut top = Fields::new("", &value, &mut errors);
        let mut config = Config {
            instance: top.text("instance", "letters, digits, `-`, `_` and `.`, at most 64", is_instance),
            base_path: top
                .text("base_path", "a path such as \"/testrelay\", without a trailing slash", is_base_path)
                .unwrap_or_else(|| "/testrelay".into()),
            public_url: top.text(
                "public_url",
                "the part of the URL before the base path, such as \"https://testrelay.example.com\", without a trailing slash",
                is_public_url,
            ),
            passthrough: top
                .choice("passthrough", &[("artifacts", Passthrough::Artifacts), ("all", Passthrough::All)])
                .unwrap_or(Passthrough::Artifacts),
            testkube: testkube(top.required_object("testkube"), environment),
            azure_devops: top.list("azure_devops", true, azure_devops),
            credentials: top.list("credentials", false, |fields| credential(fields, environment)),
            tag: tag(top.object("tag")),
            read_body: top.flag("read_body").unwrap_or(false),
            checks: checks(top.object("checks")),
            artifacts: artifacts(top.object("artifacts")),
            store: top.object("store").and_then(|fields| store(fields, environment)),
            fingerprint: crate::hash::fnv1a(text),
            warnings: Vec::new(),
        };
        if config.artifacts.cluster.is_empty() {
            config.artifacts.cluster.clone_from(&config.testkube.cluster);
        }
        let insecure = top.flag("insecure_no_auth").unwrap_or(false);
        let credentials_given = top.was_given("credentials");
        top.finish();
        if !insecure && !credentials_given {
            errors.push("credentials", "missing: without credentials anyone who reaches this Envoy can start checks. Configure at least one, or set \"insecure_no_auth\": true");
        }
        if insecure && !config.credentials.is_empty() {
            errors.push(
                "insecure_no_auth",
                "is true although credentials are configured: remove one of the two",
            );
        }
        fallbacks(&mut errors, &config.azure_devops, insecure);
        unique(&mut errors, "azure_devops", "url", config.azure_devops.iter().map(Entry::url));
        unique(&mut errors, "credentials", "name", config.credentials.iter().map(|c| c.name.clone()));
        config.warnings = errors.take_warnings();
        errors.into_result(config)
    }

    /// The credential of this name.
    pub(crate) fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.name == name)
    }
}

/// Mistakes in the clusters to which Envoy adds an identity.
fn fallbacks(errors: &mut ConfigErrors, entries: &[Entry], insecure: bool) {
    for (n, entry) in entries.iter().enumerate() {
        let Some(fallback) = &entry.fallback else { continue };
        let place = format!("azure_devops[{n}].fallback_cluster");
        if insecure {
            errors.push(
                &place,
                "cannot be combined with insecure_no_auth: anybody could finish checks with your identity",
            );
        }
        if entries.iter().any(|other| other.cluster == *fallback) {
            errors.push(
                &place,
                "is also a `cluster`: every call there would carry Envoy's identity, and prove every token",
            );
        }
    }
}

#[cfg(test)]
mod tests;
