//! The page of one check: why it waits, its life, and its executions.

use super::bars::{Axis, Bar, draw};
use super::html::Html;
use super::members::Members;
use super::words;
use crate::time::Wall;
use serde_json::Value;
use std::time::Duration;

/// Executions that are shown; the page says how many more there are.
const MAX_EXECUTIONS: usize = 200;
/// Moments and executions that do not count that are shown.
const MAX_LINES: usize = 50;
/// Bytes of a name.
const NAME: usize = 300;
/// Bytes of a text of ours that may hold some from outside.
const TEXT: usize = 3_000;

pub(super) fn title(html: &mut Html, check: Members) {
    html.escaped(words::name(check), 100).raw(": ").escaped(check.text("state").unwrap_or("unknown"), 40);
}

pub(super) fn write(html: &mut Html, check: Members, now: Wall) {
    html.raw("<h1>Check ").text(words::name(check), NAME).raw("</h1><p class=\"lead\">");
    words::standing(html, check, now);
    html.raw("</p>");
    if let Some(explain) = check.text("explain") {
        html.raw("<p class=\"why\">").text(explain, TEXT).raw("</p>");
    }
    if let Some(reason) = check.text("reason") {
        html.raw("<p class=\"why\">").text(reason, TEXT).raw("</p>");
    }
    let live = check.object("live");
    for (name, server) in [("Testkube", "testkube"), ("Azure DevOps", "azure_devops")] {
        if let Some(trouble) = live.and_then(|live| live.object(server)) {
            html.raw("<p class=\"alert\"><b class=\"bad\">").raw(name).raw(" fails</b> ");
            words::trouble(html, trouble, now, TEXT);
            html.raw("</p>");
        }
    }
    life(html, check, now);
    if let Some(reading) = live.and_then(|live| live.object("reading")) {
        executions(html, reading, now);
    }
    facts(html, check, now);
    html.raw("<p class=\"more\">As of ");
    // Another replica's check is as old as its owner's last word.
    html.clock(check.time("as_of").unwrap_or(now), now).raw(".");
    if let Some(known) = live.and_then(|live| live.time("as_of")) {
        html.raw(" What it waits for was last written ").time(known, now).raw(".");
    }
    html.raw("</p>");
}

/// What happened, as a bar and in words.
fn life(html: &mut Html, check: Members, now: Wall) {
    const CLASSES: [&str; 2] = ["l0", "l1"];
    let moments = check.items("history");
    if moments.is_empty() {
        return;
    }
    let moments = || moments.iter().take(MAX_LINES).map(Members);
    html.raw("<section aria-labelledby=\"l\"><h2 id=\"l\">Its life</h2>");
    let mut times: Vec<Wall> = moments().filter_map(|moment| moment.time("at")).collect();
    if check.text("state") != Some("done") {
        times.push(now);
    }
    if let Some(axis) = Axis::over(times.iter().copied()) {
        let spans = times.iter().zip(times.iter().skip(1)).zip(CLASSES.iter().cycle());
        let bars: Vec<Bar> = spans.map(|((from, to), class)| Bar { from: *from, to: *to, class }).collect();
        draw(html, axis, &bars, |html| {
            html.raw("The time between the moments below, to scale");
        });
    }
    html.raw("<ol>");
    for moment in moments() {
        html.raw("<li>");
        if let Some(at) = moment.time("at") {
            html.clock(at, now).raw(" (").time(at, now).raw("): ");
        }
        html.text(moment.text("what").unwrap_or_default(), NAME).raw("</li>");
    }
    html.raw("</ol></section>");
}

/// An execution of a reading.
struct Execution<'a> {
    members: Members<'a>,
    /// From when it was scheduled, as long as it took, or to the reading's time if it runs.
    span: Option<(Wall, Wall)>,
}

fn execution(execution: &Value, read: Wall) -> Execution<'_> {
    let members = Members(execution);
    let took = members.number("took_seconds");
    let span = members
        .time("scheduled")
        .map(|from| (from, took.map_or(read.max(from), |seconds| from.plus(Duration::from_secs(seconds)))));
    Execution { members, span }
}

fn executions(html: &mut Html, reading: Members, now: Wall) {
    html.raw("<section aria-labelledby=\"e\"><h2 id=\"e\">Executions that count</h2>");
    let read = reading.time("at");
    if let Some(read) = read {
        html.raw("<p>Testkube told this ").time(read, now).raw(".</p>");
    }
    if let Some(missing) = reading.text("missing") {
        html.raw("<p><b class=\"warn\">Still missing</b> ").text(missing, TEXT).raw("</p>");
    }
    let all = reading.items("executions");
    let shown: Vec<Execution> =
        all.iter().take(MAX_EXECUTIONS).map(|one| execution(one, read.unwrap_or(now))).collect();
    if shown.is_empty() {
        html.raw("<p>None yet.</p>");
    } else {
        table(html, &shown, now);
    }
    let cut = all.len().saturating_sub(shown.len()) as u64;
    let more = reading.number("more").unwrap_or_default().saturating_add(cut);
    if more > 0 {
        html.raw("<p>And ").number(more).raw(" more.</p>");
    }
    let others = reading.items("not_counted");
    if !others.is_empty() {
        html.raw("<h3>Not counted</h3><ul>");
        for other in others.iter().take(MAX_LINES) {
            html.raw("<li>").text(other.as_str().unwrap_or_default(), NAME).raw("</li>");
        }
        html.raw("</ul>");
        let cut = others.len().saturating_sub(MAX_LINES) as u64;
        if cut > 0 {
            html.raw("<p>And ").number(cut).raw(" more.</p>");
        }
    }
    html.raw("</section>");
}

fn table(html: &mut Html, shown: &[Execution], now: Wall) {
    let axis = Axis::over(shown.iter().filter_map(|one| one.span).flat_map(|(from, to)| [from, to]));
    html.raw("<table class=\"e\"><thead><tr><th scope=\"col\">Execution<th scope=\"col\">Status");
    html.raw("<th scope=\"col\">Scheduled<th scope=\"col\">Took<th scope=\"col\">When</thead><tbody>\n");
    for Execution { members, span } in shown {
        let status = members.text("status").unwrap_or("unknown");
        html.raw("<tr><th scope=\"row\">");
        html.link(members.text("link"), members.text("name").unwrap_or("without a name"), NAME);
        if let Some(workflow) = members.text("workflow") {
            html.raw("<p>of ").text(workflow, NAME);
        }
        html.raw("<td>");
        words::state(html, status);
        if members.is("optional") {
            html.raw(" (optional)");
        }
        html.raw("<td>");
        if let Some((from, _)) = *span {
            html.time(from, now);
        }
        html.raw("<td>");
        if let Some(seconds) = members.number("took_seconds") {
            html.span(seconds);
        }
        html.raw("<td>");
        if let (Some(axis), Some((from, to))) = (axis, *span) {
            let bar = Bar { from, to, class: words::bar(status) };
            draw(html, axis, &[bar], |html| {
                html.raw("From ").clock(from, now).raw(" to ").clock(to, now);
            });
        }
        html.raw("\n");
    }
    html.raw("</table>");
}

/// What was asked, and where it came from.
fn facts(html: &mut Html, check: Members, now: Wall) {
    html.raw("<section aria-labelledby=\"f\"><h2 id=\"f\">Facts</h2><dl>");
    if let Some(build) = check.number("build") {
        html.raw("<dt>Build<dd>").link(check.text("build_url"), &build.to_string(), 20);
    }
    for (term, name) in [
        ("<dt>Tag<dd>", "tag"),
        ("<dt>Expected<dd>", "expect"),
        ("<dt>Policies<dd>", "policies"),
        ("<dt>Reason code<dd>", "code"),
        ("<dt>Azure DevOps<dd>", "azure_devops"),
        ("<dt>Project<dd>", "project"),
        ("<dt>Id<dd>", "id"),
    ] {
        if let Some(text) = check.text(name) {
            html.raw(term).text(text, TEXT);
        }
    }
    if let Some(by) = check.time("decided_by") {
        html.raw("<dt>Decided by<dd>").time(by, now).raw(", because of ");
        html.raw(words::deadline(check.text("deadline").unwrap_or_default()));
    }
    for (term, name) in [("<dt>Deliveries<dd>", "deliveries"), ("<dt>Attempts to report<dd>", "attempts")] {
        if let Some(number) = check.number(name) {
            html.raw(term).number(number);
        }
    }
    for (term, name) in [
        ("<dt>Decided after<dd>", "decided_after_seconds"),
        ("<dt>Reported after<dd>", "reported_after_seconds"),
    ] {
        if let Some(seconds) = check.number(name) {
            html.raw(term).span(seconds);
        }
    }
    if check.text("decision").is_some() {
        let is_reported = check.is("reported");
        html.raw("<dt>Azure DevOps knows<dd>").raw(if is_reported { "yes" } else { "no, not yet" });
    }
    if check.is("observe_only") {
        html.raw("<dt>Observes only<dd>yes: every decision is reported as succeeded");
    }
    if let Some(replica) = check.object("replica") {
        html.raw("<dt>Replica<dd>").text(replica.text("pod").unwrap_or("without a pod's name"), NAME);
        html.raw(" (").text(replica.text("id").unwrap_or("unknown"), 64).raw(")");
    }
    html.raw("</dl></section>");
}
