//! What is said of checks that this process cannot answer: it ends, or it has no entry for them.

use super::azure_calls::LONGEST_RETRY;
use super::{Lead, Turn};
use crate::check::{CheckKey, Pending, Phase};
use crate::time::{Mono, in_words};
use std::time::Duration;

/// A check whose entry is not configured is kept for so long, should a configuration with it come back.
const WITHOUT_ENTRY: Duration = Duration::from_secs(30 * 60);

impl Lead {
    /// A check is due and the entry where it is answered is not configured: it waits for a while, then it ends.
    pub(super) fn has_no_entry(&mut self, turn: &mut Turn<'_>, key: &CheckKey, pending: &Pending) {
        let now = turn.now.mono;
        let task = self.tasks.entry(*key).or_default();
        task.next = now.plus(LONGEST_RETRY);
        match without_entry(key, pending, *task.without_entry.get_or_insert(now), now) {
            Missing::Waits(text) => log::error!("{text}"),
            Missing::Ends(text) => {
                log::error!("{text}");
                self.finish(turn, key, false);
            }
        }
    }
}

/// What is done about a check whose entry is not configured.
enum Missing {
    /// It waits, and the log says so.
    Waits(String),
    /// It ends unreported, and the log says so.
    Ends(String),
}

/// A check whose entry is not configured, and has not been since `since` as far as is known here.
fn without_entry(key: &CheckKey, pending: &Pending, since: Mono, now: Mono) -> Missing {
    let (check, url) = (named(key, pending), &pending.callback.entry);
    match now.since(since) < WITHOUT_ENTRY {
        true => Missing::Waits(format!("{check} waits: {url} is not among `azure_devops`")),
        false => Missing::Ends(format!(
            "{check} ends unreported: {url} has not been among `azure_devops` for {}. {AGAIN}",
            in_words(now.since(since))
        )),
    }
}

/// A check that is pending when the process, or the filter, ends.
pub(super) fn lost(key: &CheckKey, pending: &Pending) -> String {
    let state = match &pending.phase {
        Phase::Accepted | Phase::Proven => "accepted".to_string(),
        Phase::Watching(_) => "waiting".to_string(),
        Phase::Decided(decided) => format!("decided ({}), not reported", decided.outcome.code()),
    };
    format!(
        "{} is pending: {state}. If no other Testrelay of this process goes on with it, it is lost. {AGAIN}",
        named(key, pending)
    )
}

const AGAIN: &str = "Its stage waits until its own time is over: run it again.";

/// With what people need to find the stage that waits: `check 0f…, project …, build 4711, tag ado-run=shop-4711`.
fn named(key: &CheckKey, pending: &Pending) -> String {
    let build = pending.callback.build.map(|build| format!(", build {build}")).unwrap_or_default();
    let tag = pending.ask.as_ref().map(|ask| format!(", tag {}", ask.tag)).unwrap_or_default();
    format!("check {}, project {}{build}{tag}", key.id(), pending.callback.project)
}
