//! A request that Testkube is asked for before it is answered or goes on: an evaluation, or a visit to what a tag's executions
//! have kept. Both take the same steps, so that a stream has one way to take them.

use super::artifacts::{Forward, Memory, Visit};
use super::evaluate::{Answered, Evaluation};
use super::problem::Reply;
use crate::store::ledger::Store;
use crate::time::Now;
use crate::wire::call::{CallOutcome, Request};
use std::rc::Rc;

/// What an exchange needs next.
pub enum Step {
    /// Start these calls, each under its number; more may be under way already.
    Call(Vec<(usize, Request)>),
    /// Wait for the calls that are under way.
    Wait,
    /// Answer this; what an evaluation came to, where it is one.
    Reply(Reply, Option<Answered>),
    /// Let the request go on to Testkube.
    Forward(Rc<Forward>),
}

/// A request that waits for Testkube's answers.
pub enum Exchange {
    /// A synchronous check.
    Evaluation(Evaluation),
    /// A request for artifacts by tag.
    Visit(Visit),
}

impl Step {
    /// One call, under the number 0.
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
    /// What to do first.
    pub fn begin(&mut self, now: Now, store: &mut dyn Store, memory: &mut Memory) -> Step {
        match self {
            Exchange::Evaluation(evaluation) => evaluation.begin(now, store),
            Exchange::Visit(visit) => visit.step(now, memory),
        }
    }

    /// Reads the answer to the call of this number, and says what to do next.
    pub fn answer(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        memory: &mut Memory,
        call: usize,
        outcome: &CallOutcome,
    ) -> Step {
        match self {
            Exchange::Evaluation(evaluation) => evaluation.answer(now, store, call, outcome),
            Exchange::Visit(visit) => visit.answer(now, memory, outcome),
        }
    }
}
