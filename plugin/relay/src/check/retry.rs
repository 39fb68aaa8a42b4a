//! `Testrelay-Retry`: Testrelay has Testkube run a failed execution again.
//!
//! One at a time: the execution is read once more by its id; the re-run is noted in the record, which is stored; then Testkube
//! is asked. What is noted is never asked for by another context, because nobody knows whether the first one has asked:
//! readings show whether Testkube has taken it. The context that has noted it asks again only if the answer says that nothing
//! was started.

use super::answers::{Asked, Waiting};
use super::observed::Observed;
use super::verdict::{Assessment, Waits, short};
use super::{Call, Check, Counter, Cx, Effects, Phase, Room, Space, is_default};
use crate::backoff;
use crate::config::Config;
use crate::text::one_line;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Fault, Request};
use crate::wire::testkube::{self, Execution, Rerun, Status, rerun_answer, rerun_execution};
use log::Level;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

/// Maximum re-runs that are asked for one check.
pub(crate) const MAX_RERUNS: usize = 10;

/// How long a re-run may take to appear in Testkube's lists, counted while Testkube answers; and how long Testkube may
/// refuse to listen.
pub(crate) const APPEARS: Duration = Duration::from_secs(120);

/// First and maximum pause before a re-run is asked for again, if nothing was started.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long a re-run waits until it is stored in the cluster store. After that it is not asked for.
const STORED: Duration = Duration::from_secs(60);

const NOT_STORED: &str = "the API server has not stored the re-run";

/// The re-runs of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Oldest first.
    tries: Vec<Try>,
    /// For how long the last of them has been looked for, while Testkube answered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) looked: Duration,
    /// What tries that were dropped have added to [`Retries::changes`].
    #[serde(default, skip_serializing_if = "is_default")]
    dropped: usize,
}

/// A re-run that Testkube was, or may have been, asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Try {
    /// [`short`] of the execution to repeat.
    of: u32,
    /// [`short`] of the execution that this one repeats itself; 0: none.
    #[serde(default, skip_serializing_if = "is_default")]
    from: u32,
    /// Whether it certainly does not happen.
    #[serde(default, skip_serializing_if = "is_default")]
    is_refused: bool,
    /// Why, or why nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What was tried for one execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Number of re-runs noted, of it and of those that it repeats.
    pub reruns: usize,
    /// Whether a re-run of it was noted.
    pub is_asked: bool,
    /// Whether that one certainly does not happen.
    pub is_refused: bool,
    /// Why, or why nobody knows.
    pub why: Option<String>,
}

impl Tried {
    /// Which re-run it is itself; 0: none that was noted.
    pub fn number(&self) -> usize {
        self.reruns.saturating_sub(usize::from(self.is_asked))
    }

    /// Whether it is to be seen whether Testkube repeats it.
    pub fn is_awaited(&self) -> bool {
        self.is_asked && !self.is_refused
    }
}

/// An execution that is to run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(super) id: String,
    pub(super) name: String,
    /// [`Try::from`].
    from: u32,
}

impl Wish {
    pub(super) fn of(execution: &Execution) -> Wish {
        let reference = Some(&execution.actor.reference).filter(|reference| !reference.is_empty());
        Wish {
            id: execution.id.clone(),
            name: one_line(&execution.name, 80),
            from: reference.map_or(0, |reference| short(reference)),
        }
    }
}

/// The re-run that this context is about to ask for.
#[derive(Clone)]
pub(super) struct Asking {
    wish: Rc<Wish>,
    /// When it was noted in the record.
    noted: Option<Mono>,
    /// Failures in a row, and since when.
    pub(super) failures: u32,
    failing_since: Mono,
    /// The time before which nothing is done.
    pub(super) next: Mono,
}

impl Asking {
    pub(super) fn is_noted(&self) -> bool {
        self.noted.is_some()
    }
}

impl Retries {
    /// A number that rises with each change that another process must know.
    pub(super) fn changes(&self) -> usize {
        let kept: usize = self.tries.iter().map(|one| 1 + usize::from(one.is_refused)).sum();
        kept.saturating_add(self.dropped)
    }

    /// How many more re-runs may be noted.
    pub(super) fn room(&self) -> usize {
        MAX_RERUNS.saturating_sub(self.tries.len())
    }

    fn has(&self, id: &str) -> bool {
        let of = short(id);
        self.tries.iter().any(|one| one.of == of)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.tries.is_empty()
    }

    /// Notes a re-run of an execution that repeats another one, or none (0).
    pub(super) fn note(&mut self, id: &str, from: u32) {
        self.tries.push(Try { of: short(id), from, is_refused: false, why: None });
        self.looked = Duration::ZERO;
    }

    /// Notes why a re-run does not happen, or why nobody knows.
    pub(super) fn explain(&mut self, id: &str, is_refused: bool, why: String) {
        let of = short(id);
        if let Some(one) = self.tries.iter_mut().rfind(|one| one.of == of) {
            (one.is_refused, one.why) = (is_refused, Some(why));
        }
    }

    fn forget(&mut self, id: &str) {
        let of = short(id);
        if self.has(id) {
            self.tries.retain(|one| one.of != of);
            self.dropped = self.dropped.saturating_add(3);
        }
    }

    /// What was tried for an execution; `chain` are [`short`] of it and of all that it is known to repeat.
    pub(super) fn tried(&self, own: u32, mut chain: Vec<u32>) -> Tried {
        // What stood between may have been deleted.
        for one in self.tries.iter().rev().filter(|one| one.from != 0) {
            if chain.contains(&one.of) {
                chain.push(one.from);
            }
        }
        let own = self.tries.iter().rfind(|one| one.of == own);
        Tried {
            reruns: self.tries.iter().filter(|one| chain.contains(&one.of)).count(),
            is_asked: own.is_some(),
            is_refused: own.is_some_and(|own| own.is_refused),
            why: own.and_then(|own| own.why.clone()),
        }
    }
}

impl Check {
    /// Adds to the time for which a re-run has been looked for while Testkube answered, and returns it.
    pub(super) fn note_look(&mut self, now: Mono, read: &Assessment<'_>, elapsed: Duration) -> Duration {
        match &mut self.durable.phase {
            Phase::Watching(watch)
                if read.failed().any(|e| read.tried(e).is_awaited()) && self.volatile.asking.is_none() =>
            {
                let elapsed = elapsed.min(now.since(self.volatile.asked));
                self.volatile.looked.add(&mut watch.retries.looked, elapsed)
            }
            _ => Duration::ZERO,
        }
    }

    /// Drops a re-run that is not asked for yet, if it helps no more: its execution has been replaced, or another failure is
    /// final. Returns whether the record has changed, so that the next reading decides.
    pub(super) fn drop_useless_wish(&mut self, now: Mono, read: &Assessment<'_>, waits: &Waits) -> bool {
        let Some(asking) = &self.volatile.asking else { return false };
        let is_noted = asking.is_noted();
        let still_fails = read.failed().any(|failed| failed.id == asking.wish.id);
        let is_wished = match waits {
            Waits::Nothing => false,
            Waits::Appear => asking.noted.is_some(),
            Waits::Wishes(wishes) => asking.noted.is_some() || wishes.contains(&asking.wish),
        };
        let is_useless = !still_fails || !is_wished;
        if is_useless {
            self.drop_wish();
            self.look_soon(now);
        }
        is_useless && is_noted
    }

    /// Drops a re-run that Testkube was certainly not asked for.
    fn drop_wish(&mut self) {
        if let Some(Asking { wish, noted: Some(_), .. }) = self.volatile.asking.take()
            && let Phase::Watching(watch) = &mut self.durable.phase
        {
            watch.retries.forget(&wish.id);
        }
        self.volatile.is_queued = false;
    }

    /// Begins to ask for the first of these re-runs, unless another one is being asked for.
    pub(super) fn wish(&mut self, cx: &mut Cx<'_>, wishes: Vec<Wish>) {
        cx.log.may_repeat(wishes.iter().map(|wish| wish.id.as_str()));
        if self.volatile.asking.is_none() {
            self.volatile.asking = wishes.into_iter().next().map(|wish| Asking {
                wish: Rc::new(wish),
                noted: None,
                failures: 0,
                failing_since: Mono(0),
                next: Mono(0),
            });
        }
    }

    /// Does the next thing for the re-run that is being asked for. Returns whether there is one.
    pub(super) fn ask_for_rerun(&mut self, cx: &Cx<'_>, fx: &mut Effects) -> bool {
        let now = cx.now.mono;
        if self.volatile.last_reading.is_some() && self.volatile.asking.is_some() {
            // It is too late to matter.
            self.drop_wish();
        }
        let Some(asking) = self.volatile.asking.clone() else { return false };
        if now < asking.next || self.volatile.is_queued {
            return true;
        }
        let testkube = &cx.config.testkube;
        match asking.noted {
            None => {
                let request = testkube::get_execution(testkube, &asking.wish.id);
                self.call_for_rerun(cx, fx, Asked::Failure, request);
            }
            Some(_) if self.are_retries_stored(cx.config) => {
                let request = rerun_execution(testkube, &asking.wish.id);
                self.call_for_rerun(cx, fx, Asked::Rerun, request);
            }
            Some(noted) if now < noted.plus(STORED) => self.put_off(noted.plus(STORED)),
            Some(_) => self.give_up_asking(true, NOT_STORED.into()),
        }
        true
    }

    fn call_for_rerun(&mut self, cx: &Cx<'_>, fx: &mut Effects, asked: Asked, request: Request) {
        match (cx.space)(Room::Rerun, &self.durable.callback) {
            Space::Free => {
                self.volatile.waiting = Some(Waiting { id: cx.call, asked });
                fx.call = Some(Call { id: cx.call, room: Room::Rerun, request, report: None });
            }
            Space::Full => self.queue(fx, Room::Rerun),
            Space::Quiet(until) => self.volatile.held_until = until,
        }
    }

    /// Whether each re-run is noted in the cluster store, so that no process that adopts the check asks for it again.
    fn are_retries_stored(&self, config: &Config) -> bool {
        let written = self.durable.kept.as_ref().and_then(|kept| kept.written);
        config.store.is_none()
            || written.is_some_and(|written| written.reruns >= self.durable.written().reruns)
    }

    fn put_off(&mut self, until: Mono) {
        if let Some(asking) = &mut self.volatile.asking {
            asking.next = until;
        }
    }

    /// Asks no more. What is known stands in the record.
    fn give_up_asking(&mut self, is_refused: bool, why: String) {
        if let Some(asking) = self.volatile.asking.take()
            && let Phase::Watching(watch) = &mut self.durable.phase
        {
            let Wish { id, from, .. } = &*asking.wish;
            if asking.noted.is_none() {
                watch.retries.note(id, *from);
            }
            watch.retries.explain(id, is_refused, why);
        }
        self.volatile.poll = Mono(0);
    }

    /// Notes that Testkube has started nothing: it is asked again later, for some time in which it answers otherwise.
    fn not_taken(&mut self, cx: &Cx<'_>, fx: &mut Effects, fault: &Fault) {
        let answers = self.volatile.good_reading.is_some();
        let Some(asking) = &mut self.volatile.asking else { return };
        if asking.failures == 0 {
            asking.failing_since = cx.now.mono;
        }
        let is_over = answers && cx.now.mono.since(asking.failing_since) >= APPEARS;
        let (id, name) = (self.key.id(), &asking.wish.name);
        fx.count(Counter::TestkubeFault);
        fx.say(Level::Warn, format!("check {id}: the re-run of {name} could not be asked for yet: {fault}"));
        match is_over {
            true => self.give_up_asking(true, fault.to_string()),
            false => {
                asking.failures = asking.failures.saturating_add(1);
                asking.next = cx.now.mono.plus(backoff::delay(asking.failures, FIRST_PAUSE, MAX_PAUSE));
            }
        }
    }

    /// Notes that a call for a re-run was not made after all, because another context leads: it begins anew.
    pub(super) fn rerun_not_asked(&mut self) {
        self.drop_wish();
    }

    /// Takes the second look at a failure. If it still stands, its re-run is noted.
    pub(super) fn failure_confirmed(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, outcome: &CallOutcome) {
        let (Some(asking), Some(ask)) = (&mut self.volatile.asking, &self.durable.ask) else { return };
        let wish = asking.wish.clone();
        match looked_at(outcome) {
            Ok(found) if found.is_still(&wish.id, &Status::Failed, &ask.tag) => {
                cx.log.looked_at(&found, cx.now);
                let Phase::Watching(watch) = &mut self.durable.phase else { return };
                if watch.retries.has(&wish.id) {
                    // Another context asks.
                    self.volatile.asking = None;
                    return;
                }
                watch.retries.note(&wish.id, wish.from);
                (asking.noted, asking.failures) = (Some(cx.now.mono), 0);
                self.volatile.looked = Observed::default();
                cx.log.asks_for(&wish.id);
                let (id, name) = (self.key.id(), &wish.name);
                fx.say(
                    Level::Info,
                    format!("check {id}: {name} is to run again in Testkube (Testrelay-Retry)"),
                );
            }
            // The next reading shows what it is now.
            Ok(_) | Err(Fault::Status(404)) => {
                self.volatile.asking = None;
                self.poll_later(cx);
            }
            Err(fault) => self.not_taken(cx, fx, &fault),
        }
    }

    /// Takes Testkube's answer to a re-run.
    pub(super) fn rerun_answered(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, outcome: &CallOutcome) {
        let Some(asking) = &self.volatile.asking else { return };
        let (id, wish) = (self.key.id(), asking.wish.clone());
        let name = &wish.name;
        self.volatile.asked = cx.now.mono;
        match rerun_answer(outcome) {
            Rerun::NotTaken(fault) => return self.not_taken(cx, fx, &fault),
            Rerun::Taken => {
                fx.count(Counter::Rerun);
                self.volatile.asking = None;
            }
            Rerun::Refused(why) => {
                fx.say(Level::Warn, format!("check {id}: Testkube does not run {name} again: {why}"));
                self.give_up_asking(true, why);
            }
            Rerun::Unknown(fault) => {
                fx.count(Counter::TestkubeFault);
                fx.say(
                    Level::Warn,
                    format!("check {id}: no clear answer to the re-run of {name} ({fault}): Testrelay looks for the re-run and does not ask again"),
                );
                self.give_up_asking(false, fault.to_string());
            }
        }
        self.look_soon(cx.now.mono);
    }

    /// Shows soon what has become of a re-run.
    fn look_soon(&mut self, now: Mono) {
        self.volatile.poll = self.volatile.poll.min(now.plus(FIRST_PAUSE)).max(now);
    }
}

/// The execution in an answer for a single one.
pub(super) fn looked_at(outcome: &CallOutcome) -> Result<Execution, Fault> {
    match outcome {
        CallOutcome::Failed(fault) => Err(fault.clone()),
        CallOutcome::Response(response) => {
            testkube::single(response).map_err(|fault| testkube::said(fault, response))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_changes_only_rises_so_that_each_is_stored() {
        let mut retries = Retries::default();
        let mut seen = vec![retries.changes()];
        let steps: [fn(&mut Retries); 6] = [
            |r| r.note("a", 0),
            |r| r.explain("a", true, "no".into()),
            |r| r.note("b", short("a")),
            |r| r.forget("b"),
            |r| r.note("c", 0),
            |r| r.forget("a"),
        ];
        for step in steps {
            step(&mut retries);
            seen.push(retries.changes());
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }
}
