//! The print: for each case its measures, with and without, the ratio and its spread, and the target.

use crate::figures::{Figures, Measure, Spread};
use crate::targets::{Target, target};
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
        if let Some(bound) = target(targets, own.case, own.measure) {
            let _infallible = write!(text, "target {bound}");
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
    use crate::targets::{DOWNLOADS, SMALL};

    #[test]
    fn a_line_has_both_medians_the_ratio_its_spread_and_the_target() {
        let figures = Figures {
            case: SMALL,
            measure: Measure::Requests,
            rounds: vec![(10_000.0, 9_100.0), (10_000.0, 9_000.0), (10_000.0, 9_500.0)],
        };
        let text = table(&[figures], &DOWNLOADS, "without");
        let words: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        let expected = ["requests/s", "10000", "9100", "0.910", "0.90", "to", "0.95", "target", ">=", "0.90"];
        assert_eq!(words, expected, "{text}");
    }
}
