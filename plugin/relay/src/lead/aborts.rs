//! Executions of runs that are over: Testkube is asked to abort them until they have ended.
//!
//! A 204 says no more than that it was asked. On PostgreSQL the abort of an execution that is queued or assigned is answered
//! with it and nothing happens: the runner starts it all the same (`pkg/controlplane/scheduling/controller_postgres.go`). From
//! `starting` on it is `stopping` at once and `canceled` within a second. So each execution is looked at until it has ended, and
//! asked again where it goes on.

use crate::backoff::{Random, delay};
use crate::tag::Tag;
use crate::time::Mono;
use crate::wire::call::{Fault, Outcome, Request};
use crate::wire::testkube::Testkube;
use crate::wire::testkube::{self, Execution, Status};
use std::time::Duration;

/// So many calls are under way at the same time.
const MAX_CALLS: usize = 2;
/// So many executions are remembered at the same time.
const MAX_EXECUTIONS: usize = 1_000;
/// An execution is given up after so many rounds without an end, of an abort and a look each: a quarter of an hour.
const MAX_ROUNDS: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(120);

/// All executions that are to end. Lost with the context that asked: what is not ended then ends by itself.
#[derive(Default)]
pub(crate) struct Aborts {
    last: u64,
    executions: Vec<Abort>,
}

/// Which execution a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// What is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// An execution has ended because Testkube was asked to abort it.
    Aborted,
    /// A call had no usable answer.
    Fault,
}

struct Abort {
    token: Token,
    tag: Tag,
    id: String,
    name: String,
    step: Step,
    is_calling: bool,
    next: Mono,
    rounds: u32,
    /// Whether Testkube has taken an abort, or may have: an answer was lost.
    is_asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ask,
    Look,
}

/// What is done for an execution after an answer.
enum Next {
    /// It is asked to abort at once.
    Ask,
    /// Its step is taken after a pause.
    Pause,
    /// It is forgotten.
    Nothing,
}

/// What an answer has shown of an execution.
enum Seen {
    /// The abort was taken.
    Asked,
    /// It had ended, Testkube says to the abort.
    EndedBefore,
    Ended(Status),
    /// Somebody aborts it just now.
    Stopping,
    GoesOn,
    Gone,
    Unknown(Fault),
}

impl Aborts {
    /// From now on these executions of a tag are to end: ids and names. How many of them there was no room for.
    pub(crate) fn ask(&mut self, now: Mono, tag: &Tag, executions: Vec<(String, String)>) -> usize {
        let mut left_out = 0;
        for (id, name) in executions {
            if self.executions.iter().any(|abort| abort.id == id) {
                continue;
            }
            if self.executions.len() >= MAX_EXECUTIONS {
                left_out += 1;
                continue;
            }
            self.last += 1;
            self.executions.push(Abort {
                token: Token(self.last),
                tag: tag.clone(),
                id,
                name,
                step: Step::Ask,
                is_calling: false,
                next: now,
                rounds: 0,
                is_asked: false,
            });
        }
        left_out
    }

    /// Forgets them all. Answers to calls that are under way are not taken for others'.
    pub(crate) fn clear(&mut self) {
        self.executions.clear();
    }

    /// The next call, if one is due and there is room for it; its answer goes to [`Aborts::answered`]. Executions for which a
    /// check waits by now are forgotten: their tag has come again.
    pub(crate) fn due(
        &mut self,
        now: Mono,
        testkube: &Testkube,
        is_awaited: impl Fn(&Tag) -> bool,
    ) -> Option<(Token, Request)> {
        while self.calls() < MAX_CALLS {
            let due = self.executions.iter_mut().filter(|abort| abort.is_due(now));
            let abort = due.min_by_key(|abort| abort.next)?;
            if !is_awaited(&abort.tag) {
                abort.is_calling = true;
                return Some((abort.token, abort.request(testkube)));
            }
            let tag = abort.tag.clone();
            log::info!("executions tagged {tag} are not asked to abort any more: a check waits for them");
            self.executions.retain(|abort| abort.tag != tag);
        }
        None
    }

    /// A call of [`Aborts::due`] could not be started.
    pub(crate) fn not_started(&mut self, token: Token) {
        if let Some(abort) = self.find(token) {
            abort.is_calling = false;
        }
    }

    /// What became of a call.
    pub(crate) fn answered(
        &mut self,
        now: Mono,
        random: &mut Random,
        token: Token,
        outcome: &Outcome,
    ) -> Option<Effect> {
        let abort = self.find(token)?;
        abort.is_calling = false;
        let seen = abort.seen(outcome);
        let (next, effect) = abort.next_of(seen);
        abort.next = match next {
            Next::Nothing => {
                self.executions.retain(|abort| abort.token != token);
                return effect;
            }
            Next::Ask => now,
            Next::Pause => {
                abort.rounds += 1;
                now.plus(random.jitter(delay(abort.rounds, FIRST_PAUSE, MAX_PAUSE)))
            }
        };
        effect
    }

    fn find(&mut self, token: Token) -> Option<&mut Abort> {
        self.executions.iter_mut().find(|abort| abort.token == token)
    }

    fn calls(&self) -> usize {
        self.executions.iter().filter(|abort| abort.is_calling).count()
    }
}

impl Abort {
    fn is_due(&self, now: Mono) -> bool {
        !self.is_calling && now >= self.next
    }

    fn request(&self, testkube: &Testkube) -> Request {
        match self.step {
            Step::Ask => testkube::abort_execution(testkube, &self.id),
            Step::Look => testkube::get_execution(testkube, &self.id),
        }
    }

    fn seen(&self, outcome: &Outcome) -> Seen {
        let response = match outcome {
            Outcome::Failed(fault) => return Seen::Unknown(fault.clone()),
            Outcome::Response(response) if response.from_envoy => return Seen::Unknown(response.fault()),
            Outcome::Response(response) => response,
        };
        match (self.step, response.status) {
            (_, 404) => Seen::Gone,
            (Step::Ask, 200..300) => Seen::Asked,
            (Step::Ask, 400) => Seen::EndedBefore,
            (Step::Ask, _) => Seen::Unknown(response.fault()),
            (Step::Look, _) => match testkube::single(response) {
                Ok(execution) if execution.id != self.id => {
                    Seen::Unknown(Fault::Unexpected("another execution"))
                }
                Ok(Execution { ended: true, status, .. }) => Seen::Ended(status),
                Ok(Execution { stopping_since: Some(_), .. }) => Seen::Stopping,
                Ok(_) => Seen::GoesOn,
                Err(fault) => Seen::Unknown(fault),
            },
        }
    }

    /// What is done after what was seen, and what is to be counted.
    fn next_of(&mut self, seen: Seen) -> (Next, Option<Effect>) {
        let name = &self.name;
        match seen {
            Seen::Asked => {
                log::info!("execution {name} was asked to abort: its run is over");
                (self.is_asked, self.step) = (true, Step::Look);
                (Next::Pause, None)
            }
            Seen::EndedBefore if self.is_asked => {
                self.step = Step::Look;
                (Next::Pause, None)
            }
            Seen::EndedBefore | Seen::Gone => (Next::Nothing, None),
            Seen::Ended(status @ (Status::Aborted | Status::Canceled)) => {
                log::info!("execution {name} is {status}: its run is over");
                (Next::Nothing, Some(Effect::Aborted))
            }
            Seen::Ended(status) => {
                log::info!("execution {name} has ended before its abort: {status}");
                (Next::Nothing, None)
            }
            Seen::Stopping => (self.next_round(Next::Pause, "has been stopping since"), None),
            Seen::GoesOn => {
                self.step = Step::Ask;
                (self.next_round(Next::Ask, "goes on"), None)
            }
            Seen::Unknown(fault) => {
                let what = if self.step == Step::Ask { "asked to abort" } else { "looked at" };
                log::warn!("execution {name} could not be {what}: {fault}");
                self.is_asked |= self.step == Step::Ask && !fault.was_refused();
                (self.next_round(Next::Pause, "may go on"), Some(Effect::Fault))
            }
        }
    }

    /// This, unless all rounds are over.
    fn next_round(&self, next: Next, what: &str) -> Next {
        if self.rounds < MAX_ROUNDS {
            return next;
        }
        log::warn!(
            "execution {} {what}, although its run is over: it is not asked to abort again",
            self.name
        );
        Next::Nothing
    }
}

#[cfg(test)]
mod tests;
