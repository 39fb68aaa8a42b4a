//! From a raw target to the resource it names.

use percent_encoding::percent_decode_str;

use crate::http::Request;

/// A resource below the collection, with decoded parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `…/_apis/distributedtask/hubs/{hub}/plans/{plan}/…` of a project.
    Plan { project: String, hub: String, plan: String, resource: PlanResource },
    /// `…/_apis/build/builds/{id}`.
    Build { project: String, id: String },
    /// `…/_apis/build/builds/{id}/timeline`.
    Timeline { project: String, id: String },
    /// `…/_apis` or `…/_apis/{area}`, which clients ask by OPTIONS.
    Locations,
    /// `…/_apis/ResourceAreas`.
    ResourceAreas,
    /// `…/_apis/projects` or `…/_apis/connectionData`.
    Organisation,
}

/// What belongs to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlanResource {
    Events,
    Logs,
    Log(String),
    Records { timeline: String },
    Feed { timeline: String, record: String },
    Attachment { timeline: String, record: String, kind: String, name: String },
}

impl Call {
    /// The project whose resource it is.
    pub(crate) fn project(&self) -> Option<&str> {
        match self {
            Self::Plan { project, .. } | Self::Build { project, .. } | Self::Timeline { project, .. } => {
                Some(project)
            }
            Self::Locations | Self::ResourceAreas | Self::Organisation => None,
        }
    }

    /// Reads the path below `base`; literals compare without case (IIS, and a Python client that lower-cases its
    /// base), and empty segments are passed over, as Microsoft's own samples need.
    pub(crate) fn parse(base: &[String], path: &str) -> Option<Self> {
        let decoded = |segment| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let segments: Vec<String> =
            path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        let (head, rest) = segments.split_at_checked(base.len())?;
        if !head.iter().zip(base).all(|(a, b)| a.eq_ignore_ascii_case(b)) {
            return None;
        }
        let literal: Vec<String> = rest.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let literal: Vec<&str> = literal.iter().map(String::as_str).collect();
        match (&literal[..], rest) {
            (["_apis"], _) => Some(Self::Locations),
            (["_apis", "resourceareas"], _) => Some(Self::ResourceAreas),
            (["_apis", "projects" | "connectiondata"], _) => Some(Self::Organisation),
            (["_apis", _], _) => Some(Self::Locations),
            ([_, "_apis", "build", "builds", _], [project, .., id]) => {
                Some(Self::Build { project: project.clone(), id: id.clone() })
            }
            ([_, "_apis", "build", "builds", _, "timeline"], [project, .., id, _]) => {
                Some(Self::Timeline { project: project.clone(), id: id.clone() })
            }
            (
                [_, "_apis", "distributedtask", "hubs", _, "plans", _, tail @ ..],
                [project, _, _, _, hub, _, plan, raw @ ..],
            ) => {
                let (project, hub, plan) = (project.clone(), hub.clone(), plan.clone());
                Some(Self::Plan { project, hub, plan, resource: PlanResource::parse(tail, raw)? })
            }
            _ => None,
        }
    }
}

impl PlanResource {
    fn parse(literal: &[&str], raw: &[String]) -> Option<Self> {
        match (literal, raw) {
            (["events"], _) => Some(Self::Events),
            (["logs"], _) => Some(Self::Logs),
            (["logs", _], [_, id]) => Some(Self::Log(id.clone())),
            (["timelines", _, "records"], [_, timeline, _]) => {
                Some(Self::Records { timeline: timeline.clone() })
            }
            (["timelines", _, "records", _, "feed"], [_, timeline, _, record, _]) => {
                Some(Self::Feed { timeline: timeline.clone(), record: record.clone() })
            }
            (
                ["timelines", _, "records", _, "attachments", _, _],
                [_, timeline, _, record, _, kind, name],
            ) => Some(Self::Attachment {
                timeline: timeline.clone(),
                record: record.clone(),
                kind: kind.clone(),
                name: name.clone(),
            }),
            _ => None,
        }
    }
}

/// The api-version that a request asks for: a query parameter, or a parameter of Accept.
pub(crate) fn api_version(request: &Request) -> Option<String> {
    let mut parameters = form_urlencoded::parse(request.query().as_bytes());
    let queried = parameters.find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    let accept = request.value("accept").unwrap_or_default();
    let accepted = accept.split([';', ',']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("api-version").then(|| value.trim().to_owned())
    });
    queried.map(|(_, value)| value.into_owned()).or(accepted).filter(|version| !version.is_empty())
}

/// Major and minor of `7.1-preview.1`; nothing when it is no version.
pub(crate) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let (number, preview) = version.split_once('-').unwrap_or((version, "preview"));
    let (major, minor) = number.split_once('.')?;
    preview.starts_with("preview").then_some(())?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_slash_and_another_case_lead_to_the_same_resource() {
        let base = ["tfs".to_owned(), "DefaultCollection".to_owned()];
        let plain = "/tfs/DefaultCollection/p/_apis/distributedtask/hubs/checks/plans/x/events";
        let odd = "/tfs/defaultcollection//p/_apis/DistributedTask/hubs/checks/plans/x/events/";
        assert!(Call::parse(&base, plain).is_some());
        assert_eq!(Call::parse(&base, plain), Call::parse(&base, odd));
        assert_eq!(Call::parse(&base, "/other/p/_apis/build/builds/1"), None);
    }

    #[test]
    fn the_version_comes_from_the_query_or_from_accept() {
        let query = Request::new("GET", "/x?a=b&api-version=6.0");
        let accept = Request::new("GET", "/x").header("Accept", "application/json;api-version=2.0-preview.1");
        let neither = Request::new("GET", "/x").header("Accept", "application/json");
        assert_eq!(api_version(&query).as_deref(), Some("6.0"));
        assert_eq!(api_version(&accept).as_deref(), Some("2.0-preview.1"));
        assert_eq!(api_version(&neither), None);
        assert_eq!(major_minor("7.1-preview.1"), Some((7, 1)));
        assert_eq!(major_minor("latest"), None);
    }
}
