//! PlanUrl: it decides where a live credential goes. The request only chooses one of the configured entries; authority,
//! path prefix and cluster of every call come from the entry.

use crate::guid::Guid;
use crate::text::number;
use crate::wire::percent::percent_decoded;
use std::time::Duration;

/// How a check's token is presented to Azure DevOps. Both are documented (ServerTaskHelper uses Basic, the Azure
/// Function sample Bearer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScheme {
    /// `Authorization: Bearer <token>`.
    Bearer,
    /// `Authorization: Basic base64(":" + token)`.
    Basic,
}

/// A configured Azure DevOps organisation or collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    location: PlanUrl,
    /// The URL without a trailing slash.
    url: String,
    /// The Envoy cluster that leads there.
    pub cluster: String,
    /// How tokens are presented.
    pub scheme: TokenScheme,
    /// Assumed life of a token that does not state its end.
    pub token_life: Duration,
    /// The Envoy cluster that leads there with an identity that Envoy adds.
    pub fallback: Option<String>,
}

impl Entry {
    /// Assumed life of a token when neither the token nor the configuration states it. Tokens were seen to end after a
    /// day (azure-pipelines-agent#5520, 2026).
    pub const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

    /// Reads a configured URL. The organisation (`dev.azure.com`) or the collection (Server) is mandatory, because the
    /// host alone would admit every other organisation; on `*.visualstudio.com` the host is the organisation.
    pub fn parse(url: &str, cluster: String, scheme: TokenScheme) -> Option<Entry> {
        let location = PlanUrl::parse(url).ok()?;
        let host_is_organisation = location.host.ends_with(".visualstudio.com");
        let token_life = Entry::TOKEN_LIFE;
        (host_is_organisation || !location.path.is_empty()).then(|| Entry {
            url: format!("{}://{}{}", location.scheme_name(), location.authority(), location.prefix()),
            location,
            cluster,
            scheme,
            token_life,
            fallback: None,
        })
    }

    /// The URL without a trailing slash: the entry's name in the ledger.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Whether `url` is the entry's name in the ledger.
    pub fn is_named(&self, url: &str) -> bool {
        self.url == url
    }

    /// `:authority` of every call: the host, with the port unless it is the scheme's default.
    pub fn authority(&self) -> String {
        self.location.authority()
    }

    /// `https` or `http`.
    pub fn scheme_name(&self) -> &'static str {
        self.location.scheme_name()
    }

    /// The prefix of every call's path: empty, or `/fabrikam`, `/tfs/DefaultCollection`.
    pub fn prefix(&self) -> String {
        self.location.prefix()
    }

    /// Whether a request's PlanUrl lies at or below this entry, compared by whole path segments.
    pub fn admits(&self, url: &PlanUrl) -> bool {
        let own = &self.location;
        let same_place = (own.tls, &own.host, own.port) == (url.tls, &url.host, url.port);
        let below = own.path.len() <= url.path.len()
            && own.path.iter().zip(&url.path).all(|(a, b)| same_segment(a, b));
        same_place && below
    }
}

/// A PlanUrl from a request: scheme, host, port, path segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanUrl {
    tls: bool,
    host: String,
    port: u16,
    path: Vec<String>,
}

impl PlanUrl {
    /// Reads an absolute http or https URL. Trailing and doubled slashes are ignored: Azure DevOps sends
    /// `https://dev.azure.com/fabrikam/`, and Microsoft's samples append a second slash.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the field's name.
    pub fn parse(url: &str) -> Result<PlanUrl, &'static str> {
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err("must begin with https:// or http://"),
        };
        if rest.len() > 2048 {
            return Err("is longer than 2048 characters");
        }
        if !rest.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'\\' | b'"' | b'<' | b'>')) {
            return Err("contains characters that a URL cannot have");
        }
        if rest.bytes().any(|c| matches!(c, b'?' | b'#')) {
            return Err("must not have a query or a fragment");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("must not contain a user name or password");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, number(port).filter(|p| *p > 0).ok_or("has an invalid port")?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        if !is_host(host) {
            return Err("has an invalid host name");
        }
        let path: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_string).collect();
        if path.iter().any(|segment| is_unsafe(segment)) {
            return Err("must not have `.`, `..` or an encoded slash in its path");
        }
        Ok(PlanUrl { tls, host: host.to_ascii_lowercase(), port, path })
    }

    fn scheme_name(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        match self.port {
            port if port == own => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }

    fn prefix(&self) -> String {
        self.path.iter().map(|segment| format!("/{segment}")).collect()
    }
}

/// The parts of a full callback URL,
/// `{planUrl}/{projectId}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The part before the project.
    pub plan_url: PlanUrl,
    /// ProjectId.
    pub project: Guid,
    /// The hub's name as written.
    pub hub: String,
    /// PlanId.
    pub plan: Guid,
}

impl Webhook {
    /// Reads a callback URL. Its query may only be one `api-version`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the field's name.
    pub fn parse(url: &str) -> Result<Webhook, &'static str> {
        const FORM: &str = "must have the form {PlanUrl}/{ProjectId}/_apis/distributedtask/hubs/{HubName}/plans/{PlanId}/events";
        let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
        if query.is_some_and(|query| !is_api_version(query)) {
            return Err("may have only the query `api-version`, such as `?api-version=2.0-preview.1`");
        }
        let mut plan_url = PlanUrl::parse(url)?;
        let tail = plan_url.path.split_off(plan_url.path.len().checked_sub(8).ok_or(FORM)?);
        let [project, apis, area, hubs, hub, plans, plan, events] = tail.as_slice() else { return Err(FORM) };
        let fixed = [
            (apis, "_apis"),
            (area, "distributedtask"),
            (hubs, "hubs"),
            (plans, "plans"),
            (events, "events"),
        ];
        if !fixed.iter().all(|(got, want)| got.eq_ignore_ascii_case(want)) {
            return Err(FORM);
        }
        match (Guid::parse(project), Guid::parse(plan)) {
            (Some(project), Some(plan)) => Ok(Webhook { plan_url, project, hub: hub.clone(), plan }),
            _ => Err(FORM),
        }
    }
}

/// Whether a query is one parameter `api-version` with a version such as `2.0-preview.1`, and nothing else.
fn is_api_version(query: &str) -> bool {
    let (name, version) = query.split_once('=').unwrap_or((query, ""));
    name.eq_ignore_ascii_case("api-version")
        && (1..=32).contains(&version.len())
        && version.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c))
}

/// Whether a host is letters, digits, `-`, `_` and `.`, or a bracketed IPv6 address: nothing that two resolvers could
/// read differently.
fn is_host(host: &str) -> bool {
    let name = !host.is_empty() && !host.starts_with('.') && !host.ends_with('.') && !host.contains("..");
    let plain = name && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    host.len() <= 253
        && (plain || v6.is_some_and(|h| h.bytes().all(|c| c.is_ascii_hexdigit() || b":.".contains(&c))))
}

fn is_unsafe(segment: &str) -> bool {
    let is_unsafe = |segment: &[u8]| {
        matches!(segment, b"." | b"..") || segment.iter().any(|c| matches!(c, b'/' | b'\\') || *c < 0x20)
    };
    let decoded = || {
        let once = percent_decoded(segment.as_bytes());
        let twice = percent_decoded(&once);
        is_unsafe(&once) || is_unsafe(&twice)
    };
    is_unsafe(segment.as_bytes()) || (segment.as_bytes().contains(&b'%') && decoded())
}

/// Compares path segments. Azure DevOps's organisations, collections and projects are case-insensitive, and a client
/// may encode a space.
fn same_segment(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || percent_decoded(a.as_bytes()).eq_ignore_ascii_case(&percent_decoded(b.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(entry: &str, url: &str) -> bool {
        let entry = Entry::parse(entry, "c".into(), TokenScheme::Bearer).unwrap();
        PlanUrl::parse(url).is_ok_and(|url| entry.admits(&url))
    }

    #[test]
    fn slashes_cases_ports_and_prefixes_of_the_same_place_are_admitted() {
        for url in [
            "https://dev.azure.com/fabrikam/",
            "https://dev.azure.com/fabrikam",
            "https://dev.azure.com//fabrikam//",
            "HTTPS://Dev.Azure.Com:443/Fabrikam/",
            "https://dev.azure.com/%66abrikam/",
        ] {
            assert!(admitted("https://dev.azure.com/fabrikam", url), "{url}");
        }
        assert!(admitted("http://tfs:8080/tfs/DefaultCollection", "http://tfs:8080/tfs/defaultcollection/"));
        assert!(admitted(
            "https://fabrikam.visualstudio.com",
            "https://fabrikam.visualstudio.com/DefaultCollection/"
        ));
    }

    #[test]
    fn no_other_plan_url_is_admitted() {
        for url in [
            "https://dev.azure.com/other/",
            "https://dev.azure.com/fabrikam-evil/",
            "https://dev.azure.com/",
            "https://dev.azure.com.evil.example/fabrikam/",
            "https://dev.azure.com:444/fabrikam/",
            "https://evil.example/dev.azure.com/fabrikam/",
            "https://dev.azure.com@evil.example/fabrikam/",
            "https://user:pw@dev.azure.com/fabrikam/",
            "https://dev.azure.com/fabrikam/../other/",
            "https://dev.azure.com/fabrikam/%2e%2e/other/",
            "https://dev.azure.com/fabrikam%2Fx/",
            "https://dev.azure.com\\@evil.example/fabrikam/",
            "https://dev.azure.com/fabrikam?x=https://evil.example",
            "https://dev.azure.com#/fabrikam",
            "http://dev.azure.com/fabrikam/",
            "https://dev.azurе.com/fabrikam/",
            "https://dev.azure.com./fabrikam/",
            "https:dev.azure.com/fabrikam",
            "//dev.azure.com/fabrikam",
            "ftp://dev.azure.com/fabrikam",
            "https://dev.azure.com:0/fabrikam",
            "https://dev.azure.com:+443/fabrikam",
            "https://dev.azure.com:99999/fabrikam",
            "",
        ] {
            assert!(!admitted("https://dev.azure.com/fabrikam", url), "{url}");
        }
    }

    #[test]
    fn what_calls_begin_with_comes_from_the_entry() {
        let entry =
            Entry::parse("http://TFS:8080//tfs/DefaultCollection/", "c".into(), TokenScheme::Basic).unwrap();
        assert_eq!(entry.url(), "http://tfs:8080/tfs/DefaultCollection");
        assert_eq!(
            (entry.authority().as_str(), entry.prefix().as_str()),
            ("tfs:8080", "/tfs/DefaultCollection")
        );
        let services =
            Entry::parse("https://dev.azure.com:443/fabrikam", "c".into(), TokenScheme::Bearer).unwrap();
        assert_eq!(services.authority(), "dev.azure.com");
    }

    #[test]
    fn an_entry_must_name_its_organisation_or_collection() {
        assert!(Entry::parse("https://dev.azure.com", "c".into(), TokenScheme::Bearer).is_none());
        assert!(Entry::parse("https://tfs.example/", "c".into(), TokenScheme::Bearer).is_none());
        assert!(
            Entry::parse("https://fabrikam.visualstudio.com/", "c".into(), TokenScheme::Bearer).is_some()
        );
    }

    const EVENTS: &str = "https://dev.azure.com/fabrikam/69f48e94-bdb4-42d7-a560-0f2b54f91cc8/_apis/distributedtask/hubs/checks/plans/67be341f-5310-552f-e0cd-7c580e77b98b/events";

    #[test]
    fn a_webhook_is_taken_apart_into_the_same_fields() {
        for url in [EVENTS.to_string(), format!("{EVENTS}?api-version=2.0-preview.1")] {
            let webhook = Webhook::parse(&url).unwrap();
            assert_eq!(webhook.plan_url, PlanUrl::parse("https://dev.azure.com/fabrikam/").unwrap());
            assert_eq!(webhook.hub, "checks");
            assert_eq!(webhook.plan.to_string(), "67be341f-5310-552f-e0cd-7c580e77b98b");
        }
    }

    #[test]
    fn a_webhook_with_any_other_form_is_refused() {
        for url in [
            EVENTS.replace("/events", "/logs"),
            EVENTS.replace("/events", "/events/x"),
            EVENTS.replace("_apis", "_api"),
            EVENTS.replace("69f48e94-bdb4-42d7-a560-0f2b54f91cc8", "project"),
            format!("{EVENTS}?redirect=1"),
            format!("{EVENTS}?api-version=1&x=2"),
            format!("{EVENTS}?api-version=1&api-version=2"),
            format!("{EVENTS}?api-version=1%26x=2"),
            format!("{EVENTS}?api-version=1;x=2"),
            format!("{EVENTS}?api-version=1#x"),
            format!("{EVENTS}?api-version=1?x"),
            format!("{EVENTS}?api-version="),
            format!("{EVENTS}?api-version"),
            format!("{EVENTS}?"),
            format!("{EVENTS}#x"),
            "https://dev.azure.com/fabrikam".into(),
        ] {
            assert!(Webhook::parse(&url).is_err(), "{url}");
        }
    }
}
