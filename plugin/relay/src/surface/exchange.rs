//! A request that needs answers of another server before it is answered or goes on: a check that is stored in the cluster
//! store, an evaluation, a visit to the artifacts of a tag, a list of all replicas' checks, or a preflight. They take the
//! same steps, so a stream handles them in one way.

use super::accept::{Acceptance, Counted};
use super::artifacts::{Forward, Visit, VisitMemory};
use super::evaluate::{Answered, Evaluation};
use super::listing::Listing;
use super::preflight::Inquiry;
use super::problem::Reply;
use crate::store::ledger::Store;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Request};
use std::rc::Rc;

/// The next step of an exchange.
pub enum Step {
    /// Start these calls, each with its number. Others may be under way already.
    Call(Vec<(usize, Request)>),
    /// Wait for the calls that are under way.
    Wait,
    /// Call [`Exchange::resume`] at the next tick after this time. No call is under way.
    Pause(Mono),
    /// Send this answer; with the result to count, if there is one.
    Reply(Reply, Option<Ended>),
    /// Let the request go on to Testkube.
    Forward(Rc<Forward>),
}

/// A result to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A check request's.
    Check(Counted),
    /// An evaluation's.
    Evaluation(Answered),
}

/// A request that waits for answers of another server.
pub enum Exchange {
    /// A check that is being stored in the cluster store.
    Acceptance(Box<Acceptance>),
    /// A synchronous check.
    Evaluation(Evaluation),
    /// A request for artifacts by tag.
    Visit(Visit),
    /// A list of checks.
    Listing(Box<Listing>),
    /// A preflight.
    Preflight(Box<Inquiry>),
}

impl Step {
    /// One call, with the number 0.
    pub fn call(request: Request) -> Step {
        Step::Call(vec![(0, request)])
    }
}

impl From<Reply> for Step {
    fn from(reply: Reply) -> Step {
        Step::Reply(reply, None)
    }
}

impl Exchange {
    /// The first step.
    pub fn begin(&mut self, now: Now, store: &mut dyn Store, memory: &mut VisitMemory) -> Step {
        match self {
            Exchange::Acceptance(acceptance) => acceptance.begin(now, store),
            Exchange::Evaluation(evaluation) => evaluation.begin(now, store),
            Exchange::Visit(visit) => visit.step(now, memory),
            Exchange::Listing(listing) => listing.begin(now, store),
            Exchange::Preflight(inquiry) => inquiry.begin(now, store),
        }
    }

    /// The next step after a pause.
    pub fn resume(&mut self, now: Now, store: &mut dyn Store) -> Step {
        match self {
            Exchange::Acceptance(acceptance) => acceptance.try_again(now, store),
            Exchange::Preflight(inquiry) => inquiry.resume(now, store),
            Exchange::Evaluation(_) | Exchange::Visit(_) | Exchange::Listing(_) => Step::Wait,
        }
    }

    /// Reads the answer to the call with this number. Returns the next step.
    pub fn answer(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        memory: &mut VisitMemory,
        call: usize,
        outcome: &CallOutcome,
    ) -> Step {
        match self {
            Exchange::Acceptance(acceptance) => acceptance.answer(now, store, outcome),
            Exchange::Evaluation(evaluation) => evaluation.answer(now, store, call, outcome),
            Exchange::Visit(visit) => visit.answer(now, memory, outcome),
            Exchange::Listing(listing) => listing.answer(now, store, outcome),
            Exchange::Preflight(inquiry) => inquiry.answer(now, store, call, outcome),
        }
    }
}
