//! One line of a check's log, in the form that Azure DevOps's log view knows.

use crate::text::one_line;
use crate::time::Wall;

/// How a line is shown: the agent's formatting marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it is.
    Plain,
    /// `##[section]`: green.
    Section,
    /// `##[warning]`.
    Warning,
    /// `##[error]`: red.
    Error,
}

/// Lines are cut where ServerTaskHelper cuts them, the time stamp not counted.
const MAX_LINE: usize = 1_024;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was known.
    pub at: Wall,
    /// How it is shown.
    pub mark: Mark,
    /// Its words, which may hold names from outside.
    pub text: String,
}

impl Line {
    /// With an ISO 8601 stamp, by which the view folds the times away, and a line feed. Whatever the words are, it stays one
    /// line, and no command can be forged in it.
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
