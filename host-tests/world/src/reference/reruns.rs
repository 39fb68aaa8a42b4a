//! What Testkube was asked to run again.

use super::{Delivered, Kind};
use crate::pipeline::Pipeline;
use crate::world::World;
use std::collections::BTreeMap;

/// Maximum re-runs of one evaluation.
const MOST: usize = 10;

/// An execution is run again at most once for each evaluation that wishes for it, whatever falls meanwhile, and only what
/// failed; and a check that has passed says that something was run again. Returns the number of re-runs.
pub(super) fn judge(world: &mut World, checks: &[Delivered]) -> u64 {
    let mut all: Vec<&Pipeline> = checks.iter().map(|check| &check.pipeline).collect();
    all.sort_by(|a, b| a.tag.cmp(&b.tag));
    all.dedup_by(|a, b| a.tag == b.tag);
    let mut total = 0;
    for Pipeline { tag, .. } in all {
        let reruns = world.testkube(|testkube| testkube.reruns("ado-run", tag));
        let own = || checks.iter().filter(|check| check.pipeline.tag == *tag);
        // Each delivery may be another evaluation, if the one before was decided.
        let wished = |check: &Delivered| if check.retry > 0 { check.deliveries.len() } else { 0 };
        let evaluations: usize = own().map(wished).sum();
        let mut times: BTreeMap<&String, usize> = BTreeMap::new();
        reruns.iter().for_each(|id| *times.entry(id).or_default() += 1);
        if let Some((id, times)) = times.iter().find(|(_, times)| **times > evaluations) {
            world.violation(
                "re-runs",
                format!("{id} was run again {times} times for {evaluations} evaluations of {tag}"),
            );
        }
        if reruns.len() > evaluations * MOST {
            world.violation("re-runs", format!("{} for {evaluations} evaluations of {tag}", reruns.len()));
        }
        if own().count() == 1
            && !reruns.is_empty()
            && let Some(check) = own().next()
        {
            says_so(world, check);
        }
        total += reruns.len() as u64;
    }
    total
}

/// The last line of a check that has passed names the re-runs behind it.
fn says_so(world: &mut World, check: &Delivered) {
    if check.kind != Kind::Good || check.deliveries.len() > 1 {
        return;
    }
    let lines = world.azure(|azure| azure.log_lines(&check.pipeline.spec().plan));
    let last = lines.iter().find(|line| line.contains("##[section]Testrelay: succeeded."));
    let Some(last) = last.filter(|line| !line.contains("re-run")) else { return };
    world.violation("re-runs", format!("run {} hides them: {last}", check.pipeline.n));
}
