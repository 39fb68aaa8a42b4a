//! A second, independent judgement of what a check may conclude from what it was shown; each step is compared with it.

use crate::check::{Decided, Done, Outcome, Pending, Phase, Policies, Reporting};
use crate::expect::Expect;
use crate::time::Mono;
use crate::wire::call::CallOutcome;
use crate::wire::testkube::{self, Execution, Status};
use std::collections::BTreeMap;
use std::time::Duration;

/// The configuration's `clock_skew`.
const SKEW: Duration = Duration::from_secs(30);

/// Id, workflow, status, and whether it has ended.
type Member = (String, String, Status, bool);

/// The counted executions of a complete reading.
struct Shown {
    at: Mono,
    counted: Vec<Member>,
}

/// A TaskCompleted whose answer has not come yet.
struct Event {
    began: Mono,
    send: u64,
    until: Mono,
}

#[derive(Default)]
pub(super) struct Oracle {
    /// Complete readings of this evaluation by this leader, since the last incomplete one.
    shown: Vec<Shown>,
    /// The counted executions of the last complete reading of any leader, and since when they were the same.
    same: Option<(Vec<Member>, Mono)>,
    /// Executions whose second look showed that they passed, and when they were asked for.
    looked_at: Vec<(String, Mono)>,
    events: Vec<Event>,
    /// The executions of this evaluation for which Testkube was asked for a re-run, and may have taken it.
    pub(super) reruns: Vec<String>,
    /// Whether it was asked for any.
    pub(super) has_asked: bool,
    /// Evaluations that were rightly decided to have passed.
    pub(super) passed: Vec<Mono>,
    /// Evaluations for which `succeeded` was sent.
    succeeded: Vec<Mono>,
}

impl Oracle {
    /// Another leader or another evaluation begins.
    pub(super) fn forget(&mut self) {
        self.shown.clear();
        self.looked_at.clear();
    }

    pub(super) fn unread(&mut self) {
        self.shown.clear();
    }

    pub(super) fn read(&mut self, at: Mono, pending: &Pending, executions: &[Execution]) {
        let (Phase::Watching(watch), Some(ask)) = (&pending.phase, &pending.ask) else { return };
        let oldest = ask.policies.max_age.map(|age| pending.accepted.wall.minus(age).minus(SKEW));
        let is_own = |e: &Execution| e.tags.get(&ask.tag.key) == Some(&ask.tag.value);
        let is_young =
            |e: &Execution| e.scheduled >= watch.bound && oldest.is_none_or(|at| e.scheduled >= at);
        let is_repeated = |e: &Execution| {
            let own = &e.actor.reference;
            executions.iter().any(|by| {
                let is_later = !own.is_empty() && by.actor.reference == *own && by.scheduled > e.scheduled;
                is_own(by) && is_young(by) && (by.actor.reference == e.id || is_later)
            })
        };
        // Of a stage in which only some jobs ran again; no test has two executions of a workflow in one attempt.
        let is_of_before = |e: &Execution| {
            let is_earlier = |e: &Execution| watch.attempt.is_some_and(|newest| e.scheduled < newest);
            let is_later = |by: &Execution| is_own(by) && by.workflow == e.workflow && !is_earlier(by);
            is_earlier(e) && e.ended && e.status != Status::Passed && executions.iter().any(is_later)
        };
        let counts = |e: &&Execution| is_own(e) && is_young(e) && !is_repeated(e) && !is_of_before(e);
        let mut counted: Vec<_> = executions
            .iter()
            .filter(counts)
            .map(|e| (e.id.clone(), e.workflow.clone(), e.status.clone(), e.finished.is_some()))
            .collect();
        counted.sort_by(|a, b| a.0.cmp(&b.0));
        if self.same.as_ref().is_none_or(|(same, _)| *same != counted) {
            self.same = Some((counted.clone(), at));
        }
        self.shown.push(Shown { at, counted });
    }

    pub(super) fn looked_at(&mut self, id: &str, began: Mono, outcome: &CallOutcome) {
        if let CallOutcome::Response(response) = outcome
            && let Ok(execution) = testkube::single(response)
            && execution.id == id
            && execution.status == Status::Passed
        {
            self.looked_at.push((id.into(), began));
        }
    }

    /// Compares a step that was made and stored.
    pub(super) fn stepped(&mut self, now: Mono, before: &Pending, after: &Pending, done: Option<&Done>) {
        let passes = |pending: &Pending| pending.decided().is_some_and(|d| d.outcome == Outcome::Passed);
        if passes(after) && !(passes(before) && before.began == after.began) {
            match after.known.as_ref().filter(|known| known.outcome == Outcome::Passed) {
                Some(_) => assert!(!self.passed.is_empty(), "it repeats what was never decided"),
                None => self.may_pass(now, after),
            }
            self.passed.push(after.began);
        }
        let fails = |pending: &Pending| pending.decided().is_some_and(|d| d.outcome == Outcome::Failed);
        if fails(after) && before.decided().is_none() && after.known.is_none() {
            self.may_fail(now, after);
        }
        if before.decided().is_some() && before.began == after.began && before.tokens.are_proven() {
            let of = |d: Option<&Decided>| d.map(|d| (d.outcome, d.at));
            assert_eq!(of(before.decided()), of(after.decided()), "a decision of a proven check has changed");
        }
        if let Some(done) = done.filter(|done| done.outcome == Some(Outcome::Passed)) {
            assert!(self.passed.contains(&after.began));
            assert!(!done.reported || self.succeeded.contains(&after.began));
        }
    }

    fn may_pass(&self, now: Mono, pending: &Pending) {
        let ask = pending.ask.as_ref().unwrap();
        let last = self.shown.last().expect("it has passed without a reading");
        assert!(!last.counted.is_empty(), "it has passed without an execution");
        let mut have: BTreeMap<&str, u32> = BTreeMap::new();
        let is_optional = |workflow: &str| ask.policies.optional.iter().any(|name| *name == *workflow);
        for (id, workflow, status, ended) in &last.counted {
            assert!(*ended, "{id} is {status}");
            if is_optional(workflow) {
                continue;
            }
            assert!(*status == Status::Passed, "{id} is {status}");
            let is_confirmed = self.looked_at.iter().any(|(looked, began)| looked == id && *began >= last.at);
            assert!(is_confirmed, "{id} was not looked at after the reading");
            *have.entry(workflow).or_default() += 1;
        }
        match &ask.expect {
            Expect::Any => assert!(!have.is_empty(), "all that passed was optional"),
            Expect::Number(number) => assert!(have.values().sum::<u32>() >= *number),
            Expect::Names(names) => {
                assert!(names.iter().all(|(name, n)| have.get(name.as_str()).is_some_and(|m| m >= n)));
            }
        }
        let mut seen = Duration::ZERO;
        for pair in self.shown.windows(2).rev() {
            let [earlier, later] = pair else { break };
            let gap = later.at.since(earlier.at);
            let interval = (later.at.since(pending.accepted.mono).as_secs_f64() / 15.0).clamp(2.0, 20.0);
            if earlier.counted != last.counted || gap.as_secs_f64() > (2.0 * interval).max(30.0) {
                break;
            }
            seen += gap;
        }
        assert!(seen >= ask.settle, "seen for {seen:?} of {:?}, at {}", ask.settle, now.0);
    }

    /// Notes that Testkube is asked to run an execution again.
    pub(super) fn asks_for(&mut self, id: &str, is_taken: bool, pending: &Pending) {
        let retry = pending.ask.as_ref().unwrap().policies.retry;
        assert!(retry > 0 && pending.decided().is_none(), "{id} is run again without a wish");
        assert!(!self.reruns.iter().any(|asked| asked == id), "{id} is run again twice");
        let (counted, _) = self.same.as_ref().expect("a re-run without a reading");
        let failed =
            counted.iter().any(|(of, _, status, ended)| of == id && *ended && *status == Status::Failed);
        assert!(failed, "{id} has not failed, or does not count");
        if is_taken {
            self.reruns.push(id.into());
        }
        self.has_asked = true;
        assert!(self.reruns.len() <= 10);
    }

    /// Of a failure that waits for a re-run: nothing has changed for that long, or a deadline has passed.
    fn may_fail(&self, now: Mono, pending: &Pending) {
        let Policies { grace, retry, optional, .. } = &pending.ask.as_ref().unwrap().policies;
        let (grace, last) = (*grace, self.shown.last().expect("it has failed without a reading"));
        let failed = last
            .counted
            .iter()
            .filter(|(_, workflow, status, _)| *status != Status::Passed && !optional.contains(workflow));
        // Each could be run again, and Testkube was not asked to.
        let is_open = |(id, _, status, _): &Member| *status == Status::Failed && !self.reruns.contains(id);
        let is_few = failed.clone().count() <= 10;
        let may_ask = *retry > 0 && !pending.observe && !self.has_asked;
        let is_early = may_ask && is_few && failed.clone().all(is_open);
        assert!(!is_early || now >= pending.deadline().at, "it has failed without a re-run");
        let Some((_, since)) = &self.same else { panic!("it has failed without a reading") };
        let waited = now.since(*since);
        assert!(waited >= grace || now >= pending.deadline().at, "failed after {waited:?} of {grace:?}");
    }

    /// Notes that a TaskCompleted is sent whose answer may come until then.
    pub(super) fn sends(
        &mut self,
        now: Mono,
        until: Mono,
        reporting: &Reporting,
        pending: &Pending,
        passes: bool,
    ) {
        let other = self.events.iter().find(|e| e.began == reporting.began && now < e.until);
        assert!(other.is_none(), "two events are under way, at {}", now.0);
        let decided = pending.decided().expect("an event without a decision");
        assert_eq!(passes, pending.observe || decided.outcome == Outcome::Passed);
        assert!(!decided.outcome.is_silent());
        if passes && !pending.observe {
            assert!(self.passed.contains(&pending.began));
            self.succeeded.push(pending.began);
        }
        self.events.push(Event { began: reporting.began, send: reporting.send, until });
    }

    /// Notes that its answer has come.
    pub(super) fn heard(&mut self, reporting: &Reporting) {
        self.events.retain(|e| (e.began, e.send) != (reporting.began, reporting.send));
    }
}
