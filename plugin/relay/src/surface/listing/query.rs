//! The parameters of a list: which checks, from where on, and how many.

use super::rows::Rank;
use crate::guid::Guid;
use crate::surface::problem::{FieldError, Reply};
use crate::wire::percent::percent_decoded;

/// Checks on a page, if no limit is given, and the maximum.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;

/// Maximum length of a query, in bytes.
const MAX_QUERY: usize = 2_000;

/// The states that a check can have in the list; `pending` stands for all but the last.
const STATES: [&str; 8] =
    ["accepted", "proven", "waiting", "running", "watching", "decided", "unreadable", "done"];
const PENDING: &str = "pending";

/// Which checks are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// The checks behind this one in the order of the list.
    pub(super) after: Option<Rank>,
    pub(super) limit: usize,
    pub(super) project: Option<Guid>,
    /// The tag as in the list, or its value alone.
    pub(super) tag: Option<String>,
    state: Option<String>,
    /// As it was sent, for the link to the next page.
    pub(super) text: String,
}

impl Default for Query {
    fn default() -> Query {
        Query { after: None, limit: LIMIT, project: None, tag: None, state: None, text: String::new() }
    }
}

impl Query {
    /// Reads the query of a request's target: `after`, `limit`, `project`, `tag` and `state`, each at most once.
    ///
    /// # Errors
    /// The refusal, with what to change.
    pub(super) fn parse(target: &[u8]) -> Result<Query, Reply> {
        let mut query = Query::default();
        let mut errors = Vec::new();
        let Some(at) = target.iter().position(|c| *c == b'?') else { return Ok(query) };
        let text = target.get(at + 1..).unwrap_or_default();
        if text.len() > MAX_QUERY {
            errors.push(FieldError { field: "query", detail: format!("at most {MAX_QUERY} bytes") });
            return Err(refused(&errors));
        }
        let mut seen: Vec<&'static str> = Vec::new();
        for pair in text.split(|c| *c == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|c| *c == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at_checked(at).unwrap_or_default();
            let value = percent_decoded(value.get(1..).unwrap_or_default());
            let value = std::str::from_utf8(&value).unwrap_or_default();
            let read = match name {
                b"after" => ("after", Rank::parse(value).map(|rank| query.after = Some(rank))),
                b"limit" => ("limit", limit(value).map(|limit| query.limit = limit)),
                b"project" => ("project", Guid::parse(value).map(|project| query.project = Some(project))),
                b"state" => ("state", state(value).map(|state| query.state = Some(state))),
                b"tag" => ("tag", (!value.is_empty()).then(|| query.tag = Some(value.into()))),
                _ => ("query", None),
            };
            match read {
                (field, Some(())) if seen.contains(&field) => errors.push(twice(field)),
                (field, Some(())) => seen.push(field),
                (field, None) => errors.push(wrong(field)),
            }
        }
        if !errors.is_empty() {
            return Err(refused(&errors));
        }
        query.text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
        Ok(query)
    }

    /// Whether nothing was asked for but everything.
    pub(super) fn is_plain(&self) -> bool {
        *self == Query::default()
    }

    /// Whether a check with this tag, project and state is asked for.
    pub(super) fn fits(&self, project: Option<Guid>, tag: Option<&str>, state: &str) -> bool {
        let value = |tag: &str| tag.split_once('=').map(|(_, value)| value.to_owned());
        let fits_tag = |wanted: &String| {
            tag.is_some_and(|tag| tag == wanted || value(tag).is_some_and(|value| value == *wanted))
        };
        let fits_state =
            |wanted: &String| wanted == state || wanted == PENDING && state != "done" && !state.is_empty();
        self.project.is_none_or(|wanted| project == Some(wanted))
            && self.tag.as_ref().is_none_or(fits_tag)
            && self.state.as_ref().is_none_or(fits_state)
    }

    /// Whether ended checks may be asked for.
    pub(super) fn wants_done(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state == "done")
    }
}

fn limit(value: &str) -> Option<usize> {
    value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
}

fn state(value: &str) -> Option<String> {
    (STATES.contains(&value) || value == PENDING).then(|| value.to_owned())
}

fn wrong(field: &'static str) -> FieldError {
    let detail = match field {
        "after" => "the `next` of the page before".to_owned(),
        "limit" => format!("a number from 1 to {MAX_LIMIT}"),
        "project" => "the project's id, a GUID".to_owned(),
        "state" => format!("one of {PENDING}, {}", STATES.join(", ")),
        "tag" => "a tag, `KEY=VALUE`, or its value".to_owned(),
        _ => "the parameters are after, limit, project, state and tag".to_owned(),
    };
    FieldError { field, detail }
}

fn twice(field: &'static str) -> FieldError {
    FieldError { field, detail: "give it once".into() }
}

fn refused(errors: &[FieldError]) -> Reply {
    let detail = "Change the parameters that `errors` names.";
    Reply::problem_with(400, "The parameters cannot be read", detail, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Query, String> {
        Query::parse(format!("/testrelay/v1/checks{query}").as_bytes()).map_err(|reply| {
            assert_eq!(reply.status, 400);
            reply.body
        })
    }

    #[test]
    fn without_parameters_all_checks_are_asked_for() {
        for query in ["", "?"] {
            assert!(parse(query).unwrap().is_plain(), "{query}");
        }
        assert!(Query::default().fits(None, None, "waiting"));
    }

    #[test]
    fn a_check_fits_by_tag_value_project_and_state() {
        let project = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c";
        let query = parse(&format!("?tag=ado-run%3Dshop-1&state=pending&project={project}&limit=7")).unwrap();
        let project = Guid::parse(project);
        assert_eq!((query.limit, query.project), (7, project));
        assert!(query.fits(project, Some("ado-run=shop-1"), "waiting"));
        assert!(!query.fits(None, Some("ado-run=shop-1"), "waiting"));
        assert!(!query.fits(project, Some("ado-run=shop-11"), "waiting"));
        assert!(!query.fits(project, None, "waiting"));
        assert!(!query.fits(project, Some("ado-run=shop-1"), "done"));
        assert!(!query.wants_done() && parse("?state=done").unwrap().wants_done());
        assert!(parse("?tag=shop-1").unwrap().fits(None, Some("ado-run=shop-1"), "done"));
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_to_give() {
        for (query, says) in [
            ("?limit=0", "a number from 1 to 500"),
            ("?limit=501", "a number from 1 to 500"),
            ("?limit=x", "a number from 1 to 500"),
            ("?project=shop", "a GUID"),
            (
                "?state=red",
                "one of pending, accepted, proven, waiting, running, watching, decided, unreadable, done",
            ),
            ("?tag=", "or its value"),
            ("?after=1", "the `next` of the page before"),
            ("?page=2", "after, limit, project, state and tag"),
            ("?limit=1&limit=2", "give it once"),
            ("?tag=%ff", "or its value"),
        ] {
            let body = parse(query).unwrap_err();
            assert!(body.contains(says), "{query}: {body}");
        }
        assert!(parse(&format!("?tag={}", "x".repeat(3_000))).is_err());
    }
}
