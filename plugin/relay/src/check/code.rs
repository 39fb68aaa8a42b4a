//! Reason codes: why a check was decided as it was, in one word, for programs. The same in Envoy's log, the check's log, the list
//! and the metrics; a code keeps its meaning, and new ones may come.

use super::Outcome;
use crate::wire::call::Fault;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The codes: what each means, its name, its text, and the [`Outcome`] that it belongs to.
macro_rules! codes {
    ($($(#[$meaning:meta])* $code:ident = $text:literal, $outcome:ident;)*) => {
        /// Why a check was decided as it was. Each code belongs to one [`Outcome`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ReasonCode {
            $($(#[$meaning])* $code,)*
        }

        /// Each code, its text, and what it comes to, in the order of the enum.
        const CODES: &[(ReasonCode, &str, Outcome)] =
            &[$((ReasonCode::$code, $text, Outcome::$outcome),)*];
    };
}

codes! {
    /// Every counted execution passed.
    AllPassed = "all_passed", Passed;
    /// A counted execution failed.
    Failed = "failed", Failed;
    /// None failed, and one was aborted or cancelled, or ended otherwise without passing.
    Aborted = "aborted", Failed;
    /// Part of what was expected did not appear in time.
    Missing = "missing", Inconclusive;
    /// Nothing with the tag appeared in time.
    NoneAppeared = "none_appeared", Inconclusive;
    /// All with the tag are older than what counts.
    OlderThanRun = "older_than_run", Inconclusive;
    /// What counted is gone, or was long ago.
    CleanedUp = "cleaned_up", Inconclusive;
    /// All had ended at the deadline, but not for as long as asked.
    ChangedTooLate = "changed_too_late", Inconclusive;
    /// The check's time is over, and not everything had ended.
    TimedOut = "timed_out", Inconclusive;
    /// The same because its token ends.
    TokenEnded = "token_ended", Inconclusive;
    /// Testkube did not answer until the deadline.
    TestkubeUnreachable = "testkube_unreachable", Inconclusive;
    /// Its answers could not be read, or were not the whole.
    TestkubeUnreadable = "testkube_unreadable", Inconclusive;
    /// More executions carry the tag than are judged.
    TooMany = "too_many", Inconclusive;
    /// The stage that says since when executions count was not found.
    StageUnreadable = "stage_unreadable", Inconclusive;
    /// Azure DevOps never took its token.
    TokenRefused = "token_refused", Inconclusive;
    /// Azure DevOps did not answer until the deadline.
    AzureDevopsUnreachable = "azure_devops_unreachable", Inconclusive;
    /// The module fell twice while it read an answer for it.
    Crashed = "crashed", Inconclusive;
    /// The run ended first.
    RunOver = "run_over", Over;
    /// Azure DevOps did not wait for it.
    OpenGate = "open_gate", OpenGate;
    /// The request's tag is missing or wrong.
    RejectedTag = "rejected_tag", Rejected;
    /// Its expectation is.
    RejectedExpect = "rejected_expect", Rejected;
    /// Its stage is.
    RejectedSinceStage = "rejected_since_stage", Rejected;
    /// Its time to settle is.
    RejectedSettle = "rejected_settle", Rejected;
    /// Its timeout is.
    RejectedTimeout = "rejected_timeout", Rejected;
    /// Its time to appear is.
    RejectedAppearTimeout = "rejected_appear_timeout", Rejected;
    /// Its rule for re-runs is.
    RejectedRerun = "rejected_rerun", Rejected;
    /// Its body cannot be read.
    RejectedBody = "rejected_body", Rejected;
    /// Anything else of it is wrong.
    RejectedRequest = "rejected_request", Rejected;
}

impl ReasonCode {
    /// All of them, in the order of the reference.
    pub fn all() -> impl Iterator<Item = ReasonCode> {
        CODES.iter().map(|(code, ..)| *code)
    }

    /// Its place among [`ReasonCode::all`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its text: `none_appeared`.
    pub fn text(self) -> &'static str {
        CODES.get(self.index()).map_or("", |(_, text, _)| text)
    }

    /// What it comes to.
    pub fn outcome(self) -> Outcome {
        CODES.get(self.index()).map_or(Outcome::Inconclusive, |(.., outcome)| *outcome)
    }

    /// Of a request in which this field is wrong, by the name that errors give it.
    pub fn of_rejected(field: &str) -> ReasonCode {
        match field {
            "Testrelay-Tag" => ReasonCode::RejectedTag,
            "Testrelay-Expect" => ReasonCode::RejectedExpect,
            "Testrelay-Since-Stage" => ReasonCode::RejectedSinceStage,
            "Testrelay-Settle" => ReasonCode::RejectedSettle,
            "Testrelay-Timeout" => ReasonCode::RejectedTimeout,
            "Testrelay-Appear-Timeout" => ReasonCode::RejectedAppearTimeout,
            "Testrelay-Rerun" => ReasonCode::RejectedRerun,
            "body" => ReasonCode::RejectedBody,
            _ => ReasonCode::RejectedRequest,
        }
    }

    /// Of a deadline until which calls to Testkube had this fault.
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

/// ` [none_appeared]`, as lines end with it.
pub(super) fn in_brackets(code: Option<ReasonCode>) -> String {
    code.map(|code| format!(" [{code}]")).unwrap_or_default()
}

/// Reads a code; `None` for one of a newer module: that is no reason to lose a check.
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
