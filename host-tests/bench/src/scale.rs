//! Many checks at once: what the module does with ten thousand that wait, each with a tag of its own.
//!
//! Absolute figures, held against absolute promises: what one worker of Envoy on one processor does, while Testkube and Azure
//! DevOps answer 5 ms late. Envoy has a processor to itself; the load and the fakes share the others, and each line that could be
//! theirs says how busy they were.
//!
//! - [`crowd`]: the checks. [`late`]: fakes that answer late and count. [`stage`]: one Envoy with both.
//! - [`rows`]: what is measured. [`loops`]: how long a thread was kept. [`report`]: the print.

pub mod crowd;
pub mod late;
pub mod loops;
pub mod report;
pub mod rows;
pub mod stage;

use crate::Programs;
use crate::machine::Processors;
use crate::targets::Bound::{AtLeast, AtMost};
use anyhow::Result;
use report::Line;
use stage::{Leader, Stage, Wanted};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The length of a token, and of a long one: the longest that is taken.
const TOKEN: usize = 2 << 10;
const LONG_TOKEN: usize = 8 << 10;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// All come at once.
    Accept,
    /// All end at once.
    End,
    /// One ends while the others wait.
    One,
    /// Calls and CPU while nothing ends.
    Calm,
    /// Memory, with tokens of 2 KiB, before and after the end of all.
    Memory,
    /// Memory with tokens of 8 KiB.
    Tokens,
    /// How long a thread is kept.
    Stalls,
    /// The same where the worker leads, for which Envoy is started until it does.
    Worker,
    /// All end at once while one project is throttled.
    Throttled,
}

impl Row {
    /// All of them.
    pub const ALL: [Row; 9] = [
        Row::Accept,
        Row::End,
        Row::One,
        Row::Calm,
        Row::Memory,
        Row::Tokens,
        Row::Stalls,
        Row::Worker,
        Row::Throttled,
    ];

    fn name(self) -> &'static str {
        match self {
            Row::Accept => "accept",
            Row::End => "end",
            Row::One => "one",
            Row::Calm => "calm",
            Row::Memory => "memory",
            Row::Tokens => "tokens",
            Row::Stalls => "stalls",
            Row::Worker => "worker",
            Row::Throttled => "throttled",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        let found = Row::ALL.into_iter().find(|row| row.name() == text);
        found.ok_or_else(|| format!("the rows are {}", Row::ALL.map(Row::name).join(", ")))
    }
}

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many checks wait; fewer where the module's limit is lower.
    pub pending: usize,
    /// These rows alone; none: all.
    pub only: Vec<Row>,
    /// For how long calls are counted while nothing ends: each check is looked at once in this time, and its run too.
    pub window: Duration,
    /// For how long threads are watched.
    pub watch: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            pending: 10_000,
            only: Vec::new(),
            window: Duration::from_secs(60),
            watch: Duration::from_secs(20),
        }
    }
}

/// Measures, and adds what it finds to `lines`: an error leaves there what was found before it. `told` hears what is done next.
///
/// # Errors
/// Envoy did not start or has ended, or a check was lost.
pub fn measure(
    programs: &Programs,
    plan: &Plan,
    lines: &mut Vec<Line>,
    mut told: impl FnMut(&str),
) -> Result<()> {
    let processors = Processors::divide()?;
    processors.bind_load()?;
    let pending = stage::limit(programs, plan.pending)?;
    if pending < plan.pending {
        told(&format!("this module lets {pending} checks be pending, not {}", plan.pending));
    }
    let wanted = |rows: &[Row]| plan.only.is_empty() || rows.iter().any(|row| plan.only.contains(row));
    let scale = Scale { programs, plan, processors: &processors, pending };
    if wanted(&[Row::Accept, Row::End, Row::One, Row::Calm, Row::Memory, Row::Stalls]) {
        scale.usual(lines, &wanted, &mut told)?;
    }
    if wanted(&[Row::Worker]) {
        scale.led_by_the_worker(lines, &mut told)?;
    }
    if wanted(&[Row::Tokens]) {
        scale.long_tokens(lines, &mut told)?;
    }
    if wanted(&[Row::Throttled]) {
        scale.throttled(lines, &mut told)?;
    }
    Ok(())
}

/// What all stages share.
struct Scale<'a> {
    programs: &'a Programs,
    plan: &'a Plan,
    processors: &'a Processors,
    pending: usize,
}

impl Scale<'_> {
    fn set(&self, token: usize, leader: Leader) -> Result<Stage> {
        Stage::set(self.programs, self.processors, Wanted { checks: self.pending, token, leader })
    }

    /// Sends all checks and waits until everybody has been told.
    fn fill(&self, stage: &Stage, told: &mut impl FnMut(&str)) -> Result<(Vec<Line>, Instant)> {
        let (sent, lines) = rows::accepted(stage)?;
        let accepted = Instant::now();
        let stored = self.pending - sent.refused;
        told(&format!("{stored} checks wait; {}", stage.told(stored)?));
        Ok((lines, accepted))
    }

    /// The rows of one crowd with tokens of the usual length.
    fn usual(
        &self,
        lines: &mut Vec<Line>,
        wanted: &impl Fn(&[Row]) -> bool,
        told: &mut impl FnMut(&str),
    ) -> Result<()> {
        let mut stage = self.set(TOKEN, Leader::Main)?;
        if wanted(&[Row::Stalls]) {
            lines.extend(rows::stalls(&stage, self.plan.watch / 4, false)?);
        }
        if wanted(&[Row::Memory]) {
            lines.push(rows::memory(&stage, "memory with nothing pending, MiB", None)?);
        }
        if self.plan.only == [Row::Accept] {
            lines.extend(rows::accepted(&stage)?.1);
            return stage.envoy.stop();
        }
        let (accepted_lines, accepted) = self.fill(&stage, told)?;
        if wanted(&[Row::Accept]) {
            lines.extend(accepted_lines);
        }
        if wanted(&[Row::Memory]) {
            lines.push(rows::memory(&stage, "memory, tokens of 2 KiB, MiB", Some(256.0))?);
        }
        if wanted(&[Row::Calm]) {
            told("nothing ends");
            lines.extend(rows::calm(&stage, self.plan.window, accepted.elapsed())?);
        }
        if wanted(&[Row::Stalls]) {
            told("how long threads are kept");
            lines.extend(rows::stalls(&stage, self.plan.watch, true)?);
        }
        if wanted(&[Row::One]) {
            told("single checks end");
            lines.extend(rows::single_ends(&mut stage, accepted)?);
        }
        if wanted(&[Row::End, Row::Memory]) {
            told("all end");
            end(&mut stage, accepted, lines, wanted)?;
        }
        stage.envoy.stop()
    }

    /// How long threads are kept where the worker leads.
    fn led_by_the_worker(&self, lines: &mut Vec<Line>, told: &mut impl FnMut(&str)) -> Result<()> {
        told("the worker leads");
        let stage = self.set(TOKEN, Leader::Worker)?;
        self.fill(&stage, told)?;
        lines.extend(rows::stalls(&stage, self.plan.watch, true)?);
        stage.envoy.stop()
    }

    fn long_tokens(&self, lines: &mut Vec<Line>, told: &mut impl FnMut(&str)) -> Result<()> {
        told("tokens of 8 KiB");
        let stage = self.set(LONG_TOKEN, Leader::Main)?;
        self.fill(&stage, told)?;
        lines.push(rows::memory(&stage, "memory, tokens of 8 KiB, MiB", None)?);
        stage.envoy.stop()
    }

    fn throttled(&self, lines: &mut Vec<Line>, told: &mut impl FnMut(&str)) -> Result<()> {
        told("one project is throttled");
        let mut stage = self.set(TOKEN, Leader::Main)?;
        self.fill(&stage, told)?;
        lines.push(rows::throttled(&mut stage)?);
        stage.envoy.stop()
    }
}

/// All checks that are left end at once.
fn end(
    stage: &mut Stage,
    accepted: Instant,
    lines: &mut Vec<Line>,
    wanted: &impl Fn(&[Row]) -> bool,
) -> Result<()> {
    let interval = rows::interval(accepted.elapsed());
    let left = std::mem::take(&mut stage.crowd);
    let ended = rows::end_at_once(stage, &left, left.len())?;
    if wanted(&[Row::End]) {
        let lost = (left.len() - ended.decided) as f64;
        lines.push(Line::of("all end at once: not decided", lost).promised(AtMost(0.0)));
        let rate = ended.decided as f64 / ended.took;
        lines.push(Line::of("  decisions a second", rate).promised(AtLeast(250.0)).note(format!(
            "in the middle {:.0} a second; each found by its poll, at intervals of up to {interval:.1} s; {}",
            ended.middle, ended.note
        )));
        lines.push(Line::of("  until the last event, s", ended.took));
    }
    if wanted(&[Row::Memory]) {
        std::thread::sleep(Duration::from_secs(5));
        let line = rows::memory(stage, "memory 5 s after the last event, MiB", Some(160.0))?;
        let kept = "what is kept of ended checks for 10 minutes, without tokens, is in it";
        let note = format!("{}; {kept}", line.note);
        lines.push(line.note(note));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_name_that_is_read_again() {
        for row in Row::ALL {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        assert!("x".parse::<Row>().unwrap_err().contains("accept, end, one"));
    }
}
