//! What must be true when a history with replicas is over.

use super::{REPLAY, REPLAY_APART, Replicas};
use crate::history::Outcome;
use crate::history::protocol::{Life, Protocol};
use crate::reference::told_at;
use crate::state::MINUTE;
use serde_json::Value;

impl Replicas {
    pub(super) fn end(mut self) -> Outcome {
        self.judge();
        if self.shares {
            self.leaves_nothing();
            self.obeys_the_protocol();
        }
        Outcome {
            seed: self.world.seed(),
            replay: if self.shares { REPLAY } else { REPLAY_APART },
            violations: self.world.violations(),
            counts: self.world.counts(),
            trace: self.world.trace(),
            span: self.world.now(),
        }
    }

    fn judge(&mut self) {
        // After the second fall over the same check its result counts as unknown.
        let (fell, _) = self.world.falls();
        let lost = u64::try_from(self.world.metric_of_all("testrelay_leader_falls")).unwrap_or(0);
        let may_be_unknown = fell.max(lost) >= 2;
        for check in &self.checks {
            let n = check.pipeline.n;
            let events = self.world.azure(|azure| azure.events(&check.pipeline.spec().plan));
            let mut broken = Vec::new();
            if let Some(since) = self.owed_since(check) {
                let text = format!("run {n} was answered 200 and waits since {since}: {events:?}");
                broken.push(("reported", text));
            }
            for event in events.iter().filter(|event| event.name == "TaskCompleted") {
                let is_early = event.at < check.ends && event.result.as_deref() == Some("succeeded");
                let is_right = event.result.as_deref() == Some(check.result);
                let is_unknown = may_be_unknown && event.result.as_deref() == Some("failed");
                if is_early || !(is_right || is_unknown) {
                    broken.push(("verdict", format!("run {n} {}: {event:?}", check.result)));
                }
            }
            let state = &self.world.process.state;
            broken.into_iter().for_each(|(rule, text)| state.borrow_mut().violation(rule, text));
            self.world.process.state.borrow_mut().counts.add("replicas: judged");
        }
    }

    /// What is done is deleted ten minutes later, and a dead replica's Lease once it has no checks.
    fn leaves_nothing(&mut self) {
        self.pass(15 * MINUTE);
        let (secrets, leases) = (self.world.secrets().len(), self.world.leases().len());
        if secrets > 0 || leases != self.living.len() {
            let text = format!("{secrets} Secrets are left, and {leases} Leases of {:?}", self.living);
            self.world.violation("bounds", text);
        }
    }

    /// Every write to a check's Secret, every event and every 200 is one that the protocol has.
    fn obeys_the_protocol(&mut self) {
        let (changes, log) = (self.world.kubernetes(|server| server.changes().to_vec()), self.world.log());
        let protocol = Protocol::of(&changes, &log);
        for check in &self.checks {
            let accepted = check.taken.iter().zip(&check.answered);
            let life = Life {
                secret: check.pipeline.secret_name(),
                id: check.id.clone(),
                accepted: accepted.map(|((process, since), until)| (*process, *since, *until)).collect(),
                events: self.world.azure(|azure| azure.events(&check.pipeline.spec().plan)),
            };
            let mut state = self.world.process.state.borrow_mut();
            match protocol.judge(&life) {
                Ok(writes) => {
                    *state.counts.by_name.entry("replicas: writes judged".into()).or_default() += writes;
                }
                Err(text) => state.violation("protocol", format!("run {}: {text}", check.pipeline.n)),
            }
        }
    }

    /// Whoever is asked, all lists have the same checks, each as it ended.
    pub(super) fn lists_agree(&mut self) {
        let lately = self.world.wall() - 3 * 60_000;
        let lists: Vec<(u32, Option<Value>)> =
            self.living.clone().into_iter().map(|process| (process, self.list(process))).collect();
        for (process, list) in lists {
            let Some(list) = list.filter(|list| list["incomplete"].is_null()) else {
                self.world.violation("lists", format!("process {process} does not list all checks"));
                continue;
            };
            for check in self.checks.iter().filter(|check| !check.is_deleted && !check.taken.is_empty()) {
                let events = self.world.azure(|azure| azure.events(&check.pipeline.spec().plan));
                let is_new = told_at(&events, lately).is_some();
                let shown = list["checks"].as_array().into_iter().flatten();
                let mut shown: Vec<(&Value, Option<&str>)> = shown
                    .filter(|it| it["id"] == *check.id)
                    .map(|it| (&it["state"], it["since"].as_str()))
                    .collect();
                let count = shown.len();
                shown.dedup();
                // Each of its evaluations is listed once.
                let is_done = shown.iter().all(|(state, _)| *state == "done");
                if is_new && !check.id.is_empty() && !(count > 0 && count == shown.len() && is_done) {
                    let text = format!("process {process} lists run {} as {shown:?}", check.pipeline.n);
                    self.world.process.state.borrow_mut().violation("lists", text);
                }
            }
        }
    }
}
