//! Reading the policies of a request, and the tag, which one of them may bind to another build.

use super::field::{Field, Values};
use super::{Reader, build_number, duration, missing};
use crate::check::{Policies, policies};
use crate::config::{MAX_TIMEOUT, Policy, Rerun};
use crate::expect::Expect;
use crate::surface::problem::FieldError;
use crate::tag::{Tag, TagRule};
use crate::text::excerpt;
use crate::time::in_words;
use std::time::Duration;

/// Maximum re-runs of one execution.
const MAX_RETRY: u32 = 5;

/// The name of a policy's field.
pub(in crate::surface) fn field_of(policy: Policy) -> &'static str {
    let field = match policy {
        Policy::Optional => Field::Optional,
        Policy::Grace => Field::Grace,
        Policy::Retry => Field::Retry,
        Policy::MaxAge => Field::MaxAge,
        Policy::TestsBuild => Field::TestsBuild,
        Policy::RerunJobs => Field::SinceStage,
    };
    field.name()
}

impl Reader<'_> {
    /// The tag, which must belong to the build, or to the one that started the tests.
    pub(super) fn tag(&mut self, values: &Values, build: Option<u64>, policies: &Policies) -> Option<Tag> {
        // A number that cannot be used has its own error; the tag is not blamed as well.
        let is_unusable = |field, number: Option<u64>| values.was_given(field) && number.is_none();
        let may_bind = policies.tests_build.is_some()
            || !is_unusable(Field::TestsBuild, None) && !is_unusable(Field::BuildId, build);
        let build = policies.tests_build.or(build);
        let bind = self.config.tag.bind_to_build && may_bind;
        let rule = TagRule { bind_to_build: bind, ..self.config.tag.clone() };
        let tag = self.policy(values, Field::Tag, |text| match policies.tests_build {
            Some(build) if bind && !rule.name(text)?.is_of(build) => Err(format!(
                "`{}` is not a tag of build {build}, which started the tests (Testrelay-Tests-Build): send the tag that its executions carry, with {build} as one of its parts between `-`, `_` or `.`",
                excerpt(text)
            )),
            _ => rule.read(text, build),
        });
        if tag.is_none() && !values.was_given(Field::Tag) {
            self.wrong.push(FieldError { field: Field::Tag.name(), detail: missing(Field::Tag) });
        }
        tag
    }

    pub(super) fn policies(&mut self, values: &Values) -> Policies {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let year = Duration::from_secs(366 * 86_400);
        let optional = self.policy(values, Field::Optional, |text| match text.len() {
            ..=1_024 => policies::read_optional(text),
            _ => Err("is longer than 1024 bytes".into()),
        });
        let grace = self.policy(values, Field::Grace, |text| duration(text, second..=MAX_TIMEOUT));
        let retry = self.policy(values, Field::Retry, number_of_reruns);
        let max_age = self.policy(values, Field::MaxAge, |text| duration(text, minute..=year));
        let tests_build = self.policy(values, Field::TestsBuild, number_of_tests);
        Policies {
            optional: optional.unwrap_or_default(),
            grace: grace.unwrap_or_default(),
            retry: retry.unwrap_or_default(),
            max_age,
            tests_build,
        }
    }

    /// Notes policies that exclude each other, or another field.
    pub(super) fn contradictions(
        &mut self,
        policies: &Policies,
        expect: &Expect,
        rerun: Rerun,
        timeout: Duration,
        since_stage: Option<&str>,
    ) {
        let mut wrong = |field: Field, detail: String| {
            self.wrong.push(FieldError { field: field.name(), detail });
        };
        if let Some(name) = policies::contradiction(expect, &policies.optional) {
            let name = excerpt(name);
            wrong(
                Field::Optional,
                format!(
                    "`{name}` is expected as well: what is expected must pass, so name it in one of the two"
                ),
            );
        }
        if !policies.grace.is_zero() && rerun != Rerun::Latest {
            wrong(Field::Grace, "waits for a re-run, and with Testrelay-Rerun `all` or `none` (or checks.rerun) no re-run replaces a failure: use `latest`, or leave one of the two out".into());
        }
        if policies.retry > 0 && rerun != Rerun::Latest {
            wrong(Field::Retry, "has failed executions run again, and with Testrelay-Rerun `all` or `none` (or checks.rerun) no re-run replaces a failure: use `latest`, or leave one of the two out".into());
        }
        if policies.grace >= timeout {
            let timeout = in_words(timeout);
            wrong(
                Field::Grace,
                format!(
                    "must be shorter than the total deadline of {timeout} (Testrelay-Timeout), which would end the check first"
                ),
            );
        }
        if policies.tests_build.is_some() && since_stage.is_some() {
            wrong(Field::TestsBuild, "says that another run started the tests, and Testrelay-Since-Stage names a stage of this run: leave one of the two out".into());
        }
    }
}

/// The number of re-runs for one execution.
fn number_of_reruns(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_RETRY).contains(number));
    number.ok_or_else(|| {
        format!("`{}` is not a number of re-runs from 1 to {MAX_RETRY}, such as `1`", excerpt(text))
    })
}

/// The number of the run that started the tests.
fn number_of_tests(text: &str) -> Result<u64, String> {
    build_number(text).map_err(|_| {
        format!(
            "`{}` is not a build's number; send the BuildId of the run that started the tests, such as `4700`",
            excerpt(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::{config, headers, read_with};
    use super::*;
    use crate::check::tests::verdicts::held;

    /// The second table of `envoy/verdicts.md`: what a check sends beside Azure DevOps's own fields, the tag and the BuildId.
    #[test]
    fn each_row_of_the_table_of_rejections_is_what_is_said() {
        let table = held("| the check sends | reason |", |row| {
            let sends = row.trim_matches('|').split(" | ").next().unwrap().trim().trim_matches('`');
            let fields: Vec<(String, &str)> = sends
                .split("`, `")
                .map(|field| field.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect();
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let wrong = read_with(&fields).unwrap().ask.unwrap_err();
            let code = crate::check::ReasonCode::of_rejected(wrong[0].field);
            format!("| `{sends}` | {} [{code}] |", crate::surface::accept::in_one(&wrong))
        });
        assert!(table.lines().count() >= 15);
    }

    #[test]
    fn policies_are_read_from_headers_and_from_the_body() {
        let fields = [
            ("testrelay-optional", "shop-lint, load-*"),
            ("testrelay-grace", "15m"),
            ("testrelay-retry", "1"),
            ("testrelay-max-age", "7d"),
            ("testrelay-tests-build", "4700"),
            ("testrelay-tag", "shop-4700"),
        ];
        let ask = read_with(&fields).unwrap().ask.unwrap();
        let policies = Policies {
            optional: vec!["shop-lint".into(), "load-*".into()],
            grace: Duration::from_secs(900),
            retry: 1,
            max_age: Some(Duration::from_secs(7 * 86_400)),
            tests_build: Some(4700),
        };
        assert_eq!(ask.policies, policies);
        let body =
            br#"{"optional": "shop-lint, load-*", "grace": "15m", "retry": 1, "maxAge": "7d", "TestsBuild": 4700}"#;
        let tag = headers(&[("testrelay-tag", "shop-4700")]);
        let request = read(&config(""), &tag, Some(&body[..])).unwrap();
        assert_eq!(request.ask.unwrap(), ask);
    }

    #[test]
    fn a_tag_is_bound_to_the_build_that_started_the_tests() {
        assert!(read_with(&[("testrelay-tests-build", "4700")]).unwrap().ask.is_err(), "it holds 4711");
        let without_build =
            [("testrelay-tests-build", "4700"), ("testrelay-tag", "shop-4700"), ("buildid", "")];
        assert!(read_with(&without_build).unwrap().ask.is_ok());
    }
}
