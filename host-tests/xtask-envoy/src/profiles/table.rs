//! The table: for each candidate its bytes, and of each measure the median over the rounds and its spread.

use std::fmt::Write;
use std::time::Duration;

use super::load::Round;
use xtask::module::Module;

/// A candidate and what was found out about it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The module.
    pub module: Module,
    /// One after the other; the same number for every row.
    pub rounds: Vec<Round>,
}

/// What is measured in a round: heading, and how to read it as a number.
type Measure = (&'static str, fn(&Round) -> Option<f64>);

const MEASURES: [Measure; 5] = [
    ("p50 ms", |round| Some(milliseconds(round.p50))),
    ("p99 ms", |round| Some(milliseconds(round.p99))),
    ("checks/s", |round| Some(round.rate)),
    ("worker ms/check", |round| round.processor.map(milliseconds)),
    ("start ms", |round| Some(milliseconds(round.start))),
];

/// The bytes of all rows.
pub fn bytes(rows: &[Row]) -> String {
    let first = rows.first().map_or(1, |row| row.module.bytes);
    let mut text = format!("{:<14}{:>10}{:>8}  module\n", "profile", "bytes", "%");
    for Row { name, module, .. } in rows {
        let percent = module.bytes as f64 * 100.0 / first as f64;
        line(
            &mut text,
            format_args!("{name:<14}{:>10}{percent:>8.1}  {}", module.bytes, module.path.display()),
        );
    }
    text
}

/// The measures of all rows: medians with the smallest and the largest, then the ratios to the first row. A ratio is
/// taken round by round, between neighbours in time, so that a machine that grows slower changes it little.
pub fn measures(rows: &[Row]) -> String {
    let mut text = heading("median (least to most)");
    for row in rows {
        let cells = MEASURES.map(|(_, value)| {
            let values: Option<Vec<f64>> = row.rounds.iter().map(value).collect();
            cell(values.unwrap_or_default())
        });
        line(&mut text, format_args!("{:<24}{}", row.name, cells.concat()));
    }
    let Some(first) = rows.first() else { return text };
    text.push('\n');
    text.push_str(&heading("ratio, round by round"));
    for row in rows {
        let cells = MEASURES.map(|(_, value)| {
            let pairs = row.rounds.iter().zip(&first.rounds);
            let ratios: Option<Vec<f64>> =
                pairs.map(|(own, base)| Some(value(own)? / value(base)?)).collect();
            cell(ratios.unwrap_or_default())
        });
        line(&mut text, format_args!("{:<24}{}", row.name, cells.concat()));
    }
    text
}

fn heading(first: &str) -> String {
    let columns: String = MEASURES.iter().map(|(name, _)| format!("{name:>24}")).collect();
    format!("{first:<24}{columns}\n")
}

fn cell(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let text = match (values.first(), median(&values), values.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("{} ({} to {})", short(median), short(*least), short(*most))
        }
        _ => "unknown".to_owned(),
    };
    format!("{text:>24}")
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        0 => Some((sorted.get(sorted.len() / 2 - 1)? + upper) / 2.0),
        _ => Some(upper),
    }
}

/// Three digits that say something.
fn short(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, bytes: u64, p99_ms: &[u64]) -> Row {
        let round = |p99: &u64| Round {
            start: Duration::from_secs(1),
            p50: Duration::from_millis(1),
            p99: Duration::from_millis(*p99),
            rate: 5_000.0,
            processor: None,
        };
        let module = Module { path: format!("/m/{name}.wasm").into(), bytes };
        Row { name, module, rounds: p99_ms.iter().map(round).collect() }
    }

    #[test]
    fn a_row_has_its_median_its_spread_and_its_ratio_to_the_first() {
        let rows = [row("opt-3", 800, &[4, 2, 8]), row("opt-s", 400, &[8, 2, 8])];
        let text = measures(&rows);
        let opt_s: Vec<&str> = text.lines().filter(|line| line.starts_with("opt-s")).collect();
        assert!(opt_s[0].contains("8.00 (2.00 to 8.00)"), "{text}");
        assert!(opt_s[1].contains("1.00 (1.00 to 2.00)"), "{text}");
        assert!(opt_s[0].contains("unknown") && opt_s[1].contains("unknown"), "{text}");
        assert!(bytes(&rows).contains("400    50.0  /m/opt-s.wasm"), "{}", bytes(&rows));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), Some(3.0));
        assert_eq!(median(&[1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }
}
