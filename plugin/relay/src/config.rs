//! The plugin's configuration: JSON in, validated types out.
//!
//! Parsing is strict, because a field that is misspelt and ignored is a gate that is open: unknown fields are
//! refused, and every error says which field it is about, what stood there and what is allowed. Secrets are
//! named by environment variables and never stand in the configuration, which Envoy shows in `/config_dump`.

mod dashboard;
mod doubled;
mod fields;
mod public;

use crate::auth::{Allow, Credential, Kind};
use crate::azure::{Entry, TokenScheme};
use crate::check::Rerun;
use crate::expect::Expect;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::tag::TagRule;
pub use dashboard::Dashboard;
use fields::Fields;
pub use fields::{ConfigError, ConfigErrors};
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

/// Where Testkube is and how it is asked.
#[derive(Debug)]
pub struct Testkube {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority` of calls.
    pub authority: String,
    /// `/v1` for the API server; `/organizations/{org}/environments/{env}/agent` for a control plane.
    pub api_prefix: String,
    /// A control plane's API token.
    pub token: Option<Secret>,
    /// Where people look at an execution.
    pub dashboard: Option<Dashboard>,
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

/// The longest deadline a check may have: Azure DevOps's token for a check ends after 48 hours (Microsoft Learn,
/// "Invoke Azure Function / REST API checks"), and half an hour is kept for the callback.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(47 * 3600 + 1800);

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
        for (n, entry) in config.azure_devops.iter().enumerate() {
            let Some(fallback) = &entry.fallback else { continue };
            let place = format!("azure_devops[{n}].fallback_cluster");
            if insecure {
                errors.push(
                    &place,
                    "cannot be together with insecure_no_auth: everybody could have an identity of yours finish checks",
                );
            }
            if config.azure_devops.iter().any(|other| other.cluster == *fallback) {
                errors.push(
                    &place,
                    "is the same as a `cluster`: what Envoy puts on there would be on every call, and prove every token",
                );
            }
        }
        unique(&mut errors, "azure_devops", "url", config.azure_devops.iter().map(Entry::url));
        unique(&mut errors, "credentials", "name", config.credentials.iter().map(|c| c.name.clone()));
        config.warnings = errors.take_warnings();
        errors.into_result(config)
    }
}

fn testkube(fields: Option<Fields<'_>>, environment: &dyn Fn(&str) -> Option<String>) -> Testkube {
    let Some(mut fields) = fields else {
        return Testkube {
            cluster: String::new(),
            authority: String::new(),
            api_prefix: String::new(),
            token: None,
            dashboard: None,
        };
    };
    let testkube = Testkube {
        cluster: fields.required_text(
            "cluster",
            "the name of the Envoy cluster that leads to Testkube's API server",
            is_cluster,
        ),
        authority: fields
            .text("authority", "a host, with a port if it is not the scheme's own", is_authority)
            .unwrap_or_else(|| "testkube-api-server:8088".into()),
        api_prefix: fields
            .text("api_prefix", "a path such as \"/v1\", without a slash at its end", is_base_path)
            .unwrap_or_else(|| "/v1".into()),
        token: fields.secret("bearer_env", environment),
        dashboard: fields
            .text(
                "dashboard",
                "an http(s) address with {id} and, if wanted, {workflow} in it, such as \"https://testkube.example/test-workflows/{workflow}/executions/{id}\"",
                |text| Dashboard::parse(text).is_some(),
            )
            .and_then(|text| Dashboard::parse(&text)),
    };
    fields.finish();
    testkube
}

fn azure_devops(mut fields: Fields<'_>) -> Option<Entry> {
    let url = fields.required_text(
        "url",
        "https://dev.azure.com/<organisation>, https://<organisation>.visualstudio.com, or http(s)://<server>/<path>/<collection> without query, user or `..`",
        |text| Entry::parse(text, String::new(), TokenScheme::Bearer).is_some(),
    );
    let cluster = fields.required_text(
        "cluster",
        "the name of the Envoy cluster that leads to this URL's host",
        is_cluster,
    );
    let scheme = fields
        .choice("auth", &[("bearer", TokenScheme::Bearer), ("basic", TokenScheme::Basic)])
        .unwrap_or(TokenScheme::Bearer);
    let mut token_life = Entry::TOKEN_LIFE;
    let (minute, two_days) = (Duration::from_secs(60), Duration::from_secs(48 * 3600));
    fields.duration("token_life", minute..=two_days, &mut token_life);
    let fallback = fields.text(
        "fallback_cluster",
        "the name of an Envoy cluster that leads to this URL's host and puts an identity on",
        is_cluster,
    );
    fields.finish();
    let mut entry = Entry::parse(&url, cluster, scheme)?;
    entry.token_life = token_life;
    entry.fallback = fallback;
    Some(entry)
}

fn credential(mut fields: Fields<'_>, environment: &dyn Fn(&str) -> Option<String>) -> Option<Credential> {
    let name = fields.required_text("name", "letters, digits, `-`, `_` and `.`, at most 64", is_instance);
    let kind = fields.required_choice("kind", &[("basic", false), ("bearer", true)]);
    let username =
        fields.text("username", "at least one character, and no `:`", |t| !t.is_empty() && !t.contains(':'));
    let kind = match (kind?, username) {
        (true, None) => Kind::Bearer,
        (false, Some(username)) => Kind::Basic { username },
        (true, Some(_)) => {
            fields.error(
                "username",
                "a bearer credential has no user name: take it away, or say \"kind\": \"basic\"",
            );
            Kind::Bearer
        }
        (false, None) => {
            fields.error(
                "username",
                "missing: a basic credential needs the user name of the service connection",
            );
            Kind::Bearer
        }
    };
    let secret = fields.required_secret("secret_env", environment);
    let next = fields.secret("secret_env_next", environment);
    let allow = fields.choices(
        "allow",
        &[
            ("checks", Allow::Checks),
            ("artifacts", Allow::Artifacts),
            ("status", Allow::Status),
            ("events", Allow::Events),
        ],
    );
    let projects = fields.texts("projects", "a list of Azure DevOps project ids, each a GUID", |text| {
        Guid::parse(text).is_some()
    });
    let tags = fields.texts(
        "tags",
        "a list of patterns for a tag's value, as \"shop-*\", in which `*` stands for any characters",
        crate::tag::is_pattern,
    );
    let max_pending = fields.number("max_pending", 1..=8192).unwrap_or(256);
    let max_downloads = fields.number("max_downloads", 1..=1024).unwrap_or(DEFAULT_MAX_DOWNLOADS);
    let abort_on_cancel = fields.flag("abort_on_cancel").unwrap_or(false);
    let observe = fields.choice("mode", &[("enforce", false), ("observe", true)]).unwrap_or(false);
    fields.finish();
    Some(Credential {
        name,
        kind,
        secrets: [secret, next].into_iter().flatten().collect(),
        allow,
        projects: projects.iter().filter_map(|text| Guid::parse(text)).collect(),
        tags,
        max_pending,
        max_downloads,
        abort_on_cancel,
        observe,
    })
}

fn tag(fields: Option<Fields<'_>>) -> TagRule {
    let mut rule = TagRule { key: "ado-run".into(), bind_to_build: true };
    if let Some(mut fields) = fields {
        if let Some(key) =
            fields.text("key", "letters, digits, `-`, `_`, `.` and `/`, at most 128", crate::tag::is_key)
        {
            rule.key = key;
        }
        rule.bind_to_build = fields.flag("bind_to_build").unwrap_or(true);
        fields.finish();
    }
    rule
}

fn checks(fields: Option<Fields<'_>>) -> Checks {
    let mut checks = Checks {
        timeout: Duration::from_secs(12 * 3600),
        appear_timeout: Duration::from_secs(30 * 60),
        lookback: Duration::from_secs(6 * 3600),
        clock_skew: Duration::from_secs(30),
        require_expect: false,
        max_pending: 2048,
        expect: None,
        settle: None,
        rerun: Rerun::Latest,
        max_pending_per_project: 256,
        cancels_open_gate: false,
        abort_on_cancel: false,
    };
    let Some(mut fields) = fields else { return checks };
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(24 * 3600);
    fields.duration("timeout", second..=LONGEST_TIMEOUT, &mut checks.timeout);
    fields.duration("appear_timeout", second..=LONGEST_TIMEOUT, &mut checks.appear_timeout);
    fields.duration("lookback", Duration::ZERO..=30 * day, &mut checks.lookback);
    fields.duration("clock_skew", Duration::ZERO..=day, &mut checks.clock_skew);
    checks.require_expect = fields.flag("require_expect").unwrap_or(false);
    if let Some(n) = fields.number("max_pending", 1..=8192) {
        checks.max_pending = n;
    }
    if let Some(n) = fields.number("max_pending_per_project", 1..=8192) {
        checks.max_pending_per_project = n;
    }
    let expect = "names of workflows, as \"shop-api, shop-e2e*2\", or a number of executions from 1 to 200";
    checks.expect = fields
        .text("expect", expect, |text| !text.trim().is_empty() && Expect::parse(text).is_ok())
        .and_then(|text| Expect::parse(&text).ok());
    let mut settle = Duration::MAX;
    fields.duration("settle", Duration::ZERO..=Duration::from_secs(3600), &mut settle);
    checks.settle = (settle != Duration::MAX).then_some(settle);
    let reruns = [("latest", Rerun::Latest), ("all", Rerun::All), ("none", Rerun::None)];
    checks.rerun = fields.choice("rerun", &reruns).unwrap_or_default();
    let open_gate = [("report", false), ("cancel_build", true)];
    checks.cancels_open_gate = fields.choice("on_open_gate", &open_gate).unwrap_or(false);
    checks.abort_on_cancel = fields.flag("abort_on_cancel").unwrap_or(false);
    fields.finish();
    checks
}

fn artifacts(fields: Option<Fields<'_>>) -> Artifacts {
    let mut artifacts = Artifacts { cluster: String::new(), max_archive: 64 << 20 };
    let Some(mut fields) = fields else { return artifacts };
    if let Some(cluster) = fields.text(
        "cluster",
        "the name of an Envoy cluster that leads to Testkube's API server, for what pipelines fetch",
        is_cluster,
    ) {
        artifacts.cluster = cluster;
    }
    fields.size("max_archive", &mut artifacts.max_archive);
    fields.finish();
    artifacts
}

fn unique(errors: &mut ConfigErrors, list: &str, field: &str, values: impl Iterator<Item = String>) {
    let mut seen = std::collections::BTreeSet::new();
    for (i, value) in values.enumerate() {
        if !seen.insert(value.to_ascii_lowercase()) {
            errors.push(&format!("{list}[{i}].{field}"), "stands there twice: each must be its own");
        }
    }
}

fn is_instance(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

fn is_base_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains("//")
        && text.split('/').all(|segment| segment != "." && segment != "..")
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-_.~".contains(&c))
}

/// `http(s)://host[:port][/path]`; it is what a pipeline's token is sent to, so nothing in it may be read in two ways.
fn is_public_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        text.len() <= 300 && is_authority(host) && (path.is_empty() || is_base_path(path))
    })
}

fn is_cluster(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|c| c.is_ascii_graphic())
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.:[]_".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PASSWORD" => Some("canary-password".into()),
            "EMPTY" => Some(String::new()),
            "BLANK" => Some(" ".repeat(20)),
            "SEVEN" => Some("canary7".into()),
            "SHORT_AND_BLANKS" => Some("x       ".into()),
            "BLANK_BEFORE" => Some(" canary-of-16-char".into()),
            "BLANK_AFTER" => Some("canary-of-16-char ".into()),
            "EIGHT" => Some("canary-8".into()),
            "SIXTEEN" => Some("canary-of-16-char".into()),
            _ => None,
        }
    }

    fn good() -> Value {
        json!({
            "testkube": {"cluster": "testkube"},
            "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}],
            "credentials": [{"name": "a", "kind": "basic", "username": "u", "secret_env": "PASSWORD", "allow": ["checks"]}]
        })
    }

    fn parse(value: &Value) -> Result<Config, String> {
        Config::parse(value.to_string().as_bytes(), &environment).map_err(|e| e.to_string())
    }

    fn with(change: impl FnOnce(&mut Value)) -> String {
        let mut value = good();
        change(&mut value);
        parse(&value).map(|_| "accepted".to_string()).unwrap_or_else(|e| e)
    }

    #[test]
    fn the_smallest_configuration_gets_the_documented_defaults() {
        let config = parse(&good()).unwrap();
        assert_eq!(config.base_path, "/testrelay");
        assert_eq!(config.passthrough, Passthrough::Artifacts);
        assert_eq!(config.testkube.api_prefix, "/v1");
        assert_eq!(config.tag.key, "ado-run");
        assert!(config.tag.bind_to_build && !config.read_body && !config.checks.require_expect);
        assert_eq!(config.checks.timeout, Duration::from_secs(12 * 3600));
        assert_eq!(config.checks.max_pending, 2048);
        assert_eq!(config.public_url, None);
        assert_eq!((config.artifacts.cluster.as_str(), config.artifacts.max_archive), ("testkube", 64 << 20));
        assert_eq!(config.credentials[0].max_downloads, 32);
    }

    #[test]
    fn what_pipelines_fetch_has_its_own_cluster_bounds_and_address() {
        let mut value = good();
        value["public_url"] = json!("https://relay.example:8443/tests");
        value["artifacts"] = json!({"cluster": "testkube-downloads", "max_archive": "1.5GiB"});
        value["credentials"][0]["max_downloads"] = json!(4.0);
        assert!(parse(&value).unwrap_err().contains("artifacts.max_archive: is \"1.5GiB\""));
        value["artifacts"]["max_archive"] = json!("2GiB");
        let config = parse(&value).unwrap();
        assert_eq!(config.public_url.as_deref(), Some("https://relay.example:8443/tests"));
        assert_eq!(
            (config.artifacts.cluster.as_str(), config.artifacts.max_archive),
            ("testkube-downloads", 2 << 30)
        );
        assert_eq!(config.credentials[0].max_downloads, 4);
        for url in [
            "testrelay.example",
            "ftp://testrelay.example",
            "https://",
            "https://testrelay.example/",
            "https://user@testrelay.example",
            "https://testrelay.example?x",
            "https://testrelay.example/a/../b",
            "https://testrelay.example/a b",
        ] {
            let text = with(|v| v["public_url"] = json!(url));
            assert!(text.contains("public_url: is"), "{url}: {text}");
        }
        for size in [json!("0MiB"), json!(64), json!("64MB"), json!("64 MiB"), json!("99999999TiB")] {
            let text = with(|v| v["artifacts"] = json!({"max_archive": size}));
            assert!(
                text.contains("a whole number from 1 to 9999 and a unit, as \"64MiB\", \"2GiB\""),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_names_the_field_what_it_held_and_what_is_allowed() {
        let cases = [
            (with(|v| v["testkube"]["clutser"] = json!("x")), "testkube.clutser: unknown field; allowed are"),
            (
                with(|v| v["passthrough"] = json!("everything")),
                "passthrough: is \"everything\"; allowed are \"artifacts\", \"all\"",
            ),
            (
                with(|v| v["checks"] = json!({"timeout": 30})),
                "checks.timeout: is 30; allowed: a number and a unit, such as \"5s\", \"10m\", \"12h\"",
            ),
            (with(|v| v["checks"] = json!({"timeout": "3d"})), "checks.timeout: is \"3d\""),
            (with(|v| v["checks"] = json!({"timeout": "48h"})), "from 1s to 47h 30m"),
            (
                with(|v| v["checks"] = json!({"max_pending": 10000})),
                "checks.max_pending: is 10000; allowed are whole numbers from 1 to 8192",
            ),
            (with(|v| v["read_body"] = json!("yes")), "read_body: is \"yes\"; allowed are true and false"),
            (
                with(|v| v["azure_devops"][0]["url"] = json!("https://dev.azure.com")),
                "azure_devops[0].url: is \"https://dev.azure.com\"; allowed",
            ),
            (with(|v| v["azure_devops"] = json!([])), "azure_devops: is empty"),
            (
                with(|v| v["azure_devops"][0]["fallback_cluster"] = json!("azure-devops")),
                "azure_devops[0].fallback_cluster: is the same as a `cluster`",
            ),
            (
                with(|v| {
                    v["azure_devops"][0]["fallback_cluster"] = json!("other");
                    v["insecure_no_auth"] = json!(true);
                    drop(v.as_object_mut().unwrap().remove("credentials"));
                }),
                "azure_devops[0].fallback_cluster: cannot be together with insecure_no_auth",
            ),
            (
                with(|v| v["credentials"][0]["allow"] = json!(["deploy"])),
                "credentials[0].allow[0]: is \"deploy\"; allowed are \"checks\", \"artifacts\", \"status\", \"events\"",
            ),
            (with(|v| v["credentials"][0]["kind"] = json!("bearer")), "credentials[0].username"),
            (with(|v| v["credentials"] = json!([])), "credentials: is empty"),
            (with(|v| drop(v.as_object_mut().unwrap().remove("credentials"))), "insecure_no_auth"),
            (with(|v| v["base_path"] = json!("testrelay/")), "base_path: is \"testrelay/\""),
            (with(|v| v["tag"] = json!({"key": "a=b"})), "tag.key: is \"a=b\""),
            (with(|v| v["testkube"] = json!("testkube")), "testkube: is \"testkube\"; an object is expected"),
        ];
        for (got, want) in cases {
            assert!(got.contains(want), "{got}\n  lacks: {want}");
        }
    }

    #[test]
    fn policies_and_what_a_credential_covers_are_read() {
        let mut value = good();
        value["checks"] =
            json!({"expect": "a, b", "settle": "5s", "rerun": "all", "max_pending_per_project": 9});
        value["credentials"][0]["projects"] = json!(["69f48e94-bdb4-42d7-a560-0f2b54f91cc8"]);
        value["credentials"][0]["tags"] = json!(["shop-*"]);
        value["credentials"][0]["max_pending"] = json!(7);
        value["credentials"][0]["mode"] = json!("observe");
        value["testkube"]["dashboard"] = json!("https://t.example/w/{workflow}/e/{id}");
        let config = parse(&value).unwrap();
        assert_eq!(config.checks.expect, Some(Expect::parse("a, b").unwrap()));
        assert_eq!((config.checks.settle, config.checks.rerun), (Some(Duration::from_secs(5)), Rerun::All));
        let credential = &config.credentials[0];
        assert!(credential.observe && credential.max_pending == 7 && credential.projects.len() == 1);
        let link = config.testkube.dashboard.unwrap().link("a b", "1");
        assert_eq!(link, "https://t.example/w/a%20b/e/1");
        for (text, want) in [
            (with(|v| v["checks"] = json!({"expect": "A B"})), "checks.expect: is \"A B\""),
            (with(|v| v["checks"] = json!({"expect": " "})), "checks.expect: is \" \""),
            (with(|v| v["checks"] = json!({"rerun": "first"})), "allowed are \"latest\", \"all\", \"none\""),
            (
                with(|v| v["credentials"][0]["projects"] = json!(["shop"])),
                "credentials[0].projects: is a list",
            ),
            (with(|v| v["credentials"][0]["tags"] = json!([])), "credentials[0].tags: is a list"),
            (with(|v| v["credentials"][0]["mode"] = json!("off")), "allowed are \"enforce\", \"observe\""),
            (with(|v| v["testkube"]["dashboard"] = json!("javascript:{id}")), "testkube.dashboard: is"),
            (with(|v| v["testkube"]["dashboard"] = json!("https://t.example/")), "testkube.dashboard: is"),
        ] {
            assert!(text.contains(want), "{text}\n  lacks: {want}");
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let text = with(|v| {
            v["passthrough"] = json!(1);
            v["read_body"] = json!(2);
        });
        assert!(text.contains("passthrough") && text.contains("read_body"), "{text}");
    }

    #[test]
    fn a_secret_written_into_the_configuration_is_not_repeated() {
        for text in [
            with(|v| v["credentials"][0]["secret"] = json!("hunter2")),
            with(|v| v["credentials"][0]["secret_env"] = json!("hunter2")),
            with(|v| v["credentials"][0]["secret_env"] = json!("hunter2!")),
            with(|v| v["credentials"][0]["secret_env"] = json!(["hunter2"])),
            with(|v| v["testkube"]["bearer_env"] = json!("hunter2")),
        ] {
            assert!(text != "accepted" && !text.contains("hunter2"), "{text}");
        }
        assert!(with(|v| v["credentials"][0]["secret_env"] = json!("EMPTY")).contains("not set or empty"));
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_or_warned_of() {
        let with_secret = |name: &str| {
            let mut value = good();
            value["credentials"][0]["secret_env"] = json!(name);
            value["credentials"][0]["secret_env_next"] = json!("SIXTEEN");
            parse(&value).map(|config| config.warnings)
        };
        assert!(
            with_secret("BLANK")
                .unwrap_err()
                .contains("credentials[0].secret_env: the environment variable that it names is blank")
        );
        let short = with_secret("SEVEN").unwrap_err();
        assert!(
            short.contains("credentials[0].secret_env: ")
                && short.contains("fewer than 8")
                && !short.contains("canary"),
            "{short}"
        );
        // A blank at either end is no character more, and is lost on its way in a header.
        for name in ["SHORT_AND_BLANKS", "BLANK_BEFORE", "BLANK_AFTER"] {
            let blank = with_secret(name).unwrap_err();
            assert!(
                blank.contains("credentials[0].secret_env: ")
                    && blank.contains("begins or ends with a blank"),
                "{blank}"
            );
        }
        let warnings = with_secret("EIGHT").unwrap();
        assert!(
            warnings.len() == 1
                && warnings[0]
                    .starts_with("credentials[0].secret_env: the secret has fewer than 16 characters"),
            "{warnings:?}"
        );
        assert_eq!(with_secret("SIXTEEN"), Ok(vec![]));
        assert!(with(|v| v["testkube"]["bearer_env"] = json!("SEVEN")).contains("testkube.bearer_env: "));
        assert!(
            with(|v| v["credentials"][0]["secret_env_next"] = json!("BLANK")).contains("secret_env_next: ")
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_name_and_line() {
        let text = serde_json::to_string_pretty(&good()).unwrap();
        let refused = |text: &str| Config::parse(text.as_bytes(), &environment).unwrap_err().to_string();
        for (from, to, want) in [
            (
                "\"testkube\"",
                "\"read_body\": true, \"read_body\":\nfalse,\n\"testkube\"",
                "`read_body` stands twice in one object at line 19",
            ),
            ("\"kind\"", "\"kind\": \"bearer\",\n\"kind\"", "`kind` stands twice in one object at line 14"),
            (
                "\"cluster\": \"testkube\"",
                "\"cluster\": \"testkube\", \"x\": [[{\"a\": 1, \"\\u0061\": 2}]]",
                "`a` stands twice in one object at line",
            ),
        ] {
            let told = refused(&text.replacen(from, to, 1));
            assert!(told.contains(want), "{told}\n  lacks: {want}");
        }
        assert!(Config::parse(text.as_bytes(), &environment).is_ok());
    }

    #[test]
    fn a_configuration_without_credentials_must_say_so() {
        let mut value = good();
        value.as_object_mut().unwrap().remove("credentials");
        value["insecure_no_auth"] = json!(true);
        assert!(parse(&value).unwrap().credentials.is_empty());
        value["credentials"] = good()["credentials"].clone();
        assert!(parse(&value).unwrap_err().contains("insecure_no_auth"));
    }

    #[test]
    fn what_is_not_json_is_an_error_and_no_panic() {
        for text in ["", "{", "[]", "null", "\"x\"", "{\"testkube\": [1]}", "\u{feff}{}"] {
            assert!(Config::parse(text.as_bytes(), &environment).is_err(), "{text}");
        }
        assert!(Config::parse(&[0xff, 0xfe], &environment).is_err());
        assert!(Config::parse("[".repeat(10_000).as_bytes(), &environment).is_err());
    }
}
