//! Reading the parts of a configuration.

use super::fields::is_variable;
use super::{
    Allow, Artifacts, Checks, ClusterStore, ConfigErrors, Credential, DEFAULT_MAX_DOWNLOADS, Fields, Kind,
    MAX_PENDING, MAX_TIMEOUT, Policy, Rerun,
};
use crate::expect::Expect;
use crate::guid::Guid;
use crate::seal::{Key, Sealing};
use crate::tag::TagRule;
use crate::wire::azure::{Entry, TokenScheme};
use crate::wire::kubernetes::Server;
use crate::wire::testkube::{Dashboard, Testkube};
use std::time::Duration;

pub(super) fn testkube(fields: Option<Fields<'_>>, environment: &dyn Fn(&str) -> Option<String>) -> Testkube {
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
            .text("authority", "a host, with a port unless it is the scheme's default", is_authority)
            .unwrap_or_else(|| "testkube-api-server:8088".into()),
        api_prefix: fields
            .text("api_prefix", "a path such as \"/v1\", without a trailing slash", is_base_path)
            .unwrap_or_else(|| "/v1".into()),
        token: fields.secret("bearer_env", environment),
        dashboard: fields
            .text(
                "dashboard",
                "an http(s) URL with {id} and optionally {workflow} in it, such as \"https://testkube.example/test-workflows/{workflow}/executions/{id}\"",
                |text| Dashboard::parse(text).is_some(),
            )
            .and_then(|text| Dashboard::parse(&text)),
    };
    fields.finish();
    testkube
}

pub(super) fn azure_devops(mut fields: Fields<'_>) -> Option<Entry> {
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
        "the name of an Envoy cluster that leads to this URL's host and adds an identity",
        is_cluster,
    );
    fields.finish();
    let mut entry = Entry::parse(&url, cluster, scheme)?;
    entry.token_life = token_life;
    entry.fallback = fallback;
    Some(entry)
}

/// How a credential presents itself.
fn kind(fields: &mut Fields<'_>) -> Option<Kind> {
    let kind = fields.required_choice("kind", &[("basic", false), ("bearer", true)]);
    let username =
        fields.text("username", "at least one character, and no `:`", |t| !t.is_empty() && !t.contains(':'));
    Some(match (kind?, username) {
        (true, None) => Kind::Bearer,
        (false, Some(username)) => Kind::Basic { username },
        (true, Some(_)) => {
            fields.error(
                "username",
                "a bearer credential has no user name: remove it, or set \"kind\": \"basic\"",
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
    })
}

pub(super) fn credential(
    mut fields: Fields<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Credential> {
    let name = fields.required_text("name", "letters, digits, `-`, `_` and `.`, at most 64", is_instance);
    let kind = kind(&mut fields)?;
    let secret = fields.required_secret("secret_env", environment);
    let next = fields.secret("secret_env_next", environment);
    let allow = fields.choices(
        "allow",
        &[
            ("checks", Allow::Checks),
            ("artifacts", Allow::Artifacts),
            ("status", Allow::Status),
            ("events", Allow::Events),
            ("drain", Allow::Drain),
        ],
    );
    let projects = fields.texts("projects", "a list of Azure DevOps project ids, each a GUID", |text| {
        Guid::parse(text).is_some()
    });
    let tags = fields.texts(
        "tags",
        "a list of patterns for a tag's value, such as \"shop-*\", in which `*` stands for any characters",
        crate::tag::is_pattern,
    );
    let max_pending = fields.number("max_pending", 1..=MAX_PENDING).unwrap_or(2048);
    let max_downloads = fields.number("max_downloads", 1..=1024).unwrap_or(DEFAULT_MAX_DOWNLOADS);
    let abort_on_cancel = fields.flag("abort_on_cancel").unwrap_or(false);
    let policies = fields.any_choices("allow_policies", &Policy::ALL);
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
        policies,
        observe,
    })
}

pub(super) fn tag(fields: Option<Fields<'_>>) -> TagRule {
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

pub(super) fn checks(fields: Option<Fields<'_>>) -> Checks {
    let mut checks = Checks {
        timeout: Duration::from_secs(12 * 3600),
        appear_timeout: Duration::from_secs(30 * 60),
        lookback: Duration::from_secs(6 * 3600),
        clock_skew: Duration::from_secs(30),
        require_expect: false,
        max_pending: 10_000,
        expect: None,
        settle: None,
        rerun: Rerun::Latest,
        max_pending_per_project: 1024,
        cancels_open_gate: false,
        abort_on_cancel: false,
        test_files: 5,
    };
    let Some(mut fields) = fields else { return checks };
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(24 * 3600);
    fields.duration("timeout", second..=MAX_TIMEOUT, &mut checks.timeout);
    fields.duration("appear_timeout", second..=MAX_TIMEOUT, &mut checks.appear_timeout);
    fields.duration("lookback", Duration::ZERO..=30 * day, &mut checks.lookback);
    fields.duration("clock_skew", Duration::ZERO..=day, &mut checks.clock_skew);
    checks.require_expect = fields.flag("require_expect").unwrap_or(false);
    if let Some(n) = fields.number("max_pending", 1..=MAX_PENDING) {
        checks.max_pending = n;
    }
    if let Some(n) = fields.number("max_pending_per_project", 1..=MAX_PENDING) {
        checks.max_pending_per_project = n;
    }
    let expect =
        "names of workflows, such as \"shop-api, shop-e2e*2\", or a number of executions from 1 to 200";
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
    if let Some(mut results) = fields.object("test_results") {
        if let Some(n) = results.number("files", 0..=20) {
            checks.test_files = n;
        }
        results.finish();
    }
    fields.finish();
    checks
}

pub(super) fn artifacts(fields: Option<Fields<'_>>) -> Artifacts {
    let mut artifacts = Artifacts { cluster: String::new(), max_archive: 64 << 20 };
    let Some(mut fields) = fields else { return artifacts };
    if let Some(cluster) = fields.text(
        "cluster",
        "the name of an Envoy cluster that leads to Testkube's API server, for downloads of pipelines",
        is_cluster,
    ) {
        artifacts.cluster = cluster;
    }
    fields.size("max_archive", &mut artifacts.max_archive);
    fields.finish();
    artifacts
}

/// The cluster store.
pub(super) fn store(
    mut fields: Fields<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<ClusterStore> {
    let store = fields.required_object("kubernetes").map(|mut fields| {
        let server = Server {
            cluster: fields.required_text(
                "cluster",
                "the name of the Envoy cluster that leads to Kubernetes's API server",
                is_cluster,
            ),
            authority: fields
                .text("authority", "a host, with a port unless it is the scheme's default", is_authority)
                .unwrap_or_else(|| "kubernetes.default.svc".into()),
            namespace: fields.required_text(
                "namespace",
                "the name of a namespace for Testrelay's checks alone: lower-case letters, digits and `-`, at most 63",
                is_namespace,
            ),
            token: fields.secret("token_env", environment),
        };
        let sealing = sealing(&mut fields, environment);
        let outage = [("refuse", false), ("accept", true)];
        let accepts_in_outage = fields.choice("on_outage", &outage).unwrap_or(false);
        let pod = fields.text("replica_env", "the name of an environment variable", is_variable);
        let pod = pod.and_then(|name| environment(&name)).filter(|pod| is_cluster(pod)).unwrap_or_default();
        fields.finish();
        ClusterStore { server, accepts_in_outage, pod, sealing }
    });
    fields.finish();
    store
}

fn sealing(fields: &mut Fields<'_>, environment: &dyn Fn(&str) -> Option<String>) -> Sealing {
    let mut key = |name: &'static str| {
        let key = Key::of(&fields.secret(name, environment)?);
        if key.is_none() {
            fields.error(
                name,
                "the environment variable that it names does not contain a key: 32 random bytes in base64, such as `openssl rand -base64 32` prints",
            );
        }
        key
    };
    Sealing { current: key("seal_env"), previous: key("seal_env_previous") }
}

fn is_namespace(text: &str) -> bool {
    let is_letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(is_letter))
        && text.bytes().all(|c| is_letter(c) || c == b'-')
}

pub(super) fn unique(
    errors: &mut ConfigErrors,
    list: &str,
    field: &str,
    values: impl Iterator<Item = String>,
) {
    let mut seen = std::collections::BTreeSet::new();
    for (i, value) in values.enumerate() {
        if !seen.insert(value.to_ascii_lowercase()) {
            errors.push(&format!("{list}[{i}].{field}"), "is used twice: each must be unique");
        }
    }
}

pub(super) fn is_instance(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

pub(super) fn is_base_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains("//")
        && text.split('/').all(|segment| segment != "." && segment != "..")
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-_.~".contains(&c))
}

/// Whether a text is `http(s)://host[:port][/path]`. A pipeline's token is sent there, so nothing in it may be
/// ambiguous.
pub(super) fn is_public_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        text.len() <= 300 && is_authority(host) && (path.is_empty() || is_base_path(path))
    })
}

pub(super) fn is_cluster(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|c| c.is_ascii_graphic())
}

pub(super) fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.:[]_".contains(&c))
}
