//! A server's own words for an error, made fit to be shown.

use crate::text::{one_line, plain};

/// In characters.
const MAX_SHOWN: usize = 160;

/// A word of letters, digits, `-`, `_`, `+` and `=` that has more bytes is not shown. An execution's id has 24.
const MAX_WORD: usize = 31;

/// The words on one line of at most [`MAX_SHOWN`] characters, without any word that is as long as a secret: an error may hold a
/// signed URL (`X-Amz-Signature`), or what was sent. `None`: nothing is left.
pub(crate) fn shown(words: &str) -> Option<String> {
    Some(one_line(&without_long_words(&plain(words)), MAX_SHOWN)).filter(|shown| !shown.is_empty())
}

fn without_long_words(text: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "-_+=".contains(c);
    let parts = text.split_inclusive(|c| !is_of_word(c));
    parts
        .map(|part| {
            let word = part.trim_end_matches(|c| !is_of_word(c));
            let rest = part.get(word.len()..).unwrap_or_default();
            if word.len() > MAX_WORD { format!("…{rest}") } else { part.into() }
        })
        .collect()
}
