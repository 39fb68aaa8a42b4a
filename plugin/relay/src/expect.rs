//! The expectation of a check: what must be there before it may pass.

use crate::text::{excerpt, number};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The number of executions, and the workflows, that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// At least this many of each workflow.
    Names(BTreeMap<String, u32>),
    /// At least this many in all.
    Number(u32),
    /// No expectation: at least one.
    Any,
}

impl Expect {
    /// Reads `3`, or names with an optional count: `shop-api, shop-e2e*2`. Empty text is [`Expect::Any`].
    ///
    /// # Errors
    /// A sentence for the people at the pipeline.
    pub fn parse(text: &str) -> Result<Expect, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Expect::Any);
        }
        if text.bytes().all(|c| c.is_ascii_digit()) {
            return match text.parse() {
                Ok(n @ 1..=MAX_EXPECTED) => Ok(Expect::Number(n)),
                _ => Err(format!("expects `{}` executions: allowed are 1 to {MAX_EXPECTED}", excerpt(text))),
            };
        }
        let mut names = BTreeMap::new();
        for item in text.split(',') {
            let (name, count) = item.trim().split_once('*').unwrap_or((item.trim(), "1"));
            let count = number(count.trim()).filter(|n| (1..=MAX_EXPECTED).contains(n));
            match (is_workflow(name.trim()), count) {
                (true, Some(n)) => *names.entry(name.trim().to_string()).or_insert(0) += n,
                _ => {
                    return Err(format!(
                        "`{}` cannot be expected: write workflow names separated by commas, `name*2` for two, or a number",
                        excerpt(item.trim())
                    ));
                }
            }
        }
        if names.len() > 64 || names.values().sum::<u32>() > MAX_EXPECTED {
            return Err(format!("more than 64 workflows or {MAX_EXPECTED} executions are expected"));
        }
        Ok(Expect::Names(names))
    }

    /// How long the counted set must stay unchanged, unless the request says otherwise.
    pub fn default_settle(&self) -> Duration {
        match self {
            Expect::Names(_) => Duration::ZERO,
            Expect::Number(_) => Duration::from_secs(15),
            Expect::Any => Duration::from_secs(60),
        }
    }

    /// The missing part, in words; empty when the expectation is met. `have` counts executions by workflow.
    pub fn missing(&self, have: &BTreeMap<&str, u32>) -> Vec<String> {
        let total: u32 = have.values().sum();
        match self {
            Expect::Names(names) => names
                .iter()
                .filter_map(|(name, want)| {
                    let got = have.get(name.as_str()).copied().unwrap_or(0);
                    (got < *want).then(|| match (got, want) {
                        (0, 1) => name.clone(),
                        _ => format!("{name} ({got} of {want})"),
                    })
                })
                .collect(),
            Expect::Number(want) if total < *want => vec![format!("{} of {want} executions", want - total)],
            Expect::Any if total == 0 => vec!["any execution".into()],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Any => f.write_str("at least one execution"),
            Expect::Number(1) => f.write_str("1 execution"),
            Expect::Number(n) => write!(f, "{n} executions"),
            Expect::Names(names) => {
                let each =
                    names.iter().map(|(name, n)| if *n == 1 { name.clone() } else { format!("{name}*{n}") });
                f.write_str(&crate::text::listed(each, 12))
            }
        }
    }
}

/// Maximum counted executions of a check: they must fit its record in the ledger.
pub const MAX_EXPECTED: u32 = 200;

/// Whether a text is a Kubernetes object name, as a TestWorkflow's name is.
pub(crate) fn is_workflow(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_nothing_are_read() {
        assert_eq!(Expect::parse("").unwrap(), Expect::Any);
        assert_eq!(Expect::parse(" 3 ").unwrap(), Expect::Number(3));
        let names = Expect::parse("shop-e2e*2, shop-api,shop-api").unwrap();
        assert_eq!(names.to_string(), "shop-api*2, shop-e2e*2");
    }

    #[test]
    fn what_cannot_be_expected_is_refused() {
        for bad in
            ["0", "201", "99999999999", "a,", ",a", "a*0", "a*x", "a*+2", "A", "a b", "a*-1", "$(x)", "ä"]
        {
            assert!(Expect::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_less_is_said_the_longer_the_set_must_settle() {
        let settle = |text| Expect::parse(text).unwrap().default_settle().as_secs();
        assert_eq!((settle("a"), settle("2"), settle("")), (0, 15, 60));
    }

    #[test]
    fn what_is_missing_is_said_by_name_and_count() {
        let have = BTreeMap::from([("shop-e2e", 1)]);
        let missing = |text| Expect::parse(text).unwrap().missing(&have).join("; ");
        assert_eq!(missing("shop-e2e"), "");
        assert_eq!(missing("shop-e2e*2, shop-api"), "shop-api; shop-e2e (1 of 2)");
        assert_eq!(missing("3"), "2 of 3 executions");
        assert_eq!(missing(""), "");
        assert_eq!(Expect::Any.missing(&BTreeMap::new()), ["any execution"]);
    }
}
