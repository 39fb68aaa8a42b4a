//! Replicas that go, each in its way, and how long their checks wait. The executions of its checks end at the moment at which a
//! replica goes: nobody has seen it yet.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::scale::crowd;
use bench::scale::report::Line;
use bench::targets::Bound;
use host_tests::scene::now_ms;
use host_tests::{wait_for, wait_until};
use kubernetes::Client;

use super::Plan;
use super::stage::Stage;
use crate::chaos::objects;
use crate::chaos::replicas::{NAMESPACE, Replicas};
use crate::chaos::script::REPLICAS;

/// How long before that the replica goes.
const BEFORE: i64 = 100;
/// A dead replica's checks have another owner by then, even if nothing is as it should be.
const PATIENCE: Duration = Duration::from_secs(90);
/// From a drain to SIGTERM.
const DRAINED: Duration = Duration::from_secs(6);
/// A replica that has begun knows the others by then, and they know it.
const KNOWN: Duration = Duration::from_secs(5);

struct Row<'a> {
    stage: &'a Stage<'a>,
    replicas: Replicas<'a>,
    administrator: Client,
    /// How many checks the replica has.
    checks: usize,
    /// How old they are when it goes, in milliseconds.
    age: i64,
}

/// A replica and its checks, just before it goes.
struct Leaving {
    place: usize,
    /// Its ids, in the API server.
    ids: Vec<String>,
    plans: Vec<String>,
    ends: i64,
}

/// All rows.
pub(super) fn measure<'a>(stage: &'a Stage<'a>, replicas: Replicas<'a>, plan: &Plan) -> Result<Vec<Line>> {
    let administrator = stage.server.administrator()?;
    let age = i64::try_from(plan.age.as_millis())?;
    let mut row = Row { stage, replicas, administrator, checks: plan.moved, age };
    let mut lines = vec![row.nothing()?];
    lines.extend(row.restart()?);
    lines.extend(row.kill()?);
    lines.extend(row.roll_out(plan.updated)?);
    row.replicas.stop()?;
    Ok(lines)
}

impl Row<'_> {
    /// The replica of a place gets its checks; returns when their executions are about to end.
    fn leaving(&self, place: usize) -> Result<Leaving> {
        let pod = self.replicas.pod(place).context("no pod")?;
        let ids = objects::replicas_of(&self.administrator, pod)?;
        let address = self.replicas.envoy(place).context("no Envoy")?.address();
        let ends = now_ms() + self.age;
        let mut plans = Vec::new();
        for _ in 0..self.checks {
            let run = self.stage.pipeline(Some(ends))?;
            let answer = run.check(crowd::WORKFLOW).send(address)?;
            ensure!(answer.status == 200, "a check was answered {}: {}", answer.status, answer.text());
            plans.push(run.spec.plan);
        }
        let held = || objects::secrets(&self.administrator, NAMESPACE).map(|all| held(&all, &ids));
        ensure!(held()? == self.checks, "{pod} has {} checks of {}", held()?, self.checks);
        let left = u64::try_from(ends - BEFORE - now_ms()).context("the checks came too slowly")?;
        sleep(Duration::from_millis(left));
        Ok(Leaving { place, ids, plans, ends })
    }

    /// Seconds until others have the checks.
    fn moved(&self, leaving: &Leaving, began: Instant) -> Result<f64> {
        wait_for("another owner of all checks", PATIENCE, || {
            let secrets = objects::secrets(&self.administrator, NAMESPACE).ok()?;
            (held(&secrets, &leaving.ids) == 0).then(|| began.elapsed().as_secs_f64())
        })
    }

    /// Seconds until the last of the checks was decided.
    fn waited(&self, leaving: &Leaving) -> Result<f64> {
        let decided = || self.stage.decided(&leaving.plans);
        let decided = wait_for("all decisions", PATIENCE, decided)?;
        let longest = decided.into_iter().max().context("no check")?;
        Ok((longest - leaving.ends) as f64 / 1_000.0)
    }

    fn nothing(&self) -> Result<Line> {
        let longest = self.waited(&self.leaving(0)?)?;
        Ok(Line::of("nothing happens: longest wait from an execution's end, s", longest))
    }

    fn restart(&mut self) -> Result<[Line; 2]> {
        let leaving = self.leaving(0)?;
        self.replicas.kill(leaving.place)?;
        let began = Instant::now();
        self.replicas.start_one(leaving.place, true)?;
        let live = began.elapsed().as_secs_f64();
        let moved = self.moved(&leaving, began)?;
        let longest = self.waited(&leaving)?;
        Ok([
            Line::of("container starts again: its checks go on after, s", moved)
                .promised(Bound::AtMost(3.0))
                .note(format!("from the start of its process, which listened after {live:.1} s")),
            Line::of("    longest wait from an execution's end, s", longest),
        ])
    }

    fn kill(&mut self) -> Result<[Line; 2]> {
        let leaving = self.leaving(1)?;
        self.replicas.kill(leaving.place)?;
        let moved = self.moved(&leaving, Instant::now())?;
        let longest = self.waited(&leaving)?;
        self.replicas.start_one(leaving.place, false)?;
        sleep(KNOWN);
        Ok([
            Line::of("pod gone by SIGKILL: the others have its checks after, s", moved)
                .promised(Bound::AtMost(25.0)),
            Line::of("    longest wait from an execution's end, s", longest),
        ])
    }

    /// One replica after the other.
    fn roll_out(&mut self, replicas: usize) -> Result<[Line; 2]> {
        let (mut moved, mut longest) = (Vec::new(), Vec::new());
        for place in (0..REPLICAS).take(replicas) {
            let leaving = self.leaving(place)?;
            let began = Instant::now();
            self.replicas.drain(place)?;
            moved.push(self.moved(&leaving, began)?);
            longest.push(self.waited(&leaving)?);
            wait_until("the end of preStop", DRAINED * 2, || began.elapsed() >= DRAINED)?;
            self.replicas.end(place)?;
            self.replicas.start_one(place, false)?;
            sleep(KNOWN);
        }
        let line = |what: &str, mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            let all: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
            let most = values.last().copied().unwrap_or(f64::NAN);
            Line::of(what, most).note(format!("the replicas: {}", all.join(", ")))
        };
        Ok([
            line("roll-out with drain: the others have all checks after, s", moved),
            line("roll-out with drain: longest wait from an execution's end, s", longest)
                .promised(Bound::AtMost(3.0)),
        ])
    }
}

/// How many waiting checks are these replicas', or nobody's.
fn held(secrets: &[objects::Kept], ids: &[String]) -> usize {
    let is_held = |kept: &&objects::Kept| kept.owner.is_empty() || ids.contains(&kept.owner);
    secrets.iter().filter(|kept| kept.has_token).filter(is_held).count()
}
