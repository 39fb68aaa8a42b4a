//! `Testrelay-Retry`: Testrelay has Testkube run a failed execution again.
//!
//! A re-run is noted in the record, and stored, before Testkube is asked for it. What is noted is never asked for again,
//! because nobody knows whether an earlier leader has asked: readings show whether Testkube has taken it. Only the context that
//! has noted it asks, and again if the answer says that nothing was started.

use super::answers::{Asked, Waiting};
use super::observed::Observed;
use super::verdict::{Assessment, short};
use super::{Ask, Call, Check, Counter, Cx, Effects, Phase, Room, Space, Watch, is_default};
use crate::backoff;
use crate::config::Config;
use crate::text::{listed, one_line};
use crate::time::Mono;
use crate::wire::call::CallOutcome;
use crate::wire::testkube::{Execution, Rerun, Status, rerun_answer, rerun_execution};
use log::Level;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Maximum re-runs that are asked for one check.
pub(crate) const MAX_RERUNS: usize = 10;

/// How long a re-run may take to appear in Testkube's lists, counted while Testkube answers.
pub(crate) const APPEARS: Duration = Duration::from_secs(120);

/// First and maximum pause before a re-run is asked for again, if nothing was started.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long a re-run waits until it is stored in the cluster store. After that it is not asked for.
const STORED: Duration = Duration::from_secs(60);

const NOT_STORED: &str = "the API server has not stored that it is asked for, so Testkube was not asked";

/// The re-runs of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Oldest first.
    tries: Vec<Try>,
    /// For how long the last of them has been looked for, while Testkube answered.
    #[serde(default, skip_serializing_if = "is_default")]
    looked: Duration,
}

/// A re-run that Testkube was, or may have been, asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Try {
    /// [`short`] of the execution to repeat.
    of: u32,
    /// Testkube's words, if it does not repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What was tried for one execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Number of re-runs asked for, of it and of those that it repeats.
    pub reruns: usize,
    /// Whether Testkube was asked to repeat it.
    pub is_asked: bool,
    /// Testkube's words, if it does not.
    pub refused: Option<String>,
}

impl Tried {
    /// Which re-run it is itself; 0: none that was asked for.
    pub fn number(&self) -> usize {
        self.reruns.saturating_sub(usize::from(self.is_asked))
    }

    /// Whether it is to be seen whether Testkube repeats it.
    pub fn is_awaited(&self) -> bool {
        self.is_asked && self.refused.is_none()
    }
}

/// An execution whose re-run is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    id: String,
    pub(super) name: String,
}

/// The re-runs that are noted, and that this context still has to ask for.
#[derive(Clone, Default)]
pub(super) struct Wishes {
    /// The first is asked for first, or is being asked for.
    all: VecDeque<Wish>,
    /// When they were noted.
    noted: Mono,
    failures: u32,
    /// What this context has counted of [`Retries::looked`].
    looked: Observed,
}

impl Wishes {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Retries {
    /// Number of re-runs.
    pub(super) fn count(&self) -> usize {
        self.tries.len()
    }

    /// Notes a re-run, and Testkube's words if it is refused.
    pub(super) fn note(&mut self, id: &str, refused: Option<&str>) {
        self.tries.push(Try { of: short(id), refused: refused.map(Into::into) });
        self.looked = Duration::ZERO;
    }

    /// Notes that an execution is not run again.
    fn refuse(&mut self, id: &str, why: String) {
        let of = short(id);
        if let Some(one) = self.tries.iter_mut().rfind(|one| one.of == of) {
            one.refused = Some(why);
        }
    }

    /// What was tried for an execution; `chain` are [`short`] of it and of all that it repeats.
    pub(super) fn tried(&self, own: u32, chain: &[u32]) -> Tried {
        let own = self.tries.iter().rfind(|one| one.of == own);
        Tried {
            reruns: self.tries.iter().filter(|one| chain.contains(&one.of)).count(),
            is_asked: own.is_some(),
            refused: own.and_then(|own| own.refused.clone()),
        }
    }
}

/// What a reading's failures wait for, before they decide.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// For nothing.
    Nothing,
    /// For re-runs that were asked for.
    Appear,
    /// For re-runs to ask for.
    Wishes(Vec<Wish>),
}

/// What a reading's failures wait for; `looked` is how long the last re-run has been looked for. If one of them is final, the
/// check fails in any case, so none is run again.
pub(super) fn waits(ask: &Ask, watch: &Watch, read: &Assessment<'_>, looked: Duration) -> Waits {
    let most = usize::try_from(ask.policies.retry).unwrap_or_default();
    if most == 0 {
        return Waits::Nothing;
    }
    let mut room = MAX_RERUNS.saturating_sub(watch.retries.count());
    let (mut wishes, mut waits) = (Vec::new(), Waits::Nothing);
    for execution in read.failed() {
        let tried = read.tried(execution);
        if tried.is_awaited() && looked < APPEARS {
            waits = Waits::Appear;
        } else if !tried.is_asked && tried.reruns < most && is_failure(execution) && room > 0 {
            room -= 1;
            wishes.push(Wish { id: execution.id.clone(), name: one_line(&execution.name, 80) });
        } else if ask.policies.grace.is_zero() {
            return Waits::Nothing;
        }
    }
    if wishes.is_empty() { waits } else { Waits::Wishes(wishes) }
}

/// Whether it failed. What somebody has stopped is not started again.
fn is_failure(execution: &Execution) -> bool {
    execution.status == Status::Failed
}

/// What became of re-runs that did not help, as sentences after a space.
pub(super) fn in_vain(read: &Assessment<'_>) -> String {
    let (mut refused, mut absent) = (Vec::new(), Vec::new());
    for execution in read.failed() {
        let (tried, name) = (read.tried(execution), one_line(&execution.name, 80));
        match &tried.refused {
            Some(why) => refused.push(format!("{name} ({why})")),
            None if tried.is_asked => absent.push(name),
            None => {}
        }
    }
    let mut text = String::new();
    if !refused.is_empty() {
        text = format!(" Testkube does not run again: {}.", listed(refused, 3));
    }
    if !absent.is_empty() {
        let names = listed(absent, 5);
        text += &format!(" Testkube was asked for a re-run, and none has appeared: {names}.");
    }
    text
}

impl Check {
    /// Adds to the time for which re-runs have been looked for while Testkube answered, and returns it.
    pub(super) fn note_look(&mut self, read: &Assessment<'_>, elapsed: Duration) -> Duration {
        match &mut self.durable.phase {
            Phase::Watching(watch)
                if read.failed().any(|e| read.tried(e).is_awaited()) && self.volatile.wishes.is_empty() =>
            {
                self.volatile.wishes.looked.add(&mut watch.retries.looked, elapsed)
            }
            _ => Duration::ZERO,
        }
    }

    /// Notes re-runs, which are asked for once the record is stored.
    pub(super) fn wish(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, wishes: Vec<Wish>) {
        let Phase::Watching(watch) = &mut self.durable.phase else { return };
        if !self.volatile.wishes.is_empty() {
            return;
        }
        for wish in &wishes {
            watch.retries.note(&wish.id, None);
            cx.log.asks_for(&wish.id);
        }
        let names = listed(wishes.iter().map(|wish| wish.name.clone()), MAX_RERUNS);
        fx.say(
            Level::Info,
            format!("check {}: asks Testkube to run again: {names} (Testrelay-Retry)", self.key.id()),
        );
        self.volatile.wishes = Wishes { all: wishes.into(), noted: cx.now.mono, ..Wishes::default() };
        self.volatile.next = Mono(0);
    }

    /// Asks Testkube for the next re-run that is noted. Returns whether one is still to be asked for.
    pub(super) fn ask_for_rerun(&mut self, cx: &Cx<'_>, fx: &mut Effects) -> bool {
        let now = cx.now.mono;
        // Too late to matter.
        if self.volatile.last_reading.is_some() {
            self.volatile.wishes = Wishes::default();
        }
        let Some(wish) = self.volatile.wishes.all.front() else { return false };
        if now < self.volatile.next {
            return true;
        }
        if !self.are_retries_stored(cx.config) {
            let until = self.volatile.wishes.noted.plus(STORED);
            if now < until {
                self.volatile.next = until;
            } else {
                self.give_up_wishes();
            }
            return true;
        }
        let request = rerun_execution(&cx.config.testkube, &wish.id);
        match (cx.space)(Room::Rerun, &self.durable.callback) {
            Space::Free => {
                self.volatile.waiting = Some(Waiting { id: cx.call, asked: Asked::Rerun });
                fx.call = Some(Call { id: cx.call, room: Room::Rerun, request, report: None });
            }
            Space::Full => self.queue(fx, Room::Rerun),
            Space::Quiet(until) => self.volatile.held_until = until,
        }
        true
    }

    /// Whether each re-run is noted in the cluster store, so that no process that adopts the check asks for it again.
    fn are_retries_stored(&self, config: &Config) -> bool {
        let written = self.durable.kept.as_ref().and_then(|kept| kept.written);
        config.store.is_none()
            || written.is_some_and(|written| written.reruns >= self.durable.written().reruns)
    }

    /// Asks for none of the re-runs that are left.
    fn give_up_wishes(&mut self) {
        let Phase::Watching(watch) = &mut self.durable.phase else { return };
        for wish in std::mem::take(&mut self.volatile.wishes).all {
            watch.retries.refuse(&wish.id, NOT_STORED.into());
        }
        self.volatile.poll = Mono(0);
    }

    /// Notes that a re-run was not asked for after all.
    pub(super) fn rerun_not_asked(&mut self, now: Mono) {
        let wishes = &mut self.volatile.wishes;
        wishes.failures = wishes.failures.saturating_add(1);
        self.volatile.next = now.plus(backoff::delay(wishes.failures, FIRST_PAUSE, MAX_PAUSE));
    }

    /// Takes Testkube's answer to a re-run.
    pub(super) fn rerun_answered(&mut self, cx: &mut Cx<'_>, fx: &mut Effects, outcome: &CallOutcome) {
        let (id, now) = (self.key.id(), cx.now.mono);
        let answer = rerun_answer(outcome);
        let Some(name) = self.volatile.wishes.all.front().map(|wish| wish.name.clone()) else { return };
        if let Rerun::NotTaken(fault) = answer {
            fx.count(Counter::TestkubeFault);
            fx.say(Level::Warn, format!("check {id}: Testkube did not take the re-run of {name}: {fault}"));
            return self.rerun_not_asked(now);
        }
        let Some(wish) = self.volatile.wishes.all.pop_front() else { return };
        (self.volatile.wishes.failures, self.volatile.next) = (0, Mono(0));
        match answer {
            Rerun::Taken => fx.count(Counter::Rerun),
            Rerun::Refused(why) => {
                let line = format!("check {id}: Testkube does not run {name} again: {why}");
                fx.say(Level::Warn, line);
                if let Phase::Watching(watch) = &mut self.durable.phase {
                    watch.retries.refuse(&wish.id, why);
                }
            }
            Rerun::Unknown(fault) => {
                fx.count(Counter::TestkubeFault);
                fx.say(
                    Level::Warn,
                    format!("check {id}: whether Testkube runs {name} again is unknown ({fault}): it is looked for, and not asked for again"),
                );
            }
            Rerun::NotTaken(_) => {}
        }
        // Shows what has become of it.
        self.volatile.poll = self.volatile.poll.min(now.plus(FIRST_PAUSE));
    }
}
