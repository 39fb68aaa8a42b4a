//! The plugin's configuration: JSON in, validated types out.
//!
//! Parsing is strict, because a field that is misspelt and ignored is a gate that is open: unknown fields are
//! refused, and every error says which field it is about, what stood there and what is allowed. Secrets are
//! named by environment variables and never stand in the configuration, which Envoy shows in `/config_dump`.

mod credential;
mod doubled;
mod fields;
mod public;
mod read;
mod rerun;

use crate::expect::Expect;
use crate::tag::TagRule;
use crate::wire::azure::Entry;
use crate::wire::testkube::Testkube;
pub use credential::{Allow, Credential, Kind};
use fields::Fields;
pub use fields::{ConfigError, ConfigErrors};
use read::{
    artifacts, azure_devops, checks, credential, is_base_path, is_instance, is_public_url, tag, testkube,
    unique,
};
pub use rerun::Rerun;
use serde_json::Value;
use std::time::Duration;

/// Everything that one plugin configuration says.
#[derive(Debug)]
pub struct Config {
    /// Which ledger and leader this configuration shares; `None`: the host's `plugin_name` says it.
    pub instance: Option<String>,
    /// Where Testrelay's own routes begin; no slash at the end, `/testrelay` by default.
    pub base_path: String,
    /// What links begin with, before `base_path`, as `https://testrelay.example.com`; `None`: scheme and host of the request.
    pub public_url: Option<String>,
    /// What happens to requests that are not Testrelay's.
    pub passthrough: Passthrough,
    /// Where Testkube is.
    pub testkube: Testkube,
    /// The Azure DevOps collections that checks may come from.
    pub azure_devops: Vec<Entry>,
    /// Who may call; empty only with `insecure_no_auth`.
    pub credentials: Vec<Credential>,
    /// What a tag must look like.
    pub tag: TagRule,
    /// Whether the filter's Envoy hands a request's body over before its headers go on
    /// (`allow_on_headers_stop_iteration`).
    pub read_body: bool,
    /// Bounds and defaults for checks.
    pub checks: Checks,
    /// What pipelines fetch.
    pub artifacts: Artifacts,
    /// A fingerprint of the configuration's text: two root contexts with the same one are interchangeable.
    pub fingerprint: u64,
    /// What is allowed and should be changed, as sentences for the log.
    pub warnings: Vec<String>,
}

/// What happens to a request for a path that is neither Testrelay's nor one of Testkube's artifact paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// 404: this Envoy exists for Testrelay alone.
    Artifacts,
    /// Untouched: this Envoy is Testkube's own sidecar.
    All,
}

/// Bounds and defaults for checks.
#[derive(Debug)]
pub struct Checks {
    /// The total deadline.
    pub timeout: Duration,
    /// How long the expected executions may take to appear, counted while Testkube answers.
    pub appear_timeout: Duration,
    /// How far before its arrival a check looks for executions when nothing better is known.
    pub lookback: Duration,
    /// How far Testkube's clock may be behind Azure DevOps's.
    pub clock_skew: Duration,
    /// Whether a check that does not say what it expects is rejected.
    pub require_expect: bool,
    /// How many checks may be pending.
    pub max_pending: u32,
    /// What a check expects that does not say.
    pub expect: Option<Expect>,
    /// How long the counted set must be unchanged, where neither the check nor its expectation says otherwise.
    pub settle: Option<Duration>,
    /// What a re-run means.
    pub rerun: Rerun,
    /// How many checks of one project may be pending.
    pub max_pending_per_project: u32,
    /// Whether a build that did not wait for its check is cancelled.
    pub cancels_open_gate: bool,
    /// Whether executions that still run are aborted when their run is over, for credentials that may.
    pub abort_on_cancel: bool,
}

/// What pipelines fetch, and how.
#[derive(Debug)]
pub struct Artifacts {
    /// The Envoy cluster through which Testkube is asked what a request by tag means; the checks' own by default. Where a
    /// file itself goes through, Envoy's route says.
    pub cluster: String,
    /// How many bytes the files of an archive by tag may have together.
    pub max_archive: u64,
}

/// How many downloads a caller may have under way where its credential does not say, in one VM.
pub(crate) const DEFAULT_MAX_DOWNLOADS: u32 = 32;

/// What a limit of pending checks may be set to. The ledger has room for more, and 10,000 were measured.
pub const MAX_PENDING: u32 = 16_384;

/// The longest deadline a check may have: Azure DevOps's token for a check ends after 48 hours (Microsoft Learn,
/// "Invoke Azure Function / REST API checks"), and half an hour is kept for the callback.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(47 * 3600 + 1800);

impl Config {
    /// Reads a configuration. `environment` looks up environment variables; it is asked only for the names that
    /// `secret_env`, `secret_env_next` and `bearer_env` give.
    ///
    /// # Errors
    /// All that is wrong with it, not just the first thing.
    pub fn parse(text: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
        let value: Value = serde_json::from_slice(text).map_err(|e| {
            ConfigErrors::one("", format!("the plugin configuration is not JSON: {e} (a StringValue that holds a JSON object is expected)"))
        })?;
        if let Err(e) = serde_json::from_slice::<doubled::Undoubled>(text) {
            return Err(ConfigErrors::one(
                "",
                format!("{e}: only one of them would count, so take the other away"),
            ));
        }
        let mut errors = ConfigErrors::default();
        let mut top = Fields::new("", &value, &mut errors);
        let mut config = Config {
            instance: top.text("instance", "letters, digits, `-`, `_` and `.`, at most 64", is_instance),
            base_path: top
                .text("base_path", "a path such as \"/testrelay\", without a slash at its end", is_base_path)
                .unwrap_or_else(|| "/testrelay".into()),
            public_url: top.text(
                "public_url",
                "what people write before the base path, as \"https://testrelay.example.com\", without a slash at its end",
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
            errors.push("credentials", "missing: without credentials anyone who reaches this Envoy can start checks. Configure at least one, or say \"insecure_no_auth\": true");
        }
        if insecure && !config.credentials.is_empty() {
            errors.push(
                "insecure_no_auth",
                "is true although credentials are configured: take one of the two away",
            );
        }
        fallbacks(&mut errors, &config.azure_devops, insecure);
        unique(&mut errors, "azure_devops", "url", config.azure_devops.iter().map(Entry::url));
        unique(&mut errors, "credentials", "name", config.credentials.iter().map(|c| c.name.clone()));
        config.warnings = errors.take_warnings();
        errors.into_result(config)
    }
}

/// What is wrong with clusters whose Envoy puts an identity on.
fn fallbacks(errors: &mut ConfigErrors, entries: &[Entry], insecure: bool) {
    for (n, entry) in entries.iter().enumerate() {
        let Some(fallback) = &entry.fallback else { continue };
        let place = format!("azure_devops[{n}].fallback_cluster");
        if insecure {
            errors.push(
                &place,
                "cannot be together with insecure_no_auth: everybody could have an identity of yours finish checks",
            );
        }
        if entries.iter().any(|other| other.cluster == *fallback) {
            errors.push(
                &place,
                "is the same as a `cluster`: what Envoy puts on there would be on every call, and prove every token",
            );
        }
    }
}

#[cfg(test)]
mod tests;
