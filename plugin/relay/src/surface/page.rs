//! The page for people: what waits, why, and what was decided, as HTML. It needs no script; a small one only refreshes it.
//!
//! It shows the list's JSON ([`listing`](super::listing)), in which every text is taken for a hostile one.

mod bars;
mod html;
mod members;
mod one;
mod overview;
mod words;

use crate::surface::problem::Reply;
use crate::time::Wall;
use html::Html;
use members::Members;
use serde_json::Value;

/// The style sheet, and its hash in [`POLICY`].
const STYLE: &str = include_str!("page/style.css");
/// The script, and its hash in [`POLICY`].
const SCRIPT: &str = include_str!("page/refresh.js");

/// What a browser may do with a page: apply this style sheet, run this script, and fetch the page again. A unit test has
/// the hashes.
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-FLXlW0viKvwQWE2ZJukHYF4Y5A9aijTfjSnYB6DOrWg='; \
    script-src 'sha256-G3Rq/vXINfB+sKT30iuaLf368qKlUuX6fVzkmOLfafQ='; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bytes of a page without its checks, roughly.
const FRAME: usize = 16 * 1024;

/// The page of all checks. `list` is what `GET /v1/checks` answers with this `query`, the text after the `?`.
pub fn overview(list: &Value, now: Wall, base_path: &str, query: &str) -> Reply {
    let list = Members(list);
    let mut html = Html::with_capacity(FRAME + list.items("checks").len() * 1024);
    let title = |html: &mut Html| overview::title(html, list, query);
    framed(&mut html, Frame { base_path, script: true }, title, |html| {
        overview::write(html, list, now, base_path, query);
    });
    reply(200, html)
}

/// The page of one check, which is what `GET /v1/checks/{id}` answers.
pub fn one(check: &Value, now: Wall, base_path: &str) -> Reply {
    let check = Members(check);
    let mut html = Html::with_capacity(FRAME * 2);
    let title = |html: &mut Html| one::title(html, check);
    framed(&mut html, Frame { base_path, script: true }, title, |html| one::write(html, check, now));
    reply(200, html)
}

/// A refusal of the list as a page: the same status, and the headers that say what to do, such as `retry-after`. With 401
/// a browser asks for user name and password.
pub fn problem(refusal: Reply, base_path: &str) -> Reply {
    let body = serde_json::from_str(&refusal.body).unwrap_or(Value::Null);
    let problem = Members(&body);
    let is_stranger =
        refusal.status == 401 || refusal.status == 403 && problem.text("title") == Some("Not allowed");
    // A browser would present the same password for ever.
    let refusal = if is_stranger { Reply { status: 401, ..refusal } } else { refusal };
    let mut html = Html::with_capacity(FRAME);
    let status = u64::from(refusal.status);
    let title = problem.text("title").unwrap_or("The request failed");
    let head = |html: &mut Html| {
        html.number(status).raw(" ").escaped(title, 200);
    };
    framed(&mut html, Frame { base_path, script: false }, head, |html| {
        html.raw("<h1>").text(title, 200).raw("</h1>");
        if is_stranger {
            html.raw("<p>Log in as a credential of kind <code>basic</code> that allows <code>status</code>, such as the user <code>people</code>.");
        } else if let Some(detail) = problem.text("detail") {
            html.raw("<p>").text(detail, 2_000);
        }
        for error in problem.items("errors").iter().take(50).map(Members) {
            html.raw("<p><b>").text(error.text("field").unwrap_or_default(), 100).raw("</b>: ");
            html.text(error.text("detail").unwrap_or_default(), 500);
        }
        html.raw("<p class=\"more\">Status ").number(status).raw(".");
    });
    let mut page = reply(refusal.status, html);
    let is_kept = |(name, _): &(&'static str, String)| !matches!(*name, "content-type" | "cache-control");
    page.headers.extend(refusal.headers.into_iter().filter(is_kept));
    let asks = page.headers.iter().any(|(name, _)| *name == "www-authenticate");
    match refusal.status == 401 && !asks {
        true => page.with("www-authenticate", "Basic realm=\"testrelay\""),
        false => page,
    }
}

/// What is around a page's main part.
#[derive(Clone, Copy)]
struct Frame<'a> {
    base_path: &'a str,
    /// Whether the page refreshes itself.
    script: bool,
}

fn framed(html: &mut Html, frame: Frame, title: impl FnOnce(&mut Html), main: impl FnOnce(&mut Html)) {
    html.raw("<!doctype html>\n<html lang=\"en-GB\"><head><meta charset=\"utf-8\"><title>");
    title(html);
    html.raw(" · Testrelay</title><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\"><style>")
        .raw(STYLE)
        .raw("</style></head>\n");
    html.raw("<body><a class=\"skip\" href=\"#main\">Skip to the content</a><header><nav aria-label=\"Testrelay\">");
    html.raw("<a class=\"home\" href=\"")
        .escaped(frame.base_path, 1_000)
        .raw("/\">Testrelay: all checks</a> ");
    html.raw("<a href=\"\">Refresh</a>");
    if frame.script {
        html.raw(" <button id=\"pause\" type=\"button\" hidden>Pause refresh</button>");
    }
    html.raw("</nav><p id=\"note\" role=\"status\"></p></header>\n<main id=\"main\" tabindex=\"-1\">");
    main(html);
    html.raw("</main>\n");
    if frame.script {
        html.raw("<script>").raw(SCRIPT).raw("</script>");
    }
    html.raw("</body></html>\n");
}

fn reply(status: u16, html: Html) -> Reply {
    Reply { status, headers: vec![("content-type", "text/html; charset=utf-8".into())], body: html.finish() }
        .with("content-security-policy", POLICY)
        .with("x-content-type-options", "nosniff")
        .with("referrer-policy", "no-referrer")
        .with("cache-control", "no-store")
}

#[cfg(test)]
mod tests;
