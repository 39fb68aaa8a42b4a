//! What is promised, and what was missed.

use crate::figures::{Figures, Measure};

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
/// The same with a module that reads the headers and takes the credential off.
pub const SMALL_LEAST: &str = "20 KB at 64 connections, a module that only takes the credential off";
/// Checks that are accepted and stored, against a module that answers 200.
pub const CHECKS: &str = "checks stored, against a module that only answers 200";

/// A promise about one figure: its median over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Which case.
    pub case: &'static str,
    /// Which of its measures.
    pub measure: Measure,
    /// What is promised.
    pub bound: Bound,
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
    Target { case: LARGE, measure: Measure::Throughput, bound: Bound::AtLeast(0.97) },
    Target { case: LARGE, measure: Measure::Processor, bound: Bound::AtMost(1.05) },
    Target { case: LARGE, measure: Measure::Growth, bound: Bound::AtMost(4.0) },
    Target { case: LARGE_BY_TAG, measure: Measure::Growth, bound: Bound::AtMost(4.0) },
    Target { case: SMALL, measure: Measure::Requests, bound: Bound::AtLeast(0.90) },
    Target { case: SMALL, measure: Measure::P99, bound: Bound::AtMost(1.15) },
    Target { case: SMALL_BY_TAG, measure: Measure::Requests, bound: Bound::AtLeast(0.80) },
];

/// The promise about checks.
pub const ACCEPTED: [Target; 1] =
    [Target { case: CHECKS, measure: Measure::Requests, bound: Bound::AtLeast(0.60) }];

/// The promise about one figure, if there is one.
pub fn target(targets: &[Target], case: &str, measure: Measure) -> Option<Bound> {
    let of = targets.iter().find(|target| target.case == case && target.measure == measure);
    of.map(|target| target.bound)
}

/// A line for each target that was missed. One that was not measured is missed too.
pub fn missed(targets: &[Target], figures: &[Figures]) -> Vec<String> {
    let line = |target: &Target| {
        let name = format!("{}: {}", target.case, target.measure.name());
        let own = figures.iter().find(|own| own.case == target.case && own.measure == target.measure);
        let Some(judged) = own.and_then(Figures::judged) else {
            return Some(format!("{name}: was not measured, promised is {}", target.bound));
        };
        let holds = match target.bound {
            Bound::AtLeast(least) => judged.median >= least,
            Bound::AtMost(most) => judged.median <= most,
        };
        let (median, least, most) = (judged.median, judged.least, judged.most);
        (!holds)
            .then(|| format!("{name}: {median:.3} ({least:.3} to {most:.3}), promised is {}", target.bound))
    };
    targets.iter().filter_map(line).collect()
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

    fn all(value: impl Fn(&Target) -> f64) -> Vec<Figures> {
        let figures = |target: &Target| Figures {
            case: target.case,
            measure: target.measure,
            rounds: vec![(1.0, value(target)); 10],
        };
        DOWNLOADS.iter().chain(&ACCEPTED).map(figures).collect()
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
