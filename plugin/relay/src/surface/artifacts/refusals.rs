//! The refusals of requests by tag.

use super::MAX_PAGE;
use super::ask::{Scope, Target};
use crate::surface::problem::Reply;
use crate::time::Wall;
use crate::wire::call::Fault;

pub(super) fn ambiguous(what: &str, choices: impl Iterator<Item = String>) -> Reply {
    let choices: Vec<String> = choices.collect();
    let detail = format!("{} executions have `{what}`: use one of the links.", choices.len());
    Reply::problem_with_member(409, "More than one", &detail, "links", choices.into())
}

pub(super) fn no_execution(ask: &Target, since: Wall) -> Reply {
    let tag = &ask.tag;
    let detail = match ask.scope {
        Scope::All => format!("Testkube has no execution tagged {tag}; it may have deleted them."),
        _ => format!(
            "Testkube has no execution tagged {tag} that was scheduled since {since}; it may have deleted them. Set since=TIME to look back further, or all=true for all."
        ),
    };
    Reply::problem(404, "No such execution", &detail)
}

pub(super) fn too_many_executions(count: u32) -> Reply {
    let detail = format!(
        "{count} executions have this tag, more than {MAX_PAGE}: give since=TIME, and use a tag that only one run has."
    );
    Reply::problem(409, "Too many executions", &detail)
}

pub(super) fn not_read(fault: &Fault) -> Reply {
    let status = match fault {
        Fault::NoAnswer => 504,
        Fault::NoConnection | Fault::Refused | Fault::UnknownCluster(_) => 503,
        _ => 502,
    };
    Reply::problem(status, "Request to Testkube failed", &format!("The request to Testkube failed: {fault}."))
}

/// The answer to a request whose call is never answered.
pub fn lost() -> Reply {
    not_read(&Fault::NoAnswer)
}
