//! What failures wait for, where Testrelay has executions run again (`Testrelay-Retry`), and why they no longer do.

use super::Assessment;
use crate::check::retry::{APPEARS, MAX_RERUNS, Wish};
use crate::check::{Ask, Pending, Watch};
use crate::text::{listed, one_line};
use crate::wire::testkube::{Execution, Status};
use std::time::Duration;

/// What a reading's failures wait for, before they decide.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::check) enum Waits {
    /// For nothing.
    Nothing,
    /// For re-runs that were asked for.
    Appear,
    /// For re-runs to ask for.
    Wishes(Vec<Wish>),
}

/// What a reading's failures wait for; `looked` is how long the last re-run has been looked for. If one of them is final, the
/// check fails in any case, so none is run again. A check that is only observed starts nothing.
pub(in crate::check) fn waits(
    pending: &Pending,
    ask: &Ask,
    watch: &Watch,
    read: &Assessment<'_>,
    looked: Duration,
) -> Waits {
    let wants = ask.policies.retry > 0 && !pending.observe;
    let mut room = watch.retries.room();
    let (mut wishes, mut waits) = (Vec::new(), Waits::Nothing);
    for execution in read.failed().filter(|_| wants) {
        if read.tried(execution).is_awaited() && looked < APPEARS {
            waits = Waits::Appear;
        } else if may_run_again(ask, read, execution) && room > 0 {
            room -= 1;
            wishes.push(Wish::of(execution));
        } else if ask.policies.grace.is_zero() {
            return Waits::Nothing;
        }
    }
    if wishes.is_empty() { waits } else { Waits::Wishes(wishes) }
}

/// Whether a failure has re-runs left. What somebody has stopped is not started again.
fn may_run_again(ask: &Ask, read: &Assessment<'_>, execution: &Execution) -> bool {
    let (tried, most) = (read.tried(execution), usize::try_from(ask.policies.retry).unwrap_or_default());
    execution.status == Status::Failed && !tried.is_asked && tried.reruns < most
}

/// What became of re-runs that did not help, and why something is not run again, as sentences after a space.
pub(in crate::check) fn in_vain(ask: &Ask, watch: &Watch, read: &Assessment<'_>) -> String {
    let (mut refused, mut absent, mut left, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    for execution in read.failed().filter(|_| ask.policies.retry > 0) {
        let (tried, name) = (read.tried(execution), one_line(&execution.name, 80));
        let why = tried.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        match (tried.is_asked, tried.is_refused) {
            (true, true) => refused.push(name + &why),
            (true, false) => absent.push(name + &why),
            (false, _) if may_run_again(ask, read, execution) => left.push(name),
            (false, _) => last = last.or(Some(execution)),
        }
    }
    let mut text = String::new();
    let mut say = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            text += &format!(" {what}: {}.", listed(names, 3));
        }
    };
    let why_left = match last {
        Some(last) => format!("Not run again, because {} {}", one_line(&last.name, 80), last.status),
        None if left.len() > watch.retries.room() => {
            format!("Not run again, because a check has at most {MAX_RERUNS} re-runs")
        }
        None => "Not run again".into(),
    };
    say("Not run again", refused);
    say("No re-run has appeared", absent);
    say(&why_left, left);
    text
}
