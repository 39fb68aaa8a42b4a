//! A request that needs answers of Testkube before it is answered or goes on: an evaluation, or a visit to the
//! artifacts of a tag. Both take the same steps, so a stream handles them in one way.

use super::artifacts::{Forward, Visit, VisitMemory};
use super::evaluate::{Answered, Evaluation};
use super::problem::Reply;
use crate::store::ledger::Store;
use crate::time::Now;
use crate::wire::call::{CallOutcome, Request};
use std::rc::Rc;

/// The next step of an exchange.
pub enum Step {
    /// Start these calls, each with its number. Others may be under way already.
    Call(Vec<(usize, Request)>),
    /// Wait for the calls that are under way.
    Wait,
    /// Send this answer; with the result, if this is an evaluation.
    Reply(Reply, Option<Answered>),
    /// Let the request go on to Testkube.
    Forward(Rc<Forward>),
}

/// A request that waits for answers of Testkube.
pub enum Exchange {
    /// A synchronous check.
    Evaluation(Evaluation),
    /// A request for artifacts by tag.
    Visit(Visit),
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
            Exchange::Evaluation(evaluation) => evaluation.begin(now, store),
            Exchange::Visit(visit) => visit.step(now, memory),
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
            Exchange::Evaluation(evaluation) => evaluation.answer(now, store, call, outcome),
            Exchange::Visit(visit) => visit.answer(now, memory, outcome),
        }
    }
}
