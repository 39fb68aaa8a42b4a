//! Aborts of executions whose run is over, each repeated until the execution has ended.
//!
//! A 204 only says that Testkube was asked. On PostgreSQL it is also the answer for a queued or assigned execution, and
//! then nothing happens: the runner starts the execution all the same
//! (`pkg/controlplane/scheduling/controller_postgres.go`). From `starting` on, an execution is `stopping` at once and
//! `canceled` within a second. So each execution is looked at until it has ended, and asked again if it goes on.

use crate::backoff::{Random, delay};
use crate::tag::Tag;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::testkube::Testkube;
use crate::wire::testkube::{self, Execution, Status};
use std::time::Duration;

/// Maximum abort calls under way.
const MAX_CALLS: usize = 2;
/// Maximum executions remembered.
const MAX_EXECUTIONS: usize = 1_000;
/// Maximum rounds of an abort and a look before an execution is given up: a quarter of an hour.
const MAX_ROUNDS: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// Pause while it is asked whether another replica's check waits.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);

/// The executions to abort. Lost with the context that asked: an execution that has not ended then runs on to its own
/// end.
#[derive(Default)]
pub(crate) struct Aborts {
    last: u64,
    executions: Vec<Abort>,
}

/// Identifies the execution that a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// An event to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// An execution ended because Testkube was asked to abort it.
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
    /// Whether Testkube has taken an abort, or may have, because an answer was lost.
    is_asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ask,
    Look,
}

/// Who waits for a tag whose executions are to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Nobody,
    /// A check of this process.
    Here,
    /// Another replica's check.
    Elsewhere,
    /// Perhaps another replica's check: the API server has not said it yet.
    Unknown,
}

/// What to do for an execution after an answer.
enum Next {
    /// Ask it to abort at once.
    Ask,
    /// Repeat its step after a pause.
    Pause,
    /// Forget it.
    Nothing,
}

/// What an answer shows of an execution.
enum Observed {
    /// Testkube took the abort.
    Asked,
    /// Testkube answered the abort that the execution had ended before.
    EndedBefore,
    Ended(Status),
    /// It is being aborted.
    Stopping,
    GoesOn,
    Gone,
    Unknown(Fault),
}

impl Aborts {
    /// Adds executions of a tag, by id and name. Returns how many there was no room for.
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

    /// Forgets all executions. Answers to calls under way are not mistaken for those of later ones.
    pub(crate) fn clear(&mut self) {
        self.executions.clear();
    }

    /// Returns the next call, if one is due and there is room for it; its answer goes to [`Aborts::answered`]. Forgets
    /// executions for which a check of this process waits by now: their tag has come again. Those for which another
    /// replica's check waits come later: that check may be about to end for the same reason. `waits` gets a tag, and whether
    /// the call is an abort.
    pub(crate) fn due(
        &mut self,
        now: Mono,
        testkube: &Testkube,
        random: &mut Random,
        mut waits: impl FnMut(&Tag, bool) -> Waits,
    ) -> Option<(Token, Request)> {
        while self.calls() < MAX_CALLS {
            let due = self.executions.iter_mut().filter(|abort| abort.is_due(now));
            let abort = due.min_by_key(|abort| abort.next)?;
            match waits(&abort.tag, abort.step == Step::Ask) {
                Waits::Nobody => {
                    abort.is_calling = true;
                    return Some((abort.token, abort.request(testkube)));
                }
                Waits::Unknown => abort.next = now.plus(UNKNOWN_PAUSE),
                Waits::Elsewhere if abort.rounds < MAX_ROUNDS => abort.wait(now, random),
                Waits::Here | Waits::Elsewhere => {
                    let tag = abort.tag.clone();
                    log::info!("executions tagged {tag} are no longer aborted: a check waits for them");
                    self.executions.retain(|abort| abort.tag != tag);
                }
            }
        }
        None
    }

    /// A call from [`Aborts::due`] could not be started.
    pub(crate) fn not_started(&mut self, token: Token) {
        if let Some(abort) = self.find(token) {
            abort.is_calling = false;
        }
    }

    /// Takes the outcome of a call.
    pub(crate) fn answered(
        &mut self,
        now: Mono,
        random: &mut Random,
        token: Token,
        outcome: &CallOutcome,
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
                abort.wait(now, random);
                return effect;
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
    /// Ends a round: the next one comes after a pause.
    fn wait(&mut self, now: Mono, random: &mut Random) {
        self.rounds += 1;
        self.next = now.plus(random.jitter(delay(self.rounds, FIRST_PAUSE, MAX_PAUSE)));
    }

    fn is_due(&self, now: Mono) -> bool {
        !self.is_calling && now >= self.next
    }

    fn request(&self, testkube: &Testkube) -> Request {
        match self.step {
            Step::Ask => testkube::abort_execution(testkube, &self.id),
            Step::Look => testkube::get_execution(testkube, &self.id),
        }
    }

    fn seen(&self, outcome: &CallOutcome) -> Observed {
        let response = match outcome {
            CallOutcome::Failed(fault) => return Observed::Unknown(fault.clone()),
            CallOutcome::Response(response) if response.from_envoy => {
                return Observed::Unknown(response.fault());
            }
            CallOutcome::Response(response) => response,
        };
        match (self.step, response.status) {
            (_, 404) => Observed::Gone,
            (Step::Ask, 200..300) => Observed::Asked,
            (Step::Ask, 400) => Observed::EndedBefore,
            (Step::Ask, _) => Observed::Unknown(response.fault()),
            (Step::Look, _) => match testkube::single(response) {
                Ok(execution) if execution.id != self.id => {
                    Observed::Unknown(Fault::Unexpected("another execution"))
                }
                Ok(Execution { ended: true, status, .. }) => Observed::Ended(status),
                Ok(Execution { stopping_since: Some(_), .. }) => Observed::Stopping,
                Ok(_) => Observed::GoesOn,
                Err(fault) => Observed::Unknown(fault),
            },
        }
    }

    /// What to do after this observation, and what to count.
    fn next_of(&mut self, seen: Observed) -> (Next, Option<Effect>) {
        let name = &self.name;
        match seen {
            Observed::Asked => {
                log::info!("asked Testkube to abort execution {name}: its run is over");
                (self.is_asked, self.step) = (true, Step::Look);
                (Next::Pause, None)
            }
            Observed::EndedBefore if self.is_asked => {
                self.step = Step::Look;
                (Next::Pause, None)
            }
            Observed::EndedBefore | Observed::Gone => (Next::Nothing, None),
            Observed::Ended(status @ (Status::Aborted | Status::Canceled)) => {
                log::info!("execution {name} is {status}: its run is over");
                (Next::Nothing, Some(Effect::Aborted))
            }
            Observed::Ended(status) => {
                log::info!("execution {name} ended before its abort: {status}");
                (Next::Nothing, None)
            }
            Observed::Stopping => (self.next_round(Next::Pause, "is still stopping"), None),
            Observed::GoesOn => {
                self.step = Step::Ask;
                (self.next_round(Next::Ask, "goes on"), None)
            }
            Observed::Unknown(fault) => {
                let what = if self.step == Step::Ask { "aborted" } else { "read" };
                log::warn!("execution {name} could not be {what}: {fault}");
                self.is_asked |= self.step == Step::Ask && !fault.was_refused();
                (self.next_round(Next::Pause, "may go on"), Some(Effect::Fault))
            }
        }
    }

    /// `next`, unless all rounds are used up.
    fn next_round(&self, next: Next, what: &str) -> Next {
        if self.rounds < MAX_ROUNDS {
            return next;
        }
        log::warn!(
            "execution {} {what}, although its run is over: Testrelay gives up aborting it",
            self.name
        );
        Next::Nothing
    }
}

#[cfg(test)]
mod tests;
