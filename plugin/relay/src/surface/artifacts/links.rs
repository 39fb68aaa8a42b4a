//! Links to the files of executions, by tag.

use super::{Visit, ask, shown};
use crate::collections::tree;
use crate::wire::percent::percent_encoded;
use crate::wire::testkube::Execution;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

/// A link to a file. Formatted only when it is written: a list has thousands of them.
pub(super) struct FileLink<'a> {
    base: &'a str,
    /// The execution, if the file's name alone could mean another file.
    scope: Option<&'a str>,
    name: &'a str,
    parameters: &'a str,
}

/// The common parts of all links of a visit.
#[derive(Debug)]
pub(super) struct Links {
    /// The beginning of every link, including the tag.
    pub(super) base: String,
    /// The parameters that find the same executions; and those for a file that is named like an archive.
    pub(super) parameters: String,
    file_parameters: String,
    /// The names of all executions of the tag: a file's path may begin like one of them.
    executions: BTreeSet<String>,
}

/// Why a file has no link.
pub(super) const NO_LINK: &str = "its name has a `.` or `..` segment or a control character in some encoding, or is empty: no link can lead to it. It is in the execution's archive.";

impl Visit {
    pub(super) fn links(&self) -> &Links {
        self.links.get_or_init(|| {
            let origin = match &self.config.public_url {
                Some(url) => url.clone(),
                None => shown::origin(&self.asked_at.0, &self.asked_at.1),
            };
            let all = self.executions.as_deref().map(Vec::as_slice).unwrap_or_default();
            Links {
                base: self.config.files_at(&origin, &self.ask.tag),
                parameters: self.ask.parameters(""),
                file_parameters: self.ask.parameters("archive"),
                executions: tree(all.iter().map(|execution| execution.name.clone())),
            }
        })
    }

    /// A link to the archive or the log of one execution.
    pub(super) fn link(&self, execution: &Execution, what: &str, masks: &str) -> String {
        let Links { base, parameters, .. } = self.links();
        let rest = match (parameters.as_str(), masks.strip_prefix('?')) {
            ("", Some(masks)) => format!("?{masks}"),
            (parameters, Some(masks)) => format!("{parameters}&{masks}"),
            (parameters, None) => parameters.into(),
        };
        format!("{base}/{}/{what}{rest}", percent_encoded(&execution.name))
    }

    /// How to ask for the files of one execution, for people.
    pub(super) fn single_files(&self, execution: &Execution) -> String {
        let Links { base, parameters, .. } = self.links();
        format!("{base}/{}/NAME{parameters}", percent_encoded(&execution.name))
    }

    /// A link to a file; `None` if no link can lead to it, for the reason [`NO_LINK`].
    pub(super) fn link_to_file<'a>(
        &'a self,
        execution: &'a Execution,
        name: &'a str,
    ) -> Option<FileLink<'a>> {
        if !ask::can_be_linked(name) {
            return None;
        }
        let links = self.links();
        // A name in the path selected the execution, so it may not be the scope's only one.
        let is_named = self.path != self.ask.path;
        let first = || name.split('/').next().unwrap_or_default();
        let is_alone = self.chosen.len() == 1 && !is_named && !links.executions.contains(first());
        Some(FileLink {
            base: &links.base,
            scope: (!is_alone).then_some(&execution.name),
            name,
            parameters: match name {
                "archive" | "logs" => &links.file_parameters,
                _ => &links.parameters,
            },
        })
    }
}

impl fmt::Display for FileLink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base)?;
        if let Some(scope) = self.scope {
            f.write_char('/')?;
            encoded(scope, "", f)?;
        }
        f.write_char('/')?;
        encoded(self.name, "/", f)?;
        f.write_str(self.parameters)
    }
}

/// Percent-encodes `text`, except for RFC 3986's unreserved characters and those in `also`.
fn encoded(text: &str, also: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') || also.contains(c);
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| !is_plain(c)) {
        let (plain, other) = rest.split_at(at);
        f.write_str(plain)?;
        let length = other.chars().next().map_or(1, char::len_utf8);
        let (other, after) = other.split_at(length);
        for byte in other.bytes() {
            write!(f, "%{byte:02X}")?;
        }
        rest = after;
    }
    f.write_str(rest)
}
