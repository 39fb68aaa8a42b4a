//! The counts of tests that Testkube's control plane gives in `reports`.
//!
//! They decide nothing, so nothing in them is a fault: what is no number counts as none. The reader is written by hand,
//! because derived ones are 6 KB more of the module.

use crate::wire::junit::Counts;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The sums of all reports; `None` if none speaks of tests.
#[derive(Default)]
pub(super) struct Reports(pub(super) Option<Counts>);

impl<'de> Deserialize<'de> for Reports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reports, D::Error> {
        let mut counts = Counts::default();
        Part(&mut counts, &mut 0).deserialize(deserializer)?;
        Ok(Reports(Some(counts).filter(|counts| counts.tests > 0)))
    }
}

/// A list of reports, a report, its summary, or a number of the summary, which is added to the second.
struct Part<'c>(&'c mut Counts, &'c mut u64);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reports")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Part(self.0, &mut 0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let mut number = 0;
            let counts = &mut *self.0;
            let count = match key.as_str() {
                "summary" => {
                    map.next_value_seed(Part(counts, &mut 0))?;
                    continue;
                }
                "tests" => &mut counts.tests,
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "errored" => &mut counts.errored,
                "skipped" => &mut counts.skipped,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(Part(&mut Counts::default(), &mut number))?;
            *count = count.saturating_add(number);
        }
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        *self.1 = number;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reports: &str) -> Option<[u64; 5]> {
        let reports: Reports = crate::json::read(reports.as_bytes()).expect("never a fault");
        let Counts { tests, passed, failed, errored, skipped, .. } = reports.0?;
        Some([tests, passed, failed, errored, skipped])
    }

    #[test]
    fn the_summaries_of_all_reports_are_added() {
        let one = r#"{"ref":"r1","kind":"junit","file":"junit.xml","summary":{"tests":9,"passed":4,"failed":2,"skipped":1,"errored":2,"duration":1200}}"#;
        assert_eq!(read(&format!("[{one}]")), Some([9, 4, 2, 2, 1]));
        assert_eq!(read(&format!("[{one},{one}]")), Some([18, 8, 4, 4, 2]));
    }

    #[test]
    fn what_is_no_report_counts_as_none() {
        for none in [
            "null",
            "[]",
            "{}",
            "7",
            "-7",
            "true",
            r#""x""#,
            "[null,{},[],{\"summary\":null}]",
            r#"[{"summary":{"tests":"9"}}]"#,
            r#"[{"summary":{"tests":-9,"failed":0.5}}]"#,
            r#"[{"summary":{"tests":{"tests":9},"passed":[3]}}]"#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        let huge = r#"[{"summary":{"tests":18446744073709551615}},{"summary":{"tests":5,"failed":1e3}}]"#;
        assert_eq!(read(huge), Some([u64::MAX, 0, 0, 0, 0]));
    }
}
