//! What must be true at the end of a history: a small model beside the module, on the fake servers' own truth.

use crate::pipeline::Pipeline;
use crate::stream::{Answer, By};
use crate::world::World;
use fakes::{Status, testkube::Truth};
use std::collections::BTreeMap;

/// A check that a history has delivered.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Whose.
    pub pipeline: Pipeline,
    /// What it expects, as the request says it.
    pub expect: String,
    /// Whether it can be evaluated at all.
    pub is_good: bool,
    /// When Azure DevOps began to wait for the newest delivery that was answered 200; none was, if there is none.
    pub owed_since: Option<i64>,
    /// Azure DevOps gave the run up by itself.
    pub is_over: bool,
    /// Executions scheduled before this moment do not count, whichever bound the module could read.
    pub bound: i64,
}

impl Delivered {
    /// Notes the answer to a delivery that Azure DevOps has waited for since `at`.
    pub fn answered(&mut self, answer: &Answer, at: i64) {
        if answer.status == 200 && answer.by == By::Module {
            self.owed_since = Some(at);
        }
    }
}

/// Whether every check that was answered 200 has its decision.
pub fn all_decided(world: &World, checks: &[Delivered]) -> bool {
    checks.iter().all(|check| undecided(world, check).is_none())
}

/// Judges rules 1 and 3. `stalled`: threads stalled in this history, so a decision may rest on an older reading.
pub fn judge(world: &mut World, checks: &[Delivered], stalled: bool) -> (u64, u64) {
    let (mut owed, mut succeeded) = (0, 0);
    for check in checks {
        owed += u64::from(check.owed_since.is_some());
        if let Some(text) = undecided(world, check) {
            world.violation("1", text);
        }
        for event in world.azure(|azure| azure.events(&check.pipeline.spec().plan)) {
            if event.result.as_deref() != Some("succeeded") {
                continue;
            }
            succeeded += 1;
            if let Err(why) = passed(world, check, event.at, stalled) {
                let text = format!("run {} succeeded, but {why}", check.pipeline.n);
                world.violation("3", text);
            }
        }
    }
    (owed, succeeded)
}

fn undecided(world: &World, check: &Delivered) -> Option<String> {
    let since = check.owed_since.filter(|_| !check.is_over)?;
    let events = world.azure(|azure| azure.events(&check.pipeline.spec().plan));
    let decided = events.iter().any(|event| event.accepted && event.at >= since);
    (!decided).then(|| {
        format!("run {} was answered 200 at {since} and has no TaskCompleted: {events:?}", check.pipeline.n)
    })
}

/// Rule 3: at the reading that the decision rests on, the counted set had ended passed.
fn passed(world: &World, check: &Delivered, decided_at: i64, stalled: bool) -> Result<(), String> {
    if !check.is_good {
        return Err("it cannot be evaluated".into());
    }
    let tag = &check.pipeline.tag;
    let mut readings: Vec<i64> = world.testkube(|testkube| {
        let read = testkube.requests().iter().filter(|recorded| {
            recorded.at <= decided_at && recorded.status == Some(200) && names(&recorded.request.target, tag)
        });
        read.map(|recorded| recorded.at).collect()
    });
    readings.reverse();
    readings.truncate(if stalled { 60 } else { 1 });
    let mut judged = readings.into_iter().map(|at| counted_set_passed(world, check, at));
    let newest = judged.next().unwrap_or_else(|| Err("its tag was never read".into()));
    if newest.is_ok() || judged.any(|older| older.is_ok()) { Ok(()) } else { newest }
}

fn counted_set_passed(world: &World, check: &Delivered, at: i64) -> Result<(), String> {
    let counted = counted(world, check, at);
    if let Some(other) = counted.iter().find(|execution| execution.status != Status::Passed) {
        return Err(format!("{} was {} at {at}", other.name, other.status.as_str()));
    }
    let mut have: BTreeMap<&str, usize> = BTreeMap::new();
    for execution in &counted {
        *have.entry(&execution.workflow).or_default() += 1;
    }
    let (enough, settle) = match check.expect.trim() {
        "" => (!counted.is_empty(), 60_000),
        text => match text.parse::<usize>() {
            Ok(number) => (counted.len() >= number, 15_000),
            Err(_) => (text.split(',').all(|name| have.get(name.trim()).is_some_and(|n| *n > 0)), 0),
        },
    };
    if !enough {
        return Err(format!("`{}` was not there at {at}: {have:?}", check.expect));
    }
    let ids = |set: &[Truth]| set.iter().map(|execution| execution.id.clone()).collect::<Vec<_>>();
    let before = self::counted(world, check, at - settle);
    if settle > 0 && ids(&before) != ids(&counted) {
        return Err(format!("the counted set changed in the {settle} ms before {at}"));
    }
    Ok(())
}

/// DESIGN section 4: the tag, the bound, no children, and none that a re-run replaced.
fn counted(world: &World, check: &Delivered, at: i64) -> Vec<Truth> {
    let all = world.testkube(|testkube| testkube.truth("ado-run", &check.pipeline.tag, at));
    let own: Vec<Truth> = all
        .into_iter()
        .filter(|execution| execution.scheduled_at >= check.bound && execution.actor.kind != "testworkflow")
        .collect();
    let replaced = |old: &Truth| {
        own.iter().any(|new| {
            let says_so = new.actor.execution_reference.as_deref() == Some(&old.id);
            let same_resource = new.actor.kind == "testworkflowexecution"
                && old.actor.kind == "testworkflowexecution"
                && new.actor.name == old.actor.name;
            let is_later = (new.scheduled_at, new.number) > (old.scheduled_at, old.number);
            is_later && new.workflow == old.workflow && (says_so || same_resource)
        })
    };
    own.iter().filter(|execution| !replaced(execution)).cloned().collect()
}

/// Whether a list request asks for this value of the tag.
fn names(target: &str, value: &str) -> bool {
    let wanted = format!("%3D{value}");
    target.match_indices(&wanted).any(|(at, _)| {
        let rest = target.get(at + wanted.len()..).unwrap_or_default();
        rest.is_empty() || rest.starts_with("%2C") || rest.starts_with('&')
    })
}
