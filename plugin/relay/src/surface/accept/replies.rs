//! The answers to check requests, in words.

use super::{Admitted, Counted, in_one};
use crate::check::{Delivered, MAX_OF_CREDENTIAL};
use crate::store::ledger::LedgerError;
use crate::store::places::Share;
use crate::surface::problem::Reply;
use crate::surface::request::Unanswerable;
use crate::time::in_words;
use crate::wire::call::Fault;
use serde::Serialize;

/// The body of the answer to a taken check.
#[derive(Serialize)]
struct Receipt<'a> {
    id: &'a str,
    message: &'a str,
    status: &'static str,
}

/// The answer to an admitted request, and how it is counted.
pub(super) fn answer(admitted: &Admitted, delivered: Delivered) -> (Reply, Counted) {
    let (id, wrong) = (admitted.key.id(), &admitted.wrong);
    let reply = |status, message: String| Reply::json(200, &Receipt { id: &id, message: &message, status });
    match (delivered, &admitted.new.ask) {
        (Delivered::Different, _) => {
            let detail = "A check with the same PlanId, JobId and TaskInstanceId is pending with another tag, policy or address. A pending check cannot be changed; cancel the run and start it again.";
            (Reply::problem(409, "The same check is pending with other values", detail), Counted::Refused)
        }
        (Delivered::Crowded, _) => {
            let detail = format!(
                "{MAX_OF_CREDENTIAL} deliveries of this check by this credential wait until Azure DevOps has accepted one of their tokens. Send it again in a minute."
            );
            let refusal = Reply::problem(503, "Too many deliveries of one check", &detail);
            (refusal.with("retry-after", "60"), Counted::Refused)
        }
        (Delivered::Unplaced, _) => (unstored(&LedgerError::Busy), Counted::Refused),
        (Delivered::Repeated(outcome), _) => {
            let message = format!(
                "Testrelay has just reported `{outcome}` for this check, and reports the same decision again."
            );
            (reply("reported", message), Counted::Repeated)
        }
        (Delivered::New(..) | Delivered::Beside(..), None) => {
            let message =
                format!("This check cannot be evaluated and will be reported as failed: {}", in_one(wrong));
            log::warn!("check {id} rejected: {}", in_one(wrong));
            (reply("rejected", message), Counted::Rejected)
        }
        (Delivered::Again, None) => (
            reply("rejected", "This check cannot be evaluated and will be reported as failed.".into()),
            Counted::Repeated,
        ),
        (delivered @ (Delivered::New(deadline, ends) | Delivered::Beside(deadline, ends)), Some(ask)) => {
            let counted = match delivered {
                Delivered::New(..) => Counted::Accepted,
                _ => {
                    log::warn!(
                        "check {id} was delivered with other values than before: the delivery whose token Azure DevOps accepts first counts"
                    );
                    Counted::Repeated
                }
            };
            let within = deadline.in_words(ends);
            log::info!("check {id} accepted: tag {}, decided within {within}", ask.tag);
            let message = format!(
                "Testrelay waits until every Testkube execution tagged {} has ended (expected: {}) and then reports back: within {within}, or after {} if they do not appear.",
                ask.tag,
                ask.expect,
                in_words(ask.appear_timeout),
            );
            (reply("accepted", message), counted)
        }
        (Delivered::Again, Some(ask)) => {
            let message = format!("Testrelay is already waiting for the executions tagged {}.", ask.tag);
            (reply("accepted", message), Counted::Repeated)
        }
    }
}

/// The refusal of a request that nothing could be reported to.
pub(super) fn unanswerable_reply(why: &Unanswerable) -> Reply {
    if why.not_listed {
        return Reply::problem_with(403, "PlanUrl is not configured here", &in_one(&why.errors), &why.errors);
    }
    Reply::problem_with(
        400,
        "This check could not be answered",
        &format!("Nothing was stored, and nothing will be reported. {}", in_one(&why.errors)),
        &why.errors,
    )
}

/// The refusal of a new check for which this limit leaves no place.
pub(super) fn full(share: Share) -> Reply {
    let limit = match share {
        Share::All => "`checks.max_pending`",
        Share::Credential => "the credential's `max_pending`",
        Share::Project => "`checks.max_pending_per_project`",
    };
    Reply::problem(
        503,
        "Too many checks are pending",
        &format!(
            "This check was not accepted and will not be reported: Azure DevOps does not send it again. Re-run the stage later, or raise {limit}."
        ),
    )
}

/// The refusal of a check that the ledger does not store.
pub(super) fn unstored(error: &LedgerError) -> Reply {
    match error {
        LedgerError::Full => full(Share::All),
        LedgerError::TooLarge => Reply::problem(
            400,
            "This check could not be answered",
            "Its fields together are too large. Nothing was stored, and nothing will be reported.",
        ),
        LedgerError::Busy | LedgerError::Store(_) => Reply::problem(
            503,
            "The check could not be stored",
            "This check was not accepted and will not be reported: Azure DevOps does not send it again. Re-run the stage.",
        ),
    }
}

/// The refusal of a check that the API server does not store.
pub(super) fn away(fault: Option<&Fault>) -> Reply {
    let why = fault.map_or("this replica has not registered itself there yet".into(), Fault::to_string);
    let detail = format!(
        "Kubernetes's API server does not store it: {why}. This check was not accepted and will not be reported: Azure DevOps does not send it again. Re-run the stage."
    );
    Reply::problem(503, "The check could not be stored", &detail)
}

/// The refusal of a check whose Secret this replica does not understand.
pub(super) fn unreadable() -> Reply {
    Reply::problem(
        503,
        "The check could not be stored",
        "It has a Secret that this replica cannot read: a newer Testrelay wrote it, or somebody edited it. Re-run the stage.",
    )
}

/// The answer to a check whose calls to the API server are never answered.
pub fn lost() -> Reply {
    away(Some(&Fault::Lost))
}
