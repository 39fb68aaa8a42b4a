//! The page of all checks.

use super::html::Html;
use super::members::Members;
use super::words;
use crate::time::Wall;
use crate::wire::percent::percent_encoded;

/// Age in milliseconds from which on an answer says little about the server now.
const LONG_AGO: i64 = 10 * 60_000;

/// Bytes of one check's texts. Together, and with their markup, they keep a page of 200 checks below 200 KB whatever is
/// in them.
mod most {
    pub(super) const TAG: usize = 80;
    pub(super) const WHY: usize = 220;
    pub(super) const SERVER: usize = 48;
    pub(super) const REPLICA: usize = 48;
    pub(super) const CODE: usize = 32;
    /// A longer address of a build is not linked.
    pub(super) const BUILD: usize = 160;
    /// A part of the query in the link to the next page.
    pub(super) const QUERY: usize = 600;
}

pub(super) fn title(html: &mut Html, list: Members, query: &str) {
    html.number(waiting(list).count() as u64).raw(" waiting");
    if is_part(list, query) {
        html.raw(" on this page");
    }
}

/// Whether there are checks that the page does not show.
fn is_part(list: Members, query: &str) -> bool {
    !query.is_empty() || list.text("next").is_some()
}

fn waiting(list: Members) -> impl Iterator<Item = Members> {
    list.items("checks").iter().map(Members).filter(|check| check.text("state") != Some("done"))
}

fn decided(list: Members) -> impl Iterator<Item = Members> {
    list.items("checks").iter().map(Members).filter(|check| check.text("state") == Some("done"))
}

pub(super) fn write(html: &mut Html, list: Members, now: Wall, base_path: &str, query: &str) {
    html.raw("<h1>What waits, and why</h1><p class=\"more\">As of ").clock(now, now).raw(".");
    if is_part(list, query) {
        html.raw(" This page is a part of the list");
        if !query.is_empty() {
            html.raw(": ").text(query, 400);
        }
        html.raw(".");
    }
    html.raw("</p>");
    if let Some(why) = list.text("incomplete") {
        html.raw("<p class=\"alert\"><b class=\"warn\">Incomplete</b> ").text(why, 500).raw("</p>");
    }
    // Who asks why something hangs finds the reason first.
    let fails = health_of(list).any(|(_, server)| server.object("trouble").is_some());
    if fails {
        health(html, list, now);
    }
    let is_part = is_part(list, query);
    let links = Links { base_path, is_part, with_replicas: list.object("replica").is_some() };
    html.raw("<section aria-labelledby=\"w\"><h2 id=\"w\">Waiting: ").number(waiting(list).count() as u64);
    html.raw("</h2>");
    waiting_table(html, list, now, links);
    html.raw("</section><section aria-labelledby=\"d\"><h2 id=\"d\">Decided lately: ");
    html.number(decided(list).count() as u64).raw("</h2>");
    decided_table(html, list, now, links);
    html.raw("</section>");
    more(html, list, query);
    if !fails {
        health(html, list, now);
    }
    process(html, list);
}

fn waiting_table(html: &mut Html, list: Members, now: Wall, links: Links) {
    if waiting(list).next().is_none() {
        html.raw(if links.is_part { "<p>None on this page.</p>" } else { "<p>No check waits.</p>" });
        return;
    }
    html.raw(
        "<table class=\"w\"><thead><tr><th scope=\"col\">Check<th scope=\"col\">State<th scope=\"col\">Accepted",
    );
    html.raw("<th scope=\"col\">Decided by</thead><tbody>\n");
    for check in waiting(list) {
        html.raw("<tr>");
        links.head(html, check);
        html.raw("<td>");
        words::standing(html, check, now);
        if let Some(why) = check.text("explain").or_else(|| check.text("reason")) {
            html.raw("<p>").text(why, most::WHY);
        }
        html.raw("<td>");
        if let Some(accepted) = words::accepted(check) {
            html.time(accepted, now);
        }
        html.raw("<td>");
        if let Some(by) = check.time("decided_by") {
            html.time(by, now);
        }
        html.raw("\n");
    }
    html.raw("</table>");
}

fn decided_table(html: &mut Html, list: Members, now: Wall, links: Links) {
    if decided(list).next().is_none() {
        html.raw(if links.is_part {
            "<p>None on this page.</p>"
        } else {
            "<p>No check was decided lately.</p>"
        });
        return;
    }
    html.raw("<table class=\"d\"><thead><tr><th scope=\"col\">Check<th scope=\"col\">Decision");
    html.raw("<th scope=\"col\">Decided<th scope=\"col\">After</thead><tbody>\n");
    for check in decided(list) {
        html.raw("<tr>");
        links.head(html, check);
        html.raw("<td>");
        words::state(html, check.text("decision").unwrap_or("over"));
        if let Some(code) = check.text("code").filter(|code| Some(*code) != check.text("decision")) {
            html.raw(" ").text(code, most::CODE);
        }
        if !check.is("reported") {
            html.raw(" ");
            words::state(html, "not reported");
        }
        if let Some(reason) = check.text("reason") {
            html.raw("<p>").text(reason, most::WHY);
        }
        html.raw("<td>");
        if let Some(since) = check.time("since") {
            html.time(since, now);
        }
        html.raw("<td>");
        if let Some(after) = check.number("decided_after_seconds") {
            html.span(after);
        }
        html.raw("\n");
    }
    html.raw("</table>");
}

/// How a row leads to its check.
#[derive(Clone, Copy)]
struct Links<'a> {
    base_path: &'a str,
    /// Whether the page is a part of the list.
    is_part: bool,
    with_replicas: bool,
}

impl Links<'_> {
    /// The head of a check's row.
    fn head(self, html: &mut Html, check: Members) {
        html.raw("<th scope=\"row\">");
        match check.text("id").filter(|id| id.bytes().all(|c| c.is_ascii_alphanumeric())) {
            Some(id) => {
                html.raw("<a href=\"")
                    .escaped(self.base_path, 1_000)
                    .raw("/checks/")
                    .escaped(id, 32)
                    .raw("\">");
                html.text(words::name(check), most::TAG).raw("</a>");
            }
            None => {
                html.text(words::name(check), most::TAG);
            }
        }
        html.raw("<p>");
        if let Some(build) = check.number("build") {
            let address = check.text("build_url").filter(|url| url.len() <= most::BUILD);
            html.raw("build ").link(address, &build.to_string(), 20).raw(" ");
        }
        let server = check.text("azure_devops").unwrap_or_default();
        html.text(server.trim_start_matches("https://"), most::SERVER);
        if self.with_replicas
            && let Some(replica) = check.object("replica")
        {
            let name = replica.text("pod").or_else(|| replica.text("id")).unwrap_or("another replica");
            html.raw(" at ").text(name, most::REPLICA);
        }
        if check.is("observe_only") {
            html.raw(" (observes only)");
        }
    }
}

/// The link to the next page, with the filters of this one.
fn more(html: &mut Html, list: Members, query: &str) {
    let Some(next) = list.text("next") else { return };
    html.raw("<p><a href=\"?");
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("after=")) {
        html.escaped(pair, most::QUERY).raw("&amp;");
    }
    html.raw("after=").escaped(&percent_encoded(next), most::QUERY).raw("\">More checks</a></p>");
}

/// Testkube and each Azure DevOps.
fn health_of(list: Members<'_>) -> impl Iterator<Item = (&'static str, Members<'_>)> {
    let health = list.object("health");
    let testkube = health.and_then(|health| health.object("testkube")).map(|one| ("Testkube", one));
    let azure = health.into_iter().flat_map(|health| health.items("azure_devops"));
    testkube.into_iter().chain(azure.map(|one| ("Azure DevOps", Members(one))))
}

fn health(html: &mut Html, list: Members, now: Wall) {
    if health_of(list).next().is_none() {
        return;
    }
    html.raw("<section aria-labelledby=\"h\"><h2 id=\"h\">Testkube and Azure DevOps</h2><table class=\"h\"><thead>");
    html.raw(
        "<tr><th scope=\"col\">Server<th scope=\"col\">State<th scope=\"col\">Last answer</thead><tbody>\n",
    );
    for (kind, one) in health_of(list) {
        server(html, kind, one, now);
    }
    html.raw("</table></section>");
}

fn server(html: &mut Html, kind: &'static str, server: Members, now: Wall) {
    html.raw("<tr><th scope=\"row\">").raw(kind);
    if let Some(name) = server.text("url_or_cluster").or_else(|| server.text("url")) {
        html.raw("<p>").text(name, 200);
    }
    html.raw("<td>");
    let answered = server.time("answered");
    match (server.object("trouble"), answered) {
        (Some(trouble), _) => {
            words::state(html, "trouble");
            html.raw("<p>");
            words::trouble(html, trouble, now, 500);
            // With nothing pending nobody is asked, and the trouble may be over.
            if let Some(asked) = server.time("asked") {
                html.raw(" Last asked ").time(asked, now).raw(".");
            }
        }
        (None, Some(at)) if now.0.saturating_sub(at.0) > LONG_AGO => {
            words::state(html, "answered when last asked")
        }
        (None, Some(_)) => words::state(html, "answers"),
        (None, None) => words::state(html, "not asked yet"),
    }
    html.raw("<td>");
    match answered {
        Some(answered) => html.time(answered, now),
        None => html.raw("none"),
    };
    html.raw("\n");
}

/// The process that answers.
fn process(html: &mut Html, list: Members) {
    html.raw("<p class=\"more\">");
    html.text(list.text("version").unwrap_or("testrelay"), 100);
    if let Some(replica) = list.object("replica") {
        html.raw(", replica ").text(replica.text("pod").unwrap_or("without a pod's name"), 100);
        html.raw(" (").text(replica.text("id").unwrap_or("unknown"), 64).raw(")");
    }
    html.raw("</p>");
}
