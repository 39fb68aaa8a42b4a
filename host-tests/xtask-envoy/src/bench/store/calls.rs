//! What the API server is asked: by replicas without checks, and for a check in its life.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::scale::crowd;
use bench::scale::report::Line;
use bench::targets::Bound;
use host_tests::scene::now_ms;
use host_tests::{Envoy, wait_until};

use super::stage::{Alone, Stage, calls};
use crate::chaos::objects;
use crate::chaos::replicas::Replicas;
use crate::chaos::script::REPLICAS;

/// From its acceptance to the end of a check's execution.
const ENDS: i64 = 15_000;
/// Until all of them are decided.
const DECIDED: Duration = Duration::from_secs(120);
/// Ten minutes after its end a check's Secret is deleted.
const DELETED: Duration = Duration::from_secs(720);
/// Until a replica that has just begun has a Lease and has looked for predecessors and their checks.
const SETTLED: Duration = Duration::from_secs(10);

/// Checks that live, and two Envoys: one has them, the other has none and shows what a replica asks in any case.
pub(super) struct Life {
    has: Alone,
    none: Alone,
    /// Calls of both before the first check.
    before: [u64; 2],
    checks: usize,
    plans: Vec<String>,
}

impl Life {
    /// Begins them all, and waits until each is decided.
    pub(super) fn begin(stage: &Stage<'_>, checks: usize) -> Result<Life> {
        let (has, none) = (stage.alone(true)?, stage.alone(true)?);
        for alone in [&has, &none] {
            wait_until("a Lease", DECIDED, || alone.calls().is_ok_and(|calls| calls > 2))?;
        }
        sleep(SETTLED);
        let before = [has.calls()?, none.calls()?];
        let mut plans = Vec::new();
        for _ in 0..checks {
            let run = stage.pipeline(Some(now_ms() + ENDS))?;
            let answer = run.check(crowd::WORKFLOW).send(has.envoy.address())?;
            ensure!(answer.status == 200, "a check was answered {}: {}", answer.status, answer.text());
            plans.push(run.spec.plan);
        }
        wait_until("all decisions", DECIDED, || stage.decided(&plans).is_some())?;
        Ok(Life { has, none, before, checks, plans })
    }

    /// Waits until all Secrets are deleted; the calls of a check.
    pub(super) fn end(self, stage: &Stage<'_>) -> Result<Line> {
        ensure!(stage.decided(&self.plans).is_some(), "a decision is gone");
        let administrator = stage.server.administrator()?;
        let namespace = &self.has.account.namespace;
        wait_until("the deletion of all Secrets", DELETED, || {
            // Not asked more often than is needed: a list costs the API server more than all else.
            sleep(Duration::from_secs(2));
            objects::secrets(&administrator, namespace).is_ok_and(|secrets| secrets.is_empty())
        })?;
        let [own, idle] = [&self.has, &self.none].map(Alone::calls);
        let (own, idle) = (own? - self.before[0], idle? - self.before[1]);
        let of_check = (own as f64 - idle as f64) / self.checks as f64;
        self.has.envoy.stop()?;
        self.none.envoy.stop()?;
        let note = format!(
            "{} checks: {own} calls, of which a replica without checks makes {idle} in the same time",
            self.checks
        );
        Ok(Line::of("calls to the API server, per check in its life", of_check)
            .promised(Bound::AtMost(6.0))
            .note(note))
    }
}

/// What three replicas ask that have no check.
pub(super) fn idle(replicas: &Replicas<'_>, window: Duration) -> Result<Line> {
    let envoys: Vec<&Envoy> = (0..REPLICAS).filter_map(|place| replicas.envoy(place)).collect();
    // Not by waiting for a call: of the first seconds' calls some are made once only.
    sleep(SETTLED);
    let count = || envoys.iter().map(|envoy| calls(envoy)).collect::<Result<Vec<u64>>>();
    let (began, before) = (Instant::now(), count()?);
    sleep(window);
    let (seconds, after) = (began.elapsed().as_secs_f64(), count()?);
    let rates: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| (after - before) as f64 / seconds).collect();
    let most = rates.iter().copied().max_by(f64::total_cmp).context("no replica")?;
    let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.2}")).collect();
    Ok(Line::of("calls to the API server, idle, a second, per replica", most)
        .promised(Bound::AtMost(1.5))
        .note(format!("the replicas: {}", rates.join(", "))))
}
