//! The policies that a request adds to its expectation: workflows that may fail, time for a re-run, re-runs that Testrelay asks for, a maximum age, and
//! another pipeline's run. Each is opt-in by credential, is said in the check's log, and is shown in the list.

use super::is_default;
use crate::config::Policy;
use crate::expect::{Expect, is_workflow};
use crate::text::{clip, excerpt, listed};
use crate::time::in_words;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The policies of a request; by default it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policies {
    /// Patterns of workflows whose executions may fail, as [`read_optional`] reads them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub optional: Vec<String>,
    /// How long a failure waits for its re-run before it decides; zero: not at all.
    #[serde(skip_serializing_if = "is_default")]
    pub grace: Duration,
    /// How often Testrelay itself has a failed execution run again; zero: not at all.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: u32,
    /// Maximum age of an execution that counts, when the check arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The BuildId of the run of another pipeline that started the tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests_build: Option<u64>,
}

/// Maximum patterns of a request.
const MAX_PATTERNS: usize = 64;

impl Policies {
    /// Those that the request uses.
    pub fn used(&self) -> impl Iterator<Item = Policy> {
        Policy::ALL.into_iter().map(|(_, policy)| policy).filter(|policy| self.uses(*policy))
    }

    fn uses(&self, policy: Policy) -> bool {
        match policy {
            Policy::Optional => !self.optional.is_empty(),
            Policy::Grace => !self.grace.is_zero(),
            Policy::Retry => self.retry > 0,
            Policy::MaxAge => self.max_age.is_some(),
            Policy::TestsBuild => self.tests_build.is_some(),
            // No field asks for it: it is found when the stage's attempts are known.
            Policy::RerunJobs => false,
        }
    }

    /// `optional shop-lint, load-*; grace 15m`, for the list; `None` without any.
    pub fn in_short(&self) -> Option<String> {
        let optional = (!self.optional.is_empty())
            .then(|| format!("optional {}", listed(self.optional.iter().cloned(), 5)));
        let grace = (!self.grace.is_zero()).then(|| format!("grace {}", in_words(self.grace)));
        let retry = (self.retry > 0).then(|| format!("retry {}", self.retry));
        let max_age = self.max_age.map(|age| format!("max_age {}", in_words(age)));
        let tests_build = self.tests_build.map(|build| format!("tests_build {build}"));
        let all: Vec<String> = [optional, grace, retry, max_age, tests_build].into_iter().flatten().collect();
        (!all.is_empty()).then(|| clip(all.join("; "), 200))
    }

    /// One sentence for each policy, without its full stop.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.optional.is_empty() {
            let names = listed(self.optional.iter().cloned(), 12);
            words.push(format!(
                "Optional: {names}. They must end, and may fail; at least one execution that is not optional must pass (Testrelay-Optional)"
            ));
        }
        if !self.grace.is_zero() {
            let grace = in_words(self.grace);
            words.push(format!("A failure waits {grace} for its re-run before it decides (Testrelay-Grace)"));
        }
        if self.retry > 0 {
            let times = if self.retry == 1 { "once".into() } else { format!("up to {} times", self.retry) };
            words.push(format!("Testrelay has a failed execution run again {times} (Testrelay-Retry)"));
        }
        if let Some(age) = self.max_age {
            let age = in_words(age);
            words.push(format!(
                "Executions that were older than {age} when this check arrived do not count (Testrelay-Max-Age)"
            ));
        }
        if let Some(build) = self.tests_build {
            words.push(format!("The tests belong to build {build} (Testrelay-Tests-Build)"));
        }
        words
    }
}

/// Reads `name, name*`: names of workflows, each with an optional `*` at its end for any characters.
///
/// # Errors
/// A sentence for the people at the pipeline.
pub(crate) fn read_optional(text: &str) -> Result<Vec<String>, String> {
    let mut patterns: Vec<String> = Vec::new();
    for item in text.split(',').map(str::trim) {
        let name = item.strip_suffix('*').unwrap_or(item);
        if item == "*" {
            return Err("`*` makes every workflow optional, so nothing would have to pass: name those that may fail, such as `shop-lint, load-*`".into());
        }
        // `load-.*` is a regular expression; no name goes on after a `.` that it ends with.
        let may_begin_a_name = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if !is_workflow(name) || !may_begin_a_name || name.ends_with('.') {
            return Err(format!(
                "`{}` cannot be optional: write workflow names separated by commas, with a `*` at the end for any characters",
                excerpt(item)
            ));
        }
        if !patterns.iter().any(|known| known == item) {
            patterns.push(item.to_string());
        }
    }
    match patterns.len() {
        ..=MAX_PATTERNS => Ok(patterns),
        _ => Err(format!("names more than {MAX_PATTERNS} workflows")),
    }
}

/// Whether a pattern fits a workflow.
pub(crate) fn is_optional(patterns: &[String], workflow: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => workflow.starts_with(start),
        None => workflow == pattern,
    })
}

/// The first workflow that is expected and optional at the same time.
pub(crate) fn contradiction<'a>(expect: &'a Expect, patterns: &[String]) -> Option<&'a str> {
    let Expect::Names(names) = expect else { return None };
    names.keys().map(String::as_str).find(|name| is_optional(patterns, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_beginnings_of_names_are_optional() {
        let patterns = read_optional(" shop-lint, load-* ,shop-lint").unwrap();
        assert_eq!(patterns, ["shop-lint", "load-*"]);
        for (workflow, is) in
            [("shop-lint", true), ("shop-lint2", false), ("load-", true), ("load-eu", true), ("load", false)]
        {
            assert_eq!(is_optional(&patterns, workflow), is, "{workflow}");
        }
    }

    #[test]
    fn what_cannot_be_optional_is_refused() {
        for bad in
            ["", "*", "a,", "a, *", "a*b", "**", "A", "a b", "ä*", "$(x)", "load-.*", ".*", "-a", "-*", "a."]
        {
            assert!(read_optional(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("a{n}")).collect();
        assert!(read_optional(&many.join(",")).unwrap_err().contains("64"));
        assert!(read_optional(&many[..64].join(",")).is_ok());
    }

    #[test]
    fn what_is_expected_cannot_be_optional() {
        let expect = Expect::parse("shop-api, shop-e2e").unwrap();
        let contradiction = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            contradiction(&expect, &patterns).map(str::to_owned)
        };
        assert_eq!(contradiction(&["shop-lint"]), None);
        assert_eq!(contradiction(&["shop-e*"]).as_deref(), Some("shop-e2e"));
        assert_eq!(contradiction(&["shop-api"]).as_deref(), Some("shop-api"));
    }
}
