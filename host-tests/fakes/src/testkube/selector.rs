//! The `tagSelector` grammar, in the two readings that Testkube's two databases give it.

use std::collections::{BTreeMap, BTreeSet};

use super::execution::State;

/// The database behind Testkube: it changes what a selector means and which paging is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// `repository/testworkflow/mongo`: different keys are ANDed.
    Mongo,
    /// `repository/testworkflow/postgres`: `key=value` items of different keys are ORed.
    Postgres,
}

/// A tag selector in one database's reading.
#[derive(Debug)]
pub(crate) struct TagSelector {
    database: Database,
    keys: Vec<String>,
    absent: Vec<String>,
    /// The values asked for, by key: a selector may name hundreds.
    pairs: BTreeMap<String, BTreeSet<String>>,
}

impl TagSelector {
    /// Reads the decoded text; `None` when no item of it is usable, in which case nothing is filtered.
    pub(crate) fn parse(database: Database, text: &str) -> Option<Self> {
        let mut selector = Self { database, keys: vec![], absent: vec![], pairs: BTreeMap::new() };
        if text.is_empty() {
            return None;
        }
        for item in text.split(',') {
            let item = if database == Database::Postgres { item.trim() } else { item };
            match item.split('=').collect::<Vec<_>>()[..] {
                [key] => match key.strip_suffix(":not_exists") {
                    Some(key) if database == Database::Postgres => selector.absent.push(key.into()),
                    _ => selector.keys.push(key.into()),
                },
                [key, value] => _ = selector.pairs.entry(key.into()).or_default().insert(value.into()),
                // Two or more `=`: the item is silently dropped.
                _ => {}
            }
        }
        let usable = !(selector.keys.is_empty() && selector.absent.is_empty() && selector.pairs.is_empty());
        usable.then_some(selector)
    }

    /// Whether an execution has such tags.
    pub(crate) fn matches(&self, state: &State) -> bool {
        let has = |key: &String| state.stored_tag(key).is_some();
        let equals = |(key, values): (&String, &BTreeSet<String>)| {
            state.stored_tag(key).is_some_and(|value| values.contains(value))
        };
        if !self.keys.iter().all(has) || self.absent.iter().any(has) {
            return false;
        }
        match self.database {
            // `$in` per key; a bare key overwrites the condition of its values.
            Database::Mongo => self.pairs.iter().all(|pair| self.keys.contains(pair.0) || equals(pair)),
            // Count of matching conditions > 0.
            Database::Postgres => self.pairs.is_empty() || self.pairs.iter().any(equals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::execution::{Status, execution};
    use super::*;

    /// `Some(matches)`, or `None` when the filter is dropped and everything is returned.
    fn verdicts(text: &str) -> [Option<bool>; 2] {
        let tagged = execution("w").tag("a", "1").tag("b", "3").tag("app.v", "1").at(0, Status::Running);
        let state = tagged.state(0).unwrap();
        [Database::Mongo, Database::Postgres]
            .map(|database| TagSelector::parse(database, text).map(|selector| selector.matches(&state)))
    }

    #[test]
    fn the_same_text_means_the_same_in_both_databases_only_sometimes() {
        let (yes, no) = (Some(true), Some(false));
        for (text, mongo, postgres) in [
            ("a=1", yes, yes),
            ("a=2", no, no),
            ("a=1,a=2", yes, yes),
            ("a=1,b=2", no, yes),
            ("a", yes, yes),
            ("a,b", yes, yes),
            ("a,c", no, no),
            ("a,b=2", no, no),
            ("a,a=2", yes, no),
            ("a=", no, no),
            ("a=x,y", no, no),
            ("a=1,", no, no),
            (" a=1", no, yes),
            ("c:not_exists", no, yes),
            ("a:not_exists", no, no),
            ("app.v=1", yes, yes),
        ] {
            assert_eq!(verdicts(text), [mongo, postgres], "{text}");
        }
    }

    #[test]
    fn an_unusable_selector_filters_nothing() {
        for text in ["", "a=x=y", "a==,b=="] {
            assert_eq!(verdicts(text), [None, None], "{text}");
        }
    }

    #[test]
    fn one_usable_item_keeps_the_filter() {
        assert_eq!(verdicts("a=x=y,b=3"), [Some(true); 2]);
    }
}
