//! One line of a check's log, in the form that Azure DevOps's log view understands.

use crate::text::one_line;
use crate::time::Wall;

/// The agent's formatting mark of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// None.
    Plain,
    /// `##[section]`: green.
    Section,
    /// `##[warning]`.
    Warning,
    /// `##[error]`: red.
    Error,
}

/// Maximum length of a line in characters, without the time stamp: ServerTaskHelper cuts lines there.
const MAX_LINE: usize = 1_024;

/// Maximum length of a line's text in characters, whatever its mark.
pub(in crate::check) const MAX_TEXT: usize = MAX_LINE - "##[warning]".len() - 1;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The time of what it says.
    pub at: Wall,
    /// Its formatting mark.
    pub mark: Mark,
    /// Its text, which may hold names from outside.
    pub text: String,
}

impl Line {
    /// The line with an ISO 8601 stamp, by which the view can hide the times, and a line feed. Whatever the text, it
    /// stays one line, and no command can be forged in it.
    pub fn render(&self) -> String {
        let mark = match self.mark {
            Mark::Plain => "",
            Mark::Section => "##[section]",
            Mark::Warning => "##[warning]",
            Mark::Error => "##[error]",
        };
        let text = one_line(&self.text, MAX_LINE.saturating_sub(mark.len()).saturating_sub(1));
        format!("{} {mark}{text}\n", self.at.log_stamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_its_mark_and_one_line_feed() {
        let at = Wall::parse("2026-01-23T16:44:01.5Z").unwrap();
        let line = |mark, text: &str| Line { at, mark, text: text.into() }.render();
        assert_eq!(line(Mark::Plain, "a\nb"), "2026-01-23T16:44:01.5000000Z a·b\n");
        assert_eq!(line(Mark::Error, "##vso[x]"), "2026-01-23T16:44:01.5000000Z ##[error]# #vso[x]\n");
        let long = line(Mark::Warning, &"é".repeat(5_000));
        assert_eq!(long.chars().count(), "2026-01-23T16:44:01.5000000Z ".len() + 1_024 + 1);
    }
}
