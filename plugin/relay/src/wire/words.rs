//! A server's own words for an error, made safe to show.

use crate::text::{one_line, plain};

/// Maximum length of what is shown, in characters.
const MAX_SHOWN: usize = 160;

/// Maximum length of a shown word of letters, digits, `-`, `_`, `+` and `=`, in bytes. An execution's id has 24.
const MAX_WORD: usize = 31;

/// Cuts the words, keeps them on one line, and strips every word that is long enough to be a secret: they come from
/// outside, and may hold a signed URL (`X-Amz-Signature`) or repeat the request. `None` if nothing is left.
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
