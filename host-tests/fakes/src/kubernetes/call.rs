//! What a request asks for: resource, namespace, name and verb, read from path and method.

use crate::http::Request;
use percent_encoding::percent_decode_str;

/// The resources that this server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `secrets` of the core group.
    Secrets,
    /// `leases` of `coordination.k8s.io`.
    Leases,
}

impl Resource {
    /// In the plural, as it stands in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::Secrets => "secrets",
            Resource::Leases => "leases",
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Resource::Secrets => "Secret",
            Resource::Leases => "Lease",
        }
    }

    pub(super) fn group(self) -> &'static str {
        match self {
            Resource::Secrets => "",
            Resource::Leases => "coordination.k8s.io",
        }
    }

    pub(super) fn version(self) -> &'static str {
        "v1"
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Resource::Secrets => "v1",
            Resource::Leases => "coordination.k8s.io/v1",
        }
    }

    /// The name that messages use: `leases.coordination.k8s.io`.
    pub(super) fn qualified(self) -> String {
        qualify(self.plural(), self.group())
    }

    /// `Lease.coordination.k8s.io`.
    pub(super) fn qualified_kind(self) -> String {
        qualify(self.kind(), self.group())
    }

    fn named(group: &str, plural: &str) -> Option<Resource> {
        [Resource::Secrets, Resource::Leases]
            .into_iter()
            .find(|resource| resource.group() == group && resource.plural() == plural)
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// What a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// All of a namespace, or those that a selector fits.
    List,
    /// What happens from now on. This server has none.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH. This server has none.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of all of them. This server has none.
    DeleteCollection,
}

impl Verb {
    /// What the module needs, and not one more.
    pub const NEEDED: [Verb; 5] = [Verb::Get, Verb::List, Verb::Create, Verb::Update, Verb::Delete];

    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    fn of(request: &Request, name: &str) -> Verb {
        let watches = form_urlencoded::parse(request.query().as_bytes())
            .any(|(key, value)| key == "watch" && !matches!(value.as_ref(), "0" | "false"));
        match request.method.as_str() {
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" if name.is_empty() => Verb::DeleteCollection,
            "DELETE" => Verb::Delete,
            _ if watches => Verb::Watch,
            _ if name.is_empty() => Verb::List,
            _ => Verb::Get,
        }
    }
}

/// What a role is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    /// In the plural; it need not exist.
    pub(super) resource: String,
    /// Empty for all of them.
    pub(super) namespace: String,
    /// Empty for the collection.
    pub(super) name: String,
    pub(super) verb: Verb,
}

/// A request by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `/version`, `/readyz`, `/livez`, `/healthz`: open for everybody.
    Open(Probe),
    /// `selfsubjectrulesreviews`, which every account may create: what it may do in a namespace.
    OwnRules,
    /// No path of an API.
    Path(String),
    /// Something of a group, whether it exists or not: rights are asked for first.
    Resource(Target, Found),
}

/// Whether what a request names exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Resource(Resource),
    /// The group has no such resource.
    NoResource,
    /// There is no such group, or not in this version.
    NoGroup,
}

const OWN_RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";

/// A path that needs no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Version,
    Ready,
    Live,
}

impl Call {
    pub(super) fn of(request: &Request) -> Call {
        let path = request.path();
        if (request.method.as_str(), path) == ("POST", OWN_RULES) {
            return Call::OwnRules;
        }
        let decoded = |segment| percent_decode_str(segment).decode_utf8_lossy();
        let segments: Vec<_> = path.trim_matches('/').split('/').map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let (group, version, rest) = match &segments[..] {
            ["version"] => return Call::Open(Probe::Version),
            ["readyz"] => return Call::Open(Probe::Ready),
            ["livez" | "healthz"] => return Call::Open(Probe::Live),
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Call::Path(path.to_owned()),
        };
        let (namespace, resource, name) = match rest {
            ["namespaces", namespace, resource] => (*namespace, *resource, ""),
            ["namespaces", namespace, resource, name] => (*namespace, *resource, *name),
            [resource] => ("", *resource, ""),
            _ => return Call::Path(path.to_owned()),
        };
        let found = match Resource::named(group, resource) {
            _ if version != "v1" || !matches!(group, "" | "coordination.k8s.io") => Found::NoGroup,
            Some(resource) if !namespace.is_empty() => Found::Resource(resource),
            _ => Found::NoResource,
        };
        let target = Target {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            verb: Verb::of(request, name),
        };
        Call::Resource(target, found)
    }
}

/// The options of a request's query, each by its first value.
#[derive(Clone, Debug, Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    pub(super) fn of(request: &Request) -> Options {
        Options(form_urlencoded::parse(request.query().as_bytes()).into_owned().collect())
    }

    /// An option that is given and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// How long the request may take, in milliseconds: `timeout=` as Go writes a duration. `None` if it is none.
    pub(super) fn timeout(&self) -> Option<Option<u64>> {
        let Some(text) = self.get("timeout") else { return Some(None) };
        let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => return None,
        };
        let millis = number.parse::<u64>().ok()?.checked_mul(factor)?;
        Some((millis > 0).then_some(millis))
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.get("dryRun") == Some("All")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_method_name_what_a_role_is_asked_about() {
        let call = |method: &str, target: &str| match Call::of(&Request::new(method, target)) {
            Call::Resource(target, found) => (target.verb, target.namespace, target.name, found),
            other => panic!("{other:?}"),
        };
        let (secrets, ns) = (Found::Resource(Resource::Secrets), || "n".to_owned());
        assert_eq!(call("GET", "/api/v1/namespaces/n/secrets"), (Verb::List, ns(), String::new(), secrets));
        assert_eq!(call("GET", "/api/v1/namespaces/n/secrets/a"), (Verb::Get, ns(), "a".into(), secrets));
        let watch = call("GET", "/api/v1/namespaces/n/secrets?watch=1&timeoutSeconds=2");
        assert_eq!(watch, (Verb::Watch, ns(), String::new(), secrets));
        let lease = call("PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/a");
        assert_eq!(lease, (Verb::Update, ns(), "a".into(), Found::Resource(Resource::Leases)));
        assert_eq!(call("GET", "/api/v1/namespaces/n/leases").3, Found::NoResource);
        assert_eq!(call("GET", "/apis/batch/v1/namespaces/n/jobs").3, Found::NoGroup);
    }

    #[test]
    fn a_timeout_is_a_duration_of_go() {
        let timeout = |query: &str| Options::of(&Request::new("GET", &format!("/?{query}"))).timeout();
        assert_eq!(timeout("timeout=4s"), Some(Some(4000)));
        assert_eq!(timeout("timeout=1500ms"), Some(Some(1500)));
        assert_eq!(timeout(""), Some(None));
        assert_eq!(timeout("timeout=5"), None);
    }
}
