//! What is promised, and what was missed.

use crate::figures::{Figures, Measure, Spread};

/// One large file by Testkube's own path.
pub const LARGE: &str = "1 GB, Testkube's own path";
/// One large file by tag.
pub const LARGE_BY_TAG: &str = "1 GB, by tag";
/// Small files by Testkube's own paths.
pub const SMALL: &str = "20 KB at 64 connections, Testkube's own paths";
/// Small files by tag.
pub const SMALL_BY_TAG: &str = "20 KB at 64 connections, by tag, remembered";
/// The same with a module that does nothing in place of ours.
pub const SMALL_FLOOR: &str = "20 KB at 64 connections, a module that does nothing";
/// The same with the least module that does the task: it reads the headers and takes the credential off.
pub const SMALL_LEAST: &str = "20 KB at 64 connections, the least module: takes the credential off";
/// Checks that are accepted and stored, against a module that answers 200.
pub const CHECKS: &str = "checks stored, against a module that only answers 200";

/// A promise about one figure: its median over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Which case.
    pub case: &'static str,
    /// Which of its measures.
    pub measure: Measure,
    /// What the figure is a ratio to.
    pub base: Base,
    /// What is promised.
    pub bound: Bound,
}

/// What a promised figure is a ratio to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    /// To what the case itself is compared with; of memory, the figure as it is.
    Own,
    /// To the same measure of [`SMALL_LEAST`]: what the module does more than any that reads the headers.
    Least,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// All promises about downloads. Memory: a file that was kept would be 960 MiB more.
pub const DOWNLOADS: [Target; 7] = [
    own(LARGE, Measure::Throughput, Bound::AtLeast(0.97)),
    own(LARGE, Measure::Processor, Bound::AtMost(1.05)),
    own(LARGE, Measure::Growth, Bound::AtMost(4.0)),
    own(LARGE_BY_TAG, Measure::Growth, Bound::AtMost(4.0)),
    beside_least(SMALL, Measure::Requests, Bound::AtLeast(0.96)),
    beside_least(SMALL, Measure::P99, Bound::AtMost(1.15)),
    beside_least(SMALL_BY_TAG, Measure::Requests, Bound::AtLeast(0.90)),
];

/// The promise about checks.
pub const ACCEPTED: [Target; 1] = [own(CHECKS, Measure::Requests, Bound::AtLeast(0.60))];

const fn own(case: &'static str, measure: Measure, bound: Bound) -> Target {
    Target { case, measure, base: Base::Own, bound }
}

const fn beside_least(case: &'static str, measure: Measure, bound: Bound) -> Target {
    Target { case, measure, base: Base::Least, bound }
}

impl Target {
    /// What is held against the promise, if all of it was measured.
    pub fn judged(&self, figures: &[Figures]) -> Option<Spread> {
        let find = |case| figures.iter().find(|own| own.case == case && own.measure == self.measure);
        match self.base {
            Base::Own => find(self.case)?.judged(),
            Base::Least => find(self.case)?.beside(find(SMALL_LEAST)?),
        }
    }
}

/// The promise about one figure, if there is one.
pub fn target<'a>(targets: &'a [Target], case: &str, measure: Measure) -> Option<&'a Target> {
    targets.iter().find(|target| target.case == case && target.measure == measure)
}

/// A line for each target that was missed. One that was not measured is missed too.
pub fn missed(targets: &[Target], figures: &[Figures]) -> Vec<String> {
    let line = |target: &Target| {
        let name = format!("{}: {}", target.case, target.measure.name());
        let Some(Spread { median, least, most }) = target.judged(figures) else {
            return Some(format!("{name}: was not measured, promised is {target}"));
        };
        let holds = match target.bound {
            Bound::AtLeast(least) => median >= least,
            Bound::AtMost(most) => median <= most,
        };
        (!holds).then(|| format!("{name}: {median:.3} ({least:.3} to {most:.3}), promised is {target}"))
    };
    targets.iter().filter_map(line).collect()
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.base {
            Base::Own => write!(f, "{}", self.bound),
            Base::Least => write!(f, "{} of the least module's", self.bound),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::AtLeast(least) => write!(f, ">= {least:.2}"),
            Bound::AtMost(most) => write!(f, "<= {most:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rounds for each target. What they are compared with is always 1, and without a module twice as much.
    fn all(value: impl Fn(&Target) -> f64) -> Vec<Figures> {
        let figures =
            |case, measure, without, with| Figures { case, measure, rounds: vec![(without, with); 10] };
        let targets = DOWNLOADS.iter().chain(&ACCEPTED);
        let own = targets.map(|target| {
            let without = if target.base == Base::Own { 1.0 } else { 2.0 };
            figures(target.case, target.measure, without, value(target))
        });
        let least = [Measure::Requests, Measure::P99].map(|measure| figures(SMALL_LEAST, measure, 2.0, 1.0));
        own.chain(least).collect()
    }

    fn promised(target: &Target) -> f64 {
        match target.bound {
            Bound::AtLeast(value) | Bound::AtMost(value) => value,
        }
    }

    #[test]
    fn what_is_just_held_is_not_missed() {
        let held = all(promised);
        assert!(missed(&DOWNLOADS, &held).is_empty() && missed(&ACCEPTED, &held).is_empty());
    }

    #[test]
    fn each_target_can_be_missed() {
        for target in DOWNLOADS.iter().chain(&ACCEPTED) {
            let worse = match target.bound {
                Bound::AtLeast(value) => value - 0.01,
                Bound::AtMost(value) => value + 0.01,
            };
            let lines = missed(&[*target], &all(|_| worse));
            assert_eq!(lines.len(), 1, "{target:?}");
            let (case, name) = (target.case, target.measure.name());
            assert!(lines[0].starts_with(&format!("{case}: {name}: {worse:.3}")), "{lines:?}");
        }
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        assert_eq!(missed(&DOWNLOADS, &[]).len(), DOWNLOADS.len());
        let nothing = all(|_| f64::NAN);
        assert_eq!(missed(&ACCEPTED, &nothing).len(), 1);
    }
}
