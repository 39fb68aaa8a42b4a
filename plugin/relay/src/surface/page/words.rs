//! Words and colours of states. A colour never says anything that a word beside it does not say.

use super::html::Html;
use super::members::Members;
use crate::time::Wall;

/// The class of a word, which gives its colour and its sign.
fn class(word: &str) -> &'static str {
    match word {
        "passed" | "succeeded" | "answers" => "ok",
        "failed" | "rejected" | "trouble" | "timeout" => "bad",
        "aborted" | "canceled" | "cancelled" | "inconclusive" | "unreadable" | "not reported" | "over" => {
            "warn"
        }
        "running" | "stopping" | "pausing" | "paused" | "resuming" => "run",
        _ => "idle",
    }
}

/// A state in its colour. `word` may come from outside.
pub(super) fn state(html: &mut Html, word: &str) {
    html.raw("<b class=\"").raw(class(word)).raw("\">").text(word, 40).raw("</b>");
}

/// Where a check stands: its state, its decision if there is one, and since when.
pub(super) fn standing(html: &mut Html, check: Members, now: Wall) {
    state(html, check.text("state").unwrap_or("unknown"));
    if let Some(decision) = check.text("decision") {
        html.raw(" ");
        state(html, decision);
    }
    if let Some(since) = check.time("since") {
        html.raw(" ").lasting(since, now);
    }
}

/// The class of a bar whose execution has this status.
pub(super) fn bar(status: &str) -> &'static str {
    class(status)
}

/// What a check is called: its tag, or its id if it has none.
pub(super) fn name(check: Members<'_>) -> &str {
    check.text("tag").or_else(|| check.text("id")).unwrap_or("a check without an id")
}

/// Which deadline it is.
pub(super) fn deadline(word: &str) -> &'static str {
    match word {
        "token" => "the end of its token",
        "token_life" => "the end that its token is taken to have",
        _ => "its timeout",
    }
}

/// When a check was accepted.
pub(super) fn accepted(check: Members) -> Option<Wall> {
    check.items("history").first().map(Members).and_then(|first| first.time("at"))
}

/// A server that fails: since when, how often, what it answered last, and when it is asked again.
pub(super) fn trouble(html: &mut Html, trouble: Members, now: Wall, most: usize) {
    if let Some(failures) = trouble.number("failures") {
        html.number(failures).raw(if failures == 1 { " failed call" } else { " failed calls in a row" });
    } else {
        html.raw("It fails");
    }
    if let Some(since) = trouble.time("since") {
        html.raw(", the first ").time(since, now);
    }
    if let Some(last) = trouble.text("last") {
        html.raw(". Last answer: ").text(last, most);
    }
    // One in the past was made: what came of it is not written yet.
    if let Some(next) = trouble.time("next_try").filter(|next| *next > now) {
        html.raw(". Next try: ").time(next, now);
    }
    html.raw(".");
}
