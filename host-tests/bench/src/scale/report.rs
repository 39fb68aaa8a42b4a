//! What was measured, line by line, beside what is promised.

use crate::targets::Bound;
use std::fmt::Write;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What, and its unit.
    pub what: String,
    /// The figure; not a number where it could not be measured.
    pub measured: f64,
    /// What is promised, if anything is.
    pub bound: Option<Bound>,
    /// What else is to be known of it.
    pub note: String,
}

impl Line {
    /// A figure without a promise.
    pub fn of(what: impl Into<String>, measured: f64) -> Line {
        Line { what: what.into(), measured, bound: None, note: String::new() }
    }

    /// The same with a promise.
    pub fn promised(self, bound: Bound) -> Line {
        Line { bound: Some(bound), ..self }
    }

    /// The same with a note.
    pub fn note(self, note: impl Into<String>) -> Line {
        Line { note: note.into(), ..self }
    }

    /// Whether a promise is not kept.
    pub fn is_missed(&self) -> bool {
        match self.bound {
            None => false,
            Some(Bound::AtLeast(least)) => self.measured.is_nan() || self.measured < least,
            Some(Bound::AtMost(most)) => self.measured.is_nan() || self.measured > most,
        }
    }
}

/// All lines as a table: what, measured, target; a missed one says so. Notes stand below.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let width = lines.iter().map(|line| line.what.chars().count()).max().unwrap_or_default();
    for line in lines {
        let target = line.bound.map_or_else(String::new, |bound| bound.to_string());
        let missed = if line.is_missed() { "missed" } else { "" };
        let measured = match line.measured {
            unknown if unknown.is_nan() => "unknown".to_owned(),
            small if small.abs() < 10.0 => format!("{small:.2}"),
            middle if middle.abs() < 100.0 => format!("{middle:.1}"),
            large => format!("{large:.0}"),
        };
        let row = format!("{:<width$}  {measured:>8}  {target:<11}  {missed}", line.what);
        let _infallible = writeln!(text, "{}", row.trim_end());
        if !line.note.is_empty() {
            let _infallible = writeln!(text, "      {}", line.note);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_missed_beyond_its_bound_and_where_nothing_was_measured() {
        let line = |measured, bound| Line::of("x", measured).promised(bound);
        assert!(!line(2.0, Bound::AtMost(2.0)).is_missed() && line(2.1, Bound::AtMost(2.0)).is_missed());
        assert!(!line(2.0, Bound::AtLeast(2.0)).is_missed() && line(1.9, Bound::AtLeast(2.0)).is_missed());
        assert!(
            line(f64::NAN, Bound::AtMost(2.0)).is_missed() && line(f64::NAN, Bound::AtLeast(2.0)).is_missed()
        );
        assert!(!Line::of("x", f64::NAN).is_missed());
        let text = table(&[line(1234.5, Bound::AtMost(2.0)).note("why"), Line::of("long name", 0.5)]);
        assert_eq!(
            text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["x", "1234", "<=", "2.00", "missed"]
        );
    }
}
