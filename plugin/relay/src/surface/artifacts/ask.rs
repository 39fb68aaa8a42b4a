//! The target of a request for artifacts by tag: `<base>/v1/artifacts/{tag}[/…][?…]`.

use crate::config::Config;
use crate::surface::problem::Reply;
use crate::surface::route::climbs;
use crate::tag::Tag;
use crate::text::excerpt;
use crate::time::Wall;
use crate::wire::percent::percent_decoded;
use crate::wire::percent::percent_encoded;

/// The parts of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tag: Tag,
    /// The path after the tag, decoded once. Its first segment may be an execution's name.
    pub(super) path: String,
    /// Whether the path is a file's, even if it is named `archive` or `logs`.
    is_file: bool,
    /// The `mask` parameters as they were read, as a query: empty, or `?mask=…`. Encoded again: a `+` is itself here
    /// but a blank in Go, which would then apply another mask than the one that the archive's size was computed with.
    pub(super) masks: String,
    /// The regular expressions of the masks.
    pub(super) patterns: Vec<String>,
    pub(super) scope: Scope,
    /// Whether executions that have not ended are accepted.
    pub(super) partial: bool,
    /// Whether to answer the list as text, one link a line.
    pub(super) text: bool,
}

/// The executions of a tag to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The counted set, as a verdict counts it: the newest of each chain of re-runs; scheduled in the last 30 days.
    Counted,
    /// The same, scheduled since this time.
    Since(Wall),
    /// All executions with the tag.
    All,
}

/// What to get of the executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// The list of files.
    List,
    /// The file of this name.
    File(&'a str),
    /// All files in one archive.
    Archive,
    /// The log.
    Logs,
}

impl Target {
    /// Reads the part of a request target after `<base>/v1/artifacts/`, as bytes off the wire.
    ///
    /// # Errors
    /// The refusal, which says what to change.
    pub(super) fn read(config: &Config, rest: &[u8]) -> Result<Target, Reply> {
        let (path, query) = match rest.iter().position(|c| *c == b'?') {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
            None => (rest, &[][..]),
        };
        if climbs(path, false) {
            return Err(refusal(
                "The path has a `.` or `..` segment or a control character in some encoding.",
            ));
        }
        let (tag, path) = match path.iter().position(|c| *c == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (path, &[][..]),
        };
        let (tag, path) = (decoded(tag)?, decoded(path)?);
        let tag = config.tag.name(&tag).map_err(|why| refusal(&format!("{why}.")))?;
        let mut ask = Target {
            tag,
            path,
            is_file: false,
            masks: String::new(),
            patterns: Vec::new(),
            scope: Scope::Counted,
            partial: false,
            text: false,
        };
        let query = String::from_utf8(query.to_vec()).map_err(|_| refusal("The query is not UTF-8."))?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, raw) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(raw.as_bytes())?;
            match (name, value.as_str()) {
                ("since", _) => {
                    let since = Wall::parse(&value).ok_or_else(|| {
                        refusal("`since` is not a time such as 2026-01-23T16:44:00Z (RFC 3339).")
                    })?;
                    ask.scope = Scope::Since(since);
                }
                ("all", "true") => ask.scope = Scope::All,
                ("partial", "true") => ask.partial = true,
                ("file", "true") => ask.is_file = true,
                ("all" | "partial" | "file", "false") | ("format", "json") => {}
                ("format", "text") => ask.text = true,
                ("mask", _) => {
                    ask.masks.push(if ask.masks.is_empty() { '?' } else { '&' });
                    ask.masks.push_str("mask=");
                    ask.masks.push_str(&percent_encoded(&value));
                    ask.patterns.extend(value.split(',').map(str::to_owned));
                }
                _ => {
                    return Err(refusal(&format!(
                        "`{}` is not a parameter; known are since=TIME, all=true, partial=true, format=json or text, for an archive mask=REGEX, and file=true for a file named `archive` or `logs`.",
                        excerpt(parameter)
                    )));
                }
            }
        }
        Ok(ask)
    }

    /// The meaning of `path`: the whole path, or the part after an execution's name.
    pub(super) fn want<'a>(&self, path: &'a str) -> Want<'a> {
        match path {
            "" => Want::List,
            "archive" if !self.is_file => Want::Archive,
            "logs" if !self.is_file => Want::Logs,
            name => Want::File(name),
        }
    }

    /// The parameters with which a link finds the same executions, as a query.
    pub(super) fn parameters(&self, name: &str) -> String {
        let mut all = Vec::new();
        match &self.scope {
            Scope::Counted => {}
            Scope::Since(since) => all.push(format!("since={}", percent_encoded(&since.to_string()))),
            Scope::All => all.push("all=true".into()),
        }
        if self.partial {
            all.push("partial=true".into());
        }
        if matches!(name, "archive" | "logs") {
            all.push("file=true".into());
        }
        let question_mark = if all.is_empty() { "" } else { "?" };
        format!("{question_mark}{}", all.join("&"))
    }
}

/// Whether a link can lead to this name.
pub(super) fn can_be_linked(name: &str) -> bool {
    !name.is_empty() && !climbs(name.as_bytes(), false)
}

fn decoded(raw: &[u8]) -> Result<String, Reply> {
    String::from_utf8(percent_decoded(raw)).map_err(|_| refusal("The path or a parameter is not UTF-8."))
}

/// A 400 that says what to change.
pub(super) fn refusal(detail: &str) -> Reply {
    Reply::problem(400, "Not a request for artifacts", detail)
}
