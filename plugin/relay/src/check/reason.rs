//! The reason of a decision, in words for the people at the pipeline.

use super::{Ask, Pending, ReasonCode, Watch};
use crate::check::verdict::{Assessment, Ignored, Standing, in_vain};
use crate::expect::Expect;
use crate::text::{listed, one_line};
use crate::time::{Now, Wall, in_words};
use crate::wire::testkube::{Execution, Status};
use std::time::Duration;

/// The reason when all had ended.
pub(crate) fn ended(ask: &Ask, watch: &Watch, read: &Assessment<'_>, now: Now) -> String {
    let total = read.counted.len();
    let bad = read.failed().count();
    let must_pass = total - read.optional().count();
    let has_optional = read.failed_optional().next().is_some();
    // Nobody has seen what its parent would have said.
    let origin = match (read.are_all_children(), total) {
        (false, _) => "",
        (true, 1) => " (started by another workflow's execution without this tag)",
        (true, _) => " (all started by other workflows' executions without this tag)",
    };
    let head = match (bad, total) {
        (0, _) if has_optional => {
            format!("All executions tagged {} that must pass have passed", ask.tag)
        }
        (0, 1) => format!("The execution tagged {} passed", ask.tag),
        (0, n) => format!("All {n} executions tagged {} passed", ask.tag),
        (bad, n) if must_pass < n => {
            format!("{bad} of {must_pass} executions tagged {} that must pass did not", ask.tag)
        }
        (_, 1) => format!("The execution tagged {} did not pass", ask.tag),
        (bad, n) => format!("{bad} of {n} executions tagged {} did not pass", ask.tag),
    };
    let unsaid = if ask.expect == Expect::Any { " No expectation was given (Testrelay-Expect)." } else { "" };
    format!(
        "{head}{origin}: {}.{} {}{}{unsaid}",
        read.statuses(),
        in_vain(ask, watch, read),
        counted_since(watch, now.wall),
        read.ignored_in_words()
    )
}

/// The reason when a failure of an earlier attempt of the stage may have been repeated, or not.
pub(super) fn unclear(
    ask: &Ask,
    watch: &Watch,
    read: &Assessment<'_>,
    unclear: &Execution,
    now: Now,
) -> String {
    format!(
        "{} {} in an earlier attempt of stage `{}`, and nothing proves which execution of the newest attempt repeats it. Found: {}. Run the whole stage again, or re-run the failed executions in Testkube's dashboard: it notes which execution each one repeats. {}{}",
        one_line(&unclear.name, 80),
        unclear.status,
        one_line(ask.since_stage.as_deref().unwrap_or_default(), 64),
        read.statuses(),
        counted_since(watch, now.wall),
        read.ignored_in_words()
    )
}

/// The code of a decision when all had ended.
pub(super) fn code_of_ended(passed: bool, read: &Assessment<'_>) -> ReasonCode {
    match passed {
        true => ReasonCode::AllPassed,
        false if read.failed().any(|e| e.status == Status::Failed) => ReasonCode::Failed,
        false => ReasonCode::Aborted,
    }
}

/// The code of a deadline before all had ended.
pub(super) fn code_of_deadline(pending: &Pending, now: Now) -> ReasonCode {
    match pending.ask.as_ref() {
        Some(ask) if now.mono >= pending.accepted.mono.plus(ask.timeout) => ReasonCode::TimedOut,
        _ => ReasonCode::TokenEnded,
    }
}

/// The code and reason when not all that was expected appeared in time.
pub(super) fn absent(ask: &Ask, watch: &Watch, read: &Assessment<'_>, now: Now) -> (ReasonCode, String) {
    let waited = in_words(ask.appear_timeout);
    let since = counted_since(watch, now.wall);
    if let Some(newest) = read.only_older() {
        let text = format!("{}{}", only_older(ask, watch, newest.scheduled), read.ignored_in_words());
        return (ReasonCode::OlderThanRun, text);
    }
    let is_old = watch.bound.plus(LONG_AGO) <= now.wall;
    let waits_for_attempt = read.ignored.iter().any(|(_, why)| *why == Ignored::Attempt);
    let (code, text) = match read.counted.is_empty() && !waits_for_attempt {
        true if is_old && read.ignored.is_empty() => (
            ReasonCode::CleanedUp,
            format!(
                "No execution tagged {} is in Testkube. {since} That is more than a day ago: Testkube may have cleaned them up since. Start the tests again, or keep executions for longer.",
                ask.tag
            ),
        ),
        true => (
            ReasonCode::NoneAppeared,
            format!(
                "No execution tagged {} appeared in Testkube within {waited}. Look at the TestWorkflowExecution resource (its status, its events), at its tag, and at the GitOps sync. {since}{}",
                ask.tag,
                read.ignored_in_words()
            ),
        ),
        false => (
            ReasonCode::Missing,
            format!(
                "Not all expected executions appeared within {waited}. Missing: {}. Found: {}. {since}{}",
                missing(read),
                or_none(read.statuses()),
                read.ignored_in_words()
            ),
        ),
    };
    (code, text)
}

/// Age from which on executions may have been deleted: Testkube is often set to keep them for some days.
const LONG_AGO: Duration = Duration::from_secs(86_400);

/// The reason when all executions with the tag are older than the lower bound, the newest of them scheduled at
/// `newest`.
pub(super) fn only_older(ask: &Ask, watch: &Watch, newest: Wall) -> String {
    if let Some(age) = ask.policies.max_age.filter(|_| newest >= watch.bound) {
        return format!(
            "All executions tagged {} were older than {} when this check arrived (Testrelay-Max-Age): the newest was scheduled at {newest}. Start the tests again.",
            ask.tag,
            in_words(age)
        );
    }
    format!(
        "All executions tagged {} are older than the lower bound: the newest was scheduled at {newest} by Testkube's clock, and executions count from {} ({}). If this run has started them, compare the clocks of Testkube and Azure DevOps, and see checks.clock_skew.",
        ask.tag, watch.bound, watch.bound_from
    )
}

/// The state at the last reading before a deadline.
pub(super) fn unfinished(standing: Standing, ask: &Ask, read: &Assessment<'_>, now: Wall) -> String {
    let what = match standing {
        Standing::Incomplete => {
            format!("Still missing: {}. Found: {}.", missing(read), or_none(read.statuses()))
        }
        Standing::Running => {
            let stuck = read.stuck_in_words(now);
            format!("Not everything had ended: {}.{stuck}", read.statuses())
        }
        Standing::Ended { .. } => {
            format!("All had ended, but had not settled for {}: {}.", in_words(ask.settle), read.statuses())
        }
    };
    format!("{what}{}", read.ignored_in_words())
}

/// The reason of a passed deadline; `what` is the state at that time.
pub(super) fn deadline(pending: &Pending, now: Now, what: &str) -> String {
    let head = match pending.ask.as_ref() {
        Some(ask) if code_of_deadline(pending, now) == ReasonCode::TimedOut => {
            format!("The check's time of {} is over.", in_words(ask.timeout))
        }
        _ => {
            let end = now.wall.plus(pending.token_end.since(now.mono)).clock(now.wall);
            match pending.tokens.ends().is_some_and(|ends| ends.assumed) {
                true => format!(
                    "The token that Azure DevOps gave this check is assumed to end at {end} (azure_devops[].token_life)."
                ),
                false => format!("The token that Azure DevOps gave this check ends at {end}."),
            }
        }
    };
    format!("{head} {what}")
}

fn counted_since(watch: &Watch, now: Wall) -> String {
    format!("Counted since {} ({}).", watch.bound.clock(now), watch.bound_from)
}

/// The missing executions, as a list.
pub(crate) fn missing(read: &Assessment<'_>) -> String {
    listed(read.missing.iter().cloned(), 10)
}

/// A list, or the word for an empty one.
pub(crate) fn or_none(statuses: String) -> String {
    if statuses.is_empty() { "none".into() } else { statuses }
}
