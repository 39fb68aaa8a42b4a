//! The name of a check in texts for those who must find its stage.

use super::{CheckKey, Pending, Phase};

/// What to do about a check that is not reported.
pub(super) const AGAIN: &str = "Its stage waits until Azure DevOps's timeout: re-run the stage.";

/// The check with all that identifies its waiting stage: `check 0f…, project …, build 4711, tag ado-run=shop-4711`.
pub(super) fn named(key: &CheckKey, pending: &Pending) -> String {
    let build = pending.callback.build.map(|build| format!(", build {build}")).unwrap_or_default();
    let tag = pending.ask.as_ref().map(|ask| format!(", tag {}", ask.tag)).unwrap_or_default();
    format!("check {}, project {}{build}{tag}", key.id(), pending.callback.project)
}

impl Pending {
    /// The log line about it when the process, or the filter, ends.
    pub(crate) fn parting(&self, key: &CheckKey) -> String {
        let state = match &self.phase {
            Phase::Accepted | Phase::Proven => "accepted".to_string(),
            Phase::Watching(_) => "waiting".to_string(),
            Phase::Decided(decided) => format!("decided ({}), not reported", decided.outcome.code()),
            Phase::Owing(_) => "reported, but lines of its log are still owed".to_string(),
        };
        let fate = match &self.kept {
            Some(_) => "Another replica adopts it.".to_owned(),
            None => format!("It is lost unless another Testrelay of this process goes on with it. {AGAIN}"),
        };
        format!("{} is pending: {state}. {fate}", named(key, self))
    }
}
