//! What the histories met: a rule that was never put to the test has not been shown to hold.

use crate::reference::{Delivered, Kind, told_at};
use crate::state::Counts;
use crate::world::World;
use fakes::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub(crate) const OWED: &str = "rule reported (told in time)";
pub(crate) const SUCCEEDED: &str = "rule verdict (`succeeded` only where it is true)";
pub(crate) const FAILED: &str = "rule verdict (`failed` only for a reason)";
pub(crate) const GIVEN_UP: &str = "a run was over, and Testkube was asked no more";
pub(crate) const FORGOTTEN: &str = "rule bounds (what is done is forgotten)";
pub(crate) const PLACES: &str = "limits (each pending check has one place, and nothing else has one)";
pub(crate) const PLACES_HELD: &str = "limits, while checks were pending";
pub(crate) const FULL: &str = "submission: refused, too many are pending";
pub(crate) const CONFLICT: &str = "submission: refused, the same check with another tag";
pub(crate) const FORGED: &str = "submission: forged, with the ids of another check";
pub(crate) const UNUSABLE_TOKEN: &str =
    "submission: refused, a token that cannot be used for a check that is there";
pub(crate) const TOKEN_REFUSED: &str = "one of two tokens was refused";
pub(crate) const EVENT_UNDER_WAY: &str = "something came while an event was under way";
pub(crate) const OPTIONAL: &str = "submission: a workflow may fail";
pub(crate) const GRACE: &str = "submission: a failure waits for its re-run";
pub(crate) const RETRY: &str = "submission: a failure is run again by Testrelay";
pub(crate) const RERUN: &str = "Testkube has run something again for Testrelay";
pub(crate) const CROWD: &str = "submission: more executions than a page";
pub(crate) const ARTIFACTS: &str = "artifacts fetched, or visibly not";
pub(crate) const ARTIFACTS_BY_TAG: &str = "artifacts fetched by tag, or visibly not";
pub(crate) const EVALUATED_PENDING: &str = "evaluated: pending";
pub(crate) const EVALUATED_SUCCEEDED: &str = "evaluated: succeeded";
pub(crate) const EVALUATED_FAILED: &str = "evaluated: failed";
pub(crate) const EVALUATED_BY_OTHERS_LOOK: &str = "evaluated: pending, by a look of somebody else's";
/// Counted by the host after a trap that the history asked for.
pub(crate) const TRAP_IN: &str = "trap in ";
const CELL: &str = "cell: ";
const RULE: &str = "rule ";
/// The number of histories in which the premise of a rule was true.
const IN_HISTORIES: &str = "histories with ";

/// Every host function that the module calls once it is configured, the ones that matter most more than once.
pub(crate) const HOST_CALLS: [&str; 16] = [
    "clock_time_get",
    "random_get",
    "proxy_log",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_set_shared_data",
    "proxy_set_shared_data",
    "proxy_http_call",
    "proxy_http_call",
    "proxy_send_local_response",
    "proxy_continue_stream",
    "proxy_increment_metric",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_buffer_bytes",
    "proxy_set_effective_context",
];

/// The least count of each cell of the table in 20,000 histories. The rarest, an untaken event in a long outage of Azure DevOps,
/// comes about 48 times.
const MIN_IN_A_CELL: u64 = 20;
/// The least number of histories, of 20,000, in which each rule's premise was true.
const MIN_HISTORIES: u64 = 1_000;
/// The number of histories that these minimums are for. Fewer histories need proportionally less.
const OF_HISTORIES: u64 = 20_000;
/// With fewer histories the table says nothing.
pub const ENOUGH_HISTORIES: u64 = 5_000;

/// A check's state as seen from outside, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    /// Its request is not answered yet.
    Received,
    /// It was answered 200, and Azure DevOps has taken no call for it.
    Accepted,
    /// Azure DevOps accepted its token, and no execution is there.
    Waiting,
    /// Executions are there, and not all have ended.
    Running,
    /// All have ended, and no event was tried.
    Ended,
    /// An event was tried, and Azure DevOps has not accepted one.
    Decided,
    /// Azure DevOps took the event.
    Reported,
}

impl Doing {
    const ALL: [Doing; 7] = [
        Doing::Received,
        Doing::Accepted,
        Doing::Waiting,
        Doing::Running,
        Doing::Ended,
        Doing::Decided,
        Doing::Reported,
    ];

    fn of(world: &World, check: &Delivered) -> Option<Doing> {
        let since = check.owed_since.filter(|_| !check.is_over && check.kind != Kind::Malformed)?;
        let plan = check.pipeline.spec().plan;
        let events = world.azure(|azure| azure.events(&plan));
        if told_at(&events, since).is_some() {
            return Some(Doing::Reported);
        }
        if events.iter().any(|event| event.at >= since) {
            return Some(Doing::Decided);
        }
        if !world.is_proven(&plan) {
            return Some(Doing::Accepted);
        }
        let now = world.wall();
        let there = world.testkube(|testkube| testkube.truth("ado-run", &check.pipeline.tag, now));
        let is_running = |status: &Status| !status.is_terminal();
        Some(match there.iter().any(|execution| is_running(&execution.status)) {
            _ if there.is_empty() => Doing::Waiting,
            true => Doing::Running,
            false => Doing::Ended,
        })
    }
}

/// Counts a fault once for each state that some check is in.
pub(crate) fn strike(
    world: &mut World,
    checks: &[Delivered],
    waiting: impl Iterator<Item = usize>,
    fault: &str,
) {
    let mut doing: BTreeSet<Doing> = checks.iter().filter_map(|check| Doing::of(world, check)).collect();
    doing.extend(waiting.map(|_| Doing::Received));
    world.count(&format!("fault: {fault}"));
    for doing in doing {
        world.count(&format!("{CELL}{doing:?} × {fault}"));
    }
}

/// Deviations that the reference allows because the wall clock was wrong when a delivery or an evaluation was read, and
/// why.
const BY_THE_CLOCK: [&str; 3] = [
    "a token ends, a deadline before it, and a refusal of it, by the clock of that time: `exp` can be compared with no other",
    "where a build cannot be read, executions count from `lookback` before the check came by the clock of that time",
    "an evaluation, which remembers nothing, sees less of `settle` by what the clock is ahead beyond `clock_skew`",
];

/// A cell that cannot be reached, and why.
const IMPOSSIBLE: [(&str, &str, &str); 0] = [];

/// What many histories met.
#[derive(Debug, Default)]
pub struct Coverage {
    histories: u64,
    counts: Counts,
}

impl Coverage {
    /// Adds a history.
    pub fn add(&mut self, counts: &Counts) {
        self.histories += 1;
        self.counts.merge(counts);
        for (name, count) in &counts.by_name {
            if name.starts_with(RULE) && *count > 0 {
                self.counts.add(&format!("{IN_HISTORIES}{name}"));
            }
        }
    }

    /// Faults by kind, rule checks, outcomes of calls, and the table of cells.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (name, count) in self.counts.by_name.iter().filter(|(name, _)| !name.starts_with(CELL)) {
            let _done = writeln!(text, "{count:>10}  {name}");
        }
        for loosened in BY_THE_CLOCK {
            let _done = writeln!(text, "  let pass: {loosened}");
        }
        let cells = self.cells();
        let _done = write!(text, "\n{:<44}", "faults while a check was:");
        for doing in Doing::ALL {
            let _done = write!(text, "{:>10}", format!("{doing:?}"));
        }
        for (fault, row) in &cells {
            let _done = write!(text, "\n{fault:<44}");
            for doing in Doing::ALL {
                let _done = write!(text, "{:>10}", row.get(&format!("{doing:?}")).unwrap_or(&0));
            }
        }
        text + "\n"
    }

    fn cells(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut cells: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (name, count) in &self.counts.by_name {
            if let Some((doing, fault)) = name.strip_prefix(CELL).and_then(|cell| cell.split_once(" × ")) {
                cells.entry(fault.into()).or_default().insert(doing.into(), *count);
            }
        }
        cells
    }

    /// States and rules that [`ENOUGH_HISTORIES`] or more histories met too seldom to show anything.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let part = |of: u64| of * self.histories / OF_HISTORIES;
        let (least_in_a_cell, least_histories) = (part(MIN_IN_A_CELL), part(MIN_HISTORIES));
        for (fault, row) in self.cells() {
            for doing in Doing::ALL.map(|doing| format!("{doing:?}")) {
                let count = row.get(&doing).copied().unwrap_or(0);
                let is_impossible = IMPOSSIBLE.iter().any(|(d, f, _)| *d == doing && *f == fault);
                if count <= least_in_a_cell && !is_impossible {
                    gaps.push(format!("{doing} × {fault}: {count}, at most {least_in_a_cell}"));
                }
            }
        }
        for rule in self.counts.by_name.keys().filter(|name| name.starts_with(RULE)) {
            let count = self.counts.of(&format!("{IN_HISTORIES}{rule}"));
            if count < least_histories {
                gaps.push(format!("{rule}: its premise was true in {count} histories"));
            }
        }
        for called in HOST_CALLS.iter().collect::<BTreeSet<_>>() {
            if self.counts.of(&format!("{TRAP_IN}{called}")) == 0 {
                gaps.push(format!("no VM was made to trap in {called}"));
            }
        }
        for name in [
            FULL,
            CONFLICT,
            FORGED,
            UNUSABLE_TOKEN,
            TOKEN_REFUSED,
            EVENT_UNDER_WAY,
            CROWD,
            OPTIONAL,
            GRACE,
            RETRY,
            RERUN,
            ARTIFACTS,
            ARTIFACTS_BY_TAG,
            GIVEN_UP,
            EVALUATED_PENDING,
            EVALUATED_SUCCEEDED,
            EVALUATED_FAILED,
            EVALUATED_BY_OTHERS_LOOK,
        ] {
            if self.counts.of(name) <= least_in_a_cell {
                gaps.push(format!("{name}: {}", self.counts.of(name)));
            }
        }
        gaps
    }
}
