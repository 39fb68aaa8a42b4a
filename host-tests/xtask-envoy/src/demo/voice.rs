//! How the demo speaks: titles, lines with the seconds since its start, proofs.

use std::io::Write;

use anyhow::Result;
use host_tests::scene::now_ms;

/// Continuations begin under the text of their line.
const INDENT: &str = "                                       ";
const WIDTH: usize = 110;

/// The speaker.
pub(super) struct Voice<'a> {
    out: &'a mut dyn Write,
    colours: bool,
    began: i64,
}

impl<'a> Voice<'a> {
    /// Begins to count the seconds.
    pub(super) fn new(out: &'a mut dyn Write, colours: bool) -> Voice<'a> {
        Voice { out, colours, began: now_ms() }
    }

    /// The seconds since the start at a moment in Unix milliseconds.
    pub(super) fn seconds(&self, at: i64) -> String {
        format!("{:.1} s", (at - self.began).max(0) as f64 / 1_000.0)
    }

    /// The title of a step.
    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        let text = self.painted("1", text);
        Ok(writeln!(self.out, "\n{text}")?)
    }

    /// A paragraph, wrapped.
    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        for line in wrapped(text, WIDTH - 2) {
            writeln!(self.out, "  {line}")?;
        }
        Ok(self.out.flush()?)
    }

    /// A line exactly as it is, for what is to be copied.
    pub(super) fn verbatim(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Something that happened at a moment: who (to whom), and what. Further lines of `what` go under the first.
    pub(super) fn event(&mut self, at: i64, who: &str, what: &str) -> Result<()> {
        let seconds = self.seconds(at);
        let mut lines = what.split('\n').flat_map(|line| wrapped(line, WIDTH - INDENT.len()));
        writeln!(self.out, "  {seconds:>7}  {who:<26}  {}", lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(self.out, "{INDENT}{line}")?;
        }
        Ok(self.out.flush()?)
    }

    /// Something that the records prove.
    pub(super) fn proof(&mut self, text: &str) -> Result<()> {
        let mark = self.painted("32", "proof");
        let mut lines = wrapped(text, WIDTH - 11).into_iter();
        writeln!(self.out, "    {mark}  {}", lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(self.out, "           {line}")?;
        }
        Ok(self.out.flush()?)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Breaks at spaces, but not before a word that is too long for any line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let length = |text: &str| text.chars().count();
    if length(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if length(word) <= width && length(line) + 1 + length(word) > width {
            lines.push(word.to_owned());
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("GET https://long/word x", 6), ["GET https://long/word", "x"]);
        assert_eq!(wrapped("  a", 6), ["  a"]);
        assert_eq!(wrapped("", 6), [""]);
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        let mut out = Vec::new();
        let mut voice = Voice::new(&mut out, false);
        voice.title("1. One").unwrap();
        voice.proof("so it was").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\n1. One\n    proof  so it was\n");
    }
}
