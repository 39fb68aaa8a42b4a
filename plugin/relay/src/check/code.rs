//! Reason codes: why a check was decided, in one word, for programs. They are the same in Envoy's log, the check's log,
//! the list and the metrics. A code keeps its meaning; new codes may be added.

use super::Outcome;
use crate::wire::call::Fault;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Defines the codes: the meaning, name, text and [`Outcome`] of each.
macro_rules! codes {
    ($($(#[$meaning:meta])* $code:ident = $text:literal, $outcome:ident;)*) => {
        /// Why a check was decided. Each code belongs to one [`Outcome`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ReasonCode {
            $($(#[$meaning])* $code,)*
        }

        /// Each code, its text and its outcome, in the order of the enum.
        const CODES: &[(ReasonCode, &str, Outcome)] =
            &[$((ReasonCode::$code, $text, Outcome::$outcome),)*];
    };
}

codes! {
    /// Every counted execution passed.
    AllPassed = "all_passed", Passed;
    /// A counted execution failed.
    Failed = "failed", Failed;
    /// None failed, but one was aborted or cancelled, or ended otherwise without passing.
    Aborted = "aborted", Failed;
    /// Part of what was expected did not appear in time.
    Missing = "missing", Inconclusive;
    /// Nothing with the tag appeared in time.
    NoneAppeared = "none_appeared", Inconclusive;
    /// All executions with the tag are older than the lower bound, or than the maximum age.
    OlderThanRun = "older_than_run", Inconclusive;
    /// A counted execution is gone, or may have been deleted long ago.
    CleanedUp = "cleaned_up", Inconclusive;
    /// All had ended at the deadline, but had not stayed unchanged for long enough.
    ChangedTooLate = "changed_too_late", Inconclusive;
    /// The check's time is over, but not everything had ended.
    TimedOut = "timed_out", Inconclusive;
    /// The same, because its token ends.
    TokenEnded = "token_ended", Inconclusive;
    /// Testkube did not answer until the deadline.
    TestkubeUnreachable = "testkube_unreachable", Inconclusive;
    /// Testkube's answers could not be read, or were incomplete.
    TestkubeUnreadable = "testkube_unreadable", Inconclusive;
    /// More executions carry the tag than may count.
    TooMany = "too_many", Inconclusive;
    /// The stage that sets the lower bound was not found.
    StageUnreadable = "stage_unreadable", Inconclusive;
    /// An execution of an earlier attempt of the stage did not pass, and nothing proves which one repeats it.
    AttemptUnclear = "attempt_unclear", Inconclusive;
    /// The start of the build that started the tests could not be read.
    BuildUnreadable = "build_unreadable", Inconclusive;
    /// Azure DevOps never accepted its token.
    TokenRefused = "token_refused", Inconclusive;
    /// Azure DevOps did not answer until the deadline.
    AzureDevopsUnreachable = "azure_devops_unreachable", Inconclusive;
    /// The module failed twice while it read an answer for the check.
    Crashed = "crashed", Inconclusive;
    /// With the cluster store: its record in Kubernetes could not be read.
    RecordUnreadable = "record_unreadable", Inconclusive;
    /// The run ended before the decision.
    RunOver = "run_over", Over;
    /// Azure DevOps did not wait for the check.
    OpenGate = "open_gate", OpenGate;
    /// The tag is missing or wrong.
    RejectedTag = "rejected_tag", Rejected;
    /// The expectation is wrong.
    RejectedExpect = "rejected_expect", Rejected;
    /// The stage is wrong.
    RejectedSinceStage = "rejected_since_stage", Rejected;
    /// The settle time is wrong.
    RejectedSettle = "rejected_settle", Rejected;
    /// The timeout is wrong.
    RejectedTimeout = "rejected_timeout", Rejected;
    /// The appear timeout is wrong.
    RejectedAppearTimeout = "rejected_appear_timeout", Rejected;
    /// The policy for re-runs is wrong.
    RejectedRerun = "rejected_rerun", Rejected;
    /// The optional workflows are wrong, contradict the expectation, or are not allowed.
    RejectedOptional = "rejected_optional", Rejected;
    /// The time for a re-run is wrong or not allowed.
    RejectedGrace = "rejected_grace", Rejected;
    /// The number of re-runs is wrong or not allowed.
    RejectedRetry = "rejected_retry", Rejected;
    /// The maximum age is wrong or not allowed.
    RejectedMaxAge = "rejected_max_age", Rejected;
    /// The build that started the tests is wrong or not allowed.
    RejectedTestsBuild = "rejected_tests_build", Rejected;
    /// The body cannot be read.
    RejectedBody = "rejected_body", Rejected;
    /// Another part of the request is wrong.
    RejectedRequest = "rejected_request", Rejected;
}

impl ReasonCode {
    /// All codes, in the order of the reference.
    pub fn all() -> impl Iterator<Item = ReasonCode> {
        CODES.iter().map(|(code, ..)| *code)
    }

    /// Its index in [`ReasonCode::all`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its text, such as `none_appeared`.
    pub fn text(self) -> &'static str {
        CODES.get(self.index()).map_or("", |(_, text, _)| text)
    }

    /// Its outcome.
    pub fn outcome(self) -> Outcome {
        CODES.get(self.index()).map_or(Outcome::Inconclusive, |(.., outcome)| *outcome)
    }

    /// The code for a request in which this field is wrong; `field` is the name that errors give it.
    pub fn of_rejected(field: &str) -> ReasonCode {
        match field {
            "Testrelay-Tag" => ReasonCode::RejectedTag,
            "Testrelay-Expect" => ReasonCode::RejectedExpect,
            "Testrelay-Since-Stage" => ReasonCode::RejectedSinceStage,
            "Testrelay-Settle" => ReasonCode::RejectedSettle,
            "Testrelay-Timeout" => ReasonCode::RejectedTimeout,
            "Testrelay-Appear-Timeout" => ReasonCode::RejectedAppearTimeout,
            "Testrelay-Rerun" => ReasonCode::RejectedRerun,
            "Testrelay-Optional" => ReasonCode::RejectedOptional,
            "Testrelay-Grace" => ReasonCode::RejectedGrace,
            "Testrelay-Retry" => ReasonCode::RejectedRetry,
            "Testrelay-Max-Age" => ReasonCode::RejectedMaxAge,
            "Testrelay-Tests-Build" => ReasonCode::RejectedTestsBuild,
            "body" => ReasonCode::RejectedBody,
            _ => ReasonCode::RejectedRequest,
        }
    }

    /// The code for a deadline until which calls to Testkube had this fault.
    pub(super) fn of_fault(fault: &Fault) -> ReasonCode {
        match fault {
            Fault::TooLarge(_) | Fault::Truncated | Fault::NotJson(_) | Fault::Unexpected(_) => {
                ReasonCode::TestkubeUnreadable
            }
            _ => ReasonCode::TestkubeUnreachable,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// ` [none_appeared]`, the end of a line.
pub(super) fn in_brackets(code: Option<ReasonCode>) -> String {
    code.map(|code| format!(" [{code}]")).unwrap_or_default()
}

/// Reads a code. `None` for a newer module's code, which is no reason to lose a check.
pub(super) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ReasonCode>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| ReasonCode::all().find(|code| code.text() == text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_its_own_text_in_lower_case() {
        let texts: BTreeSet<&str> = ReasonCode::all().map(ReasonCode::text).collect();
        assert_eq!(texts.len(), CODES.len());
        assert!(texts.iter().all(|text| text.bytes().all(|c| c == b'_' || c.is_ascii_lowercase())));
        assert!(ReasonCode::all().enumerate().all(|(at, code)| code.index() == at));
    }

    #[test]
    fn only_one_code_passes() {
        let passing: Vec<ReasonCode> =
            ReasonCode::all().filter(|code| code.outcome() == Outcome::Passed).collect();
        assert_eq!(passing, [ReasonCode::AllPassed]);
    }

    #[test]
    fn a_rejected_request_is_named_by_its_field() {
        for (field, code) in [
            ("Testrelay-Tag", "rejected_tag"),
            ("Testrelay-Appear-Timeout", "rejected_appear_timeout"),
            ("Testrelay-Since-Stage", "rejected_since_stage"),
            ("body", "rejected_body"),
            ("request", "rejected_request"),
            ("BuildId", "rejected_request"),
        ] {
            assert_eq!(ReasonCode::of_rejected(field).text(), code, "{field}");
        }
    }
}
