//! A pull scanner for XML: tags and texts in their order, as they stand there. It reads each byte once, copies nothing, and
//! keeps the names of the open elements. It resolves no entity and looks into no DTD.
//!
//! It is lenient where reports are: attributes are looked at when somebody asks, and texts may hold anything. A crate for
//! XML does the same in 25 KB more of the module.

/// A piece of XML.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// An element begins.
    Open(Tag<'a>),
    /// An element without a content.
    Alone(Tag<'a>),
    /// The innermost element ends.
    Close,
    /// Text, with its references as they are.
    Text(&'a str),
    /// A CDATA section.
    Raw(&'a str),
}

/// Why there is no next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// What begins here does not end.
    Cut,
    /// An end tag without its start tag, or markup that is none.
    Malformed,
}

/// Maximum attributes of a tag that are looked at, and maximum bytes of them; the rest is passed over. What a value cut
/// there still has is read.
const MAX_ATTRIBUTES: usize = 64;
const MAX_ATTRIBUTE_BYTES: usize = 16 << 10;

/// A start tag without its brackets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// The element's name with its prefix.
    whole_name: &'a str,
    attributes: &'a str,
}

impl<'a> Tag<'a> {
    fn of(inside: &'a str) -> Tag<'a> {
        let end = inside.bytes().position(|c| c <= b' ').unwrap_or(inside.len());
        let (whole_name, attributes) = inside.split_at_checked(end).unwrap_or((inside, ""));
        let end = attributes.floor_char_boundary(MAX_ATTRIBUTE_BYTES);
        Tag { whole_name, attributes: attributes.get(..end).unwrap_or_default() }
    }

    /// The element's name.
    pub(super) fn name(self) -> &'a str {
        let colon = self.whole_name.bytes().position(|c| c == b':');
        colon.and_then(|colon| self.whole_name.get(colon + 1..)).unwrap_or(self.whole_name)
    }

    /// The raw value of an attribute, if it is not empty.
    #[inline(never)]
    pub(super) fn attribute(self, name: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        for _ in 0..MAX_ATTRIBUTES {
            let found = first_attribute(rest);
            #[cfg(test)]
            work::add(1 + rest.len() - found.map_or(0, |(.., after)| after.len()));
            let (key, value, after) = found?;
            if key == name {
                return Some(value).filter(|value| !value.is_empty());
            }
            rest = after;
        }
        None
    }
}

/// The name and the raw value of the first attribute, and what comes after it.
fn first_attribute(attributes: &str) -> Option<(&str, &str, &str)> {
    let (key, after) = attributes.split_once('=')?;
    let after = after.trim_ascii_start();
    let quote = after.bytes().next().filter(|c| matches!(c, b'"' | b'\''))?;
    let inside = after.get(1..)?;
    let (value, after) = inside.split_once(char::from(quote)).unwrap_or((inside, ""));
    let key = key.trim_ascii_end();
    let begin = key.bytes().rposition(|c| c.is_ascii_whitespace()).map_or(0, |blank| blank + 1);
    Some((key.get(begin..).unwrap_or_default(), value, after))
}

/// Scans a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// Where the next piece begins, and where the last one began.
    next: usize,
    begin: usize,
    /// The names of the open elements.
    open: Vec<&'a str>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, next: 0, begin: 0, open: Vec::new() }
    }

    /// The line of the last piece, or of the last byte; from 1.
    pub(super) fn line(&self) -> usize {
        let before = self.text.as_bytes().get(..self.begin).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The next piece; `None` at the end.
    pub(super) fn piece(&mut self) -> Result<Option<Piece<'a>>, Flaw> {
        loop {
            self.begin = self.next;
            let rest = self.text.get(self.begin..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let Some(markup) = rest.strip_prefix('<') else {
                return Ok(Some(Piece::Text(self.take(rest, rest.find('<').unwrap_or(rest.len()), 0))));
            };
            let until = |end: &str| markup.find(end).map(|at| (at, end.len()));
            let passed_over = match markup.as_bytes() {
                [b'!', b'[', ..] if markup.starts_with("![CDATA[") => {
                    let (end, close) = until("]]>").ok_or(Flaw::Cut)?;
                    let inside = self.take(markup, end, close + 1);
                    return Ok(Some(Piece::Raw(inside.get("![CDATA[".len()..).unwrap_or_default())));
                }
                [b'!', b'-', b'-', ..] => until("-->"),
                [b'?', ..] => until("?>"),
                [b'!', b'D' | b'd', ..] => end_of_tag(markup, true).map(|end| (end, 1)),
                [b'!', ..] => return Err(Flaw::Malformed),
                _ => {
                    let end = end_of_tag(markup, false).ok_or(Flaw::Cut)?;
                    return self.tag(markup, end).map(Some);
                }
            };
            let (end, close) = passed_over.ok_or(Flaw::Cut)?;
            self.take(markup, end, close + 1);
        }
    }

    fn tag(&mut self, markup: &'a str, end: usize) -> Result<Piece<'a>, Flaw> {
        let inside = self.take(markup, end, 2);
        if let Some(name) = inside.strip_prefix('/') {
            return match self.open.pop() {
                Some(open) if open == name.trim_ascii_end() => Ok(Piece::Close),
                _ => Err(Flaw::Malformed),
            };
        }
        match inside.strip_suffix('/') {
            Some(alone) => Ok(Piece::Alone(Tag::of(alone))),
            None => {
                let tag = Tag::of(inside);
                self.open.push(tag.whole_name);
                Ok(Piece::Open(tag))
            }
        }
    }

    /// The first `length` bytes of `of`, which it then passes over with `more` bytes around.
    fn take(&mut self, of: &'a str, length: usize, more: usize) -> &'a str {
        self.next = self.begin + length + more;
        of.get(..length).unwrap_or_default()
    }
}

/// The place of the `>` that ends a tag; with `nested`, that of a DTD.
fn end_of_tag(markup: &str, nested: bool) -> Option<usize> {
    let (mut quote, mut depth) = (0, 0u32);
    for (at, c) in markup.bytes().enumerate() {
        // Most bytes are letters, and mean nothing here.
        if c > b'>' {
            continue;
        }
        if quote != 0 {
            quote = if c == quote { 0 } else { quote };
            continue;
        }
        match c {
            b'"' | b'\'' => quote = c,
            b'<' if nested => depth = depth.saturating_add(1),
            b'>' if depth == 0 => return Some(at),
            b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// What looking at attributes costs: one unit each, and one for each of their bytes.
#[cfg(test)]
pub(super) mod work {
    use std::cell::Cell;

    thread_local!(static UNITS: Cell<usize> = const { Cell::new(0) });

    pub(super) fn add(units: usize) {
        UNITS.set(UNITS.get() + units);
    }

    /// The units of this thread since the last call.
    pub(in crate::wire::junit) fn take() -> usize {
        UNITS.take()
    }
}
