//! The print: for each case its measures, with and without, the ratio and its spread, and the target.

use crate::figures::{Figures, Measure, Spread};
use crate::targets::{Base, Target, target};
use std::fmt::Write;

/// All figures, case by case. `without` is the heading of what the module is compared with.
pub fn table(figures: &[Figures], targets: &[Target], without: &str) -> String {
    let mut text = String::new();
    let mut case = "";
    for own in figures {
        if own.case != case {
            case = own.case;
            let heading =
                format!("\n{case:<68}{without:>10}{:>10}{:>8}  {:<16}", "with", "ratio", "least to most");
            text.push_str(heading.trim_end());
            text.push('\n');
        }
        let (without, with) = (plain(own.without(), own.measure), plain(own.with(), own.measure));
        let _infallible = write!(text, "  {:<66}{without:>10}{with:>10}", own.measure.name());
        if let Some(judged) = own.judged().filter(|_| own.measure != Measure::Busy) {
            let Spread { median, least, most } = judged;
            let spread = format!("{least:.2} to {most:.2}");
            let _infallible = match own.measure.is_absolute() {
                true => write!(text, "{:>8}  {spread:<16}", ""),
                false => write!(text, "{median:>8.3}  {spread:<16}"),
            };
        }
        if let Some(target) = target(targets, own.case, own.measure) {
            let _infallible = write!(text, "target {target}");
            if let (Base::Least, Some(Spread { median, least, most })) = (target.base, target.judged(figures))
            {
                let _infallible = write!(text, ": {median:.3} ({least:.2} to {most:.2})");
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn plain(spread: Option<Spread>, measure: Measure) -> String {
    let digits = match measure {
        Measure::Throughput | Measure::Requests | Measure::Busy => 0,
        Measure::Growth => 1,
        Measure::P50 | Measure::P99 => 2,
        Measure::Processor => 3,
    };
    spread.map_or_else(|| "unknown".into(), |spread| format!("{:.digits$}", spread.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::{DOWNLOADS, LARGE, SMALL, SMALL_LEAST};

    /// The words of the second line, that of the measure.
    fn words(figures: &[Figures]) -> String {
        let text = table(figures, &DOWNLOADS, "without");
        text.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_line_has_both_medians_the_ratio_its_spread_and_the_target() {
        let figures = Figures {
            case: LARGE,
            measure: Measure::Throughput,
            rounds: vec![(1_000.0, 910.0), (1_000.0, 900.0), (1_000.0, 950.0)],
        };
        assert_eq!(words(&[figures]), "throughput, MB/s 1000 910 0.910 0.90 to 0.95 target >= 0.97");
    }

    #[test]
    fn a_target_beside_the_least_module_has_its_own_ratio() {
        let of = |case, with| Figures { case, measure: Measure::Requests, rounds: vec![(10_000.0, with)] };
        let figures = [of(SMALL, 8_640.0), of(SMALL_LEAST, 9_000.0)];
        assert_eq!(
            words(&figures),
            "requests/s 10000 8640 0.864 0.86 to 0.86 target >= 0.96 of the least module's: 0.960 (0.96 to 0.96)"
        );
    }
}
