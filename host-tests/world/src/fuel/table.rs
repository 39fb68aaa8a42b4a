//! The table in the repository: one file per compiler, because each compiler generates different code.

use anyhow::{Context, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// By how much a row may differ from the committed one.
pub const MAX_CHANGE: f64 = 0.05;

/// Names of paths and their fuel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// In the order in which they are played.
    pub rows: Vec<(String, u64)>,
}

impl Table {
    /// The file of a compiler's version, whether it is there or not.
    pub fn path(compiler: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuel").join(format!("{compiler}.txt"))
    }

    /// The committed table of a compiler's version, if there is one.
    ///
    /// # Errors
    /// A file that is none.
    pub fn committed(compiler: &str) -> Result<Option<Table>> {
        let path = Table::path(compiler);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                Table::parse(&text).with_context(|| format!("{} is no table", path.display())).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces the committed table.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn commit(&self, compiler: &str) -> Result<PathBuf> {
        let path = Table::path(compiler);
        std::fs::write(&path, self.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Reads what [`Table`]'s `Display` wrote. `None` for anything else.
    fn parse(text: &str) -> Option<Table> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let row = |line: &str| {
            let (name, fuel) = line.trim_end().rsplit_once(' ')?;
            Some((name.trim().to_string(), fuel.replace(',', "").parse().ok()?))
        };
        let rows = lines.map(row).collect::<Option<Vec<_>>>()?;
        Some(Table { rows })
    }

    /// The fuel of a row.
    pub fn of(&self, name: &str) -> Option<u64> {
        self.rows.iter().find(|(other, _)| other == name).map(|(_, fuel)| *fuel)
    }

    /// The rows in which this table differs from an older one by more than [`MAX_CHANGE`], as sentences.
    pub fn changes(&self, before: &Table) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, fuel) in &self.rows {
            match before.of(name) {
                None => changes.push(format!("`{name}` is new")),
                Some(old) if fuel.abs_diff(old) as f64 > old as f64 * MAX_CHANGE => {
                    let (fuel, ratio) = (grouped(*fuel), ratio(*fuel, old));
                    changes
                        .push(format!("`{name}` takes {fuel}, {ratio:.2} of the {} it took", grouped(old)));
                }
                Some(_) => {}
            }
        }
        let gone = before.rows.iter().filter(|(name, _)| self.of(name).is_none());
        changes.extend(gone.map(|(name, _)| format!("`{name}` is gone")));
        changes
    }

    /// The table beside an older one.
    pub fn beside(&self, before: &Table) -> String {
        let mut text = format!("{:<40} {:>14} {:>14} {:>6}\n", "path", "fuel", "committed", "ratio");
        for (name, fuel) in &self.rows {
            let (old, ratio) = match before.of(name) {
                Some(old) => (grouped(old), format!("{:.2}", ratio(*fuel, old))),
                None => ("-".into(), "-".into()),
            };
            text += &format!("{name:<40} {:>14} {old:>14} {ratio:>6}\n", grouped(*fuel));
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions of WebAssembly that the module's main paths take: `cargo xtask bench --accept`."
        )?;
        for (name, fuel) in &self.rows {
            writeln!(f, "{name:<40} {:>14}", grouped(*fuel))?;
        }
        Ok(())
    }
}

fn ratio(new: u64, old: u64) -> f64 {
    new as f64 / old as f64
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, u64)]) -> Table {
        Table { rows: rows.iter().map(|(name, fuel)| ((*name).into(), *fuel)).collect() }
    }

    #[test]
    fn a_table_comes_back_from_its_text() {
        let one = table(&[("tick, 2,000 pending", 1_234_567), ("healthz", 999)]);
        assert_eq!(Table::parse(&one.to_string()), Some(one));
        assert_eq!(Table::parse("healthz many"), None);
    }

    #[test]
    fn rows_that_changed_by_more_than_a_twentieth_came_or_went_are_told() {
        let before = table(&[("a", 1_000), ("b", 1_000), ("c", 1_000), ("gone", 1)]);
        let now = table(&[("a", 1_050), ("b", 1_051), ("c", 949), ("new", 1)]);
        assert_eq!(
            now.changes(&before),
            [
                "`b` takes 1,051, 1.05 of the 1,000 it took",
                "`c` takes 949, 0.95 of the 1,000 it took",
                "`new` is new",
                "`gone` is gone"
            ]
        );
    }
}
