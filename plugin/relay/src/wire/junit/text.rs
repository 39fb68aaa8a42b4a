//! Texts of a report: what bytes they are in, what stands for what, and which of them says something.

use super::xml::Tag;
use super::{MAX_MESSAGE, MAX_NAME};
use crate::text;
use std::borrow::Cow;

/// The most bytes of one line that are looked at.
const MAX_LINE: usize = 1024;

/// Maximum lines of a failure's text that are looked at.
const MAX_LINES: u32 = 100;

/// The most bytes between `&` and `;`.
const MAX_ENTITY: usize = 10;

/// What stands for the escape character before a colour, which XML may not hold: of Go, Gradle, pytest, Surefire, Bats,
/// RSpec, and of texts that were quoted before. Mocha, Vitest and PHPUnit leave nothing.
const ESCAPES: [&str; 9] =
    ["\u{1b}", "\u{fffd}", "?", "#x1B", "&#27;", "&amp#27;", "\\e", "\\x1b", "\\u001b"];

/// A body as text. UTF-16 is known by its byte order mark, or by the zero beside the first `<`.
pub(super) fn decoded(body: &[u8]) -> Cow<'_, str> {
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes).into(),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes).into(),
        [b'<', 0, ..] => utf_16(body, u16::from_le_bytes).into(),
        [0, b'<', ..] => utf_16(body, u16::from_be_bytes).into(),
        // Much quicker, and most are.
        _ => str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed),
    }
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The character of an entity or a character reference, by what stands between `&` and `;`.
fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let code = name.strip_prefix('#')?;
            let number = match code.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => code.parse(),
            };
            number.ok().and_then(char::from_u32)
        }
    }
}

/// The characters of a text or of an attribute's value. What stands for no character stays as it is.
pub(super) fn unescaped(raw: &str) -> impl Iterator<Item = char> {
    let mut rest = raw.chars();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        let reference = || {
            let end = rest.as_str().bytes().take(MAX_ENTITY + 1).position(|byte| byte == b';')?;
            let (name, after) = rest.as_str().split_at_checked(end)?;
            Some((entity(name)?, after.strip_prefix(';')?))
        };
        match (c == '&').then(reference).flatten() {
            Some((c, after)) => {
                rest = after.chars();
                Some(c)
            }
            None => Some(c),
        }
    })
}

/// An attribute's value as the name of something.
pub(super) fn name(tag: Tag<'_>, attribute_name: &str) -> Option<String> {
    let raw = tag.attribute(attribute_name)?;
    let text: String = unescaped(raw).take(MAX_LINE).collect();
    Some(clean(&text, MAX_NAME)).filter(|name| !name.is_empty())
}

/// An attribute's value as a number.
pub(super) fn number<T: std::str::FromStr>(tag: Tag<'_>, attribute_name: &str) -> Option<T> {
    text::number(tag.attribute(attribute_name)?)
}

/// Whether an attribute has one of these values.
pub(super) fn is_one_of(tag: Tag<'_>, attribute_name: &str, values: &[&str]) -> bool {
    tag.attribute(attribute_name).is_some_and(|value| values.contains(&value))
}

/// `text` on one line, without terminal colours and without commands of a log.
fn clean(text: &str, most: usize) -> String {
    let words = without_colours(&text::plain(text)).replace(['\t', '\r'], " ");
    text::one_line(words.trim(), most)
}

/// A text without `[31m` and the like, whatever is left of the escape character before it.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        rest = after;
        let end = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').strip_prefix('m');
        // `[5m]` and `[5m:1m]` are times in a query.
        match end.filter(|end| !after.starts_with('m') && !end.starts_with([']', ':'])) {
            Some(end) => {
                let escape = ESCAPES.iter().find(|escape| out.ends_with(**escape));
                out.truncate(out.len() - escape.map_or(0, |escape| escape.len()));
                rest = end;
            }
            None => out.push('['),
        }
    }
    out + rest
}

/// The first line of a failure's texts that says something, else the first line.
#[derive(Debug, Default)]
pub(super) struct Message {
    line: String,
    /// The first line that says where, if none before it says why.
    place: String,
    found: Option<String>,
    /// Lines that were looked at.
    lines: u32,
}

impl Message {
    /// The message that the failure's tag has.
    pub(super) fn of(tag: Tag<'_>) -> Self {
        let mut message = Self::default();
        if let Some(raw) = tag.attribute("message") {
            message.push(&mut unescaped(raw));
            message.end_line();
        }
        message
    }

    /// More of the failure's text.
    pub(super) fn push(&mut self, text: &mut dyn Iterator<Item = char>) {
        for c in text {
            if self.found.is_some() {
                return;
            }
            if c == '\n' {
                self.end_line();
            } else if self.line.len() < MAX_LINE {
                self.line.push(c);
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.trim().is_empty() || self.lines >= MAX_LINES {
            return self.line.clear();
        }
        self.lines += 1;
        let line = clean(&self.line, MAX_MESSAGE);
        self.line.clear();
        match Says::of(&line) {
            Says::Why if self.found.is_none() => self.found = Some(line),
            Says::Where if self.place.is_empty() => self.place = line,
            _ => {}
        }
    }

    /// The line; empty if there is none.
    pub(super) fn finish(mut self) -> String {
        self.end_line();
        self.found.unwrap_or(self.place)
    }
}

/// What a line tells a person who wants to know why a test failed.
enum Says {
    /// Nothing new: the line is empty, or repeats that the test failed.
    Nothing,
    /// No more than the place or the test.
    Where,
    Why,
}

impl Says {
    fn of(line: &str) -> Self {
        let is_go = ["=== ", "--- FAIL: "].iter().any(|start| line.starts_with(start));
        if line.is_empty() || line == "Failed" || line == "● Test suite failed to run" || is_go {
            return Self::Nothing;
        }
        // Up to Rust 1.72 the reason is in the same line, between quotation marks.
        let is_rust = line.starts_with("thread '") && line.contains("panicked at ");
        let is_old_rust = line.contains("panicked at '");
        let is_bats = line.trim_start_matches('(').starts_with("in test file ");
        let has_line = line.rsplit_once(':').is_some_and(|(_, last)| text::number::<u32>(last).is_some());
        let is_one_word = !line.contains(' ');
        let is_place = is_one_word && (has_line || line.contains("::")) || line == "unknown file";
        if is_place || is_bats || is_rust && !is_old_rust { Self::Where } else { Self::Why }
    }
}
