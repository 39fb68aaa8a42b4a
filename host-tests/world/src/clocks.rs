//! The clocks of the machines that processes run on.

use crate::state::{State, wall_of};

/// A machine's clocks, beside the true time.
#[derive(Debug)]
pub(crate) struct Machine {
    /// How far its wall clock is off, in milliseconds, and since when, in Unix milliseconds of the true clock.
    wall: Vec<(i64, i64)>,
    /// How far its monotonic clock is ahead of the first machine's, in microseconds.
    pub(crate) ahead: u64,
}

impl Machine {
    /// With a wall clock that is off by `skew` milliseconds.
    pub(crate) fn new(skew: i64, ahead: u64) -> Machine {
        Machine { wall: vec![(i64::MIN, skew)], ahead }
    }

    fn skew(&self) -> i64 {
        self.wall.last().map_or(0, |(_, skew)| *skew)
    }

    fn skews(&self, from: i64, until: i64) -> impl Iterator<Item = i64> {
        let ends = self.wall.iter().skip(1).map(|(since, _)| *since).chain([i64::MAX]);
        let spans = self.wall.iter().zip(ends);
        let there = spans.filter(move |((since, _), end)| *since <= until && *end >= from);
        there.map(|((_, skew), _)| *skew)
    }
}

impl State {
    /// The true wall time, which the servers outside have, in Unix milliseconds.
    pub(crate) fn true_wall(&self) -> i64 {
        wall_of(self.now)
    }

    /// The process's wall clock.
    pub(crate) fn wall_nanoseconds(&self) -> u64 {
        u64::try_from(self.true_wall() + self.skew()).unwrap_or(0) * 1_000_000
    }

    /// The process's monotonic clock, in microseconds.
    pub(crate) fn monotonic(&self) -> u64 {
        self.now + self.machines[self.own.machine].ahead
    }

    /// How far the process's wall clock is off now, in milliseconds.
    pub(crate) fn skew(&self) -> i64 {
        self.machines[self.own.machine].skew()
    }

    /// Somebody sets the process's wall clock. The monotonic one goes on.
    pub(crate) fn set_clock(&mut self, skew: i64) {
        self.trace.line(self.now, format_args!("the wall clock is now {skew} ms off"));
        let since = self.true_wall();
        self.machines[self.own.machine].wall.push((since, skew));
    }

    /// Every offset of any machine's wall clock between these two times, in Unix milliseconds of the true clock.
    pub(crate) fn skews(&self, from: i64, until: i64) -> Vec<i64> {
        self.machines.iter().flat_map(|machine| machine.skews(from, until)).collect()
    }
}
